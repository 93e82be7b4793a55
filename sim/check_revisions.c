/* What spans keys: revisions rise with real time, belong to one change each, and a read shows what
 * the changes up to its revision left. */
#include "sim/check_linear_internal.h"

#include <stdlib.h>

static bool has_revision(const struct check_linear_operation *operation)
{
    return !operation->unknown && operation->revision != 0;
}

static bool changes(const struct check_linear_operation *operation)
{
    switch (operation->kind) {
    case CHECK_LINEAR_PUT: return true;
    case CHECK_LINEAR_GET: return false;
    case CHECK_LINEAR_DELETE:
    case CHECK_LINEAR_SWAP: return operation->succeeded;
    }
    return false;
}

static uint64_t value_after(const struct check_linear_operation *operation)
{
    return operation->kind == CHECK_LINEAR_DELETE ? 0 : operation->value;
}

static enum status bad(struct error *error, const struct check_linear_operation *operation,
                       const char *what, uint64_t other)
{
    return error_set(error, STATUS_CONFLICT,
                     "key %u: the %s from %.6f s to %.6f s has revision %llu, %s %llu",
                     operation->key, check_linear_name(operation->kind),
                     (double)operation->start_ns / 1e9, (double)operation->end_ns / 1e9,
                     (unsigned long long)operation->revision, what, (unsigned long long)other);
}

static const struct check_linear_operation *at(const void *pointer)
{
    return *(const struct check_linear_operation *const *)pointer;
}

static int by_start(const void *a, const void *b)
{
    const struct check_linear_operation *left = at(a), *right = at(b);
    if (left->start_ns != right->start_ns) return left->start_ns < right->start_ns ? -1 : 1;
    return left < right ? -1 : left > right;
}

static int by_end(const void *a, const void *b)
{
    const struct check_linear_operation *left = at(a), *right = at(b);
    if (left->end_ns != right->end_ns) return left->end_ns < right->end_ns ? -1 : 1;
    return left < right ? -1 : left > right;
}

/* Changes first, then by transaction, so that those of one revision stand together. */
static int by_revision(const void *a, const void *b)
{
    const struct check_linear_operation *left = at(a), *right = at(b);
    if (left->revision != right->revision) return left->revision < right->revision ? -1 : 1;
    if (changes(left) != changes(right)) return changes(left) ? -1 : 1;
    if (left->transaction != right->transaction) {
        return left->transaction < right->transaction ? -1 : 1;
    }
    return left < right ? -1 : left > right;
}

static int by_transaction(const void *a, const void *b)
{
    const struct check_linear_operation *left = at(a), *right = at(b);
    if (left->transaction != right->transaction) {
        return left->transaction < right->transaction ? -1 : 1;
    }
    return left < right ? -1 : left > right;
}

/* What ended before another began has no higher revision, and a lower one than a change. */
static enum status check_time(const struct check_linear_operation **starts,
                              const struct check_linear_operation **ends, size_t count,
                              struct error *error)
{
    uint64_t highest = 0;
    size_t ended = 0;
    for (size_t i = 0; i < count; i++) {
        for (; ended < count && ends[ended]->end_ns < starts[i]->start_ns; ended++) {
            if (ends[ended]->revision > highest) highest = ends[ended]->revision;
        }
        if (starts[i]->revision < highest) {
            return bad(error, starts[i], "after an answer had shown", highest);
        }
        if (changes(starts[i]) && starts[i]->revision == highest) {
            return bad(error, starts[i], "a new change with the one shown before:", highest);
        }
    }
    return STATUS_OK;
}

/* One revision, one change: an operation alone, or one transaction. */
static enum status check_unique(const struct check_linear_operation **revisions, size_t count,
                                struct error *error)
{
    for (size_t i = 1; i < count; i++) {
        const struct check_linear_operation *before = revisions[i - 1], *now = revisions[i];
        if (!changes(before) || !changes(now) || before->revision != now->revision) continue;
        if (before->transaction == 0 || before->transaction != now->transaction) {
            return bad(error, now, "as has another change, of key", before->key);
        }
    }
    return STATUS_OK;
}

static enum status check_transactions(const struct check_linear_operation **transactions,
                                      size_t count, struct error *error)
{
    for (size_t i = 1; i < count; i++) {
        const struct check_linear_operation *before = transactions[i - 1], *now = transactions[i];
        if (now->transaction == 0 || before->transaction != now->transaction) continue;
        if (before->revision != now->revision) {
            return bad(error, now, "another part of its transaction", before->revision);
        }
    }
    return STATUS_OK;
}

static bool unknown_leaves(const struct check_linear_operation *operations, size_t count,
                           uint64_t value)
{
    for (size_t i = 0; i < count; i++) {
        const struct check_linear_operation *operation = &operations[i];
        if (!operation->unknown || operation->kind == CHECK_LINEAR_GET) continue;
        if (value_after(operation) == value) return true;
    }
    return false;
}

/* OPERATIONS are those of one key; LIST is room for pointers to them. */
static enum status check_reads(const struct check_linear_operation *operations, size_t count,
                               const struct check_linear_operation **list, struct error *error)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (has_revision(&operations[i])) list[used++] = &operations[i];
    }
    qsort(list, used, sizeof(void *), by_revision);
    uint64_t value = 0;
    for (size_t i = 0; i < used; i++) {
        if (changes(list[i])) value = value_after(list[i]);
        if (list[i]->kind != CHECK_LINEAR_GET || list[i]->value == value) continue;
        if (unknown_leaves(operations, count, list[i]->value)) continue;
        return bad(error, list[i],
                   "but reads another value than the changes up to it left:", list[i]->value);
    }
    return STATUS_OK;
}

static enum status check_all_reads(const struct check_linear *check,
                                   const struct check_linear_operation **list, struct error *error)
{
    size_t from = 0;
    for (size_t i = 1; i <= check->count; i++) {
        if (i < check->count && check->operations[i].key == check->operations[from].key) continue;
        enum status status = check_reads(check->operations + from, i - from, list, error);
        if (status != STATUS_OK) return status;
        from = i;
    }
    return STATUS_OK;
}

enum status check_linear_revisions(const struct check_linear *check, struct error *error)
{
    const struct check_linear_operation **list = calloc(check->count, sizeof(void *));
    const struct check_linear_operation **other = calloc(check->count, sizeof(void *));
    enum status status = list == NULL || other == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK) {
        size_t count = 0;
        for (size_t i = 0; i < check->count; i++) {
            if (has_revision(&check->operations[i])) list[count++] = &check->operations[i];
        }
        for (size_t i = 0; i < count; i++) other[i] = list[i];
        qsort(list, count, sizeof(void *), by_start);
        qsort(other, count, sizeof(void *), by_end);
        status = check_time(list, other, count, error);
        qsort(list, count, sizeof(void *), by_revision);
        if (status == STATUS_OK) status = check_unique(list, count, error);
        qsort(list, count, sizeof(void *), by_transaction);
        if (status == STATUS_OK) status = check_transactions(list, count, error);
        if (status == STATUS_OK) status = check_all_reads(check, list, error);
    }
    free(list);
    free(other);
    return status;
}
