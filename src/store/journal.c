/* Staging, flushing, reading.
 *
 * Records are laid out in memory exactly as they will stand on disk, so an append is one copy and a
 * checksum, a flush one write. Two buffers: appends go on into one while the other is written. The
 * place of a record on disk is known when it is staged, because the parts follow each other without
 * gaps and only one flush runs at a time. */
#include "store/journal.h"

#include "base/checksum.h"
#include "store/journal_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static size_t round_up_block(size_t size)
{
    return (size + JOURNAL_BLOCK_BYTES - 1) & ~(size_t)(JOURNAL_BLOCK_BYTES - 1);
}

enum status journal_fail(struct journal *journal, struct error *error, const char *what)
{
    journal->failed = true;
    return error_set(error, STATUS_IO,
                     "the journal in %s stopped: %s; restart to recover what was synced",
                     journal->folder, what);
}

/* --- staging ---------------------------------------------------------------------------------- */

size_t journal_staged_bytes(const struct journal *journal)
{
    size_t size = 0;
    for (unsigned i = 0; i < journal->staging->part_count; i++) {
        size += journal->staging->parts[i].used;
    }
    return size;
}

static enum status staging_reserve(struct journal_staging *staging, size_t size)
{
    if (staging->used + size <= staging->capacity) return STATUS_OK;
    size_t capacity = staging->capacity == 0 ? JOURNAL_STAGING_BYTES_MIN : staging->capacity;
    while (capacity < staging->used + size) capacity *= 2;
    uint8_t *bytes = aligned_alloc(DISK_DIRECT_ALIGN, capacity);
    if (bytes == NULL) return STATUS_NO_MEMORY;
    if (staging->used > 0) memcpy(bytes, staging->bytes, staging->used);
    free(staging->bytes);
    staging->bytes = bytes;
    staging->capacity = capacity;
    return STATUS_OK;
}

static void staging_clear(struct journal_staging *staging)
{
    staging->part_count = 0;
    staging->used = 0;
    if (staging->capacity <= JOURNAL_STAGING_BYTES_KEPT) return;
    free(staging->bytes);
    staging->bytes = NULL;
    staging->capacity = 0;
}

/* The open part gets no more records: pad it, so that the next one stands at a block. */
static void part_close(struct journal *journal)
{
    struct journal_staging *staging = journal->staging;
    struct journal_part *part = &staging->parts[staging->part_count - 1];
    size_t end = part->start + part->used, padded = part->start + round_up_block(part->used);
    assert(padded <= staging->capacity);
    memset(staging->bytes + end, 0, padded - end);
    staging->used = padded;
    journal->tail_offset = part->file_offset + round_up_block(part->used);
}

static void part_open(struct journal *journal, bool begins_segment)
{
    struct journal_staging *staging = journal->staging;
    size_t headers = JOURNAL_BATCH_HEADER_BYTES + (begins_segment ? JOURNAL_BLOCK_BYTES : 0);
    struct journal_part *part = &staging->parts[staging->part_count++];
    *part = (struct journal_part) {
        .segment = journal->tail_segment,
        .file_offset = journal->tail_offset,
        .start = staging->used,
        .used = headers,
        .begins_segment = begins_segment,
    };
    staging->used += headers;
}

/* A part for the next segment, if a spare may be taken. */
static enum status part_open_in_new_segment(struct journal *journal, bool small)
{
    struct journal_staging *staging = journal->staging;
    if (staging->part_count == 2) return STATUS_BUSY;
    /* The first segment of all is begun with the first spare. */
    uint32_t reserved = small || journal->segment_count == 0 ? 0 : JOURNAL_SPARES_RESERVED;
    if (journal_spares_ready(journal) <= reserved) {
        journal->spare_wanted = true;
        return journal_can_make_room(journal) ? STATUS_BUSY : STATUS_FULL;
    }
    if (staging->part_count > 0) part_close(journal);
    journal_segment_begin(journal);
    part_open(journal, true);
    return STATUS_OK;
}

