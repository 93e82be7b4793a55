/* Calls: from gRPC's events to the handlers' fibers, and back.
 *
 * A call is made when its headers arrive. Its fiber starts at once for a stream, and with the whole
 * request for a unary method; it runs in a scope of its own, which the connection's reader owns.
 * When the handler has returned, the answer is handed to grpc, the call goes onto `done`, and the
 * writer, which runs after all fibers that are ready now, joins the scope and sends what all of
 * them had to say in one write. */
#include "node/serve_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { INBOX_PREFIX_BYTES = 4 };

/* --- life --------------------------------------------------------------------------------------
 */

static struct serve_call *call_create(void)
{
    struct serve_call *call = calloc(1, sizeof *call);
    if (call == NULL) return NULL;
    buffer_init(&call->request,
                LIMIT_MESSAGE_BYTES_MAX + SERVE_INBOX_BYTES_MAX + INBOX_PREFIX_BYTES);
    buffer_init(&call->reply, LIMIT_MESSAGE_BYTES_MAX);
    arena_init(&call->arena, SERVE_ARENA_BYTES_MAX);
    return call;
}

static struct serve_call *call_open(struct serve_connection *connection)
{
    struct serve *serve = connection->serve;
    if (serve->call_count >= SERVE_CALLS_MAX) return NULL;
    struct serve_call *call = TAILQ_FIRST(&serve->kept);
    if (call != NULL) {
        TAILQ_REMOVE(&serve->kept, call, list);
        serve->kept_count--;
    } else {
        call = call_create();
        if (call == NULL) return NULL;
    }
    call->connection = connection;
    call->request_used = 0;
    call->is_stream = call->is_running = call->has_request = false;
    call->is_half_closed = call->is_held = call->is_timed_out = false;
    condition_init(&call->changed);
    TAILQ_INSERT_TAIL(&connection->calls, call, list);
    serve->call_count++;
    serve->figures.calls++;
    return call;
}

static void call_destroy(struct serve_call *call)
{
    buffer_finish(&call->request);
    buffer_finish(&call->reply);
    arena_finish(&call->arena);
    free(call);
}

static void empty_or_drop(struct buffer *buffer)
{
    buffer->used = 0;
    if (buffer->capacity <= SERVE_CALL_BUFFER_KEPT_BYTES) return;
    size_t size_max = buffer->size_max;
    buffer_finish(buffer);
    buffer_init(buffer, size_max);
}

/* CALL is on no list and has no fiber. */
static void call_free(struct serve_call *call)
{
    struct serve *serve = call->connection->serve;
    if (call->grpc != NULL) grpc_call_attach(call->grpc, NULL);
    call->grpc = NULL;
    if (call->deadline_ns != DEADLINE_NEVER) serve->deadline_count--;
    serve->call_count--;
    if (serve->kept_count >= SERVE_CALLS_KEPT_MAX) {
        call_destroy(call);
        return;
    }
    arena_clear(&call->arena);
    empty_or_drop(&call->request);
    empty_or_drop(&call->reply);
    TAILQ_INSERT_HEAD(&serve->kept, call, list);
    serve->kept_count++;
}

static void list_free(struct serve_call_list *list)
{
    struct serve_call *call;
    while ((call = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, call, list);
        if (call->is_running) scope_join(&call->scope); /* has ended: does not wait */
        call_free(call);
    }
}

void serve_calls_reap(struct serve_connection *connection)
{
    list_free(&connection->done);
}

void serve_calls_free(struct serve_connection *connection)
{
    list_free(&connection->done);
    list_free(&connection->calls);
}

void serve_calls_kept_free(struct serve *serve)
{
    struct serve_call *call;
    while ((call = TAILQ_FIRST(&serve->kept)) != NULL) {
        TAILQ_REMOVE(&serve->kept, call, list);
        call_destroy(call);
    }
}

void serve_calls_expire(struct serve_connection *connection, uint64_t now_ns)
{
    struct serve_call *call;
    TAILQ_FOREACH (call, &connection->calls, list) {
        if (call->deadline_ns > now_ns || call->is_timed_out) continue;
        call->is_timed_out = true;
        if (call->is_running) {
            scope_cancel(&call->scope);
        } else if (call->grpc != NULL) { /* the request is still on its way */
            grpc_call_finish(call->grpc, GRPC_DEADLINE_EXCEEDED, "the deadline has passed");
            condition_signal(&connection->output_wanted);
        }
    }
}

/* --- the fiber of a call ------------------------------------------------------------------------
 */

