/* Reactor: the fibers of one core, and the world they wait for.
 *
 * A fiber is a function on a stack of its own (FIBER_STACK_BYTES, a guard page below) that suspends
 * in every call that waits. Fibers live in scopes: a scope ends only when all its fibers have
 * ended; cancelling a scope makes every waiting call of its fibers, and of its child scopes, return
 * STATUS_CANCELLED from then on. One reactor belongs to one thread; only reactor_post and
 * the worker pool cross threads.
 *
 * Backends: the simulation (virtual time, deterministic), io_uring, epoll. The code above never
 * knows which. Scheduling is first in, first out in all of them.
 *
 * What waits: fiber_sleep_until_ns, fiber_yield, condition_wait, scope_join, worker_run, and the
 * calls of base/disk.h, base/network.h made through reactor_disk and reactor_network. Of these,
 * scope_join, worker_run and the disk's calls are never cut short or refused by cancellation: a
 * write that was begun can't be taken back, and those that clean up need the disk. */
#ifndef UNUM_REACTOR_REACTOR_H
#define UNUM_REACTOR_REACTOR_H

#include "base/clock.h"
#include "base/disk.h"
#include "base/error.h"
#include "base/network.h"
#include "base/random.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

enum {
    FIBER_STACK_BYTES = 64 * 1024,
    FIBER_COUNT_MAX = 16 * 1024, /* 1 GiB of address space; stacks are touched on demand */
    FIBER_NAME_BYTES_MAX = 24,
};

struct reactor;
struct fiber;
struct reactor_backend;

enum reactor_backend_kind { REACTOR_IO_URING, REACTOR_EPOLL };

struct reactor_options {
    unsigned worker_count; /* threads for blocking calls; 0: one */
    /* "io_uring", "epoll" or NULL: UNUM_IO from the environment, else io_uring where it works. */
    const char *backend;
};

/* To be run and destroyed by the thread that creates it (io_uring serves one thread), and not
 * across fork. STATUS_UNSUPPORTED: the backend asked for is not there. STATUS_INVALID: no such
 * backend. */
MUST_USE enum status reactor_create(const struct reactor_options *options,
                                    struct reactor **ret_reactor, struct error *error);
/* All scopes must have ended. */
void reactor_destroy(struct reactor *reactor);
/* "io_uring", "epoll" or "simulation". */
const char *reactor_backend_name(const struct reactor *reactor);

/* Run MAIN in a fiber of a root scope, and everything it starts, until MAIN has returned and all
 * fibers of the root scope ended. Under simulation also: STATUS_TIMEOUT when END_NS cut it short
 * (also when all waited for nothing: time then jumps to the end); STATUS_INTERNAL when it was stuck
 * beyond that, reactor_failure names the fibers, and the reactor is good for destroy only. */
struct scope;
MUST_USE enum status reactor_run(struct reactor *reactor,
                                 void (*main)(struct scope *root, void *context), void *context);

/* Why reactor_run returned STATUS_INTERNAL; "" otherwise. */
const char *reactor_failure(const struct reactor *reactor);

struct clock *reactor_clock(struct reactor *reactor);
struct random *reactor_random(struct reactor *reactor);
struct network *reactor_network(struct reactor *reactor);
/* The folder FOLDER as a disk whose calls suspend the fiber. Ends with reactor_disk_close. */
MUST_USE enum status reactor_disk_open(struct reactor *reactor, const char *folder,
                                       struct disk **ret_disk, struct error *error);
void reactor_disk_close(struct disk *disk);
/* The same folder for threads outside the reactor (RocksDB's): calls block the thread. */
MUST_USE enum status blocking_disk_open(const char *folder, struct disk **ret_disk,
                                        struct error *error);
void blocking_disk_close(struct disk *disk);

/* --- scopes and fibers -------------------------------------------------------------------------
 */

struct scope {
    struct reactor *reactor;
    struct scope *parent; /* NULL: the root */
    TAILQ_HEAD(, fiber) fibers;
    TAILQ_HEAD(, scope) children;
    TAILQ_ENTRY(scope) siblings;
    struct fiber *owner;  /* made it and must join it; NULL: the root, or joined */
    struct fiber *joiner; /* suspended in scope_join */
    unsigned fiber_count; /* of this scope and all below it */
    bool cancelled;
};

