#include "node/agent.h"

#include "supervise/link.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    AGENT_RETRY_MS_FIRST = 20,
    AGENT_RETRY_MS_MAX = 1000,
    AGENT_SIGNAL_NAME_BYTES = 16,
};

struct request {
    TAILQ_ENTRY(request) all;
    uint64_t number;
    bool answered;
    enum status status;
    uint64_t value;
    struct error error;
    struct condition done;
};

struct agent {
    struct agent_options options;
    struct agent_task *tasks;
    TAILQ_HEAD(, request) requests;
    unsigned request_count;
    uint64_t request_next;
    bool connected;
    bool synchronized;
    uint64_t list_request; /* 0: no LIST under way */
    uint64_t round;
    uint64_t instance, event_seen;
    uint32_t features;
    char missing[SUPERVISE_REASON_BYTES_MAX + 1];
    uint8_t received[SUPERVISE_MESSAGE_BYTES_MAX];
    uint8_t sent[SUPERVISE_MESSAGE_BYTES_MAX];
    bool sending;
    struct condition send_free;
};

/* --- the socket ----------------------------------------------------------------------------------
 */

static enum status socket_connect(struct agent_transport *transport, struct error *error)
{
    struct agent_socket *link = (struct agent_socket *)transport;
    return link_open(link->path, &link->descriptor, error);
}

static void socket_disconnect(struct agent_transport *transport)
{
    struct agent_socket *link = (struct agent_socket *)transport;
    link_close(link->descriptor);
    link->descriptor = -1;
}

static enum status socket_send(struct agent_transport *transport, struct bytes packet,
                               const int *descriptors, size_t descriptor_count)
{
    struct agent_socket *link = (struct agent_socket *)transport;
    for (;;) {
        if (link->descriptor < 0) return STATUS_CLOSED;
        enum status status = link_send(link->descriptor, packet, descriptors, descriptor_count);
        if (status != STATUS_BUSY) return status;
        status = fiber_wait_writable(link->descriptor, DEADLINE_NEVER);
        if (status != STATUS_OK) return status;
    }
}

static enum status socket_receive(struct agent_transport *transport, void *ret_bytes, size_t size,
                                  size_t *ret_size)
{
    struct agent_socket *link = (struct agent_socket *)transport;
    for (;;) {
        if (link->descriptor < 0) return STATUS_CLOSED;
        enum status status = link_receive(link->descriptor, ret_bytes, size, ret_size);
        if (status != STATUS_BUSY) return status;
        status = fiber_wait_readable(link->descriptor, DEADLINE_NEVER);
        if (status != STATUS_OK) return status;
    }
}

void agent_socket_init(struct agent_socket *transport, const char *path)
{
    *transport = (struct agent_socket) {
        .transport = { .connect = socket_connect,
                       .disconnect = socket_disconnect,
                       .send = socket_send,
                       .receive = socket_receive },
        .path = path,
        .descriptor = -1,
    };
}

/* --- what was learned ----------------------------------------------------------------------------
 */

static void copy_bytes(char *ret_text, size_t size, struct bytes bytes)
{
    size_t used = bytes.size < size - 1 ? bytes.size : size - 1;
    if (used > 0) memcpy(ret_text, bytes.data, used);
    ret_text[used] = '\0';
}

void agent_format_exit(uint8_t exit_kind, uint32_t exit_code, char *ret_text, size_t size)
{
    static const char *const names[] = {
        [1] = "SIGHUP",   [2] = "SIGINT",   [3] = "SIGQUIT",  [4] = "SIGILL",   [5] = "SIGTRAP",
        [6] = "SIGABRT",  [7] = "SIGBUS",   [8] = "SIGFPE",   [9] = "SIGKILL",  [10] = "SIGUSR1",
        [11] = "SIGSEGV", [12] = "SIGUSR2", [13] = "SIGPIPE", [14] = "SIGALRM", [15] = "SIGTERM",
        [24] = "SIGXCPU", [25] = "SIGXFSZ", [31] = "SIGSYS",
    };
    ret_text[0] = '\0';
    if (exit_kind == SUPERVISE_EXITED) {
        (void)snprintf(ret_text, size, "exit %" PRIu32, exit_code);
    } else if (exit_kind == SUPERVISE_SIGNALED) {
        char number[AGENT_SIGNAL_NAME_BYTES];
        (void)snprintf(number, sizeof number, "signal %" PRIu32, exit_code);
        bool known = exit_code < sizeof names / sizeof names[0] && names[exit_code] != NULL;
        (void)snprintf(ret_text, size, "killed by %s", known ? names[exit_code] : number);
    } else if (exit_kind == SUPERVISE_NOT_STARTED) {
        (void)snprintf(ret_text, size, "not started");
    }
}

