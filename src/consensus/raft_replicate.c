#include "consensus/raft_internal.h"

/* ---- peers and quorums ---- */

struct raft_peer *raft_peer_find(struct raft *raft, uint64_t id)
{
    for (int i = 0; i < raft->peer_count; i++) {
        if (raft->peers[i].id == id) return &raft->peers[i];
    }
    return NULL;
}

void raft_peers_reset(struct raft *raft)
{
    const struct raft_membership *membership = &raft->membership;

    for (int i = 0; i < raft->peer_count;) {
        if (raft_membership_has(membership, raft->peers[i].id)) {
            i++;
        } else {
            raft->peers[i] = raft->peers[--raft->peer_count];
        }
    }
    for (int i = 0; i < membership->count; i++) {
        uint64_t id = membership->ids[i];
        if (id == raft->options.id || raft_peer_find(raft, id) != NULL) continue;
        assert(raft->peer_count < RAFT_PEERS_MAX);
        raft->peers[raft->peer_count++] =
            (struct raft_peer) { .id = id, .next = raft->log.last + 1, .heard_ns = raft->now_ns };
    }
}

uint64_t raft_quorum_value(const struct raft *raft, uint64_t own,
                           uint64_t (*value)(const struct raft_peer *peer))
{
    uint64_t values[RAFT_MEMBERS_MAX];
    uint32_t count = 0;

    if (raft_is_voter(raft)) values[count++] = own;
    for (int i = 0; i < raft->peer_count; i++) {
        const struct raft_peer *peer = &raft->peers[i];
        if (raft_membership_is_voter(&raft->membership, peer->id)) values[count++] = value(peer);
    }
    if (count == 0) return 0;

    /* Descending; what stands at place quorum - 1 has been reached by a quorum. */
    for (uint32_t i = 1; i < count; i++) {
        uint64_t moving = values[i];
        uint32_t at = i;
        for (; at > 0 && values[at - 1] < moving; at--) values[at] = values[at - 1];
        values[at] = moving;
    }
    return values[count / 2];
}

/* ---- leader: own log and commit ---- */

void raft_leader_append(struct raft *raft, enum raft_entry_kind kind, uint32_t count,
                        uint32_t bytes)
{
    raft_emit_hard(raft);
    struct raft_action *action = raft_emit(raft, RAFT_ACTION_APPEND);
    action->append.first = raft->log.last + 1;
    action->append.count = count;
    action->append.skip = 0;
    action->append.from_message = false;
    action->append.kind = kind;
    action->append.term = raft->term;
    if (kind == RAFT_ENTRY_MEMBERSHIP) action->append.membership = raft->membership;
    raft_log_append(&raft->log, count, raft->term);
    raft->uncommitted_bytes_behind += bytes;
}

static uint64_t match_of(const struct raft_peer *peer)
{
    return peer->match;
}

/* Bytes are dropped from the count half by half: an upper bound in two numbers, however many
 * entries there are. */
static void count_committed(struct raft *raft)
{
    if (raft->commit < raft->uncommitted_mark) return;
    raft->uncommitted_bytes = raft->commit == raft->log.last ? 0 : raft->uncommitted_bytes_behind;
    raft->uncommitted_bytes_behind = 0;
    raft->uncommitted_mark = raft->log.last;
}

/* Out of the membership: name the most advanced voter as successor, and follow. */
static void leave(struct raft *raft)
{
    const struct raft_peer *best = NULL;

    for (int i = 0; i < raft->peer_count; i++) {
        const struct raft_peer *peer = &raft->peers[i];
        if (!raft_membership_is_voter(&raft->membership, peer->id)) continue;
        if (best == NULL || peer->match > best->match) best = peer;
    }
    if (best != NULL) raft_emit_message(raft, RAFT_MESSAGE_TIMEOUT_NOW, best->id);
    raft_become_follower(raft, raft->term, 0);
}

