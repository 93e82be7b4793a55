#include "consensus/raft_internal.h"

void raft_log_init(struct raft_log *log, struct raft_run *runs, uint32_t capacity, uint64_t base,
                   uint64_t base_term)
{
    *log = (struct raft_log) { .runs = runs,
                               .run_capacity = capacity,
                               .base = base,
                               .base_term = base_term,
                               .last = base,
                               .persisted = base };
}

/* The number of runs that begin at or before INDEX. */
static uint32_t runs_up_to(const struct raft_log *log, uint64_t index)
{
    uint32_t low = 0, high = log->run_count;

    /* Nearly all questions are about the newest term. */
    if (high > 0 && log->runs[high - 1].index <= index) return high;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (log->runs[middle].index <= index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool raft_log_term_at(const struct raft_log *log, uint64_t index, uint64_t *ret_term)
{
    if (index < log->base || index > log->last) return false;
    uint32_t count = runs_up_to(log, index);
    *ret_term = index == log->base ? log->base_term : log->runs[count - 1].term;
    return true;
}

uint64_t raft_log_last_term(const struct raft_log *log)
{
    return log->run_count == 0 ? log->base_term : log->runs[log->run_count - 1].term;
}

bool raft_log_has_room(const struct raft_log *log, uint64_t term)
{
    if (log->run_count > 0 && log->runs[log->run_count - 1].term == term) return true;
    return log->run_count < log->run_capacity;
}

void raft_log_append(struct raft_log *log, uint32_t count, uint64_t term)
{
    assert(count > 0);
    assert(term >= raft_log_last_term(log));
    assert(raft_log_has_room(log, term));

    if (log->run_count == 0 || log->runs[log->run_count - 1].term != term) {
        log->runs[log->run_count++] = (struct raft_run) { .index = log->last + 1, .term = term };
    }
    log->last += count;
}

void raft_log_truncate(struct raft_log *log, uint64_t from)
{
    assert(from > log->base);
    if (from > log->last) return;

    log->last = from - 1;
    if (log->persisted > log->last) log->persisted = log->last;
    while (log->run_count > 0 && log->runs[log->run_count - 1].index > log->last) log->run_count--;
}

void raft_log_compact(struct raft_log *log, uint64_t index)
{
    assert(index > log->base);
    assert(index <= log->last);

    uint32_t count = runs_up_to(log, index);
    log->base_term = log->runs[count - 1].term;
    log->base = index;
    if (log->persisted < index) log->persisted = index;

    /* The run that holds INDEX goes too when INDEX is its end. */
    uint64_t end = count < log->run_count ? log->runs[count].index - 1 : log->last;
    uint32_t gone = end == index ? count : count - 1;
    memmove(log->runs, log->runs + gone, (log->run_count - gone) * sizeof log->runs[0]);
    log->run_count -= gone;
    if (log->run_count > 0 && log->runs[0].index <= index) log->runs[0].index = index + 1;
}

bool raft_log_find_at_most(const struct raft_log *log, uint64_t index, uint64_t term,
                           uint64_t *ret_index)
{
    if (index > log->last) index = log->last;
    if (index < log->base) return false;

    /* Terms never fall along the log, so only whole runs have to be stepped over. */
    uint32_t count = runs_up_to(log, index);
    while (count > 0 && log->runs[count - 1].term > term) {
        count--;
        index = log->runs[count].index - 1;
    }
    if (count == 0 && log->base_term > term) return false;
    *ret_index = index;
    return true;
}

uint64_t raft_log_run_end(const struct raft_log *log, uint64_t index)
{
    assert(index > log->base);
    assert(index <= log->last);
    uint32_t count = runs_up_to(log, index);
    return count < log->run_count ? log->runs[count].index - 1 : log->last;
}
