/* A message comes back as it was encoded, asks for more while it is cut, and is refused when its
 * fields disagree. */
#include "consensus/raft.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct raft_membership three = { .count = 3, .ids = { 1, 2, 3 } };

static struct raft_message append_of(uint64_t index, uint32_t count, uint64_t term)
{
    return (struct raft_message) { .type = RAFT_MESSAGE_APPEND,
                                   .from = 2,
                                   .term = term,
                                   .index = index,
                                   .index_term = index == 0 ? 0 : term,
                                   .count = count,
                                   .run_count = 1,
                                   .runs = { { .index = index + 1, .term = term } } };
}

static void every_truncation_of_a_message_asks_for_more_and_the_whole_comes_back(void **state)
{
    (void)state;
    for (unsigned type = 0; type < RAFT_MESSAGE_TYPE_COUNT; type++) {
        struct raft_message message = append_of(UINT64_MAX / 8, 9, UINT64_MAX / 2);
        if (type != RAFT_MESSAGE_APPEND) message.count = message.run_count = 0;
        message.type = (uint8_t)type;
        message.group = UINT64_MAX;
        message.to = UINT64_MAX;
        message.sent_ns = message.round = UINT64_MAX;
        if (type == RAFT_MESSAGE_APPEND) message.membership_index = message.index + 3;
        message.membership = three;
        if (type != RAFT_MESSAGE_APPEND && type != RAFT_MESSAGE_SNAPSHOT) {
            message.membership.count = 0;
            memset(message.membership.ids, 0, sizeof message.membership.ids);
        }
        if (type != RAFT_MESSAGE_APPEND) memset(message.runs, 0, sizeof message.runs);
        uint8_t bytes[RAFT_MESSAGE_BYTES_MAX], again[RAFT_MESSAGE_BYTES_MAX];
        struct writer writer = writer_of(bytes, sizeof bytes);
        raft_message_encode(&message, &writer);
        struct raft_message back;
        size_t used = 0;
        for (size_t size = 0; size < writer.used; size++) {
            assert_int_equal(raft_message_decode(bytes, size, &back, &used), DECODE_MORE);
        }
        assert_int_equal(raft_message_decode(bytes, writer.used, &back, &used), DECODE_OK);
        assert_int_equal(used, writer.used);
        struct writer second = writer_of(again, sizeof again);
        raft_message_encode(&back, &second);
        assert_true(bytes_equal(bytes_of(bytes, writer.used), bytes_of(again, second.used)));
        bytes[2] = 2; /* a version that is not known */
        assert_int_equal(raft_message_decode(bytes, writer.used, &back, &used), DECODE_BAD);
    }
}

static void a_message_whose_fields_disagree_is_bad(void **state)
{
    (void)state;
    struct raft_message messages[5];
    for (int i = 0; i < 5; i++) messages[i] = append_of(5, 2, 3);
    for (int i = 0; i < 5; i++) messages[i].to = 1;
    messages[0].runs[0].index = 7;    /* entries begin elsewhere */
    messages[1].runs[0].term = 4;     /* a term from the future */
    messages[2].membership_index = 9; /* not among the entries */
    messages[3].from = 0;
    messages[4].count = 0;
    for (int i = 0; i < 5; i++) {
        uint8_t bytes[RAFT_MESSAGE_BYTES_MAX];
        struct writer writer = writer_of(bytes, sizeof bytes);
        struct raft_message back;
        size_t used = 0;
        messages[i].membership = three;
        raft_message_encode(&messages[i], &writer);
        assert_int_equal(raft_message_decode(bytes, writer.used, &back, &used), DECODE_BAD);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncation_of_a_message_asks_for_more_and_the_whole_comes_back),
        cmocka_unit_test(a_message_whose_fields_disagree_is_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