void raft_leader_commit(struct raft *raft)
{
    uint64_t own = raft->log.persisted;
#ifdef MUTATION_ACK_BEFORE_PERSIST /* counts what a power cut may take back */
    own = raft->log.last;
#endif
    uint64_t index = raft_quorum_value(raft, own, match_of);
    uint64_t term = 0;

    if (index <= raft->commit || !raft_log_term_at(&raft->log, index, &term)) return;
        /* Figure 8 of the Raft paper: an entry of an older term on a majority may still be
         * replaced. Only an entry of the own term, the no-op at the earliest, commits, and all
         * before with it. */
#ifndef MUTATION_DROP_NOOP_COMMIT_OLD_TERM
    if (term != raft->term) return;
#endif
    raft->commit = index;
    count_committed(raft);
    if (!raft_is_voter(raft) && raft->commit >= raft->membership_index) leave(raft);
}

/* ---- leader: sending ---- */

static bool is_silent(const struct raft *raft, const struct raft_peer *peer)
{
    return peer->down || raft->now_ns - peer->heard_ns > raft->options.election_timeout_ns;
}

static bool window_is_full(const struct raft *raft, const struct raft_peer *peer)
{
    return peer->window_messages_sent - peer->window_messages_acked >=
               raft->options.inflight_messages_max ||
           peer->window_bytes_sent - peer->window_bytes_acked >= raft->options.inflight_bytes_max;
}

static void stamp(struct raft *raft, struct raft_message *message)
{
    message->commit = raft->commit;
    message->round = raft->round;
    message->sent_ns = raft->now_ns;
}

static void send_append(struct raft *raft, struct raft_peer *peer, uint64_t before_term)
{
    uint64_t left = raft->log.last - (peer->next - 1);
    struct raft_message *message = raft_emit_message(raft, RAFT_MESSAGE_APPEND, peer->id);
    struct raft_send *send = &raft->out->items[raft->out->count - 1].send;

    stamp(raft, message);
    message->index = peer->next - 1;
    message->index_term = before_term;
    message->window_messages = peer->window_messages_sent + 1;
    message->window_bytes = peer->window_bytes_sent; /* raft_send_add_entry adds to it */
    send->count_max =
        (uint32_t)(left < RAFT_ENTRIES_PER_MESSAGE_MAX ? left : RAFT_ENTRIES_PER_MESSAGE_MAX);
    send->bytes_max = raft->options.message_bytes_max;
    peer->filling = true;
}

static void send_to(struct raft *raft, struct raft_peer *peer)
{
    uint64_t before_term = 0;

    /* A silent peer gets heartbeats only: after a long partition there is one question waiting for
     * it, not a pile of entries. */
    if (peer->filling || peer->paused || is_silent(raft, peer)) return;
    if (peer->state != RAFT_PEER_SNAPSHOT &&
        !raft_log_term_at(&raft->log, peer->next - 1, &before_term)) {
        peer->state = RAFT_PEER_SNAPSHOT;
        peer->snapshot_index = 0;
    }
    switch ((enum raft_peer_state)peer->state) {
    case RAFT_PEER_SNAPSHOT: raft_send_snapshot(raft, peer); break;
    case RAFT_PEER_REPLICATE:
        if (peer->next > raft->log.last || window_is_full(raft, peer)) break;
        send_append(raft, peer, before_term);
        break;
    case RAFT_PEER_PROBE: send_append(raft, peer, before_term); break;
    }
}

static void send_timeout_now(struct raft *raft)
{
    struct raft_peer *peer = raft_peer_find(raft, raft->transfer_to);
    if (peer == NULL || peer->match != raft->log.last || raft->transfer_sent) return;
    raft_emit_message(raft, RAFT_MESSAGE_TIMEOUT_NOW, peer->id);
    raft->transfer_sent = true;
}

void raft_leader_send(struct raft *raft)
{
    if (raft->hibernating) return;
    for (int i = 0; i < raft->peer_count; i++) send_to(raft, &raft->peers[i]);
    if (raft->transfer_to != 0) send_timeout_now(raft);
}

