/* The changes of an apply: collected, seen by later operations, then written into the batch. */
#include "registry/registry_state.h"

int registry_change_compare(const struct registry_change *a, const struct registry_change *b)
{
    return bytes_compare(a->key, b->key);
}

RB_GENERATE(registry_changes, registry_change, by_key, registry_change_compare)

uint64_t registry_version_bytes(struct bytes key, uint64_t value_size)
{
    return key.size + value_size + REGISTRY_VERSION_OVERHEAD_BYTES;
}

uint64_t registry_event_bytes(const struct registry_history_event *event)
{
    uint64_t bytes = event->key.size + REGISTRY_EVENT_OVERHEAD_BYTES;
    if (event->has_previous)
        bytes += registry_version_bytes(event->key, event->previous_value_size);
    /* The tombstone among the versions, and the note that the key was deleted. */
    if (event->deleted) bytes += 2 * registry_version_bytes(event->key, 0);
    return bytes;
}

struct registry_change *registry_change_find(struct registry_apply *apply, struct bytes key)
{
    if (RB_EMPTY(&apply->changes)) return NULL;
    struct registry_change wanted = { .key = key };
    return RB_FIND(registry_changes, &apply->changes, &wanted);
}

enum status registry_change_lookup(struct registry_apply *apply, struct bytes key,
                                   struct registry_meta *ret_meta,
                                   struct registry_change **ret_change)
{
    struct registry_change *change = registry_change_find(apply, key);
    if (change != NULL) {
        if (change->deleted) return STATUS_NOT_FOUND;
        *ret_meta = change->now;
        *ret_change = change;
        return STATUS_OK;
    }
    enum status status = registry_read_meta(apply->registry, key, ret_meta, apply->error);
    if (status == STATUS_OK) *ret_change = NULL;
    return status;
}

struct registry_revision *registry_revision_begin(struct registry_apply *apply)
{
    struct registry_revision *revision = arena_take(&apply->registry->scratch, sizeof *revision);
    if (revision == NULL) return NULL;
    STAILQ_INIT(&revision->changes);
#ifdef MUTATION_REVISION_REUSED
    /* The eighth revision's number is given out for ever. */
    if (apply->registry->counters.revision == 8) {
        revision->revision = 8;
        return revision;
    }
#endif
    revision->revision = apply->registry->counters.revision + 1;
    return revision;
}

/* A lease counts its keys by number and bytes; SIGN undoes. */
static void count_lease(struct registry *registry, uint64_t lease, struct bytes key, bool add)
{
    if (lease == 0) return;
    struct registry_lease_state *state = registry_lease_find(registry, lease);
    if (state == NULL) return; /* it ends in this apply, and its keys with it */
    if (add) {
        state->key_count++;
        state->key_bytes += key.size;
    } else {
        assert(state->key_count > 0 && state->key_bytes >= key.size);
        state->key_count--;
        state->key_bytes -= key.size;
    }
}

static struct registry_history_event event_of(const struct registry_change *change)
{
    struct registry_history_event event = {
        .key = change->key,
        .deleted = change->deleted,
        .has_previous = change->has_previous,
    };
    if (change->has_previous) {
        event.previous_revision = change->previous.modify_revision;
        event.previous_value_size = change->previous.value_size;
    }
    return event;
}

static enum status add_change(struct registry_apply *apply, struct registry_revision *revision,
                              const struct registry_change *change)
{
    struct registry *registry = apply->registry;
    struct registry_change *copy = arena_take(&registry->scratch, sizeof *copy);
    if (copy == NULL) return error_set(apply->error, STATUS_NO_MEMORY, "no memory for an apply");
    *copy = *change;
    struct registry_change *before = RB_INSERT(registry_changes, &apply->changes, copy);
    if (before != NULL) {
        /* An earlier revision of this apply changed it; that change stays in its revision. */
        RB_REMOVE(registry_changes, &apply->changes, before);
        RB_INSERT(registry_changes, &apply->changes, copy);
    }
    STAILQ_INSERT_TAIL(&revision->changes, copy, in_revision);
    revision->change_count++;

    struct registry_counters *counters = &registry->counters;
    if (copy->has_previous) {
        count_lease(registry, copy->previous.lease, copy->key, false);
        counters->bytes -= registry_version_bytes(copy->key, copy->previous.value_size);
        counters->keys--;
    }
    if (!copy->deleted) {
        count_lease(registry, copy->now.lease, copy->key, true);
        counters->bytes += registry_version_bytes(copy->key, copy->now.value_size);
        counters->keys++;
    }
    struct registry_history_event event = event_of(copy);
    counters->history_bytes += registry_event_bytes(&event);
    return STATUS_OK;
}

enum status registry_change_put(struct registry_apply *apply, struct registry_revision *revision,
                                struct bytes key, struct bytes value, uint64_t lease,
                                const struct registry_meta *previous)
{
    struct registry_change change = {
        .key = key,
        .value = value,
        .has_previous = previous != NULL,
        .now = {
            .create_revision = revision->revision,
            .modify_revision = revision->revision,
            .version = 1,
            .lease = lease,
            .value_size = value.size,
        },
    };
    if (previous != NULL) {
        change.previous = *previous;
        change.now.create_revision = previous->create_revision;
        change.now.version = previous->version + 1;
    }
    return add_change(apply, revision, &change);
}