/* The wall time of a boot time, 0: of now. People read it, nothing is decided by it. */
static uint64_t wall_ms_of_boot(struct agent *agent, uint64_t boot_ns)
{
    uint64_t wall, boot;
    clock_wall_ns(agent->options.clock, &wall);
    clock_boot_ns(agent->options.clock, &boot);
    uint64_t ago = boot_ns == 0 || boot_ns > boot ? 0 : boot - boot_ns;
    return (wall > ago ? wall - ago : wall) / 1000000;
}

/* LISTED: it happened before we came; since when, its times tell best. */
static void explain(struct agent *agent, const struct agent_task *task, bool listed)
{
    uint64_t last =
        task->started_at_ns > task->ended_at_ns ? task->started_at_ns : task->ended_at_ns;
    uint64_t at = listed ? last : 0;
    const char *text = task->reason[0] != '\0' ? task->reason : supervise_state_name(task->state);
    reasons_add(agent->options.reasons, wall_ms_of_boot(agent, at), task->job, task->name,
                supervise_state_name(task->state), "%s", text);
}

static void remove_task(struct agent *agent, struct agent_task *task)
{
    HASH_DEL(agent->tasks, task); /* NOLINT: the analyzer loses count of the table's tasks */
    free(task);
}

static void learn_task(struct agent *agent, const struct supervise_task_state *state, bool listed)
{
    struct agent_task *task = NULL;
    HASH_FIND(hh, agent->tasks, &state->task, sizeof state->task, task);
    if (task == NULL) {
        if (HASH_COUNT(agent->tasks) >= SUPERVISE_TASKS_MAX) return;
        task = calloc(1, sizeof *task);
        if (task == NULL) return; /* the next LIST tells it again */
        task->id = state->task;
        HASH_ADD(hh, agent->tasks, id, sizeof task->id, task);
    }
    if (listed) task->round = agent->round;
    bool newer = state->sequence > task->sequence || task->sequence == 0;
    if (!newer && !(listed && state->sequence == task->sequence)) return;
    task->sequence = state->sequence;
    task->incarnation = state->incarnation;
    task->state = (enum supervise_state)state->state;
    task->up = state->up != 0;
    task->exit_kind = state->exit_kind;
    task->exit_code = state->exit_code;
    task->pid = state->pid;
    task->host_pid = state->host_pid;
    task->restarts = state->restarts;
    task->failures = state->failures;
    task->started_at_ns = state->started_at_ns;
    task->ended_at_ns = state->ended_at_ns;
    task->next_start_ns = state->next_start_ns;
    task->cpu_milli = state->cpu_milli;
    task->memory_bytes = state->memory_bytes;
    memcpy(task->ports, state->ports, sizeof task->ports);
    task->port_count = state->port_count;
    copy_bytes(task->job, sizeof task->job, state->job);
    copy_bytes(task->name, sizeof task->name, state->name);
    copy_bytes(task->reason, sizeof task->reason, state->reason);
    if (newer) explain(agent, task, listed);
    agent->options.events.changed(agent->options.context, task);
}

static void learn_zombie(struct agent *agent, const struct supervise_zombie_found *zombie)
{
    struct agent_task *task = NULL;
    HASH_FIND(hh, agent->tasks, &zombie->task, sizeof zombie->task, task);
    char parent[SUPERVISE_REASON_BYTES_MAX];
    copy_bytes(parent, sizeof parent, zombie->parent_name);
    reasons_add(agent->options.reasons, wall_ms_of_boot(agent, 0), task != NULL ? task->job : "",
                task != NULL ? task->name : "?", "zombie",
                "process %" PRIu32 " (%s) left its exited child %" PRIu32 " unreaped for %" PRIu64
                " ms: killed with its subtree",
                zombie->parent_pid, parent, zombie->zombie_pid, zombie->age_ms);
}

/* --- answers -------------------------------------------------------------------------------------
 */

static void answer_request(struct agent *agent, uint64_t number, enum status status, uint64_t value,
                           struct bytes text)
{
    struct request *request;
    TAILQ_FOREACH (request, &agent->requests, all) {
        if (request->number != number) continue;
        request->answered = true;
        request->status = status;
        request->value = value;
        copy_bytes(request->error.text, sizeof request->error.text, text);
        condition_broadcast(&request->done);
        return;
    }
}

