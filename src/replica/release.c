/* The releaser lets the journal forget what stands in the store on stable storage.
 *
 * Only what store_get_persisted shows as applied is let go. When too much is held back, the store
 * is told to flush. The fiber sleeps until enough was applied to make a look worth while, so an
 * idle machine pays nothing. */
#include "replica/internal.h"

enum {
    PRESSURE_FLUSH_PERMILLE = 500,
    PRESSURE_BUSY_PERMILLE = 900,
    POLL_NS_FIRST = 5000000,
    POLL_NS_MAX = 200000000,
    POLLS_MAX = 64, /* about ten seconds; then wait for the next reason */
    GROUPS_PER_TURN = 64,
};
/* A restart reads and applies again what was not released. */
static const uint64_t UNRELEASED_BYTES_MAX = 16ull * 1024 * 1024;

static uint64_t flush_bytes(const struct replica_host *host)
{
    uint64_t memtable = host->options.store_memtable_bytes;
    return memtable != 0 && memtable < UNRELEASED_BYTES_MAX ? memtable : UNRELEASED_BYTES_MAX;
}

static uint64_t pressure_permille(const struct replica_host *host)
{
    return journal_pressure_permille(host->journal);
}

bool release_is_due(const struct replica_host *host)
{
    return host->unreleased_bytes >= flush_bytes(host) || host->journal_full || host->store_full ||
           pressure_permille(host) >= PRESSURE_FLUSH_PERMILLE;
}

bool release_is_pressed(const struct replica_host *host)
{
    return pressure_permille(host) >= PRESSURE_BUSY_PERMILLE;
}

/* Of the bytes held back by entries BEFORE + 1 .. APPLIED, those up to INDEX are let go; entries
 * are taken to be of equal size. */
static void forget_bytes(struct replica *replica, uint64_t before, uint64_t index, uint64_t applied)
{
    uint64_t kept =
        index >= applied ? 0 : replica->unreleased_bytes / (applied - before) * (applied - index);
    replica->host->unreleased_bytes -= replica->unreleased_bytes - kept;
    replica->unreleased_bytes = kept;
}

enum status release_flush_store(struct replica_host *host, struct error *error)
{
    enum status status = host->options.simulation ? store_flush(host->store, error)
                                                  : store_flush_start(host->store, error);
    host->store_full = status == STATUS_FULL;
    if (status == STATUS_FULL) {
        status = room_give_reserve(host);
        if (status != STATUS_OK) return error_set(error, status, "the disk failed while full");
    }
    return status == STATUS_BUSY ? STATUS_OK : status;
}

/* Release what is persisted of one group. *ret_all: nothing more is held back. */
static enum status release_replica(struct replica *replica, bool *ret_all, struct error *error)
{
    struct replica_host *host = replica->host;
    uint64_t applied = replica->applier.applied.index;
    uint64_t index = applied;
#ifndef MUTATION_RELEASE_BEFORE_PERSISTED /* else: what is applied counts as persisted */
    struct applied persisted = { 0 };
    enum status read = applied_read_persisted(&replica->applier.range, &persisted, error);
    if (read != STATUS_OK && read != STATUS_NOT_FOUND) return read;
    index = persisted.index;
#else
    (void)error;
#endif
    *ret_all = index == applied;
    if (index <= replica->released_index) return STATUS_OK;
    uint64_t released_before = replica->released_index;
    struct raft_membership membership;
    enum status status = raft_snapshot_taken(replica->raft, index, &membership);
    if (status == STATUS_UNAVAILABLE || status == STATUS_INVALID) return STATUS_OK;
    if (status != STATUS_OK) return status;
    raft_compact(replica->raft, index);
    status = journal_release(host->journal, replica->description.group, index);
    if (status == STATUS_OK) {
        replica->released_index = index;
        forget_bytes(replica, released_before, index, applied);
    }
    /* Released lazily with later flushes: nothing to be done when there is no room now. */
    if (status == STATUS_BUSY || status == STATUS_FULL) return STATUS_OK;
    return status;
}

/* Look at every group that holds something back. Suspends. */
static enum status release_round(struct replica_host *host, bool *ret_all, struct error *error)
{
    struct replica_list kept = TAILQ_HEAD_INITIALIZER(kept);
    struct replica *replica;
    enum status status = STATUS_OK;
    unsigned looked_at = 0;
    while (status == STATUS_OK && (replica = TAILQ_FIRST(&host->unreleased)) != NULL) {
        bool all = true;
        if (replica->open) {
            status = release_replica(replica, &all, error);
        } else {
            host->unreleased_bytes -= replica->unreleased_bytes;
            replica->unreleased_bytes = 0;
        }
        TAILQ_REMOVE(&host->unreleased, replica, in_unreleased);
        if (all)
            replica->is_unreleased = false;
        else
            TAILQ_INSERT_TAIL(&kept, replica, in_unreleased);
        if (++looked_at % GROUPS_PER_TURN == 0 && status == STATUS_OK) status = fiber_yield();
    }
    *ret_all = TAILQ_EMPTY(&kept) && TAILQ_EMPTY(&host->unreleased);
    TAILQ_CONCAT(&host->unreleased, &kept, in_unreleased);
    return status;
}

/* Flush the store and wait until all of it is released, within a bound. Suspends. */
static enum status flush_and_release(struct replica_host *host, struct error *error)
{
    uint64_t wait_ns = POLL_NS_FIRST;
    for (unsigned i = 0; i < POLLS_MAX; i++) {
        bool all;
        enum status status = release_round(host, &all, error);
        if (all) host->store_full = false;
        if (status != STATUS_OK || all) return status;
        if (i == 0) {
            status = release_flush_store(host, error);
            if (status != STATUS_OK || host->store_full) return status;
            if (host->options.simulation) continue;
        }
        status = fiber_sleep_ns(wait_ns);
        if (status != STATUS_OK) return status;
        if (wait_ns < POLL_NS_MAX) wait_ns *= 2;
        /* Under load there is always more behind; enough is enough once the pressure is gone. */
        if (i > 0 && !release_is_due(host)) return STATUS_OK;
    }
    return STATUS_OK;
}

void release_fiber(void *argument)
{
    struct replica_host *host = argument;
    while (host_is_running(host)) {
        if (!release_is_due(host)) {
            if (condition_wait(&host->releaser_wake, DEADLINE_NEVER) == STATUS_CANCELLED) return;
            continue;
        }
        struct error error = { 0 };
        enum status status = flush_and_release(host, &error);
        if (status == STATUS_CANCELLED) return;
        if (status != STATUS_OK) {
            host_stop(host, status, &error);
            return;
        }
        /* Pressure that releasing did not end: it is another's, or the device's; look again later.
         */
        if (release_is_due(host) && fiber_sleep_ns(POLL_NS_MAX) != STATUS_OK) return;
    }
}
