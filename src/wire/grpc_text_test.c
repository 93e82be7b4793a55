/* The small parts of gRPC: its texts are read and written as the specification says, and the memory
 * of a connection stays within its budget. */
#include "wire/grpc_memory.h"
#include "wire/grpc_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void every_content_type_of_grpc_is_accepted(void **state)
{
    (void)state;
    static const char *const good[] = { "application/grpc", "application/grpc+proto",
                                        "application/grpc;charset=utf-8",
                                        "application/grpc+proto;x" };
    static const char *const bad[] = { "", "application/grp", "application/grpcx",
                                       "application/grpc+", "application/grpc+protox" };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(grpc_content_type_is_ours(bytes_of_text(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(grpc_content_type_is_ours(bytes_of_text(bad[i])));
}

static void timeouts_are_rounded_down_by_little(void **state)
{
    (void)state;
    uint64_t parsed;
    for (uint64_t ns = 1; ns < UINT64_MAX / 3; ns = ns * 3 + 1) {
        char text[GRPC_TIMEOUT_TEXT_BYTES];
        size_t size = grpc_timeout_format(ns, text);
        assert_in_range(size, 2, 9);
        assert_int_equal(grpc_timeout_parse(bytes_of(text, size), &parsed), STATUS_OK);
        assert_true(parsed <= ns);
        assert_true(ns - parsed <= ns / 10000);
    }
    static const char *const bad[] = { "", "1", "S", "-1S", "1.5S", "1s", "1SS", "000000001S" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(grpc_timeout_parse(bytes_of_text(bad[i]), &parsed), STATUS_INVALID);
    assert_int_equal(grpc_timeout_parse(bytes_of_text("99999999H"), &parsed), STATUS_OK);
    assert_true(parsed == UINT64_MAX - 1);
}

static void messages_of_a_status_survive_percent_encoding_of_every_byte(void **state)
{
    (void)state;
    static char text[GRPC_STATUS_TEXT_BYTES_MAX + 100], decoded[GRPC_STATUS_TEXT_BYTES_MAX + 1];
    static uint8_t encoded[GRPC_MESSAGE_ENCODED_BYTES_MAX];
    for (size_t i = 0; i < sizeof text - 1; i++) text[i] = (char)(i % 255 + 1);
    text[sizeof text - 1] = '\0';
    size_t size = grpc_message_encode(text, encoded);
    grpc_message_decode(bytes_of(encoded, size), decoded);
    assert_int_equal(strlen(decoded), GRPC_STATUS_TEXT_BYTES_MAX);
    assert_memory_equal(decoded, text, GRPC_STATUS_TEXT_BYTES_MAX);
    grpc_message_decode(bytes_of_text("%zz%4"), decoded);
    assert_string_equal(decoded, "%zz%4");
}

static void every_status_maps_to_a_code_and_only_its_own_kind_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < STATUS_COUNT; i++) {
        enum grpc_status code = grpc_status_of((enum status)i);
        assert_int_equal(code == GRPC_OK, i == STATUS_OK);
        assert_int_equal(grpc_status_of(status_of_grpc(code)), code);
        assert_int_equal(grpc_status_parse(bytes_of_text(grpc_status_text(code))), code);
    }
    assert_int_equal(grpc_status_parse(bytes_of_text("17")), GRPC_UNKNOWN);
    assert_int_equal(grpc_status_parse(bytes_of_text("")), GRPC_UNKNOWN);
    assert_int_equal(status_of_grpc((enum grpc_status)99), STATUS_INTERNAL);
}

static void the_memory_of_a_connection_has_a_budget(void **state)
{
    (void)state;
    struct grpc_memory memory;
    grpc_memory_init(&memory, 100000);
    void *blocks[200] = { NULL };
    size_t count = 0;
    while (count < 200 && (blocks[count] = grpc_memory_take(1000, &memory)) != NULL) count++;
    assert_int_equal(count, 100000 / 1024);
    char *grown = grpc_memory_resize(NULL, 10, &memory);
    assert_non_null(grown);
    memcpy(grown, "123456789", 10);
    assert_null(grpc_memory_resize(grown, 90000, &memory));
    assert_true(count > 0);
    grpc_memory_give(blocks[--count], &memory);
    grown = grpc_memory_resize(grown, 500, &memory);
    assert_string_equal(grown, "123456789");
    grpc_memory_give(grown, &memory);
    while (count > 0) grpc_memory_give(blocks[--count], &memory);
    grpc_memory_finish(&memory);
    assert_int_equal(memory.used_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_content_type_of_grpc_is_accepted),
        cmocka_unit_test(timeouts_are_rounded_down_by_little),
        cmocka_unit_test(messages_of_a_status_survive_percent_encoding_of_every_byte),
        cmocka_unit_test(every_status_maps_to_a_code_and_only_its_own_kind_back),
        cmocka_unit_test(the_memory_of_a_connection_has_a_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
