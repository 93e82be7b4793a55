#include "node/computer_service.h"

#include "node/node_internal.h"
#include "node/tasks.h"
#include "unum/v1/computer.pb-c.h"
#include "wire/proto_arena.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { WHY_REASONS_MAX = 64 };

/* One call: what its handler needs. The arena is the call's. */
struct request {
    struct node *node;
    struct serve_call *call;
    struct arena *arena;
    struct bytes bytes;
    struct buffer *reply;
    struct error *error;
    struct bytes *id;     /* the client gave to the request; empty: none */
    const char **subject; /* what it is about, for the audit */
};

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "the request is too large to be answered");
}

/* Every request has the context as its field of that name. */
static void note_id(const struct request *request, const ProtobufCMessage *message)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor, "context");
    if (field == NULL || field->type != PROTOBUF_C_TYPE_MESSAGE) return;
    const Unum__V1__Context *context;
    memcpy(&context, (const char *)message + field->offset, sizeof(void *));
    if (context != NULL) *request->id = bytes_of(context->request_id.data, context->request_id.len);
}

static void *unpack(const struct request *request, const ProtobufCMessageDescriptor *descriptor)
{
    void *message = proto_unpack(descriptor, request->arena, request->bytes);
    if (message == NULL)
        (void)error_set(request->error, STATUS_INVALID, "the request is not a %s",
                        descriptor->name);
    else
        note_id(request, message);
    return message;
}

static enum status reply_with(const struct request *request, const ProtobufCMessage *message)
{
    enum status status = proto_pack(message, request->reply);
    return status == STATUS_OK ? status : no_memory(request->error);
}

/* Texts of messages are not const in protobuf-c, but are only read. */
static char *text(const char *constant)
{
    return (char *)constant;
}

static uint64_t wall_ms(struct node *node)
{
    uint64_t now;
    clock_wall_ns(node->options.clock, &now);
    return now / 1000000;
}

static void tell(const struct request *request, const char *subject, const char *event,
                 const char *what)
{
    reasons_add(request->node->reasons, wall_ms(request->node), subject, subject, event, "%s by %s",
                what, serve_call_principal(request->call));
}

static enum status need_tasks(const struct request *request)
{
    if (request->node->tasks != NULL) return STATUS_OK;
    return error_set(request->error, STATUS_UNSUPPORTED,
                     "this machine runs no tasks: its daemon was started without unum-init");
}

/* --- apply and plan ------------------------------------------------------------------------------
 */

static enum status describe_change(const struct request *request, const struct job_change *change,
                                   const char *job, Unum__V1__Change **ret_change)
{
    Unum__V1__Change *described = arena_take(request->arena, sizeof *described);
    char **fields = arena_take(request->arena, (change->sentence_count + 1) * sizeof *fields);
    if (described == NULL || fields == NULL) return no_memory(request->error);
    for (size_t i = 0; i < change->sentence_count; i++) fields[i] = text(change->sentences[i]);
    unum__v1__change__init(described);
    described->job = text(job);
    described->kind = text(job_change_kind_name(change->kind));
    described->n_fields = change->sentence_count;
    described->fields = fields;
    described->tasks_started = change->tasks_started;
    described->tasks_restarted = change->tasks_restarted;
    described->tasks_stopped = change->tasks_stopped;
    *ret_change = described;
    return STATUS_OK;
}

struct plan {
    Unum__V1__Change **changes;
    const Unum__V1__Job **jobs; /* that change */
    uint64_t *expected;
    size_t change_count, job_count;
};

