/* Batches, their way into RocksDB, flushes. */
#include "reactor/reactor.h"
#include "store/store_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

enum {
    /* A window is sent when it has so much: enough to make the hand-over cheap. */
    WINDOW_BYTES = 256 * 1024,
    WINDOW_BYTES_SIMULATED = 2048, /* so that short runs see many windows */
    /* Accepted at most while RocksDB takes no more; then STATUS_BUSY. */
    OPEN_BYTES_MAX = 8 * 1024 * 1024,
    /* A flush writes about what the memtables hold; with less room than that it is not begun. */
    FLUSH_ROOM_BYTES = 1024 * 1024,
    BATCH_BYTES_MAX = 256 * 1024 * 1024,
    BATCH_BYTES_KEPT = 64 * 1024,
    OPERATION_HEAD_BYTES = 9, /* store.h draws it */
};

enum operation_kind { OPERATION_PUT = 1, OPERATION_DELETE = 2, OPERATION_DELETE_RANGE = 3 };

struct store_batch {
    struct store *store;
    struct buffer operations; /* kind u8, size u32, size u32, key, value or the range's end */
    bool has_range;
    enum status status; /* of the first operation that found no memory */
};

struct operation {
    enum operation_kind kind;
    struct bytes key, value;
};

/* --- batches ------------------------------------------------------------------------------------
 */

enum status store_batch_create(struct store *store, struct store_batch **ret_batch)
{
    struct store_batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL) return STATUS_NO_MEMORY;
    batch->store = store;
    buffer_init(&batch->operations, BATCH_BYTES_MAX);
    *ret_batch = batch;
    return STATUS_OK;
}

void store_batch_destroy(struct store_batch *batch)
{
    if (batch == NULL) return;
    buffer_finish(&batch->operations);
    free(batch);
}

void store_batch_clear(struct store_batch *batch)
{
    batch->operations.used = 0;
    batch->has_range = false;
    batch->status = STATUS_OK;
    if (batch->operations.capacity <= BATCH_BYTES_KEPT) return;
    buffer_finish(&batch->operations);
    buffer_init(&batch->operations, BATCH_BYTES_MAX);
}

/* Room for an operation with so many bytes behind its head; NULL: no memory. */
static uint8_t *begin_operation(struct store_batch *batch, enum operation_kind kind,
                                size_t key_size, size_t value_size)
{
    size_t size = OPERATION_HEAD_BYTES + key_size + value_size;
    enum status status = buffer_reserve(&batch->operations, size);
    if (status != STATUS_OK) {
        if (batch->status == STATUS_OK) batch->status = status;
        return NULL;
    }
    uint8_t *at = batch->operations.data + batch->operations.used;
    batch->operations.used += size;
    at[0] = (uint8_t)kind;
    store_u32_le(at + 1, (uint32_t)key_size);
    store_u32_le(at + 5, (uint32_t)value_size);
    return at + OPERATION_HEAD_BYTES;
}

static uint8_t *put_key(uint8_t *at, const uint8_t prefix[STORE_KEY_PREFIX_BYTES], struct bytes key)
{
    memcpy(at, prefix, STORE_KEY_PREFIX_BYTES);
    if (key.size > 0) memcpy(at + STORE_KEY_PREFIX_BYTES, key.data, key.size);
    return at + STORE_KEY_PREFIX_BYTES + key.size;
}

void store_batch_put(struct store_batch *batch, const struct store_range *range, struct bytes key,
                     struct bytes value)
{
    assert(key.size <= STORE_KEY_BYTES_MAX);
    uint8_t prefix[STORE_KEY_PREFIX_BYTES];
    store_prefix_encode(range, prefix);
    uint8_t *at =
        begin_operation(batch, OPERATION_PUT, STORE_KEY_PREFIX_BYTES + key.size, value.size);
    if (at == NULL) return;
    at = put_key(at, prefix, key);
    if (value.size > 0) memcpy(at, value.data, value.size);
}

void store_batch_delete(struct store_batch *batch, const struct store_range *range,
                        struct bytes key)
{
    assert(key.size <= STORE_KEY_BYTES_MAX);
    uint8_t prefix[STORE_KEY_PREFIX_BYTES];
    store_prefix_encode(range, prefix);
    uint8_t *at = begin_operation(batch, OPERATION_DELETE, STORE_KEY_PREFIX_BYTES + key.size, 0);
    if (at != NULL) (void)put_key(at, prefix, key);
}