static void answer(struct serve_call *call, enum status status, const struct error *error)
{
    if (call->grpc == NULL) return;
    if (call->is_timed_out) {
        grpc_call_finish(call->grpc, GRPC_DEADLINE_EXCEEDED, "the deadline has passed");
        return;
    }
    const char *text = error->text[0] != '\0' ? error->text : status_name(status);
    grpc_call_finish(call->grpc, grpc_status_of(status), status == STATUS_OK ? NULL : text);
}

static enum status run_unary(struct serve_call *call, struct error *error)
{
    const struct serve_service *service = call->service;
    call->reply.used = 0;
    enum status status =
        service->unary(service->context, call->method, call,
                       bytes_of(call->request.data, call->request.used), &call->reply, error);
    if (status != STATUS_OK) return status;
    return serve_call_send(call, bytes_of(call->reply.data, call->reply.used));
}

static void call_fiber(void *argument)
{
    struct serve_call *call = argument;
    struct serve_connection *connection = call->connection;
    struct error error;
    error.text[0] = '\0';
    enum status status =
        call->is_stream ? call->service->stream(call->service->context, call->method, call, &error)
                        : run_unary(call, &error);
    answer(call, status, &error);
    TAILQ_REMOVE(&connection->calls, call, list);
    TAILQ_INSERT_TAIL(&connection->done, call, list);
    condition_signal(&connection->output_wanted);
}

static void call_start(struct serve_call *call)
{
    scope_init(&call->scope, &call->connection->scope);
    enum status status = scope_spawn(&call->scope, "call", call_fiber, call);
    if (status == STATUS_OK) {
        call->is_running = true;
        return;
    }
    scope_join(&call->scope);
    grpc_call_finish(call->grpc, grpc_status_of(status), "no fiber is left for this call");
}

/* --- gRPC's events -------------------------------------------------------------------------------
 */

static const struct serve_service *service_of(const struct serve *serve, const char *path,
                                              const char **ret_method)
{
    for (size_t i = 0; i < serve->options.service_count; i++) {
        size_t length = strlen(serve->services[i].prefix);
        if (strncmp(path, serve->services[i].prefix, length) != 0) continue;
        *ret_method = path + length;
        return &serve->services[i];
    }
    return NULL;
}

static void on_called(void *context, struct grpc_call *grpc, const char *path, uint64_t timeout_ns)
{
    struct serve_connection *connection = context;
    struct serve *serve = connection->serve;
    if (connection->refusal != NULL) {
        grpc_call_finish(grpc, GRPC_UNAUTHENTICATED, connection->refusal);
        return;
    }
    const char *method = NULL;
    const struct serve_service *service = service_of(serve, path, &method);
    if (service == NULL) {
        char text[GRPC_PATH_BYTES_MAX + 32];
        (void)snprintf(text, sizeof text, "no service answers %s", path);
        grpc_call_finish(grpc, GRPC_UNIMPLEMENTED, text);
        return;
    }
    struct serve_call *call = call_open(connection);
    if (call == NULL) {
        serve->figures.refused++;
        grpc_call_finish(grpc, GRPC_RESOURCE_EXHAUSTED, "too many calls are open; try again later");
        return;
    }
    call->service = service;
    call->grpc = grpc;
    grpc_call_attach(grpc, call);
    memcpy(call->method, method, strlen(method) + 1);
    call->deadline_ns = DEADLINE_NEVER;
    if (timeout_ns != UINT64_MAX) {
        uint64_t now_ns = serve_now_ns(serve);
        call->deadline_ns =
            timeout_ns > DEADLINE_NEVER - 1 - now_ns ? DEADLINE_NEVER - 1 : now_ns + timeout_ns;
        if (serve->deadline_count++ == 0) condition_signal(&serve->deadline_set);
    }
    call->is_stream =
        service->is_stream != NULL && service->is_stream(service->context, call->method);
    if (call->is_stream) call_start(call);
}

static size_t inbox_left(const struct serve_call *call)
{
    return call->request.used - call->request_used;
}

static void take_into_inbox(struct serve_call *call, struct bytes message)
{
    uint8_t prefix[INBOX_PREFIX_BYTES];
    store_u32_le(prefix, (uint32_t)message.size);
    if (call->request_used > 0) {
        buffer_consume(&call->request, call->request_used);
        call->request_used = 0;
    }
    if (buffer_reserve(&call->request, sizeof prefix + message.size) != STATUS_OK ||
        buffer_append(&call->request, prefix, sizeof prefix) != STATUS_OK ||
        buffer_append(&call->request, message.data, message.size) != STATUS_OK) {
        /* A held client has a window of 1 MiB; what does not fit here breaks that. */
        grpc_call_finish(call->grpc, GRPC_RESOURCE_EXHAUSTED, "the client sends too fast");
        scope_cancel(&call->scope);
        return;
    }
    if (!call->is_held && inbox_left(call) > SERVE_INBOX_BYTES_MAX) {
        call->is_held = true;
        grpc_call_hold(call->grpc);
    }
    condition_signal(&call->changed);
}

