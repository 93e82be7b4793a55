/* The semantics of a space, one sentence each, on the pure state machine. Every entry is applied
 * on two instances, which must write the same batches and answer the same bytes. */
#include "registry/registry_harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
    struct store *stores[2];
    struct registry_harness harness;
};

static struct registry_harness *setup(struct fixture *fixture, const struct registry_limits *limits)
{
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(store_open(NULL, NULL, &fixture->stores[i], NULL), STATUS_OK);
    }
    harness_init(&fixture->harness, fixture->stores[0], fixture->stores[1], limits);
    return &fixture->harness;
}

static void teardown(struct fixture *fixture)
{
    harness_finish(&fixture->harness);
    for (unsigned i = 0; i < 2; i++) store_close(fixture->stores[i]);
}

static struct bytes text(const char *t)
{
    return bytes_of_text(t);
}

static void check_text(struct bytes bytes, const char *expected)
{
    assert_int_equal(bytes.size, strlen(expected));
    if (bytes.size > 0) assert_memory_equal(bytes.data, expected, bytes.size);
}

static const char *value_at(struct registry_harness *harness, const char *key, uint64_t revision)
{
    static char value[64];
    struct registry_response response;
    struct error error = { 0 };
    assert_int_equal(harness_range(harness, key, NULL, revision, &response, &error), STATUS_OK);
    if (response.count == 0) return NULL;
    assert_int_equal(response.item_count, 1);
    snprintf(value, sizeof value, "%.*s", (int)response.items[0].value.size,
             (const char *)response.items[0].value.data);
    return value;
}

static void check_value(struct registry_harness *harness, const char *key, uint64_t revision,
                        const char *expected)
{
    const char *value = value_at(harness, key, revision);
    if (expected == NULL) {
        assert_null(value);
    } else {
        assert_non_null(value);
        assert_string_equal(value, expected);
    }
}

static void a_put_makes_a_revision_and_a_second_put_a_version(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    struct registry_reply reply = harness_put(harness, "a", "1", 0);
    assert_int_equal(reply.status, STATUS_OK);
    assert_int_equal(reply.revision, 1);
    assert_int_equal(reply.responses[0].item_count, 0);
    reply = harness_put(harness, "a", "2", 0);
    assert_int_equal(reply.revision, 2);
    assert_int_equal(reply.responses[0].item_count, 1);
    check_text(reply.responses[0].items[0].value, "1");
    struct registry_response response;
    assert_int_equal(harness_range(harness, "a", NULL, 0, &response, NULL), STATUS_OK);
    assert_int_equal(response.items[0].create_revision, 1);
    assert_int_equal(response.items[0].modify_revision, 2);
    assert_int_equal(response.items[0].version, 2);
    teardown(&fixture);
}

static void a_key_that_was_deleted_starts_again_at_version_one(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    (void)harness_put(harness, "a", "1", 0);
    struct registry_reply reply = harness_delete(harness, "a", NULL);
    assert_int_equal(reply.revision, 2);
    assert_int_equal(reply.responses[0].count, 1);
    check_text(reply.responses[0].items[0].value, "1");
    check_value(harness, "a", 0, NULL);
    (void)harness_put(harness, "a", "3", 0);
    struct registry_response response;
    assert_int_equal(harness_range(harness, "a", NULL, 0, &response, NULL), STATUS_OK);
    assert_int_equal(response.items[0].create_revision, 3);
    assert_int_equal(response.items[0].version, 1);
    teardown(&fixture);
}

static void deleting_what_is_not_there_makes_no_revision(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    (void)harness_put(harness, "a", "1", 0);
    struct registry_reply reply = harness_delete(harness, "b", "z");
    assert_int_equal(reply.status, STATUS_OK);
    assert_int_equal(reply.revision, 1);
    assert_int_equal(reply.responses[0].count, 0);
    teardown(&fixture);
}

