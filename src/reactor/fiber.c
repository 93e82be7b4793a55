/* Fibers: their stacks, the switch, waiting and waking, and timers. */
#include "reactor/context.h"
#include "reactor/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    PAGE_BYTES = 4096, /* the guard; a larger page size rounds the mapping up */
#if REACTOR_ASAN || REACTOR_TSAN
    STACK_BYTES = 4 * FIBER_STACK_BYTES, /* instrumented frames are several times larger */
#else
    STACK_BYTES = FIBER_STACK_BYTES,
#endif
    GUARD_BYTES = 64 * 1024, /* a multiple of every page size in use; costs address space only */
};

_Static_assert(GUARD_BYTES % PAGE_BYTES == 0 && STACK_BYTES % GUARD_BYTES == 0,
               "stack and guard end at pages of any size up to 64 KiB");
_Static_assert(sizeof(struct fiber) < 512, "the fiber shares the first page of its stack");

static _Thread_local struct reactor *thread_reactor;

struct reactor *reactor_of_thread(void)
{
    return thread_reactor;
}

struct reactor *reactor_of_thread_set(struct reactor *reactor)
{
    struct reactor *before = thread_reactor;
    thread_reactor = reactor;
    return before;
}

/* --- timers ------------------------------------------------------------------------------------
 */

static int timer_compare(const struct fiber *a, const struct fiber *b)
{
    if (a->deadline_ns != b->deadline_ns) return a->deadline_ns < b->deadline_ns ? -1 : 1;
    if (a->timer_sequence != b->timer_sequence)
        return a->timer_sequence < b->timer_sequence ? -1 : 1;
    return 0;
}

RB_GENERATE_INTERNAL(timer_tree, fiber, timer, timer_compare, static __attribute__((unused)))

static void timer_set(struct fiber *fiber, uint64_t deadline_ns)
{
    assert(fiber->deadline_ns == DEADLINE_NEVER);
    if (deadline_ns == DEADLINE_NEVER) return;
    fiber->deadline_ns = deadline_ns;
    fiber->timer_sequence = fiber->reactor->timer_sequence_next++;
    RB_INSERT(timer_tree, &fiber->reactor->timers, fiber);
}

static void timer_clear(struct fiber *fiber)
{
    if (fiber->deadline_ns == DEADLINE_NEVER) return;
    RB_REMOVE(timer_tree, &fiber->reactor->timers, fiber);
    fiber->deadline_ns = DEADLINE_NEVER;
}

uint64_t timers_next_ns(const struct reactor *reactor)
{
    struct fiber *first = RB_MIN(timer_tree, (struct timer_tree *)&reactor->timers);
    return first == NULL ? DEADLINE_NEVER : first->deadline_ns;
}

void timers_expire(struct reactor *reactor, uint64_t now_ns)
{
    for (;;) {
        struct fiber *first = RB_MIN(timer_tree, &reactor->timers);
        if (first == NULL || first->deadline_ns > now_ns) return;
        fiber_wake(first, STATUS_TIMEOUT);
    }
}

/* --- the switch --------------------------------------------------------------------------------
 */

static void switch_to_fiber(struct reactor *reactor, struct fiber *fiber)
{
#if REACTOR_ASAN
    __sanitizer_start_switch_fiber(&reactor->fake_stack, fiber->stack, fiber->stack_bytes);
#endif
#if REACTOR_TSAN
    __tsan_switch_to_fiber(fiber->tsan_fiber, 0);
#endif
    context_switch(&reactor->scheduler_stack_pointer, fiber->stack_pointer);
#if REACTOR_ASAN
    __sanitizer_finish_switch_fiber(reactor->fake_stack, NULL, NULL);
#endif
}

static void switch_to_scheduler(struct fiber *fiber)
{
    struct reactor *reactor = fiber->reactor;
#if REACTOR_ASAN
    /* An ended fiber gives its fake stack back. */
    __sanitizer_start_switch_fiber(fiber->state == FIBER_ENDED ? NULL : &fiber->fake_stack,
                                   reactor->thread_stack, reactor->thread_stack_bytes);
#endif
#if REACTOR_TSAN
    __tsan_switch_to_fiber(reactor->tsan_thread, 0);
#endif
    context_switch(&fiber->stack_pointer, reactor->scheduler_stack_pointer);
#if REACTOR_ASAN
    __sanitizer_finish_switch_fiber(fiber->fake_stack, &reactor->thread_stack,
                                    &reactor->thread_stack_bytes);
#endif
}

