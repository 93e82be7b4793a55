/* Messages to JSON. The walk is as deep as the schema, which is ours, and at most JSON_DEPTH_MAX.
 */
#include "wire/json.h"

#include "wire/json_names.h"

#include <inttypes.h>
#include <stdio.h>

struct encoder {
    struct buffer *buffer;
    unsigned style;
    unsigned depth;
    enum status status; /* the first failure; nothing is put after it */
    struct error *error;
};

static void put(struct encoder *encoder, const void *bytes, size_t size)
{
    if (encoder->status == STATUS_OK) encoder->status = buffer_append(encoder->buffer, bytes, size);
}

static void put_text(struct encoder *encoder, const char *text)
{
    put(encoder, text, strlen(text));
}

static void put_line(struct encoder *encoder)
{
    static const char spaces[2 * JSON_DEPTH_MAX + 1] =
        "                                                                ";
    if ((encoder->style & JSON_PRETTY) == 0) return;
    put_text(encoder, "\n");
    put(encoder, spaces, (size_t)2 * encoder->depth);
}

/* --- texts --------------------------------------------------------------------------------------
 */

/* The size of the UTF-8 character at the front, 0 when there is none. Unicode 15, table 3-7. */
static size_t utf8_size(const uint8_t *at, size_t left)
{
    uint8_t first = at[0];
    if (first < 0x80) return 1;
    size_t size = first >= 0xc2 && first < 0xe0   ? 2
                  : first >= 0xe0 && first < 0xf0 ? 3
                  : first >= 0xf0 && first < 0xf5 ? 4
                                                  : 0;
    if (size == 0 || size > left) return 0;
    for (size_t i = 1; i < size; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    if ((first == 0xe0 && at[1] < 0xa0) || (first == 0xed && at[1] > 0x9f)) return 0;
    if ((first == 0xf0 && at[1] < 0x90) || (first == 0xf4 && at[1] > 0x8f)) return 0;
    return size;
}

static void put_escaped(struct encoder *encoder, uint8_t c)
{
    static const char *const named[0x20] = {
        ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f", ['\r'] = "\\r"
    };
    char text[8];
    if (c == '"') {
        put_text(encoder, "\\\"");
    } else if (c == '\\') {
        put_text(encoder, "\\\\");
    } else if (c < 0x20 && named[c] != NULL) {
        put_text(encoder, named[c]);
    } else {
        (void)snprintf(text, sizeof text, "\\u%04x", c);
        put_text(encoder, text);
    }
}

static bool is_plain(uint8_t c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void put_string(struct encoder *encoder, const char *text)
{
    const uint8_t *at = (const uint8_t *)text;
    size_t left = text == NULL ? 0 : strlen(text);
    put_text(encoder, "\"");
    while (left > 0) {
        size_t plain = 0;
        while (plain < left && is_plain(at[plain])) plain++;
        put(encoder, at, plain);
        at += plain;
        left -= plain;
        if (left == 0) break;
        size_t size = utf8_size(at, left);
        if (size > 1) {
            put(encoder, at, size);
        } else if (size == 1) {
            put_escaped(encoder, at[0]);
        } else {
            put_text(encoder, "\xef\xbf\xbd");
            size = 1;
        }
        at += size;
        left -= size;
    }
    put_text(encoder, "\"");
}

static void put_base64(struct encoder *encoder, struct bytes bytes)
{
    enum { PART_BYTES = 768 };
    char text[PART_BYTES / 3 * 4];
    put_text(encoder, "\"");
    for (size_t i = 0; i < bytes.size; i += PART_BYTES) {
        size_t size = bytes.size - i < PART_BYTES ? bytes.size - i : PART_BYTES;
        base64_encode(bytes_of(bytes.data + i, size), text);
        put(encoder, text, base64_encoded_size(size));
    }
    put_text(encoder, "\"");
}

/* --- values --------------------------------------------------------------------------------------
 */

static void put_message(struct encoder *encoder, const ProtobufCMessage *message);

static void put_enum(struct encoder *encoder, const ProtobufCEnumDescriptor *descriptor, int value)
{
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(descriptor, value);
    char number[16];
    if (known != NULL) {
        put_text(encoder, "\"");
        put_text(encoder, known->name);
        put_text(encoder, "\"");
        return;
    }
    (void)snprintf(number, sizeof number, "%d", value);
    put_text(encoder, number);
}

static void put_number(struct encoder *encoder, ProtobufCType type, const void *value)
{
    char text[32];
    uint32_t u32;
    uint64_t u64;
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        memcpy(&u32, value, sizeof u32);
        (void)snprintf(text, sizeof text, "%" PRId32, (int32_t)u32);
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        memcpy(&u32, value, sizeof u32);
        (void)snprintf(text, sizeof text, "%" PRIu32, u32);
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        memcpy(&u64, value, sizeof u64);
        (void)snprintf(text, sizeof text, "\"%" PRId64 "\"", (int64_t)u64);
        break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        memcpy(&u64, value, sizeof u64);
        (void)snprintf(text, sizeof text, "\"%" PRIu64 "\"", u64);
        break;
    default:
        if (encoder->status == STATUS_OK)
            encoder->status = error_set(encoder->error, STATUS_UNSUPPORTED,
                                        "numbers with a fraction have no JSON form here");
        return;
    }
    put_text(encoder, text);
}

static void put_value(struct encoder *encoder, const ProtobufCFieldDescriptor *field,
                      const void *value)
{
    const ProtobufCBinaryData *data = value;
    int number;
    protobuf_c_boolean truth;
    const char *text;
    const ProtobufCMessage *message;
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL:
        memcpy(&truth, value, sizeof truth);
        put_text(encoder, truth ? "true" : "false");
        break;
    case PROTOBUF_C_TYPE_ENUM:
        memcpy(&number, value, sizeof number);
        put_enum(encoder, field->descriptor, number);
        break;
    case PROTOBUF_C_TYPE_STRING:
        memcpy(&text, value, sizeof text);
        put_string(encoder, text);
        break;
    case PROTOBUF_C_TYPE_BYTES: put_base64(encoder, bytes_of(data->data, data->len)); break;
    case PROTOBUF_C_TYPE_MESSAGE:
        memcpy(&message, value, sizeof(void *));
        put_message(encoder, message);
        break;
    default: put_number(encoder, field->type, value);
    }
}

