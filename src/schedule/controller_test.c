/* What runs becomes what is asked for, in bounded steps, and never against the promises.
 *
 * Method: a small world stands for unum-init: it obeys commands after random delays, crashes and
 * finishes tasks, refuses starts, loses its link and forgets everything. After every performed
 * action the promises are checked against the world itself (one task of a name, the machine's
 * capacity, ports, rising incarnations); when changes end, the world must come to rest as asked.
 * The first tests are short stories with exact actions; the last runs seeds
 * (UNUM_SEEDS, or more of them with UNUM_TEST_SCOPE=full). */
#include "schedule/controller.h"

#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

enum { WORLD_TASKS_MAX = 4000, WORLD_JOBS_MAX = 12, HISTORY_MAX = 20000 };

struct world_task {
    struct controller_task task;
    unsigned delay; /* steps until it goes on */
    bool told_to_stop;
};

struct world {
    struct controller *controller;
    struct random_seeded random;
    struct controller_job jobs[WORLD_JOBS_MAX];
    char names[WORLD_JOBS_MAX][32];
    size_t job_count;
    struct world_task tasks[WORLD_TASKS_MAX];
    size_t task_count;
    struct controller_task seen[WORLD_TASKS_MAX]; /* the snapshot; may lag behind */
    size_t seen_count;
    struct controller_input input;
    struct controller_output output;
    uint64_t revision;
    unsigned delay_max;
    unsigned refuse_percent;
    uint64_t actions; /* performed in all */
    /* The highest incarnation of each id ever. */
    struct {
        struct id id;
        uint64_t incarnation;
    } history[HISTORY_MAX];
    size_t history_count;
};

static uint64_t below(struct world *world, uint64_t bound)
{
    uint64_t value;
    random_below(&world->random.random, bound, &value);
    return value;
}

static struct world *world_create(uint64_t seed)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    assert_int_equal(controller_create(&world->controller), STATUS_OK);
    random_seeded_init(&world->random, seed);
    world->input = (struct controller_input) {
        .complete = true,
        .session = 1,
        .epoch = 1,
        .retry = 1,
        .cpu_milli = 2000,
        .memory_bytes = 4ULL << 30,
        .tasks_max = CONTROLLER_TASKS_MAX,
        .jobs = world->jobs,
        .tasks = world->seen,
    };
    memset(world->input.computer.bytes, 7, ID_BYTES);
    return world;
}

static void world_destroy(struct world *world)
{
    controller_destroy(world->controller);
    free(world);
}

static size_t add_job(struct world *world, const char *name, uint32_t count, uint64_t cpu_milli)
{
    size_t at = world->job_count++;
    (void)snprintf(world->names[at], sizeof world->names[at], "%s", name);
    world->jobs[at] = (struct controller_job) {
        .project = "default",
        .name = world->names[at],
        .create_revision = ++world->revision,
        .task_generation = 1,
        .count = count,
        .cpu_milli = cpu_milli,
        .memory_bytes = 1 << 20,
    };
    return at;
}

static struct world_task *find_task(struct world *world, const struct id *id)
{
    for (size_t i = 0; i < world->task_count; i++)
        if (id_equal(&world->tasks[i].task.id, id)) return &world->tasks[i];
    return NULL;
}

static bool is_ended(const struct world_task *task)
{
    return task->task.state == CONTROLLER_STOPPED || task->task.state == CONTROLLER_FINISHED;
}

static void check_promises(struct world *world)
{
    uint64_t cpu = 0, memory = 0;
    static uint8_t ports[65536];
    memset(ports, 0, sizeof ports);
    for (size_t i = 0; i < world->task_count; i++) {
        const struct world_task *a = &world->tasks[i];
        if (is_ended(a)) continue;
        cpu += a->task.cpu_milli;
        memory += a->task.memory_bytes;
        for (size_t k = 0; k < a->task.port_count; k++) {
            assert_int_equal(ports[a->task.ports[k]], 0); /* a port has one holder */
            ports[a->task.ports[k]] = 1;
        }
        for (size_t k = 0; world->task_count < 300 && k < i; k++) {
            const struct world_task *b = &world->tasks[k];
            bool same = a->task.index == b->task.index && !is_ended(b) &&
                        strcmp(a->task.job, b->task.job) == 0;
            assert_false(same); /* one task of a name */
        }
    }
    assert_true(cpu <= world->input.cpu_milli);
    assert_true(memory <= world->input.memory_bytes);
}

