/* The policy keeps its promises whatever happens, for thousands of seeds under virtual time.
 *
 * Method: a small world performs the policy's actions with delays drawn from the seed: programs
 * run, crash, refuse to die, fail to start; operators stop, restart and kill. After every step the
 * invariants are checked by bookkeeping of the world's own, not the policy's. Then single stories
 * in their exact times. */
#include "supervise/policy.h"

#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const uint64_t ms = 1000000;

/* ---- a world that performs actions ---- */

enum { TASKS = 5, EVENTS = 400, RESTARTS_SEEN = 4096 };

struct incarnation {
    bool live;
    bool runs;
    uint64_t number;
    uint64_t next_at_ns; /* 0: nothing is to happen by itself */
    int step;            /* 0 made, 1 runs, 2 ready, 3 exited, 4 gone */
};

struct world {
    struct policy policy;
    struct policy_task tasks[TASKS];
    uint32_t heap[TASKS];
    struct incarnation now[TASKS];
    uint64_t spawned_at_ns[TASKS][RESTARTS_SEEN];
    bool spawned_by_hand[TASKS][RESTARTS_SEEN];
    size_t spawned_count[TASKS];
    bool by_hand[TASKS]; /* the next spawn follows a request */
    bool fine[TASKS];    /* its program does not crash by itself */
    bool used[TASKS];
    uint64_t now_ns;
    struct random_seeded random;
};

static uint64_t draw(struct world *world, uint64_t bound)
{
    uint64_t value = 0;
    random_below(&world->random.random, bound, &value);
    return value;
}

static void feed(struct world *world, struct policy_event event);

static void check_rate(const struct world *world, uint32_t slot)
{
    const struct policy_spec *spec = &world->tasks[slot].spec;
    size_t count = 0;
    uint64_t since = spec->restarts_period_ms * ms;
    for (size_t i = 0; i < world->spawned_count[slot]; i++) {
        if (world->spawned_by_hand[slot][i]) continue;
        if (world->spawned_at_ns[slot][i] + since > world->now_ns) count++;
    }
    if (count > spec->restarts_limit)
        fail_msg("task %u restarted %zu times in its period of %u ms", slot, count,
                 spec->restarts_period_ms);
}

static void perform(struct world *world, const struct policy_action *action)
{
    struct incarnation *now = &world->now[action->slot];
    switch (action->kind) {
    case POLICY_SPAWN:
        if (now->live)
            fail_msg("incarnation %llu starts while %llu lives",
                     (unsigned long long)action->incarnation, (unsigned long long)now->number);
        assert_true(action->incarnation > now->number);
        *now = (struct incarnation) { .live = true, .number = action->incarnation };
        now->next_at_ns = world->now_ns + 1 + draw(world, 3 * ms);
        assert_true(world->spawned_count[action->slot] < RESTARTS_SEEN);
        size_t at = world->spawned_count[action->slot]++;
        world->spawned_at_ns[action->slot][at] = world->now_ns;
        world->spawned_by_hand[action->slot][at] = world->by_hand[action->slot];
        world->by_hand[action->slot] = false;
        check_rate(world, action->slot);
        break;
    case POLICY_SIGNAL:
        assert_true(now->live);
        if (draw(world, 3) != 0 && now->step < 3) { /* one in three ignores the signal */
            now->step = 2;
            now->next_at_ns = world->now_ns + draw(world, 200 * ms);
        }
        break;
    case POLICY_KILL_TREE:
        assert_true(now->live);
        if (now->step < 3) {
            now->step = 2;
            now->next_at_ns = world->now_ns + draw(world, 5 * ms);
        }
        break;
    case POLICY_REPORT: assert_true(world->tasks[action->slot].reason[0] != 0); break;
    }
}

static void feed(struct world *world, struct policy_event event)
{
    struct policy_actions actions;
    event.now_ns = world->now_ns;
    random_u64(&world->random.random, &event.random);
    policy_step(&world->policy, &event, &actions);
    for (size_t i = 0; i < actions.count; i++) perform(world, &actions.list[i]);
}

