#include "store/store.h"

#include "reactor/reactor.h"
#include "store/store_internal.h"

#include <assert.h>
#include <stdlib.h>

enum {
    MEMTABLE_BYTES_DEFAULT = 8 * 1024 * 1024,
    MEMTABLE_COUNT = 2,
    CACHE_BYTES_DEFAULT = 8 * 1024 * 1024,
    ARENA_BLOCK_BYTES = 64 * 1024, /* an idle store keeps one block dirty, not a megabyte */
    TABLE_BYTES = 8 * 1024 * 1024,
    MANIFEST_PREALLOCATED_BYTES = 64 * 1024,
    OPEN_FILES_MAX = 256,
    BLOOM_BITS_PER_KEY = 10,
    LEVEL0_FILES_STALLED = 24,
    KEY_BYTES_ON_STACK = 512,
    READ_TIER_PERSISTED = 2, /* rocksdb::kPersistedTier */
};

struct store_snapshot {
    const rocksdb_snapshot_t *snapshot;
};

struct store_iterator {
    rocksdb_iterator_t *iterator;
    rocksdb_readoptions_t *options;
    uint8_t *from, *to; /* bounds, which RocksDB borrows */
    bool reverse;
    bool begun;
};

/* --- helpers ------------------------------------------------------------------------------------
 */

void store_prefix_encode(const struct store_range *range, uint8_t prefix[STORE_KEY_PREFIX_BYTES])
{
    store_u64_be(prefix, range->group);
    store_u32_be(prefix + 8, range->generation);
}

/* The key as RocksDB has it, in SMALL when it fits. NULL: no memory. */
static uint8_t *key_encode(const struct store_range *range, struct bytes key,
                           uint8_t small[KEY_BYTES_ON_STACK])
{
    assert(key.size <= STORE_KEY_BYTES_MAX);
    size_t size = STORE_KEY_PREFIX_BYTES + key.size;
    uint8_t *bytes = size <= KEY_BYTES_ON_STACK ? small : malloc(size);
    if (bytes == NULL) return NULL;
    store_prefix_encode(range, bytes);
    if (key.size > 0) memcpy(bytes + STORE_KEY_PREFIX_BYTES, key.data, key.size);
    return bytes;
}

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* RocksDB's C interface tells its status as a text ("IO error: No space left on device: ..."). */
static enum status status_of(const char *text)
{
    static const struct {
        const char *prefix;
        enum status status;
    } table[] = {
        { "Result incomplete: ", STATUS_BUSY },
        { "Corruption: ", STATUS_CORRUPT },
        { "IO error: No space left on device", STATUS_FULL },
        { "IO error: ", STATUS_IO },
        { "NotFound: ", STATUS_NOT_FOUND },
        { "Not implemented: ", STATUS_UNSUPPORTED },
        { "Invalid argument: ", STATUS_INVALID },
        { "Operation aborted: ", STATUS_IO },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (starts_with(text, table[i].prefix)) return table[i].status;
    }
    return STATUS_IO;
}

/* Take RocksDB's text and make it a status. A failure other than BUSY closes the store. */
enum status store_judge(struct store *store, char *text, struct error *error, const char *what)
{
    if (text == NULL) return STATUS_OK;
    enum status status = status_of(text);
    if (status != STATUS_BUSY) atomic_store(&store->failed, true);
    if (status == STATUS_FULL)
        error_set(error, status, "the disk is full: the store could not %s; free some space", what);
    else
        error_set(error, status, "the store could not %s: %s", what, text);
    rocksdb_free(text);
    return status;
}

/* --- opening and closing ------------------------------------------------------------------------
 */

static void set_table_options(struct store *store, rocksdb_options_t *options)
{
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, store->cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 0);
    rocksdb_block_based_options_set_format_version(table, 5);
    rocksdb_block_based_options_set_filter_policy(
        table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS_PER_KEY));
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
}

