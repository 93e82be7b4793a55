/* Inside of the replica host: its state, and what its files call of each other.
 *
 *   host.c      open, close, stop; timers; the fibers' loops end here
 *   group.c     one group: recovery, becoming ready, removal
 *   groups.c    which groups: the directory made so on this machine
 *   step.c      an event into consensus, its actions carried out
 *   writer.c    the fiber that stages and flushes; the fiber that applies
 *   request.c   proposals and reads
 *   release.c   the fiber that lets the journal forget
 *   room.c      who may still write on a disk that gets full
 *
 * Order kept here: staged -> flushed -> reported to consensus -> committed -> applied -> answered.
 * Nothing below suspends unless its comment says so; between two suspensions the state is whole. */
#ifndef UNUM_REPLICA_INTERNAL_H
#define UNUM_REPLICA_INTERNAL_H

#include "replica/applier.h"
#include "replica/directory.h"
#include "replica/log_cache.h"
#include "replica/replica.h"
#include "replica/transport.h"
#include "store/journal.h"
#include "store/superblock.h"

#include <bsd/sys/tree.h>
#include <sys/queue.h>

enum {
    KINDS_MAX = 16,
    SENT_REPORTS_MAX = RAFT_MEMBERS_MAX, /* a peer has one append or part under way to the driver */
    ENTRIES_FOR_FOLLOWERS = 4096,        /* kept in memory when there are other machines */
    PEER_ENTRY_HEAD_BYTES = 4,           /* before each entry of an append's payload: its size */
};

/* A fiber that waits in replica_propose, on its stack. In order of index. */
struct proposal {
    TAILQ_ENTRY(proposal) links;
    struct condition wake;
    uint64_t index;
    uint64_t term;
    size_t size;
    struct buffer *reply; /* the caller's */
    bool done;
    enum status status;
    uint64_t applied_at;
};
TAILQ_HEAD(proposal_list, proposal);

/* A fiber that waits in replica_read_barrier. In order of id. */
struct barrier {
    TAILQ_ENTRY(barrier) links;
    struct condition wake;
    uint64_t id;
    uint64_t index;
    bool ready; /* once index is applied */
    bool done;
    enum status status;
};
TAILQ_HEAD(barrier_list, barrier);

/* What the journal's state record holds: docs/formats/replica.md. */
struct group_state {
    uint64_t term;
    uint64_t vote;
    struct id machine;
    struct id disk_incarnation;
    struct raft_membership first_membership; /* the group was made with; others: nobody */
};
enum { GROUP_STATE_BYTES_MAX = 56 + RAFT_MEMBERSHIP_BYTES_MAX };
_Static_assert((int)GROUP_STATE_BYTES_MAX <= (int)JOURNAL_GROUP_STATE_BYTES_MAX,
               "the state of a group fits its record");

struct replica {
    struct replica_host *host;
    RB_ENTRY(replica) by_group;
    RB_ENTRY(replica) by_name;
    RB_ENTRY(replica) by_deadline;
    TAILQ_ENTRY(replica) in_dirty, in_flush, in_apply, in_unreleased;
    bool is_dirty, is_applying, is_unreleased, has_deadline;
    struct group_description description;
    bool open;    /* between recovery and removal */
    bool removed; /* from the directory; the object stays until the host closes */

    struct state_machine *machine;
    struct applier applier;
    struct log_cache cache;
    void *raft_memory;
    struct raft *raft;
    struct raft_run *runs; /* lent to raft; NULL: its own */
    uint32_t runs_capacity;
    struct group_state state;

    /* For the log writer. */
    bool state_dirty;
    uint64_t truncate_from; /* 0: nothing to cut */
    uint64_t staged_index;  /* entries up to here are in the journal, perhaps not flushed */
    uint64_t flushing_term, flushing_vote, flushing_index, flushing_index_term;

    uint64_t commit_index;
    uint64_t released_index;
    uint64_t unreleased_bytes; /* of entries applied behind it */
    bool is_leader;
    /* Computer time while leading: base_ms at base_ns of the monotonic clock, then both go on. */
    uint64_t time_base_ms, time_base_ns;
    uint64_t log_time_ms;        /* the highest in the log */
    uint64_t time_not_before_ns; /* when an ENTRY_TIME may be proposed again */
    uint64_t deadline_ns;

    struct proposal_list proposals;
    uint32_t proposal_count;
    size_t proposal_bytes;
    struct barrier_list barriers;
    uint64_t barrier_id;
    struct condition changed; /* role, applied index, removal */
};

RB_HEAD(replica_group_tree, replica);
RB_HEAD(replica_name_tree, replica);
RB_HEAD(replica_deadline_tree, replica);
TAILQ_HEAD(replica_list, replica);

/* An append or part handed to the transport, to be reported to consensus after the step. */
struct sent_report {
    uint64_t peer;
    bool sent;
    struct raft_message message;
};

struct replica_host {
    struct replica_host_options options;
    struct scope scope;
    uint64_t replica_id;
    struct superblock superblock;
    struct journal *journal;
    struct store *store;
    struct random_seeded jitter; /* for consensus; seeded once */
    struct state_machine_kind kinds[KINDS_MAX];
    size_t kind_count;

    struct replica_group_tree by_group;
    struct replica_name_tree by_name;
    struct replica_deadline_tree by_deadline;
    struct replica *directory;

