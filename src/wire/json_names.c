#include "wire/json_names.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void json_name_of(const char *name, char ret_name[JSON_NAME_BYTES_MAX + 1])
{
    size_t used = 0;
    bool upper = false;
    for (; *name != '\0' && used < JSON_NAME_BYTES_MAX; name++) {
        if (*name == '_') {
            upper = true;
            continue;
        }
        bool is_lower = *name >= 'a' && *name <= 'z';
        ret_name[used++] = *name;
        if (upper && is_lower) ret_name[used - 1] &= ~0x20; /* to upper case */
        upper = false;
    }
    ret_name[used] = '\0';
}

bool json_is_map(const ProtobufCMessageDescriptor *parent, const ProtobufCFieldDescriptor *field)
{
    if (field->label != PROTOBUF_C_LABEL_REPEATED || field->type != PROTOBUF_C_TYPE_MESSAGE)
        return false;
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    size_t length = strlen(parent->name);
    if (entry->n_fields != 2 || strcmp(entry->fields[0].name, "key") != 0 ||
        strcmp(entry->fields[1].name, "value") != 0 ||
        strncmp(entry->name, parent->name, length) != 0 || entry->name[length] != '.')
        return false;
    char expected[JSON_NAME_BYTES_MAX + 1];
    json_name_of(field->name, expected);
    if (expected[0] >= 'a' && expected[0] <= 'z') expected[0] &= ~0x20;
    const char *rest = entry->name + length + 1;
    return strncmp(rest, expected, strlen(expected)) == 0 &&
           strcmp(rest + strlen(expected), "Entry") == 0;
}

size_t base64_encoded_size(size_t size)
{
    return (size + 2) / 3 * 4;
}

void base64_encode(struct bytes bytes, char *ret_text)
{
    static const char padding = '=';
    size_t used = 0;
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t left = bytes.size - i;
        uint32_t group = (uint32_t)bytes.data[i] << 16;
        if (left > 1) group |= (uint32_t)bytes.data[i + 1] << 8;
        if (left > 2) group |= bytes.data[i + 2];
        ret_text[used++] = alphabet[group >> 18];
        ret_text[used++] = alphabet[group >> 12 & 63];
        ret_text[used] = ret_text[used + 1] = padding;
        if (left > 1) ret_text[used] = alphabet[group >> 6 & 63];
        if (left > 2) ret_text[used + 1] = alphabet[group & 63];
        used += 2;
    }
}

static int base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+' || c == '-') return 62;
    if (c == '/' || c == '_') return 63;
    return -1;
}

enum status base64_decode(struct bytes text, uint8_t *ret_bytes, size_t *ret_size)
{
    size_t size = text.size;
    while (size > 0 && text.size - size < 2 && text.data[size - 1] == '=') size--;
    if (size != text.size && text.size % 4 != 0) return STATUS_INVALID;
    if (size % 4 == 1) return STATUS_INVALID;
    uint32_t group = 0;
    unsigned bits = 0;
    size_t used = 0;
    for (size_t i = 0; i < size; i++) {
        int value = base64_value(text.data[i]);
        if (value < 0) return STATUS_INVALID;
        group = group << 6 | (uint32_t)value;
        bits += 6;
        if (bits < 8) continue;
        bits -= 8;
        ret_bytes[used++] = (uint8_t)(group >> bits);
    }
    /* What is left over must be zero: else two texts would mean the same bytes. */
    if ((group & ((1u << bits) - 1)) != 0) return STATUS_INVALID;
    *ret_size = used;
    return STATUS_OK;
}
