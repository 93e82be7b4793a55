/* Three machines, one log: what was acknowledged survives the leader, a read never shows the past,
 * and equal index means equal hash.
 *
 * Method: three hosts in one simulation, each on a disk of its own, joined by a transport that
 * delays every message by chance, loses some, and can cut a machine off. The log is the
 * directory's: its names are what was written. */
#include "replica/internal.h"
#include "sim/disk.h"
#include "sim/wait.h"

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MACHINES = 3, MS = 1000000, LOSS_PERCENT = 3 };

struct cluster;

struct machine {
    struct replica_transport transport;
    struct cluster *cluster;
    unsigned number;
    struct sim_disk disk;
    struct replica_host *host;
    uint64_t id;
    bool cut_off;
};

struct letter {
    TAILQ_ENTRY(letter) links;
    uint64_t due_ns;
    unsigned from, to;
    struct raft_message message;
    size_t size;
    uint8_t payload[];
};
TAILQ_HEAD(letter_list, letter);

struct cluster {
    struct reactor *reactor;
    struct scope *root;
    struct machine machines[MACHINES];
    struct letter_list letters;
    struct random_seeded random;
    struct condition posted;
    unsigned written;
    void (*main)(struct cluster *cluster);
};

/* --- the transport -----------------------------------------------------------------------------
 */

static uint64_t cluster_now_ns(struct cluster *cluster)
{
    uint64_t now_ns;
    clock_monotonic_ns(reactor_clock(cluster->reactor), &now_ns);
    return now_ns;
}

static void send_letter(struct replica_transport *transport, const struct raft_message *message,
                        struct bytes payload)
{
    struct machine *from = (struct machine *)transport;
    struct cluster *cluster = from->cluster;
    uint64_t lost, delay;
    random_below(&cluster->random.random, 100, &lost);
    random_below(&cluster->random.random, 5ull * MS, &delay);
    if (lost < LOSS_PERCENT) return;
    for (unsigned i = 0; i < MACHINES; i++) {
        if (cluster->machines[i].id != message->to) continue;
        struct letter *letter = malloc(sizeof *letter + payload.size);
        assert(letter != NULL);
        *letter = (struct letter) { .due_ns = cluster_now_ns(cluster) + 10000 + delay,
                                    .from = from->number,
                                    .to = i,
                                    .message = *message,
                                    .size = payload.size };
        letter->message.payload_bytes = (uint32_t)payload.size;
        if (payload.size > 0) memcpy(letter->payload, payload.data, payload.size);
        struct letter *behind;
        TAILQ_FOREACH (behind, &cluster->letters, links) {
            if (behind->due_ns > letter->due_ns) break;
        }
        if (behind == NULL)
            TAILQ_INSERT_TAIL(&cluster->letters, letter, links);
        else
            TAILQ_INSERT_BEFORE(behind, letter, links);
        condition_signal(&cluster->posted);
    }
}

static void courier(void *argument)
{
    struct cluster *cluster = argument;
    for (;;) {
        struct letter *letter = TAILQ_FIRST(&cluster->letters);
        /* NOLINTNEXTLINE: the analyzer takes the removed letter for the head. */
        uint64_t due_ns = letter == NULL ? DEADLINE_NEVER : letter->due_ns;
        if (due_ns > cluster_now_ns(cluster)) {
            if (condition_wait(&cluster->posted, due_ns) == STATUS_CANCELLED) return;
            continue;
        }
        TAILQ_REMOVE(&cluster->letters, letter, links);
        struct machine *from = &cluster->machines[letter->from];
        struct machine *to = &cluster->machines[letter->to];
        if (to->host != NULL && !to->cut_off && !from->cut_off) {
            replica_host_receive(to->host, &letter->message,
                                 bytes_of(letter->payload, letter->size));
        }
        free(letter);
    }
}

/* --- machines ----------------------------------------------------------------------------------
 */

/* The links between MACHINE and the others are lost, or there again. */
static void tell_links(struct machine *machine, bool up)
{
    for (unsigned i = 0; i < MACHINES; i++) {
        struct machine *other = &machine->cluster->machines[i];
        if (other == machine || other->host == NULL) continue;
        replica_host_link(other->host, machine->id, up);
        if (machine->host != NULL) replica_host_link(machine->host, other->id, up);
    }
}

