/* Raft: the consensus core of one replicated log, as a step function.
 *
 * Promise: entries that any replica was told to commit are committed on every replica, in the same
 * order, for ever; at most one leader a term; a read that was declared ready sees every write that
 * was acknowledged before the read began. All of it under crash, restart, loss, duplication,
 * reordering and delay of messages, and clocks whose rate is within the bound of
 * consensus/timing.h. Ongaro's thesis, chapters 3, 4, 6 and 10; docs/consensus.md says how
 * each known failure of Raft libraries is excluded.
 *
 * Pure: no I/O, no clock, no randomness, no allocation. Time and random numbers come with each
 * event. Payloads are not kept: the driver keeps entries by index; the core knows indexes and terms
 * (as runs of equal terms), the two latest memberships, and the progress of each peer.
 *
 * Use: raft_init, then raft_restore_entries for what the journal holds, then raft_start, then
 * raft_step for ever. After every step perform `actions` IN THE ORDER OF THE ARRAY:
 *
 *   PERSIST_HARD, TRUNCATE, APPEND
 *       write to the journal in this order; report RAFT_EVENT_PERSISTED after a sync that covers
 *       them. One sync may cover many. The journal is ordered: that a record is durable implies
 *       that all records before it are.
 *   SEND
 *       may leave at once: whatever depends on a write was withheld by the core until the write
 *       was reported. A message may be lost; never send it a second time. An APPEND message is
 *       first filled (struct raft_send) and then reported by RAFT_EVENT_SENT; the next one to that
 *       peer waits for the report.
 *   SEND_SNAPSHOT
 *       read the part, fill in payload_bytes, membership (of that snapshot) and RAFT_FLAG_LAST,
 *       send, and report RAFT_EVENT_SENT likewise.
 *   COMMIT
 *       apply up to `index` (durable here and committed); report RAFT_EVENT_APPLIED.
 *   READ_READY, READ_REFUSED
 *       of all reads with id <= `id`: they may be served once `index` is applied; or this is not
 *       the leader any more, and the client asks again.
 *   SNAPSHOT_PART
 *       store the payload of the message in hand at `offset` (offset 0 begins anew); report
 *       RAFT_EVENT_SNAPSHOT_STORED once durable.
 *   INSTALL
 *       put the complete snapshot in place of the state; report RAFT_EVENT_SNAPSHOT_INSTALLED.
 *       Nothing is voted, acked or appended meanwhile.
 *   ROLE
 *       became leader, follower or candidate: to fail the proposals that nobody follows any more.
 *
 * An APPEND on a follower takes its entries from the message being stepped: perform it before the
 * message's memory is reused. A write or sync that failed is reported by RAFT_EVENT_WRITE_FAILED
 * and ends the replica: nothing is retried and nothing is cut from the log by count.
 *
 * Ownership: the caller's memory of raft_size_bytes(); no pointers into it leave except by const
 * accessors. Not thread-safe: one owner. One struct raft_actions may serve all groups of a shard
 * (it is large: keep it off the stack), as long as nothing else is stepped with it before all of
 * its actions are performed or copied; reports of a step, RAFT_EVENT_SENT too, come after that.
 *
 * Many groups: heartbeats of all groups fall on the same grid of time (multiples of the heartbeat
 * interval), so that the driver puts those for one machine into one frame; a group without work
 * hibernates and then has no deadline at all (raft_next_deadline_ns is UINT64_MAX). In exchange the
 * driver must report RAFT_EVENT_LINK for every loss of the link to a member's machine, also one so
 * short that it was re-established at once: a hibernating follower learns from nothing else that
 * its leader is gone.
 *
 * Formats: docs/formats/raft-messages.md. */
#ifndef UNUM_CONSENSUS_RAFT_H
#define UNUM_CONSENSUS_RAFT_H

#include "base/bytes.h"
#include "base/limits.h"
#include "base/status.h"
#include "consensus/timing.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct raft;

