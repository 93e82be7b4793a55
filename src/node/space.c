#include "node/space.h"

enum {
    SPACE_REPLY_BYTES_MAX = LIMIT_MESSAGE_BYTES_MAX,
    SPACE_ARENA_BYTES_MAX = 64 * 1024,
};

enum status space_open(struct replica_host *host, struct clock *clock, const char *name,
                       const char *principal, struct space *ret_space, struct error *error)
{
    struct replica *replica;
    enum status status = replica_find(host, "registry", name, &replica);
    if (status != STATUS_OK) return error_set(error, status, "there is no space \"%s\"", name);
    *ret_space = (struct space) {
        .replica = replica,
        .registry = registry_of(replica_machine(replica)),
        .clock = clock,
        .principal = principal,
    };
    return STATUS_OK;
}

static uint64_t deadline_of(const struct space *space)
{
    uint64_t now;
    clock_monotonic_ns(space->clock, &now);
    return now + SPACE_DEADLINE_MS * 1000000ull;
}

enum status space_range(struct space *space, struct bytes key, struct bytes end,
                        struct arena *arena, struct registry_item **ret_items, size_t *ret_count,
                        uint64_t *ret_revision, struct error *error)
{
    enum status status = replica_read_barrier(space->replica, deadline_of(space), error);
    if (status != STATUS_OK) return status;
    struct registry_operation operation = {
        .kind = REGISTRY_RANGE, .key = key, .end = end, .limit = REGISTRY_WATCHES_MAX
    };
    struct registry_response response;
    status = registry_range(space->registry, &operation, arena, ret_revision, &response, error);
    if (status != STATUS_OK) return status;
    if (response.more)
        return error_set(error, STATUS_FULL, "the answer is longer than %d bytes",
                         REGISTRY_RANGE_BYTES_MAX);
    *ret_items = response.items;
    *ret_count = response.item_count;
    return STATUS_OK;
}

enum status space_list(struct space *space, const char *prefix, struct arena *arena,
                       struct registry_item **ret_items, size_t *ret_count, uint64_t *ret_revision,
                       struct error *error)
{
    size_t size = strlen(prefix);
    char *end = arena_copy_text(arena, prefix, size);
    if (end == NULL || size == 0) return error_set(error, STATUS_NO_MEMORY, "out of memory");
    end[size - 1]++; /* our prefixes end in '/', never in 0xff */
    return space_range(space, bytes_of(prefix, size), bytes_of(end, size), arena, ret_items,
                       ret_count, ret_revision, error);
}

enum status space_commit(struct space *space, const struct registry_command *command,
                         const char *principal, bool essential, uint64_t *ret_revision,
                         bool *ret_succeeded, struct error *error)
{
    struct arena arena;
    struct buffer payload, answer;
    arena_init(&arena, SPACE_ARENA_BYTES_MAX);
    buffer_init(&payload, LIMIT_ENTRY_BYTES_MAX);
    buffer_init(&answer, SPACE_REPLY_BYTES_MAX);
    struct registry_reply reply;
    enum status status = registry_command_encode(command, &payload, error);
    if (status == STATUS_OK) {
        struct replica_request request = {
            .principal = bytes_of_text(principal != NULL ? principal : space->principal),
            .payload = bytes_of(payload.data, payload.used),
            .deadline_ns = deadline_of(space),
            .essential = essential || principal == NULL || registry_command_frees_room(command),
        };
        uint64_t index;
        status = replica_propose(space->replica, &request, &answer, &index, error);
    }
    if (status == STATUS_OK)
        status = registry_reply_decode(bytes_of(answer.data, answer.used), &arena, &reply);
    if (status == STATUS_OK && reply.status != STATUS_OK)
        status = error_set(error, reply.status, "%s", reply.text);
    if (status == STATUS_OK) {
        if (ret_revision != NULL) *ret_revision = reply.revision;
        *ret_succeeded = reply.succeeded;
    }
    buffer_finish(&payload);
    buffer_finish(&answer);
    arena_finish(&arena);
    return status;
}

static enum status put(struct space *space, const struct registry_compare *compare,
                       struct bytes key, struct bytes value, uint64_t *ret_revision,
                       struct error *error)
{
    struct registry_operation operation = { .kind = REGISTRY_PUT, .key = key, .value = value };
    struct registry_command command = {
        .kind = REGISTRY_COMMAND_TXN,
        .compares = compare,
        .compare_count = compare == NULL ? 0 : 1,
        .success = &operation,
        .success_count = 1,
    };
    bool succeeded;
    enum status status = space_commit(space, &command, NULL, true, ret_revision, &succeeded, error);
    if (status == STATUS_OK && !succeeded)
        return error_set(error, STATUS_CONFLICT, "%.*s was changed by somebody else meanwhile",
                         (int)key.size, (const char *)key.data);
    return status;
}

enum status space_put_if(struct space *space, struct bytes key, struct bytes value,
                         uint64_t expected, uint64_t *ret_revision, struct error *error)
{
    struct registry_compare compare = {
        .key = key,
        .target = REGISTRY_MODIFY_REVISION,
        .result = REGISTRY_EQUAL,
        .number = expected,
    };
    return put(space, &compare, key, value, ret_revision, error);
}

enum status space_put(struct space *space, struct bytes key, struct bytes value,
                      uint64_t *ret_revision, struct error *error)
{
    return put(space, NULL, key, value, ret_revision, error);
}

enum status space_delete(struct space *space, struct bytes key, struct error *error)
{
    struct registry_operation operation = { .kind = REGISTRY_DELETE, .key = key };
    struct registry_command command = { .kind = REGISTRY_COMMAND_TXN,
                                        .success = &operation,
                                        .success_count = 1 };
    bool succeeded;
    return space_commit(space, &command, NULL, true, NULL, &succeeded, error);
}
