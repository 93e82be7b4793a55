/* Every read sees every write before it, wherever that is: in the open window, on its way, in
 * RocksDB, or in the cache of keys read.
 *
 * Method: random batches, reads, iterators, snapshots and flushes, drawn from a seed, on a store
 * and on an array beside it. Once simulated, with windows written in the caller's place, and once
 * on a real disk, with windows written by another thread at times of its own. */
#include "store/store.h"

#include "base/random.h"
#include "reactor/reactor.h"
#include "sim/disk.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    KEYS = 300,
    GROUPS = 2,
    STEPS_SIMULATED = 6000,
    STEPS_REAL = 40000,
    VALUE_BYTES_MAX = 3000,
    BATCH_OPERATIONS_MAX = 12,
};

struct model_value {
    uint32_t size; /* 0: the key is not there */
    uint8_t first; /* byte of the value; those behind it count up */
};

struct model {
    struct store *store;
    struct random_seeded random;
    struct buffer buffer;
    struct model_value now[GROUPS][KEYS], then[GROUPS][KEYS];
    struct store_snapshot *snapshot;
    uint64_t busy;
};

static uint64_t below(struct model *model, uint64_t bound)
{
    uint64_t number;
    random_below(&model->random.random, bound, &number);
    return number;
}

static struct store_range range_of(const struct model *model, uint64_t group)
{
    return (struct store_range) { .store = model->store, .group = 5 + group, .generation = 1 };
}

/* Keys of different lengths; in order of their numbers. */
static struct bytes key_of(uint64_t number, char text[64])
{
    snprintf(text, 64, "key-%04lu%s", number, number % 3 == 0 ? "-and-a-longer-name" : "");
    return bytes_of_text(text);
}

static void check_value(struct bytes value, const struct model_value *expected)
{
    assert_int_equal(value.size, expected->size);
    for (uint32_t i = 0; i < expected->size; i++)
        assert_int_equal(value.data[i], (uint8_t)(expected->first + i));
}

static void add_operation(struct model *model, struct store_batch *batch)
{
    static uint8_t value[VALUE_BYTES_MAX];
    uint64_t group = below(model, GROUPS), number = below(model, KEYS), kind = below(model, 400);
    struct store_range range = range_of(model, group);
    char text[64], end[64];
    struct bytes key = key_of(number, text);
    if (kind == 0) {
        uint64_t last = number + below(model, 20);
        if (last > KEYS) last = KEYS;
        store_batch_delete_range(batch, &range, key, key_of(last, end));
        for (uint64_t i = number; i < last; i++) model->now[group][i].size = 0;
    } else if (kind < 80) {
        store_batch_delete(batch, &range, key);
        model->now[group][number].size = 0;
    } else {
        /* Most fit the cache of keys read, some do not. */
        uint64_t size = 1 + below(model, below(model, 8) == 0 ? VALUE_BYTES_MAX : 60);
        uint64_t first = below(model, 256);
        for (uint64_t i = 0; i < size; i++) value[i] = (uint8_t)(first + i);
        store_batch_put(batch, &range, key, bytes_of(value, size));
        model->now[group][number] =
            (struct model_value) { .size = (uint32_t)size, .first = (uint8_t)first };
    }
}

static void write_some(struct model *model)
{
    struct store_batch *batch;
    assert_int_equal(store_batch_create(model->store, &batch), STATUS_OK);
    uint64_t count = 1 + below(model, BATCH_OPERATIONS_MAX);
    for (uint64_t i = 0; i < count; i++) add_operation(model, batch);
    enum status status;
    while ((status = store_write(model->store, batch, NULL)) == STATUS_BUSY) {
        model->busy++;
        assert_int_equal(store_flush(model->store, NULL), STATUS_OK);
    }
    assert_int_equal(status, STATUS_OK);
    store_batch_destroy(batch);
}

static void read_one(struct model *model, const struct store_snapshot *snapshot)
{
    uint64_t group = below(model, GROUPS), number = below(model, KEYS);
    struct store_range range = range_of(model, group);
    const struct model_value *expected =
        snapshot == NULL ? &model->now[group][number] : &model->then[group][number];
    char text[64];
    enum status status = store_get(&range, snapshot, key_of(number, text), &model->buffer);
    assert_int_equal(status, expected->size == 0 ? STATUS_NOT_FOUND : STATUS_OK);
    if (status == STATUS_OK)
        check_value(bytes_of(model->buffer.data, model->buffer.used), expected);
}

