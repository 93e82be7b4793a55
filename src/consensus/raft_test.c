/* Each failure that was seen in a published Raft library is excluded here (docs/consensus.md has
 * the list and its numbers).
 *
 * Method: one core, replica 1, is stepped by hand with the events that led to the failure
 * elsewhere, and what it does is looked at. What needs several cores runs on raft_cluster.h. */
#include "consensus/raft_cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { NO_VOTE = 0, CORE_BYTES = 8192 };

struct core {
    _Alignas(16) uint8_t memory[CORE_BYTES];
    struct raft *raft;
    uint64_t now_ns;
    enum status status;
    struct raft_actions actions;
};

static const struct raft_membership three = { .count = 3, .ids = { 1, 2, 3 } };

/* Replica 1 with this state; its promise after the start is over unless STILL_PROMISED. */
static struct core *core_create(const struct raft_persisted *persisted, uint64_t first,
                                uint32_t count, uint64_t term)
{
    struct core *core = calloc(1, sizeof *core);
    struct raft_options options = { .group = 7, .id = 1, .inflight_messages_max = 2 };

    assert_true(raft_size_bytes(&options) <= CORE_BYTES);
    assert_int_equal(raft_init(core->memory, &options, persisted, &core->raft), STATUS_OK);
    if (count > 0) {
        assert_int_equal(raft_restore_entries(core->raft, first, count, term, NULL), STATUS_OK);
    }
    core->now_ns = CONSENSUS_MILLISECOND_NS;
    return core;
}

static void core_start(struct core *core)
{
    assert_int_equal(raft_start(core->raft, core->now_ns, 0), STATUS_OK);
}

static void pass(struct core *core, uint64_t milliseconds)
{
    core->now_ns += milliseconds * CONSENSUS_MILLISECOND_NS;
}

static void step(struct core *core, struct raft_event event)
{
    event.now_ns = core->now_ns;
    core->status = raft_step(core->raft, &event, &core->actions);
}

static void receive(struct core *core, struct raft_message message)
{
    message.group = 7;
    message.to = 1;
    step(core, (struct raft_event) { .type = RAFT_EVENT_MESSAGE, .message = &message });
}

static struct raft_info info_of(const struct core *core)
{
    struct raft_info info;
    raft_info(core->raft, &info);
    return info;
}

/* Everything that was asked for is on disk. */
static void persist(struct core *core)
{
    struct raft_info info = info_of(core);
    step(core, (struct raft_event) { .type = RAFT_EVENT_PERSISTED,
                                     .term = info.term,
                                     .vote = info.vote,
                                     .index = info.last,
                                     .index_term = info.last_term });
}

static const struct raft_action *find(const struct core *core, enum raft_action_type type)
{
    for (uint32_t i = 0; i < core->actions.count; i++) {
        if (core->actions.items[i].type == type) return &core->actions.items[i];
    }
    return NULL;
}

static const struct raft_message *find_message(const struct core *core, enum raft_message_type type)
{
    for (uint32_t i = 0; i < core->actions.count; i++) {
        const struct raft_action *action = &core->actions.items[i];
        if (action->type == RAFT_ACTION_SEND && action->send.message.type == type) {
            return &action->send.message;
        }
    }
    return NULL;
}

/* Fill and report the append for PEER among the actions; false: there is none. */
static bool send_append(struct core *core, uint64_t peer)
{
    for (uint32_t i = 0; i < core->actions.count; i++) {
        struct raft_send send = core->actions.items[i].send;
        if (core->actions.items[i].type != RAFT_ACTION_SEND || send.message.to != peer) continue;
        if (send.message.type != RAFT_MESSAGE_APPEND) continue;
        uint64_t term = 0;
        uint64_t index = send.message.index + 1;
        while (raft_term_at(core->raft, index, &term) &&
               raft_send_add_entry(&send, index, term, 1, NULL)) {
            index++;
        }
        step(core, (struct raft_event) { .type = RAFT_EVENT_SENT,
                                         .peer = peer,
                                         .term = send.message.term,
                                         .message = &send.message });
        return true;
    }
    return false;
}

