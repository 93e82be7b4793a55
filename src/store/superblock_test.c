/* The superblock is the old one or the new one, whatever the disk does, and every wrong folder is
 * refused with a sentence that says what to do.
 *
 * Method: each fault at each operation of writing it; each sector flipped; each truncation. */
#include "store/superblock.h"

#include "sim/disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct superblock first = { .computer = { { 1 } },
                                         .machine = { { 2 } },
                                         .disk_incarnation = { { 3 } },
                                         .feature_level = 4,
                                         .flags = 0 };

static struct superblock changed_from(const struct superblock *old)
{
    struct superblock new = *old;
    new.flags = SUPERBLOCK_JOURNAL_MADE;
    return new;
}

static void a_superblock_is_old_or_new_after_power_loss_at_every_operation(void **state)
{
    (void)state;
    bool died = true;
    unsigned old = 0, new = 0, none = 0;
    for (uint64_t at = 1; died; at++) {
        assert_true(at < 100);
        for (uint64_t seed = 1; seed <= 20; seed++) {
            struct sim_disk sim;
            sim_disk_init(&sim, &(struct sim_disk_options) { .seed = seed, .power_loss_at = at });
            struct superblock second = changed_from(&first), found;
            enum status one = superblock_write(&sim.disk, &first, NULL);
            enum status two =
                one == STATUS_OK ? superblock_write(&sim.disk, &second, NULL) : STATUS_IO;
            died = sim.lost_power;
            if (!died) assert_int_equal(two, STATUS_OK);
            sim_disk_lose_power(&sim);
            sim_disk_restart(&sim);
            enum status status = superblock_read(&sim.disk, &found, NULL);
            if (status == STATUS_NOT_FOUND) {
                assert_int_not_equal(one, STATUS_OK);
                none++;
            } else {
                assert_int_equal(status, STATUS_OK);
                assert_true(id_equal(&found.machine, &first.machine));
                if (two == STATUS_OK) assert_int_equal(found.flags, second.flags);
                old += found.flags == first.flags;
                new += found.flags == second.flags;
            }
            sim_disk_finish(&sim);
        }
    }
    assert_true(old > 0);
    assert_true(new > 0);
    assert_true(none > 0);
}

static void one_damaged_copy_is_read_over_and_two_are_refused(void **state)
{
    (void)state;
    struct sim_disk sim;
    sim_disk_init(&sim, &(struct sim_disk_options) { .seed = 1 });
    assert_int_equal(superblock_write(&sim.disk, &first, NULL), STATUS_OK);
    struct superblock found;
    for (uint64_t at = 0; at < SUPERBLOCK_COPY_BYTES; at++) {
        for (unsigned copy = 0; copy < 2; copy++) {
            uint64_t offset = at + (uint64_t)copy * SUPERBLOCK_COPY_DISTANCE;
            assert_int_equal(sim_disk_rot(&sim, "superblock", offset, 5), STATUS_OK);
            assert_int_equal(superblock_read(&sim.disk, &found, NULL), STATUS_OK);
            assert_true(id_equal(&found.computer, &first.computer));
            assert_int_equal(sim_disk_rot(&sim, "superblock", offset, 5), STATUS_OK);
        }
    }
    assert_int_equal(sim_disk_rot(&sim, "superblock", 20, 5), STATUS_OK);
    assert_int_equal(sim_disk_rot(&sim, "superblock", SUPERBLOCK_COPY_DISTANCE + 30, 5), STATUS_OK);
    struct error error = { 0 };
    assert_int_equal(superblock_read(&sim.disk, &found, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error.text, "restore"));
    sim_disk_finish(&sim);
}

static void every_truncation_is_judged(void **state)
{
    (void)state;
    uint8_t *bytes = malloc(SUPERBLOCK_FILE_BYTES);
    assert_non_null(bytes);
    superblock_encode(&first, bytes);
    struct superblock found;
    for (size_t size = 0; size <= SUPERBLOCK_FILE_BYTES; size++) {
        uint8_t *exact = malloc(size + 1);
        assert_non_null(exact);
        memcpy(exact, bytes, size);
        enum status expected = size < SUPERBLOCK_COPY_BYTES ? STATUS_CORRUPT : STATUS_OK;
        assert_int_equal(superblock_decode(exact, size, &found), expected);
        free(exact);
    }
    free(bytes);
}