/* What the incarnation does by itself next. */
static void advance(struct world *world, uint32_t slot)
{
    struct incarnation *now = &world->now[slot];
    struct policy_event event = { .slot = slot, .incarnation = now->number };
    now->next_at_ns = world->now_ns + 1 + draw(world, 20 * ms);
    switch (now->step++) {
    case 0:
        if (!world->fine[slot] && draw(world, 8) == 0) {
            event.kind = POLICY_EXITED;
            event.exit_kind = SUPERVISE_NOT_STARTED;
            event.text = "no such program";
            now->step = 4;
            feed(world, event);
            now->live = false;
            event.kind = POLICY_GONE;
            break;
        }
        event.kind = POLICY_SPAWNED;
        feed(world, event);
        event.kind = POLICY_PROGRAM_RUNS;
        event.pid = 100;
        break;
    case 1:
        event.kind = POLICY_IS_READY;
        now->next_at_ns = world->fine[slot] ? 0 : world->now_ns + draw(world, 9000 * ms);
        break;
    case 2:
        event.kind = POLICY_EXITED;
        event.exit_kind = (uint8_t)(1 + draw(world, 2));
        event.exit_code = (uint32_t)draw(world, 3);
        break;
    default:
        now->live = false;
        now->next_at_ns = 0;
        event.kind = POLICY_GONE;
        break;
    }
    feed(world, event);
}

static void ask(struct world *world, uint32_t slot)
{
    static const enum policy_event_kind kinds[] = { POLICY_STOP, POLICY_RESTART,   POLICY_RESTART,
                                                    POLICY_KILL, POLICY_NOT_READY, POLICY_ZOMBIE };
    struct policy_event event = { .slot = slot, .incarnation = world->now[slot].number };
    event.kind = kinds[draw(world, sizeof kinds / sizeof *kinds)];
    if (event.kind == POLICY_RESTART) world->by_hand[slot] = true;
    if (event.kind == POLICY_STOP) world->by_hand[slot] = false;
    feed(world, event);
}

/* The earliest thing to happen; a slot, or TASKS for the policy's own deadline. */
static uint32_t next_thing(const struct world *world, uint64_t *ret_at_ns)
{
    uint32_t which = TASKS;
    uint64_t at = policy_next_ns(&world->policy);
    for (uint32_t slot = 0; slot < TASKS; slot++) {
        uint64_t own = world->now[slot].next_at_ns;
        if (world->now[slot].live && own != 0 && own < at) {
            at = own;
            which = slot;
        }
    }
    *ret_at_ns = at;
    return which;
}

static struct policy_spec drawn_spec(struct world *world)
{
    return (struct policy_spec) {
        .first_incarnation = 1 + draw(world, 100),
        .restarts_period_ms = (uint32_t)(100 + draw(world, 30000)),
        .backoff_base_ms = (uint32_t)draw(world, 200),
        .backoff_cap_ms = (uint32_t)(200 + draw(world, 4000)),
        .stable_after_ms = (uint32_t)(100 + draw(world, 5000)),
        .stop_grace_ms = (uint32_t)draw(world, 500),
        .start_timeout_ms = (uint32_t)draw(world, 2) * 1000,
        .restarts_limit = (uint8_t)(1 + draw(world, SUPERVISE_RESTARTS_MAX)),
        .restart = (uint8_t)draw(world, SUPERVISE_RESTART_COUNT),
        .readiness = (uint8_t)draw(world, SUPERVISE_READINESS_COUNT),
        .stop_signal = 15,
    };
}

static void check_liveness(const struct world *world)
{
    uint32_t live = 0;
    for (uint32_t slot = 0; slot < TASKS; slot++) {
        const struct policy_task *task = &world->tasks[slot];
        if (!world->used[slot]) continue;
        live += world->now[slot].live;
        if (task->live != world->now[slot].live) fail_msg("task %u: live differs", slot);
        bool waits = task->next_start_ns != 0;
        if (task->wanted && task->spec.restart == SUPERVISE_PERMANENT && !task->live && !waits)
            fail_msg("permanent task %u neither runs nor has a next start", slot);
        if (task->next_start_ns > world->now_ns + SUPERVISE_PERIOD_MS_MAX * ms)
            fail_msg("task %u waits longer than its period and its cap", slot);
    }
    if (live != world->policy.live_count) fail_msg("live_count differs");
}

