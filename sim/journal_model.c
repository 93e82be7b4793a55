#include "sim/journal_model.h"

#include "base/checksum.h"

#include <stdio.h>
#include <stdlib.h>

static uint64_t draw(struct model *model, uint64_t bound)
{
    uint64_t value;
    random_below(&model->random.random, bound, &value);
    return value;
}

void model_init(struct model *model, struct sim_disk *sim, uint64_t seed)
{
    *model = (struct model) {
        .sim = sim,
        .options = { .folder = "journal",
                     .segment_bytes = MODEL_SEGMENT_BYTES,
                     .total_bytes_max = (uint64_t)10 * MODEL_SEGMENT_BYTES,
                     .disk_incarnation = { { 7 } } },
        .history = calloc(MODEL_HISTORY_MAX, sizeof(struct model_state)),
        .history_count = 1,
        .entry_bytes_max = 900,
    };
    if (model->history == NULL) abort();
    random_seeded_init(&model->random, seed);
    buffer_init(&model->buffer, LIMIT_ENTRY_BYTES_MAX);
}

void model_finish(struct model *model)
{
    model_close(model);
    free(model->history);
    buffer_finish(&model->buffer);
}

enum status model_open(struct model *model, struct error *error)
{
    return journal_open(&model->sim->disk, &model->options, &model->journal, error);
}

void model_close(struct model *model)
{
    journal_close(model->journal);
    model->journal = NULL;
}

struct model_state *model_now(struct model *model)
{
    return &model->history[model->history_count - 1];
}

/* A copy of the last state, to be changed by the step. */
static struct model_group *step_begin(struct model *model, unsigned group)
{
    if (model->history_count == MODEL_HISTORY_MAX) abort();
    model->history[model->history_count] = *model_now(model);
    model->history_count++;
    struct model_group *changed = &model_now(model)->groups[group];
    if (!changed->exists) *changed = (struct model_group) { .first = 1 };
    return changed;
}

static void make_bytes(uint32_t seed, uint32_t size, uint8_t *bytes)
{
    for (uint32_t i = 0; i < size; i++) bytes[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8));
}

static enum status flush_now(struct model *model)
{
    enum status status = journal_flush(model->journal, NULL);
    if (status != STATUS_OK) return status;
    model->history[0] = *model_now(model);
    model->history_count = 1;
    model->acknowledged++;
    return STATUS_OK;
}

enum status model_flush(struct model *model)
{
    return flush_now(model);
}

enum status model_mark(struct model *model)
{
    /* Covers what is staged only when nothing is: then it changes nothing. */
    return journal_mark_synced(model->journal, NULL);
}

enum status model_maintain(struct model *model)
{
    return journal_maintain(model->journal, NULL);
}

enum { TRIES_MAX = 16 };

enum status model_append(struct model *model, unsigned group, uint64_t back, uint32_t size)
{
    const struct model_group *before = &model_now(model)->groups[group];
    uint64_t first = before->exists ? before->first : 1;
    uint32_t count = before->exists ? before->count : 0;
    if (back > count) back = count;
    uint64_t index = first + count - back;
    if (index - first >= MODEL_ENTRIES_MAX) return STATUS_OK;
    struct model_entry entry = { .term = draw(model, 9),
                                 .size = size,
                                 .seed = (uint32_t)draw(model, UINT32_MAX) };
    uint8_t *bytes = malloc(size);
    if (bytes == NULL) abort();
    make_bytes(entry.seed, size, bytes);
    enum status status = STATUS_BUSY;
    for (unsigned tries = 0; status == STATUS_BUSY && tries < TRIES_MAX; tries++) {
        status =
            journal_append(model->journal, group + 1, index, entry.term, bytes_of(bytes, size));
        if (status != STATUS_BUSY) break;
        enum status flushed = flush_now(model);
        if (flushed != STATUS_OK) status = flushed;
    }
    free(bytes);
    if (status != STATUS_OK) return status;
    struct model_group *after = step_begin(model, group);
    after->exists = true;
    after->count = (uint32_t)(index - after->first) + 1;
    after->entries[after->count - 1] = entry;
    return STATUS_OK;
}

enum status model_put_state(struct model *model, unsigned group, uint32_t size)
{
    uint32_t seed = (uint32_t)draw(model, UINT32_MAX);
    uint8_t bytes[JOURNAL_GROUP_STATE_BYTES_MAX];
    make_bytes(seed, size, bytes);
    enum status status = STATUS_BUSY;
    for (unsigned tries = 0; status == STATUS_BUSY && tries < TRIES_MAX; tries++) {
        status = journal_put_state(model->journal, group + 1, bytes_of(bytes, size));
        if (status != STATUS_BUSY) break;
        enum status flushed = flush_now(model);
        if (flushed != STATUS_OK) status = flushed;
    }
    if (status != STATUS_OK) return status;
    struct model_group *after = step_begin(model, group);
    after->exists = true;
    after->state_size = size;
    after->state_seed = seed;
    return STATUS_OK;
}

