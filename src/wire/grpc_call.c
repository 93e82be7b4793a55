/* The calls of a connection: messages in and out, their bounds, their end. */
#include "wire/grpc_internal.h"
#include "wire/grpc_text.h"

#include <assert.h>
#include <stdlib.h>

/* --- life --------------------------------------------------------------------------------------
 */

struct grpc_call *grpc_call_open(struct grpc_connection *connection)
{
    struct grpc_call *call = TAILQ_FIRST(&connection->kept);
    struct buffer assembly, output;
    buffer_init(&assembly, LIMIT_MESSAGE_BYTES_MAX);
    buffer_init(&output, GRPC_OUTPUT_BYTES_MAX);
    if (call != NULL) {
        TAILQ_REMOVE(&connection->kept, call, calls);
        connection->kept_count--;
        assembly = call->assembly;
        output = call->output;
    } else {
        call = malloc(sizeof *call);
        if (call == NULL) return NULL;
    }
    *call = (struct grpc_call) {
        .connection = connection, .timeout_ns = UINT64_MAX, .assembly = assembly, .output = output
    };
    TAILQ_INSERT_TAIL(&connection->calls, call, calls);
    connection->call_count++;
    return call;
}

static size_t output_left(const struct grpc_call *call)
{
    return call->output.used - call->output_sent;
}

static void empty_or_drop(struct buffer *buffer)
{
    buffer->used = 0;
    if (buffer->capacity <= GRPC_CALL_BUFFER_KEPT_BYTES) return;
    size_t size_max = buffer->size_max;
    buffer_finish(buffer);
    buffer_init(buffer, size_max);
}

static void call_free(struct grpc_call *call)
{
    struct grpc_connection *connection = call->connection;
    free(call->text);
    call->text = NULL;
    if (connection->kept_count < GRPC_CALLS_KEPT_MAX) {
        empty_or_drop(&call->assembly);
        empty_or_drop(&call->output);
        TAILQ_INSERT_HEAD(&connection->kept, call, calls);
        connection->kept_count++;
        return;
    }
    buffer_finish(&call->assembly);
    buffer_finish(&call->output);
    free(call);
}

void grpc_call_end(struct grpc_call *call, enum grpc_status status, const char *text)
{
    struct grpc_connection *connection = call->connection;
    TAILQ_REMOVE(&connection->calls, call, calls);
    connection->call_count--;
    if (call->is_blocked) TAILQ_REMOVE(&connection->blocked, call, blocked);
    call->is_blocked = false;
    connection->output_waiting -= output_left(call);
    connection->assembly_bytes -= call->assembly.used;
    connection->was_drained = true;
    call->is_over = true;
    call->is_closing = true;
    if (call->is_announced)
        connection->events->ended(connection->context, call, status, text == NULL ? "" : text);
    call_free(call);
}

static void set_status(struct grpc_call *call, enum grpc_status status, const char *text)
{
    if (call->has_status) return;
    call->has_status = true;
    call->status = status;
    /* Without memory the sentence is lost, the status is not. */
    if (text != NULL && text[0] != '\0') call->text = strndup(text, GRPC_STATUS_TEXT_BYTES_MAX);
}

/* --- sending ------------------------------------------------------------------------------------
 */

static nghttp2_nv header_of(const char *name, const void *value, size_t value_size, uint8_t flags)
{
    return (nghttp2_nv) { .name = (uint8_t *)name,
                          .value = (uint8_t *)value,
                          .namelen = strlen(name),
                          .valuelen = value_size,
                          .flags = (uint8_t)(flags | NGHTTP2_NV_FLAG_NO_COPY_NAME) };
}

/* grpc-status, and grpc-message when there is one. ENCODED: GRPC_MESSAGE_ENCODED_BYTES_MAX. */
static size_t status_headers(const struct grpc_call *call, nghttp2_nv ret_headers[2],
                             uint8_t *encoded)
{
    const char *number = grpc_status_text(call->status);
    ret_headers[0] =
        header_of("grpc-status", number, strlen(number), NGHTTP2_NV_FLAG_NO_COPY_VALUE);
    if (call->text == NULL) return 1;
    /* Never indexed: each sentence is another, they would only push out what repeats. */
    ret_headers[1] = header_of("grpc-message", encoded, grpc_message_encode(call->text, encoded),
                               NGHTTP2_NV_FLAG_NO_INDEX);
    return 2;
}

