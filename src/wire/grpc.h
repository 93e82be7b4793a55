/* gRPC over HTTP/2, sans-io, on nghttp2: bytes in, calls and messages out.
 *
 * One grpc_connection per stream. Feed received bytes with grpc_receive; take bytes to send with
 * grpc_output until it gives none. Callbacks run inside grpc_receive, grpc_output and
 * grpc_connection_destroy; they may use calls, but not receive, take output or free the connection.
 * Bounded: concurrent calls, header bytes, message bytes (LIMIT_MESSAGE_BYTES_MAX), and output
 * waiting per call (grpc_call_send answers STATUS_BUSY; `writable` says when to go on). nghttp2's
 * memory is charged to the connection's budget. A peer that breaks HTTP/2 gets GOAWAY and
 * grpc_receive returns STATUS_INVALID with a sentence. Source: the gRPC over HTTP2 protocol
 * document, RFC 9113. */
#ifndef UNUM_WIRE_GRPC_H
#define UNUM_WIRE_GRPC_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/limits.h"

#include <stdbool.h>

struct grpc_connection;
struct grpc_call;

enum {
    GRPC_CALLS_MAX = 1024, /* open at once on a connection */
    GRPC_PATH_BYTES_MAX = 127,
    GRPC_OUTPUT_BYTES_MAX = 8 * 1024 * 1024, /* waiting, per connection */
    GRPC_STATUS_TEXT_BYTES_MAX = 1024,
};

/* The status codes of gRPC. */
enum grpc_status {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
};
/* What stands for what: BUSY and NO_MEMORY are RESOURCE_EXHAUSTED, FULL is FAILED_PRECONDITION,
 * CONFLICT is ABORTED, CLOSED (compacted) is OUT_OF_RANGE; docs/api.md has the whole table. */
enum grpc_status grpc_status_of(enum status status);
enum status status_of_grpc(enum grpc_status status);

struct grpc_events {
    /* Server: a call began. PATH is "/package.Service/Method", borrowed. TIMEOUT_NS from
     * grpc-timeout, UINT64_MAX for none. Attach your state with grpc_call_attach. */
    void (*called)(void *context, struct grpc_call *call, const char *path, uint64_t timeout_ns);
    /* One whole message arrived; borrowed. */
    void (*message)(void *context, struct grpc_call *call, struct bytes message);
    /* The peer sends no more messages on this call. */
    void (*half_closed)(void *context, struct grpc_call *call);
    /* Room for output again after STATUS_BUSY. May be NULL. */
    void (*writable)(void *context, struct grpc_call *call);
    /* The call is over, CALL is freed after this returns. Client: the status of the server. Both:
     * also when the connection broke (GRPC_UNAVAILABLE) or the peer reset the call
     * (GRPC_CANCELLED). */
    void (*ended)(void *context, struct grpc_call *call, enum grpc_status status, const char *text);
};

struct grpc_options {
    bool is_server;
    const struct grpc_events *events;
    void *context;
    const char *authority;     /* client: the :authority to send; copied */
    bool is_https;             /* client: the :scheme to send */
    uint64_t memory_bytes_max; /* nghttp2's, 0: 4 MiB */
};

MUST_USE enum status grpc_connection_create(const struct grpc_options *options,
                                            struct grpc_connection **ret_connection);
/* Ends all calls (their `ended` runs with GRPC_UNAVAILABLE), then frees. Accepts NULL. */
void grpc_connection_destroy(struct grpc_connection *connection);

MUST_USE enum status grpc_receive(struct grpc_connection *connection, const void *bytes,
                                  size_t size, struct error *error);
/* Up to SIZE bytes to send; 0 when there is nothing now. */
MUST_USE enum status grpc_output(struct grpc_connection *connection, uint8_t *ret_bytes,
                                 size_t size, size_t *ret_used);
bool grpc_wants_output(const struct grpc_connection *connection);
/* Neither side has calls nor will start any: close the stream. */
bool grpc_finished(const struct grpc_connection *connection);
/* Server: GOAWAY, no new calls; the open ones go on. */
void grpc_drain(struct grpc_connection *connection);

/* Ask the peer for a sign of life: if it lives, bytes arrive soon. */
void grpc_ping(struct grpc_connection *connection);

/* Client: begin a call. STATUS_BUSY: GRPC_CALLS_MAX, or the server's limit. STATUS_CLOSED: the
 * server takes no more calls on this connection. STATUS_INVALID: the path is too long. */
MUST_USE enum status grpc_call_start(struct grpc_connection *connection, const char *path,
                                     uint64_t timeout_ns, void *attachment,
                                     struct grpc_call **ret_call);
/* Copies. STATUS_BUSY over the bound; STATUS_CLOSED when the call is over; STATUS_INVALID over
 * LIMIT_MESSAGE_BYTES_MAX. */
MUST_USE enum status grpc_call_send(struct grpc_call *call, struct bytes message);
/* Client: no more messages from us. */
void grpc_call_half_close(struct grpc_call *call);
/* Server: end the call with its status; TEXT may be NULL. `ended` still runs. Messages go out
 * first. */
void grpc_call_finish(struct grpc_call *call, enum grpc_status status, const char *text);
/* Either side: give the call up (RST_STREAM). `ended` still runs. */
void grpc_call_cancel(struct grpc_call *call);
/* Stop crediting the peer for what it sends on this call, so that it stops after at most the
 * stream's window (1 MiB); and go on. For receivers that are slower than the sender. */
void grpc_call_hold(struct grpc_call *call);
void grpc_call_release(struct grpc_call *call);
void grpc_call_attach(struct grpc_call *call, void *attachment);
void *grpc_call_attachment(const struct grpc_call *call);

#endif
