/* Reading the journal back.
 *
 * 1. Read the header of every slot.
 * 2. From the highest segment down, find the first one whose first batch holds: the top. Its last
 *    valid batch says which segment is the oldest that matters; from the top's first batch a chain
 *    of "the segment before me, and where it ends" leads there.
 * 3. Replay the chain. Every segment below the top must hold up to the end that its successor
 *    recorded; the top up to the first batch that does not hold. If a header behind that place
 *    calls it synced, it is damage; else it is a torn tail.
 * 4. Only now write: the last batch once more, because after a crash of the process (not of the
 *    power) it may stand in the page cache only, where even a successful sync need not reach it. */
#include "store/journal_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { WINDOW_BYTES = 512 * 1024 };

/* A segment found on the disk. */
struct found {
    uint64_t number;
    uint32_t slot;
    bool has_batch;
    uint64_t end;         /* behind its last valid batch */
    uint64_t last_offset; /* of that batch */
    struct journal_batch_header first, last;
};

struct recovery {
    struct journal *journal;
    bool must_exist;
    struct error *error;
    struct found *found; /* by number */
    uint32_t found_count;
    uint32_t *chain; /* indexes into found, oldest first */
    uint32_t chain_count;
    uint64_t header_segment_bytes;
    /* What is read of one file, from `start`. */
    struct disk_file *file;
    uint8_t *window;
    size_t window_capacity, window_size;
    uint64_t window_start;
};

static enum status damaged(struct recovery *recovery, uint32_t slot, uint64_t offset,
                           const char *what)
{
    char path[JOURNAL_PATH_BYTES_MAX];
    journal_slot_path(recovery->journal, slot, path);
    return error_set(recovery->error, STATUS_CORRUPT,
                     "%s is damaged at byte %" PRIu64
                     ": %s; nothing was changed: restore this folder from a copy",
                     path, offset, what);
}

static enum status unreadable(struct recovery *recovery, uint32_t slot, enum status status)
{
    char path[JOURNAL_PATH_BYTES_MAX];
    journal_slot_path(recovery->journal, slot, path);
    return error_set(recovery->error, status, "%s cannot be read (%s)", path, status_name(status));
}

/* --- reading -----------------------------------------------------------------------------------
 */

/* Borrow SIZE bytes at OFFSET (STATUS_NOT_FOUND behind the end) until the next call. */
static enum status window_get(struct recovery *recovery, uint64_t offset, size_t size,
                              const uint8_t **ret_bytes)
{
    uint64_t have_end = recovery->window_start + recovery->window_size;
    if (offset < recovery->window_start || offset + size > have_end) {
        size_t want = size > WINDOW_BYTES ? size : WINDOW_BYTES;
        if (want > recovery->window_capacity) {
            uint8_t *window = realloc(recovery->window, want);
            if (window == NULL) return STATUS_NO_MEMORY;
            recovery->window = window;
            recovery->window_capacity = want;
        }
        recovery->window_size = 0;
        size_t got = 0;
        enum status status =
            recovery->journal->disk->read(recovery->file, offset, recovery->window, want, &got);
        if (status != STATUS_OK) return status;
        recovery->window_start = offset;
        recovery->window_size = got;
        if (got < size) return STATUS_NOT_FOUND;
    }
    *ret_bytes = recovery->window + (offset - recovery->window_start);
    return STATUS_OK;
}

static enum status slot_open_to_read(struct recovery *recovery, uint32_t slot)
{
    struct disk *disk = recovery->journal->disk;
    char path[JOURNAL_PATH_BYTES_MAX];
    journal_slot_path(recovery->journal, slot, path);
    recovery->window_size = 0;
    enum status status = disk->open(disk, path, DISK_OPEN_READ, &recovery->file);
    return status == STATUS_OK ? STATUS_OK : unreadable(recovery, slot, status);
}

static void slot_close_to_read(struct recovery *recovery)
{
    recovery->journal->disk->close(recovery->file);
    recovery->file = NULL;
}

/* The batch at OFFSET, if it holds. STATUS_NOT_FOUND: it does not. Read twice before saying so: a
 * bus may flip a bit that the platter holds. */
