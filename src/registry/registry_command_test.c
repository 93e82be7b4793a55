/* What is encoded decodes to the same; every truncation and every change of a byte is refused or
 * decodes to something well-formed; what is not well-formed is refused with a sentence that names
 * the field. */
#include "registry/registry_codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct bytes text(const char *t)
{
    return bytes_of_text(t);
}

static struct registry_command example(void)
{
    static struct registry_compare compares[5];
    static struct registry_operation success[3], failure[1];
    compares[0] = (struct registry_compare) { .key = text("a"), .target = REGISTRY_VERSION };
    compares[1] = (struct registry_compare) {
        .key = text("b"), .target = REGISTRY_VALUE, .result = REGISTRY_LESS, .value = text("v")
    };
    compares[2] = (struct registry_compare) {
        .key = text("c"), .target = REGISTRY_LEASE, .result = REGISTRY_NOT_EQUAL, .number = 1u << 31
    };
    success[0] = (struct registry_operation) { .kind = REGISTRY_PUT,
                                               .key = text("k"),
                                               .value = text("value"),
                                               .lease = 300,
                                               .return_previous = true };
    success[1] = (struct registry_operation) { .kind = REGISTRY_RANGE,
                                               .key = text("a"),
                                               .end = text("b"),
                                               .limit = 1000,
                                               .keys_only = true,
                                               .descending = true };
    success[2] = (struct registry_operation) { .kind = REGISTRY_DELETE,
                                               .key = text("x"),
                                               .end = bytes_of("", 1) };
    failure[0] = (struct registry_operation) { .kind = REGISTRY_RANGE,
                                               .key = text("z"),
                                               .count_only = true };
    return (struct registry_command) { .kind = REGISTRY_COMMAND_TXN,
                                       .compares = compares,
                                       .compare_count = 3,
                                       .success = success,
                                       .success_count = 3,
                                       .failure = failure,
                                       .failure_count = 1,
                                       .fence = 9 };
}

static struct buffer encoded(const struct registry_command *command)
{
    struct buffer buffer;
    buffer_init(&buffer, LIMIT_ENTRY_BYTES_MAX);
    struct error error = { 0 };
    assert_int_equal(registry_command_encode(command, &buffer, &error), STATUS_OK);
    return buffer;
}

static void check_operations(const struct registry_operation *a, const struct registry_operation *b,
                             size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(a[i].kind, b[i].kind);
        assert_true(bytes_equal(a[i].key, b[i].key));
        assert_true(bytes_equal(a[i].end, b[i].end));
        assert_true(bytes_equal(a[i].value, b[i].value));
        assert_int_equal(a[i].lease, b[i].lease);
        assert_int_equal(a[i].limit, b[i].limit);
        assert_int_equal(a[i].return_previous, b[i].return_previous);
        assert_int_equal(a[i].keys_only, b[i].keys_only);
        assert_int_equal(a[i].count_only, b[i].count_only);
        assert_int_equal(a[i].descending, b[i].descending);
    }
}

static void a_command_decodes_to_what_was_encoded(void **state)
{
    (void)state;
    struct registry_command command = example();
    struct buffer buffer = encoded(&command);
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct registry_command again;
    struct error error = { 0 };
    assert_int_equal(
        registry_command_decode(bytes_of(buffer.data, buffer.used), &arena, &again, &error),
        STATUS_OK);
    assert_int_equal(again.fence, 9);
    assert_int_equal(again.compare_count, command.compare_count);
    for (size_t i = 0; i < command.compare_count; i++) {
        assert_int_equal(again.compares[i].target, command.compares[i].target);
        assert_int_equal(again.compares[i].result, command.compares[i].result);
        assert_true(bytes_equal(again.compares[i].key, command.compares[i].key));
        assert_int_equal(again.compares[i].number, command.compares[i].number);
        assert_true(bytes_equal(again.compares[i].value, command.compares[i].value));
    }
    assert_int_equal(again.success_count, command.success_count);
    assert_int_equal(again.failure_count, command.failure_count);
    check_operations(again.success, command.success, command.success_count);
    check_operations(again.failure, command.failure, command.failure_count);
    arena_finish(&arena);
    buffer_finish(&buffer);
}

