/* JSON to messages. jansson reads the text; before it does, the text's depth is judged, so that
 * neither jansson's recursion nor ours is driven by outside data. */
#include "base/closest.h"
#include "wire/json.h"
#include "wire/json_names.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

enum { PATH_BYTES_MAX = 256, FIELDS_MAX = 64, SHOWN_BYTES_MAX = 60, SHORT_NAME_BYTES = 32 };

/* Where we are: one on the stack for each level. */
struct place {
    const struct place *above;
    const char *name; /* of a field or key, NULL for an element of a list */
    size_t index;
};

struct decoder {
    struct arena *arena;
    struct error *error;
};

static void format_place(const struct place *place, char ret_path[PATH_BYTES_MAX])
{
    const struct place *levels[JSON_DEPTH_MAX * 2];
    size_t count = 0, used = 0;
    for (; place != NULL && count < sizeof levels / sizeof levels[0]; place = place->above)
        levels[count++] = place;
    ret_path[0] = '\0';
    while (count > 0 && used < PATH_BYTES_MAX - 1) {
        place = levels[--count];
        int length = place->name == NULL
                         ? snprintf(ret_path + used, PATH_BYTES_MAX - used, "[%zu]", place->index)
                         : snprintf(ret_path + used, PATH_BYTES_MAX - used, "%s%.60s",
                                    used == 0 ? "" : ".", place->name);
        if (length < 0) return;
        used += (size_t)length;
    }
}

__attribute__((format(printf, 3, 4))) static enum status
refuse(const struct decoder *decoder, const struct place *place, const char *format, ...)
{
    char path[PATH_BYTES_MAX], text[PATH_BYTES_MAX];
    format_place(place, path);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return error_set(decoder->error, STATUS_INVALID, "%s%s%s", path, path[0] == '\0' ? "" : ": ",
                     text);
}

static enum status arena_is_full(const struct decoder *decoder)
{
    return error_set(decoder->error, STATUS_FULL, "the message is too large");
}

static const char *kind_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a text";
    case JSON_INTEGER: return "a number";
    case JSON_REAL: return "a number with a fraction";
    case JSON_TRUE:
    case JSON_FALSE: return "true or false";
    default: return "null";
    }
}

/* --- values --------------------------------------------------------------------------------------
 */

struct integer {
    uint64_t magnitude;
    bool is_negative;
};

static bool integer_of_text(const char *text, struct integer *ret_integer)
{
    struct integer integer = { .is_negative = text[0] == '-' };
    text += integer.is_negative ? 1 : 0;
    if (text[0] == '\0' || strlen(text) > 20 || (text[0] == '0' && text[1] != '\0')) return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') return false;
        uint64_t digit = (uint64_t)(*text - '0');
        if (integer.magnitude > (UINT64_MAX - digit) / 10) return false;
        integer.magnitude = integer.magnitude * 10 + digit;
    }
    *ret_integer = integer;
    return true;
}

static bool integer_of(const json_t *value, struct integer *ret_integer)
{
    if (json_is_string(value))
        return strlen(json_string_value(value)) == json_string_length(value) &&
               integer_of_text(json_string_value(value), ret_integer);
    if (!json_is_integer(value)) return false;
    json_int_t number = json_integer_value(value);
    ret_integer->is_negative = number < 0;
    ret_integer->magnitude = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    return true;
}

/* The integer in two's complement, when it fits into BITS with or without a sign. */
static bool fit(struct integer integer, unsigned bits, bool is_signed, uint64_t *ret_value)
{
    uint64_t max = bits == 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1;
    if (is_signed) max = integer.is_negative ? max / 2 + 1 : max / 2;
    if (integer.is_negative && !is_signed && integer.magnitude != 0) return false;
    if (integer.magnitude > max) return false;
    *ret_value = integer.is_negative ? 0 - integer.magnitude : integer.magnitude;
    return true;
}

static enum status take_integer(const struct decoder *decoder, const struct place *place,
                                const json_t *value, unsigned bits, bool is_signed, void *ret_value)
{
    struct integer integer;
    uint64_t number;
    if (!integer_of(value, &integer))
        return refuse(decoder, place, "must be a whole number, not %s", kind_of(value));
    if (!fit(integer, bits, is_signed, &number))
        return refuse(decoder, place, "must be a number of %u bits%s", bits,
                      is_signed ? "" : ", not negative");
    uint32_t small = (uint32_t)number;
    if (bits == 64) {
        memcpy(ret_value, &number, sizeof number);
    } else {
        memcpy(ret_value, &small, sizeof small);
    }
    return STATUS_OK;
}