enum status journal_stage_reserve(struct journal *journal, size_t size, bool small)
{
    struct journal_staging *staging = journal->staging;
    if (journal->failed) return STATUS_IO;
    if (journal_staged_bytes(journal) + size > journal->staged_bytes_max) return STATUS_BUSY;
    size_t slack = (size_t)4 * JOURNAL_BLOCK_BYTES; /* padding of two parts, headers of a segment */
    enum status status = staging_reserve(staging, size + slack);
    if (status != STATUS_OK) return status;
    if (staging->part_count > 0) {
        const struct journal_part *part = &staging->parts[staging->part_count - 1];
        uint64_t end = part->file_offset + part->used + size;
        if (end <= journal->segment_bytes) return STATUS_OK;
    } else if (journal->tail_segment != 0) {
        uint64_t end = journal->tail_offset + JOURNAL_BATCH_HEADER_BYTES + size;
        if (end <= journal->segment_bytes) {
            part_open(journal, false);
            return STATUS_OK;
        }
    }
    return part_open_in_new_segment(journal, small);
}

/* Recent records stay in memory, so that replication and applying seldom read the disk. */
static uint32_t cache_add(struct journal *journal, const uint8_t *bytes, size_t size)
{
    if (size > JOURNAL_CACHE_BYTES / 2) return 0;
    if (journal->cache == NULL) {
        journal->cache = malloc(JOURNAL_CACHE_BYTES);
        if (journal->cache == NULL) return 0;
        journal->cache_head = JOURNAL_RECORD_ALIGN; /* so that no place is 0 */
    }
    size_t at = (size_t)(journal->cache_head % JOURNAL_CACHE_BYTES);
    if (at + size > JOURNAL_CACHE_BYTES) {
        journal->cache_head += JOURNAL_CACHE_BYTES - at;
        at = 0;
    }
    memcpy(journal->cache + at, bytes, size);
    uint32_t place = (uint32_t)(journal->cache_head / JOURNAL_RECORD_ALIGN);
    journal->cache_head += size;
    return place;
}

/* The record at PLACE if it is still there. A place comes around again after 32 GiB; then what
 * stands there is judged by its checksum and its names, as everywhere. */
static const uint8_t *cache_find(const struct journal *journal, const struct journal_place *place)
{
    if (place->cached == 0 || journal->cache == NULL) return NULL;
    uint32_t head = (uint32_t)(journal->cache_head / JOURNAL_RECORD_ALIGN);
    uint64_t age = (uint64_t)(uint32_t)(head - place->cached) * JOURNAL_RECORD_ALIGN;
    if (age > JOURNAL_CACHE_BYTES || age < journal_record_size(place->size)) return NULL;
    uint64_t position = journal->cache_head - age;
    if (position > journal->cache_head) return NULL;
    size_t at = (size_t)(position % JOURNAL_CACHE_BYTES);
    if (at + journal_record_size(place->size) > JOURNAL_CACHE_BYTES) return NULL;
    return journal->cache + at;
}

void journal_stage_record(struct journal *journal, const struct journal_record *record,
                          struct journal_place *ret_place)
{
    struct journal_staging *staging = journal->staging;
    struct journal_part *part = &staging->parts[staging->part_count - 1];
    size_t size = journal_record_size(record->payload.size);
    assert(staging->used + size <= staging->capacity);
    assert(part->file_offset + part->used + size <= journal->segment_bytes);

    uint8_t *bytes = staging->bytes + staging->used;
    journal_record_encode(record, bytes);
    bool is_entry = record->kind == JOURNAL_RECORD_ENTRY || record->kind == JOURNAL_RECORD_CARRIED;
    *ret_place = (struct journal_place) {
        .term = record->term,
        .segment = (uint32_t)part->segment,
        .position = (uint32_t)((part->file_offset + part->used) / JOURNAL_RECORD_ALIGN),
        .size = (uint32_t)record->payload.size,
        .cached = is_entry ? cache_add(journal, bytes, size) : 0,
    };
    part->used += size;
    part->record_count++;
    staging->used += size;
}

