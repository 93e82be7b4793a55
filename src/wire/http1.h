/* HTTP/1.1, sans-io: heads of requests and answers, bodies piece by piece, and what we send.
 *
 * A message is a head, decoded whole from contiguous bytes (DECODE_MORE: call again from the same
 * start with more), and a body, decoded as it arrives. What is left over belongs to the next
 * message (pipelining). Strict where leniency lets two readers disagree (RFC 9112, 11.2): line ends
 * are CR LF, no folded lines, no space before a colon, one length at most, no length beside
 * "chunked", no transfer coding but "chunked". Nothing is copied: slices point into the input.
 * Pure. Source: RFC 9110, RFC 9112. */
#ifndef UNUM_WIRE_HTTP1_H
#define UNUM_WIRE_HTTP1_H

#include "base/bytes.h"
#include "base/error.h"

enum {
    HTTP1_HEAD_BYTES_MAX = 16 * 1024,
    HTTP1_HEADERS_MAX = 64,
    HTTP1_METHOD_BYTES_MAX = 16,
    HTTP1_TARGET_BYTES_MAX = 4096,
    HTTP1_CHUNK_LINE_BYTES_MAX = 256, /* a chunk's size with its extensions */
    HTTP1_TRAILER_BYTES_MAX = 4096,
};
#define HTTP1_BODY_BYTES_MAX ((uint64_t)1 << 40) /* a length that anyone may announce */

enum http1_body_kind {
    HTTP1_BODY_NONE,
    HTTP1_BODY_LENGTH,
    HTTP1_BODY_CHUNKED,
    HTTP1_BODY_TO_END, /* answers only: until the connection ends */
};

struct http1_header {
    struct bytes name; /* as it was sent: compare without case, see http1_find */
    struct bytes value;
};

struct http1_head {
    struct bytes method, target; /* of a request */
    unsigned status;             /* of an answer, 100..599 */
    struct http1_header headers[HTTP1_HEADERS_MAX];
    size_t header_count;
    unsigned minor; /* HTTP/1.MINOR: 0 or 1 */
    bool keep_alive;
    enum http1_body_kind body;
    uint64_t body_bytes; /* of HTTP1_BODY_LENGTH */
};

/* Outputs are written on DECODE_OK only; ERROR on DECODE_BAD: a sentence with the byte offset. */
enum decode http1_request_decode(const uint8_t *bytes, size_t size, struct http1_head *ret_head,
                                 size_t *ret_used, struct error *error);
/* IS_HEAD: it answers a HEAD request, so no body follows. */
enum decode http1_answer_decode(const uint8_t *bytes, size_t size, bool is_head,
                                struct http1_head *ret_head, size_t *ret_used, struct error *error);
/* The value of the first header NAME (any case); empty when there is none. */
struct bytes http1_find(const struct http1_head *head, const char *name);

struct http1_body {
    enum http1_body_kind kind;
    uint64_t left; /* of the length or the chunk */
    unsigned state;
    size_t trailer_bytes;
    bool is_done;
};

void http1_body_init(struct http1_body *body, const struct http1_head *head);
/* The next piece. DECODE_OK: RET_PIECE (may be empty) points into BYTES, RET_USED bytes are done
 * with, look at is_done. DECODE_MORE: nothing could be used. DECODE_BAD: close the peer. The caller
 * adds up the pieces and keeps its own maximum. */
enum decode http1_body_decode(struct http1_body *body, const uint8_t *bytes, size_t size,
                              struct bytes *ret_piece, size_t *ret_used, struct error *error);

/* Append a request without a body. STATUS_INVALID: a part has a character that has no place there.
 */
MUST_USE enum status http1_request_encode(struct buffer *buffer, const char *method,
                                          const char *target, const char *host, bool keep_alive);
/* Append a whole answer. CONTENT_TYPE may be NULL when there is no body. */
MUST_USE enum status http1_answer_encode(struct buffer *buffer, unsigned status,
                                         const char *content_type, struct bytes body,
                                         bool keep_alive);
/* "OK", "Not Found"; "" for one that has no name here. */
const char *http1_reason(unsigned status);

#endif
