#include "sim/witness.h"

#include <inttypes.h>
#include <stdlib.h>

struct seen {
    uint64_t hash, time_ms;
};

struct group {
    uint64_t number;  /* 0: unused */
    uint64_t last;    /* highest index ever applied */
    uint64_t current; /* in this life; 0: none yet */
    struct seen *seen;
    uint64_t capacity;
};

struct witness {
    struct group groups[WITNESS_GROUPS_MAX];
};

enum status witness_create(struct witness **ret_witness)
{
    struct witness *witness = calloc(1, sizeof *witness);
    if (witness == NULL) return STATUS_NO_MEMORY;
    *ret_witness = witness;
    return STATUS_OK;
}

void witness_destroy(struct witness *witness)
{
    if (witness == NULL) return;
    for (size_t i = 0; i < WITNESS_GROUPS_MAX; i++) free(witness->groups[i].seen);
    free(witness);
}

void witness_restarted(struct witness *witness)
{
    for (size_t i = 0; i < WITNESS_GROUPS_MAX; i++) witness->groups[i].current = 0;
}

static struct group *find(struct witness *witness, uint64_t number)
{
    for (size_t i = 0; i < WITNESS_GROUPS_MAX; i++) {
        struct group *group = &witness->groups[i];
        if (group->number == 0) group->number = number;
        if (group->number == number) return group;
    }
    return NULL;
}

static enum status make_room(struct group *group, uint64_t index)
{
    if (index < group->capacity) return STATUS_OK;
    if (index >= WITNESS_INDEX_MAX) return STATUS_FULL;
    uint64_t capacity = group->capacity == 0 ? 1024 : group->capacity;
    while (capacity <= index) capacity *= 2;
    struct seen *seen = realloc(group->seen, capacity * sizeof *seen);
    if (seen == NULL) return STATUS_NO_MEMORY;
    for (uint64_t i = group->capacity; i < capacity; i++) seen[i] = (struct seen) { 0 };
    group->seen = seen;
    group->capacity = capacity;
    return STATUS_OK;
}

enum status witness_applied(struct witness *witness, uint64_t number, uint64_t index,
                            uint64_t running_hash, uint64_t computer_time_ms, struct error *error)
{
    struct group *group = find(witness, number);
    if (group == NULL) return error_set(error, STATUS_FULL, "too many groups");
    enum status status = make_room(group, index);
    if (status != STATUS_OK)
        return error_set(error, status, "group %" PRIu64 " is too long", number);
    uint64_t expected = group->current != 0 ? group->current + 1 : 0;
    if (expected != 0 ? index != expected : index > group->last + 1) {
        return error_set(error, STATUS_CONFLICT,
                         "group %" PRIu64 " applies entry %" PRIu64 " after %" PRIu64, number,
                         index, expected != 0 ? group->current : group->last);
    }
    group->current = index;
    struct seen *seen = &group->seen[index];
    if (index <= group->last) {
        if (seen->hash == running_hash && seen->time_ms == computer_time_ms) return STATUS_OK;
        return error_set(error, STATUS_CONFLICT,
                         "group %" PRIu64 " at entry %" PRIu64 " has running hash %016" PRIx64
                         " at computer time %" PRIu64 ", it was %016" PRIx64 " at %" PRIu64,
                         number, index, running_hash, computer_time_ms, seen->hash, seen->time_ms);
    }
    if (index > 1 && computer_time_ms < group->seen[index - 1].time_ms) {
        return error_set(error, STATUS_CONFLICT,
                         "computer time of group %" PRIu64 " goes back from %" PRIu64 " to %" PRIu64
                         " at entry %" PRIu64,
                         number, group->seen[index - 1].time_ms, computer_time_ms, index);
    }
    *seen = (struct seen) { .hash = running_hash, .time_ms = computer_time_ms };
    group->last = index;
    return STATUS_OK;
}
