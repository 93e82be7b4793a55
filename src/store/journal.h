/* Journal: the append-only log of one device, shared by all groups of a shard.
 *
 * Promise: a record survives power loss once the journal_flush that covers it returned STATUS_OK;
 * one flush covers everything appended before it started (group commit). A failed write or sync
 * closes the journal for good (fail-stop): every later call returns STATUS_IO.
 * Knows nothing of consensus: per group it keeps one small opaque state record (term, vote,
 * membership) and a run of entries with contiguous indexes; appending at an index that exists cuts
 * the run there first. Segments are zero-filled in advance and recycled; what is still live in the
 * oldest segment is carried forward, so that it can always go.
 *
 * Recovery: only damage behind the last recorded sync boundary is a tail, and is dropped; damage
 * before it is STATUS_CORRUPT with the file and offset in ERROR, and nothing is changed on disk.
 *
 * One owner fiber at a time for flush; append from fibers of the same reactor, also while a flush
 * is under way (its records go with the next one). Nothing here starts a fiber: the owner calls
 * journal_maintain from one of its own whenever journal_wants_maintenance says so; if it never
 * does, a flush does the work when it must. Format: docs/formats/journal.md. */
#ifndef UNUM_STORE_JOURNAL_H
#define UNUM_STORE_JOURNAL_H

#include "base/bytes.h"
#include "base/disk.h"
#include "base/ids.h"
#include "base/limits.h"

struct journal;

enum {
    JOURNAL_GROUP_STATE_BYTES_MAX = 1024,
    JOURNAL_GROUPS_MAX = 16 * 1024,
    JOURNAL_SEGMENT_BYTES_DEFAULT = 16 * 1024 * 1024,
    JOURNAL_STAGED_BYTES_MAX = 8 * 1024 * 1024, /* appended and not yet flushed */
};

struct journal_options {
    const char *folder;         /* on the disk; made when missing */
    uint64_t segment_bytes;     /* 0: the default; the largest entry must fit twice */
    uint64_t total_bytes_max;   /* all segments; STATUS_FULL beyond. 0: 64 segments */
    struct id disk_incarnation; /* written into segments; another one's segment is STATUS_CORRUPT */
    bool must_exist;            /* one was made here before: none at all is STATUS_CORRUPT */
};

MUST_USE enum status journal_open(struct disk *disk, const struct journal_options *options,
                                  struct journal **ret_journal, struct error *error);
/* Staged records that were not flushed are lost. */
void journal_close(struct journal *journal);

/* What recovery found, and what is live now. */
struct journal_group {
    uint64_t group;
    uint64_t first_index; /* of the oldest entry kept; last_index + 1 when there is none */
    uint64_t last_index;
    struct bytes state; /* borrowed until the group's next journal_put_state; empty: none */
};
/* The groups in ascending order; STATUS_NOT_FOUND when GROUP is not there. */
MUST_USE enum status journal_find_group(const struct journal *journal, uint64_t group,
                                        struct journal_group *ret_group);
/* The first group with a number >= GROUP. */
MUST_USE enum status journal_next_group(const struct journal *journal, uint64_t group,
                                        struct journal_group *ret_group);

/* Stage. STATUS_BUSY: JOURNAL_STAGED_BYTES_MAX is reached, flush first. STATUS_FULL: no room on the
 * device or under total_bytes_max; nothing was staged. STATUS_IO: closed by a failure. */
MUST_USE enum status journal_put_state(struct journal *journal, uint64_t group, struct bytes state);
/* INDEX is last_index + 1, or an existing one (then it and all behind it are cut first; this is the
 * truncation of consensus), or any index when the group has no entries. 1..LIMIT_ENTRY_BYTES_MAX.
 */
MUST_USE enum status journal_append(struct journal *journal, uint64_t group, uint64_t index,
                                    uint64_t term, struct bytes entry);
MUST_USE enum status journal_truncate(struct journal *journal, uint64_t group, uint64_t from_index);
/* The group no longer needs entries up to and including INDEX (it stands in the store, persisted).
 * Lazy: takes effect on disk with later flushes. Releasing past last_index empties the run. */
MUST_USE enum status journal_release(struct journal *journal, uint64_t group, uint64_t index);
/* Forget the group wholly. */
MUST_USE enum status journal_remove_group(struct journal *journal, uint64_t group);

/* Write and sync all that is staged now. Suspends the fiber. */
MUST_USE enum status journal_flush(struct journal *journal, struct error *error);

/* Work ahead of need, in a fiber of its own beside the flushes: zero-fill spare segments, stage
 * again what still lives in the oldest segment (the next flush makes that one free), give back
 * spares that nobody needs. Ask after each flush. STATUS_IO, STATUS_CORRUPT: closed for good. */
bool journal_wants_maintenance(const struct journal *journal);
MUST_USE enum status journal_maintain(struct journal *journal, struct error *error);
/* Write down that the last batch was synced, so that damage in it is told from a torn tail. One
 * small write when something was flushed since the last mark, else nothing: for idle moments.
 * A flush like journal_flush. */
MUST_USE enum status journal_mark_synced(struct journal *journal, struct error *error);

/* Copy the entry into BUFFER (cleared first). Verified by its checksum: STATUS_CORRUPT. */
MUST_USE enum status journal_read(struct journal *journal, uint64_t group, uint64_t index,
                                  uint64_t *ret_term, struct buffer *buffer);
/* STATUS_NOT_FOUND outside first_index..last_index. */
MUST_USE enum status journal_term(const struct journal *journal, uint64_t group, uint64_t index,
                                  uint64_t *ret_term);

struct journal_figures {
    uint64_t segments, bytes_on_disk, bytes_live, flushes, bytes_flushed, carried_records;
    uint64_t entries, bytes_staged;
    uint64_t
        pressure_permille; /* of total_bytes_max; the owner flushes the store when it is high */
};
struct journal_figures journal_figures(const struct journal *journal);
/* The last of the figures by itself: cheap enough for every request. */
uint64_t journal_pressure_permille(const struct journal *journal);

#endif
