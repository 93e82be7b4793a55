#include "wire/grpc_text.h"

#include <stdio.h>

static const enum grpc_status grpc_of[STATUS_COUNT] = {
    [STATUS_OK] = GRPC_OK,
    [STATUS_INVALID] = GRPC_INVALID_ARGUMENT,
    [STATUS_NOT_FOUND] = GRPC_NOT_FOUND,
    [STATUS_EXISTS] = GRPC_ALREADY_EXISTS,
    [STATUS_CONFLICT] = GRPC_ABORTED,
    [STATUS_DENIED] = GRPC_PERMISSION_DENIED,
    [STATUS_BUSY] = GRPC_RESOURCE_EXHAUSTED,
    [STATUS_FULL] = GRPC_FAILED_PRECONDITION,
    [STATUS_IO] = GRPC_INTERNAL,
    [STATUS_CORRUPT] = GRPC_DATA_LOSS,
    [STATUS_UNSUPPORTED] = GRPC_UNIMPLEMENTED,
    [STATUS_TIMEOUT] = GRPC_DEADLINE_EXCEEDED,
    [STATUS_CANCELLED] = GRPC_CANCELLED,
    [STATUS_UNAVAILABLE] = GRPC_UNAVAILABLE,
    [STATUS_CLOSED] = GRPC_OUT_OF_RANGE,
    [STATUS_NO_MEMORY] = GRPC_RESOURCE_EXHAUSTED,
    [STATUS_INTERNAL] = GRPC_INTERNAL,
};

static const enum status status_of[] = {
    [GRPC_OK] = STATUS_OK,
    [GRPC_CANCELLED] = STATUS_CANCELLED,
    [GRPC_UNKNOWN] = STATUS_INTERNAL,
    [GRPC_INVALID_ARGUMENT] = STATUS_INVALID,
    [GRPC_DEADLINE_EXCEEDED] = STATUS_TIMEOUT,
    [GRPC_NOT_FOUND] = STATUS_NOT_FOUND,
    [GRPC_ALREADY_EXISTS] = STATUS_EXISTS,
    [GRPC_PERMISSION_DENIED] = STATUS_DENIED,
    [GRPC_RESOURCE_EXHAUSTED] = STATUS_BUSY,
    [GRPC_FAILED_PRECONDITION] = STATUS_FULL,
    [GRPC_ABORTED] = STATUS_CONFLICT,
    [GRPC_OUT_OF_RANGE] = STATUS_CLOSED,
    [GRPC_UNIMPLEMENTED] = STATUS_UNSUPPORTED,
    [GRPC_INTERNAL] = STATUS_INTERNAL,
    [GRPC_UNAVAILABLE] = STATUS_UNAVAILABLE,
    [GRPC_DATA_LOSS] = STATUS_CORRUPT,
    [GRPC_UNAUTHENTICATED] = STATUS_DENIED,
};

enum { GRPC_STATUS_COUNT = GRPC_UNAUTHENTICATED + 1 };
_Static_assert(sizeof status_of / sizeof status_of[0] == GRPC_STATUS_COUNT, "every code is mapped");

enum grpc_status grpc_status_of(enum status status)
{
    return (unsigned)status < STATUS_COUNT ? grpc_of[status] : GRPC_UNKNOWN;
}

enum status status_of_grpc(enum grpc_status status)
{
    return (unsigned)status < GRPC_STATUS_COUNT ? status_of[status] : STATUS_INTERNAL;
}

struct timeout_unit {
    char letter;
    uint64_t ns;
};

static const struct timeout_unit timeout_units[] = { /* finest first */
                                                     { 'n', 1 },           { 'u', 1000 },
                                                     { 'm', 1000000 },     { 'S', 1000000000 },
                                                     { 'M', 60000000000 }, { 'H', 3600000000000 }
};
enum {
    TIMEOUT_UNIT_COUNT = sizeof timeout_units / sizeof timeout_units[0],
    TIMEOUT_DIGITS_MAX = 8,
    TIMEOUT_VALUE_MAX = 99999999,
};

