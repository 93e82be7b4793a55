/* What the journal promises to its callers, on a disk without faults; and its byte formats.
 *
 * Method: straight-line calls, each refusal provoked once; each encoded header and record at every
 * truncation and with every byte changed. */
#include "store/journal.h"

#include "sim/disk.h"
#include "store/journal_format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SEGMENT_BYTES = 32 * 1024 };

struct fixture {
    struct sim_disk sim;
    struct journal *journal;
    struct journal_options options;
    struct buffer buffer;
};

static void fixture_init(struct fixture *fixture)
{
    *fixture = (struct fixture) { .options = { .folder = "journal",
                                               .segment_bytes = SEGMENT_BYTES,
                                               .total_bytes_max = 8ull * SEGMENT_BYTES,
                                               .disk_incarnation = { { 7 } } } };
    sim_disk_init(&fixture->sim, &(struct sim_disk_options) { .seed = 1 });
    buffer_init(&fixture->buffer, LIMIT_ENTRY_BYTES_MAX);
}

static enum status fixture_open(struct fixture *fixture, struct error *error)
{
    return journal_open(&fixture->sim.disk, &fixture->options, &fixture->journal, error);
}

static void fixture_reopen(struct fixture *fixture)
{
    journal_close(fixture->journal);
    sim_disk_restart(&fixture->sim);
    struct error error = { 0 };
    if (fixture_open(fixture, &error) != STATUS_OK) fail_msg("%s", error.text);
}

static void fixture_finish(struct fixture *fixture)
{
    journal_close(fixture->journal);
    buffer_finish(&fixture->buffer);
    sim_disk_finish(&fixture->sim);
}

static void append(struct fixture *fixture, uint64_t group, uint64_t index, const char *text)
{
    assert_int_equal(journal_append(fixture->journal, group, index, index, bytes_of_text(text)),
                     STATUS_OK);
}

static void expect(struct fixture *fixture, uint64_t group, uint64_t index, const char *text)
{
    uint64_t term = 0;
    assert_int_equal(journal_read(fixture->journal, group, index, &term, &fixture->buffer),
                     STATUS_OK);
    assert_int_equal(term, index);
    assert_true(
        bytes_equal(bytes_of(fixture->buffer.data, fixture->buffer.used), bytes_of_text(text)));
}

static void groups_and_entries_are_found_before_and_after_reopening(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    assert_int_equal(fixture_open(&fixture, NULL), STATUS_OK);
    append(&fixture, 3, 10, "ten");
    append(&fixture, 3, 11, "eleven");
    append(&fixture, 8, 1, "one");
    assert_int_equal(journal_put_state(fixture.journal, 5, bytes_of("vote", 4)), STATUS_OK);
    assert_int_equal(journal_flush(fixture.journal, NULL), STATUS_OK);
    for (unsigned life = 0; life < 2; life++) {
        struct journal_group group;
        assert_int_equal(journal_next_group(fixture.journal, 0, &group), STATUS_OK);
        assert_int_equal(group.group, 3);
        assert_int_equal(group.first_index, 10);
        assert_int_equal(group.last_index, 11);
        assert_int_equal(group.state.size, 0);
        assert_int_equal(journal_next_group(fixture.journal, 4, &group), STATUS_OK);
        assert_int_equal(group.group, 5);
        assert_int_equal(group.first_index, group.last_index + 1);
        assert_true(bytes_equal(group.state, bytes_of("vote", 4)));
        assert_int_equal(journal_find_group(fixture.journal, 8, &group), STATUS_OK);
        assert_int_equal(journal_find_group(fixture.journal, 4, &group), STATUS_NOT_FOUND);
        assert_int_equal(journal_next_group(fixture.journal, 9, &group), STATUS_NOT_FOUND);
        expect(&fixture, 3, 10, "ten");
        expect(&fixture, 3, 11, "eleven");
        expect(&fixture, 8, 1, "one");
        uint64_t term;
        assert_int_equal(journal_term(fixture.journal, 3, 12, &term), STATUS_NOT_FOUND);
        assert_int_equal(journal_read(fixture.journal, 3, 9, &term, &fixture.buffer),
                         STATUS_NOT_FOUND);
        fixture_reopen(&fixture);
    }
    fixture_finish(&fixture);
}

