/* What json.c and json_decode.c share: names of fields, maps, base64. Not for others. */
#ifndef UNUM_WIRE_JSON_NAMES_H
#define UNUM_WIRE_JSON_NAMES_H

#include "base/bytes.h"

#include <protobuf-c/protobuf-c.h>

enum { JSON_NAME_BYTES_MAX = 63 };

/* "create_revision" is "createRevision". Cut at the maximum, which no field of ours reaches. */
void json_name_of(const char *name, char ret_name[JSON_NAME_BYTES_MAX + 1]);
/* protobuf-c shows a map as a list of messages "...FieldEntry { key, value }". */
bool json_is_map(const ProtobufCMessageDescriptor *parent, const ProtobufCFieldDescriptor *field);

size_t base64_encoded_size(size_t size);
/* base64_encoded_size(BYTES.size) characters, no NUL. */
void base64_encode(struct bytes bytes, char *ret_text);
/* Room for TEXT.size / 4 * 3 + 3 bytes. */
MUST_USE enum status base64_decode(struct bytes text, uint8_t *ret_bytes, size_t *ret_size);

/* The value of the field, and for lists the array and count behind it. */
static inline const void *json_member(const ProtobufCMessage *message, unsigned offset)
{
    return (const uint8_t *)message + offset;
}

#endif
