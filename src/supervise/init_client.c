/* Client: unumd's requests, checked one by one, and the events it has not seen yet. */
#include "supervise/init.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    REQUESTS_BATCH_MAX = 64, /* per turn of the loop */
    EVENT_BYTES_MAX = 1024,
};

_Static_assert(EVENT_BYTES_MAX > SUPERVISE_HEAD_BYTES + 192 + 2 * LIMIT_NAME_BYTES_MAX +
                                     SUPERVISE_REASON_BYTES_MAX,
               "every event fits");

/* ---- the ring of events: u32 size, then the packet; wraps byte by byte ---- */

static void ring_copy_in(struct init_ring *ring, uint64_t at, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) ring->bytes[(at + i) % INIT_RING_BYTES] = bytes[i];
}

static void ring_copy_out(const struct init_ring *ring, uint64_t at, uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) bytes[i] = ring->bytes[(at + i) % INIT_RING_BYTES];
}

static size_t ring_size_at(const struct init_ring *ring, uint64_t at)
{
    uint8_t head[4];
    ring_copy_out(ring, at, head, sizeof head);
    return load_u32_le(head);
}

static void ring_put(struct init_ring *ring, const uint8_t *packet, size_t size)
{
    while (ring->head + 4 + size - ring->tail > INIT_RING_BYTES) {
        ring->tail += 4 + ring_size_at(ring, ring->tail);
        ring->first++;
    }
    uint8_t head[4];
    store_u32_le(head, (uint32_t)size);
    ring_copy_in(ring, ring->head, head, sizeof head);
    ring_copy_in(ring, ring->head + 4, packet, size);
    ring->head += 4 + size;
}

void init_event(struct init *init, struct supervise_message *message)
{
    uint8_t packet[EVENT_BYTES_MAX];
    size_t size = 0;
    uint64_t sequence = ++init->ring->last;
    uint32_t slot = 0;
    switch (message->kind) {
    case SUPERVISE_TASK_STATE:
        message->task_state.sequence = sequence;
        slot = init_find(init, &message->task_state.task);
        break;
    case SUPERVISE_EXEC_EXITED: message->exec_exited.sequence = sequence; break;
    case SUPERVISE_ZOMBIE_FOUND: message->zombie_found.sequence = sequence; break;
    case SUPERVISE_TASK_DROPPED: message->task_dropped.sequence = sequence; break;
    default: assert(false);
    }
    if (slot != 0) init->tasks[slot].event = sequence;
    enum status status = supervise_encode(message, packet, sizeof packet, &size, NULL);
    assert(status == STATUS_OK);
    ring_put(init->ring, packet, size);
}

void init_state_message(const struct init *init, uint32_t slot,
                        struct supervise_message *ret_message)
{
    const struct policy_task *task = &init->policy_tasks[slot];
    const struct init_task *own = &init->tasks[slot];
    struct supervise_start start;
    init_task_spec(init, slot, &start);
    bool own_network = (start.flags & SUPERVISE_OWN_NETWORK) != 0;
    *ret_message = (struct supervise_message) {
        .kind = SUPERVISE_TASK_STATE,
        .task_state = {
            .sequence = own->event,
            .task = own->id,
            .incarnation = task->incarnation,
            .state = task->state,
            .up = policy_is_up(task),
            .exit_kind = task->exit_kind,
            .exit_code = task->exit_code,
            .pid = task->pid,
            .host_pid = task->pid == 0 ? 0 : own->host_pid,
            .restarts = task->restarts,
            .failures = task->failures,
            .started_at_ns = task->started_at_ns,
            .ended_at_ns = task->ended_at_ns,
            .next_start_ns = task->next_start_ns,
            .cpu_milli = start.cpu_milli,
            .memory_bytes = start.memory_bytes,
            .port_count = own_network ? 0 : start.port_count,
            .job = start.job,
            .name = start.name,
            .reason = bytes_of_text(task->reason),
        },
    };
    for (uint32_t i = 0; i < ret_message->task_state.port_count; i++)
        ret_message->task_state.ports[i] = start.ports[i];
}

void init_report(struct init *init, uint32_t slot)
{
    struct supervise_message message;
    init_state_message(init, slot, &message);
    init_event(init, &message);
}

/* ---- sending ---- */

void init_client_close(struct init *init)
{
    if (init->client.descriptor >= 0) (void)close(init->client.descriptor);
    init->client = (struct init_client) { .descriptor = -1 };
}

