/* Pending: what the store has accepted and RocksDB does not hold yet, and a cache of keys read.
 *
 * Writes go into the open window; a sealed window is in flight, on its way into RocksDB as one
 * batch, and is retired once it is there. Of several writes of a key in a window only the last
 * counts. A window's records do not change once it is sealed, so another thread may read them.
 * The cache holds keys that were looked up before, with a value or missing; a retired window
 * brings it up to date.
 *
 * Promise: pending_find knows the newest write of every key that is not retired. Keys are those of
 * RocksDB, with the range's prefix. One owner; not thread-safe but for reading a sealed window. */
#ifndef UNUM_STORE_PENDING_H
#define UNUM_STORE_PENDING_H

#include "base/bytes.h"
#include "base/status.h"

struct pending_block;

struct pending_record {
    struct pending_record *next; /* in order of arrival */
    uint64_t hash;
    uint32_t key_size, value_size;
    bool deleted;
    bool superseded; /* the window holds a later write of the key */
    uint8_t data[];  /* key, value */
};

struct pending_window {
    struct pending_record *first, *last;
    struct pending_record **slots; /* open addressing; as many as a power of two */
    size_t slot_count, key_count;
    struct pending_block *blocks; /* the newest first */
    size_t bytes;                 /* of keys and values, superseded ones too */
};

struct pending_cached;

struct pending {
    struct pending_window windows[2];
    unsigned open; /* the other one is in flight, or empty */
    bool in_flight;
    struct pending_block *spare; /* blocks for the next windows */
    size_t spare_count;
    struct pending_cached *cache; /* NULL until something is remembered */
};

/* On the caller's memory. */
void pending_init(struct pending *pending);
void pending_finish(struct pending *pending);

/* Into the open window; copied. STATUS_NO_MEMORY. */
MUST_USE enum status pending_put(struct pending *pending, struct bytes key, struct bytes value);
MUST_USE enum status pending_delete(struct pending *pending, struct bytes key);

enum pending_answer { PENDING_UNKNOWN, PENDING_MISSING, PENDING_VALUE };
/* PENDING_VALUE: *ret_value is borrowed until the next write, retirement or remembrance. */
enum pending_answer pending_find(struct pending *pending, struct bytes key,
                                 struct bytes *ret_value);
/* What RocksDB said of a key that pending_find did not know. Large ones are not kept. */
void pending_remember_value(struct pending *pending, struct bytes key, struct bytes value);
void pending_remember_missing(struct pending *pending, struct bytes key);
/* A key, or those of [FROM, TO), were changed in RocksDB without going through a window. */
void pending_forget(struct pending *pending, struct bytes key);
void pending_forget_range(struct pending *pending, struct bytes from, struct bytes to);

/* Is a key of [FROM, TO) among the writes? Without BOUNDED there is no TO. */
bool pending_touches(const struct pending *pending, struct bytes from, struct bytes to,
                     bool bounded);
size_t pending_open_bytes(const struct pending *pending);
/* The open window goes on its way (asserted: none is); a fresh one is open. */
const struct pending_window *pending_seal(struct pending *pending);
/* The window in flight stands in RocksDB. */
void pending_retire(struct pending *pending);

static inline struct bytes pending_key(const struct pending_record *record)
{
    return bytes_of(record->data, record->key_size);
}

static inline struct bytes pending_value(const struct pending_record *record)
{
    return bytes_of(record->data + record->key_size, record->value_size);
}

#endif
