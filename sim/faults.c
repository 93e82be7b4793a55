/* What goes wrong, and when: drawn from the seed, one plan per life of the machine. */
#include "sim/disk_internal.h"
#include "sim/world_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { ROOM_BYTES_MAX = 64 * 1024 * 1024 };

static const struct {
    const char *magic;
    uint32_t align, sequence_at, size_at;
} batch_layout = { .magic = "UJB1", .align = 4096, .sequence_at = 24, .size_at = 68 };

/* --- plans --------------------------------------------------------------------------------------
 */

void world_draw_temper(struct world *world)
{
    struct random_seeded *random = &world->random;
    bool *kinds[] = { &world->temper.power, &world->temper.operations,
                      &world->temper.early, &world->temper.sync_failures,
                      &world->temper.full,  &world->temper.slow,
                      &world->temper.rot,   &world->temper.rotten_reads,
                      &world->temper.kills, &world->temper.breaks };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        *kinds[i] = world_chance(random, 75);
    world->temper.stormy = world_chance(random, 10);
    world->temper.heavy_hauler = world_draw(random, 0, 299) == 0; /* takes its time */
}

/* Most lives are of ordinary length, some end within their start, by time or at an operation. */
static void plan_end(struct world *world, struct world_plan *plan, uint64_t now)
{
    struct random_seeded *random = &world->random;
    const struct world_temper *temper = &world->temper;
    uint64_t kind = world_draw(random, 0, 99);
    plan->end = kind < 40 ? WORLD_END_CRASH : kind < 85 ? WORLD_END_POWER_LOSS : WORLD_END_ORDERLY;
    if (plan->end == WORLD_END_POWER_LOSS && !temper->power) plan->end = WORLD_END_CRASH;
    plan->end_ns = now + world_draw(random, 500, 12000) * WORLD_MS;
    if (temper->stormy) plan->end_ns = now + world_draw(random, 5, 1000) * WORLD_MS;
    kind = world_draw(random, 0, 99);
    if (kind < 15 && temper->early) plan->end_ns = now + world_draw(random, 0, 60000) * 1000;
    if (plan->end == WORLD_END_ORDERLY || !temper->operations) return;
    if (kind >= 15 && kind < 30) plan->end_operation = world_draw(random, 1, 60);
    if (kind >= 30 && kind < 60) plan->end_operation = world_draw(random, 1, 2000);
}

static void plan_disk(struct world *world, struct world_plan *plan, uint64_t now)
{
    struct random_seeded *random = &world->random;
    const struct world_temper *temper = &world->temper;
    if (temper->sync_failures && world_chance(random, 15))
        plan->sync_failure = world_draw(random, 1, 400);
    if (temper->full && world_chance(random, 25)) {
        plan->full_from_ns = now + world_draw(random, 0, 6000) * WORLD_MS;
        plan->full_until_ns = plan->full_from_ns + world_draw(random, 1, 3000) * WORLD_MS;
        if (world_chance(random, 60)) plan->full_room_bytes = world_draw(random, 1, ROOM_BYTES_MAX);
    }
    if (temper->slow && world_chance(random, 25)) {
        plan->slow_permille = (unsigned)world_draw(random, 5, 60);
        plan->slow_ns = world_draw(random, 1, 120) * WORLD_MS;
    }
    /* Not in the first life: a disk that is bad from the start has nothing to lose. */
    if (temper->rot && world->life_number > 0 && world_chance(random, 30))
        plan->rot_ns =
            now + (world_chance(random, 50) ? 1 : world_draw(random, 1, 5000) * WORLD_MS);
    if (temper->rotten_reads && world_chance(random, 10))
        plan->rotten_reads_per_million = (unsigned)world_draw(random, 50, 5000);
}

struct world_plan world_plan_life(struct world *world, uint64_t calm_ns)
{
    struct random_seeded *random = &world->random;
    const struct world_temper *temper = &world->temper;
    struct world_plan plan = { 0 };
    uint64_t now = world_now(world);
    plan_end(world, &plan, now);
    plan_disk(world, &plan, now);
    if (temper->kills && world_chance(random, 70))
        plan.kill_pause_ns = world_draw(random, 300, 5000) * WORLD_MS;
    if (temper->breaks && world_chance(random, 50))
        plan.break_pause_ns = world_draw(random, 50, 3000) * WORLD_MS;
    if (temper->breaks && world_chance(random, 40))
        plan.breaks_per_million = (unsigned)world_draw(random, 100, 5000);
    plan.down_ns = world_draw(random, 0, 400) * WORLD_MS;
    if (world_chance(random, 20)) plan.down_ns = world_draw(random, 400, 5000) * WORLD_MS;
    if (plan.end_ns > calm_ns) plan.end_ns = calm_ns;
    return plan;
}

