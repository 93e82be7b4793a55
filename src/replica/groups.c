/* Groups: what the directory says, made so on this machine. */
#include "replica/internal.h"

#include "replica/keys.h"

enum {
    POLL_NS_FIRST = 5000000,
    POLL_NS_MAX = 200000000,
    POLLS_MAX = 300, /* about a minute: the device writes at most two memtables */
};

/* A change of the directory is small and rare; it does not wait for long. */
static const uint64_t DIRECTORY_TIMEOUT_NS = UINT64_C(30) * 1000 * 1000 * 1000;

/* --- removal -----------------------------------------------------------------------------------
 */

/* Delete the group's whole range, and see it gone from stable storage: only then may the journal
 * forget the group, or a crash between would leave keys that nobody owns. Suspends. */
static enum status delete_range(struct replica_host *host, uint64_t group, struct error *error)
{
    static const uint8_t first[] = { 0 };
    /* No key of a state machine begins with 0xff (replica/state_machine.h). */
    static const uint8_t last[] = { 0xff };
    static const uint8_t applied_key[] = { STATE_MACHINE_RESERVED_PREFIX, REPLICA_KEY_APPLIED };
    struct store_range range = { .store = host->store,
                                 .group = group,
                                 .generation = REPLICA_GENERATION_FIRST };
    struct store_batch *batch;
    enum status status = store_batch_create(host->store, &batch);
    if (status != STATUS_OK) return status;
    store_batch_delete_range(batch, &range, bytes_of(first, 0), bytes_of(last, sizeof last));
    uint64_t wait_ns = POLL_NS_FIRST;
    do {
        status = store_write(host->store, batch, error);
        if (status == STATUS_BUSY && fiber_sleep_ns(wait_ns) != STATUS_OK)
            status = STATUS_CANCELLED;
    } while (status == STATUS_BUSY);
    store_batch_destroy(batch);

    struct buffer buffer;
    buffer_init(&buffer, 2ull * APPLIED_BYTES_MAX);
    for (unsigned i = 0; status == STATUS_OK && i < POLLS_MAX; i++) {
        status = store_get_persisted(&range, bytes_of(applied_key, sizeof applied_key), &buffer);
        if (status != STATUS_OK) break;
        status = release_flush_store(host, error);
        if (status == STATUS_OK) status = fiber_sleep_ns(wait_ns);
        if (wait_ns < POLL_NS_MAX) wait_ns *= 2;
    }
    buffer_finish(&buffer);
    if (status == STATUS_NOT_FOUND) return STATUS_OK;
    return status == STATUS_OK ? STATUS_TIMEOUT : status;
}

/* Suspends. */
static enum status forget_group(struct replica_host *host, uint64_t group, struct error *error)
{
    enum status status = delete_range(host, group, error);
    if (status != STATUS_OK) return status;
    for (;;) {
        status = journal_remove_group(host->journal, group);
        if (status == STATUS_NOT_FOUND) return STATUS_OK;
        if (status != STATUS_BUSY) return status;
        if (fiber_yield() != STATUS_OK) return STATUS_CANCELLED;
    }
}

/* Suspends. */
static enum status remove_group(struct replica_host *host, struct replica *replica,
                                struct error *error)
{
    replica->removed = true;
    RB_REMOVE(replica_name_tree, &host->by_name, replica);
    replica->open = false;
    /* The applier may be in the middle of a write of this group. */
    while (replica->is_applying && host_is_running(host)) {
        enum status status = condition_wait(&replica->changed, DEADLINE_NEVER);
        if (status != STATUS_OK) return status;
    }
    replica->open = true; /* so that shutting it fails its waiters */
    replica_shut(replica);
    return forget_group(host, replica->description.group, error);
}

/* --- the directory made so ---------------------------------------------------------------------
 */

static bool concerns(const struct replica_host *host, const struct group_description *group)
{
    for (uint32_t i = 0; i < group->member_count; i++) {
        if (id_equal(&group->members[i], &host->options.machine)) return true;
    }
    return false;
}

static enum status open_listed(struct replica_host *host, struct error *error)
{
    struct group_description group = { .group = DIRECTORY_GROUP };
    for (;;) {
        enum status status =
            directory_next(&host->directory->applier.range, group.group, &group, error);
        if (status == STATUS_NOT_FOUND) return STATUS_OK;
        if (status != STATUS_OK) {
            return error_set(error, status, "the directory of groups can't be read (%s)",
                             status_name(status));
        }
        struct replica *replica = host_find_group(host, group.group);
        if (replica != NULL || !concerns(host, &group)) continue;
        status = replica_open(host, &group, &replica, error);
        if (status != STATUS_OK) return status;
        condition_broadcast(&host->directory->changed);
    }
}

