#include "registry/registry_serve.h"

#include "reactor/reactor.h"
#include "registry/registry_codec.h"
#include "registry/registry_pack.h"
#include "unum/v1/registry.pb-c.h"
#include "wire/proto_arena.h"

enum { SPACE_NAME_BYTES_MAX = ENTRY_SPACE_BYTES_MAX, NS_PER_MS = 1000000 };
_Static_assert((int)SPACE_NAME_BYTES_MAX == (int)GROUP_NAME_BYTES_MAX,
               "a space is named as its group");

/* What every method starts with. */
struct context {
    const struct registry_serve *serve;
    const struct registry_serve_call *call;
    struct replica *replica;
    struct registry *registry;
    const char *space;
    struct id session, trace;
    uint64_t sequence;
    /* Of a write: the entry's payload and the state machine's answer, until the call ends. */
    struct buffer payload, answer;
    struct buffer *reply;
    struct error *error;
};

static ProtobufCMessage *unpack(struct context *context,
                                const ProtobufCMessageDescriptor *descriptor, struct bytes request)
{
    ProtobufCMessage *message = proto_unpack(descriptor, context->call->arena, request);
    if (message == NULL) {
        (void)error_set(context->error, STATUS_INVALID,
                        "the request of %zu bytes is not a %s, or has too many parts", request.size,
                        descriptor->short_name);
    }
    return message;
}

static struct bytes bytes_of_binary(const ProtobufCBinaryData *binary)
{
    return bytes_of(binary->data, binary->len);
}

/* --- context and space -------------------------------------------------------------------------
 */

static bool hex_digit(char digit, uint8_t *ret_value)
{
    if (digit >= '0' && digit <= '9') {
        *ret_value = (uint8_t)(digit - '0');
    } else if (digit >= 'a' && digit <= 'f') {
        *ret_value = (uint8_t)(digit - 'a' + 10);
    } else {
        return false;
    }
    return true;
}

/* "00-TRACE-PARENT-FLAGS" (W3C Trace Context, 3.2). One that is malformed is ignored, as it says
 * there: the id stays zero. */
static struct id trace_of(const char *traceparent)
{
    enum { TRACEPARENT_BYTES_MIN = 55, TRACE_OFFSET = 3 };
    struct id trace = { 0 };
    if (strlen(traceparent) < TRACEPARENT_BYTES_MIN || traceparent[2] != '-') return trace;
    for (size_t i = 0; i < ID_BYTES; i++) {
        uint8_t high, low;
        const char *digits = traceparent + TRACE_OFFSET + 2 * i;
        if (!hex_digit(digits[0], &high) || !hex_digit(digits[1], &low)) {
            return (struct id) { 0 };
        }
        trace.bytes[i] = (uint8_t)(high << 4 | low);
    }
    return trace;
}

static enum status read_context(struct context *context, const Unum__V1__Context *message)
{
    if (message == NULL) return STATUS_OK;
    if (message->session.len != 0) {
        if (message->session.len != ID_BYTES) {
            return error_set(context->error, STATUS_INVALID,
                             "context.session has %zu bytes, not %d", message->session.len,
                             ID_BYTES);
        }
        if (message->sequence == 0) {
            return error_set(context->error, STATUS_INVALID,
                             "context.sequence is zero; the first of a session is 1");
        }
        memcpy(context->session.bytes, message->session.data, ID_BYTES);
        context->sequence = message->sequence;
    }
    context->trace = trace_of(message->traceparent);
    return STATUS_OK;
}

static enum status open_space(struct context *context, const Unum__V1__Context *message,
                              const char *space)
{
    enum status status = read_context(context, message);
    if (status != STATUS_OK) return status;
    if (space[0] == '\0') space = "main";
    if (strlen(space) > SPACE_NAME_BYTES_MAX) {
        return error_set(context->error, STATUS_INVALID, "space has %zu bytes, the maximum is %d",
                         strlen(space), SPACE_NAME_BYTES_MAX);
    }
    if (strcmp(space, "system") == 0 && !context->call->may_use_system) {
        return error_set(context->error, STATUS_DENIED,
                         "the space \"system\" is the computer's own");
    }
    status = context->serve->find_space(context->serve->context, space, &context->replica);
    if (status == STATUS_NOT_FOUND) {
        return error_set(context->error, status, "there is no space \"%s\"", space);
    }
    if (status != STATUS_OK) {
        return error_set(context->error, status, "the space \"%s\" is %s", space,
                         status_name(status));
    }
    context->space = space;
    context->registry = registry_of(replica_machine(context->replica));
    return STATUS_OK;
}

