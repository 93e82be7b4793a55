#include "sim/world_internal.h"

#include "sim/wait.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    SECONDS_DEFAULT = 60,
    POLL_MS = 2,
    SERVES_SECONDS_MAX = 10, /* after the faults */
    WRITERS_SECONDS_MAX = 10,
    WATCHES_SECONDS_MAX = 10,
    JOBS_SECONDS_MAX = 40,
    STOPS_SECONDS_MAX = 20,     /* slow disks take their time */
    WIND_UP_SECONDS_MAX = 120,  /* all of the above, and what clients still do */
    SEGMENT_BYTES = 256 * 1024, /* small: segments and memtables come and go */
    MEMTABLE_BYTES = 128 * 1024,
    LEASE_SLACK_SECONDS = 6, /* slow disks and their queues */
};

/* --- what all share -----------------------------------------------------------------------------
 */

uint64_t world_now(const struct world *world)
{
    uint64_t now;
    clock_monotonic_ns(world->clock, &now);
    return now;
}

uint64_t world_draw(struct random_seeded *random, uint64_t low, uint64_t high)
{
    uint64_t value;
    random_below(&random->random, high - low + 1, &value);
    return low + value;
}

bool world_chance(struct random_seeded *random, unsigned percent)
{
    return world_draw(random, 0, 99) < percent;
}

void world_say(struct world *world, const char *who, const char *format, ...)
{
    if (!world->options.trace) return;
    va_list arguments;
    va_start(arguments, format);
    (void)printf("%12.6f  %-10s ", (double)world_now(world) / 1e9, who);
    (void)vprintf(format, arguments);
    (void)printf("\n");
    va_end(arguments);
}

void world_fail(struct world *world, const char *format, ...)
{
    if (world->result->failed) return;
    va_list arguments;
    va_start(arguments, format);
    world->result->failed = true;
    (void)vsnprintf(world->result->failure, sizeof world->result->failure, format, arguments);
    va_end(arguments);
    if (world->root != NULL) world->result->virtual_ns = world_now(world);
    world_say(world, "FAILED", "%s", world->result->failure);
    if (world->root != NULL) scope_cancel(world->root);
}

void world_need(struct world *world, enum status status)
{
    if (status != STATUS_OK) world_fail(world, "a checker gave up: %s", status_name(status));
}

/* --- the machine --------------------------------------------------------------------------------
 */

static void node_says(void *context, const char *line)
{
    world_say(context, "unumd", "%s", line);
}

static void node_applied(void *context, uint64_t group, uint64_t index, uint64_t running_hash,
                         uint64_t computer_time_ms)
{
    struct world *world = context;
    struct error error;
    if (world->life.node != NULL) world->changed_ns = world_now(world);
    enum status status =
        witness_applied(world->witness, group, index, running_hash, computer_time_ms, &error);
    if (status != STATUS_OK) world_fail(world, "%s", error.text);
}

static struct node_options node_options_of(struct world *world)
{
    struct node_options options = {
        .reactor = world->reactor,
        .scope = &world->life.scope,
        .disk = &world->disk.disk,
        .store_disk = &world->disk.blocking,
        .network = sim_machine_network(world->machine),
        .clock = world->clock,
        .random = reactor_random(world->reactor),
        .simulation = true,
        .computer_name = "sim",
        .machine_name = "m1",
        .address = WORLD_ADDRESS,
        .cores = 8,
        .memory_bytes = WORLD_MEMORY_BYTES,
        .process = (uint32_t)world->life_number + 1,
        .supervisor = sim_supervisor_transport(world->supervisor),
        .journal_segment_bytes = SEGMENT_BYTES,
        .store_memtable_bytes = MEMTABLE_BYTES,
        .log = node_says,
        .witness = node_applied,
        .context = world,
    };
    memset(options.computer.bytes, 1, ID_BYTES);
    memset(options.machine.bytes, 2, ID_BYTES);
    memset(options.disk_incarnation.bytes, 3, ID_BYTES);
    return options;
}