static void appending_at_an_index_that_exists_cuts_the_run_there(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    assert_int_equal(fixture_open(&fixture, NULL), STATUS_OK);
    for (uint64_t i = 1; i <= 5; i++) append(&fixture, 1, i, "old");
    assert_int_equal(journal_flush(fixture.journal, NULL), STATUS_OK);
    append(&fixture, 1, 3, "new");
    assert_int_equal(journal_flush(fixture.journal, NULL), STATUS_OK);
    for (unsigned life = 0; life < 2; life++) {
        struct journal_group group;
        assert_int_equal(journal_find_group(fixture.journal, 1, &group), STATUS_OK);
        assert_int_equal(group.last_index, 3);
        expect(&fixture, 1, 2, "old");
        expect(&fixture, 1, 3, "new");
        fixture_reopen(&fixture);
    }
    fixture_finish(&fixture);
}

static void staged_records_that_were_not_flushed_are_lost(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    assert_int_equal(fixture_open(&fixture, NULL), STATUS_OK);
    append(&fixture, 1, 1, "flushed");
    assert_int_equal(journal_flush(fixture.journal, NULL), STATUS_OK);
    append(&fixture, 1, 2, "staged");
    expect(&fixture, 1, 2, "staged");
    fixture_reopen(&fixture);
    struct journal_group group;
    assert_int_equal(journal_find_group(fixture.journal, 1, &group), STATUS_OK);
    assert_int_equal(group.last_index, 1);
    fixture_finish(&fixture);
}

static void a_failed_sync_closes_the_journal_for_good(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    assert_int_equal(fixture_open(&fixture, NULL), STATUS_OK);
    append(&fixture, 1, 1, "a");
    fixture.sim.options.sync_fails_at = fixture.sim.counters.syncs + 1;
    struct error error = { 0 };
    assert_int_equal(journal_flush(fixture.journal, &error), STATUS_IO);
    assert_non_null(strstr(error.text, "restart"));
    uint64_t term;
    assert_int_equal(journal_flush(fixture.journal, NULL), STATUS_IO);
    assert_int_equal(journal_maintain(fixture.journal, NULL), STATUS_IO);
    assert_int_equal(journal_mark_synced(fixture.journal, NULL), STATUS_IO);
    assert_int_equal(journal_append(fixture.journal, 1, 2, 1, bytes_of("b", 1)), STATUS_IO);
    assert_int_equal(journal_put_state(fixture.journal, 1, bytes_of("b", 1)), STATUS_IO);
    assert_int_equal(journal_release(fixture.journal, 1, 1), STATUS_IO);
    assert_int_equal(journal_truncate(fixture.journal, 1, 1), STATUS_IO);
    assert_int_equal(journal_remove_group(fixture.journal, 1), STATUS_IO);
    assert_int_equal(journal_read(fixture.journal, 1, 1, &term, &fixture.buffer), STATUS_IO);
    assert_false(journal_wants_maintenance(fixture.journal));
    fixture_finish(&fixture);
}

/* Append until nothing more is taken; returns the last index. */
static uint64_t fill_up(struct fixture *fixture, enum status *ret_status)
{
    char text[1001];
    memset(text, 'x', 1000);
    text[1000] = 0;
    uint64_t index = 0;
    struct journal_group group;
    if (journal_find_group(fixture->journal, 1, &group) == STATUS_OK) index = group.last_index;
    for (unsigned busy = 0; busy < 100;) {
        enum status status =
            journal_append(fixture->journal, 1, index + 1, index + 1, bytes_of_text(text));
        *ret_status = status;
        if (status == STATUS_OK)
            index++;
        else if (status == STATUS_BUSY)
            busy++;
        else
            break;
        if (status == STATUS_BUSY) {
            assert_int_equal(journal_flush(fixture->journal, NULL), STATUS_OK);
        }
    }
    return index;
}

static void a_full_journal_says_so_and_is_emptied_again_by_releases(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    assert_int_equal(fixture_open(&fixture, NULL), STATUS_OK);
    uint64_t reached_before = 0;
    for (unsigned round = 0; round < 5; round++) {
        enum status status;
        uint64_t last = fill_up(&fixture, &status);
        assert_int_equal(status, STATUS_FULL);
        assert_true(last > reached_before + 100);
        reached_before = last;
        assert_true(journal_figures(fixture.journal).pressure_permille > 700);
        /* Full twice over: the disk has no room for another file either. */
        fixture.sim.options.full_at = 1;
        for (unsigned i = 0; i < 20; i++) {
            assert_int_equal(journal_put_state(fixture.journal, 1, bytes_of("vote", 4)), STATUS_OK);
        }
        assert_int_equal(journal_truncate(fixture.journal, 1, last), STATUS_OK);
        assert_int_equal(journal_release(fixture.journal, 1, last - 3), STATUS_OK);
        assert_int_equal(journal_flush(fixture.journal, NULL), STATUS_OK);
        assert_true(journal_figures(fixture.journal).pressure_permille < 700);
        append(&fixture, 1, last, "again");
        assert_int_equal(journal_flush(fixture.journal, NULL), STATUS_OK);
        fixture.sim.options.full_at = 0;
        fixture_reopen(&fixture);
        expect(&fixture, 1, last, "again");
    }
    fixture_finish(&fixture);
}

