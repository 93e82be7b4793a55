/* Log cache: entries of one group in memory, from the proposal until they are applied.
 *
 * Indexes are contiguous. The bytes are owned by the cache, which hands out borrowed slices that
 * stay good until the entry is dropped or truncated. One owner. */
#ifndef UNUM_REPLICA_LOG_CACHE_H
#define UNUM_REPLICA_LOG_CACHE_H

#include "base/bytes.h"

struct log_entry {
    uint8_t *bytes;
    uint32_t size;
    uint64_t term;
};

/* Zeroed is empty. */
struct log_cache {
    struct log_entry *ring; /* capacity is a power of two */
    uint32_t capacity;
    uint32_t count;
    uint32_t head;
    uint64_t first_index; /* of ring[head]; undefined while empty */
    uint64_t bytes;
};

void log_cache_finish(struct log_cache *cache);
/* INDEX follows the last one, or is any when the cache is empty (asserted). Takes BYTES (malloc) on
 * STATUS_OK only. STATUS_NO_MEMORY. */
MUST_USE enum status log_cache_append(struct log_cache *cache, uint64_t index, uint64_t term,
                                      uint8_t *bytes, uint32_t size);
/* NULL: not here. */
const struct log_entry *log_cache_find(const struct log_cache *cache, uint64_t index);
/* Forget INDEX and all after it. */
void log_cache_truncate(struct log_cache *cache, uint64_t index);
/* Forget all up to and including INDEX. */
void log_cache_drop(struct log_cache *cache, uint64_t index);

#endif
