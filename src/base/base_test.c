/* The base is exact at its edges: truncated input fails, bounds hold, known vectors match. */
#include "base/arena.h"
#include "base/bytes.h"
#include "base/checksum.h"
#include "base/error.h"
#include "base/ids.h"
#include "base/parse.h"
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void crc32c_matches_the_vector_of_rfc3720(void **state)
{
    (void)state;
    uint8_t zeros[32] = { 0 };
    assert_int_equal(crc32c(zeros, sizeof zeros), 0x8a9136aa);
    assert_int_equal(crc32c("123456789", 9), 0xe3069283);
    assert_int_equal(crc32c_extend(crc32c("1234", 4), "56789", 5), 0xe3069283);
}

static void every_truncation_of_a_record_fails_and_reads_zero(void **state)
{
    (void)state;
    uint8_t memory[64];
    struct writer writer = writer_of(memory, sizeof memory);
    writer_put_u8(&writer, 7);
    writer_put_u16(&writer, 0x1234);
    writer_put_u32(&writer, 0x12345678);
    writer_put_u64(&writer, UINT64_MAX);
    writer_put_varint(&writer, UINT64_MAX);
    writer_put_bytes(&writer, bytes_of_text("hello"));
    assert_false(writer.failed);
    for (size_t size = 0; size <= writer.used; size++) {
        struct reader reader = reader_of(memory, size);
        (void)reader_u8(&reader);
        (void)reader_u16(&reader);
        (void)reader_u32(&reader);
        (void)reader_u64(&reader);
        uint64_t varint = reader_varint(&reader);
        struct bytes text = reader_bytes(&reader, 5);
        assert_int_equal(reader.failed, size < writer.used);
        if (size < writer.used) {
            assert_int_equal(text.size, 0);
        } else {
            assert_true(varint == UINT64_MAX);
            assert_true(bytes_equal(text, bytes_of_text("hello")));
        }
    }
}

static void an_overlong_varint_is_refused(void **state)
{
    (void)state;
    uint8_t eleven[11] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01 };
    struct reader reader = reader_of(eleven, sizeof eleven);
    (void)reader_varint(&reader);
    assert_true(reader.failed);
    uint8_t tenth_too_large[10] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02 };
    reader = reader_of(tenth_too_large, sizeof tenth_too_large);
    (void)reader_varint(&reader);
    assert_true(reader.failed);
}

static void a_writer_never_writes_past_its_end(void **state)
{
    (void)state;
    uint8_t memory[4] = { 1, 2, 3, 4 };
    struct writer writer = writer_of(memory, 3);
    writer_put_u32(&writer, 0);
    assert_true(writer.failed);
    assert_int_equal(memory[3], 4);
    writer_put_u8(&writer, 9);
    assert_int_equal(writer.used, 0);
}

static void a_buffer_keeps_its_maximum(void **state)
{
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, 10);
    assert_int_equal(buffer_append(&buffer, "0123456789", 10), STATUS_OK);
    assert_int_equal(buffer_append(&buffer, "x", 1), STATUS_FULL);
    buffer_consume(&buffer, 4);
    assert_int_equal(buffer_append(&buffer, "abcd", 4), STATUS_OK);
    assert_memory_equal(buffer.data, "456789abcd", 10);
    buffer_finish(&buffer);
}

static void numbers_from_outside_are_whole_and_bounded(void **state)
{
    (void)state;
    uint64_t value = 0;
    assert_int_equal(parse_u64("18446744073709551615", UINT64_MAX, &value), STATUS_OK);
    assert_true(value == UINT64_MAX);
    assert_int_equal(parse_u64("18446744073709551616", UINT64_MAX, &value), STATUS_INVALID);
    assert_int_equal(parse_u64("256", 255, &value), STATUS_INVALID);
    assert_int_equal(parse_u64("9", 5, &value), STATUS_INVALID);
    const char *bad[] = { "", "-1", "+1", " 1", "1 ", "0x10", "1e3" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(parse_u64(bad[i], UINT64_MAX, &value), STATUS_INVALID);
    assert_int_equal(parse_size_bytes("64Mi", UINT64_MAX, &value), STATUS_OK);
    assert_int_equal(value, 64 << 20);
    assert_int_equal(parse_size_bytes("99999999Ti", UINT64_MAX, &value), STATUS_INVALID);
    assert_int_equal(parse_duration_ms("5m", UINT64_MAX, &value), STATUS_OK);
    assert_int_equal(value, 300000);
    assert_int_equal(parse_duration_ms("5", UINT64_MAX, &value), STATUS_INVALID);
    assert_int_equal(parse_cpu_milli("0.25", 64000, &value), STATUS_OK);
    assert_int_equal(value, 250);
    assert_int_equal(parse_cpu_milli("1.5", 1000, &value), STATUS_INVALID);
    assert_int_equal(parse_cpu_milli("0.2505", 64000, &value), STATUS_INVALID);
}

static void an_error_is_wrapped_and_cut_but_never_overflows(void **state)
{
    (void)state;
    struct error error = { 0 };
    assert_int_equal(error_set(&error, STATUS_IO, "sync failed"), STATUS_IO);
    assert_int_equal(error_wrap(&error, STATUS_IO, "journal"), STATUS_IO);
    assert_string_equal(error.text, "journal: sync failed");
    for (int i = 0; i < 1000; i++) (void)error_wrap(&error, STATUS_IO, "level %d", i);
    assert_true(strlen(error.text) < sizeof error.text);
    assert_int_equal(strncmp(error.text, "level ", 6), 0);
}

static void an_arena_keeps_its_maximum_and_alignment(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 10000);
    assert_non_null(arena_take(&arena, 1));
    void *second = arena_take(&arena, 5000);
    assert_int_equal((uintptr_t)second % 16, 0);
    assert_null(arena_take(&arena, 6000));
    arena_reset(&arena);
    assert_non_null(arena_take(&arena, 9000));
    arena_finish(&arena);
}

static void ids_and_seeded_randomness_are_reproducible(void **state)
{
    (void)state;
    struct random_seeded a, b;
    random_seeded_init(&a, 42);
    random_seeded_init(&b, 42);
    struct id first, second, parsed;
    random_id(&a.random, &first);
    random_id(&b.random, &second);
    assert_true(id_equal(&first, &second));
    char text[ID_TEXT_BYTES];
    id_format(&first, text);
    assert_int_equal(id_parse(text, &parsed), STATUS_OK);
    assert_true(id_equal(&first, &parsed));
    text[3] = 'G';
    assert_int_equal(id_parse(text, &parsed), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_matches_the_vector_of_rfc3720),
        cmocka_unit_test(every_truncation_of_a_record_fails_and_reads_zero),
        cmocka_unit_test(an_overlong_varint_is_refused),
        cmocka_unit_test(a_writer_never_writes_past_its_end),
        cmocka_unit_test(a_buffer_keeps_its_maximum),
        cmocka_unit_test(numbers_from_outside_are_whole_and_bounded),
        cmocka_unit_test(an_error_is_wrapped_and_cut_but_never_overflows),
        cmocka_unit_test(an_arena_keeps_its_maximum_and_alignment),
        cmocka_unit_test(ids_and_seeded_randomness_are_reproducible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