    struct replica_list dirty, flushing, applying, unreleased;
    struct condition writer_wake, applier_wake, timer_wake, releaser_wake, groups_wake;
    struct condition maintainer_wake;
    uint64_t timer_sleeps_until_ns;
    uint64_t unreleased_bytes; /* of entries applied and not released */
    bool journal_full;         /* the last staging found no room */
    bool store_full;           /* the last flush of the store found no room, and was not begun */
    /* Of the disk, at the last look; what was let in since. */
    uint64_t free_bytes, room_bytes, room_looked_ns;
    bool room_looking;
    bool reserve_given; /* the reserve was given up; made again when there is room */
    bool directory_changed;
    bool flushed_unmarked; /* the journal was flushed since it last marked that */

    enum status stopped; /* STATUS_OK, or why nothing is done any more */
    struct error stopped_error;
    bool closing;
    uint32_t caller_count; /* fibers inside replica_propose and replica_read_barrier */
    struct condition callers_gone;

    /* Of the step under way; one serves all groups. */
    struct raft_actions actions;
    struct sent_report sent[SENT_REPORTS_MAX];
    size_t sent_first, sent_count;
    struct buffer payload; /* of an append under way out */
};

RB_PROTOTYPE(replica_group_tree, replica, by_group, )
RB_PROTOTYPE(replica_name_tree, replica, by_name, )
RB_PROTOTYPE(replica_deadline_tree, replica, by_deadline, )

/* --- host.c --- */
/* Fail-stop: every waiter gets STATUS_IO, every fiber ends. The first reason is kept. */
void host_stop(struct replica_host *host, enum status status, const struct error *error);
/* The journal was flushed for the first time: from now on its absence is damage. Suspends. */
MUST_USE enum status host_note_journal(struct replica_host *host, struct error *error);
bool host_is_running(const struct replica_host *host);
uint64_t host_now_ns(struct replica_host *host);
/* Set the replica's timer anew from what consensus and its machine wait for. */
void host_update_deadline(struct replica *replica);

/* --- step.c --- */
/* What an event brings along besides itself. */
struct step_input {
    uint8_t *entry; /* PROPOSE: malloc'd, taken when the status is STATUS_OK */
    uint32_t entry_size;
    struct bytes payload; /* MESSAGE */
};
/* Step and carry out what follows. now_ns and random are filled in. */
MUST_USE enum status replica_step(struct replica *replica, struct raft_event *event,
                                  const struct step_input *input);
/* An event that can't be refused. */
void replica_tell(struct replica *replica, struct raft_event *event);
void replica_mark_dirty(struct replica *replica);
/* The leader's time now; never below what the log holds. */
uint64_t replica_leader_time_ms(struct replica *replica);
/* All that wait at INDEX or behind get STATUS. */
void replica_fail_proposals(struct replica *replica, uint64_t index, enum status status);
void replica_fail_barriers(struct replica *replica, uint64_t id, enum status status);
/* Barriers whose index is applied go on. */
void replica_pass_barriers(struct replica *replica);
/* STATUS_FULL from raft_restore_entries, or raft_runs_tight. STATUS_NO_MEMORY. */
MUST_USE enum status replica_lend_runs(struct replica *replica);

/* --- group.c --- */
void group_state_encode(const struct group_state *state, struct writer *writer);
MUST_USE enum status group_state_decode(struct bytes bytes, struct group_state *ret_state,
                                        struct error *error);
/* Recover the group. Suspends. FIRST: this host makes the group, as its only member. */
MUST_USE enum status replica_open(struct replica_host *host,
                                  const struct group_description *description,
                                  struct replica **ret_replica, struct error *error);
/* Wait until it leads and has applied what it found. */
MUST_USE enum status replica_wait_ready(struct replica *replica, struct error *error);
/* Fail its waiters and free all but the object itself. */
void replica_shut(struct replica *replica);
void replica_free(struct replica *replica);
bool replica_is_only_member(const struct replica *replica);
struct replica *host_find_group(struct replica_host *host, uint64_t group);

/* --- groups.c --- */
/* Open what the directory lists and is not open, remove what it no longer lists. Suspends. */
MUST_USE enum status groups_reconcile(struct replica_host *host, struct error *error);
void groups_fiber(void *argument);

/* --- writer.c, release.c --- */
void writer_fiber(void *argument);
/* Note in the journal that all of it is synced. Suspends. */
void writer_mark_synced(struct replica_host *host);
void maintainer_fiber(void *argument);
void applier_fiber(void *argument);
void release_fiber(void *argument);
/* Let the store write what it holds; in simulation it is done on return. A full disk is no failure:
 * store_full is set, what is kept back is given up, and it is tried again later. */
MUST_USE enum status release_flush_store(struct replica_host *host, struct error *error);
/* So much is applied and not released that the releaser should look. */
bool release_is_due(const struct replica_host *host);
/* So little room is left in the journal that callers should wait for the release. */
bool release_is_pressed(const struct replica_host *host);

/* --- room.c --- */
/* So much must be left that ordinary requests are taken. */
uint64_t room_needed(const struct replica_host *host);
/* Ask the disk. Suspends. */
MUST_USE enum status room_look(struct replica_host *host);
/* May a request of SIZE bytes be taken? STATUS_FULL with what is left and needed. Suspends. */
MUST_USE enum status room_admit(struct replica_host *host, size_t size, bool essential,
                                struct error *error);
MUST_USE enum status room_give_reserve(struct replica_host *host);
/* Is there room for the reserve, and for writes beside it? */
bool room_for_reserve(const struct replica_host *host);

/* --- request.c --- */
/* Propose an entry that nobody waits for. */
MUST_USE enum status replica_propose_time(struct replica *replica);

#endif
