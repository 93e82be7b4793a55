/* No fault of the disk may lose an acknowledged record of the journal, or bring back a torn one.
 *
 * Method: the journal and a model of it take the same seeded steps on a simulated disk. A fault
 * strikes at operation 1, 2, 3, ... until a run meets its end without it; after each, the journal
 * is opened again and must equal a state of the model not older than the last acknowledged flush.
 * What was recovered counts as acknowledged from then on: a second power loss follows. */
#include "sim/journal_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { STEPS = 120, OPERATIONS_MAX = 2000 };

enum fault { FAULT_POWER_LOSS, FAULT_CRASH, FAULT_SYNC, FAULT_FULL, FAULT_FULL_FOREVER };

static struct sim_disk_options fault_options(enum fault fault, uint64_t seed, uint64_t at)
{
    struct sim_disk_options options = { .seed = seed };
    switch (fault) {
    case FAULT_POWER_LOSS: options.power_loss_at = at; break;
    case FAULT_CRASH: options.crash_at = at; break;
    case FAULT_SYNC: options.sync_fails_at = at; break;
    case FAULT_FULL:
        options.full_at = at;
        options.full_until = at + 4;
        break;
    case FAULT_FULL_FOREVER: options.full_at = at; break;
    }
    return options;
}

static enum status run_steps(struct model *model, unsigned steps)
{
    enum status status = STATUS_OK;
    for (unsigned i = 0; i < steps; i++) {
        status = model_random_step(model);
        if (status == STATUS_FULL) status = STATUS_OK;
        if (status != STATUS_OK) break;
    }
    return status;
}

static void must_settle(struct model *model, const char *when, uint64_t seed, uint64_t at)
{
    struct error error = { 0 };
    enum status status = model_open(model, &error);
    if (status != STATUS_OK) {
        fail_msg("%s, seed %lu, operation %lu: %s: %s", when, seed, at, status_name(status),
                 error.text);
    }
    if (!model_settle(model)) {
        fail_msg("%s, seed %lu, operation %lu: not what was acknowledged", when, seed, at);
    }
}

static void lose_power_and_settle(struct model *model, const char *when, uint64_t seed, uint64_t at)
{
    sim_disk_lose_power(model->sim);
    model_close(model);
    sim_disk_restart(model->sim);
    must_settle(model, when, seed, at);
}

/* One run with a fault at operation AT; false when it did not strike. */
static bool run_with_fault(enum fault fault, uint64_t seed, uint64_t at)
{
    struct sim_disk sim;
    struct sim_disk_options options = fault_options(fault, seed, at);
    sim_disk_init(&sim, &options);
    struct model model;
    model_init(&model, &sim, seed);
    struct error error;
    enum status status = model_open(&model, &error);
    if (status == STATUS_OK) status = run_steps(&model, STEPS);
    bool struck = sim.lost_power || sim.crashed || sim.counters.syncs_failed > 0 ||
                  sim.counters.full_refused > 0;
    bool may_stop = fault != FAULT_FULL && fault != FAULT_FULL_FOREVER;
    if (status != STATUS_OK) assert_true(struck);
    if (status != STATUS_OK && !may_stop) assert_int_equal(status, STATUS_FULL);

    if (!sim.lost_power) sim_disk_crash(&sim);
    model_close(&model);
    sim_disk_restart(&sim);
    must_settle(&model, "after the fault", seed, at);
    lose_power_and_settle(&model, "after a power loss behind the recovery", seed, at);
    assert_int_equal(run_steps(&model, STEPS / 2), STATUS_OK);
    lose_power_and_settle(&model, "after going on", seed, at);
    model_finish(&model);
    sim_disk_finish(&sim);
    return struck;
}

static void strike_everywhere(enum fault fault, uint64_t seed)
{
    bool struck = true;
    uint64_t at = 1;
    for (; struck; at++) {
        assert_true(at < OPERATIONS_MAX);
        struck = run_with_fault(fault, seed, at);
    }
    assert_true(at > 20);
}

enum { EVERYWHERE_SEEDS = 8 };

static void journal_recovers_from_power_loss_at_every_operation(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= EVERYWHERE_SEEDS; seed++) {
        strike_everywhere(FAULT_POWER_LOSS, seed);
    }
}