static void a_range_is_a_key_an_interval_or_everything_behind(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    const char *keys[] = { "a", "b", "ba", "c" };
    for (unsigned i = 0; i < 4; i++) (void)harness_put(harness, keys[i], "v", 0);
    struct registry_response response;
    assert_int_equal(harness_range(harness, "b", NULL, 0, &response, NULL), STATUS_OK);
    assert_int_equal(response.count, 1);
    assert_int_equal(harness_range(harness, "b", "c", 0, &response, NULL), STATUS_OK);
    assert_int_equal(response.count, 2);
    check_text(response.items[0].key, "b");
    check_text(response.items[1].key, "ba");
    assert_int_equal(harness_range(harness, "b", "", 0, &response, NULL), STATUS_OK);
    assert_int_equal(response.count, 3);
    check_text(response.items[2].key, "c");
    teardown(&fixture);
}

static struct registry_response range_with(struct registry_harness *harness,
                                           struct registry_operation operation)
{
    struct registry_response response;
    uint64_t revision;
    arena_clear(&harness->arena);
    assert_int_equal(registry_range(harness->first.registry, &operation, &harness->arena, &revision,
                                    &response, NULL),
                     STATUS_OK);
    return response;
}

static void a_limit_keys_only_count_only_and_descending_shape_the_answer(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    const char *keys[] = { "a", "b", "c" };
    for (unsigned i = 0; i < 3; i++) (void)harness_put(harness, keys[i], "v", 0);
    struct registry_operation operation = {
        .kind = REGISTRY_RANGE, .key = text("a"), .end = bytes_of("", 1), .limit = 2
    };
    struct registry_response response = range_with(harness, operation);
    assert_int_equal(response.item_count, 2);
    assert_int_equal(response.count, 3);
    assert_true(response.more);
    operation.descending = true;
    operation.keys_only = true;
    response = range_with(harness, operation);
    check_text(response.items[0].key, "c");
    check_text(response.items[1].key, "b");
    assert_int_equal(response.items[0].value.size, 0);
    operation.count_only = true;
    response = range_with(harness, operation);
    assert_int_equal(response.item_count, 0);
    assert_int_equal(response.count, 3);
    assert_false(response.more);
    teardown(&fixture);
}

static void an_answer_of_too_many_bytes_says_more(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    static char value[1024 * 1024];
    memset(value, 'x', sizeof value - 1);
    const char *keys[] = { "a", "b", "c", "d" };
    for (unsigned i = 0; i < 4; i++) (void)harness_put(harness, keys[i], value, 0);
    struct registry_response response;
    assert_int_equal(harness_range(harness, "a", "", 0, &response, NULL), STATUS_OK);
    assert_int_equal(response.item_count, 2);
    assert_int_equal(response.count, 4);
    assert_true(response.more);
    teardown(&fixture);
}

static void a_past_revision_is_exactly_as_it_was(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    (void)harness_put(harness, "a", "1", 0);  /* 1 */
    (void)harness_put(harness, "b", "2", 0);  /* 2 */
    (void)harness_put(harness, "a", "3", 0);  /* 3 */
    (void)harness_delete(harness, "a", NULL); /* 4 */
    (void)harness_delete(harness, "b", NULL); /* 5 */
    (void)harness_put(harness, "a", "6", 0);  /* 6 */
    check_value(harness, "a", 1, "1");
    check_value(harness, "b", 1, NULL);
    check_value(harness, "a", 3, "3");
    check_value(harness, "a", 4, NULL);
    check_value(harness, "b", 4, "2");
    check_value(harness, "a", 5, NULL);
    check_value(harness, "a", 6, "6");
    struct registry_response response;
    assert_int_equal(harness_range(harness, "a", "", 3, &response, NULL), STATUS_OK);
    assert_int_equal(response.count, 2);
    assert_int_equal(response.items[0].modify_revision, 3);
    assert_int_equal(response.items[0].create_revision, 1);
    assert_int_equal(response.items[0].version, 2);
    assert_int_equal(harness_range(harness, "a", "", 5, &response, NULL), STATUS_OK);
    assert_int_equal(response.count, 0);
    teardown(&fixture);
}