/* Replica 1 of three becomes leader by the vote of 2; its no-op is on disk. */
static void elect(struct core *core)
{
    pass(core, 1000);
    step(core, (struct raft_event) { .type = RAFT_EVENT_TICK });
    assert_int_equal(info_of(core).role, RAFT_PRE_CANDIDATE);
    uint64_t term = info_of(core).term + 1;
    receive(core, (struct raft_message) { .type = RAFT_MESSAGE_PRE_VOTE_REPLY,
                                          .flags = RAFT_FLAG_GRANTED,
                                          .from = 2,
                                          .term = term });
    assert_int_equal(info_of(core).role, RAFT_CANDIDATE);
    persist(core);
    receive(core, (struct raft_message) { .type = RAFT_MESSAGE_VOTE_REPLY,
                                          .flags = RAFT_FLAG_GRANTED,
                                          .from = 2,
                                          .term = term });
    assert_int_equal(info_of(core).role, RAFT_LEADER);
#ifndef MUTATION_DROP_NOOP_COMMIT_OLD_TERM
    assert_true(send_append(core, 2));
#endif
    persist(core);
}

static void ack(struct core *core, uint64_t from, uint64_t match)
{
    receive(core, (struct raft_message) { .type = RAFT_MESSAGE_APPEND_REPLY,
                                          .from = from,
                                          .term = info_of(core).term,
                                          .index = match,
                                          .match = match });
}

/* ---- the failures, by their numbers ---- */

static void failure_1_an_entry_of_an_older_term_is_not_committed_by_counting(void **state)
{
    (void)state;
    struct core *core =
        core_create(&(struct raft_persisted) { .term = 1, .membership = three }, 1, 1, 1);
    core_start(core);
    elect(core);
    assert_int_equal(info_of(core).last, 2); /* with the no-op of term 2 */
    ack(core, 2, 1);
    assert_int_equal(info_of(core).commit, 0);
    ack(core, 2, 2);
    assert_int_equal(info_of(core).commit, 2);
    free(core);
}

static void failure_2_a_follower_acks_no_more_than_the_request_proved(void **state)
{
    (void)state;
    struct core *core =
        core_create(&(struct raft_persisted) { .term = 1, .membership = three }, 1, 5, 1);
    core_start(core);
    receive(core,
            (struct raft_message) {
                .type = RAFT_MESSAGE_APPEND, .from = 2, .term = 2, .index = 2, .index_term = 1 });
    persist(core);
    const struct raft_message *reply = find_message(core, RAFT_MESSAGE_APPEND_REPLY);
    assert_non_null(reply);
    assert_int_equal(reply->match, 2); /* not 5: a stale suffix may hide there */
    /* Nor does it believe a commit index beyond. */
    receive(core, (struct raft_message) {
                      .type = RAFT_MESSAGE_HEARTBEAT, .from = 2, .term = 2, .commit = 5 });
    assert_int_equal(info_of(core).commit, 2);
    free(core);
}

static struct raft_message append_of(uint64_t index, uint32_t count, uint64_t term)
{
    return (struct raft_message) { .type = RAFT_MESSAGE_APPEND,
                                   .from = 2,
                                   .term = term,
                                   .index = index,
                                   .index_term = index == 0 ? 0 : term,
                                   .count = count,
                                   .run_count = 1,
                                   .runs = { { .index = index + 1, .term = term } } };
}

static void failure_3_a_late_append_below_the_compacted_prefix_lands_where_it_belongs(void **state)
{
    (void)state;
    struct raft_persisted persisted = {
        .term = 1, .snapshot_index = 10, .snapshot_term = 1, .membership = three, .applied = 10
    };
    struct core *core = core_create(&persisted, 0, 0, 0);
    core_start(core);
    receive(core, append_of(2, 4, 1)); /* 3..6: wholly below */
    assert_null(find(core, RAFT_ACTION_APPEND));
    assert_int_equal(find_message(core, RAFT_MESSAGE_APPEND_REPLY)->match, 10);
    receive(core, append_of(5, 8, 1)); /* 6..13: partly */
    const struct raft_action *append = find(core, RAFT_ACTION_APPEND);
    assert_non_null(append);
    assert_int_equal(append->append.first, 11);
    assert_int_equal(append->append.count, 3);
    assert_int_equal(append->append.skip, 5);
    free(core);
}

