/* How a step goes: what was remembered is merged with what is seen (records, by id); the tasks that
 * jobs ask for (slots, in the order of service) are matched to records; then each record and slot
 * is judged once. Everything is a sorted array: no order depends on addresses or hashes. */
#include "schedule/controller.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NONE UINT32_MAX /* no slot, record or job */
enum { PORTS = 65536 };
/* What unum-init holds, and what it refused. */
enum { RECORDS_MAX = 2 * CONTROLLER_TASKS_MAX };

enum sent { SENT_NOTHING, SENT_START, SENT_STOP, SENT_DROP };

/* A task that runs, or was told to. */
struct record {
    struct id id;
    uint64_t incarnation;
    uint64_t cpu_milli, memory_bytes;
    uint64_t refused_retry; /* input.retry at the refusal */
    enum controller_state state;
    enum sent sent;
    bool seen; /* in this step's input; else only asked for */
    bool up;
    bool known;   /* what it holds is, by its start or by the observer */
    bool refused; /* the last command was */
    bool private_network;
    uint8_t port_count;
    uint16_t ports[JOB_PORTS_MAX];
    uint32_t index;
    uint32_t slot; /* of this step; NONE: nobody wants it */
    char project[LIMIT_NAME_BYTES_MAX + 1];
    char job[LIMIT_NAME_BYTES_MAX + 1];
    char refusal[CONTROLLER_REFUSAL_BYTES_MAX + 1];
};

enum why {
    WHY_RUNS,
    WHY_STARTS,
    WHY_STOPS,
    WHY_FINISHED,
    WHY_NEWER,
    WHY_TURN,    /* many start at the moment */
    WHY_ROLL,    /* replaced when others are up */
    WHY_NAME,    /* another task of its name still ends */
    WHY_REFUSED, /* by unum-init; the record has the text */
    WHY_PORT,    /* a: port; record: who holds it */
    WHY_CPU,     /* a: needed, b: free */
    WHY_MEMORY,
    WHY_CPU_NEVER, /* a: needed, b: the machine's */
    WHY_MEMORY_NEVER,
    WHY_GENERATION, /* too many changes */
};

/* A task that a job asks for. */
struct slot {
    struct id id;
    uint32_t job; /* of the input */
    uint32_t index;
    uint32_t record;  /* NONE: does not run */
    uint32_t blocker; /* a record of the same name and another id; NONE */
    enum why why;
    uint32_t who; /* a record; NONE */
    uint64_t a, b;
};

/* Of a job within a step. */
struct plan {
    uint32_t first_slot; /* NONE: has none */
    uint32_t slot_count; /* fewer than its count when the machine's table is full */
    uint32_t not_up;     /* its tasks that are on their way */
};

struct key {
    struct id id;
    uint32_t at;
};

struct controller {
    uint64_t session;
    uint64_t epoch;
    uint64_t retry;  /* input.retry of the last step */
    uint64_t launch; /* highest of the epoch, seen or used */
    struct record *records;
    struct record *former; /* of the step before, while merging */
    uint32_t record_count;
    struct slot *slots;
    uint32_t slot_count;
    struct plan plans[CONTROLLER_JOBS_MAX];
    uint32_t service[CONTROLLER_JOBS_MAX]; /* jobs in the order of service */
    uint32_t by_name[CONTROLLER_JOBS_MAX];
    struct key keys[RECORDS_MAX];
    uint32_t holders[PORTS];              /* record of a port of the host, plus 1 */
    bool ports_are_held;                  /* one of them is not 0 */
    const struct controller_input *input; /* of the step under way */
    struct controller_output *output;
    uint64_t cpu_used, memory_used;
    uint32_t starting;
    uint32_t occupied; /* records that fill unum-init's table */
};

enum status controller_create(struct controller **ret_controller)
{
    /* Zero pages: what is never used costs nothing. */
    struct controller *controller = calloc(1, sizeof *controller);
    if (controller == NULL) return STATUS_NO_MEMORY;
    controller->records = calloc(RECORDS_MAX, sizeof *controller->records);
    controller->former = calloc(RECORDS_MAX, sizeof *controller->former);
    controller->slots = calloc(CONTROLLER_TASKS_MAX, sizeof *controller->slots);
    if (controller->records == NULL || controller->former == NULL || controller->slots == NULL) {
        controller_destroy(controller);
        return STATUS_NO_MEMORY;
    }
    *ret_controller = controller;
    return STATUS_OK;
}

