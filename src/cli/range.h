/* Which keys get, del and watch mean: KEY, --prefix, --range END. */
#ifndef UNUM_CLI_RANGE_H
#define UNUM_CLI_RANGE_H

#include "cli/cli.h"
#include "unum/v1/registry.pb-c.h"

#define RANGE_OPTIONS                                                                              \
    { "prefix", 'p', NULL, "all keys that begin with KEY" },                                       \
        { "range", 'r', "END", "all keys from KEY up to END, without END" },                       \
    {                                                                                              \
        "space", 0, "SPACE", "another space than main"                                             \
    }

struct key_range {
    ProtobufCBinaryData key;
    ProtobufCBinaryData end; /* empty: the key alone */
    char *space;
};

/* CLI_DONE, or CLI_USAGE after telling why. The argument is KEY; none with --prefix: every key. */
int range_take(struct cli *cli, struct key_range *ret_range);
/* Borrowed text as the bytes of a message. */
ProtobufCBinaryData range_bytes(const char *text);

#endif
