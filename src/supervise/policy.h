/* Policy: what unum-init decides about tasks, as a pure step function.
 *
 * Promise, for each task:
 *   - never two live incarnations: a spawn is asked for only after the old one is proven GONE
 *   - never more than `restarts_limit` restarts in any `restarts_period_ms`; above that the task is
 *     HELD until the oldest of them leaves the period
 *   - waiting before restart number k+1 of a row of failures is drawn from
 *     [0, min(cap, base * 2^(k-1))], and 0 for the first one (k = 0); k falls back to 0 after a
 *     run of `stable_after_ms`
 *   - a task that is wanted and permanent is always live or has a next start
 *   - each state has a sentence that gives its reason
 *
 * The driver gives an event with the time and a random number, performs the actions in their order,
 * and reports their completion as events. No clock, no I/O, no allocation: the table stands in the
 * caller's memory. A step costs O(log n) in the number of tasks. One owner thread.
 * Times are nanoseconds of CLOCK_BOOTTIME (virtual in the simulator). */
#ifndef UNUM_SUPERVISE_POLICY_H
#define UNUM_SUPERVISE_POLICY_H

#include "supervise/protocol.h"

enum {
    POLICY_ACTIONS_MAX = 4, /* asserted: no step needs more */
    POLICY_FAILURE_BYTES_MAX = 119,
    POLICY_KILL_AGAIN_MS = 1000, /* a tree that is still there is killed once more */
};

/* The numbers of START that matter here; checked by the protocol. */
struct policy_spec {
    uint64_t first_incarnation;
    uint64_t lease_until_ns; /* with exclusive */
    uint32_t restarts_period_ms;
    uint32_t backoff_base_ms;
    uint32_t backoff_cap_ms;
    uint32_t stable_after_ms;
    uint32_t stop_grace_ms;
    uint32_t start_timeout_ms;
    uint8_t restarts_limit;
    uint8_t restart;   /* enum supervise_restart */
    uint8_t readiness; /* enum supervise_readiness */
    uint8_t stop_signal;
    bool exclusive;
};

enum policy_event_kind {
    POLICY_WANTED,       /* slot is free: a new task with SPEC */
    POLICY_SPAWNED,      /* the process of the incarnation is made */
    POLICY_PROGRAM_RUNS, /* its program has been executed; PID */
    POLICY_IS_READY,
    POLICY_NOT_READY, /* a probe failed; TEXT */
    POLICY_EXITED,    /* EXIT_KIND, EXIT_CODE; NOT_STARTED with TEXT; other processes may remain */
    POLICY_GONE,      /* nothing of the incarnation is left */
    POLICY_STOP,
    POLICY_RESTART,
    POLICY_KILL,
    POLICY_ZOMBIE, /* a child was left unreaped past the deadline; TEXT */
    POLICY_LEASE,  /* lease_until_ns is renewed */
    POLICY_DROP,   /* only where policy_may_drop(); the slot is free afterwards */
    POLICY_TIME,   /* without slot: one task whose deadline has passed is served, if any */
};

struct policy_event {
    enum policy_event_kind kind;
    uint32_t slot;
    uint64_t incarnation; /* SPAWNED .. GONE, ZOMBIE: of another incarnation is ignored */
    uint64_t now_ns;
    uint64_t random; /* uniform */
    uint64_t lease_until_ns;
    const struct policy_spec *spec;
    const char *text; /* NULL: none */
    uint32_t pid;
    uint32_t exit_code;
    uint8_t exit_kind; /* enum supervise_exit */
};

enum policy_action_kind {
    POLICY_SPAWN,  /* make the first process of INCARNATION; answer SPAWNED, or EXITED and GONE */
    POLICY_SIGNAL, /* send SIGNAL to the program */
    POLICY_KILL_TREE,
    POLICY_REPORT, /* the task's state has changed */
};

struct policy_action {
    enum policy_action_kind kind;
    uint32_t slot;
    uint64_t incarnation;
    uint8_t signal;
};

struct policy_actions {
    struct policy_action list[POLICY_ACTIONS_MAX];
    size_t count;
};

/* Why the policy itself ended an incarnation. */
enum policy_cause {
    POLICY_CAUSE_NONE,
    POLICY_CAUSE_STOP,
    POLICY_CAUSE_RESTART,
    POLICY_CAUSE_KILL,
    POLICY_CAUSE_TIMEOUT,
    POLICY_CAUSE_ZOMBIE,
    POLICY_CAUSE_LEASE,
};

struct policy_task {
    struct policy_spec spec;
    uint64_t incarnation; /* the live one, or the last */
    uint64_t spawned_at_ns;
    uint64_t started_at_ns;
    uint64_t ended_at_ns;
    uint64_t next_start_ns; /* with BACKOFF and HELD */
    uint64_t kill_at_ns;    /* 0: none; end of the grace time, or the next repetition */
    uint64_t ready_by_ns;   /* 0: none */
    uint64_t deadline_ns;   /* the earliest of all; 0: not in the heap */
    uint64_t restarts_at_ns[SUPERVISE_RESTARTS_MAX]; /* ring of the last ones */
    uint32_t heap_index;
    uint32_t pid;
    uint32_t restarts;
    uint32_t failures; /* k */
    uint32_t exit_code;
    uint8_t exit_kind;
    uint8_t state; /* enum supervise_state */
    uint8_t cause; /* enum policy_cause */
    uint8_t ring_next;
    uint8_t ring_count;
    bool used;
    bool live;                                  /* from the SPAWN action until GONE */
    bool wanted;                                /* false after STOP */
    bool again;                                 /* RESTART: spawn as soon as it is gone */
    bool exited;                                /* the live incarnation's program has ended */
    bool killing;                               /* KILL_TREE has been asked for */
    char failure[POLICY_FAILURE_BYTES_MAX + 1]; /* why it could not be started */
    char reason[SUPERVISE_REASON_BYTES_MAX + 1];
};

struct policy {
    struct policy_task *tasks;
    uint32_t *heap; /* slots by deadline, then slot */
    uint32_t capacity;
    uint32_t heap_count;
    uint32_t task_count;
    uint32_t live_count;
};

/* Use zeroed memory for CAPACITY tasks and as many heap entries. Slots are 0..CAPACITY-1. */
void policy_init(struct policy *policy, struct policy_task *tasks, uint32_t *heap,
                 uint32_t capacity);

/* Slots and first uses are asserted; everything else about EVENT may be stale and is then ignored.
 * RET_ACTIONS is written whole. */
void policy_step(struct policy *policy, const struct policy_event *event,
                 struct policy_actions *ret_actions);

/* When the next POLICY_TIME is due; UINT64_MAX: never. */
uint64_t policy_next_ns(const struct policy *policy);

/* Does its work: ready, or running when no readiness is asked. */
bool policy_is_up(const struct policy_task *task);

/* Stopped, done or failed, and nothing is left of it. */
bool policy_may_drop(const struct policy_task *task);

/* Write and read a task's whole state, so that unum-init can re-execute itself.
 * POLICY_TASK_BYTES_MAX always suffices. Load: slot is free (asserted); STATUS_CORRUPT. */
enum { POLICY_TASK_BYTES_MAX = 1024 };
void policy_save(const struct policy *policy, uint32_t slot, struct writer *writer);
MUST_USE enum status policy_load(struct policy *policy, uint32_t slot, struct reader *reader);

#endif
