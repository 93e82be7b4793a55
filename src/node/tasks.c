#include "node/tasks.h"

#include "base/parse.h"
#include "node/node_internal.h"
#include "node/probes.h"
#include "schedule/controller.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TASKS_RETRY_MS = 3000, /* what was refused is tried again */
    TASKS_ARENA_BYTES_MAX = 64 * 1024 * 1024,
    TASKS_MACHINE_KEY_BYTES_MAX = 16 + LIMIT_NAME_BYTES_MAX,
    TASKS_LOG_BYTES_DEFAULT = 0, /* unum-log's */
};

/* A valid job is one that unum-init takes. */
_Static_assert((int)JOB_PORTS_MAX == (int)SUPERVISE_PORTS_MAX, "ports of a task");
_Static_assert((int)JOB_COMMAND_COUNT_MAX <= (int)SUPERVISE_STRINGS_COUNT_MAX, "arguments");
_Static_assert((int)JOB_LAUNCH_BYTES_MAX == (int)SUPERVISE_STRINGS_BYTES_MAX, "their bytes");
_Static_assert((int)JOB_ENVIRONMENT_COUNT_MAX <= (int)SUPERVISE_STRINGS_COUNT_MAX, "variables");
_Static_assert((int)JOB_ENVIRONMENT_BYTES_MAX <= (int)SUPERVISE_STRINGS_BYTES_MAX, "their bytes");
_Static_assert((int)JOB_SCRATCH_COUNT_MAX == (int)SUPERVISE_WRITABLE_COUNT_MAX, "writable paths");
_Static_assert((int)JOB_PATH_BYTES_MAX == (int)SUPERVISE_PATH_BYTES_MAX, "a path");
_Static_assert((int)JOB_PERIOD_MS_MAX == (int)SUPERVISE_PERIOD_MS_MAX, "a period");
_Static_assert((int)JOB_COUNT_MAX == (int)SUPERVISE_TASKS_MAX, "tasks of a machine");

struct tasks {
    struct node *node;
    struct jobs *jobs;
    struct controller *controller;
    struct probes *probes;
    struct condition changed;
    bool noticed;
    uint64_t epoch; /* 0: not raised yet */
    uint64_t retry;
    uint64_t probed_version; /* of the jobs that the probes know */
    struct tasks_reserved reserved;
    struct controller_output output;
    /* Of the last step; the controller's reasons refer to it. */
    struct arena arena;
    struct controller_job *step_jobs;
    size_t step_job_count;
};

/* unum-init knows one name for a job: NAME, or NAME.PROJECT where the project is not "default". */
static void format_job(const char *project, const char *job, char *ret_text, size_t size)
{
    bool is_default = project[0] == '\0' || strcmp(project, "default") == 0;
    if (is_default)
        (void)snprintf(ret_text, size, "%s", job);
    else
        (void)snprintf(ret_text, size, "%s.%s", job, project);
}

static void split_job(const char *text, char ret_project[LIMIT_NAME_BYTES_MAX + 1],
                      char ret_job[LIMIT_NAME_BYTES_MAX + 1])
{
    const char *dot = strchr(text, '.');
    size_t size = dot == NULL ? strlen(text) : (size_t)(dot - text);
    (void)snprintf(ret_job, LIMIT_NAME_BYTES_MAX + 1, "%.*s", (int)size, text);
    (void)snprintf(ret_project, LIMIT_NAME_BYTES_MAX + 1, "%s", dot == NULL ? "default" : dot + 1);
}

/* --- what the controller is told
 * ------------------------------------------------------------------ */

static enum controller_state controller_state_of(enum supervise_state state)
{
    static const enum controller_state states[SUPERVISE_STATE_COUNT] = {
        [SUPERVISE_PENDING] = CONTROLLER_STARTING,  [SUPERVISE_STARTING] = CONTROLLER_STARTING,
        [SUPERVISE_RUNNING] = CONTROLLER_RUNNING,   [SUPERVISE_READY] = CONTROLLER_RUNNING,
        [SUPERVISE_STOPPING] = CONTROLLER_STOPPING, [SUPERVISE_BACKOFF] = CONTROLLER_WAITING,
        [SUPERVISE_HELD] = CONTROLLER_WAITING,      [SUPERVISE_FAILED] = CONTROLLER_FINISHED,
        [SUPERVISE_STOPPED] = CONTROLLER_STOPPED,   [SUPERVISE_DONE] = CONTROLLER_FINISHED,
    };
    return states[state];
}