static struct raft_message vote_of(uint64_t from, uint64_t term, uint8_t flags)
{
    return (struct raft_message) { .type = RAFT_MESSAGE_VOTE,
                                   .flags = flags,
                                   .from = from,
                                   .term = term,
                                   .index = 100,
                                   .index_term = 1 };
}

static void failure_4_the_target_of_a_transfer_gets_no_second_vote(void **state)
{
    (void)state;
    struct core *core =
        core_create(&(struct raft_persisted) { .term = 1, .membership = three }, 1, 5, 1);
    core_start(core);
    pass(core, 1001);
    receive(core, vote_of(2, 2, 0));
    persist(core);
    assert_int_equal(find_message(core, RAFT_MESSAGE_VOTE_REPLY)->flags, RAFT_FLAG_GRANTED);
    receive(core, vote_of(3, 2, RAFT_FLAG_TRANSFER));
    const struct raft_message *reply = find_message(core, RAFT_MESSAGE_VOTE_REPLY);
    assert_true(reply == NULL || reply->flags == 0);
    persist(core);
    reply = find_message(core, RAFT_MESSAGE_VOTE_REPLY);
    assert_true(reply == NULL || reply->flags == 0);
    assert_int_equal(info_of(core).vote, 2);
    free(core);
}

/* Replica 1 with a snapshot at 10 (three members) and an uncommitted fourth at 11. */
static struct core *core_with_uncommitted_member(void)
{
    static const struct raft_membership four = { .count = 4, .ids = { 1, 2, 3, 4 }, .learners = 8 };
    struct raft_persisted persisted = {
        .term = 1, .snapshot_index = 10, .snapshot_term = 1, .membership = three, .applied = 10
    };
    struct core *core = core_create(&persisted, 0, 0, 0);
    assert_int_equal(raft_restore_entries(core->raft, 11, 1, 1, &four), STATUS_OK);
    core_start(core);
    return core;
}

static void failure_5_a_membership_rolls_back_though_its_predecessor_is_compacted(void **state)
{
    (void)state;
    uint64_t index = 0;
    struct core *core = core_with_uncommitted_member();
    assert_int_equal(raft_membership(core->raft, &index)->count, 4);
    struct raft_message message = append_of(10, 1, 2);
    message.index_term = 1;
    receive(core, message); /* another leader's entry 11 */
    assert_int_equal(find(core, RAFT_ACTION_TRUNCATE)->index, 11);
    assert_int_equal(raft_membership(core->raft, &index)->count, 3);
    assert_int_equal(index, 10);
    free(core);
}

static void failures_6_and_7_an_uncommitted_membership_stays_so_and_enters_no_snapshot(void **state)
{
    (void)state;
    struct raft_membership membership;
    uint64_t index = 0;
    struct core *core = core_with_uncommitted_member();
    assert_int_equal(info_of(core).commit, 10);
    assert_int_equal(raft_membership(core->raft, &index)->count, 4); /* in effect */
    assert_int_equal(raft_snapshot_taken(core->raft, 10, &membership), STATUS_OK);
    assert_int_equal(membership.count, 3); /* but not in the snapshot */
    assert_int_equal(raft_snapshot_taken(core->raft, 11, &membership), STATUS_INVALID);
    free(core);
}

static void failure_8_a_single_voter_raises_the_term_and_persists_it_first(void **state)
{
    (void)state;
    struct raft_persisted persisted = { .term = 3,
                                        .vote = 1,
                                        .membership = { .count = 1, .ids = { 1 } } };
    struct core *core = core_create(&persisted, 1, 4, 3);
    core_start(core);
    assert_int_equal(raft_next_deadline_ns(core->raft), core->now_ns); /* it need not wait */
    step(core, (struct raft_event) { .type = RAFT_EVENT_TICK });
    assert_int_equal(info_of(core).term, 4);
    assert_int_equal(info_of(core).role, RAFT_CANDIDATE); /* until that is durable */
    assert_int_equal(find(core, RAFT_ACTION_PERSIST_HARD)->hard.vote, 1);
    persist(core);
    assert_int_equal(info_of(core).role, RAFT_LEADER);
    assert_int_equal(find(core, RAFT_ACTION_APPEND)->append.kind, RAFT_ENTRY_NOOP);
    assert_int_equal(info_of(core).commit, 0);
    persist(core);
    assert_int_equal(find(core, RAFT_ACTION_COMMIT)->index, 5);
    assert_int_equal(raft_next_deadline_ns(core->raft), UINT64_MAX); /* costs nothing when idle */
    free(core);
}