static void a_revision_of_the_future_is_invalid_and_a_compacted_one_closed(void **state)
{
    (void)state;
    struct registry_limits limits = { 8, 1 << 20, 1 << 20 };
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, &limits);
    for (unsigned i = 0; i < 20; i++) (void)harness_put(harness, "a", "1", 0);
    struct registry_response response;
    struct error error = { 0 };
    assert_int_equal(harness_range(harness, "a", NULL, 21, &response, &error), STATUS_INVALID);
    assert_string_equal(error.text, "revision 21 is of the future, the current one is 20");
    struct registry_figures figures = registry_figures(harness->first.registry);
    assert_int_equal(figures.compact_revision, 12);
    assert_int_equal(harness_range(harness, "a", NULL, 11, &response, &error), STATUS_CLOSED);
    assert_string_equal(error.text, "revision 11 is compacted, the oldest kept is 12");
    assert_int_equal(harness_range(harness, "a", NULL, 12, &response, &error), STATUS_OK);
    assert_int_equal(response.items[0].modify_revision, 12);
    teardown(&fixture);
}

static uint64_t count_store_keys(struct registry_harness *harness)
{
    struct store_iterator *iterator;
    struct bytes key, value, all = { 0 };
    assert_int_equal(store_iterator_create(&harness->first.range, NULL, all, all, false, &iterator),
                     STATUS_OK);
    uint64_t count = 0;
    while (store_iterator_next(iterator, &key, &value) == STATUS_OK) count++;
    store_iterator_destroy(iterator);
    return count;
}

static void history_is_kept_within_its_revisions_and_bytes(void **state)
{
    (void)state;
    struct registry_limits limits = { 64, 20000, 1 << 20 };
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, &limits);
    char value[200];
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    for (unsigned i = 0; i < 500; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%u", i % 7);
        if (i % 5 == 4) {
            (void)harness_delete(harness, key, NULL);
        } else {
            (void)harness_put(harness, key, value, 0);
        }
        struct registry_figures figures = registry_figures(harness->first.registry);
        assert_true(figures.revision - figures.compact_revision <= 64 + 8);
        assert_true(figures.history_bytes <= 20000 + 1000);
    }
    /* What is left: the keys (two records each), and the kept events with their old versions,
     * tombstones and notes, and the records of a step of revisions. */
    struct registry_figures figures = registry_figures(harness->first.registry);
    uint64_t kept = figures.revision - figures.compact_revision;
    assert_true(count_store_keys(harness) <= 2 * figures.keys + 4 * kept + 64 / 8 + 1);
    teardown(&fixture);
}

static struct registry_reply
apply_txn(struct registry_harness *harness, const struct registry_compare *compares,
          size_t compare_count, const struct registry_operation *success, size_t success_count,
          const struct registry_operation *failure, size_t failure_count)
{
    struct registry_command command = {
        .compares = compares,
        .compare_count = compare_count,
        .success = success,
        .success_count = success_count,
        .failure = failure,
        .failure_count = failure_count,
    };
    return harness_apply(harness, &command);
}

static bool compare_once(struct registry_harness *harness, struct registry_compare compare)
{
    struct registry_reply reply = apply_txn(harness, &compare, 1, NULL, 0, NULL, 0);
    assert_int_equal(reply.status, STATUS_OK);
    return reply.succeeded;
}

