/* The store's interface in memory, for the tests of the pure state machine: no disk, no flush, the
 * same order and atomicity. The real store has tests of its own. */
#include "base/checksum.h"
#include "store/store.h"

#include <assert.h>
#include <bsd/sys/tree.h>
#include <stdlib.h>

struct pair {
    RB_ENTRY(pair) by_key;
    struct bytes key, value;
    uint8_t data[];
};
RB_HEAD(pairs, pair);

static int compare(const struct pair *a, const struct pair *b)
{
    return bytes_compare(a->key, b->key);
}

/* NOLINTBEGIN: the analyzer does not follow the tree's colours. */
RB_PROTOTYPE(pairs, pair, by_key, compare)
RB_GENERATE(pairs, pair, by_key, compare)
/* NOLINTEND */

struct store {
    struct pairs pairs;
};

struct store_batch {
    struct buffer operations; /* kind u8, key, value, each with its size as u32 */
};

struct store_iterator {
    struct buffer pairs;
    size_t *offsets;
    size_t count, next;
};

enum { KIND_PUT = 1, KIND_DELETE = 2, KIND_DELETE_RANGE = 3 };
enum { BYTES_MAX = 1 << 30 };

static struct pair *pair_new(struct bytes key, struct bytes value)
{
    struct pair *pair = malloc(sizeof *pair + key.size + value.size);
    assert(pair != NULL);
    assert(key.size == 0 || key.data != NULL);
    assert(value.size == 0 || value.data != NULL);
    if (key.size > 0) memcpy(pair->data, key.data, key.size);
    if (value.size > 0) memcpy(pair->data + key.size, value.data, value.size);
    pair->key = bytes_of(pair->data, key.size);
    pair->value = bytes_of(pair->data + key.size, value.size);
    return pair;
}

enum status store_open(struct disk *disk, const struct store_options *options,
                       struct store **ret_store, struct error *error)
{
    (void)disk;
    (void)options;
    (void)error;
    *ret_store = calloc(1, sizeof **ret_store);
    assert(*ret_store != NULL);
    return STATUS_OK;
}

void store_close(struct store *store)
{
    struct pair *pair;
    while ((pair = RB_MIN(pairs, &store->pairs)) != NULL) {
        RB_REMOVE(pairs, &store->pairs, pair);
        free(pair);
    }
    free(store);
}

/* The full key, on malloc. */
static struct pair *full_key(const struct store_range *range, struct bytes key)
{
    struct pair *pair = malloc(sizeof *pair + STORE_KEY_PREFIX_BYTES + key.size);
    assert(pair != NULL);
    store_u64_be(pair->data, range->group);
    store_u32_be(pair->data + 8, range->generation);
    if (key.size > 0) memcpy(pair->data + STORE_KEY_PREFIX_BYTES, key.data, key.size);
    pair->key = bytes_of(pair->data, STORE_KEY_PREFIX_BYTES + key.size);
    pair->value = bytes_of(NULL, 0);
    return pair;
}

enum status store_get(const struct store_range *range, const struct store_snapshot *snapshot,
                      struct bytes key, struct buffer *buffer)
{
    assert(snapshot == NULL);
    struct pair *wanted = full_key(range, key);
    struct pair *found = RB_FIND(pairs, &range->store->pairs, wanted);
    free(wanted);
    if (found == NULL) return STATUS_NOT_FOUND;
    buffer->used = 0;
    return buffer_append(buffer, found->value.data, found->value.size);
}

enum status store_batch_create(struct store *store, struct store_batch **ret_batch)
{
    (void)store;
    *ret_batch = calloc(1, sizeof **ret_batch);
    assert(*ret_batch != NULL);
    buffer_init(&(*ret_batch)->operations, BYTES_MAX);
    return STATUS_OK;
}

void store_batch_destroy(struct store_batch *batch)
{
    buffer_finish(&batch->operations);
    free(batch);
}

void store_batch_clear(struct store_batch *batch)
{
    batch->operations.used = 0;
}

static void batch_add(struct store_batch *batch, uint8_t kind, const struct store_range *range,
                      struct bytes key, struct bytes value)
{
    struct pair *full = full_key(range, key);
    struct buffer *operations = &batch->operations;
    enum status status = buffer_reserve(operations, 9 + full->key.size + value.size);
    assert(status == STATUS_OK);
    struct writer writer =
        writer_of(operations->data + operations->used, operations->capacity - operations->used);
    writer_put_u8(&writer, kind);
    writer_put_u32(&writer, (uint32_t)full->key.size);
    writer_put(&writer, full->key.data, full->key.size);
    writer_put_u32(&writer, (uint32_t)value.size);
    writer_put(&writer, value.data, value.size);
    operations->used += writer.used;
    free(full);
}

void store_batch_put(struct store_batch *batch, const struct store_range *range, struct bytes key,
                     struct bytes value)
{
    batch_add(batch, KIND_PUT, range, key, value);
}

void store_batch_delete(struct store_batch *batch, const struct store_range *range,
                        struct bytes key)
{
    batch_add(batch, KIND_DELETE, range, key, bytes_of(NULL, 0));
}

