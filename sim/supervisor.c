#include "sim/supervisor.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIGNAL_KILL = 9, MS = 1000000 };

/* What is to happen to a simulated process next. */
enum fate { FATE_NONE, FATE_RUNS, FATE_EXITS, FATE_GONE };

struct process {
    bool live; /* from spawn until gone */
    uint64_t incarnation, last_incarnation;
    enum fate fate;
    uint64_t at_ns;
    uint8_t exit_kind;
    uint32_t exit_code;
    uint32_t pid;
};

struct holdings {
    uint32_t cpu_milli;
    uint64_t memory_bytes;
    uint16_t ports[SUPERVISE_PORTS_MAX];
    uint32_t port_count;
};

struct task {
    bool used;
    struct id id;
    struct holdings holds;
    uint64_t sequence;
    char job[LIMIT_NAME_BYTES_MAX + 1], name[LIMIT_NAME_BYTES_MAX + 1];
    char behaviour[16];
    struct policy_spec spec;
    struct process process;
    uint64_t memory_bytes;
    uint64_t restarts_ns[SIM_SUPERVISOR_RESTARTS_MAX]; /* a ring */
    uint64_t restart_count;
};

struct packet {
    STAILQ_ENTRY(packet) queue;
    size_t size;
    uint8_t bytes[];
};

struct event_copy {
    uint64_t sequence;
    size_t size;
    uint8_t *bytes;
};

struct sim_supervisor {
    struct agent_transport transport;
    struct sim_supervisor_options options;
    struct random_seeded random;
    struct policy policy;
    struct policy_task policy_tasks[SIM_SUPERVISOR_TASKS_MAX];
    uint32_t heap[SIM_SUPERVISOR_TASKS_MAX];
    struct task tasks[SIM_SUPERVISOR_TASKS_MAX];
    struct event_copy events[SIM_SUPERVISOR_EVENTS_MAX];
    uint64_t event_last;
    uint64_t instance;
    uint32_t pid_next;
    uint64_t restarts;
    bool connected, streaming;
    STAILQ_HEAD(, packet) outgoing;
    size_t outgoing_count;
    struct condition readable; /* for the daemon */
    struct condition changed;  /* for our fiber: deadlines moved */
    uint8_t memory[SUPERVISE_MESSAGE_BYTES_MAX];
};

static uint64_t now_of(struct sim_supervisor *supervisor)
{
    uint64_t now;
    clock_boot_ns(supervisor->options.clock, &now);
    return now;
}

static uint64_t draw(struct sim_supervisor *supervisor, uint64_t low, uint64_t high)
{
    uint64_t value;
    random_below(&supervisor->random.random, high - low + 1, &value);
    return low + value;
}

/* --- packets to the daemon -----------------------------------------------------------------------
 */

static void queue_packet(struct sim_supervisor *supervisor, const uint8_t *bytes, size_t size)
{
    if (!supervisor->connected) return;
    if (supervisor->outgoing_count >= SIM_SUPERVISOR_PACKETS_MAX) {
        /* As a socket whose reader is stuck: the connection is given up. */
        supervisor->connected = false;
        condition_broadcast(&supervisor->readable);
        return;
    }
    struct packet *packet = malloc(sizeof *packet + size);
    assert(packet != NULL);
    packet->size = size;
    memcpy(packet->bytes, bytes, size);
    STAILQ_INSERT_TAIL(&supervisor->outgoing, packet, queue);
    supervisor->outgoing_count++;
    condition_signal(&supervisor->readable);
}

static size_t encode(struct sim_supervisor *supervisor, const struct supervise_message *message)
{
    size_t size;
    struct error error = { 0 };
    enum status status =
        supervise_encode(message, supervisor->memory, sizeof supervisor->memory, &size, &error);
    assert(status == STATUS_OK);
    return size;
}

static void send_message(struct sim_supervisor *supervisor, const struct supervise_message *message)
{
    queue_packet(supervisor, supervisor->memory, encode(supervisor, message));
}

static void drop_packets(struct sim_supervisor *supervisor)
{
    struct packet *packet;
    while ((packet = STAILQ_FIRST(&supervisor->outgoing)) != NULL) {
        STAILQ_REMOVE_HEAD(&supervisor->outgoing, queue);
        free(packet);
    }
    supervisor->outgoing_count = 0;
}