static enum status plan_job(const struct request *request, Unum__V1__Job *job, struct plan *plan)
{
    struct job_machine machine = {
        .cpu_milli = request->node->options.cores * 1000ull,
        .memory_bytes = request->node->options.memory_bytes,
    };
    enum status status = job_check(job, &machine, request->error);
    if (status != STATUS_OK) return status;
    struct jobs *jobs = tasks_jobs(request->node->tasks);
    const struct jobs_entry *before = jobs_find(jobs, job->project, job->name);
    struct job_change change;
    job_canonicalize(job);
    const Unum__V1__Job *former = before == NULL ? NULL : before->job;
    status = job_diff(former, job, request->arena, &change);
    if (status != STATUS_OK) return no_memory(request->error);
    job_succeed(former, job, &change);
    status = describe_change(request, &change, job->name, &plan->changes[plan->change_count]);
    if (status != STATUS_OK) return status;
    plan->change_count++;
    if (change.kind == JOB_UNCHANGED) return STATUS_OK;
    plan->jobs[plan->job_count] = job;
    plan->expected[plan->job_count++] = before == NULL ? 0 : before->revision;
    return STATUS_OK;
}

/* Their names, for the audit; of many the first. */
static void note_jobs(const struct request *request, const Unum__V1__ApplyRequest *apply)
{
    char *names = arena_take(request->arena, AUDIT_SUBJECT_BYTES_MAX + 1);
    if (names == NULL) return;
    size_t used = 0;
    names[0] = '\0';
    for (size_t i = 0; i < apply->n_jobs && used < AUDIT_SUBJECT_BYTES_MAX; i++) {
        int size = snprintf(names + used, AUDIT_SUBJECT_BYTES_MAX + 1 - used, "%s%s",
                            i == 0 ? "" : " ", apply->jobs[i]->name);
        if (size > 0) used += (size_t)size;
    }
    *request->subject = names;
}

static enum status make_plan(const struct request *request, struct plan *ret_plan)
{
    enum status status = need_tasks(request);
    if (status != STATUS_OK) return status;
    Unum__V1__ApplyRequest *apply = unpack(request, &unum__v1__apply_request__descriptor);
    if (apply == NULL) return STATUS_INVALID;
    note_jobs(request, apply);
    size_t room = apply->n_jobs + 1;
    struct plan plan = {
        .changes = arena_take(request->arena, room * sizeof(void *)),
        .jobs = arena_take(request->arena, room * sizeof(void *)),
        .expected = arena_take(request->arena, room * sizeof(uint64_t)),
    };
    if (plan.changes == NULL || plan.jobs == NULL || plan.expected == NULL)
        return no_memory(request->error);
    status = jobs_refresh(tasks_jobs(request->node->tasks), request->error);
    for (size_t i = 0; status == STATUS_OK && i < apply->n_jobs; i++) {
        for (size_t k = 0; k < i; k++)
            if (strcmp(apply->jobs[i]->name, apply->jobs[k]->name) == 0)
                return error_set(request->error, STATUS_INVALID, "job %s is given twice",
                                 apply->jobs[i]->name);
        status = plan_job(request, apply->jobs[i], &plan);
    }
    if (status == STATUS_OK) *ret_plan = plan;
    return status;
}

static enum status handle_plan(const struct request *request)
{
    struct plan plan;
    enum status status = make_plan(request, &plan);
    if (status != STATUS_OK) return status;
    Unum__V1__PlanResponse response = UNUM__V1__PLAN_RESPONSE__INIT;
    response.n_changes = plan.change_count;
    response.changes = plan.changes;
    return reply_with(request, &response.base);
}

static enum status handle_apply(const struct request *request)
{
    struct plan plan;
    enum status status = make_plan(request, &plan);
    if (status != STATUS_OK) return status;
    Unum__V1__ApplyResponse response = UNUM__V1__APPLY_RESPONSE__INIT;
    if (plan.job_count > 0) {
        status = jobs_write(tasks_jobs(request->node->tasks), plan.jobs, plan.expected,
                            plan.job_count, serve_call_principal(request->call), false,
                            &response.revision, request->error);
        if (status != STATUS_OK) return status;
    }
    for (size_t i = 0; i < plan.job_count; i++)
        tell(request, plan.jobs[i]->name, "applied", "applied");
    tasks_notice(request->node->tasks);
    response.n_changes = plan.change_count;
    response.changes = plan.changes;
    return reply_with(request, &response.base);
}