static void journal_recovers_from_a_crash_at_every_operation(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= EVERYWHERE_SEEDS; seed++) strike_everywhere(FAULT_CRASH, seed);
}

static void journal_stops_at_every_failing_sync_and_recovers(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= EVERYWHERE_SEEDS; seed++) strike_everywhere(FAULT_SYNC, seed);
}

static void journal_survives_a_full_disk_at_every_operation(void **state)
{
    (void)state;
    for (uint64_t at = 1; at < 60; at++) {
        (void)run_with_fault(FAULT_FULL, 3, at);
        (void)run_with_fault(FAULT_FULL_FOREVER, 3, at);
    }
}

static void journal_recovers_when_power_is_lost_while_it_recovers(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        for (uint64_t at = 1; at <= 4; at++) {
            struct sim_disk sim;
            sim_disk_init(&sim, &(struct sim_disk_options) { .seed = seed });
            struct model model;
            model_init(&model, &sim, seed);
            assert_int_equal(model_open(&model, NULL), STATUS_OK);
            assert_int_equal(run_steps(&model, STEPS), STATUS_OK);
            sim_disk_lose_power(&sim);
            model_close(&model);
            sim_disk_restart(&sim);
            sim.options.power_loss_at = sim.counters.operations + at;
            if (model_open(&model, NULL) == STATUS_OK) {
                sim_disk_lose_power(&sim);
                model_close(&model);
            }
            sim_disk_restart(&sim);
            must_settle(&model, "after two losses", seed, at);
            model_finish(&model);
            sim_disk_finish(&sim);
        }
    }
}

/* Long lives with many power losses, crashes and clean restarts. */
static void journal_equals_its_model_over_a_thousand_seeds(void **state)
{
    (void)state;
    uint64_t segments_begun = 0, carried = 0;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        struct sim_disk sim;
        sim_disk_init(&sim, &(struct sim_disk_options) { .seed = seed });
        struct model model;
        model_init(&model, &sim, seed);
        assert_int_equal(model_open(&model, NULL), STATUS_OK);
        for (unsigned life = 0; life < 5; life++) {
            sim.options.power_loss_at =
                life % 2 == 0 ? sim.counters.operations + 1 + (seed * 7ull + life * 13ull) % 40 : 0;
            enum status status = run_steps(&model, 150);
            if (status != STATUS_OK) assert_true(sim.lost_power);
            if (!sim.lost_power && !model_equals(&model, model_now(&model))) {
                fail_msg("seed %lu: differs while it runs", seed);
            }
            struct journal_figures figures = journal_figures(model.journal);
            carried += figures.carried_records;
            segments_begun += figures.segments;
            if (life % 3 == 2) sim_disk_lose_power(&sim);
            model_close(&model);
            sim_disk_restart(&sim);
            must_settle(&model, "in a long life", seed, life);
        }
        model_finish(&model);
        sim_disk_finish(&sim);
    }
    assert_true(carried > 1000);
    assert_true(segments_begun > 1000);
}

/* --- bit rot ---------------------------------------------------------------------------------- */

static void build_for_rot(struct model *model, bool marked)
{
    assert_int_equal(model_open(model, NULL), STATUS_OK);
    for (unsigned i = 0; i < 12; i++) {
        assert_int_equal(model_put_state(model, i % 3, 40), STATUS_OK);
        assert_int_equal(model_append(model, i % 3, 0, 700), STATUS_OK);
        assert_int_equal(model_append(model, i % 3, 0, 1500), STATUS_OK);
        assert_int_equal(model_flush(model), STATUS_OK);
        assert_int_equal(model_maintain(model), STATUS_OK);
    }
    if (marked) assert_int_equal(model_mark(model), STATUS_OK);
    model_close(model);
}

/* Flip a bit in each sector of each file in turn; what comes out is the whole acknowledged state,
 * or a refusal that names the place. Only an unmarked last batch may pass for a torn tail. */
