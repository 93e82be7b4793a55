#include "registry/registry_model.h"

const char *const model_keys[MODEL_KEYS] = { "a",  "a/1", "a/2", "a/2/x", "a/3", "aa",
                                             "ab", "b",   "b/1", "c",     "d",   "d/z" };

bool model_in_range(struct bytes start, struct bytes end, unsigned key)
{
    struct bytes name = bytes_of_text(model_keys[key]);
    if (end.size == 0) return bytes_equal(name, start);
    if (bytes_compare(name, start) < 0) return false;
    return (end.size == 1 && end.data[0] == 0) || bytes_compare(name, end) < 0;
}

bool model_changed(const struct model *model, uint64_t revision, unsigned key)
{
    const struct model_item *before = &model->states[revision - 1].items[key];
    const struct model_item *after = &model->states[revision].items[key];
    return after->modify_revision == revision || (before->there && !after->there);
}

static uint64_t bytes_in_use(const struct model_state *state)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        if (!state->items[i].there) continue;
        bytes += strlen(model_keys[i]) + state->items[i].value_size + MODEL_ITEM_OVERHEAD;
    }
    return bytes;
}

static struct model_lease *find_lease(struct model *model, uint64_t number)
{
    for (unsigned i = 0; i < MODEL_LEASES; i++) {
        if (number != 0 && model->leases[i].number == number) return &model->leases[i];
    }
    return NULL;
}

static void end_lease(struct model *model, struct model_lease *lease)
{
    struct model_state next = model->states[model->revision];
    bool changed = false;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        if (!next.items[i].there || next.items[i].lease != lease->number) continue;
        next.items[i] = (struct model_item) { 0 };
        changed = true;
    }
    lease->number = 0;
    if (changed) model->states[++model->revision] = next;
}

static void end_due_leases(struct model *model, uint64_t now_ms)
{
    for (;;) {
        struct model_lease *first = NULL;
        for (unsigned i = 0; i < MODEL_LEASES; i++) {
            struct model_lease *lease = &model->leases[i];
            if (lease->number == 0 || lease->ends_at_ms > now_ms) continue;
            if (first == NULL || lease->ends_at_ms < first->ends_at_ms ||
                (lease->ends_at_ms == first->ends_at_ms && lease->number < first->number)) {
                first = lease;
            }
        }
        if (first == NULL) return;
        end_lease(model, first);
    }
}

static void range_of_state(const struct model_state *state,
                           const struct registry_operation *operation,
                           struct model_response *response)
{
    uint64_t limit = operation->limit == 0 ? 1000 : operation->limit;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        unsigned key = operation->descending ? MODEL_KEYS - 1 - i : i;
        const struct model_item *item = &state->items[key];
        if (!item->there || !model_in_range(operation->key, operation->end, key)) continue;
        response->count++;
        if (operation->count_only) continue;
        if (response->item_count == limit) {
            response->more = true;
            continue;
        }
        response->keys[response->item_count] = key;
        response->items[response->item_count] = *item;
        if (operation->keys_only) response->items[response->item_count].value_size = 0;
        response->item_count++;
    }
}

void model_range(const struct model *model, uint64_t revision,
                 const struct registry_operation *operation, struct model_response *ret_response)
{
    *ret_response = (struct model_response) { 0 };
    range_of_state(&model->states[revision], operation, ret_response);
}

static bool matches(int order, enum registry_result result)
{
    return result == REGISTRY_EQUAL       ? order == 0
           : result == REGISTRY_NOT_EQUAL ? order != 0
           : result == REGISTRY_LESS      ? order < 0
                                          : order > 0;
}

static bool compare_holds(const struct model_state *state, const struct registry_compare *compare)
{
    static const struct model_item missing;
    const struct model_item *item = &missing;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        if (bytes_equal(compare->key, bytes_of_text(model_keys[i]))) item = &state->items[i];
    }
    uint64_t number = compare->target == REGISTRY_VERSION           ? item->version
                      : compare->target == REGISTRY_CREATE_REVISION ? item->create_revision
                      : compare->target == REGISTRY_MODIFY_REVISION ? item->modify_revision
                                                                    : item->lease;
    if (compare->target != REGISTRY_VALUE) {
        return matches(number < compare->number ? -1 : number > compare->number, compare->result);
    }
    if (!item->there) return false;
    return matches(bytes_compare(bytes_of(item->value, item->value_size), compare->value),
                   compare->result);
}