static void a_compare_judges_the_state_before_by_every_target_and_result(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    (void)harness_lease(harness, REGISTRY_COMMAND_GRANT, 9, 5000);
    (void)harness_put(harness, "x", "v", 0); /* 1 */
    (void)harness_put(harness, "k", "m", 0); /* 2 */
    (void)harness_put(harness, "k", "m", 9); /* 3: version 2, created 2 */
    const uint64_t numbers[] = { [REGISTRY_VERSION] = 2,
                                 [REGISTRY_CREATE_REVISION] = 2,
                                 [REGISTRY_MODIFY_REVISION] = 3,
                                 [REGISTRY_LEASE] = 9 };
    for (int target = REGISTRY_VERSION; target <= REGISTRY_LEASE; target++) {
        if (target == REGISTRY_VALUE) continue;
        for (uint64_t offset = 0; offset < 3; offset++) {
            struct registry_compare compare = { .key = text("k"),
                                                .target = (enum registry_target)target,
                                                .number = numbers[target] - 1 + offset };
            compare.result = REGISTRY_EQUAL;
            assert_int_equal(compare_once(harness, compare), offset == 1);
            compare.result = REGISTRY_NOT_EQUAL;
            assert_int_equal(compare_once(harness, compare), offset != 1);
            compare.result = REGISTRY_LESS;
            assert_int_equal(compare_once(harness, compare), offset == 2);
            compare.result = REGISTRY_GREATER;
            assert_int_equal(compare_once(harness, compare), offset == 0);
        }
    }
    const char *values[] = { "l", "m", "n" };
    for (unsigned i = 0; i < 3; i++) {
        struct registry_compare compare = { .key = text("k"),
                                            .target = REGISTRY_VALUE,
                                            .value = text(values[i]) };
        assert_int_equal(compare_once(harness, compare), i == 1);
        compare.result = REGISTRY_NOT_EQUAL;
        assert_int_equal(compare_once(harness, compare), i != 1);
        compare.result = REGISTRY_LESS;
        assert_int_equal(compare_once(harness, compare), i == 2);
        compare.result = REGISTRY_GREATER;
        assert_int_equal(compare_once(harness, compare), i == 0);
    }
    assert_int_equal(registry_figures(harness->first.registry).revision, 3);
    teardown(&fixture);
}

static void a_missing_key_has_number_zero_and_no_value(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    struct registry_compare compare = { .key = text("no"), .target = REGISTRY_CREATE_REVISION };
    assert_true(compare_once(harness, compare));
    compare.target = REGISTRY_VALUE;
    assert_false(compare_once(harness, compare));
    compare.result = REGISTRY_NOT_EQUAL;
    assert_false(compare_once(harness, compare));
    teardown(&fixture);
}

static void all_changes_of_a_transaction_share_one_revision_and_see_each_other(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    (void)harness_put(harness, "b", "old", 0);
    (void)harness_put(harness, "d", "old", 0);
    struct registry_operation operations[] = {
        { .kind = REGISTRY_RANGE, .key = text("a"), .end = text("z") },
        { .kind = REGISTRY_PUT, .key = text("a"), .value = text("new") },
        { .kind = REGISTRY_PUT, .key = text("b"), .value = text("new"), .return_previous = true },
        { .kind = REGISTRY_RANGE, .key = text("a"), .end = text("z") },
        { .kind = REGISTRY_DELETE, .key = text("c"), .end = text("e"), .return_previous = true },
        { .kind = REGISTRY_RANGE, .key = text("a"), .end = text("z"), .descending = true },
        { .kind = REGISTRY_DELETE, .key = text("d") },
        { .kind = REGISTRY_RANGE, .key = text("d") },
    };
    struct registry_reply reply = apply_txn(harness, NULL, 0, operations, 8, NULL, 0);
    assert_int_equal(reply.status, STATUS_OK);
    assert_true(reply.succeeded);
    assert_int_equal(reply.revision, 3);
    assert_int_equal(reply.response_count, 8);
    assert_int_equal(reply.responses[0].count, 2);
    check_text(reply.responses[0].items[0].value, "old");
    check_text(reply.responses[2].items[0].value, "old");
    assert_int_equal(reply.responses[3].count, 3);
    check_text(reply.responses[3].items[0].value, "new");
    check_text(reply.responses[3].items[1].value, "new");
    assert_int_equal(reply.responses[3].items[1].modify_revision, 3);
    check_text(reply.responses[3].items[2].key, "d");
    assert_int_equal(reply.responses[4].count, 1);
    check_text(reply.responses[4].items[0].value, "old");
    assert_int_equal(reply.responses[5].count, 2);
    check_text(reply.responses[5].items[0].key, "b");
    check_text(reply.responses[5].items[1].key, "a");
    assert_int_equal(reply.responses[6].count, 0);
    assert_int_equal(reply.responses[7].count, 0);
    check_value(harness, "a", 3, "new");
    check_value(harness, "a", 2, NULL);
    teardown(&fixture);
}