static int submit_trailer(struct grpc_call *call)
{
    uint8_t encoded[GRPC_MESSAGE_ENCODED_BYTES_MAX];
    nghttp2_nv headers[2];
    size_t count = status_headers(call, headers, encoded);
    return nghttp2_submit_trailer(call->connection->session, call->stream_id, headers, count);
}

/* nghttp2 asks for the next bytes of a call. */
static ssize_t read_output(nghttp2_session *session, int32_t stream_id, uint8_t *bytes, size_t size,
                           uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)session, (void)stream_id, (void)user;
    struct grpc_call *call = source->ptr;
    struct grpc_connection *connection = call->connection;
    size_t left = output_left(call);
    if (left == 0 && !call->is_closing) {
        call->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (size > left) size = left;
    if (size > 0) memcpy(bytes, call->output.data + call->output_sent, size);
    call->output_sent += size;
    connection->output_waiting -= size;
    connection->was_drained = true;
    if (size < left) return (ssize_t)size;

    call->output_sent = 0;
    empty_or_drop(&call->output);
    if (!call->is_closing) return (ssize_t)size;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (connection->is_server) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (submit_trailer(call) != 0) return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return (ssize_t)size;
}

static nghttp2_data_provider provider_of(struct grpc_call *call)
{
    return (nghttp2_data_provider) { .source.ptr = call, .read_callback = read_output };
}

static void resume(struct grpc_call *call)
{
    if (!call->is_deferred) return;
    call->is_deferred = false;
    (void)nghttp2_session_resume_data(call->connection->session, call->stream_id);
}

static void begin_answer(struct grpc_call *call)
{
    static const nghttp2_nv headers[] = { GRPC_HEADER(":status", "200"),
                                          GRPC_HEADER("content-type", "application/grpc") };
    if (call->headers_sent) return;
    nghttp2_data_provider provider = provider_of(call);
    call->headers_sent = true;
    /* It fails without memory only: then the call is reset. */
    if (nghttp2_submit_response(call->connection->session, call->stream_id, headers, 2,
                                &provider) != 0)
        (void)nghttp2_submit_rst_stream(call->connection->session, NGHTTP2_FLAG_NONE,
                                        call->stream_id, NGHTTP2_INTERNAL_ERROR);
}

static bool has_room(const struct grpc_call *call, size_t size)
{
    const struct grpc_connection *connection = call->connection;
    size_t waiting = output_left(call);
    if (size > GRPC_OUTPUT_BYTES_MAX - connection->output_waiting) return false;
    return waiting == 0 || waiting + size <= GRPC_CALL_OUTPUT_BYTES_MAX;
}

enum status grpc_call_send(struct grpc_call *call, struct bytes message)
{
    struct grpc_connection *connection = call->connection;
    if (message.size > LIMIT_MESSAGE_BYTES_MAX) return STATUS_INVALID;
    if (call->is_over || call->is_closing || connection->is_broken) return STATUS_CLOSED;
    size_t size = message.size + GRPC_PREFIX_BYTES;
    if (!has_room(call, size)) {
        if (!call->is_blocked) TAILQ_INSERT_TAIL(&connection->blocked, call, blocked);
        call->is_blocked = true;
        return STATUS_BUSY;
    }
    if (call->output_sent > 0) {
        buffer_consume(&call->output, call->output_sent);
        call->output_sent = 0;
    }
    enum status status = buffer_reserve(&call->output, size);
    if (status != STATUS_OK) return status;
    uint8_t *to = call->output.data + call->output.used;
    to[0] = 0; /* not compressed */
    store_u32_be(to + 1, (uint32_t)message.size);
    if (message.size > 0) memcpy(to + GRPC_PREFIX_BYTES, message.data, message.size);
    call->output.used += size;
    connection->output_waiting += size;
    if (connection->is_server) begin_answer(call);
    resume(call);
    return STATUS_OK;
}