/* False: the socket is full, PACKET is not sent. */
static bool send_packet(struct init *init, const uint8_t *packet, size_t size)
{
    ssize_t sent = send(init->client.descriptor, packet, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return true;
    if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS) {
        init->client.full = true;
        return false;
    }
    init_client_close(init);
    return true; /* nobody waits for it any more */
}

static void answer(struct init *init, struct supervise_message *message)
{
    struct init_client *client = &init->client;
    enum status status = supervise_encode(message, client->pending, sizeof client->pending,
                                          &client->pending_size, NULL);
    assert(status == STATUS_OK);
    if (send_packet(init, client->pending, client->pending_size)) client->pending_size = 0;
}

static void answer_result(struct init *init, uint64_t request, enum status status, uint64_t value,
                          const struct error *error)
{
    struct supervise_message message = { .kind = SUPERVISE_RESULT, .request = request };
    message.result.status = status;
    message.result.value = value;
    if (status != STATUS_OK) message.result.text = bytes_of_text(error->text);
    answer(init, &message);
}

static void answer_end(struct init *init, uint64_t request, uint64_t count)
{
    struct supervise_message message = {
        .kind = SUPERVISE_END,
        .request = request,
        .end = { .count = count, .event_last = init->ring->last },
    };
    answer(init, &message);
}

/* One step of what is owed: false when there is nothing to send or no room. */
static bool flush_list(struct init *init)
{
    struct init_client *client = &init->client;
    while (client->list_slot < INIT_SLOTS && !init->policy_tasks[client->list_slot].used)
        client->list_slot++;
    if (client->list_slot == INIT_SLOTS) {
        client->lists = false;
        answer_end(init, client->list_request, client->list_count);
        return true;
    }
    struct supervise_message message;
    init_state_message(init, client->list_slot, &message);
    message.request = client->list_request;
    uint8_t packet[EVENT_BYTES_MAX];
    size_t size = 0;
    enum status status = supervise_encode(&message, packet, sizeof packet, &size, NULL);
    assert(status == STATUS_OK);
    if (!send_packet(init, packet, size)) return false;
    client->list_slot++;
    client->list_count++;
    return true;
}

static bool flush_event(struct init *init)
{
    struct init_client *client = &init->client;
    struct init_ring *ring = init->ring;
    if (client->event_next > ring->last) return false;
    if (client->event_next < ring->first) { /* it was too slow: the gap shows in the numbers */
        client->event_next = ring->first;
        client->event_offset = ring->tail;
    }
    uint8_t packet[EVENT_BYTES_MAX];
    size_t size = ring_size_at(ring, client->event_offset);
    assert(size <= sizeof packet);
    ring_copy_out(ring, client->event_offset + 4, packet, size);
    if (!send_packet(init, packet, size)) return false;
    client->event_next++;
    client->event_offset += 4 + size;
    return true;
}

void init_client_flush(struct init *init)
{
    struct init_client *client = &init->client;
    if (client->descriptor < 0) return;
    if (client->pending_size > 0 && !client->full &&
        send_packet(init, client->pending, client->pending_size))
        client->pending_size = 0;
    while (client->lists && !client->full && client->pending_size == 0 && flush_list(init)) {
    }
    while (client->streams && !client->lists && !client->full && client->pending_size == 0 &&
           flush_event(init)) {
    }
    if (client->descriptor >= 0 && client->full != client->watched_full) {
        client->watched_full = client->full;
        init_watch_client(init, false, client->full);
    }
}

/* ---- requests ---- */

static void on_hello(struct init *init, const struct supervise_message *request)
{
    struct error error = { 0 };
    if (request->hello.version != SUPERVISE_VERSION) {
        (void)error_set(&error, STATUS_UNSUPPORTED, "unum-init speaks protocol version %d, not %u",
                        SUPERVISE_VERSION, request->hello.version);
        answer_result(init, request->request, STATUS_UNSUPPORTED, 0, &error);
        return;
    }
    init->client.greeted = true;
    struct supervise_message message = {
        .kind = SUPERVISE_WELCOME,
        .request = request->request,
        .welcome = {
            .version = SUPERVISE_VERSION,
            .features = init->features,
            .instance = init->instance,
            .started_at_ns = init->started_at_ns,
            .event_last = init->ring->last,
            .event_first = init->ring->first,
            .reexec_count = init->reexec_count,
            .missing = bytes_of_text(init->missing),
        },
    };
    uint32_t services =
        init->policy_tasks[INIT_SLOT_LOG].used + (uint32_t)init->policy_tasks[INIT_SLOT_UNUMD].used;
    message.welcome.task_count = init->policy.task_count - services;
    answer(init, &message);
}

