/* The io_uring backend: a waiting call is an operation on the fiber's stack, known to the kernel by
 * its address. A fiber never goes on before the kernel has let go of its operation: a deadline or a
 * cancellation asks the kernel to cancel, and waits for its answer.
 *
 * Operations are handed over together when the reactor waits: one system call submits what all
 * fibers of a round asked for, and waits for the next. Task work is deferred to that call
 * (DEFER_TASKRUN), so the kernel never interrupts a fiber. */
#include "reactor/io.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    URING_SUBMISSIONS = 256,  /* prepared between two waits; more are handed over early */
    URING_COMPLETIONS = 2048, /* the kernel keeps what does not fit (NODROP) */
};

struct uring {
    struct io_uring ring;
    int interrupt; /* eventfd */
    uint64_t interrupt_value;
    bool interrupt_armed;
};

struct uring_operation {
    struct fiber *fiber;
    int result;
    unsigned flags; /* of the completion */
    bool done;
};

static struct uring *uring_of(struct reactor *reactor)
{
    return reactor->backend_state;
}

static void uring_interrupt(struct reactor *reactor)
{
    uint64_t one = 1;
    ssize_t written;
    do written = write(uring_of(reactor)->interrupt, &one, sizeof one);
    while (written < 0 && errno == EINTR);
}

/* --- completions -------------------------------------------------------------------------------
 */

static void uring_complete(struct uring *uring, const struct io_uring_cqe *completion)
{
    void *data = io_uring_cqe_get_data(completion);
    if (data == uring) {
        uring->interrupt_armed = false;
        return;
    }
    if (data == NULL) return; /* the answer to a cancel request */
    struct uring_operation *operation = data;
    operation->result = completion->res;
    operation->flags = completion->flags;
    operation->done = true;
    fiber_wake(operation->fiber, STATUS_OK);
}

static void uring_reap(struct uring *uring)
{
    struct io_uring_cqe *completion;
    unsigned head, count = 0;
    io_uring_for_each_cqe(&uring->ring, head, completion)
    {
        uring_complete(uring, completion);
        count++;
    }
    io_uring_cq_advance(&uring->ring, count);
}

static struct io_uring_sqe *uring_prepare(struct uring *uring)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&uring->ring);
    while (entry == NULL) {
        int submitted = io_uring_submit(&uring->ring);
        assert(submitted >= 0 || submitted == -EBUSY || submitted == -EAGAIN ||
               submitted == -EINTR);
        if (submitted < 0) { /* completions are backed up: take them first */
            (void)io_uring_get_events(&uring->ring);
            uring_reap(uring);
        }
        entry = io_uring_get_sqe(&uring->ring);
    }
    return entry;
}

static void uring_arm_interrupt(struct uring *uring)
{
    if (uring->interrupt_armed) return;
    struct io_uring_sqe *entry = uring_prepare(uring);
    io_uring_prep_read(entry, uring->interrupt, &uring->interrupt_value,
                       sizeof uring->interrupt_value, 0);
    io_uring_sqe_set_data(entry, uring);
    uring->interrupt_armed = true;
}

static bool uring_has_nothing_to_say(struct uring *uring)
{
    unsigned flags = __atomic_load_n(uring->ring.sq.kflags, __ATOMIC_ACQUIRE);
    return io_uring_sq_ready(&uring->ring) == 0 && io_uring_cq_ready(&uring->ring) == 0 &&
           (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) == 0;
}

static enum status uring_wait(struct reactor *reactor, uint64_t deadline_ns)
{
    struct uring *uring = uring_of(reactor);
    uring_arm_interrupt(uring);
    struct io_uring_cqe *completion;
    int result = 0;
    if (deadline_ns == 0) {
        if (!uring_has_nothing_to_say(uring)) result = io_uring_submit_and_get_events(&uring->ring);
    } else if (deadline_ns == DEADLINE_NEVER) {
        result = io_uring_submit_and_wait(&uring->ring, 1);
    } else {
        uint64_t now_ns;
        clock_monotonic_ns(&reactor->clock, &now_ns);
        uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
        struct __kernel_timespec timeout = { .tv_sec = (int64_t)(left_ns / 1000000000u),
                                             .tv_nsec = (long long)(left_ns % 1000000000u) };
        result = io_uring_submit_and_wait_timeout(&uring->ring, &completion, 1, &timeout, NULL);
    }
    assert(result >= 0 || result == -ETIME || result == -EINTR || result == -EBUSY ||
           result == -EAGAIN);
    uring_reap(uring);
    return STATUS_OK;
}

/* --- waiting for an operation ------------------------------------------------------------------
 */

