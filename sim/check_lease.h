/* Does a lease keep its keys as long as it was granted, and no longer? Independent of the system.
 *
 * Computer time never runs faster than real time and stands still while the machine is off. So
 * - a lease whose grant or renewal was asked for at T and answered is alive until T + ttl, whatever
 *   happens: a read that ended before must find its keys (unless it was revoked);
 * - it has ended at the latest ttl, the time the machine was off, and a bound after the last moment
 *   at which a grant or renewal can have been applied: a read that began later must not find them.
 *
 * Record reads of keys that were attached by a put answered before, and that nobody else deletes or
 * puts. Times are the world's true time. Not thread-safe. */
#ifndef UNUM_SIM_CHECK_LEASE_H
#define UNUM_SIM_CHECK_LEASE_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum { CHECK_LEASE_RECORDS_MAX = 1 << 20 };

struct check_lease;

/* SLACK_NS: how long the computer may take to notice an end when it is up. */
MUST_USE enum status check_lease_create(uint64_t slack_ns, struct check_lease **ret_check);
void check_lease_destroy(struct check_lease *check); /* accepts NULL */

/* A grant or renewal, asked for at START_NS. Answered: END_NS is when. Not answered: END_NS is the
 * last moment at which it can still have been applied. All below: STATUS_FULL, STATUS_NO_MEMORY. */
MUST_USE enum status check_lease_extended(struct check_lease *check, uint64_t lease,
                                          uint64_t start_ns, uint64_t end_ns,
                                          uint64_t time_to_live_ns, bool answered);
/* A revocation; not answered: it may have happened at any time after START_NS. */
MUST_USE enum status check_lease_revoked(struct check_lease *check, uint64_t lease,
                                         uint64_t start_ns, uint64_t end_ns, bool answered);
/* A linearizable read of a key attached to the lease. */
MUST_USE enum status check_lease_read(struct check_lease *check, uint64_t lease, uint64_t start_ns,
                                      uint64_t end_ns, bool found);
/* The computer did not run: its time stood still. */
MUST_USE enum status check_lease_down(struct check_lease *check, uint64_t start_ns,
                                      uint64_t end_ns);

/* STATUS_CONFLICT: ERROR names the lease and the times. */
MUST_USE enum status check_lease_verdict(struct check_lease *check, struct error *error);

#endif