static void machine_fiber(void *argument)
{
    struct world *world = argument;
    struct world_life *life = &world->life;
    struct node_options options = node_options_of(world);
    struct node *node;
    life->status = node_start(&options, &node, &life->error);
    if (life->status == STATUS_OK) {
        world_say(world, "machine", "serves");
        world_need(world, check_lease_down(world->lease, world->changed_ns, world_now(world)));
        world->changed_ns = world_now(world);
        life->node = node;
        while (life->status == STATUS_OK && !life->stop && !fiber_must_stop()) {
            life->status = replica_host_health(node_replicas(node), &life->error);
            if (life->status != STATUS_OK) break;
            enum status waited = condition_wait(&life->changed, world_now(world) + 20 * WORLD_MS);
            if (waited == STATUS_CANCELLED) break;
        }
        life->node = NULL;
        node_stop(node);
    }
    life->over = true;
    condition_broadcast(&life->changed);
}

static bool disk_is_dead(const struct world *world)
{
    return world->disk.lost_power || world->disk.crashed;
}

static void begin_life(struct world *world, const struct world_plan *plan)
{
    world->life = (struct world_life) { .status = STATUS_OK };
    condition_init(&world->life.changed);
    world->life.rotten_before = world->disk.counters.bits_rotten;
    witness_restarted(world->witness);
    world_arm(world, plan);
    scope_init(&world->life.scope, world->root);
    enum status status = scope_spawn(&world->life.scope, "machine", machine_fiber, world);
    if (status != STATUS_OK) world->life.over = true;
}

static bool is_rotten(const struct world *world)
{
    return world->disk.counters.bits_rotten > world->life.rotten_before;
}

static void notice_failed_syncs(struct world *world)
{
    if (world->disk.counters.syncs_failed == world->result->syncs_failed) return;
    world->result->syncs_failed = world->disk.counters.syncs_failed;
    world->life.sync_failed = true;
    world_say(world, "disk", "a sync fails");
}

/* Judge how the life ended when nobody ended it. */
static void judge_end(struct world *world)
{
    const struct world_life *life = &world->life;
    if (disk_is_dead(world) || world->result->failed) return;
    notice_failed_syncs(world);
    bool rotten = is_rotten(world);
    if (rotten || life->full || life->sync_failed) {
        world_say(world, "machine", "gives up (%s): %s", status_name(life->status),
                  life->error.text);
        if (life->error.text[0] == '\0')
            world_fail(world, "the daemon gives up (%s) without a sentence",
                       status_name(life->status));
        bool honest = life->status == STATUS_CORRUPT || life->status == STATUS_UNSUPPORTED;
        if (rotten && honest) world->result->refused_starts++;
        return;
    }
    world_fail(world, "the daemon gave up without a cause (%s): %s", status_name(life->status),
               life->error.text);
}

/* The process is gone, one way or the other: nothing of it is left, then the next life may begin.
 */
static void end_life(struct world *world, enum world_end end)
{
    if (!disk_is_dead(world)) {
        if (end == WORLD_END_POWER_LOSS) {
            sim_disk_lose_power(&world->disk);
        } else {
            sim_disk_crash(&world->disk);
        }
    }
    bool power = world->disk.lost_power;
    world_say(world, "machine",
              power                      ? "loses power"
              : end == WORLD_END_ORDERLY ? "is off"
                                         : "its daemon dies");
    sim_machine_crash(world->machine);
    scope_cancel(&world->life.scope);
    scope_join(&world->life.scope);
    if (power) sim_supervisor_restart(world->supervisor);
    if (power)
        world->result->power_losses++;
    else if (end != WORLD_END_ORDERLY)
        world->result->crashes++;
    world->result->bits_rotten = world->disk.counters.bits_rotten;
    sim_disk_restart(&world->disk);
    sim_disk_heal(&world->disk);
    world_empty_disk(world);
    world->life_number++;
}

/* Things that happen at their time within a life. */
struct within_life {
    uint64_t kill_ns, break_ns;
};

