#include "consensus/raft_cluster.h"

#include <assert.h>
#include <stdlib.h>

static void violate(struct cluster *cluster, const struct cluster_node *node, const char *what)
{
    if (cluster->violation != NULL) return;
    cluster->violation = what;
    cluster->violation_node = node->id;
}

uint64_t cluster_draw(struct cluster *cluster, uint64_t bound)
{
    uint64_t value = 0;
    random_below(&cluster->seeded.random, bound, &value);
    return value;
}

bool cluster_chance(struct cluster *cluster, uint32_t per_mille)
{
    return per_mille > 0 && cluster_draw(cluster, 1000) < per_mille;
}

struct cluster_node *cluster_node(struct cluster *cluster, uint64_t id)
{
    assert(id >= 1);
    assert(id <= CLUSTER_NODES);
    return &cluster->nodes[id - 1];
}

static struct raft_options options_of(const struct cluster *cluster, uint64_t id)
{
    return (struct raft_options) {
        .group = 7,
        .id = id,
        .hibernate_after_ns = cluster->options.hibernate_after_ns,
        .message_bytes_max = CLUSTER_MESSAGE_ENTRIES, /* an entry is one byte here */
        .inflight_messages_max = 4,
        .inflight_bytes_max = 3 * CLUSTER_MESSAGE_ENTRIES,
        .uncommitted_entries_max = 64,
        .lease_off = cluster->options.lease_off,
    };
}

/* The node's own clock: it runs faster or slower, from an origin of its own. */
static uint64_t clock_of(const struct cluster *cluster, const struct cluster_node *node)
{
    int64_t drift = (int64_t)(cluster->now_ns / 1000000) * node->rate_ppm;
    return node->clock_offset_ns + (uint64_t)((int64_t)cluster->now_ns + drift);
}

/* The world's time when the node's clock shows LOCAL_NS, or a little later. */
static uint64_t world_time(const struct cluster *cluster, const struct cluster_node *node,
                           uint64_t local_ns)
{
    uint64_t shown = clock_of(cluster, node);
    if (local_ns == UINT64_MAX) return UINT64_MAX;
    if (local_ns <= shown) return cluster->now_ns;
    uint64_t wait = (local_ns - shown) / (uint64_t)(1000000 + node->rate_ppm) * 1000000;
    return cluster->now_ns + wait + CONSENSUS_MILLISECOND_NS;
}

/* ---- the disk ---- */

static struct cluster_operation *queue_operation(struct cluster *cluster, struct cluster_node *node,
                                                 enum cluster_operation_kind kind)
{
    assert(node->queued < CLUSTER_QUEUE_MAX);
    if (node->sync_at_ns == UINT64_MAX) {
        node->sync_at_ns =
            cluster->now_ns + 1 + cluster_draw(cluster, cluster->options.sync_ns_max);
    }
    struct cluster_operation *operation = &node->queue[node->queued++];
    *operation = (struct cluster_operation) { .kind = kind };
    return operation;
}

static void write_operation(struct cluster_disk *disk, const struct cluster_operation *operation)
{
    switch (operation->kind) {
    case CLUSTER_WRITE_HARD:
        disk->term = operation->term;
        disk->vote = operation->vote;
        break;
    case CLUSTER_WRITE_TRUNCATE: disk->log.last = operation->index - 1; break;
    case CLUSTER_WRITE_ENTRY:
        disk->log.entries[operation->index] = operation->entry;
        disk->log.last = operation->index;
        break;
    case CLUSTER_WRITE_PART: break;
    case CLUSTER_WRITE_INSTALL:
        disk->snapshot = operation->snapshot;
        disk->applied = operation->snapshot.index;
        if (!operation->keep_log) disk->log.last = operation->snapshot.index;
        break;
    }
}