static enum status batch_get(struct recovery *recovery, const struct found *segment,
                             uint64_t offset, const struct journal_batch_header *previous,
                             struct journal_batch_header *ret_header, const uint8_t **ret_batch)
{
    struct journal *journal = recovery->journal;
    uint64_t salt = journal_salt(&journal->disk_incarnation, segment->number);
    for (unsigned tries = 0; tries < 2; tries++) {
        if (tries > 0) recovery->window_size = 0;
        const uint8_t *bytes;
        enum status status = window_get(recovery, offset, JOURNAL_BATCH_HEADER_BYTES, &bytes);
        if (status != STATUS_OK) return status;
        struct journal_batch_header header;
        uint64_t room = journal->segment_bytes - offset;
        if (!journal_batch_decode(bytes, salt, room, &header)) continue;
#ifndef MUTATION_JOURNAL_STALE_SEGMENT
        if (previous != NULL && header.sequence != previous->sequence + 1) continue;
        if (previous != NULL && header.epoch < previous->epoch) continue;
#else
        (void)previous;
#endif
        status = window_get(recovery, offset, header.size_bytes, &bytes);
        if (status == STATUS_NOT_FOUND) continue;
        if (status != STATUS_OK) return status;
        if (!journal_batch_body_holds(&header, bytes)) continue;
        *ret_header = header;
        *ret_batch = bytes;
        return STATUS_OK;
    }
    return STATUS_NOT_FOUND;
}

/* Does anything behind OFFSET, where no batch holds, call that place synced? */
static enum status find_evidence(struct recovery *recovery, const struct found *segment,
                                 uint64_t offset, bool *ret_found)
{
    struct journal *journal = recovery->journal;
    uint64_t salt = journal_salt(&journal->disk_incarnation, segment->number);
    uint64_t missing = segment->has_batch ? segment->last.sequence + 1 : 0;
    uint32_t epoch = segment->has_batch ? segment->last.epoch : 0;
    *ret_found = false;
    for (uint64_t at = offset + JOURNAL_BLOCK_BYTES; at < journal->segment_bytes;
         at += JOURNAL_BLOCK_BYTES) {
        const uint8_t *bytes;
        enum status status = window_get(recovery, at, JOURNAL_BATCH_HEADER_BYTES, &bytes);
        if (status == STATUS_NOT_FOUND) return STATUS_OK;
        if (status != STATUS_OK) return status;
        struct journal_batch_header header;
        if (!journal_batch_decode(bytes, salt, journal->segment_bytes - at, &header)) continue;
        if (header.epoch < epoch || header.synced_through < missing) continue;
        *ret_found = true;
        return STATUS_OK;
    }
    return STATUS_OK;
}

/* --- 1: the slots -------------------------------------------------------------------------------
 */

static enum status slot_note(struct recovery *recovery, uint32_t slot, uint64_t size,
                             const uint8_t *block)
{
    struct journal *journal = recovery->journal;
    struct journal_segment_header header = { 0 };
    journal->slots[slot].phase = JOURNAL_SLOT_RAW;
    switch (journal_segment_decode(block, &header)) {
    case JOURNAL_SEGMENT_BLANK: return STATUS_OK;
    case JOURNAL_SEGMENT_DAMAGED:
        return damaged(recovery, slot, 0, "neither copy of its header holds");
    case JOURNAL_SEGMENT_NEWER:
        return error_set(recovery->error, STATUS_UNSUPPORTED,
                         "the journal in %s was written by a newer version of this program",
                         journal->folder);
    case JOURNAL_SEGMENT_VALID: break;
    }
    if (!id_equal(&header.disk_incarnation, &journal->disk_incarnation)) {
        return damaged(recovery, slot, 0, "it belongs to another incarnation of this disk");
    }
    bool plausible = header.segment != 0 && header.segment <= UINT32_MAX &&
                     header.segment_bytes >= (uint64_t)4 * JOURNAL_BLOCK_BYTES &&
                     header.segment_bytes % JOURNAL_BLOCK_BYTES == 0;
    if (!plausible || (recovery->header_segment_bytes != 0 &&
                       recovery->header_segment_bytes != header.segment_bytes)) {
        return damaged(recovery, slot, 0, "its header makes no sense");
    }
    if (size < header.segment_bytes) {
        return damaged(recovery, slot, size, "the file is cut off");
    }
    recovery->header_segment_bytes = header.segment_bytes;
    journal->slots[slot].phase = JOURNAL_SLOT_READY;
    recovery->found[recovery->found_count++] =
        (struct found) { .number = header.segment, .slot = slot };
    return STATUS_OK;
}

