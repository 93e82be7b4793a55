/* A task is served in one place, whatever the event: first the event changes what is known
 * (on_...), then settle() derives the deadline. Timers are one heap entry per task, the earliest
 * of its deadlines. */
#include "supervise/policy.h"

#include <assert.h>
#include <stdio.h>

static const uint64_t ms = 1000000;

/* ---- heap of deadlines; ties are broken by slot, so that the order is total ---- */

static bool sooner(const struct policy *policy, uint32_t a, uint32_t b)
{
    uint64_t x = policy->tasks[a].deadline_ns;
    uint64_t y = policy->tasks[b].deadline_ns;
    return x != y ? x < y : a < b;
}

static void heap_place(struct policy *policy, uint32_t index, uint32_t slot)
{
    policy->heap[index] = slot;
    policy->tasks[slot].heap_index = index;
}

static void heap_up(struct policy *policy, uint32_t index)
{
    uint32_t slot = policy->heap[index];
    while (index > 0) {
        uint32_t parent = (index - 1) / 2;
        if (!sooner(policy, slot, policy->heap[parent])) break;
        heap_place(policy, index, policy->heap[parent]);
        index = parent;
    }
    heap_place(policy, index, slot);
}

static void heap_down(struct policy *policy, uint32_t index)
{
    uint32_t slot = policy->heap[index];
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= policy->heap_count) break;
        if (child + 1 < policy->heap_count &&
            sooner(policy, policy->heap[child + 1], policy->heap[child]))
            child++;
        if (!sooner(policy, policy->heap[child], slot)) break;
        heap_place(policy, index, policy->heap[child]);
        index = child;
    }
    heap_place(policy, index, slot);
}

static void heap_remove(struct policy *policy, uint32_t slot)
{
    uint32_t index = policy->tasks[slot].heap_index;
    assert(policy->heap[index] == slot);
    policy->tasks[slot].deadline_ns = 0;
    policy->heap_count--;
    if (index == policy->heap_count) return;
    heap_place(policy, index, policy->heap[policy->heap_count]);
    heap_up(policy, index);
    heap_down(policy, index);
}

static void heap_set(struct policy *policy, uint32_t slot, uint64_t deadline_ns)
{
    struct policy_task *task = &policy->tasks[slot];
    if (task->deadline_ns == deadline_ns) return;
    if (task->deadline_ns != 0) heap_remove(policy, slot);
    if (deadline_ns == 0) return;
    task->deadline_ns = deadline_ns;
    policy->heap_count++;
    heap_place(policy, policy->heap_count - 1, slot);
    heap_up(policy, policy->heap_count - 1);
}

/* ---- sentences ---- */

#define SAY(task, ...) ((void)snprintf((task)->reason, sizeof(task)->reason, __VA_ARGS__))

static void seconds_text(uint64_t ns, char ret_text[32])
{
    (void)snprintf(ret_text, 32, "%llu.%03llu s", (unsigned long long)(ns / (1000 * ms)),
                   (unsigned long long)(ns / ms % 1000));
}

/* How the last run ended, e.g. "exited with status 3 after 0.120 s". */
static void ending_text(const struct policy_task *task, char *text, size_t size)
{
    char ran[32];
    uint64_t from = task->started_at_ns != 0 ? task->started_at_ns : task->spawned_at_ns;
    seconds_text(task->ended_at_ns > from ? task->ended_at_ns - from : 0, ran);
    const char *why = "";
    if (task->exit_kind == SUPERVISE_NOT_STARTED) {
        (void)snprintf(text, size, "could not be started: %s", task->failure);
        return;
    }
    switch ((enum policy_cause)task->cause) {
    case POLICY_CAUSE_TIMEOUT: why = "was not ready in time, "; break;
    case POLICY_CAUSE_ZOMBIE: why = "left an exited child unreaped, "; break;
    case POLICY_CAUSE_LEASE: why = "lost its task lease, "; break;
    case POLICY_CAUSE_KILL: why = "was killed as asked, "; break;
    case POLICY_CAUSE_NONE:
    case POLICY_CAUSE_STOP:
    case POLICY_CAUSE_RESTART: break;
    }
    if (task->exit_kind == SUPERVISE_SIGNALED) {
        const char *name = sigabbrev_np((int)task->exit_code);
        (void)snprintf(text, size, "%sended by signal %u (SIG%s) after %s", why, task->exit_code,
                       name == NULL ? "?" : name, ran);
    } else {
        (void)snprintf(text, size, "%sexited with status %u after %s", why, task->exit_code, ran);
    }
}

