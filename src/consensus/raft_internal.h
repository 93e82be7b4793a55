/* Inside of the Raft core: its state, and what its files call of each other.
 *
 *   raft.c             life, the step, time, requests
 *   raft_election.c    roles and votes
 *   raft_log.c         which term each index has
 *   raft_replicate.c   leader: progress, flow control, commit; follower: append and snapshots
 *   raft_snapshot.c    parts and resumption, installing, compaction
 *   raft_membership.c  who takes part, and what a change does
 *   raft_read.c        read index and leases
 *   raft_message.c     bytes */
#ifndef UNUM_CONSENSUS_RAFT_INTERNAL_H
#define UNUM_CONSENSUS_RAFT_INTERNAL_H

#include "consensus/raft.h"

#include <assert.h>

/* A replica that left its own peers out has at most this many. */
enum { RAFT_PEERS_MAX = RAFT_MEMBERS_MAX - 1 };

/* A learner this close to the end of the log may become a voter. */
enum { RAFT_PROMOTE_LAG_MAX = 1024 };

/* The terms of the entries base + 1 .. last, as runs of equal terms; and that of base itself. */
struct raft_log {
    struct raft_run *runs;
    uint32_t run_count;
    uint32_t run_capacity;
    uint64_t base;
    uint64_t base_term;
    uint64_t last;
    uint64_t persisted; /* durable up to here, at least base */
};

enum raft_peer_state {
    RAFT_PEER_PROBE,     /* where its log meets ours is not known: one message at a time */
    RAFT_PEER_REPLICATE, /* known: pipelined within the window */
    RAFT_PEER_SNAPSHOT,  /* what it lacks is compacted: parts, one at a time */
};

/* What a leader knows of another member; a candidate uses `granted` only. */
struct raft_peer {
    uint64_t id;
    uint64_t match; /* durable there and equal to our log */
    uint64_t next;  /* the entry to be sent next */
    uint64_t sent;  /* the highest entry sent since next last went back */
    uint64_t heard_ns;
    uint64_t acked_sent_ns; /* our clock when we sent what it last answered */
    uint64_t acked_round;
    uint64_t retry_ns; /* a paused peer is tried again, as something got lost */
    uint64_t snapshot_index;
    uint64_t snapshot_term;
    uint64_t snapshot_offset;
    uint64_t window_bytes_sent;
    uint64_t window_bytes_acked;
    uint32_t window_messages_sent;
    uint32_t window_messages_acked;
    uint8_t state;
    bool filling; /* a send was handed to the driver and is not reported yet */
    bool paused;  /* waits for an answer */
    bool down;    /* its link is lost */
    bool granted;
    bool hibernating;
};

/* What a follower will answer to its leader as soon as it may. */
struct raft_owed {
    bool ack;
    bool reject;
    bool heartbeat;
    bool hibernate;
    bool gap;
    bool snapshot; /* the offset wanted next */
    uint64_t refused;
    uint64_t hint;
    uint64_t hint_term;
};

struct raft {
    struct raft_options options;
    struct raft_actions *out; /* during a step only */
    enum status ended;        /* STATUS_OK, or why every step is refused */
    uint64_t now_ns;
    uint64_t random;

    enum raft_role role;
    uint64_t term;
    uint64_t vote;
    uint64_t leader;
    uint64_t hard_term; /* what is on disk */
    uint64_t hard_vote;
    bool hard_asked;  /* PERSIST_HARD for the present term and vote was emitted */
    bool vote_asked;  /* candidate: the others were asked */
    bool vote_owed;   /* the grant to `vote` was not sent yet */
    bool transferred; /* candidate: at the wish of the leader */
    enum raft_role told_role;
    uint64_t told_term;
    uint64_t told_leader;

    struct raft_log log;
    uint64_t commit;
    uint64_t told_commit;
    uint64_t applied;
    uint64_t snapshot; /* index of the latest complete snapshot, at least log.base */

    struct raft_membership membership;          /* the latest in the log, in effect */
    struct raft_membership membership_previous; /* the one before: committed for sure */
    uint64_t membership_index;
    uint64_t membership_previous_index;

