/* Transactions: compares on the state before, then the operations of one branch in order, each
 * seeing what the earlier ones did. All changes are one revision; a refusal leaves nothing. */
#include "registry/registry_state.h"

static bool numbers_match(uint64_t actual, uint64_t wanted, enum registry_result result)
{
    switch (result) {
    case REGISTRY_EQUAL: return actual == wanted;
    case REGISTRY_NOT_EQUAL: return actual != wanted;
    case REGISTRY_LESS: return actual < wanted;
    case REGISTRY_GREATER: return actual > wanted;
    }
    return false;
}

static enum status read_value(struct registry_apply *apply, struct bytes key,
                              const struct registry_meta *meta,
                              const struct registry_change *change, struct bytes *ret_value)
{
    if (change != NULL) {
        *ret_value = change->value;
        return STATUS_OK;
    }
    return registry_read_version(apply->registry, key, meta->modify_revision, NULL, ret_value,
                                 apply->error);
}

static enum status compare_holds(struct registry_apply *apply,
                                 const struct registry_compare *compare, bool *ret_holds)
{
    struct registry_meta meta = { 0 };
    struct registry_change *change = NULL;
    enum status status = registry_change_lookup(apply, compare->key, &meta, &change);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) return status;
    /* All numbers of a missing key are 0; a missing value equals nothing, and differs from nothing.
     */
    bool found = status == STATUS_OK;
    switch (compare->target) {
    case REGISTRY_VERSION:
        *ret_holds = numbers_match(meta.version, compare->number, compare->result);
        return STATUS_OK;
    case REGISTRY_CREATE_REVISION:
        *ret_holds = numbers_match(meta.create_revision, compare->number, compare->result);
        return STATUS_OK;
    case REGISTRY_MODIFY_REVISION:
        *ret_holds = numbers_match(meta.modify_revision, compare->number, compare->result);
        return STATUS_OK;
    case REGISTRY_LEASE:
        *ret_holds = numbers_match(meta.lease, compare->number, compare->result);
        return STATUS_OK;
    case REGISTRY_VALUE: break;
    }
    if (!found) {
        *ret_holds = false;
        return STATUS_OK;
    }
    struct bytes value;
    status = read_value(apply, compare->key, &meta, change, &value);
    if (status != STATUS_OK) return status;
    int order = bytes_compare(value, compare->value);
    *ret_holds = numbers_match(order < 0 ? 0 : order == 0 ? 1 : 2, 1, compare->result);
    return STATUS_OK;
}

static enum status compare_all(struct registry_apply *apply, const struct registry_command *command,
                               bool *ret_succeeded)
{
    bool succeeded = true;
    for (size_t i = 0; i < command->compare_count && succeeded; i++) {
        enum status status = compare_holds(apply, &command->compares[i], &succeeded);
        if (status != STATUS_OK) return status;
    }
#ifdef MUTATION_TXN_COMPARE_IGNORED
    succeeded = true; /* whatever the compares say */
#endif
    *ret_succeeded = succeeded;
    return STATUS_OK;
}

static enum status reply_failed(struct registry_apply *apply, enum status status)
{
    return error_set(apply->error, status, "no room for a reply");
}

/* The version of KEY before the operation, for return_previous. */
static enum status reply_previous(struct registry_apply *apply, struct registry_response_mark *mark,
                                  struct bytes key, const struct registry_meta *meta,
                                  const struct registry_change *change)
{
    uint64_t bytes = key.size + meta->value_size + sizeof(struct registry_item);
    if (bytes > apply->budget.answer_bytes) {
        return registry_refuse(apply, STATUS_INVALID,
                               "return_previous would answer more than %d bytes",
                               REGISTRY_RANGE_BYTES_MAX);
    }
    apply->budget.answer_bytes -= bytes;
    struct bytes value;
    enum status status = read_value(apply, key, meta, change, &value);
    if (status != STATUS_OK) return status;
    struct registry_item item = {
        .key = key,
        .value = value,
        .create_revision = meta->create_revision,
        .modify_revision = meta->modify_revision,
        .version = meta->version,
        .lease = meta->lease,
    };
    status = registry_reply_item(apply->reply, mark, &item);
    return status == STATUS_OK ? STATUS_OK : reply_failed(apply, status);
}