static enum status slot_read_header(struct recovery *recovery, uint32_t slot, uint64_t size)
{
    if (size < JOURNAL_BLOCK_BYTES) {
        /* Not even begun to be filled. */
        recovery->journal->slots[slot].phase = JOURNAL_SLOT_RAW;
        return STATUS_OK;
    }
    enum status status = slot_open_to_read(recovery, slot);
    if (status != STATUS_OK) return status;
    size_t got = 0;
    uint8_t *block = malloc(JOURNAL_BLOCK_BYTES);
    status = block == NULL ? STATUS_NO_MEMORY
                           : recovery->journal->disk->read(recovery->file, 0, block,
                                                           JOURNAL_BLOCK_BYTES, &got);
    slot_close_to_read(recovery);
    if (status == STATUS_OK && got < JOURNAL_BLOCK_BYTES) status = STATUS_IO;
    if (status != STATUS_OK)
        status = unreadable(recovery, slot, status);
    else
        status = slot_note(recovery, slot, size, block);
    free(block);
    return status;
}

static bool parse_slot_name(const char *name, uint32_t *ret_slot)
{
    static const char prefix[] = "slot-";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return false;
    const char *digits = name + sizeof prefix - 1;
    uint32_t value = 0;
    if (strlen(digits) != 4) return false;
    for (; *digits != 0; digits++) {
        if (*digits < '0' || *digits > '9') return false;
        value = value * 10 + (uint32_t)(*digits - '0');
    }
    if (value >= JOURNAL_SEGMENTS_MAX) return false;
    *ret_slot = value;
    return true;
}

static enum status tables_make(struct recovery *recovery, const struct disk_entry *entries,
                               size_t count)
{
    struct journal *journal = recovery->journal;
    for (size_t i = 0; i < count; i++) {
        uint32_t slot;
        if (!parse_slot_name(entries[i].name, &slot)) continue;
        if (slot >= journal->slots_max) journal->slots_max = slot + 1;
    }
    journal->slots = calloc(journal->slots_max, sizeof *journal->slots);
    journal->segments = calloc(journal->slots_max, sizeof *journal->segments);
    recovery->found = calloc(journal->slots_max, sizeof *recovery->found);
    recovery->chain = calloc(journal->slots_max, sizeof *recovery->chain);
    bool made = journal->slots != NULL && journal->segments != NULL && recovery->found != NULL &&
                recovery->chain != NULL;
    return made ? STATUS_OK : error_set(recovery->error, STATUS_NO_MEMORY, "no memory");
}

static int compare_found(const void *a, const void *b)
{
    const struct found *left = a, *right = b;
    return left->number < right->number ? -1 : left->number > right->number;
}

static enum status slots_read(struct recovery *recovery)
{
    enum { ENTRIES_MAX = JOURNAL_SEGMENTS_MAX + 16 };
    struct journal *journal = recovery->journal;
    struct disk_entry *entries = malloc(ENTRIES_MAX * sizeof *entries);
    if (entries == NULL) return error_set(recovery->error, STATUS_NO_MEMORY, "no memory");
    size_t count = 0;
    enum status status =
        journal->disk->list(journal->disk, journal->folder, entries, ENTRIES_MAX, &count);
    if (status != STATUS_OK) {
        status = error_set(recovery->error, status, "the journal's folder %s cannot be listed (%s)",
                           journal->folder, status_name(status));
    }
    if (status == STATUS_OK) status = tables_make(recovery, entries, count);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        uint32_t slot;
        if (!parse_slot_name(entries[i].name, &slot)) continue;
        status = slot_read_header(recovery, slot, entries[i].size_bytes);
    }
    free(entries);
    if (status != STATUS_OK || recovery->found_count == 0) return status;

    if (recovery->header_segment_bytes != 0) {
        journal->segment_bytes = recovery->header_segment_bytes;
    }
    qsort(recovery->found, recovery->found_count, sizeof *recovery->found, compare_found);
    journal->segment_number_max = recovery->found[recovery->found_count - 1].number;
    for (uint32_t i = 1; i < recovery->found_count; i++) {
        if (recovery->found[i].number != recovery->found[i - 1].number) continue;
        return damaged(recovery, recovery->found[i].slot, 0, "its segment stands in two files");
    }
    return STATUS_OK;
}

