/* The envelope comes back as it went in, and no damaged one is taken for whole.
 *
 * Method: encode and decode entries at the edges of every field; then cut one at every length and
 * change every single byte to every other value. */
#include "wire/entry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SMALL_BYTES_MAX = 1024 };

static struct entry example(void)
{
    struct entry entry = {
        .kind = ENTRY_COMMAND,
        .feature_level = 1,
        .group = 0x0102030405060708,
        .sequence = 42,
        .computer_time_ms = UINT64_MAX,
        .random_seed = 0xdeadbeefcafe,
        .principal = bytes_of_text("spiffe://c/project/p/job/j"),
        .space = bytes_of_text("main"),
        .payload = bytes_of_text("put x 1"),
    };
    memset(entry.session.bytes, 0xab, ID_BYTES);
    memset(entry.trace.bytes, 0xcd, ID_BYTES);
    return entry;
}

static void check_same(const struct entry *a, const struct entry *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->feature_level, b->feature_level);
    assert_int_equal(a->group, b->group);
    assert_true(id_equal(&a->session, &b->session));
    assert_int_equal(a->sequence, b->sequence);
    assert_true(a->computer_time_ms == b->computer_time_ms);
    assert_true(a->random_seed == b->random_seed);
    assert_true(bytes_equal(a->principal, b->principal));
    assert_true(bytes_equal(a->space, b->space));
    assert_true(id_equal(&a->trace, &b->trace));
    assert_true(bytes_equal(a->payload, b->payload));
}

static size_t encode_small(const struct entry *entry, uint8_t bytes[SMALL_BYTES_MAX])
{
    struct writer writer = writer_of(bytes, SMALL_BYTES_MAX);
    assert_int_equal(entry_encode(entry, &writer), STATUS_OK);
    return writer.used;
}

static void every_kind_comes_back_as_it_went_in(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < ENTRY_KIND_COUNT; kind++) {
        struct entry entry = example();
        entry.kind = (enum entry_kind)kind;
        uint8_t bytes[SMALL_BYTES_MAX];
        size_t size = encode_small(&entry, bytes);
        struct entry decoded;
        assert_int_equal(entry_decode(bytes, size, &decoded), DECODE_OK);
        check_same(&entry, &decoded);
    }
}

static void an_entry_of_zeros_and_an_entry_of_maxima_come_back(void **state)
{
    (void)state;
    static uint8_t bytes[LIMIT_ENTRY_BYTES_MAX];
    static uint8_t fill[LIMIT_ENTRY_BYTES_MAX];
    memset(fill, 'x', sizeof fill);

    struct entry zeros = { 0 };
    struct entry maxima = example();
    maxima.principal = bytes_of(fill, ENTRY_PRINCIPAL_BYTES_MAX);
    maxima.space = bytes_of(fill, ENTRY_SPACE_BYTES_MAX);
    maxima.payload = bytes_of(fill, LIMIT_ENTRY_BYTES_MAX - ENTRY_OVERHEAD_BYTES_MAX);
    const struct entry *entries[] = { &zeros, &maxima };

    for (size_t i = 0; i < 2; i++) {
        struct writer writer = writer_of(bytes, sizeof bytes);
        assert_int_equal(entry_encode(entries[i], &writer), STATUS_OK);
        struct entry decoded;
        assert_int_equal(entry_decode(bytes, writer.used, &decoded), DECODE_OK);
        check_same(entries[i], &decoded);
    }
}

static void a_field_over_its_maximum_is_refused_and_writes_nothing(void **state)
{
    (void)state;
    static uint8_t fill[LIMIT_ENTRY_BYTES_MAX];
    struct entry cases[4] = { example(), example(), example(), example() };
    cases[0].principal = bytes_of(fill, ENTRY_PRINCIPAL_BYTES_MAX + 1);
    cases[1].space = bytes_of(fill, ENTRY_SPACE_BYTES_MAX + 1);
    cases[2].payload = bytes_of(fill, LIMIT_ENTRY_BYTES_MAX - ENTRY_OVERHEAD_BYTES_MAX + 1);
    cases[3].kind = ENTRY_KIND_COUNT;
    static uint8_t bytes[LIMIT_ENTRY_BYTES_MAX];
    for (size_t i = 0; i < 4; i++) {
        struct writer writer = writer_of(bytes, sizeof bytes);
        assert_int_equal(entry_encode(&cases[i], &writer), STATUS_INVALID);
        assert_int_equal(writer.used, 0);
    }
}

static void a_writer_that_is_too_small_is_left_as_it_was(void **state)
{
    (void)state;
    struct entry entry = example();
    uint8_t bytes[SMALL_BYTES_MAX];
    size_t size = encode_small(&entry, bytes);
    for (size_t room = 0; room < size; room++) {
        struct writer writer = writer_of(bytes, room);
        assert_int_equal(entry_encode(&entry, &writer), STATUS_FULL);
        assert_int_equal(writer.used, 0);
        assert_false(writer.failed);
    }
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct entry entry = example();
    uint8_t bytes[SMALL_BYTES_MAX];
    size_t size = encode_small(&entry, bytes);
    for (size_t cut = 0; cut < size; cut++) {
        /* On memory of exactly that size, so that the sanitizer sees a read past it. */
        uint8_t *copy = malloc(cut == 0 ? 1 : cut);
        assert_non_null(copy);
        memcpy(copy, bytes, cut);
        struct entry decoded;
        assert_int_equal(entry_decode(copy, cut, &decoded), DECODE_BAD);
        free(copy);
    }
    struct entry decoded;
    bytes[size] = 0;
    assert_int_equal(entry_decode(bytes, size + 1, &decoded), DECODE_BAD);
}

static void every_change_of_a_single_byte_is_refused(void **state)
{
    (void)state;
    struct entry entry = example();
    uint8_t bytes[SMALL_BYTES_MAX];
    size_t size = encode_small(&entry, bytes);
    for (size_t i = 0; i < size; i++) {
        for (unsigned change = 1; change < 256; change++) {
            bytes[i] ^= (uint8_t)change;
            struct entry decoded;
            assert_int_equal(entry_decode(bytes, size, &decoded), DECODE_BAD);
            bytes[i] ^= (uint8_t)change;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_comes_back_as_it_went_in),
        cmocka_unit_test(an_entry_of_zeros_and_an_entry_of_maxima_come_back),
        cmocka_unit_test(a_field_over_its_maximum_is_refused_and_writes_nothing),
        cmocka_unit_test(a_writer_that_is_too_small_is_left_as_it_was),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_change_of_a_single_byte_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
