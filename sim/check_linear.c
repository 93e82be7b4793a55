#include "sim/check_linear.h"

#include "base/checksum.h"
#include "sim/check_linear_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { OPERATIONS_FIRST = 256 };

enum status check_linear_create(struct check_linear **ret_check)
{
    struct check_linear *check = calloc(1, sizeof *check);
    if (check == NULL) return STATUS_NO_MEMORY;
    *ret_check = check;
    return STATUS_OK;
}

void check_linear_destroy(struct check_linear *check)
{
    if (check == NULL) return;
    free(check->operations);
    free(check);
}

enum status check_linear_add(struct check_linear *check,
                             const struct check_linear_operation *operation)
{
    assert(operation->unknown || operation->start_ns <= operation->end_ns);
    if (check->count == CHECK_LINEAR_OPERATIONS_MAX) return STATUS_FULL;
    if (check->count == check->capacity) {
        size_t capacity = check->capacity == 0 ? OPERATIONS_FIRST : check->capacity * 2;
        struct check_linear_operation *operations =
            realloc(check->operations, capacity * sizeof *operations);
        if (operations == NULL) return STATUS_NO_MEMORY;
        check->operations = operations;
        check->capacity = capacity;
    }
    check->operations[check->count++] = *operation;
    return STATUS_OK;
}

const char *check_linear_name(enum check_linear_kind kind)
{
    static const char *const names[] = { [CHECK_LINEAR_PUT] = "put",
                                         [CHECK_LINEAR_GET] = "get",
                                         [CHECK_LINEAR_DELETE] = "delete",
                                         [CHECK_LINEAR_SWAP] = "swap" };
    return names[kind];
}

/* --- the search for one key --------------------------------------------------------------------
 * Calls and returns of the operations with known outcome stand in one list in order of time; those
 * of unknown outcome in a list of calls alone. Going forward, an operation is taken out of its list
 * when it is given its place; a return that is still in the list ends what may come next. */

/* Values that no operation reads or expects are all the same to the search. */
#define UNSEEN UINT64_MAX

struct node {
    struct node *previous, *next;
    struct node *answer; /* of a call with known outcome: its return; NULL: this is one */
    const struct check_linear_operation *operation;
    uint64_t time_ns;
    uint64_t value;    /* that it writes; UNSEEN when nobody ever asks for it */
    uint64_t marks[2]; /* a random number, of which the taken ones are combined */
};

struct step {
    struct node *node;
    uint64_t state;
    bool idle;
};

struct search {
    struct node *nodes;
    size_t node_count;
    struct node known, unknown; /* list heads */
    struct step *steps;
    size_t step_count;
    size_t known_left;
    uint64_t state;
    /* The last one taken is a change of unknown outcome that nothing has seen yet. What comes next
     * must need it: otherwise the change can be given a later place, or none, as well. */
    bool idle;
    uint64_t marks[2];
    /* Visited configurations: open addressing, both marks zero is empty. */
    uint64_t (*visited)[2];
    size_t visited_count, visited_capacity;
    uint64_t tried;
    const struct node *furthest; /* the return that the search never got behind */
};

static bool explains(const struct node *node, uint64_t state, uint64_t *ret_state)
{
    const struct check_linear_operation *operation = node->operation;
    *ret_state = state;
    switch (operation->kind) {
    case CHECK_LINEAR_PUT: *ret_state = node->value; return true;
    case CHECK_LINEAR_GET: return state == operation->value;
    case CHECK_LINEAR_DELETE:
        *ret_state = 0;
        return operation->unknown ? state != 0 : operation->succeeded == (state != 0);
    case CHECK_LINEAR_SWAP: {
        bool equal = state == operation->expected;
        if (equal) *ret_state = node->value;
        return operation->unknown ? equal : operation->succeeded == equal;
    }
    }
    return false;
}

/* Two changes of unknown outcome with the same effect, both without a look at the key. */
static bool is_same_change(const struct node *a, const struct node *b)
{
    if (a->operation->kind != b->operation->kind) return false;
    if (a->operation->kind == CHECK_LINEAR_DELETE) return true;
    return a->operation->kind == CHECK_LINEAR_PUT && a->value == UNSEEN && b->value == UNSEEN;
}

