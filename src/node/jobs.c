#include "node/jobs.h"

#include "wire/proto_arena.h"

#include <stdio.h>
#include <stdlib.h>

#define JOBS_PREFIX "job/"
enum { JOBS_KEY_BYTES_MAX = 8 + 2 * LIMIT_NAME_BYTES_MAX };

struct jobs {
    struct space *system;
    void (*notify)(void *context);
    void *context;
    uint64_t version;
    struct registry_watch *watch;
    struct arena arena; /* of the mirror */
    struct jobs_entry *entries;
    size_t count;
    bool stale;
};

static void notice(void *context)
{
    struct jobs *jobs = context;
    jobs->stale = true;
    jobs->notify(jobs->context);
}

static const char *project_of(const char *project)
{
    return project == NULL || project[0] == '\0' ? "default" : project;
}

static size_t format_key(char key[JOBS_KEY_BYTES_MAX], const char *project, const char *name)
{
    int used = snprintf(key, JOBS_KEY_BYTES_MAX, JOBS_PREFIX "%s/%s", project_of(project), name);
    return used < 0 ? 0 : (size_t)used;
}

/* Only the notice is wanted, so each reading begins a watch anew from there. */
static enum status watch_space(struct jobs *jobs, struct error *error)
{
    registry_watch_destroy(jobs->watch);
    jobs->watch = NULL;
    struct registry_watch_options options = {
        .key = bytes_of_text(JOBS_PREFIX),
        .end = bytes_of_text("job0"), /* '0' follows '/' */
        .notify = notice,
        .context = jobs,
    };
    return registry_watch_create(jobs->system->registry, &options, &jobs->watch, error);
}

enum status jobs_create(struct space *system, void (*notify)(void *context), void *context,
                        struct jobs **ret_jobs, struct error *error)
{
    struct jobs *jobs = calloc(1, sizeof *jobs);
    if (jobs == NULL) return error_set(error, STATUS_NO_MEMORY, "out of memory");
    jobs->system = system;
    jobs->notify = notify;
    jobs->context = context;
    jobs->stale = true;
    arena_init(&jobs->arena, JOBS_BYTES_MAX);
    enum status status = watch_space(jobs, error);
    if (status != STATUS_OK) {
        free(jobs);
        return status;
    }
    *ret_jobs = jobs;
    return STATUS_OK;
}

void jobs_destroy(struct jobs *jobs)
{
    if (jobs == NULL) return;
    registry_watch_destroy(jobs->watch);
    arena_finish(&jobs->arena);
    free(jobs);
}

enum status jobs_refresh(struct jobs *jobs, struct error *error)
{
    if (!jobs->stale) return STATUS_OK;
    struct arena arena, scratch;
    arena_init(&arena, JOBS_BYTES_MAX);
    arena_init(&scratch, JOBS_BYTES_MAX);
    struct registry_item *items;
    size_t count;
    uint64_t revision;
    jobs->stale = false; /* a change while we read makes it stale again */
    enum status status = watch_space(jobs, error);
    if (status == STATUS_OK)
        status = space_list(jobs->system, JOBS_PREFIX, &scratch, &items, &count, &revision, error);
    struct jobs_entry *entries = NULL;
    if (status == STATUS_OK) {
        entries = arena_take(&arena, (count + 1) * sizeof *entries);
        if (entries == NULL) status = error_set(error, STATUS_NO_MEMORY, "too many jobs");
    }
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        Unum__V1__Job *job = proto_unpack(&unum__v1__job__descriptor, &arena, items[i].value);
        if (job == NULL)
            status = error_set(error, STATUS_CORRUPT, "the job under %.*s can't be read",
                               (int)items[i].key.size, (const char *)items[i].key.data);
        entries[i] = (struct jobs_entry) { .job = job,
                                           .create_revision = items[i].create_revision,
                                           .revision = items[i].modify_revision };
    }
    arena_finish(&scratch);
    if (status != STATUS_OK) {
        jobs->stale = true;
        arena_finish(&arena);
        return status;
    }
    arena_finish(&jobs->arena);
    jobs->arena = arena;
    jobs->entries = entries;
    jobs->count = count;
    jobs->version++;
    return STATUS_OK;
}