static void failure_9_nothing_is_said_before_it_is_durable(void **state)
{
    (void)state;
    struct core *core =
        core_create(&(struct raft_persisted) { .term = 1, .membership = three }, 1, 5, 1);
    core_start(core);
    pass(core, 1001);
    receive(core, vote_of(2, 2, 0));
    assert_null(find(core, RAFT_ACTION_SEND));
    const struct raft_action *hard = find(core, RAFT_ACTION_PERSIST_HARD);
    assert_int_equal(hard->hard.term, 2);
    assert_int_equal(hard->hard.vote, 2);
    /* A sync of the term alone is not enough. */
    step(core, (struct raft_event) { .type = RAFT_EVENT_PERSISTED, .term = 2, .vote = NO_VOTE });
#ifndef MUTATION_FORGET_VOTE
    assert_null(find(core, RAFT_ACTION_SEND));
#endif
    persist(core);
    assert_int_equal(find_message(core, RAFT_MESSAGE_VOTE_REPLY)->flags, RAFT_FLAG_GRANTED);
    /* Entries are acked as far as they are on disk. */
    receive(core, (struct raft_message) { .type = RAFT_MESSAGE_APPEND,
                                          .from = 2,
                                          .term = 2,
                                          .index = 5,
                                          .index_term = 1,
                                          .count = 3,
                                          .run_count = 1,
                                          .runs = { { .index = 6, .term = 2 } } });
    assert_int_equal(find_message(core, RAFT_MESSAGE_APPEND_REPLY)->match, 5);
    step(core, (struct raft_event) { .type = RAFT_EVENT_PERSISTED, .index = 7, .index_term = 2 });
    assert_int_equal(find_message(core, RAFT_MESSAGE_APPEND_REPLY)->match, 7);
    free(core);
}

static void failure_9_nothing_is_voted_or_acked_while_a_snapshot_is_installed(void **state)
{
    (void)state;
    struct core *core =
        core_create(&(struct raft_persisted) { .term = 2, .membership = three }, 1, 5, 1);
    core_start(core);
    struct raft_message part = { .type = RAFT_MESSAGE_SNAPSHOT,
                                 .flags = RAFT_FLAG_LAST,
                                 .from = 2,
                                 .term = 2,
                                 .index = 50,
                                 .index_term = 2,
                                 .payload_bytes = 9,
                                 .membership = three };
    receive(core, part);
    assert_int_equal(find(core, RAFT_ACTION_SNAPSHOT_PART)->snapshot.offset, 0);
    step(core, (struct raft_event) {
                   .type = RAFT_EVENT_SNAPSHOT_STORED, .index = 50, .index_term = 2, .offset = 9 });
    assert_false(find(core, RAFT_ACTION_INSTALL)->snapshot.keep_log);
    pass(core, 5000);
    receive(core, vote_of(3, 9, RAFT_FLAG_TRANSFER));
    persist(core);
    assert_null(find(core, RAFT_ACTION_SEND));
    step(core, (struct raft_event) { .type = RAFT_EVENT_TICK });
    assert_int_equal(info_of(core).role, RAFT_FOLLOWER);
    step(core, (struct raft_event) { .type = RAFT_EVENT_SNAPSHOT_INSTALLED,
                                     .index = 50,
                                     .index_term = 2,
                                     .membership = &three });
    assert_int_equal(info_of(core).commit, 50);
    assert_int_equal(info_of(core).last, 50);
    free(core);
}