/* --- writes ------------------------------------------------------------------------------------
 */

/* COMMAND as one entry; the decoded reply borrows from the context and the call's arena. A refusal
 * is its status. */
static enum status commit(struct context *context, const struct registry_command *command,
                          struct registry_reply *ret_reply)
{
    enum status status = registry_command_encode(command, &context->payload, context->error);
    if (status != STATUS_OK) return status;

    struct replica_request request = {
        .session = context->session,
        .sequence = context->sequence,
        .principal = bytes_of_text(context->call->principal),
        .space = bytes_of_text(context->space),
        .payload = bytes_of(context->payload.data, context->payload.used),
        .trace = context->trace,
        .deadline_ns = context->call->deadline_ns,
        .essential = registry_command_frees_room(command),
    };
    uint64_t index;
    status = replica_propose(context->replica, &request, &context->answer, &index, context->error);
    if (status != STATUS_OK) return status;
    status = registry_reply_decode(bytes_of(context->answer.data, context->answer.used),
                                   context->call->arena, ret_reply);
    if (status != STATUS_OK) {
        return error_set(context->error, status, "the answer can't be read");
    }
    if (ret_reply->status != STATUS_OK) {
        return error_set(context->error, ret_reply->status, "%s", ret_reply->text);
    }
    return STATUS_OK;
}

static enum status commit_operation(struct context *context,
                                    const struct registry_operation *operation)
{
    struct registry_command command = { .success = operation, .success_count = 1 };
    struct registry_reply reply;
    enum status status = commit(context, &command, &reply);
    if (status != STATUS_OK) return status;
    return registry_pack_response(&reply.responses[0], reply.revision, context->reply);
}

static struct registry_operation put_of(const Unum__V1__PutRequest *request)
{
    return (struct registry_operation) {
        .kind = REGISTRY_PUT,
        .key = bytes_of_binary(&request->key),
        .value = bytes_of_binary(&request->value),
        .lease = request->lease,
        .return_previous = request->return_previous,
    };
}

static struct registry_operation delete_of(const Unum__V1__DeleteRequest *request)
{
    return (struct registry_operation) {
        .kind = REGISTRY_DELETE,
        .key = bytes_of_binary(&request->key),
        .end = bytes_of_binary(&request->end),
        .return_previous = request->return_previous,
    };
}

static struct registry_operation range_of(const Unum__V1__RangeRequest *request)
{
    return (struct registry_operation) {
        .kind = REGISTRY_RANGE,
        .key = bytes_of_binary(&request->key),
        .end = bytes_of_binary(&request->end),
        .limit = request->limit,
        .revision = request->revision,
        .keys_only = request->keys_only,
        .count_only = request->count_only,
        .descending = request->descending,
    };
}

static enum status serve_put(struct context *context, const ProtobufCMessage *message)
{
    const Unum__V1__PutRequest *request = (const Unum__V1__PutRequest *)message;
    enum status status = open_space(context, request->context, request->space);
    if (status != STATUS_OK) return status;
    struct registry_operation operation = put_of(request);
    return commit_operation(context, &operation);
}

static enum status serve_delete(struct context *context, const ProtobufCMessage *message)
{
    const Unum__V1__DeleteRequest *request = (const Unum__V1__DeleteRequest *)message;
    enum status status = open_space(context, request->context, request->space);
    if (status != STATUS_OK) return status;
    struct registry_operation operation = delete_of(request);
    return commit_operation(context, &operation);
}

static enum status take_operations(struct context *context, Unum__V1__Operation **messages,
                                   size_t count, const char *branch,
                                   const struct registry_operation **ret_operations)
{
    *ret_operations = NULL;
    if (count == 0) return STATUS_OK;
    struct registry_operation *operations =
        arena_take(context->call->arena, count * sizeof *operations);
    if (operations == NULL) return error_set(context->error, STATUS_NO_MEMORY, "no memory");
    for (size_t i = 0; i < count; i++) {
        switch (messages[i]->operation_case) {
        case UNUM__V1__OPERATION__OPERATION_PUT: operations[i] = put_of(messages[i]->put); break;
        case UNUM__V1__OPERATION__OPERATION_RANGE:
            operations[i] = range_of(messages[i]->range);
            break;
        case UNUM__V1__OPERATION__OPERATION_DELETE:
            operations[i] = delete_of(messages[i]->delete_);
            break;
        default:
            return error_set(context->error, STATUS_INVALID, "%s[%zu] has no operation", branch, i);
        }
    }
    *ret_operations = operations;
    return STATUS_OK;
}