static void complete_snapshot(struct cluster *cluster, struct cluster_node *node,
                              const struct cluster_operation *operation)
{
    struct raft_event event = { .index = operation->snapshot.index,
                                .index_term = operation->snapshot.term };
    if (operation->kind == CLUSTER_WRITE_PART) {
        event.type = RAFT_EVENT_SNAPSHOT_STORED;
        event.offset = operation->offset;
    } else {
        uint64_t index = operation->snapshot.index;
        if (index > cluster->committed_last ||
            cluster->committed[index].term != operation->snapshot.term) {
            violate(cluster, node, "a snapshot of what was never committed");
        }
        event.type = RAFT_EVENT_SNAPSHOT_INSTALLED;
        event.membership = &operation->snapshot.membership;
        if (!operation->keep_log) node->log.last = index;
        node->snapshot = operation->snapshot;
        node->applied = index;
        cluster->snapshots_installed++;
    }
    (void)cluster_step(cluster, node->id, event);
}

/* A sync ended: report what it covered. */
static void sync_ended(struct cluster *cluster, struct cluster_node *node)
{
    static struct cluster_operation done[CLUSTER_QUEUE_MAX];
    uint32_t count = node->queued;

    memcpy(done, node->queue, count * sizeof done[0]);
    node->queued = 0;
    node->sync_at_ns = UINT64_MAX;
    struct raft_event event = { .type = RAFT_EVENT_PERSISTED };
    for (uint32_t i = 0; i < count; i++) {
        write_operation(&node->disk, &done[i]);
        if (done[i].kind == CLUSTER_WRITE_ENTRY) {
            event.index = done[i].index;
            event.index_term = done[i].entry.term;
        }
    }
    event.term = node->disk.term;
    event.vote = node->disk.vote;
    (void)cluster_step(cluster, node->id, event);
    for (uint32_t i = 0; i < count && node->running; i++) {
        if (done[i].kind == CLUSTER_WRITE_PART || done[i].kind == CLUSTER_WRITE_INSTALL) {
            complete_snapshot(cluster, node, &done[i]);
        }
    }
}

/* ---- the network ---- */

static void put_on_wire(struct cluster *cluster, const struct cluster_packet *packet)
{
    if (cluster->network_count == CLUSTER_NETWORK_MAX) return; /* lost */
    struct cluster_packet *slot = &cluster->network[cluster->network_count++];
    *slot = *packet;
    slot->at_ns = cluster->now_ns + 1 + cluster_draw(cluster, cluster->options.delay_ns_max);
    if (cluster_chance(cluster, cluster->options.late_per_mille)) {
        slot->at_ns += cluster_draw(cluster, 4000) * CONSENSUS_MILLISECOND_NS;
    }
}

static void transmit(struct cluster *cluster, const struct cluster_packet *packet)
{
    cluster->messages_sent++;
    if (cluster_chance(cluster, cluster->options.loss_per_mille)) return;
    put_on_wire(cluster, packet);
    if (cluster_chance(cluster, cluster->options.double_per_mille)) put_on_wire(cluster, packet);
}

void cluster_deliver(struct cluster *cluster, const struct cluster_packet *packet)
{
    static struct cluster_packet now; /* what the driver keeps while the message is stepped */
    struct cluster_node *node = cluster_node(cluster, packet->message.to);
    uint8_t bytes[RAFT_MESSAGE_BYTES_MAX];
    struct writer writer = writer_of(bytes, sizeof bytes);
    size_t used = 0;

    if (!node->running || cluster->cut[packet->message.from - 1][node->id - 1]) return;
    now = *packet;
    raft_message_encode(&packet->message, &writer);
    enum decode verdict = raft_message_decode(bytes, writer.used, &now.message, &used);
    assert(verdict == DECODE_OK);
    assert(used == writer.used);
    struct raft_event event = { .type = RAFT_EVENT_MESSAGE, .message = &now.message };
    (void)cluster_step(cluster, node->id, event);
}

/* ---- actions ---- */

static void fill_append(struct cluster *cluster, struct cluster_node *node, struct raft_send *send,
                        struct cluster_packet *packet)
{
    uint64_t first = send->message.index + 1;

