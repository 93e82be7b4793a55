/* Which record of which group lives where: sorted runs, each a ring of places. */
#include "store/journal_internal.h"

#include <assert.h>
#include <stdlib.h>

enum { RUN_CAPACITY_MIN = 8 };

uint32_t journal_run_rank(const struct journal *journal, uint64_t group)
{
    uint32_t low = 0, high = journal->run_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (journal->runs[middle]->group < group)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct journal_run *journal_run_find(const struct journal *journal, uint64_t group)
{
    uint32_t rank = journal_run_rank(journal, group);
    if (rank == journal->run_count || journal->runs[rank]->group != group) return NULL;
    return journal->runs[rank];
}

enum status journal_run_make(struct journal *journal, uint64_t group, struct journal_run **ret_run)
{
    uint32_t rank = journal_run_rank(journal, group);
    if (rank < journal->run_count && journal->runs[rank]->group == group) {
        *ret_run = journal->runs[rank];
        return STATUS_OK;
    }
    if (journal->run_count == JOURNAL_GROUPS_MAX) return STATUS_FULL;
    if (journal->run_count == journal->run_capacity) {
        uint32_t capacity = journal->run_capacity == 0 ? 16 : journal->run_capacity * 2;
        struct journal_run **runs = realloc(journal->runs, capacity * sizeof(struct journal_run *));
        if (runs == NULL) return STATUS_NO_MEMORY;
        journal->runs = runs;
        journal->run_capacity = capacity;
    }
    struct journal_run *run = calloc(1, sizeof *run);
    if (run == NULL) return STATUS_NO_MEMORY;
    run->group = group;
    run->first_index = 1;
    size_t behind = journal->run_count - rank;
    memmove(&journal->runs[rank + 1], &journal->runs[rank], behind * sizeof(struct journal_run *));
    journal->runs[rank] = run;
    journal->run_count++;
    *ret_run = run;
    return STATUS_OK;
}

struct journal_place *journal_run_at(const struct journal_run *run, uint64_t index)
{
    assert(index >= run->first_index && index - run->first_index < run->count);
    uint32_t at = run->head + (uint32_t)(index - run->first_index);
    return &run->ring[at & (run->capacity - 1)];
}

static void place_drop(struct journal *journal, const struct journal_place *place)
{
    if (place->segment == 0) return;
    journal_segment_drop_live(journal, place->segment, place->size);
    journal->entry_count--;
}

/* Lay the ring out anew with CAPACITY places, from its head. */
static bool run_resize(struct journal_run *run, uint32_t capacity)
{
    struct journal_place *ring = malloc(capacity * sizeof *ring);
    if (ring == NULL) return false;
    for (uint32_t i = 0; i < run->count; i++) {
        ring[i] = run->ring[(run->head + i) & (run->capacity - 1)];
    }
    free(run->ring);
    run->ring = ring;
    run->capacity = capacity;
    run->head = 0;
    return true;
}

/* After entries went: give memory back, so that ten thousand idle groups stay small and a burst
 * leaves nothing behind. */
static void run_shrink(struct journal_run *run)
{
    if (run->capacity <= RUN_CAPACITY_MIN) return;
    if (run->count == 0) {
        free(run->ring);
        run->ring = NULL;
        run->capacity = run->head = 0;
    } else if (run->count < run->capacity / 16) {
        (void)run_resize(run, run->capacity / 4); /* without memory it stays as it is */
    }
}

void journal_run_cut(struct journal *journal, struct journal_run *run, uint64_t from_index)
{
    while (run->count > 0 && journal_run_last(run) >= from_index) {
        place_drop(journal, journal_run_at(run, journal_run_last(run)));
        run->count--;
    }
    run_shrink(run);
}

void journal_run_release(struct journal *journal, struct journal_run *run, uint64_t index)
{
    while (run->count > 0 && run->first_index <= index) {
        place_drop(journal, journal_run_at(run, run->first_index));
        run->first_index++;
        run->head = (run->head + 1) & (run->capacity - 1);
        run->count--;
    }
    if (run->count == 0 && run->first_index <= index) run->first_index = index + 1;
    run_shrink(run);
}

void journal_run_remove(struct journal *journal, struct journal_run *run)
{
    journal_run_cut(journal, run, 0);
    if (run->state_segment != 0) {
        journal_segment_drop_live(journal, run->state_segment, run->state_size);
    }
    uint32_t rank = journal_run_rank(journal, run->group);
    assert(journal->runs[rank] == run);
    size_t behind = journal->run_count - rank - 1;
    memmove(&journal->runs[rank], &journal->runs[rank + 1], behind * sizeof(struct journal_run *));
    journal->run_count--;
    free(run->ring);
    free(run->state);
    free(run);
}

void journal_runs_finish(struct journal *journal)
{
    for (uint32_t i = 0; i < journal->run_count; i++) {
        free(journal->runs[i]->ring);
        free(journal->runs[i]->state);
        free(journal->runs[i]);
    }
    free(journal->runs);
    journal->runs = NULL;
    journal->run_count = journal->run_capacity = 0;
}

/* Room for COUNT places in all. */
static enum status run_grow(struct journal_run *run, uint64_t count)
{
    if (count <= run->capacity) return STATUS_OK;
    if (count > JOURNAL_ENTRIES_MAX) return STATUS_FULL;
    uint32_t capacity = run->capacity == 0 ? RUN_CAPACITY_MIN : run->capacity;
    while (capacity < count) capacity *= 2;
    return run_resize(run, capacity) ? STATUS_OK : STATUS_NO_MEMORY;
}

enum status journal_run_reserve(struct journal *journal, struct journal_run *run)
{
    if (journal->entry_count >= JOURNAL_ENTRIES_MAX) return STATUS_FULL;
    return run_grow(run, (uint64_t)run->count + 1);
}

/* Extend the run by holes until INDEX is in it. */
static enum status run_extend(struct journal_run *run, uint64_t index)
{
    static const struct journal_place hole;
    if (run->count == 0) run->first_index = index;
    uint64_t first = index < run->first_index ? index : run->first_index;
    uint64_t end = run->first_index + run->count;
    if (index + 1 > end) end = index + 1;
    enum status status = run_grow(run, end - first);
    if (status != STATUS_OK) return status;
    while (run->first_index > first) {
        run->first_index--;
        run->head = (run->head - 1) & (run->capacity - 1);
        run->count++;
        *journal_run_at(run, run->first_index) = hole;
    }
    while (run->first_index + run->count < end) {
        run->count++;
        *journal_run_at(run, journal_run_last(run)) = hole;
    }
    return STATUS_OK;
}

enum status journal_run_set(struct journal *journal, struct journal_run *run, uint64_t index,
                            const struct journal_place *place)
{
    if (index == 0 || index == UINT64_MAX) return STATUS_CORRUPT;
    enum status status = run_extend(run, index);
    if (status != STATUS_OK) return status;
    struct journal_place *old = journal_run_at(run, index);
    if (old->segment != 0) place_drop(journal, old);
    *old = *place;
    journal_segment_add_live(journal, place->segment, place->size);
    journal->entry_count++;
    return STATUS_OK;
}

enum status journal_run_set_state(struct journal *journal, struct journal_run *run,
                                  struct bytes state, uint64_t segment)
{
    assert(state.size <= JOURNAL_GROUP_STATE_BYTES_MAX);
    if (state.data != run->state || state.size != run->state_size) {
        uint8_t *copy = NULL;
        if (state.size > 0) {
            copy = malloc(state.size);
            if (copy == NULL) return STATUS_NO_MEMORY;
            memcpy(copy, state.data, state.size);
        }
        if (run->state_segment != 0) {
            journal_segment_drop_live(journal, run->state_segment, run->state_size);
        }
        free(run->state);
        run->state = copy;
        run->state_size = (uint32_t)state.size;
    } else if (run->state_segment != 0) {
        journal_segment_drop_live(journal, run->state_segment, run->state_size);
    }
    run->state_segment = (uint32_t)segment;
    journal_segment_add_live(journal, run->state_segment, run->state_size);
    return STATUS_OK;
}
