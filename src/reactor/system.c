/* The operating system's clock, its random numbers, and the meaning of its errors. */
#include "reactor/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec now;
    if (clock_gettime(id, &now) != 0) abort(); /* a kernel without clocks */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void system_monotonic_ns(struct clock *clock, uint64_t *ret_ns)
{
    (void)clock;
    *ret_ns = read_clock(CLOCK_MONOTONIC);
}

static void system_boot_ns(struct clock *clock, uint64_t *ret_ns)
{
    (void)clock;
    *ret_ns = read_clock(CLOCK_BOOTTIME);
}

static void system_wall_ns(struct clock *clock, uint64_t *ret_ns)
{
    (void)clock;
    *ret_ns = read_clock(CLOCK_REALTIME);
}

void system_clock_init(struct clock *clock)
{
    *clock = (struct clock) { .monotonic_ns = system_monotonic_ns,
                              .boot_ns = system_boot_ns,
                              .wall_ns = system_wall_ns };
}

static void kernel_fill(uint8_t *ret_bytes, size_t size)
{
    while (size > 0) {
        ssize_t got = getrandom(ret_bytes, size, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) abort(); /* going on with guessable secrets would be worse */
        ret_bytes += got;
        size -= (size_t)got;
    }
}

static void system_fill(struct random *random, void *ret_bytes, size_t size)
{
    struct system_random *system = (struct system_random *)random; /* its first field */
    if (size > sizeof system->bytes / 4) {
        kernel_fill(ret_bytes, size);
        return;
    }
    if (size > system->left) {
        kernel_fill(system->bytes, sizeof system->bytes);
        system->left = sizeof system->bytes;
    }
    uint8_t *from = system->bytes + sizeof system->bytes - system->left;
    memcpy(ret_bytes, from, size);
    explicit_bzero(from, size); /* what was handed out is known to nobody else */
    system->left -= size;
}

void system_random_init(struct system_random *random)
{
    *random = (struct system_random) { .random.fill = system_fill };
}

static const struct {
    int number;
    enum status status;
} meanings[] = {
    { ENOENT, STATUS_NOT_FOUND },
    { EEXIST, STATUS_EXISTS },
    { ENOTEMPTY, STATUS_EXISTS },
    { EADDRINUSE, STATUS_EXISTS },
    { ENOSPC, STATUS_FULL },
    { EDQUOT, STATUS_FULL },
    { EFBIG, STATUS_FULL },
    { EACCES, STATUS_DENIED },
    { EPERM, STATUS_DENIED },
    { EROFS, STATUS_DENIED },
    { EAGAIN, STATUS_BUSY },
    { EBUSY, STATUS_BUSY },
    { EMFILE, STATUS_BUSY },
    { ENFILE, STATUS_BUSY },
    { ENOBUFS, STATUS_BUSY },
    { ENOMEM, STATUS_NO_MEMORY },
    { ECONNREFUSED, STATUS_UNAVAILABLE },
    { EHOSTUNREACH, STATUS_UNAVAILABLE },
    { ENETUNREACH, STATUS_UNAVAILABLE },
    { ENETDOWN, STATUS_UNAVAILABLE },
    { EADDRNOTAVAIL, STATUS_UNAVAILABLE },
    { ECONNRESET, STATUS_CLOSED },
    { ECONNABORTED, STATUS_CLOSED },
    { EPIPE, STATUS_CLOSED },
    { ENOTCONN, STATUS_CLOSED },
    { ESHUTDOWN, STATUS_CLOSED },
    { ETIMEDOUT, STATUS_TIMEOUT },
    { ECANCELED, STATUS_CANCELLED },
    { EINVAL, STATUS_INVALID },
    { ENAMETOOLONG, STATUS_INVALID },
    { ENOTDIR, STATUS_INVALID },
    { EISDIR, STATUS_INVALID },
    { ELOOP, STATUS_INVALID },
    { EXDEV, STATUS_INVALID },
    { EAFNOSUPPORT, STATUS_UNSUPPORTED },
    { ENOSYS, STATUS_UNSUPPORTED },
    { EOPNOTSUPP, STATUS_UNSUPPORTED },
};

enum status status_of_errno(int number)
{
    for (size_t i = 0; i < sizeof meanings / sizeof meanings[0]; i++)
        if (meanings[i].number == number) return meanings[i].status;
    return STATUS_IO;
}

enum status error_set_errno(struct error *error, int number, const char *what)
{
    const char *sentence = strerrordesc_np(number);
    return error_set(error, status_of_errno(number), "%s: %s", what,
                     sentence == NULL ? "unknown error" : sentence);
}