enum status grpc_timeout_parse(struct bytes text, uint64_t *ret_ns)
{
    if (text.size < 2 || text.size > TIMEOUT_DIGITS_MAX + 1) return STATUS_INVALID;
    uint64_t value = 0;
    for (size_t i = 0; i + 1 < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return STATUS_INVALID;
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    for (size_t i = 0; i < TIMEOUT_UNIT_COUNT; i++) {
        if (text.data[text.size - 1] != (uint8_t)timeout_units[i].letter) continue;
        uint64_t unit = timeout_units[i].ns;
        *ret_ns = value > (UINT64_MAX - 1) / unit ? UINT64_MAX - 1 : value * unit;
        return STATUS_OK;
    }
    return STATUS_INVALID;
}

size_t grpc_timeout_format(uint64_t timeout_ns, char ret_text[GRPC_TIMEOUT_TEXT_BYTES])
{
    size_t i = 0;
    while (i + 1 < TIMEOUT_UNIT_COUNT && timeout_ns / timeout_units[i].ns > TIMEOUT_VALUE_MAX) i++;
    uint64_t value = timeout_ns / timeout_units[i].ns;
    if (value > TIMEOUT_VALUE_MAX) value = TIMEOUT_VALUE_MAX;
    int length = snprintf(ret_text, GRPC_TIMEOUT_TEXT_BYTES, "%u%c", (unsigned)value,
                          timeout_units[i].letter);
    return length < 0 ? 0 : (size_t)length;
}

size_t grpc_message_encode(const char *text, uint8_t *ret_bytes)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t used = 0;
    for (size_t i = 0; i < GRPC_STATUS_TEXT_BYTES_MAX && text[i] != '\0'; i++) {
        uint8_t c = (uint8_t)text[i];
        if (c >= 0x20 && c <= 0x7e && c != '%') {
            ret_bytes[used++] = c;
            continue;
        }
        ret_bytes[used++] = '%';
        ret_bytes[used++] = (uint8_t)digits[c >> 4];
        ret_bytes[used++] = (uint8_t)digits[c & 15];
    }
    return used;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

void grpc_message_decode(struct bytes encoded, char ret_text[GRPC_STATUS_TEXT_BYTES_MAX + 1])
{
    size_t used = 0;
    for (size_t i = 0; i < encoded.size && used < GRPC_STATUS_TEXT_BYTES_MAX; i++) {
        uint8_t c = encoded.data[i];
        if (c == '%' && encoded.size - i > 2) {
            int high = hex_value(encoded.data[i + 1]);
            int low = hex_value(encoded.data[i + 2]);
            if (high >= 0 && low >= 0) {
                c = (uint8_t)(high << 4 | low);
                i += 2;
            }
        }
        if (c == 0) c = (uint8_t)'?';
        memcpy(ret_text + used++, &c, 1);
    }
    ret_text[used] = '\0';
}

bool grpc_content_type_is_ours(struct bytes text)
{
    static const char base[] = "application/grpc";
    static const char proto[] = "+proto";
    size_t used = sizeof base - 1;
    if (text.size < used || memcmp(text.data, base, used) != 0) return false;
    size_t rest = text.size - used;
    if (rest >= sizeof proto - 1 && memcmp(text.data + used, proto, sizeof proto - 1) == 0)
        used += sizeof proto - 1;
    return text.size == used || text.data[used] == ';';
}

const char *grpc_status_text(enum grpc_status status)
{
    static const char texts[GRPC_STATUS_COUNT][3] = { "0",  "1",  "2",  "3",  "4",  "5",
                                                      "6",  "7",  "8",  "9",  "10", "11",
                                                      "12", "13", "14", "15", "16" };
    return (unsigned)status < GRPC_STATUS_COUNT ? texts[status] : texts[GRPC_UNKNOWN];
}

enum grpc_status grpc_status_parse(struct bytes text)
{
    unsigned value = 0;
    if (text.size == 0 || text.size > 2) return GRPC_UNKNOWN;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return GRPC_UNKNOWN;
        value = value * 10 + (unsigned)(text.data[i] - '0');
    }
    return value < GRPC_STATUS_COUNT ? (enum grpc_status)value : GRPC_UNKNOWN;
}

enum grpc_status grpc_status_of_http(unsigned http_status)
{
    switch (http_status) {
    case 400: return GRPC_INTERNAL;
    case 401: return GRPC_UNAUTHENTICATED;
    case 403: return GRPC_PERMISSION_DENIED;
    case 404: return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504: return GRPC_UNAVAILABLE;
    default: return GRPC_UNKNOWN;
    }
}

enum grpc_status grpc_status_of_reset(uint32_t error_code)
{
    enum { REFUSED_STREAM = 7, CANCEL = 8, ENHANCE_YOUR_CALM = 11, INADEQUATE_SECURITY = 12 };
    switch (error_code) {
    case REFUSED_STREAM: return GRPC_UNAVAILABLE;
    case CANCEL: return GRPC_CANCELLED;
    case ENHANCE_YOUR_CALM: return GRPC_RESOURCE_EXHAUSTED;
    case INADEQUATE_SECURITY: return GRPC_PERMISSION_DENIED;
    default: return GRPC_INTERNAL;
    }
}
