/* No schedule of faults makes the cluster lie, and when the faults end it works again.
 *
 * Goal: at most one leader a term; logs that agree; nothing committed is lost; every leader has all
 * that is committed; reads are linearizable; progress after the last fault.
 * Method: for each seed a cluster of 1 to 5 voters and some blank nodes under loss, doubling,
 * delay, very late messages, partitions, crashes that lose unsynced writes, membership changes,
 * transfers, snapshots and hibernation; the oracle in raft_cluster.c watches each step.
 *
 * raft_fuzz_test [SEEDS [FIRST]]: without arguments the number that the build can afford. */
#include "consensus/raft_cluster.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FUZZ_SEEDS = 2000, FUZZ_ACTS = 120 };

static char abort_text[64]; /* made beforehand: a signal handler may not format */

static uint64_t any_node(struct cluster *cluster)
{
    return 1 + cluster_draw(cluster, CLUSTER_NODES);
}

static void act_on_processes(struct cluster *cluster)
{
    uint64_t id = any_node(cluster);
    if (cluster_node(cluster, id)->running) {
        cluster_crash(cluster, id);
        if (cluster_chance(cluster, 500)) cluster_start(cluster, id); /* at once */
    } else {
        cluster_start(cluster, id);
    }
}

static void act_on_network(struct cluster *cluster)
{
    uint64_t a = any_node(cluster);
    if (cluster_chance(cluster, 400)) {
        cluster_heal(cluster);
        return;
    }
    for (uint64_t b = 1; b <= CLUSTER_NODES; b++) {
        if (b != a && cluster_chance(cluster, 700)) cluster_cut(cluster, a, b, true);
    }
}

static void act_as_operator(struct cluster *cluster)
{
    uint64_t id = cluster_leader(cluster);
    if (id == 0 || cluster_chance(cluster, 100)) id = any_node(cluster);
    switch (cluster_draw(cluster, 4)) {
    case 0:
        (void)cluster_transfer(cluster, id, cluster_chance(cluster, 300) ? 0 : any_node(cluster));
        break;
    case 1:
        (void)cluster_step(cluster, any_node(cluster),
                           (struct raft_event) { .type = RAFT_EVENT_CAMPAIGN });
        break;
    default: {
        enum raft_change change = (enum raft_change)cluster_draw(cluster, RAFT_CHANGE_COUNT);
        uint64_t peer = any_node(cluster);
        (void)cluster_change(cluster, id, change, peer);
        break;
    }
    }
}

/* The worst for a lease: its leader is cut off from one follower for long; another, on whose
 * promise the lease rests, restarts or is wooed by a transfer; then the leader is alone and goes on
 * reading while the others elect and commit. */
static void act_against_lease(struct cluster *cluster)
{
    uint64_t leader = cluster_leader(cluster);
    uint64_t lonely = any_node(cluster);
    uint64_t restarted = any_node(cluster);

    if (leader == 0 || lonely == leader || restarted == leader || lonely == restarted) return;
    bool transfer = cluster_chance(cluster, 500);
    if (!transfer) {
        cluster_cut(cluster, leader, lonely, true);
        cluster_run(cluster, (1200 + cluster_draw(cluster, 1500)) * CONSENSUS_MILLISECOND_NS);
        if (cluster_node(cluster, restarted)->running) cluster_crash(cluster, restarted);
        if (!cluster_node(cluster, restarted)->running) cluster_start(cluster, restarted);
        (void)cluster_step(cluster, lonely, (struct raft_event) { .type = RAFT_EVENT_CAMPAIGN });
    } else {
        (void)cluster_transfer(cluster, leader, lonely);
        cluster_run(cluster, cluster_draw(cluster, 300) * CONSENSUS_MILLISECOND_NS);
    }
    for (uint64_t id = 1; id <= CLUSTER_NODES; id++) {
        if (id != leader) cluster_cut(cluster, leader, id, true);
    }
    for (int i = 0; i < 40 && cluster->violation == NULL; i++) {
        for (uint64_t id = 1; id <= CLUSTER_NODES; id++) (void)cluster_propose(cluster, id, 1);
        (void)cluster_read(cluster, leader);
        cluster_run(cluster, 25 * CONSENSUS_MILLISECOND_NS);
    }
    cluster_heal(cluster);
}

static void stand(struct cluster *cluster, uint64_t id)
{
    (void)cluster_step(cluster, id, (struct raft_event) { .type = RAFT_EVENT_CAMPAIGN });
}

static void restart(struct cluster *cluster, uint64_t id)
{
    if (cluster_node(cluster, id)->running) cluster_crash(cluster, id);
    cluster_start(cluster, id);
}

