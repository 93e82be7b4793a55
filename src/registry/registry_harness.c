#include "registry/registry_harness.h"

#include "base/checksum.h"

#include <stdio.h>
#include <stdlib.h>

enum { PAYLOAD_BYTES_MAX = LIMIT_ENTRY_BYTES_MAX };

static void check(bool good, const char *what)
{
    if (good) return;
    fprintf(stderr, "harness: %s\n", what);
    abort();
}

static void open_machine(struct registry_instance *instance, const struct registry_limits *limits)
{
    struct error error = { 0 };
    enum status status = registry_create((void *)limits, NULL, &instance->machine, &error);
    check(status == STATUS_OK, "create");
    status = instance->machine->operations->open(instance->machine, &instance->range, &error);
    check(status == STATUS_OK, error.text);
    instance->registry = registry_of(instance->machine);
}

static void instance_init(struct registry_instance *instance, struct store *store, uint64_t group,
                          const struct registry_limits *limits)
{
    instance->store = store;
    instance->range = (struct store_range) { .store = store, .group = group, .generation = 1 };
    check(store_batch_create(store, &instance->batch) == STATUS_OK, "batch");
    open_machine(instance, limits);
}

void harness_init(struct registry_harness *harness, struct store *store, struct store *second_store,
                  const struct registry_limits *limits)
{
    *harness = (struct registry_harness) { .now_ms = 1000, .compare = second_store != NULL };
    buffer_init(&harness->payload, PAYLOAD_BYTES_MAX);
    buffer_init(&harness->reply, REGISTRY_REPLY_BYTES_MAX);
    buffer_init(&harness->second_reply, REGISTRY_REPLY_BYTES_MAX);
    arena_init(&harness->arena, (size_t)2 * REGISTRY_ARENA_BYTES_MAX);
    instance_init(&harness->first, store, 7, limits);
    if (harness->compare) instance_init(&harness->second, second_store, 7, limits);
}

static void close_machine(struct registry_instance *instance)
{
    instance->machine->operations->close(instance->machine);
}

void harness_finish(struct registry_harness *harness)
{
    close_machine(&harness->first);
    store_batch_destroy(harness->first.batch);
    if (harness->compare) {
        close_machine(&harness->second);
        store_batch_destroy(harness->second.batch);
    }
    buffer_finish(&harness->payload);
    buffer_finish(&harness->reply);
    buffer_finish(&harness->second_reply);
    arena_finish(&harness->arena);
}

void harness_reopen(struct registry_harness *harness, const struct registry_limits *limits)
{
    struct registry_figures before = registry_figures(harness->first.registry);
    close_machine(&harness->first);
    open_machine(&harness->first, limits);
    struct registry_figures after = registry_figures(harness->first.registry);
    before.watches = 0;
    check(memcmp(&before, &after, sizeof before) == 0, "a reopen changed the figures");
}

static void instance_apply(struct registry_instance *instance, uint64_t index,
                           const struct entry *entry, struct buffer *reply)
{
    struct error error = { 0 };
    struct apply_context context = {
        .index = index,
        .term = 1,
        .entry = entry,
        .range = &instance->range,
        .batch = instance->batch,
        .reply = reply,
    };
    store_batch_clear(instance->batch);
    enum status status = instance->machine->operations->apply(instance->machine, &context, &error);
    check(status == STATUS_OK, error.text);
    struct bytes bytes = store_batch_bytes(instance->batch);
    instance->running_hash = hash64(bytes.data, bytes.size, instance->running_hash);
    while ((status = store_write(instance->store, instance->batch, &error)) == STATUS_BUSY) {
        check(store_flush(instance->store, &error) == STATUS_OK, error.text);
    }
    check(status == STATUS_OK, error.text);
    instance->machine->operations->applied(instance->machine, index);
}

static void apply_entry(struct registry_harness *harness, const struct entry *entry)
{
    harness->index++;
    if (harness->compare) {
        instance_apply(&harness->second, harness->index, entry, &harness->second_reply);
    }
    instance_apply(&harness->first, harness->index, entry, &harness->reply);
    if (!harness->compare) return;
    check(harness->first.running_hash == harness->second.running_hash,
          "two instances wrote different batches");
    check(bytes_equal(bytes_of(harness->reply.data, harness->reply.used),
                      bytes_of(harness->second_reply.data, harness->second_reply.used)),
          "two instances answered differently");
}

struct registry_reply harness_apply_bytes(struct registry_harness *harness, struct bytes payload)
{
    struct entry entry = { .kind = ENTRY_COMMAND,
                           .computer_time_ms = harness->now_ms,
                           .payload = payload };
    apply_entry(harness, &entry);
    struct registry_reply reply = { 0 };
    arena_clear(&harness->arena);
    enum status status = registry_reply_decode(bytes_of(harness->reply.data, harness->reply.used),
                                               &harness->arena, &reply);
    check(status == STATUS_OK, "a reply does not decode");
    return reply;
}

struct registry_reply harness_apply(struct registry_harness *harness,
                                    const struct registry_command *command)
{
    struct error error = { 0 };
    harness->payload.used = 0;
    enum status status = registry_command_encode(command, &harness->payload, &error);
    if (status != STATUS_OK) {
        struct registry_reply reply = { .status = status };
        snprintf(reply.text, sizeof reply.text, "%.255s", error.text);
        return reply;
    }
    return harness_apply_bytes(harness, bytes_of(harness->payload.data, harness->payload.used));
}

void harness_time(struct registry_harness *harness, uint64_t now_ms)
{
    harness->now_ms = now_ms;
    struct entry entry = { .kind = ENTRY_TIME, .computer_time_ms = now_ms };
    apply_entry(harness, &entry);
    check(harness->reply.used == 0, "an entry without a command has a reply");
}

struct registry_reply harness_put(struct registry_harness *harness, const char *key,
                                  const char *value, uint64_t lease)
{
    struct registry_operation operation = {
        .kind = REGISTRY_PUT,
        .key = bytes_of_text(key),
        .value = bytes_of_text(value),
        .lease = lease,
        .return_previous = true,
    };
    struct registry_command command = { .success = &operation, .success_count = 1 };
    return harness_apply(harness, &command);
}

static struct bytes end_of(const char *end)
{
    if (end == NULL) return bytes_of(NULL, 0);
    return end[0] == '\0' ? bytes_of("", 1) : bytes_of_text(end);
}

struct registry_reply harness_delete(struct registry_harness *harness, const char *key,
                                     const char *end)
{
    struct registry_operation operation = {
        .kind = REGISTRY_DELETE,
        .key = bytes_of_text(key),
        .end = end_of(end),
        .return_previous = true,
    };
    struct registry_command command = { .success = &operation, .success_count = 1 };
    return harness_apply(harness, &command);
}

struct registry_reply harness_lease(struct registry_harness *harness,
                                    enum registry_command_kind kind, uint64_t lease,
                                    uint64_t time_to_live_ms)
{
    struct registry_command command = { .kind = kind,
                                        .lease = lease,
                                        .time_to_live_ms = time_to_live_ms };
    return harness_apply(harness, &command);
}

enum status harness_range(struct registry_harness *harness, const char *key, const char *end,
                          uint64_t revision, struct registry_response *ret_response,
                          struct error *error)
{
    struct registry_operation operation = {
        .kind = REGISTRY_RANGE,
        .key = bytes_of_text(key),
        .end = end_of(end),
        .revision = revision,
    };
    uint64_t unused;
    arena_clear(&harness->arena);
    return registry_range(harness->first.registry, &operation, &harness->arena, &unused,
                          ret_response, error);
}
