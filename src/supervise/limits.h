/* Limits: what a task may use, written into its cgroup.
 *
 * LEAF is the folder of a cgroup v2; FEATURES says which controllers it has (SUPERVISE_FEATURE_CPU,
 * _MEMORY, _PIDS). A limit of 0 is none, and its file stays as it was. Returns the name of the
 * first file that could not be written, with errno; NULL: all are. */
#ifndef UNUM_SUPERVISE_LIMITS_H
#define UNUM_SUPERVISE_LIMITS_H

#include "supervise/protocol.h"

const char *limits_write(int leaf, uint32_t features, const struct supervise_start *start);

#endif
