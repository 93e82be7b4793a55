/* A replica host keeps what it answered, applies each request once, and goes on in computer time.
 *
 * Method: lives of one machine on a simulated disk under virtual time (sim/replica_world.h):
 * propose lines to a ledger, end the life in some way, and look what the next one finds. */
#include "sim/replica_world.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { MS = 1000000 };
#define HOUR_MS UINT64_C(3600000)

static void must_open(struct world *world)
{
    struct error error = { 0 };
    enum status status = world_open(world, &error);
    if (status != STATUS_OK) print_message("open: %s: %s\n", status_name(status), error.text);
    assert_int_equal(status, STATUS_OK);
}

static void must_propose(struct world *world, unsigned session, uint64_t sequence, const char *text,
                         const char *reply_wanted)
{
    char reply[WORLD_LINE_BYTES_MAX];
    struct error error = { 0 };
    enum status status = world_propose(world, session, sequence, text, reply, &error);
    if (status != STATUS_OK) print_message("propose: %s\n", error.text);
    assert_int_equal(status, STATUS_OK);
    if (reply_wanted != NULL) assert_string_equal(reply, reply_wanted);
}

static void flush_store(struct world *world)
{
    struct error error;
    assert_int_equal(store_flush(world->host->store, &error), STATUS_OK);
}

static void check_world(const struct world *world)
{
    assert_false(world->hash_differed);
    assert_false(world->time_went_back);
}

static void simulate(void (*main)(struct world *world))
{
    static struct world world;
    struct sim_disk_options disk = { 0 };
    world_run(&world, 1, &disk, main);
    check_world(&world);
}

/* --- propose and recover -----------------------------------------------------------------------
 */

static void answers_main(struct world *world)
{
    must_open(world);
    must_propose(world, 0, 0, "one", "1 one");
    must_propose(world, 0, 0, "two", "2 two");
    struct replica_figures figures = replica_figures(world_main(world));
    assert_true(figures.is_leader);
    assert_int_equal(figures.applied_index, figures.commit_index);
    assert_int_equal(figures.applied_index, figures.last_index);
    assert_int_equal(world_lines(world), 2);
}

static void a_proposal_is_answered_with_what_it_did(void **state)
{
    (void)state;
    simulate(answers_main);
}

static void recovers_main(struct world *world)
{
    must_open(world);
    must_propose(world, 0, 0, "one", NULL);
    must_propose(world, 0, 0, "two", NULL);
    for (unsigned way = 0; way < 4; way++) {
        struct replica_figures before = replica_figures(world_main(world));
        if (way == 1) flush_store(world); /* the store alone, before the crash */
        if (way == 0) world_exit(world);
        if (way == 1 || way == 2) world_crash(world);
        if (way == 3) world_lose_power(world);
        must_open(world);
        struct replica_figures after = replica_figures(world_main(world));
        /* The no-op of the new term came behind. */
        assert_int_equal(after.applied_index, before.applied_index + 1);
        assert_true(after.term > before.term);
        assert_int_equal(world_lines(world), 2);
        assert_int_equal(world_count(world, "one"), 1);
    }
}

static void a_new_life_finds_all_after_close_crash_and_power_loss(void **state)
{
    (void)state;
    simulate(recovers_main);
}

struct proposer {
    struct world *world;
    unsigned number;
    unsigned done;
};

static void propose_many(void *argument)
{
    struct proposer *proposer = argument;
    for (unsigned i = 0; i < 10; i++) {
        char line[32];
        snprintf(line, sizeof line, "line %u of %u", i, proposer->number);
        struct error error;
        if (world_propose(proposer->world, 0, 0, line, NULL, &error) == STATUS_OK) proposer->done++;
    }
}

static void batches_main(struct world *world)
{
    enum { PROPOSERS = 64 };
    must_open(world);
    struct proposer proposers[PROPOSERS];
    struct scope scope;
    scope_init(&scope, world->root);
    uint64_t flushes = journal_figures(world->host->journal).flushes;
    for (unsigned i = 0; i < PROPOSERS; i++) {
        proposers[i] = (struct proposer) { .world = world, .number = i };
        assert_int_equal(scope_spawn(&scope, "proposer", propose_many, &proposers[i]), STATUS_OK);
    }
    scope_join(&scope);
    for (unsigned i = 0; i < PROPOSERS; i++) assert_int_equal(proposers[i].done, 10);
    flushes = journal_figures(world->host->journal).flushes - flushes;
    print_message("[ %u proposals in %" PRIu64 " flushes ]\n", PROPOSERS * 10, flushes);
    assert_in_range(flushes, 1, 40);
    assert_int_equal(world_lines(world), PROPOSERS * 10);
}