void raft_leader_heartbeat(struct raft *raft, bool hibernate)
{
    raft->round++;
    for (int i = 0; i < raft->peer_count; i++) {
        struct raft_peer *peer = &raft->peers[i];
        if (!hibernate) peer->hibernating = false;
        if (peer->paused && raft->now_ns >= peer->retry_ns) peer->paused = false;
        /* Also over a link that is said to be down: an answer proves the contrary, so that a lost
         * word of the driver can't leave a peer behind for ever. */
        struct raft_message *message = raft_emit_message(raft, RAFT_MESSAGE_HEARTBEAT, peer->id);
        stamp(raft, message);
        /* What it should have by now: it answers GAP when something was lost. */
        message->index = peer->sent;
        if (hibernate) message->flags = RAFT_FLAG_HIBERNATE;
    }
}

void raft_on_sent(struct raft *raft, const struct raft_event *event)
{
    struct raft_peer *peer = raft_peer_find(raft, event->peer);
    const struct raft_message *message = event->message;

    if (raft->role != RAFT_LEADER || event->term != raft->term || peer == NULL) return;
    if (!peer->filling) return;
    peer->filling = false;
    if (message == NULL) {
        peer->paused = true;
        peer->retry_ns = raft->now_ns + raft->options.heartbeat_ns;
        peer->snapshot_index = 0; /* if it was one: begin again with the newest */
        return;
    }
    if (message->type == RAFT_MESSAGE_SNAPSHOT) {
        peer->paused = true;
        peer->retry_ns = raft->now_ns + raft->options.election_timeout_ns;
        return;
    }
    assert(message->type == RAFT_MESSAGE_APPEND);
    peer->window_bytes_sent = message->window_bytes;
    peer->window_messages_sent = message->window_messages;
    if (message->index + 1 != peer->next) return; /* an answer moved it meanwhile */
    uint64_t end = message->index + message->count;
    if (end > peer->sent) peer->sent = end;
    if (peer->state == RAFT_PEER_REPLICATE) {
        peer->next = end + 1;
    } else if (peer->state == RAFT_PEER_PROBE) {
        peer->paused = true;
        peer->retry_ns = raft->now_ns + raft->options.election_timeout_ns;
    }
}

/* ---- leader: answers ---- */

static struct raft_peer *heard(struct raft *raft, const struct raft_message *message)
{
    struct raft_peer *peer = raft_peer_find(raft, message->from);

    if (raft->role != RAFT_LEADER || peer == NULL) return NULL;
    peer->heard_ns = raft->now_ns;
    peer->down = false;
    /* Echoes of what was never sent would be a lie about the future. */
    if (message->round <= raft->round && message->round > peer->acked_round) {
        peer->acked_round = message->round;
    }
    if (message->sent_ns <= raft->now_ns && message->sent_ns > peer->acked_sent_ns) {
        peer->acked_sent_ns = message->sent_ns;
    }
    return peer;
}

static void reset_window(struct raft_peer *peer)
{
    peer->window_bytes_acked = peer->window_bytes_sent;
    peer->window_messages_acked = peer->window_messages_sent;
}

static void probe(struct raft_peer *peer, uint64_t next)
{
    peer->state = RAFT_PEER_PROBE;
    peer->next = next > peer->match ? next : peer->match + 1;
    peer->sent = peer->next - 1;
    peer->paused = false;
    reset_window(peer);
}

static void matched(struct raft *raft, struct raft_peer *peer, uint64_t match)
{
    if (match > raft->log.last || match < peer->match) return;
    peer->match = match;
    if (peer->state == RAFT_PEER_SNAPSHOT) {
        if (peer->snapshot_index == 0 || match < peer->snapshot_index) return;
        probe(peer, match + 1);
    }
    if (match + 1 < peer->next) return;
    peer->next = match + 1;
    if (peer->sent < match) peer->sent = match;
    reset_window(peer); /* nothing is on its way */
    if (peer->state == RAFT_PEER_PROBE && match > 0) {
        peer->state = RAFT_PEER_REPLICATE;
        peer->paused = false;
    }
}