    for (uint32_t i = 0; i < CLUSTER_MESSAGE_ENTRIES && first + i <= node->log.last; i++) {
        const struct cluster_entry *entry = &node->log.entries[first + i];
        const struct raft_membership *membership =
            entry->kind == RAFT_ENTRY_MEMBERSHIP ? &entry->membership : NULL;
        if (!raft_send_add_entry(send, first + i, entry->term, 1, membership)) break;
        packet->entries[i] = *entry;
    }
    (void)cluster;
}

static bool fill_snapshot(struct cluster_node *node, struct raft_message *message)
{
    if (message->index != node->snapshot.index) return false;
    uint64_t size = (uint64_t)CLUSTER_SNAPSHOT_PARTS * CLUSTER_PART_BYTES;
    message->payload_bytes = CLUSTER_PART_BYTES;
    message->membership = node->snapshot.membership;
    if (message->offset + CLUSTER_PART_BYTES >= size) message->flags |= RAFT_FLAG_LAST;
    return true;
}

/* Send; those that had to be filled are reported, which may ask for more. */
static void perform_send(struct cluster *cluster, struct cluster_node *node,
                         const struct raft_action *action)
{
    struct cluster_packet packet = { 0 };
    struct raft_send send = action->send;
    bool is_append = send.message.type == RAFT_MESSAGE_APPEND;
    bool is_part = action->type == RAFT_ACTION_SEND_SNAPSHOT;
    bool sent = !is_append || !cluster_chance(cluster, cluster->options.loss_per_mille / 4);

    if (is_append && sent) fill_append(cluster, node, &send, &packet);
    if (is_part) sent = fill_snapshot(node, &send.message);
    packet.message = send.message;
    if (sent) transmit(cluster, &packet);
    if (!is_append && !is_part) return;
    struct raft_event event = { .type = RAFT_EVENT_SENT,
                                .peer = send.message.to,
                                .term = send.message.term,
                                .message = sent ? &send.message : NULL };
    (void)cluster_step(cluster, node->id, event);
}

static void perform_append(struct cluster *cluster, struct cluster_node *node,
                           const struct raft_action *action, const struct cluster_packet *packet)
{
    assert(action->append.first <= node->log.last + 1);
    for (uint32_t i = 0; i < action->append.count; i++) {
        uint64_t index = action->append.first + i;
        struct cluster_entry entry = { 0 };
        if (action->append.from_message) {
            assert(packet != NULL);
            assert(action->append.skip + i < packet->message.count);
            entry = packet->entries[action->append.skip + i];
        } else {
            entry.kind = action->append.kind;
            entry.term = action->append.term;
            entry.membership = action->append.membership;
            entry.value = ++cluster->value_last;
            if (entry.kind != RAFT_ENTRY_MEMBERSHIP) {
                entry.membership = (struct raft_membership) { 0 };
            }
        }
        assert(index < CLUSTER_LOG_MAX);
        node->log.entries[index] = entry;
        node->log.last = index;
        struct cluster_operation *operation = queue_operation(cluster, node, CLUSTER_WRITE_ENTRY);
        operation->index = index;
        operation->entry = entry;
    }
}

static bool entry_equal(const struct cluster_entry *a, const struct cluster_entry *b)
{
    return a->term == b->term && a->value == b->value && a->kind == b->kind;
}

static void perform_commit(struct cluster *cluster, struct cluster_node *node, uint64_t index)
{
    struct raft_info info;
    raft_info(node->raft, &info);

    for (uint64_t i = node->applied + 1; i <= index; i++) {
        const struct cluster_entry *entry = &node->log.entries[i];
        if (i > node->log.last || i > node->disk.log.last ||
            !entry_equal(entry, &node->disk.log.entries[i])) {
            violate(cluster, node, "applied what is not durable here");
            return;
        }
        if (i <= cluster->committed_last) {
            if (!entry_equal(entry, &cluster->committed[i])) {
                violate(cluster, node, "two nodes applied different entries at one index");
            }
            continue;
        }
        cluster->committed[i] = *entry;
        cluster->committed_in_term[i] = info.term;
        cluster->committed_last = i;
    }
    if (index > node->applied) node->applied = index;
    if (cluster_chance(cluster, 300)) node->disk.applied = node->applied;
    struct raft_event event = { .type = RAFT_EVENT_APPLIED, .index = index };
    (void)cluster_step(cluster, node->id, event);
}