static void run_world(uint64_t seed)
{
    static struct world world;
    memset(&world, 0, sizeof world);
    random_seeded_init(&world.random, seed);
    policy_init(&world.policy, world.tasks, world.heap, TASKS);
    world.now_ns = 1000 * ms;
    for (uint32_t slot = 0; slot < TASKS; slot++) {
        struct policy_spec spec = drawn_spec(&world);
        world.fine[slot] = draw(&world, 3) == 0;
        world.used[slot] = world.by_hand[slot] = true;
        feed(&world, (struct policy_event) { .kind = POLICY_WANTED, .slot = slot, .spec = &spec });
    }
    for (int i = 0; i < EVENTS; i++) {
        uint64_t at = 0;
        uint32_t which = next_thing(&world, &at);
        if (draw(&world, 40) == 0 || at == UINT64_MAX) {
            world.now_ns += draw(&world, 50 * ms);
            if (at < world.now_ns) world.now_ns = at; /* never past what is to happen */
            ask(&world, (uint32_t)draw(&world, TASKS));
        } else {
            if (at > world.now_ns) world.now_ns = at;
            if (which == TASKS) {
                feed(&world, (struct policy_event) { .kind = POLICY_TIME });
            } else {
                advance(&world, which);
            }
        }
        check_liveness(&world);
    }
    /* Left alone, every wanted permanent task whose program is fine runs in the end. */
    for (int i = 0; i < 2000; i++) {
        uint64_t at = 0;
        uint32_t which = next_thing(&world, &at);
        if (at == UINT64_MAX || at > world.now_ns + 100000 * ms) break;
        if (at > world.now_ns) world.now_ns = at;
        if (which == TASKS) {
            feed(&world, (struct policy_event) { .kind = POLICY_TIME });
        } else if (world.fine[which] || world.now[which].step >= 2) {
            advance(&world, which);
        } else {
            world.now[which].next_at_ns = 0; /* the others may stand still */
        }
    }
    for (uint32_t slot = 0; slot < TASKS; slot++) {
        const struct policy_task *task = &world.tasks[slot];
        if (!world.fine[slot] || !task->wanted || task->spec.restart != SUPERVISE_PERMANENT)
            continue;
        if (!policy_is_up(task) && task->state != SUPERVISE_RUNNING)
            fail_msg("seed %llu: fine permanent task %u is %s: %s", (unsigned long long)seed, slot,
                     supervise_state_name(task->state), task->reason);
    }
}

static void promises_hold_for_every_seed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3000; seed++) run_world(seed);
}

/* ---- single stories ---- */

static struct policy_task story_tasks[1];
static uint32_t story_heap[1];
static struct policy story;
static struct policy_actions did;

static void story_event(enum policy_event_kind kind, uint64_t at_ms, uint8_t exit_kind,
                        uint32_t exit_code)
{
    struct policy_event event = { .kind = kind,
                                  .now_ns = at_ms * ms,
                                  .incarnation = story_tasks[0].incarnation,
                                  .random = UINT64_MAX - 1,
                                  .pid = 7,
                                  .exit_kind = exit_kind,
                                  .exit_code = exit_code };
    policy_step(&story, &event, &did);
}

static struct policy_spec story_spec(void)
{
    return (struct policy_spec) { .first_incarnation = 1,
                                  .restarts_period_ms = 60000,
                                  .backoff_base_ms = 100,
                                  .backoff_cap_ms = 1000,
                                  .stable_after_ms = 5000,
                                  .stop_grace_ms = 2000,
                                  .restarts_limit = 3,
                                  .stop_signal = 15 };
}

static void story_begin(struct policy_spec spec)
{
    memset(story_tasks, 0, sizeof story_tasks);
    policy_init(&story, story_tasks, story_heap, 1);
    struct policy_event event = { .kind = POLICY_WANTED, .now_ns = 1000 * ms, .spec = &spec };
    policy_step(&story, &event, &did);
}