static void happen(struct world *world, const struct world_plan *plan, struct within_life *next)
{
    uint64_t now = world_now(world);
    if (plan->full_from_ns != 0 && now >= plan->full_from_ns) {
        bool full = now < plan->full_until_ns;
        if (full && !world->life.full)
            world_fill_disk(world, plan);
        else if (!full)
            world_empty_disk(world);
    }
    if (plan->rot_ns != 0 && now >= plan->rot_ns && !is_rotten(world)) world_rot(world);
    if (plan->kill_pause_ns != 0 && now >= next->kill_ns) {
        next->kill_ns = now + plan->kill_pause_ns;
        if (sim_supervisor_kill_one(world->supervisor))
            world_say(world, "somebody", "kills a process");
    }
    if (plan->break_pause_ns != 0 && now >= next->break_ns) {
        next->break_ns = now + plan->break_pause_ns;
        if (sim_machine_break_one(world->machine)) world_say(world, "network", "a break");
    }
    notice_failed_syncs(world);
}

/* Wait for the life's end, by whatever cause; false when the world winds up. */
static bool wait_for_end(struct world *world, const struct world_plan *plan)
{
    struct world_life *life = &world->life;
    struct within_life next = { .kill_ns = world_now(world) + plan->kill_pause_ns,
                                .break_ns = world_now(world) + plan->break_pause_ns };
    while (!life->over && !disk_is_dead(world)) {
        happen(world, plan, &next);
        uint64_t now = world_now(world);
        if (now >= plan->end_ns) return true;
        enum status status = condition_wait(&life->changed, now + POLL_MS * WORLD_MS);
        if (status == STATUS_CANCELLED) return false;
    }
    return true;
}

static void stop_orderly(struct world *world)
{
    uint64_t deadline_ns = world_now(world) + STOPS_SECONDS_MAX * WORLD_SECOND;
    world->life.stop = true;
    while (!world->life.over) {
        enum status status = condition_wait(&world->life.changed, deadline_ns);
        if (status == STATUS_CANCELLED) return;
        if (status == STATUS_TIMEOUT) {
            world_fail(world, "the daemon does not stop within %d s", STOPS_SECONDS_MAX);
            return;
        }
    }
}

static void live_once(struct world *world, uint64_t calm_ns)
{
    struct world_plan plan = world_plan_life(world, calm_ns);
    begin_life(world, &plan);
    uint64_t down_from_ns = world_now(world);
    (void)wait_for_end(world, &plan);
    if (world->life.over) judge_end(world);
    /* Who is told to stop while he still starts is killed. */
    if (plan.end == WORLD_END_ORDERLY && world->life.node != NULL && !disk_is_dead(world))
        stop_orderly(world);
    end_life(world, plan.end);
    /* While a disk is full no entry can move computer time. */
    if (world->life.full)
        world_need(world, check_lease_down(world->lease, down_from_ns, world_now(world)));
    enum status status = fiber_sleep_ns(plan.down_ns);
    (void)status; /* cancelled: the loop ends */
}

/* --- the end ------------------------------------------------------------------------------------
 */

static bool wait_until_it_serves(struct world *world)
{
    uint64_t from_ns = world_now(world);
    while (world->life.node == NULL) {
        if (world->life.over) {
            world_fail(world, "without faults the daemon does not start (%s): %s",
                       status_name(world->life.status), world->life.error.text);
            return false;
        }
        if (world_now(world) > from_ns + SERVES_SECONDS_MAX * WORLD_SECOND) {
            world_fail(world, "the daemon does not serve %d s after the last fault",
                       SERVES_SECONDS_MAX);
            return false;
        }
        if (fiber_sleep_ns(POLL_MS * WORLD_MS) != STATUS_OK) return false;
    }
    return true;
}

static void wait_for_jobs(struct world *world)
{
    char text[256] = "";
    uint64_t deadline_ns = world_now(world) + JOBS_SECONDS_MAX * WORLD_SECOND;
    while (!world_jobs_are_well(world, text, sizeof text)) {
        if (world_now(world) > deadline_ns) {
            world_fail(world, "%d s after the last fault: %s", JOBS_SECONDS_MAX, text);
            return;
        }
        if (fiber_sleep_ns(50 * WORLD_MS) != STATUS_OK) return;
    }
    world_say(world, "world", "all wanted tasks are up");
}

