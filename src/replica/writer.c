/* The two fibers between a proposal and its answer.
 *
 * The log writer takes all groups that have something to persist, stages it, and lets one flush
 * cover it all; what is proposed meanwhile waits for the next. The applier follows behind, so that
 * entries are applied while the next flush is under way. */
#include "replica/internal.h"

#include <assert.h>

enum {
    APPLY_ENTRIES_MAX = 32, /* of one group before other fibers get their turn */
    STORE_WAIT_NS_FIRST = 1000000,
    STORE_WAIT_NS_MAX = 50000000,
    FULL_WAIT_NS = 100000000, /* until the journal is asked again for room */
    BUSY_WAIT_NS = 1000000,   /* until staging is tried again behind a flush */
    IDLE_MARK_NS = 50000000,  /* without a flush, then the journal notes that all is synced */
};

/* --- the log writer ----------------------------------------------------------------------------
 */

static enum status stage_state(struct replica *replica)
{
    if (!replica->state_dirty) return STATUS_OK;
    uint8_t bytes[GROUP_STATE_BYTES_MAX];
    struct writer writer = writer_of(bytes, sizeof bytes);
    group_state_encode(&replica->state, &writer);
    assert(!writer.failed);
    enum status status = journal_put_state(replica->host->journal, replica->description.group,
                                           bytes_of(bytes, writer.used));
    if (status == STATUS_OK) replica->state_dirty = false;
    return status;
}

/* Stage what consensus wants on disk, in its order. What was staged stays so when a later part
 * finds no room. */
static enum status stage_replica(struct replica *replica)
{
    struct journal *journal = replica->host->journal;
    uint64_t group = replica->description.group;

    enum status status = stage_state(replica);
    if (status == STATUS_OK && replica->truncate_from != 0) {
        status = journal_truncate(journal, group, replica->truncate_from);
        if (status == STATUS_OK) replica->truncate_from = 0;
    }
    while (status == STATUS_OK) {
        uint64_t index = replica->staged_index + 1;
        const struct log_entry *entry = log_cache_find(&replica->cache, index);
        if (entry == NULL) break;
        status =
            journal_append(journal, group, index, entry->term, bytes_of(entry->bytes, entry->size));
        if (status == STATUS_OK) replica->staged_index = index;
    }
    return status;
}

/* What the flush will make durable, as consensus is to be told. */
static void note_flushing(struct replica *replica)
{
    replica->flushing_term = replica->state.term;
    replica->flushing_vote = replica->state.vote;
    replica->flushing_index = replica->staged_index;
    if (!raft_term_at(replica->raft, replica->staged_index, &replica->flushing_index_term)) {
        replica->flushing_index_term = 0;
    }
}

/* Stage all dirty replicas that there is room for; *ret_rest: not all of it. */
static enum status stage_all(struct replica_host *host, bool *ret_rest)
{
    struct replica *replica;
    host->journal_full = false;
    *ret_rest = false;
    while ((replica = TAILQ_FIRST(&host->dirty)) != NULL) {
        enum status status = replica->open ? stage_replica(replica) : STATUS_OK;
        bool rest = status == STATUS_BUSY || status == STATUS_FULL;
        if (status != STATUS_OK && !rest) return status;
        if (status == STATUS_FULL) host->journal_full = true;
        /* The hard state may have been what found no room: then nothing is reported. */
        if (replica->open && !replica->state_dirty) {
            note_flushing(replica);
            TAILQ_INSERT_TAIL(&host->flushing, replica, in_flush);
        }
        if (rest) {
            *ret_rest = true;
            return STATUS_OK; /* it stays dirty */
        }
        TAILQ_REMOVE(&host->dirty, replica, in_dirty);
        replica->is_dirty = false;
    }
    return STATUS_OK;
}

static void report_persisted(struct replica *replica)
{
    if (!replica->open) return;
    struct raft_event event = { .type = RAFT_EVENT_PERSISTED,
                                .term = replica->flushing_term,
                                .vote = replica->flushing_vote,
                                .index = replica->flushing_index,
                                .index_term = replica->flushing_index_term };
    replica_tell(replica, &event);
}

static void report_all(struct replica_host *host)
{
    struct replica *replica;
    while ((replica = TAILQ_FIRST(&host->flushing)) != NULL) {
        TAILQ_REMOVE(&host->flushing, replica, in_flush);
        if (host_is_running(host)) report_persisted(replica);
    }
}

/* Staging found no room: let others make some. Suspends. */
static void await_room(struct replica_host *host)
{
    if (host->journal_full) {
        /* The disk may be full: what is kept back for this goes first. */
        enum status given = room_give_reserve(host);
        if (given == STATUS_IO) {
            struct error error;
            error_set(&error, given, "the disk failed while it was full");
            host_stop(host, given, &error);
            return;
        }
        condition_signal(&host->releaser_wake);
    }
    if (journal_wants_maintenance(host->journal)) condition_signal(&host->maintainer_wake);
    enum status status = fiber_sleep_ns(host->journal_full ? FULL_WAIT_NS : BUSY_WAIT_NS);
    assert(status == STATUS_OK || fiber_cancelled());
}

