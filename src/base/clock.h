/* Clock: three times, all in nanoseconds, handed out through ret_ so that two draws never stand
 * in one expression. Implemented by the reactor (real) and by the simulator (virtual).
 *   monotonic  stops while the machine sleeps; timers, read leases
 *   boot       CLOCK_BOOTTIME; task leases
 *   wall       shown to people, never decided by */
#ifndef UNUM_BASE_CLOCK_H
#define UNUM_BASE_CLOCK_H

#include <stdint.h>

struct clock {
    void (*monotonic_ns)(struct clock *clock, uint64_t *ret_ns);
    void (*boot_ns)(struct clock *clock, uint64_t *ret_ns);
    void (*wall_ns)(struct clock *clock, uint64_t *ret_ns);
};

static inline void clock_monotonic_ns(struct clock *clock, uint64_t *ret_ns)
{
    clock->monotonic_ns(clock, ret_ns);
}
static inline void clock_boot_ns(struct clock *clock, uint64_t *ret_ns)
{
    clock->boot_ns(clock, ret_ns);
}
static inline void clock_wall_ns(struct clock *clock, uint64_t *ret_ns)
{
    clock->wall_ns(clock, ret_ns);
}

#endif
