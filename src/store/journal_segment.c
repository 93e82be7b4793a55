/* Slots, segments in use, spares, and carrying forward what still lives in the oldest segment. */
#include "store/journal_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

struct journal_segment *journal_segment_find(const struct journal *journal, uint64_t number)
{
    uint32_t low = 0, high = journal->segment_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (journal->segments[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == journal->segment_count || journal->segments[low].number != number) return NULL;
    return &journal->segments[low];
}

void journal_segment_add_live(struct journal *journal, uint32_t number, size_t payload_size)
{
    struct journal_segment *segment = journal_segment_find(journal, number);
    assert(segment != NULL);
    segment->live_bytes += journal_record_size(payload_size);
}

void journal_segment_drop_live(struct journal *journal, uint32_t number, size_t payload_size)
{
    struct journal_segment *segment = journal_segment_find(journal, number);
#ifdef MUTATION_JOURNAL_RELEASE_EARLY /* segments go while entries in them live */
    if (segment == NULL) return;
#endif
    assert(segment != NULL);
    assert(segment->live_bytes >= journal_record_size(payload_size));
    segment->live_bytes -= journal_record_size(payload_size);
}

void journal_slot_path(const struct journal *journal, uint32_t slot,
                       char ret_path[JOURNAL_PATH_BYTES_MAX])
{
    int size = snprintf(ret_path, JOURNAL_PATH_BYTES_MAX, "%s/slot-%04u", journal->folder, slot);
    assert(size > 0 && size < JOURNAL_PATH_BYTES_MAX);
}

uint32_t journal_spares_ready(const struct journal *journal)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < journal->slots_max; i++) {
        count += journal->slots[i].phase == JOURNAL_SLOT_READY;
    }
    return count;
}

/* --- spares ----------------------------------------------------------------------------------- */

static enum status slot_write_zeros(struct journal *journal, struct journal_slot *slot)
{
    struct disk *disk = journal->disk;
    uint8_t *zeros = aligned_alloc(DISK_DIRECT_ALIGN, JOURNAL_FILL_BYTES);
    if (zeros == NULL) return STATUS_NO_MEMORY;
    memset(zeros, 0, JOURNAL_FILL_BYTES);
    enum status status = STATUS_OK;
    for (uint64_t at = 0; at < journal->segment_bytes && status == STATUS_OK;
         at += JOURNAL_FILL_BYTES) {
        uint64_t left = journal->segment_bytes - at;
        size_t part = left < JOURNAL_FILL_BYTES ? (size_t)left : JOURNAL_FILL_BYTES;
        status = disk->write(slot->file, at, zeros, part);
    }
    free(zeros);
    if (status == STATUS_OK) status = disk->truncate(slot->file, journal->segment_bytes);
    return status;
}

/* STATUS_FULL: the file is gone again. Anything else but STATUS_OK stops the journal. */
static enum status slot_fill(struct journal *journal, uint32_t number)
{
    struct disk *disk = journal->disk;
    struct journal_slot *slot = &journal->slots[number];
    char path[JOURNAL_PATH_BYTES_MAX];
    journal_slot_path(journal, number, path);
    slot->phase = JOURNAL_SLOT_FILLING;

    enum status status = STATUS_OK;
    if (slot->file == NULL) {
        struct disk_file *file;
        status = disk->open(disk, path, DISK_OPEN_CREATE | DISK_OPEN_DIRECT, &file);
        if (status == STATUS_OK) slot->file = file;
    }
    if (status == STATUS_OK) status = slot_write_zeros(journal, slot);
    if (status == STATUS_FULL) {
        if (slot->file != NULL) disk->close(slot->file);
        slot->file = NULL;
        slot->phase = JOURNAL_SLOT_ABSENT;
        enum status removed = disk->remove(disk, path);
        return removed == STATUS_OK || removed == STATUS_NOT_FOUND ? STATUS_FULL : removed;
    }
    if (status == STATUS_OK) status = disk->sync(slot->file);
    if (status == STATUS_OK) status = disk->sync_folder(disk, journal->folder);
    slot->phase = status == STATUS_OK ? JOURNAL_SLOT_READY : JOURNAL_SLOT_RAW;
    return status;
}

static uint32_t find_slot_to_fill(const struct journal *journal)
{
    for (uint32_t i = 0; i < journal->slots_max; i++) {
        if (journal->slots[i].phase == JOURNAL_SLOT_RAW) return i;
    }
    for (uint32_t i = 0; i < journal->slots_max; i++) {
        if (journal->slots[i].phase == JOURNAL_SLOT_ABSENT) return i;
    }
    return journal->slots_max;
}