static void the_failure_branch_runs_when_a_compare_fails(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    struct registry_compare compare = { .key = text("k"), .target = REGISTRY_VERSION, .number = 1 };
    struct registry_operation success = { .kind = REGISTRY_PUT,
                                          .key = text("k"),
                                          .value = text("yes") };
    struct registry_operation failure = { .kind = REGISTRY_PUT,
                                          .key = text("k"),
                                          .value = text("no") };
    struct registry_reply reply = apply_txn(harness, &compare, 1, &success, 1, &failure, 1);
    assert_false(reply.succeeded);
    check_value(harness, "k", 0, "no");
    reply = apply_txn(harness, &compare, 1, &success, 1, &failure, 1);
    assert_true(reply.succeeded);
    check_value(harness, "k", 0, "yes");
    teardown(&fixture);
}

static void a_refused_transaction_leaves_nothing(void **state)
{
    (void)state;
    struct registry_limits limits = { 1000, 1 << 20, 1000 };
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, &limits);
    (void)harness_lease(harness, REGISTRY_COMMAND_GRANT, 5, 60000);
    (void)harness_put(harness, "leased", "v", 5);
    static char value[900];
    memset(value, 'x', sizeof value - 1);
    struct registry_operation operations[] = {
        { .kind = REGISTRY_PUT, .key = text("a"), .value = text("1"), .lease = 5 },
        { .kind = REGISTRY_DELETE, .key = text("leased") },
        { .kind = REGISTRY_PUT, .key = text("b"), .value = text(value) },
    };
    struct registry_figures before = registry_figures(harness->first.registry);
    struct registry_reply reply = apply_txn(harness, NULL, 0, operations, 3, NULL, 0);
    assert_int_equal(reply.status, STATUS_FULL);
    struct registry_figures after = registry_figures(harness->first.registry);
    assert_memory_equal(&before, &after, sizeof before);
    check_value(harness, "a", 0, NULL);
    check_value(harness, "leased", 0, "v");
    struct registry_lease lease;
    assert_int_equal(registry_leases(harness->first.registry, 0, &lease, 1), 1);
    assert_int_equal(lease.key_count, 1);
    harness_reopen(harness, &limits);
    teardown(&fixture);
}

static void a_full_space_refuses_puts_and_takes_deletes_and_what_shrinks(void **state)
{
    (void)state;
    struct registry_limits limits = { 1000, 1 << 20, 400 };
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, &limits);
    char value[200];
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    assert_int_equal(harness_put(harness, "a", value, 0).status, STATUS_OK);
    struct registry_reply reply = harness_put(harness, "b", value, 0);
    assert_int_equal(reply.status, STATUS_FULL);
    assert_string_equal(reply.text,
                        "the space would hold 528 bytes, its quota is 400; delete keys first");
    assert_int_equal(reply.revision, 1);
    assert_int_equal(harness_put(harness, "a", "small", 0).status, STATUS_OK);
    assert_int_equal(harness_put(harness, "b", value, 0).status, STATUS_OK);
    assert_int_equal(harness_put(harness, "c", value, 0).status, STATUS_FULL);
    assert_int_equal(harness_delete(harness, "a", "").status, STATUS_OK);
    assert_int_equal(registry_figures(harness->first.registry).bytes, 0);
    assert_int_equal(registry_figures(harness->first.registry).keys, 0);
    assert_int_equal(harness_put(harness, "c", value, 0).status, STATUS_OK);
    teardown(&fixture);
}

static void a_malformed_command_is_a_reply_and_not_the_end(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    struct registry_reply reply = harness_apply_bytes(harness, text("garbage"));
    assert_int_equal(reply.status, STATUS_INVALID);
    reply = harness_apply_bytes(harness, bytes_of(NULL, 0));
    assert_int_equal(reply.status, STATUS_INVALID);
    /* Well-formed bytes of a command that the encoder would not have made: a put of no key. */
    const uint8_t put[] = { 1, 0, 0, 0, 1, REGISTRY_PUT, 0, 0, 0, 0, 0 };
    reply = harness_apply_bytes(harness, bytes_of(put, sizeof put));
    assert_int_equal(reply.status, STATUS_INVALID);
    assert_string_equal(reply.text, "key is empty");
    assert_int_equal(harness_put(harness, "a", "1", 0).revision, 1);
    struct registry_operation operation = { .kind = REGISTRY_PUT, .key = text("k") };
    struct registry_command fenced = { .success = &operation, .success_count = 1, .fence = 3 };
    reply = harness_apply(harness, &fenced);
    assert_int_equal(reply.status, STATUS_DENIED);
    teardown(&fixture);
}