/* One round: everything that waits, one sync. */
static void write_round(struct replica_host *host)
{
    struct error error = { 0 };
    bool rest = false;
    enum status status = stage_all(host, &rest);
    if (status != STATUS_OK) {
        error_set(&error, status, "the journal refuses an entry (%s)", status_name(status));
        host_stop(host, status, &error);
        return;
    }
    /* Without room a flush lets the journal give back what was released. */
    if (!TAILQ_EMPTY(&host->flushing) || rest) {
#ifdef MUTATION_ACK_BEFORE_SYNC /* told to be durable before it is */
        report_all(host);
#endif
        status = journal_flush(host->journal, &error);
        if (status == STATUS_CANCELLED) return;
        if (status != STATUS_OK) {
            host_stop(host, status, &error);
            return;
        }
        report_all(host);
        host->flushed_unmarked = true;
        if (journal_wants_maintenance(host->journal)) condition_signal(&host->maintainer_wake);
    }
    if (rest) await_room(host);
}

void writer_mark_synced(struct replica_host *host)
{
    if (!host->flushed_unmarked) return;
    struct error error = { 0 };
    host->flushed_unmarked = false;
    enum status status = journal_mark_synced(host->journal, &error);
    if (status != STATUS_OK && status != STATUS_CANCELLED) host_stop(host, status, &error);
}

/* Wait for something to write. In a pause the journal marks once that all is synced; after that
 * nothing is due. */
static enum status await_work(struct replica_host *host)
{
    uint64_t deadline_ns =
        host->flushed_unmarked ? host_now_ns(host) + IDLE_MARK_NS : DEADLINE_NEVER;
    enum status status = condition_wait(&host->writer_wake, deadline_ns);
    if (status != STATUS_TIMEOUT || !TAILQ_EMPTY(&host->dirty)) return status;
    writer_mark_synced(host);
    return STATUS_OK;
}

void writer_fiber(void *argument)
{
    struct replica_host *host = argument;
    while (host_is_running(host)) {
        if (TAILQ_EMPTY(&host->dirty)) {
            if (await_work(host) == STATUS_CANCELLED) return;
            continue;
        }
        write_round(host);
        if (fiber_cancelled()) return;
    }
}

/* Room for deletes on a full disk. Having none is no failure: the disk may be full already. */
static void make_reserve(struct replica_host *host)
{
    enum status status = room_look(host);
    if (status == STATUS_OK && !room_for_reserve(host)) {
        host->reserve_given = true; /* the look that finds room wakes us */
        return;
    }
    if (status == STATUS_OK) status = superblock_reserve(host->options.disk);
    host->reserve_given = status != STATUS_OK;
    if (status != STATUS_IO) return;
    struct error error;
    error_set(&error, STATUS_IO, "the disk failed while room was kept back on it");
    host_stop(host, STATUS_IO, &error);
}

void maintainer_fiber(void *argument)
{
    struct replica_host *host = argument;
    make_reserve(host);
    while (host_is_running(host)) {
        if (condition_wait(&host->maintainer_wake, DEADLINE_NEVER) == STATUS_CANCELLED) return;
        if (!host_is_running(host)) return;
        if (host->reserve_given && room_for_reserve(host)) make_reserve(host);
        if (!host_is_running(host) || !journal_wants_maintenance(host->journal)) continue;
        struct error error = { 0 };
        enum status status = journal_maintain(host->journal, &error);
        if (status == STATUS_CANCELLED) return;
        /* No room now; the flush that needs it will say so. */
        if (status == STATUS_OK || status == STATUS_FULL || status == STATUS_BUSY) continue;
        host_stop(host, status, &error);
        return;
    }
}

/* --- the applier -------------------------------------------------------------------------------
 */

/* Write the staged batch; while the store is stalled, flush it and wait. */
static enum status write_batch(struct replica *replica, struct store_batch *batch,
                               struct error *error)
{
    struct replica_host *host = replica->host;
    uint64_t wait_ns = STORE_WAIT_NS_FIRST;
    for (;;) {
        enum status status = store_write(host->store, batch, error);
        if (status != STATUS_BUSY) return status;
        status = release_flush_store(host, error);
        if (status != STATUS_OK) return status;
        status = fiber_sleep_ns(wait_ns);
        if (status != STATUS_OK) return status;
        if (wait_ns < STORE_WAIT_NS_MAX) wait_ns *= 2;
    }
}