bool store_prefix_after(const struct store_range *range, uint8_t prefix[STORE_KEY_PREFIX_BYTES])
{
    store_prefix_encode(range, prefix);
    for (size_t i = STORE_KEY_PREFIX_BYTES; i-- > 0;) {
        if (++prefix[i] != 0) return true;
    }
    return false;
}

void store_batch_delete_range(struct store_batch *batch, const struct store_range *range,
                              struct bytes from, struct bytes to)
{
    assert(from.size <= STORE_KEY_BYTES_MAX && to.size <= STORE_KEY_BYTES_MAX);
    uint8_t prefix[STORE_KEY_PREFIX_BYTES], after[STORE_KEY_PREFIX_BYTES];
    store_prefix_encode(range, prefix);
    if (to.size == 0) {
        bool bounded = store_prefix_after(range, after);
        assert(bounded); /* group numbers are counters; the last one is never reached */
    } else {
        memcpy(after, prefix, sizeof after);
    }
    uint8_t *at = begin_operation(batch, OPERATION_DELETE_RANGE, STORE_KEY_PREFIX_BYTES + from.size,
                                  STORE_KEY_PREFIX_BYTES + to.size);
    batch->has_range = true;
    if (at == NULL) return;
    at = put_key(at, prefix, from);
    (void)put_key(at, after, to);
}

struct bytes store_batch_bytes(const struct store_batch *batch)
{
    return bytes_of(batch->operations.data, batch->operations.used);
}

/* The operation at *OFFSET, which moves behind it; false: there is none. */
static bool next_operation(const struct store_batch *batch, size_t *offset,
                           struct operation *ret_operation)
{
    if (*offset == batch->operations.used) return false;
    const uint8_t *at = batch->operations.data + *offset;
    size_t key_size = load_u32_le(at + 1), value_size = load_u32_le(at + 5);
    *ret_operation = (struct operation) {
        .kind = (enum operation_kind)at[0],
        .key = bytes_of(at + OPERATION_HEAD_BYTES, key_size),
        .value = bytes_of(at + OPERATION_HEAD_BYTES + key_size, value_size),
    };
    *offset += OPERATION_HEAD_BYTES + key_size + value_size;
    assert(*offset <= batch->operations.used);
    return true;
}

/* --- windows into RocksDB -----------------------------------------------------------------------
 */

static const char *text_of(struct bytes bytes)
{
    return bytes.size == 0 ? "" : (const char *)bytes.data;
}

static int compare_records(const void *a, const void *b)
{
    const struct pending_record *const *left = a;
    const struct pending_record *const *right = b;
    return bytes_compare(pending_key(*left), pending_key(*right));
}

static void add_record(rocksdb_writebatch_t *batch, const struct pending_record *record)
{
    struct bytes key = pending_key(record), value = pending_value(record);
    if (record->deleted)
        rocksdb_writebatch_delete(batch, text_of(key), key.size);
    else
        rocksdb_writebatch_put(batch, text_of(key), key.size, text_of(value), value.size);
}

/* In the order of keys, which halves what a memtable's search for their places costs. Each key
 * stands there once, so any order is right, also that of arrival when there is no memory. */
static void fill_batch(rocksdb_writebatch_t *batch, const struct pending_window *window)
{
    const struct pending_record **sorted =
        calloc(window->key_count, sizeof(const struct pending_record *));
    size_t count = 0;
    for (const struct pending_record *record = window->first; record != NULL;
         record = record->next) {
        if (record->superseded) continue;
        if (sorted == NULL) {
            add_record(batch, record);
        } else {
            sorted[count++] = record;
        }
    }
    if (sorted == NULL) return;
    assert(count == window->key_count);
    qsort(sorted, count, sizeof(const struct pending_record *), compare_records);
    for (size_t i = 0; i < count; i++) add_record(batch, sorted[i]);
    free(sorted);
}