/* Of several changes of unknown outcome that are the same, the one that began first will do. */
static bool has_earlier_twin(const struct search *search, const struct node *node)
{
    if (!node->operation->unknown) return false;
    for (const struct node *other = search->unknown.next; other != node; other = other->next) {
        if (is_same_change(other, node)) return true;
    }
    return false;
}

static uint64_t (*slot_of(struct search *search, const uint64_t key[2]))[2]
{
    size_t mask = search->visited_capacity - 1;
    size_t i = (size_t)key[0] & mask;
    while ((search->visited[i][0] != 0 || search->visited[i][1] != 0) &&
           (search->visited[i][0] != key[0] || search->visited[i][1] != key[1])) {
        i = (i + 1) & mask;
    }
    return &search->visited[i];
}

static enum status grow_visited(struct search *search)
{
    enum { VISITED_FIRST = 1024 };
    size_t old_capacity = search->visited_capacity;
    uint64_t(*old)[2] = search->visited;
    size_t capacity = old_capacity == 0 ? VISITED_FIRST : 2 * old_capacity;
    search->visited = calloc(capacity, sizeof *search->visited);
    if (search->visited == NULL) {
        search->visited = old;
        return STATUS_NO_MEMORY;
    }
    search->visited_capacity = capacity;
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i][0] == 0 && old[i][1] == 0) continue;
        memcpy(*slot_of(search, old[i]), old[i], sizeof old[i]);
    }
    free(old);
    return STATUS_OK;
}

/* Remember the configuration after taking NODE; was it new? Two numbers of 64 bits stand for it: a
 * clash would call a good history bad once in 2^80 searches. */
static enum status visit(struct search *search, const struct node *node, uint64_t state, bool idle,
                         bool *ret_new)
{
    if (4 * (search->visited_count + 1) > 3 * search->visited_capacity) {
        enum status status = grow_visited(search);
        if (status != STATUS_OK) return status;
    }
    uint64_t parts[3] = { state, idle, idle ? search->state : 0 };
    uint64_t key[2];
    for (unsigned i = 0; i < 2; i++) {
        key[i] = hash64(parts, sizeof parts, search->marks[i] ^ node->marks[i]) | 1;
    }
    uint64_t(*slot)[2] = slot_of(search, key);
    *ret_new = (*slot)[0] == 0 && (*slot)[1] == 0;
    if (!*ret_new) return STATUS_OK;
    memcpy(*slot, key, sizeof key);
    search->visited_count++;
    return STATUS_OK;
}

static void unlink_node(struct node *node)
{
    node->previous->next = node->next;
    node->next->previous = node->previous;
}

static void relink_node(struct node *node)
{
    node->previous->next = node;
    node->next->previous = node;
}

static void take(struct search *search, struct node *node, uint64_t state, bool idle)
{
    search->steps[search->step_count++] =
        (struct step) { .node = node, .state = search->state, .idle = search->idle };
    search->state = state;
    search->idle = idle;
    for (unsigned i = 0; i < 2; i++) search->marks[i] ^= node->marks[i];
    unlink_node(node);
    if (node->answer == NULL) return;
    unlink_node(node->answer);
    search->known_left--;
}

static struct node *give_back(struct search *search)
{
    struct step *step = &search->steps[--search->step_count];
    struct node *node = step->node;
    search->state = step->state;
    search->idle = step->idle;
    for (unsigned i = 0; i < 2; i++) search->marks[i] ^= node->marks[i];
    if (node->answer != NULL) {
        relink_node(node->answer);
        search->known_left++;
    }
    relink_node(node);
    return node;
}

static bool is_return(const struct node *node)
{
    return node->operation != NULL && !node->operation->unknown && node->answer == NULL;
}

/* What to try after NODE (a list's head to begin with): first the known calls up to the first
 * return, then the unknown ones that began before it. NULL: nothing. */
static struct node *candidate_after(struct search *search, struct node *node)
{
    if (node == &search->known || (node->operation != NULL && !node->operation->unknown)) {
        struct node *next = node->next;
        if (next != &search->known && !is_return(next)) return next;
        node = &search->unknown;
    }
    const struct node *limit = search->known.next;
    while (limit != &search->known && !is_return(limit)) limit = limit->next;
    if (limit == &search->known) return NULL;
    struct node *next = node->next;
    return next != &search->unknown && next->time_ns < limit->time_ns ? next : NULL;
}