/* A child scope on the caller's memory. Cancelled with its parent; its owner must join it before
 * its own fiber returns (asserted). */
void scope_init(struct scope *scope, struct scope *parent);
/* Start FUNCTION(ARGUMENT) as a fiber of SCOPE. It runs when the caller next suspends.
 * STATUS_BUSY: FIBER_COUNT_MAX or no memory. STATUS_CANCELLED: the scope has been cancelled. */
MUST_USE enum status scope_spawn(struct scope *scope, const char *name, void (*function)(void *),
                                 void *argument);
/* All waiting calls below return STATUS_CANCELLED, now and later. Idempotent. */
void scope_cancel(struct scope *scope);
/* Wait until every fiber of SCOPE and of its children has ended. Not cut short by cancellation of
 * the caller (which reaches the children, so they end). */
void scope_join(struct scope *scope);

/* Of the calling fiber; NULL outside of one. */
struct scope *fiber_scope(void);
struct reactor *fiber_reactor(void);
bool fiber_cancelled(void);
/* Whether a waiting call would return STATUS_CANCELLED: cancelled, and not shielded. */
bool fiber_must_stop(void);
/* Whether the caller is a fiber on its own stack, where the waiting calls are allowed: false on the
 * large stack, in a posted function, and on other threads. */
bool fiber_may_wait(void);
MUST_USE enum status fiber_yield(void);
MUST_USE enum status fiber_sleep_until_ns(uint64_t deadline_ns);
MUST_USE enum status fiber_sleep_ns(uint64_t duration_ns);
/* Let the calling fiber's waits ignore cancellation until the matching release; nests. For the few
 * lines that must finish (hand a buffer back to the kernel); keep it short. */
void fiber_shield(void);
void fiber_unshield(void);

/* --- conditions ---------------------------------------------------------------------------------
 * Waiters in order of arrival. A wake-up is a hint: check the state again in a loop. */
struct condition {
    TAILQ_HEAD(, fiber) waiters;
};

void condition_init(struct condition *condition);
/* STATUS_OK: signalled. STATUS_TIMEOUT, STATUS_CANCELLED. */
MUST_USE enum status condition_wait(struct condition *condition, uint64_t deadline_ns);
void condition_signal(struct condition *condition);    /* the first waiter */
void condition_broadcast(struct condition *condition); /* all that wait now */

/* --- large stack, workers, other threads -------------------------------------------------------
 */

/* Run FUNCTION(ARGUMENT) at once on the thread's own large stack, for code that needs more than a
 * fiber's (RocksDB, OpenSSL's key generation). It must not wait for fibers. */
void fiber_call_large_stack(void (*function)(void *), void *argument);
/* Run it on a worker thread and suspend until it returned (inline under simulation). Not cut short
 * by cancellation. STATUS_BUSY: the queue of workers is full. */
MUST_USE enum status worker_run(struct reactor *reactor, void (*function)(void *), void *argument);
/* From any thread: run FUNCTION(ARGUMENT) soon on the reactor's thread, outside any fiber (it must
 * not suspend). STATUS_BUSY: MAILBOX_COUNT_MAX are waiting. */
enum { MAILBOX_COUNT_MAX = 4096 };
MUST_USE enum status reactor_post(struct reactor *reactor, void (*function)(void *),
                                  void *argument);

/* Suspend until the descriptor is readable (for signalfd, SOCK_SEQPACKET, inotify). Real backends
 * only. */
MUST_USE enum status fiber_wait_readable(int descriptor, uint64_t deadline_ns);
MUST_USE enum status fiber_wait_writable(int descriptor, uint64_t deadline_ns);

/* --- simulation --------------------------------------------------------------------------------
 */

/* A reactor under virtual time, seeded; all machines of a world share it. Time advances only when
 * no fiber can run; never past END_NS (reactor_run then cancels the root scope). Disk and network
 * of a machine come from sim/. */
struct reactor_simulation_options {
    uint64_t seed;
    uint64_t end_ns;
};
MUST_USE enum status reactor_create_simulation(const struct reactor_simulation_options *options,
                                               struct reactor **ret_reactor);
/* A hash over every scheduling decision: fiber names, wake-ups, virtual times, and what sim/ adds.
 */
uint64_t reactor_trace_hash(const struct reactor *reactor);
void reactor_trace_add(struct reactor *reactor, const void *bytes, size_t size);

#endif