static enum status take_compares(struct context *context, Unum__V1__Compare **messages,
                                 size_t count, const struct registry_compare **ret_compares)
{
    *ret_compares = NULL;
    if (count == 0) return STATUS_OK;
    struct registry_compare *compares = arena_take(context->call->arena, count * sizeof *compares);
    if (compares == NULL) return error_set(context->error, STATUS_NO_MEMORY, "no memory");
    for (size_t i = 0; i < count; i++) {
        /* The numbers of the enums are the same; an unknown one is refused by the command's check.
         */
        compares[i] = (struct registry_compare) {
            .key = bytes_of_binary(&messages[i]->key),
            .target = (enum registry_target)messages[i]->target,
            .result = (enum registry_result)messages[i]->result,
            .number = messages[i]->number,
            .value = bytes_of_binary(&messages[i]->value),
        };
    }
    *ret_compares = compares;
    return STATUS_OK;
}
_Static_assert((int)REGISTRY_LEASE == (int)UNUM__V1__COMPARE__TARGET__LEASE &&
                   (int)REGISTRY_VALUE == (int)UNUM__V1__COMPARE__TARGET__VALUE &&
                   (int)REGISTRY_GREATER == (int)UNUM__V1__COMPARE__RESULT__GREATER &&
                   (int)REGISTRY_LESS == (int)UNUM__V1__COMPARE__RESULT__LESS,
               "the enums of the interface are ours");

static enum status serve_transaction(struct context *context, const ProtobufCMessage *message)
{
    const Unum__V1__TxnRequest *request = (const Unum__V1__TxnRequest *)message;
    enum status status = open_space(context, request->context, request->space);
    if (status != STATUS_OK) return status;
    struct registry_command command = {
        .compare_count = request->n_compares,
        .success_count = request->n_success,
        .failure_count = request->n_failure,
    };
    status = take_compares(context, request->compares, request->n_compares, &command.compares);
    if (status != STATUS_OK) return status;
    status =
        take_operations(context, request->success, request->n_success, "success", &command.success);
    if (status != STATUS_OK) return status;
    status =
        take_operations(context, request->failure, request->n_failure, "failure", &command.failure);
    if (status != STATUS_OK) return status;
    struct registry_reply reply;
    status = commit(context, &command, &reply);
    if (status != STATUS_OK) return status;
    return registry_pack_transaction(&reply, context->reply);
}

static enum status commit_lease(struct context *context, enum registry_command_kind kind,
                                uint64_t lease, uint64_t time_to_live_ms,
                                struct registry_reply *ret_reply)
{
    struct registry_command command = { .kind = kind,
                                        .lease = lease,
                                        .time_to_live_ms = time_to_live_ms };
    return commit(context, &command, ret_reply);
}

static enum status serve_grant(struct context *context, const ProtobufCMessage *message)
{
    const Unum__V1__GrantLeaseRequest *request = (const Unum__V1__GrantLeaseRequest *)message;
    enum status status = open_space(context, request->context, request->space);
    if (status != STATUS_OK) return status;
    struct registry_reply reply;
    status = commit_lease(context, REGISTRY_COMMAND_GRANT, request->lease, request->time_to_live_ms,
                          &reply);
    if (status != STATUS_OK) return status;
    return registry_pack_lease(reply.lease, reply.time_to_live_ms, reply.revision, context->reply);
}

static enum status serve_keep(struct context *context, const ProtobufCMessage *message)
{
    const Unum__V1__KeepLeaseRequest *request = (const Unum__V1__KeepLeaseRequest *)message;
    enum status status = open_space(context, request->context, request->space);
    if (status != STATUS_OK) return status;
    struct registry_reply reply;
    status = commit_lease(context, REGISTRY_COMMAND_KEEP, request->lease, 0, &reply);
    if (status != STATUS_OK) return status;
    return registry_pack_lease(reply.lease, reply.time_to_live_ms, 0, context->reply);
}

static enum status serve_revoke(struct context *context, const ProtobufCMessage *message)
{
    const Unum__V1__RevokeLeaseRequest *request = (const Unum__V1__RevokeLeaseRequest *)message;
    enum status status = open_space(context, request->context, request->space);
    if (status != STATUS_OK) return status;
    struct registry_reply reply;
    status = commit_lease(context, REGISTRY_COMMAND_REVOKE, request->lease, 0, &reply);
    if (status != STATUS_OK) return status;
    return registry_pack_revision(reply.revision, context->reply);
}

/* --- reads -------------------------------------------------------------------------------------
 */

static enum status barrier(struct context *context)
{
    return replica_read_barrier(context->replica, context->call->deadline_ns, context->error);
}

