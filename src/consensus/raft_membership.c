#include "consensus/raft_internal.h"

static int position(const struct raft_membership *membership, uint64_t id)
{
    for (int i = 0; i < membership->count; i++) {
        if (membership->ids[i] == id) return i;
    }
    return -1;
}

bool raft_membership_has(const struct raft_membership *membership, uint64_t id)
{
    return position(membership, id) >= 0;
}

bool raft_membership_is_voter(const struct raft_membership *membership, uint64_t id)
{
    int at = position(membership, id);
    return at >= 0 && (membership->learners >> at & 1) == 0;
}

uint32_t raft_voter_count(const struct raft_membership *membership)
{
    uint32_t count = 0;
    for (int i = 0; i < membership->count; i++) count += (membership->learners >> i & 1) == 0;
    return count;
}

bool raft_membership_valid(const struct raft_membership *membership)
{
    if (membership->count > RAFT_MEMBERS_MAX) return false;
    if (membership->learners >> membership->count != 0) return false;
    for (int i = 0; i < membership->count; i++) {
        if (membership->ids[i] == 0) return false;
        if (i > 0 && membership->ids[i] <= membership->ids[i - 1]) return false;
    }
    return membership->count == 0 || raft_voter_count(membership) > 0;
}

bool raft_is_voter(const struct raft *raft)
{
    return raft_membership_is_voter(&raft->membership, raft->options.id);
}

bool raft_is_electable(const struct raft *raft)
{
    /* A leader that wrote its own removal and crashed may be the only one whose log is long enough
     * for its peers: it must lead once more, for the new membership, and not count itself
     * (thesis, 4.2.2). */
    return raft_is_voter(raft) ||
           (raft->membership_index > raft->commit &&
            raft_membership_is_voter(&raft->membership_previous, raft->options.id));
}

bool raft_is_sole_voter(const struct raft *raft)
{
    return raft_is_voter(raft) && raft_voter_count(&raft->membership) == 1;
}

static void insert(struct raft_membership *membership, uint64_t id)
{
    int at = membership->count;
    while (at > 0 && membership->ids[at - 1] > id) at--;
    memmove(membership->ids + at + 1, membership->ids + at,
            (size_t)(membership->count - at) * sizeof membership->ids[0]);
    membership->ids[at] = id;
    unsigned low = membership->learners & ((1u << at) - 1);
    unsigned high = (unsigned)membership->learners >> at;
    membership->learners = (uint8_t)(low | 1u << at | high << (at + 1)); /* as a learner */
    membership->count++;
}

static void drop(struct raft_membership *membership, int at)
{
    memmove(membership->ids + at, membership->ids + at + 1,
            (size_t)(membership->count - at - 1) * sizeof membership->ids[0]);
    unsigned low = membership->learners & ((1u << at) - 1);
    unsigned high = (unsigned)membership->learners >> (at + 1);
    membership->learners = (uint8_t)(low | high << at);
    membership->count--;
    membership->ids[membership->count] = 0; /* so that equal memberships are equal bytes */
}

void raft_membership_push(struct raft *raft, uint64_t index,
                          const struct raft_membership *membership)
{
    /* A leader proposes a change only when the one before is committed. So that a second entry is
     * in the log at all proves that the first is committed, whatever `commit` says here: two are
     * enough to remember, and the elder never has to be rolled back. */
    raft->membership_previous = raft->membership;
    raft->membership_previous_index = raft->membership_index;
    raft->membership = *membership;
    raft->membership_index = index;
    /* A new voter has something to time out. */
    if (raft->started && raft->role == RAFT_FOLLOWER) raft_reset_election(raft);
}

enum status raft_membership_roll_back(struct raft *raft, uint64_t from)
{
    if (raft->membership_index < from) return STATUS_OK;
    if (raft->membership_previous_index >= from) return STATUS_CORRUPT;
    raft->membership = raft->membership_previous;
    raft->membership_index = raft->membership_previous_index;
    return STATUS_OK;
}

enum status raft_membership_at(const struct raft *raft, uint64_t index,
                               struct raft_membership *ret_membership)
{
#ifndef MUTATION_SNAPSHOT_UNCOMMITTED_MEMBERSHIP /* what is in effect is not what is committed */
    if (index < raft->membership_index) {
        if (index < raft->membership_previous_index) return STATUS_UNAVAILABLE;
        *ret_membership = raft->membership_previous;
        return STATUS_OK;
    }
#else
    (void)index;
#endif
    *ret_membership = raft->membership;
    return STATUS_OK;
}