static void check_leader(struct cluster *cluster, struct cluster_node *node,
                         const struct raft_action *action)
{
    uint64_t term = action->role.term;
    uint64_t me = node->id << 32 | node->life;

    assert(term < CLUSTER_TERMS_MAX);
    cluster->elections++;
    if (cluster->leader_of_term[term] != 0 && cluster->leader_of_term[term] != me) {
        violate(cluster, node, "two leaders in one term");
    }
    cluster->leader_of_term[term] = me;
    /* Leader completeness: what was committed in earlier terms is in its log. */
    for (uint64_t i = node->snapshot.index + 1; i <= cluster->committed_last; i++) {
        if (cluster->committed_in_term[i] >= term) continue;
        if (i > node->log.last || !entry_equal(&node->log.entries[i], &cluster->committed[i])) {
            violate(cluster, node, "a leader lacks a committed entry");
            return;
        }
    }
}

static void check_read(struct cluster *cluster, struct cluster_node *node, uint64_t id,
                       uint64_t index)
{
    cluster->reads_ready++;
    for (uint64_t i = id; i > 0 && i + 64 > id; i--) {
        if (node->read_floor[i % CLUSTER_READS_MAX] == UINT64_MAX) continue;
        if (node->read_floor[i % CLUSTER_READS_MAX] > index) {
            violate(cluster, node, "a read misses what was committed before it began");
        }
        node->read_floor[i % CLUSTER_READS_MAX] = UINT64_MAX;
    }
}

static void perform(struct cluster *cluster, struct cluster_node *node,
                    const struct raft_action *action, const struct cluster_packet *packet)
{
    struct cluster_operation *operation = NULL;

    switch (action->type) {
    case RAFT_ACTION_PERSIST_HARD:
        operation = queue_operation(cluster, node, CLUSTER_WRITE_HARD);
        operation->term = action->hard.term;
        operation->vote = action->hard.vote;
        break;
    case RAFT_ACTION_TRUNCATE:
        node->log.last = action->index - 1;
        queue_operation(cluster, node, CLUSTER_WRITE_TRUNCATE)->index = action->index;
        break;
    case RAFT_ACTION_APPEND: perform_append(cluster, node, action, packet); break;
    case RAFT_ACTION_SEND:
    case RAFT_ACTION_SEND_SNAPSHOT: perform_send(cluster, node, action); break;
    case RAFT_ACTION_COMMIT: perform_commit(cluster, node, action->index); break;
    case RAFT_ACTION_READ_READY:
        check_read(cluster, node, action->read.id, action->read.index);
        break;
    case RAFT_ACTION_READ_REFUSED: break;
    case RAFT_ACTION_SNAPSHOT_PART:
        operation = queue_operation(cluster, node, CLUSTER_WRITE_PART);
        operation->offset = action->snapshot.offset + action->snapshot.bytes;
        operation->snapshot.index = action->snapshot.index;
        operation->snapshot.term = action->snapshot.index_term;
        node->incoming = operation->snapshot;
        node->incoming.membership = action->snapshot.membership;
        break;
    case RAFT_ACTION_INSTALL:
        operation = queue_operation(cluster, node, CLUSTER_WRITE_INSTALL);
        operation->snapshot = node->incoming;
        operation->keep_log = action->snapshot.keep_log;
        break;
    case RAFT_ACTION_ROLE:
        if (action->role.role == RAFT_LEADER) check_leader(cluster, node, action);
        break;
    case RAFT_ACTION_TYPE_COUNT: assert(false);
    }
}

