/* The store keeps batches whole and in order, and what it calls persisted survives power loss.
 *
 * Method: batch I writes I under several keys. Power is lost, the process crashes, or a sync fails
 * at operation 1, 2, 3, ... of a run of puts, flushes and reopenings; afterwards the store must
 * show some batch I under all keys, not older than the last flush, nor than anything that a
 * persisted read ever showed: the journal lets go of entries by that answer. */
#include "store/store.h"

#include "reactor/reactor.h"
#include "sim/disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { BATCH_KEYS = 4, BATCHES = 18, FLUSH_EVERY = 3, REOPEN_AT = 11, OPERATIONS_MAX = 1000 };

struct fixture {
    struct sim_disk sim;
    struct store *store;
    struct buffer buffer;
    uint64_t persisted_max, flushed;
};

static void fixture_init(struct fixture *fixture, const struct sim_disk_options *options)
{
    *fixture = (struct fixture) { 0 };
    sim_disk_init(&fixture->sim, options);
    buffer_init(&fixture->buffer, 1024ull * 1024);
}

static void fixture_finish(struct fixture *fixture)
{
    store_close(fixture->store);
    buffer_finish(&fixture->buffer);
    sim_disk_finish(&fixture->sim);
}

static enum status fixture_open(struct fixture *fixture, struct error *error)
{
    struct store_options options = { .folder = "store", .simulation = true };
    return store_open(&fixture->sim.blocking, &options, &fixture->store, error);
}

static void fixture_close(struct fixture *fixture)
{
    store_close(fixture->store);
    fixture->store = NULL;
}

static struct store_range range_of(struct fixture *fixture, uint64_t group)
{
    return (struct store_range) { .store = fixture->store, .group = group, .generation = 1 };
}

static enum status write_batch(struct fixture *fixture, uint64_t number)
{
    struct store_batch *batch;
    if (store_batch_create(fixture->store, &batch) != STATUS_OK) return STATUS_NO_MEMORY;
    char text[64];
    uint8_t value[8];
    store_u64_le(value, number);
    for (uint64_t key = 0; key < BATCH_KEYS; key++) {
        struct store_range range = range_of(fixture, 1 + key % 2);
        snprintf(text, sizeof text, "key-%lu", key);
        store_batch_put(batch, &range, bytes_of_text(text), bytes_of(value, 8));
        snprintf(text, sizeof text, "of-%lu-only", number);
        store_batch_put(batch, &range, bytes_of_text(text), bytes_of(value, 8));
        snprintf(text, sizeof text, "of-%lu-only", number - 1);
        store_batch_delete(batch, &range, bytes_of_text(text));
    }
    enum status status = store_write(fixture->store, batch, NULL);
    store_batch_destroy(batch);
    return status;
}

/* 0: not there. */
static enum status read_number(struct fixture *fixture, uint64_t key, bool persisted,
                               uint64_t *ret_number)
{
    char text[64];
    snprintf(text, sizeof text, "key-%lu", key);
    struct store_range range = range_of(fixture, 1 + key % 2);
    enum status status = persisted
                             ? store_get_persisted(&range, bytes_of_text(text), &fixture->buffer)
                             : store_get(&range, NULL, bytes_of_text(text), &fixture->buffer);
    if (status == STATUS_NOT_FOUND) {
        *ret_number = 0;
        return STATUS_OK;
    }
    if (status == STATUS_OK) *ret_number = load_u64_le(fixture->buffer.data);
    return status;
}

static enum status note_persisted(struct fixture *fixture)
{
    uint64_t number = 0;
    enum status status = read_number(fixture, 0, true, &number);
    if (status == STATUS_OK && number > fixture->persisted_max) fixture->persisted_max = number;
    return status;
}

