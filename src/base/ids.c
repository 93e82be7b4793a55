#include "base/ids.h"

void id_format(const struct id *id, char ret_text[ID_TEXT_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < ID_BYTES; i++) {
        ret_text[2 * i] = digits[id->bytes[i] >> 4];
        ret_text[2 * i + 1] = digits[id->bytes[i] & 15];
    }
    ret_text[ID_TEXT_BYTES - 1] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

enum status id_parse(const char *text, struct id *ret_id)
{
    struct id id;
    if (strnlen(text, ID_TEXT_BYTES) != ID_TEXT_BYTES - 1) return STATUS_INVALID;
    for (size_t i = 0; i < ID_BYTES; i++) {
        int high = hex_value(text[2 * i]);
        int low = hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0) return STATUS_INVALID;
        id.bytes[i] = (uint8_t)(high << 4 | low);
    }
    *ret_id = id;
    return STATUS_OK;
}