enum {
    RAFT_MEMBERS_MAX = 8, /* 7 voters and one on its way in; beyond 7 a commit only gets slower */
    RAFT_MESSAGE_RUNS_MAX = 4, /* different terms among the entries of one message */
    RAFT_ENTRIES_PER_MESSAGE_MAX = 1024,
    RAFT_RUNS_MIN = 8,     /* terms in the log of an idle group; see raft_lend_runs */
    RAFT_RUNS_MAX = 65536, /* a log with more terms than this is compacted first */
    RAFT_ACTIONS_MAX = 32,
    RAFT_PAYLOAD_BYTES_MAX = LIMIT_MESSAGE_BYTES_MAX, /* entries, or a part of a snapshot */
};
_Static_assert(RAFT_ACTIONS_MAX >= 2 * RAFT_MEMBERS_MAX + 12,
               "a step may write, commit, answer and send twice to every peer");

/* Who takes part. Replica ids are never 0 and never reused: a machine that lost its disk is a new
 * replica. Zeroed: nobody (the state of a replica that waits to be added). */
struct raft_membership {
    uint64_t ids[RAFT_MEMBERS_MAX]; /* ascending */
    uint8_t count;
    uint8_t learners; /* bit i: ids[i] receives the log but neither votes nor counts */
};

enum raft_change {
    RAFT_CHANGE_ADD_LEARNER,
    RAFT_CHANGE_PROMOTE, /* a learner that has caught up becomes a voter */
    RAFT_CHANGE_DEMOTE,  /* a voter becomes a learner */
    RAFT_CHANGE_REMOVE,
    RAFT_CHANGE_COUNT
};

enum raft_entry_kind {
    RAFT_ENTRY_NORMAL,     /* the payload is the driver's */
    RAFT_ENTRY_NOOP,       /* no payload: the start of a leader's term */
    RAFT_ENTRY_MEMBERSHIP, /* payload: raft_membership_encode */
    RAFT_ENTRY_KIND_COUNT
};

enum raft_role {
    RAFT_FOLLOWER,
    RAFT_PRE_CANDIDATE,
    RAFT_CANDIDATE,
    RAFT_LEADER,
};

enum raft_message_type {
    RAFT_MESSAGE_PRE_VOTE,
    RAFT_MESSAGE_PRE_VOTE_REPLY,
    RAFT_MESSAGE_VOTE,
    RAFT_MESSAGE_VOTE_REPLY,
    RAFT_MESSAGE_APPEND,
    RAFT_MESSAGE_APPEND_REPLY,
    RAFT_MESSAGE_HEARTBEAT,
    RAFT_MESSAGE_HEARTBEAT_REPLY,
    RAFT_MESSAGE_SNAPSHOT,
    RAFT_MESSAGE_SNAPSHOT_REPLY,
    RAFT_MESSAGE_TIMEOUT_NOW, /* the leader asks its successor to campaign */
    RAFT_MESSAGE_WAKE,        /* a hibernating follower asks whether its leader lives */
    RAFT_MESSAGE_TYPE_COUNT
};

enum {
    RAFT_FLAG_GRANTED = 1,   /* PRE_VOTE_REPLY, VOTE_REPLY */
    RAFT_FLAG_REJECTED = 2,  /* APPEND_REPLY: the entry before did not match; `index` is a hint */
    RAFT_FLAG_TRANSFER = 4,  /* VOTE: the leader itself asked for this election */
    RAFT_FLAG_HIBERNATE = 8, /* HEARTBEAT: sleep if you are equal; HEARTBEAT_REPLY: I do */
    RAFT_FLAG_GAP = 16,      /* HEARTBEAT_REPLY: entries up to the asked index did not arrive */
    RAFT_FLAG_LAST = 32,     /* SNAPSHOT: the last part */
    RAFT_FLAGS_ALL = 63
};

