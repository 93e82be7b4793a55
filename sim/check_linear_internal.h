/* What check_linear.c (the search) and check_revisions.c (what spans keys) share. */
#ifndef UNUM_SIM_CHECK_LINEAR_INTERNAL_H
#define UNUM_SIM_CHECK_LINEAR_INTERNAL_H

#include "sim/check_linear.h"

struct check_linear {
    struct check_linear_operation *operations;
    size_t count, capacity;
};

const char *check_linear_name(enum check_linear_kind kind);
/* The operations are in order of key and start. */
MUST_USE enum status check_linear_revisions(const struct check_linear *check, struct error *error);

#endif
