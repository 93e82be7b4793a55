#include "consensus/raft_internal.h"

/* ---- roles ---- */

void raft_reset_election(struct raft *raft)
{
    /* Who can't be elected has nothing to time out. */
    raft->election_deadline_ns = UINT64_MAX;
    if (!raft_is_electable(raft)) return;
    raft->election_deadline_ns = raft->now_ns + raft->options.election_timeout_ns +
                                 raft->random % raft->options.election_timeout_ns;
}

/* What belongs to a term ends with it; nothing that was owed in the old one is ever sent. */
static void enter_term(struct raft *raft, uint64_t term)
{
    assert(term >= raft->term);
    raft->term = term;
    raft->vote = 0;
    raft->hard_asked = false;
    raft->vote_owed = false;
    raft->proven = raft->commit; /* what is committed is in the log of every later leader */
    raft->acked = 0;
    raft->echo_round = raft->echo_sent_ns = 0;
    raft->echo_bytes = raft->durable_bytes = raft->mark_bytes = raft->mark_index = 0;
    raft->echo_messages = raft->durable_messages = raft->mark_messages = 0;
    raft->owed = (struct raft_owed) { 0 };
}

void raft_become_follower(struct raft *raft, uint64_t term, uint64_t leader)
{
    bool was_leader = raft->role == RAFT_LEADER;

    if (term > raft->term) enter_term(raft, term);
    if (was_leader) {
        raft_reads_refuse(raft);
        raft->transfer_to = 0;
        raft->transfer_deadline_ns = raft->heartbeat_due_ns = UINT64_MAX;
        raft->peer_count = 0;
    }
    if (was_leader || raft->role != RAFT_FOLLOWER || raft->hibernating || raft->leader != leader) {
        raft_reset_election(raft);
    }
    raft->hibernating = false;
    raft->role = RAFT_FOLLOWER;
    raft->leader = leader;
}

void raft_follow(struct raft *raft, uint64_t leader)
{
    raft_become_follower(raft, raft->term, leader);
    raft->promise_until_ns = raft->now_ns + raft->options.election_timeout_ns;
    raft_reset_election(raft);
}

/* A promise not to vote: given by every answer to a leader, and after a start to the leader that
 * was forgotten. Who hibernates trusts the link to its leader instead of the clock. */
bool raft_is_promised(const struct raft *raft)
{
    if (raft->role == RAFT_LEADER) return true; /* check-quorum deposes it when it is alone */
    if (raft->hibernating && raft->leader != 0) return true;
    return raft->now_ns < raft->promise_until_ns;
}

void raft_wake(struct raft *raft)
{
    raft->active_ns = raft->now_ns;
    if (!raft->hibernating) return;
    raft->hibernating = false;
    if (raft->role != RAFT_LEADER) {
        raft_reset_election(raft);
        return;
    }
    for (int i = 0; i < raft->peer_count; i++) {
        raft->peers[i].heard_ns = raft->now_ns;
        raft->peers[i].hibernating = false;
    }
    raft->heartbeat_due_ns = raft->now_ns; /* settle sends it */
}

bool raft_can_campaign(const struct raft *raft)
{
    /* Not before term and log are durable, nor while a snapshot replaces them. */
    return raft_is_electable(raft) && !raft->installing && raft_hard_is_durable(raft) &&
           raft->log.persisted == raft->log.last && raft_log_has_room(&raft->log, raft->term + 1) &&
           raft->role != RAFT_LEADER;
}

static void ask_votes(struct raft *raft, enum raft_message_type type, uint64_t term)
{
    for (int i = 0; i < raft->peer_count; i++) {
        struct raft_peer *peer = &raft->peers[i];
        peer->granted = false;
        if (!raft_membership_is_voter(&raft->membership, peer->id)) continue;
        struct raft_message *message = raft_emit_message(raft, type, peer->id);
        message->term = term;
        message->index = raft->log.last;
        message->index_term = raft_log_last_term(&raft->log);
        if (raft->transferred) message->flags = RAFT_FLAG_TRANSFER;
    }
}

static void begin_candidacy(struct raft *raft, enum raft_role role)
{
    raft->role = role;
    raft->leader = 0;
    raft->hibernating = false;
    raft->peer_count = 0;
    raft_peers_reset(raft);
    raft_reset_election(raft);
}

void raft_become_candidate(struct raft *raft, bool transferred)
{
    uint64_t term = raft->term + 1;
#ifdef MUTATION_SINGLE_VOTER_SAME_TERM /* two lives of it then lead in one term */
    if (raft_is_sole_voter(raft) && raft->term > 0) term = raft->term;
#endif
    enter_term(raft, term);
    raft->vote = raft->options.id;
    raft->vote_asked = false;
    raft->transferred = transferred;
    begin_candidacy(raft, RAFT_CANDIDATE);
}

void raft_campaign(struct raft *raft)
{
    if (raft_is_sole_voter(raft)) {
        raft_become_candidate(raft, false);
        return;
    }
    raft->transferred = false;
    begin_candidacy(raft, RAFT_PRE_CANDIDATE);
    ask_votes(raft, RAFT_MESSAGE_PRE_VOTE, raft->term + 1);
}

uint64_t raft_next_heartbeat(const struct raft *raft)
{
    /* The same instants for every group of the machine. */
    if (raft->peer_count == 0) return UINT64_MAX;
    return (raft->now_ns / raft->options.heartbeat_ns + 1) * raft->options.heartbeat_ns;
}