static void check_incarnation_rises(struct world *world, const struct id *id, uint64_t incarnation,
                                    bool strictly)
{
    for (size_t i = 0; i < world->history_count; i++) {
        if (!id_equal(&world->history[i].id, id)) continue;
        if (strictly) assert_true(incarnation > world->history[i].incarnation);
        world->history[i].incarnation = incarnation;
        return;
    }
    if (world->history_count == HISTORY_MAX) return;
    world->history[world->history_count].id = *id;
    world->history[world->history_count++].incarnation = incarnation;
}

static void perform_start(struct world *world, const struct controller_action *action)
{
    const struct controller_job *job = &world->jobs[action->job];
    assert_null(find_task(world, &action->task)); /* never the same task twice */
    assert_true(controller_generation_of(action->incarnation) == job->task_generation);
    if (world->task_count < 1000)
        check_incarnation_rises(world, &action->task, action->incarnation, true);
    assert_true(world->task_count < WORLD_TASKS_MAX);
    struct world_task *task = &world->tasks[world->task_count++];
    *task = (struct world_task) {
        .task = { .id = action->task,
                  .incarnation = action->incarnation,
                  .index = action->index,
                  .state = CONTROLLER_STARTING,
                  .holdings_known = true,
                  .cpu_milli = job->cpu_milli,
                  .memory_bytes = job->memory_bytes },
        .delay = (unsigned)below(world, world->delay_max + 1),
    };
    (void)snprintf(task->task.project, sizeof task->task.project, "%s", job->project);
    (void)snprintf(task->task.job, sizeof task->task.job, "%s", job->name);
    for (size_t i = 0; !job->private_network && i < job->port_count; i++)
        task->task.ports[task->task.port_count++] =
            (uint16_t)(job->ports[i] + job->steps[i] * action->index);
}

static void perform(struct world *world, const struct controller_action *action)
{
    world->actions++;
    if (world->refuse_percent > 0 && below(world, 100) < world->refuse_percent) {
        controller_refused(world->controller, action, "the table is full");
        return;
    }
    struct world_task *task = find_task(world, &action->task);
    switch (action->kind) {
    case CONTROLLER_START: perform_start(world, action); return;
    case CONTROLLER_STOP:
        assert_non_null(task);
        assert_false(task->told_to_stop); /* told once */
        task->told_to_stop = true;
        if (is_ended(task)) return;
        task->task.state = CONTROLLER_STOPPING;
        task->task.up = false;
        task->delay = (unsigned)below(world, world->delay_max + 1);
        return;
    case CONTROLLER_DROP:
        assert_non_null(task);
        assert_true(is_ended(task));
        *task = world->tasks[--world->task_count];
        return;
    }
}

static void look(struct world *world)
{
    world->seen_count = world->task_count;
    for (size_t i = 0; i < world->task_count; i++) world->seen[i] = world->tasks[i].task;
}

/* One step on the snapshot as it is; what it asks for is done. */
static size_t step(struct world *world)
{
    world->input.job_count = world->job_count;
    world->input.task_count = world->seen_count;
    controller_step(world->controller, &world->input, &world->output);
    for (size_t i = 0; i < world->output.action_count; i++)
        perform(world, &world->output.actions[i]);
    check_promises(world);
    return world->output.action_count;
}

/* Time passes in the world. */
static void advance(struct world *world)
{
    for (size_t i = 0; i < world->task_count; i++) {
        struct world_task *task = &world->tasks[i];
        if (task->delay > 0) {
            task->delay--;
            continue;
        }
        if (task->task.state == CONTROLLER_STOPPING) task->task.state = CONTROLLER_STOPPED;
        if (task->task.state == CONTROLLER_WAITING) {
            task->task.state = CONTROLLER_STARTING;
            task->task.incarnation++;
            check_incarnation_rises(world, &task->task.id, task->task.incarnation, false);
        } else if (task->task.state == CONTROLLER_STARTING) {
            task->task.state = CONTROLLER_RUNNING;
        } else if (task->task.state == CONTROLLER_RUNNING) {
            task->task.up = true;
        }
    }
}