void controller_destroy(struct controller *controller)
{
    if (controller == NULL) return;
    free(controller->records);
    free(controller->former);
    free(controller->slots);
    free(controller);
}

/* --- orders -------------------------------------------------------------------------------------
 */

static int key_order(const void *a, const void *b)
{
    const struct key *left = a;
    const struct key *right = b;
    int by_id = memcmp(&left->id, &right->id, sizeof left->id);
    if (by_id != 0) return by_id;
    return left->at < right->at ? -1 : left->at > right->at;
}

static int record_order(const void *a, const void *b)
{
    return memcmp(&((const struct record *)a)->id, &((const struct record *)b)->id,
                  sizeof(struct id));
}

static int name_compare(const char *project, const char *name, const struct controller_job *job)
{
    int by_project = strcmp(project, job->project);
    return by_project != 0 ? by_project : strcmp(name, job->name);
}

static int by_name_order(const void *a, const void *b, void *context)
{
    const struct controller_job *jobs = context;
    const struct controller_job *left = &jobs[*(const uint32_t *)a];
    return name_compare(left->project, left->name, &jobs[*(const uint32_t *)b]);
}

static int service_order(const void *a, const void *b, void *context)
{
    const struct controller_job *jobs = context;
    const struct controller_job *left = &jobs[*(const uint32_t *)a];
    const struct controller_job *right = &jobs[*(const uint32_t *)b];
    if (left->create_revision != right->create_revision)
        return left->create_revision < right->create_revision ? -1 : 1;
    return by_name_order(a, b, context);
}

/* --- what is known ------------------------------------------------------------------------------
 */

static void see(struct record *record, const struct controller_task *task)
{
    record->id = task->id;
    record->incarnation = task->incarnation;
    record->state = task->state;
    record->up = task->up;
    record->seen = true;
    record->index = task->index;
    memcpy(record->project, task->project, sizeof record->project);
    memcpy(record->job, task->job, sizeof record->job);
    if (!task->holdings_known) return;
    record->known = true;
    record->cpu_milli = task->cpu_milli;
    record->memory_bytes = task->memory_bytes;
    record->private_network = false;
    record->port_count = 0;
    for (size_t i = 0; i < task->port_count && i < JOB_PORTS_MAX; i++)
        record->ports[record->port_count++] = task->ports[i];
}

/* What was asked for is forgotten once it is seen. */
static void settle(struct record *record)
{
    bool ended = record->state == CONTROLLER_STOPPED || record->state == CONTROLLER_FINISHED;
    if (record->sent == SENT_START) record->sent = SENT_NOTHING;
    if (record->sent == SENT_STOP && (ended || record->state == CONTROLLER_STOPPING))
        record->sent = SENT_NOTHING;
}

static bool record_is_ended(const struct record *record)
{
    return record->seen &&
           (record->state == CONTROLLER_STOPPED || record->state == CONTROLLER_FINISHED);
}

/* A start that unum-init has yet to show, or has refused a while ago. */
static bool record_outlives(const struct controller *controller, const struct record *record,
                            bool new_session)
{
    if (record->seen) return false; /* was there, is gone */
    if (record->refused) return record->refused_retry == controller->input->retry && !new_session;
    return record->sent == SENT_START && !new_session;
}