static void set_options(struct store *store, rocksdb_options_t *options)
{
    rocksdb_options_set_env(options, rocksdb_env_shim_env(store->shim));
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_paranoid_checks(options, 1);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    rocksdb_options_set_info_log_level(options, 4); /* fatal */
    rocksdb_options_set_stats_dump_period_sec(options, 0);
    rocksdb_options_set_stats_persist_period_sec(options, 0);
    rocksdb_options_set_skip_stats_update_on_db_open(options, 1);
    rocksdb_options_set_max_open_files(options, OPEN_FILES_MAX);
    rocksdb_options_set_max_file_opening_threads(options, 1);
    rocksdb_options_set_arena_block_size(options, ARENA_BLOCK_BYTES);
    rocksdb_options_set_allow_concurrent_memtable_write(options, 0);
    rocksdb_options_set_enable_write_thread_adaptive_yield(options, 0);
    rocksdb_options_set_max_background_jobs(options, 2);
    rocksdb_options_set_max_subcompactions(options, 1);
    rocksdb_options_set_max_write_buffer_number(options, MEMTABLE_COUNT);
    rocksdb_options_set_max_write_buffer_size_to_maintain(options, 0);
    rocksdb_options_set_target_file_size_base(options, TABLE_BYTES);
    rocksdb_options_set_max_bytes_for_level_base(options, 8 * (uint64_t)TABLE_BYTES);
    rocksdb_options_set_level0_file_num_compaction_trigger(options, STORE_LEVEL0_FILES_COMPACTED);
    rocksdb_options_set_level0_slowdown_writes_trigger(options, LEVEL0_FILES_STALLED);
    rocksdb_options_set_level0_stop_writes_trigger(options, LEVEL0_FILES_STALLED * 2);
    rocksdb_options_set_manifest_preallocation_size(options, MANIFEST_PREALLOCATED_BYTES);
    if (store->simulation) {
        /* Flushed by byte count, in store_write; RocksDB itself decides nothing. */
        rocksdb_options_set_write_buffer_size(options, (size_t)1 << 30);
        rocksdb_options_set_disable_auto_compactions(options, 1);
    } else {
        rocksdb_options_set_write_buffer_size(options, (size_t)store->memtable_bytes);
    }
    set_table_options(store, options);
}

static enum status make_options(struct store *store, struct error *error)
{
    rocksdb_options_t *base = rocksdb_options_create();
    set_options(store, base);
    store->options = rocksdb_options_create();
    char *text = NULL;
    /* These have no setter in the C interface of 7.8. A flush at shutdown would hide what a crash
     * loses; an error is final until the next start. */
    rocksdb_get_options_from_string(base,
                                    "avoid_flush_during_shutdown=true;max_bgerror_resume_count=0;"
                                    "write_dbid_to_manifest=true",
                                    store->options, &text);
    rocksdb_options_destroy(base);
    if (text != NULL) return store_judge(store, text, error, "set its options");

    store->write_options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(store->write_options, 1); /* the journal is the log */
    rocksdb_writeoptions_set_no_slowdown(store->write_options, 1);
    store->window_options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(store->window_options, 1);
    store->window_batch = rocksdb_writebatch_create();
    store->read_options = rocksdb_readoptions_create();
    store->persisted_options = rocksdb_readoptions_create();
#ifndef MUTATION_STORE_PERSISTED_READS_MEMORY /* persisted reads see what memory alone has */
    rocksdb_readoptions_set_read_tier(store->persisted_options, READ_TIER_PERSISTED);
#endif
    store->flush_wait = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(store->flush_wait, 1);
    store->flush_start = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(store->flush_start, 0);
    return STATUS_OK;
}

/* In simulation one shard: which shard a block falls into depends on a number that RocksDB draws.
 */
static rocksdb_cache_t *make_cache(const struct store_options *options)
{
    rocksdb_lru_cache_options_t *cache_options = rocksdb_lru_cache_options_create();
    rocksdb_lru_cache_options_set_capacity(cache_options, options->cache_bytes == 0
                                                              ? CACHE_BYTES_DEFAULT
                                                              : (size_t)options->cache_bytes);
    rocksdb_lru_cache_options_set_num_shard_bits(cache_options, options->simulation ? 0 : -1);
    rocksdb_cache_t *cache = rocksdb_cache_create_lru_opts(cache_options);
    rocksdb_lru_cache_options_destroy(cache_options);
    return cache;
}

/* RocksDB makes its folder, but does not see to it that the folder's own name survives. */
static enum status make_folder(struct disk *disk, const char *folder, struct error *error)
{
    enum status status = disk->make_folder(disk, folder);
    if (status == STATUS_OK || status == STATUS_EXISTS) {
        char parent[DISK_PATH_BYTES_MAX + 1] = { 0 };
        const char *slash = strrchr(folder, '/');
        if (slash != NULL) memcpy(parent, folder, (size_t)(slash - folder));
        status = disk->sync_folder(disk, parent);
    }
    if (status == STATUS_OK) return STATUS_OK;
    return error_set(error, status, "the store's folder %s could not be made (%s)", folder,
                     status_name(status));
}