static void every_kind_of_lease_command_decodes(void **state)
{
    (void)state;
    for (int kind = REGISTRY_COMMAND_GRANT; kind <= REGISTRY_COMMAND_REVOKE; kind++) {
        struct registry_command command = { .kind = (enum registry_command_kind)kind, .lease = 77 };
        if (kind == REGISTRY_COMMAND_GRANT) command.time_to_live_ms = 5000;
        struct buffer buffer = encoded(&command);
        struct arena arena;
        arena_init(&arena, 1 << 20);
        struct registry_command again;
        struct error error = { 0 };
        assert_int_equal(
            registry_command_decode(bytes_of(buffer.data, buffer.used), &arena, &again, &error),
            STATUS_OK);
        assert_int_equal(again.kind, command.kind);
        assert_int_equal(again.lease, 77);
        assert_int_equal(again.time_to_live_ms, command.time_to_live_ms);
        arena_finish(&arena);
        buffer_finish(&buffer);
    }
}

/* Each truncation stands in memory of its own size, so that a read beyond it is seen. */
static void every_truncation_of_a_command_is_refused(void **state)
{
    (void)state;
    struct registry_command command = example();
    struct buffer buffer = encoded(&command);
    struct arena arena;
    arena_init(&arena, 1 << 20);
    for (size_t size = 0; size < buffer.used; size++) {
        uint8_t *cut = malloc(size + 1);
        memcpy(cut, buffer.data, size);
        struct registry_command again;
        struct error error = { 0 };
        assert_int_equal(registry_command_decode(bytes_of(cut, size), &arena, &again, &error),
                         STATUS_INVALID);
        assert_non_null(strstr(error.text, "malformed"));
        free(cut);
        arena_clear(&arena);
    }
    arena_finish(&arena);
    buffer_finish(&buffer);
}

static void a_byte_too_many_is_refused(void **state)
{
    (void)state;
    struct registry_command command = example();
    struct buffer buffer = encoded(&command);
    assert_int_equal(buffer_append(&buffer, "", 1), STATUS_OK);
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct registry_command again;
    assert_int_equal(
        registry_command_decode(bytes_of(buffer.data, buffer.used), &arena, &again, NULL),
        STATUS_INVALID);
    arena_finish(&arena);
    buffer_finish(&buffer);
}

static void a_newer_format_is_refused_by_its_number(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct registry_command again;
    struct error error = { 0 };
    uint8_t bytes[] = { 2, 0, 0, 0, 0, 0 };
    assert_int_equal(registry_command_decode(bytes_of(bytes, sizeof bytes), &arena, &again, &error),
                     STATUS_INVALID);
    assert_non_null(strstr(error.text, "format version 2"));
    arena_finish(&arena);
}

static void expect_refused(const struct registry_command *command, const char *sentence)
{
    struct error error = { 0 };
    struct buffer buffer;
    buffer_init(&buffer, LIMIT_ENTRY_BYTES_MAX);
    assert_int_equal(registry_command_encode(command, &buffer, &error), STATUS_INVALID);
    assert_string_equal(error.text, sentence);
    assert_int_equal(buffer.used, 0);
    buffer_finish(&buffer);
}

static void expect_operation_refused(struct registry_operation operation, const char *sentence)
{
    struct registry_command command = { .success = &operation, .success_count = 1 };
    expect_refused(&command, sentence);
}

static void what_is_not_well_formed_is_refused_by_its_field(void **state)
{
    (void)state;
    static uint8_t large[LIMIT_VALUE_BYTES_MAX + 1];
    expect_operation_refused((struct registry_operation) { .kind = REGISTRY_PUT }, "key is empty");
    expect_operation_refused(
        (struct registry_operation) { .kind = REGISTRY_PUT, .key = bytes_of(large, 4097) },
        "key has 4097 bytes, the maximum is 4096");
    expect_operation_refused((struct registry_operation) { .kind = REGISTRY_PUT,
                                                           .key = text("k"),
                                                           .value = bytes_of(large, sizeof large) },
                             "value has 1572865 bytes, the maximum is 1572864");
    expect_operation_refused(
        (struct registry_operation) { .kind = REGISTRY_PUT, .key = text("k"), .end = text("l") },
        "end is not for a put");
    expect_operation_refused(
        (struct registry_operation) { .kind = REGISTRY_RANGE, .key = text("b"), .end = text("b") },
        "end is not above key");
    expect_operation_refused((struct registry_operation) { .kind = REGISTRY_DELETE,
                                                           .key = text("b"),
                                                           .end = bytes_of(large, 4097) },
                             "end has 4097 bytes, the maximum is 4096");
    expect_operation_refused(
        (struct registry_operation) { .kind = REGISTRY_RANGE, .key = text("b"), .revision = 3 },
        "revision is not for a range in a transaction");
    expect_operation_refused(
        (struct registry_operation) { .kind = (enum registry_operation_kind)7, .key = text("b") },
        "kind 7 is unknown");

    struct registry_command grant = { .kind = REGISTRY_COMMAND_GRANT, .time_to_live_ms = 999 };
    expect_refused(&grant, "time_to_live_ms is 999, not 1000 to 31536000000");
    struct registry_command keep = { .kind = REGISTRY_COMMAND_KEEP };
    expect_refused(&keep, "lease is zero");
    struct registry_command unknown = { .kind = (enum registry_command_kind)9 };
    expect_refused(&unknown, "the command has the unknown kind 9");
}