static bool observe_task(const struct agent_task *task, struct controller_task *ret_task)
{
    char job[LIMIT_NAME_BYTES_MAX + 1];
    struct controller_task observed = {
        .id = task->id,
        .incarnation = task->incarnation,
        .state = controller_state_of(task->state),
        .up = task->up,
        .holdings_known = true,
        .cpu_milli = task->cpu_milli,
        .memory_bytes = task->memory_bytes,
        .port_count = task->port_count,
    };
    memcpy(observed.ports, task->ports, sizeof observed.ports);
    split_job(task->job, observed.project, observed.job);
    if (job_task_name_parse(task->name, job, &observed.index) != STATUS_OK) return false;
    *ret_task = observed;
    return true;
}

static enum status gather(struct tasks *tasks, struct controller_input *ret_input)
{
    struct node *node = tasks->node;
    arena_reset(&tasks->arena);
    tasks->step_jobs = NULL;
    tasks->step_job_count = 0;
    size_t job_count = jobs_count(tasks->jobs);
    size_t task_room = agent_task_count(node->agent);
    struct controller_job *jobs = arena_take(&tasks->arena, (job_count + 1) * sizeof *jobs);
    struct controller_task *observed =
        arena_take(&tasks->arena, (task_room + 1) * sizeof *observed);
    if (jobs == NULL || observed == NULL) return STATUS_NO_MEMORY;
    for (size_t i = 0; i < job_count; i++) {
        const struct jobs_entry *entry = jobs_at(tasks->jobs, i);
        jobs[i] = controller_job_of(entry->job, entry->create_revision);
    }
    size_t task_count = 0;
    for (const struct agent_task *task = agent_tasks(node->agent); task != NULL;
         task = task->hh.next)
        if (observe_task(task, &observed[task_count])) task_count++;
    *ret_input = (struct controller_input) {
        .complete = true,
        .session = agent_instance(node->agent),
        .epoch = tasks->epoch,
        .retry = tasks->retry,
        .computer = node->options.computer,
        .cpu_milli = node->options.cores * 1000ull,
        .memory_bytes = node->options.memory_bytes,
        .tasks_max = CONTROLLER_TASKS_MAX,
        .jobs = jobs,
        .job_count = job_count,
        .tasks = observed,
        .task_count = task_count,
    };
    tasks->step_jobs = jobs;
    tasks->step_job_count = job_count;
    return STATUS_OK;
}

/* --- what unum-init is told
 * ----------------------------------------------------------------------- */

static enum status add_strings(struct supervise_strings *strings, char *memory, size_t size,
                               const char *const *texts, struct error *error)
{
    for (size_t i = 0; texts[i] != NULL; i++)
        if (supervise_strings_add(strings, memory, size, texts[i]) != STATUS_OK)
            return error_set(error, STATUS_INVALID,
                             "command and environment are longer than %zu bytes", size);
    return STATUS_OK;
}

struct start_memory {
    char arguments[SUPERVISE_STRINGS_BYTES_MAX];
    char environment[SUPERVISE_STRINGS_BYTES_MAX];
    char writable[SUPERVISE_WRITABLE_BYTES_MAX];
    char job[2 * LIMIT_NAME_BYTES_MAX + 2];
    struct supervise_message message;
};