/* The window as the follower saw it, never beyond what was sent nor back. */
static void window_acked(struct raft_peer *peer, const struct raft_message *message)
{
    if (message->window_bytes <= peer->window_bytes_sent &&
        message->window_bytes > peer->window_bytes_acked) {
        peer->window_bytes_acked = message->window_bytes;
    }
    if (message->window_messages - peer->window_messages_acked <=
        peer->window_messages_sent - peer->window_messages_acked) {
        peer->window_messages_acked = message->window_messages;
    }
}

void raft_on_append_reply(struct raft *raft, const struct raft_message *message)
{
    struct raft_peer *peer = heard(raft, message);
    if (peer == NULL) return;
    window_acked(peer, message);
    if ((message->flags & RAFT_FLAG_REJECTED) == 0) {
        matched(raft, peer, message->match);
        if (peer->state == RAFT_PEER_PROBE && message->index >= peer->next - 1 &&
            message->index <= raft->log.last) {
            /* The logs meet, though that may not be durable there yet. */
            peer->state = RAFT_PEER_REPLICATE;
            peer->paused = false;
            peer->next = message->index + 1;
            if (peer->sent < message->index) peer->sent = message->index;
        }
        return;
    }
    if (peer->state == RAFT_PEER_SNAPSHOT) return;
    /* A refusal that answers an older question is of no use any more. */
    if (message->offset <= peer->match) return;
    if (peer->state == RAFT_PEER_PROBE && message->offset != peer->next - 1) return;
    uint64_t meet = 0;
    uint64_t below = message->offset - 1;
    if (message->index < below) below = message->index;
    if (!raft_log_find_at_most(&raft->log, below, message->index_term, &meet)) meet = 0;
    if (meet > below) meet = below;
    probe(peer, meet + 1);
}

void raft_on_heartbeat_reply(struct raft *raft, const struct raft_message *message)
{
    struct raft_peer *peer = heard(raft, message);
    if (peer == NULL) return;
    peer->hibernating = (message->flags & RAFT_FLAG_HIBERNATE) != 0;
    matched(raft, peer, message->match);
    if ((message->flags & RAFT_FLAG_GAP) != 0 && peer->state != RAFT_PEER_SNAPSHOT &&
        message->index < peer->sent) {
        /* What it has is proven in this term: go on right behind. */
        uint64_t next = message->index + 1;
        probe(peer, next < peer->next ? next : peer->next);
    }
}

/* ---- follower ---- */

void raft_follower_commit(struct raft *raft, uint64_t commit)
{
    /* What lies beyond the proven may be a stale suffix. */
    if (commit > raft->proven) commit = raft->proven;
    if (commit > raft->commit) raft->commit = commit;
}

static void see_round(struct raft *raft, const struct raft_message *message)
{
    if (message->round > raft->echo_round) raft->echo_round = message->round;
    if (message->sent_ns > raft->echo_sent_ns) raft->echo_sent_ns = message->sent_ns;
}

/* The window counts as answered only once all that came in it is durable. */
static void see_window(struct raft *raft, const struct raft_message *message)
{
    if (message->window_bytes >= raft->echo_bytes) {
        raft->echo_bytes = message->window_bytes;
        raft->echo_messages = message->window_messages;
    }
}

static void durable_window(struct raft *raft)
{
    if (raft->log.persisted < raft->mark_index) return;
    raft->durable_bytes = raft->mark_bytes;
    raft->durable_messages = raft->mark_messages;
    raft->mark_index = raft->log.last;
    raft->mark_bytes = raft->echo_bytes;
    raft->mark_messages = raft->echo_messages;
    if (raft->log.persisted < raft->mark_index) return;
    raft->durable_bytes = raft->mark_bytes;
    raft->durable_messages = raft->mark_messages;
}

static void refuse(struct raft *raft, const struct raft_message *message)
{
    uint64_t hint = message->index > 0 ? message->index - 1 : 0;
    raft->owed.reject = true;
    raft->owed.refused = message->index;
    if (!raft_log_find_at_most(&raft->log, hint, message->index_term, &hint)) hint = raft->commit;
    if (hint < raft->commit) hint = raft->commit;
    raft->owed.hint = hint;
    raft->owed.hint_term = 0;
    (void)raft_log_term_at(&raft->log, hint, &raft->owed.hint_term);
}