/* --- stop and restart ----------------------------------------------------------------------------
 */

static enum status find_job(const struct request *request, const char *name,
                            const struct jobs_entry **ret_entry)
{
    enum status status = need_tasks(request);
    if (status != STATUS_OK) return status;
    struct jobs *jobs = tasks_jobs(request->node->tasks);
    status = jobs_refresh(jobs, request->error);
    if (status != STATUS_OK) return status;
    const struct jobs_entry *entry = jobs_find(jobs, NULL, name);
    if (entry == NULL)
        return error_set(request->error, STATUS_NOT_FOUND,
                         "there is no job %s; `unum ps` lists what runs", name);
    *ret_entry = entry;
    return STATUS_OK;
}

/* A changed copy of ENTRY's job takes its place; ESSENTIAL: on a full disk too. */
static enum status change_job(const struct request *request, const struct jobs_entry *entry,
                              bool essential, void (*change)(Unum__V1__Job *job))
{
    struct buffer packed;
    buffer_init(&packed, JOB_BYTES_MAX);
    enum status status = proto_pack(&entry->job->base, &packed);
    Unum__V1__Job *job = NULL;
    if (status == STATUS_OK)
        job = proto_unpack(&unum__v1__job__descriptor, request->arena,
                           bytes_of(packed.data, packed.used));
    buffer_finish(&packed);
    if (job == NULL) return no_memory(request->error);
    change(job);
    const Unum__V1__Job *jobs[1] = { job };
    uint64_t expected[1] = { entry->revision };
    status = jobs_write(tasks_jobs(request->node->tasks), jobs, expected, 1,
                        serve_call_principal(request->call), essential, NULL, request->error);
    if (status == STATUS_OK) tasks_notice(request->node->tasks);
    return status;
}

static void stop_job(Unum__V1__Job *job)
{
    job->stopped = true;
    job->generation++;
}

static enum status handle_stop(const struct request *request)
{
    Unum__V1__StopJobRequest *stop = unpack(request, &unum__v1__stop_job_request__descriptor);
    if (stop == NULL) return STATUS_INVALID;
    *request->subject = stop->job;
    const struct jobs_entry *entry;
    enum status status = find_job(request, stop->job, &entry);
    if (status != STATUS_OK) return status;
    Unum__V1__StopJobResponse response = UNUM__V1__STOP_JOB_RESPONSE__INIT;
    response.tasks = entry->job->count;
    if (stop->remove)
        status = jobs_remove(tasks_jobs(request->node->tasks), entry,
                             serve_call_principal(request->call), request->error);
    else
        status = change_job(request, entry, true, stop_job);
    if (status != STATUS_OK) return status;
    tell(request, stop->job, "stopped", stop->remove ? "stopped and removed" : "stopped");
    tasks_notice(request->node->tasks);
    return reply_with(request, &response.base);
}

static enum status handle_restart(const struct request *request)
{
    Unum__V1__RestartJobRequest *restart =
        unpack(request, &unum__v1__restart_job_request__descriptor);
    if (restart == NULL) return STATUS_INVALID;
    *request->subject = restart->job;
    const struct jobs_entry *entry;
    enum status status = find_job(request, restart->job, &entry);
    if (status != STATUS_OK) return status;
    Unum__V1__RestartJobResponse response = UNUM__V1__RESTART_JOB_RESPONSE__INIT;
    response.tasks = entry->job->count;
    status = change_job(request, entry, false, job_restart);
    if (status != STATUS_OK) return status;
    tell(request, restart->job, "restarted", "restarted");
    return reply_with(request, &response.base);
}

/* --- lists
 * ---------------------------------------------------------------------------------------- */

static enum status handle_list_tasks(const struct request *request)
{
    Unum__V1__ListTasksRequest *list = unpack(request, &unum__v1__list_tasks_request__descriptor);
    if (list == NULL) return STATUS_INVALID;
    enum status status = need_tasks(request);
    if (status != STATUS_OK) return status;
    Unum__V1__ListTasksResponse response = UNUM__V1__LIST_TASKS_RESPONSE__INIT;
    status = tasks_list(request->node->tasks, list->job, request->arena, &response.tasks,
                        &response.n_tasks, request->error);
    return status == STATUS_OK ? reply_with(request, &response.base) : status;
}