static void lend(struct cluster_node *node)
{
    struct raft_run *old = NULL;
    assert(!node->lent);
    raft_lend_runs(node->raft, node->runs, CLUSTER_RUNS_MAX, &old);
    assert(old == NULL);
    node->lent = true;
}

/* Nested steps (a report asks for more) come after the actions of the step that caused them: sends
 * are performed last, and each level has its own actions. */
enum status cluster_step(struct cluster *cluster, uint64_t id, struct raft_event event)
{
    struct cluster_node *node = cluster_node(cluster, id);

    if (!node->running) return STATUS_CLOSED;
    if (++cluster->steps > CLUSTER_STEPS_MAX) violate(cluster, node, "steps without end");
    event.now_ns = clock_of(cluster, node);
    event.random = cluster_draw(cluster, UINT64_MAX);
    struct raft_info before, after;
    raft_info(node->raft, &before);
    enum status status = raft_step(node->raft, &event, &cluster->actions);
    raft_info(node->raft, &after);
    if (status == STATUS_CORRUPT) violate(cluster, node, "a log contradicts what is committed");
    if (after.hibernating && !before.hibernating) cluster->hibernations++;
    if (raft_runs_tight(node->raft) && !node->lent) lend(node);

    uint32_t count = cluster->actions.count;
    if (count == 0) return status;
    struct raft_action *actions = malloc(count * sizeof *actions);
    memcpy(actions, cluster->actions.items, count * sizeof *actions);
    const struct cluster_packet *packet =
        event.type == RAFT_EVENT_MESSAGE
            ? (const struct cluster_packet *)(const void *)((const char *)event.message -
                                                            offsetof(struct cluster_packet,
                                                                     message))
            : NULL;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < count && node->running; i++) {
            bool is_nested = actions[i].type == RAFT_ACTION_SEND ||
                             actions[i].type == RAFT_ACTION_SEND_SNAPSHOT ||
                             actions[i].type == RAFT_ACTION_COMMIT;
            if (is_nested == (pass == 1)) perform(cluster, node, &actions[i], packet);
        }
    }
    free(actions);
    return status;
}

/* ---- life ---- */

void cluster_start(struct cluster *cluster, uint64_t id)
{
    struct cluster_node *node = cluster_node(cluster, id);
    struct raft_options options = options_of(cluster, id);
    struct cluster_disk *disk = &node->disk;

    assert(!node->running);
    struct raft_persisted persisted = { .term = disk->term,
                                        .vote = disk->vote,
                                        .snapshot_index = disk->snapshot.index,
                                        .snapshot_term = disk->snapshot.term,
                                        .membership = disk->snapshot.membership,
                                        .applied = disk->applied };
    enum status status = raft_init(node->memory, &options, &persisted, &node->raft);
    assert(status == STATUS_OK);
    node->lent = false;
    for (uint64_t i = disk->snapshot.index + 1; i <= disk->log.last; i++) {
        const struct cluster_entry *entry = &disk->log.entries[i];
        const struct raft_membership *membership =
            entry->kind == RAFT_ENTRY_MEMBERSHIP ? &entry->membership : NULL;
        status = raft_restore_entries(node->raft, i, 1, entry->term, membership);
        if (status == STATUS_FULL) {
            lend(node);
            status = raft_restore_entries(node->raft, i, 1, entry->term, membership);
        }
        assert(status == STATUS_OK);
    }
    node->log = disk->log;
    if (node->log.last < disk->snapshot.index) node->log.last = disk->snapshot.index;
    node->snapshot = disk->snapshot;
    node->applied = disk->applied;
    node->queued = 0;
    node->sync_at_ns = UINT64_MAX;
    node->life++;
    node->running = true;
    memset(node->read_floor, 0xff, sizeof node->read_floor);
    status = raft_start(node->raft, clock_of(cluster, node), cluster_draw(cluster, UINT64_MAX));
    if (status != STATUS_OK) violate(cluster, node, "the disk does not fit together");
}