/* --- 2: the chain --------------------------------------------------------------------------------
 */

/* Walk the batches of a segment up to LIMIT or the first that does not hold. REPLAY may be NULL. */
static enum status segment_walk(struct recovery *recovery, struct found *segment, uint64_t limit,
                                enum status (*replay)(struct recovery *, const struct found *,
                                                      uint64_t, const struct journal_batch_header *,
                                                      const uint8_t *))
{
    uint64_t offset = JOURNAL_BLOCK_BYTES;
    segment->has_batch = false;
    while (offset < limit) {
        struct journal_batch_header header;
        const uint8_t *batch;
        enum status status = batch_get(recovery, segment, offset,
                                       segment->has_batch ? &segment->last : NULL, &header, &batch);
        if (status == STATUS_NOT_FOUND) break;
        if (status != STATUS_OK) return unreadable(recovery, segment->slot, status);
        if (replay != NULL) {
            status = replay(recovery, segment, offset, &header, batch);
            if (status != STATUS_OK) return status;
        }
        if (!segment->has_batch) segment->first = header;
        segment->has_batch = true;
        segment->last = header;
        segment->last_offset = offset;
        offset += header.size_bytes;
    }
    segment->end = offset;
    return STATUS_OK;
}

/* STATUS_CORRUPT when what follows the last valid batch of SEGMENT is not a torn tail. */
static enum status judge_tail(struct recovery *recovery, const struct found *segment)
{
    bool synced;
    enum status status = find_evidence(recovery, segment, segment->end, &synced);
    if (status != STATUS_OK) return unreadable(recovery, segment->slot, status);
    if (!synced) return STATUS_OK;
    return damaged(recovery, segment->slot, segment->end, "a batch that was synced does not hold");
}

/* The highest segment with a batch that holds; found_count when there is none. */
static enum status find_top(struct recovery *recovery, uint32_t *ret_top)
{
    for (uint32_t i = recovery->found_count; i-- > 0;) {
        struct found *segment = &recovery->found[i];
        enum status status = slot_open_to_read(recovery, segment->slot);
        if (status != STATUS_OK) return status;
        status = segment_walk(recovery, segment, recovery->journal->segment_bytes, NULL);
        if (status == STATUS_OK) status = judge_tail(recovery, segment);
        slot_close_to_read(recovery);
        if (status != STATUS_OK) return status;
        if (segment->has_batch) {
            *ret_top = i;
            return STATUS_OK;
        }
    }
    *ret_top = recovery->found_count;
    return STATUS_OK;
}

static enum status read_first_batch(struct recovery *recovery, struct found *segment)
{
    enum status status = slot_open_to_read(recovery, segment->slot);
    if (status != STATUS_OK) return status;
    const uint8_t *batch;
    status = batch_get(recovery, segment, JOURNAL_BLOCK_BYTES, NULL, &segment->first, &batch);
    slot_close_to_read(recovery);
    if (status == STATUS_NOT_FOUND) {
        return damaged(recovery, segment->slot, JOURNAL_BLOCK_BYTES,
                       "a batch that was synced does not hold");
    }
    return status == STATUS_OK ? STATUS_OK : unreadable(recovery, segment->slot, status);
}

static uint32_t find_number(const struct recovery *recovery, uint64_t number)
{
    for (uint32_t i = 0; i < recovery->found_count; i++) {
        if (recovery->found[i].number == number) return i;
    }
    return recovery->found_count;
}

