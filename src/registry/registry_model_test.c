/* The registry does what the reference does, for any order of commands.
 *
 * Method: from a seed, random transactions, leases, steps of time, ranges of the present and of
 * past revisions, watches from past revisions read at random moments, and reopens; after each,
 * every answer is compared with the model's. Limits are so small that history is compacted and the
 * quota refuses. Every entry is also applied on a second instance, which must write the same
 * batches. Arguments: seeds, first seed. */
#include "base/random.h"
#include "registry/registry_harness.h"
#include "registry/registry_model.h"
#include "registry/registry_model_store.h"

#include <stdio.h>
#include <stdlib.h>

enum { OPERATIONS_MAX = 6, COMPARES_MAX = 3, WATCHES = 4, STEPS = 150 };

struct watcher {
    struct registry_watch *watch;
    uint64_t next; /* the first revision not delivered */
    struct bytes start, end;
    bool include_previous;
};

struct trial {
    uint64_t seed;
    struct random_seeded random;
    struct store *stores[2];
    struct registry_limits limits;
    struct registry_harness harness;
    struct model *model;
    struct watcher watchers[WATCHES];
    struct registry_operation operations[2][OPERATIONS_MAX];
    struct registry_compare compares[COMPARES_MAX];
    uint8_t values[2 * OPERATIONS_MAX + COMPARES_MAX][MODEL_VALUE_BYTES_MAX];
    unsigned values_used;
    struct model_reply expected;
};

static void expect_true(const struct trial *trial, bool good, const char *what, int line)
{
    if (good) return;
    fprintf(stderr, "seed %llu, entry %llu, line %d: %s\n", (unsigned long long)trial->seed,
            (unsigned long long)trial->harness.index, line, what);
    abort();
}
#define EXPECT(condition) expect_true(trial, condition, #condition, __LINE__)

static uint64_t below(struct trial *trial, uint64_t bound)
{
    uint64_t value;
    random_below(&trial->random.random, bound, &value);
    return value;
}

static bool one_in(struct trial *trial, uint64_t n)
{
    return below(trial, n) == 0;
}

static struct bytes random_key(struct trial *trial)
{
    return bytes_of_text(model_keys[below(trial, MODEL_KEYS)]);
}

static struct bytes random_value(struct trial *trial)
{
    uint8_t *value = trial->values[trial->values_used++];
    size_t size = (size_t)below(trial, one_in(trial, 3) ? 2 : MODEL_VALUE_BYTES_MAX);
    for (size_t i = 0; i < size; i++) value[i] = (uint8_t)('a' + below(trial, 3));
    return bytes_of(value, size);
}

static uint64_t random_lease(struct trial *trial)
{
    if (one_in(trial, 8)) return below(trial, 12);
    return trial->model->leases[below(trial, MODEL_LEASES)].number;
}

static void random_interval(struct trial *trial, struct bytes *key, struct bytes *end)
{
    *key = random_key(trial);
    *end = bytes_of(NULL, 0);
    if (one_in(trial, 2)) return;
    *end = random_key(trial);
    if (bytes_compare(*end, *key) <= 0) *end = bytes_of("", 1);
}

static struct registry_operation random_range(struct trial *trial)
{
    struct registry_operation operation = {
        .kind = REGISTRY_RANGE,
        .limit = one_in(trial, 2) ? 0 : below(trial, 5),
        .keys_only = one_in(trial, 4),
        .count_only = one_in(trial, 6),
        .descending = one_in(trial, 3),
    };
    random_interval(trial, &operation.key, &operation.end);
    return operation;
}

static struct registry_operation random_operation(struct trial *trial)
{
    uint64_t kind = below(trial, 10);
    struct registry_operation operation = { .return_previous = one_in(trial, 2) };
    if (kind < 6) {
        operation.kind = REGISTRY_PUT;
        operation.key = random_key(trial);
        operation.value = random_value(trial);
        if (one_in(trial, 3)) operation.lease = random_lease(trial);
    } else if (kind < 8) {
        operation.kind = REGISTRY_DELETE;
        random_interval(trial, &operation.key, &operation.end);
    } else {
        operation = random_range(trial);
    }
    return operation;
}

