#include "sim/history.h"

#include "base/checksum.h"
#include "base/parse.h"

#include <inttypes.h>
#include <stdio.h>

size_t history_format_value(uint64_t number, char ret_text[HISTORY_VALUE_BYTES_MAX])
{
    int used = snprintf(ret_text, HISTORY_VALUE_BYTES_MAX, "%" PRIu64 ":", number);
    size_t filler = hash64(&number, sizeof number, 1) % (HISTORY_VALUE_BYTES_MAX - 32);
    for (size_t i = 0; i < filler; i++)
        ret_text[(size_t)used + i] = (char)('a' + (number + i) % 26);
    return (size_t)used + filler;
}

uint64_t history_parse_value(struct bytes bytes)
{
    char text[24], expected[HISTORY_VALUE_BYTES_MAX];
    const uint8_t *colon = bytes.size == 0 ? NULL : memchr(bytes.data, ':', bytes.size);
    if (colon == NULL || (size_t)(colon - bytes.data) >= sizeof text) return UINT64_MAX;
    (void)snprintf(text, sizeof text, "%.*s", (int)(colon - bytes.data), (const char *)bytes.data);
    uint64_t number;
    if (parse_u64(text, UINT64_MAX - 1, &number) != STATUS_OK) return UINT64_MAX;
    size_t size = history_format_value(number, expected);
    return bytes_equal(bytes, bytes_of(expected, size)) ? number : UINT64_MAX;
}

size_t history_format_key(uint32_t key, char ret_text[32])
{
    return (size_t)snprintf(ret_text, 32, "sim/%02" PRIu32, key);
}

uint32_t history_parse_key(struct bytes bytes)
{
    char text[16];
    uint64_t number;
    if (bytes.size <= 4 || bytes.size - 4 >= sizeof text || memcmp(bytes.data, "sim/", 4) != 0)
        return UINT32_MAX;
    (void)snprintf(text, sizeof text, "%.*s", (int)(bytes.size - 4), (const char *)bytes.data + 4);
    if (parse_u64(text, HISTORY_KEYS_MAX - 1, &number) != STATUS_OK) return UINT32_MAX;
    return (uint32_t)number;
}