/* From `index` on (up to the next run) entries have `term`. */
struct raft_run {
    uint64_t index;
    uint64_t term;
};

/* One message. Which fields mean something for which type: docs/formats/raft-messages.md. */
struct raft_message {
    uint8_t type;
    uint8_t flags;
    uint8_t run_count;
    uint64_t group; /* from the options; the core drops a message of another group */
    uint64_t from;
    uint64_t to;
    uint64_t term;
    uint64_t index;      /* the entry the message speaks of: the one before an append's, a */
    uint64_t index_term; /* candidate's last, a hint, the snapshot's; and that entry's term */
    uint64_t commit;
    uint64_t match;            /* replies: durable here and proven equal to the leader's log */
    uint64_t round;            /* echoed: counts what a leader sent in its term */
    uint64_t sent_ns;          /* echoed: the leader's clock when it sent */
    uint64_t window_bytes;     /* echoed: flow control, bytes sent to this peer */
    uint32_t window_messages;  /* echoed: flow control, messages sent to this peer */
    uint32_t count;            /* APPEND: entries in the payload, index + 1 and on */
    uint32_t payload_bytes;    /* APPEND, SNAPSHOT: bytes that follow the message */
    uint64_t offset;           /* SNAPSHOT: of the payload; SNAPSHOT_REPLY: wanted next */
    uint64_t membership_index; /* APPEND: the one membership entry among the entries, or 0 */
    struct raft_run runs[RAFT_MESSAGE_RUNS_MAX]; /* APPEND: terms of the entries */
    struct raft_membership membership;           /* APPEND: that entry's; SNAPSHOT: as of `index` */
};

/* An outgoing message. When message.type is RAFT_MESSAGE_APPEND and count_max > 0, the driver adds
 * the entries index + 1, index + 2, ... with raft_send_add_entry until that says false, appends
 * their bytes as the payload, and reports RAFT_EVENT_SENT. With count_max 0 it is a bare question;
 * it is reported just the same. */
struct raft_send {
    struct raft_message message;
    uint32_t count_max;
    uint32_t bytes_max; /* of payload; one entry is always taken, however large */
};

enum raft_event_type {
    RAFT_EVENT_TICK,      /* raft_next_deadline_ns has come; harmless at any other time */
    RAFT_EVENT_MESSAGE,   /* message */
    RAFT_EVENT_PROPOSE,   /* count, bytes: entries of kind NORMAL */
    RAFT_EVENT_CHANGE,    /* change, peer: propose a membership */
    RAFT_EVENT_READ,      /* id: larger than every id before; answered READ_READY or READ_REFUSED */
    RAFT_EVENT_TRANSFER,  /* peer: give leadership to this voter; 0: to the one most advanced */
    RAFT_EVENT_CAMPAIGN,  /* stand for election now, as far as promises to a leader allow */
    RAFT_EVENT_PERSISTED, /* term, vote: the hard state on disk; index, index_term: last entry on
                             disk */
    RAFT_EVENT_WRITE_FAILED, /* the replica ends; every later step is STATUS_IO */
    RAFT_EVENT_APPLIED,      /* index */
    RAFT_EVENT_SENT, /* peer, term, message of the send after filling; NULL: it was not sent */
    RAFT_EVENT_LINK, /* peer, up */
    RAFT_EVENT_SNAPSHOT_STORED, /* index, index_term, offset: durable up to here; also at start */
    RAFT_EVENT_SNAPSHOT_INSTALLED, /* index, index_term, membership: durable and in place */
    RAFT_EVENT_TYPE_COUNT
};