const struct raft_membership *raft_membership(const struct raft *raft, uint64_t *ret_index)
{
    *ret_index = raft->membership_index;
    return &raft->membership;
}

/* A learner becomes a voter only when it hardly lags, or the next commit would wait for it. */
static bool has_caught_up(struct raft *raft, uint64_t id)
{
    const struct raft_peer *peer = raft_peer_find(raft, id);
    return peer != NULL && peer->state == RAFT_PEER_REPLICATE &&
           peer->match + RAFT_PROMOTE_LAG_MAX >= raft->log.last;
}

/* The membership after CHANGE. */
static enum status changed(struct raft *raft, enum raft_change change, uint64_t id,
                           struct raft_membership *ret_membership)
{
    struct raft_membership next = raft->membership;
    int at = position(&next, id);
    bool is_voter = raft_membership_is_voter(&next, id);

    if (id == 0 || (at < 0) != (change == RAFT_CHANGE_ADD_LEARNER)) return STATUS_INVALID;
    switch (change) {
    case RAFT_CHANGE_ADD_LEARNER:
        if (next.count == RAFT_MEMBERS_MAX) return STATUS_FULL;
        insert(&next, id);
        break;
    case RAFT_CHANGE_PROMOTE:
        if (is_voter) return STATUS_INVALID;
        if (!has_caught_up(raft, id)) return STATUS_BUSY;
        next.learners = (uint8_t)(next.learners & ~(1u << at));
        break;
    case RAFT_CHANGE_DEMOTE:
        if (!is_voter) return STATUS_INVALID;
        next.learners = (uint8_t)(next.learners | 1u << at);
        break;
    case RAFT_CHANGE_REMOVE: drop(&next, at); break;
    case RAFT_CHANGE_COUNT:
    default: return STATUS_INVALID;
    }
    if (raft_voter_count(&next) == 0) return STATUS_INVALID;
    assert(raft_membership_valid(&next));
    *ret_membership = next;
    return STATUS_OK;
}

enum status raft_membership_change(struct raft *raft, enum raft_change change, uint64_t id)
{
    struct raft_membership next;

    if (raft->role != RAFT_LEADER || raft->transfer_to != 0) return STATUS_UNAVAILABLE;
#ifndef MUTATION_CHANGE_BEFORE_OWN_TERM /* two leaders' changes could then miss each other */
    if (raft->commit < raft->term_start) return STATUS_BUSY;
#endif
#ifndef MUTATION_TWO_CHANGES_AT_ONCE /* quorums two changes apart need not overlap */
    if (raft->commit < raft->membership_index) return STATUS_BUSY;
#endif
    enum status status = changed(raft, change, id, &next);
    if (status != STATUS_OK) return status;

    raft_wake(raft);
    raft_membership_push(raft, raft->log.last + 1, &next);
    raft_leader_append(raft, RAFT_ENTRY_MEMBERSHIP, 1, RAFT_MEMBERSHIP_BYTES_MAX);
    raft_peers_reset(raft);
    raft->heartbeat_due_ns = raft->now_ns; /* the first peer starts the beat */
    return STATUS_OK;
}

void raft_membership_encode(const struct raft_membership *membership, struct writer *writer)
{
    writer_put_u8(writer, membership->count);
    writer_put_u8(writer, membership->learners);
    writer_put_u16(writer, 0);
    for (int i = 0; i < membership->count; i++) writer_put_u64(writer, membership->ids[i]);
}

enum status raft_membership_decode(struct reader *reader, struct raft_membership *ret_membership)
{
    struct raft_membership membership = { 0 };

    membership.count = reader_u8(reader);
    membership.learners = reader_u8(reader);
    uint16_t zero = reader_u16(reader);
    if (reader->failed || zero != 0 || membership.count > RAFT_MEMBERS_MAX) return STATUS_CORRUPT;
    for (int i = 0; i < membership.count; i++) membership.ids[i] = reader_u64(reader);
    if (reader->failed || !raft_membership_valid(&membership)) return STATUS_CORRUPT;
    *ret_membership = membership;
    return STATUS_OK;
}