static struct supervise_message state_message(const struct sim_supervisor *supervisor,
                                              uint32_t slot, uint64_t request)
{
    const struct task *task = &supervisor->tasks[slot];
    const struct policy_task *policy = &supervisor->policy_tasks[slot];
    struct supervise_message message = {
        .kind = SUPERVISE_TASK_STATE,
        .request = request,
        .task_state = {
            .sequence = task->sequence,
            .task = task->id,
            .incarnation = policy->incarnation,
            .state = policy->state,
            .up = policy_is_up(policy),
            .exit_kind = policy->exit_kind,
            .exit_code = policy->exit_code,
            .pid = policy->pid,
            .host_pid = policy->pid,
            .restarts = policy->restarts,
            .failures = policy->failures,
            .started_at_ns = policy->started_at_ns,
            .ended_at_ns = policy->ended_at_ns,
            .next_start_ns = policy->next_start_ns,
            .cpu_milli = task->holds.cpu_milli,
            .memory_bytes = task->holds.memory_bytes,
            .port_count = task->holds.port_count,
            .job = bytes_of_text(task->job),
            .name = bytes_of_text(task->name),
            .reason = bytes_of_text(policy->reason),
        },
    };
    memcpy(message.task_state.ports, task->holds.ports, sizeof task->holds.ports);
    return message;
}

/* Number the event, keep it in the ring, and tell the daemon when it listens. */
static void emit(struct sim_supervisor *supervisor, struct supervise_message *message,
                 uint64_t *sequence)
{
    *sequence = ++supervisor->event_last;
    size_t size = encode(supervisor, message);
    struct event_copy *copy =
        &supervisor->events[supervisor->event_last % SIM_SUPERVISOR_EVENTS_MAX];
    free(copy->bytes);
    copy->bytes = malloc(size);
    assert(copy->bytes != NULL);
    memcpy(copy->bytes, supervisor->memory, size);
    copy->size = size;
    copy->sequence = supervisor->event_last;
    if (supervisor->streaming) queue_packet(supervisor, supervisor->memory, size);
}

static void report(struct sim_supervisor *supervisor, uint32_t slot)
{
    struct task *task = &supervisor->tasks[slot];
    const struct policy_task *policy = &supervisor->policy_tasks[slot];
    task->sequence = supervisor->event_last + 1;
    struct supervise_message message = state_message(supervisor, slot, 0);
    emit(supervisor, &message, &message.task_state.sequence);
    supervisor->options.changed(supervisor->options.context, task->name,
                                supervise_state_name(policy->state), policy->reason);
}

/* --- processes
 * ------------------------------------------------------------------------------------ */

static void fail(struct sim_supervisor *supervisor, const struct task *task, const char *what)
{
    char text[256];
    (void)snprintf(text, sizeof text, "task %s: %s", task->name, what);
    supervisor->options.failed(supervisor->options.context, text);
}

static void check_restarts(struct sim_supervisor *supervisor, struct task *task)
{
    uint64_t now = now_of(supervisor), limit = task->spec.restarts_limit;
    if (limit > 0 && limit < SIM_SUPERVISOR_RESTARTS_MAX && task->restart_count >= limit) {
        uint64_t before =
            task->restarts_ns[(task->restart_count - limit) % SIM_SUPERVISOR_RESTARTS_MAX];
        if (now < before + (uint64_t)task->spec.restarts_period_ms * MS)
            fail(supervisor, task, "restarted more often than it may be");
    }
    task->restarts_ns[task->restart_count++ % SIM_SUPERVISOR_RESTARTS_MAX] = now;
}

static void check_memory(struct sim_supervisor *supervisor, const struct task *task)
{
    uint64_t used = 0;
    for (uint32_t slot = 0; slot < SIM_SUPERVISOR_TASKS_MAX; slot++)
        if (supervisor->tasks[slot].process.live) used += supervisor->tasks[slot].memory_bytes;
    if (used + task->memory_bytes > supervisor->options.memory_bytes)
        fail(supervisor, task, "started though the machine's memory is promised to others");
}