/* --- the public functions that stage ------------------------------------------------------------
 */

/* Every group has a STATE record somewhere, by which recovery knows that it exists. */
static size_t anchor_size(const struct journal_run *run)
{
    return run == NULL || run->state_segment == 0 ? journal_record_size(0) : 0;
}

static enum status stage_anchor(struct journal *journal, struct journal_run *run)
{
    if (run->state_segment != 0) return STATUS_OK;
    struct journal_place place;
    journal_stage_record(journal,
                         &(struct journal_record) { .kind = JOURNAL_RECORD_STATE,
                                                    .group = run->group,
                                                    .index = run->first_index - 1 },
                         &place);
    return journal_run_set_state(journal, run, (struct bytes) { 0 }, place.segment);
}

static enum status make_run(struct journal *journal, uint64_t group, struct journal_run **ret_run)
{
    if (journal->failed) return STATUS_IO;
    return journal_run_make(journal, group, ret_run);
}

/* A group that came into being for a call that then failed must not stay. */
static void unmake_run(struct journal *journal, struct journal_run *run)
{
    if (run->state_segment == 0) journal_run_remove(journal, run);
}

enum status journal_put_state(struct journal *journal, uint64_t group, struct bytes state)
{
    assert(state.size <= JOURNAL_GROUP_STATE_BYTES_MAX);
    struct journal_run *run;
    enum status status = make_run(journal, group, &run);
    if (status != STATUS_OK) return status;
    status = journal_stage_reserve(journal, journal_record_size(state.size), true);
    if (status != STATUS_OK) {
        unmake_run(journal, run);
        return status;
    }
    struct journal_place place;
    journal_stage_record(journal,
                         &(struct journal_record) { .kind = JOURNAL_RECORD_STATE,
                                                    .group = group,
                                                    .index = run->first_index - 1,
                                                    .payload = state },
                         &place);
    status = journal_run_set_state(journal, run, state, place.segment);
    /* The record is staged and the index is not: go no further. */
    if (status != STATUS_OK) return journal_fail(journal, NULL, "no memory");
    return STATUS_OK;
}

enum status journal_append(struct journal *journal, uint64_t group, uint64_t index, uint64_t term,
                           struct bytes entry)
{
    assert(entry.size >= 1 && entry.size <= LIMIT_ENTRY_BYTES_MAX);
    assert(index >= 1 && index < UINT64_MAX);
    size_t size = journal_record_size(entry.size);
    /* Only journals with segments smaller than the default have smaller entries. */
    if (size + JOURNAL_RECORD_HEADER_BYTES > journal->staged_bytes_max) return STATUS_INVALID;
    struct journal_run *run;
    enum status status = make_run(journal, group, &run);
    if (status != STATUS_OK) return status;
    assert(run->count == 0 || (index >= run->first_index && index <= journal_run_last(run) + 1));
    status = journal_run_reserve(journal, run);
    if (status == STATUS_OK) {
        status = journal_stage_reserve(journal, size + anchor_size(run), false);
    }
    if (status != STATUS_OK) {
        unmake_run(journal, run);
        return status;
    }
    if (run->count > 0) journal_run_cut(journal, run, index);
    if (run->count == 0) run->first_index = index;
    struct journal_place place;
    status = stage_anchor(journal, run);
    if (status != STATUS_OK) return journal_fail(journal, NULL, "no memory");
    journal_stage_record(journal,
                         &(struct journal_record) { .kind = JOURNAL_RECORD_ENTRY,
                                                    .group = group,
                                                    .index = index,
                                                    .term = term,
                                                    .payload = entry },
                         &place);
    status = journal_run_set(journal, run, index, &place);
    if (status != STATUS_OK) return journal_fail(journal, NULL, "no memory");
    return STATUS_OK;
}

