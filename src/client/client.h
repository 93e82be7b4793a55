/* Client: libunum, what programs and the command line talk to a computer with.
 *
 * One connection at a time to one of several addresses, over TLS with a credential or plain, over
 * any network: the real one or the simulated. Calls are made in fibers and wait; many may be under
 * way at once. A lost connection is made again, at the next address, and calls are repeated until
 * their deadline as far as their kind allows. Every failure is a sentence for a person.
 * Owned by one reactor. The protocol: docs/api.md. */
#ifndef UNUM_CLIENT_CLIENT_H
#define UNUM_CLIENT_CLIENT_H

#include "reactor/reactor.h"
#include "reactor/tls.h"
#include "wire/proto_arena.h"

struct client;

enum {
    CLIENT_ADDRESSES_MAX = 16,
    CLIENT_SESSIONS_MAX = 64, /* writes under way at once; more wait for each other */
    CLIENT_CONNECT_MS_MAX = 5000,
    CLIENT_BACKOFF_MS_FIRST = 20,
    CLIENT_BACKOFF_MS_MAX = 1000,
};

struct client_options {
    struct scope *scope; /* fibers of the client live below it */
    struct network *network;
    struct clock *clock;
    struct random *random;
    const char *const *addresses; /* copied */
    size_t address_count;         /* 1..CLIENT_ADDRESSES_MAX */
    struct tls_context *tls;      /* borrowed; NULL: plain */
    const char *project;          /* of every call's context; copied; NULL: the default one */
    /* How long to keep trying when nobody answers; 0: until the call's deadline. */
    uint64_t patience_ms;
};

/* Connects at the first call. STATUS_INVALID: no address, or one that is too long. */
MUST_USE enum status client_create(const struct client_options *options, struct client **ret_client,
                                   struct error *error);
/* Ends the connection. No call may be under way. Before the fiber that created it ends. Accepts
 * NULL. */
void client_destroy(struct client *client);
/* The address that answered last, or the first; borrowed. */
const char *client_address(const struct client *client);
/* Monotonic, for deadlines: now + MS. */
uint64_t client_deadline_ns(const struct client *client, uint64_t ms);

/* What may be done again when the answer got lost. */
enum client_kind {
    CLIENT_READ,  /* changes nothing */
    CLIENT_WRITE, /* the server applies it once per session and sequence (Registry's writes) */
    CLIENT_ONCE,  /* neither: repeated only when the request was surely not sent */
};

/* A unary call. PATH is "/unum.v1.Registry/Put". REQUEST's `context`, when empty, is filled in for
 * the call (request id, project; session and sequence for CLIENT_WRITE). The reply, of type REPLY,
 * lives in ARENA.
 * Not STATUS_OK: as the server said, with its sentence; STATUS_UNAVAILABLE: nobody answered, or not
 * until the deadline; STATUS_TIMEOUT: the deadline passed. After the last two a write may have been
 * applied. STATUS_DENIED: the credential is refused. */
MUST_USE enum status client_call(struct client *client, enum client_kind kind, const char *path,
                                 ProtobufCMessage *request, const ProtobufCMessageDescriptor *reply,
                                 struct arena *arena, uint64_t deadline_ns, void *ret_reply,
                                 struct error *error);

/* --- streams -------------------------------------------------------------------------------------
 * Not repeated by themselves. One fiber sends, one (it may be another) receives. */
struct client_stream;

/* Begin the call and send its first message; context as above. HALF_CLOSE: it is the only one. */
MUST_USE enum status client_stream_open(struct client *client, const char *path,
                                        ProtobufCMessage *request, bool half_close,
                                        uint64_t deadline_ns, struct client_stream **ret_stream,
                                        struct error *error);
/* Waits while the server is slow. STATUS_CLOSED: the call is over, client_stream_receive says why.
 */
MUST_USE enum status client_stream_send(struct client_stream *stream,
                                        const ProtobufCMessage *message);
void client_stream_half_close(struct client_stream *stream);
/* The next message, in ARENA. STATUS_CLOSED: the server ended the call well. STATUS_TIMEOUT:
 * DEADLINE_NS passed, the stream goes on. Else: as the call ended, with the sentence
 * (STATUS_INVALID also for a start revision that is compacted). */
MUST_USE enum status client_stream_receive(struct client_stream *stream,
                                           const ProtobufCMessageDescriptor *type,
                                           struct arena *arena, uint64_t deadline_ns,
                                           void *ret_message, struct error *error);
/* Gives the call up if it is not over. Accepts NULL. */
void client_stream_close(struct client_stream *stream);

#endif
