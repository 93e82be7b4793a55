/* Limits: the named maxima that more than one folder relies on, and how they relate.
 * A maximum of one folder only stands in that folder. */
#ifndef UNUM_BASE_LIMITS_H
#define UNUM_BASE_LIMITS_H

enum {
    LIMIT_KEY_BYTES_MAX = 4096, /* a registry key; etcd clients use far less */
    LIMIT_VALUE_BYTES_MAX =
        1536 * 1024, /* a registry value; etcd's default request limit is 1.5 MiB */
    LIMIT_ENTRY_BYTES_MAX = 2048 * 1024,   /* one log entry with its envelope */
    LIMIT_MESSAGE_BYTES_MAX = 4096 * 1024, /* one gRPC message; etcd and gRPC default to 4 MiB */
    LIMIT_NAME_BYTES_MAX = 63,      /* job, task, project, cell, machine, computer: a DNS label */
    LIMIT_TXN_OPERATIONS_MAX = 128, /* compares, and operations of each branch; as etcd */
};

_Static_assert(LIMIT_VALUE_BYTES_MAX + LIMIT_KEY_BYTES_MAX + 64 * 1024 < LIMIT_ENTRY_BYTES_MAX,
               "an entry holds the largest put with its envelope");
_Static_assert(LIMIT_ENTRY_BYTES_MAX < LIMIT_MESSAGE_BYTES_MAX,
               "a message holds the largest entry");

#endif