struct raft_event {
    enum raft_event_type type;
    uint64_t now_ns; /* every event: the clock when raft_step is called, not when it was queued */
    uint64_t random; /* every event: a fresh draw, used for the jitter of elections only */
    uint64_t peer;
    uint64_t id;
    uint64_t term;
    uint64_t vote;
    uint64_t index;
    uint64_t index_term;
    uint64_t offset;
    uint32_t count;
    uint32_t bytes;
    enum raft_change change;
    bool up;
    const struct raft_message *message;       /* borrowed for the step */
    const struct raft_membership *membership; /* borrowed for the step */
};

enum raft_action_type {
    RAFT_ACTION_PERSIST_HARD,  /* hard: term and vote */
    RAFT_ACTION_TRUNCATE,      /* index: this entry and all after it are void */
    RAFT_ACTION_APPEND,        /* append */
    RAFT_ACTION_SEND,          /* send */
    RAFT_ACTION_SEND_SNAPSHOT, /* send: message.index, .offset name the part; fill in payload_bytes,
                                  RAFT_FLAG_LAST and the snapshot's membership */
    RAFT_ACTION_COMMIT,        /* index */
    RAFT_ACTION_READ_READY,    /* read */
    RAFT_ACTION_READ_REFUSED,  /* read.id */
    RAFT_ACTION_SNAPSHOT_PART, /* snapshot: store the payload of the message in hand at .offset */
    RAFT_ACTION_INSTALL,       /* snapshot: install; .keep_log: entries after it stay */
    RAFT_ACTION_ROLE,          /* role */
    RAFT_ACTION_TYPE_COUNT
};

struct raft_action {
    enum raft_action_type type;
    union {
        struct {
            uint64_t term;
            uint64_t vote; /* replica id, 0: none */
        } hard;
        uint64_t index;
        struct {
            uint64_t first; /* entries first .. first + count - 1 */
            uint32_t count;
            /* Leader: these are the entries just proposed (all of `kind` and `term`).
             * Follower: take from the message in hand, leaving out its first `skip` entries. */
            uint32_t skip;
            bool from_message;
            enum raft_entry_kind kind;         /* unless from_message */
            uint64_t term;                     /* unless from_message */
            struct raft_membership membership; /* kind RAFT_ENTRY_MEMBERSHIP: to be encoded */
        } append;
        struct raft_send send;
        struct {
            uint64_t id;
            uint64_t index;
        } read;
        struct {
            uint64_t index;
            uint64_t index_term;
            uint64_t offset;
            uint32_t bytes;
            bool last;
            bool keep_log; /* INSTALL: false: the whole log gives way to the snapshot */
            struct raft_membership membership;
        } snapshot;
        struct {
            enum raft_role role;
            uint64_t term;
            uint64_t leader; /* 0: unknown */
        } role;
    };
};

struct raft_actions {
    uint32_t count;
    struct raft_action items[RAFT_ACTIONS_MAX];
};

struct raft_options {
    uint64_t group;               /* carried in messages */
    uint64_t id;                  /* this replica */
    uint64_t election_timeout_ns; /* least; 0: the default of timing.h, here and below */
    uint64_t heartbeat_ns;
    uint64_t lease_ns;                /* at most the election timeout less the drift (asserted) */
    uint64_t hibernate_after_ns;      /* UINT64_MAX: never */
    uint32_t message_bytes_max;       /* payload of one append or snapshot part; default 256 KiB */
    uint32_t inflight_messages_max;   /* per peer; default 64 */
    uint32_t inflight_bytes_max;      /* per peer; default 4 MiB */
    uint32_t uncommitted_entries_max; /* proposals beyond this are STATUS_BUSY; default 16384 */
    uint32_t uncommitted_bytes_max;   /* likewise; default 64 MiB */
    uint32_t runs_max;                /* terms in the log, RAFT_RUNS_MIN at least (the default) */
    bool lease_off;                   /* every read asks a quorum */
};

/* What the driver found on disk. All zero: a new replica that waits to be added. For the first
 * replica of a new group: `membership` with this replica alone, everything else zero; nobody else
 * ever starts with a membership that it was not handed by a snapshot or the log. */