void world_fill_disk(struct world *world, const struct world_plan *plan)
{
    struct sim_disk *disk = &world->disk;
    world->life.full = true;
    world->result->full_disks++;
    if (plan->full_room_bytes == 0) {
        disk->options.full_at = 1;
    } else {
        uint64_t used = 0;
        for (size_t i = 0; i < disk->live_count; i++) used += disk->live[i].node->live_bytes;
        disk->options.capacity_bytes = used + plan->full_room_bytes;
    }
    world_say(world, "disk", "has room for %llu bytes", (unsigned long long)plan->full_room_bytes);
}

void world_empty_disk(struct world *world)
{
    struct sim_disk_options *options = &world->disk.options;
    if (options->full_at == 0 && options->capacity_bytes == 0) return;
    options->full_at = options->full_until = options->capacity_bytes = 0;
    world_say(world, "disk", "has room again");
}

void world_arm(struct world *world, const struct world_plan *plan)
{
    struct sim_disk_options *options = &world->disk.options;
    uint64_t operations = world->disk.counters.operations, syncs = world->disk.counters.syncs;
    options->power_loss_at = options->crash_at = options->sync_fails_at = 0;
    if (plan->end_operation != 0 && plan->end == WORLD_END_POWER_LOSS)
        options->power_loss_at = operations + plan->end_operation;
    else if (plan->end_operation != 0)
        options->crash_at = operations + plan->end_operation;
    if (plan->sync_failure != 0) options->sync_fails_at = syncs + plan->sync_failure;
    options->rot_reads_per_million = plan->rotten_reads_per_million;
    options->slow_permille = plan->slow_permille;
    options->slow_ns = plan->slow_ns;
    sim_network_set_breaks(world->network, plan->breaks_per_million);
    if (plan->slow_permille > 0) world->result->slow_disks++;
}

/* --- rot ----------------------------------------------------------------------------------------
 */

/* The newest batch of the journal, which alone may be taken for a torn tail
 * (docs/formats/journal.md, "What cannot be told apart"). */
struct last_batch {
    const struct sim_node *node;
    uint64_t from, to, sequence;
};

static void look_for_last_batch(const struct sim_node *node, struct last_batch *last)
{
    for (uint64_t at = 0; at + batch_layout.align <= node->live_bytes; at += batch_layout.align) {
        const uint8_t *head = node->live + at;
        if (memcmp(head + 4, batch_layout.magic, 4) != 0) continue;
        uint64_t sequence = load_u64_le(head + batch_layout.sequence_at);
        if (sequence < last->sequence) continue;
        uint64_t size = load_u32_le(head + batch_layout.size_at);
        *last = (struct last_batch) { node, at, at + size, sequence };
    }
}

static bool is_clean(const struct sim_node *node, uint64_t offset)
{
    return offset < node->live_bytes && offset < node->durable_bytes &&
           node->dirty[offset / SIM_SECTOR] == 0;
}

void world_rot(struct world *world)
{
    struct sim_disk *disk = &world->disk;
    struct last_batch last = { 0 };
    uint64_t total = 0;
    for (size_t i = 0; i < disk->live_count; i++) {
        const struct sim_name *name = &disk->live[i];
        if (name->node->is_folder) continue;
        total += name->node->live_bytes;
        if (strncmp(name->path, "journal/", 8) == 0) look_for_last_batch(name->node, &last);
    }
    for (unsigned tries = 0; tries < 32 && total > 0; tries++) {
        /* Any file alike, else the zeros of the journal get it all. */
        const struct sim_name *name =
            &disk->live[world_draw(&world->random, 0, disk->live_count - 1)];
        if (name->node->is_folder || name->node->live_bytes == 0) continue;
        uint64_t offset = world_draw(&world->random, 0, name->node->live_bytes - 1);
        unsigned bit = (unsigned)world_draw(&world->random, 0, 7);
        if (!is_clean(name->node, offset)) continue;
        if (name->node == last.node && offset >= last.from && offset < last.to) continue;
        if (sim_disk_rot(disk, name->path, offset, bit) != STATUS_OK) continue;
        world_say(world, "disk", "bit %u of byte %llu of %s is rotten", bit,
                  (unsigned long long)offset, name->path);
        return;
    }
}