    /* Time. A deadline that does not exist is UINT64_MAX. */
    uint64_t election_deadline_ns;
    uint64_t promise_until_ns; /* no vote for anyone before */
    uint64_t heartbeat_due_ns;
    uint64_t active_ns; /* last proposal, read or other work */
    bool hibernating;
    bool started;

    /* Leader. */
    uint64_t term_start; /* index of the no-op */
    uint64_t round;
    uint64_t transfer_to;
    uint64_t transfer_deadline_ns;
    bool transfer_sent;
    bool lease_revoked;       /* for the rest of the term */
    uint64_t read_last;       /* highest id ever seen */
    uint64_t read_waiting;    /* ids up to here wait for a round to begin; 0: none */
    uint64_t read_confirming; /* ids up to here wait for the round below; 0: none */
    uint64_t read_round;
    uint64_t read_index;
    /* An upper bound of the uncommitted bytes in two numbers: entries up to the mark, and behind.
     */
    uint64_t uncommitted_mark;
    uint64_t uncommitted_bytes;
    uint64_t uncommitted_bytes_behind;

    /* Follower. */
    uint64_t proven; /* up to here the log equals that of the term's leader */
    uint64_t acked;  /* the match it was told */
    uint64_t echo_round;
    uint64_t echo_sent_ns;
    uint64_t echo_bytes; /* the newest window seen; and that of which all is durable */
    uint32_t echo_messages;
    uint64_t durable_bytes;
    uint32_t durable_messages;
    uint64_t mark_index; /* when this is durable, so is all of the marked window */
    uint64_t mark_bytes;
    uint32_t mark_messages;
    struct raft_owed owed;

    /* A snapshot on its way in. */
    uint64_t incoming_from;
    uint64_t incoming_index;
    uint64_t incoming_term;
    uint64_t incoming_offset;
    bool incoming_pending; /* a part is being stored */
    bool incoming_last;    /* it is the last one */
    bool installing;
    bool installing_keep_log;

    uint8_t peer_count;
    struct raft_peer peers[RAFT_PEERS_MAX];
};

/* ---- raft_log.c ---- */

void raft_log_init(struct raft_log *log, struct raft_run *runs, uint32_t capacity, uint64_t base,
                   uint64_t base_term);
bool raft_log_term_at(const struct raft_log *log, uint64_t index, uint64_t *ret_term);
uint64_t raft_log_last_term(const struct raft_log *log);
/* Whether a run of another term than the last entry's still fits. */
bool raft_log_has_room(const struct raft_log *log, uint64_t term);
/* COUNT entries of TERM after the last; the room was checked. */
void raft_log_append(struct raft_log *log, uint32_t count, uint64_t term);
/* Entry FROM and all after it are gone. FROM > base. */
void raft_log_truncate(struct raft_log *log, uint64_t from);
/* Forget up to INDEX, base < INDEX <= last. */
void raft_log_compact(struct raft_log *log, uint64_t index);
/* The highest index in base..INDEX whose term is at most TERM; false when there is none. */
bool raft_log_find_at_most(const struct raft_log *log, uint64_t index, uint64_t term,
                           uint64_t *ret_index);
/* The last index of the run that INDEX (base < INDEX <= last) belongs to. */
uint64_t raft_log_run_end(const struct raft_log *log, uint64_t index);

/* ---- raft.c ---- */

struct raft_action *raft_emit(struct raft *raft, enum raft_action_type type);
/* A SEND of TYPE to TO in the present term. */
struct raft_message *raft_emit_message(struct raft *raft, enum raft_message_type type, uint64_t to);
/* Term and vote before anything of this term is written. */
void raft_emit_hard(struct raft *raft);
bool raft_hard_is_durable(const struct raft *raft);
void raft_end(struct raft *raft, enum status why);

/* ---- raft_election.c ---- */

