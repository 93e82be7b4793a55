/* Replica: one machine's copies of replicated logs, consensus + journal + store driving state
 * machines.
 *
 * A replica_host owns the journal and the store of a machine and runs all of its groups: one flush
 * covers what all groups persist, and the order "persist before you promise" is kept here and in
 * consensus/raft.h. Recovery: the store's applied index of each group, then the journal's entries
 * behind it are applied again once committed.
 *
 * All calls from fibers of the reactor that opened it. */
#ifndef UNUM_REPLICA_REPLICA_H
#define UNUM_REPLICA_REPLICA_H

#include "base/clock.h"
#include "base/random.h"
#include "reactor/reactor.h"
#include "replica/state_machine.h"

struct replica_host;
struct replica;

enum {
    REPLICA_REPLY_REMEMBERED_BYTES_MAX = 1024,
    REPLICA_SESSIONS_MAX = 10000,          /* per group; the longest unused goes first */
    REPLICA_SESSION_IDLE_MS_MAX = 3600000, /* computer time without a request: forgotten */
    REPLICA_PROPOSALS_MAX = 4096,          /* waiting, per group; STATUS_BUSY beyond */
    REPLICA_PROPOSAL_BYTES_MAX = 16 * 1024 * 1024,
};

struct replica_host_options {
    struct reactor *reactor;
    struct scope *scope;     /* the host's fibers live in a child of it */
    struct disk *disk;       /* suspending: journal, superblock */
    struct disk *store_disk; /* blocking: RocksDB */
    struct clock *clock;
    struct random *random;
    bool simulation;
    struct id computer, machine, disk_incarnation;
    uint64_t journal_segment_bytes, store_memtable_bytes; /* 0: defaults */
};

MUST_USE enum status replica_host_open(const struct replica_host_options *options,
                                       struct replica_host **ret_host, struct error *error);
/* Ends its fibers, closes groups, store and journal. Accepts NULL. */
void replica_host_close(struct replica_host *host);
/* STATUS_OK while all is well; after a failed sync or damage the sentence says what stopped it. */
MUST_USE enum status replica_host_health(const struct replica_host *host, struct error *error);

/* --- groups ----------------------------------------------------------------------------------- */

enum { GROUP_KIND_BYTES_MAX = 31, GROUP_NAME_BYTES_MAX = 63, GROUPS_MAX = 16 * 1024 };

/* One line of the group directory (foundations, 6), which is itself a group: number 1. */
struct group_description {
    uint64_t group;                      /* never reused */
    char kind[GROUP_KIND_BYTES_MAX + 1]; /* "directory", "registry" */
    char name[GROUP_NAME_BYTES_MAX + 1]; /* the space: "system", "main" */
    uint64_t epoch;
    uint32_t member_count;
    struct id members[5];
};

/* Makes the state machine of a group; registered once per kind before groups open. */
struct state_machine_kind {
    const char *kind;
    enum status (*create)(void *context, const struct group_description *group,
                          struct state_machine **ret_machine, struct error *error);
    void *context;
};
MUST_USE enum status replica_register_kind(struct replica_host *host,
                                           const struct state_machine_kind *kind);
/* Open the directory (made on first use) and every group it lists on this machine. Suspends until
 * all have recovered and, with one voter, lead. */
MUST_USE enum status replica_host_start(struct replica_host *host, struct error *error);
/* Make a group through the directory; STATUS_EXISTS when KIND and NAME are taken (then ret_group is
 * set all the same). */
MUST_USE enum status replica_create_group(struct replica_host *host, const char *kind,
                                          const char *name, uint64_t *ret_group,
                                          struct error *error);
MUST_USE enum status replica_remove_group(struct replica_host *host, uint64_t group,
                                          struct error *error);
MUST_USE enum status replica_find(struct replica_host *host, const char *kind, const char *name,
                                  struct replica **ret_replica);

/* --- requests --------------------------------------------------------------------------------- */

struct replica_request {
    struct id session; /* zero: none */
    uint64_t sequence;
    struct bytes principal, space, payload;
    struct id trace;
    uint64_t deadline_ns; /* monotonic */
};

/* Propose and wait until applied here; the reply is copied into REPLY. A request of a session that
 * was applied before gets the remembered reply and is not applied again. STATUS_BUSY,
 * STATUS_TIMEOUT (outcome unknown), STATUS_UNAVAILABLE (no leader), STATUS_INVALID (a sequence
 * older than the last of its session), STATUS_IO (stopped). */
MUST_USE enum status replica_propose(struct replica *replica, const struct replica_request *request,
                                     struct buffer *reply, uint64_t *ret_index,
                                     struct error *error);
/* Return once a read of the local state is linearizable (read index or lease). */
MUST_USE enum status replica_read_barrier(struct replica *replica, uint64_t deadline_ns,
                                          struct error *error);

const struct store_range *replica_range(const struct replica *replica);
struct state_machine *replica_machine(const struct replica *replica);

struct replica_figures {
    uint64_t group, term, applied_index, commit_index, running_hash, computer_time_ms;
    uint64_t first_index, last_index;
    bool is_leader;
};
struct replica_figures replica_figures(const struct replica *replica);
/* The group's time now: monotone, continues where it stopped after a power-off. */
uint64_t replica_computer_time_ms(const struct replica *replica);

#endif