static struct registry_compare random_compare(struct trial *trial)
{
    struct registry_compare compare = {
        .key = random_key(trial),
        .target = (enum registry_target)below(trial, 5),
        .result = (enum registry_result)below(trial, 4),
    };
    if (compare.target == REGISTRY_VALUE) {
        compare.value = random_value(trial);
    } else {
        bool small = compare.target == REGISTRY_VERSION || compare.target == REGISTRY_LEASE;
        compare.number = below(trial, small ? 4 : trial->model->revision + 2);
    }
    return compare;
}

static struct registry_command random_command(struct trial *trial)
{
    trial->values_used = 0;
    unsigned free_leases = 0;
    for (unsigned i = 0; i < MODEL_LEASES; i++) free_leases += trial->model->leases[i].number == 0;
    uint64_t kind = below(trial, 20);
    if (kind == 0 && free_leases > 0) {
        return (struct registry_command) { .kind = REGISTRY_COMMAND_GRANT,
                                           .lease = below(trial, 6),
                                           .time_to_live_ms = 1000 + below(trial, 4000) };
    }
    uint64_t lease = random_lease(trial);
    if (kind == 1 && lease != 0) {
        return (struct registry_command) { .kind = REGISTRY_COMMAND_KEEP, .lease = lease };
    }
    if (kind == 2 && lease != 0) {
        return (struct registry_command) { .kind = REGISTRY_COMMAND_REVOKE, .lease = lease };
    }
    struct registry_command command = { .compares = trial->compares,
                                        .success = trial->operations[0],
                                        .failure = trial->operations[1] };
    command.success_count = one_in(trial, 2) ? 1 : below(trial, OPERATIONS_MAX + 1);
    if (one_in(trial, 3)) {
        command.compare_count = 1 + below(trial, COMPARES_MAX);
        command.failure_count = below(trial, OPERATIONS_MAX + 1);
    }
    for (size_t i = 0; i < command.compare_count; i++) trial->compares[i] = random_compare(trial);
    for (size_t i = 0; i < command.success_count; i++) {
        trial->operations[0][i] = random_operation(trial);
    }
    for (size_t i = 0; i < command.failure_count; i++) {
        trial->operations[1][i] = random_operation(trial);
    }
    return command;
}

static void expect_item(const struct trial *trial, const struct registry_item *actual,
                        const struct model_item *expected, unsigned key)
{
    EXPECT(bytes_equal(actual->key, bytes_of_text(model_keys[key])));
    EXPECT(bytes_equal(actual->value, bytes_of(expected->value, expected->value_size)));
    EXPECT(actual->create_revision == expected->create_revision);
    EXPECT(actual->modify_revision == expected->modify_revision);
    EXPECT(actual->version == expected->version);
    EXPECT(actual->lease == expected->lease);
}

static void expect_response(const struct trial *trial, const struct registry_response *actual,
                            const struct model_response *expected)
{
    EXPECT(actual->count == expected->count);
    EXPECT(actual->more == expected->more);
    EXPECT(actual->item_count == expected->item_count);
    for (size_t i = 0; i < actual->item_count; i++) {
        expect_item(trial, &actual->items[i], &expected->items[i], expected->keys[i]);
    }
}

static void step_command(struct trial *trial)
{
    struct registry_command command = random_command(trial);
    struct registry_reply reply = harness_apply(&trial->harness, &command);
    /* What is not well-formed never became an entry (a key put twice). */
    if (reply.status == STATUS_INVALID) return;
    model_apply(trial->model, trial->harness.index, trial->harness.now_ms, &command,
                &trial->expected);
    EXPECT(reply.status == trial->expected.status);
    EXPECT(reply.revision == trial->expected.revision);
    if (reply.status != STATUS_OK) return;
    EXPECT(reply.succeeded == trial->expected.succeeded);
    EXPECT(reply.lease == trial->expected.lease);
    EXPECT(reply.time_to_live_ms == trial->expected.time_to_live_ms);
    EXPECT(reply.response_count == trial->expected.response_count);
    for (size_t i = 0; i < reply.response_count; i++) {
        expect_response(trial, &reply.responses[i], &trial->expected.responses[i]);
    }
}

static void step_time(struct trial *trial)
{
    harness_time(&trial->harness, trial->harness.now_ms + below(trial, 1500));
    model_apply(trial->model, trial->harness.index, trial->harness.now_ms, NULL, &trial->expected);
}

