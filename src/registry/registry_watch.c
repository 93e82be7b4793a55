/* Watches: a cursor into the history. A watch that has caught up need not look at revisions that
 * don't concern it: apply finds the watches of a changed key in the intervals and leaves with each
 * the first revision it has to read. */
#include "registry/registry_state.h"

#include <stdlib.h>

/* Revisions that one call looks at, so that a watch far behind does not hold up the others. */
enum { WATCH_SCAN_REVISIONS_MAX = 1000 };

enum status registry_watch_create(struct registry *registry,
                                  const struct registry_watch_options *options,
                                  struct registry_watch **ret_watch, struct error *error)
{
    enum status status = registry_interval_check(options->key, options->end, error);
    if (status != STATUS_OK) return status;
    if (registry->watch_count >= REGISTRY_WATCHES_MAX) {
        return error_set(error, STATUS_BUSY, "the space has %d watches, the maximum",
                         REGISTRY_WATCHES_MAX);
    }
    struct registry_watch *watch = calloc(1, sizeof *watch + options->key.size + options->end.size);
    if (watch == NULL) return error_set(error, STATUS_NO_MEMORY, "no memory for a watch");

    uint8_t *keys = (uint8_t *)(watch + 1);
    memcpy(keys, options->key.data, options->key.size);
    if (options->end.size > 0) {
        memcpy(keys + options->key.size, options->end.data, options->end.size);
    }
    watch->interval.start = bytes_of(keys, options->key.size);
    watch->interval.infinite = registry_range_is_infinite(options->end);
    if (!watch->interval.infinite) {
        watch->interval.end = bytes_of(keys + options->key.size, options->end.size);
    }
    watch->registry = registry;
    watch->cursor =
        options->start_revision == 0 ? registry->visible.revision + 1 : options->start_revision;
    watch->caught_up = watch->cursor > registry->counters.revision;
    watch->include_previous = options->include_previous;
    watch->notify = options->notify;
    watch->context = options->context;
    registry_interval_insert(&registry->intervals, &watch->interval);
    registry->watch_count++;
    *ret_watch = watch;
    return STATUS_OK;
}

void registry_watch_destroy(struct registry_watch *watch)
{
    if (watch == NULL) return;
    if (watch->registry == NULL) {
        free(watch);
        return;
    }
    if (watch->marked) TAILQ_REMOVE(&watch->registry->marked, watch, marks);
    registry_interval_remove(&watch->registry->intervals, &watch->interval);
    watch->registry->watch_count--;
    free(watch);
}

static void mark(struct registry *registry, struct registry_watch *watch)
{
    if (watch->marked) return;
    watch->marked = true;
    TAILQ_INSERT_TAIL(&registry->marked, watch, marks);
}

void registry_watches_mark(struct registry *registry, struct bytes key, uint64_t revision)
{
    struct registry_interval *interval = NULL;
    for (;;) {
        interval = registry_interval_find(&registry->intervals, key, interval);
        if (interval == NULL) return;
        struct registry_watch *watch = (struct registry_watch *)interval;
        if (revision < watch->cursor) continue; /* it asked for the future */
        if (watch->caught_up && watch->hit == 0) watch->hit = revision;
        mark(registry, watch);
    }
}

void registry_watches_notify(struct registry *registry)
{
    /* One by one from the front: a call may end this watch and others. */
    struct registry_watch *watch;
    while ((watch = TAILQ_FIRST(&registry->marked)) != NULL) {
        TAILQ_REMOVE(&registry->marked, watch, marks);
        watch->marked = false;
        if (watch->notify != NULL) watch->notify(watch->context);
    }
}

void registry_watches_reset(struct registry *registry)
{
    struct registry_interval *interval = NULL;
    while ((interval = registry_interval_next(&registry->intervals, interval)) != NULL) {
        struct registry_watch *watch = (struct registry_watch *)interval;
        if (watch->caught_up) {
            uint64_t from = watch->hit != 0 ? watch->hit : registry->visible.revision + 1;
            if (watch->cursor < from) watch->cursor = from;
        }
        watch->caught_up = false;
        watch->hit = 0;
        mark(registry, watch);
    }
}