/* ---- actions ---- */

struct step {
    struct policy *policy;
    const struct policy_event *event;
    struct policy_actions *actions;
};

static void act(struct step *step, uint32_t slot, enum policy_action_kind kind, uint8_t signal)
{
    struct policy_actions *actions = step->actions;
    assert(actions->count < POLICY_ACTIONS_MAX);
    actions->list[actions->count++] = (struct policy_action) {
        .kind = kind,
        .slot = slot,
        .incarnation = step->policy->tasks[slot].incarnation,
        .signal = signal,
    };
}

static void spawn(struct step *step, uint32_t slot, bool first)
{
    struct policy_task *task = &step->policy->tasks[slot];
    if (!first) task->incarnation++;
    task->live = true;
    step->policy->live_count++;
    task->exited = task->killing = task->again = false;
    task->cause = POLICY_CAUSE_NONE;
    task->state = SUPERVISE_PENDING;
    task->pid = 0;
    task->spawned_at_ns = step->event->now_ns;
    task->started_at_ns = task->next_start_ns = task->kill_at_ns = 0;
    task->ready_by_ns = task->spec.start_timeout_ms == 0
                            ? 0
                            : step->event->now_ns + task->spec.start_timeout_ms * ms;
    act(step, slot, POLICY_SPAWN, 0);
}

static void kill_tree(struct step *step, uint32_t slot)
{
    struct policy_task *task = &step->policy->tasks[slot];
    task->killing = true;
    task->kill_at_ns = step->event->now_ns + POLICY_KILL_AGAIN_MS * ms;
    task->ready_by_ns = 0;
    act(step, slot, POLICY_KILL_TREE, 0);
}

/* Ask the program to end; after the grace time its tree is killed. */
static void end_gently(struct step *step, uint32_t slot, enum policy_cause cause)
{
    struct policy_task *task = &step->policy->tasks[slot];
    if (task->state == SUPERVISE_STOPPING) return; /* under way; what follows is decided at GONE */
    task->state = SUPERVISE_STOPPING;
    task->cause = (uint8_t)cause;
    task->ready_by_ns = 0;
    char grace[32];
    seconds_text(task->spec.stop_grace_ms * ms, grace);
    SAY(task, "%s: signal %u sent, its tree is killed after %s",
        cause == POLICY_CAUSE_RESTART ? "restart was asked" : "stop was asked",
        task->spec.stop_signal, grace);
    if (task->spec.stop_grace_ms == 0) {
        kill_tree(step, slot);
    } else {
        task->kill_at_ns = step->event->now_ns + task->spec.stop_grace_ms * ms;
        /* A program that may run already, but is not known to: on_program_runs() signals it. */
        if (task->pid != 0) act(step, slot, POLICY_SIGNAL, task->spec.stop_signal);
    }
    act(step, slot, POLICY_REPORT, 0);
}

static void end_hard(struct step *step, uint32_t slot, enum policy_cause cause)
{
    struct policy_task *task = &step->policy->tasks[slot];
    if (task->state != SUPERVISE_STOPPING) task->cause = (uint8_t)cause;
    task->state = SUPERVISE_STOPPING;
    kill_tree(step, slot);
    act(step, slot, POLICY_REPORT, 0);
}

/* ---- what follows an end ---- */

static void note_restart(struct policy_task *task, uint64_t now_ns)
{
    task->restarts_at_ns[task->ring_next] = now_ns;
    task->ring_next = (uint8_t)((task->ring_next + 1) % SUPERVISE_RESTARTS_MAX);
    if (task->ring_count < SUPERVISE_RESTARTS_MAX) task->ring_count++;
    task->restarts++;
}

/* The first moment at which one more restart keeps within the limit. */
static uint64_t bucket_free_at(const struct policy_task *task)
{
    uint8_t limit = task->spec.restarts_limit;
    if (task->ring_count < limit) return 0;
    unsigned oldest =
        (unsigned)(task->ring_next + SUPERVISE_RESTARTS_MAX - limit) % SUPERVISE_RESTARTS_MAX;
    return task->restarts_at_ns[oldest] + task->spec.restarts_period_ms * ms;
}

