/* Ranges: of the present, of the present as an operation of a transaction sees it, and of a past
 * revision. The state of a key at a past revision is its version with the largest revision not
 * above; compaction keeps every version that a kept revision can ask for. */
#include "registry/registry_state.h"

/* What looking up an old version costs, in keys passed over. */
enum { PAST_KEY_COST = 8 };

enum status registry_read_meta(struct registry *registry, struct bytes key,
                               struct registry_meta *ret_meta, struct error *error)
{
    enum status status =
        store_get(&registry->range, NULL, registry_key_current(registry->key_scratch[0], key),
                  &registry->meta_record);
    if (status == STATUS_NOT_FOUND) return status;
    if (status != STATUS_OK) return error_set(error, status, "can't read a key");
    if (registry_meta_decode(bytes_of(registry->meta_record.data, registry->meta_record.used),
                             ret_meta) != DECODE_OK) {
        return error_set(error, STATUS_CORRUPT, "the record of a key is damaged");
    }
    return STATUS_OK;
}

enum status registry_read_version(struct registry *registry, struct bytes key, uint64_t revision,
                                  struct registry_meta *ret_meta, struct bytes *ret_value,
                                  struct error *error)
{
    enum status status =
        store_get(&registry->range, NULL,
                  registry_key_version(registry->key_scratch[0], key, revision), &registry->record);
    bool deleted = true;
    struct registry_meta meta;
    struct bytes value;
    if (status == STATUS_OK) {
        enum decode decode = registry_version_decode(
            bytes_of(registry->record.data, registry->record.used), &deleted, &meta, &value);
        if (decode != DECODE_OK) deleted = true;
    }
    if (status == STATUS_NOT_FOUND || (status == STATUS_OK && deleted)) {
        return error_set(error, STATUS_CORRUPT, "the version of a key at revision %llu is damaged",
                         (unsigned long long)revision);
    }
    if (status != STATUS_OK) return error_set(error, status, "can't read a version");
    if (ret_meta != NULL) *ret_meta = meta;
    *ret_value = value;
    return STATUS_OK;
}

/* The version of KEY at REVISION into the record buffer. STATUS_NOT_FOUND: it was not there. */
static enum status read_past(struct registry_range_run *run, struct bytes key,
                             struct registry_meta *ret_meta, struct bytes *ret_value)
{
    struct registry *registry = run->registry;
    struct store_iterator *iterator;
    enum status status = store_iterator_create(
        &registry->range, NULL, registry_key_version(registry->key_scratch[0], key, 0),
        registry_key_version(registry->key_scratch[1], key, run->revision + 1), true, &iterator);
    if (status != STATUS_OK) return error_set(run->error, status, "can't read a version");
    struct bytes store_key, record;
    status = store_iterator_next(iterator, &store_key, &record);
    if (status == STATUS_OK) {
        bool deleted = false;
        struct registry_meta meta;
        struct bytes value;
        struct buffer *copy = &registry->record;
        copy->used = 0;
        status = buffer_append(copy, record.data, record.size);
        if (status == STATUS_OK && registry_version_decode(bytes_of(copy->data, copy->used),
                                                           &deleted, &meta, &value) != DECODE_OK) {
            status = error_set(run->error, STATUS_CORRUPT, "a version of a key is damaged");
        }
        if (status == STATUS_OK && deleted) status = STATUS_NOT_FOUND;
        if (status == STATUS_OK) {
            meta.modify_revision = load_u64_be(store_key.data + store_key.size - 8);
            *ret_meta = meta;
            *ret_value = value;
        }
    }
    store_iterator_destroy(iterator);
    return status;
}

/* Give the item to the sink if the limits allow. VALUE is NULL when it has not been read. */
static enum status take_item(struct registry_range_run *run, struct bytes key,
                             const struct registry_meta *meta, const struct registry_change *change,
                             const struct bytes *value)
{
    const struct registry_operation *operation = run->operation;
    if (operation->count_only) return STATUS_OK;
    uint64_t bytes =
        key.size + sizeof(struct registry_item) + (operation->keys_only ? 0 : meta->value_size);
    /* After the first left out no later one is given: the answer is a prefix of the range. */
    if (run->more || run->item_count >= run->limit || bytes > run->budget->answer_bytes) {
        run->more = true;
        return STATUS_OK;
    }
    run->budget->answer_bytes -= bytes;
    struct registry_item item = {
        .key = key,
        .create_revision = meta->create_revision,
        .modify_revision = meta->modify_revision,
        .version = meta->version,
        .lease = meta->lease,
    };
    if (!operation->keys_only) {
        if (value != NULL) {
            item.value = *value;
        } else if (change != NULL) {
            item.value = change->value;
        } else {
            enum status status = registry_read_version(run->registry, key, meta->modify_revision,
                                                       NULL, &item.value, run->error);
            if (status != STATUS_OK) return status;
        }
    }
    run->item_count++;
    enum status status = run->sink->item(run->sink, &item);
    if (status != STATUS_OK) return error_set(run->error, status, "no room for an answer");
    return STATUS_OK;
}

static bool spend(struct registry_range_run *run, uint64_t keys)
{
    if (run->budget->scan_keys < keys) {
        run->more = true;
        return false;
    }
    run->budget->scan_keys -= keys;
    return true;
}

