#include "consensus/raft_internal.h"

/* ---- leader ---- */

void raft_send_snapshot(struct raft *raft, struct raft_peer *peer)
{
    if (peer->snapshot_index == 0) {
        if (raft->snapshot == 0) return;
        if (!raft_log_term_at(&raft->log, raft->snapshot, &peer->snapshot_term)) return;
        peer->snapshot_index = raft->snapshot;
        peer->snapshot_offset = 0;
    }
    (void)raft_emit_message(raft, RAFT_MESSAGE_SNAPSHOT, peer->id);
    struct raft_action *action = &raft->out->items[raft->out->count - 1];
    action->type = RAFT_ACTION_SEND_SNAPSHOT;
    action->send.bytes_max = raft->options.message_bytes_max;
    struct raft_message *message = &action->send.message;
    message->index = peer->snapshot_index;
    message->index_term = peer->snapshot_term;
    message->offset = peer->snapshot_offset;
    message->commit = raft->commit;
    message->round = raft->round;
    message->sent_ns = raft->now_ns;
    peer->filling = true;
}

void raft_on_snapshot_reply(struct raft *raft, const struct raft_message *message)
{
    struct raft_peer *peer = raft_peer_find(raft, message->from);

    if (raft->role != RAFT_LEADER || peer == NULL) return;
    peer->heard_ns = raft->now_ns;
    if (peer->state != RAFT_PEER_SNAPSHOT || message->index != peer->snapshot_index ||
        message->index_term != peer->snapshot_term) {
        return;
    }
    peer->snapshot_offset = message->offset;
    peer->paused = false;
}

/* ---- follower ---- */

static void forget_incoming(struct raft *raft)
{
    raft->incoming_from = raft->incoming_index = raft->incoming_term = 0;
    raft->incoming_offset = 0;
    raft->incoming_pending = raft->incoming_last = false;
}

void raft_on_snapshot(struct raft *raft, const struct raft_message *message)
{
    if (raft->role == RAFT_LEADER) return;
    raft_follow(raft, message->from);
    if (raft->installing) return;
    if (message->index <= raft->commit) {
        raft->owed.ack = true; /* we have that much */
        return;
    }
    if (raft->incoming_pending) return;
    /* Parts of the same snapshot of the same sender go together, also over a restart. */
    if (message->index != raft->incoming_index || message->index_term != raft->incoming_term ||
        message->from != raft->incoming_from) {
        forget_incoming(raft);
        raft->incoming_from = message->from;
        raft->incoming_index = message->index;
        raft->incoming_term = message->index_term;
    }
    if (message->offset != raft->incoming_offset) {
        raft->owed.snapshot = true;
        return;
    }
    raft->incoming_pending = true;
    raft->incoming_last = (message->flags & RAFT_FLAG_LAST) != 0;
    struct raft_action *action = raft_emit(raft, RAFT_ACTION_SNAPSHOT_PART);
    action->snapshot.index = message->index;
    action->snapshot.index_term = message->index_term;
    action->snapshot.offset = message->offset;
    action->snapshot.bytes = message->payload_bytes;
    action->snapshot.last = raft->incoming_last;
    action->snapshot.keep_log = false;
    action->snapshot.membership = message->membership;
}

static void install(struct raft *raft)
{
    uint64_t term = 0;

    if (raft->incoming_index <= raft->commit) { /* the log got there first */
        forget_incoming(raft);
        raft->owed.ack = true;
        return;
    }
    raft->installing = true;
    raft->installing_keep_log =
        raft_log_term_at(&raft->log, raft->incoming_index, &term) && term == raft->incoming_term;
    struct raft_action *action = raft_emit(raft, RAFT_ACTION_INSTALL);
    action->snapshot.index = raft->incoming_index;
    action->snapshot.index_term = raft->incoming_term;
    action->snapshot.offset = raft->incoming_offset;
    action->snapshot.bytes = 0;
    action->snapshot.last = true;
    action->snapshot.keep_log = raft->installing_keep_log;
    action->snapshot.membership = (struct raft_membership) { 0 };
}

void raft_on_snapshot_stored(struct raft *raft, const struct raft_event *event)
{
    if (raft->installing) return;
    if (raft->incoming_index == 0) { /* at start: what an earlier life has stored */
        raft->incoming_from = event->peer;
        raft->incoming_index = event->index;
        raft->incoming_term = event->index_term;
        raft->incoming_offset = event->offset;
        return;
    }
    if (!raft->incoming_pending || event->index != raft->incoming_index ||
        event->index_term != raft->incoming_term) {
        return;
    }
    raft->incoming_pending = false;
    raft->incoming_offset = event->offset;
    if (raft->incoming_last && raft->role != RAFT_LEADER) {
        install(raft);
    } else {
        raft->owed.snapshot = true;
    }
}

static void install_membership(struct raft *raft, const struct raft_event *event)
{
    /* The snapshot's is committed. An entry behind it stays in effect where the log stays. */
    if (raft->installing_keep_log && raft->membership_index > event->index) {
        raft->membership_previous = *event->membership;
        raft->membership_previous_index = event->index;
        return;
    }
    raft->membership = raft->membership_previous = *event->membership;
    raft->membership_index = raft->membership_previous_index = event->index;
}

void raft_on_snapshot_installed(struct raft *raft, const struct raft_event *event)
{
    assert(raft->installing);
    assert(event->index == raft->incoming_index);
    assert(event->membership != NULL);

    if (raft->installing_keep_log) {
        raft_log_compact(&raft->log, event->index);
    } else {
        raft_log_init(&raft->log, raft->log.runs, raft->log.run_capacity, event->index,
                      event->index_term);
    }
    install_membership(raft, event);
    raft->installing = false;
    raft->snapshot = event->index;
    raft->commit = raft->told_commit = raft->applied = event->index;
    if (raft->proven < event->index) raft->proven = event->index;
    if (raft->proven > raft->log.last) raft->proven = raft->log.last;
    raft->mark_index = 0;
    raft->owed.ack = true;
    forget_incoming(raft);
    if (raft->role == RAFT_FOLLOWER) raft_reset_election(raft);
}

/* ---- both ---- */

enum status raft_snapshot_taken(struct raft *raft, uint64_t index,
                                struct raft_membership *ret_membership)
{
    struct raft_membership membership;

    if (index > raft->applied || index < raft->snapshot || index < raft->log.base) {
        return STATUS_INVALID;
    }
    enum status status = raft_membership_at(raft, index, &membership);
    if (status != STATUS_OK) return status;
    raft->snapshot = index;
    *ret_membership = membership;
    return STATUS_OK;
}

void raft_compact(struct raft *raft, uint64_t index)
{
    if (index > raft->snapshot) index = raft->snapshot;
    if (index > raft->log.base) raft_log_compact(&raft->log, index);
}
