/* The loop: run what is ready, let the backend wait, fire timers. */
#include "reactor/io.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *reactor_backend_name(const struct reactor *reactor)
{
    return reactor->backend->name;
}

struct clock *reactor_clock(struct reactor *reactor)
{
    return &reactor->clock;
}

struct random *reactor_random(struct reactor *reactor)
{
    return &reactor->random.random;
}

struct network *reactor_network(struct reactor *reactor)
{
    return reactor->backend->simulated ? NULL : &reactor->network;
}

/* --- waiting -----------------------------------------------------------------------------------
 *
 * A core that sleeps takes tens of microseconds to wake (more in a virtual machine), as long as a
 * request takes as a whole. So while requests follow each other closely, the reactor looks for
 * SPIN_NS before it sleeps (one connection, echo: 30 % less time and 25 % less CPU a request, since
 * sleeping and waking cost both; io_bench). It begins after a number of short sleeps in a row; each
 * look in vain doubles that number, each good one halves it. A reactor that is rarely asked, or
 * that shares its core with the one who asks, does not spin. */
enum {
    SPIN_NS = 80 * 1000,
    SPIN_SLEEP_NS = 2 * SPIN_NS, /* a sleep that looking would have saved, waking included */
    SPIN_PRICE_MIN = 4,
    SPIN_PRICE_MAX = 4096,
};

/* --- creation ----------------------------------------------------------------------------------
 */

/* Without a wish, io_uring where the kernel has it. */
static enum status choose_backend(struct reactor *reactor, const char *wish, struct error *error)
{
    if (wish == NULL) wish = getenv("UNUM_IO");
    if (wish == NULL || wish[0] == '\0') {
        if (uring_create_backend(reactor, NULL) == STATUS_OK) return STATUS_OK;
        return epoll_create_backend(reactor, error);
    }
    if (strcmp(wish, "io_uring") == 0) return uring_create_backend(reactor, error);
    if (strcmp(wish, "epoll") == 0) return epoll_create_backend(reactor, error);
    return error_set(error, STATUS_INVALID, "UNUM_IO is \"%.40s\": want io_uring or epoll", wish);
}

enum status reactor_create(const struct reactor_options *options, struct reactor **ret_reactor,
                           struct error *error)
{
    struct reactor *reactor = calloc(1, sizeof *reactor);
    if (reactor == NULL) return error_set(error, STATUS_NO_MEMORY, "reactor: out of memory");
    enum status status = choose_backend(reactor, options->backend, error);
    if (status != STATUS_OK) {
        free(reactor);
        return status;
    }
    system_clock_init(&reactor->clock);
    system_random_init(&reactor->random);
    socket_network_init(&reactor->network);
    fiber_queue_init(reactor);
    reactor->end_ns = DEADLINE_NEVER;
    reactor->spin_price = SPIN_PRICE_MIN;
    reactor->mailbox = mailbox_create();
    reactor->workers = workers_create(reactor, options->worker_count);
    if (reactor->mailbox == NULL || reactor->workers == NULL) {
        reactor_destroy(reactor);
        return error_set(error, STATUS_NO_MEMORY, "reactor: out of memory");
    }
    *ret_reactor = reactor;
    return STATUS_OK;
}

void reactor_destroy(struct reactor *reactor)
{
    if (reactor == NULL) return;
    assert(reactor->root == NULL);
    workers_destroy(reactor->workers);
    reactor->backend->destroy(reactor);
    mailbox_destroy(reactor->mailbox);
    fiber_pool_finish(reactor);
    free(reactor);
}

/* --- running -----------------------------------------------------------------------------------
 */

struct main_call {
    void (*main)(struct scope *root, void *context);
    struct scope *root;
    void *context;
};

static void main_fiber(void *argument)
{
    struct main_call *call = argument;
    call->main(call->root, call->context);
}

/* The world is stuck: say who waits, and take the stacks back. What they own is lost. */
static void reactor_abandon(struct reactor *reactor, const char *why)
{
    size_t used = (size_t)snprintf(reactor->failure, sizeof reactor->failure, "%s:", why);
    struct fiber *fiber;
    while ((fiber = scope_take_fiber(reactor->root)) != NULL) {
        if (used < sizeof reactor->failure)
            used += (size_t)snprintf(reactor->failure + used, sizeof reactor->failure - used, " %s",
                                     fiber->name);
        TAILQ_INSERT_TAIL(&reactor->pool, fiber, members);
    }
    fiber_pool_finish(reactor);
    fiber_queue_init(reactor);
    reactor->fiber_count = 0;
}

/* What other threads have left for us. */
static void reactor_take_letters(struct reactor *reactor)
{
    mailbox_run(reactor);
    if (reactor->workers != NULL) workers_reap(reactor->workers);
}