static void proposals_that_wait_share_a_flush(void **state)
{
    (void)state;
    simulate(batches_main);
}

/* --- sessions ----------------------------------------------------------------------------------
 */

static void retries_main(struct world *world)
{
    must_open(world);
    must_propose(world, 7, 1, "one", "1 one");
    must_propose(world, 7, 1, "one", "1 one");
    must_propose(world, 7, 2, "two", "2 two");
    must_propose(world, 8, 1, "one of another", "3 one of another");
    must_propose(world, 7, 1, "one", "1 one");
    for (unsigned way = 0; way < 2; way++) {
        flush_store(world); /* so that the next life takes sessions from the store */
        if (way == 0) world_crash(world);
        if (way == 1) world_lose_power(world);
        must_open(world);
        must_propose(world, 7, 2, "two", "2 two");
        must_propose(world, 8, 1, "one of another", "3 one of another");
        assert_int_equal(world_lines(world), 3);
    }
}

static void a_retried_request_is_applied_once_and_answered_the_same(void **state)
{
    (void)state;
    simulate(retries_main);
}

static void windows_main(struct world *world)
{
    must_open(world);
    struct error error;
    must_propose(world, 7, 100, "hundred", NULL);
    must_propose(world, 7, 37, "oldest in the window", NULL);
    assert_int_equal(world_propose(world, 7, 36, "behind it", NULL, &error), STATUS_INVALID);
    assert_int_equal(world_propose(world, 7, 0, "zero", NULL, &error), STATUS_INVALID);
    must_propose(world, 7, 101, "next", NULL);
    assert_int_equal(world_propose(world, 7, 37, "oldest in the window", NULL, &error),
                     STATUS_INVALID);
    assert_int_equal(world_lines(world), 3);
}

static void a_sequence_behind_the_window_is_refused(void **state)
{
    (void)state;
    simulate(windows_main);
}

static void large_main(struct world *world)
{
    must_open(world);
    struct error error;
    must_propose(world, 7, 1, "answer 1024", NULL);
    must_propose(world, 7, 1, "answer 1024", NULL);
    must_propose(world, 7, 2, "answer 1025", NULL);
    assert_int_equal(world_propose(world, 7, 2, "answer 1025", NULL, &error), STATUS_EXISTS);
    assert_int_equal(world_lines(world), 2);
}

static void a_reply_too_large_to_remember_is_told_apart(void **state)
{
    (void)state;
    simulate(large_main);
}

static void sleep_ms(uint64_t ms)
{
    assert_int_equal(fiber_sleep_ns(ms * MS), STATUS_OK);
}

static void expires_main(struct world *world)
{
    must_open(world);
    must_propose(world, 7, 1, "one", "1 one");
    sleep_ms(HOUR_MS - 1000);
    must_propose(world, 7, 1, "one", "1 one");
    sleep_ms(2000);
    assert_int_equal(session_table_figures(world_main(world)->applier.sessions).count, 1);
    must_propose(world, 8, 1, "another", "2 another");
    assert_int_equal(session_table_figures(world_main(world)->applier.sessions).count, 1);
    must_propose(world, 7, 1, "one", "3 one");
    /* Time that passes while the machine is off is not computer time. */
    world_exit(world);
    sleep_ms(100 * HOUR_MS);
    must_open(world);
    must_propose(world, 7, 1, "one", "3 one");
}

static void sessions_expire_in_computer_time(void **state)
{
    (void)state;
    simulate(expires_main);
}

/* --- computer time -----------------------------------------------------------------------------
 */