/* Is GROUP in the directory? STATUS_NOT_FOUND: it is not. */
static enum status is_listed(struct replica_host *host, uint64_t group, struct error *error)
{
    struct group_description listed;
    enum status status = directory_next(&host->directory->applier.range, group - 1, &listed, error);
    if (status == STATUS_OK && listed.group != group) return STATUS_NOT_FOUND;
    return status;
}

/* What is open and no longer listed; and what a crash left behind of a removal. */
static enum status remove_unlisted(struct replica_host *host, struct error *error)
{
    uint64_t group = DIRECTORY_GROUP;
    struct journal_group found;
    while (journal_next_group(host->journal, group + 1, &found) == STATUS_OK) {
        group = found.group;
        enum status status = is_listed(host, group, error);
        if (status == STATUS_OK) continue;
        if (status != STATUS_NOT_FOUND) return status;
        struct replica *replica = host_find_group(host, group);
        if (replica != NULL && replica->removed) continue; /* waits for a flush of the journal */
        status =
            replica == NULL ? forget_group(host, group, error) : remove_group(host, replica, error);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

enum status groups_reconcile(struct replica_host *host, struct error *error)
{
    host->directory_changed = false;
    enum status status = remove_unlisted(host, error);
    if (status == STATUS_OK) status = open_listed(host, error);
    return status;
}

void groups_fiber(void *argument)
{
    struct replica_host *host = argument;
    while (host_is_running(host)) {
        if (!host->directory_changed) {
            if (condition_wait(&host->groups_wake, DEADLINE_NEVER) == STATUS_CANCELLED) return;
            continue;
        }
        struct error error = { 0 };
        enum status status = groups_reconcile(host, &error);
        if (status == STATUS_CANCELLED || !host_is_running(host)) return;
        if (status != STATUS_OK) {
            host_stop(host, status, &error);
            return;
        }
    }
}

static enum status wait_all_ready(struct replica_host *host, struct error *error)
{
    struct replica *replica;
    RB_FOREACH (replica, replica_group_tree, &host->by_group) {
        if (!replica->open) continue;
        enum status status = replica_wait_ready(replica, error);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

enum status replica_host_start(struct replica_host *host, struct error *error)
{
    struct group_description group = {
        .group = DIRECTORY_GROUP, .kind = DIRECTORY_KIND, .name = DIRECTORY_KIND, .epoch = 1
    };
    enum status status = replica_open(host, &group, &host->directory, error);
    if (status == STATUS_OK) status = replica_wait_ready(host->directory, error);
    if (status == STATUS_OK) status = host_note_journal(host, error);
    if (status == STATUS_OK) status = groups_reconcile(host, error);
    if (status == STATUS_OK) status = wait_all_ready(host, error);
    if (status == STATUS_OK) status = scope_spawn(&host->scope, "groups", groups_fiber, host);
    /* Reads of the store fail without a sentence. */
    if (status != STATUS_OK && error != NULL && error->text[0] == '\0')
        error_set(error, status, "the groups can't be read from the store (%s)",
                  status_name(status));
    return status;
}

/* --- commands ----------------------------------------------------------------------------------
 */

/* Suspends. */
static enum status command_directory(struct replica_host *host,
                                     const struct directory_command *command,
                                     struct directory_reply *ret_reply, struct error *error)
{
    if (host->directory == NULL) {
        return error_set(error, STATUS_UNAVAILABLE, "the directory is not open yet");
    }
    uint8_t bytes[DIRECTORY_COMMAND_BYTES_MAX];
    struct writer writer = writer_of(bytes, sizeof bytes);
    enum status status = directory_command_encode(command, &writer);
    if (status != STATUS_OK) {
        return error_set(error, STATUS_INVALID,
                         "a group's kind and name are letters, digits, '-', '_' and '.'");
    }
    struct replica_request request = { .payload = bytes_of(bytes, writer.used),
                                       .deadline_ns = host_now_ns(host) + DIRECTORY_TIMEOUT_NS,
                                       .essential = true };
    struct buffer reply;
    buffer_init(&reply, DIRECTORY_REPLY_BYTES);
    uint64_t index;
    status = replica_propose(host->directory, &request, &reply, &index, error);
    if (status == STATUS_OK &&
        directory_reply_decode(bytes_of(reply.data, reply.used), ret_reply) != DECODE_OK) {
        status = error_set(error, STATUS_INTERNAL, "the directory's reply is malformed");
    }
    buffer_finish(&reply);
    return status;
}

/* Suspends until the group is open here and leads, or is gone again. */
static enum status await_group(struct replica_host *host, uint64_t group, struct error *error)
{
    uint64_t deadline_ns = host_now_ns(host) + DIRECTORY_TIMEOUT_NS;
    struct replica *replica;
    while ((replica = host_find_group(host, group)) == NULL) {
        if (!host_is_running(host)) return replica_host_health(host, error);
        enum status status = condition_wait(&host->directory->changed, deadline_ns);
        if (status != STATUS_OK) {
            return error_set(error, status, "group %llu was made and is not open yet",
                             (unsigned long long)group);
        }
    }
    return replica_wait_ready(replica, error);
}

enum status replica_create_group(struct replica_host *host, const char *kind, const char *name,
                                 uint64_t *ret_group, struct error *error)
{
    struct directory_command command = {
        .kind = DIRECTORY_CREATE,
        .group = { .member_count = 1, .members = { host->options.machine } },
    };
    if (strnlen(kind, GROUP_KIND_BYTES_MAX + 1) > GROUP_KIND_BYTES_MAX ||
        strnlen(name, GROUP_NAME_BYTES_MAX + 1) > GROUP_NAME_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "a kind has at most %d bytes and a name %d",
                         GROUP_KIND_BYTES_MAX, GROUP_NAME_BYTES_MAX);
    }
    bool known = false;
    for (size_t i = 0; i < host->kind_count; i++) known |= !strcmp(host->kinds[i].kind, kind);
    if (!known || strcmp(kind, DIRECTORY_KIND) == 0) {
        return error_set(error, STATUS_INVALID, "no groups of kind \"%s\" can be made", kind);
    }
    strcpy(command.group.kind, kind);
    strcpy(command.group.name, name);

    struct directory_reply reply;
    enum status status = command_directory(host, &command, &reply, error);
    if (status != STATUS_OK) return status;
    if (reply.verdict == DIRECTORY_FULL) {
        return error_set(error, STATUS_FULL, "there are %d groups already", GROUPS_MAX);
    }
    if (reply.verdict != DIRECTORY_OK && reply.verdict != DIRECTORY_EXISTS) {
        return error_set(error, STATUS_INTERNAL, "the directory answered %d", (int)reply.verdict);
    }
    status = await_group(host, reply.group, error);
    if (status != STATUS_OK) return status;
    *ret_group = reply.group;
    if (reply.verdict == DIRECTORY_OK) return STATUS_OK;
    return error_set(error, STATUS_EXISTS, "%s %s is group %llu", kind, name,
                     (unsigned long long)reply.group);
}

enum status replica_remove_group(struct replica_host *host, uint64_t group, struct error *error)
{
    if (group == DIRECTORY_GROUP) {
        return error_set(error, STATUS_INVALID, "the directory can't be removed");
    }
    struct directory_command command = { .kind = DIRECTORY_REMOVE, .group = { .group = group } };
    struct directory_reply reply;
    enum status status = command_directory(host, &command, &reply, error);
    if (status != STATUS_OK) return status;
    if (reply.verdict == DIRECTORY_NOT_FOUND) {
        return error_set(error, STATUS_NOT_FOUND, "there is no group %llu",
                         (unsigned long long)group);
    }
    if (reply.verdict == DIRECTORY_OK) return STATUS_OK;
    return error_set(error, STATUS_INTERNAL, "the directory answered %d", (int)reply.verdict);
}

enum status replica_find(struct replica_host *host, const char *kind, const char *name,
                         struct replica **ret_replica)
{
    struct replica wanted = { 0 };
    if (strnlen(kind, GROUP_KIND_BYTES_MAX + 1) > GROUP_KIND_BYTES_MAX) return STATUS_NOT_FOUND;
    if (strnlen(name, GROUP_NAME_BYTES_MAX + 1) > GROUP_NAME_BYTES_MAX) return STATUS_NOT_FOUND;
    strcpy(wanted.description.kind, kind);
    strcpy(wanted.description.name, name);
    struct replica *replica = RB_FIND(replica_name_tree, &host->by_name, &wanted);
    if (replica == NULL) return STATUS_NOT_FOUND;
    *ret_replica = replica;
    return STATUS_OK;
}
