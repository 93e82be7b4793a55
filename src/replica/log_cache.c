#include "replica/log_cache.h"

#include <assert.h>
#include <stdlib.h>

enum { CAPACITY_FIRST = 16, CAPACITY_MAX = 1 << 20 };

static struct log_entry *entry_at(const struct log_cache *cache, uint32_t position)
{
    return &cache->ring[(cache->head + position) & (cache->capacity - 1)];
}

static void release_entry(struct log_cache *cache, uint32_t position)
{
    struct log_entry *entry = entry_at(cache, position);
    assert(cache->bytes >= entry->size);
    cache->bytes -= entry->size;
    free(entry->bytes);
    *entry = (struct log_entry) { 0 };
}

void log_cache_finish(struct log_cache *cache)
{
    for (uint32_t i = 0; i < cache->count; i++) release_entry(cache, i);
    free(cache->ring);
    *cache = (struct log_cache) { 0 };
}

static enum status grow(struct log_cache *cache)
{
    uint32_t capacity = cache->capacity == 0 ? CAPACITY_FIRST : 2 * cache->capacity;
    if (capacity > CAPACITY_MAX) return STATUS_NO_MEMORY;
    struct log_entry *ring = calloc(capacity, sizeof *ring);
    if (ring == NULL) return STATUS_NO_MEMORY;
    for (uint32_t i = 0; i < cache->count; i++) ring[i] = *entry_at(cache, i);
    free(cache->ring);
    cache->ring = ring;
    cache->capacity = capacity;
    cache->head = 0;
    return STATUS_OK;
}

enum status log_cache_append(struct log_cache *cache, uint64_t index, uint64_t term, uint8_t *bytes,
                             uint32_t size)
{
    assert(cache->count == 0 || index == cache->first_index + cache->count);

    if (cache->count == cache->capacity) {
        enum status status = grow(cache);
        if (status != STATUS_OK) return status;
    }
    if (cache->count == 0) cache->first_index = index;
    *entry_at(cache, cache->count) =
        (struct log_entry) { .bytes = bytes, .size = size, .term = term };
    cache->count++;
    cache->bytes += size;
    return STATUS_OK;
}

const struct log_entry *log_cache_find(const struct log_cache *cache, uint64_t index)
{
    if (cache->count == 0 || index < cache->first_index) return NULL;
    uint64_t position = index - cache->first_index;
    return position < cache->count ? entry_at(cache, (uint32_t)position) : NULL;
}

void log_cache_truncate(struct log_cache *cache, uint64_t index)
{
    while (cache->count > 0 && cache->first_index + cache->count > index) {
        release_entry(cache, cache->count - 1);
        cache->count--;
    }
}

void log_cache_drop(struct log_cache *cache, uint64_t index)
{
    while (cache->count > 0 && cache->first_index <= index) {
        release_entry(cache, 0);
        cache->head = (cache->head + 1) & (cache->capacity - 1);
        cache->first_index++;
        cache->count--;
    }
    /* An idle group keeps no ring: there may be thousands of them. */
    if (cache->count > 0 || cache->capacity <= CAPACITY_FIRST) return;
    free(cache->ring);
    *cache = (struct log_cache) { 0 };
}