static void spawn_process(struct sim_supervisor *supervisor, uint32_t slot, uint64_t incarnation)
{
    struct task *task = &supervisor->tasks[slot];
    struct process *process = &task->process;
    if (process->live) fail(supervisor, task, "two live incarnations");
    if (sim_supervisor_live_named(supervisor, task->name) > (process->live ? 1 : 0))
        fail(supervisor, task, "started while another of this name lives");
    if (incarnation <= process->last_incarnation)
        fail(supervisor, task, "an incarnation's number does not rise");
    if (process->last_incarnation != 0) check_restarts(supervisor, task);
    check_memory(supervisor, task);
    if (process->last_incarnation != 0) supervisor->restarts++;
    *process = (struct process) {
        .live = true,
        .incarnation = incarnation,
        .last_incarnation = incarnation,
        .fate = FATE_RUNS,
        .at_ns = now_of(supervisor) + draw(supervisor, 1, 20) * MS,
        .pid = ++supervisor->pid_next,
    };
}

static void doom(struct sim_supervisor *supervisor, struct process *process, uint8_t kind,
                 uint32_t code, uint64_t after_ms)
{
    process->fate = FATE_EXITS;
    process->at_ns = now_of(supervisor) + after_ms * MS;
    process->exit_kind = kind;
    process->exit_code = code;
}

static void signal_process(struct sim_supervisor *supervisor, struct task *task, uint8_t signal)
{
    struct process *process = &task->process;
    if (!process->live || process->fate == FATE_GONE) return;
    if (strcmp(task->behaviour, "stubborn") == 0 && signal != SIGNAL_KILL) return;
    doom(supervisor, process, SUPERVISE_SIGNALED, signal, draw(supervisor, 1, 50));
}

static void step(struct sim_supervisor *supervisor, struct policy_event event);

static void perform(struct sim_supervisor *supervisor, const struct policy_action *action)
{
    struct task *task = &supervisor->tasks[action->slot];
    switch (action->kind) {
    case POLICY_SPAWN: spawn_process(supervisor, action->slot, action->incarnation); break;
    case POLICY_SIGNAL: signal_process(supervisor, task, action->signal); break;
    case POLICY_KILL_TREE:
        if (task->process.live && task->process.fate != FATE_GONE)
            doom(supervisor, &task->process, SUPERVISE_SIGNALED, SIGNAL_KILL,
                 draw(supervisor, 0, 30));
        break;
    case POLICY_REPORT: report(supervisor, action->slot); break;
    }
}

static void step(struct sim_supervisor *supervisor, struct policy_event event)
{
    struct policy_actions actions;
    event.now_ns = now_of(supervisor);
    random_u64(&supervisor->random.random, &event.random);
    policy_step(&supervisor->policy, &event, &actions);
    for (size_t i = 0; i < actions.count; i++) perform(supervisor, &actions.list[i]);
    condition_signal(&supervisor->changed);
}

/* The process came to its next point. */
static void advance(struct sim_supervisor *supervisor, uint32_t slot)
{
    struct task *task = &supervisor->tasks[slot];
    struct process *process = &task->process;
    struct policy_event event = { .slot = slot, .incarnation = process->incarnation };
    enum fate fate = process->fate;
    process->fate = FATE_NONE;
    if (fate == FATE_RUNS && strcmp(task->behaviour, "broken") == 0) {
        process->fate = FATE_GONE;
        process->at_ns = now_of(supervisor);
        event.kind = POLICY_EXITED;
        event.exit_kind = SUPERVISE_NOT_STARTED;
        event.exit_code = 2;
        event.text = "the program is not there";
        step(supervisor, event);
    } else if (fate == FATE_RUNS) {
        if (strcmp(task->behaviour, "crash") == 0)
            doom(supervisor, process, SUPERVISE_EXITED, 1, draw(supervisor, 0, 3000));
        if (strcmp(task->behaviour, "short") == 0)
            doom(supervisor, process, SUPERVISE_EXITED, 0, draw(supervisor, 10, 5000));
        event.kind = POLICY_SPAWNED;
        step(supervisor, event);
        event.kind = POLICY_PROGRAM_RUNS;
        event.pid = process->pid;
        step(supervisor, event);
        event.kind = POLICY_IS_READY;
        if (task->spec.readiness == SUPERVISE_READINESS_NOTIFY) step(supervisor, event);
    } else if (fate == FATE_EXITS) {
        process->fate = FATE_GONE;
        process->at_ns = now_of(supervisor) + draw(supervisor, 0, 20) * MS;
        event.kind = POLICY_EXITED;
        event.exit_kind = process->exit_kind;
        event.exit_code = process->exit_code;
        step(supervisor, event);
    } else if (fate == FATE_GONE) {
        process->live = false;
        event.kind = POLICY_GONE;
        step(supervisor, event);
    }
}

