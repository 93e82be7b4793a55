/* Calls: unary ones with their repetitions, and streams. */
#include "client/client_internal.h"
#include "unum/v1/context.pb-c.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { INBOX_PREFIX_BYTES = 4 };

/* --- life --------------------------------------------------------------------------------------
 */

enum status client_create(const struct client_options *options, struct client **ret_client,
                          struct error *error)
{
    if (options->address_count == 0 || options->address_count > CLIENT_ADDRESSES_MAX)
        return error_set(error, STATUS_INVALID, "a client needs 1 to %d addresses",
                         CLIENT_ADDRESSES_MAX);
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL) return error_set(error, STATUS_NO_MEMORY, "no memory for a client");
    client->options = *options;
    client->options.addresses = NULL;
    for (size_t i = 0; i < options->address_count; i++) {
        size_t length = strlen(options->addresses[i]);
        if (length >= NETWORK_ADDRESS_BYTES_MAX) {
            free(client);
            return error_set(error, STATUS_INVALID, "address \"%.60s...\" is too long",
                             options->addresses[i]);
        }
        memcpy(client->addresses[i], options->addresses[i], length);
    }
    if (options->project != NULL)
        (void)snprintf(client->project, sizeof client->project, "%s", options->project);
    condition_init(&client->changed);
    condition_init(&client->session_freed);
    TAILQ_INIT(&client->free_sessions);
    scope_init(&client->scope, options->scope);
    *ret_client = client;
    return STATUS_OK;
}

void client_destroy(struct client *client)
{
    if (client == NULL) return;
    scope_cancel(&client->scope);
    scope_join(&client->scope);
    free(client);
}

const char *client_address(const struct client *client)
{
    return client->addresses[client->address];
}

uint64_t client_deadline_ns(const struct client *client, uint64_t ms)
{
    uint64_t now_ns = client_now_ns(client);
    return ms > (DEADLINE_NEVER - now_ns) / MS_NS ? DEADLINE_NEVER : now_ns + ms * MS_NS;
}

/* --- gRPC's events -------------------------------------------------------------------------------
 */

static size_t inbox_left(const struct client_stream *stream)
{
    return stream->inbox.used - stream->inbox_used;
}

static void on_called(void *context, struct grpc_call *call, const char *path, uint64_t timeout_ns)
{
    (void)context, (void)call, (void)path, (void)timeout_ns;
}

static void on_message(void *context, struct grpc_call *call, struct bytes message)
{
    (void)context;
    struct client_stream *stream = grpc_call_attachment(call);
    if (stream == NULL) return;
    if (stream->inbox_used > 0) {
        buffer_consume(&stream->inbox, stream->inbox_used);
        stream->inbox_used = 0;
    }
    uint8_t prefix[INBOX_PREFIX_BYTES];
    store_u32_le(prefix, (uint32_t)message.size);
    if (buffer_reserve(&stream->inbox, sizeof prefix + message.size) != STATUS_OK ||
        buffer_append(&stream->inbox, prefix, sizeof prefix) != STATUS_OK ||
        buffer_append(&stream->inbox, message.data, message.size) != STATUS_OK) {
        stream->is_broken = true;
        grpc_call_cancel(call);
    } else if (!stream->is_held && inbox_left(stream) > CLIENT_INBOX_BYTES_MAX) {
        stream->is_held = true;
        grpc_call_hold(call);
    }
    condition_broadcast(&stream->changed);
}

static void on_half_closed(void *context, struct grpc_call *call)
{
    (void)context, (void)call;
}

static void on_writable(void *context, struct grpc_call *call)
{
    (void)context;
    struct client_stream *stream = grpc_call_attachment(call);
    if (stream != NULL) condition_broadcast(&stream->changed);
}

static void on_ended(void *context, struct grpc_call *call, enum grpc_status status,
                     const char *text)
{
    const struct connection *connection = context;
    struct client_stream *stream = grpc_call_attachment(call);
    if (stream == NULL) return;
    stream->grpc = NULL;
    if (connection->is_refused) {
        stream->status = GRPC_UNAUTHENTICATED;
        (void)snprintf(stream->text, sizeof stream->text,
                       "the computer at %s refuses this credential: %s", connection->address,
                       tls_stream_failure(connection->stream));
    } else {
        stream->status = status;
        (void)snprintf(stream->text, sizeof stream->text, "%s", text);
    }
    condition_broadcast(&stream->changed);
}

const struct grpc_events client_stream_events = { .called = on_called,
                                                  .message = on_message,
                                                  .half_closed = on_half_closed,
                                                  .writable = on_writable,
                                                  .ended = on_ended };

/* --- the context of a request --------------------------------------------------------------------
 */

/* What is lent to a request for the time of its packing. */
struct lent_context {
    Unum__V1__Context context;
    Unum__V1__Context **place; /* NULL: none */
    struct id request_id;
};

