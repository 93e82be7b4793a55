/* Witness: what a group's state was, by its running hash, at every applied index, for ever. Entries
 * that recovery applies again must give the same, no index may be left out, and computer time never
 * goes back. Independent of the system. Not thread-safe. */
#ifndef UNUM_SIM_WITNESS_H
#define UNUM_SIM_WITNESS_H

#include "base/error.h"

#include <stdint.h>

enum { WITNESS_GROUPS_MAX = 16, WITNESS_INDEX_MAX = 1 << 20 };

struct witness;

MUST_USE enum status witness_create(struct witness **ret_witness);
void witness_destroy(struct witness *witness); /* accepts NULL */
/* STATUS_CONFLICT: it contradicts what was seen, ERROR names group and index. */
MUST_USE enum status witness_applied(struct witness *witness, uint64_t group, uint64_t index,
                                     uint64_t running_hash, uint64_t computer_time_ms,
                                     struct error *error);
/* A new life begins: each group goes on somewhere at or before its last index. */
void witness_restarted(struct witness *witness);

#endif