static void a_snapshot_resumes_where_an_earlier_life_had_stored_it(void **state)
{
    (void)state;
    struct core *core =
        core_create(&(struct raft_persisted) { .term = 2, .membership = three }, 1, 5, 1);
    core_start(core);
    struct raft_event stored = {
        .type = RAFT_EVENT_SNAPSHOT_STORED, .peer = 2, .index = 50, .index_term = 2, .offset = 700
    };
    step(core, stored); /* found on disk at the start */
    struct raft_message part = { .type = RAFT_MESSAGE_SNAPSHOT,
                                 .from = 2,
                                 .term = 2,
                                 .index = 50,
                                 .index_term = 2,
                                 .payload_bytes = 100,
                                 .membership = three };
    receive(core, part); /* the leader begins at 0 and is told where to go on */
    assert_null(find(core, RAFT_ACTION_SNAPSHOT_PART));
    assert_int_equal(find_message(core, RAFT_MESSAGE_SNAPSHOT_REPLY)->offset, 700);
    part.offset = 700;
    receive(core, part);
    assert_int_equal(find(core, RAFT_ACTION_SNAPSHOT_PART)->snapshot.offset, 700);
    receive(core, part); /* doubled: it is being stored */
    assert_null(find(core, RAFT_ACTION_SNAPSHOT_PART));
    stored.offset = 800;
    step(core, stored);
    assert_int_equal(find_message(core, RAFT_MESSAGE_SNAPSHOT_REPLY)->offset, 800);
    /* Another sender's parts need not cut at the same places: from the beginning. */
    part.from = 3;
    part.offset = 0;
    receive(core, part);
    assert_int_equal(find(core, RAFT_ACTION_SNAPSHOT_PART)->snapshot.offset, 0);
    free(core);
}

static void a_new_leader_serves_no_read_before_its_own_term_has_committed(void **state)
{
    (void)state;
    struct core *core =
        core_create(&(struct raft_persisted) { .term = 1, .membership = three }, 1, 5, 1);
    core_start(core);
    elect(core);
    receive(core, (struct raft_message) { .type = RAFT_MESSAGE_HEARTBEAT_REPLY,
                                          .from = 2,
                                          .term = 2,
                                          .sent_ns = core->now_ns }); /* as if it had a lease */
    step(core, (struct raft_event) { .type = RAFT_EVENT_READ, .id = 1 });
    assert_null(find(core, RAFT_ACTION_READ_READY));
    ack(core, 2, 6);
    assert_int_equal(find(core, RAFT_ACTION_READ_READY)->read.index, 6);
    free(core);
}

static void failure_10_what_was_owed_in_a_term_is_not_said_in_the_next(void **state)
{
    (void)state;
    struct core *core =
        core_create(&(struct raft_persisted) { .term = 1, .membership = three }, 1, 5, 1);
    core_start(core);
    receive(core,
            (struct raft_message) {
                .type = RAFT_MESSAGE_APPEND, .from = 2, .term = 2, .index = 5, .index_term = 1 });
    assert_null(find(core, RAFT_ACTION_SEND)); /* term 2 is not durable */
    receive(core, (struct raft_message) { .type = RAFT_MESSAGE_VOTE_REPLY, .from = 3, .term = 3 });
    persist(core);
    assert_null(find(core, RAFT_ACTION_SEND));
    free(core);
}

static void failure_11_after_a_restart_nobody_gets_a_vote_for_an_election_timeout(void **state)
{
    (void)state;
    struct core *core =
        core_create(&(struct raft_persisted) { .term = 1, .membership = three }, 1, 5, 1);
    core_start(core);
    pass(core, 999);
    receive(core, vote_of(2, 2, 0));
    assert_int_equal(info_of(core).term, 1);
    pass(core, 2);
    receive(core, vote_of(2, 2, 0));
    assert_int_equal(info_of(core).vote, 2);
    free(core);
}

/* A heartbeat round was answered by 2 at once: the lease is held. */
static void hold_lease(struct core *core)
{
    elect(core);
    ack(core, 2, info_of(core).last);
    pass(core, 200);
    step(core, (struct raft_event) { .type = RAFT_EVENT_TICK });
    const struct raft_message *beat = find_message(core, RAFT_MESSAGE_HEARTBEAT);
    assert_non_null(beat);
    receive(core, (struct raft_message) { .type = RAFT_MESSAGE_HEARTBEAT_REPLY,
                                          .from = 2,
                                          .term = info_of(core).term,
                                          .match = info_of(core).last,
                                          .index = info_of(core).last,
                                          .round = beat->round,
                                          .sent_ns = beat->sent_ns });
}