static void merge(struct controller *controller)
{
    const struct controller_input *input = controller->input;
    bool new_session = controller->session != input->session;
    struct record *former = controller->records;
    uint32_t former_count = controller->record_count;
    qsort(former, former_count, sizeof *former, record_order);
    controller->records = controller->former;
    controller->former = former;

    for (uint32_t i = 0; i < input->task_count; i++)
        controller->keys[i] = (struct key) { .id = input->tasks[i].id, .at = i };
    qsort(controller->keys, input->task_count, sizeof *controller->keys, key_order);

    uint32_t count = 0, old = 0, seen = 0;
    while (old < former_count || seen < input->task_count) {
        int order = old == former_count ? 1
                    : seen == input->task_count
                        ? -1
                        : memcmp(&former[old].id, &controller->keys[seen].id, sizeof(struct id));
        struct record *record = &controller->records[count];
        if (order < 0) {
            *record = former[old++];
            bool room = count + (input->task_count - seen) < RECORDS_MAX - 1;
            if (room && record_outlives(controller, record, new_session)) count++;
            continue;
        }
        *record = order == 0 ? former[old++] : (struct record) { 0 };
        see(record, &input->tasks[controller->keys[seen++].at]);
        if (new_session) record->sent = SENT_NOTHING;
        if (record->refused && (new_session || record->refused_retry != input->retry))
            record->refused = false;
        settle(record);
        count++;
    }
    controller->record_count = count;
    controller->session = input->session;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t incarnation = controller->records[i].incarnation;
        uint64_t launch = incarnation & CONTROLLER_LAUNCH_MAX;
        bool ours = ((incarnation >> 24) & CONTROLLER_EPOCH_MAX) == input->epoch;
        if (ours && launch > controller->launch) controller->launch = launch;
        controller->records[i].slot = NONE;
    }
}

/* --- what is wanted -----------------------------------------------------------------------------
 */

static void order_jobs(struct controller *controller)
{
    const struct controller_input *input = controller->input;
    uint32_t count = (uint32_t)input->job_count;
    for (uint32_t i = 0; i < count; i++) controller->service[i] = controller->by_name[i] = i;
    void *jobs = (void *)input->jobs;
    qsort_r(controller->service, count, sizeof(uint32_t), service_order, jobs);
    qsort_r(controller->by_name, count, sizeof(uint32_t), by_name_order, jobs);
}

static void make_slots(struct controller *controller)
{
    const struct controller_input *input = controller->input;
    controller->slot_count = 0;
    for (uint32_t i = 0; i < input->job_count; i++) {
        const struct controller_job *job = &input->jobs[controller->service[i]];
        struct plan *plan = &controller->plans[controller->service[i]];
        *plan = (struct plan) { .first_slot = controller->slot_count };
        uint32_t wanted = job->stopped ? 0 : job->count;
        uint32_t room = input->tasks_max - controller->slot_count;
        plan->slot_count = wanted < room ? wanted : room;
        for (uint32_t k = 0; k < plan->slot_count; k++) {
            struct slot *slot = &controller->slots[controller->slot_count++];
            *slot = (struct slot) {
                .job = controller->service[i],
                .index = k,
                .record = NONE,
                .blocker = NONE,
                .who = NONE,
            };
            controller_task_id(&input->computer, job, k, &slot->id);
        }
    }
}

static void match(struct controller *controller)
{
    for (uint32_t i = 0; i < controller->slot_count; i++)
        controller->keys[i] = (struct key) { .id = controller->slots[i].id, .at = i };
    qsort(controller->keys, controller->slot_count, sizeof *controller->keys, key_order);
    uint32_t record = 0;
    for (uint32_t i = 0; i < controller->slot_count; i++) {
        const struct key *key = &controller->keys[i];
        int order = 1;
        while (record < controller->record_count &&
               (order = memcmp(&controller->records[record].id, &key->id, sizeof key->id)) < 0)
            record++;
        if (record == controller->record_count) break;
        if (order != 0) continue;
        controller->slots[key->at].record = record;
        controller->records[record].slot = key->at;
    }
}

/* The job of the input with this name; NONE. */
static uint32_t find_job(const struct controller *controller, const char *project, const char *name)
{
    uint32_t low = 0, high = (uint32_t)controller->input->job_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint32_t job = controller->by_name[middle];
        int order = name_compare(project, name, &controller->input->jobs[job]);
        if (order == 0) return job;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NONE;
}

/* A task that nobody wants may bear the name of one that is wanted: it goes first. */
static void block_names(struct controller *controller)
{
    for (uint32_t i = 0; i < controller->record_count; i++) {
        const struct record *record = &controller->records[i];
        if (record->slot != NONE) continue;
        uint32_t job = find_job(controller, record->project, record->job);
        if (job == NONE) continue;
        const struct plan *plan = &controller->plans[job];
        if (record->index < plan->slot_count)
            controller->slots[plan->first_slot + record->index].blocker = i;
    }
}

