/* Log format: the bytes of a task's log, a ring of segment files. docs/formats/log.md.
 * Pure: no I/O, no allocation. Decode reads only what it was given. */
#ifndef UNUM_SUPERVISE_LOG_FORMAT_H
#define UNUM_SUPERVISE_LOG_FORMAT_H

#include "base/bytes.h"
#include "base/limits.h"

enum {
    LOG_SEGMENT_HEAD_BYTES = 32,
    LOG_RECORD_HEAD_BYTES = 24,
    LOG_LINE_BYTES_MAX = 16384, /* a longer line is cut, with a mark */
    LOG_SEGMENTS_KEPT = 4,      /* the ring */
    LOG_SEGMENT_BYTES_MIN = 64 * 1024,
    LOG_KEPT_BYTES_DEFAULT = 1024 * 1024,
    LOG_NAME_BYTES = 21,                                 /* "%016x.log" with its NUL */
    LOG_FOLDER_BYTES_MAX = 2 * LIMIT_NAME_BYTES_MAX + 2, /* JOB/TASK with its NUL */
};

enum {
    LOG_STDERR = 1,    /* else standard output */
    LOG_CONTINUES = 2, /* the line goes on in the next record of this stream and incarnation */
    LOG_CUT = 4,       /* the line was longer than LOG_LINE_BYTES_MAX: its rest is gone */
    LOG_NOTE = 8,      /* said by unum-log, not by the task */
    LOG_FLAGS_ALL = 15,
};

struct log_record {
    uint64_t wall_ns;
    uint64_t incarnation;
    uint8_t flags;
    struct bytes text; /* without its line end; borrowed */
};

void log_segment_encode(uint64_t base, uint64_t wall_ns, uint8_t ret_bytes[LOG_SEGMENT_HEAD_BYTES]);
MUST_USE enum status log_segment_decode(struct bytes bytes, uint64_t *ret_base);

/* Text of at most LOG_LINE_BYTES_MAX bytes, asserted. STATUS_FULL: WRITER has no room, unchanged.
 */
MUST_USE enum status log_record_encode(const struct log_record *record, struct writer *writer);
/* DECODE_BAD: damaged, or nothing was written here. */
MUST_USE enum decode log_record_decode(struct bytes bytes, struct log_record *ret_record,
                                       size_t *ret_used);

#endif
