/* Random: bytes from the kernel in production, from the seed in simulation. */
#ifndef UNUM_BASE_RANDOM_H
#define UNUM_BASE_RANDOM_H

#include "base/ids.h"

struct random {
    void (*fill)(struct random *random, void *ret_bytes, size_t size);
};

static inline void random_u64(struct random *random, uint64_t *ret_value)
{
    random->fill(random, ret_value, sizeof *ret_value);
}
/* Uniform in [0, bound); BOUND > 0. */
void random_below(struct random *random, uint64_t bound, uint64_t *ret_value);
void random_id(struct random *random, struct id *ret_id);

/* A small seeded generator (xoshiro256**), for simulation, jitter and tests; never for secrets. */
struct random_seeded {
    struct random random;
    uint64_t state[4];
};

void random_seeded_init(struct random_seeded *seeded, uint64_t seed);

#endif
