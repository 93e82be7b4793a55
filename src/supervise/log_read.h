/* Log reader: the lines of a task, from its ring of segments, while unum-log writes to it.
 *
 * Promise: every line that is still in the ring once, in the order it was written, parts joined;
 * damage is skipped to the next segment. Blocks only for the disk: call it from a worker. The
 * format is docs/formats/log.md. Not thread-safe; as many readers as wanted. */
#ifndef UNUM_SUPERVISE_LOG_READ_H
#define UNUM_SUPERVISE_LOG_READ_H

#include "base/error.h"
#include "supervise/log_format.h"

struct log_reader;

struct log_line {
    uint64_t wall_ns;
    uint64_t incarnation;
    bool standard_error;
    bool cut;              /* the line was longer than LOG_LINE_BYTES_MAX */
    bool note;             /* said by unum-log */
    struct bytes text;     /* without its line end; borrowed until the next call */
    uint64_t next;         /* position behind it, for log_reader_seek */
    uint64_t missed_bytes; /* records before it that the ring had already dropped */
};

/* LOGS is the folder "logs" of the computer. The reader begins with the oldest line.
 * STATUS_NOT_FOUND: the task has written nothing yet, or there is no such task. */
MUST_USE enum status log_reader_open(const char *logs, const char *job, const char *task,
                                     struct log_reader **ret_reader, struct error *error);
void log_reader_close(struct log_reader *reader);

/* Stand before the last LINES lines. */
void log_reader_tail(struct log_reader *reader, uint64_t lines);
/* Stand at a position that log_line.next gave; one that the ring has dropped: at its oldest. */
void log_reader_seek(struct log_reader *reader, uint64_t position);

/* STATUS_NOT_FOUND: no further line now; ask again later to follow. */
MUST_USE enum status log_reader_next(struct log_reader *reader, struct log_line *ret_line);

#endif