/* The end (last index) of run I of the message. */
static uint64_t message_run_end(const struct raft_message *message, int i)
{
    if (i + 1 < message->run_count) return message->runs[i + 1].index - 1;
    return message->index + message->count;
}

static uint64_t message_term_at(const struct raft_message *message, uint64_t index)
{
    int i = message->run_count - 1;
    while (i > 0 && message->runs[i].index > index) i--;
    return message->runs[i].term;
}

/* The first entry of the message after BEFORE that our log lacks or has with another term. */
static uint64_t first_new(const struct raft *raft, const struct raft_message *message,
                          uint64_t before)
{
    uint64_t end = message->index + message->count;
    uint64_t at = before + 1;

    while (at <= end && at <= raft->log.last) {
        uint64_t ours = 0;
        (void)raft_log_term_at(&raft->log, at, &ours);
        int i = message->run_count - 1;
        while (i > 0 && message->runs[i].index > at) i--;
        if (message->runs[i].term != ours) return at;
        /* Both runs go on: step to where the first of them ends. */
        uint64_t theirs_end = message_run_end(message, i);
        uint64_t ours_end = raft_log_run_end(&raft->log, at);
        at = (theirs_end < ours_end ? theirs_end : ours_end) + 1;
    }
    return at;
}

/* Write the entries FROM .. of the message, as far as their terms fit into our table. Returns the
 * last index that the log now has in common with the message. */
static uint64_t append_from(struct raft *raft, const struct raft_message *message, uint64_t from)
{
    uint64_t end = message->index + message->count;
    uint64_t at = from;

    while (at <= end) {
        uint64_t term = message_term_at(message, at);
        uint64_t run_end = at;
        while (run_end < end && message_term_at(message, run_end + 1) == term) {
            int i = message->run_count - 1;
            while (i > 0 && message->runs[i].index > run_end + 1) i--;
            run_end = message_run_end(message, i);
        }
        if (term < raft_log_last_term(&raft->log) || !raft_log_has_room(&raft->log, term)) break;
        raft_log_append(&raft->log, (uint32_t)(run_end - at + 1), term);
        at = run_end + 1;
    }
    if (at == from) return from - 1;

    raft_emit_hard(raft);
    struct raft_action *action = raft_emit(raft, RAFT_ACTION_APPEND);
    action->append.first = from;
    action->append.count = (uint32_t)(at - from);
    action->append.skip = (uint32_t)(from - message->index - 1);
#ifdef MUTATION_LATE_APPEND_BELOW_PREFIX /* takes them for what follows the commit index */
    if (message->index < raft->commit) action->append.skip = 0;
#endif
    action->append.from_message = true;
    if (message->membership_index >= from && message->membership_index < at) {
        raft_membership_push(raft, message->membership_index, &message->membership);
    }
    return at - 1;
}

/* The entries of the message after BEFORE, where both logs are equal up to BEFORE. */
static void take_entries(struct raft *raft, const struct raft_message *message, uint64_t before)
{
    uint64_t end = message->index + message->count;
    uint64_t from = first_new(raft, message, before);

    if (from <= end && from <= raft->log.last) {
        /* What is committed, or was proven in this term, is equal to the leader's: a conflict
         * means that somebody's disk or code broke the log. */
        if (from <= raft->commit || from <= raft->proven ||
            raft_membership_roll_back(raft, from) != STATUS_OK) {
            raft_end(raft, STATUS_CORRUPT);
            return;
        }
        raft_emit_hard(raft);
        raft_emit(raft, RAFT_ACTION_TRUNCATE)->index = from;
        raft_log_truncate(&raft->log, from);
        if (raft->mark_index > raft->log.last) raft->mark_index = raft->log.last;
    }
    if (from <= end) end = append_from(raft, message, from);
    if (end > raft->proven) raft->proven = end;
}