static void report_link(struct cluster *cluster, uint64_t id, uint64_t peer, bool up)
{
    struct raft_event event = { .type = RAFT_EVENT_LINK, .peer = peer, .up = up };
    if (cluster_node(cluster, id)->running) (void)cluster_step(cluster, id, event);
}

void cluster_crash(struct cluster *cluster, uint64_t id)
{
    struct cluster_node *node = cluster_node(cluster, id);

    /* Of what was not synced a prefix survives. */
    uint32_t survives = (uint32_t)cluster_draw(cluster, (uint64_t)node->queued + 1);
    for (uint32_t i = 0; i < survives; i++) write_operation(&node->disk, &node->queue[i]);
    node->running = false;
    node->queued = 0;
    node->sync_at_ns = UINT64_MAX;
    for (uint64_t other = 1; other <= CLUSTER_NODES; other++) {
        if (other != id) report_link(cluster, other, id, false);
    }
}

void cluster_cut(struct cluster *cluster, uint64_t a, uint64_t b, bool cut)
{
    if (cluster->cut[a - 1][b - 1] == cut && cluster->cut[b - 1][a - 1] == cut) return;
    cluster->cut[a - 1][b - 1] = cluster->cut[b - 1][a - 1] = cut;
    report_link(cluster, a, b, !cut);
    report_link(cluster, b, a, !cut);
}

void cluster_heal(struct cluster *cluster)
{
    for (uint64_t a = 1; a <= CLUSTER_NODES; a++) {
        for (uint64_t b = a + 1; b <= CLUSTER_NODES; b++) cluster_cut(cluster, a, b, false);
    }
}

struct cluster *cluster_create(const struct cluster_options *options)
{
    struct cluster *cluster = calloc(1, sizeof *cluster);

    assert(cluster != NULL);
    cluster->options = *options;
    random_seeded_init(&cluster->seeded, options->seed);
    cluster->now_ns = CONSENSUS_MILLISECOND_NS;
    struct raft_membership membership = { .count = (uint8_t)options->voters };
    for (uint32_t i = 0; i < options->voters; i++) membership.ids[i] = i + 1;
    for (uint64_t id = 1; id <= CLUSTER_NODES; id++) {
        struct cluster_node *node = cluster_node(cluster, id);
        struct raft_options raft_options = options_of(cluster, id);
        node->id = id;
        node->rate_ppm = (int64_t)cluster_draw(cluster, 80001) - 40000;
        node->clock_offset_ns = (1 + cluster_draw(cluster, 1000)) * 1000 * CONSENSUS_MILLISECOND_NS;
        node->memory = aligned_alloc(16, raft_size_bytes(&raft_options));
        assert(node->memory != NULL);
        if (id <= options->voters) node->disk.snapshot.membership = membership;
        cluster_start(cluster, id);
    }
    return cluster;
}

void cluster_destroy(struct cluster *cluster)
{
    for (int i = 0; i < CLUSTER_NODES; i++) free(cluster->nodes[i].memory);
    free(cluster);
}

static bool is_same_membership(const struct raft_membership *a, const struct raft_membership *b)
{
    return a->count == b->count && a->learners == b->learners &&
           memcmp(a->ids, b->ids, a->count * sizeof a->ids[0]) == 0;
}

/* ---- time ---- */

static void maybe_snapshot(struct cluster *cluster, struct cluster_node *node)
{
    struct raft_membership membership;
    uint64_t every = cluster->options.snapshot_every;
    struct raft_info info;

    if (every == 0 || node->applied < node->snapshot.index + every) return;
    raft_info(node->raft, &info);
    if (info.installing) return;
    uint64_t index = node->snapshot.index + every;
    if (raft_snapshot_taken(node->raft, index, &membership) != STATUS_OK) return;
    node->snapshot.index = index;
    node->snapshot.membership = membership;
    node->snapshot.term = node->log.entries[index].term;
    for (uint64_t i = index; i > 0; i--) { /* the oracle's opinion of the membership */
        if (cluster->committed[i].kind != RAFT_ENTRY_MEMBERSHIP) continue;
        if (!is_same_membership(&cluster->committed[i].membership, &membership)) {
            violate(cluster, node, "a snapshot with a membership that is not the committed one");
        }
        break;
    }
    node->disk.snapshot = node->snapshot;
    if (node->disk.applied < index) node->disk.applied = index;
    raft_compact(node->raft, index > 4 ? index - 4 : 0);
}