static void rot_everywhere(uint64_t seed, bool marked)
{
    struct sim_disk sim;
    sim_disk_init(&sim, &(struct sim_disk_options) { .seed = seed });
    struct model model;
    model_init(&model, &sim, seed);
    build_for_rot(&model, marked);
    struct model_state *whole = malloc(sizeof *whole);
    assert_non_null(whole);
    *whole = *model_now(&model);
    unsigned refused = 0, harmless = 0, dropped = 0;
    struct disk_entry *entries = calloc(32, sizeof *entries);
    assert_non_null(entries);
    size_t count;
    assert_int_equal(sim.disk.list(&sim.disk, "journal", entries, 32, &count), STATUS_OK);
    assert_true(count >= 3);
    for (size_t i = 0; i < count; i++) {
        char path[64];
        snprintf(path, sizeof path, "journal/%.40s", entries[i].name);
        for (uint64_t at = (seed * 37) % 512; at < entries[i].size_bytes; at += 512) {
            assert_int_equal(sim_disk_rot(&sim, path, at, seed % 8), STATUS_OK);
            struct error error = { 0 };
            enum status status = model_open(&model, &error);
            if (status == STATUS_OK) {
                bool same = model_equals(&model, whole);
                if (!same && marked) fail_msg("%s, byte %lu: rot lost a record", path, at);
                harmless += same;
                dropped += !same;
                model_close(&model);
                assert_true(same || !marked);
            } else {
                assert_int_equal(status, STATUS_CORRUPT);
                assert_non_null(strstr(error.text, "journal/slot-"));
                assert_non_null(strstr(error.text, "byte"));
                assert_non_null(strstr(error.text, "copy"));
                refused++;
            }
            assert_int_equal(sim_disk_rot(&sim, path, at, seed % 8), STATUS_OK);
            if (dropped > 0) continue;
            /* Nothing was changed: with the bit flipped back all is there. */
            assert_int_equal(model_open(&model, NULL), STATUS_OK);
            assert_true(model_equals(&model, whole));
            model_close(&model);
        }
    }
    assert_true(refused > 10);
    assert_true(harmless > 10);
    if (!marked) assert_true(dropped > 0);
    free(entries);
    free(whole);
    model_finish(&model);
    sim_disk_finish(&sim);
}

static void journal_finds_rot_in_every_sector_before_the_boundary(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) rot_everywhere(seed, true);
}

static void journal_takes_rot_behind_the_boundary_for_a_torn_tail(void **state)
{
    (void)state;
    rot_everywhere(1, false);
}

static void journal_detects_rot_while_it_runs(void **state)
{
    (void)state;
    struct sim_disk sim;
    sim_disk_init(&sim, &(struct sim_disk_options) { .seed = 5 });
    struct model model;
    model_init(&model, &sim, 5);
    build_for_rot(&model, true);
    assert_int_equal(model_open(&model, NULL), STATUS_OK); /* nothing is in the cache now */
    unsigned corrupt = 0;
    for (uint64_t at = 4096 + 100; at < 32ull * 1024; at += 512) {
        assert_int_equal(sim_disk_rot(&sim, "journal/slot-0000", at, 3), STATUS_OK);
        for (uint64_t group = 1; group <= 3; group++) {
            for (uint64_t index = 1; index <= 8; index++) {
                uint64_t term;
                enum status status =
                    journal_read(model.journal, group, index, &term, &model.buffer);
                assert_true(status == STATUS_CORRUPT || status == STATUS_OK);
                corrupt += status == STATUS_CORRUPT;
            }
        }
        assert_int_equal(sim_disk_rot(&sim, "journal/slot-0000", at, 3), STATUS_OK);
    }
    assert_true(corrupt > 10);
    /* A flip on the way from the disk is read over. */
    sim.options.rot_reads_per_million = 100000;
    assert_true(model_equals(&model, model_now(&model)));
    model_finish(&model);
    sim_disk_finish(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(journal_recovers_from_power_loss_at_every_operation),
        cmocka_unit_test(journal_recovers_from_a_crash_at_every_operation),
        cmocka_unit_test(journal_stops_at_every_failing_sync_and_recovers),
        cmocka_unit_test(journal_survives_a_full_disk_at_every_operation),
        cmocka_unit_test(journal_recovers_when_power_is_lost_while_it_recovers),
        cmocka_unit_test(journal_equals_its_model_over_a_thousand_seeds),
        cmocka_unit_test(journal_finds_rot_in_every_sector_before_the_boundary),
        cmocka_unit_test(journal_takes_rot_behind_the_boundary_for_a_torn_tail),
        cmocka_unit_test(journal_detects_rot_while_it_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
