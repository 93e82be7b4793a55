/* How many bytes of a file were synced, as one sector of a file beside it: what stands behind them
 * after a power loss may be anything. Sans-io. Layout: docs/formats/superblock.md. */
#ifndef UNUM_STORE_SYNCED_SIZE_H
#define UNUM_STORE_SYNCED_SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SYNCED_SIZE_BYTES = 512 };

void synced_size_encode(uint64_t synced, uint8_t bytes[SYNCED_SIZE_BYTES]);
/* False: damaged, or not such a sector. */
bool synced_size_decode(const uint8_t *bytes, size_t size, uint64_t *ret_synced);

#endif