static void read_range(struct model *model, const struct store_snapshot *snapshot)
{
    uint64_t group = below(model, GROUPS), from = below(model, KEYS), to = below(model, KEYS + 1);
    bool reverse = below(model, 2) == 1, bounded = below(model, 4) != 0;
    if (!bounded) to = KEYS;
    if (to < from) return;
    struct store_range range = range_of(model, group);
    char first[64], last[64], text[64];
    struct store_iterator *iterator;
    assert_int_equal(store_iterator_create(&range, snapshot, key_of(from, first),
                                           bounded ? key_of(to, last) : (struct bytes) { 0 },
                                           reverse, &iterator),
                     STATUS_OK);
    for (uint64_t i = from; i < to; i++) {
        uint64_t number = reverse ? to - 1 - (i - from) : i;
        const struct model_value *expected =
            snapshot == NULL ? &model->now[group][number] : &model->then[group][number];
        if (expected->size == 0) continue;
        struct bytes key, value;
        assert_int_equal(store_iterator_next(iterator, &key, &value), STATUS_OK);
        assert_int_equal(bytes_compare(key, key_of(number, text)), 0);
        check_value(value, expected);
    }
    struct bytes key, value;
    assert_int_equal(store_iterator_next(iterator, &key, &value), STATUS_NOT_FOUND);
    store_iterator_destroy(iterator);
}

static void take_snapshot(struct model *model)
{
    store_snapshot_release(model->store, model->snapshot);
    assert_int_equal(store_snapshot_create(model->store, &model->snapshot), STATUS_OK);
    memcpy(model->then, model->now, sizeof model->now);
}

static void run_model(struct store *store, unsigned steps)
{
    struct model *model = calloc(1, sizeof *model);
    assert_non_null(model);
    model->store = store;
    random_seeded_init(&model->random, 11);
    buffer_init(&model->buffer, VALUE_BYTES_MAX);
    take_snapshot(model);
    for (unsigned step = 0; step < steps; step++) {
        uint64_t kind = below(model, 1000);
        if (kind < 400) {
            write_some(model);
        } else if (kind < 960) {
            read_one(model, kind % 8 == 0 ? model->snapshot : NULL);
        } else if (kind < 992) {
            read_range(model, kind % 8 == 0 ? model->snapshot : NULL);
        } else if (kind < 996) {
            take_snapshot(model);
        } else {
            enum status status =
                kind == 999 ? store_flush(store, NULL) : store_flush_start(store, NULL);
            assert_int_equal(status, STATUS_OK);
        }
    }
    store_snapshot_release(store, model->snapshot);
    buffer_finish(&model->buffer);
    free(model);
}

static void reads_see_all_writes_when_simulated(void **state)
{
    (void)state;
    struct sim_disk sim;
    sim_disk_init(&sim, &(struct sim_disk_options) { 0 });
    struct store *store;
    struct store_options options = { .folder = "store", .simulation = true };
    assert_int_equal(store_open(&sim.blocking, &options, &store, NULL), STATUS_OK);
    run_model(store, STEPS_SIMULATED);
    store_close(store);
    sim_disk_finish(&sim);
}

static int remove_entry(const char *path, const struct stat *about, int type, struct FTW *where)
{
    (void)about, (void)type, (void)where;
    return remove(path);
}

static void on_a_real_disk(void (*run)(struct store *store))
{
    char folder[] = "/tmp/unum-store-XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct disk *disk;
    struct error error = { 0 };
    assert_int_equal(blocking_disk_open(folder, &disk, &error), STATUS_OK);
    struct store *store;
    /* Small memtables, so that RocksDB flushes by itself under the windows. */
    struct store_options options = { .folder = "store", .memtable_bytes = 256ull * 1024 };
    assert_int_equal(store_open(disk, &options, &store, &error), STATUS_OK);
    run(store);
    store_close(store);
    blocking_disk_close(disk);
    (void)nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void run_real(struct store *store)
{
    run_model(store, STEPS_REAL);
}

static void reads_see_all_writes_while_another_thread_writes_them(void **state)
{
    (void)state;
    on_a_real_disk(run_real);
}

/* A flush that was only asked for happens, though nobody writes any more: the journal waits for
 * it. */
static void flush_and_be_idle(struct store *store)
{
    struct store_range range = { .store = store, .group = 1, .generation = 1 };
    struct store_batch *batch;
    struct buffer buffer;
    buffer_init(&buffer, 64);
    assert_int_equal(store_batch_create(store, &batch), STATUS_OK);
    for (uint32_t i = 0; i < 5000; i++) {
        uint8_t value[64] = { 0 };
        store_u32_le(value, i);
        store_batch_clear(batch);
        store_batch_put(batch, &range, bytes_of_text("last"), bytes_of(value, sizeof value));
        assert_int_equal(store_write(store, batch, NULL), STATUS_OK);
    }
    assert_int_equal(store_flush_start(store, NULL), STATUS_OK);
    uint32_t last = 0;
    for (unsigned tries = 0; tries < 10000 && last != 4999; tries++) {
        enum status status = store_get_persisted(&range, bytes_of_text("last"), &buffer);
        if (status == STATUS_OK) last = load_u32_le(buffer.data);
        (void)usleep(1000);
    }
    assert_int_equal(last, 4999);
    store_batch_destroy(batch);
    buffer_finish(&buffer);
}

static void a_flush_that_was_asked_for_covers_all_before_it(void **state)
{
    (void)state;
    on_a_real_disk(flush_and_be_idle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_see_all_writes_when_simulated),
        cmocka_unit_test(reads_see_all_writes_while_another_thread_writes_them),
        cmocka_unit_test(a_flush_that_was_asked_for_covers_all_before_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