static uint64_t backoff_ns(const struct policy_task *task, uint64_t random)
{
    if (task->failures == 0 || task->spec.backoff_base_ms == 0) return 0;
    uint64_t ceiling = task->spec.backoff_base_ms * ms;
    uint64_t cap = task->spec.backoff_cap_ms * ms;
    for (uint32_t k = 1; k < task->failures && ceiling < cap; k++) ceiling *= 2;
    if (ceiling > cap) ceiling = cap;
    return random % (ceiling + 1);
}

static void start_again(struct step *step, uint32_t slot, const char *ending)
{
    struct policy_task *task = &step->policy->tasks[slot];
    note_restart(task, step->event->now_ns);
    SAY(task, "restart %u: %.180s", task->restarts, ending);
    spawn(step, slot, false);
}

static void plan_restart(struct step *step, uint32_t slot)
{
    struct policy_task *task = &step->policy->tasks[slot];
    uint64_t now = step->event->now_ns;
    char ending[160];
    ending_text(task, ending, sizeof ending);
    uint64_t start_at = now + backoff_ns(task, step->event->random);
    uint64_t free_at = bucket_free_at(task);
#ifdef MUTATION_RESTART_IGNORES_BUCKET
    free_at = 0; /* a crash loop is never held back */
#endif
    if (task->failures < UINT32_MAX) task->failures++;
    char wait[32];
    if (free_at > start_at) {
        seconds_text(free_at - now, wait);
        task->state = SUPERVISE_HELD;
        task->next_start_ns = free_at;
        char period[32];
        seconds_text(task->spec.restarts_period_ms * ms, period);
        SAY(task, "held back for %s: restarted %u times in %s; last run %.140s", wait,
            task->spec.restarts_limit, period, ending);
    } else if (start_at > now) {
        seconds_text(start_at - now, wait);
        task->state = SUPERVISE_BACKOFF;
        task->next_start_ns = start_at;
        SAY(task, "waits %s after failure %u in a row: %.160s", wait, task->failures, ending);
    } else {
        start_again(step, slot, ending);
        return; /* reported when it is made */
    }
    act(step, slot, POLICY_REPORT, 0);
}

static bool lease_holds(const struct policy_task *task, uint64_t now_ns)
{
    return !task->spec.exclusive || task->spec.lease_until_ns > now_ns;
}

static void hold_for_lease(struct step *step, uint32_t slot)
{
    struct policy_task *task = &step->policy->tasks[slot];
    task->state = SUPERVISE_HELD;
    task->next_start_ns = 0;
    SAY(task, "held back: it may run only while its task lease holds, and that ran out");
    act(step, slot, POLICY_REPORT, 0);
}

static void rest(struct step *step, uint32_t slot, enum supervise_state state)
{
    struct policy_task *task = &step->policy->tasks[slot];
    char ending[160];
    ending_text(task, ending, sizeof ending);
    task->state = (uint8_t)state;
    if (state == SUPERVISE_STOPPED) {
        SAY(task, "stopped as asked: %.180s", ending);
    } else {
        SAY(task, "%.180s; not restarted, as its policy says", ending);
    }
    act(step, slot, POLICY_REPORT, 0);
}

/* Nothing of the incarnation is left: decide what follows. */
static void after_end(struct step *step, uint32_t slot)
{
    struct policy_task *task = &step->policy->tasks[slot];
    uint64_t now = step->event->now_ns;
    bool well = task->exit_kind == SUPERVISE_EXITED && task->exit_code == 0;
    bool stable = task->started_at_ns != 0 &&
                  task->ended_at_ns - task->started_at_ns >= task->spec.stable_after_ms * ms;
#ifdef MUTATION_BACKOFF_NEVER_RESETS
    stable = false; /* a task that once failed waits the longest time for ever */
#endif
    if (stable) task->failures = 0;
    if (!task->wanted) {
        rest(step, slot, SUPERVISE_STOPPED);
    } else if (!lease_holds(task, now)) {
        hold_for_lease(step, slot);
    } else if (task->again) {
        SAY(task, "restarted as asked");
        spawn(step, slot, false);
    } else if (task->spec.restart == SUPERVISE_TEMPORARY ||
               (task->spec.restart == SUPERVISE_TRANSIENT && well)) {
        rest(step, slot, well ? SUPERVISE_DONE : SUPERVISE_FAILED);
    } else {
        plan_restart(step, slot);
    }
}

