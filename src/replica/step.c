#include "replica/internal.h"

#include <assert.h>
#include <stdlib.h>

enum {
    TIME_FACTOR = 1000000, /* nanoseconds of a millisecond */
};

/* --- computer time -----------------------------------------------------------------------------
 */

static void start_leader_time(struct replica *replica)
{
    uint64_t applied_ms = replica->applier.applied.computer_time_ms;
    replica->time_base_ns = host_now_ns(replica->host);
#ifdef MUTATION_TIME_GOES_BACK /* each leader starts its own time */
    (void)applied_ms;
    replica->time_base_ms = 0;
    replica->log_time_ms = 0;
#else
    replica->time_base_ms = applied_ms > replica->log_time_ms ? applied_ms : replica->log_time_ms;
#endif
}

uint64_t replica_leader_time_ms(struct replica *replica)
{
    uint64_t elapsed_ns = host_now_ns(replica->host) - replica->time_base_ns;
    uint64_t time_ms = replica->time_base_ms + elapsed_ns / TIME_FACTOR;
    return time_ms > replica->log_time_ms ? time_ms : replica->log_time_ms;
}

/* --- waiters -----------------------------------------------------------------------------------
 */

void replica_fail_proposals(struct replica *replica, uint64_t index, enum status status)
{
    struct proposal *proposal;
    while ((proposal = TAILQ_LAST(&replica->proposals, proposal_list)) != NULL &&
           proposal->index >= index) {
        TAILQ_REMOVE(&replica->proposals, proposal, links);
        proposal->status = status;
        proposal->done = true;
        condition_signal(&proposal->wake);
    }
}

static void end_barrier(struct replica *replica, struct barrier *barrier, enum status status)
{
    TAILQ_REMOVE(&replica->barriers, barrier, links);
    barrier->status = status;
    barrier->done = true;
    condition_signal(&barrier->wake);
}

void replica_fail_barriers(struct replica *replica, uint64_t id, enum status status)
{
    struct barrier *barrier;
    while ((barrier = TAILQ_FIRST(&replica->barriers)) != NULL && barrier->id <= id) {
        end_barrier(replica, barrier, status);
    }
}

void replica_pass_barriers(struct replica *replica)
{
    struct barrier *barrier;
    uint64_t applied = replica->applier.applied.index;
    while ((barrier = TAILQ_FIRST(&replica->barriers)) != NULL && barrier->ready &&
           barrier->index <= applied) {
        end_barrier(replica, barrier, STATUS_OK);
    }
}

static void mark_barriers_ready(struct replica *replica, uint64_t id, uint64_t index)
{
    struct barrier *barrier;
    TAILQ_FOREACH (barrier, &replica->barriers, links) {
        if (barrier->id > id) break;
        if (barrier->ready) continue;
        barrier->ready = true;
        barrier->index = index;
    }
    replica_pass_barriers(replica);
}

/* --- entries -----------------------------------------------------------------------------------
 */

static enum status take_entry(struct replica *replica, uint64_t index, uint64_t term,
                              uint8_t *bytes, uint32_t size)
{
    return log_cache_append(&replica->cache, index, term, bytes, size);
}

/* An entry that consensus itself wants: the no-op of a term, or a membership. */
static enum status make_entry(struct replica *replica, uint64_t index, uint64_t term,
                              enum entry_kind kind, const struct raft_membership *membership)
{
    uint8_t payload[RAFT_MEMBERSHIP_BYTES_MAX];
    struct writer payload_writer = writer_of(payload, sizeof payload);
    if (kind == ENTRY_MEMBERSHIP) raft_membership_encode(membership, &payload_writer);

    struct entry entry = {
        .kind = kind,
        .feature_level = replica->applier.applied.feature_level,
        .group = replica->description.group,
        .computer_time_ms = replica_leader_time_ms(replica),
        .payload = bytes_of(payload, payload_writer.used),
    };
    size_t size = ENTRY_OVERHEAD_BYTES_MAX + payload_writer.used;
    uint8_t *bytes = malloc(size);
    if (bytes == NULL) return STATUS_NO_MEMORY;
    struct writer writer = writer_of(bytes, size);
    enum status status = entry_encode(&entry, &writer);
    assert(status == STATUS_OK);
    status = take_entry(replica, index, term, bytes, (uint32_t)writer.used);
    if (status != STATUS_OK)
        free(bytes);
    else
        replica->log_time_ms = entry.computer_time_ms;
    return status;
}

/* The term of entry INDEX of an append. */
static uint64_t message_term(const struct raft_message *message, uint64_t index)
{
    uint64_t term = 0;
    for (unsigned i = 0; i < message->run_count; i++) {
        if (message->runs[i].index <= index) term = message->runs[i].term;
    }
    return term;
}

