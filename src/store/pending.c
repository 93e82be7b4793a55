#include "store/pending.h"

#include "base/checksum.h"

#include <assert.h>
#include <stdlib.h>

enum {
    BLOCK_BYTES = 64 * 1024, /* of records; a larger record has a block of its own */
    SPARE_BLOCKS_MAX = 16,
    RECORD_ALIGN = 8,
    SLOTS_FIRST = 1024,
    SLOTS_KEPT_MAX = 16 * 1024, /* a window that held more gives its slots back */
    CACHE_WAYS = 4,
    CACHE_SETS = 8192,
    CACHED_BYTES_MAX = 86, /* key and value of one cached key */
};
_Static_assert((CACHE_SETS & (CACHE_SETS - 1)) == 0 && (SLOTS_FIRST & (SLOTS_FIRST - 1)) == 0,
               "a mask takes the place of a division");

struct pending_block {
    struct pending_block *next;
    size_t size, used;
    _Alignas(16) uint8_t data[];
};

struct pending_cached {
    uint32_t tag; /* of the hash; 0: empty */
    uint8_t key_size, value_size;
    bool missing;
    uint8_t data[CACHED_BYTES_MAX]; /* key, value */
};

void pending_init(struct pending *pending)
{
    *pending = (struct pending) { 0 };
}

static void blocks_free(struct pending_block *block)
{
    while (block != NULL) {
        struct pending_block *next = block->next;
        free(block);
        block = next;
    }
}

void pending_finish(struct pending *pending)
{
    for (unsigned i = 0; i < 2; i++) {
        blocks_free(pending->windows[i].blocks);
        free(pending->windows[i].slots);
    }
    blocks_free(pending->spare);
    free(pending->cache);
    *pending = (struct pending) { 0 };
}

/* --- a window ----------------------------------------------------------------------------------
 */

/* The slot of the key, or the empty one where it belongs. There are slots. */
static struct pending_record **find_slot(const struct pending_window *window, uint64_t hash,
                                         struct bytes key)
{
    size_t mask = window->slot_count - 1;
    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        struct pending_record *record = window->slots[i];
        if (record == NULL) return &window->slots[i];
        if (record->hash == hash && record->key_size == key.size &&
            memcmp(record->data, key.data, key.size) == 0) {
            return &window->slots[i];
        }
    }
}

static enum status reserve_slot(struct pending_window *window)
{
    if (2 * (window->key_count + 1) <= window->slot_count) return STATUS_OK;
    struct pending_window larger = { .slot_count = window->slot_count == 0
                                                       ? SLOTS_FIRST
                                                       : 2 * window->slot_count };
    larger.slots = calloc(larger.slot_count, sizeof(struct pending_record *));
    if (larger.slots == NULL) return STATUS_NO_MEMORY;
    for (size_t i = 0; i < window->slot_count; i++) {
        struct pending_record *record = window->slots[i];
        if (record != NULL) *find_slot(&larger, record->hash, pending_key(record)) = record;
    }
    free(window->slots);
    window->slots = larger.slots;
    window->slot_count = larger.slot_count;
    return STATUS_OK;
}

static struct pending_record *take_record(struct pending *pending, struct pending_window *window,
                                          size_t data_size)
{
    size_t size = (sizeof(struct pending_record) + data_size + RECORD_ALIGN - 1) &
                  ~(size_t)(RECORD_ALIGN - 1);
    struct pending_block *block = window->blocks;
    if (block == NULL || block->size - block->used < size) {
        size_t block_size = size > BLOCK_BYTES ? size : BLOCK_BYTES;
        if (block_size == BLOCK_BYTES && pending->spare != NULL) {
            block = pending->spare;
            pending->spare = block->next;
            pending->spare_count--;
        } else {
            block = malloc(sizeof *block + block_size);
            if (block == NULL) return NULL;
            block->size = block_size;
        }
        block->used = 0;
        block->next = window->blocks;
        window->blocks = block;
    }
    struct pending_record *record = (struct pending_record *)(void *)(block->data + block->used);
    block->used += size;
    return record;
}

