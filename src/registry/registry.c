#include "registry/registry_state.h"

#include <stdlib.h>

_Static_assert(REGISTRY_RANGE_BYTES_MAX + LIMIT_TXN_OPERATIONS_MAX * 1024 <=
                   REGISTRY_REPLY_BYTES_MAX,
               "a reply holds the largest answer and its heads");
_Static_assert(LIMIT_VALUE_BYTES_MAX + LIMIT_KEY_BYTES_MAX + sizeof(struct registry_item) <=
                   REGISTRY_RANGE_BYTES_MAX,
               "the largest item fits an answer");

static const struct registry_limits limits_default = {
    .history_revisions_max = REGISTRY_HISTORY_REVISIONS_MAX,
    .history_bytes_max = REGISTRY_HISTORY_BYTES_MAX,
    .quota_bytes = REGISTRY_QUOTA_BYTES_DEFAULT,
};

/* The counters stand in the record of the last revision. */
static enum status open_counters(struct registry *registry, struct error *error)
{
    registry->key_scratch[0][0] = REGISTRY_PREFIX_HISTORY;
    struct store_iterator *iterator;
    enum status status = store_iterator_create(
        &registry->range, NULL, bytes_of(registry->key_scratch[0], 1),
        registry_key_after(registry->key_scratch[1], REGISTRY_PREFIX_HISTORY), true, &iterator);
    if (status != STATUS_OK) return error_set(error, status, "can't read the history");
    struct bytes key, record;
    status = store_iterator_next(iterator, &key, &record);
    if (status == STATUS_OK) {
        size_t event_count;
        struct reader reader;
        if (key.size != 9 || registry_history_decode_head(record, &registry->counters, &event_count,
                                                          &reader) != DECODE_OK) {
            status = error_set(error, STATUS_CORRUPT, "the record of the last revision is damaged");
        } else {
            registry->counters.revision = load_u64_be(key.data + 1);
        }
    }
    store_iterator_destroy(iterator);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status registry_open(struct state_machine *machine, const struct store_range *range,
                                 struct error *error)
{
    struct registry *registry = registry_of(machine);
    registry_watches_reset(registry);
    registry->range = *range;
    registry->counters = (struct registry_counters) { 0 };
    registry_leases_clear(registry);
    enum status status = open_counters(registry, error);
    if (status == STATUS_OK) status = registry_leases_open(registry, error);
    if (status != STATUS_OK) return error_wrap(error, status, "registry");
    registry->visible = registry->counters;
    registry_watches_notify(registry);
    return STATUS_OK;
}

static void registry_applied(struct state_machine *machine, uint64_t index)
{
    (void)index;
    struct registry *registry = registry_of(machine);
    registry->visible = registry->counters;
    registry_watches_notify(registry);
}

static uint64_t registry_next_deadline_ms(const struct state_machine *machine)
{
    return registry_leases_deadline_ms((const struct registry *)machine);
}

static void registry_close(struct state_machine *machine)
{
    struct registry *registry = registry_of(machine);
    registry_watches_orphan(registry);
    registry_leases_clear(registry);
    arena_finish(&registry->scratch);
    buffer_finish(&registry->meta_record);
    buffer_finish(&registry->record);
    free(registry);
}

static const struct state_machine_operations operations = {
    .kind = "registry",
    .open = registry_open,
    .apply = registry_apply_entry,
    .applied = registry_applied,
    .next_deadline_ms = registry_next_deadline_ms,
    .close = registry_close,
};

enum status registry_create(void *context, const struct group_description *group,
                            struct state_machine **ret_machine, struct error *error)
{
    (void)group;
    struct registry *registry = calloc(1, sizeof *registry);
    if (registry == NULL) return error_set(error, STATUS_NO_MEMORY, "no memory for a registry");
    registry->machine.operations = &operations;
    registry->limits = context == NULL ? limits_default : *(const struct registry_limits *)context;
    RB_INIT(&registry->leases_by_number);
    RB_INIT(&registry->leases_by_end);
    TAILQ_INIT(&registry->marked);
    arena_init(&registry->scratch, REGISTRY_SCRATCH_BYTES_MAX);
    buffer_init(&registry->meta_record, REGISTRY_RECORD_BYTES_MAX);
    buffer_init(&registry->record, REGISTRY_RECORD_BYTES_MAX);
    *ret_machine = &registry->machine;
    return STATUS_OK;
}

struct registry *registry_of(struct state_machine *machine)
{
    assert(machine->operations == &operations);
    return (struct registry *)machine; /* its first field */
}

struct registry_figures registry_figures(const struct registry *registry)
{
    return (struct registry_figures) {
        .revision = registry->visible.revision,
        .compact_revision = registry->visible.compact_revision,
        .keys = registry->visible.keys,
        .bytes = registry->visible.bytes,
        .leases = registry->lease_count,
        .watches = registry->watch_count,
        .history_bytes = registry->visible.history_bytes,
    };
}