static void machine_open(struct machine *machine)
{
    struct cluster *cluster = machine->cluster;
    struct replica_host_options options = {
        .reactor = cluster->reactor,
        .scope = cluster->root,
        .disk = &machine->disk.disk,
        .store_disk = &machine->disk.blocking,
        .clock = reactor_clock(cluster->reactor),
        .random = reactor_random(cluster->reactor),
        .simulation = true,
        .computer = { { 1 } },
        .machine = { { (uint8_t)(machine->number + 1) } },
        .disk_incarnation = { { 7 } },
        .journal_segment_bytes = 64ull * 1024,
        .transport = &machine->transport,
        .joining = machine->number != 0,
    };
    struct error error = { 0 };
    enum status status = replica_host_open(&options, &machine->host, &error);
    if (status == STATUS_OK) status = replica_host_start(machine->host, &error);
    if (status != STATUS_OK) print_message("machine %u: %s\n", machine->number, error.text);
    assert_int_equal(status, STATUS_OK);
    tell_links(machine, true);
}

static void machine_lose_power(struct machine *machine)
{
    sim_disk_lose_power(&machine->disk);
    struct replica_host *host = machine->host;
    machine->host = NULL;
    replica_host_close(host);
    sim_disk_restart(&machine->disk);
    tell_links(machine, false);
}

static struct replica *log_of(struct machine *machine)
{
    return machine->host->directory;
}

static void sleep_ms(uint64_t ms)
{
    assert_int_equal(fiber_sleep_ns(ms * MS), STATUS_OK);
}

/* The machine that leads and is not cut off. */
static struct machine *await_leader(struct cluster *cluster)
{
    for (unsigned i = 0; i < 1000; i++) {
        for (unsigned n = 0; n < MACHINES; n++) {
            struct machine *machine = &cluster->machines[n];
            if (machine->host == NULL || machine->cut_off) continue;
            struct error error;
            if (!replica_figures(log_of(machine)).is_leader) continue;
            if (replica_read_barrier(log_of(machine), cluster_now_ns(cluster) + 500ull * MS,
                                     &error) == STATUS_OK) {
                return machine;
            }
        }
        sleep_ms(20);
    }
    fail_msg("nobody leads");
    return NULL;
}

static enum status write_name(struct machine *machine, unsigned number, struct error *error)
{
    struct directory_command command = { .kind = DIRECTORY_CREATE, .group = { .kind = "name" } };
    snprintf(command.group.name, sizeof command.group.name, "n%u", number);
    uint8_t bytes[DIRECTORY_COMMAND_BYTES_MAX];
    struct writer writer = writer_of(bytes, sizeof bytes);
    assert_int_equal(directory_command_encode(&command, &writer), STATUS_OK);
    struct replica_request request = { .payload = bytes_of(bytes, writer.used),
                                       .deadline_ns =
                                           cluster_now_ns(machine->cluster) + 2000 * (uint64_t)MS };
    struct buffer reply;
    buffer_init(&reply, 64);
    uint64_t index;
    enum status status = replica_propose(log_of(machine), &request, &reply, &index, error);
    buffer_finish(&reply);
    return status;
}

/* Write the next name through whoever leads, until it is acknowledged. */
static void must_write(struct cluster *cluster)
{
    cluster->written++;
    struct error error = { 0 };
    for (unsigned i = 0; i < 50; i++) {
        if (write_name(await_leader(cluster), cluster->written, &error) == STATUS_OK) return;
        sleep_ms(100);
    }
    fail_msg("not written: %s", error.text);
}

static unsigned names_on(struct machine *machine)
{
    struct group_description group = { 0 };
    struct error error;
    unsigned count = 0;
    while (directory_next(replica_range(log_of(machine)), group.group, &group, &error) ==
           STATUS_OK) {
        count++;
    }
    return count;
}

static void check_equal(struct cluster *cluster)
{
    sleep_ms(2000);
    struct replica_figures first = replica_figures(log_of(&cluster->machines[0]));
    for (unsigned i = 0; i < MACHINES; i++) {
        struct replica_figures figures = replica_figures(log_of(&cluster->machines[i]));
        assert_int_equal(figures.applied_index, first.applied_index);
        assert_true(figures.running_hash == first.running_hash);
        assert_int_equal(names_on(&cluster->machines[i]), cluster->written);
    }
}

static void add_member(struct cluster *cluster, unsigned number)
{
    uint64_t id = cluster->machines[number].id;
    static const enum raft_change changes[] = { RAFT_CHANGE_ADD_LEARNER, RAFT_CHANGE_PROMOTE };
    for (unsigned i = 0; i < 2; i++) {
        unsigned tries = 0;
        while (replica_change_membership(log_of(await_leader(cluster)), changes[i], id) !=
               STATUS_OK) {
            assert_true(++tries < 200);
            sleep_ms(50);
        }
    }
}

