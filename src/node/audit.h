/* Audit: who used authority for what, and how it ended; one JSON line for each use, appended to
 * files of the machine's data folder.
 *
 * audit_add copies and returns; a fiber of SCOPE writes and syncs what has gathered. What can't be
 * kept (a full disk and a full buffer) is counted, and the count is written as soon as that is
 * possible: a gap shows. Bounded: two files. Format: docs/formats/audit.md. */
#ifndef UNUM_NODE_AUDIT_H
#define UNUM_NODE_AUDIT_H

#include "base/bytes.h"
#include "base/disk.h"
#include "reactor/reactor.h"

enum {
    AUDIT_FILE_BYTES_MAX = 16 * 1024 * 1024, /* then it becomes the older of the two */
    AUDIT_WAITING_BYTES_MAX = 256 * 1024,
    AUDIT_LINE_BYTES_MAX = 2048,
    AUDIT_SUBJECT_BYTES_MAX = 255,
    AUDIT_TEXT_BYTES_MAX = 255,
};
#define AUDIT_PATH       "audit.jsonl"
#define AUDIT_OLDER_PATH "audit.older.jsonl"

struct audit;

struct audit_options {
    struct scope *scope;
    struct disk *disk;       /* suspending */
    uint64_t file_bytes_max; /* 0: AUDIT_FILE_BYTES_MAX */
    void (*log)(void *context, const char *line);
    void *context; /* of log */
};

struct audit_record {
    uint64_t wall_ms, computer_time_ms;
    const char *principal;
    struct bytes request; /* its id; empty: it named none */
    const char *action;   /* "Apply" */
    const char *subject;  /* what it was done to: "web"; longer ones are cut */
    enum status outcome;
    const char *text; /* the sentence of a refusal, or "" */
};

MUST_USE enum status audit_create(const struct audit_options *options, struct audit **ret_audit);
void audit_add(struct audit *audit, const struct audit_record *record);
/* Write what waits, until DEADLINE_NS at the latest; nothing is added any more. Suspends. Before
 * the scope ends. Accepts NULL. */
void audit_finish(struct audit *audit, uint64_t deadline_ns);
/* After the scope has ended. Accepts NULL. */
void audit_destroy(struct audit *audit);

/* RECORD as a line with its line end; sans-io. */
size_t audit_format(const struct audit_record *record, char ret_line[AUDIT_LINE_BYTES_MAX]);

#endif
