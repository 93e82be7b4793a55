/* Watches: each event once, in order, whole revisions; told only when there is something; and the
 * interval tree behind it against a plain list. */
#include "registry/registry_harness.h"
#include "registry/registry_interval.h"

#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
    struct store *store;
    struct registry_harness harness;
};

static struct registry_harness *setup(struct fixture *fixture, const struct registry_limits *limits)
{
    assert_int_equal(store_open(NULL, NULL, &fixture->store, NULL), STATUS_OK);
    harness_init(&fixture->harness, fixture->store, NULL, limits);
    return &fixture->harness;
}

static void teardown(struct fixture *fixture)
{
    harness_finish(&fixture->harness);
    store_close(fixture->store);
}

static void count_call(void *context)
{
    unsigned *calls = context;
    (*calls)++;
}

static struct registry_watch *watch(struct registry_harness *harness, const char *key,
                                    struct bytes end, uint64_t start, bool previous,
                                    unsigned *calls)
{
    struct registry_watch_options options = {
        .key = bytes_of_text(key),
        .end = end,
        .start_revision = start,
        .include_previous = previous,
        .notify = calls == NULL ? NULL : count_call,
        .context = calls,
    };
    struct registry_watch *created;
    assert_int_equal(registry_watch_create(harness->first.registry, &options, &created, NULL),
                     STATUS_OK);
    return created;
}

struct given {
    struct registry_event *events;
    size_t count;
    uint64_t revision;
    enum status status;
    struct error error;
};

static struct given next(struct registry_harness *harness, struct registry_watch *from,
                         size_t count_max)
{
    struct given given = { 0 };
    arena_clear(&harness->arena);
    given.status = registry_watch_next(from, count_max, &harness->arena, &given.events,
                                       &given.count, &given.revision, &given.error);
    return given;
}

static const struct bytes alone = { 0 };

static void a_watch_from_now_gives_what_comes_and_tells_when(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    (void)harness_put(harness, "a", "0", 0);
    unsigned calls = 0;
    struct registry_watch *w = watch(harness, "a", alone, 0, false, &calls);
    struct given given = next(harness, w, 10);
    assert_int_equal(given.count, 0);
    assert_int_equal(given.revision, 1);
    (void)harness_put(harness, "b", "1", 0);
    assert_int_equal(calls, 0);
    (void)harness_put(harness, "a", "2", 0);
    assert_int_equal(calls, 1);
    (void)harness_delete(harness, "a", NULL);
    given = next(harness, w, 10);
    assert_int_equal(given.count, 2);
    assert_int_equal(given.revision, 4);
    assert_false(given.events[0].deleted);
    assert_int_equal(given.events[0].item.modify_revision, 3);
    assert_int_equal(given.events[0].item.create_revision, 1);
    assert_true(bytes_equal(given.events[0].item.value, bytes_of_text("2")));
    assert_false(given.events[0].has_previous);
    assert_true(given.events[1].deleted);
    assert_int_equal(given.events[1].item.modify_revision, 4);
    given = next(harness, w, 10);
    assert_int_equal(given.count, 0);
    registry_watch_destroy(w);
    teardown(&fixture);
}

static void a_watch_from_the_past_gives_all_since_with_what_was_before(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    (void)harness_put(harness, "a", "1", 0);
    (void)harness_put(harness, "a", "2", 0);
    (void)harness_delete(harness, "a", NULL);
    (void)harness_put(harness, "a", "4", 0);
    struct registry_watch *w = watch(harness, "a", bytes_of("", 1), 2, true, NULL);
    struct given given = next(harness, w, 10);
    assert_int_equal(given.count, 3);
    assert_true(given.events[0].has_previous);
    assert_true(bytes_equal(given.events[0].previous.value, bytes_of_text("1")));
    assert_true(given.events[1].has_previous);
    assert_true(bytes_equal(given.events[1].previous.value, bytes_of_text("2")));
    assert_false(given.events[2].has_previous);
    registry_watch_destroy(w);
    teardown(&fixture);
}