enum status journal_make_spares(struct journal *journal, uint32_t count, struct error *error)
{
    while (!journal->failed && journal_spares_ready(journal) < count) {
        uint32_t number = find_slot_to_fill(journal);
        if (number == journal->slots_max) return STATUS_OK;
        enum status status = slot_fill(journal, number);
        journal->disk_full = status == STATUS_FULL;
        if (status == STATUS_FULL) return STATUS_OK;
        if (status == STATUS_NO_MEMORY) return STATUS_OK; /* the next call tries again */
        if (status != STATUS_OK) {
            return journal_fail(journal, error, "a new journal segment could not be made");
        }
    }
    return journal->failed ? STATUS_IO : STATUS_OK;
}

/* Give back files that a burst left behind. Their names may come back after a power loss; then
 * their old numbers tell that they are spares. */
static enum status drop_spares(struct journal *journal, struct error *error)
{
    for (uint32_t i = journal->slots_max; i-- > 0;) {
        if (journal_spares_ready(journal) <= JOURNAL_SPARES_KEPT) return STATUS_OK;
        struct journal_slot *slot = &journal->slots[i];
        if (slot->phase != JOURNAL_SLOT_READY || slot->readers > 0) continue;
        journal->disk->close(slot->file);
        slot->file = NULL;
        slot->phase = JOURNAL_SLOT_FILLING; /* nobody else may take it meanwhile */
        char path[JOURNAL_PATH_BYTES_MAX];
        journal_slot_path(journal, i, path);
        enum status status = journal->disk->remove(journal->disk, path);
        slot->phase = JOURNAL_SLOT_ABSENT;
        if (status != STATUS_OK) {
            return journal_fail(journal, error, "a spare journal segment could not be removed");
        }
    }
    return STATUS_OK;
}

/* --- segments in use -------------------------------------------------------------------------- */

void journal_segment_begin(struct journal *journal)
{
    uint32_t number = 0;
    while (journal->slots[number].phase != JOURNAL_SLOT_READY) {
        number++;
        assert(number < journal->slots_max);
    }
    assert(journal->segment_count < journal->slots_max);
    assert(journal->segment_number_max < UINT32_MAX);
    struct journal_segment segment = { .number = ++journal->segment_number_max, .slot = number };
    if (journal->segment_count > 0) {
        segment.previous = journal->segments[journal->segment_count - 1].number;
        segment.previous_end = journal->tail_offset;
    }
    journal->slots[number].phase = JOURNAL_SLOT_USED;
    journal->segments[journal->segment_count++] = segment;
    journal->tail_segment = segment.number;
    journal->tail_offset = 0;
}

uint64_t journal_oldest_needed(const struct journal *journal, uint64_t first_written)
{
    for (uint32_t i = 0; i < journal->segment_count; i++) {
        const struct journal_segment *segment = &journal->segments[i];
#ifndef MUTATION_JOURNAL_RELEASE_EARLY
        if (segment->live_bytes > 0) return segment->number;
#endif
        if (segment->number == first_written) return segment->number;
    }
    return first_written;
}

void journal_segments_recycle(struct journal *journal, uint64_t oldest)
{
    uint32_t gone = 0;
    while (gone < journal->segment_count && journal->segments[gone].number < oldest) {
        journal->slots[journal->segments[gone].slot].phase = JOURNAL_SLOT_READY;
        gone++;
    }
    if (gone == 0) return;
    journal->segment_count -= gone;
    memmove(journal->segments, journal->segments + gone,
            journal->segment_count * sizeof *journal->segments);
}

/* --- carrying forward ------------------------------------------------------------------------- */

static uint64_t live_bytes(const struct journal *journal)
{
    uint64_t live = 0;
    for (uint32_t i = 0; i < journal->segment_count; i++) live += journal->segments[i].live_bytes;
    return live;
}

/* The oldest segment, when moving what lives in it pays: little lives there, or the journal fills
 * up and what lives in all of it would fit half. 0: none. */
static uint64_t segment_to_carry(const struct journal *journal)
{
    if (journal->segment_count < 3) return 0;
    const struct journal_segment *oldest = &journal->segments[0];
    if (oldest->live_bytes == 0) return 0;
    if (oldest->live_bytes <= journal->segment_bytes / 8) return oldest->number;
    uint64_t whole = (uint64_t)journal->slots_max * journal->segment_bytes;
    bool crowded = journal->segment_count >= journal->slots_max - journal->slots_max / 4;
    return crowded && live_bytes(journal) <= whole / 2 ? oldest->number : 0;
}

bool journal_can_make_room(const struct journal *journal)
{
    if (segment_to_carry(journal) != 0) return true;
    return !journal->disk_full && find_slot_to_fill(journal) < journal->slots_max;
}

static enum status carry_state(struct journal *journal, struct journal_run *run)
{
    enum status status = journal_stage_reserve(journal, journal_record_size(run->state_size), true);
    if (status != STATUS_OK) return status;
    struct bytes state = bytes_of(run->state, run->state_size);
    struct journal_place place;
    journal_stage_record(journal,
                         &(struct journal_record) { .kind = JOURNAL_RECORD_STATE,
                                                    .group = run->group,
                                                    .index = run->first_index - 1,
                                                    .payload = state },
                         &place);
    journal->carried_records++;
    return journal_run_set_state(journal, run, state, place.segment);
}