void registry_watches_orphan(struct registry *registry)
{
    /* One by one: what is told may destroy this watch and others. */
    while (registry->intervals.root != NULL) {
        struct registry_watch *watch = (struct registry_watch *)registry->intervals.root;
        if (watch->marked) TAILQ_REMOVE(&registry->marked, watch, marks);
        registry_interval_remove(&registry->intervals, &watch->interval);
        registry->watch_count--;
        watch->registry = NULL;
        if (watch->notify != NULL) watch->notify(watch->context);
    }
}

/* --- reading -----------------------------------------------------------------------------------
 */

struct watch_read {
    struct registry_watch *watch;
    struct arena *arena;
    struct registry_event *events;
    size_t count, capacity;
    uint64_t bytes;
    bool left_out; /* a previous value */
    struct error *error;
};

static enum status no_memory(struct watch_read *read)
{
    return error_set(read->error, STATUS_NO_MEMORY, "no memory for the events of a watch");
}

static struct registry_event *add_event(struct watch_read *read)
{
    enum { EVENTS_FIRST = 16 };
    if (read->count == read->capacity) {
        size_t capacity = read->capacity == 0 ? EVENTS_FIRST : read->capacity * 2;
        struct registry_event *events = arena_take(read->arena, capacity * sizeof *events);
        if (events == NULL) return NULL;
        if (read->count > 0) memcpy(events, read->events, read->count * sizeof *events);
        read->events = events;
        read->capacity = capacity;
    }
    return &read->events[read->count++];
}

static enum status read_item(struct watch_read *read, struct bytes key, uint64_t revision,
                             struct registry_item *ret_item)
{
    struct registry_meta meta;
    struct bytes value;
    enum status status =
        registry_read_version(read->watch->registry, key, revision, &meta, &value, read->error);
    if (status != STATUS_OK) return status;
    value = arena_copy(read->arena, value);
    if (value.data == NULL) return no_memory(read);
    *ret_item = (struct registry_item) {
        .key = key,
        .value = value,
        .create_revision = meta.create_revision,
        .modify_revision = revision,
        .version = meta.version,
        .lease = meta.lease,
    };
    read->bytes += value.size;
    return STATUS_OK;
}

static enum status deliver_event(struct watch_read *read, uint64_t revision,
                                 const struct registry_history_event *history)
{
    struct bytes key = arena_copy(read->arena, history->key);
    struct registry_event *event = key.data == NULL ? NULL : add_event(read);
    if (event == NULL) return no_memory(read);
    /* Counted twice where there is a previous version, which carries the key again. */
    read->bytes += sizeof *event + 2 * key.size;
    *event = (struct registry_event) { .deleted = history->deleted };
    enum status status = STATUS_OK;
    if (history->deleted) {
        event->item = (struct registry_item) { .key = key, .modify_revision = revision };
    } else {
        status = read_item(read, key, revision, &event->item);
    }
    if (status != STATUS_OK || !read->watch->include_previous || !history->has_previous) {
        return status;
    }
    if (read->bytes + history->previous_value_size > REGISTRY_RANGE_BYTES_MAX) {
        read->left_out = true;
        return STATUS_OK;
    }
    status = read_item(read, key, history->previous_revision, &event->previous);
    event->has_previous = status == STATUS_OK;
    return status;
}

/* All events of REVISION that the watch wants. The record is copied first: reading versions uses
 * the same memory. */