void raft_on_append(struct raft *raft, const struct raft_message *message)
{
    uint64_t end = message->index + message->count;
    uint64_t term = 0;

    if (raft->role == RAFT_LEADER) return;
    raft_follow(raft, message->from);
    see_round(raft, message);
    if (raft->installing) return;
    see_window(raft, message);
    raft->owed.ack = true;

    if (message->index < raft->commit) {
        /* Late, or its beginning is: what is committed here is equal already (and the part below
         * the log's base is not known by term any more). Only the rest is looked at. */
        if (end > raft->commit) take_entries(raft, message, raft->commit);
    } else if (!raft_log_term_at(&raft->log, message->index, &term) ||
               term != message->index_term) {
        raft->owed.ack = false;
        refuse(raft, message);
        return;
    } else {
        if (message->index > raft->proven) raft->proven = message->index;
        take_entries(raft, message, message->index);
    }
    if (raft->ended == STATUS_OK) raft_follower_commit(raft, message->commit);
}

void raft_on_heartbeat(struct raft *raft, const struct raft_message *message)
{
    if (raft->role == RAFT_LEADER) return;
    raft_follow(raft, message->from);
    see_round(raft, message);
    raft->owed.heartbeat = true;
    if (raft->installing) return;
    raft_follower_commit(raft, message->commit);
    raft->owed.gap = message->index > raft->proven;

    bool equal = raft->log.last == raft->commit && raft->log.last == raft->log.persisted &&
                 raft->log.last == message->commit && raft->log.last == raft->proven &&
                 raft->told_commit == raft->commit;
    raft->owed.hibernate = (message->flags & RAFT_FLAG_HIBERNATE) != 0 && equal;
    if (raft->owed.hibernate && raft_hard_is_durable(raft)) {
        raft->hibernating = true;
        raft->election_deadline_ns = UINT64_MAX;
    }
}

static uint64_t proven_and_durable(const struct raft *raft)
{
    uint64_t match = raft->proven;
#ifdef MUTATION_PHANTOM_MATCH /* the suffix behind the proven may be another leader's */
    match = raft->log.last;
#endif
#ifdef MUTATION_ACK_BEFORE_PERSIST
    return match;
#endif
    return match < raft->log.persisted ? match : raft->log.persisted;
}

static struct raft_message *reply(struct raft *raft, enum raft_message_type type)
{
    struct raft_message *message = raft_emit_message(raft, type, raft->leader);
    message->match = proven_and_durable(raft);
    message->round = raft->echo_round;
    message->sent_ns = raft->echo_sent_ns;
    message->window_bytes = raft->durable_bytes;
    message->window_messages = raft->durable_messages;
    return message;
}

void raft_pay_owed(struct raft *raft)
{
    /* Everything said in a term waits until the term is on disk; an ack says by itself how far the
     * entries are. */
    if (raft->leader == 0 || raft->installing || !raft_hard_is_durable(raft)) return;
    durable_window(raft);
    uint64_t match = proven_and_durable(raft);
    struct raft_owed *owed = &raft->owed;
    if (match > raft->acked) owed->ack = true;

    if (owed->reject) {
        struct raft_message *message = reply(raft, RAFT_MESSAGE_APPEND_REPLY);
        message->flags = RAFT_FLAG_REJECTED;
        message->offset = owed->refused;
        message->index = owed->hint;
        message->index_term = owed->hint_term;
    } else if (owed->ack) {
        struct raft_message *message = reply(raft, RAFT_MESSAGE_APPEND_REPLY);
        message->index = raft->proven;
    }
    if (owed->heartbeat) {
        struct raft_message *message = reply(raft, RAFT_MESSAGE_HEARTBEAT_REPLY);
        message->index = raft->proven;
        message->flags = (uint8_t)((owed->gap ? RAFT_FLAG_GAP : 0) |
                                   (raft->hibernating ? RAFT_FLAG_HIBERNATE : 0));
    }
    if (owed->snapshot) {
        struct raft_message *message = reply(raft, RAFT_MESSAGE_SNAPSHOT_REPLY);
        message->index = raft->incoming_index;
        message->index_term = raft->incoming_term;
        message->offset = raft->incoming_offset;
    }
    if (owed->ack || owed->reject || owed->heartbeat) raft->acked = match;
    raft->owed = (struct raft_owed) { 0 };
}