/* Go on until nothing is asked and nothing moves; returns the steps it took. */
static unsigned settle(struct world *world, unsigned steps_max)
{
    unsigned quiet = 0;
    for (unsigned steps = 1; steps <= steps_max; steps++) {
        look(world);
        size_t actions = step(world);
        advance(world);
        quiet = actions == 0 ? quiet + 1 : 0;
        if (quiet > 2 * (world->delay_max + 3)) return steps;
    }
    fail_msg("not at rest after %u steps", steps_max);
    return 0;
}

static unsigned running(struct world *world, const char *job, uint64_t generation)
{
    unsigned count = 0;
    for (size_t i = 0; i < world->task_count; i++) {
        const struct controller_task *task = &world->tasks[i].task;
        if (strcmp(task->job, job) == 0 && task->state == CONTROLLER_RUNNING && task->up &&
            controller_generation_of(task->incarnation) == generation)
            count++;
    }
    return count;
}

static void reason_is(struct world *world, size_t job, uint32_t index, const char *expected)
{
    char text[CONTROLLER_REASON_BYTES_MAX + 1];
    controller_reason(world->controller, (uint32_t)job, index, text);
    assert_string_equal(text, expected);
}

/* --- stories ------------------------------------------------------------------------------------
 */

static void a_job_is_started_once_and_then_left_alone(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    size_t web = add_job(world, "web", 8, 100);
    look(world);
    assert_int_equal(step(world), 8);
    /* The snapshot does not show them yet: nothing is asked twice. */
    assert_int_equal(step(world), 0);
    reason_is(world, web, 3, "starts");
    (void)settle(world, 100);
    assert_int_equal(running(world, "web", 1), 8);
    assert_int_equal(world->actions, 8);
    reason_is(world, web, 7, "runs");
    assert_false(controller_is_kept_out(world->controller, (uint32_t)web, 7));
    assert_int_equal(world->output.cpu_milli_reserved, 800);
    world_destroy(world);
}

static void nothing_is_asked_before_everything_is_known(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    (void)add_job(world, "web", 8, 100);
    world->input.complete = false;
    look(world);
    assert_int_equal(step(world), 0);
    world_destroy(world);
}

static void what_does_not_fit_waits_with_its_reason_and_starts_when_there_is_room(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    size_t big = add_job(world, "big", 3, 800);
    size_t huge = add_job(world, "huge", 1, 3000);
    size_t fat = add_job(world, "fat", 1, 100);
    world->jobs[fat].memory_bytes = 5ULL << 30;
    size_t best = add_job(world, "best", 1, 0); /* takes what others leave */
    (void)settle(world, 100);
    assert_int_equal(running(world, "big", 1), 2);
    assert_int_equal(running(world, "best", 1), 1);
    reason_is(world, big, 2, "waits: needs 0.800 cores, 0.400 cores of the machine are free");
    reason_is(world, huge, 0, "refused: needs 3 cores, the machine has 2 cores");
    reason_is(world, fat, 0, "refused: needs 5120 MiB, the machine has 4096 MiB");
    assert_true(controller_is_kept_out(world->controller, (uint32_t)huge, 0));
    assert_false(controller_is_kept_out(world->controller, (uint32_t)best, 0));
    world->input.cpu_milli = 3000;
    (void)settle(world, 100);
    assert_int_equal(running(world, "big", 1), 3);
    reason_is(world, huge, 0, "waits: needs 3 cores, 0.600 cores of the machine are free");
    world_destroy(world);
}

static void a_port_has_one_holder_and_the_older_job_keeps_it(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    size_t web = add_job(world, "web", 4, 100);
    world->jobs[web].ports[0] = 8081;
    world->jobs[web].steps[0] = 1;
    world->jobs[web].port_count = 1;
    size_t other = add_job(world, "a-other", 1, 100);
    world->jobs[other].ports[0] = 8082;
    world->jobs[other].port_count = 1;
    (void)settle(world, 100);
    reason_is(world, other, 0, "waits: port 8082 is held by web-1");
    world->jobs[web].count = 1;
    (void)settle(world, 100);
    assert_int_equal(running(world, "a-other", 1), 1);
    world->jobs[web].count = 4;
    (void)settle(world, 100);
    reason_is(world, web, 1, "waits: port 8082 is held by a-other-0");
    assert_int_equal(running(world, "web", 1), 3);
    world->jobs[other].private_network = true;
    world->jobs[other].task_generation = 2;
    (void)settle(world, 100);
    assert_int_equal(running(world, "web", 1), 4);
    assert_int_equal(running(world, "a-other", 2), 1);
    world_destroy(world);
}