/* Suspend until the kernel is done with OPERATION. STATUS_OK: look at its result. */
static enum status uring_await(struct uring *uring, struct uring_operation *operation,
                               uint64_t deadline_ns)
{
    enum status status = STATUS_OK;
    struct fiber *fiber = operation->fiber;
    while (!operation->done) {
        enum status woken = fiber_park(fiber, deadline_ns);
        if (operation->done || woken == STATUS_OK || status != STATUS_OK) continue;
        status = woken;
        deadline_ns = DEADLINE_NEVER;
        fiber->shield_count++; /* from here only the kernel's answer counts */
        struct io_uring_sqe *entry = uring_prepare(uring);
        io_uring_prep_cancel(entry, operation, 0);
        io_uring_sqe_set_data(entry, NULL);
    }
    if (status == STATUS_OK) return STATUS_OK;
    fiber->shield_count--;
    /* It may have ended well before the request to cancel reached it: its result counts. */
    if (operation->result == -ECANCELED || operation->result == -EINTR) return status;
    return STATUS_OK;
}

static enum status uring_poll_once(struct reactor *reactor, int number, unsigned events,
                                   struct fiber **slot, uint64_t deadline_ns)
{
    struct uring *uring = uring_of(reactor);
    struct uring_operation operation = { .fiber = fiber_running() };
    enum status status = fiber_check(operation.fiber);
    if (status != STATUS_OK) return status;
    struct io_uring_sqe *entry = uring_prepare(uring);
    io_uring_prep_poll_add(entry, number, events);
    io_uring_sqe_set_data(entry, &operation);
    if (slot != NULL) {
        assert(*slot == NULL); /* one reader, one writer */
        *slot = operation.fiber;
    }
    status = uring_await(uring, &operation, deadline_ns);
    if (slot != NULL) *slot = NULL;
    if (status == STATUS_OK && operation.result < 0) status = status_of_errno(-operation.result);
    return status;
}

static enum status uring_wait_readable(struct descriptor *descriptor, uint64_t deadline_ns)
{
    enum status status = uring_poll_once(descriptor->reactor, descriptor->number, POLLIN,
                                         &descriptor->reader, deadline_ns);
    if (status == STATUS_OK) descriptor->readable = true;
    return status;
}

static enum status uring_wait_writable(struct descriptor *descriptor, uint64_t deadline_ns)
{
    enum status status = uring_poll_once(descriptor->reactor, descriptor->number, POLLOUT,
                                         &descriptor->writer, deadline_ns);
    if (status == STATUS_OK) descriptor->writable = true;
    return status;
}

static enum status uring_poll(struct reactor *reactor, int number, short events,
                              uint64_t deadline_ns)
{
    return uring_poll_once(reactor, number, (unsigned)events, NULL, deadline_ns);
}

static enum status uring_receive(struct descriptor *descriptor, void *ret_bytes, size_t size,
                                 uint64_t deadline_ns, ssize_t *ret_result)
{
    struct uring *uring = uring_of(descriptor->reactor);
    struct uring_operation operation = { .fiber = fiber_running() };
    enum status status = fiber_check(operation.fiber);
    if (status != STATUS_OK) return status;
    struct io_uring_sqe *entry = uring_prepare(uring);
    io_uring_prep_recv(entry, descriptor->number, ret_bytes, size, 0);
    entry->ioprio |= IORING_RECVSEND_POLL_FIRST; /* it was found empty a moment ago */
    io_uring_sqe_set_data(entry, &operation);
    assert(descriptor->reader == NULL); /* one reader */
    descriptor->reader = operation.fiber;
    status = uring_await(uring, &operation, deadline_ns);
    descriptor->reader = NULL;
    if (status != STATUS_OK) return status;
    descriptor->readable = (operation.flags & IORING_CQE_F_SOCK_NONEMPTY) != 0;
    *ret_result = operation.result;
    return STATUS_OK;
}

static enum status uring_attach(struct descriptor *descriptor)
{
    (void)descriptor; /* operations name the descriptor each time */
    return STATUS_OK;
}

static void uring_detach(struct descriptor *descriptor)
{
    (void)descriptor;
}

/* --- files -------------------------------------------------------------------------------------
 */

/* Takes the operation's place in the queue. */
static struct io_uring_sqe *uring_prepare_file(struct uring *uring,
                                               struct uring_operation *operation,
                                               enum file_action action, int number, void *bytes,
                                               size_t size, uint64_t offset)
{
    struct io_uring_sqe *entry = uring_prepare(uring);
    switch (action) {
    case FILE_READ: io_uring_prep_read(entry, number, bytes, (unsigned)size, offset); break;
    case FILE_WRITE:
    case FILE_WRITE_SYNC: io_uring_prep_write(entry, number, bytes, (unsigned)size, offset); break;
    case FILE_SYNC: io_uring_prep_fsync(entry, number, IORING_FSYNC_DATASYNC); break;
    }
    io_uring_sqe_set_data(entry, operation);
    return entry;
}

