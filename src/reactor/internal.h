/* What the files of the reactor share: the fiber, the reactor, and the table of a backend.
 * Not for other folders. One thread, but for what mailbox.c and worker.c say. */
#ifndef UNUM_REACTOR_INTERNAL_H
#define UNUM_REACTOR_INTERNAL_H

#include "reactor/reactor.h"
#include "reactor/sanitizer.h"

#include <bsd/sys/tree.h>

enum {
    /* Ended fibers whose stacks an idle reactor keeps with their pages. A busy one keeps all that
     * it used of late: giving pages back and taking them again costs more than a request. */
    STACK_POOL_WARM_IDLE_MAX = 16,
    /* Ended fibers that an idle reactor keeps at all. */
    STACK_POOL_IDLE_MAX = 256,
    STACK_POOL_COUNT_MAX = 2048,
    STACK_POOL_CHECK_NS = 100 * 1000 * 1000, /* stacks unused for so long are given back */
    /* Fibers run before the backend is asked again while there is still work. */
    REACTOR_BATCH_MAX = 256,
    /* Fiber runs without any advance of virtual time: a livelock, not work. */
    SIMULATION_INSTANT_RUNS_MAX = 10 * 1000 * 1000,
};

enum fiber_state { FIBER_READY, FIBER_RUNNING, FIBER_WAITING, FIBER_ENDED };

/* Stands at the top of its own stack, so that an idle fiber touches no other page. */
struct fiber {
    struct reactor *reactor;
    struct scope *scope;
    void *stack_pointer; /* while not running */
    void *stack;         /* the lowest byte above the guard page */
    size_t stack_bytes;
    void (*function)(void *);
    void *argument;
    TAILQ_ENTRY(fiber) queue;    /* of ready fibers, or of a condition's waiters */
    TAILQ_ENTRY(fiber) members;  /* of the scope; or the pool of ended ones */
    RB_ENTRY(fiber) timer;       /* while deadline_ns is not DEADLINE_NEVER */
    struct condition *condition; /* waited for, or NULL */
    uint64_t deadline_ns;
    uint64_t timer_sequence; /* equal deadlines fire in the order they were set */
    uint64_t serial;
    enum fiber_state state;
    bool is_warm; /* in the pool: its stack has pages */
    enum status wake_status;
    unsigned shield_count;
    unsigned scopes_owned;
    char name[FIBER_NAME_BYTES_MAX];
#if REACTOR_ASAN
    void *fake_stack;
#endif
#if REACTOR_TSAN
    void *tsan_fiber;
#endif
};

TAILQ_HEAD(fiber_queue, fiber);
RB_HEAD(timer_tree, fiber);

/* What a backend does for the core. The calls of sockets and files of the real ones stand in io.h.
 */
struct reactor_backend {
    const char *name;
    bool simulated;
    /* Let time pass until DEADLINE_NS or until something happened, and wake the fibers concerned.
     * A DEADLINE_NS of 0: only look. STATUS_TIMEOUT: nothing can ever happen (simulation only). */
    enum status (*wait)(struct reactor *reactor, uint64_t deadline_ns);
    /* Any thread: make a wait() return soon. */
    void (*interrupt)(struct reactor *reactor);
    void (*destroy)(struct reactor *reactor);
    const struct io_operations *io; /* NULL under simulation */
};

/* The kernel's random bytes, taken some hundred at a time; handed out once and erased. */
struct system_random {
    struct random random;
    size_t left; /* at the end of `bytes` */
    uint8_t bytes[512];
};

struct reactor {
    const struct reactor_backend *backend;
    void *backend_state; /* of the backend */
    struct clock clock;
    struct system_random random; /* under simulation its first part alone */
    struct random_seeded seeded; /* simulation */
    struct network network;
    struct fiber *current;    /* NULL: the scheduler, or a posted function */
    struct fiber_queue ready; /* first in, first out */
    struct timer_tree timers; /* by (deadline, sequence) */
    struct fiber_queue pool;  /* ended fibers, the warm ones first */
    unsigned pool_count;
    unsigned pool_warm_count;
    unsigned pool_unused; /* so many at the end of the pool were not needed since the last check */
    uint64_t pool_check_ns;
    unsigned fiber_count;
    uint64_t serial_next;
    uint64_t timer_sequence_next;
    void *scheduler_stack_pointer;
    void (*large_function)(void *); /* asked for by fiber_call_large_stack */
    void *large_argument;
    bool on_large_stack;
    struct scope *root;
    struct mailbox *mailbox;     /* real backends */
    struct worker_pool *workers; /* real backends */
    unsigned spin_credit;        /* short sleeps in a row (reactor.c) */
    unsigned spin_price;         /* how many it takes to look before sleeping */
    uint64_t disk_slow_until_ns; /* until then no disk operation blocks the thread */
    /* Simulation. */
    uint64_t now_ns;
    uint64_t end_ns;
    uint64_t trace_hash;
    uint64_t instant_runs;
    char failure[256]; /* why reactor_run gave up */
    bool ended;        /* END_NS was reached, or nothing could happen any more */
#if REACTOR_ASAN
    void *fake_stack;
    const void *thread_stack;
    size_t thread_stack_bytes;
#endif
#if REACTOR_TSAN
    void *tsan_thread;
#endif
};

/* The reactor that this thread runs, or NULL. */
struct reactor *reactor_of_thread(void);
/* Returns the one before. */
struct reactor *reactor_of_thread_set(struct reactor *reactor);
/* The calling fiber on its own stack; asserted: it may wait here. */
struct fiber *fiber_running(void);

/* fiber.c: suspend the calling fiber until fiber_wake or the deadline (STATUS_TIMEOUT). Does not
 * look at cancellation before; a cancellation while waiting wakes it unless shielded. */
enum status fiber_park(struct fiber *fiber, uint64_t deadline_ns);
/* Make a waiting fiber ready; nothing when it does not wait. */
void fiber_wake(struct fiber *fiber, enum status status);
/* STATUS_CANCELLED when the scope of the (unshielded) fiber is cancelled, else STATUS_OK. */
enum status fiber_check(const struct fiber *fiber);
/* Wake every fiber whose deadline is at or before NOW_NS. */
void timers_expire(struct reactor *reactor, uint64_t now_ns);
/* The earliest deadline, or DEADLINE_NEVER. */
uint64_t timers_next_ns(const struct reactor *reactor);
enum status fiber_start(struct scope *scope, const char *name, void (*function)(void *),
                        void *argument);
/* Run the first ready fiber until it suspends or ends. */
void fiber_run_next(struct reactor *reactor);
void fiber_pool_finish(struct reactor *reactor);
/* Is there anything for fiber_pool_trim to give back? */
bool fiber_pool_is_rich(const struct reactor *reactor);
/* Give back stacks that were not needed since the last call. */
void fiber_pool_trim(struct reactor *reactor);
void fiber_queue_init(struct reactor *reactor);

/* scope.c */
void scope_init_root(struct scope *scope, struct reactor *reactor);
void scope_fiber_ended(struct scope *scope, struct fiber *fiber);

/* Take the fibers of the tree below TOP out one by one, without ending them; NULL: none left. */
struct fiber *scope_take_fiber(struct scope *top);

/* simulation.c */
void simulation_trace_run(struct reactor *reactor, const struct fiber *fiber);

#endif