static bool reactor_has_news(const struct reactor *reactor)
{
    return !TAILQ_EMPTY(&reactor->ready) || mailbox_is_pending(reactor->mailbox) ||
           workers_are_pending(reactor->workers);
}

/* Look until there is news, for SPIN_NS at most. */
static enum status reactor_spin(struct reactor *reactor, uint64_t deadline_ns, uint64_t now_ns)
{
    uint64_t end_ns = now_ns + SPIN_NS < deadline_ns ? now_ns + SPIN_NS : deadline_ns;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !reactor_has_news(reactor) && now_ns < end_ns) {
        status = reactor->backend->wait(reactor, 0);
        clock_monotonic_ns(&reactor->clock, &now_ns);
    }
    return status;
}

/* Now and then, as long as there are more than an idle reactor keeps: so the next look is a
 * deadline, too. */
static uint64_t give_back_stacks(struct reactor *reactor, uint64_t deadline_ns, uint64_t now_ns)
{
    if (!fiber_pool_is_rich(reactor)) return deadline_ns;
    if (now_ns >= reactor->pool_check_ns) {
        fiber_pool_trim(reactor);
        reactor->pool_check_ns = now_ns + STACK_POOL_CHECK_NS;
    }
    return deadline_ns < reactor->pool_check_ns ? deadline_ns : reactor->pool_check_ns;
}

static enum status reactor_wait(struct reactor *reactor, uint64_t deadline_ns)
{
    if (deadline_ns == 0 || reactor->backend->simulated)
        return reactor->backend->wait(reactor, deadline_ns);
    uint64_t begin_ns, end_ns;
    clock_monotonic_ns(&reactor->clock, &begin_ns);
    deadline_ns = give_back_stacks(reactor, deadline_ns, begin_ns);
    if (reactor->spin_credit >= reactor->spin_price) {
        enum status status = reactor_spin(reactor, deadline_ns, begin_ns);
        if (status != STATUS_OK) return status;
        if (reactor_has_news(reactor)) {
            if (reactor->spin_price > SPIN_PRICE_MIN) reactor->spin_price /= 2;
            return STATUS_OK;
        }
        if (reactor->spin_price < SPIN_PRICE_MAX) reactor->spin_price *= 2;
        reactor->spin_credit = 0;
        clock_monotonic_ns(&reactor->clock, &begin_ns);
    }
    enum status status = reactor->backend->wait(reactor, deadline_ns);
    clock_monotonic_ns(&reactor->clock, &end_ns);
    if (end_ns - begin_ns > SPIN_SLEEP_NS)
        reactor->spin_credit = 0;
    else if (reactor->spin_credit < SPIN_PRICE_MAX)
        reactor->spin_credit++;
    return status;
}

/* One round. STATUS_OK: go on. */
static enum status reactor_round(struct reactor *reactor)
{
    unsigned runs = 0;
    while (!TAILQ_EMPTY(&reactor->ready) && runs < REACTOR_BATCH_MAX) {
        fiber_run_next(reactor);
        runs++;
    }
    if (reactor->root->fiber_count == 0) return STATUS_OK;
    if (reactor->instant_runs > SIMULATION_INSTANT_RUNS_MAX) {
        reactor_abandon(reactor, "livelock, time does not advance; fibers");
        return STATUS_INTERNAL;
    }
    /* Before waiting too: a fiber may have looked at the backend (disk.c) and used up its news. */
    reactor_take_letters(reactor);
    uint64_t deadline_ns = TAILQ_EMPTY(&reactor->ready) ? timers_next_ns(reactor) : 0;
    enum status status = reactor_wait(reactor, deadline_ns);
    if (status != STATUS_OK) {
        reactor_abandon(reactor, "deadlock, nothing will wake the fibers");
        return STATUS_INTERNAL;
    }
    reactor_take_letters(reactor);
    if (RB_EMPTY(&reactor->timers)) return STATUS_OK;
    uint64_t now_ns;
    clock_monotonic_ns(&reactor->clock, &now_ns);
    timers_expire(reactor, now_ns);
    return STATUS_OK;
}

const char *reactor_failure(const struct reactor *reactor)
{
    return reactor->failure;
}

enum status reactor_run(struct reactor *reactor, void (*main)(struct scope *root, void *context),
                        void *context)
{
    assert(reactor->root == NULL);
    struct scope root;
    scope_init_root(&root, reactor);
    struct main_call call = { .main = main, .root = &root, .context = context };
    enum status status = scope_spawn(&root, "main", main_fiber, &call);
    if (status != STATUS_OK) return status;
    reactor->root = &root;
    reactor->ended = false;
    struct reactor *outer = reactor_of_thread_set(reactor);
    while (status == STATUS_OK && root.fiber_count > 0) status = reactor_round(reactor);
    (void)reactor_of_thread_set(outer);
    reactor->root = NULL;
    if (status == STATUS_OK && reactor->ended) status = STATUS_TIMEOUT;
    return status;
}