static void on_message(void *context, struct grpc_call *grpc, struct bytes message)
{
    (void)context;
    struct serve_call *call = grpc_call_attachment(grpc);
    if (call == NULL) return;
    if (call->is_stream) {
        take_into_inbox(call, message);
    } else if (call->has_request) {
        grpc_call_finish(grpc, GRPC_INVALID_ARGUMENT, "this method takes one message, not two");
    } else if (buffer_append(&call->request, message.data, message.size) != STATUS_OK) {
        grpc_call_finish(grpc, GRPC_RESOURCE_EXHAUSTED, "no memory is left for the request");
    } else {
        call->has_request = true;
    }
}

static void on_half_closed(void *context, struct grpc_call *grpc)
{
    (void)context;
    struct serve_call *call = grpc_call_attachment(grpc);
    if (call == NULL) return;
    call->is_half_closed = true;
    if (call->is_stream) {
        condition_signal(&call->changed);
    } else if (call->has_request) {
        call_start(call);
    } else {
        grpc_call_finish(grpc, GRPC_INVALID_ARGUMENT, "the call carries no message");
    }
}

static void on_writable(void *context, struct grpc_call *grpc)
{
    (void)context;
    struct serve_call *call = grpc_call_attachment(grpc);
    if (call != NULL) condition_signal(&call->changed);
}

static void on_ended(void *context, struct grpc_call *grpc, enum grpc_status status,
                     const char *text)
{
    (void)status, (void)text;
    struct serve_connection *connection = context;
    struct serve_call *call = grpc_call_attachment(grpc);
    if (call == NULL) return;
    call->grpc = NULL;
    if (call->is_running) {
        scope_cancel(&call->scope);
        return;
    }
    TAILQ_REMOVE(&connection->calls, call, list);
    call_free(call);
}

const struct grpc_events serve_call_events = { .called = on_called,
                                               .message = on_message,
                                               .half_closed = on_half_closed,
                                               .writable = on_writable,
                                               .ended = on_ended };

/* --- what handlers use ---------------------------------------------------------------------------
 */

const char *serve_call_principal(const struct serve_call *call)
{
    return call->connection->principal;
}

uint64_t serve_call_deadline_ns(const struct serve_call *call)
{
    return call->deadline_ns;
}

struct arena *serve_call_arena(struct serve_call *call)
{
    return &call->arena;
}

/* Give the client window again once the inbox is half empty. */
static void let_go(struct serve_call *call)
{
    if (!call->is_held || inbox_left(call) > SERVE_INBOX_BYTES_MAX / 2 || call->grpc == NULL)
        return;
    call->is_held = false;
    grpc_call_release(call->grpc);
    condition_signal(&call->connection->output_wanted);
}

enum status serve_call_receive(struct serve_call *call, uint64_t deadline_ns,
                               struct bytes *ret_message)
{
    assert(call->is_stream);
    while (inbox_left(call) == 0) {
        if (fiber_cancelled() || call->grpc == NULL) return STATUS_CANCELLED;
        if (call->is_half_closed) return STATUS_CLOSED;
        enum status status = condition_wait(&call->changed, deadline_ns);
        if (status != STATUS_OK) return status;
    }
    const uint8_t *at = call->request.data + call->request_used;
    uint32_t size = load_u32_le(at);
    call->reply.used = 0;
    enum status status = buffer_append(&call->reply, at + INBOX_PREFIX_BYTES, size);
    if (status != STATUS_OK) return status;
    call->request_used += INBOX_PREFIX_BYTES + (size_t)size;
    let_go(call);
    *ret_message = bytes_of(call->reply.data, call->reply.used);
    return STATUS_OK;
}

enum status serve_call_send(struct serve_call *call, struct bytes message)
{
    for (;;) {
        if (fiber_cancelled() || call->grpc == NULL) return STATUS_CANCELLED;
        enum status status = grpc_call_send(call->grpc, message);
        if (status == STATUS_CLOSED) return STATUS_CANCELLED;
        condition_signal(&call->connection->output_wanted);
        if (status != STATUS_BUSY) return status;
        status = condition_wait(&call->changed, call->deadline_ns);
        if (status != STATUS_OK) return status;
    }
}