static void note_furthest(struct search *search)
{
    const struct node *limit = search->known.next;
    while (limit != &search->known && !is_return(limit)) limit = limit->next;
    if (limit == &search->known) return;
    if (search->furthest == NULL || limit->time_ns > search->furthest->time_ns) {
        search->furthest = limit;
    }
}

static enum status try_node(struct search *search, struct node *node, bool *ret_taken)
{
    uint64_t state;
    *ret_taken = false;
    if (search->idle && explains(node, search->steps[search->step_count - 1].state, &state)) {
        return STATUS_OK;
    }
    if (!explains(node, search->state, &state) || has_earlier_twin(search, node)) return STATUS_OK;
    bool idle = node->operation->unknown;
    enum status status = visit(search, node, state, idle, ret_taken);
    if (status == STATUS_OK && *ret_taken) take(search, node, state, idle);
    return status;
}

static enum status run_search(struct search *search)
{
    struct node *node = candidate_after(search, &search->known);
    while (search->known_left > 0) {
        if (++search->tried > CHECK_LINEAR_STEPS_MAX) return STATUS_BUSY;
        bool taken = false;
        if (node != NULL) {
            enum status status = try_node(search, node, &taken);
            if (status != STATUS_OK) return status;
            node = candidate_after(search, taken ? &search->known : node);
            continue;
        }
        note_furthest(search);
        if (search->step_count == 0) return STATUS_CONFLICT;
        node = candidate_after(search, give_back(search));
    }
    return STATUS_OK;
}

/* --- building the lists ------------------------------------------------------------------------
 */

static int compare_nodes(const void *a, const void *b)
{
    const struct node *left = *(struct node *const *)a;
    const struct node *right = *(struct node *const *)b;
    if (left->time_ns != right->time_ns) return left->time_ns < right->time_ns ? -1 : 1;
    /* At the same time a call comes first: the two may have overlapped. */
    bool left_returns = is_return(left), right_returns = is_return(right);
    if (left_returns != right_returns) return left_returns ? 1 : -1;
    return left < right ? -1 : left > right; /* of one array: the order of adding */
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* The values that any operation reads or expects, in order, into SEEN (room for COUNT). */
static size_t collect_seen(const struct check_linear_operation *operations, size_t count,
                           uint64_t *seen)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (operations[i].kind == CHECK_LINEAR_GET) seen[used++] = operations[i].value;
        if (operations[i].kind == CHECK_LINEAR_SWAP) seen[used++] = operations[i].expected;
    }
    qsort(seen, used, sizeof *seen, compare_numbers);
    return used;
}

static uint64_t seen_value(const uint64_t *seen, size_t count, uint64_t value)
{
    bool found = bsearch(&value, seen, count, sizeof value, compare_numbers) != NULL;
    return found ? value : UNSEEN;
}

static void append(struct node *head, struct node *node)
{
    node->previous = head->previous;
    node->next = head;
    head->previous->next = node;
    head->previous = node;
}

static void build(struct search *search, const struct check_linear_operation *operations,
                  size_t count, struct node **order, uint64_t *seen)
{
    size_t seen_count = collect_seen(operations, count, seen);
    search->known.next = search->known.previous = &search->known;
    search->unknown.next = search->unknown.previous = &search->unknown;
    for (size_t i = 0; i < count; i++) {
        const struct check_linear_operation *operation = &operations[i];
        if (operation->unknown && operation->kind == CHECK_LINEAR_GET) continue;
        struct node *call = &search->nodes[search->node_count++];
        call->operation = operation;
        call->time_ns = operation->start_ns;
        call->value = seen_value(seen, seen_count, operation->value);
        uint64_t number = i;
        for (unsigned m = 0; m < 2; m++) call->marks[m] = hash64(&number, sizeof number, m + 1);
        if (operation->unknown) continue;
        struct node *answer = &search->nodes[search->node_count++];
        answer->operation = operation;
        answer->time_ns = operation->end_ns;
        call->answer = answer;
        search->known_left++;
    }
    for (size_t i = 0; i < search->node_count; i++) order[i] = &search->nodes[i];
    qsort(order, search->node_count, sizeof(void *), compare_nodes);
    for (size_t i = 0; i < search->node_count; i++) {
        append(order[i]->operation->unknown ? &search->unknown : &search->known, order[i]);
    }
}