enum status model_truncate(struct model *model, unsigned group, uint64_t index)
{
    enum status status = STATUS_BUSY;
    for (unsigned tries = 0; status == STATUS_BUSY && tries < TRIES_MAX; tries++) {
        status = journal_truncate(model->journal, group + 1, index);
        if (status != STATUS_BUSY) break;
        enum status flushed = flush_now(model);
        if (flushed != STATUS_OK) status = flushed;
    }
    if (status != STATUS_OK || !model_now(model)->groups[group].exists) return status;
    struct model_group *after = step_begin(model, group);
    while (after->count > 0 && after->first + after->count - 1 >= index) after->count--;
    return STATUS_OK;
}

enum status model_release(struct model *model, unsigned group, uint64_t index)
{
    enum status status = STATUS_BUSY;
    for (unsigned tries = 0; status == STATUS_BUSY && tries < TRIES_MAX; tries++) {
        status = journal_release(model->journal, group + 1, index);
        if (status != STATUS_BUSY) break;
        enum status flushed = flush_now(model);
        if (flushed != STATUS_OK) status = flushed;
    }
    if (status != STATUS_OK || !model_now(model)->groups[group].exists) return status;
    struct model_group *after = step_begin(model, group);
    while (after->count > 0 && after->first <= index) {
        memmove(after->entries, after->entries + 1, (after->count - 1) * sizeof *after->entries);
        after->first++;
        after->count--;
    }
    if (after->count == 0 && after->first <= index) after->first = index + 1;
    return STATUS_OK;
}

enum status model_remove(struct model *model, unsigned group)
{
    enum status status = STATUS_BUSY;
    for (unsigned tries = 0; status == STATUS_BUSY && tries < TRIES_MAX; tries++) {
        status = journal_remove_group(model->journal, group + 1);
        if (status != STATUS_BUSY) break;
        enum status flushed = flush_now(model);
        if (flushed != STATUS_OK) status = flushed;
    }
    if (status != STATUS_OK) return status;
    *step_begin(model, group) = (struct model_group) { 0 };
    return STATUS_OK;
}

enum status model_random_step(struct model *model)
{
    if (model->history_count >= MODEL_HISTORY_MAX - 2) return flush_now(model);
    /* Most steps are about two groups; the others idle and must be carried forward. */
    unsigned group = (unsigned)(draw(model, 8) > 0 ? draw(model, 2) : draw(model, MODEL_GROUPS));
    const struct model_group *now = &model_now(model)->groups[group];
    uint64_t any = now->first + draw(model, (uint64_t)now->count + 1);
    switch (draw(model, 24)) {
    case 0: return model_put_state(model, group, (uint32_t)draw(model, 200));
    case 1: return model_append(model, group, draw(model, 4), 20);
    case 2: return model_truncate(model, group, any + draw(model, 2));
    case 3:
    case 4: return model_release(model, group, any);
    case 5: return draw(model, 6) == 0 ? model_remove(model, group) : STATUS_OK;
    case 6:
    case 7:
    case 8:
    case 9:
    case 10: return flush_now(model);
    case 11: return model_mark(model);
    case 12:
    case 13: return model_maintain(model);
    default: break;
    }
    uint32_t size = 1 + (uint32_t)draw(model, model->entry_bytes_max);
    if (now->count == MODEL_ENTRIES_MAX) return model_release(model, group, any);
    return model_append(model, group, 0, size);
}

static bool group_equals(struct model *model, const struct model_group *group,
                         const struct journal_group *found)
{
    if (!group->exists || found->first_index != group->first) return false;
    if (found->last_index != group->first + group->count - 1) return false;
    uint8_t bytes[JOURNAL_GROUP_STATE_BYTES_MAX];
    make_bytes(group->state_seed, group->state_size, bytes);
    if (!bytes_equal(found->state, bytes_of(bytes, group->state_size))) return false;
    for (uint32_t i = 0; i < group->count; i++) {
        const struct model_entry *entry = &group->entries[i];
        uint64_t term, term_alone;
        enum status status =
            journal_read(model->journal, found->group, group->first + i, &term, &model->buffer);
        if (status != STATUS_OK) return false;
        if (journal_term(model->journal, found->group, group->first + i, &term_alone) !=
            STATUS_OK) {
            return false;
        }
        if (term != entry->term || term_alone != term) return false;
        if (model->buffer.used != entry->size) return false;
        uint8_t *expected = malloc(entry->size);
        if (expected == NULL) abort();
        make_bytes(entry->seed, entry->size, expected);
        bool same = memcmp(expected, model->buffer.data, entry->size) == 0;
        free(expected);
        if (!same) return false;
    }
    return true;
}

bool model_equals(struct model *model, const struct model_state *state)
{
    unsigned exist = 0, found_count = 0;
    for (unsigned i = 0; i < MODEL_GROUPS; i++) exist += state->groups[i].exists;
    struct journal_group found;
    for (uint64_t group = 0; journal_next_group(model->journal, group, &found) == STATUS_OK;
         group = found.group + 1) {
        if (found.group < 1 || found.group > MODEL_GROUPS) return false;
        if (!group_equals(model, &state->groups[found.group - 1], &found)) return false;
        found_count++;
    }
    return exist == found_count;
}

bool model_settle(struct model *model)
{
    for (unsigned i = model->history_count; i-- > 0;) {
        if (!model_equals(model, &model->history[i])) continue;
        model->history[0] = model->history[i];
        model->history_count = 1;
        return true;
    }
    return false;
}