static enum status add(struct pending *pending, struct bytes key, struct bytes value, bool deleted)
{
    assert(key.size <= UINT32_MAX && value.size <= UINT32_MAX);
    struct pending_window *window = &pending->windows[pending->open];
    enum status status = reserve_slot(window);
    if (status != STATUS_OK) return status;
    struct pending_record *record = take_record(pending, window, key.size + value.size);
    if (record == NULL) return STATUS_NO_MEMORY;
    *record = (struct pending_record) {
        .hash = hash64(key.data, key.size, 0),
        .key_size = (uint32_t)key.size,
        .value_size = (uint32_t)value.size,
        .deleted = deleted,
    };
    memcpy(record->data, key.data, key.size);
    if (value.size > 0) memcpy(record->data + key.size, value.data, value.size);

    struct pending_record **slot = find_slot(window, record->hash, key);
    if (*slot != NULL) {
        (*slot)->superseded = true;
    } else {
        window->key_count++;
    }
    *slot = record;
    if (window->last != NULL) {
        window->last->next = record;
    } else {
        window->first = record;
    }
    window->last = record;
    window->bytes += key.size + value.size;
    return STATUS_OK;
}

enum status pending_put(struct pending *pending, struct bytes key, struct bytes value)
{
    return add(pending, key, value, false);
}

enum status pending_delete(struct pending *pending, struct bytes key)
{
    return add(pending, key, (struct bytes) { 0 }, true);
}

size_t pending_open_bytes(const struct pending *pending)
{
    return pending->windows[pending->open].bytes;
}

static bool window_touches(const struct pending_window *window, struct bytes from, struct bytes to,
                           bool bounded)
{
    for (const struct pending_record *record = window->first; record != NULL;
         record = record->next) {
        if (bytes_compare(pending_key(record), from) < 0) continue;
        if (!bounded || bytes_compare(pending_key(record), to) < 0) return true;
    }
    return false;
}

bool pending_touches(const struct pending *pending, struct bytes from, struct bytes to,
                     bool bounded)
{
    return window_touches(&pending->windows[0], from, to, bounded) ||
           window_touches(&pending->windows[1], from, to, bounded);
}

/* --- the cache of keys read --------------------------------------------------------------------
 */

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32) | 1;
}

static struct pending_cached *cache_set(struct pending *pending, uint64_t hash)
{
    return &pending->cache[(size_t)(hash & (CACHE_SETS - 1)) * CACHE_WAYS];
}

static struct pending_cached *cache_find(struct pending *pending, uint64_t hash, struct bytes key)
{
    if (pending->cache == NULL) return NULL;
    struct pending_cached *set = cache_set(pending, hash);
    for (unsigned i = 0; i < CACHE_WAYS; i++) {
        if (set[i].tag == tag_of(hash) && set[i].key_size == key.size &&
            memcmp(set[i].data, key.data, key.size) == 0) {
            return &set[i];
        }
    }
    return NULL;
}

static void cache_fill(struct pending_cached *cached, uint64_t hash, struct bytes key,
                       struct bytes value, bool missing)
{
    cached->tag = tag_of(hash);
    cached->key_size = (uint8_t)key.size;
    cached->value_size = (uint8_t)value.size;
    cached->missing = missing;
    memcpy(cached->data, key.data, key.size);
    if (value.size > 0) memcpy(cached->data + key.size, value.data, value.size);
}

static void remember(struct pending *pending, struct bytes key, struct bytes value, bool missing)
{
    if (key.size + value.size > CACHED_BYTES_MAX) return;
    if (pending->cache == NULL) {
        pending->cache = calloc((size_t)CACHE_SETS * CACHE_WAYS, sizeof *pending->cache);
        if (pending->cache == NULL) return;
    }
    uint64_t hash = hash64(key.data, key.size, 0);
    struct pending_cached *set = cache_set(pending, hash);
    /* The newest stands first, the oldest of the set goes. */
    for (unsigned i = CACHE_WAYS - 1; i > 0; i--) set[i] = set[i - 1];
    cache_fill(&set[0], hash, key, value, missing);
}

