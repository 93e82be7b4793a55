/* One entry: end the leases that are due, run the command, forget old history, write the batch. */
#include "registry/registry_state.h"

#include <stdarg.h>
#include <stdio.h>

enum status registry_refuse(struct registry_apply *apply, enum status refusal, const char *format,
                            ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(apply->sentence.text, sizeof apply->sentence.text, format, arguments);
    va_end(arguments);
    apply->refusal = refusal;
    return refusal;
}

static enum status run_command(struct registry_apply *apply, struct bytes payload)
{
    struct registry_command command;
    struct error sentence = { 0 };
    enum status status =
        registry_command_decode(payload, &apply->registry->scratch, &command, &sentence);
    if (status == STATUS_OK) status = registry_command_check(&command, &sentence);
    if (status == STATUS_INVALID) return registry_refuse(apply, status, "%s", sentence.text);
    if (status != STATUS_OK) return error_set(apply->error, status, "%s", sentence.text);
    if (command.fence != 0) {
        return registry_refuse(apply, STATUS_DENIED, "the space knows no fencing number %llu",
                               (unsigned long long)command.fence);
    }
    if (command.kind == REGISTRY_COMMAND_TXN) return registry_apply_transaction(apply, &command);
    return registry_apply_lease(apply, &command);
}

static enum status apply_entry(struct registry_apply *apply, const struct entry *entry)
{
    struct registry *registry = apply->registry;
    enum status status = registry_leases_expire(apply);
    if (status != STATUS_OK) return status;
    if (entry->kind == ENTRY_COMMAND) {
        status = run_command(apply, entry->payload);
        if (apply->refusal != STATUS_OK) {
            status = registry_reply_refuse(apply->reply, apply->refusal,
                                           registry->counters.revision, apply->sentence.text);
        }
        if (status != STATUS_OK) return status;
    }
    status = registry_history_compact(apply);
    if (status != STATUS_OK) return status;
    return registry_changes_emit(apply);
}

/* Memory that one large value or revision needed is not kept for the small ones. */
static void forget_large(struct buffer *buffer)
{
    enum { BUFFER_BYTES_KEPT = 64 * 1024 };
    if (buffer->capacity <= BUFFER_BYTES_KEPT) return;
    size_t size_max = buffer->size_max;
    buffer_finish(buffer);
    buffer_init(buffer, size_max);
}

enum status registry_apply_entry(struct state_machine *machine, const struct apply_context *context,
                                 struct error *error)
{
    struct registry *registry = registry_of(machine);
    arena_clear(&registry->scratch);
    forget_large(&registry->record);
    forget_large(&registry->meta_record);
    registry->range = *context->range;
    struct registry_apply apply = {
        .registry = registry,
        .batch = context->batch,
        .now_ms = context->entry->computer_time_ms,
        .index = context->index,
        .reply = context->reply,
        .changes = RB_INITIALIZER(&apply.changes),
        .budget = { .scan_keys = REGISTRY_SCAN_KEYS_MAX, .answer_bytes = REGISTRY_RANGE_BYTES_MAX },
        .error = error,
    };
    STAILQ_INIT(&apply.revisions);
    context->reply->used = 0;
    enum status status = apply_entry(&apply, context->entry);
    if (status != STATUS_OK) {
        return error_wrap(error, status, "registry, entry %llu",
                          (unsigned long long)context->index);
    }
    return STATUS_OK;
}