/* ---- events ---- */

static void on_wanted(struct step *step, uint32_t slot)
{
    struct policy_task *task = &step->policy->tasks[slot];
    assert(!task->used);
    assert(step->event->spec != NULL);
    *task = (struct policy_task) {
        .used = true,
        .wanted = true,
        .spec = *step->event->spec,
        .incarnation = step->event->spec->first_incarnation,
    };
    step->policy->task_count++;
    if (!lease_holds(task, step->event->now_ns)) {
        task->incarnation--; /* the first spawn, later, counts up to it */
        hold_for_lease(step, slot);
        return;
    }
    SAY(task, "start was asked");
    spawn(step, slot, true);
}

static void on_program_runs(struct step *step, uint32_t slot)
{
    struct policy_task *task = &step->policy->tasks[slot];
    bool stop_waits = task->pid == 0 && task->state == SUPERVISE_STOPPING && !task->killing;
    task->pid = step->event->pid;
    if (stop_waits) act(step, slot, POLICY_SIGNAL, task->spec.stop_signal);
    if (task->started_at_ns == 0) task->started_at_ns = step->event->now_ns;
    if (task->state != SUPERVISE_STARTING && task->state != SUPERVISE_PENDING) return;
    task->state = SUPERVISE_RUNNING;
    if (task->spec.readiness == SUPERVISE_READINESS_NONE) task->ready_by_ns = 0;
    act(step, slot, POLICY_REPORT, 0);
}

static void on_readiness(struct step *step, uint32_t slot, bool ready)
{
    struct policy_task *task = &step->policy->tasks[slot];
    if (task->spec.readiness == SUPERVISE_READINESS_NONE) return;
    if (ready && task->state == SUPERVISE_RUNNING) {
        task->state = SUPERVISE_READY;
        task->ready_by_ns = 0;
        SAY(task, "ready%s%.180s", step->event->text == NULL ? "" : ": ",
            step->event->text == NULL ? "" : step->event->text);
    } else if (!ready && task->state == SUPERVISE_READY) {
        task->state = SUPERVISE_RUNNING;
        SAY(task, "not ready: %.180s",
            step->event->text == NULL ? "its probe fails" : step->event->text);
    } else {
        return;
    }
    act(step, slot, POLICY_REPORT, 0);
}

static void on_exited(struct step *step, uint32_t slot)
{
    struct policy_task *task = &step->policy->tasks[slot];
    if (task->exited) return;
    task->exited = true;
    task->exit_kind = step->event->exit_kind;
    task->exit_code = step->event->exit_code;
    task->ended_at_ns = step->event->now_ns;
    task->ready_by_ns = 0;
    task->pid = 0;
    if (step->event->exit_kind == SUPERVISE_NOT_STARTED)
        (void)snprintf(task->failure, sizeof task->failure, "%.119s",
                       step->event->text == NULL ? "unknown" : step->event->text);
    task->state = SUPERVISE_STOPPING;
    /* The program's end is the incarnation's: what it left behind goes too. */
    kill_tree(step, slot);
#ifdef MUTATION_INCARNATION_OVERLAP
    if (task->wanted && task->spec.restart == SUPERVISE_PERMANENT) {
        step->policy->live_count--;
        spawn(step, slot, false); /* the next one starts before the old one is gone */
    }
#endif
}

static void on_gone(struct step *step, uint32_t slot)
{
    struct policy_task *task = &step->policy->tasks[slot];
    if (!task->exited) { /* nobody told how: its first process was killed from outside */
        task->exit_kind = SUPERVISE_SIGNALED;
        task->exit_code = 9;
        task->ended_at_ns = step->event->now_ns;
    }
    task->live = false;
    step->policy->live_count--;
    task->pid = 0;
    task->kill_at_ns = task->ready_by_ns = 0;
    after_end(step, slot);
}