static void count_task(Unum__V1__JobSummary *summary, const Unum__V1__Task *task)
{
    bool ready = strcmp(task->state, "ready") == 0;
    summary->running += ready || strcmp(task->state, "running") == 0;
    summary->ready += ready;
    summary->held += strcmp(task->state, "held") == 0;
    summary->failed += strcmp(task->state, "failed") == 0;
}

static enum status handle_list_jobs(const struct request *request)
{
    if (unpack(request, &unum__v1__list_jobs_request__descriptor) == NULL) return STATUS_INVALID;
    enum status status = need_tasks(request);
    if (status != STATUS_OK) return status;
    struct jobs *jobs = tasks_jobs(request->node->tasks);
    Unum__V1__Task **tasks;
    size_t task_count;
    status =
        tasks_list(request->node->tasks, NULL, request->arena, &tasks, &task_count, request->error);
    if (status != STATUS_OK) return status;
    size_t count = jobs_count(jobs);
    Unum__V1__ListJobsResponse response = UNUM__V1__LIST_JOBS_RESPONSE__INIT;
    response.jobs = arena_take(request->arena, (count + 1) * sizeof(void *));
    if (response.jobs == NULL) return no_memory(request->error);
    size_t next = 0; /* the tasks stand in the order of the jobs */
    for (size_t i = 0; i < count; i++) {
        Unum__V1__JobSummary *summary = arena_take(request->arena, sizeof *summary);
        if (summary == NULL) return no_memory(request->error);
        unum__v1__job_summary__init(summary);
        summary->job = (Unum__V1__Job *)jobs_at(jobs, i)->job;
        for (; next < task_count && strcmp(tasks[next]->job, summary->job->name) == 0; next++)
            count_task(summary, tasks[next]);
        response.jobs[response.n_jobs++] = summary;
    }
    return reply_with(request, &response.base);
}

static enum status handle_list_machines(const struct request *request)
{
    if (unpack(request, &unum__v1__list_machines_request__descriptor) == NULL)
        return STATUS_INVALID;
    struct node *node = request->node;
    const struct node_options *options = &node->options;
    Unum__V1__Machine machine = UNUM__V1__MACHINE__INIT;
    machine.name = text(options->machine_name);
    machine.id =
        (ProtobufCBinaryData) { .len = ID_BYTES, .data = (uint8_t *)options->machine.bytes };
    machine.state = text("up");
    machine.version = text(NODE_VERSION);
    machine.address = text(serve_address(node->serve));
    machine.cores = options->cores;
    machine.memory_bytes = options->memory_bytes;
    machine.io = text(reactor_backend_name(options->reactor));
    machine.role = text("voter");
    char *missing[1];
    if (node->tasks != NULL) {
        struct tasks_reserved reserved = tasks_reserved(node->tasks);
        machine.cpu_milli_reserved = reserved.cpu_milli;
        machine.memory_bytes_reserved = reserved.memory_bytes;
        machine.tasks = (uint32_t)agent_task_count(node->agent);
        if (!agent_synchronized(node->agent)) machine.state = text("without unum-init");
        missing[0] = text(agent_missing(node->agent));
        machine.n_missing = missing[0][0] != '\0';
        machine.missing = missing;
    }
    Unum__V1__Machine *machines[1] = { &machine };
    Unum__V1__ListMachinesResponse response = UNUM__V1__LIST_MACHINES_RESPONSE__INIT;
    response.n_machines = 1;
    response.machines = machines;
    return reply_with(request, &response.base);
}

