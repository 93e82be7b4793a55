/* Log writer: appends records to a task's ring of segments, JOB/TASK/<base>.log below the working
 * folder. A position counts the bytes of records since the log began; it never goes back.
 *
 * Promise: after a crash of the writer the ring ends with a whole record. No descriptor is held
 * between appends unless the caller leaves the writer open. Not thread-safe. */
#ifndef UNUM_SUPERVISE_LOG_WRITE_H
#define UNUM_SUPERVISE_LOG_WRITE_H

#include "supervise/log_format.h"

struct log_writer {
    char folder[LOG_FOLDER_BYTES_MAX];
    uint64_t segment_bytes; /* a new segment begins before this many bytes of records */
    uint64_t base;          /* of the current segment */
    uint64_t end;           /* position behind the last record */
    int file;               /* -1: closed */
    bool found;             /* base and end are known */
};

void log_writer_init(struct log_writer *writer, struct bytes job, struct bytes name,
                     uint64_t kept_bytes);
/* Open the newest segment, or make the first. STATUS_IO with errno. */
MUST_USE enum status log_writer_open(struct log_writer *writer, uint64_t wall_ns);
void log_writer_close(struct log_writer *writer);
/* Whole records, at most LOG_SEGMENT_BYTES_MIN in size; opens when closed.
 * STATUS_FULL: the disk is full; STATUS_IO. Nothing of them is then kept. */
MUST_USE enum status log_writer_append(struct log_writer *writer, struct bytes records,
                                       uint64_t wall_ns);
/* Go back to an earlier END, as if what followed had never been written. */
MUST_USE enum status log_writer_rewind(struct log_writer *writer, uint64_t position,
                                       uint64_t wall_ns);

/* The bases of the segments in the open FOLDER, ascending; the newest ROOM of them. */
size_t log_list_segments(int folder, uint64_t *ret_bases, size_t room);

#endif