static uint64_t next_deadline(const struct sim_supervisor *supervisor)
{
    uint64_t next = policy_next_ns(&supervisor->policy);
    for (uint32_t slot = 0; slot < SIM_SUPERVISOR_TASKS_MAX; slot++) {
        const struct task *task = &supervisor->tasks[slot];
        if (!task->used || task->process.fate == FATE_NONE) continue;
        if (task->process.at_ns < next) next = task->process.at_ns;
    }
    return next;
}

static void supervisor_fiber(void *argument)
{
    struct sim_supervisor *supervisor = argument;
    for (;;) {
        /* Boot and monotonic time are the same in this world. */
        enum status status = condition_wait(&supervisor->changed, next_deadline(supervisor));
        if (status == STATUS_CANCELLED) return;
        uint64_t now = now_of(supervisor);
        while (policy_next_ns(&supervisor->policy) <= now)
            step(supervisor, (struct policy_event) { .kind = POLICY_TIME });
        for (uint32_t slot = 0; slot < SIM_SUPERVISOR_TASKS_MAX; slot++) {
            struct task *task = &supervisor->tasks[slot];
            if (task->used && task->process.fate != FATE_NONE && task->process.at_ns <= now)
                advance(supervisor, slot);
        }
    }
}

/* --- requests
 * ------------------------------------------------------------------------------------- */

static void copy_bytes(char *ret_text, size_t size, struct bytes bytes)
{
    size_t used = bytes.size < size - 1 ? bytes.size : size - 1;
    if (used > 0) memcpy(ret_text, bytes.data, used);
    ret_text[used] = '\0';
}

static bool find_slot(const struct sim_supervisor *supervisor, const struct id *id,
                      uint32_t *ret_slot)
{
    for (uint32_t slot = 0; slot < SIM_SUPERVISOR_TASKS_MAX; slot++) {
        if (!supervisor->tasks[slot].used || !id_equal(&supervisor->tasks[slot].id, id)) continue;
        *ret_slot = slot;
        return true;
    }
    return false;
}

static void answer(struct sim_supervisor *supervisor, uint64_t request, enum status status,
                   uint64_t value, const char *text)
{
    struct supervise_message message = {
        .kind = SUPERVISE_RESULT,
        .request = request,
        .result = { .status = status, .value = value, .text = bytes_of_text(text) },
    };
    send_message(supervisor, &message);
}

static struct holdings holdings_of(const struct supervise_start *start)
{
    bool own_network = (start->flags & SUPERVISE_OWN_NETWORK) != 0;
    struct holdings holds = { .cpu_milli = start->cpu_milli,
                              .memory_bytes = start->memory_bytes,
                              .port_count = own_network ? 0 : start->port_count };
    for (uint32_t i = 0; i < holds.port_count; i++) holds.ports[i] = start->ports[i];
    return holds;
}

static void start_task(struct sim_supervisor *supervisor, uint64_t request,
                       const struct supervise_start *start)
{
    uint32_t slot;
    if (find_slot(supervisor, &start->task, &slot)) {
        answer(supervisor, request, STATUS_EXISTS, 0, "the task is known already");
        return;
    }
    for (slot = 0; slot < SIM_SUPERVISOR_TASKS_MAX && supervisor->tasks[slot].used; slot++) {
    }
    if (slot == SIM_SUPERVISOR_TASKS_MAX) {
        answer(supervisor, request, STATUS_BUSY, 0, "the table of tasks is full");
        return;
    }
    struct task *task = &supervisor->tasks[slot];
    *task = (struct task) { .used = true, .id = start->task, .memory_bytes = start->memory_bytes };
    copy_bytes(task->job, sizeof task->job, start->job);
    copy_bytes(task->name, sizeof task->name, start->name);
    task->holds = holdings_of(start);
    const char *words[SUPERVISE_STRINGS_COUNT_MAX > 32 ? 32 : SUPERVISE_STRINGS_COUNT_MAX];
    if (start->argv.count < sizeof words / sizeof words[0]) {
        supervise_strings_point(&start->argv, words, sizeof words / sizeof words[0]);
        (void)snprintf(task->behaviour, sizeof task->behaviour, "%s", words[0]);
    }
    task->spec = (struct policy_spec) {
        .first_incarnation = start->incarnation,
        .lease_until_ns = start->lease_until_ns,
        .restarts_period_ms = start->restarts_period_ms,
        .backoff_base_ms = start->backoff_base_ms,
        .backoff_cap_ms = start->backoff_cap_ms,
        .stable_after_ms = start->stable_after_ms,
        .stop_grace_ms = start->stop_grace_ms,
        .start_timeout_ms = start->start_timeout_ms,
        .restarts_limit = start->restarts_limit,
        .restart = start->restart,
        .readiness = start->readiness,
        .stop_signal = start->stop_signal,
        .exclusive = (start->flags & SUPERVISE_EXCLUSIVE) != 0,
    };
    step(supervisor,
         (struct policy_event) { .kind = POLICY_WANTED, .slot = slot, .spec = &task->spec });
    answer(supervisor, request, STATUS_OK, start->incarnation, "");
}