static enum status handle_status(const struct request *request)
{
    if (unpack(request, &unum__v1__status_request__descriptor) == NULL) return STATUS_INVALID;
    struct node *node = request->node;
    Unum__V1__StatusResponse response = UNUM__V1__STATUS_RESPONSE__INIT;
    response.computer =
        (ProtobufCBinaryData) { .len = ID_BYTES, .data = node->options.computer.bytes };
    response.name = text(node->options.computer_name);
    response.version = text(NODE_VERSION);
    response.computer_time_ms = replica_computer_time_ms(node->system.replica);
    uint64_t now;
    clock_monotonic_ns(node->options.clock, &now);
    response.uptime_ms = (now - node->started_ns) / 1000000;
    response.daemon_pid = node->options.process;
    struct error health = { 0 };
    response.health =
        replica_host_health(node->host, &health) == STATUS_OK ? text("ok") : health.text;
    if (node->tasks != NULL) {
        Unum__V1__Task **tasks;
        size_t count;
        enum status status =
            tasks_list(node->tasks, NULL, request->arena, &tasks, &count, request->error);
        if (status != STATUS_OK) return status;
        response.jobs = (uint32_t)jobs_count(tasks_jobs(node->tasks));
        response.tasks = (uint32_t)count;
        for (size_t i = 0; i < count; i++) response.ready += strcmp(tasks[i]->state, "ready") == 0;
    }
    return reply_with(request, &response.base);
}

/* --- why
 * ------------------------------------------------------------------------------------------ */

static enum status summarize_task(const struct request *request, const Unum__V1__Task *task,
                                  char **ret_summary)
{
    enum { SUMMARY_BYTES_MAX = 640 };
    char *summary = arena_take(request->arena, SUMMARY_BYTES_MAX);
    if (summary == NULL) return no_memory(request->error);
    int used = snprintf(summary, SUMMARY_BYTES_MAX, "%s is %s", task->name, task->state);
    size_t at = used < 0 ? 0 : (size_t)used;
    if (task->reason[0] != '\0')
        at += (size_t)snprintf(summary + at, SUMMARY_BYTES_MAX - at, ": %s", task->reason);
    if (at < SUMMARY_BYTES_MAX && task->next_start_in_ms > 0)
        at += (size_t)snprintf(summary + at, SUMMARY_BYTES_MAX - at, "; it starts again in %.1f s",
                               (double)task->next_start_in_ms / 1000);
    if (at < SUMMARY_BYTES_MAX && task->restarts > 0)
        (void)snprintf(summary + at, SUMMARY_BYTES_MAX - at, "; restarted %" PRIu64 " times",
                       task->restarts);
    *ret_summary = summary;
    return STATUS_OK;
}

static enum status summarize(const struct request *request, const char *name, char **ret_summary)
{
    struct node *node = request->node;
    Unum__V1__Task **tasks;
    size_t count;
    enum status status =
        tasks_list(node->tasks, NULL, request->arena, &tasks, &count, request->error);
    if (status != STATUS_OK) return status;
    size_t of_job = 0, up = 0;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(tasks[i]->name, name) == 0)
            return summarize_task(request, tasks[i], ret_summary);
        if (strcmp(tasks[i]->job, name) != 0) continue;
        of_job++;
        up += strcmp(tasks[i]->state, "ready") == 0 || strcmp(tasks[i]->state, "running") == 0;
    }
    const struct jobs_entry *entry = jobs_find(tasks_jobs(node->tasks), NULL, name);
    char *summary = arena_take(request->arena, ERROR_TEXT_BYTES_MAX);
    if (summary == NULL) return no_memory(request->error);
    *ret_summary = summary;
    if (entry != NULL)
        (void)snprintf(summary, ERROR_TEXT_BYTES_MAX, "job %s: %s, %zu of %" PRIu32 " tasks up",
                       name, entry->job->stopped ? "stopped" : "wanted", up, entry->job->count);
    else if (strcmp(name, node->options.machine_name) == 0)
        (void)snprintf(summary, ERROR_TEXT_BYTES_MAX, "machine %s is up", name);
    else if (of_job > 0)
        (void)snprintf(summary, ERROR_TEXT_BYTES_MAX, "job %s was removed; %zu tasks are left",
                       name, of_job);
    else
        summary[0] = '\0';
    return STATUS_OK;
}