static enum status check_quota(struct registry_apply *apply,
                               const struct registry_operation *operation,
                               const struct registry_meta *previous)
{
    const struct registry *registry = apply->registry;
    uint64_t before =
        previous == NULL ? 0 : registry_version_bytes(operation->key, previous->value_size);
    uint64_t after = registry_version_bytes(operation->key, operation->value.size);
    /* What shrinks is always allowed, also when the space is over its quota. */
    if (after <= before) return STATUS_OK;
    uint64_t bytes = registry->counters.bytes - before + after;
    if (bytes <= registry->limits.quota_bytes) return STATUS_OK;
    return registry_refuse(
        apply, STATUS_FULL, "the space would hold %llu bytes, its quota is %llu; delete keys first",
        (unsigned long long)bytes, (unsigned long long)registry->limits.quota_bytes);
}

static enum status operate_put(struct registry_apply *apply, struct registry_revision *revision,
                               const struct registry_operation *operation)
{
    struct registry_response_mark mark;
    enum status status = registry_reply_response_begin(apply->reply, REGISTRY_PUT, &mark);
    if (status != STATUS_OK) return reply_failed(apply, status);
    struct registry_meta meta;
    struct registry_change *change = NULL;
    status = registry_change_lookup(apply, operation->key, &meta, &change);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) return status;
    const struct registry_meta *previous = status == STATUS_OK ? &meta : NULL;

    if (operation->lease != 0 && (previous == NULL || previous->lease != operation->lease)) {
        status = registry_lease_check_attach(apply, operation->lease, operation->key);
        if (status != STATUS_OK) return status;
    }
    status = check_quota(apply, operation, previous);
    if (status != STATUS_OK) return status;
    if (operation->return_previous && previous != NULL) {
        status = reply_previous(apply, &mark, operation->key, previous, change);
        if (status != STATUS_OK) return status;
    }
    registry_reply_response_end(apply->reply, &mark, 0, false);
    return registry_change_put(apply, revision, operation->key, operation->value, operation->lease,
                               previous);
}

/* KEY must outlive the apply. */
static enum status delete_one(struct registry_apply *apply, struct registry_revision *revision,
                              const struct registry_operation *operation,
                              struct registry_response_mark *mark, struct bytes key,
                              const struct registry_meta *meta,
                              const struct registry_change *change)
{
    if (revision->deleted_count >= REGISTRY_REVISION_EVENTS_MAX ||
        revision->deleted_bytes + key.size > REGISTRY_REVISION_DELETED_BYTES_MAX) {
        return registry_refuse(apply, STATUS_INVALID,
                               "more than %d keys or %d bytes of keys would be deleted at once; "
                               "delete the range in parts",
                               REGISTRY_REVISION_EVENTS_MAX, REGISTRY_REVISION_DELETED_BYTES_MAX);
    }
    if (operation->return_previous) {
        enum status status = reply_previous(apply, mark, key, meta, change);
        if (status != STATUS_OK) return status;
    }
    return registry_change_delete(apply, revision, key, meta);
}

static enum status delete_range(struct registry_apply *apply, struct registry_revision *revision,
                                const struct registry_operation *operation,
                                struct registry_response_mark *mark, uint64_t *ret_count)
{
    struct registry *registry = apply->registry;
    struct registry_cursor_options options = {
        .registry = registry,
        .apply = apply,
        .key = operation->key,
        .end = operation->end,
        .error = apply->error,
    };
    struct registry_cursor *cursor;
    enum status status = registry_cursor_open(&options, &cursor);
    if (status != STATUS_OK) return status;
    struct registry_cursor_key found;
    uint64_t count = 0;
    while ((status = registry_cursor_next(cursor, &found)) == STATUS_OK) {
        struct bytes key = arena_copy(&registry->scratch, found.key);
        if (key.data == NULL) {
            status = error_set(apply->error, STATUS_NO_MEMORY, "no memory for an apply");
            break;
        }
        status = delete_one(apply, revision, operation, mark, key, &found.meta, found.change);
        if (status != STATUS_OK) break;
        count++;
    }
    registry_cursor_close(cursor);
    *ret_count = count;
    return status == STATUS_NOT_FOUND && apply->refusal == STATUS_OK ? STATUS_OK : status;
}

