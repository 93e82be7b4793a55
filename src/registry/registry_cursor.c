/* Keys in order from two sides: the store's current keys, and beside them either the changes of an
 * apply (which hide the store's) or the keys whose deletion is in the history. */
#include "registry/registry_state.h"

struct registry_cursor {
    struct registry_cursor_options options;
    struct store_iterator *current;
    struct bytes current_key, current_value;
    bool current_there, current_taken;
    struct store_iterator *deleted;
    struct bytes deleted_key;
    bool deleted_there, deleted_taken;
    struct registry_change *change; /* the next one in the range, or NULL */
};

static enum status open_side(struct registry_cursor *cursor, uint8_t prefix,
                             struct store_iterator **ret_iterator)
{
    struct registry *registry = cursor->options.registry;
    struct bytes from, to;
    bool current = prefix == REGISTRY_PREFIX_CURRENT;
    from = current ? registry_key_current(registry->key_scratch[0], cursor->options.key)
                   : registry_key_deleted(registry->key_scratch[0], cursor->options.key);
    if (registry_range_is_infinite(cursor->options.end)) {
        to = registry_key_after(registry->key_scratch[1], prefix);
    } else {
        to = current ? registry_key_current(registry->key_scratch[1], cursor->options.end)
                     : registry_key_deleted(registry->key_scratch[1], cursor->options.end);
    }
    enum status status = store_iterator_create(&registry->range, NULL, from, to,
                                               cursor->options.descending, ret_iterator);
    if (status != STATUS_OK) {
        return error_set(cursor->options.error, status, "can't read a range of keys");
    }
    return STATUS_OK;
}

static bool change_in_range(const struct registry_cursor *cursor,
                            const struct registry_change *change)
{
    return change != NULL &&
           registry_range_holds(cursor->options.key, cursor->options.end, change->key);
}

static void open_changes(struct registry_cursor *cursor)
{
    if (cursor->options.apply == NULL || RB_EMPTY(&cursor->options.apply->changes)) return;
    struct registry_changes *changes = &cursor->options.apply->changes;
    struct registry_change wanted = { .key = cursor->options.key };
    struct registry_change *change;
    if (!cursor->options.descending) {
        change = RB_NFIND(registry_changes, changes, &wanted);
    } else if (registry_range_is_infinite(cursor->options.end)) {
        change = RB_MAX(registry_changes, changes);
    } else {
        wanted.key = cursor->options.end;
        change = RB_NFIND(registry_changes, changes, &wanted);
        change = change == NULL ? RB_MAX(registry_changes, changes)
                                : RB_PREV(registry_changes, changes, change);
    }
    cursor->change = change_in_range(cursor, change) ? change : NULL;
}

enum status registry_cursor_open(const struct registry_cursor_options *options,
                                 struct registry_cursor **ret_cursor)
{
    struct registry_cursor *cursor = arena_take(&options->registry->scratch, sizeof *cursor);
    if (cursor == NULL) {
        return error_set(options->error, STATUS_NO_MEMORY, "no memory to read a range");
    }
    cursor->options = *options;
    cursor->current_taken = cursor->deleted_taken = true;
    enum status status = open_side(cursor, REGISTRY_PREFIX_CURRENT, &cursor->current);
    if (status != STATUS_OK) return status;
    cursor->current_there = true;
    if (options->with_deleted) {
        status = open_side(cursor, REGISTRY_PREFIX_DELETED, &cursor->deleted);
        if (status != STATUS_OK) {
            store_iterator_destroy(cursor->current);
            return status;
        }
        cursor->deleted_there = true;
    }
    open_changes(cursor);
    *ret_cursor = cursor;
    return STATUS_OK;
}

void registry_cursor_close(struct registry_cursor *cursor)
{
    store_iterator_destroy(cursor->current);
    if (cursor->deleted != NULL) store_iterator_destroy(cursor->deleted);
}

static enum status fill_side(struct registry_cursor *cursor, struct store_iterator *iterator,
                             struct bytes *key, struct bytes *value, bool *there, bool *taken)
{
    if (!*there || !*taken) return STATUS_OK;
    enum status status = store_iterator_next(iterator, key, value);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
        return error_set(cursor->options.error, status, "can't read a range of keys");
    }
    *there = status == STATUS_OK;
    *taken = false;
    /* Without the prefix. */
    if (*there) *key = bytes_of(key->data + 1, key->size - 1);
    return STATUS_OK;
}

/* The first of two sides in the cursor's direction: <0, 0 (the same key), >0. */
static int compare_sides(const struct registry_cursor *cursor, bool a_there, struct bytes a,
                         bool b_there, struct bytes b)
{
    if (!a_there || !b_there) return a_there ? -1 : 1;
    int order = bytes_compare(a, b);
    return cursor->options.descending ? -order : order;
}

static void advance_change(struct registry_cursor *cursor)
{
    struct registry_change *next =
        cursor->options.descending
            ? RB_PREV(registry_changes, &cursor->options.apply->changes, cursor->change)
            : RB_NEXT(registry_changes, &cursor->options.apply->changes, cursor->change);
    cursor->change = change_in_range(cursor, next) ? next : NULL;
}

static enum status take_current(struct registry_cursor *cursor, struct registry_cursor_key *ret_key)
{
    cursor->current_taken = true;
    struct registry_cursor_key found = { .key = cursor->current_key, .current = true };
    if (registry_meta_decode(cursor->current_value, &found.meta) != DECODE_OK) {
        return error_set(cursor->options.error, STATUS_CORRUPT, "the record of a key is damaged");
    }
    *ret_key = found;
    return STATUS_OK;
}

enum status registry_cursor_next(struct registry_cursor *cursor,
                                 struct registry_cursor_key *ret_key)
{
    for (;;) {
        enum status status =
            fill_side(cursor, cursor->current, &cursor->current_key, &cursor->current_value,
                      &cursor->current_there, &cursor->current_taken);
        struct bytes unused;
        if (status == STATUS_OK) {
            status = fill_side(cursor, cursor->deleted, &cursor->deleted_key, &unused,
                               &cursor->deleted_there, &cursor->deleted_taken);
        }
        if (status != STATUS_OK) return status;

        struct registry_change *change = cursor->change;
        if (change != NULL) {
            int order = compare_sides(cursor, cursor->current_there, cursor->current_key, true,
                                      change->key);
            if (order < 0) return take_current(cursor, ret_key);
            if (order == 0) cursor->current_taken = true; /* hidden by the change */
            advance_change(cursor);
            if (change->deleted) continue;
            *ret_key = (struct registry_cursor_key) {
                .key = change->key, .current = true, .meta = change->now, .change = change
            };
            return STATUS_OK;
        }
        if (!cursor->current_there && !cursor->deleted_there) return STATUS_NOT_FOUND;
        int order = compare_sides(cursor, cursor->current_there, cursor->current_key,
                                  cursor->deleted_there, cursor->deleted_key);
        if (order == 0) cursor->deleted_taken = true; /* deleted once, and there again */
        if (order <= 0) return take_current(cursor, ret_key);
        cursor->deleted_taken = true;
        *ret_key = (struct registry_cursor_key) { .key = cursor->deleted_key };
        return STATUS_OK;
    }
}
