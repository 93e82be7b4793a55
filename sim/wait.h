/* How simulated devices spend time: as a sleep of the calling fiber, which cancellation does not
 * cut short (a disk does not stop because its caller is no longer interested). Outside a fiber it
 * does nothing. */
#ifndef UNUM_SIM_WAIT_H
#define UNUM_SIM_WAIT_H

#include <stdint.h>

void sim_wait_in_fiber(uint64_t duration_ns);

#endif