static void fill_numbers(struct supervise_start *start, const struct task_spec *spec)
{
    const struct job_settings *settings = &spec->settings;
    start->flags = settings->private_network ? SUPERVISE_OWN_NETWORK : 0;
    start->restart = (uint8_t)settings->restart_policy;
    start->readiness =
        settings->ready_kind == UNUM__V1__PROBE__KIND__NONE     ? SUPERVISE_READINESS_NONE
        : settings->ready_kind == UNUM__V1__PROBE__KIND__NOTIFY ? SUPERVISE_READINESS_NOTIFY
                                                                : SUPERVISE_READINESS_PROBE;
    start->stop_signal = (uint8_t)spec->stop_signal;
    start->restarts_limit = (uint8_t)settings->restart_burst;
    start->restarts_period_ms = (uint32_t)settings->restart_period_ms;
    start->backoff_base_ms = (uint32_t)settings->restart_backoff_ms;
    start->backoff_cap_ms = (uint32_t)settings->restart_backoff_max_ms;
    start->stable_after_ms = (uint32_t)settings->restart_stable_ms;
    start->stop_grace_ms = (uint32_t)settings->stop_grace_ms;
    start->start_timeout_ms = start->readiness == SUPERVISE_READINESS_NONE
                                  ? 0
                                  : (uint32_t)settings->ready_start_timeout_ms;
    start->cpu_milli = (uint32_t)settings->cpu_milli;
    start->processes_max = (uint32_t)settings->processes;
    start->memory_bytes = settings->memory_bytes;
    if (settings->scratch_bytes > 0) start->scratch_bytes = settings->scratch_bytes;
    for (size_t i = 0; i < spec->port_count && i < SUPERVISE_PORTS_MAX; i++)
        start->ports[start->port_count++] = spec->ports[i].port;
}

static enum status fill_start(struct start_memory *memory, const struct task_spec *spec,
                              const struct controller_action *action, struct error *error)
{
    memory->message =
        (struct supervise_message) { .kind = SUPERVISE_START, .start = supervise_start_defaults() };
    struct supervise_start *start = &memory->message.start;
    start->task = action->task;
    start->incarnation = action->incarnation;
    fill_numbers(start, spec);
    format_job(spec->settings.project, spec->settings.name, memory->job, sizeof memory->job);
    if (strlen(memory->job) > LIMIT_NAME_BYTES_MAX)
        return error_set(error, STATUS_INVALID,
                         "the names of project and job are too long together");
    start->job = bytes_of_text(memory->job);
    start->name = bytes_of_text(spec->name);
    start->folder = bytes_of_text(spec->settings.working_directory);
    enum status status =
        add_strings(&start->argv, memory->arguments, sizeof memory->arguments, spec->launch, error);
    if (status == STATUS_OK)
        status = add_strings(&start->env, memory->environment, sizeof memory->environment,
                             spec->environment, error);
    for (size_t i = 0; status == STATUS_OK && i < spec->scratch_count; i++) {
        const char *const path[2] = { spec->scratch[i].path, NULL };
        status =
            add_strings(&start->writable, memory->writable, sizeof memory->writable, path, error);
    }
    return status;
}

static enum status start_task(struct tasks *tasks, const struct controller_action *action,
                              struct error *error)
{
    const struct jobs_entry *entry = jobs_at(tasks->jobs, action->job);
    struct arena arena;
    arena_init(&arena, TASKS_ARENA_BYTES_MAX);
    struct task_spec *spec;
    enum status status = job_task_spec(entry->job, action->index, &arena, &spec, error);
    struct start_memory *memory = NULL;
    if (status == STATUS_OK) {
        memory = arena_take(&arena, sizeof *memory);
        status = memory == NULL ? STATUS_NO_MEMORY : fill_start(memory, spec, action, error);
    }
    if (status == STATUS_OK)
        status = agent_request(tasks->node->agent, &memory->message, NULL, 0, NULL, error);
    if (status == STATUS_EXISTS) status = STATUS_OK; /* it will be seen in its state */
    arena_finish(&arena);
    return status;
}