/* A key that is there now, or was deleted: judge it at the run's revision. */
static enum status visit(struct registry_range_run *run, const struct registry_cursor_key *found)
{
    struct registry_meta meta = found->meta;
    bool past = run->revision != 0 && !(found->current && meta.modify_revision <= run->revision);
#ifdef MUTATION_RANGE_STALE_HISTORY
    past = past && !found->current; /* what is there now is taken for what was there then */
#endif
    if (!past) {
        run->count++;
        return take_item(run, found->key, &meta, found->change, NULL);
    }
    struct bytes value;
    enum status status = read_past(run, found->key, &meta, &value);
    if (status == STATUS_NOT_FOUND) return STATUS_OK;
    if (status != STATUS_OK) return status;
    run->count++;
    return take_item(run, found->key, &meta, NULL, &value);
}

static enum status run_single(struct registry_range_run *run)
{
    if (!spend(run, 1)) return STATUS_OK;
    struct registry_cursor_key found = { .key = run->operation->key };
    enum status status =
        run->apply != NULL
            ? registry_change_lookup(run->apply, found.key, &found.meta, &found.change)
            : registry_read_meta(run->registry, found.key, &found.meta, run->error);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) return status;
    found.current = status == STATUS_OK;
    if (!found.current && run->revision == 0) return STATUS_OK;
    return visit(run, &found);
}

static enum status run_many(struct registry_range_run *run)
{
    struct registry_cursor_options options = {
        .registry = run->registry,
        .apply = run->apply,
        .key = run->operation->key,
        .end = run->operation->end,
        .descending = run->operation->descending,
        .with_deleted = run->revision != 0,
        .error = run->error,
    };
    struct registry_cursor *cursor;
    enum status status = registry_cursor_open(&options, &cursor);
    if (status != STATUS_OK) return status;
    struct registry_cursor_key found;
    uint64_t left_out = 0;
    while (left_out < REGISTRY_COUNT_KEYS_MAX &&
           (status = registry_cursor_next(cursor, &found)) == STATUS_OK) {
        left_out += run->more;
        bool old =
            run->revision != 0 && !(found.current && found.meta.modify_revision <= run->revision);
        if (!spend(run, old ? PAST_KEY_COST : 1)) break;
        status = visit(run, &found);
        if (status != STATUS_OK) break;
    }
    registry_cursor_close(cursor);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status registry_range_run(struct registry_range_run *run)
{
    run->limit = run->operation->limit == 0 ? REGISTRY_RANGE_ITEMS_DEFAULT : run->operation->limit;
    return run->operation->end.size == 0 ? run_single(run) : run_many(run);
}

/* --- reads outside an apply --------------------------------------------------------------------
 */

struct arena_sink {
    struct registry_range_sink sink;
    struct arena *arena;
    struct registry_item *items;
    size_t count, capacity;
};

static enum status arena_sink_item(struct registry_range_sink *sink,
                                   const struct registry_item *item)
{
    enum { ITEMS_FIRST = 16 };
    struct arena_sink *arena_sink = (struct arena_sink *)sink;
    struct arena *arena = arena_sink->arena;
    if (arena_sink->count == arena_sink->capacity) {
        size_t capacity = arena_sink->capacity == 0 ? ITEMS_FIRST : arena_sink->capacity * 2;
        struct registry_item *items = arena_take(arena, capacity * sizeof *items);
        if (items == NULL) return STATUS_NO_MEMORY;
        if (arena_sink->count > 0) {
            memcpy(items, arena_sink->items, arena_sink->count * sizeof *items);
        }
        arena_sink->items = items;
        arena_sink->capacity = capacity;
    }
    struct registry_item copy = *item;
    copy.key = arena_copy(arena, item->key);
    copy.value = arena_copy(arena, item->value);
    if (copy.key.data == NULL || copy.value.data == NULL) return STATUS_NO_MEMORY;
    arena_sink->items[arena_sink->count++] = copy;
    return STATUS_OK;
}

static enum status check_revision(const struct registry *registry, uint64_t revision,
                                  struct error *error)
{
    if (revision > registry->visible.revision) {
        return error_set(
            error, STATUS_INVALID, "revision %llu is of the future, the current one is %llu",
            (unsigned long long)revision, (unsigned long long)registry->visible.revision);
    }
    if (revision != 0 && revision < registry->visible.compact_revision) {
        return error_set(
            error, STATUS_CLOSED, "revision %llu is compacted, the oldest kept is %llu",
            (unsigned long long)revision, (unsigned long long)registry->visible.compact_revision);
    }
    return STATUS_OK;
}

enum status registry_range(struct registry *registry, const struct registry_operation *operation,
                           struct arena *arena, uint64_t *ret_revision,
                           struct registry_response *ret_response, struct error *error)
{
    enum status status = registry_interval_check(operation->key, operation->end, error);
    if (status != STATUS_OK) return status;
    status = check_revision(registry, operation->revision, error);
    if (status != STATUS_OK) return status;

    arena_clear(&registry->scratch);
    struct arena_sink sink = { .sink.item = arena_sink_item, .arena = arena };
    struct registry_budget budget = { .scan_keys = REGISTRY_SCAN_KEYS_MAX,
                                      .answer_bytes = REGISTRY_RANGE_BYTES_MAX };
    struct registry_range_run run = {
        .registry = registry,
        .operation = operation,
        .revision = operation->revision == registry->visible.revision ? 0 : operation->revision,
        .budget = &budget,
        .sink = &sink.sink,
        .error = error,
    };
    status = registry_range_run(&run);
    if (status != STATUS_OK) return status;
    *ret_revision = registry->visible.revision;
    *ret_response = (struct registry_response) {
        .kind = REGISTRY_RANGE,
        .items = sink.items,
        .item_count = sink.count,
        .count = run.count,
        .more = run.more,
    };
    return STATUS_OK;
}