static enum status deliver_revision(struct watch_read *read, uint64_t revision)
{
    struct registry *registry = read->watch->registry;
    enum status status =
        store_get(&registry->range, NULL, registry_key_history(registry->key_scratch[0], revision),
                  &registry->meta_record);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
        return error_set(read->error, status, "can't read the history");
    }
    struct registry_counters unused;
    struct reader reader;
    size_t count = 0;
    bool good =
        status == STATUS_OK && registry_history_decode_head(
                                   bytes_of(registry->meta_record.data, registry->meta_record.used),
                                   &unused, &count, &reader) == DECODE_OK;
    struct registry_interval *interval = &read->watch->interval;
    struct bytes end = interval->infinite ? bytes_of("", 1) : interval->end;
    for (size_t i = 0; i < count && good; i++) {
        struct registry_history_event event;
        good = registry_history_decode_event(&reader, &event) == DECODE_OK;
        if (!good || !registry_range_holds(interval->start, end, event.key)) continue;
        status = deliver_event(read, revision, &event);
        if (status != STATUS_OK) return status;
    }
    if (good) return STATUS_OK;
    return error_set(read->error, STATUS_CORRUPT, "the record of revision %llu is damaged",
                     (unsigned long long)revision);
}

static enum status deliver(struct watch_read *read, uint64_t last, size_t event_count_max)
{
    struct registry_watch *watch = read->watch;
    unsigned scanned = 0;
    while (watch->cursor <= last && scanned < WATCH_SCAN_REVISIONS_MAX) {
        size_t count_before = read->count;
        enum status status = deliver_revision(read, watch->cursor);
        /* A revision that does not fit is left for the next call, if this one has anything. */
        bool over = read->count > event_count_max || read->bytes > REGISTRY_RANGE_BYTES_MAX ||
                    read->left_out;
        if ((status == STATUS_NO_MEMORY || (status == STATUS_OK && over)) && count_before > 0) {
            read->count = count_before;
            return STATUS_OK;
        }
        if (status != STATUS_OK) return status;
        watch->cursor++;
        scanned++;
        if (read->count >= event_count_max) return STATUS_OK;
    }
    return STATUS_OK;
}

enum status registry_watch_next(struct registry_watch *watch, size_t event_count_max,
                                struct arena *arena, struct registry_event **ret_events,
                                size_t *ret_count, uint64_t *ret_revision, struct error *error)
{
    struct registry *registry = watch->registry;
    if (registry == NULL) return error_set(error, STATUS_CLOSED, "the space was closed");
    uint64_t last = registry->visible.revision;
    if (watch->caught_up) {
        /* A hit behind the visible state is of an apply that is not in the store yet. */
        bool hit = watch->hit != 0 && watch->hit <= last;
        uint64_t from = hit ? watch->hit : last + 1;
        if (watch->cursor < from) watch->cursor = from;
    }
    if (watch->cursor <= registry->visible.compact_revision) {
        return error_set(error, STATUS_CLOSED,
                         "revision %llu is compacted, the oldest kept is %llu",
                         (unsigned long long)watch->cursor,
                         (unsigned long long)registry->visible.compact_revision + 1);
    }
    uint64_t cursor_before = watch->cursor;
    struct watch_read read = { .watch = watch, .arena = arena, .error = error };
    enum status status = deliver(&read, last, event_count_max);
    if (status != STATUS_OK) {
        watch->cursor = cursor_before;
        return status;
    }
    *ret_events = read.events;
    *ret_count = read.count;
    *ret_revision = watch->cursor - 1 < last ? watch->cursor - 1 : last;
#ifdef MUTATION_WATCH_TWICE
    if (read.count > 0 && *ret_revision % 4 == 0)
        watch->cursor--; /* its last revision comes again */
#endif
#ifdef MUTATION_WATCH_SKIPS_ONE
    if (read.count > 0 && *ret_revision % 4 == 0) watch->cursor++; /* one it has not looked at */
#endif
    /* From now on apply leaves a hit; what it did meanwhile without one must be looked at. */
    if (watch->cursor > registry->counters.revision) {
        watch->caught_up = true;
        watch->hit = 0;
    } else if (!(watch->caught_up && watch->hit > last)) {
        watch->caught_up = false;
        watch->hit = 0;
    }
    return STATUS_OK;
}