enum status registry_change_delete(struct registry_apply *apply, struct registry_revision *revision,
                                   struct bytes key, const struct registry_meta *previous)
{
    struct registry_change change = {
        .key = key,
        .deleted = true,
        .has_previous = true,
        .previous = *previous,
    };
    revision->deleted_count++;
    revision->deleted_bytes += key.size;
    return add_change(apply, revision, &change);
}

void registry_revision_end(struct registry_apply *apply, struct registry_revision *revision)
{
    if (revision->change_count == 0) return;
    apply->registry->counters.revision = revision->revision;
    STAILQ_INSERT_TAIL(&apply->revisions, revision, revisions);
}

void registry_revision_drop(struct registry_apply *apply, struct registry_revision *revision,
                            const struct registry_counters *before)
{
    struct registry *registry = apply->registry;
    registry->counters = *before;
    struct registry_change *change;
    STAILQ_FOREACH (change, &revision->changes, in_revision) {
        if (!change->deleted) count_lease(registry, change->now.lease, change->key, false);
        if (change->has_previous) {
            count_lease(registry, change->previous.lease, change->key, true);
        }
    }
}

/* The version record of a put or delete, and the notes beside it. */
static enum status emit_version(struct registry_apply *apply, const struct registry_change *change,
                                uint64_t revision)
{
    struct registry *registry = apply->registry;
    struct buffer *record = &registry->record;
    record->used = 0;
    enum status status =
        buffer_reserve(record, REGISTRY_VERSION_HEAD_BYTES_MAX + change->value.size);
    if (status != STATUS_OK) return status;
    struct writer writer = writer_of(record->data, record->capacity);
    registry_version_encode_head(change->deleted, &change->now, &writer);
    if (!change->deleted) writer_put(&writer, change->value.data, change->value.size);
    assert(!writer.failed);
    store_batch_put(apply->batch, &registry->range,
                    registry_key_version(registry->key_scratch[0], change->key, revision),
                    bytes_of(record->data, writer.used));
    return STATUS_OK;
}

static void emit_current(struct registry_apply *apply, const struct registry_change *change,
                         uint64_t revision)
{
    struct registry *registry = apply->registry;
    struct bytes current = registry_key_current(registry->key_scratch[0], change->key);
    if (change->deleted) {
        store_batch_delete(apply->batch, &registry->range, current);
        uint8_t number[8];
        store_u64_le(number, revision);
        store_batch_put(apply->batch, &registry->range,
                        registry_key_deleted(registry->key_scratch[0], change->key),
                        bytes_of(number, sizeof number));
        return;
    }
    uint8_t meta[REGISTRY_META_BYTES_MAX];
    struct writer writer = writer_of(meta, sizeof meta);
    registry_meta_encode(&change->now, &writer);
    assert(!writer.failed);
    store_batch_put(apply->batch, &registry->range, current, bytes_of(meta, writer.used));
}

static void emit_attachment(struct registry_apply *apply, const struct registry_change *change)
{
    struct registry *registry = apply->registry;
    uint64_t before = change->has_previous ? change->previous.lease : 0;
    uint64_t now = change->deleted ? 0 : change->now.lease;
    if (before == now) return;
    if (before != 0) {
        store_batch_delete(apply->batch, &registry->range,
                           registry_key_attached(registry->key_scratch[0], before, change->key));
    }
    if (now != 0) {
        store_batch_put(apply->batch, &registry->range,
                        registry_key_attached(registry->key_scratch[0], now, change->key),
                        bytes_of(NULL, 0));
    }
}

/* One record per revision: what a watch delivers, what compaction removes, and the counters that
 * an open starts from. */
static enum status emit_history(struct registry_apply *apply,
                                const struct registry_revision *revision)
{
    struct registry *registry = apply->registry;
    struct buffer *record = &registry->record;
    record->used = 0;
    size_t size_max = REGISTRY_HISTORY_HEAD_BYTES_MAX;
    struct registry_change *change;
    STAILQ_FOREACH (change, &revision->changes, in_revision) {
        size_max += REGISTRY_EVENT_HEAD_BYTES_MAX + change->key.size;
    }
    enum status status = buffer_reserve(record, size_max);
    if (status != STATUS_OK) return status;
    struct writer writer = writer_of(record->data, size_max);
    registry_history_encode_head(&registry->counters, revision->change_count, &writer);
    STAILQ_FOREACH (change, &revision->changes, in_revision) {
        struct registry_history_event event = event_of(change);
        registry_history_encode_event(&event, &writer);
    }
    assert(!writer.failed);
    store_batch_put(apply->batch, &registry->range,
                    registry_key_history(registry->key_scratch[0], revision->revision),
                    bytes_of(record->data, writer.used));
    return STATUS_OK;
}

enum status registry_changes_emit(struct registry_apply *apply)
{
    struct registry_revision *revision;
    STAILQ_FOREACH (revision, &apply->revisions, revisions) {
        struct registry_change *change;
        STAILQ_FOREACH (change, &revision->changes, in_revision) {
            emit_current(apply, change, revision->revision);
            emit_attachment(apply, change);
            enum status status = emit_version(apply, change, revision->revision);
            if (status != STATUS_OK) return status;
            registry_watches_mark(apply->registry, change->key, revision->revision);
        }
        enum status status = emit_history(apply, revision);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}
