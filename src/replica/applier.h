/* Applier: the deterministic part of a replica. It turns committed entries, in order, into batches
 * of the store, and nothing else decides what is in them.
 *
 * One batch per entry holds, together: the writes of the state machine, the session record of the
 * request, and the applied record (index, term, running hash, computer time, feature level,
 * membership). So after a crash the store stands exactly behind some entry, and the journal's
 * entries after it are applied again with the same outcome.
 *
 * Use, per entry: applier_stage fills applier->batch; the caller writes the batch to the store
 * (again, while the store is STATUS_BUSY); applier_commit then tells the state machine. Any other
 * failure stops the replica: nothing is undone in memory.
 * Pure: no clock, no randomness, no waiting. One owner. Formats: docs/formats/replica.md. */
#ifndef UNUM_REPLICA_APPLIER_H
#define UNUM_REPLICA_APPLIER_H

#include "consensus/raft.h"
#include "replica/session.h"
#include "replica/state_machine.h"

enum {
    FEATURE_LEVEL_FIRST = 1,
    FEATURE_LEVEL_NEWEST = 1, /* what this release understands */
};

struct applied {
    uint64_t index; /* 0: nothing was applied yet */
    uint64_t term;
    uint64_t running_hash;
    uint64_t computer_time_ms;
    uint16_t feature_level;
    struct raft_membership membership; /* as of index */
};

enum { APPLIED_BYTES_MAX = 40 + RAFT_MEMBERSHIP_BYTES_MAX };
void applied_encode(const struct applied *applied, struct writer *writer);
/* STATUS_CORRUPT, STATUS_UNSUPPORTED (a newer format or feature level), with a sentence. */
MUST_USE enum status applied_decode(struct bytes bytes, struct applied *ret_applied,
                                    struct error *error);

/* What the store holds on stable storage: the whole record. STATUS_NOT_FOUND: nothing yet. */
MUST_USE enum status applied_read_persisted(const struct store_range *range,
                                            struct applied *ret_applied, struct error *error);

struct applier {
    struct store_range range;
    struct state_machine *machine; /* borrowed; NULL until applier_open */
    struct session_table *sessions;
    struct store_batch *batch;
    struct buffer reply; /* of the last staged entry */
    struct applied applied;
    struct applied staged; /* becomes `applied` on commit */
};

/* On the caller's memory. */
MUST_USE enum status applier_init(struct applier *applier, const struct store_range *range,
                                  const struct session_limits *limits);
void applier_finish(struct applier *applier);
/* Read the applied record, rebuild the sessions and open MACHINE on the range. FIRST_MEMBERSHIP:
 * the one the group was made with, in effect while nothing is applied. */
MUST_USE enum status applier_open(struct applier *applier, struct state_machine *machine,
                                  const struct raft_membership *first_membership,
                                  struct error *error);

struct applier_outcome {
    enum status status; /* OK; EXISTS: applied before, the reply was not kept; INVALID: a sequence
                         * older than its session remembers */
    uint64_t index;     /* at which the request was applied */
    struct bytes reply; /* borrowed until the next stage */
};

/* BYTES is the envelope at INDEX, which is applied.index + 1 (asserted). STATUS_CORRUPT: not an
 * entry of this group. STATUS_UNSUPPORTED: of a newer level. Others from the state machine and the
 * store.
 */
MUST_USE enum status applier_stage(struct applier *applier, uint64_t index, uint64_t term,
                                   struct bytes bytes, struct applier_outcome *ret_outcome,
                                   struct error *error);
/* The batch stands in the store. */
void applier_commit(struct applier *applier);

#endif