static bool did_action(enum policy_action_kind kind)
{
    for (size_t i = 0; i < did.count; i++) {
        if (did.list[i].kind == kind) return true;
    }
    return false;
}

static void story_crash(uint64_t at_ms, uint64_t ran_ms)
{
    story_event(POLICY_SPAWNED, at_ms, 0, 0);
    story_event(POLICY_PROGRAM_RUNS, at_ms, 0, 0);
    story_event(POLICY_EXITED, at_ms + ran_ms, SUPERVISE_EXITED, 3);
    assert_true(did_action(POLICY_KILL_TREE));
    assert_false(did_action(POLICY_SPAWN)); /* the rest of it is not gone yet */
    story_event(POLICY_GONE, at_ms + ran_ms, 0, 0);
}

static void a_crash_loop_is_restarted_then_backs_off_then_is_held(void **state)
{
    (void)state;
    story_begin(story_spec());
    assert_true(did_action(POLICY_SPAWN));
    story_crash(1000, 10);
    assert_true(did_action(POLICY_SPAWN)); /* the first restart at once: 1010 */
    story_crash(1010, 10);
    assert_int_equal(story_tasks[0].state, SUPERVISE_BACKOFF);
    assert_non_null(strstr(story_tasks[0].reason, "exited with status 3 after 0.010 s"));
    uint64_t wait = story_tasks[0].next_start_ns - 1020 * ms;
    assert_true(wait <= 100 * ms);
    story_event(POLICY_TIME, 1200, 0, 0);
    assert_true(did_action(POLICY_SPAWN));
    story_crash(1200, 10);
    story_event(POLICY_TIME, 2000, 0, 0);
    assert_true(did_action(POLICY_SPAWN));
    story_crash(2000, 10);
    /* Three restarts since 1010: held until the first of them leaves the period. */
    assert_int_equal(story_tasks[0].state, SUPERVISE_HELD);
    assert_true(story_tasks[0].next_start_ns == (1010 + 60000) * ms);
    assert_non_null(strstr(story_tasks[0].reason, "restarted 3 times in 60.000 s"));
    assert_true(policy_next_ns(&story) == (1010 + 60000) * ms);
    story_event(POLICY_TIME, 61009, 0, 0);
    assert_false(did_action(POLICY_SPAWN));
    story_event(POLICY_TIME, 61010, 0, 0);
    assert_true(did_action(POLICY_SPAWN));
}

static void a_stable_run_resets_the_backoff(void **state)
{
    (void)state;
    struct policy_spec spec = story_spec();
    spec.restarts_limit = SUPERVISE_RESTARTS_MAX;
    story_begin(spec);
    uint64_t at = 1000;
    for (int i = 0; i < 5; i++) {
        story_crash(at, 10);
        at += 2000;
        if (!did_action(POLICY_SPAWN)) story_event(POLICY_TIME, at, 0, 0);
        assert_true(did_action(POLICY_SPAWN));
    }
    assert_int_equal(story_tasks[0].failures, 5);
    story_crash(at, 5000);
    assert_true(did_action(POLICY_SPAWN)); /* at once again */
    assert_int_equal(story_tasks[0].failures, 1);
}

static void a_stop_signals_first_and_kills_after_the_grace_time(void **state)
{
    (void)state;
    story_begin(story_spec());
    story_event(POLICY_SPAWNED, 1000, 0, 0);
    story_event(POLICY_PROGRAM_RUNS, 1001, 0, 0);
    story_event(POLICY_STOP, 2000, 0, 0);
    assert_true(did_action(POLICY_SIGNAL));
    assert_false(did_action(POLICY_KILL_TREE));
    story_event(POLICY_TIME, 3999, 0, 0);
    assert_false(did_action(POLICY_KILL_TREE));
    story_event(POLICY_TIME, 4000, 0, 0);
    assert_true(did_action(POLICY_KILL_TREE));
    story_event(POLICY_TIME, 5000, 0, 0); /* not gone: once more */
    assert_true(did_action(POLICY_KILL_TREE));
    story_event(POLICY_EXITED, 5001, SUPERVISE_SIGNALED, 9);
    story_event(POLICY_GONE, 5001, 0, 0);
    assert_false(did_action(POLICY_SPAWN));
    assert_int_equal(story_tasks[0].state, SUPERVISE_STOPPED);
    assert_true(policy_may_drop(&story_tasks[0]));
    story_event(POLICY_DROP, 5002, 0, 0);
    assert_int_equal(story.task_count, 0);
}