static void on_stop(struct step *step, uint32_t slot)
{
    struct policy_task *task = &step->policy->tasks[slot];
    task->wanted = task->again = false;
    if (task->live) {
        end_gently(step, slot, POLICY_CAUSE_STOP);
        return;
    }
    if (task->state != SUPERVISE_BACKOFF && task->state != SUPERVISE_HELD) return;
    task->state = SUPERVISE_STOPPED;
    task->next_start_ns = 0;
    SAY(task, "stopped as asked, while it waited for its next start");
    act(step, slot, POLICY_REPORT, 0);
}

static void on_restart(struct step *step, uint32_t slot)
{
    struct policy_task *task = &step->policy->tasks[slot];
    task->wanted = true;
    if (task->live) {
        task->again = true;
        end_gently(step, slot, POLICY_CAUSE_RESTART);
    } else if (lease_holds(task, step->event->now_ns)) {
        task->failures = 0;
        SAY(task, "restarted as asked");
        spawn(step, slot, false);
    }
}

static void on_lease(struct step *step, uint32_t slot)
{
    struct policy_task *task = &step->policy->tasks[slot];
    if (!task->spec.exclusive || step->event->lease_until_ns <= task->spec.lease_until_ns) return;
    task->spec.lease_until_ns = step->event->lease_until_ns;
    bool waits = task->state == SUPERVISE_HELD && task->next_start_ns == 0;
    if (!waits || task->live || !lease_holds(task, step->event->now_ns)) return;
    SAY(task, "started again: its task lease is renewed");
    spawn(step, slot, false);
}

/* One of the task's deadlines has passed. */
static void on_deadline(struct step *step, uint32_t slot)
{
    struct policy_task *task = &step->policy->tasks[slot];
    uint64_t now = step->event->now_ns;
    if (!task->live) {
        if (task->next_start_ns == 0 || task->next_start_ns > now) return;
        if (!lease_holds(task, now)) {
            hold_for_lease(step, slot);
            return;
        }
        char ending[160];
        ending_text(task, ending, sizeof ending);
        start_again(step, slot, ending);
    } else if (!lease_holds(task, now) && !task->killing) {
        SAY(task, "its task lease ran out: killed, so that it never runs twice");
        end_hard(step, slot, POLICY_CAUSE_LEASE);
    } else if (task->kill_at_ns != 0 && task->kill_at_ns <= now) {
        if (!task->killing) {
            SAY(task, "the grace time has passed, its tree is killed");
            act(step, slot, POLICY_REPORT, 0);
        }
        kill_tree(step, slot);
    } else if (task->ready_by_ns != 0 && task->ready_by_ns <= now) {
        char limit[32];
        seconds_text(task->spec.start_timeout_ms * ms, limit);
        SAY(task, "not ready within %s: killed", limit);
        end_hard(step, slot, POLICY_CAUSE_TIMEOUT);
    }
}

/* Bring the heap entry in line with what the task waits for. */
static void settle(struct policy *policy, uint32_t slot)
{
    const struct policy_task *task = &policy->tasks[slot];
    uint64_t earliest = UINT64_MAX;
    if (task->used && task->live) {
        if (task->kill_at_ns != 0 && task->kill_at_ns < earliest) earliest = task->kill_at_ns;
        if (task->ready_by_ns != 0 && task->ready_by_ns < earliest) earliest = task->ready_by_ns;
        bool leased = task->spec.exclusive && !task->killing;
        if (leased && task->spec.lease_until_ns < earliest) earliest = task->spec.lease_until_ns;
    } else if (task->used && task->next_start_ns != 0) {
        earliest = task->next_start_ns;
    }
    heap_set(policy, slot, earliest == UINT64_MAX ? 0 : earliest);
}

static bool is_stale(const struct policy_task *task, const struct policy_event *event)
{
    switch (event->kind) {
    case POLICY_SPAWNED:
    case POLICY_PROGRAM_RUNS:
    case POLICY_IS_READY:
    case POLICY_NOT_READY:
    case POLICY_EXITED:
    case POLICY_GONE:
    case POLICY_ZOMBIE: return !task->live || task->incarnation != event->incarnation;
    default: return false;
    }
}