static enum status stage_small(struct journal *journal, enum journal_record_kind kind,
                               uint64_t group, uint64_t index)
{
    enum status status = journal_stage_reserve(journal, journal_record_size(0), true);
    if (status != STATUS_OK) return status;
    struct journal_place place;
    journal_stage_record(
        journal, &(struct journal_record) { .kind = kind, .group = group, .index = index }, &place);
    return STATUS_OK;
}

enum status journal_truncate(struct journal *journal, uint64_t group, uint64_t from_index)
{
    if (journal->failed) return STATUS_IO;
    struct journal_run *run = journal_run_find(journal, group);
    if (run == NULL || run->count == 0 || from_index > journal_run_last(run)) return STATUS_OK;
    enum status status = stage_small(journal, JOURNAL_RECORD_TRUNCATE, group, from_index);
    if (status == STATUS_OK) journal_run_cut(journal, run, from_index);
    return status;
}

enum status journal_release(struct journal *journal, uint64_t group, uint64_t index)
{
    if (journal->failed) return STATUS_IO;
    struct journal_run *run = journal_run_find(journal, group);
    if (run == NULL || index < run->first_index || index == UINT64_MAX) return STATUS_OK;
    enum status status = stage_small(journal, JOURNAL_RECORD_RELEASE, group, index);
    if (status == STATUS_OK) journal_run_release(journal, run, index);
    return status;
}

enum status journal_remove_group(struct journal *journal, uint64_t group)
{
    if (journal->failed) return STATUS_IO;
    struct journal_run *run = journal_run_find(journal, group);
    if (run == NULL) return STATUS_OK;
    enum status status = stage_small(journal, JOURNAL_RECORD_REMOVE, group, 0);
    if (status == STATUS_OK) journal_run_remove(journal, run);
    return status;
}

/* --- flush ------------------------------------------------------------------------------------ */

static void part_finish(struct journal *journal, struct journal_staging *staging,
                        const struct journal_part *part, uint64_t oldest)
{
    uint8_t *bytes = staging->bytes + part->start;
    size_t size = round_up_block(part->used);
    size_t used = part->used - JOURNAL_BATCH_HEADER_BYTES;
    if (part->begins_segment) {
        journal_segment_encode(
            &(struct journal_segment_header) { .segment = part->segment,
                                               .segment_bytes = journal->segment_bytes,
                                               .disk_incarnation = journal->disk_incarnation },
            bytes);
        bytes += JOURNAL_BLOCK_BYTES;
        size -= JOURNAL_BLOCK_BYTES;
        used -= JOURNAL_BLOCK_BYTES;
    }
    const struct journal_segment *segment = journal_segment_find(journal, part->segment);
    struct journal_batch_header header = {
        .segment = part->segment,
        .sequence = journal->sequence + 1,
        .synced_through = journal->sequence,
        .oldest_segment = oldest,
        .previous_segment = segment->previous,
        .previous_end = segment->previous_end,
        .epoch = journal->epoch,
        .size_bytes = (uint32_t)size,
        .used_bytes = (uint32_t)used,
        .record_count = part->record_count,
    };
    journal_batch_encode(&header, journal_salt(&journal->disk_incarnation, part->segment), bytes);
}

static enum status part_write(struct journal *journal, struct journal_staging *staging,
                              const struct journal_part *part)
{
    struct disk *disk = journal->disk;
    const struct journal_segment *segment = journal_segment_find(journal, part->segment);
    struct disk_file *file = journal->slots[segment->slot].file;
    const uint8_t *bytes = staging->bytes + part->start;
    size_t size = round_up_block(part->used);
#ifdef MUTATION_JOURNAL_SKIP_SYNC /* a flush is over before its bytes are on stable storage */
    return disk->write(file, part->file_offset, bytes, size);
#else
    enum status status = disk->write_sync(file, part->file_offset, bytes, size);
#ifdef MUTATION_JOURNAL_SYNC_ERROR_RETRIED /* a second sync says yes to what the first one lost */
    if (status != STATUS_OK) status = disk->sync(file);
#endif
    return status;
#endif
}