static void failure_12_a_transfer_ends_the_lease_for_the_term(void **state)
{
    (void)state;
    struct core *core =
        core_create(&(struct raft_persisted) { .term = 1, .membership = three }, 1, 5, 1);
    core_start(core);
    hold_lease(core);
    step(core, (struct raft_event) { .type = RAFT_EVENT_READ, .id = 1 });
    assert_non_null(find(core, RAFT_ACTION_READ_READY));
    step(core, (struct raft_event) { .type = RAFT_EVENT_TRANSFER, .peer = 3 });
    step(core, (struct raft_event) { .type = RAFT_EVENT_READ, .id = 2 });
    assert_null(find(core, RAFT_ACTION_READ_READY));
    assert_non_null(find_message(core, RAFT_MESSAGE_HEARTBEAT)); /* a quorum is asked instead */
    free(core);
}

static void a_lease_ends_by_itself_before_the_promise_does(void **state)
{
    (void)state;
    struct core *core =
        core_create(&(struct raft_persisted) { .term = 1, .membership = three }, 1, 5, 1);
    core_start(core);
    hold_lease(core);
    pass(core, CONSENSUS_LEASE_MS - 1);
    step(core, (struct raft_event) { .type = RAFT_EVENT_READ, .id = 1 });
    assert_non_null(find(core, RAFT_ACTION_READ_READY));
    pass(core, 1);
    step(core, (struct raft_event) { .type = RAFT_EVENT_READ, .id = 2 });
    assert_null(find(core, RAFT_ACTION_READ_READY));
    free(core);
}

static void failure_13_a_failed_write_ends_the_replica(void **state)
{
    (void)state;
    struct core *core =
        core_create(&(struct raft_persisted) { .term = 1, .membership = three }, 1, 5, 1);
    core_start(core);
    step(core, (struct raft_event) { .type = RAFT_EVENT_WRITE_FAILED });
    assert_int_equal(core->status, STATUS_IO);
    receive(core, append_of(5, 1, 1));
    assert_int_equal(core->status, STATUS_IO);
    assert_int_equal(core->actions.count, 0);
    assert_int_equal(raft_next_deadline_ns(core->raft), UINT64_MAX);
    free(core);
}

static void failure_14_messages_of_others_and_of_earlier_writes_count_for_nothing(void **state)
{
    (void)state;
    struct core *core =
        core_create(&(struct raft_persisted) { .term = 1, .membership = three }, 1, 5, 1);
    core_start(core);
    struct raft_message stray = append_of(5, 1, 1);
    stray.group = 8;
    stray.to = 1;
    step(core, (struct raft_event) { .type = RAFT_EVENT_MESSAGE, .message = &stray });
    assert_int_equal(core->actions.count, 0);
    stray.group = 7;
    stray.to = 9; /* the replica that lived here before */
    step(core, (struct raft_event) { .type = RAFT_EVENT_MESSAGE, .message = &stray });
    assert_int_equal(core->actions.count, 0);

    /* Entry 6 of term 1 is replaced by one of term 2 before its write is reported. */
    receive(core, append_of(5, 1, 1));
    struct raft_message other = append_of(5, 1, 2);
    other.index_term = 1;
    other.from = 3;
    receive(core, other);
    step(core, (struct raft_event) {
                   .type = RAFT_EVENT_PERSISTED, .term = 2, .index = 6, .index_term = 1 });
    assert_int_equal(info_of(core).persisted, 5);
    free(core);
}

static void failure_16_a_silent_peer_gets_heartbeats_and_a_slow_one_a_window(void **state)
{
    (void)state;
    struct core *core =
        core_create(&(struct raft_persisted) { .term = 1, .membership = three }, 1, 5, 1);
    core_start(core);
    elect(core);
    ack(core, 2, 6);
    uint32_t sent = 0;
    for (int i = 0; i < 20; i++) {
        step(core, (struct raft_event) { .type = RAFT_EVENT_PROPOSE, .count = 1, .bytes = 1 });
        sent += send_append(core, 2);
    }
    assert_int_equal(sent, 2); /* inflight_messages_max */
    ack(core, 2, 7);
    ack(core, 2, 8);
    assert_true(send_append(core, 2)); /* the window is open again: all that waited in one */

    /* 3 has never answered. After an election timeout it is not sent entries any more. */
    pass(core, 500);
    ack(core, 2, 9);
    pass(core, 600);
    step(core, (struct raft_event) { .type = RAFT_EVENT_SENT, .peer = 3, .term = 2 });
    step(core, (struct raft_event) { .type = RAFT_EVENT_TICK });
    pass(core, 200);
    step(core, (struct raft_event) { .type = RAFT_EVENT_TICK });
    assert_int_equal(info_of(core).role, RAFT_LEADER);
    assert_false(send_append(core, 3));
    free(core);
}

