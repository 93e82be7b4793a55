/* The small texts of gRPC's headers: timeouts, percent-encoded messages, content types, codes.
 * Pure. Source: the gRPC over HTTP2 protocol document. */
#ifndef UNUM_WIRE_GRPC_TEXT_H
#define UNUM_WIRE_GRPC_TEXT_H

#include "base/bytes.h"
#include "wire/grpc.h"

enum {
    GRPC_TIMEOUT_TEXT_BYTES = 10, /* eight digits, a unit, NUL */
    GRPC_MESSAGE_ENCODED_BYTES_MAX = 3 * GRPC_STATUS_TEXT_BYTES_MAX,
};

/* "100m" and the like: 1 to 8 digits and a unit of HMSmun. */
MUST_USE enum status grpc_timeout_parse(struct bytes text, uint64_t *ret_ns);
/* The finest unit that holds it, rounded down, so that the server gives up no later than we. */
size_t grpc_timeout_format(uint64_t timeout_ns, char ret_text[GRPC_TIMEOUT_TEXT_BYTES]);

/* At most GRPC_STATUS_TEXT_BYTES_MAX of TEXT, percent-encoded into RET_BYTES, which has room for
 * GRPC_MESSAGE_ENCODED_BYTES_MAX. Returns the size. */
size_t grpc_message_encode(const char *text, uint8_t *ret_bytes);
/* The reverse; an escape that is none stands for itself, a NUL becomes '?', the rest is cut. */
void grpc_message_decode(struct bytes encoded, char ret_text[GRPC_STATUS_TEXT_BYTES_MAX + 1]);

/* "application/grpc", "application/grpc+proto", each perhaps with parameters. */
bool grpc_content_type_is_ours(struct bytes text);

/* The decimal text of a status, of static lifetime. */
const char *grpc_status_text(enum grpc_status status);
/* GRPC_UNKNOWN for anything but a known decimal number. */
enum grpc_status grpc_status_parse(struct bytes text);
/* The status that stands for an HTTP status other than 200, and for an HTTP/2 error code. */
enum grpc_status grpc_status_of_http(unsigned http_status);
enum grpc_status grpc_status_of_reset(uint32_t error_code);

#endif