static enum status judge(const struct search *search, enum status status, struct error *error)
{
    if (status == STATUS_OK || status == STATUS_NO_MEMORY) return status;
    const struct check_linear_operation *operation =
        search->furthest == NULL ? NULL : search->furthest->operation;
    if (status == STATUS_BUSY || operation == NULL) {
        return error_set(error, STATUS_BUSY, "the search of a key was given up after %d steps",
                         CHECK_LINEAR_STEPS_MAX);
    }
    return error_set(error, STATUS_CONFLICT,
                     "key %u is not linearizable: nothing explains the %s from %.6f s to %.6f s "
                     "(value %llu, expected %llu, succeeded %d, revision %llu)",
                     operation->key, check_linear_name(operation->kind),
                     (double)operation->start_ns / 1e9, (double)operation->end_ns / 1e9,
                     (unsigned long long)operation->value, (unsigned long long)operation->expected,
                     operation->succeeded, (unsigned long long)operation->revision);
}

static enum status judge_read(const struct check_linear_operation *read, struct error *error)
{
    return error_set(error, STATUS_CONFLICT,
                     "key %u: the get from %.6f s to %.6f s read %llu, which nobody had put",
                     read->key, (double)read->start_ns / 1e9, (double)read->end_ns / 1e9,
                     (unsigned long long)read->value);
}

static bool writes(const struct check_linear_operation *operation)
{
    if (operation->kind == CHECK_LINEAR_PUT) return true;
    return operation->kind == CHECK_LINEAR_SWAP && (operation->unknown || operation->succeeded);
}

/* The commonest lie needs no search: a value that nobody had begun to write. SEEN is room for
 * COUNT. */
static enum status check_reads_exist(const struct check_linear_operation *operations, size_t count,
                                     uint64_t *seen, struct error *error)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (writes(&operations[i])) seen[used++] = operations[i].value;
    }
    qsort(seen, used, sizeof *seen, compare_numbers);
    for (size_t i = 0; i < count; i++) {
        const struct check_linear_operation *read = &operations[i];
        if (read->kind != CHECK_LINEAR_GET || read->unknown || read->value == 0) continue;
        if (seen_value(seen, used, read->value) == UNSEEN) return judge_read(read, error);
    }
    return STATUS_OK;
}

static enum status check_key(const struct check_linear_operation *operations, size_t count,
                             struct error *error)
{
    struct search search = { 0 };
    struct node **order = calloc(2 * count, sizeof(void *));
    search.nodes = calloc(2 * count, sizeof *search.nodes);
    search.steps = calloc(count, sizeof *search.steps);
    uint64_t *seen = calloc(count, sizeof *seen);
    enum status status = STATUS_NO_MEMORY;
    if (order != NULL && search.nodes != NULL && search.steps != NULL && seen != NULL) {
        status = check_reads_exist(operations, count, seen, error);
    }
    if (status == STATUS_OK) {
        build(&search, operations, count, order, seen);
        status = judge(&search, run_search(&search), error);
    }
    free(seen);
    free(order);
    free(search.nodes);
    free(search.steps);
    free(search.visited);
    return status;
}

/* --- verdict -----------------------------------------------------------------------------------
 */

static int compare_keys(const void *a, const void *b)
{
    const struct check_linear_operation *left = a;
    const struct check_linear_operation *right = b;
    if (left->key != right->key) return left->key < right->key ? -1 : 1;
    if (left->start_ns != right->start_ns) return left->start_ns < right->start_ns ? -1 : 1;
    return left->end_ns < right->end_ns ? -1 : left->end_ns > right->end_ns;
}

enum status check_linear_verdict(struct check_linear *check, struct error *error)
{
    if (check->count == 0) return STATUS_OK;
    qsort(check->operations, check->count, sizeof *check->operations, compare_keys);
    size_t from = 0;
    for (size_t i = 1; i <= check->count; i++) {
        if (i < check->count && check->operations[i].key == check->operations[from].key) continue;
        enum status status = check_key(check->operations + from, i - from, error);
        if (status != STATUS_OK) return status;
        from = i;
    }
    return check_linear_revisions(check, error);
}