/* The program runs before we are told that it does: a stop in between is no reason to kill it. */
static void a_stop_before_the_program_is_known_to_run_waits_for_it_to_signal(void **state)
{
    (void)state;
    story_begin(story_spec());
    story_event(POLICY_SPAWNED, 1000, 0, 0);
    story_event(POLICY_STOP, 1001, 0, 0);
    assert_false(did_action(POLICY_SIGNAL));
    assert_false(did_action(POLICY_KILL_TREE));
    story_event(POLICY_PROGRAM_RUNS, 1002, 0, 0);
    assert_true(did_action(POLICY_SIGNAL));
    assert_false(did_action(POLICY_KILL_TREE));
    story_event(POLICY_TIME, 3000, 0, 0);
    assert_false(did_action(POLICY_KILL_TREE));
    story_event(POLICY_TIME, 3001, 0, 0);
    assert_true(did_action(POLICY_KILL_TREE));
}

static void a_transient_task_that_ends_well_is_done(void **state)
{
    (void)state;
    struct policy_spec spec = story_spec();
    spec.restart = SUPERVISE_TRANSIENT;
    story_begin(spec);
    story_event(POLICY_PROGRAM_RUNS, 1001, 0, 0);
    story_event(POLICY_EXITED, 1100, SUPERVISE_EXITED, 0);
    story_event(POLICY_GONE, 1100, 0, 0);
    assert_int_equal(story_tasks[0].state, SUPERVISE_DONE);
    assert_true(policy_next_ns(&story) == UINT64_MAX);
}

static void a_task_that_is_not_ready_in_time_is_killed_and_restarted(void **state)
{
    (void)state;
    struct policy_spec spec = story_spec();
    spec.readiness = SUPERVISE_READINESS_NOTIFY;
    spec.start_timeout_ms = 500;
    story_begin(spec);
    story_event(POLICY_PROGRAM_RUNS, 1001, 0, 0);
    assert_false(policy_is_up(&story_tasks[0]));
    story_event(POLICY_TIME, 1500, 0, 0);
    assert_true(did_action(POLICY_KILL_TREE));
    assert_non_null(strstr(story_tasks[0].reason, "not ready within 0.500 s"));
    story_event(POLICY_EXITED, 1501, SUPERVISE_SIGNALED, 9);
    story_event(POLICY_GONE, 1501, 0, 0);
    assert_true(did_action(POLICY_SPAWN));
}

static void a_lost_lease_kills_and_only_a_renewal_starts_again(void **state)
{
    (void)state;
    struct policy_spec spec = story_spec();
    spec.exclusive = true;
    spec.lease_until_ns = 3000 * ms;
    story_begin(spec);
    story_event(POLICY_PROGRAM_RUNS, 1001, 0, 0);
    assert_true(policy_next_ns(&story) == 3000 * ms);
    story_event(POLICY_TIME, 3000, 0, 0);
    assert_true(did_action(POLICY_KILL_TREE));
    story_event(POLICY_EXITED, 3001, SUPERVISE_SIGNALED, 9);
    story_event(POLICY_GONE, 3001, 0, 0);
    assert_false(did_action(POLICY_SPAWN));
    assert_int_equal(story_tasks[0].state, SUPERVISE_HELD);
    story_event(POLICY_RESTART, 3002, 0, 0);
    assert_false(did_action(POLICY_SPAWN));
    struct policy_event renew = { .kind = POLICY_LEASE,
                                  .now_ns = 4000 * ms,
                                  .lease_until_ns = 9000 * ms };
    policy_step(&story, &renew, &did);
    assert_true(did_action(POLICY_SPAWN));
}

static void words_of_an_old_incarnation_are_ignored(void **state)
{
    (void)state;
    story_begin(story_spec());
    story_crash(1000, 10);
    assert_int_equal(story_tasks[0].incarnation, 2);
    struct policy_event late = { .kind = POLICY_GONE, .incarnation = 1, .now_ns = 1020 * ms };
    policy_step(&story, &late, &did);
    assert_int_equal(did.count, 0);
    assert_true(story_tasks[0].live);
}

