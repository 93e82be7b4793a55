#include "consensus/raft_internal.h"

/* ---- life ---- */

enum { RAFT_ALIGNMENT = 16 };

static size_t raft_struct_bytes(void)
{
    return (sizeof(struct raft) + RAFT_ALIGNMENT - 1) / RAFT_ALIGNMENT * RAFT_ALIGNMENT;
}

static uint32_t runs_of(const struct raft_options *options)
{
    return options->runs_max == 0 ? RAFT_RUNS_MIN : options->runs_max;
}

size_t raft_size_bytes(const struct raft_options *options)
{
    return raft_struct_bytes() + runs_of(options) * sizeof(struct raft_run);
}

static uint64_t or_default(uint64_t value, uint64_t fallback)
{
    return value == 0 ? fallback : value;
}

static struct raft_options with_defaults(struct raft_options o)
{
    o.election_timeout_ns = or_default(o.election_timeout_ns, CONSENSUS_ELECTION_TIMEOUT_NS);
    o.heartbeat_ns = or_default(o.heartbeat_ns, CONSENSUS_HEARTBEAT_NS);
    o.lease_ns = or_default(o.lease_ns, CONSENSUS_LEASE_NS);
    o.hibernate_after_ns = or_default(o.hibernate_after_ns, CONSENSUS_HIBERNATE_AFTER_NS);
    o.message_bytes_max = (uint32_t)or_default(o.message_bytes_max, 256ull * 1024);
    o.inflight_messages_max = (uint32_t)or_default(o.inflight_messages_max, 64);
    o.inflight_bytes_max = (uint32_t)or_default(o.inflight_bytes_max, 4ull * 1024 * 1024);
    o.uncommitted_entries_max = (uint32_t)or_default(o.uncommitted_entries_max, 16384);
    o.uncommitted_bytes_max = (uint32_t)or_default(o.uncommitted_bytes_max, 64ull * 1024 * 1024);
    o.runs_max = runs_of(&o);
    return o;
}

static bool options_valid(const struct raft_options *o)
{
    return o->id != 0 && o->runs_max >= RAFT_RUNS_MIN && o->runs_max <= RAFT_RUNS_MAX &&
           o->message_bytes_max <= RAFT_PAYLOAD_BYTES_MAX &&
           o->election_timeout_ns >= 3 * o->heartbeat_ns &&
           o->lease_ns / 1000 * (1000 + CONSENSUS_DRIFT_PER_MILLE) <=
               o->election_timeout_ns / 1000 * (1000 - CONSENSUS_DRIFT_PER_MILLE);
}

enum status raft_init(void *memory, const struct raft_options *options,
                      const struct raft_persisted *persisted, struct raft **ret_raft)
{
    struct raft *raft = memory;
    struct raft_options all = with_defaults(*options);

    assert((uintptr_t)memory % RAFT_ALIGNMENT == 0);
    if (!options_valid(&all) || !raft_membership_valid(&persisted->membership)) {
        return STATUS_INVALID;
    }
    if (persisted->snapshot_term > persisted->term ||
        (persisted->snapshot_index == 0) != (persisted->snapshot_term == 0)) {
        return STATUS_INVALID;
    }
    *raft = (struct raft) { .options = all, .role = RAFT_FOLLOWER };
    raft->term = raft->hard_term = raft->told_term = persisted->term;
    raft->vote = raft->hard_vote = persisted->vote;
    struct raft_run *runs = (struct raft_run *)((uint8_t *)memory + raft_struct_bytes());
    raft_log_init(&raft->log, runs, all.runs_max, persisted->snapshot_index,
                  persisted->snapshot_term);
    raft->snapshot = persisted->snapshot_index;
    raft->commit = persisted->applied > raft->snapshot ? persisted->applied : raft->snapshot;
    raft->applied = raft->told_commit = raft->commit;
    raft->membership = raft->membership_previous = persisted->membership;
    raft->membership_index = raft->membership_previous_index = raft->snapshot;
    raft->election_deadline_ns = raft->heartbeat_due_ns = UINT64_MAX;
    raft->transfer_deadline_ns = UINT64_MAX;
    *ret_raft = raft;
    return STATUS_OK;
}