static enum status chain_build(struct recovery *recovery, uint32_t top)
{
    uint64_t oldest = recovery->found[top].last.oldest_segment;
    uint32_t at = top, count = 0;
    for (;;) {
        recovery->chain[count++] = at;
        struct found *segment = &recovery->found[at];
        if (segment->number == oldest) break;
        uint64_t before = segment->first.previous_segment;
        if (before >= segment->number || before < oldest) {
            return damaged(recovery, segment->slot, JOURNAL_BLOCK_BYTES,
                           "it names no segment before it");
        }
        at = find_number(recovery, before);
        if (at == recovery->found_count) {
            return error_set(recovery->error, STATUS_CORRUPT,
                             "segment %" PRIu64
                             " of the journal in %s is missing; nothing was changed: restore this "
                             "folder from a copy",
                             before, recovery->journal->folder);
        }
        enum status status = read_first_batch(recovery, &recovery->found[at]);
        if (status != STATUS_OK) return status;
    }
    recovery->chain_count = count;
    for (uint32_t i = 0; i < count / 2; i++) {
        uint32_t swapped = recovery->chain[i];
        recovery->chain[i] = recovery->chain[count - 1 - i];
        recovery->chain[count - 1 - i] = swapped;
    }
    return STATUS_OK;
}

/* --- 3: replay -----------------------------------------------------------------------------------
 */

static enum status replay_state(struct journal *journal, const struct journal_record *record,
                                uint64_t segment)
{
    if (record->payload.size > JOURNAL_GROUP_STATE_BYTES_MAX) return STATUS_CORRUPT;
    struct journal_run *run;
    enum status status = journal_run_make(journal, record->group, &run);
    if (status != STATUS_OK) return status;
    if (run->count == 0) run->first_index = record->index + 1;
    return journal_run_set_state(journal, run, record->payload, segment);
}

static enum status replay_entry(struct journal *journal, const struct journal_record *record,
                                const struct journal_place *place)
{
    if (record->index == 0 || record->payload.size == 0) return STATUS_CORRUPT;
    struct journal_run *run;
    enum status status = journal_run_make(journal, record->group, &run);
    if (status != STATUS_OK) return status;
    if (record->kind == JOURNAL_RECORD_ENTRY) journal_run_cut(journal, run, record->index);
    return journal_run_set(journal, run, record->index, place);
}

static enum status replay_record(struct journal *journal, const struct journal_record *record,
                                 const struct journal_place *place)
{
    struct journal_run *run = journal_run_find(journal, record->group);
    switch (record->kind) {
    case JOURNAL_RECORD_STATE: return replay_state(journal, record, place->segment);
    case JOURNAL_RECORD_ENTRY:
    case JOURNAL_RECORD_CARRIED: return replay_entry(journal, record, place);
    case JOURNAL_RECORD_TRUNCATE:
        if (run != NULL) journal_run_cut(journal, run, record->index);
        return STATUS_OK;
    case JOURNAL_RECORD_RELEASE:
        if (run != NULL && record->index != UINT64_MAX) {
            journal_run_release(journal, run, record->index);
        }
        return STATUS_OK;
    case JOURNAL_RECORD_REMOVE:
        if (run != NULL) journal_run_remove(journal, run);
        return STATUS_OK;
    case JOURNAL_RECORD_KIND_COUNT: break;
    }
    return STATUS_CORRUPT;
}

static enum status replay_batch(struct recovery *recovery, const struct found *segment,
                                uint64_t offset, const struct journal_batch_header *header,
                                const uint8_t *batch)
{
    struct journal *journal = recovery->journal;
    size_t at = JOURNAL_BATCH_HEADER_BYTES;
    size_t end = at + header->used_bytes;
    for (uint32_t i = 0; i < header->record_count; i++) {
        struct journal_record record;
        if (!journal_record_decode(batch + at, end - at, &record)) {
            return damaged(recovery, segment->slot, offset + at, "a record does not hold");
        }
        struct journal_place place = {
            .term = record.term,
            .segment = (uint32_t)segment->number,
            .position = (uint32_t)((offset + at) / JOURNAL_RECORD_ALIGN),
            .size = (uint32_t)record.payload.size,
        };
        enum status status = replay_record(journal, &record, &place);
        if (status == STATUS_NO_MEMORY) return error_set(recovery->error, status, "no memory");
        if (status != STATUS_OK) {
            return damaged(recovery, segment->slot, offset + at, "a record makes no sense");
        }
        at += journal_record_size(record.payload.size);
    }
    if (header->epoch >= journal->epoch) journal->epoch = header->epoch + 1;
    return STATUS_OK;
}

