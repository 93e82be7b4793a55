/* Compaction: the space forgets its oldest revisions by itself, as part of apply, so that every
 * replica forgets the same ones. Forgetting revision R removes the versions that R replaced, the
 * tombstones that R left, and in time R's record; afterwards the state at R can be read still, the
 * events of R not. */
#include "registry/registry_state.h"

static enum status forget_event(struct registry_apply *apply,
                                const struct registry_history_event *event, uint64_t revision)
{
    struct registry *registry = apply->registry;
    const struct store_range *range = &registry->range;
    if (event->has_previous) {
        store_batch_delete(
            apply->batch, range,
            registry_key_version(registry->key_scratch[0], event->key, event->previous_revision));
    }
    registry->counters.history_bytes -= registry_event_bytes(event);
    if (!event->deleted) return STATUS_OK;

    store_batch_delete(apply->batch, range,
                       registry_key_version(registry->key_scratch[0], event->key, revision));
    /* A later deletion of the same key has its own note under the same name. */
    struct bytes note = registry_key_deleted(registry->key_scratch[0], event->key);
    enum status status = store_get(range, NULL, note, &registry->meta_record);
    if (status == STATUS_NOT_FOUND) return STATUS_OK;
    if (status != STATUS_OK) return error_set(apply->error, status, "can't read a deletion");
    if (registry->meta_record.used != 8) {
        return error_set(apply->error, STATUS_CORRUPT, "the note of a deletion is damaged");
    }
    if (load_u64_le(registry->meta_record.data) == revision) {
        store_batch_delete(apply->batch, range, note);
    }
    return STATUS_OK;
}

static enum status forget_revision(struct registry_apply *apply, struct bytes record,
                                   uint64_t revision, size_t *event_count)
{
    struct registry_counters unused;
    struct reader reader;
    size_t count = 0;
    bool good = registry_history_decode_head(record, &unused, &count, &reader) == DECODE_OK;
    for (size_t i = 0; i < count && good; i++) {
        struct registry_history_event event;
        good = registry_history_decode_event(&reader, &event) == DECODE_OK;
        if (!good) break;
        enum status status = forget_event(apply, &event, revision);
        if (status != STATUS_OK) return status;
    }
    if (!good) {
        return error_set(apply->error, STATUS_CORRUPT, "the record of revision %llu is damaged",
                         (unsigned long long)revision);
    }
    *event_count += count;
    return STATUS_OK;
}

/* Is there more history than should be kept? Compaction begins some way above the maximum (of
 * revisions) and goes on some way below it (of bytes), so that it works in steps. */
static bool over_limits(const struct registry *registry, bool begun)
{
    const struct registry_counters *counters = &registry->counters;
    uint64_t revisions_max = registry->limits.history_revisions_max;
    uint64_t bytes_max = registry->limits.history_bytes_max;
    if (begun) {
        bytes_max -= bytes_max / 64;
    } else {
        uint64_t slack = revisions_max / 8;
        revisions_max += slack < REGISTRY_COMPACT_STEP ? slack : REGISTRY_COMPACT_STEP;
    }
    return counters->revision - counters->compact_revision > revisions_max ||
           counters->history_bytes > bytes_max;
}

/* Records of forgotten revisions are erased by the thousands with one range, since a deletion of
 * each would cost a put as much as its event. BEFORE: compact_revision before this apply. */
static void erase_records(struct registry_apply *apply, uint64_t before)
{
    struct registry *registry = apply->registry;
    uint64_t step = registry->limits.history_revisions_max / 8 + 1;
    uint64_t from = before / step * step;
    uint64_t to = registry->counters.compact_revision / step * step;
    if (from == to) return;
    store_batch_delete_range(apply->batch, &registry->range,
                             registry_key_history(registry->key_scratch[0], from),
                             registry_key_history(registry->key_scratch[1], to));
}

enum status registry_history_compact(struct registry_apply *apply)
{
    struct registry *registry = apply->registry;
    /* Only what the store has can be read, and the last record holds the counters. */
    uint64_t last = registry->visible.revision;
    if (STAILQ_EMPTY(&apply->revisions) || last == 0) return STATUS_OK;
    if (!over_limits(registry, false)) return STATUS_OK;

    const struct store_range *range = &registry->range;
    uint64_t first = registry->counters.compact_revision + 1;
    /* A revision has an event at least, so no more are looked at. The store has to write what is
     * pending before it can iterate over it; the oldest revisions are not. */
    if (last >= first + REGISTRY_COMPACT_EVENTS_MAX) last = first + REGISTRY_COMPACT_EVENTS_MAX - 1;
    struct store_iterator *iterator;
    enum status status = store_iterator_create(
        range, NULL, registry_key_history(registry->key_scratch[0], first),
        registry_key_history(registry->key_scratch[1], last + 1), false, &iterator);
    if (status != STATUS_OK) return error_set(apply->error, status, "can't read the history");

    size_t event_count = 0;
    uint64_t revision = first;
    for (; revision <= last && event_count < REGISTRY_COMPACT_EVENTS_MAX; revision++) {
        if (!over_limits(registry, true)) break;
        struct bytes key, record;
        status = store_iterator_next(iterator, &key, &record);
        if (status == STATUS_OK && (key.size != 9 || load_u64_be(key.data + 1) != revision)) {
            status = STATUS_NOT_FOUND;
        }
        if (status == STATUS_NOT_FOUND) {
            status = error_set(apply->error, STATUS_CORRUPT, "revision %llu is not in the history",
                               (unsigned long long)revision);
            break;
        }
        if (status != STATUS_OK) break;
        status = forget_revision(apply, record, revision, &event_count);
        if (status != STATUS_OK) break;
        registry->counters.compact_revision = revision;
    }
    store_iterator_destroy(iterator);
    if (status == STATUS_OK) erase_records(apply, first - 1);
    return status;
}