static void finish_list(struct agent *agent)
{
    struct agent_task *task, *next;
    HASH_ITER(hh, agent->tasks, task, next)
    {
        if (task->round != agent->round) remove_task(agent, task);
    }
    agent->list_request = 0;
    agent->synchronized = true;
    agent->options.events.changed(agent->options.context, NULL);
}

static void take_message(struct agent *agent, const struct supervise_message *message)
{
    switch (message->kind) {
    case SUPERVISE_TASK_STATE:
        learn_task(agent, &message->task_state, message->request != 0);
        if (message->request == 0) agent->event_seen = message->task_state.sequence;
        break;
    case SUPERVISE_TASK_DROPPED: {
        struct agent_task *task = NULL;
        HASH_FIND(hh, agent->tasks, &message->task_dropped.task, sizeof(struct id), task);
        if (task != NULL && task->sequence <= message->task_dropped.sequence)
            remove_task(agent, task);
        agent->event_seen = message->task_dropped.sequence;
        agent->options.events.changed(agent->options.context, NULL);
        break;
    }
    case SUPERVISE_EXEC_EXITED:
        agent->event_seen = message->exec_exited.sequence;
        agent->options.events.exec_exited(agent->options.context, &message->exec_exited);
        break;
    case SUPERVISE_ZOMBIE_FOUND:
        agent->event_seen = message->zombie_found.sequence;
        learn_zombie(agent, &message->zombie_found);
        break;
    case SUPERVISE_END:
        if (message->request == agent->list_request)
            finish_list(agent);
        else
            answer_request(agent, message->request, STATUS_OK, message->end.count,
                           (struct bytes) { 0 });
        break;
    case SUPERVISE_RESULT:
        answer_request(agent, message->request, message->result.status, message->result.value,
                       message->result.text);
        break;
    default: break; /* an answer we did not ask for */
    }
}

/* --- the link ------------------------------------------------------------------------------------
 */

static enum status send_message(struct agent *agent, const struct supervise_message *message,
                                const int *descriptors, size_t descriptor_count,
                                struct error *error)
{
    while (agent->sending) {
        enum status status = condition_wait(&agent->send_free, DEADLINE_NEVER);
        if (status != STATUS_OK) return status;
    }
    if (!agent->connected) return error_set(error, STATUS_UNAVAILABLE, "unum-init does not answer");
    size_t size;
    enum status status = supervise_encode(message, agent->sent, sizeof agent->sent, &size, error);
    if (status != STATUS_OK) return status;
    agent->sending = true;
    status = agent->options.transport->send(agent->options.transport, bytes_of(agent->sent, size),
                                            descriptors, descriptor_count);
    agent->sending = false;
    condition_signal(&agent->send_free);
    if (status != STATUS_OK && status != STATUS_CANCELLED)
        return error_set(error, STATUS_UNAVAILABLE, "the link to unum-init broke");
    return status;
}

static enum status receive_message(struct agent *agent, struct supervise_message *ret_message,
                                   struct error *error)
{
    size_t size;
    struct agent_transport *transport = agent->options.transport;
    enum status status =
        transport->receive(transport, agent->received, sizeof agent->received, &size);
    if (status != STATUS_OK) return error_set(error, status, "the link to unum-init ended");
    return supervise_decode(bytes_of(agent->received, size), ret_message, error);
}

/* Say hello, ask for the events that were missed, then for all tasks. */
static enum status open_session(struct agent *agent, struct error *error)
{
    struct supervise_message message = { .kind = SUPERVISE_HELLO,
                                         .request = agent->request_next++,
                                         .hello = { .version = SUPERVISE_VERSION } };
    enum status status = send_message(agent, &message, NULL, 0, error);
    if (status != STATUS_OK) return status;
    status = receive_message(agent, &message, error);
    if (status != STATUS_OK) return status;
    if (message.kind != SUPERVISE_WELCOME)
        return error_set(error, STATUS_UNSUPPORTED, "unum-init does not welcome version %d",
                         SUPERVISE_VERSION);
    if (message.welcome.instance != agent->instance) {
        struct agent_task *task, *next;
        HASH_ITER(hh, agent->tasks, task, next) remove_task(agent, task);
        agent->event_seen = 0;
    }
    agent->instance = message.welcome.instance;
    agent->features = message.welcome.features;
    copy_bytes(agent->missing, sizeof agent->missing, message.welcome.missing);

    message = (struct supervise_message) { .kind = SUPERVISE_EVENTS_SINCE,
                                           .request = agent->request_next++,
                                           .events_since = { .sequence = agent->event_seen } };
    status = send_message(agent, &message, NULL, 0, error);
    if (status != STATUS_OK) return status;
    agent->round++;
    agent->list_request = agent->request_next++;
    message = (struct supervise_message) { .kind = SUPERVISE_LIST, .request = agent->list_request };
    return send_message(agent, &message, NULL, 0, error);
}

