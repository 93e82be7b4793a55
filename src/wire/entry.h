/* Entry: the envelope around every entry of every log (foundations, 1). Little-endian, checksummed.
 * Layout: docs/formats/entry.md. Decoded slices borrow from the input. */
#ifndef UNUM_WIRE_ENTRY_H
#define UNUM_WIRE_ENTRY_H

#include "base/bytes.h"
#include "base/ids.h"
#include "base/limits.h"

enum entry_kind {
    ENTRY_NOOP = 0,       /* the leader's first of a term */
    ENTRY_COMMAND = 1,    /* for the state machine */
    ENTRY_MEMBERSHIP = 2, /* for consensus */
    ENTRY_LEVEL = 3,      /* raises the feature level of the group */
    ENTRY_TIME = 4,       /* only advances computer time (a lease ends, a session expires) */
    ENTRY_KIND_COUNT
};

enum {
    ENTRY_FORMAT_VERSION = 1,
    ENTRY_PRINCIPAL_BYTES_MAX = 255, /* a SPIFFE id */
    ENTRY_SPACE_BYTES_MAX = 63,
    ENTRY_OVERHEAD_BYTES_MAX = 512,
};

struct entry {
    enum entry_kind kind;
    uint16_t feature_level;
    uint64_t group;
    struct id session;         /* zero: none, the request is not remembered */
    uint64_t sequence;         /* within the session, rising from 1 */
    uint64_t computer_time_ms; /* the leader's; monotone within a log */
    uint64_t random_seed;
    struct bytes principal;
    struct bytes space;
    struct id trace;
    struct bytes payload;
};

/* STATUS_INVALID: a field over its maximum. STATUS_FULL: WRITER is too small. */
MUST_USE enum status entry_encode(const struct entry *entry, struct writer *writer);
/* The whole of BYTES is one entry: DECODE_OK or DECODE_BAD. DECODE_MORE is never returned. */
enum decode entry_decode(const uint8_t *bytes, size_t size, struct entry *ret_entry);

#endif