static enum status run_batches(struct fixture *fixture)
{
    bool reopened = false;
    enum status status = fixture_open(fixture, NULL);
    for (uint64_t number = 1; number <= BATCHES && status == STATUS_OK; number++) {
        status = write_batch(fixture, number);
        if (status == STATUS_OK) status = note_persisted(fixture);
        if (status == STATUS_OK && number % FLUSH_EVERY == 0) {
            status = store_flush(fixture->store, NULL);
            if (status == STATUS_OK) fixture->flushed = number;
        }
        if (status == STATUS_OK) status = note_persisted(fixture);
        if (status == STATUS_OK && number == REOPEN_AT && !reopened) {
            reopened = true;
            fixture_close(fixture);
            status = fixture_open(fixture, NULL);
            /* What was not flushed is gone; in the daemon the journal writes it again. */
            number = fixture->flushed;
        }
    }
    return status;
}

static void check_whole_batch(struct fixture *fixture, const char *when, uint64_t at)
{
    uint64_t first = 0;
    for (uint64_t key = 0; key < BATCH_KEYS; key++) {
        uint64_t number = 0;
        assert_int_equal(read_number(fixture, key, false, &number), STATUS_OK);
        if (key == 0) first = number;
        if (number != first) fail_msg("%s, operation %lu: half a batch", when, at);
    }
    if (first < fixture->flushed || first < fixture->persisted_max || first > BATCHES) {
        fail_msg("%s, operation %lu: batch %lu, but %lu was flushed and %lu read as persisted",
                 when, at, first, fixture->flushed, fixture->persisted_max);
    }
    for (uint64_t group = 1; group <= 2; group++) {
        struct store_range range = range_of(fixture, group);
        struct store_iterator *iterator;
        assert_int_equal(store_iterator_create(&range, NULL, bytes_of_text("of-"),
                                               bytes_of_text("of."), false, &iterator),
                         STATUS_OK);
        struct bytes key, value;
        unsigned count = 0;
        while (store_iterator_next(iterator, &key, &value) == STATUS_OK) {
            assert_int_equal(load_u64_le(value.data), first);
            count++;
        }
        assert_int_equal(count, first > 0 ? 1 : 0);
        store_iterator_destroy(iterator);
    }
}

enum fault { FAULT_POWER_LOSS, FAULT_CRASH, FAULT_SYNC };

static bool run_with_fault(enum fault fault, uint64_t seed, uint64_t at)
{
    struct fixture fixture;
    struct sim_disk_options options = { .seed = seed };
    if (fault == FAULT_POWER_LOSS) options.power_loss_at = at;
    if (fault == FAULT_CRASH) options.crash_at = at;
    if (fault == FAULT_SYNC) options.sync_fails_at = at;
    fixture_init(&fixture, &options);
    enum status status = run_batches(&fixture);
    bool struck =
        fixture.sim.lost_power || fixture.sim.crashed || fixture.sim.counters.syncs_failed > 0;
    if (!struck) assert_int_equal(status, STATUS_OK);
    if (!fixture.sim.lost_power) {
        if (fault == FAULT_CRASH)
            sim_disk_crash(&fixture.sim);
        else
            sim_disk_lose_power(&fixture.sim);
    }
    fixture_close(&fixture);
    sim_disk_restart(&fixture.sim);
    struct error error = { 0 };
    status = fixture_open(&fixture, &error);
    if (status != STATUS_OK) fail_msg("operation %lu: %s", at, error.text);
    check_whole_batch(&fixture, "after the fault", at);
    assert_int_equal(write_batch(&fixture, BATCHES), STATUS_OK);
    fixture_finish(&fixture);
    return struck;
}

static void strike_everywhere(enum fault fault, uint64_t at_least)
{
    uint64_t at = 1;
    for (bool struck = true; struck; at++) {
        assert_true(at < OPERATIONS_MAX);
        for (uint64_t seed = 1; seed <= 4; seed++) struck = run_with_fault(fault, seed + at, at);
    }
    assert_true(at > at_least);
}

