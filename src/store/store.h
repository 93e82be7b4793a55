/* Store: the ordered keys of one machine, on RocksDB with one column family and its own log off.
 *
 * Keys are GROUP u64 | GENERATION u32 | KEY, big-endian, so a group's state is one range. A batch
 * is atomic; it survives power loss only after a flush that covers it (the journal replays the
 * rest), and then all older batches survive too. RocksDB reaches the disk only through base/disk.h.
 *
 * A write returns when the batch is in memory (store/pending.h), where every read sees it; batches
 * go into RocksDB many at once, on a thread of the store's own. An iterator or snapshot over keys
 * that are on their way waits for them.
 *
 * Threading: any fiber of the owning reactor; calls run on the large stack. Reads that may block on
 * the device are made by the caller through plan() and the worker pool. */
#ifndef UNUM_STORE_STORE_H
#define UNUM_STORE_STORE_H

#include "base/bytes.h"
#include "base/disk.h"
#include "base/error.h"

struct store;
struct store_batch;
struct store_snapshot;
struct store_iterator;

enum { STORE_KEY_BYTES_MAX = 8 * 1024, STORE_KEY_PREFIX_BYTES = 12 };

struct store_options {
    const char *folder;
    uint64_t memtable_bytes; /* 0: 8 MiB, two of them */
    uint64_t cache_bytes;    /* 0: 8 MiB */
    /* Deterministic: flush only when told and wait for it, no background compaction or threads. */
    bool simulation;
};

/* DISK blocks the thread (blocking_disk_open) or is the simulator's. STATUS_CORRUPT, STATUS_IO,
 * STATUS_FULL, STATUS_UNSUPPORTED (a newer format), each with a sentence. */
MUST_USE enum status store_open(struct disk *disk, const struct store_options *options,
                                struct store **ret_store, struct error *error);
void store_close(struct store *store);

/* A group's key range at one generation. */
struct store_range {
    struct store *store;
    uint64_t group;
    uint32_t generation;
};

/* Append the value to BUFFER after clearing it. STATUS_NOT_FOUND, STATUS_CORRUPT, STATUS_IO. */
MUST_USE enum status store_get(const struct store_range *range,
                               const struct store_snapshot *snapshot, struct bytes key,
                               struct buffer *buffer);
/* As store_get, but answers from what is on stable storage only (read_tier=persisted). */
MUST_USE enum status store_get_persisted(const struct store_range *range, struct bytes key,
                                         struct buffer *buffer);

/* Batches. Keys and values are copied. */
MUST_USE enum status store_batch_create(struct store *store, struct store_batch **ret_batch);
void store_batch_destroy(struct store_batch *batch);
void store_batch_clear(struct store_batch *batch);
void store_batch_put(struct store_batch *batch, const struct store_range *range, struct bytes key,
                     struct bytes value);
void store_batch_delete(struct store_batch *batch, const struct store_range *range,
                        struct bytes key);
/* All keys in [FROM, TO). */
void store_batch_delete_range(struct store_batch *batch, const struct store_range *range,
                              struct bytes from, struct bytes to);
/* The operations since clear, for the running hash: equal calls give equal bytes. Each is kind u8
 * (1 put, 2 delete, 3 delete range), size of the key u32, size of the value u32, key, value (or the
 * end of the range), with the prefix of the range before keys. */
struct bytes store_batch_bytes(const struct store_batch *batch);
/* Apply atomically. STATUS_BUSY: RocksDB is too far behind; wait for store_flush and retry. Others:
 * the store is closed for good; STATUS_IO also when an earlier batch could not be written. */
MUST_USE enum status store_write(struct store *store, struct store_batch *batch,
                                 struct error *error);

/* Make everything written so far survive power loss. store_flush blocks; after store_flush_start
 * poll store_get_persisted, which also keeps the flush going. */
MUST_USE enum status store_flush(struct store *store, struct error *error);
MUST_USE enum status store_flush_start(struct store *store, struct error *error);

MUST_USE enum status store_snapshot_create(struct store *store,
                                           struct store_snapshot **ret_snapshot);
void store_snapshot_release(struct store *store, struct store_snapshot *snapshot);

/* Keys of [FROM, TO) in order, TO empty: to the end of the range; REVERSE: from the last down. The
 * iterator sees a fixed state. Key and value are borrowed until the next call. */
MUST_USE enum status store_iterator_create(const struct store_range *range,
                                           const struct store_snapshot *snapshot, struct bytes from,
                                           struct bytes to, bool reverse,
                                           struct store_iterator **ret_iterator);
/* STATUS_NOT_FOUND at the end. The key is without the range's prefix. */
MUST_USE enum status store_iterator_next(struct store_iterator *iterator, struct bytes *ret_key,
                                         struct bytes *ret_value);
void store_iterator_destroy(struct store_iterator *iterator);

struct store_figures {
    uint64_t memtable_bytes, cache_bytes, files_bytes, unflushed_bytes;
};
struct store_figures store_figures(struct store *store);

#endif