static void a_stale_task_is_replaced_once_a_quarter_at_a_time(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    size_t web = add_job(world, "web", 8, 100);
    (void)settle(world, 100);
    world->actions = 0;
    world->jobs[web].task_generation = 2;
    for (unsigned i = 0; i < 200; i++) {
        look(world);
        (void)step(world);
        unsigned up = running(world, "web", 1) + running(world, "web", 2);
        assert_true(up >= 6);
        if (i == 0) reason_is(world, web, 7, "runs; replaced once the 2 before it are up");
        advance(world);
    }
    assert_int_equal(running(world, "web", 2), 8);
    assert_int_equal(world->actions, 8 * 3); /* stop, drop, start of each, and no more */
    world_destroy(world);
}

static void a_new_version_that_never_comes_up_stops_the_rolling(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    size_t web = add_job(world, "web", 8, 100);
    (void)settle(world, 100);
    world->jobs[web].task_generation = 2;
    for (unsigned i = 0; i < 100; i++) {
        look(world);
        (void)step(world);
        advance(world);
        for (size_t k = 0; k < world->task_count; k++) {
            struct world_task *task = &world->tasks[k];
            if (controller_generation_of(task->task.incarnation) != 2) continue;
            task->task.state = CONTROLLER_WAITING; /* it crashes */
            task->task.up = false;
            task->delay = 3;
        }
    }
    assert_int_equal(running(world, "web", 1), 6);
    /* The way out: another version replaces the broken ones at once. */
    world->jobs[web].task_generation = 3;
    (void)settle(world, 300);
    assert_int_equal(running(world, "web", 3), 8);
    world_destroy(world);
}

static void a_newer_task_is_left_alone(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    size_t web = add_job(world, "web", 1, 100);
    world->jobs[web].task_generation = 5;
    (void)settle(world, 100);
    world->jobs[web].task_generation = 4;
    world->actions = 0;
    (void)settle(world, 100);
    assert_int_equal(world->actions, 0);
    reason_is(world, web, 0, "runs a newer specification than the one stored here: left alone");
    world_destroy(world);
}

static void a_removed_and_remade_job_waits_for_the_tasks_of_its_name(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    size_t web = add_job(world, "web", 2, 100);
    (void)settle(world, 100);
    world->jobs[web].create_revision = ++world->revision; /* other ids, same names */
    look(world);
    assert_int_equal(step(world), 2);
    assert_int_equal(world->output.actions[0].kind, CONTROLLER_STOP);
    reason_is(world, web, 0, "waits: the task of the same name before it still ends");
    (void)settle(world, 100);
    assert_int_equal(running(world, "web", 1), 2);
    world_destroy(world);
}

static void a_stopped_or_removed_job_ends_and_leaves_nothing(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    size_t web = add_job(world, "web", 8, 100);
    (void)settle(world, 100);
    world->jobs[web].stopped = true;
    (void)settle(world, 100);
    assert_int_equal(world->task_count, 0);
    world->jobs[web].stopped = false;
    (void)settle(world, 100);
    assert_int_equal(running(world, "web", 1), 8);
    world->job_count = 0;
    (void)settle(world, 100);
    assert_int_equal(world->task_count, 0);
    world_destroy(world);
}

static void a_finished_task_stays_finished_until_the_job_changes(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    size_t once = add_job(world, "once", 1, 100);
    (void)settle(world, 100);
    world->tasks[0].task.state = CONTROLLER_FINISHED;
    world->tasks[0].task.up = false;
    world->actions = 0;
    (void)settle(world, 100);
    assert_int_equal(world->actions, 0);
    reason_is(world, once, 0, "has finished and is not restarted");
    world->jobs[once].task_generation = 2;
    (void)settle(world, 100);
    assert_int_equal(running(world, "once", 2), 1);
    world_destroy(world);
}

