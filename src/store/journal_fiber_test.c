/* The journal under fibers: appends go on while a flush waits for the disk, maintenance works
 * beside both, reads meet segments that are being recycled.
 *
 * Method: a writer, a flusher, a maintainer and a reader on one reactor under virtual time, on a
 * slow simulated disk whose power is lost at a moment that the seed chooses; what was acknowledged
 * must be there after the next opening. */
#include "reactor/reactor.h"
#include "sim/disk.h"
#include "sim/wait.h"
#include "store/journal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SEEDS = 150, SEGMENT_BYTES = 32 * 1024, KEPT = 60 };

struct world {
    struct sim_disk sim;
    struct journal *journal;
    struct journal_options options;
    struct random_seeded random;
    uint64_t appended, acknowledged, released, life_ns;
    uint64_t reads, flushes, overlapped;
    bool flushing, ended;
};

static uint64_t draw(struct world *world, uint64_t bound)
{
    uint64_t value;
    random_below(&world->random.random, bound, &value);
    return value;
}

static uint32_t size_of(uint64_t index)
{
    return 1 + (uint32_t)(index * 37 % 700);
}

static void fill(uint64_t index, uint8_t *bytes)
{
    for (uint32_t i = 0; i < size_of(index); i++) bytes[i] = (uint8_t)(index * 11 + i);
}

static bool sleep_ns(struct world *world, uint64_t duration_ns)
{
    return fiber_sleep_ns(duration_ns) == STATUS_OK && !world->ended;
}

static void writer(void *argument)
{
    struct world *world = argument;
    while (sleep_ns(world, 1000 + draw(world, 40000))) {
        uint8_t bytes[1024];
        fill(world->appended + 1, bytes);
        struct bytes entry = bytes_of(bytes, size_of(world->appended + 1));
        enum status status =
            journal_append(world->journal, 1, world->appended + 1, world->appended % 9, entry);
        if (status == STATUS_BUSY || status == STATUS_FULL) continue;
        if (status != STATUS_OK) break;
        world->appended++;
        world->overlapped += world->flushing;
        if (world->acknowledged < world->released + 2ull * KEPT) continue;
        uint64_t index = world->acknowledged - KEPT;
        if (journal_release(world->journal, 1, index) == STATUS_OK) world->released = index;
    }
}

static void flusher(void *argument)
{
    struct world *world = argument;
    while (sleep_ns(world, 1000 + draw(world, 30000))) {
        uint64_t covered = world->appended;
        world->flushing = true;
        enum status status = draw(world, 9) == 0 ? journal_mark_synced(world->journal, NULL)
                                                 : journal_flush(world->journal, NULL);
        world->flushing = false;
        if (status != STATUS_OK) break;
        if (journal_figures(world->journal).bytes_staged == 0) world->acknowledged = covered;
        world->flushes++;
    }
}

static void maintainer(void *argument)
{
    struct world *world = argument;
    while (sleep_ns(world, 20000)) {
        if (!journal_wants_maintenance(world->journal)) continue;
        if (journal_maintain(world->journal, NULL) != STATUS_OK) break;
    }
}

static void check_entry(struct world *world, uint64_t index, struct buffer *buffer)
{
    uint64_t term = 0;
    enum status status = journal_read(world->journal, 1, index, &term, buffer);
    if (status == STATUS_NOT_FOUND && index <= world->released) return;
    if (status == STATUS_IO && (world->sim.lost_power || world->ended)) return;
    assert_int_equal(status, STATUS_OK);
    uint8_t bytes[1024];
    fill(index, bytes);
    assert_int_equal(term, (index - 1) % 9);
    assert_int_equal(buffer->used, size_of(index));
    assert_memory_equal(buffer->data, bytes, buffer->used);
    world->reads++;
}

