#include "consensus/raft_internal.h"

static uint64_t acked_sent_ns(const struct raft_peer *peer)
{
    return peer->acked_sent_ns;
}

static uint64_t acked_round(const struct raft_peer *peer)
{
    return peer->acked_round;
}

/* A lease counts from the sending of what a quorum of the PRESENT membership answered: each of them
 * promised, later than that, not to vote for the length of an election timeout. A leader outside of
 * its own membership has none, so a single voter need not wait one out before it elects itself. */
bool raft_lease_held(const struct raft *raft)
{
    if (raft->role != RAFT_LEADER || raft->options.lease_off || !raft_is_voter(raft)) return false;
#ifndef MUTATION_LEASE_DURING_TRANSFER /* the successor's election ignores the promises */
    if (raft->lease_revoked) return false;
#endif
    uint64_t since = raft_quorum_value(raft, raft->now_ns, acked_sent_ns);
    return since != 0 && raft->now_ns - since < raft->options.lease_ns;
}

enum status raft_read(struct raft *raft, uint64_t id)
{
    if (raft->role != RAFT_LEADER) return STATUS_UNAVAILABLE;
    assert(id > raft->read_last);
    raft->read_last = id;
    raft->read_waiting = id;
    raft_wake(raft);
    return STATUS_OK;
}

static void ready(struct raft *raft, uint64_t id, uint64_t index)
{
    struct raft_action *action = raft_emit(raft, RAFT_ACTION_READ_READY);
    action->read.id = id;
    action->read.index = index;
}

void raft_reads_settle(struct raft *raft)
{
    if (raft->read_waiting == 0 && raft->read_confirming == 0) return;
        /* Before the own term has committed, `commit` may lag behind what was acknowledged. */
#ifndef MUTATION_READ_BEFORE_OWN_TERM
    if (raft->commit < raft->term_start) return;
#endif
    if (raft_lease_held(raft)) {
        ready(raft, raft->read_last, raft->commit);
        raft->read_waiting = raft->read_confirming = 0;
        return;
    }
    if (raft->read_confirming != 0 &&
        raft_quorum_value(raft, raft->round, acked_round) >= raft->read_round) {
        ready(raft, raft->read_confirming, raft->read_index);
        raft->read_confirming = 0;
    }
    /* A read joins only a round that begins after it: the earlier round proves leadership at a time
     * before the read. However many wait, the next round is for all of them. */
    if (raft->read_confirming == 0 && raft->read_waiting != 0) {
        raft->read_confirming = raft->read_waiting;
        raft->read_waiting = 0;
        raft->read_index = raft->commit;
        raft_leader_heartbeat(raft, false);
        raft->read_round = raft->round;
        if (raft_quorum_value(raft, raft->round, acked_round) >= raft->read_round) {
            ready(raft, raft->read_confirming, raft->read_index); /* a quorum of one */
            raft->read_confirming = 0;
        }
    }
}

void raft_reads_refuse(struct raft *raft)
{
    if (raft->read_waiting != 0 || raft->read_confirming != 0) {
        raft_emit(raft, RAFT_ACTION_READ_REFUSED)->read.id = raft->read_last;
    }
    raft->read_waiting = raft->read_confirming = 0;
}
