#include "store/synced_size.h"

#include "base/bytes.h"
#include "base/checksum.h"

void synced_size_encode(uint64_t synced, uint8_t bytes[SYNCED_SIZE_BYTES])
{
    memset(bytes, 0, SYNCED_SIZE_BYTES);
    store_u64_le(bytes, synced);
    store_u32_le(bytes + 8, crc32c(bytes, 8));
}

bool synced_size_decode(const uint8_t *bytes, size_t size, uint64_t *ret_synced)
{
    if (size < SYNCED_SIZE_BYTES) return false;
    if (load_u32_le(bytes + 8) != crc32c(bytes, 8)) return false;
    *ret_synced = load_u64_le(bytes);
    return true;
}