static enum status flush_parts(struct journal *journal, struct journal_staging *flight)
{
    uint64_t oldest = journal_oldest_needed(journal, flight->parts[0].segment);
    for (unsigned i = 0; i < flight->part_count; i++) {
        const struct journal_part *part = &flight->parts[i];
        /* What made segments free may stand in the last part only: the parts before it keep the
         * segments that the last flush kept. */
        bool is_last = i + 1 == flight->part_count;
        part_finish(journal, flight, part, is_last ? oldest : journal->durable_oldest);
        enum status status = part_write(journal, flight, part);
        if (status != STATUS_OK) return status;
        journal->sequence++;
        journal->bytes_flushed += round_up_block(part->used);
        journal->tail_unmarked = part->record_count > 0;
    }
    journal->durable_oldest = oldest;
    journal->flushes++;
    return STATUS_OK;
}

enum status journal_flush(struct journal *journal, struct error *error)
{
    assert(!journal->flushing);
    if (journal->failed) return journal_fail(journal, error, "an earlier failure closed it");
    journal->flushing = true;
    enum status status = STATUS_OK;
    if (journal->spare_wanted) status = journal_make_room(journal, error);
    if (status == STATUS_OK && journal->staging->part_count > 0) {
        part_close(journal);
        struct journal_staging *flight = journal->staging;
        journal->staging = journal->flight;
        journal->flight = flight;
        status = flush_parts(journal, flight);
        if (status == STATUS_OK && !journal->failed) {
            journal_segments_recycle(journal, journal->durable_oldest);
        } else {
            char what[64];
            snprintf(what, sizeof what, "a write or sync failed (%s)", status_name(status));
            status = journal_fail(journal, error, what);
        }
        staging_clear(flight);
    }
    journal->flushing = false;
    return status;
}

enum status journal_mark_synced(struct journal *journal, struct error *error)
{
    if (journal->failed) return journal_fail(journal, error, "an earlier failure closed it");
    if (!journal->tail_unmarked || journal->staging->part_count > 0) return STATUS_OK;
    /* Not worth a new segment: the next batch that begins one is a mark as well. */
    uint64_t end = journal->tail_offset + JOURNAL_BATCH_HEADER_BYTES;
    if (end > journal->segment_bytes) return STATUS_OK;
    enum status status = journal_stage_reserve(journal, 0, true);
    return status == STATUS_OK ? journal_flush(journal, error) : STATUS_OK;
}

/* --- reading ---------------------------------------------------------------------------------- */

static const uint8_t *find_in_staging(const struct journal_staging *staging,
                                      const struct journal_place *place)
{
    uint64_t offset = (uint64_t)place->position * JOURNAL_RECORD_ALIGN;
    for (unsigned i = 0; i < staging->part_count; i++) {
        const struct journal_part *part = &staging->parts[i];
        if (part->segment != place->segment || offset < part->file_offset) continue;
        uint64_t from = offset - part->file_offset;
        if (from < part->used) return staging->bytes + part->start + from;
    }
    return NULL;
}

static enum status find_place(const struct journal *journal, uint64_t group, uint64_t index,
                              struct journal_place *ret_place)
{
    const struct journal_run *run = journal_run_find(journal, group);
    if (run == NULL || index < run->first_index) return STATUS_NOT_FOUND;
    if (index - run->first_index >= run->count) return STATUS_NOT_FOUND;
    *ret_place = *journal_run_at(run, index);
    return STATUS_OK;
}

static bool take_record(const uint8_t *bytes, const struct journal_place *place, uint64_t group,
                        uint64_t index, struct buffer *buffer, enum status *ret_status)
{
    struct journal_record record;
    if (!journal_record_decode(bytes, journal_record_size(place->size), &record)) return false;
    if (record.group != group || record.index != index || record.term != place->term) return false;
    if (record.payload.size != place->size) return false;
    buffer_consume(buffer, buffer->used);
    *ret_status = buffer_append(buffer, record.payload.data, record.payload.size);
    return true;
}