static void a_refused_start_is_told_and_tried_again_only_when_asked(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    size_t web = add_job(world, "web", 1, 100);
    world->refuse_percent = 100;
    look(world);
    assert_int_equal(step(world), 1);
    assert_int_equal(step(world), 0);
    reason_is(world, web, 0, "refused: the table is full");
    world->refuse_percent = 0;
    assert_int_equal(step(world), 0);
    world->input.retry++;
    assert_int_equal(step(world), 1);
    world_destroy(world);
}

static void a_refused_start_is_tried_at_once_when_the_job_changes(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    size_t web = add_job(world, "web", 1, 100);
    world->refuse_percent = 100;
    look(world);
    assert_int_equal(step(world), 1);
    world->refuse_percent = 0;
    world->jobs[web].task_generation = 2;
    (void)settle(world, 100);
    assert_int_equal(running(world, "web", 2), 1);
    world_destroy(world);
}

static void many_starts_take_turns(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    (void)add_job(world, "many", 1000, 1);
    world->delay_max = 2;
    look(world);
    for (unsigned i = 0; i < 20; i++) {
        size_t actions = step(world);
        assert_true(actions <= CONTROLLER_ACTIONS_MAX);
    }
    assert_int_equal(world->task_count, CONTROLLER_STARTING_MAX);
    (void)settle(world, 1000);
    assert_int_equal(running(world, "many", 1), 1000);
    assert_int_equal(world->actions, 1000);
    world_destroy(world);
}

static void a_step_over_3000_tasks_takes_milliseconds(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    world->input.cpu_milli = 4000;
    (void)add_job(world, "many", 3000, 1);
    (void)settle(world, 2000);
    assert_int_equal(running(world, "many", 1), 3000);
    look(world);
    struct timespec begin, end;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    enum { STEPS = 20 };
    for (unsigned i = 0; i < STEPS; i++)
        controller_step(world->controller, &world->input, &world->output);
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    double ms =
        (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) / 1e6;
    print_message("a step over 3000 tasks: %.2f ms\n", ms / STEPS);
    assert_true(ms / STEPS < 100); /* generous: sanitizers, a loaded machine */
    world_destroy(world);
}

/* --- seeds --------------------------------------------------------------------------------------
 */

static void change_a_job(struct world *world)
{
    size_t at = (size_t)below(world, world->job_count);
    struct controller_job *job = &world->jobs[at];
    switch (below(world, 7)) {
    case 0: job->count = (uint32_t)below(world, 12); break;
    case 1: job->task_generation++; break;
    case 2: job->stopped = !job->stopped; break;
    case 3: job->create_revision = ++world->revision; break;
    case 4:
        job->cpu_milli = below(world, 700);
        job->task_generation++;
        break;
    case 5:
        job->port_count = 1;
        job->ports[0] = (uint16_t)(8000 + below(world, 20));
        job->steps[0] = 1;
        job->private_network = below(world, 4) == 0;
        job->task_generation++;
        break;
    default:
        if (world->job_count < WORLD_JOBS_MAX) {
            char name[32];
            (void)snprintf(name, sizeof name, "job%zu", world->job_count);
            (void)add_job(world, name, (uint32_t)below(world, 10), below(world, 500));
        }
        break;
    }
}

static void disturb(struct world *world)
{
    if (world->task_count > 0 && below(world, 3) == 0) {
        struct world_task *task = &world->tasks[below(world, world->task_count)];
        if (task->task.state == CONTROLLER_RUNNING || task->task.state == CONTROLLER_STARTING) {
            task->task.state = below(world, 4) == 0 ? CONTROLLER_FINISHED : CONTROLLER_WAITING;
            task->task.up = false;
            task->delay = (unsigned)below(world, world->delay_max + 1);
        }
    }
    if (below(world, 4) == 0) change_a_job(world);
    if (below(world, 20) == 0) world->input.retry++;
    if (below(world, 40) == 0) { /* the link broke: what was seen last may be old, but not now */
        world->input.session++;
        look(world);
    }
    if (below(world, 60) == 0) { /* the daemon starts anew and remembers nothing */
        controller_destroy(world->controller);
        assert_int_equal(controller_create(&world->controller), STATUS_OK);
        world->input.epoch++;
        look(world);
    }
    if (below(world, 100) == 0) { /* the plug: unum-init and all tasks are gone, and the daemon */
        controller_destroy(world->controller);
        assert_int_equal(controller_create(&world->controller), STATUS_OK);
        world->input.epoch++;
        world->input.session++;
        world->task_count = 0;
        look(world);
    }
}

