#include "base/checksum.h"

#include <assert.h>
#include <isa-l/crc.h>
#include <limits.h>
#include <xxhash.h>

uint32_t crc32c_extend(uint32_t crc, const void *data, size_t size)
{
    assert(size <= INT_MAX);
    if (size == 0) return crc;
    /* ISA-L takes no const, but only reads; it works on the register before the final inversion. */
    return ~crc32_iscsi((unsigned char *)data, (int)size, ~crc);
}

uint32_t crc32c(const void *data, size_t size)
{
    return crc32c_extend(0, data, size);
}

uint64_t hash64(const void *data, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size, seed);
}