/* Where REQUEST keeps its context; NULL when its type has none or one is set. */
static Unum__V1__Context **context_of(ProtobufCMessage *request)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(request->descriptor, "context");
    if (field == NULL || field->type != PROTOBUF_C_TYPE_MESSAGE ||
        field->descriptor != &unum__v1__context__descriptor)
        return NULL;
    void *place = (uint8_t *)request + field->offset;
    Unum__V1__Context **context = place;
    return *context == NULL ? context : NULL;
}

static void lend_context(struct client *client, ProtobufCMessage *request, struct session *session,
                         struct lent_context *ret_lent)
{
    unum__v1__context__init(&ret_lent->context);
    ret_lent->place = context_of(request);
    if (ret_lent->place == NULL) return;
    random_id(client->options.random, &ret_lent->request_id);
    ret_lent->context.request_id.data = ret_lent->request_id.bytes;
    ret_lent->context.request_id.len = ID_BYTES;
    ret_lent->context.project = client->project;
    if (session != NULL) {
        ret_lent->context.session.data = session->id.bytes;
        ret_lent->context.session.len = ID_BYTES;
        ret_lent->context.sequence = session->sequence;
    }
    *ret_lent->place = &ret_lent->context;
}

/* REQUEST as bytes, with its context. Free with buffer_finish. */
static enum status pack(struct client *client, ProtobufCMessage *request, struct session *session,
                        struct buffer *buffer, struct error *error)
{
    struct lent_context lent;
    buffer_init(buffer, LIMIT_MESSAGE_BYTES_MAX);
    lend_context(client, request, session, &lent);
    enum status status = proto_pack(request, buffer);
    if (lent.place != NULL) *lent.place = NULL;
    if (status == STATUS_FULL)
        return error_set(error, STATUS_INVALID, "the request is larger than 4 MiB");
    if (status != STATUS_OK) return error_set(error, status, "no memory for the request");
    return STATUS_OK;
}

/* --- sessions: each carries one write at a time, so that its sequence numbers arrive in order
 * -----
 */

static enum status session_borrow(struct client *client, uint64_t deadline_ns,
                                  struct session **ret_session)
{
    while (TAILQ_EMPTY(&client->free_sessions)) {
        if (client->session_count < CLIENT_SESSIONS_MAX) {
            struct session *session = &client->sessions[client->session_count++];
            random_id(client->options.random, &session->id);
            TAILQ_INSERT_HEAD(&client->free_sessions, session, free);
            break;
        }
        enum status status = condition_wait(&client->session_freed, deadline_ns);
        if (status != STATUS_OK) return status;
    }
    struct session *session = TAILQ_FIRST(&client->free_sessions);
    TAILQ_REMOVE(&client->free_sessions, session, free);
    session->sequence++;
    *ret_session = session;
    return STATUS_OK;
}

static void session_return(struct client *client, struct session *session)
{
    TAILQ_INSERT_HEAD(&client->free_sessions, session, free);
    condition_signal(&client->session_freed);
}

/* --- one attempt ---------------------------------------------------------------------------------
 */

static void stream_init(struct client_stream *stream, struct client *client)
{
    memset(stream, 0, offsetof(struct client_stream, text));
    stream->text[0] = '\0';
    stream->client = client;
    condition_init(&stream->changed);
    buffer_init(&stream->inbox,
                LIMIT_MESSAGE_BYTES_MAX + CLIENT_INBOX_BYTES_MAX + INBOX_PREFIX_BYTES);
}

static void wake_writer(struct client_stream *stream)
{
    condition_signal(&stream->connection->output_wanted);
}

static void stream_finish(struct client_stream *stream)
{
    if (stream->grpc != NULL) {
        grpc_call_attach(stream->grpc, NULL);
        grpc_call_cancel(stream->grpc);
        wake_writer(stream);
        stream->grpc = NULL;
    }
    buffer_finish(&stream->inbox);
}

/* Start the call on a connection that takes it. STATUS_UNAVAILABLE and STATUS_DENIED come from
 * connecting: nothing was sent. */
static enum status start_call(struct client_stream *stream, const char *path, uint64_t deadline_ns,
                              struct error *error)
{
    struct client *client = stream->client;
    for (;;) {
        enum status status = client_connect(client, deadline_ns, error);
        if (status != STATUS_OK) return status;
        uint64_t now_ns = client_now_ns(client);
        if (now_ns >= deadline_ns) return error_set(error, STATUS_TIMEOUT, "the deadline passed");
        uint64_t timeout_ns = deadline_ns == DEADLINE_NEVER ? UINT64_MAX : deadline_ns - now_ns;
        stream->connection = client->connection;
        status = grpc_call_start(stream->connection->grpc, path, timeout_ns, stream, &stream->grpc);
        if (status == STATUS_OK) return STATUS_OK;
        if (status == STATUS_BUSY)
            return error_set(error, status, "too many calls are open on this connection");
        if (status != STATUS_CLOSED) return error_set(error, status, "the call can't be made");
        client_abandon(client); /* it drains; the next one takes the call */
    }
}