static void list_tasks(struct sim_supervisor *supervisor, uint64_t request)
{
    uint64_t count = 0;
    for (uint32_t slot = 0; slot < SIM_SUPERVISOR_TASKS_MAX; slot++) {
        if (!supervisor->tasks[slot].used) continue;
        struct supervise_message message = state_message(supervisor, slot, request);
        send_message(supervisor, &message);
        count++;
    }
    struct supervise_message end = {
        .kind = SUPERVISE_END,
        .request = request,
        .end = { .count = count, .event_last = supervisor->event_last },
    };
    send_message(supervisor, &end);
}

static void send_events(struct sim_supervisor *supervisor, uint64_t request, uint64_t since)
{
    uint64_t first = supervisor->event_last >= SIM_SUPERVISOR_EVENTS_MAX
                         ? supervisor->event_last - SIM_SUPERVISOR_EVENTS_MAX + 1
                         : 1;
    if (since > supervisor->event_last) since = supervisor->event_last;
    uint64_t missed = since + 1 < first ? first - since - 1 : 0;
    struct supervise_message end = {
        .kind = SUPERVISE_END,
        .request = request,
        .end = { .count = missed, .event_last = supervisor->event_last },
    };
    send_message(supervisor, &end);
    supervisor->streaming = true;
    for (uint64_t number = since + 1 < first ? first : since + 1; number <= supervisor->event_last;
         number++) {
        const struct event_copy *copy = &supervisor->events[number % SIM_SUPERVISOR_EVENTS_MAX];
        if (copy->sequence == number) queue_packet(supervisor, copy->bytes, copy->size);
    }
}

static void drop_task(struct sim_supervisor *supervisor, uint64_t request, uint32_t slot)
{
    struct task *task = &supervisor->tasks[slot];
    if (!policy_may_drop(&supervisor->policy_tasks[slot])) {
        answer(supervisor, request, STATUS_BUSY, 0, "the task still runs");
        return;
    }
    step(supervisor, (struct policy_event) { .kind = POLICY_DROP, .slot = slot });
    struct supervise_message message = { .kind = SUPERVISE_TASK_DROPPED,
                                         .task_dropped = { .sequence = supervisor->event_last + 1,
                                                           .task = task->id } };
    emit(supervisor, &message, &message.task_dropped.sequence);
    *task = (struct task) { 0 };
    answer(supervisor, request, STATUS_OK, 0, "");
}

static void take_task_request(struct sim_supervisor *supervisor,
                              const struct supervise_message *message)
{
    static const enum policy_event_kind kinds[] = {
        [SUPERVISE_STOP] = POLICY_STOP,
        [SUPERVISE_RESTART] = POLICY_RESTART,
        [SUPERVISE_KILL] = POLICY_KILL,
    };
    uint32_t slot;
    const struct id *id = message->kind == SUPERVISE_REPORT_READY  ? &message->report_ready.task
                          : message->kind == SUPERVISE_RENEW_LEASE ? &message->renew_lease.task
                                                                   : &message->task.task;
    if (!find_slot(supervisor, id, &slot)) {
        answer(supervisor, message->request, STATUS_NOT_FOUND, 0, "no such task");
        return;
    }
    struct policy_event event = { .slot = slot };
    if (message->kind == SUPERVISE_DROP) {
        drop_task(supervisor, message->request, slot);
        return;
    }
    if (message->kind == SUPERVISE_REPORT_READY) {
        event.kind = message->report_ready.ready ? POLICY_IS_READY : POLICY_NOT_READY;
        event.incarnation = message->report_ready.incarnation;
        event.text = "its probe failed";
    } else if (message->kind == SUPERVISE_RENEW_LEASE) {
        event.kind = POLICY_LEASE;
        event.lease_until_ns = message->renew_lease.lease_until_ns;
    } else {
        event.kind = kinds[message->kind];
    }
    step(supervisor, event);
    answer(supervisor, message->request, STATUS_OK, 0, "");
}