void pending_remember_value(struct pending *pending, struct bytes key, struct bytes value)
{
    remember(pending, key, value, false);
}

void pending_remember_missing(struct pending *pending, struct bytes key)
{
    remember(pending, key, (struct bytes) { 0 }, true);
}

void pending_forget(struct pending *pending, struct bytes key)
{
    struct pending_cached *cached = cache_find(pending, hash64(key.data, key.size, 0), key);
    if (cached != NULL) cached->tag = 0;
}

void pending_forget_range(struct pending *pending, struct bytes from, struct bytes to)
{
    if (pending->cache == NULL) return;
    for (size_t i = 0; i < (size_t)CACHE_SETS * CACHE_WAYS; i++) {
        struct pending_cached *cached = &pending->cache[i];
        if (cached->tag == 0) continue;
        struct bytes key = bytes_of(cached->data, cached->key_size);
        if (bytes_compare(key, from) >= 0 && bytes_compare(key, to) < 0) cached->tag = 0;
    }
}

/* --- finding, sealing, retiring ----------------------------------------------------------------
 */

static const struct pending_record *window_find(const struct pending_window *window, uint64_t hash,
                                                struct bytes key)
{
    return window->key_count == 0 ? NULL : *find_slot(window, hash, key);
}

enum pending_answer pending_find(struct pending *pending, struct bytes key, struct bytes *ret_value)
{
    uint64_t hash = hash64(key.data, key.size, 0);
    const struct pending_record *record = window_find(&pending->windows[pending->open], hash, key);
    if (record == NULL) record = window_find(&pending->windows[1 - pending->open], hash, key);
    if (record != NULL) {
        if (record->deleted) return PENDING_MISSING;
        *ret_value = pending_value(record);
        return PENDING_VALUE;
    }
    const struct pending_cached *cached = cache_find(pending, hash, key);
    if (cached == NULL) return PENDING_UNKNOWN;
    if (cached->missing) return PENDING_MISSING;
    *ret_value = bytes_of(cached->data + cached->key_size, cached->value_size);
    return PENDING_VALUE;
}

const struct pending_window *pending_seal(struct pending *pending)
{
    assert(!pending->in_flight);
    pending->in_flight = true;
    pending->open = 1 - pending->open;
    assert(pending->windows[pending->open].first == NULL);
    return &pending->windows[1 - pending->open];
}

/* The cache learns the new value of a key that it holds, or lets go of it. */
static void update_cache(struct pending *pending, const struct pending_record *record)
{
    struct pending_cached *cached = cache_find(pending, record->hash, pending_key(record));
    if (cached == NULL) return;
    if ((size_t)record->key_size + record->value_size > CACHED_BYTES_MAX) {
        cached->tag = 0;
        return;
    }
    cache_fill(cached, record->hash, pending_key(record), pending_value(record), record->deleted);
}

void pending_retire(struct pending *pending)
{
    assert(pending->in_flight);
    struct pending_window *window = &pending->windows[1 - pending->open];
    for (const struct pending_record *record = window->first; record != NULL;
         record = record->next) {
        if (!record->superseded) update_cache(pending, record);
    }
    struct pending_block *block = window->blocks;
    while (block != NULL) {
        struct pending_block *next = block->next;
        if (block->size == BLOCK_BYTES && pending->spare_count < SPARE_BLOCKS_MAX) {
            block->next = pending->spare;
            pending->spare = block;
            pending->spare_count++;
        } else {
            free(block);
        }
        block = next;
    }
    struct pending_record **slots = window->slots;
    size_t slot_count = window->slot_count;
    *window = (struct pending_window) { 0 };
    if (slot_count > SLOTS_KEPT_MAX) {
        free(slots);
    } else {
        if (slots != NULL) memset(slots, 0, slot_count * sizeof(struct pending_record *));
        window->slots = slots;
        window->slot_count = slot_count;
    }
    pending->in_flight = false;
}