static void store_recovers_a_whole_batch_after_power_loss_at_every_operation(void **state)
{
    (void)state;
    strike_everywhere(FAULT_POWER_LOSS, 60);
}

static void store_recovers_a_whole_batch_after_a_crash_at_every_operation(void **state)
{
    (void)state;
    strike_everywhere(FAULT_CRASH, 60);
}

static void store_recovers_a_whole_batch_after_every_failing_sync(void **state)
{
    (void)state;
    strike_everywhere(FAULT_SYNC, 15);
}

static void the_same_calls_make_the_same_operations(void **state)
{
    (void)state;
    uint64_t hashes[2], operations[2];
    for (unsigned i = 0; i < 2; i++) {
        struct fixture fixture;
        fixture_init(&fixture, &(struct sim_disk_options) { .seed = 9 });
        assert_int_equal(run_batches(&fixture), STATUS_OK);
        fixture_close(&fixture);
        hashes[i] = fixture.sim.history_hash;
        operations[i] = fixture.sim.counters.operations;
        fixture_finish(&fixture);
    }
    assert_int_equal(operations[0], operations[1]);
    assert_int_equal(hashes[0], hashes[1]);
}

static void a_full_disk_is_told_before_a_flush_begins_and_nothing_is_lost(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, &(struct sim_disk_options) { .seed = 2 });
    assert_int_equal(fixture_open(&fixture, NULL), STATUS_OK);
    assert_int_equal(write_batch(&fixture, 1), STATUS_OK);
    fixture.sim.options.full_at = 1;
    struct error error = { 0 };
    assert_int_equal(store_flush(fixture.store, &error), STATUS_FULL);
    assert_non_null(strstr(error.text, "full"));
    assert_int_equal(write_batch(&fixture, 2), STATUS_OK);
    fixture.sim.options.full_at = 0;
    assert_int_equal(store_flush(fixture.store, &error), STATUS_OK);
    sim_disk_lose_power(&fixture.sim);
    fixture_close(&fixture);
    sim_disk_restart(&fixture.sim);
    assert_int_equal(fixture_open(&fixture, &error), STATUS_OK);
    fixture.flushed = 2;
    check_whole_batch(&fixture, "after a full disk", 0);
    fixture_finish(&fixture);
}

static void rot_in_a_table_is_told_and_never_served(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, &(struct sim_disk_options) { .seed = 3 });
    assert_int_equal(run_batches(&fixture), STATUS_OK);
    assert_int_equal(store_flush(fixture.store, NULL), STATUS_OK);
    fixture_close(&fixture);
    struct disk_entry *entries = calloc(64, sizeof *entries);
    assert_non_null(entries);
    size_t count;
    struct disk *disk = &fixture.sim.blocking;
    assert_int_equal(disk->list(disk, "store", entries, 64, &count), STATUS_OK);
    unsigned told = 0;
    for (size_t i = 0; i < count; i++) {
        if (strstr(entries[i].name, ".sst") == NULL) continue;
        char path[64];
        snprintf(path, sizeof path, "store/%.40s", entries[i].name);
        for (uint64_t at = 7; at < entries[i].size_bytes; at += 61) {
            assert_int_equal(sim_disk_rot(&fixture.sim, path, at, 2), STATUS_OK);
            struct error error = { 0 };
            enum status status = fixture_open(&fixture, &error);
            for (uint64_t key = 0; key < BATCH_KEYS && status == STATUS_OK; key++) {
                uint64_t number = 0;
                status = read_number(&fixture, key, false, &number);
                if (status == STATUS_OK) assert_int_equal(number, BATCHES);
            }
            told += status != STATUS_OK;
            fixture_close(&fixture);
            assert_int_equal(sim_disk_rot(&fixture.sim, path, at, 2), STATUS_OK);
        }
    }
    assert_true(told > 3);
    free(entries);
    fixture_finish(&fixture);
}

