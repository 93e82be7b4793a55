/* Inside of the store: what store.c (opening, reading) and store_write.c (batches, flushes) share.
 *
 * store_write puts a batch into the open window of `pending` and returns; windows go into RocksDB
 * one after the other, each as one batch: on the shim's thread, or in simulation, and when a reader
 * can't do without, on the caller's. So RocksDB always holds a prefix of what was written. */
#ifndef UNUM_STORE_STORE_INTERNAL_H
#define UNUM_STORE_STORE_INTERNAL_H

#include "store/pending.h"
#include "store/rocksdb_env_shim.h"
#include "store/store.h"

#include <rocksdb/c.h>
#include <stdatomic.h>

enum { STORE_LEVEL0_FILES_COMPACTED = 4 };

struct store {
    struct disk *disk;
    struct rocksdb_env_shim *shim;
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_writeoptions_t *write_options;  /* answers BUSY */
    rocksdb_writeoptions_t *window_options; /* waits; for the shim's thread */
    rocksdb_readoptions_t *read_options, *persisted_options;
    rocksdb_flushoptions_t *flush_wait, *flush_start;
    uint64_t memtable_bytes;
    struct pending pending;
    uint64_t unflushed_bytes; /* of batches written since the last flush began */
    atomic_bool failed;       /* for good */
    bool simulation;
    bool flush_wanted; /* by the next window on its way */
    /* Of the window in flight: written by the shim's thread, read after its work is finished. */
    const struct pending_window *window;
    rocksdb_writebatch_t *window_batch; /* used again and again */
    bool window_flushes;
    char *window_text; /* what RocksDB said; NULL: all is well */
};

void store_prefix_encode(const struct store_range *range, uint8_t prefix[STORE_KEY_PREFIX_BYTES]);
/* Behind all keys of the range; false: nothing is behind. */
bool store_prefix_after(const struct store_range *range, uint8_t prefix[STORE_KEY_PREFIX_BYTES]);
/* Take RocksDB's text and make it a status. A failure other than BUSY closes the store. */
enum status store_judge(struct store *store, char *text, struct error *error, const char *what);

/* Retire the window that is done and send the next one when there is reason to. */
void store_advance(struct store *store);
/* Return with all that was written in RocksDB. Blocks. */
MUST_USE enum status store_drain(struct store *store, struct error *error);
/* Before the database is closed: nothing is under way any more. */
void store_settle(struct store *store);

#endif