static void an_idle_group_is_carried_forward_and_pins_nothing(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    assert_int_equal(fixture_open(&fixture, NULL), STATUS_OK);
    assert_int_equal(journal_put_state(fixture.journal, 2, bytes_of("idle", 4)), STATUS_OK);
    append(&fixture, 2, 7, "uncommitted");
    char text[2001];
    memset(text, 'x', 2000);
    text[2000] = 0;
    for (uint64_t i = 1; i <= 500; i++) {
        append(&fixture, 1, i, text);
        if (i > 2) assert_int_equal(journal_release(fixture.journal, 1, i - 2), STATUS_OK);
        assert_int_equal(journal_flush(fixture.journal, NULL), STATUS_OK);
        if (journal_wants_maintenance(fixture.journal)) {
            assert_int_equal(journal_maintain(fixture.journal, NULL), STATUS_OK);
        }
        assert_true(journal_figures(fixture.journal).segments <= 4);
    }
    assert_true(journal_figures(fixture.journal).carried_records > 20);
    assert_true(journal_figures(fixture.journal).bytes_on_disk <= 8ull * SEGMENT_BYTES);
    fixture_reopen(&fixture);
    expect(&fixture, 2, 7, "uncommitted");
    struct journal_group group;
    assert_int_equal(journal_find_group(fixture.journal, 2, &group), STATUS_OK);
    assert_true(bytes_equal(group.state, bytes_of("idle", 4)));
    fixture_finish(&fixture);
}

static void ten_thousand_groups_live_in_one_journal(void **state)
{
    (void)state;
    enum { GROUPS = 10000 };
    struct fixture fixture;
    fixture_init(&fixture);
    fixture.options.segment_bytes = 1024ull * 1024;
    fixture.options.total_bytes_max = 16ull * 1024 * 1024;
    assert_int_equal(fixture_open(&fixture, NULL), STATUS_OK);
    for (uint64_t group = 1; group <= GROUPS; group++) {
        uint64_t number = group * 7919 % 10007;
        enum status status = journal_put_state(fixture.journal, number, bytes_of("s", 1));
        if (status == STATUS_OK) {
            status = journal_append(fixture.journal, number, 1, 1, bytes_of("entry", 5));
        }
        if (status == STATUS_OK) continue;
        assert_int_equal(status, STATUS_BUSY);
        assert_int_equal(journal_flush(fixture.journal, NULL), STATUS_OK);
        group--;
    }
    assert_int_equal(journal_flush(fixture.journal, NULL), STATUS_OK);
    fixture_reopen(&fixture);
    uint64_t next = 0, count = 0;
    struct journal_group group;
    while (journal_next_group(fixture.journal, next, &group) == STATUS_OK) {
        assert_true(group.group >= next);
        assert_int_equal(group.last_index, 1);
        next = group.group + 1;
        count++;
    }
    assert_int_equal(count, GROUPS);
    fixture_finish(&fixture);
}

static void wrong_disks_newer_versions_and_cut_files_are_refused(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    assert_int_equal(fixture_open(&fixture, NULL), STATUS_OK);
    append(&fixture, 1, 1, "a");
    assert_int_equal(journal_flush(fixture.journal, NULL), STATUS_OK);
    journal_close(fixture.journal);
    fixture.journal = NULL;
    struct error error = { 0 };

    fixture.options.disk_incarnation.bytes[0] = 8;
    assert_int_equal(fixture_open(&fixture, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error.text, "another incarnation"));
    fixture.options.disk_incarnation.bytes[0] = 7;

    assert_int_equal(sim_disk_rot(&fixture.sim, "journal/slot-0000", 8, 1), STATUS_OK);
    assert_int_equal(sim_disk_rot(&fixture.sim, "journal/slot-0000", 512 + 8, 1), STATUS_OK);
    assert_int_equal(fixture_open(&fixture, &error), STATUS_UNSUPPORTED);
    assert_non_null(strstr(error.text, "newer"));
    assert_int_equal(sim_disk_rot(&fixture.sim, "journal/slot-0000", 8, 1), STATUS_OK);
    assert_int_equal(sim_disk_rot(&fixture.sim, "journal/slot-0000", 512 + 8, 1), STATUS_OK);

    struct disk *disk = &fixture.sim.disk;
    struct disk_file *file;
    assert_int_equal(disk->open(disk, "journal/slot-0000", DISK_OPEN_WRITE, &file), STATUS_OK);
    assert_int_equal(disk->truncate(file, SEGMENT_BYTES - 4096), STATUS_OK);
    assert_int_equal(fixture_open(&fixture, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error.text, "cut off"));
    assert_int_equal(disk->truncate(file, SEGMENT_BYTES), STATUS_OK);
    disk->close(file);

    fixture.sim.options.read_only = true;
    assert_int_equal(fixture_open(&fixture, &error), STATUS_DENIED);
    fixture.sim.options.read_only = false;
    assert_int_equal(fixture_open(&fixture, &error), STATUS_OK);
    expect(&fixture, 1, 1, "a");
    fixture_finish(&fixture);
}