static void dispatch(struct step *step, uint32_t slot)
{
    struct policy_task *task = &step->policy->tasks[slot];
    switch (step->event->kind) {
    case POLICY_WANTED: on_wanted(step, slot); break;
    case POLICY_SPAWNED:
        if (task->state != SUPERVISE_PENDING) break;
        task->state = SUPERVISE_STARTING;
        act(step, slot, POLICY_REPORT, 0);
        break;
    case POLICY_PROGRAM_RUNS: on_program_runs(step, slot); break;
    case POLICY_IS_READY: on_readiness(step, slot, true); break;
    case POLICY_NOT_READY: on_readiness(step, slot, false); break;
    case POLICY_EXITED: on_exited(step, slot); break;
    case POLICY_GONE: on_gone(step, slot); break;
    case POLICY_STOP: on_stop(step, slot); break;
    case POLICY_RESTART: on_restart(step, slot); break;
    case POLICY_KILL:
        if (!task->live) break;
        SAY(task, "kill was asked");
        end_hard(step, slot, POLICY_CAUSE_KILL);
        break;
    case POLICY_ZOMBIE:
        SAY(task, "killed: %.200s", step->event->text == NULL ? "" : step->event->text);
        end_hard(step, slot, POLICY_CAUSE_ZOMBIE);
        break;
    case POLICY_LEASE: on_lease(step, slot); break;
    case POLICY_DROP:
        assert(policy_may_drop(task));
        task->next_start_ns = 0;
        task->used = false;
        step->policy->task_count--;
        break;
    case POLICY_TIME: on_deadline(step, slot); break;
    }
}

void policy_init(struct policy *policy, struct policy_task *tasks, uint32_t *heap,
                 uint32_t capacity)
{
    *policy = (struct policy) { .tasks = tasks, .heap = heap, .capacity = capacity };
}

void policy_step(struct policy *policy, const struct policy_event *event,
                 struct policy_actions *ret_actions)
{
    ret_actions->count = 0;
    uint32_t slot = event->slot;
    if (event->kind == POLICY_TIME) {
        if (policy->heap_count == 0) return;
        slot = policy->heap[0];
        if (policy->tasks[slot].deadline_ns > event->now_ns) return;
    }
    assert(slot < policy->capacity);
    const struct policy_task *task = &policy->tasks[slot];
    if (event->kind != POLICY_WANTED) assert(task->used);
    if (is_stale(task, event)) return;
    struct step step = { .policy = policy, .event = event, .actions = ret_actions };
    dispatch(&step, slot);
    settle(policy, slot);
}

uint64_t policy_next_ns(const struct policy *policy)
{
    return policy->heap_count == 0 ? UINT64_MAX : policy->tasks[policy->heap[0]].deadline_ns;
}

bool policy_is_up(const struct policy_task *task)
{
    return task->state == SUPERVISE_READY ||
           (task->state == SUPERVISE_RUNNING && task->spec.readiness == SUPERVISE_READINESS_NONE);
}

bool policy_may_drop(const struct policy_task *task)
{
    return task->used && !task->live &&
           (task->state == SUPERVISE_STOPPED || task->state == SUPERVISE_DONE ||
            task->state == SUPERVISE_FAILED);
}

/* ---- across a re-execution ---- */

enum {
    FLAG_LIVE = 1,
    FLAG_WANTED = 2,
    FLAG_AGAIN = 4,
    FLAG_EXITED = 8,
    FLAG_KILLING = 16,
    FLAG_EXCLUSIVE = 32
};

