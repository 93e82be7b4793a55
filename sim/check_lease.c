#include "sim/check_lease.h"

#include <assert.h>
#include <stdlib.h>

enum kind { EXTENDED, REVOKED, READ, DOWN };

struct record {
    enum kind kind;
    uint64_t lease; /* 0: down */
    uint64_t start_ns, end_ns;
    uint64_t time_to_live_ns;
    bool answered; /* read: found */
};

struct check_lease {
    uint64_t slack_ns;
    struct record *records;
    size_t count, capacity;
};

enum status check_lease_create(uint64_t slack_ns, struct check_lease **ret_check)
{
    struct check_lease *check = calloc(1, sizeof *check);
    if (check == NULL) return STATUS_NO_MEMORY;
    check->slack_ns = slack_ns;
    *ret_check = check;
    return STATUS_OK;
}

void check_lease_destroy(struct check_lease *check)
{
    if (check == NULL) return;
    free(check->records);
    free(check);
}

static enum status add(struct check_lease *check, struct record record)
{
    enum { RECORDS_FIRST = 256 };
    assert(record.start_ns <= record.end_ns);
    if (check->count == CHECK_LEASE_RECORDS_MAX) return STATUS_FULL;
    if (check->count == check->capacity) {
        size_t capacity = check->capacity == 0 ? RECORDS_FIRST : 2 * check->capacity;
        struct record *records = realloc(check->records, capacity * sizeof *records);
        if (records == NULL) return STATUS_NO_MEMORY;
        check->records = records;
        check->capacity = capacity;
    }
    check->records[check->count++] = record;
    return STATUS_OK;
}

enum status check_lease_extended(struct check_lease *check, uint64_t lease, uint64_t start_ns,
                                 uint64_t end_ns, uint64_t time_to_live_ns, bool answered)
{
    assert(lease != 0);
    return add(check, (struct record) { .kind = EXTENDED,
                                        .lease = lease,
                                        .start_ns = start_ns,
                                        .end_ns = end_ns,
                                        .time_to_live_ns = time_to_live_ns,
                                        .answered = answered });
}

enum status check_lease_revoked(struct check_lease *check, uint64_t lease, uint64_t start_ns,
                                uint64_t end_ns, bool answered)
{
    assert(lease != 0);
    return add(check, (struct record) { .kind = REVOKED,
                                        .lease = lease,
                                        .start_ns = start_ns,
                                        .end_ns = end_ns,
                                        .answered = answered });
}

enum status check_lease_read(struct check_lease *check, uint64_t lease, uint64_t start_ns,
                             uint64_t end_ns, bool found)
{
    assert(lease != 0);
    return add(check, (struct record) { .kind = READ,
                                        .lease = lease,
                                        .start_ns = start_ns,
                                        .end_ns = end_ns,
                                        .answered = found });
}

enum status check_lease_down(struct check_lease *check, uint64_t start_ns, uint64_t end_ns)
{
    return add(check, (struct record) { .kind = DOWN, .start_ns = start_ns, .end_ns = end_ns });
}

/* --- verdict -----------------------------------------------------------------------------------
 */

static int compare_records(const void *a, const void *b)
{
    const struct record *left = a, *right = b;
    if (left->lease != right->lease) return left->lease < right->lease ? -1 : 1;
    if (left->start_ns != right->start_ns) return left->start_ns < right->start_ns ? -1 : 1;
    if (left->end_ns != right->end_ns) return left->end_ns < right->end_ns ? -1 : 1;
    return (left->kind > right->kind) - (left->kind < right->kind);
}

/* How long the machine was off between FROM and TO. The downs stand first, for their lease is 0. */
static uint64_t time_off(const struct check_lease *check, uint64_t from_ns, uint64_t to_ns)
{
    uint64_t off_ns = 0;
    for (size_t i = 0; i < check->count && check->records[i].kind == DOWN; i++) {
        uint64_t start = check->records[i].start_ns, end = check->records[i].end_ns;
        if (start < from_ns) start = from_ns;
        if (end > to_ns) end = to_ns;
        if (start < end) off_ns += end - start;
    }
    return off_ns;
}

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

/* RECORDS are those of one lease. */
static enum status check_missing(const struct record *records, size_t count,
                                 const struct record *read, struct error *error)
{
    uint64_t alive_until_ns = 0;
    for (size_t i = 0; i < count; i++) {
        const struct record *record = &records[i];
        if (record->kind == REVOKED && record->start_ns <= read->end_ns) return STATUS_OK;
        if (record->kind != EXTENDED || !record->answered) continue;
        if (record->end_ns > read->start_ns) continue;
        uint64_t until_ns = record->start_ns + record->time_to_live_ns;
        if (until_ns > alive_until_ns) alive_until_ns = until_ns;
    }
    if (read->end_ns >= alive_until_ns) return STATUS_OK;
    return error_set(error, STATUS_CONFLICT,
                     "lease %llu ended early: it lives to %.6f s at least, but its key was missing "
                     "in a read from %.6f s to %.6f s",
                     (unsigned long long)read->lease, seconds(alive_until_ns),
                     seconds(read->start_ns), seconds(read->end_ns));
}

static enum status check_found(const struct check_lease *check, const struct record *records,
                               size_t count, const struct record *read, struct error *error)
{
    uint64_t latest_ns = 0;
    for (size_t i = 0; i < count; i++) {
        const struct record *record = &records[i];
        if (record->kind == REVOKED && record->answered && record->end_ns < read->start_ns) {
            return error_set(error, STATUS_CONFLICT,
                             "lease %llu was revoked by %.6f s, but its key was found in a read "
                             "from %.6f s on",
                             (unsigned long long)read->lease, seconds(record->end_ns),
                             seconds(read->start_ns));
        }
        if (record->kind != EXTENDED || record->start_ns > read->end_ns) continue;
        uint64_t until_ns = record->end_ns + record->time_to_live_ns + check->slack_ns +
                            time_off(check, record->start_ns, read->end_ns);
        if (until_ns > latest_ns) latest_ns = until_ns;
    }
    if (read->start_ns <= latest_ns) return STATUS_OK;
    return error_set(error, STATUS_CONFLICT,
                     "lease %llu lives too long: it had to end by %.6f s, but its key was found in "
                     "a read from %.6f s to %.6f s",
                     (unsigned long long)read->lease, seconds(latest_ns), seconds(read->start_ns),
                     seconds(read->end_ns));
}

static enum status check_records(const struct check_lease *check, const struct record *records,
                                 size_t count, struct error *error)
{
    for (size_t i = 0; i < count; i++) {
        if (records[i].kind != READ) continue;
        enum status status = records[i].answered
                                 ? check_found(check, records, count, &records[i], error)
                                 : check_missing(records, count, &records[i], error);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

enum status check_lease_verdict(struct check_lease *check, struct error *error)
{
    if (check->count == 0) return STATUS_OK;
    qsort(check->records, check->count, sizeof *check->records, compare_records);
    size_t from = 0;
    for (size_t i = 1; i <= check->count; i++) {
        if (i < check->count && check->records[i].lease == check->records[from].lease) continue;
        if (check->records[from].lease != 0) {
            enum status status = check_records(check, check->records + from, i - from, error);
            if (status != STATUS_OK) return status;
        }
        from = i;
    }
    return STATUS_OK;
}