struct raft_persisted {
    uint64_t term;
    uint64_t vote;
    uint64_t snapshot_index; /* of the latest complete snapshot; the log goes on after it */
    uint64_t snapshot_term;
    struct raft_membership membership; /* as of the snapshot (or of the creation of the group) */
    uint64_t applied; /* durably applied, at least snapshot_index or 0: known to be committed */
};

/* ---- life ---- */

/* Bytes of memory that raft_init wants for these options. */
size_t raft_size_bytes(const struct raft_options *options);

/* MEMORY: raft_size_bytes(), aligned to 16. STATUS_INVALID: the options contradict each other or
 * the persisted state contradicts itself; nothing was changed. */
MUST_USE enum status raft_init(void *memory, const struct raft_options *options,
                               const struct raft_persisted *persisted, struct raft **ret_raft);

/* Between raft_init and raft_start: COUNT entries from FIRST on, all of TERM, are in the journal.
 * In the order of the journal: a FIRST at or below an earlier index voids that one and what follows
 * it (a truncation record followed by its replacement comes to the same; a truncation with nothing
 * after it is COUNT 0). MEMBERSHIP: not NULL for a membership entry, with COUNT 1.
 * Entries at or below the snapshot are ignored. STATUS_CORRUPT: a gap, or a term that goes back.
 * STATUS_FULL: lend more runs and call again. */
MUST_USE enum status raft_restore_entries(struct raft *raft, uint64_t first, uint32_t count,
                                          uint64_t term, const struct raft_membership *membership);

/* The log is restored; time begins. The first TICK may come at once (raft_next_deadline_ns).
 * STATUS_CORRUPT: the log ends before `applied`, or its terms exceed the hard state's. */
MUST_USE enum status raft_start(struct raft *raft, uint64_t now_ns, uint64_t random);

/* Whether the table of terms is nearly full. The driver then lends a larger one, compacts the log,
 * or both; until it does the replica stays safe but neither campaigns nor accepts new terms. */
bool raft_runs_tight(const struct raft *raft);
/* Use RUNS (CAPACITY of them, more than before) from now on; *RET_OLD is what was lent before,
 * NULL the first time. */
void raft_lend_runs(struct raft *raft, struct raft_run *runs, uint32_t capacity,
                    struct raft_run **ret_old);

/* ---- the step ---- */

/* Take EVENT and write what is to be done to ACTIONS (its count is set, not added to).
 * STATUS_OK, or for PROPOSE, CHANGE, TRANSFER, CAMPAIGN and READ, when nothing was done:
 *   STATUS_UNAVAILABLE  not the leader (raft_info names it), or leadership is being handed over
 *   STATUS_BUSY         a bound is reached, the leader's term has not committed yet, an earlier
 *                       membership change is not committed, or the learner has not caught up
 *   STATUS_INVALID      a change that makes no sense (the membership already says so)
 *   STATUS_FULL         the members are RAFT_MEMBERS_MAX, or there is no room for a term (runs)
 * (a refused READ has no READ_REFUSED action besides.) For every event:
 *   STATUS_IO       WRITE_FAILED came before: the replica has ended
 *   STATUS_CORRUPT  a peer's log contradicts what is committed here: the replica has ended
 * Actions are valid, and are to be performed, whatever the status. */
MUST_USE enum status raft_step(struct raft *raft, const struct raft_event *event,
                               struct raft_actions *actions);

/* When the next TICK is due; UINT64_MAX: only an event will wake it. */
uint64_t raft_next_deadline_ns(const struct raft *raft);

/* Add entry INDEX to an append under way; MEMBERSHIP for a membership entry, else NULL; SIZE is
 * what it takes in the payload. False: not this one, the message is complete. Indexes come in
 * order. */
bool raft_send_add_entry(struct raft_send *send, uint64_t index, uint64_t term, uint32_t size,
                         const struct raft_membership *membership);

