/* The service unum.v1.Registry, bound to the replicas of its spaces. Knows messages, not
 * connections: the caller hands over a method's name and a message's bytes, in a fiber of the call,
 * and sends what comes back.
 *
 * Writes become one log entry each (replica_propose); reads are linearizable through
 * replica_read_barrier unless the request says `stale`. A watch is one fiber that sleeps until its
 * keys change. The space "system" is the computer's own and refused to everybody else. */
#ifndef UNUM_REGISTRY_REGISTRY_SERVE_H
#define UNUM_REGISTRY_REGISTRY_SERVE_H

#include "base/clock.h"
#include "registry/registry.h"
#include "replica/replica.h"

enum {
    REGISTRY_SERVE_LEASES_LISTED_MAX = 10000,
    REGISTRY_SERVE_LEASE_KEYS_LISTED_MAX = 100,
    REGISTRY_SERVE_PROGRESS_MS = 5000, /* between two signs of life of a watch that asked for it */
    REGISTRY_SERVE_WATCH_EVENTS_MAX = 1000, /* of one message, unless one revision has more */
};

struct registry_serve {
    struct clock *clock;
    /* The replica of a space; NAME is "main" when the request names none. STATUS_NOT_FOUND. */
    enum status (*find_space)(void *context, const char *name, struct replica **ret_replica);
    void *context;
};

struct registry_serve_call {
    const char *principal;
    uint64_t deadline_ns; /* monotonic; UINT64_MAX: none */
    struct arena *arena;  /* of the call: the unpacked request lives in it */
    bool may_use_system;
};

/* METHOD is the name behind "/unum.v1.Registry/". The packed reply is appended to REPLY. Not
 * STATUS_OK: ERROR is for the client; STATUS_UNSUPPORTED: no such method; STATUS_CLOSED: the
 * revision is compacted (gRPC's OUT_OF_RANGE). */
MUST_USE enum status registry_serve_unary(const struct registry_serve *serve, const char *method,
                                          const struct registry_serve_call *call,
                                          struct bytes request, struct buffer *reply,
                                          struct error *error);

/* Is METHOD answered with a stream (only "Watch")? */
bool registry_serve_is_stream(const char *method);

struct registry_serve_sink {
    /* Suspends while the client is slow. Not STATUS_OK ends the watch with that status. */
    enum status (*send)(void *context, struct bytes message);
    void *context;
};
/* Serve one watch until the sink, the deadline or the scope ends it. STATUS_CLOSED: the next
 * revision it needs is compacted, ERROR names the oldest kept. */
MUST_USE enum status registry_serve_watch(const struct registry_serve *serve,
                                          const struct registry_serve_call *call,
                                          struct bytes request,
                                          const struct registry_serve_sink *sink,
                                          struct error *error);

#endif
