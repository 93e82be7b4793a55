/* State machine: what a replicated log drives. One per group; its state is the group's range of
 * the store, nothing else (in-memory indexes are rebuilt by open).
 *
 * Contract: apply is a pure function of (state, entry): no clock, no randomness but the entry's, no
 * blocking on the network, no addresses, no hash order. The same entries give the same batches. */
#ifndef UNUM_REPLICA_STATE_MACHINE_H
#define UNUM_REPLICA_STATE_MACHINE_H

#include "store/store.h"
#include "wire/entry.h"

struct state_machine;

struct apply_context {
    uint64_t index; /* of the entry */
    uint64_t term;
    const struct entry *entry; /* entry->computer_time_ms is the time of the whole group */
    /* The state before this entry; writes go into batch and are seen only after the apply. */
    const struct store_range *range;
    struct store_batch *batch;
    /* The answer to the proposer, remembered per session so that a retry gets the same one. Replies
     * over REPLICA_REPLY_REMEMBERED_BYTES_MAX are remembered as "applied, answer not kept". */
    struct buffer *reply;
};

struct state_machine_operations {
    const char *kind; /* "registry" */
    /* Rebuild in-memory indexes from the range (after recovery or snapshot install). */
    enum status (*open)(struct state_machine *machine, const struct store_range *range,
                        struct error *error);
    /* Called for entries of kind COMMAND, unless its session remembers them, and TIME. STATUS_OK
     * also when the command was refused: refusals are replies. Anything else stops the replica. */
    enum status (*apply)(struct state_machine *machine, const struct apply_context *context,
                         struct error *error);
    /* After the batch of an apply is in the store: tell local watchers, wake waiters. Must not
     * fail. */
    void (*applied)(struct state_machine *machine, uint64_t index);
    /* The next computer time at which this group has something to do by itself (a lease ends);
     * UINT64_MAX: nothing. The leader then proposes an ENTRY_TIME. */
    uint64_t (*next_deadline_ms)(const struct state_machine *machine);
    void (*close)(struct state_machine *machine);
};

struct state_machine {
    const struct state_machine_operations *operations;
};

/* Keys of the group range that start with this byte belong to the replica driver (applied index,
 * running hash, sessions); a state machine's keys start with any other, but 0xff. */
enum { STATE_MACHINE_RESERVED_PREFIX = 0x00 };

#endif