static enum status chain_replay(struct recovery *recovery)
{
    struct journal *journal = recovery->journal;
    for (uint32_t i = 0; i < recovery->chain_count; i++) {
        struct found *segment = &recovery->found[recovery->chain[i]];
        journal->segments[i] = (struct journal_segment) {
            .number = segment->number,
            .previous = segment->first.previous_segment,
            .previous_end = segment->first.previous_end,
            .slot = segment->slot,
        };
    }
    journal->segment_count = recovery->chain_count;
    for (uint32_t i = 0; i < recovery->chain_count; i++) {
        struct found *segment = &recovery->found[recovery->chain[i]];
        bool is_top = i + 1 == recovery->chain_count;
        uint64_t limit =
            is_top ? segment->end : recovery->found[recovery->chain[i + 1]].first.previous_end;
        enum status status = slot_open_to_read(recovery, segment->slot);
        if (status != STATUS_OK) return status;
        status = segment_walk(recovery, segment, limit, replay_batch);
        slot_close_to_read(recovery);
        if (status != STATUS_OK) return status;
        if (segment->end != limit) {
            return damaged(recovery, segment->slot, segment->end,
                           "a batch that was synced does not hold");
        }
        if (is_top) break;
        const struct found *next = &recovery->found[recovery->chain[i + 1]];
        if (segment->has_batch && segment->last.sequence + 1 != next->first.sequence) {
            return damaged(recovery, next->slot, JOURNAL_BLOCK_BYTES,
                           "it does not follow the segment before it");
        }
    }
    return STATUS_OK;
}

static enum status runs_check(struct recovery *recovery)
{
    struct journal *journal = recovery->journal;
    for (uint32_t i = 0; i < journal->run_count; i++) {
        const struct journal_run *run = journal->runs[i];
        bool whole = run->state_segment != 0;
        for (uint32_t at = 0; at < run->count && whole; at++) {
            whole = journal_run_at(run, run->first_index + at)->segment != 0;
        }
        if (whole) continue;
        return error_set(recovery->error, STATUS_CORRUPT,
                         "the journal in %s lacks records of group %" PRIu64
                         "; nothing was changed: restore this folder from a copy",
                         journal->folder, run->group);
    }
    return STATUS_OK;
}

/* --- 4: making ready -----------------------------------------------------------------------------
 */

static enum status slots_open(struct recovery *recovery)
{
    struct journal *journal = recovery->journal;
    for (uint32_t i = 0; i < journal->segment_count; i++) {
        journal->slots[journal->segments[i].slot].phase = JOURNAL_SLOT_USED;
    }
    for (uint32_t slot = 0; slot < journal->slots_max; slot++) {
        if (journal->slots[slot].phase == JOURNAL_SLOT_ABSENT) continue;
        char path[JOURNAL_PATH_BYTES_MAX];
        journal_slot_path(journal, slot, path);
        enum status status = journal->disk->open(
            journal->disk, path, DISK_OPEN_WRITE | DISK_OPEN_DIRECT, &journal->slots[slot].file);
        if (status != STATUS_OK) {
            return error_set(recovery->error, status, "%s cannot be opened to write (%s)", path,
                             status_name(status));
        }
    }
    return STATUS_OK;
}

