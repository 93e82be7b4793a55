/* Whatever arrives: nothing is read outside, every step uses some bytes, and a prefix of a good
 * head never is a good head of another size. */
#include "wire/http1.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_body(const struct http1_head *head, const uint8_t *bytes, size_t size)
{
    struct http1_body body;
    http1_body_init(&body, head);
    while (!body.is_done) {
        struct bytes piece;
        size_t used;
        struct error error;
        if (http1_body_decode(&body, bytes, size, &piece, &used, &error) != DECODE_OK) return;
        if (used > size || piece.size > used || used == 0) abort();
        bytes += used;
        size -= used;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http1_head head, again;
    struct error error;
    size_t used, used_again;
    if (http1_request_decode(data, size, &head, &used, &error) == DECODE_OK) {
        if (used > size || used > HTTP1_HEAD_BYTES_MAX) abort();
        if (http1_request_decode(data, used - 1, &again, &used_again, &error) != DECODE_MORE)
            abort();
        read_body(&head, data + used, size - used);
    }
    if (http1_answer_decode(data, size, false, &head, &used, &error) == DECODE_OK) {
        if (used > size || used > HTTP1_HEAD_BYTES_MAX) abort();
        read_body(&head, data + used, size - used);
    }
    struct http1_head chunked = { .body = HTTP1_BODY_CHUNKED };
    read_body(&chunked, data, size);
    return 0;
}