static enum status put(struct model *model, struct model_state *state,
                       const struct registry_operation *operation, struct model_response *response)
{
    unsigned key = 0;
    while (!bytes_equal(operation->key, bytes_of_text(model_keys[key]))) key++;
    struct model_item *item = &state->items[key];
    if (operation->lease != 0 && !(item->there && item->lease == operation->lease) &&
        find_lease(model, operation->lease) == NULL) {
        return STATUS_NOT_FOUND;
    }
    struct model_item before = *item;
    if (before.there && operation->return_previous) {
        response->keys[0] = key;
        response->items[0] = before;
        response->item_count = 1;
    }
    uint64_t bytes_before = bytes_in_use(state);
    *item = (struct model_item) {
        .there = true,
        .create_revision = before.there ? before.create_revision : model->revision + 1,
        .modify_revision = model->revision + 1,
        .version = before.there ? before.version + 1 : 1,
        .lease = operation->lease,
        .value_size = operation->value.size,
    };
    memcpy(item->value, operation->value.data, operation->value.size);
    uint64_t bytes = bytes_in_use(state);
    return bytes > bytes_before && bytes > model->quota_bytes ? STATUS_FULL : STATUS_OK;
}

static void delete_keys(struct model_state *state, const struct registry_operation *operation,
                        struct model_response *response)
{
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        if (!state->items[i].there || !model_in_range(operation->key, operation->end, i)) continue;
        if (operation->return_previous) {
            response->keys[response->item_count] = i;
            response->items[response->item_count++] = state->items[i];
        }
        state->items[i] = (struct model_item) { 0 };
        response->count++;
    }
}

static enum status transact(struct model *model, const struct registry_command *command,
                            struct model_reply *reply)
{
    struct model_state state = model->states[model->revision];
    reply->succeeded = true;
    for (size_t i = 0; i < command->compare_count; i++) {
        if (!compare_holds(&state, &command->compares[i])) reply->succeeded = false;
    }
    const struct registry_operation *operations =
        reply->succeeded ? command->success : command->failure;
    reply->response_count = reply->succeeded ? command->success_count : command->failure_count;
    bool changed = false;
    for (size_t i = 0; i < reply->response_count; i++) {
        struct model_response *response = &reply->responses[i];
        *response = (struct model_response) { 0 };
        enum status status = STATUS_OK;
        switch (operations[i].kind) {
        case REGISTRY_PUT:
            status = put(model, &state, &operations[i], response);
            changed = true;
            break;
        case REGISTRY_DELETE:
            delete_keys(&state, &operations[i], response);
            if (response->count > 0) changed = true;
            break;
        case REGISTRY_RANGE: range_of_state(&state, &operations[i], response); break;
        }
        if (status != STATUS_OK) return status;
    }
    if (changed) model->states[++model->revision] = state;
    return STATUS_OK;
}

static enum status grant(struct model *model, uint64_t index, uint64_t now_ms,
                         const struct registry_command *command, struct model_reply *reply)
{
    uint64_t number = command->lease;
    if (number != 0 && find_lease(model, number) != NULL) return STATUS_EXISTS;
    if (number == 0) {
        number = index;
        while (find_lease(model, number) != NULL) number++;
    }
    for (unsigned i = 0; i < MODEL_LEASES; i++) {
        if (model->leases[i].number != 0) continue;
        model->leases[i] = (struct model_lease) { number, command->time_to_live_ms,
                                                  now_ms + command->time_to_live_ms };
        reply->lease = number;
        reply->time_to_live_ms = command->time_to_live_ms;
        return STATUS_OK;
    }
    return STATUS_INTERNAL; /* the test grants no more than there is room for */
}

void model_apply(struct model *model, uint64_t index, uint64_t now_ms,
                 const struct registry_command *command, struct model_reply *ret_reply)
{
    ret_reply->status = STATUS_OK;
    ret_reply->succeeded = false;
    ret_reply->response_count = 0;
    ret_reply->lease = ret_reply->time_to_live_ms = 0;
    end_due_leases(model, now_ms);
    struct model_lease *lease = command == NULL ? NULL : find_lease(model, command->lease);
    if (command == NULL) {
    } else if (command->kind == REGISTRY_COMMAND_TXN) {
        ret_reply->status = transact(model, command, ret_reply);
    } else if (command->kind == REGISTRY_COMMAND_GRANT) {
        ret_reply->status = grant(model, index, now_ms, command, ret_reply);
    } else if (lease == NULL) {
        ret_reply->status = STATUS_NOT_FOUND;
    } else {
        ret_reply->lease = lease->number;
        ret_reply->time_to_live_ms = lease->time_to_live_ms;
        if (command->kind == REGISTRY_COMMAND_KEEP) {
            lease->ends_at_ms = now_ms + lease->time_to_live_ms;
        } else {
            end_lease(model, lease);
        }
    }
    ret_reply->revision = model->revision;
}
