/* Replica: one machine's copies of replicated logs, consensus + journal + store driving state
 * machines.
 *
 * A replica_host owns the journal and the store of a machine and runs all of its groups: one flush
 * covers what all groups persist, and the order "persist before you promise" is kept here and in
 * consensus/raft.h. Recovery: the store's applied index of each group, then the journal's entries
 * behind it are applied again once committed.
 *
 * Fail-stop: a failed write or sync, damage, or a state machine that can't go on stops the host; it
 * answers STATUS_IO from then on and says why in replica_host_health. Nothing is retried.
 * All calls from fibers of the reactor that opened it. docs/replica.md tells how it works. */
#ifndef UNUM_REPLICA_REPLICA_H
#define UNUM_REPLICA_REPLICA_H

#include "base/clock.h"
#include "base/random.h"
#include "reactor/reactor.h"
#include "replica/state_machine.h"

struct replica_host;
struct replica;
struct replica_transport;

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
    uint64_t journal_bytes_max;                           /* 0: the default */
    struct replica_transport *transport; /* to other machines; NULL: groups of one voter only */
    /* The directory is made by another machine, which will add this one to it. */
    bool joining;
    /* Told of every entry that is applied, of those that recovery applies again too: equal groups
     * and indexes must have equal hashes for ever. Must not suspend. NULL: nobody listens. */
    void (*witness)(void *context, uint64_t group, uint64_t index, uint64_t running_hash,
                    uint64_t computer_time_ms);
    void *witness_context;
};

MUST_USE enum status replica_host_open(const struct replica_host_options *options,
                                       struct replica_host **ret_host, struct error *error);
/* Fails what waits, ends its fibers, closes groups, store and journal. Accepts NULL. Suspends. */
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
 * all have recovered and, with one voter, lead. STATUS_CORRUPT names group and place. */
MUST_USE enum status replica_host_start(struct replica_host *host, struct error *error);
/* Make a group through the directory; STATUS_EXISTS when KIND and NAME are taken (then ret_group is
 * set all the same). */
MUST_USE enum status replica_create_group(struct replica_host *host, const char *kind,
                                          const char *name, uint64_t *ret_group,
                                          struct error *error);
/* STATUS_NOT_FOUND, STATUS_INVALID (the directory itself). Its state is deleted for good. */
MUST_USE enum status replica_remove_group(struct replica_host *host, uint64_t group,
                                          struct error *error);
/* The replica stays a valid pointer until the host closes; once its group is removed, calls answer
 * STATUS_UNAVAILABLE. */
MUST_USE enum status replica_find(struct replica_host *host, const char *kind, const char *name,
                                  struct replica **ret_replica);

/* --- requests --------------------------------------------------------------------------------- */

struct replica_request {
    struct id session; /* zero: none */
    uint64_t sequence;
    struct bytes principal, space, payload;
    struct id trace;
    uint64_t deadline_ns; /* monotonic */
    /* Frees room, or is the machine's own: taken also when the disk is nearly full. */
    bool essential;
};

/* Propose and wait until applied here; the reply is copied into REPLY, *ret_index is the index at
 * which the request was applied. A request of a session that was applied before gets the remembered
 * reply and index and is not applied again. A session may have up to 64 requests under way.
 *   STATUS_BUSY         a bound is reached; nothing was proposed
 *   STATUS_FULL         the disk is nearly full; nothing was proposed. Or REPLY is too small
 * (applied) STATUS_UNAVAILABLE  not the leader, or no longer; it was not applied STATUS_INVALID a
 * field over its maximum, or a sequence number more than 64 behind the highest of its session:
 * nobody knows any more whether it was applied STATUS_EXISTS       applied before; the reply was
 * over REPLICA_REPLY_REMEMBERED_BYTES_MAX STATUS_TIMEOUT      the outcome is unknown; so it is with
 * STATUS_CANCELLED and STATUS_IO (the host stopped) */
MUST_USE enum status replica_propose(struct replica *replica, const struct replica_request *request,
                                     struct buffer *reply, uint64_t *ret_index,
                                     struct error *error);
/* Return once a read of the local state is linearizable (read index or lease). STATUS_UNAVAILABLE:
 * not the leader. STATUS_TIMEOUT, STATUS_CANCELLED, STATUS_BUSY, STATUS_IO. */
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
/* The group's time now. Monotone while one replica leads; after a power-off it goes on from the
 * last entry, never from the wall clock. */
uint64_t replica_computer_time_ms(const struct replica *replica);

#endif