static void step_range(struct trial *trial)
{
    struct registry *registry = trial->harness.first.registry;
    struct registry_operation operation = random_range(trial);
    operation.revision = below(trial, trial->model->revision + 2);
    struct registry_response response;
    uint64_t revision;
    arena_clear(&trial->harness.arena);
    enum status status =
        registry_range(registry, &operation, &trial->harness.arena, &revision, &response, NULL);
    struct registry_figures figures = registry_figures(registry);
    if (operation.revision > trial->model->revision) {
        EXPECT(status == STATUS_INVALID);
        return;
    }
    if (operation.revision != 0 && operation.revision < figures.compact_revision) {
        EXPECT(status == STATUS_CLOSED);
        return;
    }
    EXPECT(status == STATUS_OK);
    EXPECT(revision == trial->model->revision);
    struct model_response expected;
    model_range(trial->model, operation.revision == 0 ? revision : operation.revision, &operation,
                &expected);
    expect_response(trial, &response, &expected);
}

/* --- watches -----------------------------------------------------------------------------------
 */

static void start_watch(struct trial *trial, struct watcher *watcher)
{
    struct registry_watch_options options = {
        .key = watcher->start,
        .end = watcher->end,
        .start_revision = watcher->next,
        .include_previous = watcher->include_previous,
    };
    EXPECT(registry_watch_create(trial->harness.first.registry, &options, &watcher->watch, NULL) ==
           STATUS_OK);
}

static void begin_watch(struct trial *trial, struct watcher *watcher)
{
    *watcher = (struct watcher) { .include_previous = one_in(trial, 2) };
    random_interval(trial, &watcher->start, &watcher->end);
    if (one_in(trial, 2)) watcher->next = 1 + below(trial, trial->model->revision + 3);
    start_watch(trial, watcher);
    if (watcher->next == 0) watcher->next = trial->model->revision + 1;
}

static void expect_event(const struct trial *trial, const struct watcher *watcher,
                         const struct registry_event *event, uint64_t revision, unsigned key)
{
    const struct model_item *before = &trial->model->states[revision - 1].items[key];
    const struct model_item *after = &trial->model->states[revision].items[key];
    EXPECT(event->deleted == !after->there);
    if (event->deleted) {
        EXPECT(bytes_equal(event->item.key, bytes_of_text(model_keys[key])));
        EXPECT(event->item.modify_revision == revision);
    } else {
        expect_item(trial, &event->item, after, key);
    }
    EXPECT(event->has_previous == (watcher->include_previous && before->there));
    if (event->has_previous) expect_item(trial, &event->previous, before, key);
}

/* The events of one revision come in the order of the operations: compare as a set. */
static void expect_revision(struct trial *trial, const struct watcher *watcher, uint64_t revision,
                            const struct registry_event *events, size_t count, size_t *used)
{
    for (unsigned key = 0; key < MODEL_KEYS; key++) {
        if (!model_changed(trial->model, revision, key)) continue;
        if (!model_in_range(watcher->start, watcher->end, key)) continue;
        size_t found = count;
        for (size_t i = 0; i < count; i++) {
            if (events[i].item.modify_revision == revision &&
                bytes_equal(events[i].item.key, bytes_of_text(model_keys[key]))) {
                found = i;
            }
        }
        EXPECT(found < count);
        expect_event(trial, watcher, &events[found], revision, key);
        (*used)++;
    }
}

static void step_watch(struct trial *trial, struct watcher *watcher)
{
    struct registry_figures figures = registry_figures(trial->harness.first.registry);
    struct registry_event *events;
    size_t count;
    uint64_t revision;
    arena_clear(&trial->harness.arena);
    enum status status =
        registry_watch_next(watcher->watch, 1 + (size_t)below(trial, 10), &trial->harness.arena,
                            &events, &count, &revision, NULL);
    if (status == STATUS_CLOSED) {
        EXPECT(watcher->next <= figures.compact_revision);
        registry_watch_destroy(watcher->watch);
        begin_watch(trial, watcher);
        return;
    }
    EXPECT(status == STATUS_OK);
    EXPECT(revision <= trial->model->revision);
    EXPECT(revision + 1 >= watcher->next || count == 0);
    size_t used = 0;
    for (size_t i = 1; i < count; i++) {
        EXPECT(events[i - 1].item.modify_revision <= events[i].item.modify_revision);
    }
    for (uint64_t r = watcher->next; r <= revision; r++) {
        expect_revision(trial, watcher, r, events, count, &used);
    }
    EXPECT(used == count);
    if (revision + 1 > watcher->next) watcher->next = revision + 1;
}