/* ---- snapshots and compaction ---- */

/* The driver has a durable snapshot of the state at INDEX (applied already); from now on it is what
 * lagging peers are sent. Keep the one before until no SEND_SNAPSHOT names it, or report those with
 * message NULL. *RET_MEMBERSHIP belongs into the snapshot: the committed one as of INDEX.
 * STATUS_INVALID: INDEX is not applied, or older than the present snapshot.
 * STATUS_UNAVAILABLE: two memberships came after INDEX; take one at a later index. */
MUST_USE enum status raft_snapshot_taken(struct raft *raft, uint64_t index,
                                         struct raft_membership *ret_membership);

/* Forget the entries up to INDEX (at most the snapshot's; larger is clamped). The driver may drop
 * them from the journal. Leave some thousands for followers that are only a little behind. */
void raft_compact(struct raft *raft, uint64_t index);

/* ---- what it knows ---- */

struct raft_info {
    enum raft_role role;
    uint64_t term;
    uint64_t vote;
    uint64_t leader; /* 0: unknown */
    uint64_t first;  /* lowest index in the log; last + 1 when the log is empty */
    uint64_t last;
    uint64_t last_term;
    uint64_t persisted; /* durable up to here */
    uint64_t commit;
    uint64_t applied;
    uint64_t snapshot;
    uint64_t transfer_to; /* 0: no transfer under way */
    bool hibernating;
    bool lease_held; /* as of the last event */
    bool installing;
};
void raft_info(const struct raft *raft, struct raft_info *ret_info);

/* The membership in effect (the latest in the log, committed or not), and its index. */
const struct raft_membership *raft_membership(const struct raft *raft, uint64_t *ret_index);
/* The membership as of INDEX, which is committed. STATUS_UNAVAILABLE as in raft_snapshot_taken. */
MUST_USE enum status raft_membership_at(const struct raft *raft, uint64_t index,
                                        struct raft_membership *ret_membership);

/* The term of entry INDEX; false outside of snapshot..last. */
bool raft_term_at(const struct raft *raft, uint64_t index, uint64_t *ret_term);

/* How far PEER is, for people and for the choice of whom to promote. False: not a peer of a leader.
 */
struct raft_peer_info {
    uint64_t match;
    uint64_t next;
    uint64_t heard_ns;
    uint64_t inflight_bytes;
    uint32_t inflight_messages;
    bool snapshot; /* is being sent one, at: */
    uint64_t snapshot_offset;
};
bool raft_peer_info(const struct raft *raft, uint64_t peer, struct raft_peer_info *ret_info);

/* ---- memberships and messages as bytes: docs/formats/raft-messages.md ---- */

enum {
    RAFT_MEMBERSHIP_BYTES_MAX = 4 + 8 * RAFT_MEMBERS_MAX,
    RAFT_MESSAGE_BYTES_MAX = 512, /* without payload */
};

bool raft_membership_has(const struct raft_membership *membership, uint64_t id);
bool raft_membership_is_voter(const struct raft_membership *membership, uint64_t id);
/* Ascending ids, none 0, at least one voter unless empty. */
bool raft_membership_valid(const struct raft_membership *membership);
void raft_membership_encode(const struct raft_membership *membership, struct writer *writer);
/* STATUS_CORRUPT: not a valid membership, or bytes are left over when READER was all of it. */
MUST_USE enum status raft_membership_decode(struct reader *reader,
                                            struct raft_membership *ret_membership);

/* Append MESSAGE (without payload) to WRITER. */
void raft_message_encode(const struct raft_message *message, struct writer *writer);
/* Take one message off the front of BYTES; its payload, message.payload_bytes, follows at *ret_used
 * and is not waited for. DECODE_BAD: close the peer. */
enum decode raft_message_decode(const uint8_t *bytes, size_t size, struct raft_message *ret_message,
                                size_t *ret_used);

#endif
