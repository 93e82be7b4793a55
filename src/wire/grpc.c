/* The connection: nghttp2's session, its callbacks, bytes in and out. Calls: grpc_call.c.
 *
 * nghttp2 keeps the state of HTTP/2; this file turns its events into calls. A call lives from the
 * first header of its stream (server) or from grpc_call_start (client) to the close of the stream;
 * it is the stream's user data. Frames that nghttp2 wants to send are taken at the end of
 * grpc_receive already (`staged`), because only a GOAWAY that goes out tells that the peer broke
 * the protocol. */
#include "wire/grpc_internal.h"
#include "wire/grpc_text.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static struct grpc_call *call_of(nghttp2_session *session, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(session, stream_id);
}

static bool name_is(const uint8_t *name, size_t size, const char *expected)
{
    return size == strlen(expected) && memcmp(name, expected, size) == 0;
}

/* --- headers -----------------------------------------------------------------------------------
 */

static void refuse_later(struct grpc_call *call, enum grpc_status status, const char *text)
{
    if (call->refusal_text != NULL) return;
    call->refusal = status;
    call->refusal_text = text;
}

static void take_path(struct grpc_call *call, struct bytes value)
{
    if (value.size > GRPC_PATH_BYTES_MAX || memchr(value.data, 0, value.size) != NULL) {
        refuse_later(call, GRPC_UNIMPLEMENTED, "no such method: the path is too long");
        return;
    }
    memcpy(call->path, value.data, value.size);
    call->path[value.size] = '\0';
}

static void take_request_header(struct grpc_call *call, const uint8_t *name, size_t size,
                                struct bytes value)
{
    if (name_is(name, size, ":path")) {
        take_path(call, value);
    } else if (name_is(name, size, ":method")) {
        call->is_post = bytes_equal(value, bytes_of_text("POST"));
    } else if (name_is(name, size, "content-type")) {
        call->has_content_type = grpc_content_type_is_ours(value);
    } else if (name_is(name, size, "grpc-timeout")) {
        if (grpc_timeout_parse(value, &call->timeout_ns) != STATUS_OK)
            refuse_later(call, GRPC_INVALID_ARGUMENT, "the grpc-timeout header is malformed");
    }
}

static void take_answer_header(struct grpc_call *call, const uint8_t *name, size_t size,
                               struct bytes value)
{
    if (name_is(name, size, ":status")) {
        call->http_status = 0;
        for (size_t i = 0; i < value.size && i < 3; i++)
            call->http_status = call->http_status * 10 + (unsigned)(value.data[i] - '0');
    } else if (name_is(name, size, "content-type")) {
        call->has_content_type = grpc_content_type_is_ours(value);
    } else if (name_is(name, size, "grpc-status") && !call->has_status) {
        call->has_status = true;
        call->status = grpc_status_parse(value);
    } else if (name_is(name, size, "grpc-message") && call->text == NULL) {
        char text[GRPC_STATUS_TEXT_BYTES_MAX + 1];
        grpc_message_decode(value, text);
        call->text = strdup(text);
    }
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *user)
{
    (void)flags;
    const struct grpc_connection *connection = user;
    struct grpc_call *call = call_of(session, frame->hd.stream_id);
    if (call == NULL || call->is_over) return 0;
    call->header_bytes += name_size + value_size;
    if (call->header_bytes > GRPC_HEADER_BYTES_MAX) {
        refuse_later(call, GRPC_RESOURCE_EXHAUSTED, "the headers are larger than 8 KiB");
    } else if (!connection->is_server) {
        take_answer_header(call, name, name_size, bytes_of(value, value_size));
    } else if (!call->is_announced) {
        take_request_header(call, name, name_size, bytes_of(value, value_size));
    }
    return 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct grpc_connection *connection = user;
    if (!connection->is_server || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    /* Beyond what the GOAWAY promises: the client will take it elsewhere, so it must not run here.
     */
    if (connection->is_draining && frame->hd.stream_id > connection->last_stream_id) return 0;
    struct grpc_call *call =
        connection->call_count < GRPC_CALLS_MAX ? grpc_call_open(connection) : NULL;
    if (call == NULL) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets this stream */
    call->stream_id = frame->hd.stream_id;
    (void)nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
    return 0;
}

static void begin_request(struct grpc_connection *connection, struct grpc_call *call)
{
    if (!call->is_post) {
        grpc_call_answer_http(call, "405", "gRPC calls are POST requests");
    } else if (!call->has_content_type) {
        grpc_call_answer_http(call, "415", "the content type is not application/grpc");
    } else if (call->refusal_text != NULL) {
        grpc_call_finish(call, call->refusal, call->refusal_text);
    } else {
        call->is_announced = true;
        connection->events->called(connection->context, call, call->path, call->timeout_ns);
    }
}

static void begin_answer(struct grpc_call *call)
{
    if (call->refusal_text != NULL) {
        grpc_call_refuse(call, call->refusal, call->refusal_text);
    } else if (call->has_status || call->http_status == 200) {
        if (!call->has_content_type && !call->has_status)
            grpc_call_refuse(call, GRPC_UNKNOWN, "the server does not speak gRPC");
    } else if (call->http_status >= 200) {
        char text[64];
        (void)snprintf(text, sizeof text, "the server answers with HTTP status %u",
                       call->http_status);
        grpc_call_refuse(call, grpc_status_of_http(call->http_status), text);
    }
}

/* The peer sends no more on this call. */
static void peer_closed(struct grpc_connection *connection, struct grpc_call *call)
{
    call->is_closed_by_peer = true;
    if (call->is_over) return;
    if (call->prefix_used != 0) {
        grpc_call_refuse(call, GRPC_INTERNAL, "the call ends within a message");
        return;
    }
    if (call->is_announced) connection->events->half_closed(connection->context, call);
    /* The server has said its last word: nothing that we still send will be read. */
    if (!connection->is_server && !call->is_closed_by_us) {
        call->is_over = true;
        call->is_closing = true;
        (void)nghttp2_submit_rst_stream(connection->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                        NGHTTP2_NO_ERROR);
    }
}

static int on_frame_received(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct grpc_connection *connection = user;
    if (frame->hd.type == NGHTTP2_GOAWAY && !connection->is_server) connection->is_draining = true;
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
    struct grpc_call *call = call_of(session, frame->hd.stream_id);
    if (call == NULL) return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && !call->is_over) {
        if (connection->is_server) {
            if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) begin_request(connection, call);
        } else {
            begin_answer(call);
        }
    }
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) peer_closed(connection, call);
    return 0;
}