static enum status take_enum(const struct decoder *decoder, const struct place *place,
                             const json_t *value, const ProtobufCEnumDescriptor *descriptor,
                             void *ret_value)
{
    if (!json_is_string(value)) return take_integer(decoder, place, value, 32, true, ret_value);
    const char *text = json_string_value(value);
    const ProtobufCEnumValue *known =
        protobuf_c_enum_descriptor_get_value_by_name(descriptor, text);
    if (known != NULL) {
        memcpy(ret_value, &known->value, sizeof known->value);
        return STATUS_OK;
    }
    const char *names[FIELDS_MAX];
    size_t count = descriptor->n_value_names < FIELDS_MAX ? descriptor->n_value_names : FIELDS_MAX;
    for (size_t i = 0; i < count; i++) names[i] = descriptor->values_by_name[i].name;
    const char *closest = closest_word(text, names, count);
    if (closest != NULL)
        return refuse(decoder, place, "\"%.*s\" is not known; did you mean \"%s\"?",
                      SHOWN_BYTES_MAX, text, closest);
    return refuse(decoder, place, "\"%.*s\" is not one of its values", SHOWN_BYTES_MAX, text);
}

static enum status take_text(const struct decoder *decoder, const struct place *place,
                             const json_t *value, void *ret_text)
{
    if (!json_is_string(value))
        return refuse(decoder, place, "must be a text, not %s", kind_of(value));
    size_t length = json_string_length(value);
    if (strlen(json_string_value(value)) != length)
        return refuse(decoder, place, "must not contain the character 0");
    char *copy = arena_copy_text(decoder->arena, json_string_value(value), length);
    if (copy == NULL) return arena_is_full(decoder);
    memcpy(ret_text, &copy, sizeof copy);
    return STATUS_OK;
}

static enum status take_bytes(const struct decoder *decoder, const struct place *place,
                              const json_t *value, void *ret_data)
{
    if (!json_is_string(value))
        return refuse(decoder, place, "must be a text in base64, not %s", kind_of(value));
    struct bytes text = bytes_of(json_string_value(value), json_string_length(value));
    ProtobufCBinaryData data = { .data = arena_take(decoder->arena, text.size / 4 * 3 + 3) };
    if (data.data == NULL) return arena_is_full(decoder);
    if (base64_decode(text, data.data, &data.len) != STATUS_OK)
        return refuse(decoder, place, "is not base64");
    memcpy(ret_data, &data, sizeof data);
    return STATUS_OK;
}

static enum status take_message(struct decoder *decoder, const struct place *place,
                                const json_t *value, const ProtobufCMessageDescriptor *descriptor,
                                ProtobufCMessage **ret_message);

static enum status take_submessage(struct decoder *decoder, const struct place *place,
                                   const json_t *value,
                                   const ProtobufCMessageDescriptor *descriptor, void *ret_pointer)
{
    ProtobufCMessage *message;
    enum status status = take_message(decoder, place, value, descriptor, &message);
    if (status == STATUS_OK) memcpy(ret_pointer, &message, sizeof(void *));
    return status;
}

static enum status take_value(struct decoder *decoder, const struct place *place,
                              const json_t *value, const ProtobufCFieldDescriptor *field,
                              void *ret_value)
{
    protobuf_c_boolean truth;
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32: return take_integer(decoder, place, value, 32, true, ret_value);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: return take_integer(decoder, place, value, 32, false, ret_value);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64: return take_integer(decoder, place, value, 64, true, ret_value);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: return take_integer(decoder, place, value, 64, false, ret_value);
    case PROTOBUF_C_TYPE_BOOL:
        if (!json_is_boolean(value))
            return refuse(decoder, place, "must be true or false, not %s", kind_of(value));
        truth = json_is_true(value);
        memcpy(ret_value, &truth, sizeof truth);
        return STATUS_OK;
    case PROTOBUF_C_TYPE_ENUM:
        return take_enum(decoder, place, value, field->descriptor, ret_value);
    case PROTOBUF_C_TYPE_STRING: return take_text(decoder, place, value, ret_value);
    case PROTOBUF_C_TYPE_BYTES: return take_bytes(decoder, place, value, ret_value);
    case PROTOBUF_C_TYPE_MESSAGE:
        return take_submessage(decoder, place, value, field->descriptor, ret_value);
    default:
        return error_set(decoder->error, STATUS_UNSUPPORTED,
                         "numbers with a fraction have no JSON form here");
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
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE: return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES: return sizeof(ProtobufCBinaryData);
    default: return 4;
    }
}
_Static_assert(sizeof(protobuf_c_boolean) == 4, "a boolean is as wide as an enum");