static void take_request(struct sim_supervisor *supervisor, const struct supervise_message *message)
{
    switch (message->kind) {
    case SUPERVISE_HELLO: {
        struct supervise_message welcome = {
            .kind = SUPERVISE_WELCOME,
            .request = message->request,
            .welcome = { .version = SUPERVISE_VERSION,
                         .features = SUPERVISE_FEATURES_ALL,
                         .instance = supervisor->instance,
                         .event_last = supervisor->event_last,
                         .event_first = 1 },
        };
        send_message(supervisor, &welcome);
        break;
    }
    case SUPERVISE_START: start_task(supervisor, message->request, &message->start); break;
    case SUPERVISE_LIST: list_tasks(supervisor, message->request); break;
    case SUPERVISE_EVENTS_SINCE:
        send_events(supervisor, message->request, message->events_since.sequence);
        break;
    case SUPERVISE_STOP:
    case SUPERVISE_RESTART:
    case SUPERVISE_KILL:
    case SUPERVISE_DROP:
    case SUPERVISE_REPORT_READY:
    case SUPERVISE_RENEW_LEASE: take_task_request(supervisor, message); break;
    default:
        answer(supervisor, message->request, STATUS_UNSUPPORTED, 0, "not in the simulator");
        break;
    }
}

/* --- the transport
 * -------------------------------------------------------------------------------- */

static enum status transport_connect(struct agent_transport *transport, struct error *error)
{
    (void)error;
    struct sim_supervisor *supervisor = (struct sim_supervisor *)transport;
    drop_packets(supervisor);
    supervisor->connected = true;
    supervisor->streaming = false;
    return STATUS_OK;
}

static void transport_disconnect(struct agent_transport *transport)
{
    struct sim_supervisor *supervisor = (struct sim_supervisor *)transport;
    supervisor->connected = supervisor->streaming = false;
    drop_packets(supervisor);
    condition_broadcast(&supervisor->readable);
}

static enum status transport_send(struct agent_transport *transport, struct bytes packet,
                                  const int *descriptors, size_t descriptor_count)
{
    (void)descriptors;
    (void)descriptor_count;
    struct sim_supervisor *supervisor = (struct sim_supervisor *)transport;
    enum status status = fiber_sleep_ns(draw(supervisor, 10, 200) * 1000);
    if (status != STATUS_OK) return status;
    if (!supervisor->connected) return STATUS_CLOSED;
    struct supervise_message message;
    struct error error = { 0 };
    status = supervise_decode(packet, &message, &error);
    if (status != STATUS_OK) {
        supervisor->options.failed(supervisor->options.context, error.text);
        return STATUS_CLOSED;
    }
    take_request(supervisor, &message);
    return STATUS_OK;
}

static enum status transport_receive(struct agent_transport *transport, void *ret_bytes,
                                     size_t size, size_t *ret_size)
{
    struct sim_supervisor *supervisor = (struct sim_supervisor *)transport;
    while (STAILQ_EMPTY(&supervisor->outgoing)) {
        if (!supervisor->connected) return STATUS_CLOSED;
        enum status status = condition_wait(&supervisor->readable, DEADLINE_NEVER);
        if (status != STATUS_OK) return status;
    }
    struct packet *packet = STAILQ_FIRST(&supervisor->outgoing);
    STAILQ_REMOVE_HEAD(&supervisor->outgoing, queue);
    supervisor->outgoing_count--;
    assert(packet->size <= size);
    memcpy(ret_bytes, packet->bytes, packet->size);
    *ret_size = packet->size;
    free(packet);
    return STATUS_OK;
}

/* --- life
 * ----------------------------------------------------------------------------------------- */