static void on_events_since(struct init *init, const struct supervise_message *request)
{
    struct init_client *client = &init->client;
    struct init_ring *ring = init->ring;
    uint64_t next = request->events_since.sequence + 1;
    if (next > ring->last + 1 || next == 0) next = ring->last + 1;
    uint64_t missed = next < ring->first ? ring->first - next : 0;
    uint64_t offset = ring->tail;
    for (uint64_t sequence = ring->first; sequence < next; sequence++)
        offset += 4 + ring_size_at(ring, offset);
    client->event_next = missed > 0 ? ring->first : next;
    client->event_offset = offset;
    client->streams = true;
    answer_end(init, request->request, missed);
}

static enum status on_report_ready(struct init *init, uint32_t slot,
                                   const struct supervise_report_ready *report, struct error *error)
{
    const struct policy_task *task = &init->policy_tasks[slot];
    if (!task->live || task->incarnation != report->incarnation)
        return error_set(error, STATUS_CONFLICT, "incarnation %llu does not run",
                         (unsigned long long)report->incarnation);
    char text[SUPERVISE_REASON_BYTES_MAX + 1];
    (void)snprintf(text, sizeof text, "%.*s", (int)report->reason.size,
                   report->reason.size == 0 ? "" : (const char *)report->reason.data);
    struct policy_event event = { .kind = report->ready ? POLICY_IS_READY : POLICY_NOT_READY,
                                  .slot = slot,
                                  .incarnation = report->incarnation,
                                  .text = text[0] == 0 ? NULL : text };
    init_feed(init, &event);
    return STATUS_OK;
}

static enum status on_drop(struct init *init, uint32_t slot, struct error *error)
{
    if (!policy_may_drop(&init->policy_tasks[slot]))
        return error_set(error, STATUS_BUSY, "the task is %s: stop it first",
                         supervise_state_name(init->policy_tasks[slot].state));
    struct supervise_message message = { .kind = SUPERVISE_TASK_DROPPED };
    message.task_dropped.task = init->tasks[slot].id;
    init_task_remove(init, slot);
    init_event(init, &message);
    return STATUS_OK;
}

/* Requests about one known task. */
static enum status on_task(struct init *init, const struct supervise_message *request,
                           const struct id *id, struct error *error)
{
    uint32_t slot = init_find(init, id);
    if (slot == 0) return error_set(error, STATUS_NOT_FOUND, "no such task is known here");
    struct policy_event event = { .slot = slot };
    switch (request->kind) {
    case SUPERVISE_STOP: event.kind = POLICY_STOP; break;
    case SUPERVISE_RESTART: event.kind = POLICY_RESTART; break;
    case SUPERVISE_KILL: event.kind = POLICY_KILL; break;
    case SUPERVISE_RENEW_LEASE:
        event.kind = POLICY_LEASE;
        event.lease_until_ns = request->renew_lease.lease_until_ns;
        break;
    case SUPERVISE_DROP: return on_drop(init, slot, error);
    case SUPERVISE_REPORT_READY: return on_report_ready(init, slot, &request->report_ready, error);
    default: return error_set(error, STATUS_INVALID, "not a request");
    }
    if (init->shutting_down && event.kind == POLICY_RESTART)
        return error_set(error, STATUS_UNAVAILABLE, "unum-init is shutting down");
    init_feed(init, &event);
    return STATUS_OK;
}

static enum status on_start(struct init *init, const struct supervise_message *request,
                            struct bytes packet, uint64_t *ret_value, struct error *error)
{
    if (init->shutting_down)
        return error_set(error, STATUS_UNAVAILABLE, "unum-init is shutting down");
    uint32_t slot = 0;
    enum status status = init_task_add(init, &request->start, packet, &slot, error);
    if (status == STATUS_OK) *ret_value = init->policy_tasks[slot].incarnation;
    return status;
}

static enum status on_reexec(struct init *init, const struct supervise_reexec *reexec)
{
    if (reexec->binary.size > 0)
        memcpy(init->reexec_binary, reexec->binary.data, reexec->binary.size);
    init->reexec_binary[reexec->binary.size] = 0;
    init->reexec_wanted = true;
    return STATUS_OK;
}