/* On the shim's thread, or on a large stack of the owner's. */
static void write_window(void *argument)
{
    struct store *store = argument;
    rocksdb_writebatch_t *batch = store->window_batch;
    fill_batch(batch, store->window);
    rocksdb_write(store->db, store->window_options, batch, &store->window_text);
    rocksdb_writebatch_clear(batch);
    if (store->window_flushes && store->window_text == NULL)
        rocksdb_flush(store->db, store->flush_start, &store->window_text);
}

static void prepare_window(struct store *store, bool flushes)
{
    store->window = pending_seal(&store->pending);
    store->window_flushes = flushes;
    store->window_text = NULL;
}

/* The window's work is finished: look at how it went. */
static enum status conclude_window(struct store *store, struct error *error)
{
    char *text = store->window_text;
    store->window_text = NULL;
    enum status status = store_judge(store, text, error, "write");
    if (status == STATUS_OK) {
        pending_retire(&store->pending);
    } else {
        atomic_store(&store->failed, true);
    }
    return status;
}

static enum status store_is_closed(struct error *error)
{
    return error_set(error, STATUS_IO, "the store was closed by an earlier failure");
}

/* Wait for the window in flight. Blocks. */
static enum status finish_flight(struct store *store, struct error *error)
{
    if (atomic_load(&store->failed)) return store_is_closed(error);
    if (!store->pending.in_flight) return STATUS_OK;
    rocksdb_env_shim_await(store->shim);
    return conclude_window(store, error);
}

enum status store_drain(struct store *store, struct error *error)
{
    enum status status = finish_flight(store, error);
    if (status != STATUS_OK || pending_open_bytes(&store->pending) == 0) return status;
    prepare_window(store, false);
    fiber_call_large_stack(write_window, store);
    return conclude_window(store, error);
}

void store_advance(struct store *store)
{
    if (store->simulation || atomic_load(&store->failed)) return;
    if (store->pending.in_flight) {
        if (!rocksdb_env_shim_is_finished(store->shim)) return;
        if (conclude_window(store, NULL) != STATUS_OK) return;
    }
    if (pending_open_bytes(&store->pending) < WINDOW_BYTES && !store->flush_wanted) return;
    prepare_window(store, store->flush_wanted);
    store->flush_wanted = false;
    rocksdb_env_shim_run(store->shim, write_window, store);
}

void store_settle(struct store *store)
{
    /* What is not in RocksDB by now would be lost with its memtables all the same. */
    if (store->shim != NULL && store->pending.in_flight) rocksdb_env_shim_await(store->shim);
    if (store->window_text != NULL) rocksdb_free(store->window_text);
    store->window_text = NULL;
}

/* --- writing -----------------------------------------------------------------------------------
 */

struct write_call {
    struct store *store;
    rocksdb_writebatch_t *batch;
    char *text;
};

static void write_on_large_stack(void *argument)
{
    struct write_call *call = argument;
    rocksdb_write(call->store->db, call->store->write_options, call->batch, &call->text);
}

/* A batch that erases ranges goes into RocksDB by itself, behind all before it: windows know single
 * keys only, and such batches are rare. */
static enum status write_through(struct store *store, const struct store_batch *batch,
                                 struct error *error)
{
    enum status status = store_drain(store, error);
    if (status != STATUS_OK) return status;
    struct write_call call = { .store = store, .batch = rocksdb_writebatch_create() };
    struct operation operation;
    for (size_t offset = 0; next_operation(batch, &offset, &operation);) {
        struct bytes key = operation.key, value = operation.value;
        switch (operation.kind) {
        case OPERATION_PUT:
            rocksdb_writebatch_put(call.batch, text_of(key), key.size, text_of(value), value.size);
            break;
        case OPERATION_DELETE: rocksdb_writebatch_delete(call.batch, text_of(key), key.size); break;
        case OPERATION_DELETE_RANGE:
            rocksdb_writebatch_delete_range(call.batch, text_of(key), key.size, text_of(value),
                                            value.size);
            break;
        }
    }
    fiber_call_large_stack(write_on_large_stack, &call);
    rocksdb_writebatch_destroy(call.batch);
    for (size_t offset = 0; next_operation(batch, &offset, &operation);) {
        if (operation.kind == OPERATION_DELETE_RANGE)
            pending_forget_range(&store->pending, operation.key, operation.value);
        else
            pending_forget(&store->pending, operation.key);
    }
    return store_judge(store, call.text, error, "write");
}