static void time_main(struct world *world)
{
    must_open(world);
    uint64_t start_ms = replica_computer_time_ms(world_main(world));
    sleep_ms(5000);
    assert_int_equal(replica_computer_time_ms(world_main(world)), start_ms + 5000);
    must_propose(world, 0, 0, "one", NULL);
    uint64_t stopped_ms = replica_computer_time_ms(world_main(world));
    for (unsigned i = 0; i < 3; i++) {
        if (i == 1) flush_store(world);
        world_lose_power(world);
        sleep_ms(1000 * HOUR_MS / 100);
        must_open(world);
        uint64_t now_ms = replica_computer_time_ms(world_main(world));
        assert_in_range(now_ms, stopped_ms, stopped_ms + 1000);
        must_propose(world, 0, 0, "again", NULL);
        stopped_ms = replica_computer_time_ms(world_main(world));
    }
}

static void time_goes_on_where_it_stopped(void **state)
{
    (void)state;
    simulate(time_main);
}

static void alarm_main(struct world *world)
{
    must_open(world);
    must_propose(world, 0, 0, "ring 5000", NULL);
    sleep_ms(4990);
    assert_int_equal(world_count(world, "rang"), 0);
    sleep_ms(20);
    assert_int_equal(world_count(world, "rang"), 1);
    must_propose(world, 0, 0, "ring 5000", NULL);
    world_lose_power(world);
    sleep_ms(HOUR_MS);
    must_open(world);
    assert_int_equal(world_count(world, "rang"), 1);
    sleep_ms(5100);
    assert_int_equal(world_count(world, "rang"), 2);
}

static void a_group_wakes_for_its_next_deadline(void **state)
{
    (void)state;
    simulate(alarm_main);
}

static void idle_main(struct world *world)
{
    must_open(world);
    must_propose(world, 0, 0, "one", NULL);
    sleep_ms(10000);
    uint64_t hash = reactor_trace_hash(world->reactor);
    struct scope scope;
    scope_init(&scope, world->root); /* no fiber but this one runs meanwhile */
    scope_join(&scope);
    assert_null(RB_MIN(replica_deadline_tree, &world->host->by_deadline));
    uint64_t flushes = journal_figures(world->host->journal).flushes;
    sleep_ms(HOUR_MS);
    assert_int_equal(journal_figures(world->host->journal).flushes, flushes);
    assert_int_not_equal(hash, reactor_trace_hash(world->reactor));
}

static void an_idle_group_has_no_timer(void **state)
{
    (void)state;
    simulate(idle_main);
}

/* --- reads -------------------------------------------------------------------------------------
 */

struct early_reader {
    struct world *world;
    uint64_t seen;
    bool read;
};

/* Read as soon as there is a group to read from, which is before it has caught up. */
static void read_early(void *argument)
{
    struct early_reader *reader = argument;
    struct world *world = reader->world;
    struct replica *replica;
    for (unsigned i = 0; i < 100000; i++) {
        struct error error;
        if (world->host != NULL &&
            replica_find(world->host, "ledger", "main", &replica) == STATUS_OK &&
            replica_read_barrier(replica, DEADLINE_NEVER, &error) == STATUS_OK) {
            reader->seen = world_lines(world);
            reader->read = true;
            return;
        }
        if (fiber_sleep_ns(1000) != STATUS_OK) return;
    }
}

static void reads_main(struct world *world)
{
    must_open(world);
    for (unsigned i = 0; i < 100; i++) must_propose(world, 0, 0, "line", NULL);
    struct error error;
    assert_int_equal(replica_read_barrier(world_main(world), DEADLINE_NEVER, &error), STATUS_OK);
    assert_int_equal(world_lines(world), 100);
    world_lose_power(world);

    struct early_reader reader = { .world = world };
    struct scope scope;
    scope_init(&scope, world->root);
    assert_int_equal(scope_spawn(&scope, "reader", read_early, &reader), STATUS_OK);
    must_open(world);
    scope_join(&scope);
    assert_true(reader.read);
    assert_int_equal(reader.seen, 100);
}

static void a_read_sees_every_acknowledged_write_also_during_recovery(void **state)
{
    (void)state;
    simulate(reads_main);
}

/* --- directory ---------------------------------------------------------------------------------
 */

