#include "replica/internal.h"

#include <assert.h>
#include <stdlib.h>

#define JOURNAL_FOLDER "journal"
#define STORE_FOLDER   "store"

static const uint64_t TIME_ENTRY_PAUSE_NS = 1000000; /* computer time has milliseconds */

static int compare_numbers(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_group(const struct replica *a, const struct replica *b)
{
    return compare_numbers(a->description.group, b->description.group);
}

/* Of two with one name, the one that was removed before has the lower number: it may stay. */
static int compare_name(const struct replica *a, const struct replica *b)
{
    int order = strcmp(a->description.kind, b->description.kind);
    if (order == 0) order = strcmp(a->description.name, b->description.name);
    return order;
}

static int compare_deadline(const struct replica *a, const struct replica *b)
{
    int order = compare_numbers(a->deadline_ns, b->deadline_ns);
    return order != 0 ? order : compare_group(a, b);
}

RB_GENERATE_INTERNAL(replica_group_tree, replica, by_group, compare_group, )
RB_GENERATE_INTERNAL(replica_name_tree, replica, by_name, compare_name, )
RB_GENERATE_INTERNAL(replica_deadline_tree, replica, by_deadline, compare_deadline, )

bool host_is_running(const struct replica_host *host)
{
    return host->stopped == STATUS_OK && !host->closing;
}

uint64_t host_now_ns(struct replica_host *host)
{
    uint64_t now_ns;
    clock_monotonic_ns(host->options.clock, &now_ns);
    return now_ns;
}

/* --- stop --------------------------------------------------------------------------------------
 */

static void wake_everyone(struct replica_host *host)
{
    condition_broadcast(&host->writer_wake);
    condition_broadcast(&host->applier_wake);
    condition_broadcast(&host->timer_wake);
    condition_broadcast(&host->releaser_wake);
    condition_broadcast(&host->groups_wake);
    condition_broadcast(&host->maintainer_wake);
}

static void fail_everyone(struct replica_host *host, enum status status)
{
    struct replica *replica;
    RB_FOREACH (replica, replica_group_tree, &host->by_group) {
        replica_fail_proposals(replica, 0, status);
        replica_fail_barriers(replica, UINT64_MAX, status);
        condition_broadcast(&replica->changed);
    }
    wake_everyone(host);
}

void host_stop(struct replica_host *host, enum status status, const struct error *error)
{
    assert(status != STATUS_OK);
    if (host->stopped != STATUS_OK) return;
    host->stopped = status;
    host->stopped_error = *error;
    if (error->text[0] == '\0') error_set(&host->stopped_error, status, "%s", status_name(status));
    struct replica *replica;
    RB_FOREACH (replica, replica_group_tree, &host->by_group) {
        if (!replica->open) continue;
        struct raft_event event = { .type = RAFT_EVENT_WRITE_FAILED, .now_ns = host_now_ns(host) };
        /* Its actions have nobody left to carry them out. */
        enum status ended = raft_step(replica->raft, &event, &host->actions);
        assert(ended == STATUS_OK || ended == STATUS_IO || ended == STATUS_CORRUPT);
        host->actions.count = 0;
    }
    fail_everyone(host, STATUS_IO);
}

enum status replica_host_health(const struct replica_host *host, struct error *error)
{
    if (host->stopped == STATUS_OK) return STATUS_OK;
    return error_set(error, host->stopped, "%s", host->stopped_error.text);
}

/* --- timers ------------------------------------------------------------------------------------
 */

static uint64_t machine_deadline_ns(const struct replica *replica)
{
    if (!replica->is_leader) return UINT64_MAX;
    const struct state_machine_operations *operations = replica->machine->operations;
    uint64_t deadline_ms = operations->next_deadline_ms(replica->machine);
    if (deadline_ms == UINT64_MAX) return UINT64_MAX;
    uint64_t wait_ms =
        deadline_ms > replica->time_base_ms ? deadline_ms - replica->time_base_ms : 0;
    enum { TIME_FACTOR = 1000000 };
    /* Centuries away: never. */
    if (wait_ms > (UINT64_MAX - replica->time_base_ns) / TIME_FACTOR) return UINT64_MAX;
    uint64_t deadline_ns = replica->time_base_ns + wait_ms * TIME_FACTOR;
    return deadline_ns > replica->time_not_before_ns ? deadline_ns : replica->time_not_before_ns;
}

void host_update_deadline(struct replica *replica)
{
    struct replica_host *host = replica->host;
    uint64_t deadline_ns = UINT64_MAX;
    if (replica->open) {
        /* A leader without peers has nobody to send a heartbeat to: no ticks. */
        bool ticks = !(replica->is_leader && replica_is_only_member(replica));
        if (ticks) deadline_ns = raft_next_deadline_ns(replica->raft);
        uint64_t machine_ns = machine_deadline_ns(replica);
        if (machine_ns < deadline_ns) deadline_ns = machine_ns;
    }
    if (replica->has_deadline && replica->deadline_ns == deadline_ns) return;
    if (replica->has_deadline) RB_REMOVE(replica_deadline_tree, &host->by_deadline, replica);
    replica->has_deadline = deadline_ns != UINT64_MAX;
    replica->deadline_ns = deadline_ns;
    if (!replica->has_deadline) return;
    RB_INSERT(replica_deadline_tree, &host->by_deadline, replica);
    if (deadline_ns < host->timer_sleeps_until_ns) condition_signal(&host->timer_wake);
}

static void run_timer(struct replica *replica, uint64_t now_ns)
{
    struct replica_host *host = replica->host;
    if (machine_deadline_ns(replica) <= now_ns) {
        /* Not again before this one is likely applied. */
        replica->time_not_before_ns = now_ns + TIME_ENTRY_PAUSE_NS;
        /* What refuses it now is asked again after the pause. */
        enum status status = replica_propose_time(replica);
        if (status != STATUS_OK && !host_is_running(host)) return;
    }
    if (host_is_running(host) && raft_next_deadline_ns(replica->raft) <= now_ns) {
        struct raft_event event = { .type = RAFT_EVENT_TICK };
        replica_tell(replica, &event);
    }
    if (host_is_running(host)) host_update_deadline(replica);
}

static void timer_fiber(void *argument)
{
    struct replica_host *host = argument;
    while (host_is_running(host)) {
        struct replica *first = RB_MIN(replica_deadline_tree, &host->by_deadline);
        uint64_t now_ns = host_now_ns(host);
        if (first != NULL && first->deadline_ns <= now_ns) {
            run_timer(first, now_ns);
            /* One that is due again at once must not keep the others from running. */
            if (first->has_deadline && first->deadline_ns <= now_ns &&
                fiber_yield() == STATUS_CANCELLED) {
                return;
            }
            continue;
        }
        host->timer_sleeps_until_ns = first == NULL ? DEADLINE_NEVER : first->deadline_ns;
        enum status status = condition_wait(&host->timer_wake, host->timer_sleeps_until_ns);
        host->timer_sleeps_until_ns = 0;
        if (status == STATUS_CANCELLED) return;
    }
}

/* --- open --------------------------------------------------------------------------------------
 */

/* Is this our folder? A new one becomes ours. */
static enum status check_superblock(struct replica_host *host, struct error *error)
{
    struct disk *disk = host->options.disk;
    enum status status = superblock_lock(disk, error);
    if (status != STATUS_OK) return status;
    struct superblock wanted = { .computer = host->options.computer,
                                 .machine = host->options.machine,
                                 .disk_incarnation = host->options.disk_incarnation,
                                 .feature_level = FEATURE_LEVEL_FIRST };
    struct superblock found;
    status = superblock_read(disk, &found, error);
    if (status == STATUS_NOT_FOUND) {
        host->superblock = wanted;
        return superblock_write(disk, &wanted, error);
    }
    if (status != STATUS_OK) return status;
    if (!id_equal(&found.computer, &wanted.computer)) {
        return error_set(error, STATUS_CONFLICT, "the folder belongs to another computer");
    }
    if (!id_equal(&found.machine, &wanted.machine) ||
        !id_equal(&found.disk_incarnation, &wanted.disk_incarnation)) {
        return error_set(error, STATUS_CONFLICT, "the folder belongs to another machine or disk");
    }
    host->superblock = found;
    return STATUS_OK;
}

static enum status open_journal(struct replica_host *host, struct error *error)
{
    struct journal_options options = {
        .folder = JOURNAL_FOLDER,
        .segment_bytes = host->options.journal_segment_bytes,
        .total_bytes_max = host->options.journal_bytes_max,
        .disk_incarnation = host->options.disk_incarnation,
        .must_exist = (host->superblock.flags & SUPERBLOCK_JOURNAL_MADE) != 0,
    };
    return journal_open(host->options.disk, &options, &host->journal, error);
}

enum status host_note_journal(struct replica_host *host, struct error *error)
{
    bool noted = (host->superblock.flags & SUPERBLOCK_JOURNAL_MADE) != 0;
    if (noted || journal_figures(host->journal).flushes == 0) return STATUS_OK;
    host->superblock.flags |= SUPERBLOCK_JOURNAL_MADE;
    return superblock_write(host->options.disk, &host->superblock, error);
}

/* RocksDB opens and recovers: on a worker, for it blocks. */
struct store_opening {
    struct replica_host *host;
    struct error *error;
    enum status status;
};

static void open_store(void *argument)
{
    struct store_opening *opening = argument;
    struct replica_host *host = opening->host;
    struct store_options options = { .folder = STORE_FOLDER,
                                     .memtable_bytes = host->options.store_memtable_bytes,
                                     .simulation = host->options.simulation };
    opening->status = store_open(host->options.store_disk, &options, &host->store, opening->error);
}

/* RocksDB writes a little when it opens, and what it recovers may have to be flushed: on a full
 * disk the reserve is there for that, so that reads go on. */
static enum status make_room_to_open(struct replica_host *host, struct error *error)
{
    enum status status = room_look(host);
    if (status == STATUS_OK && host->free_bytes < SUPERBLOCK_RESERVE_BYTES)
        status = room_give_reserve(host);
    return status == STATUS_OK ? status : error_set(error, status, "the disk failed");
}

static enum status open_disk(struct replica_host *host, struct error *error)
{
    enum status status = check_superblock(host, error);
    if (status == STATUS_OK) status = make_room_to_open(host, error);
    if (status != STATUS_OK) return status;
    struct store_opening opening = { .host = host, .error = error };
    status = worker_run(host->options.reactor, open_store, &opening);
    if (status == STATUS_OK) status = opening.status;
    if (status != STATUS_OK) return error_wrap(error, status, "the store");
    status = open_journal(host, error);
    if (status != STATUS_OK) return error_wrap(error, status, "the journal");
    return STATUS_OK;
}

static void directory_changed(void *context)
{
    struct replica_host *host = context;
    host->directory_changed = true;
    condition_signal(&host->groups_wake);
}

static enum status create_directory(void *context, const struct group_description *group,
                                    struct state_machine **ret_machine, struct error *error)
{
    (void)group;
    (void)error;
    return directory_create(directory_changed, context, ret_machine);
}

static void init_host(struct replica_host *host, const struct replica_host_options *options)
{
    host->options = *options;
    host->replica_id = replica_id_of(&options->machine, &options->disk_incarnation);
    uint64_t seed;
    random_u64(options->random, &seed);
    random_seeded_init(&host->jitter, seed);
    RB_INIT(&host->by_group);
    RB_INIT(&host->by_name);
    RB_INIT(&host->by_deadline);
    TAILQ_INIT(&host->dirty);
    TAILQ_INIT(&host->flushing);
    TAILQ_INIT(&host->applying);
    TAILQ_INIT(&host->unreleased);
    condition_init(&host->writer_wake);
    condition_init(&host->applier_wake);
    condition_init(&host->timer_wake);
    condition_init(&host->releaser_wake);
    condition_init(&host->groups_wake);
    condition_init(&host->maintainer_wake);
    condition_init(&host->callers_gone);
    buffer_init(&host->payload, RAFT_PAYLOAD_BYTES_MAX);
}

static void free_host(struct replica_host *host)
{
    struct replica *replica;
    struct replica *next;
    for (replica = RB_MIN(replica_group_tree, &host->by_group); replica != NULL; replica = next) {
        next = RB_NEXT(replica_group_tree, &host->by_group, replica);
        RB_REMOVE(replica_group_tree, &host->by_group, replica);
        replica_shut(replica);
        replica_free(replica);
    }
    journal_close(host->journal);
    store_close(host->store);
    buffer_finish(&host->payload);
    free(host);
}

enum status replica_host_open(const struct replica_host_options *options,
                              struct replica_host **ret_host, struct error *error)
{
    struct replica_host *host = calloc(1, sizeof *host);
    if (host == NULL) return STATUS_NO_MEMORY;
    init_host(host, options);
    struct state_machine_kind directory = { .kind = DIRECTORY_KIND,
                                            .create = create_directory,
                                            .context = host };
    enum status status = replica_register_kind(host, &directory);
    if (status == STATUS_OK) status = open_disk(host, error);
    if (status != STATUS_OK) {
        free_host(host);
        return status;
    }
    scope_init(&host->scope, options->scope);
    status = scope_spawn(&host->scope, "log writer", writer_fiber, host);
    if (status == STATUS_OK) status = scope_spawn(&host->scope, "applier", applier_fiber, host);
    if (status == STATUS_OK) status = scope_spawn(&host->scope, "group timers", timer_fiber, host);
    if (status == STATUS_OK) status = scope_spawn(&host->scope, "release", release_fiber, host);
    if (status == STATUS_OK) status = scope_spawn(&host->scope, "journal", maintainer_fiber, host);
    if (status != STATUS_OK) {
        replica_host_close(host);
        return error_set(error, status, "no fibers for the log (%s)", status_name(status));
    }
    *ret_host = host;
    return STATUS_OK;
}

void replica_host_close(struct replica_host *host)
{
    if (host == NULL) return;
    host->closing = true;
    fail_everyone(host, STATUS_CANCELLED);
    scope_cancel(&host->scope);
    scope_join(&host->scope);
    fiber_shield();
    while (host->caller_count > 0) {
        enum status status = condition_wait(&host->callers_gone, DEADLINE_NEVER);
        assert(status == STATUS_OK);
    }
    if (host->stopped == STATUS_OK) writer_mark_synced(host);
    fiber_unshield();
    free_host(host);
}

enum status replica_register_kind(struct replica_host *host, const struct state_machine_kind *kind)
{
    if (host->kind_count >= KINDS_MAX) return STATUS_FULL;
    if (!directory_name_valid(kind->kind, GROUP_KIND_BYTES_MAX)) return STATUS_INVALID;
    for (size_t i = 0; i < host->kind_count; i++) {
        if (strcmp(host->kinds[i].kind, kind->kind) == 0) return STATUS_EXISTS;
    }
    host->kinds[host->kind_count++] = *kind;
    return STATUS_OK;
}

/* --- from other machines -----------------------------------------------------------------------
 */

/* Is the payload of an append exactly its entries, each whole? */
static bool append_is_sound(const struct replica *replica, const struct raft_message *message,
                            struct bytes payload)
{
    struct reader reader = reader_of(payload.data, payload.size);
    for (uint32_t i = 0; i < message->count; i++) {
        uint32_t size = reader_u32(&reader);
        const uint8_t *bytes = reader_take(&reader, size);
        struct entry entry;
        if (bytes == NULL || entry_decode(bytes, size, &entry) != DECODE_OK) return false;
        if (entry.group != replica->description.group) return false;
        uint64_t index = message->index + 1 + i;
        if ((entry.kind == ENTRY_MEMBERSHIP) != (message->membership_index == index)) return false;
    }
    return reader_left(&reader) == 0 && !reader.failed;
}

void replica_host_receive(struct replica_host *host, const struct raft_message *message,
                          struct bytes payload)
{
    if (!host_is_running(host)) return;
    struct replica *replica = host_find_group(host, message->group);
    if (replica == NULL || !replica->open) return;
    if (message->payload_bytes != payload.size) return;
    if (message->type == RAFT_MESSAGE_SNAPSHOT) return; /* the bulk lane carries them */
    if (message->type == RAFT_MESSAGE_APPEND && !append_is_sound(replica, message, payload)) return;
    struct raft_event event = { .type = RAFT_EVENT_MESSAGE, .message = message };
    struct step_input input = { .payload = payload };
    enum status status = replica_step(replica, &event, &input);
    assert(status != STATUS_FULL); /* a message is not a proposal: it is taken or it ends us */
}

void replica_host_link(struct replica_host *host, uint64_t peer, bool up)
{
    struct replica *replica;
    RB_FOREACH (replica, replica_group_tree, &host->by_group) {
        if (!host_is_running(host)) return;
        if (!replica->open) continue;
        struct raft_event event = { .type = RAFT_EVENT_LINK, .peer = peer, .up = up };
        replica_tell(replica, &event);
    }
}

/* --- figures -----------------------------------------------------------------------------------
 */

const struct store_range *replica_range(const struct replica *replica)
{
    return &replica->applier.range;
}

struct state_machine *replica_machine(const struct replica *replica)
{
    return replica->machine;
}

uint64_t replica_computer_time_ms(const struct replica *replica)
{
    if (!replica->is_leader) return replica->applier.applied.computer_time_ms;
    return replica_leader_time_ms((struct replica *)replica);
}

struct replica_figures replica_figures(const struct replica *replica)
{
    struct replica_figures figures = {
        .group = replica->description.group,
        .applied_index = replica->applier.applied.index,
        .commit_index = replica->commit_index,
        .running_hash = replica->applier.applied.running_hash,
        .is_leader = replica->is_leader,
    };
    if (!replica->open) return figures;
    figures.computer_time_ms = replica_computer_time_ms(replica);
    struct raft_info info;
    raft_info(replica->raft, &info);
    figures.term = info.term;
    figures.first_index = info.first;
    figures.last_index = info.last;
    return figures;
}
