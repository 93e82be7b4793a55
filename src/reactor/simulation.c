/* The simulation backend: virtual time that moves only when nothing can run, and a hash over every
 * scheduling decision, so that two runs of a seed can be told equal. Sockets and files of simulated
 * machines come from sim/, on conditions and timers of this reactor. */
#include "base/checksum.h"
#include "reactor/io.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* What people are shown as the start of every world: 2001-09-09, so that no one takes it for now.
 */
static const uint64_t SIMULATION_WALL_NS = 1000000000ULL * 1000000000ULL;

static void simulated_monotonic_ns(struct clock *clock, uint64_t *ret_ns)
{
    *ret_ns = ((struct reactor *)((char *)clock - offsetof(struct reactor, clock)))->now_ns;
}

static void simulated_wall_ns(struct clock *clock, uint64_t *ret_ns)
{
    uint64_t now_ns;
    simulated_monotonic_ns(clock, &now_ns);
    *ret_ns = SIMULATION_WALL_NS + now_ns;
}

static void simulated_fill(struct random *random, void *ret_bytes, size_t size)
{
    struct reactor *reactor =
        (struct reactor *)(void *)((char *)random - offsetof(struct reactor, random));
    reactor->seeded.random.fill(&reactor->seeded.random, ret_bytes, size);
}

/* Time jumps to the earliest timer. When that lies beyond the end, or there is none, the world
 * ends: the root scope is cancelled, once; what is shielded may still use timers to finish. */
static enum status simulation_wait(struct reactor *reactor, uint64_t deadline_ns)
{
    if (deadline_ns == 0) return STATUS_OK;
    if (!reactor->ended && deadline_ns > reactor->end_ns) {
        reactor->ended = true;
        if (reactor->end_ns > reactor->now_ns && reactor->end_ns != DEADLINE_NEVER)
            reactor->now_ns = reactor->end_ns;
        scope_cancel(reactor->root);
        return STATUS_OK;
    }
    if (deadline_ns == DEADLINE_NEVER) return STATUS_TIMEOUT;
    if (deadline_ns > reactor->now_ns) {
        reactor->now_ns = deadline_ns;
        reactor->instant_runs = 0;
    }
    return STATUS_OK;
}

static void simulation_interrupt(struct reactor *reactor)
{
    (void)reactor;
}

static void simulation_destroy(struct reactor *reactor)
{
    (void)reactor;
}

static const struct reactor_backend simulation_backend = {
    .name = "simulation",
    .simulated = true,
    .wait = simulation_wait,
    .interrupt = simulation_interrupt,
    .destroy = simulation_destroy,
};

enum status reactor_create_simulation(const struct reactor_simulation_options *options,
                                      struct reactor **ret_reactor)
{
    struct reactor *reactor = calloc(1, sizeof *reactor);
    if (reactor == NULL) return STATUS_NO_MEMORY;
    reactor->mailbox = mailbox_create();
    if (reactor->mailbox == NULL) {
        free(reactor);
        return STATUS_NO_MEMORY;
    }
    reactor->backend = &simulation_backend;
    reactor->clock = (struct clock) { .monotonic_ns = simulated_monotonic_ns,
                                      .boot_ns = simulated_monotonic_ns,
                                      .wall_ns = simulated_wall_ns };
    reactor->random.random.fill = simulated_fill;
    random_seeded_init(&reactor->seeded, options->seed);
    reactor->end_ns = options->end_ns;
    reactor->trace_hash = options->seed;
    fiber_queue_init(reactor);
    *ret_reactor = reactor;
    return STATUS_OK;
}

uint64_t reactor_trace_hash(const struct reactor *reactor)
{
    return reactor->trace_hash;
}

void reactor_trace_add(struct reactor *reactor, const void *bytes, size_t size)
{
    reactor->trace_hash = hash64(bytes, size, reactor->trace_hash);
}

void simulation_trace_run(struct reactor *reactor, const struct fiber *fiber)
{
    uint8_t record[3 * 8 + FIBER_NAME_BYTES_MAX];
    store_u64_le(record, reactor->now_ns);
    store_u64_le(record + 8, fiber->serial);
    store_u64_le(record + 16, (uint64_t)fiber->wake_status);
    memcpy(record + 24, fiber->name, FIBER_NAME_BYTES_MAX);
    reactor_trace_add(reactor, record, sizeof record);
    reactor->instant_runs++;
}