static void a_delete_of_too_many_keys_is_refused_whole(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    harness->compare = false; /* for speed; the other tests compare */
    static struct registry_operation puts[LIMIT_TXN_OPERATIONS_MAX];
    static char keys[LIMIT_TXN_OPERATIONS_MAX][16];
    for (unsigned made = 0; made <= REGISTRY_REVISION_EVENTS_MAX;) {
        unsigned count = 0;
        for (; count < LIMIT_TXN_OPERATIONS_MAX && made <= REGISTRY_REVISION_EVENTS_MAX; count++) {
            snprintf(keys[count], sizeof keys[count], "k%06u", made++);
            puts[count] =
                (struct registry_operation) { .kind = REGISTRY_PUT, .key = text(keys[count]) };
        }
        struct registry_reply reply = apply_txn(harness, NULL, 0, puts, count, NULL, 0);
        assert_int_equal(reply.status, STATUS_OK);
    }
    struct registry_reply reply = harness_delete(harness, "k", "l");
    assert_int_equal(reply.status, STATUS_INVALID);
    assert_int_equal(registry_figures(harness->first.registry).keys, 10001);
    reply = harness_delete(harness, "k000000", "k010000");
    assert_int_equal(reply.status, STATUS_OK);
    assert_int_equal(reply.responses[0].count, 10000);
    assert_int_equal(registry_figures(harness->first.registry).keys, 1);
    harness->compare = true;
    teardown(&fixture);
}

/* --- leases ------------------------------------------------------------------------------------
 */

static void a_lease_ends_at_its_time_and_takes_its_keys(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    struct registry_reply reply = harness_lease(harness, REGISTRY_COMMAND_GRANT, 0, 5000);
    assert_int_equal(reply.status, STATUS_OK);
    assert_int_equal(reply.lease, 1); /* the entry's index */
    assert_int_equal(reply.time_to_live_ms, 5000);
    assert_int_equal(harness->first.machine->operations->next_deadline_ms(harness->first.machine),
                     6000);
    (void)harness_put(harness, "a", "1", 1);
    (void)harness_put(harness, "b", "2", 1);
    (void)harness_put(harness, "c", "3", 0);
    harness_time(harness, 5999);
    check_value(harness, "a", 0, "1");
    assert_int_equal(registry_figures(harness->first.registry).revision, 3);
    harness_time(harness, 6000);
    check_value(harness, "a", 0, NULL);
    check_value(harness, "b", 0, NULL);
    check_value(harness, "c", 0, "3");
    /* One revision for the lease. */
    assert_int_equal(registry_figures(harness->first.registry).revision, 4);
    assert_int_equal(registry_figures(harness->first.registry).leases, 0);
    assert_int_equal(harness->first.machine->operations->next_deadline_ms(harness->first.machine),
                     UINT64_MAX);
    check_value(harness, "a", 3, "1");
    teardown(&fixture);
}

static void a_lease_that_is_kept_lives_on_and_an_ended_one_can_not_be_kept(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    (void)harness_lease(harness, REGISTRY_COMMAND_GRANT, 42, 5000); /* to 6000 */
    (void)harness_put(harness, "a", "1", 42);
    harness->now_ms = 5000;
    struct registry_reply reply = harness_lease(harness, REGISTRY_COMMAND_KEEP, 42, 0);
    assert_int_equal(reply.status, STATUS_OK);
    assert_int_equal(reply.lease, 42);
    assert_int_equal(reply.time_to_live_ms, 5000);
    harness_time(harness, 9999);
    check_value(harness, "a", 0, "1");
    harness->now_ms = 10000; /* the end: the entry that keeps it comes too late */
    reply = harness_lease(harness, REGISTRY_COMMAND_KEEP, 42, 0);
    assert_int_equal(reply.status, STATUS_NOT_FOUND);
    assert_string_equal(reply.text, "lease 42 is not there, or has ended");
    check_value(harness, "a", 0, NULL);
    teardown(&fixture);
}

