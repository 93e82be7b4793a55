/* Is a history of operations linearizable? Independent of the system: it knows what clients asked,
 * when, and what they were told, nothing else.
 *
 * Method: each key is a register of its own, so its operations are searched for an order that
 * respects real time and explains every answer (Wing and Gong 1993, with Lowe's memory of visited
 * configurations, "Testing for linearizability", 2017). What spans keys, transactions and
 * snapshots, is held together by the revisions of the answers: they must rise with real time, be
 * given to one change only, and every read must be what the changes up to its revision left.
 *
 * An operation of unknown outcome may take effect at any time after its start, or never. One that
 * certainly had no effect, and a read that got no answer, is not recorded. What the system deletes
 * by itself (a lease ends) is recorded as a delete of unknown outcome.
 *
 * Ownership: the checker copies. Not thread-safe. */
#ifndef UNUM_SIM_CHECK_LINEAR_H
#define UNUM_SIM_CHECK_LINEAR_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CHECK_LINEAR_OPERATIONS_MAX = 1 << 20,
    /* Steps of the search for one key; beyond, the history is undecided. */
    CHECK_LINEAR_STEPS_MAX = 1 << 22,
};

enum check_linear_kind {
    CHECK_LINEAR_PUT,
    CHECK_LINEAR_GET,
    CHECK_LINEAR_DELETE,
    CHECK_LINEAR_SWAP, /* compare-and-swap: put VALUE if the key has EXPECTED */
};

/* Values are numbers that the workload never uses twice (a hash of the bytes will do); 0 is a
 * missing key. */
struct check_linear_operation {
    enum check_linear_kind kind;
    bool unknown; /* the outcome; then end_ns, succeeded and revision mean nothing */
    uint64_t start_ns, end_ns;
    uint32_t key;
    uint64_t value;    /* put, swap: written. get: read */
    uint64_t expected; /* swap */
    bool succeeded;    /* swap: it did. delete: the key was there */
    uint64_t revision; /* of the answer; 0: not known */
    /* Operations of one transaction share a number; 0: alone. */
    uint64_t transaction;
};

struct check_linear;

MUST_USE enum status check_linear_create(struct check_linear **ret_check);
void check_linear_destroy(struct check_linear *check); /* accepts NULL */
/* STATUS_FULL: CHECK_LINEAR_OPERATIONS_MAX. */
MUST_USE enum status check_linear_add(struct check_linear *check,
                                      const struct check_linear_operation *operation);
/* STATUS_OK; STATUS_CONFLICT: not linearizable, ERROR names key, time and answer; STATUS_BUSY: the
 * search was given up; STATUS_NO_MEMORY. */
MUST_USE enum status check_linear_verdict(struct check_linear *check, struct error *error);

#endif