static void on_request(struct init *init, const struct supervise_message *request,
                       struct bytes packet, const int *files)
{
    struct error error = { 0 };
    enum status status = STATUS_OK;
    uint64_t value = 0;
    switch (request->kind) {
    case SUPERVISE_HELLO: on_hello(init, request); return;
    case SUPERVISE_LIST:
        init->client.lists = true;
        init->client.list_slot = INIT_SLOT_TASKS;
        init->client.list_count = 0;
        init->client.list_request = request->request;
        return;
    case SUPERVISE_EVENTS_SINCE: on_events_since(init, request); return;
    case SUPERVISE_START: status = on_start(init, request, packet, &value, &error); break;
    case SUPERVISE_EXEC:
        status = init_exec_start(init, request, files, &error);
        value = request->request;
        break;
    case SUPERVISE_EXEC_SIGNAL:
        status = init_exec_signal(init, request->exec_signal.exec, request->exec_signal.signal);
        if (status != STATUS_OK) (void)error_set(&error, status, "no such command runs");
        break;
    case SUPERVISE_REEXEC: status = on_reexec(init, &request->reexec); break;
    case SUPERVISE_SHUTDOWN: init_shut_down(init); break;
    case SUPERVISE_RENEW_LEASE:
        status = on_task(init, request, &request->renew_lease.task, &error);
        break;
    case SUPERVISE_REPORT_READY:
        status = on_task(init, request, &request->report_ready.task, &error);
        break;
    default: status = on_task(init, request, &request->task.task, &error); break;
    }
    answer_result(init, request->request, status, value, &error);
}

static void take_packet(struct init *init, struct bytes packet, const int *files)
{
    struct supervise_message request;
    struct error error = { 0 };
    enum status status = supervise_decode(packet, &request, &error);
    /* What only the server says is no request. */
    if (status == STATUS_OK && request.kind >= SUPERVISE_WELCOME)
        status = error_set(&error, STATUS_INVALID, "kind %d is not a request", (int)request.kind);
    if (status == STATUS_OK && !init->client.greeted && request.kind != SUPERVISE_HELLO)
        status = error_set(&error, STATUS_INVALID, "the first request must be HELLO");
    if (status != STATUS_OK) {
        init_say("a request of unumd is refused: %s", error.text);
        answer_result(init, packet.size >= SUPERVISE_HEAD_BYTES ? load_u64_le(packet.data + 8) : 0,
                      status, 0, &error);
        return;
    }
    on_request(init, &request, packet, files);
}

/* False: nothing more to read, or the client is gone. */
static bool receive_one(struct init *init, uint8_t *memory)
{
    int files[SUPERVISE_EXEC_DESCRIPTORS] = { -1, -1, -1 };
    struct iovec part = { memory, SUPERVISE_MESSAGE_BYTES_MAX };
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof files)];
    } control;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    ssize_t size = recvmsg(init->client.descriptor, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    struct cmsghdr *first = size <= 0 ? NULL : CMSG_FIRSTHDR(&message);
    if (first != NULL && first->cmsg_level == SOL_SOCKET && first->cmsg_type == SCM_RIGHTS)
        memcpy(files, CMSG_DATA(first), first->cmsg_len - CMSG_LEN(0));
    bool whole = size > 0 && (message.msg_flags & MSG_TRUNC) == 0;
    if (whole) {
        take_packet(init, bytes_of(memory, (size_t)size), files);
    } else {
        init_client_close(init);
    }
    for (int i = 0; i < SUPERVISE_EXEC_DESCRIPTORS; i++) {
        if (files[i] >= 0) (void)close(files[i]);
    }
    return whole;
}

void init_client_readable(struct init *init)
{
    uint8_t *memory = malloc(SUPERVISE_MESSAGE_BYTES_MAX);
    if (memory == NULL) return;
    for (int i = 0; i < REQUESTS_BATCH_MAX; i++) {
        const struct init_client *client = &init->client;
        if (client->descriptor < 0 || client->pending_size > 0 || client->lists) break;
        if (!receive_one(init, memory)) break;
    }
    free(memory);
}

void init_client_accept(struct init *init)
{
    int client = accept4(init->files.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0) return;
    struct ucred peer = { 0 };
    socklen_t size = sizeof peer;
    bool known = getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
    /* Without root other users look alike; the socket's file lets in its owner and root only. */
    if (!known || (!init->rootless && peer.uid != 0 && peer.uid != init->unumd_user)) {
        init_say("a connection of user %u to the supervise socket is refused", peer.uid);
        (void)close(client);
        return;
    }
    init_client_close(init); /* the newer replaces the older */
    init->client.descriptor = client;
    init_watch_client(init, true, false);
}