/* --- lists and maps ------------------------------------------------------------------------------
 */

static enum status take_list(struct decoder *decoder, const struct place *place,
                             const json_t *value, const ProtobufCFieldDescriptor *field,
                             void *ret_array, size_t *ret_count)
{
    if (!json_is_array(value))
        return refuse(decoder, place, "must be a list, not %s", kind_of(value));
    size_t count = json_array_size(value), size = value_size(field->type);
    uint8_t *array = arena_take(decoder->arena, count * size);
    if (array == NULL) return arena_is_full(decoder);
    for (size_t i = 0; i < count; i++) {
        struct place element = { .above = place, .index = i };
        enum status status =
            take_value(decoder, &element, json_array_get(value, i), field, array + i * size);
        if (status != STATUS_OK) return status;
    }
    memcpy(ret_array, &array, sizeof array);
    *ret_count = count;
    return STATUS_OK;
}

static ProtobufCMessage *message_create(const struct decoder *decoder,
                                        const ProtobufCMessageDescriptor *descriptor)
{
    ProtobufCMessage *message = arena_take(decoder->arena, descriptor->sizeof_message);
    if (message != NULL) descriptor->message_init(message);
    return message;
}

static enum status take_entry(struct decoder *decoder, const struct place *place, const char *key,
                              const json_t *value, ProtobufCMessage *entry)
{
    const ProtobufCFieldDescriptor *fields = entry->descriptor->fields;
    json_t *text = json_string(key);
    if (text == NULL) return arena_is_full(decoder);
    enum status status =
        take_value(decoder, place, text, &fields[0], (uint8_t *)entry + fields[0].offset);
    json_decref(text);
    if (status != STATUS_OK) return status;
    return take_value(decoder, place, value, &fields[1], (uint8_t *)entry + fields[1].offset);
}

static enum status take_map(struct decoder *decoder, const struct place *place, json_t *value,
                            const ProtobufCMessageDescriptor *type, void *ret_array,
                            size_t *ret_count)
{
    if (!json_is_object(value))
        return refuse(decoder, place, "must be an object, not %s", kind_of(value));
    ProtobufCMessage **entries =
        arena_take(decoder->arena, json_object_size(value) * sizeof(void *));
    if (entries == NULL) return arena_is_full(decoder);
    size_t count = 0;
    const char *key;
    json_t *member;
    json_object_foreach(value, key, member)
    {
        struct place at = { .above = place, .name = key };
        entries[count] = message_create(decoder, type);
        if (entries[count] == NULL) return arena_is_full(decoder);
        enum status status = take_entry(decoder, &at, key, member, entries[count]);
        if (status != STATUS_OK) return status;
        count++;
    }
    memcpy(ret_array, &entries, sizeof(void *));
    *ret_count = count;
    return STATUS_OK;
}

/* --- messages ------------------------------------------------------------------------------------
 */

static const ProtobufCFieldDescriptor *field_named(const ProtobufCMessageDescriptor *descriptor,
                                                   const char *name)
{
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        char camel[JSON_NAME_BYTES_MAX + 1];
        json_name_of(descriptor->fields[i].name, camel);
        if (strcmp(name, camel) == 0 || strcmp(name, descriptor->fields[i].name) == 0)
            return &descriptor->fields[i];
    }
    return NULL;
}

