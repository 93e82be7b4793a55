/* The parts of the journal share this: the state in memory and the seams between its files.
 *
 *   journal_format.c    the bytes
 *   journal_index.c     which record of which group lives where
 *   journal_segment.c   slots (files), segments in use, spares, carrying forward
 *   journal_recover.c   reading all of it back
 *   journal.c           staging, flushing, reading; the public functions */
#ifndef UNUM_STORE_JOURNAL_INTERNAL_H
#define UNUM_STORE_JOURNAL_INTERNAL_H

#include "store/journal.h"
#include "store/journal_format.h"

enum {
    JOURNAL_SEGMENTS_MAX = 1024,
    JOURNAL_SEGMENTS_MIN = 6, /* the active one, spares and room to carry forward */
    JOURNAL_SEGMENTS_DEFAULT = 64,
    /* Only small records (states, cuts, releases, what is carried) may start the last ones, so
     * that a full journal can always be emptied. */
    JOURNAL_SPARES_RESERVED = 1,
    JOURNAL_SPARES_READY = 2, /* wanted ahead of need; more than these are given back */
    JOURNAL_SPARES_KEPT = 4,
    JOURNAL_CACHE_BYTES = 4 * 1024 * 1024,
    JOURNAL_STAGING_BYTES_MIN = 64 * 1024,
    JOURNAL_STAGING_BYTES_KEPT = 1024 * 1024, /* a larger buffer is freed after its flush */
    JOURNAL_FILL_BYTES = 256 * 1024,
    JOURNAL_ENTRIES_MAX = 2 * 1024 * 1024, /* kept, of all groups: 48 MB of index */
    JOURNAL_PATH_BYTES_MAX = DISK_PATH_BYTES_MAX + 1,
};

/* Where one entry lives. */
struct journal_place {
    uint64_t term;
    uint32_t segment;  /* 0: a hole, while recovering only */
    uint32_t position; /* of the record in the segment, in JOURNAL_RECORD_ALIGN bytes */
    uint32_t size;     /* of the payload */
    uint32_t cached;   /* position in the cache, in JOURNAL_RECORD_ALIGN bytes, modulo 2^32 */
};

/* A group's run is a ring of places. */
struct journal_run {
    uint64_t group;
    uint64_t first_index;
    struct journal_place *ring;
    uint32_t head, count, capacity; /* the capacity is 0 or a power of two */
    uint8_t *state;
    uint32_t state_size;
    uint32_t state_segment; /* of the last STATE record, which every group has; 0: none yet */
};

enum journal_slot_phase {
    JOURNAL_SLOT_ABSENT,  /* no file */
    JOURNAL_SLOT_RAW,     /* a file that must be zero-filled first */
    JOURNAL_SLOT_FILLING, /* by one fiber */
    JOURNAL_SLOT_READY,   /* a spare */
    JOURNAL_SLOT_USED,
};

/* A file that holds one segment after the other. */
struct journal_slot {
    struct disk_file *file;
    enum journal_slot_phase phase;
    unsigned readers; /* suspended in a read of the file */
};

struct journal_segment {
    uint64_t number;
    uint64_t live_bytes;
    uint64_t previous;     /* the number in use before it; 0: none */
    uint64_t previous_end; /* where the last batch of that one ends */
    uint32_t slot;
};

/* What one write brings to one segment. */
struct journal_part {
    uint64_t segment;
    uint64_t file_offset;
    size_t start; /* in the buffer */
    size_t used;  /* with the headers */
    uint32_t record_count;
    bool begins_segment; /* then the segment's header block comes first */
};

struct journal_staging {
    uint8_t *bytes;
    size_t capacity;
    size_t used;
    struct journal_part parts[2]; /* the second one begins a segment */
    unsigned part_count;
};

struct journal {
    struct disk *disk;
    char folder[JOURNAL_PATH_BYTES_MAX];
    struct id disk_incarnation;
    uint64_t segment_bytes;
    uint32_t slots_max;
    size_t staged_bytes_max;
    bool failed; /* for good */
    bool flushing;
    bool maintaining;
    bool spare_wanted; /* somebody could not append for want of a spare */
    bool disk_full;    /* at the last attempt to make one */

    struct journal_slot *slots;       /* slots_max */
    struct journal_segment *segments; /* in use, oldest first, slots_max */
    uint32_t segment_count;
    uint64_t segment_number_max; /* ever seen */

