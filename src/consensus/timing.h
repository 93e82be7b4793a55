/* Timing: the defaults of everything that consensus measures in time, and how they relate.
 *
 * Read leases rest on one inequality. A follower promises, by its own clock, not to vote for
 * another leader for ELECTION_TIMEOUT after it heard from the present one; the leader serves reads
 * for LEASE after the *sending* of what a quorum has answered, by its own clock. If every clock's
 * rate is within DRIFT of real time, the promise lasts at least ELECTION_TIMEOUT / (1 + DRIFT) and
 * the lease at most LEASE / (1 - DRIFT) of real time, so the lease ends first if
 *     LEASE * (1 + DRIFT) <= ELECTION_TIMEOUT * (1 - DRIFT).
 * A clock that stops while the machine sleeps breaks every bound on drift: the driver hands in a
 * clock that goes on (CLOCK_BOOTTIME), or switches leases off. */
#ifndef UNUM_CONSENSUS_TIMING_H
#define UNUM_CONSENSUS_TIMING_H

#include <stdint.h>

#define CONSENSUS_MILLISECOND_NS UINT64_C(1000000)

enum {
    CONSENSUS_HEARTBEAT_MS = 100,
    CONSENSUS_ELECTION_TIMEOUT_MS = 1000, /* the least; a draw adds up to as much again */
    CONSENSUS_LEASE_MS = 900,
    CONSENSUS_DRIFT_PER_MILLE = 50,      /* rate of any clock against real time: within 5 % */
    CONSENSUS_HIBERNATE_AFTER_MS = 5000, /* without proposal or read, everyone equal */
    CONSENSUS_STALL_MS = 300, /* the longest pause of a healthy driver (sync, scheduling) */
};

#define CONSENSUS_HEARTBEAT_NS        (CONSENSUS_HEARTBEAT_MS * CONSENSUS_MILLISECOND_NS)
#define CONSENSUS_ELECTION_TIMEOUT_NS (CONSENSUS_ELECTION_TIMEOUT_MS * CONSENSUS_MILLISECOND_NS)
#define CONSENSUS_LEASE_NS            (CONSENSUS_LEASE_MS * CONSENSUS_MILLISECOND_NS)
#define CONSENSUS_HIBERNATE_AFTER_NS  (CONSENSUS_HIBERNATE_AFTER_MS * CONSENSUS_MILLISECOND_NS)

_Static_assert(CONSENSUS_LEASE_MS *(1000 + CONSENSUS_DRIFT_PER_MILLE) <=
                   CONSENSUS_ELECTION_TIMEOUT_MS * (1000 - CONSENSUS_DRIFT_PER_MILLE),
               "a lease ends before the promise it rests on, whatever the clocks do");
_Static_assert(CONSENSUS_LEASE_MS >= 3 * CONSENSUS_HEARTBEAT_MS,
               "a lease outlives two lost heartbeats");
_Static_assert(CONSENSUS_ELECTION_TIMEOUT_MS >= 3 * CONSENSUS_HEARTBEAT_MS + CONSENSUS_STALL_MS,
               "three lost heartbeats and a stalled driver do not depose a leader");
_Static_assert(CONSENSUS_HIBERNATE_AFTER_MS >= 2 * CONSENSUS_ELECTION_TIMEOUT_MS,
               "a group does not fall asleep between two elections");

#endif