static enum status last_batch_rewrite(struct recovery *recovery, const struct found *top)
{
    struct journal *journal = recovery->journal;
    bool is_first = top->last_offset == JOURNAL_BLOCK_BYTES;
    uint64_t from = is_first ? 0 : top->last_offset;
    size_t size = (size_t)(top->end - from);
    uint8_t *bytes = aligned_alloc(DISK_DIRECT_ALIGN, size);
    if (bytes == NULL) return error_set(recovery->error, STATUS_NO_MEMORY, "no memory");
    struct disk_file *file = journal->slots[top->slot].file;
    size_t got = 0;
    enum status status = journal->disk->read(file, from, bytes, size, &got);
    /* What is written must be what was judged; the file may be read from another place now. */
    const uint8_t *batch = bytes + (is_first ? JOURNAL_BLOCK_BYTES : 0);
    if (status == STATUS_OK && (got != size || !journal_batch_body_holds(&top->last, batch))) {
        status = STATUS_CORRUPT;
    }
    if (status == STATUS_OK && is_first) {
        journal_segment_encode(
            &(struct journal_segment_header) { .segment = top->number,
                                               .segment_bytes = journal->segment_bytes,
                                               .disk_incarnation = journal->disk_incarnation },
            bytes);
    }
    if (status == STATUS_OK) status = journal->disk->write_sync(file, from, bytes, size);
    free(bytes);
    if (status == STATUS_OK) return STATUS_OK;
    return error_set(recovery->error, status,
                     "the last batch of the journal in %s could not be written again (%s)",
                     journal->folder, status_name(status));
}

static enum status recover_from(struct recovery *recovery)
{
    struct journal *journal = recovery->journal;
    journal->epoch = 1;
    enum status status = slots_read(recovery);
    uint32_t top = 0;
    if (status == STATUS_OK) status = find_top(recovery, &top);
    if (status != STATUS_OK) return status;

    uint64_t half = journal->segment_bytes / 2;
    journal->staged_bytes_max =
        half < JOURNAL_STAGED_BYTES_MAX ? (size_t)half : JOURNAL_STAGED_BYTES_MAX;
    if (top == recovery->found_count && recovery->must_exist) {
        return error_set(recovery->error, STATUS_CORRUPT,
                         "the journal in %s is gone; restore this folder from a copy",
                         journal->folder);
    }
    if (top == recovery->found_count) return slots_open(recovery);

    status = chain_build(recovery, top);
    if (status == STATUS_OK) status = chain_replay(recovery);
    if (status == STATUS_OK) status = runs_check(recovery);
    if (status == STATUS_OK) status = slots_open(recovery);
    if (status == STATUS_OK) status = last_batch_rewrite(recovery, &recovery->found[top]);
    if (status != STATUS_OK) return status;

    const struct found *last = &recovery->found[top];
    journal->tail_segment = last->number;
    journal->tail_offset = last->end;
    journal->sequence = last->last.sequence;
    journal->durable_oldest = last->last.oldest_segment;
    journal->tail_unmarked = last->last.record_count > 0;
    return STATUS_OK;
}

enum status journal_recover(struct journal *journal, bool must_exist, struct error *error)
{
    struct disk *disk = journal->disk;
    enum status status = disk->make_folder(disk, journal->folder);
    if (status == STATUS_OK || status == STATUS_EXISTS) {
        char parent[JOURNAL_PATH_BYTES_MAX];
        snprintf(parent, sizeof parent, "%s", journal->folder);
        char *slash = strrchr(parent, '/');
        if (slash != NULL)
            *slash = 0;
        else
            parent[0] = 0;
        status = disk->sync_folder(disk, parent);
    }
    if (status != STATUS_OK) {
        return error_set(error, status, "the journal's folder %s cannot be made (%s)",
                         journal->folder, status_name(status));
    }
    struct recovery recovery = { .journal = journal, .must_exist = must_exist, .error = error };
    status = recover_from(&recovery);
    free(recovery.found);
    free(recovery.chain);
    free(recovery.window);
    if (status != STATUS_OK) return status;
    /* The first flush of a new journal must not wait for zeros, and a disk without room must show
     * now. */
    if (journal->segment_count > 0) return STATUS_OK;
    status = journal_make_spares(journal, 1, error);
    if (status == STATUS_OK && journal_spares_ready(journal) == 0) {
        return error_set(error, STATUS_FULL, "no room on the disk for the journal in %s",
                         journal->folder);
    }
    return status;
}
