#include "sim/wait.h"

#include "reactor/reactor.h"

void sim_wait_in_fiber(uint64_t duration_ns)
{
    if (!fiber_may_wait()) return;
    fiber_shield();
    enum status status = fiber_sleep_ns(duration_ns);
    fiber_unshield();
    (void)status; /* the simulation's end: the caller meets it at its next call */
}