static void a_watch_of_the_future_begins_at_its_revision(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    unsigned calls = 0;
    struct registry_watch *w = watch(harness, "a", alone, 3, false, &calls);
    for (unsigned i = 0; i < 2; i++) (void)harness_put(harness, "a", "x", 0);
    assert_int_equal(calls, 0);
    assert_int_equal(next(harness, w, 10).count, 0);
    (void)harness_put(harness, "a", "x", 0);
    assert_int_equal(calls, 1);
    struct given given = next(harness, w, 10);
    assert_int_equal(given.count, 1);
    assert_int_equal(given.events[0].item.modify_revision, 3);
    registry_watch_destroy(w);
    teardown(&fixture);
}

static void put_pair(struct registry_harness *harness)
{
    struct registry_operation operations[] = {
        { .kind = REGISTRY_PUT, .key = bytes_of_text("a") },
        { .kind = REGISTRY_PUT, .key = bytes_of_text("b") },
    };
    struct registry_command command = { .success = operations, .success_count = 2 };
    assert_int_equal(harness_apply(harness, &command).status, STATUS_OK);
}

static void a_revision_is_never_torn(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    for (unsigned i = 0; i < 3; i++) put_pair(harness);
    struct registry_watch *w = watch(harness, "a", bytes_of("", 1), 1, false, NULL);
    struct given given = next(harness, w, 1);
    assert_int_equal(given.count, 2);
    assert_int_equal(given.revision, 1);
    given = next(harness, w, 3);
    assert_int_equal(given.count, 2);
    assert_int_equal(given.revision, 2);
    given = next(harness, w, 3);
    assert_int_equal(given.count, 2);
    assert_int_equal(given.revision, 3);
    registry_watch_destroy(w);
    teardown(&fixture);
}

static void a_watch_that_is_behind_what_is_kept_is_closed(void **state)
{
    (void)state;
    struct registry_limits limits = { 8, 1 << 20, 1 << 20 };
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, &limits);
    (void)harness_put(harness, "a", "x", 0);
    struct registry_watch *behind = watch(harness, "a", alone, 1, false, NULL);
    struct registry_watch *idle = watch(harness, "z", alone, 1, false, NULL);
    assert_int_equal(next(harness, idle, 10).status, STATUS_OK);
    for (unsigned i = 0; i < 30; i++) (void)harness_put(harness, "a", "x", 0);
    struct given given = next(harness, behind, 10);
    assert_int_equal(given.status, STATUS_CLOSED);
    assert_non_null(strstr(given.error.text, "revision 1 is compacted, the oldest kept is "));
    /* One whose keys did not change has missed nothing. */
    given = next(harness, idle, 10);
    assert_int_equal(given.status, STATUS_OK);
    assert_int_equal(given.revision, 31);
    registry_watch_destroy(behind);
    registry_watch_destroy(idle);
    teardown(&fixture);
}

static void a_watch_far_behind_is_read_in_parts(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    for (unsigned i = 0; i < 2500; i++) (void)harness_put(harness, "a", "x", 0);
    (void)harness_put(harness, "b", "x", 0);
    struct registry_watch *w = watch(harness, "b", alone, 1, false, NULL);
    unsigned calls = 0;
    struct given given;
    do {
        given = next(harness, w, 10);
        calls++;
    } while (given.count == 0 && given.revision < 2501);
    assert_int_equal(given.count, 1);
    assert_int_equal(calls, 3);
    registry_watch_destroy(w);
    teardown(&fixture);
}