void raft_become_follower(struct raft *raft, uint64_t term, uint64_t leader);
/* TRANSFERRED: at the wish of the leader, whose promises do not count then. */
void raft_become_candidate(struct raft *raft, bool transferred);
/* Word from the leader of the present term: promise not to vote, put the election off. */
void raft_follow(struct raft *raft, uint64_t leader);
/* End the hibernation, and count as active. */
void raft_wake(struct raft *raft);
void raft_reset_election(struct raft *raft);
bool raft_can_campaign(const struct raft *raft);
/* Whether a vote now could break a leader's lease. */
bool raft_is_promised(const struct raft *raft);
void raft_campaign(struct raft *raft);
/* The next instant of the grid; UINT64_MAX without peers. */
uint64_t raft_next_heartbeat(const struct raft *raft);
void raft_on_pre_vote(struct raft *raft, const struct raft_message *message);
void raft_on_pre_vote_reply(struct raft *raft, const struct raft_message *message);
void raft_on_vote(struct raft *raft, const struct raft_message *message);
void raft_on_vote_reply(struct raft *raft, const struct raft_message *message);
/* What waited for term and vote to be durable. */
void raft_settle_candidate(struct raft *raft);
void raft_settle_vote(struct raft *raft);

/* ---- raft_message.c ---- */

/* Whether the fields agree with each other, so that the core may compute with them. */
bool raft_message_valid(const struct raft_message *message);

/* ---- raft_replicate.c ---- */

void raft_peers_reset(struct raft *raft);
struct raft_peer *raft_peer_find(struct raft *raft, uint64_t id);
/* The value that a quorum of the voters has reached, where this replica has OWN and a peer what
 * VALUE says. 0 when there is no voter. */
uint64_t raft_quorum_value(const struct raft *raft, uint64_t own,
                           uint64_t (*value)(const struct raft_peer *peer));
/* Leader: write COUNT entries of KIND to the log. */
void raft_leader_append(struct raft *raft, enum raft_entry_kind kind, uint32_t count,
                        uint32_t bytes);
void raft_leader_commit(struct raft *raft);
void raft_leader_send(struct raft *raft);
void raft_leader_heartbeat(struct raft *raft, bool hibernate);
void raft_on_append(struct raft *raft, const struct raft_message *message);
void raft_on_append_reply(struct raft *raft, const struct raft_message *message);
void raft_on_heartbeat(struct raft *raft, const struct raft_message *message);
void raft_on_heartbeat_reply(struct raft *raft, const struct raft_message *message);
void raft_on_sent(struct raft *raft, const struct raft_event *event);
void raft_follower_commit(struct raft *raft, uint64_t commit);
/* Send what is owed to the leader, if the disk allows. */
void raft_pay_owed(struct raft *raft);

/* ---- raft_snapshot.c ---- */

void raft_on_snapshot(struct raft *raft, const struct raft_message *message);
void raft_on_snapshot_reply(struct raft *raft, const struct raft_message *message);
void raft_on_snapshot_stored(struct raft *raft, const struct raft_event *event);
void raft_on_snapshot_installed(struct raft *raft, const struct raft_event *event);
void raft_send_snapshot(struct raft *raft, struct raft_peer *peer);

/* ---- raft_membership.c ---- */

bool raft_is_voter(const struct raft *raft);
/* May lead: a voter, or one whose leaving is not known to be committed. */
bool raft_is_electable(const struct raft *raft);
bool raft_is_sole_voter(const struct raft *raft);
uint32_t raft_voter_count(const struct raft_membership *membership);
/* A membership entry was written at INDEX: it is in effect. */
void raft_membership_push(struct raft *raft, uint64_t index,
                          const struct raft_membership *membership);
/* Entries from FROM on are gone. STATUS_CORRUPT: a membership known to be committed with them. */
MUST_USE enum status raft_membership_roll_back(struct raft *raft, uint64_t from);
MUST_USE enum status raft_membership_change(struct raft *raft, enum raft_change change,
                                            uint64_t id);

/* ---- raft_read.c ---- */

bool raft_lease_held(const struct raft *raft);
MUST_USE enum status raft_read(struct raft *raft, uint64_t id);
/* Leader: serve what may be served, begin a round for what waits. */
void raft_reads_settle(struct raft *raft);
/* Not the leader any more. */
void raft_reads_refuse(struct raft *raft);

#endif