enum status sim_supervisor_create(const struct sim_supervisor_options *options,
                                  struct sim_supervisor **ret_supervisor)
{
    struct sim_supervisor *supervisor = calloc(1, sizeof *supervisor);
    if (supervisor == NULL) return STATUS_NO_MEMORY;
    supervisor->transport = (struct agent_transport) {
        .connect = transport_connect,
        .disconnect = transport_disconnect,
        .send = transport_send,
        .receive = transport_receive,
    };
    supervisor->options = *options;
    random_seeded_init(&supervisor->random, options->seed);
    STAILQ_INIT(&supervisor->outgoing);
    condition_init(&supervisor->readable);
    condition_init(&supervisor->changed);
    sim_supervisor_restart(supervisor);
    enum status status = scope_spawn(options->scope, "unum-init", supervisor_fiber, supervisor);
    if (status != STATUS_OK) {
        free(supervisor);
        return status;
    }
    *ret_supervisor = supervisor;
    return STATUS_OK;
}

void sim_supervisor_restart(struct sim_supervisor *supervisor)
{
    transport_disconnect(&supervisor->transport);
    memset(supervisor->policy_tasks, 0, sizeof supervisor->policy_tasks);
    memset(supervisor->heap, 0, sizeof supervisor->heap);
    memset(supervisor->tasks, 0, sizeof supervisor->tasks);
    policy_init(&supervisor->policy, supervisor->policy_tasks, supervisor->heap,
                SIM_SUPERVISOR_TASKS_MAX);
    for (size_t i = 0; i < SIM_SUPERVISOR_EVENTS_MAX; i++) {
        free(supervisor->events[i].bytes);
        supervisor->events[i] = (struct event_copy) { 0 };
    }
    supervisor->event_last = 0;
    random_u64(&supervisor->random.random, &supervisor->instance);
}

void sim_supervisor_destroy(struct sim_supervisor *supervisor)
{
    if (supervisor == NULL) return;
    sim_supervisor_restart(supervisor);
    free(supervisor);
}

struct agent_transport *sim_supervisor_transport(struct sim_supervisor *supervisor)
{
    return &supervisor->transport;
}

bool sim_supervisor_kill_one(struct sim_supervisor *supervisor)
{
    uint32_t candidates[SIM_SUPERVISOR_TASKS_MAX], count = 0;
    for (uint32_t slot = 0; slot < SIM_SUPERVISOR_TASKS_MAX; slot++) {
        const struct process *process = &supervisor->tasks[slot].process;
        if (process->live && process->fate == FATE_NONE) candidates[count++] = slot;
    }
    if (count == 0) return false;
    struct task *task = &supervisor->tasks[candidates[draw(supervisor, 0, count - 1)]];
    doom(supervisor, &task->process, SUPERVISE_SIGNALED, SIGNAL_KILL, 0);
    condition_signal(&supervisor->changed);
    return true;
}

struct sim_supervisor_figures sim_supervisor_figures(const struct sim_supervisor *supervisor)
{
    struct sim_supervisor_figures figures = { .restarts = supervisor->restarts };
    for (uint32_t slot = 0; slot < SIM_SUPERVISOR_TASKS_MAX; slot++) {
        if (!supervisor->tasks[slot].used) continue;
        const struct policy_task *policy = &supervisor->policy_tasks[slot];
        figures.tasks++;
        figures.live += supervisor->tasks[slot].process.live;
        figures.up += policy_is_up(policy);
        figures.held += policy->state == SUPERVISE_HELD;
    }
    return figures;
}

bool sim_supervisor_task_is_up(const struct sim_supervisor *supervisor, const char *name)
{
    for (uint32_t slot = 0; slot < SIM_SUPERVISOR_TASKS_MAX; slot++) {
        if (supervisor->tasks[slot].used && strcmp(supervisor->tasks[slot].name, name) == 0 &&
            policy_is_up(&supervisor->policy_tasks[slot]))
            return true;
    }
    return false;
}

unsigned sim_supervisor_live_named(const struct sim_supervisor *supervisor, const char *name)
{
    unsigned count = 0;
    for (uint32_t slot = 0; slot < SIM_SUPERVISOR_TASKS_MAX; slot++) {
        const struct task *task = &supervisor->tasks[slot];
        if (task->used && task->process.live && strcmp(task->name, name) == 0) count++;
    }
    return count;
}