static void directory_main(struct world *world)
{
    struct error error;
    uint64_t first, second, again;
    must_open(world);
    assert_int_equal(replica_create_group(world->host, "ledger", "a", &first, &error), STATUS_OK);
    assert_int_equal(replica_create_group(world->host, "ledger", "b", &second, &error), STATUS_OK);
    assert_true(second > first);
    assert_int_equal(replica_create_group(world->host, "ledger", "a", &again, &error),
                     STATUS_EXISTS);
    assert_int_equal(again, first);
    assert_int_equal(replica_create_group(world->host, "unknown", "a", &again, &error),
                     STATUS_INVALID);
    assert_int_equal(replica_create_group(world->host, "ledger", "a b", &again, &error),
                     STATUS_INVALID);
    assert_int_equal(replica_remove_group(world->host, 1, &error), STATUS_INVALID);
    assert_int_equal(replica_remove_group(world->host, second, &error), STATUS_OK);
    assert_int_equal(replica_remove_group(world->host, second, &error), STATUS_NOT_FOUND);
    world_lose_power(world);

    must_open(world);
    struct replica *replica;
    assert_int_equal(replica_find(world->host, "ledger", "a", &replica), STATUS_OK);
    assert_int_equal(replica_figures(replica).group, first);
    assert_int_equal(replica_find(world->host, "ledger", "b", &replica), STATUS_NOT_FOUND);
    assert_int_equal(replica_create_group(world->host, "ledger", "b", &again, &error), STATUS_OK);
    assert_true(again > second);
}

static void the_directory_survives_and_never_gives_a_number_twice(void **state)
{
    (void)state;
    simulate(directory_main);
}

static void removal_main(struct world *world)
{
    struct error error;
    uint64_t group;
    must_open(world);
    struct replica *replica = world_main(world);
    group = replica_figures(replica).group;
    must_propose(world, 0, 0, "one", NULL);
    assert_int_equal(replica_remove_group(world->host, group, &error), STATUS_OK);
    sleep_ms(1000);
    struct replica_request request = { .deadline_ns = DEADLINE_NEVER };
    struct buffer reply;
    uint64_t index;
    buffer_init(&reply, 100);
    assert_int_equal(replica_propose(replica, &request, &reply, &index, &error),
                     STATUS_UNAVAILABLE);
    buffer_finish(&reply);
    world_exit(world);
    must_open(world); /* makes "main" again */
    assert_int_equal(world_lines(world), 0);
    assert_true(replica_figures(world_main(world)).group > group);
    struct journal_group found;
    assert_int_equal(journal_find_group(world->host->journal, group, &found), STATUS_NOT_FOUND);
}

static void a_removed_group_is_gone_with_its_state(void **state)
{
    (void)state;
    simulate(removal_main);
}

/* --- failures ----------------------------------------------------------------------------------
 */

static void failing_main(struct world *world)
{
    must_open(world);
    must_propose(world, 7, 1, "one", NULL);
    struct error error = { 0 };
    assert_int_equal(replica_host_health(world->host, &error), STATUS_OK);
    world->disk.options.sync_fails_at = world->disk.counters.syncs + 1;
    assert_int_equal(world_propose(world, 7, 2, "two", NULL, &error), STATUS_IO);
    assert_int_equal(replica_host_health(world->host, &error), STATUS_IO);
    assert_true(error.text[0] != '\0');
    print_message("[ %s ]\n", error.text);
    assert_int_equal(world_propose(world, 7, 3, "three", NULL, &error), STATUS_IO);
    assert_int_equal(replica_read_barrier(world_main(world), DEADLINE_NEVER, &error), STATUS_IO);
    world_lose_power(world);
    must_open(world);
    must_propose(world, 7, 1, "one", "1 one");
    must_propose(world, 7, 2, "two", "2 two"); /* whatever became of it: once */
    assert_int_equal(world_lines(world), 2);
}

static void a_failed_sync_stops_the_host(void **state)
{
    (void)state;
    simulate(failing_main);
}

/* The disk is full for a while: what is refused says so, what was in the log already is applied
 * once there is room, and nothing acknowledged is lost. */