static void wait_for(struct cluster *cluster, uint64_t least_ms, uint64_t more_ms)
{
    cluster_run(cluster,
                (least_ms + cluster_draw(cluster, more_ms + 1)) * CONSENSUS_MILLISECOND_NS);
}

/* Elections on top of each other: the leader dies, several campaign at the same moment over slow
 * links, and voters restart between one candidate's request and the next one's. */
static void act_storm(struct cluster *cluster)
{
    uint64_t delay_ns_max = cluster->options.delay_ns_max;
    uint64_t leader = cluster_leader(cluster);

    if (leader != 0) cluster_crash(cluster, leader);
    wait_for(cluster, 1000, 200);
    cluster->options.delay_ns_max = 150 * CONSENSUS_MILLISECOND_NS;
    for (uint64_t id = 1; id <= CLUSTER_NODES; id++) stand(cluster, id);
    for (int i = 0; i < 8 && cluster->violation == NULL; i++) {
        wait_for(cluster, 0, 100);
        uint64_t id = any_node(cluster);
        if (cluster->violation == NULL && id != leader) restart(cluster, id);
    }
    cluster->options.delay_ns_max = delay_ns_max;
}

/* A transfer inside one half of a partition while the other half elects for itself, and the halves
 * meet in the middle of it. */
static void act_transfer_across(struct cluster *cluster)
{
    uint64_t leader = cluster_leader(cluster), target = any_node(cluster);

    if (leader == 0 || target == leader) return;
    for (uint64_t id = 1; id <= CLUSTER_NODES; id++) {
        if (id == leader || id == target) continue;
        cluster_cut(cluster, leader, id, true);
        cluster_cut(cluster, target, id, true);
    }
    uint64_t delay_ns_max = cluster->options.delay_ns_max;
    wait_for(cluster, 850, 150);
    cluster->options.delay_ns_max = 200 * CONSENSUS_MILLISECOND_NS;
    (void)cluster_transfer(cluster, leader, target);
    for (int i = 0; i < 6 && cluster->violation == NULL; i++) {
        wait_for(cluster, 0, 80);
        uint64_t candidate = any_node(cluster);
        if (candidate != leader && candidate != target) stand(cluster, candidate);
        if (i == 2) cluster_heal(cluster);
    }
    cluster->options.delay_ns_max = delay_ns_max;
    wait_for(cluster, 300, 300);
}

/* Figure 8 of the Raft paper, by chance: leaders that reach only one other with their entry die,
 * return and lead again. */
static void act_figure_8(struct cluster *cluster)
{
    for (int i = 0; i < 6 && cluster->violation == NULL; i++) {
        uint64_t leader = cluster_leader(cluster), friend = any_node(cluster);
        if (leader == 0) break;
        for (uint64_t id = 1; id <= CLUSTER_NODES; id++) {
            if (id != leader && id != friend) cluster_cut(cluster, leader, id, true);
        }
        (void)cluster_propose(cluster, leader, 1);
        wait_for(cluster, 5, 100);
        if (cluster->violation != NULL) return;
        cluster_crash(cluster, leader);
        cluster_heal(cluster);
        wait_for(cluster, 500, 3000);
        if (cluster->violation == NULL) restart(cluster, leader);
    }
}

static void act(struct cluster *cluster)
{
    uint64_t kind = cluster_draw(cluster, 20);

    for (uint64_t id = 1; id <= CLUSTER_NODES; id++) {
        if (cluster_chance(cluster, 500)) {
            (void)cluster_propose(cluster, id, 1 + (uint32_t)cluster_draw(cluster, 4));
        }
        if (cluster_chance(cluster, 500)) (void)cluster_read(cluster, id);
    }
    if (kind < 3) act_on_processes(cluster);
    if (kind >= 3 && kind < 6) act_on_network(cluster);
    if (kind >= 6 && kind < 10) act_as_operator(cluster);
    if (kind == 10 && cluster_chance(cluster, 300)) act_against_lease(cluster);
    if (kind == 11 && cluster_chance(cluster, 200)) act_storm(cluster);
    if (kind == 12 && cluster_chance(cluster, 200)) act_transfer_across(cluster);
    if (kind == 13 && cluster_chance(cluster, 100)) act_figure_8(cluster);
}