/* --- data, sent frames, closed streams ----------------------------------------------------------
 */

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *bytes,
                   size_t size, void *user)
{
    (void)flags, (void)user;
    struct grpc_call *call = call_of(session, stream_id);
    (void)nghttp2_session_consume_connection(session, size);
    if (call == NULL) {
        (void)nghttp2_session_consume_stream(session, stream_id, size);
        return 0;
    }
    if (!call->is_over) grpc_call_receive(call, bytes, size);
    if (call->is_held && !call->is_over) {
        call->held_bytes += size;
    } else {
        (void)nghttp2_session_consume_stream(session, stream_id, size);
    }
    return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct grpc_connection *connection = user;
    if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR) {
        if (connection->is_broken) return 0;
        connection->is_broken = true;
        (void)error_set(&connection->breakage, STATUS_INVALID, "the peer breaks HTTP/2: %s: %.*s",
                        nghttp2_http2_strerror(frame->goaway.error_code),
                        (int)frame->goaway.opaque_data_len,
                        (const char *)frame->goaway.opaque_data);
    }
    bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 &&
                (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA);
    if (!ends) return 0;
    struct grpc_call *call = call_of(session, frame->hd.stream_id);
    if (call == NULL) return 0;
    call->is_closed_by_us = true;
    /* The answer is whole: ask the client not to go on sending. */
    if (connection->is_server && !call->is_closed_by_peer)
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                        NGHTTP2_NO_ERROR);
    return 0;
}

static int on_frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error_code,
                             void *user)
{
    (void)error_code;
    struct grpc_connection *connection = user;
    bool is_request = frame->hd.type == NGHTTP2_HEADERS && !connection->is_server &&
                      frame->headers.cat == NGHTTP2_HCAT_REQUEST;
    /* A stream that exists is closed by nghttp2, which tells so. */
    if (!is_request || call_of(session, frame->hd.stream_id) != NULL) return 0;
    struct grpc_call *call;
    TAILQ_FOREACH (call, &connection->calls, calls) {
        if (call->stream_id != frame->hd.stream_id) continue;
        grpc_call_end(call, GRPC_UNAVAILABLE, "the server takes no more calls on this connection");
        break;
    }
    return 0;
}

static int on_stream_closed(nghttp2_session *session, int32_t stream_id, uint32_t error_code,
                            void *user)
{
    const struct grpc_connection *connection = user;
    struct grpc_call *call = call_of(session, stream_id);
    if (call == NULL) return 0;
    (void)nghttp2_session_set_stream_user_data(session, stream_id, NULL);
    if (connection->is_server) {
        bool answered = call->has_status && call->is_closed_by_us;
        grpc_call_end(call, answered ? call->status : GRPC_CANCELLED, call->text);
    } else if (call->has_status) {
        grpc_call_end(call, call->status, call->text);
    } else if (call->is_closed_by_peer) {
        grpc_call_end(call, GRPC_UNKNOWN, "the server ended the call without a status");
    } else {
        char text[96];
        (void)snprintf(text, sizeof text, "the server reset the call (%s)",
                       nghttp2_http2_strerror(error_code));
        grpc_call_end(call, grpc_status_of_reset(error_code), text);
    }
    return 0;
}