/* What RECORD holds when nobody told: what its job asks for now. */
static void guess_holdings(const struct controller *controller, struct record *record)
{
    if (record->known) return;
    uint32_t at = find_job(controller, record->project, record->job);
    if (at == NONE) return;
    const struct controller_job *job = &controller->input->jobs[at];
    record->cpu_milli = job->cpu_milli;
    record->memory_bytes = job->memory_bytes;
    record->private_network = job->private_network;
    record->port_count = 0;
    for (size_t i = 0; i < job->port_count; i++)
        record->ports[record->port_count++] =
            (uint16_t)(job->ports[i] + job->steps[i] * record->index);
}

static void occupy(struct controller *controller, uint32_t at)
{
    struct record *record = &controller->records[at];
    controller->occupied++;
    controller->cpu_used += record->cpu_milli;
    controller->memory_used += record->memory_bytes;
    if (!record->seen || record->state == CONTROLLER_STARTING) controller->starting++;
    if (record->private_network) return;
    for (unsigned i = 0; i < record->port_count; i++) {
        controller->ports_are_held = true;
        if (controller->holders[record->ports[i]] == 0)
            controller->holders[record->ports[i]] = at + 1;
    }
}

static void count_what_is_used(struct controller *controller)
{
    /* A table of 256 KiB: most computers that simulations run hold no port at all. */
    if (controller->ports_are_held) memset(controller->holders, 0, sizeof controller->holders);
    controller->ports_are_held = false;
    controller->cpu_used = controller->memory_used = 0;
    controller->starting = controller->occupied = 0;
    for (uint32_t i = 0; i < controller->record_count; i++) {
        struct record *record = &controller->records[i];
        if (!record->seen && record->refused) continue; /* it never came to be */
        guess_holdings(controller, record);
        if (record_is_ended(record))
            controller->occupied++; /* until it is dropped */
        else
            occupy(controller, i);
    }
}

/* --- what is done -------------------------------------------------------------------------------
 */

static struct controller_action *take_action(struct controller *controller)
{
    struct controller_output *output = controller->output;
    if (output->action_count == CONTROLLER_ACTIONS_MAX) {
        output->more = true;
        return NULL;
    }
    return &output->actions[output->action_count++];
}

/* STOP or DROP, once. */
static void command(struct controller *controller, struct record *record,
                    enum controller_action_kind kind)
{
    enum sent sent = kind == CONTROLLER_STOP ? SENT_STOP : SENT_DROP;
    if (record->sent == sent || record->refused) return;
    struct controller_action *action = take_action(controller);
    if (action == NULL) return;
    *action = (struct controller_action) {
        .kind = kind, .task = record->id, .job = NONE, .index = record->index
    };
    record->sent = sent;
}

static void end_record(struct controller *controller, struct record *record)
{
    if (!record->seen) return; /* it is ended once it is seen */
    if (record_is_ended(record))
        command(controller, record, CONTROLLER_DROP);
    else if (record->state != CONTROLLER_STOPPING)
        command(controller, record, CONTROLLER_STOP);
}

static void end_unwanted(struct controller *controller)
{
    for (uint32_t i = 0; i < controller->record_count; i++)
        if (controller->records[i].slot == NONE) end_record(controller, &controller->records[i]);
}

/* How a slot that has a record stands to its job. */
enum standing { STANDING_RIGHT, STANDING_STALE, STANDING_NEWER };

static enum standing standing_of(const struct controller *controller, const struct slot *slot)
{
    const struct record *record = &controller->records[slot->record];
    uint64_t wanted = controller->input->jobs[slot->job].task_generation;
    uint64_t has = controller_generation_of(record->incarnation);
    if (has == wanted) return STANDING_RIGHT;
    return has < wanted ? STANDING_STALE : STANDING_NEWER;
}

