/* Desired and observed tasks, joined for people. */
#include "node/node_internal.h"
#include "node/tasks.h"
#include "reactor/host.h"
#include "schedule/controller.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct listing {
    struct tasks *tasks;
    struct node *node;
    struct arena *arena;
    const struct agent_task **observed; /* by job, then index */
    size_t observed_count;
    uint64_t boot_ns, wall_ms;
    Unum__V1__Task **list;
    size_t count, room;
};

static void index_of(const struct agent_task *task, uint32_t *ret_index)
{
    char job[LIMIT_NAME_BYTES_MAX + 1];
    if (job_task_name_parse(task->name, job, ret_index) != STATUS_OK) *ret_index = 0;
}

static int compare_observed(const void *left, const void *right)
{
    const struct agent_task *a = *(const struct agent_task *const *)left;
    const struct agent_task *b = *(const struct agent_task *const *)right;
    int order = strcmp(a->job, b->job);
    if (order != 0) return order;
    uint32_t index_a, index_b;
    index_of(a, &index_a);
    index_of(b, &index_b);
    if (index_a != index_b) return index_a < index_b ? -1 : 1;
    return memcmp(&a->id, &b->id, sizeof a->id);
}

static char *text(const char *constant)
{
    return (char *)constant;
}

static char *copy(struct listing *listing, const char *constant)
{
    char *made = arena_copy_text(listing->arena, constant, strlen(constant));
    return made == NULL ? text("") : made;
}

static Unum__V1__Task *add_task(struct listing *listing)
{
    Unum__V1__Task *task = arena_take(listing->arena, sizeof *task);
    if (task == NULL || listing->count == listing->room) return NULL;
    unum__v1__task__init(task);
    listing->list[listing->count++] = task;
    return task;
}

static void describe_observed(struct listing *listing, Unum__V1__Task *task,
                              const struct agent_task *observed)
{
    char exit[64];
    agent_format_exit(observed->exit_kind, observed->exit_code, exit, sizeof exit);
    task->id = (ProtobufCBinaryData) { .len = ID_BYTES,
                                       .data = (uint8_t *)copy(listing, "................") };
    memcpy(task->id.data, observed->id.bytes, ID_BYTES);
    task->incarnation = observed->incarnation;
    task->state = text(supervise_state_name(observed->state));
    task->pid = observed->host_pid != 0 ? observed->host_pid : observed->pid;
    task->restarts = observed->restarts;
    task->reason = copy(listing, observed->reason);
    task->exit = copy(listing, exit);
    bool runs = observed->state == SUPERVISE_RUNNING || observed->state == SUPERVISE_READY ||
                observed->state == SUPERVISE_STOPPING;
    if (runs && observed->started_at_ns > 0 && observed->started_at_ns <= listing->boot_ns) {
        task->uptime_ms = (listing->boot_ns - observed->started_at_ns) / 1000000;
        task->started_wall_ms = listing->wall_ms - task->uptime_ms;
    }
    if (observed->next_start_ns > listing->boot_ns)
        task->next_start_in_ms = (observed->next_start_ns - listing->boot_ns) / 1000000 + 1;
    struct host_usage usage;
    if (runs && !listing->node->options.simulation && observed->pid != 0 &&
        host_process_usage(observed->pid, &usage) == STATUS_OK) {
        task->memory_bytes = usage.memory_bytes;
        uint64_t milli_seconds = task->uptime_ms > 0 ? task->uptime_ms : 1;
        task->cpu_milli = usage.cpu_ns / 1000 / milli_seconds;
    }
}

static void describe_ports(struct listing *listing, Unum__V1__Task *task, const Unum__V1__Job *job,
                           uint32_t index)
{
    task->ports = arena_take(listing->arena, (job->n_ports + 1) * sizeof(char *));
    for (size_t i = 0; task->ports != NULL && i < job->n_ports; i++) {
        char port[LIMIT_NAME_BYTES_MAX + 16];
        (void)snprintf(port, sizeof port, "%s:%" PRIu32, job->ports[i]->name,
                       job->ports[i]->port + job->ports[i]->step * index);
        task->ports[task->n_ports++] = copy(listing, port);
    }
}

static const struct agent_task *find_observed(const struct listing *listing, const char *job,
                                              const char *name)
{
    size_t low = 0, high = listing->observed_count;
    uint32_t wanted, found;
    char ignored[LIMIT_NAME_BYTES_MAX + 1];
    if (job_task_name_parse(name, ignored, &wanted) != STATUS_OK) return NULL;
    const struct agent_task *best = NULL;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(listing->observed[middle]->job, job);
        index_of(listing->observed[middle], &found);
        if (order == 0) order = found < wanted ? -1 : found > wanted;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    /* Of several incarnations of one name (an old id on its way out) the newest speaks for it. */
    for (; low < listing->observed_count; low++) {
        const struct agent_task *task = listing->observed[low];
        index_of(task, &found);
        if (strcmp(task->job, job) != 0 || found != wanted) break;
        if (best == NULL || task->incarnation > best->incarnation) best = task;
    }
    return best;
}