static void fiber_main(void *argument)
{
    struct fiber *fiber = argument;
#if REACTOR_ASAN
    __sanitizer_finish_switch_fiber(NULL, &fiber->reactor->thread_stack,
                                    &fiber->reactor->thread_stack_bytes);
#endif
    fiber->function(fiber->argument);
    assert(fiber->scopes_owned == 0); /* every scope it made was joined */
    assert(fiber->shield_count == 0);
    fiber->state = FIBER_ENDED;
    switch_to_scheduler(fiber);
    abort(); /* an ended fiber never runs again */
}

/* --- stacks ------------------------------------------------------------------------------------
 */

static struct fiber *stack_create(void)
{
    size_t bytes = (size_t)GUARD_BYTES + STACK_BYTES;
    uint8_t *base =
        mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return NULL;
    if (mprotect(base + GUARD_BYTES, STACK_BYTES, PROT_READ | PROT_WRITE) != 0) {
        (void)munmap(base, bytes);
        return NULL;
    }
    /* One huge page under a stack would cost what a thousand small ones do. */
    (void)madvise(base + GUARD_BYTES, STACK_BYTES, MADV_NOHUGEPAGE);
    size_t fiber_bytes = (sizeof(struct fiber) + 63) & ~(size_t)63;
    struct fiber *fiber = (struct fiber *)(void *)(base + bytes - fiber_bytes);
    *fiber = (struct fiber) {
        .stack = base + GUARD_BYTES,
        .stack_bytes = STACK_BYTES - fiber_bytes,
    };
    return fiber;
}

static void stack_destroy(struct fiber *fiber)
{
    uint8_t *base = (uint8_t *)fiber->stack - GUARD_BYTES;
    (void)munmap(base, (size_t)GUARD_BYTES + STACK_BYTES);
}

static struct fiber *fiber_borrow(struct reactor *reactor)
{
    if (reactor->fiber_count == FIBER_COUNT_MAX) return NULL;
    struct fiber *fiber = TAILQ_FIRST(&reactor->pool);
    if (fiber != NULL) {
        TAILQ_REMOVE(&reactor->pool, fiber, members);
        reactor->pool_count--;
        if (fiber->is_warm) reactor->pool_warm_count--;
        if (reactor->pool_unused > reactor->pool_count) reactor->pool_unused = reactor->pool_count;
    } else {
        fiber = stack_create();
        if (fiber == NULL) return NULL;
    }
    void *stack = fiber->stack;
    size_t stack_bytes = fiber->stack_bytes;
    *fiber = (struct fiber) { .reactor = reactor, .stack = stack, .stack_bytes = stack_bytes };
    fiber->deadline_ns = DEADLINE_NEVER;
    reactor->fiber_count++;
    return fiber;
}

static void fiber_return(struct fiber *fiber)
{
    struct reactor *reactor = fiber->reactor;
    reactor->fiber_count--;
#if REACTOR_TSAN
    __tsan_destroy_fiber(fiber->tsan_fiber);
#endif
#if REACTOR_ASAN
    __asan_unpoison_memory_region(fiber->stack, fiber->stack_bytes);
#endif
    if (reactor->pool_count == STACK_POOL_COUNT_MAX) {
        stack_destroy(fiber);
        return;
    }
    fiber->is_warm = true;
    TAILQ_INSERT_HEAD(&reactor->pool, fiber, members);
    reactor->pool_count++;
    reactor->pool_warm_count++;
}

bool fiber_pool_is_rich(const struct reactor *reactor)
{
    return reactor->pool_warm_count > STACK_POOL_WARM_IDLE_MAX ||
           reactor->pool_count > STACK_POOL_IDLE_MAX;
}

