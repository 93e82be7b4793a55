#include "replica/internal.h"

#include "base/checksum.h"
#include "replica/keys.h"

#include <assert.h>
#include <stdlib.h>

enum { GROUP_STATE_FORMAT_VERSION = 1 };

/* --- the state record --------------------------------------------------------------------------
 */

void group_state_encode(const struct group_state *state, struct writer *writer)
{
    writer_put_u8(writer, GROUP_STATE_FORMAT_VERSION);
    for (unsigned i = 0; i < 7; i++) writer_put_u8(writer, 0);
    writer_put_u64(writer, state->term);
    writer_put_u64(writer, state->vote);
    writer_put(writer, state->machine.bytes, ID_BYTES);
    writer_put(writer, state->disk_incarnation.bytes, ID_BYTES);
    raft_membership_encode(&state->first_membership, writer);
}

enum status group_state_decode(struct bytes bytes, struct group_state *ret_state,
                               struct error *error)
{
    struct reader reader = reader_of(bytes.data, bytes.size);
    struct group_state state = { 0 };
    uint8_t version = reader_u8(&reader);
    if (!reader.failed && version > GROUP_STATE_FORMAT_VERSION) {
        return error_set(error, STATUS_UNSUPPORTED,
                         "its state record has format %u, this release knows %u", version,
                         GROUP_STATE_FORMAT_VERSION);
    }
    bool reserved_is_zero = true;
    for (unsigned i = 0; i < 7; i++) reserved_is_zero &= reader_u8(&reader) == 0;
    state.term = reader_u64(&reader);
    state.vote = reader_u64(&reader);
    const uint8_t *machine = reader_take(&reader, ID_BYTES);
    const uint8_t *incarnation = reader_take(&reader, ID_BYTES);
    if (machine != NULL) memcpy(state.machine.bytes, machine, ID_BYTES);
    if (incarnation != NULL) memcpy(state.disk_incarnation.bytes, incarnation, ID_BYTES);
    if (reader.failed || version != GROUP_STATE_FORMAT_VERSION || !reserved_is_zero ||
        raft_membership_decode(&reader, &state.first_membership) != STATUS_OK ||
        reader_left(&reader) != 0) {
        return error_set(error, STATUS_CORRUPT, "its state record in the journal is damaged");
    }
    *ret_state = state;
    return STATUS_OK;
}

uint64_t replica_id_of(const struct id *machine, const struct id *disk_incarnation)
{
    uint8_t both[2 * ID_BYTES];
    memcpy(both, machine->bytes, ID_BYTES);
    memcpy(both + ID_BYTES, disk_incarnation->bytes, ID_BYTES);
    uint64_t id = hash64(both, sizeof both, 0);
    return id == 0 ? 1 : id;
}

/* --- recovery ----------------------------------------------------------------------------------
 */

/* What recovery of one group needs at hand. */
struct recovery {
    struct replica *replica;
    struct journal_group journal; /* meaningful when known */
    bool known;                   /* the journal has a record of the group */
};

static bool is_member(const struct replica_host *host, const struct group_description *group)
{
    if (group->member_count == 0) return true;
    for (uint32_t i = 0; i < group->member_count; i++) {
        if (id_equal(&group->members[i], &host->options.machine)) return true;
    }
    return false;
}