static void full_main(struct world *world)
{
    must_open(world);
    must_propose(world, 7, 1, "one", NULL);
    sleep_ms(1000);
    world->disk.options.full_at = world->disk.counters.operations + 1;
    enum status status = STATUS_OK;
    unsigned accepted = 1;
    char line[1000];
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    uint64_t now_ns;
    struct error error = { 0 };
    struct buffer reply;
    buffer_init(&reply, WORLD_ANSWER_BYTES_MAX);
    while (accepted < 3000) {
        uint64_t index;
        clock_monotonic_ns(reactor_clock(world->reactor), &now_ns);
        struct replica_request request = { .session.bytes = { 7 },
                                           .sequence = accepted + 1,
                                           .payload = bytes_of_text(line),
                                           .deadline_ns = now_ns + 1000 * (uint64_t)MS,
                                           .essential = true };
        status = replica_propose(world_main(world), &request, &reply, &index, &error);
        if (status != STATUS_OK) break;
        accepted++;
    }
    print_message("[ %u accepted, then %s: %s ]\n", accepted, status_name(status), error.text);
    assert_true(status == STATUS_FULL || status == STATUS_TIMEOUT || status == STATUS_BUSY ||
                status == STATUS_IO);
    buffer_finish(&reply);
    world->disk.options.full_at = 0;
    if (status == STATUS_IO)
        world_crash(world);
    else
        sleep_ms(5000);
    if (world->host == NULL) must_open(world);
    assert_int_equal(replica_host_health(world->host, &error), STATUS_OK);
    must_propose(world, 8, 1, "room again", NULL);
    uint64_t lines = world_lines(world);
    assert_in_range(lines, accepted + 1, accepted + 2);
    world_lose_power(world);
    must_open(world);
    assert_int_equal(world_lines(world), lines);
}

static void a_full_disk_refuses_and_loses_nothing(void **state)
{
    (void)state;
    simulate(full_main);
}

static enum status propose_essential(struct world *world, const char *text, struct error *error)
{
    struct replica_request request = { .payload = bytes_of_text(text),
                                       .deadline_ns = DEADLINE_NEVER,
                                       .essential = true };
    struct buffer reply;
    buffer_init(&reply, WORLD_ANSWER_BYTES_MAX);
    uint64_t index;
    enum status status = replica_propose(world_main(world), &request, &reply, &index, error);
    buffer_finish(&reply);
    return status;
}

static bool reserve_is_there(struct world *world)
{
    struct disk_file *file;
    struct disk *disk = &world->disk.disk;
    if (disk->open(disk, "reserve", DISK_OPEN_READ, &file) != STATUS_OK) return false;
    disk->close(file);
    return true;
}

/* Less is left than goes on safely: ordinary writes are refused with the way on, those that free
 * room are taken, reads go on; with room all goes on by itself and the reserve is made again. */
static void nearly_full_main(struct world *world)
{
    must_open(world);
    must_propose(world, 0, 0, "one", NULL);
    sleep_ms(100);
    assert_true(reserve_is_there(world));
    world->disk.options.full_at = 1;
    sleep_ms(1000);
    struct error error = { 0 };
    assert_int_equal(world_propose(world, 0, 0, "two", NULL, &error), STATUS_FULL);
    print_message("[ %s ]\n", error.text);
    assert_non_null(strstr(error.text, "the disk is full: 0 MiB left"));
    assert_non_null(strstr(error.text, "deletes still work"));
    assert_true(reserve_is_there(world));
    assert_int_equal(propose_essential(world, "three", &error), STATUS_OK);
    assert_false(reserve_is_there(world));
    assert_int_equal(replica_read_barrier(world_main(world), DEADLINE_NEVER, &error), STATUS_OK);
    assert_int_equal(world_count(world, "two"), 0);
    assert_int_equal(world_count(world, "three"), 1);

    world->disk.options.full_at = 0;
    sleep_ms(100);
    must_propose(world, 0, 0, "four", NULL);
    sleep_ms(100);
    assert_true(reserve_is_there(world));
    world_lose_power(world);
    must_open(world);
    assert_int_equal(world_lines(world), 3);
}

static void a_nearly_full_disk_takes_only_what_frees_room(void **state)
{
    (void)state;
    simulate(nearly_full_main);
}

static void missing_main(struct world *world)
{
    must_open(world);
    must_propose(world, 0, 0, "one", NULL);
    world_exit(world);
    static struct disk_entry entries[64];
    struct disk *disk = &world->disk.disk;
    size_t count;
    assert_int_equal(disk->list(disk, "journal", entries, 64, &count), STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        char path[DISK_PATH_BYTES_MAX + 1];
        snprintf(path, sizeof path, "journal/%.200s", entries[i].name);
        assert_int_equal(disk->remove(disk, path), STATUS_OK);
    }
    struct error error = { 0 };
    assert_int_equal(world_open(world, &error), STATUS_CORRUPT);
    print_message("[ %s ]\n", error.text);
}