/* Of the pool's last ones, first those beyond what is kept at all, then the pages of the rest. */
void fiber_pool_trim(struct reactor *reactor)
{
    unsigned unused = reactor->pool_unused;
    struct fiber *fiber = TAILQ_LAST(&reactor->pool, fiber_queue);
    while (fiber != NULL && unused > 0 && fiber_pool_is_rich(reactor)) {
        struct fiber *before = TAILQ_PREV(fiber, fiber_queue, members);
        unused--;
        bool was_warm = fiber->is_warm;
        if (was_warm) reactor->pool_warm_count--;
        if (reactor->pool_count > STACK_POOL_IDLE_MAX) {
            TAILQ_REMOVE(&reactor->pool, fiber, members);
            reactor->pool_count--;
            stack_destroy(fiber);
        } else if (was_warm) {
            /* All but the page that holds the fiber itself. */
            (void)madvise(fiber->stack, STACK_BYTES - PAGE_BYTES, MADV_DONTNEED);
            fiber->is_warm = false;
        }
        fiber = before;
    }
    reactor->pool_unused = reactor->pool_count;
}

void fiber_pool_finish(struct reactor *reactor)
{
    struct fiber *fiber;
    while ((fiber = TAILQ_FIRST(&reactor->pool)) != NULL) {
        TAILQ_REMOVE(&reactor->pool, fiber, members);
        stack_destroy(fiber);
    }
    reactor->pool_count = reactor->pool_warm_count = reactor->pool_unused = 0;
}

void fiber_queue_init(struct reactor *reactor)
{
    TAILQ_INIT(&reactor->ready);
    TAILQ_INIT(&reactor->pool);
    RB_INIT(&reactor->timers);
}

/* --- running, waiting, waking ------------------------------------------------------------------
 */

static void fiber_ready(struct fiber *fiber)
{
    fiber->state = FIBER_READY;
    TAILQ_INSERT_TAIL(&fiber->reactor->ready, fiber, queue);
}

enum status fiber_start(struct scope *scope, const char *name, void (*function)(void *),
                        void *argument)
{
    struct reactor *reactor = scope->reactor;
    struct fiber *fiber = fiber_borrow(reactor);
    if (fiber == NULL) return STATUS_BUSY;
    fiber->scope = scope;
    fiber->function = function;
    fiber->argument = argument;
    fiber->serial = reactor->serial_next++;
    size_t name_bytes = strnlen(name, sizeof fiber->name - 1);
    memcpy(fiber->name, name, name_bytes);
    fiber->stack_pointer = context_prepare(fiber, fiber_main, fiber);
#if REACTOR_TSAN
    fiber->tsan_fiber = __tsan_create_fiber(0);
    __tsan_set_fiber_name(fiber->tsan_fiber, fiber->name);
#endif
    fiber_ready(fiber);
    TAILQ_INSERT_TAIL(&scope->fibers, fiber, members);
    return STATUS_OK;
}

void fiber_run_next(struct reactor *reactor)
{
    struct fiber *fiber = TAILQ_FIRST(&reactor->ready);
    TAILQ_REMOVE(&reactor->ready, fiber, queue);
    fiber->state = FIBER_RUNNING;
    if (reactor->backend->simulated) simulation_trace_run(reactor, fiber);
    reactor->current = fiber;
#if REACTOR_TSAN
    reactor->tsan_thread = __tsan_get_current_fiber();
#endif
    for (;;) {
        switch_to_fiber(reactor, fiber);
        if (reactor->large_function == NULL) break;
        void (*function)(void *) = reactor->large_function;
        reactor->large_function = NULL;
        reactor->on_large_stack = true;
        function(reactor->large_argument);
        reactor->on_large_stack = false;
    }
    reactor->current = NULL;
    if (fiber->state == FIBER_ENDED) {
        scope_fiber_ended(fiber->scope, fiber);
        fiber_return(fiber);
    }
}

struct fiber *fiber_running(void)
{
    struct reactor *reactor = thread_reactor;
    assert(reactor != NULL);          /* a thread that runs a reactor */
    assert(reactor->current != NULL); /* inside a fiber */
    assert(!reactor->on_large_stack); /* on its own stack */
    return reactor->current;
}

bool fiber_may_wait(void)
{
    struct reactor *reactor = thread_reactor;
    return reactor != NULL && reactor->current != NULL && !reactor->on_large_stack;
}

enum status fiber_check(const struct fiber *fiber)
{
    return fiber->scope->cancelled && fiber->shield_count == 0 ? STATUS_CANCELLED : STATUS_OK;
}

