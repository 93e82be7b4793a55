/* The one parser for numbers that come from outside: decimal integers, sizes, durations.
 * STATUS_INVALID for anything but the whole text, for a sign, a space, or a value over MAX. */
#ifndef UNUM_BASE_PARSE_H
#define UNUM_BASE_PARSE_H

#include "base/status.h"

#include <stdint.h>

MUST_USE enum status parse_u64(const char *text, uint64_t max, uint64_t *ret_value);
/* "512", "64K", "10Mi", "1G": K, M, G, T are powers of 1000; Ki, Mi, Gi, Ti of 1024. */
MUST_USE enum status parse_size_bytes(const char *text, uint64_t max, uint64_t *ret_bytes);
/* "250ms", "10s", "5m", "2h", "7d". A unit is required, but for 0. */
MUST_USE enum status parse_duration_ms(const char *text, uint64_t max_ms, uint64_t *ret_ms);
/* "0.5", "2", "250m" (thousandths of a core). */
MUST_USE enum status parse_cpu_milli(const char *text, uint64_t max, uint64_t *ret_milli);

#endif
