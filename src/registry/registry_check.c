/* What makes a command or a range well-formed, whatever the state is. Judged where a command is
 * made, so that a bad one costs no log entry, and again where it is applied. */
#include "registry/registry_codec.h"

#include <stdio.h>
#include <stdlib.h>

/* Where in a command: the sentence begins with it. Empty for a command of one operation. */
enum { PLACE_TEXT_BYTES = 32 };

bool registry_range_is_infinite(struct bytes end)
{
    return end.size == 1 && end.data[0] == 0;
}

bool registry_range_holds(struct bytes start, struct bytes end, struct bytes key)
{
    if (end.size == 0) return bytes_equal(start, key);
    if (bytes_compare(key, start) < 0) return false;
    return registry_range_is_infinite(end) || bytes_compare(key, end) < 0;
}

static enum status check_key(struct bytes key, const char *place, struct error *error)
{
    if (key.size == 0) return error_set(error, STATUS_INVALID, "%skey is empty", place);
    if (key.size > LIMIT_KEY_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "%skey has %zu bytes, the maximum is %d", place,
                         key.size, LIMIT_KEY_BYTES_MAX);
    }
    return STATUS_OK;
}

static enum status check_value(struct bytes value, const char *place, struct error *error)
{
    if (value.size > LIMIT_VALUE_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "%svalue has %zu bytes, the maximum is %d", place,
                         value.size, LIMIT_VALUE_BYTES_MAX);
    }
    return STATUS_OK;
}

static enum status check_interval(struct bytes key, struct bytes end, const char *place,
                                  struct error *error)
{
    enum status status = check_key(key, place, error);
    if (status != STATUS_OK) return status;
    if (end.size > LIMIT_KEY_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "%send has %zu bytes, the maximum is %d", place,
                         end.size, LIMIT_KEY_BYTES_MAX);
    }
    if (end.size > 0 && !registry_range_is_infinite(end) && bytes_compare(end, key) <= 0) {
        return error_set(error, STATUS_INVALID, "%send is not above key", place);
    }
    return STATUS_OK;
}

enum status registry_interval_check(struct bytes key, struct bytes end, struct error *error)
{
    return check_interval(key, end, "", error);
}

static enum status check_operation(const struct registry_operation *operation, const char *place,
                                   struct error *error)
{
    enum status status = STATUS_INVALID;
    switch (operation->kind) {
    case REGISTRY_PUT:
        status = check_key(operation->key, place, error);
        if (status != STATUS_OK) return status;
        if (operation->end.size > 0) {
            return error_set(error, STATUS_INVALID, "%send is not for a put", place);
        }
        return check_value(operation->value, place, error);
    case REGISTRY_RANGE:
        if (operation->revision != 0) {
            return error_set(error, STATUS_INVALID,
                             "%srevision is not for a range in a transaction", place);
        }
        return check_interval(operation->key, operation->end, place, error);
    case REGISTRY_DELETE: return check_interval(operation->key, operation->end, place, error);
    }
    return error_set(error, status, "%skind %d is unknown", place, (int)operation->kind);
}

static int compare_keys(const void *a, const void *b)
{
    return bytes_compare((*(const struct registry_operation *const *)a)->key,
                         (*(const struct registry_operation *const *)b)->key);
}

/* A key changes at most once in a transaction: history names a version by key and revision. */
static enum status check_once(const struct registry_operation *operations, size_t count,
                              const char *branch, struct error *error)
{
    const struct registry_operation *puts[LIMIT_TXN_OPERATIONS_MAX];
    size_t put_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (operations[i].kind == REGISTRY_PUT) puts[put_count++] = &operations[i];
    }
    qsort(puts, put_count, sizeof(void *), compare_keys);
    for (size_t i = 1; i < put_count; i++) {
        if (!bytes_equal(puts[i - 1]->key, puts[i]->key)) continue;
        return error_set(error, STATUS_INVALID, "%s puts the same key twice", branch);
    }
    for (size_t i = 0; i < count; i++) {
        if (operations[i].kind != REGISTRY_DELETE) continue;
        for (size_t j = 0; j < put_count; j++) {
            if (!registry_range_holds(operations[i].key, operations[i].end, puts[j]->key)) continue;
            return error_set(error, STATUS_INVALID, "%s puts and deletes the same key", branch);
        }
    }
    return STATUS_OK;
}

static enum status check_branch(const struct registry_operation *operations, size_t count,
                                const char *branch, bool alone, struct error *error)
{
    if (count > LIMIT_TXN_OPERATIONS_MAX) {
        return error_set(error, STATUS_INVALID, "%s has %zu operations, the maximum is %d", branch,
                         count, LIMIT_TXN_OPERATIONS_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        char place[PLACE_TEXT_BYTES] = "";
        if (!alone) snprintf(place, sizeof place, "%s[%zu].", branch, i);
        enum status status = check_operation(&operations[i], place, error);
        if (status != STATUS_OK) return status;
    }
    return count < 2 ? STATUS_OK : check_once(operations, count, branch, error);
}

static enum status check_compares(const struct registry_command *command, struct error *error)
{
    if (command->compare_count > LIMIT_TXN_OPERATIONS_MAX) {
        return error_set(error, STATUS_INVALID, "compares has %zu entries, the maximum is %d",
                         command->compare_count, LIMIT_TXN_OPERATIONS_MAX);
    }
    for (size_t i = 0; i < command->compare_count; i++) {
        const struct registry_compare *compare = &command->compares[i];
        char place[PLACE_TEXT_BYTES];
        snprintf(place, sizeof place, "compares[%zu].", i);
        if ((unsigned)compare->target > REGISTRY_LEASE ||
            (unsigned)compare->result > REGISTRY_GREATER) {
            return error_set(error, STATUS_INVALID, "%starget or result is unknown", place);
        }
        enum status status = check_key(compare->key, place, error);
        if (status != STATUS_OK) return status;
        if (compare->target != REGISTRY_VALUE) continue;
        status = check_value(compare->value, place, error);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

static enum status check_transaction(const struct registry_command *command, struct error *error)
{
    bool alone =
        command->compare_count == 0 && command->success_count == 1 && command->failure_count == 0;
    enum status status = check_compares(command, error);
    if (status != STATUS_OK) return status;
    status = check_branch(command->success, command->success_count, "success", alone, error);
    if (status != STATUS_OK) return status;
    return check_branch(command->failure, command->failure_count, "failure", false, error);
}

enum status registry_command_check(const struct registry_command *command, struct error *error)
{
    switch (command->kind) {
    case REGISTRY_COMMAND_TXN: return check_transaction(command, error);
    case REGISTRY_COMMAND_GRANT:
        if (command->time_to_live_ms < REGISTRY_LEASE_MS_MIN ||
            command->time_to_live_ms > REGISTRY_LEASE_MS_MAX) {
            return error_set(error, STATUS_INVALID, "time_to_live_ms is %llu, not %llu to %llu",
                             (unsigned long long)command->time_to_live_ms, REGISTRY_LEASE_MS_MIN,
                             REGISTRY_LEASE_MS_MAX);
        }
        return STATUS_OK;
    case REGISTRY_COMMAND_KEEP:
    case REGISTRY_COMMAND_REVOKE:
        if (command->lease == 0) return error_set(error, STATUS_INVALID, "lease is zero");
        return STATUS_OK;
    }
    return error_set(error, STATUS_INVALID, "the command has the unknown kind %d",
                     (int)command->kind);
}
