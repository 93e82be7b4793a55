/* Sessions: what makes a retried request be applied once.
 *
 * A client names its session and numbers its requests from 1. For each session the group remembers
 * which of the last SESSION_WINDOW sequence numbers were applied, at which index and with which
 * reply; so a client may have up to SESSION_WINDOW requests under way, in any order. A number
 * outside the window is refused, for nobody can say any more whether it was applied.
 *
 * A session is forgotten after idle_ms_max of computer time without a new request, or, the longest
 * unused first, when the group has more than count_max sessions or more than bytes_max remembered.
 * A client that comes back later than that is a new one: it must not retry what it sent before.
 *
 * Promise: everything is decided from the entries alone, so all replicas remember and forget the
 * same; the table in memory is an index of the records in the store and is rebuilt from them. The
 * records stand under the reserved prefix of the group's range: docs/formats/replica.md.
 * One owner; not thread-safe. */
#ifndef UNUM_REPLICA_SESSION_H
#define UNUM_REPLICA_SESSION_H

#include "replica/replica.h"
#include "store/store.h"

struct session_table;

enum {
    SESSION_WINDOW = 64,                  /* one bit each of a u64 */
    SESSION_BYTES_MAX = 64 * 1024 * 1024, /* of records, per group */
    SESSION_EXPIRED_PER_ENTRY_MAX = 8,    /* idle sessions that one entry clears away */
};

struct session_limits {
    uint64_t count_max; /* each: 0 is the default */
    uint64_t bytes_max;
    uint64_t idle_ms_max;
};

enum session_verdict {
    SESSION_APPLY,    /* not seen before */
    SESSION_REPEATED, /* applied before: the reply is remembered */
    SESSION_NOT_KEPT, /* applied before: the reply was too large to be remembered */
    SESSION_OLD,      /* before the window, or number 0 */
};

MUST_USE enum status session_table_create(const struct session_limits *limits,
                                          struct session_table **ret_table);
void session_table_destroy(struct session_table *table);
/* Rebuild from the store. STATUS_CORRUPT with the session in ERROR, STATUS_IO, STATUS_NO_MEMORY. */
MUST_USE enum status session_table_open(struct session_table *table,
                                        const struct store_range *range, struct error *error);

/* Has request SEQUENCE of SESSION (not zero) been applied at computer time TIME_MS?
 * SESSION_REPEATED: its reply is in REPLY (cleared first) and its index in *ret_index, which is
 * also set for SESSION_NOT_KEPT. */
MUST_USE enum status session_table_check(struct session_table *table,
                                         const struct store_range *range, const struct id *session,
                                         uint64_t sequence, uint64_t time_ms, struct buffer *reply,
                                         uint64_t *ret_index, enum session_verdict *ret_verdict,
                                         struct error *error);

/* What an applied request was; its verdict was SESSION_APPLY. */
struct session_record {
    struct id session;
    uint64_t sequence;
    uint64_t index;
    uint64_t time_ms;
    struct bytes reply; /* of any size */
};
/* Remember it: in the table at once, in the store with BATCH. STATUS_NO_MEMORY. */
MUST_USE enum status session_table_record(struct session_table *table,
                                          const struct store_range *range,
                                          struct store_batch *batch,
                                          const struct session_record *record);
/* Forget some of those that are idle at TIME_MS (at most SESSION_EXPIRED_PER_ENTRY_MAX; the rest
 * are taken for unknown all the same). */
void session_table_expire(struct session_table *table, const struct store_range *range,
                          struct store_batch *batch, uint64_t time_ms);

struct session_figures {
    uint64_t count, bytes;
};
struct session_figures session_table_figures(const struct session_table *table);

#endif