static void a_saved_task_comes_back_whole_and_every_truncation_is_refused(void **state)
{
    (void)state;
    story_begin(story_spec());
    story_crash(1000, 10);
    story_crash(1010, 10);
    uint8_t memory[POLICY_TASK_BYTES_MAX];
    struct writer writer = writer_of(memory, sizeof memory);
    policy_save(&story, 0, &writer);
    assert_false(writer.failed);
    for (size_t size = 0; size <= writer.used; size++) {
        struct policy_task tasks[1] = { 0 };
        uint32_t heap[1];
        struct policy again;
        policy_init(&again, tasks, heap, 1);
        struct reader reader = reader_of(memory, size);
        enum status status = policy_load(&again, 0, &reader);
        assert_int_equal(status, size < writer.used ? STATUS_CORRUPT : STATUS_OK);
        if (status != STATUS_OK) continue;
        assert_true(policy_next_ns(&again) == policy_next_ns(&story));
        assert_string_equal(tasks[0].reason, story_tasks[0].reason);
        uint8_t second[POLICY_TASK_BYTES_MAX];
        struct writer rewritten = writer_of(second, sizeof second);
        policy_save(&again, 0, &rewritten);
        assert_int_equal(rewritten.used, writer.used);
        assert_memory_equal(second, memory, writer.used);
    }
}

static void ten_thousand_deadlines_come_in_order(void **state)
{
    (void)state;
    enum { MANY = 10000 };
    struct policy policy;
    struct policy_task *tasks = calloc(MANY, sizeof *tasks);
    uint32_t *heap = calloc(MANY, sizeof *heap);
    policy_init(&policy, tasks, heap, MANY);
    struct random_seeded random;
    random_seeded_init(&random, 5);
    for (uint32_t slot = 0; slot < MANY; slot++) {
        struct policy_spec spec = story_spec();
        uint64_t timeout = 0;
        random_below(&random.random, 60000, &timeout);
        spec.start_timeout_ms = (uint32_t)(1 + timeout);
        spec.readiness = SUPERVISE_READINESS_NOTIFY;
        struct policy_event event = {
            .kind = POLICY_WANTED, .slot = slot, .now_ns = 1, .spec = &spec
        };
        policy_step(&policy, &event, &did);
    }
    uint64_t last = 0;
    for (int i = 0; i < MANY; i++) {
        uint64_t at = policy_next_ns(&policy);
        assert_true(at >= last);
        last = at;
        struct policy_event event = { .kind = POLICY_TIME, .now_ns = at };
        policy_step(&policy, &event, &did);
        assert_true(did.count > 0);
        event = (struct policy_event) {
            .kind = POLICY_GONE, .slot = did.list[0].slot, .incarnation = 1, .now_ns = at
        };
        policy.tasks[event.slot].wanted = false;
        policy_step(&policy, &event, &did);
    }
    assert_true(policy_next_ns(&policy) == UINT64_MAX);
    assert_int_equal(policy.live_count, 0);
    free(tasks);
    free(heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(promises_hold_for_every_seed),
        cmocka_unit_test(a_crash_loop_is_restarted_then_backs_off_then_is_held),
        cmocka_unit_test(a_stable_run_resets_the_backoff),
        cmocka_unit_test(a_stop_signals_first_and_kills_after_the_grace_time),
        cmocka_unit_test(a_stop_before_the_program_is_known_to_run_waits_for_it_to_signal),
        cmocka_unit_test(a_transient_task_that_ends_well_is_done),
        cmocka_unit_test(a_task_that_is_not_ready_in_time_is_killed_and_restarted),
        cmocka_unit_test(a_lost_lease_kills_and_only_a_renewal_starts_again),
        cmocka_unit_test(words_of_an_old_incarnation_are_ignored),
        cmocka_unit_test(a_saved_task_comes_back_whole_and_every_truncation_is_refused),
        cmocka_unit_test(ten_thousand_deadlines_come_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