static void stop_writers(struct world *world)
{
    uint64_t deadline_ns = world_now(world) + WRITERS_SECONDS_MAX * WORLD_SECOND;
    world->writers_stop = true;
    while (world->writers.fiber_count > 0 && world_now(world) < deadline_ns)
        if (fiber_sleep_ns(20 * WORLD_MS) != STATUS_OK) return;
    if (world->writers.fiber_count > 0)
        world_fail(world, "a writer does not come to an end within %d s", WRITERS_SECONDS_MAX);
    else
        world_say(world, "world", "the writers have stopped");
}

static void finish_watches(struct world *world)
{
    struct scope *scope = &world->watchers;
    uint64_t deadline_ns = world_now(world) + WATCHES_SECONDS_MAX * WORLD_SECOND;
    while (scope->fiber_count > 0 && world_now(world) < deadline_ns)
        if (fiber_sleep_ns(20 * WORLD_MS) != STATUS_OK) return;
    if (scope->fiber_count > 0)
        world_fail(world, "a watch has not reached revision %" PRIu64 " after %d s",
                   world->final_revision, WATCHES_SECONDS_MAX);
}

/* Faults are over: everything has to come back. */
static void come_back(struct world *world, uint64_t work_until_ns)
{
    struct world_plan calm = { .end_ns = UINT64_MAX };
    world_say(world, "world", "the faults are over");
    begin_life(world, &calm);
    if (wait_until_it_serves(world)) {
        enum status status = fiber_sleep_until_ns(work_until_ns);
        (void)status; /* cancelled: what follows returns at once */
        stop_writers(world);
        if (!fiber_must_stop()) world_read_all(world);
        if (!fiber_must_stop()) finish_watches(world);
        if (!fiber_must_stop()) wait_for_jobs(world);
        if (!fiber_must_stop()) world_ask_why(world);
    }
    if (world->life.over && !world->result->failed)
        world_fail(world, "without faults the daemon gives up: %s", world->life.error.text);
    if (!fiber_must_stop()) stop_orderly(world);
}

static void supervisor_failed(void *context, const char *text)
{
    world_fail(context, "%s", text);
}

static void task_changed(void *context, const char *task, const char *state, const char *reason)
{
    world_say(context, "unum-init", "%s: %s%s%s", task, state, reason[0] == '\0' ? "" : ", ",
              reason);
}

static void create_supervisor(struct world *world, struct scope *scope)
{
    struct sim_supervisor_options options = {
        .scope = scope,
        .clock = world->clock,
        .seed = world->options.seed ^ 0x73757065,
        .memory_bytes = WORLD_MEMORY_BYTES,
        .failed = supervisor_failed,
        .changed = task_changed,
        .context = world,
    };
    world_need(world, sim_supervisor_create(&options, &world->supervisor));
}

static void world_main(struct scope *root, void *context)
{
    struct world *world = context;
    world->root = root;
    uint64_t seconds = world->options.virtual_seconds;
    uint64_t calm_ns = seconds * WORLD_SECOND * 2 / 3;
    struct scope supervisor;
    scope_init(&supervisor, root);
    scope_init(&world->writers, root);
    scope_init(&world->watchers, root);
    create_supervisor(world, &supervisor);
    world_draw_temper(world);
    if (!world->result->failed) {
        world_start_registry_clients(world);
        world_start_watchers(world);
        world_start_lease_clients(world);
        world_start_jobs_client(world);
        world_start_others(world);
    }
    while (!fiber_must_stop() && world_now(world) < calm_ns) live_once(world, calm_ns);
    if (!fiber_must_stop()) {
        come_back(world, seconds * WORLD_SECOND * 5 / 6);
        end_life(world, WORLD_END_CRASH);
        world->result->crashes--; /* this one does not count: the daemon had stopped */
    }
    world->writers_stop = true;
    scope_cancel(&world->writers);
    scope_cancel(&world->watchers);
    scope_cancel(&supervisor);
    scope_join(&world->writers);
    scope_join(&world->watchers);
    scope_join(&supervisor);
    world->result->tasks_restarted = sim_supervisor_figures(world->supervisor).restarts;
    sim_supervisor_destroy(world->supervisor);
    world->root = NULL;
}

/* --- the verdict --------------------------------------------------------------------------------
 */