/* As the call ended. */
static enum status ended_status(const struct client_stream *stream, struct error *error)
{
    enum status status = status_of_grpc(stream->status);
    if (stream->is_broken)
        return error_set(error, STATUS_NO_MEMORY, "no memory for what the server sends");
    if (status == STATUS_OK) return STATUS_OK;
    return error_set(error, status, "%s",
                     stream->text[0] != '\0' ? stream->text : status_name(status));
}

static bool inbox_take(struct client_stream *stream, struct bytes *ret_message)
{
    if (inbox_left(stream) == 0) return false;
    const uint8_t *at = stream->inbox.data + stream->inbox_used;
    uint32_t size = load_u32_le(at);
    stream->inbox_used += INBOX_PREFIX_BYTES + (size_t)size;
    *ret_message = bytes_of(at + INBOX_PREFIX_BYTES, size);
    return true;
}

static enum status unpack(const ProtobufCMessageDescriptor *type, struct arena *arena,
                          struct bytes message, void *ret_message, struct error *error)
{
    void *unpacked = proto_unpack(type, arena, message);
    if (unpacked == NULL)
        return error_set(error, STATUS_CORRUPT, "the computer's answer is not a %s", type->name);
    memcpy(ret_message, &unpacked, sizeof unpacked);
    return STATUS_OK;
}

static enum status await_reply(struct client_stream *stream, const ProtobufCMessageDescriptor *type,
                               struct arena *arena, uint64_t deadline_ns, void *ret_reply,
                               struct error *error)
{
    while (stream->grpc != NULL) {
        enum status status = condition_wait(&stream->changed, deadline_ns);
        if (status == STATUS_TIMEOUT)
            return error_set(error, status, "no answer from %s in time",
                             client_address(stream->client));
        if (status != STATUS_OK) return error_set(error, status, "the call was given up");
    }
    enum status status = ended_status(stream, error);
    if (status != STATUS_OK) return status;
    struct bytes message;
    if (!inbox_take(stream, &message))
        return error_set(error, STATUS_CORRUPT, "the computer's answer carries no message");
    return unpack(type, arena, message, ret_reply, error);
}

struct attempt {
    const char *path;
    struct bytes request;
    const ProtobufCMessageDescriptor *type;
    struct arena *arena;
    uint64_t deadline_ns;
    bool was_sent;
};

static enum status call_once(struct client *client, struct attempt *attempt, void *ret_reply,
                             struct error *error)
{
    struct client_stream *stream = malloc(sizeof *stream);
    if (stream == NULL) return error_set(error, STATUS_NO_MEMORY, "no memory for a call");
    stream_init(stream, client);
    enum status status = start_call(stream, attempt->path, attempt->deadline_ns, error);
    attempt->was_sent = status == STATUS_OK;
    if (status == STATUS_OK) {
        status = grpc_call_send(stream->grpc, attempt->request);
        if (status == STATUS_OK) {
            grpc_call_half_close(stream->grpc);
            wake_writer(stream);
            status = await_reply(stream, attempt->type, attempt->arena, attempt->deadline_ns,
                                 ret_reply, error);
        } else {
            (void)error_set(error, status, "too much is waiting to be sent to %s",
                            client_address(client));
        }
    }
    stream_finish(stream);
    free(stream);
    return status;
}

/* --- repetitions ---------------------------------------------------------------------------------
 */

/* Full jitter, so that many clients do not come back at the same moment. */
static enum status back_off(struct client *client, unsigned attempt, uint64_t deadline_ns)
{
    uint64_t bound_ms = CLIENT_BACKOFF_MS_MAX;
    if (attempt < 6) bound_ms = (uint64_t)CLIENT_BACKOFF_MS_FIRST << attempt;
    if (bound_ms > CLIENT_BACKOFF_MS_MAX) bound_ms = CLIENT_BACKOFF_MS_MAX;
    uint64_t wait_ns;
    random_below(client->options.random, bound_ms * MS_NS, &wait_ns);
    uint64_t now_ns = client_now_ns(client);
    if (now_ns >= deadline_ns || wait_ns >= deadline_ns - now_ns) return STATUS_TIMEOUT;
    return fiber_sleep_ns(wait_ns);
}