static void a_journal_that_is_gone_is_no_first_start(void **state)
{
    (void)state;
    simulate(missing_main);
}

static void second_main(struct world *world)
{
    must_open(world);
    struct replica_host *host;
    struct error error = { 0 };
    struct replica_host_options options = world->host->options;
    assert_int_equal(replica_host_open(&options, &host, &error), STATUS_BUSY);
    world_exit(world);
    options.machine.bytes[0]++;
    assert_int_equal(replica_host_open(&options, &host, &error), STATUS_CONFLICT);
    print_message("[ %s ]\n", error.text);
}

static void a_folder_serves_one_daemon_and_one_machine(void **state)
{
    (void)state;
    simulate(second_main);
}

static void deadline_main(struct world *world)
{
    must_open(world);
    struct error error;
    struct buffer reply;
    uint64_t index;
    uint64_t now_ns;
    buffer_init(&reply, 100);
    clock_monotonic_ns(reactor_clock(world->reactor), &now_ns);
    struct replica_request request = { .payload = bytes_of_text("late"), .deadline_ns = now_ns };
    assert_int_equal(replica_propose(world_main(world), &request, &reply, &index, &error),
                     STATUS_TIMEOUT);
    request.deadline_ns = now_ns + 1000; /* less than a sync takes */
    assert_int_equal(replica_propose(world_main(world), &request, &reply, &index, &error),
                     STATUS_TIMEOUT);
    sleep_ms(10);
    assert_int_equal(world_count(world, "late"), 1); /* the outcome was unknown */
    buffer_finish(&reply);
}

static void a_deadline_ends_the_wait_and_not_the_request(void **state)
{
    (void)state;
    simulate(deadline_main);
}

/* --- release -----------------------------------------------------------------------------------
 */

static void release_main(struct world *world)
{
    world->options.store_memtable_bytes = 64ull * 1024;
    must_open(world);
    char line[1000];
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    for (unsigned i = 0; i < 200; i++) must_propose(world, 0, 0, line, NULL);
    struct replica_figures figures = replica_figures(world_main(world));
    print_message("[ %" PRIu64 " entries, kept from %" PRIu64 " ]\n", figures.last_index,
                  figures.first_index);
    assert_true(figures.first_index > 60);
    world_lose_power(world);
    must_open(world);
    assert_int_equal(world_lines(world), 200);
}

static void the_journal_forgets_what_the_store_holds(void **state)
{
    (void)state;
    simulate(release_main);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_proposal_is_answered_with_what_it_did),
        cmocka_unit_test(a_new_life_finds_all_after_close_crash_and_power_loss),
        cmocka_unit_test(proposals_that_wait_share_a_flush),
        cmocka_unit_test(a_retried_request_is_applied_once_and_answered_the_same),
        cmocka_unit_test(a_sequence_behind_the_window_is_refused),
        cmocka_unit_test(a_reply_too_large_to_remember_is_told_apart),
        cmocka_unit_test(sessions_expire_in_computer_time),
        cmocka_unit_test(time_goes_on_where_it_stopped),
        cmocka_unit_test(a_group_wakes_for_its_next_deadline),
        cmocka_unit_test(an_idle_group_has_no_timer),
        cmocka_unit_test(a_read_sees_every_acknowledged_write_also_during_recovery),
        cmocka_unit_test(the_directory_survives_and_never_gives_a_number_twice),
        cmocka_unit_test(a_removed_group_is_gone_with_its_state),
        cmocka_unit_test(a_failed_sync_stops_the_host),
        cmocka_unit_test(a_full_disk_refuses_and_loses_nothing),
        cmocka_unit_test(a_nearly_full_disk_takes_only_what_frees_room),
        cmocka_unit_test(a_journal_that_is_gone_is_no_first_start),
        cmocka_unit_test(a_folder_serves_one_daemon_and_one_machine),
        cmocka_unit_test(a_deadline_ends_the_wait_and_not_the_request),
        cmocka_unit_test(the_journal_forgets_what_the_store_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
