/* Fibers, scopes, conditions and timers keep their word, and the simulation is the same twice.
 *
 * Method: every test is a small program run under virtual time; what it did is written down as
 * text, in order, and compared with what must have happened. */
#include "reactor/reactor.h"
#include "reactor/sanitizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t MS = 1000000;

struct world {
    struct scope *root;
    struct scope inner;
    struct condition condition;
    unsigned count;
    char story[1024];
};

static void tell(struct world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void tell(struct world *world, const char *format, ...)
{
    size_t used = strlen(world->story);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(world->story + used, sizeof world->story - used, format, arguments);
    va_end(arguments);
}

static uint64_t now_ms(void)
{
    uint64_t now_ns;
    clock_monotonic_ns(reactor_clock(fiber_reactor()), &now_ns);
    return now_ns / MS;
}

/* Runs MAIN in a fresh world of a minute; returns what reactor_run said. */
static enum status simulate(struct world *world, uint64_t seed,
                            void (*main)(struct scope *, void *), uint64_t *ret_hash)
{
    struct reactor *reactor;
    struct reactor_simulation_options options = { .seed = seed, .end_ns = 60000ULL * MS };
    *world = (struct world) { 0 };
    assert_int_equal(reactor_create_simulation(&options, &reactor), STATUS_OK);
    assert_string_equal(reactor_backend_name(reactor), "simulation");
    enum status status = reactor_run(reactor, main, world);
    if (ret_hash != NULL) *ret_hash = reactor_trace_hash(reactor);
    if (status == STATUS_INTERNAL) tell(world, "%s", reactor_failure(reactor));
    reactor_destroy(reactor);
    return status;
}

static void spawn(struct scope *scope, void (*function)(void *), void *argument)
{
    assert_int_equal(scope_spawn(scope, "test", function, argument), STATUS_OK);
}

/* --- order ---
 */

static void yielder(void *argument)
{
    struct world *world = argument;
    unsigned number = world->count++;
    for (int i = 0; i < 3; i++) {
        tell(world, "%u", number);
        assert_int_equal(fiber_yield(), STATUS_OK);
    }
}

static void order_main(struct scope *root, void *context)
{
    for (int i = 0; i < 3; i++) spawn(root, yielder, context);
    tell(context, "main ");
}

static void fibers_run_first_in_first_out(void **state)
{
    (void)state;
    struct world world;
    assert_int_equal(simulate(&world, 1, order_main, NULL), STATUS_OK);
    assert_string_equal(world.story, "main 012012012");
}

static void sleeper(void *argument)
{
    struct world *world = argument;
    static const uint64_t times[] = { 30, 10, 20, 10, 5 };
    unsigned number = world->count++;
    assert_int_equal(fiber_sleep_ns(times[number] * MS), STATUS_OK);
    tell(world, "%u@%u ", number, (unsigned)now_ms());
}

static void timers_main(struct scope *root, void *context)
{
    for (int i = 0; i < 5; i++) spawn(root, sleeper, context);
}

static void timers_fire_by_deadline_then_by_the_order_they_were_set(void **state)
{
    (void)state;
    struct world world;
    assert_int_equal(simulate(&world, 1, timers_main, NULL), STATUS_OK);
    assert_string_equal(world.story, "4@5 1@10 3@10 2@20 0@30 ");
}

/* --- scopes ---
 */

static void ender(void *argument)
{
    struct world *world = argument;
    unsigned number = ++world->count;
    assert_int_equal(fiber_sleep_ns(number * 10ULL * MS), STATUS_OK);
    tell(world, "ended %u, ", number);
}

static void nested_owner(void *argument)
{
    struct world *world = argument;
    struct scope own;
    scope_init(&own, fiber_scope());
    spawn(&own, ender, world);
    spawn(&own, ender, world);
    scope_join(&own);
    tell(world, "inner joined, ");
}

static void join_main(struct scope *root, void *context)
{
    struct world *world = context;
    scope_init(&world->inner, root);
    spawn(&world->inner, nested_owner, world);
    spawn(&world->inner, ender, world);
    scope_join(&world->inner);
    tell(world, "joined at %u", (unsigned)now_ms());
    scope_join(&world->inner); /* again: nothing */
    assert_int_equal(scope_spawn(&world->inner, "late", ender, world), STATUS_CANCELLED);
}

static void a_scope_ends_only_when_all_its_fibers_did(void **state)
{
    (void)state;
    struct world world;
    assert_int_equal(simulate(&world, 1, join_main, NULL), STATUS_OK);
    assert_string_equal(world.story, "ended 1, ended 2, ended 3, inner joined, joined at 30");
}

/* Each of these waits in another call, and says what it got, twice. */
static void waits_in_sleep(void *argument)
{
    struct world *world = argument;
    enum status first = fiber_sleep_ns(50000ULL * MS);
    enum status second = fiber_yield();
    tell(world, "sleep %s %s, ", status_name(first), status_name(second));
}

static void waits_in_condition(void *argument)
{
    struct world *world = argument;
    enum status first = condition_wait(&world->condition, DEADLINE_NEVER);
    enum status second = condition_wait(&world->condition, DEADLINE_NEVER);
    tell(world, "condition %s %s, ", status_name(first), status_name(second));
}

static void waits_in_join(void *argument)
{
    struct world *world = argument;
    struct scope own;
    scope_init(&own, fiber_scope());
    spawn(&own, waits_in_sleep, world);
    spawn(&own, waits_in_condition, world);
    scope_join(&own);
    tell(world, "join %s, ", fiber_cancelled() ? "cancelled" : "not cancelled");
}

static void waits_shielded(void *argument)
{
    struct world *world = argument;
    fiber_shield();
    fiber_shield();
    enum status shielded = fiber_sleep_ns(100 * MS);
    fiber_unshield();
    enum status still_shielded = fiber_sleep_ns(100 * MS);
    fiber_unshield();
    enum status open = fiber_sleep_ns(100 * MS);
    tell(world, "shield %s %s %s at %u, ", status_name(shielded), status_name(still_shielded),
         status_name(open), (unsigned)now_ms());
}

static void cancel_main(struct scope *root, void *context)
{
    struct world *world = context;
    condition_init(&world->condition);
    scope_init(&world->inner, root);
    spawn(&world->inner, waits_in_join, world);
    spawn(&world->inner, waits_in_sleep, world);
    spawn(&world->inner, waits_in_condition, world);
    spawn(&world->inner, waits_shielded, world);
    assert_int_equal(fiber_sleep_ns(10 * MS), STATUS_OK);
    scope_cancel(&world->inner);
    scope_cancel(&world->inner);
    struct scope below; /* a child of a cancelled scope is born cancelled */
    scope_init(&below, &world->inner);
    assert_int_equal(scope_spawn(&below, "late", waits_in_sleep, world), STATUS_CANCELLED);
    scope_join(&below);
    scope_join(&world->inner);
    tell(world, "all ended at %u", (unsigned)now_ms());
}

static void cancellation_reaches_nested_scopes_and_every_wait(void **state)
{
    (void)state;
    struct world world;
    assert_int_equal(simulate(&world, 1, cancel_main, NULL), STATUS_OK);
    assert_string_equal(world.story,
                        "sleep cancelled cancelled, condition cancelled cancelled, "
                        "sleep cancelled cancelled, condition cancelled cancelled, "
                        "join cancelled, shield ok ok cancelled at 200, all ended at 200");
}

/* --- conditions ---
 */

static void waiter(void *argument)
{
    struct world *world = argument;
    unsigned number = world->count++;
    uint64_t now_ns;
    clock_monotonic_ns(reactor_clock(fiber_reactor()), &now_ns);
    uint64_t deadline_ns = number == 1 ? now_ns + 5 * MS : DEADLINE_NEVER;
    enum status status = condition_wait(&world->condition, deadline_ns);
    tell(world, "%u:%s ", number, status_name(status));
}

static void condition_main(struct scope *root, void *context)
{
    struct world *world = context;
    condition_init(&world->condition);
    condition_signal(&world->condition); /* nobody waits: nothing is kept */
    for (int i = 0; i < 5; i++) spawn(root, waiter, context);
    assert_int_equal(fiber_sleep_ns(10 * MS), STATUS_OK);
    condition_signal(&world->condition);
    assert_int_equal(fiber_yield(), STATUS_OK);
    tell(world, "| ");
    condition_broadcast(&world->condition);
    assert_int_equal(condition_wait(&world->condition, 1), STATUS_TIMEOUT);
}

static void a_condition_wakes_its_waiters_in_order_of_arrival(void **state)
{
    (void)state;
    struct world world;
    assert_int_equal(simulate(&world, 1, condition_main, NULL), STATUS_OK);
    assert_string_equal(world.story, "1:timeout 0:ok | 2:ok 3:ok 4:ok ");
}

/* --- stacks ---
 */

static void deep(void *argument)
{
    struct world *world = argument;
    volatile size_t large_bytes = 524288; /* far beyond a fiber's stack */
    volatile char *large = __builtin_alloca(large_bytes);
    for (size_t i = 0; i < large_bytes; i += 1024) large[i] = (char)i;
    assert_false(fiber_may_wait());
    fiber_call_large_stack((void (*)(void *))condition_init, &world->condition); /* nests */
    tell(world, "deep %d", large[1024]);
}

static void large_main(struct scope *root, void *context)
{
    (void)root;
    assert_true(fiber_may_wait());
    fiber_call_large_stack(deep, context);
    assert_true(fiber_may_wait());
}

static void a_large_stack_is_there_for_the_asking(void **state)
{
    (void)state;
    struct world world;
    assert_int_equal(simulate(&world, 1, large_main, NULL), STATUS_OK);
    assert_string_equal(world.story, "deep 0");
}

static void nothing(void *argument)
{
    struct world *world = argument;
    world->count++;
}

static void many_main(struct scope *root, void *context)
{
    struct world *world = context;
    for (int round = 0; round < 3; round++) {
        scope_init(&world->inner, root);
        unsigned spawned = 0;
        while (scope_spawn(&world->inner, "many", nothing, world) == STATUS_OK) spawned++;
        assert_int_equal(spawned, FIBER_COUNT_MAX - 1); /* this fiber is one */
        scope_join(&world->inner);
    }
    tell(world, "%u", world->count / (FIBER_COUNT_MAX - 1));
}

static void more_fibers_than_the_maximum_are_refused(void **state)
{
    (void)state;
    if (REACTOR_TSAN) {
        print_message("skipped: ThreadSanitizer has no room for 16384 stacks\n");
        skip();
    }
    struct world world;
    assert_int_equal(simulate(&world, 1, many_main, NULL), STATUS_OK);
    assert_string_equal(world.story, "3");
}

/* --- the simulation itself ---
 */

static void wanderer(void *argument)
{
    struct world *world = argument;
    for (int i = 0; i < 20; i++) {
        uint64_t pause_ns;
        random_below(reactor_random(fiber_reactor()), 10 * MS, &pause_ns);
        assert_int_equal(fiber_sleep_ns(pause_ns), STATUS_OK);
        if (pause_ns % 2 == 0)
            condition_signal(&world->condition);
        else if (condition_wait(&world->condition, 100 * MS) == STATUS_OK)
            world->count++;
    }
}

static void wander_main(struct scope *root, void *context)
{
    struct world *world = context;
    condition_init(&world->condition);
    for (int i = 0; i < 10; i++) spawn(root, wanderer, context);
}

static void the_same_seed_gives_the_same_trace_hash_and_another_seed_another(void **state)
{
    (void)state;
    struct world world;
    uint64_t first, again, other;
    assert_int_equal(simulate(&world, 7, wander_main, &first), STATUS_OK);
    assert_int_equal(simulate(&world, 7, wander_main, &again), STATUS_OK);
    assert_int_equal(simulate(&world, 8, wander_main, &other), STATUS_OK);
    assert_true(first == again);
    assert_true(first != other);
}

static void endless(void *argument)
{
    struct world *world = argument;
    while (fiber_sleep_ns(1000 * MS) == STATUS_OK) world->count++;
    tell(world, "%u seconds, cancelled at %u ms", world->count, (unsigned)now_ms());
}

static void endless_main(struct scope *root, void *context)
{
    spawn(root, endless, context);
}

static void the_end_of_time_cancels_the_root_scope(void **state)
{
    (void)state;
    struct world world;
    assert_int_equal(simulate(&world, 1, endless_main, NULL), STATUS_TIMEOUT);
    assert_string_equal(world.story, "60 seconds, cancelled at 60000 ms");
}

static void stuck_main(struct scope *root, void *context)
{
    (void)root;
    struct world *world = context;
    condition_init(&world->condition);
    fiber_shield();
    assert_int_equal(condition_wait(&world->condition, DEADLINE_NEVER), STATUS_OK);
    fiber_unshield();
}

static void a_deadlock_is_reported_with_the_names_of_the_fibers(void **state)
{
    (void)state;
    struct world world;
    assert_int_equal(simulate(&world, 1, stuck_main, NULL), STATUS_INTERNAL);
    assert_string_equal(world.story, "deadlock, nothing will wake the fibers: main");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fibers_run_first_in_first_out),
        cmocka_unit_test(timers_fire_by_deadline_then_by_the_order_they_were_set),
        cmocka_unit_test(a_scope_ends_only_when_all_its_fibers_did),
        cmocka_unit_test(cancellation_reaches_nested_scopes_and_every_wait),
        cmocka_unit_test(a_condition_wakes_its_waiters_in_order_of_arrival),
        cmocka_unit_test(a_large_stack_is_there_for_the_asking),
        cmocka_unit_test(more_fibers_than_the_maximum_are_refused),
        cmocka_unit_test(the_same_seed_gives_the_same_trace_hash_and_another_seed_another),
        cmocka_unit_test(the_end_of_time_cancels_the_root_scope),
        cmocka_unit_test(a_deadlock_is_reported_with_the_names_of_the_fibers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