enum status raft_restore_entries(struct raft *raft, uint64_t first, uint32_t count, uint64_t term,
                                 const struct raft_membership *membership)
{
    assert(!raft->started);
    assert(membership == NULL || count == 1);

    uint64_t end = first + count;
    if (first == 0 || end < first) return STATUS_CORRUPT;
    if (first <= raft->log.base) {
        if (end <= raft->log.base + 1) return STATUS_OK;
        count = (uint32_t)(end - raft->log.base - 1);
        first = raft->log.base + 1;
    }
    if (first > raft->log.last + 1) return STATUS_CORRUPT;
    if (first <= raft->log.last) {
        if (raft_membership_roll_back(raft, first) != STATUS_OK) return STATUS_CORRUPT;
        raft_log_truncate(&raft->log, first);
    }
    if (count == 0) return STATUS_OK;
    if (term < raft_log_last_term(&raft->log) || term == 0) return STATUS_CORRUPT;
    if (!raft_log_has_room(&raft->log, term)) return STATUS_FULL;
    raft_log_append(&raft->log, count, term);
    raft->log.persisted = raft->log.last;
    if (membership != NULL) raft_membership_push(raft, first, membership);
    return STATUS_OK;
}

bool raft_runs_tight(const struct raft *raft)
{
    return raft->log.run_capacity - raft->log.run_count < 2;
}

void raft_lend_runs(struct raft *raft, struct raft_run *runs, uint32_t capacity,
                    struct raft_run **ret_old)
{
    struct raft_run *own = (struct raft_run *)((uint8_t *)raft + raft_struct_bytes());

    assert(capacity > raft->log.run_capacity);
    memcpy(runs, raft->log.runs, raft->log.run_count * sizeof runs[0]);
    *ret_old = raft->log.runs == own ? NULL : raft->log.runs;
    raft->log.runs = runs;
    raft->log.run_capacity = capacity;
}

void raft_end(struct raft *raft, enum status why)
{
    raft->ended = why;
}

/* ---- emitting ---- */

struct raft_action *raft_emit(struct raft *raft, enum raft_action_type type)
{
    struct raft_actions *out = raft->out;
    assert(out != NULL);
    assert(out->count < RAFT_ACTIONS_MAX);
    struct raft_action *action = &out->items[out->count++];
    action->type = type;
    return action;
}

struct raft_message *raft_emit_message(struct raft *raft, enum raft_message_type type, uint64_t to)
{
    struct raft_action *action = raft_emit(raft, RAFT_ACTION_SEND);
    action->send.count_max = 0;
    action->send.bytes_max = 0;
    struct raft_message *message = &action->send.message;
    *message = (struct raft_message) { .type = (uint8_t)type,
                                       .group = raft->options.group,
                                       .from = raft->options.id,
                                       .to = to,
                                       .term = raft->term };
    return message;
}

bool raft_hard_is_durable(const struct raft *raft)
{
#ifdef MUTATION_FORGET_VOTE /* the vote lives in memory only */
    return raft->hard_term == raft->term;
#endif
    return raft->hard_term == raft->term && raft->hard_vote == raft->vote;
}

void raft_emit_hard(struct raft *raft)
{
    if (raft_hard_is_durable(raft) || raft->hard_asked) return;
    struct raft_action *action = raft_emit(raft, RAFT_ACTION_PERSIST_HARD);
    action->hard.term = raft->term;
    action->hard.vote = raft->vote;
#ifdef MUTATION_FORGET_VOTE
    action->hard.vote = 0;
#endif
    raft->hard_asked = true;
}