static size_t value_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return 8;
    case PROTOBUF_C_TYPE_BOOL: return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE: return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES: return sizeof(ProtobufCBinaryData);
    default: return 4;
    }
}

static void enter(struct encoder *encoder, const char *bracket)
{
    put_text(encoder, bracket);
    if (++encoder->depth > JSON_DEPTH_MAX && encoder->status == STATUS_OK)
        encoder->status =
            error_set(encoder->error, STATUS_UNSUPPORTED, "the message is nested too deeply");
}

static void leave(struct encoder *encoder, const char *bracket, bool is_empty)
{
    encoder->depth--;
    if (!is_empty && encoder->status == STATUS_OK) put_line(encoder);
    put_text(encoder, bracket);
}

static void put_name(struct encoder *encoder, const char *name, bool is_first)
{
    if (!is_first) put_text(encoder, ",");
    put_line(encoder);
    put_string(encoder, name);
    put_text(encoder, (encoder->style & JSON_PRETTY) != 0 ? ": " : ":");
}

/* The key of a map's entry as a text: a number's quotes come with it, others get them. */
static void put_key(struct encoder *encoder, const ProtobufCMessage *entry, bool is_first)
{
    const ProtobufCFieldDescriptor *key = &entry->descriptor->fields[0];
    const void *value = json_member(entry, key->offset);
    if (!is_first) put_text(encoder, ",");
    put_line(encoder);
    bool is_quoted = key->type == PROTOBUF_C_TYPE_STRING || value_size(key->type) == 8;
    if (!is_quoted) put_text(encoder, "\"");
    put_value(encoder, key, value);
    if (!is_quoted) put_text(encoder, "\"");
    put_text(encoder, (encoder->style & JSON_PRETTY) != 0 ? ": " : ":");
}

