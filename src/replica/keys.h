/* Keys: what the replica driver keeps in a group's range, behind STATE_MACHINE_RESERVED_PREFIX.
 * Format: docs/formats/replica.md. */
#ifndef UNUM_REPLICA_KEYS_H
#define UNUM_REPLICA_KEYS_H

enum replica_key {
    REPLICA_KEY_APPLIED = 0x01,
    REPLICA_KEY_SESSION = 0x02,
};

/* The state of a group stands in this generation until a snapshot is installed. */
enum { REPLICA_GENERATION_FIRST = 1 };

#endif
