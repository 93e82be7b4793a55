/* Whole computers hold their promises under a few seeds, and a seed is the same world every time.
 *
 * Method: worlds with all their faults, each judged by its checkers; one of them twice. The long
 * run is `make sim`, the proof that the checkers see is `make sim-mutants`. */
#include "sim/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { SHORT_SECONDS = 30 };
static const uint64_t SEEDS = 8;

static void worlds_keep_every_promise_under_their_faults(void **state)
{
    (void)state;
    struct world_result sum = { 0 };
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world_options options = { .seed = seed };
        struct world_result result;
        world_run(&options, &result);
        if (result.failed) fail_msg("seed %u: %s", (unsigned)seed, result.failure);
        sum.crashes += result.crashes;
        sum.power_losses += result.power_losses;
        sum.operations += result.operations;
        sum.watch_events += result.watch_events;
        sum.leases += result.leases;
        sum.tasks_restarted += result.tasks_restarted;
    }
    /* A world in which nothing happens proves nothing. */
    assert_true(sum.crashes > SEEDS && sum.power_losses > SEEDS);
    assert_true(sum.operations > 100 * SEEDS && sum.watch_events > 100 * SEEDS);
    assert_true(sum.leases > 2 * SEEDS && sum.tasks_restarted > 10 * SEEDS);
}

static void a_seed_is_the_same_world_every_time_and_another_seed_another_world(void **state)
{
    (void)state;
    struct world_options options = { .seed = 77, .virtual_seconds = SHORT_SECONDS };
    struct world_result first, second, other;
    world_run(&options, &first);
    world_run(&options, &second);
    options.seed = 78;
    world_run(&options, &other);
    assert_false(first.failed);
    assert_int_equal(first.trace_hash, second.trace_hash);
    assert_int_equal(first.virtual_ns, second.virtual_ns);
    assert_int_equal(first.operations, second.operations);
    assert_int_not_equal(first.trace_hash, other.trace_hash);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worlds_keep_every_promise_under_their_faults),
        cmocka_unit_test(a_seed_is_the_same_world_every_time_and_another_seed_another_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