/* --- the connection -----------------------------------------------------------------------------
 */

static int session_create(struct grpc_connection *connection)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int result = NGHTTP2_ERR_NOMEM;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) goto out;
    if (nghttp2_option_new(&option) != 0) goto out;
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_received);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_closed);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);

    nghttp2_mem memory = { .mem_user_data = &connection->memory,
                           .malloc = grpc_memory_take,
                           .free = grpc_memory_give,
                           .calloc = grpc_memory_take_zeroed,
                           .realloc = grpc_memory_resize };
    result = connection->is_server ? nghttp2_session_server_new3(&connection->session, callbacks,
                                                                 connection, option, &memory)
                                   : nghttp2_session_client_new3(&connection->session, callbacks,
                                                                 connection, option, &memory);
out:
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return result;
}

static int submit_settings(struct grpc_connection *connection)
{
    nghttp2_settings_entry settings[] = {
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, GRPC_STREAM_WINDOW_BYTES },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, GRPC_HEADER_BYTES_MAX },
        { NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 },
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, connection->is_server ? GRPC_CALLS_MAX : 0 },
        { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 }, /* a client's only, and last */
    };
    size_t count = sizeof settings / sizeof settings[0] - (connection->is_server ? 1 : 0);
    int result = nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, settings, count);
    if (result != 0) return result;
    return nghttp2_session_set_local_window_size(connection->session, NGHTTP2_FLAG_NONE, 0,
                                                 GRPC_CONNECTION_WINDOW_BYTES);
}

enum status grpc_connection_create(const struct grpc_options *options,
                                   struct grpc_connection **ret_connection)
{
    struct grpc_connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) return STATUS_NO_MEMORY;
    uint64_t memory_max = options->memory_bytes_max;
    grpc_memory_init(&connection->memory,
                     memory_max == 0 ? GRPC_MEMORY_BYTES_DEFAULT : (size_t)memory_max);
    connection->events = options->events;
    connection->context = options->context;
    connection->is_server = options->is_server;
    connection->is_https = options->is_https;
    TAILQ_INIT(&connection->calls);
    TAILQ_INIT(&connection->kept);
    TAILQ_INIT(&connection->blocked);
    buffer_init(&connection->staged, GRPC_STAGED_BYTES_MAX + GRPC_FRAME_BYTES_MAX);
    connection->authority = strdup(options->authority == NULL ? "unum" : options->authority);
    if (connection->authority == NULL || session_create(connection) != 0 ||
        submit_settings(connection) != 0) {
        grpc_connection_destroy(connection);
        return STATUS_NO_MEMORY;
    }
    *ret_connection = connection;
    return STATUS_OK;
}

void grpc_connection_destroy(struct grpc_connection *connection)
{
    if (connection == NULL) return;
    assert(!connection->is_inside);
    connection->is_inside = true;
    connection->is_broken = true;
    struct grpc_call *call;
    while ((call = TAILQ_FIRST(&connection->calls)) != NULL)
        grpc_call_end(call, GRPC_UNAVAILABLE, "the connection is closed");
    if (connection->session != NULL) nghttp2_session_del(connection->session);
    while ((call = TAILQ_FIRST(&connection->kept)) != NULL) {
        TAILQ_REMOVE(&connection->kept, call, calls);
        buffer_finish(&call->assembly);
        buffer_finish(&call->output);
        free(call);
    }
    grpc_memory_finish(&connection->memory);
    buffer_finish(&connection->staged);
    free(connection->authority);
    free(connection);
}

/* --- bytes in and out ---------------------------------------------------------------------------
 */

/* The next bytes of nghttp2 into `pending`. False: there are none, or the session failed. */
static bool fill_pending(struct grpc_connection *connection, enum status *ret_status)
{
    ssize_t size = nghttp2_session_mem_send(connection->session, &connection->pending);
    if (size < 0) {
        connection->is_broken = true;
        *ret_status = size == NGHTTP2_ERR_NOMEM ? STATUS_NO_MEMORY : STATUS_INTERNAL;
        (void)error_set(&connection->breakage, *ret_status, "the connection ended: %s",
                        nghttp2_strerror((int)size));
        return false;
    }
    connection->pending_size = (size_t)size;
    return size > 0;
}