static enum status list_desired(struct listing *listing, const struct jobs_entry *entry)
{
    const Unum__V1__Job *job = entry->job;
    uint32_t count = job->count == 0 ? 1 : job->count;
    for (uint32_t index = 0; index < count; index++) {
        char name[JOB_TASK_NAME_BYTES_MAX + 1];
        job_task_name(job->name, index, name);
        const struct agent_task *observed = find_observed(listing, job->name, name);
        if (job->stopped && observed == NULL) continue;
        Unum__V1__Task *task = add_task(listing);
        if (task == NULL) return STATUS_NO_MEMORY;
        task->name = copy(listing, name);
        task->job = copy(listing, job->name);
        task->project =
            text(job->project == NULL || job->project[0] == '\0' ? "default" : job->project);
        task->machine = text(listing->node->options.machine_name);
        describe_ports(listing, task, job, index);
        if (observed != NULL) {
            describe_observed(listing, task, observed);
            continue;
        }
        char reason[CONTROLLER_REASON_BYTES_MAX + 1];
        tasks_reason(listing->tasks, entry, index, reason);
        task->state = text("pending");
        task->reason = copy(listing, reason);
    }
    return STATUS_OK;
}

static enum status prepare(struct listing *listing, const char *job)
{
    struct jobs *jobs = tasks_jobs(listing->tasks);
    size_t observed_count = agent_task_count(listing->node->agent);
    listing->room = 0;
    for (size_t i = 0; i < jobs_count(jobs); i++) {
        const Unum__V1__Job *desired = jobs_at(jobs, i)->job;
        if (job == NULL || strcmp(job, desired->name) == 0)
            listing->room += desired->count == 0 ? 1 : desired->count;
    }
    listing->list = arena_take(listing->arena, (listing->room + 1) * sizeof(void *));
    listing->observed = arena_take(listing->arena, (observed_count + 1) * sizeof(void *));
    if (listing->list == NULL || listing->observed == NULL) return STATUS_NO_MEMORY;
    for (const struct agent_task *task = agent_tasks(listing->node->agent); task != NULL;
         task = task->hh.next)
        if (listing->observed_count < observed_count)
            listing->observed[listing->observed_count++] = task;
    qsort(listing->observed, listing->observed_count, sizeof(void *), compare_observed);
    return STATUS_OK;
}

enum status tasks_list(struct tasks *tasks, const char *job, struct arena *arena,
                       Unum__V1__Task ***ret_tasks, size_t *ret_count, struct error *error)
{
    struct node *node = tasks_node(tasks);
    struct listing listing = { .tasks = tasks, .node = node, .arena = arena };
    if (job != NULL && job[0] == '\0') job = NULL;
    enum status status = jobs_refresh(tasks_jobs(tasks), error);
    if (status != STATUS_OK) return status;
    uint64_t wall;
    clock_boot_ns(node->options.clock, &listing.boot_ns);
    clock_wall_ns(node->options.clock, &wall);
    listing.wall_ms = wall / 1000000;
    status = prepare(&listing, job);
    bool found = job == NULL;
    for (size_t i = 0; status == STATUS_OK && i < jobs_count(tasks_jobs(tasks)); i++) {
        const struct jobs_entry *entry = jobs_at(tasks_jobs(tasks), i);
        if (job != NULL && strcmp(job, entry->job->name) != 0) continue;
        found = true;
        status = list_desired(&listing, entry);
    }
    if (status != STATUS_OK) return error_set(error, status, "the list is too long for one answer");
    if (!found)
        return error_set(error, STATUS_NOT_FOUND, "there is no job %s; `unum ps` lists what runs",
                         job);
    *ret_tasks = listing.list;
    *ret_count = listing.count;
    return STATUS_OK;
}

enum status tasks_find(struct tasks *tasks, const char *name, const struct agent_task **ret_task,
                       struct error *error)
{
    const struct agent_task *found = NULL;
    for (const struct agent_task *task = agent_tasks(tasks_node(tasks)->agent); task != NULL;
         task = task->hh.next) {
        if (strcmp(task->name, name) != 0) continue;
        if (found == NULL || task->incarnation > found->incarnation) found = task;
    }
    if (found == NULL)
        return error_set(error, STATUS_NOT_FOUND, "no task %s runs; `unum ps` lists the tasks",
                         name);
    if (found->pid == 0)
        return error_set(error, STATUS_NOT_FOUND, "%s does not run: it is %s", name,
                         supervise_state_name(found->state));
    *ret_task = found;
    return STATUS_OK;
}