static void cluster_main(struct scope *root, void *context)
{
    struct cluster *cluster = context;
    cluster->root = root;
    struct scope scope;
    scope_init(&scope, root);
    assert_int_equal(scope_spawn(&scope, "courier", courier, cluster), STATUS_OK);
    for (unsigned i = 0; i < MACHINES; i++) machine_open(&cluster->machines[i]);
    must_write(cluster);
    for (unsigned i = 1; i < MACHINES; i++) add_member(cluster, i);
    cluster->main(cluster);
    for (unsigned i = 0; i < MACHINES; i++) {
        struct replica_host *host = cluster->machines[i].host;
        cluster->machines[i].host = NULL;
        replica_host_close(host);
    }
    scope_cancel(&scope);
    scope_join(&scope);
}

static void run(uint64_t seed, void (*main)(struct cluster *cluster))
{
    static struct cluster cluster;
    cluster = (struct cluster) { .main = main };
    TAILQ_INIT(&cluster.letters);
    condition_init(&cluster.posted);
    random_seeded_init(&cluster.random, seed);
    struct reactor_simulation_options options = { .seed = seed,
                                                  .end_ns = UINT64_C(3600) * 1000 * MS };
    assert_int_equal(reactor_create_simulation(&options, &cluster.reactor), STATUS_OK);
    for (unsigned i = 0; i < MACHINES; i++) {
        struct machine *machine = &cluster.machines[i];
        *machine =
            (struct machine) { .transport.send = send_letter, .cluster = &cluster, .number = i };
        struct id id = { { (uint8_t)(i + 1) } };
        machine->id = replica_id_of(&id, &(struct id) { { 7 } });
        sim_disk_init(&machine->disk, &(struct sim_disk_options) { .seed = seed + i,
                                                                   .sync_ns_min = 100000,
                                                                   .sync_ns_max = 300000,
                                                                   .wait = sim_wait_in_fiber });
    }
    assert_int_equal(reactor_run(cluster.reactor, cluster_main, &cluster), STATUS_OK);
    struct letter *letter;
    while ((letter = TAILQ_FIRST(&cluster.letters)) != NULL) {
        TAILQ_REMOVE(&cluster.letters, letter, links);
        free(letter);
    }
    reactor_destroy(cluster.reactor);
    for (unsigned i = 0; i < MACHINES; i++) sim_disk_finish(&cluster.machines[i].disk);
}

/* --- tests -------------------------------------------------------------------------------------
 */

static void equal_main(struct cluster *cluster)
{
    for (unsigned i = 0; i < 30; i++) must_write(cluster);
    check_equal(cluster);
}

static void three_replicas_have_equal_hashes_at_equal_index(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) run(seed, equal_main);
}

static void power_main(struct cluster *cluster)
{
    for (unsigned round = 0; round < 9; round++) {
        for (unsigned i = 0; i < 3; i++) must_write(cluster);
        struct machine *machine = &cluster->machines[round % MACHINES];
        machine_lose_power(machine);
        for (unsigned i = 0; i < 3; i++) must_write(cluster);
        machine_open(machine);
    }
    check_equal(cluster);
}

static void a_majority_goes_on_while_one_machine_is_without_power(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) run(seed, power_main);
}

static void dark_main(struct cluster *cluster)
{
    for (unsigned i = 0; i < 5; i++) must_write(cluster);
    for (unsigned i = 0; i < MACHINES; i++) machine_lose_power(&cluster->machines[i]);
    for (unsigned i = 0; i < MACHINES; i++) machine_open(&cluster->machines[i]);
    must_write(cluster);
    check_equal(cluster);
}

static void all_machines_without_power_lose_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) run(seed, dark_main);
}

static void cut_main(struct cluster *cluster)
{
    for (unsigned i = 0; i < 5; i++) must_write(cluster);
    struct machine *old = await_leader(cluster);
    old->cut_off = true;
    tell_links(old, false);
    must_write(cluster); /* by another leader */
    struct error error;
    /* The old one holds the past; it must not show it. */
    assert_int_not_equal(
        replica_read_barrier(log_of(old), cluster_now_ns(cluster) + 1000ull * MS, &error),
        STATUS_OK);
    assert_int_not_equal(write_name(old, 999, &error), STATUS_OK);
    sleep_ms(3000);
    old->cut_off = false;
    tell_links(old, true);
    must_write(cluster);
    check_equal(cluster); /* 999 is nowhere */
}

static void a_leader_that_was_cut_off_shows_nothing_and_writes_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) run(seed, cut_main);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_replicas_have_equal_hashes_at_equal_index),
        cmocka_unit_test(a_majority_goes_on_while_one_machine_is_without_power),
        cmocka_unit_test(all_machines_without_power_lose_nothing),
        cmocka_unit_test(a_leader_that_was_cut_off_shows_nothing_and_writes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