static void put(struct fixture *fixture, uint64_t group, const char *key, const char *value)
{
    struct store_range range = range_of(fixture, group);
    struct store_batch *batch;
    assert_int_equal(store_batch_create(fixture->store, &batch), STATUS_OK);
    store_batch_put(batch, &range, bytes_of_text(key), bytes_of_text(value));
    assert_int_equal(store_write(fixture->store, batch, NULL), STATUS_OK);
    store_batch_destroy(batch);
}

static void expect_keys(struct fixture *fixture, uint64_t group,
                        const struct store_snapshot *snapshot, const char *from, const char *to,
                        bool reverse, const char *expected)
{
    struct store_range range = range_of(fixture, group);
    struct store_iterator *iterator;
    assert_int_equal(store_iterator_create(&range, snapshot, bytes_of_text(from), bytes_of_text(to),
                                           reverse, &iterator),
                     STATUS_OK);
    char found[256] = { 0 };
    struct bytes key, value;
    while (store_iterator_next(iterator, &key, &value) == STATUS_OK) {
        strncat(found, (const char *)key.data, key.size);
        strcat(found, " ");
    }
    assert_int_equal(store_iterator_next(iterator, &key, &value), STATUS_NOT_FOUND);
    assert_string_equal(found, expected);
    store_iterator_destroy(iterator);
}

static void keys_of_a_range_are_its_own_and_in_order(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, &(struct sim_disk_options) { .seed = 4 });
    assert_int_equal(fixture_open(&fixture, NULL), STATUS_OK);
    const char *keys[] = { "b", "a", "d", "c" };
    for (unsigned i = 0; i < 4; i++) {
        put(&fixture, 1, keys[i], "1");
        put(&fixture, 2, keys[i], "2");
        put(&fixture, UINT64_MAX - 1, keys[i], "3");
    }
    expect_keys(&fixture, 1, NULL, "", "", false, "a b c d ");
    expect_keys(&fixture, 2, NULL, "", "", true, "d c b a ");
    expect_keys(&fixture, UINT64_MAX - 1, NULL, "", "", false, "a b c d ");
    expect_keys(&fixture, 1, NULL, "b", "d", false, "b c ");
    expect_keys(&fixture, 1, NULL, "b", "d", true, "c b ");
    expect_keys(&fixture, 3, NULL, "", "", false, "");

    struct store_snapshot *snapshot;
    assert_int_equal(store_snapshot_create(fixture.store, &snapshot), STATUS_OK);
    struct store_range range = range_of(&fixture, 1);
    struct store_batch *batch;
    assert_int_equal(store_batch_create(fixture.store, &batch), STATUS_OK);
    store_batch_delete_range(batch, &range, bytes_of_text("b"), bytes_of_text("d"));
    store_batch_put(batch, &range, bytes_of_text("e"), (struct bytes) { 0 });
    assert_int_equal(store_write(fixture.store, batch, NULL), STATUS_OK);
    expect_keys(&fixture, 1, NULL, "", "", false, "a d e ");
    expect_keys(&fixture, 1, snapshot, "", "", false, "a b c d ");
    expect_keys(&fixture, 2, NULL, "", "", false, "a b c d ");
    assert_int_equal(store_get(&range, NULL, bytes_of_text("e"), &fixture.buffer), STATUS_OK);
    assert_int_equal(fixture.buffer.used, 0);
    assert_int_equal(store_get(&range, snapshot, bytes_of_text("e"), &fixture.buffer),
                     STATUS_NOT_FOUND);
    assert_int_equal(store_get(&range, NULL, bytes_of_text("b"), &fixture.buffer),
                     STATUS_NOT_FOUND);
    store_snapshot_release(fixture.store, snapshot);
    store_batch_clear(batch);
    store_batch_delete_range(batch, &range, (struct bytes) { 0 }, (struct bytes) { 0 });
    assert_int_equal(store_write(fixture.store, batch, NULL), STATUS_OK);
    store_batch_destroy(batch);
    expect_keys(&fixture, 1, NULL, "", "", false, "");
    expect_keys(&fixture, 2, NULL, "", "", false, "a b c d ");
    fixture_finish(&fixture);
}