static void put_map(struct encoder *encoder, const ProtobufCMessage *const *entries, size_t count)
{
    enter(encoder, "{");
    for (size_t i = 0; i < count && encoder->status == STATUS_OK; i++) {
        const ProtobufCFieldDescriptor *value = &entries[i]->descriptor->fields[1];
        put_key(encoder, entries[i], i == 0);
        put_value(encoder, value, json_member(entries[i], value->offset));
    }
    leave(encoder, "}", count == 0);
}

static void put_list(struct encoder *encoder, const ProtobufCMessage *message,
                     const ProtobufCFieldDescriptor *field, size_t count)
{
    const uint8_t *array;
    memcpy(&array, json_member(message, field->offset), sizeof array);
    if (json_is_map(message->descriptor, field)) {
        put_map(encoder, (const ProtobufCMessage *const *)(const void *)array, count);
        return;
    }
    enter(encoder, "[");
    for (size_t i = 0; i < count && encoder->status == STATUS_OK; i++) {
        if (i > 0) put_text(encoder, ",");
        put_line(encoder);
        put_value(encoder, field, array + i * value_size(field->type));
    }
    leave(encoder, "]", count == 0);
}

/* --- messages ------------------------------------------------------------------------------------
 */

static bool is_zero(const ProtobufCFieldDescriptor *field, const void *value)
{
    static const uint8_t zeros[8];
    const char *text;
    ProtobufCBinaryData data;
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        memcpy(&text, value, sizeof text);
        return text == NULL || text[0] == '\0';
    case PROTOBUF_C_TYPE_BYTES: memcpy(&data, value, sizeof data); return data.len == 0;
    default: return memcmp(value, zeros, value_size(field->type)) == 0;
    }
}

/* Whether the field is there to be written; for lists also how many. */
static bool is_present(const struct encoder *encoder, const ProtobufCMessage *message,
                       const ProtobufCFieldDescriptor *field, size_t *ret_count)
{
    const void *value = json_member(message, field->offset);
    const void *quantifier = json_member(message, field->quantifier_offset);
    bool all = (encoder->style & JSON_DEFAULTS) != 0;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        memcpy(ret_count, quantifier, sizeof *ret_count);
        return all || *ret_count > 0;
    }
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        uint32_t chosen;
        memcpy(&chosen, quantifier, sizeof chosen);
        return chosen == field->id;
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) return !is_zero(field, value);
    if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->quantifier_offset != 0) {
        protobuf_c_boolean has;
        memcpy(&has, quantifier, sizeof has);
        return has;
    }
    return all || !is_zero(field, value);
}

static void put_message(struct encoder *encoder, const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    bool is_first = true;
    enter(encoder, "{");
    for (unsigned i = 0; i < descriptor->n_fields && encoder->status == STATUS_OK; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        size_t count = 0;
        if (!is_present(encoder, message, field, &count)) continue;
        char name[JSON_NAME_BYTES_MAX + 1];
        json_name_of(field->name, name);
        put_name(encoder, name, is_first);
        is_first = false;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            put_list(encoder, message, field, count);
        } else {
            put_value(encoder, field, json_member(message, field->offset));
        }
    }
    leave(encoder, "}", is_first);
}

enum status json_encode(const ProtobufCMessage *message, unsigned style, struct buffer *buffer,
                        struct error *error)
{
    struct encoder encoder = { .buffer = buffer, .style = style, .error = error };
    size_t used = buffer->used;
    put_message(&encoder, message);
    if ((style & JSON_PRETTY) != 0) put_text(&encoder, "\n");
    if (encoder.status == STATUS_OK) return STATUS_OK;
    buffer->used = used;
    if (encoder.status == STATUS_FULL || encoder.status == STATUS_NO_MEMORY)
        return error_set(error, encoder.status, "the answer is too large to be written as JSON");
    return encoder.status;
}