static void answer(struct replica *replica, uint64_t index, uint64_t term,
                   const struct applier_outcome *outcome)
{
    struct proposal *proposal = TAILQ_FIRST(&replica->proposals);
    if (proposal == NULL || proposal->index != index) return;
    TAILQ_REMOVE(&replica->proposals, proposal, links);
    if (proposal->term != term) {
        proposal->status = STATUS_UNAVAILABLE; /* another leader's entry came to stand here */
    } else {
        proposal->status = outcome->status;
        proposal->applied_at = outcome->index;
        if (outcome->status == STATUS_OK) {
            proposal->status =
                buffer_append(proposal->reply, outcome->reply.data, outcome->reply.size);
        }
    }
    proposal->done = true;
    condition_signal(&proposal->wake);
}

static void count_unreleased(struct replica *replica, size_t size)
{
    struct replica_host *host = replica->host;
    host->unreleased_bytes += size;
    replica->unreleased_bytes += size;
    if (!replica->is_unreleased) {
        replica->is_unreleased = true;
        TAILQ_INSERT_TAIL(&host->unreleased, replica, in_unreleased);
    }
    if (release_is_due(host)) condition_signal(&host->releaser_wake);
}

/* Suspends when the store is stalled. */
static enum status apply_bytes(struct replica *replica, uint64_t index, uint64_t term,
                               struct bytes bytes, struct error *error)
{
    struct applier *applier = &replica->applier;
    struct applier_outcome outcome;
    size_t size = bytes.size;
    enum status status = applier_stage(applier, index, term, bytes, &outcome, error);
    if (status == STATUS_OK) status = write_batch(replica, applier->batch, error);
    if (status != STATUS_OK) return status;
    applier_commit(applier);
    const struct replica_host_options *options = &replica->host->options;
    if (options->witness != NULL) {
        options->witness(options->witness_context, replica->description.group, index,
                         applier->applied.running_hash, applier->applied.computer_time_ms);
    }
    answer(replica, index, term, &outcome);
    count_unreleased(replica, size);
    return STATUS_OK;
}

/* Apply the next entry: from memory, or after a restart from the journal. Suspends. */
static enum status apply_next(struct replica *replica, struct error *error)
{
    uint64_t index = replica->applier.applied.index + 1;
    const struct log_entry *cached = log_cache_find(&replica->cache, index);
    if (cached != NULL) {
        return apply_bytes(replica, index, cached->term, bytes_of(cached->bytes, cached->size),
                           error);
    }
    struct buffer buffer;
    buffer_init(&buffer, LIMIT_ENTRY_BYTES_MAX);
    uint64_t term;
    enum status status =
        journal_read(replica->host->journal, replica->description.group, index, &term, &buffer);
    if (status == STATUS_OK) {
        status = apply_bytes(replica, index, term, bytes_of(buffer.data, buffer.used), error);
    } else {
        error_set(error, status, "entry %llu can't be read from the journal (%s)",
                  (unsigned long long)index, status_name(status));
    }
    buffer_finish(&buffer);
    return status;
}

/* Entries that followers may still ask for stay in memory while others follow. */
static void drop_applied(struct replica *replica)
{
    uint64_t applied = replica->applier.applied.index;
    if (replica->host->options.transport == NULL) {
        log_cache_drop(&replica->cache, applied);
    } else if (applied > ENTRIES_FOR_FOLLOWERS) {
        log_cache_drop(&replica->cache, applied - ENTRIES_FOR_FOLLOWERS);
    }
}

static void apply_some(struct replica *replica)
{
    struct replica_host *host = replica->host;
    struct error error = { 0 };
    for (unsigned i = 0; i < APPLY_ENTRIES_MAX; i++) {
        if (!replica->open || replica->applier.applied.index >= replica->commit_index) break;
        enum status status = apply_next(replica, &error);
        if (status == STATUS_CANCELLED || !host_is_running(host)) return;
        if (status != STATUS_OK) {
            error_wrap(&error, status, "group %llu (%s %s)",
                       (unsigned long long)replica->description.group, replica->description.kind,
                       replica->description.name);
            host_stop(host, status, &error);
            return;
        }
    }
    if (!replica->open) return;
    struct raft_event event = { .type = RAFT_EVENT_APPLIED,
                                .index = replica->applier.applied.index };
    replica_tell(replica, &event);
    drop_applied(replica);
    replica_pass_barriers(replica);
    condition_broadcast(&replica->changed);
}

void applier_fiber(void *argument)
{
    struct replica_host *host = argument;
    while (host_is_running(host)) {
        struct replica *replica = TAILQ_FIRST(&host->applying);
        if (replica == NULL) {
            if (condition_wait(&host->applier_wake, DEADLINE_NEVER) == STATUS_CANCELLED) return;
            continue;
        }
        /* It stays at the head while it is worked on: a removal must see that. */
        apply_some(replica);
        TAILQ_REMOVE(&host->applying, replica, in_apply);
        replica->is_applying = false;
        if (replica->open && replica->applier.applied.index < replica->commit_index) {
            replica->is_applying = true;
            TAILQ_INSERT_TAIL(&host->applying, replica, in_apply);
        }
        condition_broadcast(&replica->changed);
        if (TAILQ_EMPTY(&host->applying)) continue;
        if (fiber_yield() == STATUS_CANCELLED) return;
    }
}
