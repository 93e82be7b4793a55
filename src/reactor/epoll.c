/* The epoll backend: readiness, edge by edge. A descriptor is registered once for both directions;
 * an edge sets its flag and wakes who waits. Files go through the worker pool. */
#include "reactor/io.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { EPOLL_EVENTS_MAX = 128 }; /* taken at once; more wait for the next round */

struct epoll {
    int number;
    int interrupt; /* eventfd */
    struct epoll_event events[EPOLL_EVENTS_MAX];
};

/* One wait for a foreign descriptor, on the fiber's stack. */
struct poll_watch {
    struct fiber *fiber;
    bool fired;
};

/* One byte into a poll_watch, so that the low bit of the address tells it from a descriptor. */
enum { TAG_POLL = 1 };
_Static_assert(_Alignof(struct poll_watch) > TAG_POLL && _Alignof(struct descriptor) > TAG_POLL,
               "the low bit of both pointers is free");

static struct epoll *epoll_of(struct reactor *reactor)
{
    return reactor->backend_state;
}

static void epoll_interrupt(struct reactor *reactor)
{
    uint64_t one = 1;
    ssize_t written;
    do written = write(epoll_of(reactor)->interrupt, &one, sizeof one);
    while (written < 0 && errno == EINTR); /* EAGAIN: it is awake already */
}

static void descriptor_event(struct descriptor *descriptor, uint32_t events)
{
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) descriptor->hung_up = true;
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        descriptor->readable = true;
        if (descriptor->reader != NULL) fiber_wake(descriptor->reader, STATUS_OK);
    }
    if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) {
        descriptor->writable = true;
        if (descriptor->writer != NULL) fiber_wake(descriptor->writer, STATUS_OK);
    }
}

static void epoll_event(struct epoll *epoll, const struct epoll_event *event)
{
    char *pointer = event->data.ptr;
    if (pointer == NULL) {
        uint64_t count;
        ssize_t got = read(epoll->interrupt, &count, sizeof count);
        (void)got; /* EAGAIN: someone read it */
    } else if (((uintptr_t)pointer & TAG_POLL) != 0) {
        struct poll_watch *watch = (struct poll_watch *)(void *)(pointer - TAG_POLL);
        watch->fired = true;
        fiber_wake(watch->fiber, STATUS_OK);
    } else {
        descriptor_event((struct descriptor *)(void *)pointer, event->events);
    }
}

static enum status epoll_backend_wait(struct reactor *reactor, uint64_t deadline_ns)
{
    struct epoll *epoll = epoll_of(reactor);
    struct timespec timeout = { 0 };
    if (deadline_ns != 0 && deadline_ns != DEADLINE_NEVER) {
        uint64_t now_ns;
        clock_monotonic_ns(&reactor->clock, &now_ns);
        uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
        timeout.tv_sec = (time_t)(left_ns / 1000000000u);
        timeout.tv_nsec = (long)(left_ns % 1000000000u);
    }
    const struct timespec *limit = deadline_ns == DEADLINE_NEVER ? NULL : &timeout;
    int count = epoll_pwait2(epoll->number, epoll->events, EPOLL_EVENTS_MAX, limit, NULL);
    assert(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; i++) epoll_event(epoll, &epoll->events[i]);
    return STATUS_OK;
}

static void epoll_destroy(struct reactor *reactor)
{
    struct epoll *epoll = epoll_of(reactor);
    (void)close(epoll->interrupt);
    (void)close(epoll->number);
    free(epoll);
}

static enum status epoll_attach(struct descriptor *descriptor)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                 .data.ptr = descriptor };
    if (epoll_ctl(epoll_of(descriptor->reactor)->number, EPOLL_CTL_ADD, descriptor->number,
                  &event) != 0)
        return status_of_errno(errno);
    return STATUS_OK;
}

static void epoll_detach(struct descriptor *descriptor)
{
    (void)epoll_ctl(epoll_of(descriptor->reactor)->number, EPOLL_CTL_DEL, descriptor->number, NULL);
}

static enum status epoll_wait_side(struct fiber **slot, const bool *flag, uint64_t deadline_ns)
{
    struct fiber *fiber = fiber_running();
    enum status status = fiber_check(fiber);
    if (status != STATUS_OK || *flag) return status;
    assert(*slot == NULL); /* one reader, one writer */
    *slot = fiber;
    status = fiber_park(fiber, deadline_ns);
    *slot = NULL;
    return status;
}

static enum status epoll_wait_readable(struct descriptor *descriptor, uint64_t deadline_ns)
{
    return epoll_wait_side(&descriptor->reader, &descriptor->readable, deadline_ns);
}

static enum status epoll_wait_writable(struct descriptor *descriptor, uint64_t deadline_ns)
{
    return epoll_wait_side(&descriptor->writer, &descriptor->writable, deadline_ns);
}

/* A descriptor of someone else: watched for this one wait. A second fiber that waits for the same
 * one watches a duplicate, since epoll knows each number once. */
static enum status epoll_poll(struct reactor *reactor, int number, short events,
                              uint64_t deadline_ns)
{
    struct fiber *fiber = fiber_running();
    enum status status = fiber_check(fiber);
    if (status != STATUS_OK) return status;
    struct poll_watch watch = { .fiber = fiber };
    struct epoll_event event = { .events = (uint32_t)(events & (POLLIN | POLLOUT)),
                                 .data.ptr = (char *)&watch + TAG_POLL };
    int epoll = epoll_of(reactor)->number;
    int duplicate = -1;
    int result = epoll_ctl(epoll, EPOLL_CTL_ADD, number, &event);
    if (result != 0 && errno == EEXIST) {
        number = duplicate = dup(number);
        if (duplicate < 0) return status_of_errno(errno);
        result = epoll_ctl(epoll, EPOLL_CTL_ADD, number, &event);
    }
    if (result == 0) {
        status = fiber_park(fiber, deadline_ns);
        if (watch.fired) status = STATUS_OK;
        (void)epoll_ctl(epoll, EPOLL_CTL_DEL, number, NULL);
    } else if (errno != EPERM) { /* EPERM: a plain file, always ready */
        status = status_of_errno(errno);
    }
    if (duplicate >= 0) (void)close(duplicate);
    return status;
}

static const struct io_operations epoll_io = {
    .attach = epoll_attach,
    .detach = epoll_detach,
    .wait_readable = epoll_wait_readable,
    .wait_writable = epoll_wait_writable,
    .poll = epoll_poll,
};

static const struct reactor_backend epoll_backend = {
    .name = "epoll",
    .wait = epoll_backend_wait,
    .interrupt = epoll_interrupt,
    .destroy = epoll_destroy,
    .io = &epoll_io,
};

enum status epoll_create_backend(struct reactor *reactor, struct error *error)
{
    struct epoll *epoll = calloc(1, sizeof *epoll);
    if (epoll == NULL) return error_set(error, STATUS_NO_MEMORY, "epoll: out of memory");
    epoll->number = epoll_create1(EPOLL_CLOEXEC);
    epoll->interrupt = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct epoll_event event = { .events = EPOLLIN };
    if (epoll->number < 0 || epoll->interrupt < 0 ||
        epoll_ctl(epoll->number, EPOLL_CTL_ADD, epoll->interrupt, &event) != 0) {
        enum status status = error_set_errno(error, errno, "epoll");
        if (epoll->number >= 0) (void)close(epoll->number);
        if (epoll->interrupt >= 0) (void)close(epoll->interrupt);
        free(epoll);
        return status;
    }
    reactor->backend = &epoll_backend;
    reactor->backend_state = epoll;
    return STATUS_OK;
}