static void a_journal_that_must_exist_is_not_begun_anew(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture.options.must_exist = true;
    struct error error = { 0 };
    assert_int_equal(fixture_open(&fixture, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error.text, "gone"));
    fixture.options.must_exist = false;
    assert_int_equal(fixture_open(&fixture, &error), STATUS_OK);
    append(&fixture, 1, 1, "a");
    assert_int_equal(journal_flush(fixture.journal, NULL), STATUS_OK);
    fixture.options.must_exist = true;
    fixture_reopen(&fixture);
    fixture_finish(&fixture);
}

static void every_truncation_and_change_of_a_record_is_found(void **state)
{
    (void)state;
    uint8_t bytes[128], exact[128];
    struct journal_record record = { .kind = JOURNAL_RECORD_ENTRY,
                                     .group = 1,
                                     .index = 2,
                                     .term = 3,
                                     .payload = bytes_of("0123456789", 10) };
    size_t size = journal_record_size(record.payload.size);
    journal_record_encode(&record, bytes);
    struct journal_record found;
    assert_true(journal_record_decode(bytes, size, &found));
    assert_true(bytes_equal(found.payload, record.payload));
    for (size_t cut = 0; cut < size; cut++) {
        assert_false(journal_record_decode(bytes, cut, &found));
    }
    for (size_t at = 0; at < JOURNAL_RECORD_HEADER_BYTES + record.payload.size; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(exact, bytes, size);
            exact[at] ^= (uint8_t)(1U << bit);
            assert_false(journal_record_decode(exact, size, &found));
        }
    }
}

static void every_change_of_a_batch_is_found(void **state)
{
    (void)state;
    uint8_t *batch = calloc(1, JOURNAL_BLOCK_BYTES);
    assert_non_null(batch);
    struct journal_batch_header header = { .segment = 1,
                                           .sequence = 2,
                                           .oldest_segment = 1,
                                           .epoch = 1,
                                           .size_bytes = JOURNAL_BLOCK_BYTES,
                                           .used_bytes = 64,
                                           .record_count = 2 };
    uint64_t salt = journal_salt(&(struct id) { { 7 } }, 1);
    journal_batch_encode(&header, salt, batch);
    struct journal_batch_header found;
    assert_true(journal_batch_decode(batch, salt, JOURNAL_BLOCK_BYTES, &found));
    assert_true(journal_batch_body_holds(&found, batch));
    assert_false(journal_batch_decode(batch, salt + 1, JOURNAL_BLOCK_BYTES, &found));
    assert_false(journal_batch_decode(batch, salt, JOURNAL_BLOCK_BYTES - 1, &found));
    for (size_t at = 0; at < JOURNAL_BLOCK_BYTES; at++) {
        batch[at] ^= 0x10;
        bool holds = journal_batch_decode(batch, salt, JOURNAL_BLOCK_BYTES, &found) &&
                     journal_batch_body_holds(&found, batch);
        assert_false(holds);
        batch[at] ^= 0x10;
    }
    free(batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_and_entries_are_found_before_and_after_reopening),
        cmocka_unit_test(appending_at_an_index_that_exists_cuts_the_run_there),
        cmocka_unit_test(staged_records_that_were_not_flushed_are_lost),
        cmocka_unit_test(a_failed_sync_closes_the_journal_for_good),
        cmocka_unit_test(a_full_journal_says_so_and_is_emptied_again_by_releases),
        cmocka_unit_test(an_idle_group_is_carried_forward_and_pins_nothing),
        cmocka_unit_test(ten_thousand_groups_live_in_one_journal),
        cmocka_unit_test(wrong_disks_newer_versions_and_cut_files_are_refused),
        cmocka_unit_test(a_journal_that_must_exist_is_not_begun_anew),
        cmocka_unit_test(every_truncation_and_change_of_a_record_is_found),
        cmocka_unit_test(every_change_of_a_batch_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