static void become_leader(struct raft *raft)
{
    raft->role = RAFT_LEADER;
    raft->leader = raft->options.id;
    raft->election_deadline_ns = UINT64_MAX;
    raft->round = 0;
    raft->transfer_to = 0;
    raft->transfer_deadline_ns = UINT64_MAX;
    raft->lease_revoked = false;
    raft->read_waiting = raft->read_confirming = 0;
    raft->active_ns = raft->now_ns;
    raft->uncommitted_bytes = raft->uncommitted_bytes_behind = raft->uncommitted_mark = 0;
    raft->peer_count = 0;
    raft_peers_reset(raft);
    raft->heartbeat_due_ns = raft_next_heartbeat(raft);
    raft->term_start = raft->log.last + 1;
#ifdef MUTATION_DROP_NOOP_COMMIT_OLD_TERM
    raft->term_start = raft->log.last;
    return;
#endif
    raft_leader_append(raft, RAFT_ENTRY_NOOP, 1, 0);
}

static uint64_t granted(const struct raft_peer *peer)
{
    return peer->granted;
}

/* ---- votes ---- */

static bool is_up_to_date(const struct raft *raft, const struct raft_message *message)
{
    uint64_t last_term = raft_log_last_term(&raft->log);
    if (message->index_term != last_term) return message->index_term > last_term;
    return message->index >= raft->log.last;
}

/* A sleeper that is asked for a vote: somebody misses the leader. Keep the promise, but find out.
 */
static void doubt(struct raft *raft)
{
    if (!raft->hibernating) return;
    raft_wake(raft);
    if (raft->role == RAFT_LEADER || raft->leader == 0) return;
    raft->promise_until_ns = raft->now_ns + raft->options.election_timeout_ns;
    if (raft_hard_is_durable(raft)) raft_emit_message(raft, RAFT_MESSAGE_WAKE, raft->leader);
}

void raft_on_pre_vote(struct raft *raft, const struct raft_message *message)
{
    bool promised = raft_is_promised(raft);
    doubt(raft);
    if (raft->installing || !raft_hard_is_durable(raft)) return;
    bool grant = !promised && message->term > raft->term && is_up_to_date(raft, message);
    struct raft_message *reply =
        raft_emit_message(raft, RAFT_MESSAGE_PRE_VOTE_REPLY, message->from);
    if (!grant) return;
    reply->flags = RAFT_FLAG_GRANTED;
    reply->term = message->term;
}

void raft_on_pre_vote_reply(struct raft *raft, const struct raft_message *message)
{
    if ((message->flags & RAFT_FLAG_GRANTED) == 0) {
        if (message->term > raft->term) raft_become_follower(raft, message->term, 0);
        return;
    }
    struct raft_peer *peer = raft_peer_find(raft, message->from);
    if (raft->role != RAFT_PRE_CANDIDATE || message->term != raft->term + 1 || peer == NULL) return;
    peer->granted = true;
    if (raft_quorum_value(raft, 1, granted) == 1 && raft_can_campaign(raft)) {
        raft_become_candidate(raft, false);
    }
}

void raft_on_vote(struct raft *raft, const struct raft_message *message)
{
    bool transfer = (message->flags & RAFT_FLAG_TRANSFER) != 0;

    if (message->term > raft->term) {
        /* A promise is broken only at the wish of the leader that it was given to. */
        bool promised = raft_is_promised(raft);
        if (!transfer) doubt(raft);
        if (promised && !transfer) return;
        raft_become_follower(raft, message->term, 0);
    }
    bool is_free = raft->vote == 0 && raft->leader == 0;
#ifdef MUTATION_DOUBLE_VOTE_ON_TRANSFER /* the wish of the leader is not a second vote */
    is_free = is_free || (transfer && raft->role == RAFT_FOLLOWER);
#endif
    bool grant = message->term == raft->term && !raft->installing &&
                 (is_free || raft->vote == message->from) && is_up_to_date(raft, message);
    if (grant) {
        if (raft->vote != message->from) raft->hard_asked = false;
        raft->vote = message->from;
        raft->vote_owed = true; /* said once it is durable */
        raft_reset_election(raft);
    } else if (raft_hard_is_durable(raft) && !raft->installing) {
        raft_emit_message(raft, RAFT_MESSAGE_VOTE_REPLY, message->from);
    }
}

void raft_on_vote_reply(struct raft *raft, const struct raft_message *message)
{
    struct raft_peer *peer = raft_peer_find(raft, message->from);
    if (raft->role != RAFT_CANDIDATE || peer == NULL) return;
    if ((message->flags & RAFT_FLAG_GRANTED) != 0) peer->granted = true;
}

void raft_settle_candidate(struct raft *raft)
{
    /* Nobody is asked, and the own vote does not count, before it is durable. */
    if (raft->role != RAFT_CANDIDATE || !raft_hard_is_durable(raft)) return;
    if (!raft->vote_asked) {
        raft->vote_asked = true;
        ask_votes(raft, RAFT_MESSAGE_VOTE, raft->term);
    }
    if (raft_quorum_value(raft, 1, granted) == 1) become_leader(raft);
}

void raft_settle_vote(struct raft *raft)
{
    if (!raft->vote_owed || !raft_hard_is_durable(raft) || raft->installing) return;
    raft->vote_owed = false;
    raft_emit_message(raft, RAFT_MESSAGE_VOTE_REPLY, raft->vote)->flags = RAFT_FLAG_GRANTED;
}