enum status fiber_park(struct fiber *fiber, uint64_t deadline_ns)
{
    timer_set(fiber, deadline_ns);
    fiber->state = FIBER_WAITING;
    switch_to_scheduler(fiber);
    return fiber->wake_status;
}

void fiber_wake(struct fiber *fiber, enum status status)
{
    if (fiber->state != FIBER_WAITING) return;
    timer_clear(fiber);
    if (fiber->condition != NULL) {
        TAILQ_REMOVE(&fiber->condition->waiters, fiber, queue);
        fiber->condition = NULL;
    }
    fiber->wake_status = status;
    fiber_ready(fiber);
}

struct scope *fiber_scope(void)
{
    if (thread_reactor == NULL || thread_reactor->current == NULL) return NULL;
    return thread_reactor->current->scope;
}

struct reactor *fiber_reactor(void)
{
    struct scope *scope = fiber_scope();
    return scope == NULL ? NULL : scope->reactor;
}

bool fiber_cancelled(void)
{
    struct scope *scope = fiber_scope();
    return scope != NULL && scope->cancelled;
}

bool fiber_must_stop(void)
{
    return fiber_check(fiber_running()) != STATUS_OK;
}

enum status fiber_yield(void)
{
    struct fiber *fiber = fiber_running();
    enum status status = fiber_check(fiber);
    if (status != STATUS_OK) return status;
    fiber_ready(fiber);
    switch_to_scheduler(fiber);
    return fiber_check(fiber);
}

enum status fiber_sleep_until_ns(uint64_t deadline_ns)
{
    struct fiber *fiber = fiber_running();
    uint64_t now_ns;
    clock_monotonic_ns(&fiber->reactor->clock, &now_ns);
    if (deadline_ns <= now_ns) return fiber_yield();
    enum status status = fiber_check(fiber);
    if (status != STATUS_OK) return status;
    status = fiber_park(fiber, deadline_ns);
    return status == STATUS_TIMEOUT ? STATUS_OK : status;
}

enum status fiber_sleep_ns(uint64_t duration_ns)
{
    struct fiber *fiber = fiber_running();
    uint64_t now_ns;
    clock_monotonic_ns(&fiber->reactor->clock, &now_ns);
    bool forever = duration_ns > DEADLINE_NEVER - now_ns;
    return fiber_sleep_until_ns(forever ? DEADLINE_NEVER : now_ns + duration_ns);
}

void fiber_shield(void)
{
    fiber_running()->shield_count++;
}

void fiber_unshield(void)
{
    struct fiber *fiber = fiber_running();
    assert(fiber->shield_count > 0);
    fiber->shield_count--;
}

void fiber_call_large_stack(void (*function)(void *), void *argument)
{
    if (!fiber_may_wait()) { /* already on a large stack */
        function(argument);
        return;
    }
    struct fiber *fiber = fiber_running();
    fiber->reactor->large_function = function;
    fiber->reactor->large_argument = argument;
    switch_to_scheduler(fiber);
}

/* --- conditions --------------------------------------------------------------------------------
 */

void condition_init(struct condition *condition)
{
    TAILQ_INIT(&condition->waiters);
}

enum status condition_wait(struct condition *condition, uint64_t deadline_ns)
{
    struct fiber *fiber = fiber_running();
    enum status status = fiber_check(fiber);
    if (status != STATUS_OK) return status;
    if (deadline_ns != DEADLINE_NEVER) {
        uint64_t now_ns;
        clock_monotonic_ns(&fiber->reactor->clock, &now_ns);
        if (deadline_ns <= now_ns) return STATUS_TIMEOUT;
    }
    TAILQ_INSERT_TAIL(&condition->waiters, fiber, queue);
    fiber->condition = condition;
    return fiber_park(fiber, deadline_ns);
}

void condition_signal(struct condition *condition)
{
    struct fiber *first = TAILQ_FIRST(&condition->waiters);
    if (first != NULL) fiber_wake(first, STATUS_OK);
}

void condition_broadcast(struct condition *condition)
{
    struct fiber *waiter;
    while ((waiter = TAILQ_FIRST(&condition->waiters)) != NULL) fiber_wake(waiter, STATUS_OK);
}
