/* Intervals of keys, and which of them hold a key: a treap by start, each node with the furthest
 * end below it, so that a key costs O(log n) besides what it finds.
 *
 * Ownership: nodes are the caller's; start and end are borrowed while the node is in. */
#ifndef UNUM_REGISTRY_REGISTRY_INTERVAL_H
#define UNUM_REGISTRY_REGISTRY_INTERVAL_H

#include "base/bytes.h"

struct registry_interval {
    struct bytes start;
    struct bytes end; /* the first key behind; empty: START alone */
    bool infinite;    /* no end */
    /* The tree's own. */
    uint64_t number; /* makes the order total */
    uint64_t priority;
    struct registry_interval *parent, *left, *right;
    const struct registry_interval *furthest; /* the one below or here that ends last */
};

/* Zeroed is empty. */
struct registry_intervals {
    struct registry_interval *root;
    uint64_t next_number;
};

void registry_interval_insert(struct registry_intervals *intervals,
                              struct registry_interval *interval);
void registry_interval_remove(struct registry_intervals *intervals,
                              struct registry_interval *interval);
/* The intervals that hold KEY, in order: the first (AFTER is NULL) or the next. The tree must not
 * change in between. */
struct registry_interval *registry_interval_find(const struct registry_intervals *intervals,
                                                 struct bytes key,
                                                 const struct registry_interval *after);
/* All of them in order, the same way. */
struct registry_interval *registry_interval_next(const struct registry_intervals *intervals,
                                                 const struct registry_interval *after);

#endif