static void close_session(struct agent *agent)
{
    agent->connected = false;
    agent->synchronized = false;
    agent->list_request = 0;
    agent->options.transport->disconnect(agent->options.transport);
    struct request *request;
    TAILQ_FOREACH (request, &agent->requests, all) {
        if (request->answered) continue;
        request->answered = true;
        request->status = error_set(&request->error, STATUS_UNAVAILABLE,
                                    "the link to unum-init broke; the outcome is unknown");
        condition_broadcast(&request->done);
    }
    agent->options.events.changed(agent->options.context, NULL);
}

static void agent_fiber(void *argument)
{
    struct agent *agent = argument;
    uint64_t retry_ms = AGENT_RETRY_MS_FIRST;
    while (!fiber_cancelled()) {
        struct error error = { 0 };
        struct supervise_message message;
        enum status status = agent->options.transport->connect(agent->options.transport, &error);
        if (status == STATUS_OK) {
            agent->connected = true;
            status = open_session(agent, &error);
            while (status == STATUS_OK) {
                status = receive_message(agent, &message, &error);
                if (status != STATUS_OK) break;
                retry_ms = AGENT_RETRY_MS_FIRST;
                take_message(agent, &message);
            }
            close_session(agent);
        }
        if (fiber_sleep_ns(retry_ms * 1000000) != STATUS_OK) break;
        retry_ms = retry_ms * 2 < AGENT_RETRY_MS_MAX ? retry_ms * 2 : AGENT_RETRY_MS_MAX;
    }
}

/* --- for the daemon ------------------------------------------------------------------------------
 */

enum status agent_create(const struct agent_options *options, struct agent **ret_agent)
{
    struct agent *agent = calloc(1, sizeof *agent);
    if (agent == NULL) return STATUS_NO_MEMORY;
    agent->options = *options;
    agent->request_next = 1;
    TAILQ_INIT(&agent->requests);
    condition_init(&agent->send_free);
    enum status status = scope_spawn(options->scope, "agent", agent_fiber, agent);
    if (status != STATUS_OK) {
        free(agent);
        return status;
    }
    *ret_agent = agent;
    return STATUS_OK;
}

void agent_destroy(struct agent *agent)
{
    if (agent == NULL) return;
    assert(TAILQ_EMPTY(&agent->requests));
    struct agent_task *task, *next;
    HASH_ITER(hh, agent->tasks, task, next) remove_task(agent, task);
    free(agent);
}

enum status agent_request(struct agent *agent, struct supervise_message *message,
                          const int *descriptors, size_t descriptor_count, uint64_t *ret_value,
                          struct error *error)
{
    if (!agent->synchronized)
        return error_set(error, STATUS_UNAVAILABLE, "unum-init does not answer yet");
    if (agent->request_count >= AGENT_REQUESTS_MAX)
        return error_set(error, STATUS_BUSY, "more than %d requests wait for unum-init",
                         AGENT_REQUESTS_MAX);
    struct request request = { .number = agent->request_next++ };
    condition_init(&request.done);
    message->request = request.number;
    TAILQ_INSERT_TAIL(&agent->requests, &request, all);
    agent->request_count++;
    enum status status = send_message(agent, message, descriptors, descriptor_count, error);
    while (status == STATUS_OK && !request.answered)
        status = condition_wait(&request.done, DEADLINE_NEVER);
    TAILQ_REMOVE(&agent->requests, &request, all);
    agent->request_count--;
    if (status != STATUS_OK) return status;
    if (request.status != STATUS_OK)
        return error_set(error, request.status, "%s",
                         request.error.text[0] != '\0' ? request.error.text
                                                       : status_name(request.status));
    if (ret_value != NULL) *ret_value = request.value;
    return STATUS_OK;
}

bool agent_synchronized(const struct agent *agent)
{
    return agent->synchronized;
}

uint64_t agent_instance(const struct agent *agent)
{
    return agent->instance;
}

uint32_t agent_features(const struct agent *agent)
{
    return agent->features;
}

const char *agent_missing(const struct agent *agent)
{
    return agent->missing;
}

const struct agent_task *agent_tasks(const struct agent *agent)
{
    return agent->tasks;
}

size_t agent_task_count(const struct agent *agent)
{
    return HASH_COUNT(agent->tasks);
}

const struct agent_task *agent_find(const struct agent *agent, const struct id *id)
{
    struct agent_task *task = NULL;
    HASH_FIND(hh, agent->tasks, id, sizeof *id, task);
    return task;
}
