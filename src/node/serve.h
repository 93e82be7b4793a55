/* Serve: the one public port. Accepts streams, shakes hands (TLS 1.3 with client certificates, or
 * plain in the simulator and the benchmark), and hands gRPC calls to services.
 *
 * Every call runs in a fiber of a scope of its own, below its connection's: when the client goes
 * away or the deadline passes, waiting calls of the handler return STATUS_CANCELLED or
 * STATUS_TIMEOUT (a handler that waits without a deadline is cancelled at most 20 ms after it).
 * What many finished calls have to send leaves in one write. Garbage closes that
 * connection with one sentence to `log`, and nothing else. */
#ifndef UNUM_NODE_SERVE_H
#define UNUM_NODE_SERVE_H

#include "base/arena.h"
#include "reactor/reactor.h"
#include "reactor/tls.h"
#include "wire/grpc.h"

struct serve;
struct serve_call;

enum {
    SERVE_CONNECTIONS_MAX = 1024,
    SERVE_SERVICES_MAX = 8,
    SERVE_HANDSHAKE_MS_MAX = 10000,
    SERVE_PRINCIPAL_BYTES_MAX = 255,
};

/* A service answers the calls whose path begins with PREFIX ("/unum.v1.Registry/"). METHOD is what
 * follows it, borrowed. */
struct serve_service {
    const char *prefix;
    /* Unary methods: decode REQUEST, put the packed reply into REPLY. Not STATUS_OK: ERROR is sent
     * with the matching gRPC status. STATUS_UNSUPPORTED: no such method. */
    enum status (*unary)(void *context, const char *method, struct serve_call *call,
                         struct bytes request, struct buffer *reply, struct error *error);
    /* Methods with a stream on either side; NULL when there are none. Returns when the call is
     * over; its status ends the call, so STATUS_CLOSED of serve_call_receive is turned into
     * STATUS_OK when the client was meant to end it. */
    bool (*is_stream)(void *context, const char *method);
    enum status (*stream)(void *context, const char *method, struct serve_call *call,
                          struct error *error);
    void *context;
};

struct serve_options {
    struct scope *scope;
    struct network *network;
    struct clock *clock;
    const char *address;
    struct tls_context *tls; /* NULL: plain, and the principal is that of `plain_principal` */
    const char *plain_principal;
    /* The principal of a peer's certificate (SPIFFE id), or a refusal. NULL with plain streams. */
    enum status (*identify)(void *context, struct tls_peer peer,
                            char ret_principal[SERVE_PRINCIPAL_BYTES_MAX + 1], struct error *error);
    void (*log)(void *context, const char *line);
    void *context;         /* of identify and log */
    uint64_t handshake_ms; /* 0: SERVE_HANDSHAKE_MS_MAX, which is the most */
    const struct serve_service *services;
    size_t service_count;
};

/* Listen and serve in fibers of the scope. STATUS_EXISTS: the port is taken. */
MUST_USE enum status serve_start(const struct serve_options *options, struct serve **ret_serve,
                                 struct error *error);
/* The address with the real port; borrowed. */
const char *serve_address(const struct serve *serve);
/* No new connections and calls; those under way may end until DEADLINE_NS, then are cancelled.
 * Frees. Before the fiber that called serve_start ends. Accepts NULL. */
void serve_stop(struct serve *serve, uint64_t deadline_ns);

struct serve_figures {
    uint64_t connections, calls, refused, garbage;
};
struct serve_figures serve_figures(const struct serve *serve);

/* --- within a call
 * --------------------------------------------------------------------------------- */

const char *serve_call_principal(const struct serve_call *call);
/* Monotonic; DEADLINE_NEVER when the client set none. */
uint64_t serve_call_deadline_ns(const struct serve_call *call);
/* Memory of the call, freed when it ends; for unpacking (see wire's arena allocator for
 * protobuf-c). */
struct arena *serve_call_arena(struct serve_call *call);
/* Streams: the next message of the client, valid until the next receive. STATUS_CLOSED: it sends no
 * more. */
MUST_USE enum status serve_call_receive(struct serve_call *call, uint64_t deadline_ns,
                                        struct bytes *ret_message);
/* Streams: send one message; suspends while the client is slow. STATUS_CANCELLED: it has gone away.
 */
MUST_USE enum status serve_call_send(struct serve_call *call, struct bytes message);

#endif