static void previous_values_that_do_not_fit_are_left_out(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    static char value[1024 * 1024];
    memset(value, 'x', sizeof value - 1);
    char keys[4][2] = { "a", "b", "c", "d" };
    for (unsigned i = 0; i < 4; i++) (void)harness_put(harness, keys[i], value, 0);
    (void)harness_delete(harness, "a", "c");
    (void)harness_delete(harness, "c", "");
    struct registry_watch *w = watch(harness, "a", bytes_of("", 1), 5, true, NULL);
    struct given given = next(harness, w, 10);
    assert_int_equal(given.count, 2);
    assert_true(given.events[0].has_previous && given.events[1].has_previous);
    given = next(harness, w, 10);
    assert_int_equal(given.count, 2);
    registry_watch_destroy(w);
    /* All four in one revision: two of them without. */
    for (unsigned i = 0; i < 4; i++) (void)harness_put(harness, keys[i], value, 0);
    w = watch(harness, "a", bytes_of("", 1), 0, true, NULL);
    struct registry_operation operation = { .kind = REGISTRY_DELETE,
                                            .key = bytes_of_text("a"),
                                            .end = bytes_of("", 1) };
    struct registry_command command = { .success = &operation, .success_count = 1 };
    assert_int_equal(harness_apply(harness, &command).status, STATUS_OK);
    given = next(harness, w, 10);
    assert_int_equal(given.count, 4);
    unsigned with = 0;
    for (unsigned i = 0; i < 4; i++) with += given.events[i].has_previous;
    assert_int_equal(with, 2);
    registry_watch_destroy(w);
    teardown(&fixture);
}

struct destroyer {
    struct registry_watch *watches[3];
    unsigned calls;
};

static void destroy_all(void *context)
{
    struct destroyer *destroyer = context;
    destroyer->calls++;
    for (unsigned i = 0; i < 3; i++) {
        registry_watch_destroy(destroyer->watches[i]);
        destroyer->watches[i] = NULL;
    }
}

static void a_watch_may_be_destroyed_while_being_told(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    struct destroyer destroyer = { 0 };
    for (unsigned i = 0; i < 3; i++) {
        struct registry_watch_options options = { .key = bytes_of_text("a"),
                                                  .notify = destroy_all,
                                                  .context = &destroyer };
        assert_int_equal(
            registry_watch_create(harness->first.registry, &options, &destroyer.watches[i], NULL),
            STATUS_OK);
    }
    (void)harness_put(harness, "a", "x", 0);
    assert_int_equal(destroyer.calls, 1);
    assert_int_equal(registry_figures(harness->first.registry).watches, 0);
    teardown(&fixture);
}

static void the_end_of_a_lease_is_an_event(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    (void)harness_lease(harness, REGISTRY_COMMAND_GRANT, 5, 1000);
    (void)harness_put(harness, "a", "x", 5);
    unsigned calls = 0;
    struct registry_watch *w = watch(harness, "a", alone, 0, true, &calls);
    harness_time(harness, harness->now_ms + 1000);
    assert_int_equal(calls, 1);
    struct given given = next(harness, w, 10);
    assert_int_equal(given.count, 1);
    assert_true(given.events[0].deleted);
    assert_int_equal(given.events[0].previous.lease, 5);
    registry_watch_destroy(w);
    teardown(&fixture);
}

static void a_watch_goes_on_when_the_state_was_replaced(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    (void)harness_put(harness, "a", "1", 0);
    unsigned calls = 0;
    struct registry_watch *w = watch(harness, "a", alone, 0, false, &calls);
    assert_int_equal(next(harness, w, 10).count, 0);
    /* Another machine's instance goes on; then this one opens what that one wrote. */
    struct registry_harness other;
    harness_init(&other, fixture.store, NULL, NULL);
    (void)harness_put(&other, "b", "2", 0);
    (void)harness_put(&other, "a", "3", 0);
    harness_finish(&other);
    struct state_machine *machine = harness->first.machine;
    assert_int_equal(machine->operations->open(machine, &harness->first.range, NULL), STATUS_OK);
    assert_int_equal(calls, 1);
    struct given given = next(harness, w, 10);
    assert_int_equal(given.count, 1);
    assert_int_equal(given.events[0].item.modify_revision, 3);
    registry_watch_destroy(w);
    teardown(&fixture);
}