uint64_t jobs_version(const struct jobs *jobs)
{
    return jobs->version;
}

size_t jobs_count(const struct jobs *jobs)
{
    return jobs->count;
}

const struct jobs_entry *jobs_at(const struct jobs *jobs, size_t index)
{
    return &jobs->entries[index];
}

const struct jobs_entry *jobs_find(const struct jobs *jobs, const char *project, const char *name)
{
    for (size_t i = 0; i < jobs->count; i++) {
        const Unum__V1__Job *job = jobs->entries[i].job;
        if (strcmp(job->name, name) == 0 &&
            strcmp(project_of(job->project), project_of(project)) == 0)
            return &jobs->entries[i];
    }
    return NULL;
}

enum status jobs_write(struct jobs *jobs, const Unum__V1__Job *const *jobs_new,
                       const uint64_t *expected, size_t count, const char *principal,
                       bool essential, uint64_t *ret_revision, struct error *error)
{
    if (count > LIMIT_TXN_OPERATIONS_MAX)
        return error_set(error, STATUS_INVALID, "at most %d jobs are applied at once, not %zu",
                         LIMIT_TXN_OPERATIONS_MAX, count);
    struct arena arena;
    arena_init(&arena, 2ull * LIMIT_ENTRY_BYTES_MAX);
    struct registry_compare *compares = arena_take(&arena, count * sizeof *compares);
    struct registry_operation *puts = arena_take(&arena, count * sizeof *puts);
    enum status status = compares == NULL || puts == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        char *key = arena_take(&arena, JOBS_KEY_BYTES_MAX);
        const ProtobufCMessage *message = &jobs_new[i]->base;
        size_t size = protobuf_c_message_get_packed_size(message);
        uint8_t *value = size > JOB_BYTES_MAX ? NULL : arena_take(&arena, size);
        if (key == NULL || value == NULL) {
            status = error_set(error, STATUS_INVALID, "the jobs are too large for one request");
            break;
        }
        (void)protobuf_c_message_pack(message, value);
        size_t key_size = format_key(key, jobs_new[i]->project, jobs_new[i]->name);
        compares[i] = (struct registry_compare) { .key = bytes_of(key, key_size),
                                                  .target = REGISTRY_MODIFY_REVISION,
                                                  .number = expected[i] };
        puts[i] = (struct registry_operation) { .kind = REGISTRY_PUT,
                                                .key = bytes_of(key, key_size),
                                                .value = bytes_of(value, size) };
    }
    if (status == STATUS_OK) {
        struct registry_command command = {
            .kind = REGISTRY_COMMAND_TXN,
            .compares = compares,
            .compare_count = count,
            .success = puts,
            .success_count = count,
        };
        bool succeeded;
        status = space_commit(jobs->system, &command, principal, essential, ret_revision,
                              &succeeded, error);
        if (status == STATUS_OK && !succeeded)
            status = error_set(error, STATUS_CONFLICT,
                               "somebody else changed a job meanwhile; apply again");
    }
    arena_finish(&arena);
    return status;
}

enum status jobs_remove(struct jobs *jobs, const struct jobs_entry *entry, const char *principal,
                        struct error *error)
{
    char key[JOBS_KEY_BYTES_MAX];
    size_t size = format_key(key, entry->job->project, entry->job->name);
    struct registry_operation operation = { .kind = REGISTRY_DELETE, .key = bytes_of(key, size) };
    struct registry_command command = { .kind = REGISTRY_COMMAND_TXN,
                                        .success = &operation,
                                        .success_count = 1 };
    bool succeeded;
    return space_commit(jobs->system, &command, principal, true, NULL, &succeeded, error);
}