static enum status read_state(struct recovery *recovery, struct error *error)
{
    struct replica *replica = recovery->replica;
    struct replica_host *host = replica->host;
    enum status status =
        journal_find_group(host->journal, replica->description.group, &recovery->journal);
    if (status == STATUS_OK && recovery->journal.state.size > 0) {
        recovery->known = true;
        status = group_state_decode(recovery->journal.state, &replica->state, error);
        if (status != STATUS_OK) return status;
        if (!id_equal(&replica->state.machine, &host->options.machine) ||
            !id_equal(&replica->state.disk_incarnation, &host->options.disk_incarnation)) {
            return error_set(error, STATUS_CORRUPT,
                             "its state record in the journal is of another machine or disk");
        }
        return STATUS_OK;
    }
    if (status == STATUS_OK) {
        return error_set(error, STATUS_CORRUPT,
                         "the journal has entries of it but no state record");
    }
    if (status != STATUS_NOT_FOUND) {
        return error_set(error, status, "the journal can't be read (%s)", status_name(status));
    }
    replica->state = (struct group_state) { .machine = host->options.machine,
                                            .disk_incarnation = host->options.disk_incarnation };
    /* Only who makes a group starts it, as its only voter; all others are added to it. */
    bool founder = replica->description.group == DIRECTORY_GROUP
                       ? !host->options.joining
                       : is_member(host, &replica->description);
    if (founder) {
        replica->state.first_membership =
            (struct raft_membership) { .ids = { host->replica_id }, .count = 1 };
    }
    replica->state_dirty = true;
    return STATUS_OK;
}

/* Do store and journal fit together? */
static enum status check_range(const struct recovery *recovery, struct error *error)
{
    uint64_t applied = recovery->replica->applier.applied.index;
    const struct journal_group *journal = &recovery->journal;
    if (!recovery->known) {
        if (applied == 0) return STATUS_OK;
        return error_set(error, STATUS_CORRUPT,
                         "the store has it up to entry %llu and the journal does not know it",
                         (unsigned long long)applied);
    }
    if (journal->last_index < journal->first_index) return STATUS_OK; /* all were released */
    if (journal->last_index < applied) {
        return error_set(error, STATUS_CORRUPT,
                         "the store has applied entry %llu, the journal ends at %llu",
                         (unsigned long long)applied, (unsigned long long)journal->last_index);
    }
    if (journal->first_index > applied + 1) {
        return error_set(error, STATUS_CORRUPT,
                         "the store has applied entry %llu, the journal begins at %llu",
                         (unsigned long long)applied, (unsigned long long)journal->first_index);
    }
    return STATUS_OK;
}

static enum status restore_run(struct replica *replica, uint64_t first, uint32_t count,
                               uint64_t term, const struct raft_membership *membership)
{
    if (count == 0) return STATUS_OK;
    for (;;) {
        enum status status = raft_restore_entries(replica->raft, first, count, term, membership);
        if (status != STATUS_FULL) return status;
        status = replica_lend_runs(replica);
        if (status != STATUS_OK) return status;
    }
}

/* Followers may lack what stands at the end of the log: keep it at hand. */
static enum status keep_for_followers(const struct recovery *recovery, uint64_t index,
                                      uint64_t term, const struct buffer *buffer)
{
    struct replica *replica = recovery->replica;
    if (replica->host->options.transport == NULL) return STATUS_OK;
    if (recovery->journal.last_index - index >= ENTRIES_FOR_FOLLOWERS) return STATUS_OK;
    uint8_t *copy = malloc(buffer->used);
    if (copy == NULL) return STATUS_NO_MEMORY;
    memcpy(copy, buffer->data, buffer->used);
    enum status status =
        log_cache_append(&replica->cache, index, term, copy, (uint32_t)buffer->used);
    if (status != STATUS_OK) free(copy);
    return status;
}

/* Tell consensus which terms and memberships the journal holds behind the store. Suspends. */
static enum status restore_entries(struct recovery *recovery, struct buffer *buffer,
                                   struct error *error)
{
    struct replica *replica = recovery->replica;
    uint64_t run_first = 0;
    uint64_t run_term = 0;
    uint32_t run_count = 0;
    enum status status = STATUS_OK;