static void tell_role(struct raft *raft)
{
    if (raft->role == raft->told_role && raft->term == raft->told_term &&
        raft->leader == raft->told_leader) {
        return;
    }
    struct raft_action *action = raft_emit(raft, RAFT_ACTION_ROLE);
    action->role.role = raft->told_role = raft->role;
    action->role.term = raft->told_term = raft->term;
    action->role.leader = raft->told_leader = raft->leader;
}

/* ---- messages ---- */

static bool is_from_leader(uint8_t type)
{
    return type == RAFT_MESSAGE_APPEND || type == RAFT_MESSAGE_HEARTBEAT ||
           type == RAFT_MESSAGE_SNAPSHOT || type == RAFT_MESSAGE_TIMEOUT_NOW;
}

/* A deposed leader that still talks learns the present term, and steps down. */
static void answer_stale(struct raft *raft, const struct raft_message *message)
{
    if (!raft_hard_is_durable(raft) || raft->installing) return;
    if (!is_from_leader(message->type) && message->type != RAFT_MESSAGE_VOTE) return;
    bool vote = message->type == RAFT_MESSAGE_VOTE;
    raft_emit_message(raft, vote ? RAFT_MESSAGE_VOTE_REPLY : RAFT_MESSAGE_HEARTBEAT_REPLY,
                      message->from);
}

static void on_message(struct raft *raft, const struct raft_message *message)
{
    if (!raft_message_valid(message)) return;
    if (message->to != raft->options.id || message->group != raft->options.group ||
        message->from == raft->options.id || message->from == 0) {
        return;
    }
    if (message->type == RAFT_MESSAGE_PRE_VOTE) {
        raft_on_pre_vote(raft, message);
        return;
    }
    if (message->type == RAFT_MESSAGE_PRE_VOTE_REPLY) {
        raft_on_pre_vote_reply(raft, message);
        return;
    }
    if (message->term < raft->term) {
        answer_stale(raft, message);
        return;
    }
    if (message->type == RAFT_MESSAGE_VOTE) {
        raft_on_vote(raft, message);
        return;
    }
    if (message->term > raft->term) {
        raft_become_follower(raft, message->term,
                             is_from_leader(message->type) ? message->from : 0);
    }
    switch ((enum raft_message_type)message->type) {
    case RAFT_MESSAGE_VOTE_REPLY: raft_on_vote_reply(raft, message); break;
    case RAFT_MESSAGE_APPEND: raft_on_append(raft, message); break;
    case RAFT_MESSAGE_APPEND_REPLY: raft_on_append_reply(raft, message); break;
    case RAFT_MESSAGE_HEARTBEAT: raft_on_heartbeat(raft, message); break;
    case RAFT_MESSAGE_HEARTBEAT_REPLY: raft_on_heartbeat_reply(raft, message); break;
    case RAFT_MESSAGE_SNAPSHOT: raft_on_snapshot(raft, message); break;
    case RAFT_MESSAGE_SNAPSHOT_REPLY: raft_on_snapshot_reply(raft, message); break;
    case RAFT_MESSAGE_TIMEOUT_NOW:
        if (raft->leader == message->from && raft_can_campaign(raft))
            raft_become_candidate(raft, true);
        break;
    case RAFT_MESSAGE_WAKE:
        if (raft->role == RAFT_LEADER) raft_wake(raft);
        break;
    case RAFT_MESSAGE_PRE_VOTE:
    case RAFT_MESSAGE_PRE_VOTE_REPLY:
    case RAFT_MESSAGE_VOTE:
    case RAFT_MESSAGE_TYPE_COUNT:
    default: break;
    }
}

/* ---- time ---- */

static uint64_t heard_ns(const struct raft_peer *peer)
{
    return peer->heard_ns;
}