static void equal_calls_give_equal_batch_bytes(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, &(struct sim_disk_options) { .seed = 4 });
    assert_int_equal(fixture_open(&fixture, NULL), STATUS_OK);
    struct store_range range = range_of(&fixture, 1);
    struct store_batch *batches[2];
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(store_batch_create(fixture.store, &batches[i]), STATUS_OK);
        store_batch_put(batches[i], &range, bytes_of_text("k"), bytes_of_text("v"));
        store_batch_delete(batches[i], &range, bytes_of_text("l"));
        assert_int_equal(store_write(fixture.store, batches[0], NULL), STATUS_OK);
    }
    assert_true(bytes_equal(store_batch_bytes(batches[0]), store_batch_bytes(batches[1])));
    store_batch_put(batches[1], &range, bytes_of_text("m"), bytes_of_text("v"));
    assert_false(bytes_equal(store_batch_bytes(batches[0]), store_batch_bytes(batches[1])));
    for (unsigned i = 0; i < 2; i++) store_batch_destroy(batches[i]);
    fixture_finish(&fixture);
}

static void memory_is_not_persisted_until_flushed(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, &(struct sim_disk_options) { .seed = 4 });
    assert_int_equal(fixture_open(&fixture, NULL), STATUS_OK);
    struct store_range range = range_of(&fixture, 1);
    put(&fixture, 1, "k", "v");
    assert_int_equal(store_get_persisted(&range, bytes_of_text("k"), &fixture.buffer),
                     STATUS_NOT_FOUND);
    assert_true(store_figures(fixture.store).unflushed_bytes > 0);
    assert_int_equal(store_flush_start(fixture.store, NULL), STATUS_OK);
    assert_int_equal(store_get_persisted(&range, bytes_of_text("k"), &fixture.buffer), STATUS_OK);
    assert_int_equal(store_figures(fixture.store).unflushed_bytes, 0);
    assert_true(store_figures(fixture.store).files_bytes > 0);
    fixture_finish(&fixture);
}

static void use_in_a_fiber(struct scope *root, void *context)
{
    (void)root;
    struct fixture *fixture = context;
    assert_int_equal(run_batches(fixture), STATUS_OK);
    check_whole_batch(fixture, "in a fiber", 0);
    fixture_close(fixture);
}

static void the_store_works_from_the_small_stack_of_a_fiber(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, &(struct sim_disk_options) { .seed = 4 });
    struct reactor *reactor;
    struct reactor_simulation_options options = { .seed = 1, .end_ns = UINT64_MAX / 2 };
    assert_int_equal(reactor_create_simulation(&options, &reactor), STATUS_OK);
    assert_int_equal(reactor_run(reactor, use_in_a_fiber, &fixture), STATUS_OK);
    reactor_destroy(reactor);
    fixture_finish(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_a_range_are_its_own_and_in_order),
        cmocka_unit_test(equal_calls_give_equal_batch_bytes),
        cmocka_unit_test(memory_is_not_persisted_until_flushed),
        cmocka_unit_test(the_store_works_from_the_small_stack_of_a_fiber),
        cmocka_unit_test(a_full_disk_is_told_before_a_flush_begins_and_nothing_is_lost),
        cmocka_unit_test(the_same_calls_make_the_same_operations),
        cmocka_unit_test(rot_in_a_table_is_told_and_never_served),
        cmocka_unit_test(store_recovers_a_whole_batch_after_power_loss_at_every_operation),
        cmocka_unit_test(store_recovers_a_whole_batch_after_a_crash_at_every_operation),
        cmocka_unit_test(store_recovers_a_whole_batch_after_every_failing_sync),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
