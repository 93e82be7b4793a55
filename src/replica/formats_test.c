/* Every record of the replica host comes back as it went in, and every truncated or extended one is
 * refused.
 *
 * Method: encode examples, decode them, then cut them at every length and add a byte. */
#include "replica/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { RECORD_BYTES_MAX = 512 };

static struct raft_membership example_membership(void)
{
    return (struct raft_membership) { .ids = { 3, 7, 9 }, .count = 3, .learners = 4 };
}

/* Call DECODE on every cut of the record, each on memory of exactly that size. */
static void check_cuts(const uint8_t *bytes, size_t size, bool (*decodes)(struct bytes bytes))
{
    uint8_t *longer = malloc(size + 1);
    assert_non_null(longer);
    memcpy(longer, bytes, size);
    longer[size] = 0;
    assert_true(decodes(bytes_of(longer, size)));
    assert_false(decodes(bytes_of(longer, size + 1)));
    free(longer);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = malloc(cut == 0 ? 1 : cut);
        assert_non_null(copy);
        memcpy(copy, bytes, cut);
        assert_false(decodes(bytes_of(copy, cut)));
        free(copy);
    }
}

static bool applied_decodes(struct bytes bytes)
{
    struct applied applied;
    struct error error;
    return applied_decode(bytes, &applied, &error) == STATUS_OK;
}

static void the_applied_record_comes_back_and_no_part_of_it(void **state)
{
    (void)state;
    struct applied applied = { .index = 12,
                               .term = 3,
                               .running_hash = UINT64_MAX,
                               .computer_time_ms = 99,
                               .feature_level = 1,
                               .membership = example_membership() };
    uint8_t bytes[RECORD_BYTES_MAX];
    struct writer writer = writer_of(bytes, APPLIED_BYTES_MAX);
    applied_encode(&applied, &writer);
    assert_false(writer.failed);
    struct applied again;
    struct error error;
    assert_int_equal(applied_decode(bytes_of(bytes, writer.used), &again, &error), STATUS_OK);
    assert_int_equal(again.index, applied.index);
    assert_int_equal(again.term, applied.term);
    assert_true(again.running_hash == applied.running_hash);
    assert_int_equal(again.computer_time_ms, applied.computer_time_ms);
    assert_int_equal(again.membership.count, 3);
    assert_int_equal(again.membership.learners, 4);
    check_cuts(bytes, writer.used, applied_decodes);

    bytes[0] = 2; /* a newer format, then a newer level */
    assert_int_equal(applied_decode(bytes_of(bytes, writer.used), &again, &error),
                     STATUS_UNSUPPORTED);
    bytes[0] = 1;
    bytes[2] = FEATURE_LEVEL_NEWEST + 1;
    assert_int_equal(applied_decode(bytes_of(bytes, writer.used), &again, &error),
                     STATUS_UNSUPPORTED);
}

static bool group_state_decodes(struct bytes bytes)
{
    struct group_state group_state;
    struct error error;
    return group_state_decode(bytes, &group_state, &error) == STATUS_OK;
}

static void the_state_record_comes_back_and_no_part_of_it(void **state)
{
    (void)state;
    struct group_state group_state = { .term = 5,
                                       .vote = 7,
                                       .machine = { { 1, 2 } },
                                       .disk_incarnation = { { 3, 4 } },
                                       .first_membership = example_membership() };
    uint8_t bytes[RECORD_BYTES_MAX];
    struct writer writer = writer_of(bytes, GROUP_STATE_BYTES_MAX);
    group_state_encode(&group_state, &writer);
    assert_false(writer.failed);
    struct group_state again;
    struct error error;
    assert_int_equal(group_state_decode(bytes_of(bytes, writer.used), &again, &error), STATUS_OK);
    assert_int_equal(again.term, 5);
    assert_int_equal(again.vote, 7);
    assert_true(id_equal(&again.machine, &group_state.machine));
    assert_true(id_equal(&again.disk_incarnation, &group_state.disk_incarnation));
    assert_int_equal(again.first_membership.count, 3);
    check_cuts(bytes, writer.used, group_state_decodes);
    bytes[0] = 2;
    assert_int_equal(group_state_decode(bytes_of(bytes, writer.used), &again, &error),
                     STATUS_UNSUPPORTED);
}

