/* Simulated disk: base/disk.h in memory, with the failures that real disks have.
 *
 * Model: a file is a row of 512-byte sectors, each with its content in the page cache and its
 * content on the platter. A write changes the first; a sync copies it to the second. When power is
 * lost every unsynced sector independently keeps its new content or falls back (or holds one
 * between, when it was written twice), as the seed decides; so do created, renamed and removed
 * names whose folder was not synced. A crash of the process loses nothing of the page cache.
 *
 * After power loss or a crash every operation returns STATUS_IO without effect until
 * sim_disk_restart, which is the next life of the process; handles of the last life stay dead.
 *
 * Deterministic: the same options and the same calls give the same results. One thread. Two faces
 * onto the same files: `disk` spends time through options.wait, `blocking` never does. */
#ifndef UNUM_SIM_DISK_H
#define UNUM_SIM_DISK_H

#include "base/disk.h"
#include "base/random.h"

struct sim_disk_options {
    uint64_t seed;
    /* Faults at the Nth operation, counted from 1; 0: never. Operations are the calls that change
     * or sync something; reads do not count. Each is also callable at any time, see below. */
    uint64_t power_loss_at;
    uint64_t crash_at;
    uint64_t sync_fails_at; /* the Nth sync, write_sync or sync_folder; unsynced bytes: any fate */
    uint64_t full_at;       /* from this operation on, what needs room gets STATUS_FULL... */
    uint64_t full_until;    /* ...up to and without this one; 0: for ever */
    uint64_t rot_at;        /* one bit of one synced sector flips */
    unsigned rot_reads_per_million; /* a read returns one flipped bit; the platter is fine */
    uint64_t capacity_bytes;        /* 0: no bound */
    bool read_only;
    /* Latency, uniform in min..max; SLOW_PERMILLE of the calls take SLOW_NS more. WAIT spends it;
     * NULL: none. sim/wait.h has one for fibers. */
    uint64_t operation_ns_min, operation_ns_max;
    uint64_t sync_ns_min, sync_ns_max;
    unsigned slow_permille;
    uint64_t slow_ns;
    void (*wait)(uint64_t duration_ns);
};

struct sim_disk_counters {
    uint64_t operations, syncs, reads, bytes_written;
    uint64_t power_losses, crashes, syncs_failed, full_refused, bits_rotten, slow;
    uint64_t sectors_lost, sectors_survived, names_lost; /* at power losses */
};

struct sim_name;
struct sim_name_change;
struct sim_rot;

struct sim_disk {
    struct disk disk;     /* calls may suspend the fiber */
    struct disk blocking; /* calls never do */
    struct sim_disk_options options;
    struct sim_disk_counters counters;
    uint64_t history_hash; /* over every operation; what is written counts through `disk` only */
    bool lost_power;       /* dead by power loss */
    bool crashed;          /* dead by a crash of the process */

    /* The rest is private. */
    struct random_seeded random;
    struct sim_name *live;    /* names as the process sees them */
    struct sim_name *durable; /* names on the platter */
    size_t live_count, durable_count;
    struct sim_name_change *changes; /* unsynced, in order */
    size_t change_count;
    struct sim_rot *rots; /* not healed yet */
    size_t rot_count;
    uint64_t write_sequence;
    uint64_t life; /* handles of an older one are dead */
};

void sim_disk_init(struct sim_disk *sim, const struct sim_disk_options *options);
void sim_disk_finish(struct sim_disk *sim);

/* Faults now. */
void sim_disk_lose_power(struct sim_disk *sim);
void sim_disk_crash(struct sim_disk *sim);
/* The next life of the process: locks are free, old handles dead, faults by number disarmed (set
 * options anew for more). After lose_power the page cache is gone. */
void sim_disk_restart(struct sim_disk *sim);
/* Flip BIT (0..7) of the byte at OFFSET, in the page cache and on the platter. STATUS_NOT_FOUND: no
 * such file or byte. */
MUST_USE enum status sim_disk_rot(struct sim_disk *sim, const char *path, uint64_t offset,
                                  unsigned bit);
/* Put every bit that sim_disk_rot flipped back, as from a copy of the disk, where the byte has not
 * been written since. */
void sim_disk_heal(struct sim_disk *sim);

#endif