void grpc_calls_unblock(struct grpc_connection *connection)
{
    if (!connection->was_drained || TAILQ_EMPTY(&connection->blocked)) return;
    connection->was_drained = false;
    /* Room for the largest message, so that whoever is told to go on can. */
    if (connection->output_waiting >
        GRPC_OUTPUT_BYTES_MAX - LIMIT_MESSAGE_BYTES_MAX - GRPC_PREFIX_BYTES)
        return;
    struct grpc_call_list list = TAILQ_HEAD_INITIALIZER(list);
    struct grpc_call *call;
    TAILQ_CONCAT(&list, &connection->blocked, blocked);
    while ((call = TAILQ_FIRST(&list)) != NULL) {
        TAILQ_REMOVE(&list, call, blocked);
        call->is_blocked = false;
        if (output_left(call) > 0) { /* a message of any size must fit */
            call->is_blocked = true;
            TAILQ_INSERT_TAIL(&connection->blocked, call, blocked);
            continue;
        }
        if (connection->events->writable != NULL && !call->is_over)
            connection->events->writable(connection->context, call);
    }
}

void grpc_call_half_close(struct grpc_call *call)
{
    assert(!call->connection->is_server);
    call->is_closing = true;
    resume(call);
}

static void answer_with_trailers_only(struct grpc_call *call)
{
    uint8_t encoded[GRPC_MESSAGE_ENCODED_BYTES_MAX];
    nghttp2_nv headers[4] = { GRPC_HEADER(":status", "200"),
                              GRPC_HEADER("content-type", "application/grpc") };
    size_t count = 2 + status_headers(call, headers + 2, encoded);
    call->headers_sent = true;
    if (nghttp2_submit_response(call->connection->session, call->stream_id, headers, count, NULL) !=
        0)
        (void)nghttp2_submit_rst_stream(call->connection->session, NGHTTP2_FLAG_NONE,
                                        call->stream_id, NGHTTP2_INTERNAL_ERROR);
}

void grpc_call_finish(struct grpc_call *call, enum grpc_status status, const char *text)
{
    assert(call->connection->is_server);
    if (call->is_over || call->is_closing) return;
    set_status(call, status, text);
    call->is_closing = true;
    call->is_over = true;
    if (call->headers_sent) {
        resume(call);
    } else {
        answer_with_trailers_only(call);
    }
}

void grpc_call_answer_http(struct grpc_call *call, const char *http_status, const char *text)
{
    set_status(call, GRPC_UNKNOWN, text);
    call->is_closing = true;
    call->is_over = true;
    call->headers_sent = true;
    uint8_t encoded[GRPC_MESSAGE_ENCODED_BYTES_MAX];
    nghttp2_nv headers[3] = { header_of(":status", http_status, strlen(http_status), 0) };
    size_t count = 1 + status_headers(call, headers + 1, encoded);
    (void)nghttp2_submit_response(call->connection->session, call->stream_id, headers, count, NULL);
}

void grpc_call_cancel(struct grpc_call *call)
{
    if (call->is_over && !call->connection->is_server) return;
    set_status(call, GRPC_CANCELLED, NULL);
    call->is_closing = true;
    call->is_over = true;
    (void)nghttp2_submit_rst_stream(call->connection->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                    NGHTTP2_CANCEL);
}

void grpc_call_refuse(struct grpc_call *call, enum grpc_status status, const char *text)
{
    if (call->connection->is_server) {
        grpc_call_finish(call, status, text);
        return;
    }
    set_status(call, status, text);
    grpc_call_cancel(call);
}

/* A receiver's hold: bytes stay uncredited until it lets go. */
void grpc_call_hold(struct grpc_call *call)
{
    call->is_held = true;
}

void grpc_call_release(struct grpc_call *call)
{
    call->is_held = false;
    size_t size = call->held_bytes;
    call->held_bytes = 0;
    if (size > 0 && !call->is_closed_by_peer)
        (void)nghttp2_session_consume_stream(call->connection->session, call->stream_id, size);
}

void grpc_call_attach(struct grpc_call *call, void *attachment)
{
    call->attachment = attachment;
}

void *grpc_call_attachment(const struct grpc_call *call)
{
    return call->attachment;
}