/* Everyone has everything and nothing happens. */
static bool may_hibernate(const struct raft *raft)
{
    if (raft->options.hibernate_after_ns == UINT64_MAX || raft->transfer_to != 0) return false;
    if (raft->now_ns - raft->active_ns < raft->options.hibernate_after_ns) return false;
    if (raft->commit != raft->log.last || raft->log.persisted != raft->log.last) return false;
    if (raft->read_waiting != 0 || raft->read_confirming != 0) return false;
    for (int i = 0; i < raft->peer_count; i++) {
        const struct raft_peer *peer = &raft->peers[i];
        if (peer->match != raft->log.last || peer->down || peer->filling) return false;
        if (raft->now_ns - peer->heard_ns > raft->options.election_timeout_ns) return false;
    }
    return true;
}

static bool all_hibernate(const struct raft *raft)
{
    for (int i = 0; i < raft->peer_count; i++) {
        if (!raft->peers[i].hibernating) return false;
    }
    return true;
}

static void tick_leader(struct raft *raft)
{
    uint64_t timeout = raft->options.election_timeout_ns;

    if (raft->now_ns >= raft->transfer_deadline_ns) {
        /* Given up; the lease stays revoked, as the successor may yet campaign. */
        raft->transfer_to = 0;
        raft->transfer_deadline_ns = UINT64_MAX;
    }
    if (raft->now_ns < raft->heartbeat_due_ns) return;
    if (raft->now_ns - raft_quorum_value(raft, raft->now_ns, heard_ns) > timeout) {
        raft_become_follower(raft, raft->term, 0); /* check-quorum */
        return;
    }
    bool hibernate = may_hibernate(raft);
    if (hibernate && all_hibernate(raft)) {
        raft->hibernating = true;
        raft->heartbeat_due_ns = UINT64_MAX;
        return;
    }
    raft->heartbeat_due_ns = raft_next_heartbeat(raft);
    raft->transfer_sent = false; /* the word to the successor may have been lost */
    raft_leader_heartbeat(raft, hibernate);
}

static void tick(struct raft *raft)
{
    if (raft->role == RAFT_LEADER) {
        tick_leader(raft);
        return;
    }
    if (raft->now_ns < raft->election_deadline_ns) return;
    if (!raft_can_campaign(raft)) {
        raft_reset_election(raft);
        return;
    }
    /* One's own vote is promised too: two of three could otherwise elect inside a lease. */
    if (raft_is_promised(raft) && !raft_is_sole_voter(raft)) {
        raft->election_deadline_ns = raft->promise_until_ns;
        return;
    }
    raft_campaign(raft);
}

enum status raft_start(struct raft *raft, uint64_t now_ns, uint64_t random)
{
    assert(!raft->started);
    if (raft->log.last < raft->commit || raft_log_last_term(&raft->log) > raft->term) {
        return STATUS_CORRUPT;
    }
    raft->started = true;
    raft->now_ns = now_ns;
    raft->random = random;
    raft->proven = raft->commit;
    /* The leader before the restart is forgotten, and may hold a lease that rests on a promise of
     * ours. */
#ifndef MUTATION_VOTE_AFTER_RESTART_IN_LEASE
    raft->promise_until_ns = now_ns + raft->options.election_timeout_ns;
#endif
    raft_reset_election(raft);
    /* Alone, there is nobody to wait for. */
    if (raft_is_sole_voter(raft)) raft->election_deadline_ns = now_ns;
    return STATUS_OK;
}

uint64_t raft_next_deadline_ns(const struct raft *raft)
{
    if (raft->ended != STATUS_OK) return UINT64_MAX;
    if (raft->role != RAFT_LEADER) return raft->election_deadline_ns;
    return raft->heartbeat_due_ns < raft->transfer_deadline_ns ? raft->heartbeat_due_ns
                                                               : raft->transfer_deadline_ns;
}

/* ---- requests ---- */