/* All faults end: the members must elect, commit something new, and agree. */
static void check_recovery(struct cluster *cluster)
{
    cluster->options.loss_per_mille = cluster->options.double_per_mille = 0;
    cluster->options.late_per_mille = 0;
    cluster_heal(cluster);
    for (uint64_t id = 1; id <= CLUSTER_NODES; id++) {
        if (!cluster_node(cluster, id)->running) cluster_start(cluster, id);
    }
    cluster_run(cluster, 20000 * CONSENSUS_MILLISECOND_NS);
    if (cluster->violation != NULL) return;
    uint64_t leader = cluster_leader(cluster), index = 0;
    uint64_t before = cluster->committed_last, reads = cluster->reads_ready;
    if (leader == 0 || cluster_propose(cluster, leader, 1) != STATUS_OK ||
        cluster_read(cluster, leader) != STATUS_OK) {
        cluster->violation = "nobody leads after the last fault";
        return;
    }
    cluster_run(cluster, 3000 * CONSENSUS_MILLISECOND_NS);
    if (cluster->violation != NULL) return;
    if (cluster->committed_last <= before) cluster->violation = "no commit after the last fault";
    if (cluster->reads_ready <= reads) cluster->violation = "no read after the last fault";
    const struct raft_membership *membership =
        raft_membership(cluster_node(cluster, leader)->raft, &index);
    for (int i = 0; i < membership->count; i++) {
        if (cluster_node(cluster, membership->ids[i])->applied < cluster->committed_last) {
            cluster->violation = "a member did not catch up after the last fault";
        }
    }
}

struct totals {
    uint64_t entries, elections, reads, snapshots, hibernations, messages;
};

static const char *run_seed(uint64_t seed, struct totals *totals)
{
    struct random_seeded shape;
    uint64_t d[8];

    random_seeded_init(&shape, seed ^ UINT64_C(0x5deece66d));
    for (int i = 0; i < 8; i++) random_below(&shape.random, 1000, &d[i]);
    struct cluster_options options = {
        .seed = seed,
        .voters = 1 + (uint32_t)d[0] % 5,
        .loss_per_mille = d[1] < 300 ? 0 : (uint32_t)d[1] / 5,
        .double_per_mille = (uint32_t)d[2] / 5,
        .late_per_mille = (uint32_t)d[3] / 20,
        .delay_ns_max = (1 + d[4] / 10) * CONSENSUS_MILLISECOND_NS,
        .sync_ns_max = (1 + d[5] / 5) * CONSENSUS_MILLISECOND_NS,
        .lease_off = d[6] < 300,
        .hibernate_after_ns = d[6] < 600 ? 0 : 2000 * CONSENSUS_MILLISECOND_NS,
        .snapshot_every = d[7] < 300 ? 0 : 8 + (uint32_t)d[7] / 50,
    };
    struct cluster *cluster = cluster_create(&options);
    for (int i = 0; i < FUZZ_ACTS && cluster->violation == NULL; i++) {
        uint64_t pause = cluster_chance(cluster, 30) ? 4000 : cluster_draw(cluster, 200);
        cluster_run(cluster, pause * CONSENSUS_MILLISECOND_NS);
        if (cluster->violation == NULL) act(cluster);
    }
    if (cluster->violation == NULL) check_recovery(cluster);
    totals->entries += cluster->committed_last;
    totals->elections += cluster->elections;
    totals->reads += cluster->reads_ready;
    totals->snapshots += cluster->snapshots_installed;
    totals->hibernations += cluster->hibernations;
    totals->messages += cluster->messages_sent;
    const char *violation = cluster->violation;
    cluster_destroy(cluster);
    return violation;
}

/* An assert of the core is a finding too: say for which seed. */
static void aborted(int signal)
{
    (void)!write(STDERR_FILENO, abort_text, strlen(abort_text));
    (void)signal;
    _exit(1);
}

int main(int argc, char **argv)
{
    uint64_t seeds = argc > 1 ? strtoull(argv[1], NULL, 10) : FUZZ_SEEDS;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    struct totals totals = { 0 };

    signal(SIGABRT, aborted);
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        (void)snprintf(abort_text, sizeof abort_text, "seed %" PRIu64 ": assertion\n", seed);
        const char *violation = run_seed(seed, &totals);
        if (violation == NULL) continue;
        fprintf(stderr, "seed %" PRIu64 ": %s (found after %" PRIu64 " seeds)\n", seed, violation,
                seed - first + 1);
        return 1;
    }
    printf("%" PRIu64 " seeds: %" PRIu64 " entries, %" PRIu64 " elections, %" PRIu64
           " reads, %" PRIu64 " snapshots installed, %" PRIu64 " hibernations, %" PRIu64
           " messages\n",
           seeds, totals.entries, totals.elections, totals.reads, totals.snapshots,
           totals.hibernations, totals.messages);
    return 0;
}
