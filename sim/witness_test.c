/* The witness sees what must never happen to a group's entries.
 *
 * Method: right and wrong sequences of applied entries, told to it one after the other. */
#include "sim/witness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static enum status tell(struct witness *witness, uint64_t index, uint64_t hash, uint64_t time_ms)
{
    struct error error;
    return witness_applied(witness, 7, index, hash, time_ms, &error);
}

static struct witness *witness_of_three_entries(void)
{
    struct witness *witness;
    assert_int_equal(witness_create(&witness), STATUS_OK);
    assert_int_equal(tell(witness, 1, 10, 100), STATUS_OK);
    assert_int_equal(tell(witness, 2, 20, 100), STATUS_OK);
    assert_int_equal(tell(witness, 3, 30, 150), STATUS_OK);
    return witness;
}

static void entries_applied_again_with_the_same_hash_are_fine(void **state)
{
    (void)state;
    struct witness *witness = witness_of_three_entries();
    witness_restarted(witness);
    assert_int_equal(tell(witness, 2, 20, 100), STATUS_OK);
    assert_int_equal(tell(witness, 3, 30, 150), STATUS_OK);
    assert_int_equal(tell(witness, 4, 40, 150), STATUS_OK);
    witness_restarted(witness);
    assert_int_equal(tell(witness, 5, 50, 151), STATUS_OK); /* all was persisted */
    witness_destroy(witness);
}

static void another_hash_or_time_for_an_entry_is_seen(void **state)
{
    (void)state;
    struct witness *witness = witness_of_three_entries();
    witness_restarted(witness);
    assert_int_equal(tell(witness, 3, 31, 150), STATUS_CONFLICT);
    witness_restarted(witness);
    assert_int_equal(tell(witness, 3, 30, 149), STATUS_CONFLICT);
    witness_destroy(witness);
}

static void a_lost_or_repeated_entry_is_seen(void **state)
{
    (void)state;
    struct witness *witness = witness_of_three_entries();
    assert_int_equal(tell(witness, 5, 50, 150), STATUS_CONFLICT);
    assert_int_equal(tell(witness, 3, 30, 150), STATUS_CONFLICT); /* twice within one life */
    witness_restarted(witness);
    assert_int_equal(tell(witness, 5, 50, 150), STATUS_CONFLICT);
    witness_destroy(witness);
}

static void computer_time_that_goes_back_is_seen(void **state)
{
    (void)state;
    struct witness *witness = witness_of_three_entries();
    assert_int_equal(tell(witness, 4, 40, 149), STATUS_CONFLICT);
    witness_destroy(witness);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_applied_again_with_the_same_hash_are_fine),
        cmocka_unit_test(another_hash_or_time_for_an_entry_is_seen),
        cmocka_unit_test(a_lost_or_repeated_entry_is_seen),
        cmocka_unit_test(computer_time_that_goes_back_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