static enum status propose(struct raft *raft, uint32_t count, uint32_t bytes)
{
    if (raft->role != RAFT_LEADER || raft->transfer_to != 0) return STATUS_UNAVAILABLE;
    if (count == 0) return STATUS_INVALID;
    uint64_t waiting = raft->log.last - raft->commit;
    if (waiting + count > raft->options.uncommitted_entries_max) return STATUS_BUSY;
    uint64_t bytes_waiting = raft->uncommitted_bytes + raft->uncommitted_bytes_behind;
    /* One that is larger than the bound goes when it is alone. */
    if (bytes_waiting > 0 && bytes_waiting + bytes > raft->options.uncommitted_bytes_max) {
        return STATUS_BUSY;
    }
    if (!raft_log_has_room(&raft->log, raft->term)) return STATUS_FULL;
    raft_wake(raft);
    raft_leader_append(raft, RAFT_ENTRY_NORMAL, count, bytes);
    return STATUS_OK;
}

static enum status transfer(struct raft *raft, uint64_t to)
{
    if (raft->role != RAFT_LEADER || raft->transfer_to != 0) return STATUS_UNAVAILABLE;
    if (to == 0) {
        uint64_t best = 0;
        for (int i = 0; i < raft->peer_count; i++) {
            const struct raft_peer *peer = &raft->peers[i];
            if (!raft_membership_is_voter(&raft->membership, peer->id) || peer->down) continue;
            if (to != 0 && peer->match <= best) continue;
            to = peer->id;
            best = peer->match;
        }
    }
    if (to == raft->options.id || !raft_membership_is_voter(&raft->membership, to)) {
        return STATUS_INVALID;
    }
    raft_wake(raft);
    raft->transfer_to = to;
    raft->transfer_sent = false;
    raft->transfer_deadline_ns = raft->now_ns + raft->options.election_timeout_ns;
    raft->lease_revoked = true; /* the successor's voters do not wait for promises to end */
    return STATUS_OK;
}

static enum status campaign_now(struct raft *raft)
{
    if (!raft_can_campaign(raft)) return STATUS_UNAVAILABLE;
    if (raft_is_promised(raft) && !raft_is_sole_voter(raft)) return STATUS_BUSY;
    raft_campaign(raft);
    return STATUS_OK;
}

static void on_link(struct raft *raft, uint64_t id, bool up)
{
    struct raft_peer *peer = raft_peer_find(raft, id);

    if (raft->role == RAFT_LEADER && peer != NULL) {
        peer->down = !up;
        raft_wake(raft);
    } else if (raft->role == RAFT_FOLLOWER && id == raft->leader && !up) {
        raft_wake(raft); /* the promise ends with its time; the election may come */
    }
}

static void on_persisted(struct raft *raft, const struct raft_event *event)
{
    uint64_t term = 0;

    if (event->term > raft->hard_term || (event->term == raft->hard_term && event->vote != 0)) {
        raft->hard_term = event->term;
        raft->hard_vote = event->vote;
    }
    /* The entry that was written may have been replaced meanwhile: then its term differs. */
    if (event->index > raft->log.persisted && raft_log_term_at(&raft->log, event->index, &term) &&
        term == event->index_term) {
        raft->log.persisted = event->index;
    }
}

/* ---- the step ---- */

static enum status dispatch(struct raft *raft, const struct raft_event *event)
{
    switch (event->type) {
    case RAFT_EVENT_TICK: tick(raft); break;
    case RAFT_EVENT_MESSAGE: on_message(raft, event->message); break;
    case RAFT_EVENT_PROPOSE: return propose(raft, event->count, event->bytes);
    case RAFT_EVENT_CHANGE: return raft_membership_change(raft, event->change, event->peer);
    case RAFT_EVENT_READ: return raft_read(raft, event->id);
    case RAFT_EVENT_TRANSFER: return transfer(raft, event->peer);
    case RAFT_EVENT_CAMPAIGN: return campaign_now(raft);
    case RAFT_EVENT_PERSISTED: on_persisted(raft, event); break;
    case RAFT_EVENT_WRITE_FAILED:
        /* What the disk holds now is not known: not even the past can be vouched for. */
        raft_end(raft, STATUS_IO);
        break;
    case RAFT_EVENT_APPLIED:
        assert(event->index <= raft->told_commit);
        if (event->index > raft->applied) raft->applied = event->index;
        break;
    case RAFT_EVENT_SENT: raft_on_sent(raft, event); break;
    case RAFT_EVENT_LINK: on_link(raft, event->peer, event->up); break;
    case RAFT_EVENT_SNAPSHOT_STORED: raft_on_snapshot_stored(raft, event); break;
    case RAFT_EVENT_SNAPSHOT_INSTALLED: raft_on_snapshot_installed(raft, event); break;
    case RAFT_EVENT_TYPE_COUNT:
    default: assert(false);
    }
    return STATUS_OK;
}

