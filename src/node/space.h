/* Space: the daemon's own use of a registry space, without the network.
 *
 * Calls run in fibers and wait for consensus. Results are copied into the caller's arena. */
#ifndef UNUM_NODE_SPACE_H
#define UNUM_NODE_SPACE_H

#include "base/arena.h"
#include "registry/registry.h"
#include "replica/replica.h"

struct space {
    struct replica *replica;
    struct registry *registry;
    struct clock *clock;
    const char *principal; /* in audit and entries; borrowed */
};

enum { SPACE_DEADLINE_MS = 10000 };

/* STATUS_NOT_FOUND when there is no such space. */
MUST_USE enum status space_open(struct replica_host *host, struct clock *clock, const char *name,
                                const char *principal, struct space *ret_space,
                                struct error *error);

/* The items of [KEY, END) as in RangeRequest, now and linearizable. */
MUST_USE enum status space_range(struct space *space, struct bytes key, struct bytes end,
                                 struct arena *arena, struct registry_item **ret_items,
                                 size_t *ret_count, uint64_t *ret_revision, struct error *error);
/* All keys that begin with PREFIX. */
MUST_USE enum status space_list(struct space *space, const char *prefix, struct arena *arena,
                                struct registry_item **ret_items, size_t *ret_count,
                                uint64_t *ret_revision, struct error *error);

/* Propose COMMAND in the name of PRINCIPAL (NULL: the space's) and wait until it is applied. A
 * refusal is its status with its sentence. ESSENTIAL: taken also when the disk is nearly full, as
 * is what the space's own principal writes and what frees room. ret_revision may be NULL. */
MUST_USE enum status space_commit(struct space *space, const struct registry_command *command,
                                  const char *principal, bool essential, uint64_t *ret_revision,
                                  bool *ret_succeeded, struct error *error);

/* Put when the key's modify revision is still EXPECTED (0: it must not exist). STATUS_CONFLICT. */
MUST_USE enum status space_put_if(struct space *space, struct bytes key, struct bytes value,
                                  uint64_t expected, uint64_t *ret_revision, struct error *error);
MUST_USE enum status space_put(struct space *space, struct bytes key, struct bytes value,
                               uint64_t *ret_revision, struct error *error);
MUST_USE enum status space_delete(struct space *space, struct bytes key, struct error *error);

#endif