bool cluster_advance(struct cluster *cluster, uint64_t until_ns)
{
    uint64_t at = until_ns;
    int packet = -1, sync = -1, tick = -1;

    for (uint32_t i = 0; i < cluster->network_count; i++) {
        if (cluster->network[i].at_ns > at) continue;
        at = cluster->network[i].at_ns;
        packet = (int)i;
    }
    for (int i = 0; i < CLUSTER_NODES; i++) {
        const struct cluster_node *node = &cluster->nodes[i];
        if (!node->running) continue;
        uint64_t deadline = world_time(cluster, node, raft_next_deadline_ns(node->raft));
        if (node->sync_at_ns <= at) {
            at = node->sync_at_ns;
            sync = i;
            packet = tick = -1;
        }
        if (deadline < at) {
            at = deadline;
            tick = i;
            packet = sync = -1;
        }
    }
    if (cluster->now_ns < at) cluster->now_ns = at;
    if (sync >= 0) {
        sync_ended(cluster, &cluster->nodes[sync]);
        maybe_snapshot(cluster, &cluster->nodes[sync]);
    } else if (tick >= 0) {
        (void)cluster_step(cluster, (uint64_t)tick + 1,
                           (struct raft_event) { .type = RAFT_EVENT_TICK });
    } else if (packet >= 0) {
        struct cluster_packet taken = cluster->network[packet];
        cluster->network[packet] = cluster->network[--cluster->network_count];
        cluster_deliver(cluster, &taken);
    } else {
        return false;
    }
    return true;
}

void cluster_run(struct cluster *cluster, uint64_t duration_ns)
{
    uint64_t until = cluster->now_ns + duration_ns;
    while (cluster->violation == NULL && cluster_advance(cluster, until)) {
    }
}

/* ---- requests ---- */

enum status cluster_propose(struct cluster *cluster, uint64_t id, uint32_t count)
{
    return cluster_step(
        cluster, id,
        (struct raft_event) { .type = RAFT_EVENT_PROPOSE, .count = count, .bytes = count });
}

enum status cluster_read(struct cluster *cluster, uint64_t id)
{
    struct cluster_node *node = cluster_node(cluster, id);
    uint64_t read = ++node->read_id;
    node->read_floor[read % CLUSTER_READS_MAX] = cluster->committed_last;
    enum status status =
        cluster_step(cluster, id, (struct raft_event) { .type = RAFT_EVENT_READ, .id = read });
    if (status != STATUS_OK) node->read_floor[read % CLUSTER_READS_MAX] = UINT64_MAX;
    return status;
}

enum status cluster_change(struct cluster *cluster, uint64_t id, enum raft_change change,
                           uint64_t peer)
{
    return cluster_step(
        cluster, id,
        (struct raft_event) { .type = RAFT_EVENT_CHANGE, .change = change, .peer = peer });
}

enum status cluster_transfer(struct cluster *cluster, uint64_t id, uint64_t to)
{
    return cluster_step(cluster, id,
                        (struct raft_event) { .type = RAFT_EVENT_TRANSFER, .peer = to });
}

uint64_t cluster_leader(struct cluster *cluster)
{
    uint64_t leader = 0, term = 0;
    for (uint64_t id = 1; id <= CLUSTER_NODES; id++) {
        struct cluster_node *node = cluster_node(cluster, id);
        struct raft_info info;
        if (!node->running) continue;
        raft_info(node->raft, &info);
        if (info.role != RAFT_LEADER || info.term < term) continue;
        leader = id;
        term = info.term;
    }
    return leader;
}