/* Suspends in the read: afterwards the entry may have been cut, released or moved. */
static enum status carry_entry(struct journal *journal, uint64_t group, uint64_t index,
                               struct buffer *buffer)
{
    struct journal_place before = *journal_run_at(journal_run_find(journal, group), index);
    uint64_t term;
    enum status status = journal_read(journal, group, index, &term, buffer);
    if (status == STATUS_NOT_FOUND) return STATUS_OK;
    if (status != STATUS_OK) return status;
    status = journal_stage_reserve(journal, journal_record_size(buffer->used), true);
    if (status != STATUS_OK) return status;
    struct journal_run *run = journal_run_find(journal, group);
    if (run == NULL || index < run->first_index || index > journal_run_last(run)) return STATUS_OK;
    struct journal_place *now = journal_run_at(run, index);
    if (now->segment != before.segment || now->position != before.position) return STATUS_OK;
    struct journal_place place;
    journal_stage_record(
        journal,
        &(struct journal_record) { .kind = JOURNAL_RECORD_CARRIED,
                                   .group = group,
                                   .index = index,
                                   .term = term,
                                   .payload = bytes_of(buffer->data, buffer->used) },
        &place);
    journal->carried_records++;
    return journal_run_set(journal, run, index, &place);
}

static bool carry_must_pause(const struct journal *journal)
{
    return journal_staged_bytes(journal) >= journal->staged_bytes_max / 2;
}

static enum status carry_group(struct journal *journal, uint64_t group, uint64_t segment,
                               struct buffer *buffer)
{
    struct journal_run *run = journal_run_find(journal, group);
    if (run->state_segment == segment) {
        enum status status = carry_state(journal, run);
        if (status != STATUS_OK) return status;
    }
    for (uint64_t index = run->first_index;; index++) {
        run = journal_run_find(journal, group);
        if (run == NULL || run->count == 0 || index > journal_run_last(run)) return STATUS_OK;
        if (index < run->first_index) index = run->first_index;
        if (journal_run_at(run, index)->segment != segment) continue;
        if (carry_must_pause(journal)) return STATUS_BUSY;
        enum status status = carry_entry(journal, group, index, buffer);
        if (status != STATUS_OK) return status;
    }
}

/* Stage what lives in SEGMENT again; the flush that covers it makes the segment free. STATUS_BUSY:
 * a part, as much as one flush should take. */
static enum status carry_segment(struct journal *journal, uint64_t segment)
{
    struct buffer buffer;
    buffer_init(&buffer, LIMIT_ENTRY_BYTES_MAX);
    uint64_t group = 0;
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        uint32_t rank = journal_run_rank(journal, group);
        if (rank == journal->run_count) break;
        group = journal->runs[rank]->group;
        if (carry_must_pause(journal))
            status = STATUS_BUSY;
        else
            status = carry_group(journal, group, segment, &buffer);
        if (group == UINT64_MAX) break;
        group++;
    }
    buffer_finish(&buffer);
    return status;
}

bool journal_wants_maintenance(const struct journal *journal)
{
    if (journal->failed || journal->maintaining) return false;
    uint32_t ready = journal_spares_ready(journal);
    if (ready > JOURNAL_SPARES_KEPT) return true;
    if (segment_to_carry(journal) != 0 && !carry_must_pause(journal)) return true;
    bool can_grow = find_slot_to_fill(journal) < journal->slots_max;
    return ready < JOURNAL_SPARES_READY && can_grow &&
           (!journal->disk_full || journal->spare_wanted);
}

enum status journal_make_room(struct journal *journal, struct error *error)
{
    journal->spare_wanted = false;
    enum status status = journal_make_spares(journal, JOURNAL_SPARES_READY, error);
    uint64_t segment = status == STATUS_OK ? segment_to_carry(journal) : 0;
    if (segment == 0) return status;
    status = carry_segment(journal, segment);
    /* No room for all of it now: the next call goes on. */
    if (status == STATUS_BUSY || status == STATUS_FULL || status == STATUS_NO_MEMORY) {
        return STATUS_OK;
    }
    if (status == STATUS_OK) return STATUS_OK;
    return journal_fail(journal, error, "an entry could not be carried forward");
}

enum status journal_maintain(struct journal *journal, struct error *error)
{
    if (journal->failed) return journal_fail(journal, error, "an earlier failure closed it");
    if (journal->maintaining) return STATUS_OK;
    journal->maintaining = true;
    enum status status = journal_make_room(journal, error);
    if (status == STATUS_OK) status = drop_spares(journal, error);
    journal->maintaining = false;
    return status;
}
