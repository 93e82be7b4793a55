/* A cluster of Raft cores in one process, for tests: virtual time, a network that loses, doubles,
 * reorders and delays, disks that lose what was not synced, and an oracle that watches.
 *
 * Everything is drawn from one seed, so a failure replays. The driver here does what the driver of
 * a real replica does, in the least code: journal operations queue until a sync takes a prefix of
 * them; a crash lets a random prefix of the queue survive. Each node's clock has its own rate
 * within the bound of timing.h. */
#ifndef UNUM_CONSENSUS_RAFT_CLUSTER_H
#define UNUM_CONSENSUS_RAFT_CLUSTER_H

#include "base/random.h"
#include "consensus/raft.h"

enum {
    CLUSTER_NODES = 6,
    CLUSTER_LOG_MAX = 2048,
    CLUSTER_QUEUE_MAX = 4096,
    CLUSTER_NETWORK_MAX = 2048,
    CLUSTER_MESSAGE_ENTRIES = 8,
    CLUSTER_TERMS_MAX = 4096,
    CLUSTER_READS_MAX = 4096,
    CLUSTER_SNAPSHOT_PARTS = 3,
    CLUSTER_PART_BYTES = 8,
    CLUSTER_RUNS_MAX = 2048,
    CLUSTER_STEPS_MAX = 1000000, /* a run with more does not come to an end */
};

struct cluster_entry {
    uint64_t term;
    uint64_t value;
    enum raft_entry_kind kind;
    struct raft_membership membership;
};

struct cluster_snapshot {
    uint64_t index;
    uint64_t term;
    struct raft_membership membership;
};

/* A log by index: entries[1..last]. What a snapshot covers stays readable, but is not used. */
struct cluster_log {
    uint64_t last;
    struct cluster_entry entries[CLUSTER_LOG_MAX];
};

enum cluster_operation_kind {
    CLUSTER_WRITE_HARD,
    CLUSTER_WRITE_TRUNCATE,
    CLUSTER_WRITE_ENTRY,
    CLUSTER_WRITE_PART,
    CLUSTER_WRITE_INSTALL,
};

struct cluster_operation {
    enum cluster_operation_kind kind;
    uint64_t term, vote;    /* hard */
    uint64_t index, offset; /* truncate, entry, part */
    bool keep_log;
    struct cluster_snapshot snapshot;
    struct cluster_entry entry;
};

struct cluster_disk {
    uint64_t term, vote, applied;
    struct cluster_snapshot snapshot;
    struct cluster_log log;
};

struct cluster_node {
    uint64_t id;
    bool running;
    bool lent; /* `runs` is in use */
    uint32_t life;
    int64_t rate_ppm; /* of its clock against the world's */
    uint64_t clock_offset_ns;
    struct raft *raft;
    void *memory;
    struct raft_run runs[CLUSTER_RUNS_MAX];
    struct cluster_disk disk;
    struct cluster_log log; /* what it believes, synced or not */
    struct cluster_snapshot snapshot, incoming;
    uint64_t applied;
    uint64_t sync_at_ns; /* UINT64_MAX: none under way */
    uint32_t queued, syncing;
    struct cluster_operation queue[CLUSTER_QUEUE_MAX];
    uint64_t read_id;
    uint64_t read_floor[CLUSTER_READS_MAX];
};

struct cluster_packet {
    uint64_t at_ns;
    struct raft_message message;
    struct cluster_entry entries[CLUSTER_MESSAGE_ENTRIES];
};

struct cluster_options {
    uint64_t seed;
    uint32_t voters; /* nodes 1.. voters begin as such; the others are blank */
    uint32_t loss_per_mille, double_per_mille, late_per_mille;
    uint64_t delay_ns_max;
    uint64_t sync_ns_max;
    bool lease_off;
    uint64_t hibernate_after_ns; /* 0: the default */
    uint32_t snapshot_every;     /* entries; 0: never by itself */
};

struct cluster {
    struct cluster_options options;
    struct random_seeded seeded;
    uint64_t now_ns;
    struct cluster_node nodes[CLUSTER_NODES]; /* node i has id i + 1 */
    bool cut[CLUSTER_NODES][CLUSTER_NODES];   /* [from][to] */
    uint32_t network_count;
    struct cluster_packet network[CLUSTER_NETWORK_MAX];
    struct raft_actions actions;

    /* The oracle. */
    uint64_t value_last;
    uint64_t committed_last;
    struct cluster_entry committed[CLUSTER_LOG_MAX];
    uint64_t committed_in_term[CLUSTER_LOG_MAX];
    uint64_t leader_of_term[CLUSTER_TERMS_MAX]; /* node id * 2^32 + life */
    uint64_t reads_ready, snapshots_installed, hibernations, elections, messages_sent, steps;
    const char *violation; /* the first one; NULL: none */
    uint64_t violation_node;
};

struct cluster *cluster_create(const struct cluster_options *options);
void cluster_destroy(struct cluster *cluster);

uint64_t cluster_draw(struct cluster *cluster, uint64_t bound);
bool cluster_chance(struct cluster *cluster, uint32_t per_mille);

/* Perform one thing that is due next, at most at UNTIL_NS; false: nothing before then (the time is
 * UNTIL_NS now). */
bool cluster_advance(struct cluster *cluster, uint64_t until_ns);
void cluster_run(struct cluster *cluster, uint64_t duration_ns);

void cluster_start(struct cluster *cluster, uint64_t id);
void cluster_crash(struct cluster *cluster, uint64_t id);
/* Both directions; links are reported to both. */
void cluster_cut(struct cluster *cluster, uint64_t a, uint64_t b, bool cut);
void cluster_heal(struct cluster *cluster);

/* A step with TYPE and the fields of EVENT. */
enum status cluster_step(struct cluster *cluster, uint64_t id, struct raft_event event);
enum status cluster_propose(struct cluster *cluster, uint64_t id, uint32_t count);
enum status cluster_read(struct cluster *cluster, uint64_t id);
enum status cluster_change(struct cluster *cluster, uint64_t id, enum raft_change change,
                           uint64_t peer);
enum status cluster_transfer(struct cluster *cluster, uint64_t id, uint64_t to);
/* The leader of the highest term among those running; 0: none. */
uint64_t cluster_leader(struct cluster *cluster);
/* Give a message to a node at once, bypassing the network. */
void cluster_deliver(struct cluster *cluster, const struct cluster_packet *packet);

struct cluster_node *cluster_node(struct cluster *cluster, uint64_t id);

#endif
