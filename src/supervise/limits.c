#include "supervise/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum {
    PERIOD_US = 100000,
    PERIOD_LONG_US = 1000000, /* the kernel's longest */
    QUOTA_MIN_US = 1000,      /* the kernel's least time in a period */
};

static bool write_number(int leaf, const char *name, uint64_t number, unsigned period)
{
    char text[64];
    int file = openat(leaf, name, O_WRONLY | O_CLOEXEC);
    if (file < 0) return false;
    int size = period == 0 ? snprintf(text, sizeof text, "%" PRIu64, number)
                           : snprintf(text, sizeof text, "%" PRIu64 " %u", number, period);
    bool fine = write(file, text, (size_t)size) == size;
    int error = errno;
    (void)close(file);
    errno = error;
    return fine;
}

const char *limits_write(int leaf, uint32_t features, const struct supervise_start *start)
{
    if (start->memory_bytes != 0 && (features & SUPERVISE_FEATURE_MEMORY) != 0) {
        if (!write_number(leaf, "memory.max", start->memory_bytes, 0)) return "memory.max";
        /* A task that lost one process is not the task any more. */
        if (!write_number(leaf, "memory.oom.group", 1, 0)) return "memory.oom.group";
    }
    if (start->processes_max != 0 && (features & SUPERVISE_FEATURE_PIDS) != 0) {
        if (!write_number(leaf, "pids.max", start->processes_max, 0)) return "pids.max";
    }
    if (start->cpu_milli != 0 && (features & SUPERVISE_FEATURE_CPU) != 0) {
        uint64_t quota = start->cpu_milli * (uint64_t)PERIOD_US / 1000;
        bool too_short = quota < QUOTA_MIN_US; /* one hundredth of a core and less */
        if (too_short) quota = start->cpu_milli * (uint64_t)PERIOD_LONG_US / 1000;
        unsigned period = too_short ? PERIOD_LONG_US : PERIOD_US;
        if (!write_number(leaf, "cpu.max", quota, period)) return "cpu.max";
    }
    return NULL;
}