/* A slot whose task exists: what it is doing, and whether a dead one must make room. */
static void judge_present(struct controller *controller, struct slot *slot)
{
    struct record *record = &controller->records[slot->record];
    struct plan *plan = &controller->plans[slot->job];
    enum standing standing = standing_of(controller, slot);
    if (standing == STANDING_NEWER) {
        slot->why = WHY_NEWER;
        return;
    }
    if (!record->seen) {
        slot->why = record->refused ? WHY_REFUSED : WHY_STARTS;
        slot->who = slot->record;
        if (!record->refused) {
            plan->not_up++;
        } else if (standing == STANDING_STALE) {
            /* The refusal was of an older specification: forget it. */
            record->refused_retry = controller->input->retry - 1;
            controller->output->more = true;
        }
        return;
    }
    if (record_is_ended(record)) {
        bool finished = record->state == CONTROLLER_FINISHED && standing == STANDING_RIGHT;
        slot->why = finished ? WHY_FINISHED : WHY_STOPS;
        if (finished) return;
        plan->not_up++;
        command(controller, record, CONTROLLER_DROP);
        return;
    }
    slot->why = WHY_RUNS;
    if (record->state == CONTROLLER_STOPPING || record->sent == SENT_STOP) slot->why = WHY_STOPS;
    if (!record->up || slot->why == WHY_STOPS) plan->not_up++;
    /* A stale one that does no work is lost for nothing. */
    if (standing == STANDING_STALE && !record->up && slot->why != WHY_STOPS) {
        slot->why = WHY_STOPS;
        command(controller, record, CONTROLLER_STOP);
    }
}

static bool fits(struct controller *controller, struct slot *slot)
{
#ifdef MUTATION_CONTROLLER_OVERCOMMIT
    return controller != NULL && slot != NULL; /* the guard of the machine's resources is gone */
#else
    const struct controller_input *input = controller->input;
    const struct controller_job *job = &input->jobs[slot->job];
    uint64_t cpu_free =
        input->cpu_milli > controller->cpu_used ? input->cpu_milli - controller->cpu_used : 0;
    uint64_t memory_free = input->memory_bytes > controller->memory_used
                               ? input->memory_bytes - controller->memory_used
                               : 0;
    if (job->cpu_milli > input->cpu_milli || job->cpu_milli > cpu_free) {
        bool never = job->cpu_milli > input->cpu_milli;
        slot->why = never ? WHY_CPU_NEVER : WHY_CPU;
        slot->a = job->cpu_milli;
        slot->b = never ? input->cpu_milli : cpu_free;
        return false;
    }
    if (job->memory_bytes > input->memory_bytes || job->memory_bytes > memory_free) {
        bool never = job->memory_bytes > input->memory_bytes;
        slot->why = never ? WHY_MEMORY_NEVER : WHY_MEMORY;
        slot->a = job->memory_bytes;
        slot->b = never ? input->memory_bytes : memory_free;
        return false;
    }
    return true;
#endif
}

static bool ports_are_free(struct controller *controller, struct slot *slot)
{
    const struct controller_job *job = &controller->input->jobs[slot->job];
    if (job->private_network) return true;
    for (size_t i = 0; i < job->port_count; i++) {
        uint16_t port = (uint16_t)(job->ports[i] + job->steps[i] * slot->index);
        if (controller->holders[port] == 0) continue;
        slot->why = WHY_PORT;
        slot->a = port;
        slot->who = controller->holders[port] - 1;
        return false;
    }
    return true;
}

/* Ask for the task, and remember it as if it ran: that is what keeps a second one away. */
static void start(struct controller *controller, struct slot *slot)
{
    const struct controller_job *job = &controller->input->jobs[slot->job];
    struct controller_action *action = take_action(controller);
    slot->why = WHY_TURN;
    if (action == NULL) return;
    slot->why = WHY_STARTS;
    controller->launch++;
    uint64_t incarnation =
        job->task_generation << 44 | controller->input->epoch << 24 | controller->launch;
    *action = (struct controller_action) { .kind = CONTROLLER_START,
                                           .task = slot->id,
                                           .incarnation = incarnation,
                                           .job = slot->job,
                                           .index = slot->index };
    uint32_t at = controller->record_count;
    struct record *record = &controller->records[at];
    *record = (struct record) {
        .id = slot->id,
        .incarnation = incarnation,
        .cpu_milli = job->cpu_milli,
        .memory_bytes = job->memory_bytes,
        .state = CONTROLLER_STARTING,
        .sent = SENT_START,
        .known = true,
        .private_network = job->private_network,
        .port_count = (uint8_t)job->port_count,
        .index = slot->index,
        .slot = (uint32_t)(slot - controller->slots),
    };
    (void)snprintf(record->project, sizeof record->project, "%s", job->project);
    (void)snprintf(record->job, sizeof record->job, "%s", job->name);
    for (size_t i = 0; i < job->port_count; i++)
        record->ports[i] = (uint16_t)(job->ports[i] + job->steps[i] * slot->index);
#ifndef MUTATION_CONTROLLER_DOUBLE_START
    controller->record_count++; /* removed by the mutation: the start is forgotten at once */
#endif
    slot->record = at;
    occupy(controller, at);
}