/* A disk operation can't be taken back, and its end is near: no deadline, no cancellation. */
static ssize_t uring_await_file(struct uring *uring, struct uring_operation *operation)
{
    operation->fiber->shield_count++;
    enum status status = uring_await(uring, operation, DEADLINE_NEVER);
    operation->fiber->shield_count--;
    assert(status == STATUS_OK);
    return operation->result;
}

/* A durable write is a write and a sync, linked; a short or failed write cancels its sync. Both go
 * to a kernel worker at once: a sync ends there in any case, so one wake-up serves both (5 % less
 * time for a lone write), and the device is not rung up on our time, which takes a tenth of it in a
 * virtual machine. (One write with RWF_DSYNC would be a little faster on an idle machine, but with
 * O_DIRECT it ends in a kernel worker bound to one core: 3 to 7 ms, not 0.1, when that core is
 * busy.) */
static ssize_t uring_file(struct reactor *reactor, enum file_action action, int number, void *bytes,
                          size_t size, uint64_t offset)
{
    struct uring *uring = uring_of(reactor);
    struct uring_operation first = { .fiber = fiber_running() };
    struct uring_operation second = { .fiber = first.fiber };
    /* Linked operations must be handed over together. */
    if (io_uring_sq_space_left(&uring->ring) < 2) (void)io_uring_submit(&uring->ring);
    struct io_uring_sqe *entry =
        uring_prepare_file(uring, &first, action, number, bytes, size, offset);
    if (action != FILE_WRITE_SYNC) return uring_await_file(uring, &first);
    entry->flags |= IOSQE_IO_LINK | IOSQE_ASYNC;
    (void)uring_prepare_file(uring, &second, FILE_SYNC, number, NULL, 0, 0);
    ssize_t written = uring_await_file(uring, &first);
    ssize_t synced = uring_await_file(uring, &second);
    if (written < 0 || (size_t)written < size) return written; /* the next step syncs it too */
    return synced < 0 ? synced : written;
}

/* --- creation ----------------------------------------------------------------------------------
 */

static void uring_destroy(struct reactor *reactor)
{
    struct uring *uring = uring_of(reactor);
    io_uring_queue_exit(&uring->ring);
    (void)close(uring->interrupt);
    free(uring);
}

static const struct io_operations uring_io = {
    .attach = uring_attach,
    .detach = uring_detach,
    .wait_readable = uring_wait_readable,
    .wait_writable = uring_wait_writable,
    .receive = uring_receive,
    .poll = uring_poll,
    .file = uring_file,
};

static const struct reactor_backend uring_backend = {
    .name = "io_uring",
    .wait = uring_wait,
    .interrupt = uring_interrupt,
    .destroy = uring_destroy,
    .io = &uring_io,
};

/* Every operation that this file submits. */
static bool uring_knows_operations(struct io_uring *ring)
{
    static const int needed[] = { IORING_OP_READ, IORING_OP_WRITE,    IORING_OP_FSYNC,
                                  IORING_OP_RECV, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL };
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    if (probe == NULL) return false;
    bool all = true;
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        all = all && io_uring_opcode_supported(probe, needed[i]) != 0;
    io_uring_free_probe(probe);
    return all;
}

enum status uring_create_backend(struct reactor *reactor, struct error *error)
{
    struct uring *uring = calloc(1, sizeof *uring);
    if (uring == NULL) return error_set(error, STATUS_NO_MEMORY, "io_uring: out of memory");
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE,
        .cq_entries = URING_COMPLETIONS,
    };
    int result = io_uring_queue_init_params(URING_SUBMISSIONS, &uring->ring, &parameters);
    if (result < 0) {
        free(uring);
        (void)error_set_errno(error, -result, "io_uring");
        return STATUS_UNSUPPORTED;
    }
    (void)io_uring_ring_dontfork(&uring->ring);
    uring->interrupt = eventfd(0, EFD_CLOEXEC);
    if (uring->interrupt < 0 || !uring_knows_operations(&uring->ring)) {
        if (uring->interrupt >= 0) (void)close(uring->interrupt);
        io_uring_queue_exit(&uring->ring);
        free(uring);
        return error_set(error, STATUS_UNSUPPORTED, "io_uring: the kernel lacks an operation");
    }
    reactor->backend = &uring_backend;
    reactor->backend_state = uring;
    return STATUS_OK;
}