static void a_transaction_names_the_operation_that_is_wrong(void **state)
{
    (void)state;
    struct registry_operation operations[] = {
        { .kind = REGISTRY_PUT, .key = text("a") },
        { .kind = REGISTRY_PUT },
    };
    struct registry_command command = { .success = operations, .success_count = 2 };
    expect_refused(&command, "success[1].key is empty");
    operations[1].key = text("a");
    expect_refused(&command, "success puts the same key twice");
    command = (struct registry_command) { .failure = operations, .failure_count = 2 };
    expect_refused(&command, "failure puts the same key twice");
    operations[1] = (struct registry_operation) { .kind = REGISTRY_DELETE,
                                                  .key = text("A"),
                                                  .end = bytes_of("", 1) };
    expect_refused(&command, "failure puts and deletes the same key");
    struct registry_compare compare = { .key = text("a"), .target = (enum registry_target)9 };
    command = (struct registry_command) { .compares = &compare, .compare_count = 1 };
    expect_refused(&command, "compares[0].target or result is unknown");
    static struct registry_operation many[129];
    command = (struct registry_command) { .success = many, .success_count = 129 };
    expect_refused(&command, "success has 129 operations, the maximum is 128");
}

static void a_transaction_that_is_too_large_is_refused(void **state)
{
    (void)state;
    static uint8_t value[LIMIT_VALUE_BYTES_MAX];
    struct registry_operation operations[] = {
        { .kind = REGISTRY_PUT, .key = text("a"), .value = bytes_of(value, sizeof value) },
        { .kind = REGISTRY_PUT, .key = text("b"), .value = bytes_of(value, sizeof value) },
    };
    struct registry_command command = { .success = operations, .success_count = 2 };
    struct buffer buffer;
    buffer_init(&buffer, 8 << 20);
    struct error error = { 0 };
    assert_int_equal(registry_command_encode(&command, &buffer, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "the maximum is 2096128"));
    command.success_count = 1;
    assert_int_equal(registry_command_encode(&command, &buffer, &error), STATUS_OK);
    buffer_finish(&buffer);
}

static struct buffer example_reply(void)
{
    struct buffer buffer;
    buffer_init(&buffer, 1 << 20);
    struct registry_response_mark mark;
    struct registry_item item = { .key = text("k"),
                                  .value = text("v"),
                                  .create_revision = 1,
                                  .modify_revision = 300,
                                  .version = 2,
                                  .lease = 5 };
    assert_int_equal(registry_reply_transaction(&buffer, true, 2), STATUS_OK);
    assert_int_equal(registry_reply_response_begin(&buffer, REGISTRY_RANGE, &mark), STATUS_OK);
    assert_int_equal(registry_reply_item(&buffer, &mark, &item), STATUS_OK);
    assert_int_equal(registry_reply_item(&buffer, &mark, &item), STATUS_OK);
    registry_reply_response_end(&buffer, &mark, 12, true);
    assert_int_equal(registry_reply_response_begin(&buffer, REGISTRY_DELETE, &mark), STATUS_OK);
    registry_reply_response_end(&buffer, &mark, 3, false);
    registry_reply_set_revision(&buffer, 301);
    return buffer;
}

static void a_reply_decodes_to_what_was_written(void **state)
{
    (void)state;
    struct buffer buffer = example_reply();
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct registry_reply reply;
    assert_int_equal(registry_reply_decode(bytes_of(buffer.data, buffer.used), &arena, &reply),
                     STATUS_OK);
    assert_int_equal(reply.status, STATUS_OK);
    assert_int_equal(reply.revision, 301);
    assert_true(reply.succeeded);
    assert_int_equal(reply.response_count, 2);
    assert_int_equal(reply.responses[0].item_count, 2);
    assert_int_equal(reply.responses[0].count, 12);
    assert_true(reply.responses[0].more);
    assert_int_equal(reply.responses[0].items[1].modify_revision, 300);
    assert_true(bytes_equal(reply.responses[0].items[1].value, text("v")));
    assert_int_equal(reply.responses[1].kind, REGISTRY_DELETE);
    assert_int_equal(reply.responses[1].count, 3);

    assert_int_equal(registry_reply_refuse(&buffer, STATUS_FULL, 4, "no more"), STATUS_OK);
    assert_int_equal(registry_reply_decode(bytes_of(buffer.data, buffer.used), &arena, &reply),
                     STATUS_OK);
    assert_int_equal(reply.status, STATUS_FULL);
    assert_string_equal(reply.text, "no more");
    assert_int_equal(reply.revision, 4);
    arena_finish(&arena);
    buffer_finish(&buffer);
}