static void reader(void *argument)
{
    struct world *world = argument;
    struct buffer buffer;
    buffer_init(&buffer, 4096);
    while (sleep_ns(world, 1000 + draw(world, 9000))) {
        if (world->appended == world->released) continue;
        uint64_t index = world->released + 1 + draw(world, world->appended - world->released);
        check_entry(world, index, &buffer);
    }
    buffer_finish(&buffer);
}

static void live(struct scope *root, void *argument)
{
    struct world *world = argument;
    /* An idle group, whose entry has to be carried forward again and again. */
    assert_int_equal(journal_append(world->journal, 9, 5, 3, bytes_of("idle", 4)), STATUS_OK);
    assert_int_equal(journal_flush(world->journal, NULL), STATUS_OK);
    assert_int_equal(scope_spawn(root, "writer", writer, world), STATUS_OK);
    assert_int_equal(scope_spawn(root, "flusher", flusher, world), STATUS_OK);
    assert_int_equal(scope_spawn(root, "maintainer", maintainer, world), STATUS_OK);
    assert_int_equal(scope_spawn(root, "reader", reader, world), STATUS_OK);
    (void)!fiber_sleep_ns(world->life_ns);
    sim_disk_lose_power(&world->sim);
    world->ended = true;
}

static void check_survivors(struct world *world)
{
    struct error error = { 0 };
    if (journal_open(&world->sim.disk, &world->options, &world->journal, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    struct journal_group group;
    struct buffer buffer;
    buffer_init(&buffer, 4096);
    assert_int_equal(journal_find_group(world->journal, 1, &group), STATUS_OK);
    assert_true(group.last_index >= world->acknowledged);
    assert_true(group.last_index <= world->appended);
    assert_true(group.first_index <= world->released + 1);
    world->ended = false;
    for (uint64_t index = world->released + 1; index <= group.last_index; index++) {
        check_entry(world, index, &buffer);
    }
    uint64_t term;
    assert_int_equal(journal_read(world->journal, 9, 5, &term, &buffer), STATUS_OK);
    assert_int_equal(term, 3);
    assert_memory_equal(buffer.data, "idle", 4);
    journal_close(world->journal);
    buffer_finish(&buffer);
}

static void appends_reads_and_maintenance_go_on_beside_a_slow_flush(void **state)
{
    (void)state;
    uint64_t reads = 0, flushes = 0, overlapped = 0, carried = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world world = { .options = { .folder = "journal",
                                            .segment_bytes = SEGMENT_BYTES,
                                            .total_bytes_max = 12ull * SEGMENT_BYTES } };
        sim_disk_init(&world.sim, &(struct sim_disk_options) { .seed = seed,
                                                               .operation_ns_min = 1000,
                                                               .operation_ns_max = 20000,
                                                               .sync_ns_min = 20000,
                                                               .sync_ns_max = 200000,
                                                               .slow_permille = 20,
                                                               .slow_ns = 5000000,
                                                               .wait = sim_wait_in_fiber });
        random_seeded_init(&world.random, seed);
        world.life_ns = 1000000 + draw(&world, 60000000);
        assert_int_equal(journal_open(&world.sim.disk, &world.options, &world.journal, NULL),
                         STATUS_OK);
        struct reactor *reactor;
        struct reactor_simulation_options options = { .seed = seed, .end_ns = UINT64_MAX / 2 };
        assert_int_equal(reactor_create_simulation(&options, &reactor), STATUS_OK);
        assert_int_equal(reactor_run(reactor, live, &world), STATUS_OK);
        reactor_destroy(reactor);
        carried += journal_figures(world.journal).carried_records;
        journal_close(world.journal);
        sim_disk_restart(&world.sim);
        check_survivors(&world);
        reads += world.reads;
        flushes += world.flushes;
        overlapped += world.overlapped;
        sim_disk_finish(&world.sim);
    }
    assert_true(reads > 1000);
    assert_true(flushes > 1000);
    assert_true(overlapped > 1000);
    assert_true(carried > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_reads_and_maintenance_go_on_beside_a_slow_flush),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