static void a_command_runs_after_the_leases_that_end_with_its_entry(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    (void)harness_lease(harness, REGISTRY_COMMAND_GRANT, 42, 5000);
    (void)harness_put(harness, "a", "1", 42);
    (void)harness_put(harness, "b", "1", 42);
    harness->now_ms = 6000;
    /* The put of a key that ends in the same entry is a creation. */
    struct registry_reply reply = harness_put(harness, "a", "2", 0);
    assert_int_equal(reply.status, STATUS_OK);
    assert_int_equal(reply.revision, 4);
    assert_int_equal(reply.responses[0].item_count, 0);
    struct registry_response response;
    assert_int_equal(harness_range(harness, "a", "", 0, &response, NULL), STATUS_OK);
    assert_int_equal(response.count, 1);
    assert_int_equal(response.items[0].create_revision, 4);
    check_value(harness, "a", 3, NULL);
    check_value(harness, "a", 2, "1");
    harness_reopen(harness, NULL);
    teardown(&fixture);
}

static void a_put_moves_a_key_between_leases_or_off_them(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    (void)harness_lease(harness, REGISTRY_COMMAND_GRANT, 1, 5000);
    (void)harness_lease(harness, REGISTRY_COMMAND_GRANT, 2, 9000);
    (void)harness_put(harness, "a", "1", 1);
    (void)harness_put(harness, "b", "1", 1);
    (void)harness_put(harness, "c", "1", 1);
    (void)harness_put(harness, "a", "2", 2);
    (void)harness_put(harness, "b", "2", 0);
    struct registry_lease leases[3];
    assert_int_equal(registry_leases(harness->first.registry, 0, leases, 3), 2);
    assert_int_equal(leases[0].key_count, 1);
    assert_int_equal(leases[1].key_count, 1);
    assert_int_equal(registry_leases(harness->first.registry, 1, leases, 3), 1);
    assert_int_equal(leases[0].lease, 2);
    assert_int_equal(leases[0].ends_at_ms, 10000);
    struct bytes keys[2];
    arena_clear(&harness->arena);
    assert_int_equal(registry_lease_keys(harness->first.registry, 1, &harness->arena, keys, 2), 1);
    check_text(keys[0], "c");
    harness_time(harness, 6000);
    check_value(harness, "a", 0, "2");
    check_value(harness, "b", 0, "2");
    check_value(harness, "c", 0, NULL);
    harness_time(harness, 10000);
    check_value(harness, "a", 0, NULL);
    check_value(harness, "b", 0, "2");
    teardown(&fixture);
}

static void a_revoked_lease_takes_its_keys_at_once(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    (void)harness_lease(harness, REGISTRY_COMMAND_GRANT, 7, 5000);
    (void)harness_put(harness, "a", "1", 7);
    (void)harness_put(harness, "b", "1", 7);
    (void)harness_delete(harness, "b", NULL);
    struct registry_reply reply = harness_lease(harness, REGISTRY_COMMAND_REVOKE, 7, 0);
    assert_int_equal(reply.status, STATUS_OK);
    assert_int_equal(reply.revision, 4);
    check_value(harness, "a", 0, NULL);
    assert_int_equal(harness_lease(harness, REGISTRY_COMMAND_REVOKE, 7, 0).status,
                     STATUS_NOT_FOUND);
    assert_int_equal(harness_put(harness, "a", "1", 7).status, STATUS_NOT_FOUND);
    teardown(&fixture);
}

static void a_lease_number_is_taken_once_and_chosen_when_zero(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    assert_int_equal(harness_lease(harness, REGISTRY_COMMAND_GRANT, 3, 5000).status, STATUS_OK);
    assert_int_equal(harness_lease(harness, REGISTRY_COMMAND_GRANT, 3, 5000).status, STATUS_EXISTS);
    /* The third entry would choose 3, which a client has. */
    assert_int_equal(harness_lease(harness, REGISTRY_COMMAND_GRANT, 0, 5000).lease, 4);
    teardown(&fixture);
}

