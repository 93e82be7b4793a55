/* What serve.c (the port and its connections) and serve_call.c (their calls) share. Not for
 * others. */
#ifndef UNUM_NODE_SERVE_INTERNAL_H
#define UNUM_NODE_SERVE_INTERNAL_H

#include "node/serve.h"

#include <sys/queue.h>

enum {
    SERVE_CALLS_MAX = 8192, /* open at once, all connections: each needs a fiber */
    SERVE_HANDSHAKES_MAX = 256,
    SERVE_READ_BYTES = 16 * 1024, /* one TLS record */
    SERVE_WRITE_BYTES = 64 * 1024,
    SERVE_INBOX_BYTES_MAX = 64 * 1024, /* of a stream; beyond, the client is held */
    SERVE_ARENA_BYTES_MAX = 4 * LIMIT_MESSAGE_BYTES_MAX,
    SERVE_CALLS_KEPT_MAX = 64,           /* ended calls kept for reuse */
    SERVE_CALL_BUFFER_KEPT_BYTES = 4096, /* a kept call keeps buffers up to this size */
    SERVE_SILENCE_MS_MAX = 60000,        /* then the client is asked for a sign of life */
    SERVE_IDLE_MS_MAX = 30 * 60000,      /* without calls */
    SERVE_WRITE_MS_MAX = 60000,          /* for SERVE_WRITE_BYTES to leave */
    SERVE_REFUSED_MS_MAX = 10000,        /* for a refused peer to hear why */
    SERVE_GOODBYE_MS_MAX = 1000,         /* for the last words on a broken connection */
    SERVE_SWEEP_MS = 20,                 /* how late a passed deadline may be noticed */
    SERVE_LOG_LINES_PER_S_MAX = 20,
    SERVE_FULL_PAUSE_MS = 100,
};
_Static_assert((int)SERVE_CALLS_MAX + 2 * SERVE_CONNECTIONS_MAX < (int)FIBER_COUNT_MAX,
               "every call and connection finds its fibers");

#define MS_NS 1000000ull

struct serve_connection {
    struct serve *serve;
    TAILQ_ENTRY(serve_connection) all;
    struct stream *stream;
    struct grpc_connection *grpc;
    struct scope scope; /* its writer and calls */
    struct condition output_wanted;
    struct condition writer_ended;
    TAILQ_HEAD(serve_call_list, serve_call) calls; /* not yet ended */
    struct serve_call_list done;                   /* fiber has ended; the writer joins and frees */
    bool is_ending; /* nothing more is read; the writer says goodbye */
    bool writer_runs;
    char *refusal; /* the peer's identity is refused: every call is answered with this */
    char principal[SERVE_PRINCIPAL_BYTES_MAX + 1];
};

struct serve_call {
    TAILQ_ENTRY(serve_call) list; /* calls, done, or those kept */
    struct serve_connection *connection;
    const struct serve_service *service;
    struct grpc_call *grpc;   /* NULL: the client has gone away, or the call has ended */
    struct scope scope;       /* of its fiber, once it runs */
    struct condition changed; /* inbox, room for output */
    struct arena arena;
    struct buffer request; /* unary: the message. Stream: those not yet received, sizes before */
    size_t request_used;   /* stream: bytes at the front that have been received */
    struct buffer reply;   /* unary: the reply. Stream: the message received last */
    uint64_t deadline_ns;
    bool is_stream, is_running, has_request, is_half_closed, is_held, is_timed_out;
    char method[GRPC_PATH_BYTES_MAX + 1];
};

struct serve {
    struct serve_options options;
    struct serve_service services[SERVE_SERVICES_MAX];
    struct listener *listener;
    struct scope scope;
    TAILQ_HEAD(, serve_connection) connections;
    struct serve_call_list kept;
    struct condition connection_ended;
    struct condition deadline_set;
    unsigned connection_count, handshake_count, call_count, kept_count;
    unsigned deadline_count; /* open calls with a deadline */
    bool is_stopping;
    uint64_t log_window_ns;
    unsigned log_lines, log_lines_lost;
    struct serve_figures figures;
};

uint64_t serve_now_ns(const struct serve *serve);

/* serve_call.c */
extern const struct grpc_events serve_call_events; /* context: the serve_connection */
/* Join and free the calls whose fibers have ended. */
void serve_calls_reap(struct serve_connection *connection);
/* After the connection's scope was joined and its grpc destroyed. */
void serve_calls_free(struct serve_connection *connection);
void serve_calls_kept_free(struct serve *serve);
/* Cancel the calls of the connection whose deadline has passed. */
void serve_calls_expire(struct serve_connection *connection, uint64_t now_ns);

#endif