static void a_newer_version_is_refused_as_such(void **state)
{
    (void)state;
    struct sim_disk sim;
    sim_disk_init(&sim, &(struct sim_disk_options) { .seed = 1 });
    assert_int_equal(superblock_write(&sim.disk, &first, NULL), STATUS_OK);
    assert_int_equal(sim_disk_rot(&sim, "superblock", 8, 1), STATUS_OK);
    assert_int_equal(sim_disk_rot(&sim, "superblock", SUPERBLOCK_COPY_DISTANCE + 8, 1), STATUS_OK);
    struct superblock found;
    struct error error = { 0 };
    assert_int_equal(superblock_read(&sim.disk, &found, &error), STATUS_UNSUPPORTED);
    assert_non_null(strstr(error.text, "newer"));
    sim_disk_finish(&sim);
}

static void a_second_daemon_a_read_only_folder_and_lost_superblocks_are_refused(void **state)
{
    (void)state;
    struct sim_disk sim;
    sim_disk_init(&sim, &(struct sim_disk_options) { .seed = 1 });
    struct error error = { 0 };
    struct superblock found;
    assert_int_equal(superblock_lock(&sim.disk, &error), STATUS_OK);
    assert_int_equal(superblock_lock(&sim.disk, &error), STATUS_BUSY);
    assert_non_null(strstr(error.text, "another daemon"));
    sim_disk_restart(&sim);
    assert_int_equal(superblock_lock(&sim.disk, &error), STATUS_OK);
    assert_int_equal(superblock_read(&sim.disk, &found, &error), STATUS_NOT_FOUND);
    assert_int_equal(sim.disk.make_folder(&sim.disk, "journal"), STATUS_OK);
    assert_int_equal(superblock_read(&sim.disk, &found, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error.text, "missing"));
    sim_disk_restart(&sim);
    sim.options.read_only = true;
    assert_int_equal(superblock_lock(&sim.disk, &error), STATUS_DENIED);
    assert_non_null(strstr(error.text, "cannot be written"));
    sim_disk_finish(&sim);
}

static void the_reserve_gives_its_room_back(void **state)
{
    (void)state;
    struct sim_disk sim;
    uint64_t capacity = SUPERBLOCK_RESERVE_BYTES + 4096;
    sim_disk_init(&sim, &(struct sim_disk_options) { .seed = 1, .capacity_bytes = capacity });
    assert_int_equal(superblock_reserve(&sim.disk), STATUS_OK);
    assert_int_equal(superblock_reserve(&sim.disk), STATUS_OK);
    uint64_t left;
    assert_int_equal(sim.disk.free_bytes(&sim.disk, &left), STATUS_OK);
    assert_int_equal(left, 4096);
    assert_int_equal(superblock_release_reserve(&sim.disk), STATUS_OK);
    assert_int_equal(superblock_release_reserve(&sim.disk), STATUS_OK);
    assert_int_equal(sim.disk.free_bytes(&sim.disk, &left), STATUS_OK);
    assert_int_equal(left, capacity);
    sim.options.capacity_bytes = SUPERBLOCK_RESERVE_BYTES / 2;
    assert_int_equal(superblock_reserve(&sim.disk), STATUS_FULL);
    assert_int_equal(sim.disk.free_bytes(&sim.disk, &left), STATUS_OK);
    assert_int_equal(left, SUPERBLOCK_RESERVE_BYTES / 2);
    sim_disk_finish(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_superblock_is_old_or_new_after_power_loss_at_every_operation),
        cmocka_unit_test(one_damaged_copy_is_read_over_and_two_are_refused),
        cmocka_unit_test(every_truncation_is_judged),
        cmocka_unit_test(a_newer_version_is_refused_as_such),
        cmocka_unit_test(a_second_daemon_a_read_only_folder_and_lost_superblocks_are_refused),
        cmocka_unit_test(the_reserve_gives_its_room_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
