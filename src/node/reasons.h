/* Reasons: what was decided and why, for `unum why`. A bounded ring in memory; the oldest goes
 * first. Observed state is soft: it is rebuilt from unum-init's events when the daemon returns.
 * Pure. */
#ifndef UNUM_NODE_REASONS_H
#define UNUM_NODE_REASONS_H

#include "base/bytes.h"
#include "base/limits.h"

enum {
    REASONS_COUNT_MAX = 2048,
    REASON_SUBJECT_BYTES_MAX = LIMIT_NAME_BYTES_MAX,
    REASON_EVENT_BYTES_MAX = 23,
    REASON_TEXT_BYTES_MAX = 255,
};

struct reason {
    uint64_t wall_ms;
    uint64_t number;                            /* counts up from 1 */
    char job[REASON_SUBJECT_BYTES_MAX + 1];     /* empty: of no job */
    char subject[REASON_SUBJECT_BYTES_MAX + 1]; /* the task, job or machine */
    char event[REASON_EVENT_BYTES_MAX + 1];     /* one word: "restarted", "held", "placed" */
    char text[REASON_TEXT_BYTES_MAX + 1];       /* one sentence */
};

struct reasons;

MUST_USE enum status reasons_create(struct reasons **ret_reasons);
void reasons_destroy(struct reasons *reasons);
/* Too long texts are cut. The same event with the same text for a subject as its newest one is only
 * counted anew in time, so that a loop does not push out everything else. */
void reasons_add(struct reasons *reasons, uint64_t wall_ms, const char *job, const char *subject,
                 const char *event, const char *format, ...) __attribute__((format(printf, 6, 7)));
/* Those of SUBJECT, or of all subjects of job SUBJECT, oldest first; at most COUNT_MAX, the newest.
 * Copied. */
size_t reasons_find(const struct reasons *reasons, const char *subject, struct reason *ret_reasons,
                    size_t count_max);

#endif