/* Read the blocks around the record. Suspends; the slot's file stays open meanwhile. */
static enum status read_record(struct journal *journal, const struct journal_place *place,
                               uint64_t group, uint64_t index, struct buffer *buffer)
{
    const struct journal_segment *segment = journal_segment_find(journal, place->segment);
    assert(segment != NULL);
    struct journal_slot *slot = &journal->slots[segment->slot];
    uint64_t offset = (uint64_t)place->position * JOURNAL_RECORD_ALIGN;
    uint64_t from = offset & ~(uint64_t)(JOURNAL_BLOCK_BYTES - 1);
    size_t skip = (size_t)(offset - from);
    size_t size = round_up_block(skip + journal_record_size(place->size));
    uint8_t *bytes = aligned_alloc(DISK_DIRECT_ALIGN, size);
    if (bytes == NULL) return STATUS_NO_MEMORY;
    size_t got = 0;
    slot->readers++;
    enum status status = journal->disk->read(slot->file, from, bytes, size, &got);
    slot->readers--;
    if (status == STATUS_OK) {
        enum status taken = STATUS_CORRUPT;
        bool holds = got == size && take_record(bytes + skip, place, group, index, buffer, &taken);
        status = holds ? taken : STATUS_CORRUPT;
    }
    free(bytes);
    return status;
}

enum status journal_read(struct journal *journal, uint64_t group, uint64_t index,
                         uint64_t *ret_term, struct buffer *buffer)
{
    /* Again when the entry moved under the read, and once more after damage: a bus may flip a bit
     * that the platter holds. */
    enum { TRIES_MAX = 4 };
    enum status status = STATUS_CORRUPT;
    for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
        if (journal->failed) return STATUS_IO;
        struct journal_place place, now;
        enum status found = find_place(journal, group, index, &place);
        if (found != STATUS_OK) return found;
        const uint8_t *bytes = find_in_staging(journal->staging, &place);
        if (bytes == NULL) bytes = find_in_staging(journal->flight, &place);
        if (bytes == NULL) bytes = cache_find(journal, &place);
        bool taken = bytes != NULL && take_record(bytes, &place, group, index, buffer, &status);
        if (!taken) status = read_record(journal, &place, group, index, buffer);
        if (status == STATUS_OK) *ret_term = place.term;
        if (status == STATUS_OK || status == STATUS_NO_MEMORY || status == STATUS_FULL) {
            return status;
        }
        found = find_place(journal, group, index, &now);
        bool same =
            found == STATUS_OK && now.segment == place.segment && now.position == place.position;
        if (same && (status != STATUS_CORRUPT || tries > 0)) return status;
    }
    return status;
}

enum status journal_term(const struct journal *journal, uint64_t group, uint64_t index,
                         uint64_t *ret_term)
{
    struct journal_place place;
    enum status status = find_place(journal, group, index, &place);
    if (status == STATUS_OK) *ret_term = place.term;
    return status;
}

static void describe(const struct journal_run *run, struct journal_group *ret_group)
{
    *ret_group = (struct journal_group) {
        .group = run->group,
        .first_index = run->first_index,
        .last_index = journal_run_last(run),
        .state = bytes_of(run->state, run->state_size),
    };
}

enum status journal_find_group(const struct journal *journal, uint64_t group,
                               struct journal_group *ret_group)
{
    const struct journal_run *run = journal_run_find(journal, group);
    if (run == NULL) return STATUS_NOT_FOUND;
    describe(run, ret_group);
    return STATUS_OK;
}

enum status journal_next_group(const struct journal *journal, uint64_t group,
                               struct journal_group *ret_group)
{
    uint32_t rank = journal_run_rank(journal, group);
    if (rank == journal->run_count) return STATUS_NOT_FOUND;
    describe(journal->runs[rank], ret_group);
    return STATUS_OK;
}