static bool command_decodes(struct bytes bytes)
{
    struct directory_command command;
    return directory_command_decode(bytes, &command) == DECODE_OK;
}

static void commands_of_the_directory_come_back_and_no_part_of_them(void **state)
{
    (void)state;
    struct directory_command create = {
        .kind = DIRECTORY_CREATE,
        .group = { .kind = "registry",
                   .name = "main",
                   .member_count = 2,
                   .members = { { { 9 } } } },
    };
    uint8_t bytes[DIRECTORY_COMMAND_BYTES_MAX];
    struct writer writer = writer_of(bytes, sizeof bytes);
    assert_int_equal(directory_command_encode(&create, &writer), STATUS_OK);
    struct directory_command again;
    assert_int_equal(directory_command_decode(bytes_of(bytes, writer.used), &again), DECODE_OK);
    assert_string_equal(again.group.kind, "registry");
    assert_string_equal(again.group.name, "main");
    assert_int_equal(again.group.member_count, 2);
    assert_true(id_equal(&again.group.members[0], &create.group.members[0]));
    check_cuts(bytes, writer.used, command_decodes);

    struct directory_command remove = { .kind = DIRECTORY_REMOVE,
                                        .group = { .group = 12, .epoch = 3 } };
    writer = writer_of(bytes, sizeof bytes);
    assert_int_equal(directory_command_encode(&remove, &writer), STATUS_OK);
    assert_int_equal(directory_command_decode(bytes_of(bytes, writer.used), &again), DECODE_OK);
    assert_int_equal(again.group.group, 12);
    assert_int_equal(again.group.epoch, 3);
    check_cuts(bytes, writer.used, command_decodes);
}

static void names_that_are_no_names_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = { "", "a b", "a/b", "a\n", "\x80" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_false(directory_name_valid(names[i], GROUP_NAME_BYTES_MAX));
    }
    char longest[GROUP_NAME_BYTES_MAX + 2];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_false(directory_name_valid(longest, GROUP_NAME_BYTES_MAX));
    longest[GROUP_NAME_BYTES_MAX] = '\0';
    assert_true(directory_name_valid(longest, GROUP_NAME_BYTES_MAX));
    assert_true(directory_name_valid("main-2.x_Y", GROUP_NAME_BYTES_MAX));
    /* A text with a NUL inside would make two names of one. */
    static const uint8_t nul[] = { 1, 1, 1, 'k', 2, 'a', 0, 0 };
    assert_false(command_decodes(bytes_of(nul, sizeof nul)));
    static const uint8_t good[] = { 1, 1, 1, 'k', 2, 'a', 'b', 0 };
    assert_true(command_decodes(bytes_of(good, sizeof good)));
}

static void the_cache_keeps_a_row_of_entries(void **state)
{
    (void)state;
    struct log_cache cache = { 0 };
    uint64_t first = 1000;
    uint64_t last = first - 1;
    for (unsigned round = 0; round < 300; round++) {
        for (unsigned i = 0; i < 5; i++) {
            uint8_t *bytes = malloc(1);
            assert_non_null(bytes);
            last++;
            bytes[0] = (uint8_t)last;
            assert_int_equal(log_cache_append(&cache, last, round, bytes, 1), STATUS_OK);
        }
        if (round % 7 == 6) {
            log_cache_truncate(&cache, last - 2);
            last -= 3;
        }
        if (round % 3 == 2) {
            first += 6;
            log_cache_drop(&cache, first - 1);
        }
        assert_null(log_cache_find(&cache, first - 1));
        assert_null(log_cache_find(&cache, last + 1));
        for (uint64_t index = first; index <= last; index++) {
            assert_int_equal(log_cache_find(&cache, index)->bytes[0], (uint8_t)index);
        }
        assert_int_equal(cache.bytes, last - first + 1);
    }
    log_cache_drop(&cache, last);
    assert_int_equal(cache.bytes, 0);
    log_cache_finish(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_applied_record_comes_back_and_no_part_of_it),
        cmocka_unit_test(the_state_record_comes_back_and_no_part_of_it),
        cmocka_unit_test(commands_of_the_directory_come_back_and_no_part_of_them),
        cmocka_unit_test(names_that_are_no_names_are_refused),
        cmocka_unit_test(the_cache_keeps_a_row_of_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