void store_batch_delete_range(struct store_batch *batch, const struct store_range *range,
                              struct bytes from, struct bytes to)
{
    assert(to.size > 0);
    struct pair *end = full_key(range, to);
    batch_add(batch, KIND_DELETE_RANGE, range, from, end->key);
    free(end);
}

static void erase(struct store *store, struct bytes from, struct bytes to)
{
    struct pair wanted = { .key = from };
    struct pair *pair = RB_NFIND(pairs, &store->pairs, &wanted);
    while (pair != NULL && bytes_compare(pair->key, to) < 0) {
        struct pair *next = RB_NEXT(pairs, &store->pairs, pair);
        RB_REMOVE(pairs, &store->pairs, pair);
        free(pair);
        pair = next;
    }
}

struct bytes store_batch_bytes(const struct store_batch *batch)
{
    return bytes_of(batch->operations.data, batch->operations.used);
}

enum status store_write(struct store *store, struct store_batch *batch, struct error *error)
{
    (void)error;
    struct reader reader = reader_of(batch->operations.data, batch->operations.used);
    while (reader_left(&reader) > 0) {
        uint8_t kind = reader_u8(&reader);
        uint32_t key_size = reader_u32(&reader);
        struct bytes key = bytes_of(reader_take(&reader, key_size), key_size);
        uint32_t value_size = reader_u32(&reader);
        struct bytes value = bytes_of(reader_take(&reader, value_size), value_size);
        if (kind == KIND_DELETE_RANGE) {
            erase(store, key, value);
            continue;
        }
        struct pair *fresh = pair_new(key, value);
        struct pair *old = RB_FIND(pairs, &store->pairs, fresh);
        if (old != NULL) {
            RB_REMOVE(pairs, &store->pairs, old);
            free(old);
        }
        if (kind == KIND_PUT) {
            RB_INSERT(pairs, &store->pairs, fresh);
        } else {
            free(fresh);
        }
    }
    return STATUS_OK;
}

static void iterator_take(struct store_iterator *iterator, const struct pair *pair)
{
    size_t *offsets = realloc(iterator->offsets, (iterator->count + 1) * sizeof *offsets);
    assert(offsets != NULL);
    iterator->offsets = offsets;
    offsets[iterator->count++] = iterator->pairs.used;
    struct bytes key =
        bytes_of(pair->key.data + STORE_KEY_PREFIX_BYTES, pair->key.size - STORE_KEY_PREFIX_BYTES);
    uint8_t head[8];
    store_u32_le(head, (uint32_t)key.size);
    store_u32_le(head + 4, (uint32_t)pair->value.size);
    enum status status = buffer_append(&iterator->pairs, head, sizeof head);
    if (status == STATUS_OK) status = buffer_append(&iterator->pairs, key.data, key.size);
    if (status == STATUS_OK) {
        status = buffer_append(&iterator->pairs, pair->value.data, pair->value.size);
    }
    assert(status == STATUS_OK);
}

enum status store_iterator_create(const struct store_range *range,
                                  const struct store_snapshot *snapshot, struct bytes from,
                                  struct bytes to, bool reverse,
                                  struct store_iterator **ret_iterator)
{
    assert(snapshot == NULL);
    struct store_iterator *iterator = calloc(1, sizeof *iterator);
    assert(iterator != NULL);
    buffer_init(&iterator->pairs, BYTES_MAX);
    struct store_range next_range = *range;
    next_range.generation++;
    struct pair *first = full_key(range, from);
    struct pair *last = to.size == 0 ? full_key(&next_range, to) : full_key(range, to);
    struct pair *pair = RB_NFIND(pairs, &range->store->pairs, first);
    for (; pair != NULL && bytes_compare(pair->key, last->key) < 0;
         pair = RB_NEXT(pairs, &range->store->pairs, pair)) {
        iterator_take(iterator, pair);
    }
    free(first);
    free(last);
    for (size_t i = 0; reverse && i < iterator->count / 2; i++) {
        size_t offset = iterator->offsets[i];
        iterator->offsets[i] = iterator->offsets[iterator->count - 1 - i];
        iterator->offsets[iterator->count - 1 - i] = offset;
    }
    *ret_iterator = iterator;
    return STATUS_OK;
}

enum status store_iterator_next(struct store_iterator *iterator, struct bytes *ret_key,
                                struct bytes *ret_value)
{
    if (iterator->next == iterator->count) return STATUS_NOT_FOUND;
    const uint8_t *data = iterator->pairs.data + iterator->offsets[iterator->next++];
    size_t key_size = load_u32_le(data);
    *ret_key = bytes_of(data + 8, key_size);
    *ret_value = bytes_of(data + 8 + key_size, load_u32_le(data + 4));
    return STATUS_OK;
}

void store_iterator_destroy(struct store_iterator *iterator)
{
    buffer_finish(&iterator->pairs);
    free(iterator->offsets);
    free(iterator);
}

enum status store_flush(struct store *store, struct error *error)
{
    (void)store;
    (void)error;
    return STATUS_OK;
}