    struct journal_staging *staging; /* appended to */
    struct journal_staging *flight;  /* being written, or empty */
    struct journal_staging buffers[2];
    uint64_t tail_segment, tail_offset; /* where the next part begins; offset 0: none begun yet */
    uint64_t sequence;                  /* of the last batch written */
    bool tail_unmarked;                 /* no later header on disk calls the last batch synced */
    uint64_t durable_oldest;            /* oldest_segment of the last synced batch */
    uint32_t epoch;

    struct journal_run **runs; /* by group number */
    uint32_t run_count, run_capacity;
    uint64_t entry_count;

    uint8_t *cache;
    uint64_t cache_head; /* bytes ever cached */

    uint64_t flushes, bytes_flushed, carried_records;
};

/* --- index ------------------------------------------------------------------------------------ */

/* The number of runs with a group below GROUP. */
uint32_t journal_run_rank(const struct journal *journal, uint64_t group);
struct journal_run *journal_run_find(const struct journal *journal, uint64_t group);
/* Find or make. STATUS_FULL over JOURNAL_GROUPS_MAX. */
MUST_USE enum status journal_run_make(struct journal *journal, uint64_t group,
                                      struct journal_run **ret_run);
void journal_run_remove(struct journal *journal, struct journal_run *run);
void journal_runs_finish(struct journal *journal);
static inline uint64_t journal_run_last(const struct journal_run *run)
{
    return run->first_index + run->count - 1;
}
struct journal_place *journal_run_at(const struct journal_run *run, uint64_t index);
/* Make sure that one entry more can be set. STATUS_FULL over JOURNAL_ENTRIES_MAX. */
MUST_USE enum status journal_run_reserve(struct journal *journal, struct journal_run *run);
/* Set the place of INDEX, extending the run at either end (with holes while recovering).
 * STATUS_FULL, STATUS_NO_MEMORY; never after journal_run_reserve for the next index. */
MUST_USE enum status journal_run_set(struct journal *journal, struct journal_run *run,
                                     uint64_t index, const struct journal_place *place);
void journal_run_cut(struct journal *journal, struct journal_run *run, uint64_t from_index);
void journal_run_release(struct journal *journal, struct journal_run *run, uint64_t index);
MUST_USE enum status journal_run_set_state(struct journal *journal, struct journal_run *run,
                                           struct bytes state, uint64_t segment);

/* --- segments --------------------------------------------------------------------------------- */

struct journal_segment *journal_segment_find(const struct journal *journal, uint64_t number);
void journal_segment_add_live(struct journal *journal, uint32_t number, size_t payload_size);
void journal_segment_drop_live(struct journal *journal, uint32_t number, size_t payload_size);
void journal_slot_path(const struct journal *journal, uint32_t slot,
                       char ret_path[JOURNAL_PATH_BYTES_MAX]);
uint32_t journal_spares_ready(const struct journal *journal);
/* Zero-fill until COUNT spares are ready, or no more can be made (not an error). Suspends. */
MUST_USE enum status journal_make_spares(struct journal *journal, uint32_t count,
                                         struct error *error);
/* What maintenance does for room; also from inside a flush that waits for it. Suspends. */
MUST_USE enum status journal_make_room(struct journal *journal, struct error *error);
/* Put the next segment into use; a spare is ready (asserted). */
void journal_segment_begin(struct journal *journal);
/* The oldest segment that must stay; the first part of FLIGHT counts as used. */
uint64_t journal_oldest_needed(const struct journal *journal, uint64_t first_written);
/* Their last readers on disk are gone: recycle what is older than OLDEST. */
void journal_segments_recycle(struct journal *journal, uint64_t oldest);
/* Could carrying forward or another file make room? */
bool journal_can_make_room(const struct journal *journal);

/* --- staging and reading ---------------------------------------------------------------------- */

/* Make room for records of SIZE bytes together. SMALL may use the reserve. */
MUST_USE enum status journal_stage_reserve(struct journal *journal, size_t size, bool small);
/* After a reserve; tells where the record will stand. */
void journal_stage_record(struct journal *journal, const struct journal_record *record,
                          struct journal_place *ret_place);
size_t journal_staged_bytes(const struct journal *journal);
/* Stop for good, with the sentence. */
enum status journal_fail(struct journal *journal, struct error *error, const char *what);

MUST_USE enum status journal_recover(struct journal *journal, bool must_exist, struct error *error);

#endif