struct open_call {
    struct store *store;
    const char *folder;
    char *text;
};

static void open_on_large_stack(void *argument)
{
    struct open_call *call = argument;
    call->store->db = rocksdb_open(call->store->options, call->folder, &call->text);
}

/* RocksDB's names are short, so a folder's path may nearly reach the disk's limit. */
enum { FILE_NAME_BYTES_MAX = 32 };

enum status store_open(struct disk *disk, const struct store_options *options,
                       struct store **ret_store, struct error *error)
{
    if (strlen(options->folder) + FILE_NAME_BYTES_MAX > DISK_PATH_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "the store's folder has too long a name");
    }
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL) return error_set(error, STATUS_NO_MEMORY, "no memory for the store");
    store->disk = disk;
    store->simulation = options->simulation;
    store->memtable_bytes =
        options->memtable_bytes == 0 ? MEMTABLE_BYTES_DEFAULT : options->memtable_bytes;
    enum status status = rocksdb_env_shim_create(disk, options->simulation, &store->shim);
    if (status != STATUS_OK) {
        error_set(error, status, "this librocksdb is not the one that the program was built for");
        store_close(store);
        return status;
    }
    store->cache = make_cache(options);
    status = make_options(store, error);
    if (status == STATUS_OK) status = make_folder(disk, options->folder, error);
    if (status == STATUS_OK) {
        struct open_call call = { .store = store, .folder = options->folder };
        fiber_call_large_stack(open_on_large_stack, &call);
        status = store_judge(store, call.text, error, "be opened");
    }
    if (status != STATUS_OK) {
        store_close(store);
        return status;
    }
    *ret_store = store;
    return STATUS_OK;
}

static void close_on_large_stack(void *argument)
{
    struct store *store = argument;
    if (store->db != NULL) rocksdb_close(store->db);
}

void store_close(struct store *store)
{
    if (store == NULL) return;
    store_settle(store);
    fiber_call_large_stack(close_on_large_stack, store);
    pending_finish(&store->pending);
    if (store->window_batch != NULL) rocksdb_writebatch_destroy(store->window_batch);
    if (store->window_options != NULL) rocksdb_writeoptions_destroy(store->window_options);
    if (store->options != NULL) rocksdb_options_destroy(store->options);
    if (store->cache != NULL) rocksdb_cache_destroy(store->cache);
    if (store->write_options != NULL) rocksdb_writeoptions_destroy(store->write_options);
    if (store->read_options != NULL) rocksdb_readoptions_destroy(store->read_options);
    if (store->persisted_options != NULL) rocksdb_readoptions_destroy(store->persisted_options);
    if (store->flush_wait != NULL) rocksdb_flushoptions_destroy(store->flush_wait);
    if (store->flush_start != NULL) rocksdb_flushoptions_destroy(store->flush_start);
    rocksdb_env_shim_destroy(store->shim);
    free(store);
}

/* --- reading ------------------------------------------------------------------------------------
 */

struct get_call {
    struct store *store;
    const rocksdb_readoptions_t *options;
    const uint8_t *key;
    size_t key_size;
    struct buffer *buffer;
    enum status status;
};

static void get_on_large_stack(void *argument)
{
    struct get_call *call = argument;
    char *text = NULL;
    rocksdb_pinnableslice_t *value = rocksdb_get_pinned(
        call->store->db, call->options, (const char *)call->key, call->key_size, &text);
    buffer_consume(call->buffer, call->buffer->used);
    if (text != NULL) {
        call->status = store_judge(call->store, text, NULL, "be read");
    } else if (value == NULL) {
        call->status = STATUS_NOT_FOUND;
    } else {
        size_t size;
        const char *bytes = rocksdb_pinnableslice_value(value, &size);
        call->status = buffer_append(call->buffer, bytes, size);
    }
    if (value != NULL) rocksdb_pinnableslice_destroy(value);
}

static enum status get_from_database(const struct get_call *asked)
{
    struct get_call call = *asked;
    fiber_call_large_stack(get_on_large_stack, &call);
    return call.status;
}