static enum status perform(struct tasks *tasks, const struct controller_action *action,
                           struct error *error)
{
    struct supervise_message message = { .task = { .task = action->task } };
    switch (action->kind) {
    case CONTROLLER_START: return start_task(tasks, action, error);
    case CONTROLLER_STOP: message.kind = SUPERVISE_STOP; break;
    case CONTROLLER_DROP: message.kind = SUPERVISE_DROP; break;
    }
    enum status status = agent_request(tasks->node->agent, &message, NULL, 0, NULL, error);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static void tell_refusal(struct tasks *tasks, const struct controller_action *action,
                         const char *text)
{
    if (action->kind != CONTROLLER_START) return;
    const Unum__V1__Job *job = jobs_at(tasks->jobs, action->job)->job;
    char name[JOB_TASK_NAME_BYTES_MAX + 1];
    job_task_name(job->name, action->index, name);
    uint64_t wall;
    clock_wall_ns(tasks->node->options.clock, &wall);
    reasons_add(tasks->node->reasons, wall / 1000000, job->name, name, "refused", "%s", text);
}

/* One step and its actions. ret_more: step again at once. */
static enum status step(struct tasks *tasks, bool *ret_more, struct error *error)
{
    *ret_more = false;
    enum status status = jobs_refresh(tasks->jobs, error);
    if (status != STATUS_OK) return status;
    if (!agent_synchronized(tasks->node->agent)) return STATUS_OK;
    struct controller_input input;
    status = gather(tasks, &input);
    if (status != STATUS_OK) return error_set(error, status, "too many jobs and tasks");
    struct controller_output *output = &tasks->output;
    controller_step(tasks->controller, &input, output);
    tasks->reserved = (struct tasks_reserved) { .cpu_milli = output->cpu_milli_reserved,
                                                .memory_bytes = output->memory_bytes_reserved };
    for (size_t i = 0; i < output->action_count; i++) {
        struct error refusal = { 0 };
        status = perform(tasks, &output->actions[i], &refusal);
        if (status == STATUS_CANCELLED) return status;
        if (status == STATUS_OK) continue;
        controller_refused(tasks->controller, &output->actions[i], refusal.text);
        tell_refusal(tasks, &output->actions[i], refusal.text);
    }
    *ret_more = output->more;
    return STATUS_OK;
}

/* --- probes
 * --------------------------------------------------------------------------------------- */

static void update_probe(struct tasks *tasks, const struct agent_task *task)
{
    bool runs = task->state == SUPERVISE_RUNNING || task->state == SUPERVISE_READY;
    char project[LIMIT_NAME_BYTES_MAX + 1], job[LIMIT_NAME_BYTES_MAX + 1];
    char named[LIMIT_NAME_BYTES_MAX + 1];
    uint32_t index;
    split_job(task->job, project, job);
    const struct jobs_entry *entry = jobs_find(tasks->jobs, project, job);
    bool probed = runs && entry != NULL && entry->job->ready != NULL &&
                  entry->job->ready->kind >= UNUM__V1__PROBE__KIND__TCP &&
                  job_task_name_parse(task->name, named, &index) == STATUS_OK &&
                  index < entry->job->count;
    if (!probed) {
        probes_forget(tasks->probes, &task->id);
        return;
    }
    struct arena arena;
    arena_init(&arena, TASKS_ARENA_BYTES_MAX);
    struct task_spec *spec;
    if (job_task_spec(entry->job, index, &arena, &spec, NULL) == STATUS_OK) {
        enum status status =
            probes_watch(tasks->probes, &task->id, task->incarnation, task->up, spec);
        (void)status; /* without memory: tried again with the next change */
    }
    arena_finish(&arena);
}

/* --- the fiber
 * ------------------------------------------------------------------------------------ */

static void update_probes(struct tasks *tasks)
{
    for (const struct agent_task *task = agent_tasks(tasks->node->agent); task != NULL;
         task = task->hh.next)
        update_probe(tasks, task);
}

/* Each start of the daemon has a number of its own in the incarnations that it gives out. */
static enum status raise_epoch(struct tasks *tasks, struct error *error)
{
    char key[TASKS_MACHINE_KEY_BYTES_MAX], value[24];
    int size = snprintf(key, sizeof key, "epoch/%s", tasks->node->options.machine_name);
    struct bytes name = bytes_of(key, (size_t)size);
    struct arena arena;
    arena_init(&arena, TASKS_ARENA_BYTES_MAX);
    struct registry_item *items;
    size_t count;
    uint64_t revision, epoch = 0;
    enum status status = space_range(&tasks->node->system, name, (struct bytes) { 0 }, &arena,
                                     &items, &count, &revision, error);
    if (status == STATUS_OK && count == 1) {
        (void)snprintf(value, sizeof value, "%.*s", (int)items[0].value.size,
                       (const char *)items[0].value.data);
        if (parse_u64(value, CONTROLLER_EPOCH_MAX - 1, &epoch) != STATUS_OK)
            status = error_set(error, STATUS_CORRUPT, "the key %s holds no number", key);
    }
    if (status == STATUS_OK) {
        epoch++;
        int used = snprintf(value, sizeof value, "%" PRIu64, epoch);
        status = space_put_if(&tasks->node->system, name, bytes_of(value, (size_t)used),
                              count == 1 ? items[0].modify_revision : 0, NULL, error);
    }
    arena_finish(&arena);
    if (status == STATUS_OK) tasks->epoch = epoch;
    return status;
}

static void tasks_fiber(void *argument)
{
    struct tasks *tasks = argument;
    struct clock *clock = tasks->node->options.clock;
    for (;;) {
        struct error error = { 0 };
        bool more = false;
        tasks->noticed = false;
        enum status status = tasks->epoch == 0 ? raise_epoch(tasks, &error) : STATUS_OK;
        if (status == STATUS_OK) status = step(tasks, &more, &error);
        if (tasks->probed_version != jobs_version(tasks->jobs)) {
            tasks->probed_version = jobs_version(tasks->jobs);
            update_probes(tasks);
        }
        if (status == STATUS_CANCELLED) return;
        if (status != STATUS_OK) {
            uint64_t wall;
            clock_wall_ns(clock, &wall);
            reasons_add(tasks->node->reasons, wall / 1000000, "", tasks->node->options.machine_name,
                        "controller", "%s", error.text);
        }
        if (more) continue;
        uint64_t now;
        clock_monotonic_ns(clock, &now);
        uint64_t until = now + TASKS_RETRY_MS * 1000000ull;
        status = STATUS_OK;
        while (status == STATUS_OK && !tasks->noticed)
            status = condition_wait(&tasks->changed, until);
        if (status == STATUS_CANCELLED) return;
        if (status == STATUS_TIMEOUT) tasks->retry++;
    }
}

void tasks_notice(struct tasks *tasks)
{
    tasks->noticed = true;
    condition_broadcast(&tasks->changed);
}

static void notice(void *context)
{
    tasks_notice(context);
}

void tasks_observe(struct tasks *tasks, const struct agent_task *task)
{
    if (task != NULL) update_probe(tasks, task);
    tasks_notice(tasks);
}

enum status tasks_create(struct node *node, struct tasks **ret_tasks, struct error *error)
{
    struct tasks *tasks = calloc(1, sizeof *tasks);
    if (tasks == NULL) return error_set(error, STATUS_NO_MEMORY, "out of memory");
    tasks->node = node;
    condition_init(&tasks->changed);
    arena_init(&tasks->arena, TASKS_ARENA_BYTES_MAX);
    enum status status = jobs_create(&node->system, notice, tasks, &tasks->jobs, error);
    if (status == STATUS_OK) status = controller_create(&tasks->controller);
    if (status == STATUS_OK)
        status = probes_create(&node->scope, node->options.network, node->options.clock,
                               node->agent, node->execs, &tasks->probes);
    if (status == STATUS_OK) status = scope_spawn(&node->scope, "tasks", tasks_fiber, tasks);
    *ret_tasks = tasks; /* fibers may refer to it: the caller ends its scope before tasks_destroy */
    return status;
}

void tasks_destroy(struct tasks *tasks)
{
    if (tasks == NULL) return;
    probes_destroy(tasks->probes);
    controller_destroy(tasks->controller);
    jobs_destroy(tasks->jobs);
    arena_finish(&tasks->arena);
    free(tasks);
}

struct jobs *tasks_jobs(struct tasks *tasks)
{
    return tasks->jobs;
}

struct tasks_reserved tasks_reserved(const struct tasks *tasks)
{
    return tasks->reserved;
}

void tasks_reason(const struct tasks *tasks, const struct jobs_entry *entry, uint32_t index,
                  char ret_text[CONTROLLER_REASON_BYTES_MAX + 1])
{
    ret_text[0] = '\0';
    for (size_t i = 0; i < tasks->step_job_count; i++) {
        if (tasks->step_jobs[i].create_revision != entry->create_revision) continue;
        if (index < tasks->step_jobs[i].count)
            controller_reason(tasks->controller, (uint32_t)i, index, ret_text);
        return;
    }
}

struct node *tasks_node(const struct tasks *tasks)
{
    return tasks->node;
}