static enum status call_until_answered(struct client *client, enum client_kind kind,
                                       struct attempt *attempt, void *ret_reply,
                                       struct error *error)
{
    uint64_t patience_ns = client->options.patience_ms == 0
                               ? DEADLINE_NEVER
                               : client_deadline_ns(client, client->options.patience_ms);
    for (unsigned count = 0;; count++) {
        enum status status = call_once(client, attempt, ret_reply, error);
        if (status != STATUS_UNAVAILABLE) return status;
        if (kind == CLIENT_ONCE && attempt->was_sent) return status;
        uint64_t until_ns = attempt->deadline_ns;
        if (!attempt->was_sent && patience_ns < until_ns) until_ns = patience_ns;
        /* The last answer's sentence says more than that time ran out. */
        if (back_off(client, count, until_ns) != STATUS_OK) return status;
    }
}

enum status client_call(struct client *client, enum client_kind kind, const char *path,
                        ProtobufCMessage *request, const ProtobufCMessageDescriptor *reply,
                        struct arena *arena, uint64_t deadline_ns, void *ret_reply,
                        struct error *error)
{
    struct session *session = NULL;
    if (kind == CLIENT_WRITE) {
        enum status status = session_borrow(client, deadline_ns, &session);
        if (status != STATUS_OK) return error_set(error, status, "too many writes are under way");
    }
    struct buffer packed;
    enum status status = pack(client, request, session, &packed, error);
    if (status == STATUS_OK) {
        struct attempt attempt = { .path = path,
                                   .request = bytes_of(packed.data, packed.used),
                                   .type = reply,
                                   .arena = arena,
                                   .deadline_ns = deadline_ns };
        status = call_until_answered(client, kind, &attempt, ret_reply, error);
    }
    buffer_finish(&packed);
    if (session != NULL) session_return(client, session);
    return status;
}

/* --- streams -------------------------------------------------------------------------------------
 */

enum status client_stream_open(struct client *client, const char *path, ProtobufCMessage *request,
                               bool half_close, uint64_t deadline_ns,
                               struct client_stream **ret_stream, struct error *error)
{
    struct client_stream *stream = malloc(sizeof *stream);
    if (stream == NULL) return error_set(error, STATUS_NO_MEMORY, "no memory for a call");
    stream_init(stream, client);
    struct buffer packed;
    enum status status = pack(client, request, NULL, &packed, error);
    if (status == STATUS_OK) status = start_call(stream, path, deadline_ns, error);
    if (status == STATUS_OK) {
        status = grpc_call_send(stream->grpc, bytes_of(packed.data, packed.used));
        if (status != STATUS_OK)
            (void)error_set(error, status, "too much is waiting to be sent to %s",
                            client_address(client));
    }
    buffer_finish(&packed);
    if (status != STATUS_OK) {
        client_stream_close(stream);
        return status;
    }
    if (half_close) grpc_call_half_close(stream->grpc);
    wake_writer(stream);
    *ret_stream = stream;
    return STATUS_OK;
}

enum status client_stream_send(struct client_stream *stream, const ProtobufCMessage *message)
{
    struct buffer packed;
    buffer_init(&packed, LIMIT_MESSAGE_BYTES_MAX);
    enum status status = proto_pack(message, &packed);
    while (status == STATUS_OK) {
        if (stream->grpc == NULL) {
            status = STATUS_CLOSED;
            break;
        }
        status = grpc_call_send(stream->grpc, bytes_of(packed.data, packed.used));
        wake_writer(stream);
        if (status != STATUS_BUSY) break;
        status = condition_wait(&stream->changed, DEADLINE_NEVER);
    }
    buffer_finish(&packed);
    return status;
}

void client_stream_half_close(struct client_stream *stream)
{
    if (stream->grpc == NULL) return;
    grpc_call_half_close(stream->grpc);
    wake_writer(stream);
}

enum status client_stream_receive(struct client_stream *stream,
                                  const ProtobufCMessageDescriptor *type, struct arena *arena,
                                  uint64_t deadline_ns, void *ret_message, struct error *error)
{
    struct bytes message;
    while (!inbox_take(stream, &message)) {
        if (stream->grpc == NULL) {
            enum status status = ended_status(stream, error);
            /* CLOSED is the good end; what the server calls so (compacted) is the caller's. */
            if (status == STATUS_CLOSED) return STATUS_INVALID;
            return status == STATUS_OK ? STATUS_CLOSED : status;
        }
        enum status status = condition_wait(&stream->changed, deadline_ns);
        if (status != STATUS_OK) return status;
    }
    enum status status = unpack(type, arena, message, ret_message, error);
    if (stream->is_held && inbox_left(stream) <= CLIENT_INBOX_BYTES_MAX / 2 &&
        stream->grpc != NULL) {
        stream->is_held = false;
        grpc_call_release(stream->grpc);
        wake_writer(stream);
    }
    return status;
}

void client_stream_close(struct client_stream *stream)
{
    if (stream == NULL) return;
    stream_finish(stream);
    free(stream);
}
