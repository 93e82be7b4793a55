#include "base/parse.h"

#include <stddef.h>
#include <string.h>

/* The leading digits of *TEXT, which moves behind them. */
static enum status take_digits(const char **text, uint64_t max, uint64_t *ret_value)
{
    const char *p = *text;
    uint64_t value = 0;
    if (*p < '0' || *p > '9') return STATUS_INVALID;
    for (; *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (value > (max - digit) / 10 || digit > max) return STATUS_INVALID;
        value = value * 10 + digit;
    }
    *text = p;
    *ret_value = value;
    return STATUS_OK;
}

enum status parse_u64(const char *text, uint64_t max, uint64_t *ret_value)
{
    uint64_t value;
    enum status status = take_digits(&text, max, &value);
    if (status != STATUS_OK || *text != '\0') return STATUS_INVALID;
    *ret_value = value;
    return STATUS_OK;
}

struct unit {
    const char *suffix;
    uint64_t factor;
};

static enum status parse_with_units(const char *text, uint64_t max, const struct unit *units,
                                    size_t unit_count, uint64_t *ret_value)
{
    uint64_t value;
    enum status status = take_digits(&text, max, &value);
    if (status != STATUS_OK) return status;
    for (size_t i = 0; i < unit_count; i++) {
        if (strcmp(text, units[i].suffix) != 0) continue;
        if (value > max / units[i].factor) return STATUS_INVALID;
        *ret_value = value * units[i].factor;
        return STATUS_OK;
    }
    if (value == 0 && *text == '\0') {
        *ret_value = 0;
        return STATUS_OK;
    }
    return STATUS_INVALID;
}

enum status parse_size_bytes(const char *text, uint64_t max, uint64_t *ret_bytes)
{
    static const struct unit units[] = {
        { "", 1 },
        { "K", 1000 },
        { "M", 1000000 },
        { "G", 1000000000 },
        { "T", 1000000000000 },
        { "Ki", 1ULL << 10 },
        { "Mi", 1ULL << 20 },
        { "Gi", 1ULL << 30 },
        { "Ti", 1ULL << 40 },
    };
    return parse_with_units(text, max, units, sizeof units / sizeof units[0], ret_bytes);
}

enum status parse_duration_ms(const char *text, uint64_t max_ms, uint64_t *ret_ms)
{
    static const struct unit units[] = {
        { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 },
    };
    return parse_with_units(text, max_ms, units, sizeof units / sizeof units[0], ret_ms);
}

enum status parse_cpu_milli(const char *text, uint64_t max, uint64_t *ret_milli)
{
    uint64_t whole;
    enum status status = take_digits(&text, max, &whole);
    if (status != STATUS_OK) return status;
    if (strcmp(text, "m") == 0) {
        *ret_milli = whole;
        return STATUS_OK;
    }
    if (whole > max / 1000) return STATUS_INVALID;
    uint64_t milli = whole * 1000;
    if (*text == '.') {
        text++;
        if (*text == '\0') return STATUS_INVALID;
        for (uint64_t scale = 100; *text >= '0' && *text <= '9'; text++, scale /= 10) {
            if (scale == 0) return STATUS_INVALID;
            milli += (uint64_t)(*text - '0') * scale;
        }
    }
    if (*text != '\0' || milli > max) return STATUS_INVALID;
    *ret_milli = milli;
    return STATUS_OK;
}
