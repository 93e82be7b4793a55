/* World: a machine of tests. One simulated disk, lives of a replica host on it, and a small state
 * machine whose state shows whether anything was lost, doubled or reordered.
 *
 * The ledger (kind "ledger") keeps a numbered line per command and answers "NUMBER LINE". Commands
 * "ring MS" set an alarm at MS of computer time after the entry's; when it is due the line "rang"
 * is written. "answer N" is answered with N bytes. */
#ifndef UNUM_SIM_REPLICA_WORLD_H
#define UNUM_SIM_REPLICA_WORLD_H

#include "replica/internal.h"
#include "sim/disk.h"

enum {
    WORLD_HASHES_MAX = 4096,
    WORLD_LINE_BYTES_MAX = 1200,
    WORLD_SEGMENT_BYTES = 64 * 1024, /* small, so that segments come and go */
    WORLD_ANSWER_BYTES_MAX = 64 * 1024,
};

struct world {
    struct sim_disk disk;
    struct reactor *reactor;
    struct scope *root;
    struct replica_host *host; /* NULL: not running */
    struct replica_host_options options;
    uint64_t seed;
    /* Running hash of the group `main` by applied index, as first seen: it never differs later. */
    uint64_t hashes[WORLD_HASHES_MAX];
    uint64_t latest_time_ms; /* of any entry seen applied */
    bool hash_differed, time_went_back;
    void *test; /* the test's own */
};

/* Run MAIN as the first fiber of a fresh simulation over a fresh disk. */
void world_run(struct world *world, uint64_t seed, const struct sim_disk_options *disk,
               void (*main)(struct world *world));

/* Open the host and make or find the group "ledger" "main". On failure the host is closed. */
enum status world_open(struct world *world, struct error *error);
/* Only open; the kinds are registered. */
enum status world_open_host(struct world *world, struct error *error);
void world_close(struct world *world);
/* The process ends in order, dies, or the power fails; then a new life. */
void world_exit(struct world *world);
void world_crash(struct world *world);
void world_lose_power(struct world *world);

struct replica *world_main(struct world *world);

/* Propose TEXT to the group `main`; SESSION 0: none. The reply is NUL-terminated in RET_REPLY. */
enum status world_propose(struct world *world, unsigned session, uint64_t sequence,
                          const char *text, char ret_reply[WORLD_LINE_BYTES_MAX],
                          struct error *error);
/* How often does a line equal to TEXT stand in the ledger? */
unsigned world_count(struct world *world, const char *text);
/* How many lines are there? */
uint64_t world_lines(struct world *world);

#endif