/* ---- memberships ---- */

static void a_membership_waits_for_the_own_term_and_for_the_one_before(void **state)
{
    (void)state;
    struct raft_event add = { .type = RAFT_EVENT_CHANGE,
                              .change = RAFT_CHANGE_ADD_LEARNER,
                              .peer = 4 };
    struct core *core =
        core_create(&(struct raft_persisted) { .term = 1, .membership = three }, 1, 5, 1);
    core_start(core);
    elect(core);
    step(core, add);
    assert_int_equal(core->status, STATUS_BUSY); /* the no-op is not committed */
    ack(core, 2, 6);
    step(core, add);
    assert_int_equal(core->status, STATUS_OK);
    add.peer = 5;
    step(core, add);
    assert_int_equal(core->status, STATUS_BUSY); /* the fourth is not committed */
    persist(core);
    ack(core, 2, 7);
    step(core, add);
    assert_int_equal(core->status, STATUS_OK);
    free(core);
}

static void change_until_done(struct cluster *cluster, enum raft_change change, uint64_t id)
{
    for (int i = 0; i < 400; i++) {
        uint64_t leader = cluster_leader(cluster);
        if (leader != 0) {
            enum status status = cluster_change(cluster, leader, change, id);
            if (status == STATUS_OK) break;
            assert_int_not_equal(status, STATUS_INVALID);
        }
        assert_int_not_equal(i, 399);
        cluster_run(cluster, 50 * CONSENSUS_MILLISECOND_NS);
    }
    cluster_run(cluster, 3000 * CONSENSUS_MILLISECOND_NS);
    assert_null(cluster->violation);
}

static void a_group_grows_from_one_to_five_voters_and_back(void **state)
{
    (void)state;
    uint64_t index = 0;
    struct cluster *cluster =
        cluster_create(&(struct cluster_options) { .seed = 5,
                                                   .voters = 1,
                                                   .loss_per_mille = 50,
                                                   .delay_ns_max = 5 * CONSENSUS_MILLISECOND_NS,
                                                   .sync_ns_max = 5 * CONSENSUS_MILLISECOND_NS,
                                                   .snapshot_every = 10 });
    cluster_run(cluster, 1000 * CONSENSUS_MILLISECOND_NS);
    for (uint32_t i = 0; i < 30; i++) {
        assert_int_equal(cluster_propose(cluster, 1, 1), STATUS_OK);
        cluster_run(cluster, 10 * CONSENSUS_MILLISECOND_NS);
    }
    for (uint64_t id = 2; id <= 5; id++) {
        change_until_done(cluster, RAFT_CHANGE_ADD_LEARNER, id);
        change_until_done(cluster, RAFT_CHANGE_PROMOTE, id);
    }
    assert_true(cluster->snapshots_installed >= 4);
    cluster_crash(cluster, 1);
    cluster_crash(cluster, 2);
    cluster_run(cluster, 8000 * CONSENSUS_MILLISECOND_NS);
    assert_int_not_equal(cluster_leader(cluster), 0); /* three of five */
    cluster_start(cluster, 1);
    cluster_start(cluster, 2);
    cluster_run(cluster, 3000 * CONSENSUS_MILLISECOND_NS);
    for (uint64_t id = 1; id <= 4; id++) change_until_done(cluster, RAFT_CHANGE_REMOVE, id);
    assert_int_equal(cluster_leader(cluster), 5);
    assert_int_equal(raft_membership(cluster_node(cluster, 5)->raft, &index)->count, 1);
    assert_int_equal(cluster_propose(cluster, 5, 1), STATUS_OK);
    cluster_destroy(cluster);
}

/* ---- hibernation ---- */