static void judge(struct world *world)
{
    static const char *const names[] = { "linearizability", "watches", "leases" };
    struct error errors[3];
    enum status statuses[3] = {
        check_linear_verdict(world->linear, &errors[0]),
        check_watch_verdict(world->watch, &errors[1]),
        check_lease_verdict(world->lease, &errors[2]),
    };
    for (size_t i = 0; i < 3; i++) {
        if (statuses[i] == STATUS_OK) continue;
        const char *text =
            statuses[i] == STATUS_CONFLICT ? errors[i].text : status_name(statuses[i]);
        world_fail(world, "%s: %s", names[i], text);
    }
    struct sim_network_figures figures = sim_network_figures(world->network);
    if (figures.streams_open != 0 || figures.listeners_open != 0)
        world_fail(world, "%" PRIu64 " streams and %" PRIu64 " listeners were left open",
                   figures.streams_open, figures.listeners_open);
}

static enum status create_parts(struct world *world)
{
    struct sim_disk_options disk = {
        .seed = world->options.seed ^ 0x6469736b,
        .operation_ns_min = 2000,
        .operation_ns_max = 40000,
        .sync_ns_min = 100000,
        .sync_ns_max = 600000,
        .wait = sim_wait_in_fiber,
    };
    sim_disk_init(&world->disk, &disk);
    struct sim_network_options network = {
        .reactor = world->reactor,
        .seed = world->options.seed ^ 0x6e657477,
        .delay_ns_min = 50000,
        .delay_ns_max = 3000000,
    };
    enum status status = sim_network_create(&network, &world->network);
    if (status == STATUS_OK)
        status = sim_network_add_machine(world->network, "m1", &world->machine);
    if (status == STATUS_OK)
        status = sim_network_add_machine(world->network, "people", &world->people);
    if (status == STATUS_OK) status = witness_create(&world->witness);
    if (status == STATUS_OK) status = check_linear_create(&world->linear);
    if (status == STATUS_OK) status = check_watch_create(&world->watch);
    if (status == STATUS_OK)
        status = check_lease_create(LEASE_SLACK_SECONDS * WORLD_SECOND, &world->lease);
    return status;
}

static void destroy_parts(struct world *world, bool stuck)
{
    world->result->trace_hash = reactor_trace_hash(world->reactor) ^ world->disk.history_hash;
    if (!stuck) {
        sim_network_destroy(world->network);
        sim_disk_finish(&world->disk);
    }
    witness_destroy(world->witness);
    check_linear_destroy(world->linear);
    check_watch_destroy(world->watch);
    check_lease_destroy(world->lease);
    reactor_destroy(world->reactor);
}

void world_run(const struct world_options *options, struct world_result *ret_result)
{
    *ret_result = (struct world_result) { 0 };
    struct world *world = calloc(1, sizeof *world);
    if (world == NULL) abort();
    world->options = *options;
    world->result = ret_result;
    if (world->options.virtual_seconds == 0) world->options.virtual_seconds = SECONDS_DEFAULT;
    random_seeded_init(&world->random, options->seed);
    struct reactor_simulation_options simulation = {
        .seed = options->seed,
        .end_ns = (world->options.virtual_seconds + WIND_UP_SECONDS_MAX) * WORLD_SECOND,
    };
    enum status status = reactor_create_simulation(&simulation, &world->reactor);
    if (status != STATUS_OK) abort();
    world->clock = reactor_clock(world->reactor);
    status = create_parts(world);
    if (status != STATUS_OK) abort();
    status = reactor_run(world->reactor, world_main, world);
    bool stuck = status == STATUS_INTERNAL;
    world->root = NULL;
    if (!ret_result->failed) {
        ret_result->virtual_ns = world_now(world);
        if (stuck) {
            ret_result->failed = true;
            (void)snprintf(ret_result->failure, sizeof ret_result->failure, "%s",
                           reactor_failure(world->reactor));
        } else if (status != STATUS_OK) {
            ret_result->failed = true;
            (void)snprintf(ret_result->failure, sizeof ret_result->failure,
                           "the world did not come to its end: %s", status_name(status));
        }
    }
    if (!ret_result->failed) judge(world);
    destroy_parts(world, stuck);
    free(world);
}