static void a_watch_outlives_its_space(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    unsigned calls = 0;
    struct registry_watch *w = watch(harness, "a", alone, 0, false, &calls);
    struct destroyer destroyer = { 0 };
    struct registry_watch_options options = { .key = bytes_of_text("b"),
                                              .notify = destroy_all,
                                              .context = &destroyer };
    assert_int_equal(
        registry_watch_create(harness->first.registry, &options, &destroyer.watches[0], NULL),
        STATUS_OK);
    teardown(&fixture);
    assert_int_equal(calls, 1);
    assert_int_equal(destroyer.calls, 1);
    struct registry_event *events;
    size_t count;
    uint64_t revision;
    assert_int_equal(registry_watch_next(w, 1, NULL, &events, &count, &revision, NULL),
                     STATUS_CLOSED);
    registry_watch_destroy(w);
}

/* --- the tree ----------------------------------------------------------------------------------
 */

static bool plainly_holds(const struct registry_interval *interval, struct bytes key)
{
    if (interval->infinite) return bytes_compare(key, interval->start) >= 0;
    if (interval->end.size == 0) return bytes_equal(key, interval->start);
    return bytes_compare(key, interval->start) >= 0 && bytes_compare(key, interval->end) < 0;
}

static void the_tree_finds_what_a_list_finds(void **state)
{
    (void)state;
    enum { INTERVALS = 200, STEPS = 4000, KEYS = 64 };
    static char names[KEYS][4];
    for (unsigned i = 0; i < KEYS; i++) snprintf(names[i], sizeof names[i], "k%02u", i);
    static struct registry_interval intervals[INTERVALS];
    static bool in[INTERVALS];
    struct registry_intervals tree = { 0 };
    struct random_seeded random;
    random_seeded_init(&random, 7);
    for (unsigned step = 0; step < STEPS; step++) {
        uint64_t which, first, last, kind;
        random_below(&random.random, INTERVALS, &which);
        random_below(&random.random, KEYS, &first);
        random_below(&random.random, KEYS, &last);
        random_below(&random.random, 3, &kind);
        struct registry_interval *interval = &intervals[which];
        if (in[which]) {
            registry_interval_remove(&tree, interval);
        } else {
            *interval = (struct registry_interval) { .start = bytes_of_text(names[first]),
                                                     .infinite = kind == 0 };
            if (kind == 1 && last > first) interval->end = bytes_of_text(names[last]);
            registry_interval_insert(&tree, interval);
        }
        in[which] = !in[which];
        struct bytes key = bytes_of_text(names[last]);
        size_t expected = 0, found = 0;
        for (unsigned i = 0; i < INTERVALS; i++)
            expected += in[i] && plainly_holds(&intervals[i], key);
        for (struct registry_interval *at = registry_interval_find(&tree, key, NULL); at != NULL;
             at = registry_interval_find(&tree, key, at)) {
            assert_true(plainly_holds(at, key));
            found++;
        }
        assert_int_equal(found, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_watch_from_now_gives_what_comes_and_tells_when),
        cmocka_unit_test(a_watch_from_the_past_gives_all_since_with_what_was_before),
        cmocka_unit_test(a_watch_of_the_future_begins_at_its_revision),
        cmocka_unit_test(a_revision_is_never_torn),
        cmocka_unit_test(a_watch_that_is_behind_what_is_kept_is_closed),
        cmocka_unit_test(a_watch_far_behind_is_read_in_parts),
        cmocka_unit_test(previous_values_that_do_not_fit_are_left_out),
        cmocka_unit_test(a_watch_may_be_destroyed_while_being_told),
        cmocka_unit_test(the_end_of_a_lease_is_an_event),
        cmocka_unit_test(a_watch_goes_on_when_the_state_was_replaced),
        cmocka_unit_test(a_watch_outlives_its_space),
        cmocka_unit_test(the_tree_finds_what_a_list_finds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