/* A slot that nothing runs for. */
static void judge_absent(struct controller *controller, struct slot *slot)
{
    const struct controller_input *input = controller->input;
    struct plan *plan = &controller->plans[slot->job];
    if (input->jobs[slot->job].task_generation > CONTROLLER_GENERATION_MAX ||
        controller->launch >= CONTROLLER_LAUNCH_MAX) {
        slot->why = WHY_GENERATION;
        return;
    }
    if (slot->blocker != NONE) {
        slot->why = WHY_NAME;
        slot->who = slot->blocker;
        plan->not_up++;
        return;
    }
    if (!fits(controller, slot) || !ports_are_free(controller, slot)) return;
    plan->not_up++;
    bool turn = controller->starting < CONTROLLER_STARTING_MAX &&
                controller->occupied < input->tasks_max &&
                controller->record_count < RECORDS_MAX - 1;
    if (turn)
        start(controller, slot);
    else
        slot->why = WHY_TURN;
}

/* Replace stale tasks that do their work while enough of the others do theirs: at most a quarter of
 * a job is on its way at a time, and at least one may be. */
static void roll(struct controller *controller)
{
    for (uint32_t i = 0; i < controller->slot_count; i++) {
        struct slot *slot = &controller->slots[i];
        if (slot->record == NONE || slot->why != WHY_RUNS) continue;
        if (standing_of(controller, slot) != STANDING_STALE) continue;
        struct plan *plan = &controller->plans[slot->job];
        uint32_t budget = plan->slot_count / 4 > 1 ? plan->slot_count / 4 : 1;
        if (plan->not_up >= budget) {
            slot->why = WHY_ROLL;
            slot->a = plan->not_up;
            continue;
        }
        plan->not_up++;
        slot->why = WHY_STOPS;
        command(controller, &controller->records[slot->record], CONTROLLER_STOP);
    }
}

void controller_step(struct controller *controller, const struct controller_input *input,
                     struct controller_output *ret_output)
{
    assert(input->job_count <= CONTROLLER_JOBS_MAX);
    assert(input->task_count <= CONTROLLER_TASKS_MAX);
    assert(input->tasks_max <= CONTROLLER_TASKS_MAX);
    *ret_output = (struct controller_output) { 0 };
    controller->slot_count = 0;
    for (uint32_t i = 0; i < input->job_count; i++)
        controller->plans[i] = (struct plan) { .first_slot = NONE };
    if (!input->complete) return;
    assert(input->epoch >= 1 && input->epoch <= CONTROLLER_EPOCH_MAX);
    if (controller->epoch != input->epoch) controller->launch = 0;
    controller->epoch = input->epoch;
    controller->retry = input->retry;
    controller->input = input;
    controller->output = ret_output;

    merge(controller);
    order_jobs(controller);
    make_slots(controller);
    match(controller);
    block_names(controller);
    count_what_is_used(controller);
    end_unwanted(controller);
    for (uint32_t i = 0; i < controller->slot_count; i++)
        if (controller->slots[i].record != NONE) judge_present(controller, &controller->slots[i]);
    for (uint32_t i = 0; i < controller->slot_count; i++)
        if (controller->slots[i].record == NONE) judge_absent(controller, &controller->slots[i]);
    roll(controller);

    ret_output->cpu_milli_reserved = controller->cpu_used;
    ret_output->memory_bytes_reserved = controller->memory_used;
    controller->input = NULL;
    controller->output = NULL;
}

void controller_refused(struct controller *controller, const struct controller_action *action,
                        const char *text)
{
    for (uint32_t i = 0; i < controller->record_count; i++) {
        struct record *record = &controller->records[i];
        if (!id_equal(&record->id, &action->task)) continue;
        record->refused = true;
        record->refused_retry = controller->retry;
        record->sent = SENT_NOTHING;
        (void)snprintf(record->refusal, sizeof record->refusal, "%s", text == NULL ? "" : text);
        return;
    }
}