/* The entries of the message in hand; their payload was checked before the step. */
static enum status take_message_entries(struct replica *replica, const struct raft_action *action,
                                        const struct raft_message *message, struct bytes payload)
{
    struct reader reader = reader_of(payload.data, payload.size);
    uint64_t index = action->append.first;
    for (uint32_t i = 0; i < action->append.skip + action->append.count; i++) {
        uint32_t size = reader_u32(&reader);
        const uint8_t *bytes = reader_take(&reader, size);
        assert(bytes != NULL);
        if (i < action->append.skip) continue;
        struct entry entry;
        enum decode decoded = entry_decode(bytes, size, &entry);
        assert(decoded == DECODE_OK);
        uint8_t *copy = malloc(size);
        if (copy == NULL) return STATUS_NO_MEMORY;
        memcpy(copy, bytes, size);
        enum status status = take_entry(replica, index, message_term(message, index), copy, size);
        if (status != STATUS_OK) {
            free(copy);
            return status;
        }
        if (entry.computer_time_ms > replica->log_time_ms) {
            replica->log_time_ms = entry.computer_time_ms;
        }
        index++;
    }
    return STATUS_OK;
}

/* --- actions -----------------------------------------------------------------------------------
 */

void replica_mark_dirty(struct replica *replica)
{
    if (replica->is_dirty) return;
    struct replica_host *host = replica->host;
    replica->is_dirty = true;
    TAILQ_INSERT_TAIL(&host->dirty, replica, in_dirty);
    condition_signal(&host->writer_wake);
}

static void do_truncate(struct replica *replica, uint64_t index)
{
    log_cache_truncate(&replica->cache, index);
    if (replica->staged_index >= index) {
        replica->staged_index = index - 1;
        replica->truncate_from = index;
    }
    /* Another leader's entries stand there now: these were never applied. */
    replica_fail_proposals(replica, index, STATUS_UNAVAILABLE);
    replica_mark_dirty(replica);
}

static enum status do_append(struct replica *replica, const struct raft_action *action,
                             const struct raft_event *event, const struct step_input *input)
{
    uint64_t first = action->append.first;
    uint64_t term = action->append.term;
    replica_mark_dirty(replica);
    if (action->append.from_message) {
        return take_message_entries(replica, action, event->message, input->payload);
    }
    switch (action->append.kind) {
    case RAFT_ENTRY_NOOP:
        start_leader_time(replica);
        return make_entry(replica, first, term, ENTRY_NOOP, NULL);
    case RAFT_ENTRY_MEMBERSHIP:
        return make_entry(replica, first, term, ENTRY_MEMBERSHIP, &action->append.membership);
    default:
        assert(action->append.count == 1);
        return take_entry(replica, first, term, input->entry, input->entry_size);
    }
}

