/* What client.c (calls) and connection.c (the connection below them) share. Not for others. */
#ifndef UNUM_CLIENT_INTERNAL_H
#define UNUM_CLIENT_INTERNAL_H

#include "client/client.h"
#include "wire/grpc.h"

#include <sys/queue.h>

enum {
    CLIENT_READ_BYTES = 16 * 1024,
    CLIENT_WRITE_BYTES = 64 * 1024,
    CLIENT_WRITE_MS_MAX = 60000,
    CLIENT_SILENCE_MS_MAX = 60000,
    CLIENT_INBOX_BYTES_MAX = 256 * 1024, /* of a stream; beyond, the server is held */
    CLIENT_PROJECT_BYTES_MAX = 63,
};
#define MS_NS 1000000ull

/* Lives from its fiber's start to its end; calls reach it through client->connection and their
 * grpc_call only. */
struct connection {
    struct client *client;
    struct stream *stream;
    struct grpc_connection *grpc; /* NULL while connecting */
    struct scope scope;           /* its writer */
    struct condition output_wanted;
    bool is_refused; /* the server does not take our certificate */
    char address[NETWORK_ADDRESS_BYTES_MAX];
};

struct session {
    TAILQ_ENTRY(session) free;
    struct id id;
    uint64_t sequence; /* of the latest write */
};

struct client {
    struct client_options options;
    struct scope scope;
    char addresses[CLIENT_ADDRESSES_MAX][NETWORK_ADDRESS_BYTES_MAX];
    char project[CLIENT_PROJECT_BYTES_MAX + 1];
    unsigned address; /* the one to try next */
    struct connection *connection;
    struct condition changed; /* the connection's state */
    uint64_t failure_count;   /* of attempts at all addresses */
    enum status failure;
    struct error failure_text;
    struct session sessions[CLIENT_SESSIONS_MAX];
    unsigned session_count; /* that exist */
    TAILQ_HEAD(, session) free_sessions;
    struct condition session_freed;
};

/* One call under way, of either kind. */
struct client_stream {
    struct client *client;
    struct connection *connection; /* valid while grpc is not NULL */
    struct grpc_call *grpc;        /* NULL: over */
    struct condition changed;
    struct buffer inbox; /* messages not yet received: size u32, bytes */
    size_t inbox_used;
    bool is_held;
    bool is_broken; /* we gave up: no memory */
    enum grpc_status status;
    char text[GRPC_STATUS_TEXT_BYTES_MAX + 1];
};

uint64_t client_now_ns(const struct client *client);

/* Wait for a connection that takes calls. STATUS_UNAVAILABLE, STATUS_DENIED, STATUS_TIMEOUT. */
MUST_USE enum status client_connect(struct client *client, uint64_t deadline_ns,
                                    struct error *error);
/* The current connection takes no more calls: the next one gets another. */
void client_abandon(struct client *client);

extern const struct grpc_events client_stream_events;

#endif