uint64_t journal_pressure_permille(const struct journal *journal)
{
    assert(journal->slots_max > 0);
    uint64_t by_segments = (uint64_t)journal->segment_count * 1000 / journal->slots_max;
    uint64_t by_entries = journal->entry_count * 1000 / JOURNAL_ENTRIES_MAX;
    return by_segments > by_entries ? by_segments : by_entries;
}

struct journal_figures journal_figures(const struct journal *journal)
{
    struct journal_figures figures = {
        .segments = journal->segment_count,
        .flushes = journal->flushes,
        .bytes_flushed = journal->bytes_flushed,
        .carried_records = journal->carried_records,
        .entries = journal->entry_count,
        .bytes_staged = journal_staged_bytes(journal),
    };
    for (uint32_t i = 0; i < journal->slots_max; i++) {
        if (journal->slots[i].file != NULL) figures.bytes_on_disk += journal->segment_bytes;
    }
    for (uint32_t i = 0; i < journal->segment_count; i++) {
        figures.bytes_live += journal->segments[i].live_bytes;
    }
    figures.pressure_permille = journal_pressure_permille(journal);
    return figures;
}

/* --- opening and closing ------------------------------------------------------------------------
 */

enum status journal_open(struct disk *disk, const struct journal_options *options,
                         struct journal **ret_journal, struct error *error)
{
    uint64_t segment_bytes =
        options->segment_bytes == 0 ? JOURNAL_SEGMENT_BYTES_DEFAULT : options->segment_bytes;
    if (segment_bytes % JOURNAL_BLOCK_BYTES != 0 ||
        segment_bytes < (uint64_t)4 * JOURNAL_BLOCK_BYTES || segment_bytes > (uint64_t)1 << 30) {
        return error_set(error, STATUS_INVALID,
                         "the journal's segment size must be a multiple of %d from %d to 1 GiB",
                         JOURNAL_BLOCK_BYTES, 4 * JOURNAL_BLOCK_BYTES);
    }
    if (strlen(options->folder) + sizeof "/slot-0000" > DISK_PATH_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "the journal's folder has too long a name");
    }
    struct journal *journal = calloc(1, sizeof *journal);
    if (journal == NULL) return error_set(error, STATUS_NO_MEMORY, "no memory for a journal");
    journal->disk = disk;
    memcpy(journal->folder, options->folder, strlen(options->folder) + 1);
    journal->disk_incarnation = options->disk_incarnation;
    journal->segment_bytes = segment_bytes;
    journal->staging = &journal->buffers[0];
    journal->flight = &journal->buffers[1];
    uint64_t slots = options->total_bytes_max == 0 ? JOURNAL_SEGMENTS_DEFAULT
                                                   : options->total_bytes_max / segment_bytes;
    if (slots < JOURNAL_SEGMENTS_MIN) slots = JOURNAL_SEGMENTS_MIN;
    journal->slots_max = slots < JOURNAL_SEGMENTS_MAX ? (uint32_t)slots : JOURNAL_SEGMENTS_MAX;

    enum status status = journal_recover(journal, options->must_exist, error);
    if (status != STATUS_OK) {
        journal_close(journal);
        return status;
    }
    *ret_journal = journal;
    return STATUS_OK;
}

void journal_close(struct journal *journal)
{
    if (journal == NULL) return;
    assert(!journal->flushing && !journal->maintaining);
    for (uint32_t i = 0; journal->slots != NULL && i < journal->slots_max; i++) {
        if (journal->slots[i].file != NULL) journal->disk->close(journal->slots[i].file);
    }
    journal_runs_finish(journal);
    free(journal->slots);
    free(journal->segments);
    free(journal->cache);
    free(journal->buffers[0].bytes);
    free(journal->buffers[1].bytes);
    free(journal);
}
