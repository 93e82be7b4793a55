#include "base/random.h"

#include <assert.h>

void random_below(struct random *random, uint64_t bound, uint64_t *ret_value)
{
    assert(bound > 0);
    uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
    uint64_t value;
    do random_u64(random, &value);
    while (value >= limit);
    *ret_value = value % bound;
}

void random_id(struct random *random, struct id *ret_id)
{
    do random->fill(random, ret_id->bytes, sizeof ret_id->bytes);
    while (id_is_zero(ret_id));
}

static uint64_t rotate_left(uint64_t value, unsigned count)
{
    return value << count | value >> (64 - count);
}

/* xoshiro256** 1.0 by Blackman and Vigna (public domain description). */
static uint64_t seeded_next(uint64_t state[4])
{
    uint64_t result = rotate_left(state[1] * 5, 7) * 9;
    uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate_left(state[3], 45);
    return result;
}

static void seeded_fill(struct random *random, void *ret_bytes, size_t size)
{
    struct random_seeded *seeded = (struct random_seeded *)random;
    uint8_t *out = ret_bytes;
    while (size > 0) {
        uint8_t bytes[8];
        store_u64_le(bytes, seeded_next(seeded->state));
        size_t part = size < 8 ? size : 8;
        memcpy(out, bytes, part);
        out += part;
        size -= part;
    }
}

void random_seeded_init(struct random_seeded *seeded, uint64_t seed)
{
    seeded->random.fill = seeded_fill;
    for (unsigned i = 0; i < 4; i++) {
        /* splitmix64, so that near seeds give far states. */
        seed += 0x9e3779b97f4a7c15ULL;
        uint64_t mixed = seed;
        mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9ULL;
        mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebULL;
        seeded->state[i] = mixed ^ mixed >> 31;
    }
}