    for (uint64_t index = replica->applier.applied.index + 1; index <= recovery->journal.last_index;
         index++) {
        uint64_t term;
        struct entry entry;
        status =
            journal_read(replica->host->journal, replica->description.group, index, &term, buffer);
        if (status == STATUS_OK && entry_decode(buffer->data, buffer->used, &entry) != DECODE_OK) {
            status = STATUS_CORRUPT;
        }
        if (status != STATUS_OK) {
            return error_set(error, status, "entry %llu can't be read from the journal (%s)",
                             (unsigned long long)index, status_name(status));
        }
        if (entry.computer_time_ms > replica->log_time_ms) {
            replica->log_time_ms = entry.computer_time_ms;
        }
        status = keep_for_followers(recovery, index, term, buffer);
        if (status != STATUS_OK) break;
        struct raft_membership membership;
        bool is_membership = entry.kind == ENTRY_MEMBERSHIP;
        if (is_membership) {
            struct reader reader = reader_of(entry.payload.data, entry.payload.size);
            status = raft_membership_decode(&reader, &membership);
            if (status != STATUS_OK) break;
        }
        if (is_membership || term != run_term) {
            status = restore_run(replica, run_first, run_count, run_term, NULL);
            if (status != STATUS_OK) break;
            run_count = 0;
        }
        if (is_membership) {
            status = restore_run(replica, index, 1, term, &membership);
            if (status != STATUS_OK) break;
            continue;
        }
        if (run_count == 0) run_first = index;
        run_term = term;
        run_count++;
    }
    if (status == STATUS_OK) status = restore_run(replica, run_first, run_count, run_term, NULL);
    if (status == STATUS_OK) return STATUS_OK;
    return error_set(error, status, "the journal's entries contradict each other (%s)",
                     status_name(status));
}

static enum status start_consensus(struct recovery *recovery, struct error *error)
{
    struct replica *replica = recovery->replica;
    struct replica_host *host = replica->host;
    const struct applied *applied = &replica->applier.applied;
    struct raft_options options = { .group = replica->description.group, .id = host->replica_id };
    struct raft_persisted persisted = {
        .term = replica->state.term,
        .vote = replica->state.vote,
        .snapshot_index = applied->index,
        .snapshot_term = applied->term,
        .membership = applied->membership,
        .applied = applied->index,
    };
    replica->raft_memory = aligned_alloc(16, (raft_size_bytes(&options) + 15) & ~(size_t)15);
    if (replica->raft_memory == NULL) return STATUS_NO_MEMORY;
    enum status status = raft_init(replica->raft_memory, &options, &persisted, &replica->raft);
    if (status != STATUS_OK) {
        return error_set(error, STATUS_CORRUPT, "store and journal contradict each other");
    }
    replica->log_time_ms = applied->computer_time_ms;
    replica->staged_index = applied->index;
    replica->released_index = applied->index;
    if (recovery->known && recovery->journal.last_index >= recovery->journal.first_index) {
        struct buffer buffer;
        buffer_init(&buffer, LIMIT_ENTRY_BYTES_MAX);
        status = restore_entries(recovery, &buffer, error);
        buffer_finish(&buffer);
        if (status != STATUS_OK) return status;
        replica->staged_index = recovery->journal.last_index;
        replica->released_index = recovery->journal.first_index - 1;
    }
    uint64_t random;
    random_u64(&host->jitter.random, &random);
    status = raft_start(replica->raft, host_now_ns(host), random);
    if (status == STATUS_OK) return STATUS_OK;
    return error_set(error, status, "the log ends before what was applied, or is of a later term");
}

static enum status make_machine(struct replica *replica, struct error *error)
{
    struct replica_host *host = replica->host;
    for (size_t i = 0; i < host->kind_count; i++) {
        const struct state_machine_kind *kind = &host->kinds[i];
        if (strcmp(kind->kind, replica->description.kind) != 0) continue;
        return kind->create(kind->context, &replica->description, &replica->machine, error);
    }
    return error_set(error, STATUS_UNSUPPORTED, "this release has no kind of group named \"%s\"",
                     replica->description.kind);
}

static enum status recover(struct replica *replica, struct error *error)
{
    struct recovery recovery = { .replica = replica };
    struct store_range range = { .store = replica->host->store,
                                 .group = replica->description.group,
                                 .generation = REPLICA_GENERATION_FIRST };
    struct session_limits limits = { 0 };
    enum status status = make_machine(replica, error);
    if (status == STATUS_OK) status = applier_init(&replica->applier, &range, &limits);
    if (status == STATUS_OK) status = read_state(&recovery, error);
    if (status == STATUS_OK) {
        status = applier_open(&replica->applier, replica->machine, &replica->state.first_membership,
                              error);
    }
    if (status == STATUS_OK) status = check_range(&recovery, error);
    if (status == STATUS_OK) status = start_consensus(&recovery, error);
    return status;
}

