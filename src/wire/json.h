/* JSON: messages of the public interface as texts, and back, by protobuf-c's descriptors.
 *
 * The proto3 JSON mapping: names in lowerCamelCase (reading also takes those of the .proto file),
 * 64-bit integers as strings (reading also takes numbers), bytes as base64 (reading also the URL
 * alphabet and without padding), enums by name (reading also by number), maps as objects, null as
 * "not set". Unknown fields are refused. Numbers with a fraction are not in our interface: a field
 * of type float or double is STATUS_UNSUPPORTED.
 * Pure but for memory. */
#ifndef UNUM_WIRE_JSON_H
#define UNUM_WIRE_JSON_H

#include "base/arena.h"
#include "base/error.h"

#include <protobuf-c/protobuf-c.h>

enum {
    JSON_TEXT_BYTES_MAX = 1024 * 1024, /* to read; to write, the buffer's own maximum holds */
    JSON_DEPTH_MAX = 32,               /* of nested objects and lists; a transaction needs 9 */
};

enum json_style {
    JSON_COMPACT = 0,  /* one line without spaces, no line end */
    JSON_PRETTY = 1,   /* indented by two; ends with a line end */
    JSON_DEFAULTS = 2, /* also fields that are 0, false, "" or empty lists */
};

/* Append MESSAGE to BUFFER; STYLE is made of enum json_style. Bytes of a text that are not UTF-8
 * become U+FFFD. STATUS_FULL, STATUS_NO_MEMORY: nothing was appended. */
MUST_USE enum status json_encode(const ProtobufCMessage *message, unsigned style,
                                 struct buffer *buffer, struct error *error);

/* A message of type DESCRIPTOR from TEXT; it lives in ARENA. STATUS_INVALID: ERROR names the place
 * ("jobs[2].count: ...", or line and column), and the closest known field for an unknown one.
 * STATUS_FULL: the arena's maximum. */
MUST_USE enum status json_decode(const ProtobufCMessageDescriptor *descriptor, struct bytes text,
                                 struct arena *arena, void *ret_message, struct error *error);

#endif
