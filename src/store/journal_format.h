/* The bytes of the journal: segment header, batch header, record header. Sans-io.
 * Layout: docs/formats/journal.md. Little-endian. */
#ifndef UNUM_STORE_JOURNAL_FORMAT_H
#define UNUM_STORE_JOURNAL_FORMAT_H

#include "base/bytes.h"
#include "base/ids.h"

enum {
    JOURNAL_FORMAT_VERSION = 1,
    JOURNAL_BLOCK_BYTES = 4096, /* batches start and end at multiples; what O_DIRECT asks for */
    JOURNAL_SEGMENT_HEADER_BYTES = 64,
    JOURNAL_SEGMENT_COPY_OFFSET = 512, /* the second copy, in a sector of its own */
    JOURNAL_BATCH_HEADER_BYTES = 96,
    JOURNAL_RECORD_HEADER_BYTES = 32,
    JOURNAL_RECORD_ALIGN = 8,
};

struct journal_segment_header {
    uint64_t segment;
    uint64_t segment_bytes;
    struct id disk_incarnation;
};

void journal_segment_encode(const struct journal_segment_header *header,
                            uint8_t bytes[JOURNAL_BLOCK_BYTES]);

enum journal_segment_verdict {
    JOURNAL_SEGMENT_VALID,
    JOURNAL_SEGMENT_BLANK,   /* zeros: a segment never used */
    JOURNAL_SEGMENT_DAMAGED, /* neither copy holds */
    JOURNAL_SEGMENT_NEWER,   /* of a version that this program does not know */
};
/* Of two valid copies that differ the one with the higher number counts: the write of a recycled
 * segment's header ended between them. */
enum journal_segment_verdict journal_segment_decode(const uint8_t bytes[JOURNAL_BLOCK_BYTES],
                                                    struct journal_segment_header *ret_header);

struct journal_batch_header {
    uint64_t segment;
    uint64_t sequence;
    uint64_t synced_through;   /* batches up to this one were synced when this one was written */
    uint64_t oldest_segment;   /* segments before it hold nothing that lives */
    uint64_t previous_segment; /* in use before this one; 0: none */
    uint64_t previous_end;     /* where its last batch ends */
    uint32_t epoch;            /* rises at each opening of the journal */
    uint32_t size_bytes;       /* whole, header and padding included */
    uint32_t used_bytes;       /* of the records */
    uint32_t record_count;
};

/* Ties a batch to its disk and segment, so that what a recycled segment held before is never
 * taken for valid. */
uint64_t journal_salt(const struct id *disk_incarnation, uint64_t segment);

/* BATCH is size_bytes long, its records in place behind the header, padding zeroed. */
void journal_batch_encode(const struct journal_batch_header *header, uint64_t salt, uint8_t *batch);
/* The header alone; SIZE_MAX is the room left in the segment. False: not a header of this salt. */
bool journal_batch_decode(const uint8_t bytes[JOURNAL_BATCH_HEADER_BYTES], uint64_t salt,
                          uint64_t size_max, struct journal_batch_header *ret_header);
/* What stands behind the header. */
bool journal_batch_body_holds(const struct journal_batch_header *header, const uint8_t *batch);

enum journal_record_kind {
    JOURNAL_RECORD_STATE = 1,    /* the group's state; index: of the last released entry */
    JOURNAL_RECORD_ENTRY = 2,    /* cuts the run at its index first */
    JOURNAL_RECORD_CARRIED = 3,  /* an entry again, from a segment that goes; cuts nothing */
    JOURNAL_RECORD_TRUNCATE = 4, /* from index on */
    JOURNAL_RECORD_RELEASE = 5,  /* up to and including index */
    JOURNAL_RECORD_REMOVE = 6,   /* the group */
    JOURNAL_RECORD_KIND_COUNT
};

struct journal_record {
    enum journal_record_kind kind;
    uint64_t group, index, term;
    struct bytes payload;
};

static inline size_t journal_record_size(size_t payload_size)
{
    size_t size = JOURNAL_RECORD_HEADER_BYTES + payload_size;
    return (size + JOURNAL_RECORD_ALIGN - 1) & ~(size_t)(JOURNAL_RECORD_ALIGN - 1);
}
/* Writes journal_record_size(payload.size) bytes. */
void journal_record_encode(const struct journal_record *record, uint8_t *bytes);
/* Judges all of it, checksum included. False: damaged, or longer than SIZE. */
bool journal_record_decode(const uint8_t *bytes, size_t size, struct journal_record *ret_record);

#endif