static void very_many_leases_end_in_parts_but_none_can_be_used_any_more(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    for (uint64_t i = 1; i <= 200; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%llu", (unsigned long long)i);
        (void)harness_lease(harness, REGISTRY_COMMAND_GRANT, i, 5000);
        (void)harness_put(harness, key, "v", i);
    }
    harness_time(harness, 6000);
    uint64_t left = registry_figures(harness->first.registry).leases;
    assert_true(left > 0 && left < 200);
    assert_int_equal(harness->first.machine->operations->next_deadline_ms(harness->first.machine),
                     6000);
    assert_int_equal(harness_lease(harness, REGISTRY_COMMAND_KEEP, 200, 0).status,
                     STATUS_NOT_FOUND);
    for (unsigned i = 0; i < 4; i++) harness_time(harness, 6000 + i);
    assert_int_equal(registry_figures(harness->first.registry).leases, 0);
    assert_int_equal(registry_figures(harness->first.registry).keys, 0);
    teardown(&fixture);
}

static void leases_and_their_keys_survive_a_reopen(void **state)
{
    (void)state;
    struct fixture fixture;
    struct registry_harness *harness = setup(&fixture, NULL);
    (void)harness_lease(harness, REGISTRY_COMMAND_GRANT, 7, 5000);
    (void)harness_put(harness, "a", "1", 7);
    harness_reopen(harness, NULL);
    struct registry_lease lease;
    assert_int_equal(registry_leases(harness->first.registry, 0, &lease, 1), 1);
    assert_int_equal(lease.key_count, 1);
    assert_int_equal(lease.ends_at_ms, 6000);
    harness_time(harness, 6000);
    check_value(harness, "a", 0, NULL);
    teardown(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_put_makes_a_revision_and_a_second_put_a_version),
        cmocka_unit_test(a_key_that_was_deleted_starts_again_at_version_one),
        cmocka_unit_test(deleting_what_is_not_there_makes_no_revision),
        cmocka_unit_test(a_range_is_a_key_an_interval_or_everything_behind),
        cmocka_unit_test(a_limit_keys_only_count_only_and_descending_shape_the_answer),
        cmocka_unit_test(an_answer_of_too_many_bytes_says_more),
        cmocka_unit_test(a_past_revision_is_exactly_as_it_was),
        cmocka_unit_test(a_revision_of_the_future_is_invalid_and_a_compacted_one_closed),
        cmocka_unit_test(history_is_kept_within_its_revisions_and_bytes),
        cmocka_unit_test(a_compare_judges_the_state_before_by_every_target_and_result),
        cmocka_unit_test(a_missing_key_has_number_zero_and_no_value),
        cmocka_unit_test(all_changes_of_a_transaction_share_one_revision_and_see_each_other),
        cmocka_unit_test(the_failure_branch_runs_when_a_compare_fails),
        cmocka_unit_test(a_refused_transaction_leaves_nothing),
        cmocka_unit_test(a_full_space_refuses_puts_and_takes_deletes_and_what_shrinks),
        cmocka_unit_test(a_malformed_command_is_a_reply_and_not_the_end),
        cmocka_unit_test(a_delete_of_too_many_keys_is_refused_whole),
        cmocka_unit_test(a_lease_ends_at_its_time_and_takes_its_keys),
        cmocka_unit_test(a_lease_that_is_kept_lives_on_and_an_ended_one_can_not_be_kept),
        cmocka_unit_test(a_command_runs_after_the_leases_that_end_with_its_entry),
        cmocka_unit_test(a_put_moves_a_key_between_leases_or_off_them),
        cmocka_unit_test(a_revoked_lease_takes_its_keys_at_once),
        cmocka_unit_test(a_lease_number_is_taken_once_and_chosen_when_zero),
        cmocka_unit_test(very_many_leases_end_in_parts_but_none_can_be_used_any_more),
        cmocka_unit_test(leases_and_their_keys_survive_a_reopen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
