/* Did every watch deliver every event once and in order? Independent of the system.
 *
 * Known history: what writers were told (a put acknowledged with its revision), together with all
 * that any watch delivered. A stream must contain exactly the known events of its keys between its
 * start and the revision up to which it was told to have everything; two streams, or a stream and a
 * writer, must never disagree about an event.
 *
 * A client that reconnects and goes on at the next revision is the same stream. Not thread-safe. */
#ifndef UNUM_SIM_CHECK_WATCH_H
#define UNUM_SIM_CHECK_WATCH_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHECK_WATCH_EVENTS_MAX = 1 << 20, CHECK_WATCH_STREAMS_MAX = 4096 };

/* Keys are numbers in the order of their bytes; values are numbers never used twice. */
struct check_watch_event {
    uint64_t revision;
    uint32_t key;
    bool deleted;
    uint64_t value; /* 0 when deleted */
};

struct check_watch;

MUST_USE enum status check_watch_create(struct check_watch **ret_check);
void check_watch_destroy(struct check_watch *check); /* accepts NULL */

/* A writer was told that this happened. STATUS_FULL over the maximum, as below. */
MUST_USE enum status check_watch_wrote(struct check_watch *check,
                                       const struct check_watch_event *event);
/* A stream of the keys FIRST_KEY .. LAST_KEY from START_REVISION on. */
MUST_USE enum status check_watch_start(struct check_watch *check, uint32_t first_key,
                                       uint32_t last_key, uint64_t start_revision,
                                       size_t *ret_stream);
/* The stream delivered an event. */
MUST_USE enum status check_watch_delivered(struct check_watch *check, size_t stream,
                                           const struct check_watch_event *event);
/* The stream said that it has delivered everything up to REVISION. */
void check_watch_progress(struct check_watch *check, size_t stream, uint64_t revision);
/* The stream ended because its next revision was compacted: it goes on at REVISION, without a claim
 * about what lies between. */
void check_watch_skipped(struct check_watch *check, size_t stream, uint64_t revision);

/* STATUS_CONFLICT: ERROR names stream, revision and key. */
MUST_USE enum status check_watch_verdict(struct check_watch *check, struct error *error);

#endif
