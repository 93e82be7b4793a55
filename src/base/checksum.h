/* Checksums: CRC-32C (Castagnoli, as in RFC 3720) for records and frames, XXH3 for running hashes.
 */
#ifndef UNUM_BASE_CHECKSUM_H
#define UNUM_BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *data, size_t size);
/* Go on from an earlier value, so that parts give the checksum of the whole. */
uint32_t crc32c_extend(uint32_t crc, const void *data, size_t size);
uint64_t hash64(const void *data, size_t size, uint64_t seed);

#endif