/* The newest value: what is pending, and only then what RocksDB holds. */
static enum status get_newest(const struct get_call *call)
{
    struct pending *pending = &call->store->pending;
    struct bytes key = bytes_of(call->key, call->key_size), value;
    switch (pending_find(pending, key, &value)) {
    case PENDING_MISSING: call->buffer->used = 0; return STATUS_NOT_FOUND;
    case PENDING_VALUE:
        call->buffer->used = 0;
        return buffer_append(call->buffer, value.data, value.size);
    case PENDING_UNKNOWN: break;
    }
    enum status status = get_from_database(call);
    if (status == STATUS_NOT_FOUND) pending_remember_missing(pending, key);
    if (status == STATUS_OK)
        pending_remember_value(pending, key, bytes_of(call->buffer->data, call->buffer->used));
    return status;
}

/* OPTIONS: NULL for the newest value. */
static enum status get_with(const struct store_range *range, const rocksdb_readoptions_t *options,
                            struct bytes key, struct buffer *buffer)
{
    struct store *store = range->store;
    if (atomic_load(&store->failed)) return STATUS_IO;
    uint8_t small[KEY_BYTES_ON_STACK];
    uint8_t *bytes = key_encode(range, key, small);
    if (bytes == NULL) return STATUS_NO_MEMORY;
    struct get_call call = {
        .store = store,
        .options = options == NULL ? store->read_options : options,
        .key = bytes,
        .key_size = STORE_KEY_PREFIX_BYTES + key.size,
        .buffer = buffer,
    };
    enum status status = options == NULL ? get_newest(&call) : get_from_database(&call);
    if (bytes != small) free(bytes);
    return status;
}

enum status store_get(const struct store_range *range, const struct store_snapshot *snapshot,
                      struct bytes key, struct buffer *buffer)
{
    if (snapshot == NULL) return get_with(range, NULL, key, buffer);
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_snapshot(options, snapshot->snapshot);
    enum status status = get_with(range, options, key, buffer);
    rocksdb_readoptions_destroy(options);
    return status;
}

enum status store_get_persisted(const struct store_range *range, struct bytes key,
                                struct buffer *buffer)
{
    store_advance(range->store); /* a flush that was asked for may wait for its turn */
    return get_with(range, range->store->persisted_options, key, buffer);
}

/* --- snapshots and iterators
 * ---------------------------------------------------------------------- */

enum status store_snapshot_create(struct store *store, struct store_snapshot **ret_snapshot)
{
    if (atomic_load(&store->failed)) return STATUS_IO;
    enum status status = store_drain(store, NULL);
    if (status != STATUS_OK) return status;
    struct store_snapshot *snapshot = malloc(sizeof *snapshot);
    if (snapshot == NULL) return STATUS_NO_MEMORY;
    snapshot->snapshot = rocksdb_create_snapshot(store->db);
    *ret_snapshot = snapshot;
    return STATUS_OK;
}

void store_snapshot_release(struct store *store, struct store_snapshot *snapshot)
{
    if (snapshot == NULL) return;
    rocksdb_release_snapshot(store->db, snapshot->snapshot);
    free(snapshot);
}

struct iterator_call {
    struct store *store;
    struct store_iterator *iterator;
    char *text;
};

static void iterator_create_on_large_stack(void *argument)
{
    struct iterator_call *call = argument;
    struct store_iterator *iterator = call->iterator;
    iterator->iterator = rocksdb_create_iterator(call->store->db, iterator->options);
    if (iterator->reverse)
        rocksdb_iter_seek_to_last(iterator->iterator);
    else
        rocksdb_iter_seek_to_first(iterator->iterator);
}

enum status store_iterator_create(const struct store_range *range,
                                  const struct store_snapshot *snapshot, struct bytes from,
                                  struct bytes to, bool reverse,
                                  struct store_iterator **ret_iterator)
{
    assert(from.size <= STORE_KEY_BYTES_MAX && to.size <= STORE_KEY_BYTES_MAX);
    if (atomic_load(&range->store->failed)) return STATUS_IO;
    struct store_iterator *iterator = calloc(1, sizeof *iterator);
    if (iterator == NULL) return STATUS_NO_MEMORY;
    iterator->reverse = reverse;
    iterator->from = malloc(STORE_KEY_PREFIX_BYTES + from.size);
    iterator->to = malloc(STORE_KEY_PREFIX_BYTES + to.size);
    if (iterator->from == NULL || iterator->to == NULL) {
        store_iterator_destroy(iterator);
        return STATUS_NO_MEMORY;
    }
    bool bounded = true;
    store_prefix_encode(range, iterator->from);
    if (from.size > 0) memcpy(iterator->from + STORE_KEY_PREFIX_BYTES, from.data, from.size);
    if (to.size == 0)
        bounded = store_prefix_after(range, iterator->to);
    else
        store_prefix_encode(range, iterator->to);
    if (to.size > 0) memcpy(iterator->to + STORE_KEY_PREFIX_BYTES, to.data, to.size);