static enum status refuse_unknown(const struct decoder *decoder, const struct place *place,
                                  const ProtobufCMessageDescriptor *descriptor, const char *name)
{
    char camels[FIELDS_MAX][SHORT_NAME_BYTES];
    const char *names[FIELDS_MAX];
    size_t count = 0;
    for (unsigned i = 0; i < descriptor->n_fields && count < FIELDS_MAX; i++) {
        char camel[JSON_NAME_BYTES_MAX + 1];
        json_name_of(descriptor->fields[i].name, camel);
        if (strlen(camel) >= sizeof camels[0]) continue;
        memcpy(camels[count], camel, strlen(camel) + 1);
        names[count] = camels[count];
        count++;
    }
    const char *closest = closest_word(name, names, count);
    if (closest == NULL) return refuse(decoder, place, "unknown field");
    return refuse(decoder, place, "unknown field; did you mean \"%s\"?", closest);
}

static enum status take_field(struct decoder *decoder, const struct place *place, json_t *value,
                              ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    uint8_t *member = (uint8_t *)message + field->offset;
    uint8_t *quantifier = (uint8_t *)message + field->quantifier_offset;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t count = 0;
        enum status status =
            json_is_map(message->descriptor, field)
                ? take_map(decoder, place, value, field->descriptor, member, &count)
                : take_list(decoder, place, value, field, member, &count);
        if (status == STATUS_OK) memcpy(quantifier, &count, sizeof count);
        return status;
    }
    uint32_t chosen = 0;
    bool is_choice = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    if (is_choice) {
        memcpy(&chosen, quantifier, sizeof chosen);
        if (chosen != 0) return refuse(decoder, place, "excludes another field that is given, too");
    }
    enum status status = take_value(decoder, place, value, field, member);
    if (status != STATUS_OK) return status;
    if (is_choice) {
        memcpy(quantifier, &field->id, sizeof field->id);
    } else if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->quantifier_offset != 0) {
        protobuf_c_boolean has = 1;
        memcpy(quantifier, &has, sizeof has);
    }
    return STATUS_OK;
}

static enum status take_message(struct decoder *decoder, const struct place *place,
                                const json_t *value, const ProtobufCMessageDescriptor *descriptor,
                                ProtobufCMessage **ret_message)
{
    if (!json_is_object(value))
        return refuse(decoder, place, "must be an object, not %s", kind_of(value));
    ProtobufCMessage *message = message_create(decoder, descriptor);
    if (message == NULL) return arena_is_full(decoder);
    const char *name;
    json_t *member;
    uint64_t seen = 0;
    json_object_foreach((json_t *)value, name, member)
    {
        struct place at = { .above = place, .name = name };
        const ProtobufCFieldDescriptor *field = field_named(descriptor, name);
        if (field == NULL) return refuse_unknown(decoder, &at, descriptor, name);
        unsigned index = (unsigned)(field - descriptor->fields);
        uint64_t bit = (uint64_t)1 << (index % 64);
        if (descriptor->n_fields <= 64 && (seen & bit) != 0)
            return refuse(decoder, &at, "is given under both of its names");
        seen |= bit;
        if (json_is_null(member)) continue;
        enum status status = take_field(decoder, &at, member, message, field);
        if (status != STATUS_OK) return status;
    }
    *ret_message = message;
    return STATUS_OK;
}

/* --- the text ------------------------------------------------------------------------------------
 */

/* How deeply brackets nest outside of strings: whether jansson may read it. */
static bool is_shallow(struct bytes text)
{
    unsigned depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (in_string) {
            if (c == '\\') i++;
            if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > JSON_DEPTH_MAX) return false;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

enum status json_decode(const ProtobufCMessageDescriptor *descriptor, struct bytes text,
                        struct arena *arena, void *ret_message, struct error *error)
{
    if (text.size > JSON_TEXT_BYTES_MAX)
        return error_set(error, STATUS_INVALID, "the text is larger than %d bytes",
                         JSON_TEXT_BYTES_MAX);
    if (!is_shallow(text))
        return error_set(error, STATUS_INVALID, "the text is nested more than %d levels deep",
                         JSON_DEPTH_MAX);
    json_error_t cause;
    json_t *root = json_loadb((const char *)text.data, text.size,
                              JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &cause);
    if (root == NULL)
        return error_set(error, STATUS_INVALID, "line %d, column %d: %s", cause.line, cause.column,
                         cause.text);
    struct decoder decoder = { .arena = arena, .error = error };
    ProtobufCMessage *message = NULL;
    enum status status = take_message(&decoder, NULL, root, descriptor, &message);
    json_decref(root);
    if (status == STATUS_OK) memcpy(ret_message, &message, sizeof(void *));
    return status;
}