/* The batch into the open window. Half of one in there would break its promise: then the store is
 * closed. */
static enum status accept(struct store *store, const struct store_batch *batch, struct error *error)
{
    struct operation operation;
    for (size_t offset = 0; next_operation(batch, &offset, &operation);) {
        enum status status = operation.kind == OPERATION_PUT
                                 ? pending_put(&store->pending, operation.key, operation.value)
                                 : pending_delete(&store->pending, operation.key);
        if (status == STATUS_OK) continue;
        atomic_store(&store->failed, true);
        return error_set(error, status, "no memory is left for what the store is to write");
    }
    return STATUS_OK;
}

enum status store_write(struct store *store, struct store_batch *batch, struct error *error)
{
    if (atomic_load(&store->failed)) return store_is_closed(error);
    if (batch->status != STATUS_OK)
        return error_set(error, batch->status, "a batch of the store found no memory");
    if (store->simulation && store->unflushed_bytes >= store->memtable_bytes) {
        enum status status = store_flush(store, error);
        if (status != STATUS_OK) return status;
    }
    size_t size = batch->operations.used;
    enum status status;
    if (batch->has_range) {
        status = write_through(store, batch, error);
    } else {
        if (pending_open_bytes(&store->pending) >= OPEN_BYTES_MAX) {
            store_advance(store);
            if (atomic_load(&store->failed)) return store_is_closed(error);
            if (pending_open_bytes(&store->pending) >= OPEN_BYTES_MAX)
                return error_set(error, STATUS_BUSY, "the store is behind");
        }
        status = accept(store, batch, error);
    }
    if (status != STATUS_OK) return status;
    store->unflushed_bytes += size;
    if (!store->simulation) {
        store_advance(store);
        return STATUS_OK;
    }
    if (pending_open_bytes(&store->pending) < WINDOW_BYTES_SIMULATED) return STATUS_OK;
    return store_drain(store, error);
}

/* --- flushing -----------------------------------------------------------------------------------
 */

struct flush_call {
    struct store *store;
    char *text;
};

static void flush_on_large_stack(void *argument)
{
    struct flush_call *call = argument;
    struct store *store = call->store;
    rocksdb_flush(store->db, store->flush_wait, &call->text);
    rocksdb_env_shim_wait_idle(store->shim);
    if (!store->simulation || call->text != NULL) return;
    /* Nobody compacts by himself in simulation. A failure shows at the next write or flush. */
    uint64_t files = 0;
    int known = rocksdb_property_int(store->db, "rocksdb.num-files-at-level0", &files);
    if (known != 0 || files < STORE_LEVEL0_FILES_COMPACTED) return;
    rocksdb_compact_range(store->db, NULL, 0, NULL, 0);
    rocksdb_env_shim_wait_idle(store->shim);
}

/* Better not begun than half done: an error inside closes the store. */
static enum status check_room(struct store *store, struct error *error)
{
    if (atomic_load(&store->failed)) return store_is_closed(error);
    uint64_t free_bytes, unflushed = store->unflushed_bytes;
    enum status status = store->disk->free_bytes(store->disk, &free_bytes);
    if (status != STATUS_OK) return error_set(error, status, "the disk of the store failed");
    if (free_bytes >= unflushed + FLUSH_ROOM_BYTES) return STATUS_OK;
    return error_set(error, STATUS_FULL,
                     "the disk is full: %" PRIu64 " bytes free, %" PRIu64 " to be written",
                     free_bytes, unflushed + FLUSH_ROOM_BYTES);
}

enum status store_flush(struct store *store, struct error *error)
{
    enum status status = check_room(store, error);
    if (status == STATUS_OK) status = store_drain(store, error);
    if (status != STATUS_OK) return status;
    store->unflushed_bytes = 0;
    struct flush_call call = { .store = store };
    fiber_call_large_stack(flush_on_large_stack, &call);
    return store_judge(store, call.text, error, "flush");
}

enum status store_flush_start(struct store *store, struct error *error)
{
    if (store->simulation) return store_flush(store, error);
    enum status status = check_room(store, error);
    if (status != STATUS_OK) return status;
    store->unflushed_bytes = 0;
    store->flush_wanted = true;
    store_advance(store);
    return STATUS_OK;
}