static enum status handle_why(const struct request *request)
{
    Unum__V1__WhyRequest *why = unpack(request, &unum__v1__why_request__descriptor);
    if (why == NULL) return STATUS_INVALID;
    enum status status = need_tasks(request);
    if (status != STATUS_OK) return status;
    struct reason *found = arena_take(request->arena, WHY_REASONS_MAX * sizeof *found);
    Unum__V1__Reason *reasons = arena_take(request->arena, WHY_REASONS_MAX * sizeof *reasons);
    Unum__V1__Reason **pointers = arena_take(request->arena, WHY_REASONS_MAX * sizeof(void *));
    if (found == NULL || reasons == NULL || pointers == NULL) return no_memory(request->error);
    Unum__V1__WhyResponse response = UNUM__V1__WHY_RESPONSE__INIT;
    status = summarize(request, why->name, &response.summary);
    if (status != STATUS_OK) return status;
    response.n_reasons = reasons_find(request->node->reasons, why->name, found, WHY_REASONS_MAX);
    if (response.summary[0] == '\0' && response.n_reasons == 0)
        return error_set(request->error, STATUS_NOT_FOUND,
                         "nothing is known of %s; `unum ps` lists jobs and tasks", why->name);
    response.reasons = pointers;
    for (size_t i = 0; i < response.n_reasons; i++) {
        unum__v1__reason__init(&reasons[i]);
        reasons[i].wall_ms = found[i].wall_ms;
        reasons[i].subject = found[i].subject;
        reasons[i].event = found[i].event;
        reasons[i].text = found[i].text;
        pointers[i] = &reasons[i];
    }
    return reply_with(request, &response.base);
}

/* --- the service
 * ---------------------------------------------------------------------------------- */

static enum status unary(void *context, const char *method, struct serve_call *call,
                         struct bytes bytes, struct buffer *reply, struct error *error)
{
    static const struct {
        const char *name;
        enum status (*handle)(const struct request *request);
        bool is_use; /* of authority */
    } methods[] = {
        { "Apply", handle_apply, true },
        { "Plan", handle_plan, false },
        { "ListJobs", handle_list_jobs, false },
        { "ListTasks", handle_list_tasks, false },
        { "StopJob", handle_stop, true },
        { "RestartJob", handle_restart, true },
        { "Why", handle_why, false },
        { "ListMachines", handle_list_machines, false },
        { "Status", handle_status, false },
    };
    struct bytes id = { 0 };
    const char *subject = "";
    struct request request = {
        .id = &id,
        .subject = &subject,
        .node = context,
        .call = call,
        .arena = serve_call_arena(call),
        .bytes = bytes,
        .reply = reply,
        .error = error,
    };
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (strcmp(methods[i].name, method) != 0) continue;
        enum status status = methods[i].handle(&request);
        if (methods[i].is_use)
            node_audit(context, serve_call_principal(call), id, method, subject, status,
                       error->text);
        return status;
    }
    return error_set(error, STATUS_UNSUPPORTED, "the computer has no method %s", method);
}

static bool is_stream(void *context, const char *method)
{
    (void)context;
    return strcmp(method, "Logs") == 0 || strcmp(method, "Exec") == 0;
}

static enum status stream(void *context, const char *method, struct serve_call *call,
                          struct error *error)
{
    struct node *node = context;
    if (node->tasks == NULL)
        return error_set(error, STATUS_UNSUPPORTED, "this machine runs no tasks");
    return strcmp(method, "Logs") == 0 ? computer_logs(node, call, error)
                                       : computer_exec(node, call, error);
}

struct serve_service computer_service(struct node *node)
{
    return (struct serve_service) {
        .prefix = "/unum.v1.Computer/",
        .unary = unary,
        .is_stream = is_stream,
        .stream = stream,
        .context = node,
    };
}