static void check_as_asked(struct world *world)
{
    for (size_t i = 0; i < world->job_count; i++) {
        const struct controller_job *job = &world->jobs[i];
        uint32_t wanted = job->stopped ? 0 : job->count;
        uint32_t found = 0, finished = 0, out = 0;
        for (size_t k = 0; k < world->task_count; k++) {
            const struct controller_task *task = &world->tasks[k].task;
            if (strcmp(task->job, job->name) != 0) continue;
            assert_true(controller_generation_of(task->incarnation) == job->task_generation);
            if (task->state == CONTROLLER_FINISHED)
                finished++;
            else if (task->up)
                found++;
        }
        for (uint32_t k = 0; k < wanted; k++)
            if (controller_is_kept_out(world->controller, (uint32_t)i, k)) out++;
        assert_int_equal(found + finished + out, wanted);
    }
}

static void run_seed(uint64_t seed)
{
    struct world *world = world_create(seed);
    world->delay_max = (unsigned)below(world, 5);
    size_t jobs = 1 + below(world, 5);
    for (size_t i = 0; i < jobs; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "job%zu", i);
        (void)add_job(world, name, (uint32_t)below(world, 10), below(world, 400));
    }
    world->refuse_percent = below(world, 3) == 0 ? 10 : 0;
    for (unsigned i = 0; i < 300; i++) {
        if (below(world, 3) != 0) look(world); /* else the snapshot lags */
        (void)step(world);
        if (below(world, 2) == 0) advance(world);
        disturb(world);
    }
    world->refuse_percent = 0;
    world->input.retry++;
    world->actions = 0;
    size_t tasks = world->task_count;
    for (size_t i = 0; i < world->job_count; i++) tasks += world->jobs[i].count;
    (void)settle(world, 2000);
    assert_true(world->actions <= 6 * tasks); /* bounded churn */
    assert_false(world->output.more);
    check_as_asked(world);
    world_destroy(world);
}

static void random_worlds_come_to_rest_as_asked_and_keep_every_promise(void **state)
{
    (void)state;
    const char *text = getenv("UNUM_SEEDS");
    const char *scope = getenv("UNUM_TEST_SCOPE");
    uint64_t seeds = scope != NULL && strcmp(scope, "full") == 0 ? 1000 : 300;
    if (text != NULL) seeds = strtoull(text, NULL, 10);
    for (uint64_t seed = 1; seed <= seeds; seed++) run_seed(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_is_started_once_and_then_left_alone),
        cmocka_unit_test(nothing_is_asked_before_everything_is_known),
        cmocka_unit_test(what_does_not_fit_waits_with_its_reason_and_starts_when_there_is_room),
        cmocka_unit_test(a_port_has_one_holder_and_the_older_job_keeps_it),
        cmocka_unit_test(a_stale_task_is_replaced_once_a_quarter_at_a_time),
        cmocka_unit_test(a_new_version_that_never_comes_up_stops_the_rolling),
        cmocka_unit_test(a_newer_task_is_left_alone),
        cmocka_unit_test(a_removed_and_remade_job_waits_for_the_tasks_of_its_name),
        cmocka_unit_test(a_stopped_or_removed_job_ends_and_leaves_nothing),
        cmocka_unit_test(a_finished_task_stays_finished_until_the_job_changes),
        cmocka_unit_test(a_refused_start_is_told_and_tried_again_only_when_asked),
        cmocka_unit_test(a_refused_start_is_tried_at_once_when_the_job_changes),
        cmocka_unit_test(many_starts_take_turns),
        cmocka_unit_test(a_step_over_3000_tasks_takes_milliseconds),
        cmocka_unit_test(random_worlds_come_to_rest_as_asked_and_keep_every_promise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