static enum status fill_append(struct replica *replica, struct raft_send *send)
{
    struct replica_host *host = replica->host;
    struct buffer *payload = &host->payload;
    for (uint32_t i = 0; i < send->count_max; i++) {
        uint64_t index = send->message.index + 1 + i;
        const struct log_entry *cached = log_cache_find(&replica->cache, index);
        if (cached == NULL) break; /* a follower far behind: it is sent what is in memory only */
        struct entry entry;
        if (entry_decode(cached->bytes, cached->size, &entry) != DECODE_OK) return STATUS_CORRUPT;
        struct raft_membership membership;
        bool is_membership = entry.kind == ENTRY_MEMBERSHIP;
        if (is_membership) {
            struct reader reader = reader_of(entry.payload.data, entry.payload.size);
            if (raft_membership_decode(&reader, &membership) != STATUS_OK) return STATUS_CORRUPT;
        }
        if (!raft_send_add_entry(send, index, cached->term, PEER_ENTRY_HEAD_BYTES + cached->size,
                                 is_membership ? &membership : NULL)) {
            break;
        }
        uint8_t head[PEER_ENTRY_HEAD_BYTES];
        store_u32_le(head, cached->size);
        enum status status = buffer_append(payload, head, sizeof head);
        if (status == STATUS_OK) status = buffer_append(payload, cached->bytes, cached->size);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

static enum status do_send(struct replica *replica, struct raft_action *action)
{
    struct replica_host *host = replica->host;
    struct raft_send *send = &action->send;
    bool is_append = send->message.type == RAFT_MESSAGE_APPEND;
    /* Snapshots travel on the bulk lane, which a host without links does not have. */
    bool sent = host->options.transport != NULL && action->type == RAFT_ACTION_SEND;
    host->payload.used = 0;
    if (sent && is_append) {
        enum status status = fill_append(replica, send);
        if (status != STATUS_OK) return status;
        sent = send->count_max == 0 || send->message.count > 0;
    }
    if (sent) {
        host->options.transport->send(host->options.transport, &send->message,
                                      bytes_of(host->payload.data, host->payload.used));
    }
    if (!is_append && action->type == RAFT_ACTION_SEND) return STATUS_OK;

    assert(host->sent_count < SENT_REPORTS_MAX);
    struct sent_report *report =
        &host->sent[(host->sent_first + host->sent_count) % SENT_REPORTS_MAX];
    *report =
        (struct sent_report) { .peer = send->message.to, .sent = sent, .message = send->message };
    host->sent_count++;
    return STATUS_OK;
}

static void do_commit(struct replica *replica, uint64_t index)
{
    struct replica_host *host = replica->host;
    replica->commit_index = index;
    if (replica->is_applying) return;
    replica->is_applying = true;
    TAILQ_INSERT_TAIL(&host->applying, replica, in_apply);
    condition_signal(&host->applier_wake);
}

static enum status do_action(struct replica *replica, struct raft_action *action,
                             const struct raft_event *event, const struct step_input *input)
{
    switch (action->type) {
    case RAFT_ACTION_PERSIST_HARD:
        replica->state.term = action->hard.term;
        replica->state.vote = action->hard.vote;
        replica->state_dirty = true;
        replica_mark_dirty(replica);
        return STATUS_OK;
    case RAFT_ACTION_TRUNCATE: do_truncate(replica, action->index); return STATUS_OK;
    case RAFT_ACTION_APPEND: return do_append(replica, action, event, input);
    case RAFT_ACTION_SEND:
    case RAFT_ACTION_SEND_SNAPSHOT: return do_send(replica, action);
    case RAFT_ACTION_COMMIT: do_commit(replica, action->index); return STATUS_OK;
    case RAFT_ACTION_READ_READY:
        mark_barriers_ready(replica, action->read.id, action->read.index);
        return STATUS_OK;
    case RAFT_ACTION_READ_REFUSED:
        replica_fail_barriers(replica, action->read.id, STATUS_UNAVAILABLE);
        return STATUS_OK;
    case RAFT_ACTION_ROLE:
        replica->is_leader = action->role.role == RAFT_LEADER;
        condition_broadcast(&replica->changed);
        return STATUS_OK;
    case RAFT_ACTION_SNAPSHOT_PART:
    case RAFT_ACTION_INSTALL:
    case RAFT_ACTION_TYPE_COUNT: break;
    }
    /* Parts of snapshots are dropped at the door (replica_host_receive). */
    return STATUS_INTERNAL;
}

static enum status step_once(struct replica *replica, struct raft_event *event,
                             const struct step_input *input)
{
    struct replica_host *host = replica->host;
    struct raft_actions *actions = &host->actions;
    event->now_ns = host_now_ns(host);
    random_u64(&host->jitter.random, &event->random);
    enum status status = raft_step(replica->raft, event, actions);
    for (uint32_t i = 0; i < actions->count; i++) {
        enum status done = do_action(replica, &actions->items[i], event, input);
        if (done == STATUS_OK) continue;
        struct error error;
        error_set(&error, done, "group %llu can't carry out what consensus decided (%s)",
                  (unsigned long long)replica->description.group, status_name(done));
        host_stop(host, done, &error);
        return STATUS_IO;
    }
    if (status == STATUS_CORRUPT) {
        struct error error;
        error_set(&error, status, "the log of a peer contradicts what is committed in group %llu",
                  (unsigned long long)replica->description.group);
        host_stop(host, status, &error);
    }
    return status;
}

enum status replica_lend_runs(struct replica *replica)
{
    enum { RUNS_FIRST = 64 };
    uint32_t capacity = replica->runs_capacity == 0 ? RUNS_FIRST : 2 * replica->runs_capacity;
    if (capacity > RAFT_RUNS_MAX) return STATUS_FULL;
    struct raft_run *runs = calloc(capacity, sizeof *runs);
    if (runs == NULL) return STATUS_NO_MEMORY;
    struct raft_run *old = NULL;
    raft_lend_runs(replica->raft, runs, capacity, &old);
    free(old);
    replica->runs = runs;
    replica->runs_capacity = capacity;
    return STATUS_OK;
}

enum status replica_step(struct replica *replica, struct raft_event *event,
                         const struct step_input *input)
{
    static const struct step_input nothing;
    struct replica_host *host = replica->host;
    enum status status = step_once(replica, event, input == NULL ? &nothing : input);
    enum status status_of_report;

    while (host->sent_count > 0 && host_is_running(host)) {
        struct sent_report report = host->sent[host->sent_first];
        host->sent_first = (host->sent_first + 1) % SENT_REPORTS_MAX;
        host->sent_count--;
        struct raft_event sent = { .type = RAFT_EVENT_SENT,
                                   .peer = report.peer,
                                   .term = report.message.term,
                                   .message = report.sent ? &report.message : NULL };
        status_of_report = step_once(replica, &sent, &nothing);
        if (status_of_report != STATUS_OK) return status_of_report; /* the host stopped */
    }
    if (host_is_running(host) && raft_runs_tight(replica->raft)) {
        /* Without memory the replica stays safe; it only takes no new terms until there is some. */
        enum status lent = replica_lend_runs(replica);
        assert(lent != STATUS_OK || !raft_runs_tight(replica->raft));
    }
    if (host_is_running(host)) host_update_deadline(replica);
    return status;
}

void replica_tell(struct replica *replica, struct raft_event *event)
{
    enum status status = replica_step(replica, event, NULL);
    /* Facts are not refused; a replica that ended has stopped the host. */
    assert(status == STATUS_OK || !host_is_running(replica->host) ||
           event->type == RAFT_EVENT_CAMPAIGN);
}
