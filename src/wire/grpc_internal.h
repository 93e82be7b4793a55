/* What grpc.c (the connection) and grpc_call.c (its calls) share. Not for others. */
#ifndef UNUM_WIRE_GRPC_INTERNAL_H
#define UNUM_WIRE_GRPC_INTERNAL_H

#include "wire/grpc.h"
#include "wire/grpc_memory.h"

#include <nghttp2/nghttp2.h>
#include <sys/queue.h>

enum {
    GRPC_PREFIX_BYTES = 5,        /* compressed flag, size big-endian */
    GRPC_HEADER_BYTES_MAX = 8192, /* of one request's or answer's headers, names and values */
    GRPC_STREAM_WINDOW_BYTES = 1024 * 1024,
    GRPC_CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024,
    /* Of one call, waiting; one message of any size always fits into an empty queue. */
    GRPC_CALL_OUTPUT_BYTES_MAX = 256 * 1024,
    /* Messages that arrived in part, all calls of a connection together. */
    GRPC_ASSEMBLY_BYTES_MAX = 16 * 1024 * 1024,
    GRPC_STAGED_BYTES_MAX = 64 * 1024,
    GRPC_FRAME_BYTES_MAX = 128 * 1024,  /* what nghttp2 hands out at once stays below */
    GRPC_CALLS_KEPT_MAX = 64,           /* freed calls kept for reuse */
    GRPC_CALL_BUFFER_KEPT_BYTES = 4096, /* a freed call keeps buffers up to this size */
    GRPC_MEMORY_BYTES_DEFAULT = 4 * 1024 * 1024,
};
_Static_assert(GRPC_OUTPUT_BYTES_MAX >= LIMIT_MESSAGE_BYTES_MAX + GRPC_PREFIX_BYTES,
               "the largest message fits into the output of a connection");
_Static_assert((size_t)GRPC_ASSEMBLY_BYTES_MAX >= (size_t)LIMIT_MESSAGE_BYTES_MAX,
               "as it fits into the assembly");

struct grpc_call {
    struct grpc_connection *connection;
    void *attachment;
    TAILQ_ENTRY(grpc_call) calls;   /* of the connection, or of those kept */
    TAILQ_ENTRY(grpc_call) blocked; /* valid while is_blocked */
    int32_t stream_id;

    bool is_announced;    /* the owner knows of it: `ended` will run */
    bool headers_sent;    /* server: the answer has begun. Client: always */
    bool is_deferred;     /* nghttp2 waits for grpc_call_send or the end */
    bool is_closing;      /* we send no more messages */
    bool is_closed_by_us; /* END_STREAM has gone out */
    bool is_closed_by_peer;
    bool is_over;    /* its end is decided: what still arrives is dropped */
    bool is_blocked; /* was told STATUS_BUSY, waits for `writable` */
    bool is_held;    /* grpc_call_hold: the peer gets no new window */
    bool has_status;

    enum grpc_status status;
    char *text; /* own, may be NULL */

    /* Receiving. */
    uint8_t prefix[GRPC_PREFIX_BYTES];
    size_t prefix_used;
    uint32_t message_size;
    struct buffer assembly;
    size_t held_bytes; /* received, not yet credited to the peer */

    /* Sending. */
    struct buffer output;
    size_t output_sent; /* bytes at the front of `output` that have gone */

    /* Headers as they come in. */
    size_t header_bytes;
    unsigned http_status; /* client: of the answer. Server: what to refuse with, 0: none */
    enum grpc_status refusal;
    const char *refusal_text; /* static; NULL: no refusal */
    uint64_t timeout_ns;
    bool is_post, has_content_type;
    char path[GRPC_PATH_BYTES_MAX + 1];
};

TAILQ_HEAD(grpc_call_list, grpc_call);

struct grpc_connection {
    nghttp2_session *session;
    struct grpc_memory memory;
    const struct grpc_events *events;
    void *context;
    char *authority;
    bool is_server, is_https;
    bool is_inside;   /* within receive, output or destroy: not re-entered */
    bool is_broken;   /* `breakage` says why */
    bool is_draining; /* GOAWAY sent (server) or received (client) */
    bool has_received;
    int32_t last_stream_id; /* draining server: the last that is served */
    bool was_drained;       /* output went since the blocked calls were last looked at */
    struct grpc_call_list calls, kept, blocked;
    size_t call_count, kept_count;
    size_t output_waiting; /* bytes, of all calls */
    size_t assembly_bytes;
    struct buffer staged; /* taken from nghttp2, not yet by grpc_output */
    size_t staged_sent;
    const uint8_t *pending; /* nghttp2's, the rest of a frame */
    size_t pending_size;
    struct error breakage;
};

/* grpc_call.c */
struct grpc_call *grpc_call_open(struct grpc_connection *connection); /* NULL: no memory, BUSY */
/* Runs `ended` when the call was announced, then frees. */
void grpc_call_end(struct grpc_call *call, enum grpc_status status, const char *text);
/* End it ourselves, because of what the peer sent. */
void grpc_call_refuse(struct grpc_call *call, enum grpc_status status, const char *text);
/* Server: answer with headers alone. */
void grpc_call_answer_http(struct grpc_call *call, const char *http_status, const char *text);
void grpc_call_receive(struct grpc_call *call, const uint8_t *bytes, size_t size);
void grpc_calls_unblock(struct grpc_connection *connection);

#define GRPC_HEADER(NAME, VALUE)                                                                   \
    {                                                                                              \
        (uint8_t *)(NAME), (uint8_t *)(VALUE), sizeof(NAME) - 1, sizeof(VALUE) - 1,                \
            NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE                           \
    }

#endif