static void an_idle_group_sends_nothing_and_wakes_when_its_leader_dies(void **state)
{
    (void)state;
    struct cluster *cluster =
        cluster_create(&(struct cluster_options) { .seed = 9,
                                                   .voters = 3,
                                                   .delay_ns_max = CONSENSUS_MILLISECOND_NS,
                                                   .sync_ns_max = CONSENSUS_MILLISECOND_NS });
    cluster_run(cluster, 12000 * CONSENSUS_MILLISECOND_NS);
    assert_true(cluster->hibernations >= 3);
    uint64_t messages = cluster->messages_sent;
    cluster_run(cluster, UINT64_C(3600000) * CONSENSUS_MILLISECOND_NS); /* an hour */
    assert_int_equal(cluster->messages_sent, messages);
    uint64_t leader = cluster_leader(cluster);
    cluster_crash(cluster, leader);
    cluster_run(cluster, 8000 * CONSENSUS_MILLISECOND_NS);
    assert_int_not_equal(cluster_leader(cluster), 0);
    assert_int_equal(cluster_propose(cluster, cluster_leader(cluster), 1), STATUS_OK);
    assert_null(cluster->violation);
    cluster_destroy(cluster);
}

/* ---- the table of terms ---- */

static void a_full_table_of_terms_is_lent_a_larger_one(void **state)
{
    (void)state;
    static struct raft_run runs[64];
    struct raft_run *old = runs;
    uint64_t term = 0;
    struct core *core =
        core_create(&(struct raft_persisted) { .term = 40, .membership = three }, 0, 0, 0);
    for (uint64_t i = 1; i <= 40; i++) {
        enum status status = raft_restore_entries(core->raft, i, 1, i, NULL);
        assert_int_equal(status, i == RAFT_RUNS_MIN + 1 ? STATUS_FULL : STATUS_OK);
        if (status == STATUS_OK) continue;
        assert_true(raft_runs_tight(core->raft));
        raft_lend_runs(core->raft, runs, 64, &old);
        assert_null(old);
        assert_int_equal(raft_restore_entries(core->raft, i, 1, i, NULL), STATUS_OK);
    }
    for (uint64_t i = 1; i <= 40; i++) {
        assert_true(raft_term_at(core->raft, i, &term));
        assert_int_equal(term, i);
    }
    assert_false(raft_term_at(core->raft, 41, &term));
    free(core);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failure_1_an_entry_of_an_older_term_is_not_committed_by_counting),
        cmocka_unit_test(failure_2_a_follower_acks_no_more_than_the_request_proved),
        cmocka_unit_test(failure_3_a_late_append_below_the_compacted_prefix_lands_where_it_belongs),
        cmocka_unit_test(failure_4_the_target_of_a_transfer_gets_no_second_vote),
        cmocka_unit_test(failure_5_a_membership_rolls_back_though_its_predecessor_is_compacted),
        cmocka_unit_test(
            failures_6_and_7_an_uncommitted_membership_stays_so_and_enters_no_snapshot),
        cmocka_unit_test(failure_8_a_single_voter_raises_the_term_and_persists_it_first),
        cmocka_unit_test(failure_9_nothing_is_said_before_it_is_durable),
        cmocka_unit_test(failure_9_nothing_is_voted_or_acked_while_a_snapshot_is_installed),
        cmocka_unit_test(a_snapshot_resumes_where_an_earlier_life_had_stored_it),
        cmocka_unit_test(a_new_leader_serves_no_read_before_its_own_term_has_committed),
        cmocka_unit_test(failure_10_what_was_owed_in_a_term_is_not_said_in_the_next),
        cmocka_unit_test(failure_11_after_a_restart_nobody_gets_a_vote_for_an_election_timeout),
        cmocka_unit_test(failure_12_a_transfer_ends_the_lease_for_the_term),
        cmocka_unit_test(a_lease_ends_by_itself_before_the_promise_does),
        cmocka_unit_test(failure_13_a_failed_write_ends_the_replica),
        cmocka_unit_test(failure_14_messages_of_others_and_of_earlier_writes_count_for_nothing),
        cmocka_unit_test(failure_16_a_silent_peer_gets_heartbeats_and_a_slow_one_a_window),
        cmocka_unit_test(a_membership_waits_for_the_own_term_and_for_the_one_before),
        cmocka_unit_test(a_group_grows_from_one_to_five_voters_and_back),
        cmocka_unit_test(an_idle_group_sends_nothing_and_wakes_when_its_leader_dies),
        cmocka_unit_test(a_full_table_of_terms_is_lent_a_larger_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
