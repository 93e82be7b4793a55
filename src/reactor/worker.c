/* Workers: threads for calls that block. The fiber's request stands on its stack; a worker takes
 * it, runs it, puts it on the list of finished ones and interrupts the reactor. Threads start with
 * the first request, so that a program that never blocks never pays for them. */
#include "reactor/io.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

enum {
    WORKER_COUNT_MAX = 64,
    WORKER_QUEUE_COUNT_MAX = 1024,    /* waiting for a thread; beyond it the disk is hopeless */
    WORKER_STACK_BYTES = 1024 * 1024, /* RocksDB's deepest calls take less than a quarter */
};

struct work {
    void (*function)(void *);
    void *argument;
    struct fiber *fiber;
    bool done; /* reactor's thread only */
    STAILQ_ENTRY(work) link;
};

STAILQ_HEAD(work_queue, work);

struct worker_pool {
    struct reactor *reactor;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct work_queue queue;
    unsigned queued;
    struct work_queue finished;
    atomic_bool pending; /* something finished since the last look */
    bool stopping;
    unsigned thread_count;
    unsigned threads_started;
    pthread_t threads[WORKER_COUNT_MAX];
    struct condition room; /* reactor's thread only */
};

static void *worker_main(void *argument)
{
    struct worker_pool *pool = argument;
    (void)pthread_mutex_lock(&pool->mutex);
    for (;;) {
        struct work *work = STAILQ_FIRST(&pool->queue);
        if (work == NULL && pool->stopping) break;
        if (work == NULL) {
            (void)pthread_cond_wait(&pool->wake, &pool->mutex);
            continue;
        }
        STAILQ_REMOVE_HEAD(&pool->queue, link);
        pool->queued--;
        (void)pthread_mutex_unlock(&pool->mutex);
        work->function(work->argument);
        (void)pthread_mutex_lock(&pool->mutex);
        STAILQ_INSERT_TAIL(&pool->finished, work, link);
        if (!atomic_exchange(&pool->pending, true))
            pool->reactor->backend->interrupt(pool->reactor);
    }
    (void)pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

struct worker_pool *workers_create(struct reactor *reactor, unsigned thread_count)
{
    struct worker_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) return NULL;
    pool->reactor = reactor;
    pool->thread_count = thread_count < 1 ? 1 : thread_count;
    if (pool->thread_count > WORKER_COUNT_MAX) pool->thread_count = WORKER_COUNT_MAX;
    STAILQ_INIT(&pool->queue);
    STAILQ_INIT(&pool->finished);
    condition_init(&pool->room);
    (void)pthread_mutex_init(&pool->mutex, NULL);
    (void)pthread_cond_init(&pool->wake, NULL);
    return pool;
}

void workers_destroy(struct worker_pool *pool)
{
    if (pool == NULL) return;
    (void)pthread_mutex_lock(&pool->mutex);
    pool->stopping = true;
    (void)pthread_cond_broadcast(&pool->wake);
    (void)pthread_mutex_unlock(&pool->mutex);
    for (unsigned i = 0; i < pool->threads_started; i++) (void)pthread_join(pool->threads[i], NULL);
    (void)pthread_cond_destroy(&pool->wake);
    (void)pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

/* One more thread while there are fewer than asked for. Signals go to the thread that waits for
 * them, never to a worker. */
static void worker_start(struct worker_pool *pool)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    if (pthread_attr_init(&attributes) != 0) return;
    (void)pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t *thread = &pool->threads[pool->threads_started];
    if (pthread_create(thread, &attributes, worker_main, pool) == 0) pool->threads_started++;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
}

bool workers_are_pending(const struct worker_pool *pool)
{
    return atomic_load_explicit(&pool->pending, memory_order_acquire);
}

void workers_reap(struct worker_pool *pool)
{
    if (!workers_are_pending(pool)) return;
    struct work_queue finished = STAILQ_HEAD_INITIALIZER(finished);
    (void)pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->pending, false);
    STAILQ_CONCAT(&finished, &pool->finished);
    (void)pthread_mutex_unlock(&pool->mutex);
    struct work *work;
    while ((work = STAILQ_FIRST(&finished)) != NULL) {
        STAILQ_REMOVE_HEAD(&finished, link);
        work->done = true;
        fiber_wake(work->fiber, STATUS_OK);
    }
    condition_broadcast(&pool->room);
}

static enum status worker_submit(struct worker_pool *pool, struct work *work)
{
    enum status status = STATUS_BUSY;
    (void)pthread_mutex_lock(&pool->mutex);
    if (pool->threads_started < pool->thread_count) worker_start(pool);
    if (pool->threads_started > 0 && pool->queued < WORKER_QUEUE_COUNT_MAX) {
        STAILQ_INSERT_TAIL(&pool->queue, work, link);
        pool->queued++;
        (void)pthread_cond_signal(&pool->wake);
        status = STATUS_OK;
    }
    (void)pthread_mutex_unlock(&pool->mutex);
    return status;
}

enum status worker_run(struct reactor *reactor, void (*function)(void *), void *argument)
{
    if (reactor->backend->simulated) {
        fiber_call_large_stack(function, argument);
        return STATUS_OK;
    }
    struct fiber *fiber = fiber_running();
    struct work work = { .function = function, .argument = argument, .fiber = fiber };
    enum status status = worker_submit(reactor->workers, &work);
    if (status != STATUS_OK) return status;
    fiber->shield_count++;
    while (!work.done) (void)fiber_park(fiber, DEADLINE_NEVER);
    fiber->shield_count--;
    return STATUS_OK;
}

void workers_run(struct reactor *reactor, void (*function)(void *), void *argument)
{
    while (worker_run(reactor, function, argument) != STATUS_OK) {
        /* Full, so some are running and their end makes room; none at all: no thread could be
         * started, and the caller's own thread is all there is. */
        struct worker_pool *pool = reactor->workers;
        if (pool->threads_started == 0) {
            function(argument);
            return;
        }
        fiber_shield();
        enum status status = condition_wait(&pool->room, DEADLINE_NEVER);
        fiber_unshield();
        assert(status == STATUS_OK);
    }
}