enum status grpc_call_start(struct grpc_connection *connection, const char *path,
                            uint64_t timeout_ns, void *attachment, struct grpc_call **ret_call)
{
    assert(!connection->is_server);
    nghttp2_session *session = connection->session;
    size_t path_size = strlen(path);
    if (path_size > GRPC_PATH_BYTES_MAX) return STATUS_INVALID;
    if (connection->is_broken || connection->is_draining ||
        nghttp2_session_check_request_allowed(session) == 0)
        return STATUS_CLOSED;
    uint32_t limit =
        nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    if (connection->call_count >= GRPC_CALLS_MAX || connection->call_count >= limit)
        return STATUS_BUSY;

    struct grpc_call *call = grpc_call_open(connection);
    if (call == NULL) return STATUS_NO_MEMORY;
    nghttp2_nv headers[7] = {
        GRPC_HEADER(":method", "POST"),
        connection->is_https ? (nghttp2_nv)GRPC_HEADER(":scheme", "https")
                             : (nghttp2_nv)GRPC_HEADER(":scheme", "http"),
        header_of(":path", path, path_size, 0),
        header_of(":authority", connection->authority, strlen(connection->authority),
                  NGHTTP2_NV_FLAG_NO_COPY_VALUE),
        GRPC_HEADER("content-type", "application/grpc"),
        GRPC_HEADER("te", "trailers"),
    };
    size_t count = 6;
    char timeout[GRPC_TIMEOUT_TEXT_BYTES];
    if (timeout_ns != UINT64_MAX)
        headers[count++] =
            header_of("grpc-timeout", timeout, grpc_timeout_format(timeout_ns, timeout), 0);
    nghttp2_data_provider provider = provider_of(call);
    int32_t id = nghttp2_submit_request(session, NULL, headers, count, &provider, call);
    if (id < 0) {
        grpc_call_end(call, GRPC_UNAVAILABLE, NULL); /* not announced: silent */
        return id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE ? STATUS_CLOSED : STATUS_NO_MEMORY;
    }
    call->stream_id = id;
    call->headers_sent = true;
    call->is_announced = true;
    call->attachment = attachment;
    *ret_call = call;
    return STATUS_OK;
}

/* --- receiving ----------------------------------------------------------------------------------
 */

static void deliver(struct grpc_call *call, const uint8_t *bytes, size_t size)
{
    struct grpc_connection *connection = call->connection;
    call->prefix_used = 0;
    connection->events->message(connection->context, call, bytes_of(bytes, size));
}

/* The prefix is whole: judge what it promises before waiting for it. */
static bool judge_prefix(struct grpc_call *call)
{
    call->message_size = load_u32_be(call->prefix + 1);
    if (call->prefix[0] == 1) {
        grpc_call_refuse(call, GRPC_UNIMPLEMENTED, "compressed messages are not accepted");
        return false;
    }
    if (call->prefix[0] != 0) {
        grpc_call_refuse(call, GRPC_INTERNAL,
                         "a message begins with a flag that is neither 0 nor 1");
        return false;
    }
    if (call->message_size > LIMIT_MESSAGE_BYTES_MAX) {
        grpc_call_refuse(call, GRPC_RESOURCE_EXHAUSTED, "a message is larger than 4 MiB");
        return false;
    }
    return true;
}

/* Take SIZE bytes into the message that is being put together. */
static void assemble(struct grpc_call *call, const uint8_t *bytes, size_t size)
{
    struct grpc_connection *connection = call->connection;
    if (size > GRPC_ASSEMBLY_BYTES_MAX - connection->assembly_bytes ||
        buffer_append(&call->assembly, bytes, size) != STATUS_OK) {
        grpc_call_refuse(call, GRPC_RESOURCE_EXHAUSTED,
                         "too many large messages at once on this connection");
        return;
    }
    connection->assembly_bytes += size;
    if (call->assembly.used < call->message_size) return;
    deliver(call, call->assembly.data, call->assembly.used);
    connection->assembly_bytes -= call->assembly.used;
    empty_or_drop(&call->assembly);
}

void grpc_call_receive(struct grpc_call *call, const uint8_t *bytes, size_t size)
{
    while (size > 0 && !call->is_over) {
        if (call->prefix_used < GRPC_PREFIX_BYTES) {
            size_t part = GRPC_PREFIX_BYTES - call->prefix_used;
            if (part > size) part = size;
            memcpy(call->prefix + call->prefix_used, bytes, part);
            call->prefix_used += part;
            bytes += part;
            size -= part;
            if (call->prefix_used < GRPC_PREFIX_BYTES || !judge_prefix(call)) return;
            if (call->message_size == 0) deliver(call, NULL, 0);
            continue;
        }
        size_t part = call->message_size - call->assembly.used;
        if (part > size) part = size;
        if (part == call->message_size) {
            deliver(call, bytes, part); /* all of it lies here: no copy */
        } else {
            assemble(call, bytes, part);
        }
        bytes += part;
        size -= part;
    }
}
