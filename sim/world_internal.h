/* What the files of the world share: the machine's life, the people around it, what they saw. */
#ifndef UNUM_SIM_WORLD_INTERNAL_H
#define UNUM_SIM_WORLD_INTERNAL_H

#include "node/node.h"
#include "sim/check_lease.h"
#include "sim/check_linear.h"
#include "sim/check_watch.h"
#include "sim/disk.h"
#include "sim/network.h"
#include "sim/supervisor.h"
#include "sim/witness.h"
#include "sim/world.h"

enum {
    WORLD_CLIENTS_MAX = 16,
    WORLD_JOBS_MAX = 5,
    WORLD_CALL_SECONDS_MAX = 3, /* a client gives a call up after that */
};

static const uint64_t WORLD_MS = 1000000;
static const uint64_t WORLD_SECOND = 1000000000;

/* Room for two of the large tasks, and for all of the small ones. */
static const uint64_t WORLD_MEMORY_BYTES = UINT64_C(4) << 30;
static const uint64_t WORLD_LARGE_TASK_BYTES = UINT64_C(3) << 29;

#define WORLD_ADDRESS "m1:7117"

/* How a life of the machine ends. */
enum world_end { WORLD_END_CRASH, WORLD_END_POWER_LOSS, WORLD_END_ORDERLY };

/* What kinds of trouble a seed knows at all: worlds with few kinds get further into each. */
struct world_temper {
    bool power, operations, early, sync_failures, full, slow, rot, rotten_reads, kills, breaks;
    bool stormy;       /* lives of a second at most */
    bool heavy_hauler; /* so much that old history goes */
};

/* What a seed has in store for one life. Times are virtual; 0: never. */
struct world_plan {
    enum world_end end;
    uint64_t end_ns;        /* at the latest */
    uint64_t end_operation; /* of the disk, counted from the start of the life */
    uint64_t sync_failure;  /* counted likewise */
    uint64_t full_from_ns, full_until_ns;
    uint64_t full_room_bytes; /* what is left when it begins; 0: nothing fits from then on */
    uint64_t rot_ns;
    unsigned rotten_reads_per_million; /* the platter is fine, what is read is not */
    uint64_t kill_pause_ns;            /* between kills of tasks' processes */
    uint64_t break_pause_ns;
    unsigned slow_permille;
    uint64_t slow_ns;
    unsigned breaks_per_million;
    uint64_t down_ns; /* between this life and the next */
};

struct world_life {
    struct scope scope;
    struct node *node; /* while it serves */
    bool stop, over;
    enum status status; /* once over */
    struct error error;
    struct condition changed;
    /* What may make it fail. */
    bool full, sync_failed;
    uint64_t rotten_before; /* bits, in all lives before this one */
};

struct world_job {
    char name[32];
    const char *behaviour;
    bool present, stopped;
    uint32_t count;
    uint64_t version;
};

struct world {
    struct world_options options;
    struct world_result *result;
    struct reactor *reactor;
    struct clock *clock;
    struct scope *root;
    struct random_seeded random; /* of the faults */
    struct world_temper temper;
    struct sim_disk disk;
    struct sim_network *network;
    struct sim_machine *machine, *people;
    struct sim_supervisor *supervisor;
    struct witness *witness;
    struct check_linear *linear;
    struct check_watch *watch;
    struct check_lease *lease;

    struct world_life life;
    uint64_t life_number;
    uint64_t changed_ns; /* when an entry was applied last while it served: computer time falls
                          * back to there, and stands still until it serves again */

    struct scope writers, watchers;
    bool writers_stop;
    uint64_t final_revision; /* 0: not known yet */
    uint64_t value_last, lease_last, transaction_last, revision_seen;
    struct world_job jobs[WORLD_JOBS_MAX];
    unsigned job_count;
};

uint64_t world_now(const struct world *world);
/* Uniform in LOW..HIGH. */
uint64_t world_draw(struct random_seeded *random, uint64_t low, uint64_t high);
bool world_chance(struct random_seeded *random, unsigned percent);
/* A line of the timeline. */
void world_say(struct world *world, const char *who, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The seed has failed; the first sentence counts. Everything winds up. */
void world_fail(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A checker has no room or memory. */
void world_need(struct world *world, enum status status);

/* --- faults.c */
void world_draw_temper(struct world *world);
void world_fill_disk(struct world *world, const struct world_plan *plan);
void world_empty_disk(struct world *world);
struct world_plan world_plan_life(struct world *world, uint64_t calm_ns);
void world_arm(struct world *world, const struct world_plan *plan);
/* Flip one synced bit that is not in the journal's last batch. */
void world_rot(struct world *world);

/* --- workload*.c: each starts its fibers in the scope of writers or watchers */
void world_start_registry_clients(struct world *world);
void world_start_watchers(struct world *world);
void world_start_lease_clients(struct world *world);
void world_start_jobs_client(struct world *world);
void world_start_others(struct world *world);
/* Read every key once, linearizably, and set final_revision. */
void world_read_all(struct world *world);
/* Every wanted task is up, once; every job can say why. False: not yet, TEXT says what. */
bool world_jobs_are_well(struct world *world, char *ret_text, size_t size);
void world_ask_why(struct world *world);

#endif
