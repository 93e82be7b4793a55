/* World: one computer of one machine under virtual time, its clients, the faults that a seed draws,
 * and the verdict. The daemon is the code of src/node; disk, network, clock, randomness and the
 * supervised processes are simulated. TLS is bypassed, identities are kept.
 *
 * A run: `faults_until_ns` of virtual time in which the machine crashes, loses power, has failing,
 * slow and full disks and rotten bits, while clients write, read, watch and lease; then the faults
 * stop, and everything has to come back within a bound. Everything that was observed goes to the
 * checkers. */
#ifndef UNUM_SIM_WORLD_H
#define UNUM_SIM_WORLD_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum { WORLD_FAILURE_BYTES_MAX = 1024 };

struct world_options {
    uint64_t seed;
    uint64_t virtual_seconds; /* 0: 60 */
    bool trace;               /* a readable timeline on standard output */
};

struct world_result {
    bool failed;
    char failure[WORLD_FAILURE_BYTES_MAX]; /* one line */
    uint64_t trace_hash;
    uint64_t virtual_ns;
    /* What happened, for the summary. */
    uint64_t operations, operations_unknown, watch_events, leases, tasks_restarted;
    uint64_t crashes, power_losses, syncs_failed, full_disks, bits_rotten, slow_disks,
        refused_starts;
};

void world_run(const struct world_options *options, struct world_result *ret_result);

#endif
