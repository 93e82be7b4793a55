/* Computer.Exec: the client's stream becomes the input of a command in a task; its output and
 * errors go back on it, then its exit status. */
#include "node/computer_service.h"
#include "node/node_internal.h"
#include "node/tasks.h"
#include "unum/v1/computer.pb-c.h"
#include "wire/proto_arena.h"

#include <stdio.h>

enum { EXEC_REQUEST_BYTES_MAX = 64 * 1024 };

struct session {
    struct serve_call *call;
    struct arena arena; /* of the message of the client in hand */
    struct buffer packed;
    bool sending;
    struct condition free;
};

/* Output and errors come from two fibers, the call takes one message at a time. */
static enum status send_response(struct session *session, const Unum__V1__ExecResponse *response)
{
    while (session->sending) {
        enum status status = condition_wait(&session->free, DEADLINE_NEVER);
        if (status != STATUS_OK) return status;
    }
    session->sending = true;
    session->packed.used = 0;
    enum status status = proto_pack(&response->base, &session->packed);
    if (status == STATUS_OK)
        status =
            serve_call_send(session->call, bytes_of(session->packed.data, session->packed.used));
    session->sending = false;
    condition_signal(&session->free);
    return status;
}

static enum status take_output(void *context, unsigned stream, struct bytes bytes)
{
    Unum__V1__ExecResponse response = UNUM__V1__EXEC_RESPONSE__INIT;
    ProtobufCBinaryData data = { .len = bytes.size, .data = (uint8_t *)bytes.data };
    if (stream == 1)
        response.output = data;
    else
        response.error_output = data;
    return send_response(context, &response);
}

static enum status give_input(void *context, struct bytes *ret_bytes)
{
    struct session *session = context;
    struct bytes message;
    *ret_bytes = (struct bytes) { 0 };
    for (;;) {
        enum status status = serve_call_receive(session->call, DEADLINE_NEVER, &message);
        if (status == STATUS_CLOSED) return STATUS_OK;
        if (status != STATUS_OK) return status;
        arena_reset(&session->arena);
        Unum__V1__ExecRequest *request =
            proto_unpack(&unum__v1__exec_request__descriptor, &session->arena, message);
        if (request == NULL) return STATUS_INVALID;
        if (request->input.len > 0) {
            *ret_bytes = bytes_of(request->input.data, request->input.len);
            return STATUS_OK;
        }
        if (request->input_end) return STATUS_OK;
    }
}

static enum status first_request(struct serve_call *call, Unum__V1__ExecRequest **ret_request,
                                 struct error *error)
{
    struct bytes message;
    enum status status = serve_call_receive(call, serve_call_deadline_ns(call), &message);
    if (status != STATUS_OK)
        return error_set(error, status, "the first message with task and command did not come");
    Unum__V1__ExecRequest *request =
        proto_unpack(&unum__v1__exec_request__descriptor, serve_call_arena(call), message);
    if (request == NULL) return error_set(error, STATUS_INVALID, "the request can't be read");
    if (request->n_command == 0 || request->command[0][0] == '\0')
        return error_set(error, STATUS_INVALID, "the command is empty");
    *ret_request = request;
    return STATUS_OK;
}

static const char **arguments_of(struct arena *arena, const Unum__V1__ExecRequest *request)
{
    const char **arguments = arena_take(arena, (request->n_command + 1) * sizeof *arguments);
    for (size_t i = 0; arguments != NULL && i < request->n_command; i++)
        arguments[i] = request->command[i];
    return arguments;
}

static enum status exec_in_task(struct node *node, struct serve_call *call,
                                const Unum__V1__ExecRequest *request, struct error *error)
{
    enum status status;
    const struct agent_task *task;
    status = tasks_find(node->tasks, request->task, &task, error);
    if (status != STATUS_OK) return status;
    const char **arguments = arguments_of(serve_call_arena(call), request);
    if (arguments == NULL) return error_set(error, STATUS_INVALID, "the command is too long");

    uint64_t now;
    clock_wall_ns(node->options.clock, &now);
    reasons_add(node->reasons, now / 1000000, task->job, task->name, "exec", "%s by %s",
                request->command[0], serve_call_principal(call));

    struct session session = { .call = call };
    arena_init(&session.arena, 2ull * EXEC_REQUEST_BYTES_MAX);
    buffer_init(&session.packed, EXEC_REQUEST_BYTES_MAX);
    condition_init(&session.free);
    struct exec_sink sink = { .output = take_output, .input = give_input, .context = &session };
    struct id id = task->id;
    Unum__V1__ExecResponse response = UNUM__V1__EXEC_RESPONSE__INIT;
    status = exec_run(node->execs, &id, arguments, &sink, serve_call_deadline_ns(call),
                      &response.exit_status, error);
    if (status == STATUS_OK) {
        response.ended = true;
        status = send_response(&session, &response);
    }
    buffer_finish(&session.packed);
    arena_finish(&session.arena);
    return status;
}

enum status computer_exec(struct node *node, struct serve_call *call, struct error *error)
{
    Unum__V1__ExecRequest *request = NULL;
    enum status status = first_request(call, &request, error);
    if (status != STATUS_OK) return status;
    struct bytes id = { 0 };
    if (request->context != NULL)
        id = bytes_of(request->context->request_id.data, request->context->request_id.len);
    char subject[AUDIT_SUBJECT_BYTES_MAX + 1];
    (void)snprintf(subject, sizeof subject, "%s %s", request->task, request->command[0]);
    status = exec_in_task(node, call, request, error);
    node_audit(node, serve_call_principal(call), id, "Exec", subject, status, error->text);
    return status;
}