static enum status operate_delete(struct registry_apply *apply, struct registry_revision *revision,
                                  const struct registry_operation *operation)
{
    struct registry_response_mark mark;
    enum status status = registry_reply_response_begin(apply->reply, REGISTRY_DELETE, &mark);
    if (status != STATUS_OK) return reply_failed(apply, status);
    uint64_t count = 0;
    if (operation->end.size > 0) {
        status = delete_range(apply, revision, operation, &mark, &count);
        if (status != STATUS_OK) return status;
    } else {
        struct registry_meta meta;
        struct registry_change *change = NULL;
        status = registry_change_lookup(apply, operation->key, &meta, &change);
        if (status != STATUS_OK && status != STATUS_NOT_FOUND) return status;
        if (status == STATUS_OK) {
            status = delete_one(apply, revision, operation, &mark, operation->key, &meta, change);
            if (status != STATUS_OK) return status;
            count = 1;
        }
    }
    registry_reply_response_end(apply->reply, &mark, count, false);
    return STATUS_OK;
}

struct reply_sink {
    struct registry_range_sink sink;
    struct buffer *reply;
    struct registry_response_mark mark;
};

static enum status reply_sink_item(struct registry_range_sink *sink,
                                   const struct registry_item *item)
{
    struct reply_sink *reply_sink = (struct reply_sink *)sink;
    return registry_reply_item(reply_sink->reply, &reply_sink->mark, item);
}

static enum status operate_range(struct registry_apply *apply,
                                 const struct registry_operation *operation)
{
    struct reply_sink sink = { .sink.item = reply_sink_item, .reply = apply->reply };
    enum status status = registry_reply_response_begin(apply->reply, REGISTRY_RANGE, &sink.mark);
    if (status != STATUS_OK) return reply_failed(apply, status);
    struct registry_range_run run = {
        .registry = apply->registry,
        .apply = apply,
        .operation = operation,
        .budget = &apply->budget,
        .sink = &sink.sink,
        .error = apply->error,
    };
    status = registry_range_run(&run);
    if (status != STATUS_OK) return status;
    registry_reply_response_end(apply->reply, &sink.mark, run.count, run.more);
    return STATUS_OK;
}

static enum status operate_all(struct registry_apply *apply, struct registry_revision *revision,
                               const struct registry_operation *operations, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        enum status status = STATUS_OK;
        switch (operations[i].kind) {
        case REGISTRY_PUT: status = operate_put(apply, revision, &operations[i]); break;
        case REGISTRY_DELETE: status = operate_delete(apply, revision, &operations[i]); break;
        case REGISTRY_RANGE: status = operate_range(apply, &operations[i]); break;
        }
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

enum status registry_apply_transaction(struct registry_apply *apply,
                                       const struct registry_command *command)
{
    struct registry *registry = apply->registry;
    bool succeeded = false;
    enum status status = compare_all(apply, command, &succeeded);
    if (status != STATUS_OK) return status;
    size_t count = succeeded ? command->success_count : command->failure_count;
    status = registry_reply_transaction(apply->reply, succeeded, count);
    if (status != STATUS_OK) return reply_failed(apply, status);

    struct registry_counters before = registry->counters;
    struct registry_revision *revision = registry_revision_begin(apply);
    if (revision == NULL)
        return error_set(apply->error, STATUS_NO_MEMORY, "no memory for an apply");
    status = operate_all(apply, revision, succeeded ? command->success : command->failure, count);
    if (status != STATUS_OK) {
        if (apply->refusal != STATUS_OK) registry_revision_drop(apply, revision, &before);
        return status;
    }
    registry_revision_end(apply, revision);
    registry_reply_set_revision(apply->reply, registry->counters.revision);
    return STATUS_OK;
}