static enum status stage_output(struct grpc_connection *connection)
{
    enum status status = STATUS_OK;
    while (connection->staged.used < GRPC_STAGED_BYTES_MAX) {
        if (connection->pending_size == 0 && !fill_pending(connection, &status)) break;
        status = buffer_append(&connection->staged, connection->pending, connection->pending_size);
        if (status != STATUS_OK) break;
        connection->pending_size = 0;
    }
    return status;
}

static enum status breakage_of_receive(struct grpc_connection *connection, int result,
                                       const uint8_t *bytes, size_t size)
{
    connection->is_broken = true;
    if (result == NGHTTP2_ERR_NOMEM)
        return error_set(&connection->breakage, STATUS_NO_MEMORY,
                         "the connection needs more memory than its budget");
    if (result != NGHTTP2_ERR_BAD_CLIENT_MAGIC || connection->has_received)
        return error_set(&connection->breakage, STATUS_INVALID, "the peer breaks HTTP/2: %s",
                         nghttp2_strerror(result));
    enum { SHOWN_BYTES_MAX = 16 };
    char shown[SHOWN_BYTES_MAX + 1];
    size_t count = size < SHOWN_BYTES_MAX ? size : SHOWN_BYTES_MAX;
    memcpy(shown, bytes, count);
    for (size_t i = 0; i < count; i++)
        if (shown[i] < 0x20 || shown[i] > 0x7e) shown[i] = '.';
    shown[count] = '\0';
    return error_set(&connection->breakage, STATUS_INVALID,
                     "the peer does not speak HTTP/2: it begins with \"%s\"", shown);
}

enum status grpc_receive(struct grpc_connection *connection, const void *bytes, size_t size,
                         struct error *error)
{
    assert(!connection->is_inside);
    if (connection->is_broken)
        return error_set(error, STATUS_INVALID, "%s", connection->breakage.text);
    connection->is_inside = true;
    enum status status = STATUS_OK;
    ssize_t used = nghttp2_session_mem_recv(connection->session, bytes, size);
    if (used < 0) {
        status = breakage_of_receive(connection, (int)used, bytes, size);
    } else {
        connection->has_received = true;
        status = stage_output(connection);
        if (status == STATUS_OK && connection->is_broken) status = STATUS_INVALID;
        grpc_calls_unblock(connection);
    }
    connection->is_inside = false;
    if (status != STATUS_OK) return error_set(error, status, "%s", connection->breakage.text);
    return STATUS_OK;
}

static size_t take_staged(struct grpc_connection *connection, uint8_t *bytes, size_t size)
{
    size_t left = connection->staged.used - connection->staged_sent;
    if (size > left) size = left;
    if (size > 0) memcpy(bytes, connection->staged.data + connection->staged_sent, size);
    connection->staged_sent += size;
    if (connection->staged_sent == connection->staged.used) {
        connection->staged.used = 0;
        connection->staged_sent = 0;
    }
    return size;
}

enum status grpc_output(struct grpc_connection *connection, uint8_t *ret_bytes, size_t size,
                        size_t *ret_used)
{
    assert(!connection->is_inside);
    connection->is_inside = true;
    enum status status = STATUS_OK;
    size_t used = take_staged(connection, ret_bytes, size);
    while (used < size) {
        if (connection->pending_size == 0 && !fill_pending(connection, &status)) break;
        size_t part = connection->pending_size;
        if (part > size - used) part = size - used;
        memcpy(ret_bytes + used, connection->pending, part);
        used += part;
        connection->pending += part;
        connection->pending_size -= part;
    }
    grpc_calls_unblock(connection);
    connection->is_inside = false;
    if (status != STATUS_OK) return status;
    *ret_used = used;
    return STATUS_OK;
}

bool grpc_wants_output(const struct grpc_connection *connection)
{
    return connection->staged.used > 0 || connection->pending_size > 0 ||
           nghttp2_session_want_write(connection->session) != 0;
}

bool grpc_finished(const struct grpc_connection *connection)
{
    return !grpc_wants_output(connection) &&
           (connection->is_broken || nghttp2_session_want_read(connection->session) == 0);
}

void grpc_drain(struct grpc_connection *connection)
{
    assert(connection->is_server);
    if (connection->is_draining) return;
    connection->is_draining = true;
    connection->last_stream_id = nghttp2_session_get_last_proc_stream_id(connection->session);
    (void)nghttp2_submit_goaway(connection->session, NGHTTP2_FLAG_NONE, connection->last_stream_id,
                                NGHTTP2_NO_ERROR, NULL, 0);
}

void grpc_ping(struct grpc_connection *connection)
{
    (void)nghttp2_submit_ping(connection->session, NGHTTP2_FLAG_NONE, NULL);
}