static enum status serve_range(struct context *context, const ProtobufCMessage *message)
{
    const Unum__V1__RangeRequest *request = (const Unum__V1__RangeRequest *)message;
    enum status status = open_space(context, request->context, request->space);
    if (status != STATUS_OK) return status;
    if (!request->stale) {
        status = barrier(context);
        if (status != STATUS_OK) return status;
    }
    struct registry_operation operation = range_of(request);
    struct registry_response response;
    uint64_t revision;
    struct arena arena; /* an answer may need more than the call's has left */
    arena_init(&arena, REGISTRY_ARENA_BYTES_MAX);
    status =
        registry_range(context->registry, &operation, &arena, &revision, &response, context->error);
    if (status == STATUS_OK) status = registry_pack_response(&response, revision, context->reply);
    arena_finish(&arena);
    return status;
}

static enum status list_leases(struct context *context, uint64_t now_ms)
{
    struct registry_lease lease;
    uint64_t after = 0;
    struct bytes keys[REGISTRY_SERVE_LEASE_KEYS_LISTED_MAX];
    struct arena arena;
    arena_init(&arena, REGISTRY_ARENA_BYTES_MAX);
    enum status status = STATUS_OK;
    for (unsigned i = 0; i < REGISTRY_SERVE_LEASES_LISTED_MAX && status == STATUS_OK; i++) {
        if (registry_leases(context->registry, after, &lease, 1) == 0) break;
        after = lease.lease;
        arena_clear(&arena);
        size_t key_count = registry_lease_keys(context->registry, lease.lease, &arena, keys,
                                               REGISTRY_SERVE_LEASE_KEYS_LISTED_MAX);
        uint64_t remaining_ms = lease.ends_at_ms > now_ms ? lease.ends_at_ms - now_ms : 0;
        status = registry_pack_listed_lease(&lease, remaining_ms, keys, key_count, context->reply);
    }
    arena_finish(&arena);
    if (status != STATUS_OK) {
        return error_set(context->error, status, "the list of leases does not fit an answer");
    }
    return registry_pack_listed_time(now_ms, context->reply);
}

static enum status serve_list_leases(struct context *context, const ProtobufCMessage *message)
{
    const Unum__V1__ListLeasesRequest *request = (const Unum__V1__ListLeasesRequest *)message;
    enum status status = open_space(context, request->context, request->space);
    if (status != STATUS_OK) return status;
    status = barrier(context);
    if (status != STATUS_OK) return status;
    return list_leases(context, replica_computer_time_ms(context->replica));
}

/* --- methods -----------------------------------------------------------------------------------
 */

static const struct method {
    const char *name;
    const ProtobufCMessageDescriptor *request;
    enum status (*serve)(struct context *context, const ProtobufCMessage *message);
} methods[] = {
    { "Put", &unum__v1__put_request__descriptor, serve_put },
    { "Range", &unum__v1__range_request__descriptor, serve_range },
    { "Delete", &unum__v1__delete_request__descriptor, serve_delete },
    { "Txn", &unum__v1__txn_request__descriptor, serve_transaction },
    { "GrantLease", &unum__v1__grant_lease_request__descriptor, serve_grant },
    { "KeepLease", &unum__v1__keep_lease_request__descriptor, serve_keep },
    { "RevokeLease", &unum__v1__revoke_lease_request__descriptor, serve_revoke },
    { "ListLeases", &unum__v1__list_leases_request__descriptor, serve_list_leases },
};

static struct context context_of(const struct registry_serve *serve,
                                 const struct registry_serve_call *call, struct buffer *reply,
                                 struct error *error)
{
    return (struct context) { .serve = serve,
                              .call = call,
                              .payload.size_max = LIMIT_ENTRY_BYTES_MAX,
                              .answer.size_max = REGISTRY_REPLY_BYTES_MAX,
                              .reply = reply,
                              .error = error };
}

enum status registry_serve_unary(const struct registry_serve *serve, const char *method,
                                 const struct registry_serve_call *call, struct bytes request,
                                 struct buffer *reply, struct error *error)
{
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (strcmp(methods[i].name, method) != 0) continue;
        struct context context = context_of(serve, call, reply, error);
        ProtobufCMessage *message = unpack(&context, methods[i].request, request);
        if (message == NULL) return STATUS_INVALID;
        enum status status = methods[i].serve(&context, message);
        buffer_finish(&context.payload);
        buffer_finish(&context.answer);
        return status;
    }
    return error_set(error, STATUS_UNSUPPORTED, "the registry has no method \"%.64s\"", method);
}

bool registry_serve_is_stream(const char *method)
{
    return strcmp(method, "Watch") == 0;
}

/* --- watches -----------------------------------------------------------------------------------
 */