    /* An iterator of RocksDB sees nothing of what is pending: where that matters, it is written
     * first. (A snapshot was made behind all that it holds.) */
    if (snapshot == NULL) {
        struct bytes first = bytes_of(iterator->from, STORE_KEY_PREFIX_BYTES + from.size);
        struct bytes end = bytes_of(iterator->to, STORE_KEY_PREFIX_BYTES + to.size);
        enum status status = pending_touches(&range->store->pending, first, end, bounded)
                                 ? store_drain(range->store, NULL)
                                 : STATUS_OK;
        if (status != STATUS_OK) {
            store_iterator_destroy(iterator);
            return status;
        }
    }
    iterator->options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_iterate_lower_bound(iterator->options, (const char *)iterator->from,
                                                STORE_KEY_PREFIX_BYTES + from.size);
    if (bounded) {
        rocksdb_readoptions_set_iterate_upper_bound(iterator->options, (const char *)iterator->to,
                                                    STORE_KEY_PREFIX_BYTES + to.size);
    }
    if (snapshot != NULL) rocksdb_readoptions_set_snapshot(iterator->options, snapshot->snapshot);
    struct iterator_call call = { .store = range->store, .iterator = iterator };
    fiber_call_large_stack(iterator_create_on_large_stack, &call);
    *ret_iterator = iterator;
    return STATUS_OK;
}

static void iterator_next_on_large_stack(void *argument)
{
    struct iterator_call *call = argument;
    struct store_iterator *iterator = call->iterator;
    bool valid = rocksdb_iter_valid(iterator->iterator) != 0;
    if (valid && iterator->begun) {
        if (iterator->reverse)
            rocksdb_iter_prev(iterator->iterator);
        else
            rocksdb_iter_next(iterator->iterator);
        valid = rocksdb_iter_valid(iterator->iterator) != 0;
    }
    iterator->begun = true;
    if (!valid) rocksdb_iter_get_error(iterator->iterator, &call->text);
}

enum status store_iterator_next(struct store_iterator *iterator, struct bytes *ret_key,
                                struct bytes *ret_value)
{
    struct iterator_call call = { .iterator = iterator };
    fiber_call_large_stack(iterator_next_on_large_stack, &call);
    if (call.text != NULL) {
        enum status status = status_of(call.text);
        rocksdb_free(call.text);
        return status;
    }
    if (!rocksdb_iter_valid(iterator->iterator)) return STATUS_NOT_FOUND;
    size_t key_size, value_size;
    const char *key = rocksdb_iter_key(iterator->iterator, &key_size);
    const char *value = rocksdb_iter_value(iterator->iterator, &value_size);
    assert(key_size >= STORE_KEY_PREFIX_BYTES);
    *ret_key = bytes_of(key + STORE_KEY_PREFIX_BYTES, key_size - STORE_KEY_PREFIX_BYTES);
    *ret_value = bytes_of(value, value_size);
    return STATUS_OK;
}

static void iterator_destroy_on_large_stack(void *argument)
{
    struct store_iterator *iterator = argument;
    if (iterator->iterator != NULL) rocksdb_iter_destroy(iterator->iterator);
}

void store_iterator_destroy(struct store_iterator *iterator)
{
    if (iterator == NULL) return;
    fiber_call_large_stack(iterator_destroy_on_large_stack, iterator);
    if (iterator->options != NULL) rocksdb_readoptions_destroy(iterator->options);
    free(iterator->from);
    free(iterator->to);
    free(iterator);
}

/* --- figures ------------------------------------------------------------------------------------
 */

struct store_figures store_figures(struct store *store)
{
    struct store_figures figures = {
        .cache_bytes = rocksdb_cache_get_usage(store->cache),
        .unflushed_bytes = store->unflushed_bytes,
    };
    uint64_t value = 0;
    if (rocksdb_property_int(store->db, "rocksdb.cur-size-all-mem-tables", &value) == 0) {
        figures.memtable_bytes = value;
    }
    if (rocksdb_property_int(store->db, "rocksdb.total-sst-files-size", &value) == 0) {
        figures.files_bytes = value;
    }
    return figures;
}