/* What follows from the new state, whatever the event was. */
static void settle(struct raft *raft)
{
    raft_emit_hard(raft);
    raft_settle_candidate(raft);
    raft_settle_vote(raft);
    if (raft->role == RAFT_LEADER) {
        raft_leader_commit(raft);
    }
    if (raft->role == RAFT_LEADER) {
        if (raft->heartbeat_due_ns <= raft->now_ns) tick_leader(raft);
    }
    if (raft->role == RAFT_LEADER) {
        raft_reads_settle(raft);
        raft_leader_send(raft);
    } else if (raft->role == RAFT_FOLLOWER) {
        raft_pay_owed(raft);
    }
    tell_role(raft);

    /* What is applied is durable here too, or a state could be ahead of its own log. */
    uint64_t apply = raft->commit < raft->log.persisted ? raft->commit : raft->log.persisted;
    if (apply > raft->told_commit && !raft->installing) {
        raft->told_commit = apply;
        raft_emit(raft, RAFT_ACTION_COMMIT)->index = apply;
    }
}

enum status raft_step(struct raft *raft, const struct raft_event *event,
                      struct raft_actions *actions)
{
    assert(raft->started);
    actions->count = 0;
    if (raft->ended != STATUS_OK) return raft->ended;
    if (event->now_ns > raft->now_ns) raft->now_ns = event->now_ns;
    raft->random = event->random;

    raft->out = actions;
    enum status status = dispatch(raft, event);
    if (raft->ended == STATUS_OK) {
        settle(raft);
    } else {
        actions->count = 0; /* nothing that this replica says may be believed */
        status = raft->ended;
    }
    raft->out = NULL;
    return status;
}

/* ---- what it knows ---- */

void raft_info(const struct raft *raft, struct raft_info *ret_info)
{
    *ret_info = (struct raft_info) { .role = raft->role,
                                     .term = raft->term,
                                     .vote = raft->vote,
                                     .leader = raft->leader,
                                     .first = raft->log.base + 1,
                                     .last = raft->log.last,
                                     .last_term = raft_log_last_term(&raft->log),
                                     .persisted = raft->log.persisted,
                                     .commit = raft->commit,
                                     .applied = raft->applied,
                                     .snapshot = raft->snapshot,
                                     .transfer_to = raft->transfer_to,
                                     .hibernating = raft->hibernating,
                                     .lease_held = raft_lease_held(raft),
                                     .installing = raft->installing };
}

bool raft_term_at(const struct raft *raft, uint64_t index, uint64_t *ret_term)
{
    return raft_log_term_at(&raft->log, index, ret_term);
}

bool raft_peer_info(const struct raft *raft, uint64_t id, struct raft_peer_info *ret_info)
{
    if (raft->role != RAFT_LEADER) return false;
    for (int i = 0; i < raft->peer_count; i++) {
        const struct raft_peer *peer = &raft->peers[i];
        if (peer->id != id) continue;
        *ret_info = (struct raft_peer_info) {
            .match = peer->match,
            .next = peer->next,
            .heard_ns = peer->heard_ns,
            .inflight_bytes = peer->window_bytes_sent - peer->window_bytes_acked,
            .inflight_messages = peer->window_messages_sent - peer->window_messages_acked,
            .snapshot = peer->state == RAFT_PEER_SNAPSHOT,
            .snapshot_offset = peer->snapshot_offset,
        };
        return true;
    }
    return false;
}