static void step_reopen(struct trial *trial)
{
    for (unsigned i = 0; i < WATCHES; i++) registry_watch_destroy(trial->watchers[i].watch);
    harness_reopen(&trial->harness, &trial->limits);
    for (unsigned i = 0; i < WATCHES; i++) start_watch(trial, &trial->watchers[i]);
}

static void expect_figures(const struct trial *trial)
{
    const struct registry *registry = trial->harness.first.registry;
    struct registry_figures figures = registry_figures(registry);
    const struct model_state *state = &trial->model->states[trial->model->revision];
    uint64_t keys = 0, bytes = 0, leases = 0;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        if (!state->items[i].there) continue;
        keys++;
        bytes += strlen(model_keys[i]) + state->items[i].value_size + MODEL_ITEM_OVERHEAD;
    }
    for (unsigned i = 0; i < MODEL_LEASES; i++) leases += trial->model->leases[i].number != 0;
    EXPECT(figures.revision == trial->model->revision);
    EXPECT(figures.keys == keys);
    EXPECT(figures.bytes == bytes);
    EXPECT(figures.leases == leases);
    uint64_t deadline = UINT64_MAX;
    for (unsigned i = 0; i < MODEL_LEASES; i++) {
        if (trial->model->leases[i].number == 0) continue;
        if (trial->model->leases[i].ends_at_ms < deadline) {
            deadline = trial->model->leases[i].ends_at_ms;
        }
    }
    struct state_machine *machine = trial->harness.first.machine;
    EXPECT(machine->operations->next_deadline_ms(machine) == deadline);
    /* What may be kept is kept: nothing is forgotten before a limit is reached. */
    uint64_t kept = figures.revision - figures.compact_revision;
    if (figures.compact_revision > 0 && trial->limits.history_bytes_max == 1 << 20) {
        EXPECT(kept >= trial->limits.history_revisions_max);
    }
    EXPECT(kept <=
           trial->limits.history_revisions_max + trial->limits.history_revisions_max / 8 + 20);
}

static void run_trial(uint64_t seed, struct model *model)
{
    static struct trial trial_memory;
    struct trial *trial = &trial_memory;
    memset(trial, 0, sizeof *trial);
    memset(model, 0, sizeof *model);
    trial->seed = seed;
    trial->model = model;
    random_seeded_init(&trial->random, seed);
    trial->limits = (struct registry_limits) {
        .history_revisions_max = 8 + below(trial, 60),
        .history_bytes_max = one_in(trial, 2) ? 1 << 20 : 2000 + below(trial, 8000),
        .quota_bytes = one_in(trial, 2) ? 1 << 20 : 300 + below(trial, 600),
    };
    model->quota_bytes = trial->limits.quota_bytes;
    for (unsigned i = 0; i < 2; i++) trial->stores[i] = model_store_open(i, seed);
    harness_init(&trial->harness, trial->stores[0], trial->stores[1], &trial->limits);
    for (unsigned i = 0; i < WATCHES; i++) begin_watch(trial, &trial->watchers[i]);
    for (unsigned step = 0; step < STEPS; step++) {
        uint64_t kind = below(trial, 40);
        if (kind < 20) {
            step_command(trial);
        } else if (kind < 22) {
            step_time(trial);
        } else if (kind < 28) {
            step_range(trial);
        } else if (kind < 39) {
            step_watch(trial, &trial->watchers[below(trial, WATCHES)]);
        } else {
            step_reopen(trial);
        }
        expect_figures(trial);
    }
    for (unsigned i = 0; i < WATCHES; i++) registry_watch_destroy(trial->watchers[i].watch);
    harness_finish(&trial->harness);
    for (unsigned i = 0; i < 2; i++) model_store_close(i);
}

int main(int argc, char **argv)
{
    uint64_t seeds = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    struct model *model = malloc(sizeof *model);
    if (model == NULL) return 1;
    for (uint64_t seed = first; seed < first + seeds; seed++) run_trial(seed, model);
    free(model);
    printf("%llu seeds, all as the model\n", (unsigned long long)seeds);
    return 0;
}