/* --- reasons ------------------------------------------------------------------------------------
 */

static const struct slot *find_slot(const struct controller *controller, uint32_t job,
                                    uint32_t index)
{
    if (job >= CONTROLLER_JOBS_MAX) return NULL;
    const struct plan *plan = &controller->plans[job];
    if (plan->first_slot == NONE || index >= plan->slot_count) return NULL;
    return &controller->slots[plan->first_slot + index];
}

static void format_cores(uint64_t milli, char text[40])
{
    const char *unit = milli == 1000 ? "core" : "cores";
    if (milli % 1000 == 0)
        (void)snprintf(text, 40, "%" PRIu64 " %s", milli / 1000, unit);
    else
        (void)snprintf(text, 40, "%" PRIu64 ".%03" PRIu64 " %s", milli / 1000, milli % 1000, unit);
}

static void format_resources(const struct slot *slot, char *text, size_t size)
{
    bool never = slot->why == WHY_CPU_NEVER || slot->why == WHY_MEMORY_NEVER;
    char needed[40], there[40];
    if (slot->why == WHY_CPU || slot->why == WHY_CPU_NEVER) {
        format_cores(slot->a, needed);
        format_cores(slot->b, there);
    } else {
        (void)snprintf(needed, sizeof needed, "%" PRIu64 " MiB", slot->a >> 20);
        (void)snprintf(there, sizeof there, "%" PRIu64 " MiB", slot->b >> 20);
    }
    if (never)
        (void)snprintf(text, size, "refused: needs %s, the machine has %s", needed, there);
    else
        (void)snprintf(text, size, "waits: needs %s, %s of the machine are free", needed, there);
}

static void format_who(const struct controller *controller, const struct slot *slot,
                       char text[JOB_TASK_NAME_BYTES_MAX + 1])
{
    const struct record *who = &controller->records[slot->who];
    job_task_name(who->job, who->index, text);
}

void controller_reason(const struct controller *controller, uint32_t job, uint32_t index,
                       char ret_text[CONTROLLER_REASON_BYTES_MAX + 1])
{
    const size_t size = CONTROLLER_REASON_BYTES_MAX + 1;
    char name[JOB_TASK_NAME_BYTES_MAX + 1];
    const struct slot *slot = find_slot(controller, job, index);
    static const char *const plain[] = {
        [WHY_RUNS] = "runs",
        [WHY_STARTS] = "starts",
        [WHY_STOPS] = "stops, to be replaced",
        [WHY_FINISHED] = "has finished and is not restarted",
        [WHY_NEWER] = "runs a newer specification than the one stored here: left alone",
        [WHY_TURN] = "waits: many tasks start at the moment",
        [WHY_NAME] = "waits: the task of the same name before it still ends",
        [WHY_GENERATION] = "refused: changed too often; remove the job and apply it again",
    };
    if (slot == NULL) {
        (void)snprintf(ret_text, size, "%s", "refused: the machine's table of tasks is full");
        return;
    }
    switch (slot->why) {
    case WHY_PORT:
        format_who(controller, slot, name);
        (void)snprintf(ret_text, size, "waits: port %" PRIu64 " is held by %s", slot->a, name);
        return;
    case WHY_CPU:
    case WHY_MEMORY:
    case WHY_CPU_NEVER:
    case WHY_MEMORY_NEVER: format_resources(slot, ret_text, size); return;
    case WHY_ROLL:
        (void)snprintf(ret_text, size, "runs; replaced once the %" PRIu64 " before it %s up",
                       slot->a, slot->a == 1 ? "is" : "are");
        return;
    case WHY_REFUSED:
        (void)snprintf(ret_text, size, "refused: %s", controller->records[slot->who].refusal);
        return;
    default: (void)snprintf(ret_text, size, "%s", plain[slot->why]); return;
    }
}

bool controller_is_kept_out(const struct controller *controller, uint32_t job, uint32_t index)
{
    const struct slot *slot = find_slot(controller, job, index);
    return slot == NULL || (slot->why >= WHY_NAME && slot->why <= WHY_GENERATION);
}