bool replica_is_only_member(const struct replica *replica)
{
    uint64_t index;
    const struct raft_membership *membership = raft_membership(replica->raft, &index);
    return membership->count == 1 && membership->ids[0] == replica->host->replica_id;
}

struct replica *host_find_group(struct replica_host *host, uint64_t group)
{
    struct replica wanted = { .description = { .group = group } };
    return RB_FIND(replica_group_tree, &host->by_group, &wanted);
}

enum status replica_open(struct replica_host *host, const struct group_description *description,
                         struct replica **ret_replica, struct error *error)
{
    struct replica *replica = calloc(1, sizeof *replica);
    if (replica == NULL) return STATUS_NO_MEMORY;
    replica->host = host;
    replica->description = *description;
    TAILQ_INIT(&replica->proposals);
    TAILQ_INIT(&replica->barriers);
    condition_init(&replica->changed);

    enum status status = recover(replica, error);
    if (status != STATUS_OK) {
        replica_shut(replica);
        replica_free(replica);
        return error_wrap(error, status, "group %llu (%s %s)",
                          (unsigned long long)description->group, description->kind,
                          description->name);
    }
    replica->open = true;
    RB_INSERT(replica_group_tree, &host->by_group, replica);
    RB_INSERT(replica_name_tree, &host->by_name, replica);
    if (replica->state_dirty) replica_mark_dirty(replica);
    /* Alone there is nobody to wait for. */
    struct raft_event event = { .type = RAFT_EVENT_CAMPAIGN };
    if (!replica_is_only_member(replica)) event.type = RAFT_EVENT_TICK;
    replica_tell(replica, &event);
    *ret_replica = replica;
    return STATUS_OK;
}

enum status replica_wait_ready(struct replica *replica, struct error *error)
{
    struct replica_host *host = replica->host;
    /* With others, or not a member yet, readiness is up to them. */
    if (!replica_is_only_member(replica)) return STATUS_OK;
    while (host_is_running(host) && replica->open) {
        struct raft_info info;
        raft_info(replica->raft, &info);
        bool ready = replica->is_leader && info.commit >= info.last &&
                     replica->applier.applied.index >= info.commit;
        if (ready) return STATUS_OK;
        enum status status = condition_wait(&replica->changed, DEADLINE_NEVER);
        if (status != STATUS_OK) return error_set(error, status, "cancelled while recovering");
    }
    if (host->stopped != STATUS_OK && error != NULL) *error = host->stopped_error;
    return host->stopped != STATUS_OK ? host->stopped : STATUS_UNAVAILABLE;
}

void replica_shut(struct replica *replica)
{
    struct replica_host *host = replica->host;
    bool was_open = replica->open;
    replica->open = false;
    replica->is_leader = false;
    if (was_open) {
        enum status status = host->stopped == STATUS_OK ? STATUS_UNAVAILABLE : STATUS_IO;
        replica_fail_proposals(replica, 0, status);
        replica_fail_barriers(replica, UINT64_MAX, status);
        condition_broadcast(&replica->changed);
    }
    if (replica->has_deadline) {
        RB_REMOVE(replica_deadline_tree, &host->by_deadline, replica);
        replica->has_deadline = false;
    }
    log_cache_finish(&replica->cache);
    applier_finish(&replica->applier);
    if (replica->machine != NULL) replica->machine->operations->close(replica->machine);
    replica->machine = NULL;
    free(replica->raft_memory);
    replica->raft_memory = NULL;
    replica->raft = NULL;
    free(replica->runs);
    replica->runs = NULL;
}

void replica_free(struct replica *replica)
{
    free(replica);
}