struct watching {
    struct context context;
    struct registry_watch *watch;
    const struct registry_serve_sink *sink;
    struct condition changed;
    struct buffer message;
    struct arena arena;
    bool progress;
};

static void wake(void *context)
{
    struct watching *watching = context;
    condition_signal(&watching->changed);
}

static enum status send_events(struct watching *watching, bool created, uint64_t revision,
                               const struct registry_event *events, size_t count)
{
    watching->message.used = 0;
    enum status status = registry_pack_events(created, revision, events, count, &watching->message);
    if (status != STATUS_OK) {
        return error_set(watching->context.error, status, "the events do not fit a message");
    }
    status = watching->sink->send(watching->sink->context,
                                  bytes_of(watching->message.data, watching->message.used));
    return status;
}

/* Send all there is. */
static enum status catch_up(struct watching *watching)
{
    for (;;) {
        struct registry_event *events;
        size_t count;
        uint64_t revision;
        arena_clear(&watching->arena);
        enum status status =
            registry_watch_next(watching->watch, REGISTRY_SERVE_WATCH_EVENTS_MAX, &watching->arena,
                                &events, &count, &revision, watching->context.error);
        if (status == STATUS_OK && count > 0) {
            status = send_events(watching, false, revision, events, count);
        }
        if (status != STATUS_OK) return status;
        if (revision >= registry_figures(watching->context.registry).revision) return STATUS_OK;
        /* Far behind, or a slow client: let others run. */
        status = fiber_yield();
        if (status != STATUS_OK) return status;
    }
}

static enum status run_watch(struct watching *watching)
{
    struct clock *clock = watching->context.serve->clock;
    uint64_t deadline_ns = watching->context.call->deadline_ns;
    for (;;) {
        enum status status = catch_up(watching);
        if (status != STATUS_OK) return status;
        uint64_t now_ns;
        clock_monotonic_ns(clock, &now_ns);
        uint64_t wake_ns = now_ns + (uint64_t)REGISTRY_SERVE_PROGRESS_MS * NS_PER_MS;
        if (!watching->progress || wake_ns > deadline_ns) wake_ns = deadline_ns;
        status = condition_wait(&watching->changed, wake_ns);
        if (status == STATUS_OK) continue;
        if (status != STATUS_TIMEOUT || wake_ns == deadline_ns) return status;
        /* Nothing came: all that there is has been sent. */
        status = catch_up(watching);
        if (status == STATUS_OK) {
            uint64_t revision = registry_figures(watching->context.registry).revision;
            status = send_events(watching, false, revision, NULL, 0);
        }
        if (status != STATUS_OK) return status;
    }
}

static enum status start_watch(struct watching *watching, const Unum__V1__WatchRequest *request)
{
    struct context *context = &watching->context;
    enum status status = open_space(context, request->context, request->space);
    if (status != STATUS_OK) return status;
    status = barrier(context);
    if (status != STATUS_OK) return status;
    struct registry_watch_options options = {
        .key = bytes_of_binary(&request->key),
        .end = bytes_of_binary(&request->end),
        .start_revision = request->start_revision,
        .include_previous = request->include_previous,
        .notify = wake,
        .context = watching,
    };
    watching->progress = request->progress;
    status = registry_watch_create(context->registry, &options, &watching->watch, context->error);
    if (status != STATUS_OK) return status;
    /* What has been sent is what lies before the start; from now on: all up to here. */
    uint64_t revision = registry_figures(context->registry).revision;
    if (request->start_revision != 0 && request->start_revision <= revision) {
        revision = request->start_revision - 1;
    }
    return send_events(watching, true, revision, NULL, 0);
}

enum status registry_serve_watch(const struct registry_serve *serve,
                                 const struct registry_serve_call *call, struct bytes request,
                                 const struct registry_serve_sink *sink, struct error *error)
{
    struct watching watching = {
        .context = context_of(serve, call, NULL, error),
        .sink = sink,
    };
    ProtobufCMessage *message =
        unpack(&watching.context, &unum__v1__watch_request__descriptor, request);
    if (message == NULL) return STATUS_INVALID;
    condition_init(&watching.changed);
    buffer_init(&watching.message, LIMIT_MESSAGE_BYTES_MAX);
    arena_init(&watching.arena, REGISTRY_ARENA_BYTES_MAX);
    enum status status = start_watch(&watching, (const Unum__V1__WatchRequest *)message);
    if (status == STATUS_OK) status = run_watch(&watching);
    registry_watch_destroy(watching.watch);
    buffer_finish(&watching.message);
    arena_finish(&watching.arena);
    return status;
}