void policy_save(const struct policy *policy, uint32_t slot, struct writer *writer)
{
    const struct policy_task *task = &policy->tasks[slot];
    assert(task->used);
    const uint64_t longs[] = {
        task->spec.first_incarnation, task->spec.lease_until_ns, task->incarnation,
        task->spawned_at_ns,          task->started_at_ns,       task->ended_at_ns,
        task->next_start_ns,          task->kill_at_ns,          task->ready_by_ns
    };
    const uint32_t words[] = { task->spec.restarts_period_ms,
                               task->spec.backoff_base_ms,
                               task->spec.backoff_cap_ms,
                               task->spec.stable_after_ms,
                               task->spec.stop_grace_ms,
                               task->spec.start_timeout_ms,
                               task->pid,
                               task->restarts,
                               task->failures,
                               task->exit_code };
    unsigned flags = (task->live ? FLAG_LIVE : 0u) | (task->wanted ? FLAG_WANTED : 0u) |
                     (task->again ? FLAG_AGAIN : 0u) | (task->exited ? FLAG_EXITED : 0u) |
                     (task->killing ? FLAG_KILLING : 0u) |
                     (task->spec.exclusive ? FLAG_EXCLUSIVE : 0u);
    const uint8_t octets[] = { task->spec.restarts_limit,
                               task->spec.restart,
                               task->spec.readiness,
                               task->spec.stop_signal,
                               task->exit_kind,
                               task->state,
                               task->cause,
                               task->ring_count,
                               (uint8_t)flags };
    for (size_t i = 0; i < sizeof longs / sizeof *longs; i++) writer_put_u64(writer, longs[i]);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) writer_put_u32(writer, words[i]);
    writer_put(writer, octets, sizeof octets);
    /* The ring, oldest first. */
    for (unsigned i = 0; i < task->ring_count; i++) {
        unsigned at = task->ring_next + (unsigned)SUPERVISE_RESTARTS_MAX - task->ring_count + i;
        writer_put_u64(writer, task->restarts_at_ns[at % SUPERVISE_RESTARTS_MAX]);
    }
    writer_put_bytes(writer, bytes_of_text(task->failure));
    writer_put_bytes(writer, bytes_of_text(task->reason));
}

static void load_flags(struct policy_task *task, unsigned flags)
{
    task->live = (flags & FLAG_LIVE) != 0;
    task->wanted = (flags & FLAG_WANTED) != 0;
    task->again = (flags & FLAG_AGAIN) != 0;
    task->exited = (flags & FLAG_EXITED) != 0;
    task->killing = (flags & FLAG_KILLING) != 0;
    task->spec.exclusive = (flags & FLAG_EXCLUSIVE) != 0;
}

enum status policy_load(struct policy *policy, uint32_t slot, struct reader *reader)
{
    assert(slot < policy->capacity);
    assert(!policy->tasks[slot].used);
    struct policy_task task = { .used = true };
    uint64_t *const longs[] = {
        &task.spec.first_incarnation, &task.spec.lease_until_ns, &task.incarnation,
        &task.spawned_at_ns,          &task.started_at_ns,       &task.ended_at_ns,
        &task.next_start_ns,          &task.kill_at_ns,          &task.ready_by_ns
    };
    uint32_t *const words[] = { &task.spec.restarts_period_ms,
                                &task.spec.backoff_base_ms,
                                &task.spec.backoff_cap_ms,
                                &task.spec.stable_after_ms,
                                &task.spec.stop_grace_ms,
                                &task.spec.start_timeout_ms,
                                &task.pid,
                                &task.restarts,
                                &task.failures,
                                &task.exit_code };
    uint8_t *const octets[] = {
        &task.spec.restarts_limit, &task.spec.restart, &task.spec.readiness, &task.spec.stop_signal,
        &task.exit_kind,           &task.state,        &task.cause,          &task.ring_count
    };
    for (size_t i = 0; i < sizeof longs / sizeof *longs; i++) *longs[i] = reader_u64(reader);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) *words[i] = reader_u32(reader);
    for (size_t i = 0; i < sizeof octets / sizeof *octets; i++) *octets[i] = reader_u8(reader);
    load_flags(&task, reader_u8(reader));
    if (task.ring_count > SUPERVISE_RESTARTS_MAX || task.state >= SUPERVISE_STATE_COUNT ||
        task.spec.restarts_limit < 1 || task.spec.restarts_limit > SUPERVISE_RESTARTS_MAX)
        return STATUS_CORRUPT;
    for (unsigned i = 0; i < task.ring_count; i++) task.restarts_at_ns[i] = reader_u64(reader);
    task.ring_next = (uint8_t)(task.ring_count % SUPERVISE_RESTARTS_MAX);
    struct bytes failure = reader_bytes(reader, POLICY_FAILURE_BYTES_MAX);
    struct bytes reason = reader_bytes(reader, SUPERVISE_REASON_BYTES_MAX);
    if (reader->failed) return STATUS_CORRUPT;
    if (failure.size > 0) memcpy(task.failure, failure.data, failure.size);
    if (reason.size > 0) memcpy(task.reason, reason.data, reason.size);
    policy->tasks[slot] = task;
    policy->task_count++;
    if (task.live) policy->live_count++;
    settle(policy, slot);
    return STATUS_OK;
}