static void every_truncation_of_a_reply_is_refused(void **state)
{
    (void)state;
    struct buffer buffer = example_reply();
    struct arena arena;
    arena_init(&arena, 1 << 20);
    for (size_t size = 0; size < buffer.used; size++) {
        uint8_t *cut = malloc(size + 1);
        memcpy(cut, buffer.data, size);
        struct registry_reply reply;
        assert_int_equal(registry_reply_decode(bytes_of(cut, size), &arena, &reply),
                         STATUS_CORRUPT);
        free(cut);
        arena_clear(&arena);
    }
    arena_finish(&arena);
    buffer_finish(&buffer);
}

static void every_truncation_of_a_record_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[256];
    struct registry_meta meta = { .create_revision = 200,
                                  .modify_revision = 300,
                                  .version = 400,
                                  .lease = 500,
                                  .value_size = 600 };
    struct writer writer = writer_of(bytes, sizeof bytes);
    registry_meta_encode(&meta, &writer);
    for (size_t size = 0; size < writer.used; size++) {
        struct registry_meta again;
        assert_int_equal(registry_meta_decode(bytes_of(bytes, size), &again), DECODE_BAD);
    }

    struct registry_counters counters = {
        .revision = 9, .compact_revision = 200, .keys = 300, .bytes = 400, .history_bytes = 500
    };
    struct registry_history_event event = { .key = text("key"),
                                            .deleted = true,
                                            .has_previous = true,
                                            .previous_revision = 300,
                                            .previous_value_size = 400 };
    writer = writer_of(bytes, sizeof bytes);
    registry_history_encode_head(&counters, 2, &writer);
    registry_history_encode_event(&event, &writer);
    registry_history_encode_event(&event, &writer);
    for (size_t size = 0; size <= writer.used; size++) {
        struct registry_counters counters_again;
        struct registry_history_event event_again;
        size_t count;
        struct reader reader;
        bool good = registry_history_decode_head(bytes_of(bytes, size), &counters_again, &count,
                                                 &reader) == DECODE_OK;
        for (size_t i = 0; good && i < count; i++) {
            good = registry_history_decode_event(&reader, &event_again) == DECODE_OK;
        }
        assert_int_equal(good, size == writer.used);
    }
}

static void only_what_takes_away_frees_room(void **state)
{
    (void)state;
    struct registry_operation delete = { .kind = REGISTRY_DELETE, .key = bytes_of_text("a") };
    struct registry_operation put = { .kind = REGISTRY_PUT, .key = bytes_of_text("a") };
    struct registry_command command = { .success = &delete, .success_count = 1 };
    assert_true(registry_command_frees_room(&command));
    command.failure = &put;
    command.failure_count = 1;
    assert_false(registry_command_frees_room(&command));
    command = (struct registry_command) { .success = &put, .success_count = 1 };
    assert_false(registry_command_frees_room(&command));
    command = (struct registry_command) { .kind = REGISTRY_COMMAND_REVOKE, .lease = 1 };
    assert_true(registry_command_frees_room(&command));
    command.kind = REGISTRY_COMMAND_KEEP;
    assert_true(registry_command_frees_room(&command));
    command.kind = REGISTRY_COMMAND_GRANT;
    assert_false(registry_command_frees_room(&command));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_decodes_to_what_was_encoded),
        cmocka_unit_test(every_kind_of_lease_command_decodes),
        cmocka_unit_test(every_truncation_of_a_command_is_refused),
        cmocka_unit_test(a_byte_too_many_is_refused),
        cmocka_unit_test(a_newer_format_is_refused_by_its_number),
        cmocka_unit_test(what_is_not_well_formed_is_refused_by_its_field),
        cmocka_unit_test(a_transaction_names_the_operation_that_is_wrong),
        cmocka_unit_test(a_transaction_that_is_too_large_is_refused),
        cmocka_unit_test(a_reply_decodes_to_what_was_written),
        cmocka_unit_test(every_truncation_of_a_reply_is_refused),
        cmocka_unit_test(every_truncation_of_a_record_is_refused),
        cmocka_unit_test(only_what_takes_away_frees_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
