#include "wire/http1.h"

#include <inttypes.h>
#include <stdio.h>

/* --- characters ----------------------------------------------------------------------------------
 */

static bool is_token(uint8_t c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return true;
    return c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool is_value(uint8_t c)
{
    return c == '\t' || (c >= 0x20 && c != 0x7f);
}

static bool is_target(uint8_t c)
{
    return c > 0x20 && c < 0x7f;
}

static bool all_are(struct bytes text, bool (*is)(uint8_t c))
{
    for (size_t i = 0; i < text.size; i++)
        if (!is(text.data[i])) return false;
    return true;
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
}

static bool same_word(struct bytes text, const char *word)
{
    if (text.size != strlen(word)) return false;
    for (size_t i = 0; i < text.size; i++)
        if (lower(text.data[i]) != lower((uint8_t)word[i])) return false;
    return true;
}

/* --- lines ---------------------------------------------------------------------------------------
 */

struct cursor {
    const uint8_t *bytes;
    size_t size;
    size_t at;
    struct error *error;
};

static enum decode bad(const struct cursor *cursor, const char *what)
{
    (void)error_set(cursor->error, STATUS_INVALID, "byte %zu of the HTTP head: %s", cursor->at,
                    what);
    return DECODE_BAD;
}

/* The line at the cursor, without its CR LF. */
static enum decode take_line(struct cursor *cursor, struct bytes *ret_line)
{
    size_t left = cursor->size - cursor->at;
    if (left == 0) return DECODE_MORE;
    const uint8_t *start = cursor->bytes + cursor->at;
    const uint8_t *end = memchr(start, '\n', left);
    size_t length = end == NULL ? left : (size_t)(end - start) + 1;
    if (cursor->at + length > HTTP1_HEAD_BYTES_MAX) return bad(cursor, "it is larger than 16 KiB");
    if (end == NULL) return DECODE_MORE;
    if (end == start || end[-1] != '\r') return bad(cursor, "a line ends without CR LF");
    *ret_line = bytes_of(start, length - 2);
    cursor->at += length;
    return DECODE_OK;
}

static struct bytes trimmed(struct bytes text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t'))
        text.size--;
    return text;
}

/* What stands before SEPARATOR, which is taken too; false when there is none. */
static bool split(struct bytes *text, uint8_t separator, struct bytes *ret_part)
{
    const uint8_t *found = text->size == 0 ? NULL : memchr(text->data, separator, text->size);
    if (found == NULL) return false;
    size_t length = (size_t)(found - text->data);
    *ret_part = bytes_of(text->data, length);
    *text = bytes_of(found + 1, text->size - length - 1);
    return true;
}

/* --- heads ---------------------------------------------------------------------------------------
 */

static bool take_version(struct bytes text, unsigned *ret_minor)
{
    if (text.size != 8 || memcmp(text.data, "HTTP/1.", 7) != 0) return false;
    if (text.data[7] != '0' && text.data[7] != '1') return false;
    *ret_minor = (unsigned)(text.data[7] - '0');
    return true;
}

static enum decode take_request_line(struct cursor *cursor, struct bytes line,
                                     struct http1_head *head)
{
    cursor->at -= line.size + 2; /* where the sentence points to */
    if (!split(&line, ' ', &head->method) || !split(&line, ' ', &head->target))
        return bad(cursor, "the request line is not METHOD TARGET VERSION");
    if (head->method.size == 0 || head->method.size > HTTP1_METHOD_BYTES_MAX ||
        !all_are(head->method, is_token))
        return bad(cursor, "the method is malformed");
    if (head->target.size == 0 || head->target.size > HTTP1_TARGET_BYTES_MAX ||
        !all_are(head->target, is_target))
        return bad(cursor, "the target is malformed or longer than 4096 bytes");
    if (!take_version(line, &head->minor)) return bad(cursor, "the version is not HTTP/1.0 or 1.1");
    cursor->at = (size_t)(line.data + line.size - cursor->bytes) + 2;
    return DECODE_OK;
}

static enum decode take_status_line(struct cursor *cursor, struct bytes line,
                                    struct http1_head *head)
{
    struct bytes version, reason = line;
    size_t after = cursor->at;
    cursor->at -= line.size + 2;
    if (!split(&reason, ' ', &version) || !take_version(version, &head->minor))
        return bad(cursor, "the answer does not begin with HTTP/1.0 or HTTP/1.1");
    if (reason.size < 3 || (reason.size > 3 && reason.data[3] != ' ') || !all_are(reason, is_value))
        return bad(cursor, "the status is malformed");
    for (size_t i = 0; i < 3; i++) {
        if (reason.data[i] < '0' || reason.data[i] > '9')
            return bad(cursor, "the status is malformed");
        head->status = head->status * 10 + (unsigned)(reason.data[i] - '0');
    }
    if (head->status < 100 || head->status > 599) return bad(cursor, "the status is out of range");
    cursor->at = after;
    return DECODE_OK;
}

static enum decode take_header(struct cursor *cursor, struct bytes line, struct http1_head *head)
{
    struct http1_header header;
    size_t after = cursor->at;
    cursor->at -= line.size + 2;
    if (!split(&line, ':', &header.name) || header.name.size == 0 ||
        !all_are(header.name, is_token))
        return bad(cursor, "a header line is malformed");
    header.value = trimmed(line);
    if (!all_are(header.value, is_value)) return bad(cursor, "a header's value is malformed");
    if (head->header_count == HTTP1_HEADERS_MAX) return bad(cursor, "more than 64 headers");
    head->headers[head->header_count++] = header;
    cursor->at = after;
    return DECODE_OK;
}

static bool take_length(struct bytes text, uint64_t *ret_length)
{
    uint64_t length = 0;
    if (text.size == 0 || text.size > 15) return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        length = length * 10 + (uint64_t)(text.data[i] - '0');
    }
    if (length > HTTP1_BODY_BYTES_MAX) return false;
    *ret_length = length;
    return true;
}

/* Where a body ends is the one thing on which two readers must not disagree. */
static enum decode judge_body(struct cursor *cursor, struct http1_head *head)
{
    bool has_length = false, has_coding = false;
    for (size_t i = 0; i < head->header_count; i++) {
        const struct http1_header *header = &head->headers[i];
        if (same_word(header->name, "content-length")) {
            if (has_length) return bad(cursor, "two content lengths");
            if (!take_length(header->value, &head->body_bytes))
                return bad(cursor, "the content length is malformed or too large");
            has_length = true;
        } else if (same_word(header->name, "transfer-encoding")) {
            if (has_coding || !same_word(header->value, "chunked"))
                return bad(cursor, "a transfer encoding other than chunked");
            has_coding = true;
        }
    }
    if (has_length && has_coding) return bad(cursor, "a content length beside chunked");
    if (has_coding && head->minor == 0) return bad(cursor, "chunked in HTTP/1.0");
    if (has_coding) head->body = HTTP1_BODY_CHUNKED;
    if (has_length) head->body = head->body_bytes == 0 ? HTTP1_BODY_NONE : HTTP1_BODY_LENGTH;
    return DECODE_OK;
}

/* Whether WORD is one of the words of a list like "keep-alive, upgrade". */
static bool lists_word(struct bytes list, const char *word)
{
    struct bytes part;
    while (split(&list, ',', &part))
        if (same_word(trimmed(part), word)) return true;
    return same_word(trimmed(list), word);
}

static void judge_connection(struct http1_head *head)
{
    head->keep_alive = head->minor == 1;
    for (size_t i = 0; i < head->header_count; i++) {
        if (!same_word(head->headers[i].name, "connection")) continue;
        if (lists_word(head->headers[i].value, "close")) {
            head->keep_alive = false;
            return;
        }
        if (lists_word(head->headers[i].value, "keep-alive")) head->keep_alive = true;
    }
}

static enum decode take_headers(struct cursor *cursor, struct http1_head *head)
{
    for (;;) {
        struct bytes line;
        enum decode decode = take_line(cursor, &line);
        if (decode != DECODE_OK) return decode;
        if (line.size == 0) break;
        decode = take_header(cursor, line, head);
        if (decode != DECODE_OK) return decode;
    }
    judge_connection(head);
    return judge_body(cursor, head);
}

static enum decode judge_host(struct cursor *cursor, const struct http1_head *head)
{
    unsigned hosts = 0;
    for (size_t i = 0; i < head->header_count; i++)
        if (same_word(head->headers[i].name, "host")) hosts++;
    if (hosts > 1) return bad(cursor, "two hosts");
    if (hosts == 0 && head->minor == 1) return bad(cursor, "no host");
    return DECODE_OK;
}

enum decode http1_request_decode(const uint8_t *bytes, size_t size, struct http1_head *ret_head,
                                 size_t *ret_used, struct error *error)
{
    struct cursor cursor = { .bytes = bytes, .size = size, .error = error };
    struct http1_head head;
    head.header_count = 0;
    head.status = 0;
    head.body = HTTP1_BODY_NONE;
    head.body_bytes = 0;
    struct bytes line;
    enum decode decode = take_line(&cursor, &line);
    /* One empty line is left over by careless clients. */
    if (decode == DECODE_OK && line.size == 0) decode = take_line(&cursor, &line);
    if (decode == DECODE_OK) decode = take_request_line(&cursor, line, &head);
    if (decode == DECODE_OK) decode = take_headers(&cursor, &head);
    if (decode == DECODE_OK) decode = judge_host(&cursor, &head);
    if (decode != DECODE_OK) return decode;
    *ret_head = head;
    *ret_used = cursor.at;
    return DECODE_OK;
}

enum decode http1_answer_decode(const uint8_t *bytes, size_t size, bool is_head,
                                struct http1_head *ret_head, size_t *ret_used, struct error *error)
{
    struct cursor cursor = { .bytes = bytes, .size = size, .error = error };
    struct http1_head head;
    head.header_count = 0;
    head.status = 0;
    head.body = HTTP1_BODY_TO_END;
    head.body_bytes = 0;
    head.method = head.target = bytes_of(NULL, 0);
    struct bytes line;
    enum decode decode = take_line(&cursor, &line);
    if (decode == DECODE_OK) decode = take_status_line(&cursor, line, &head);
    if (decode == DECODE_OK) decode = take_headers(&cursor, &head);
    if (decode != DECODE_OK) return decode;
    if (is_head || head.status < 200 || head.status == 204 || head.status == 304)
        head.body = HTTP1_BODY_NONE;
    if (head.body == HTTP1_BODY_TO_END) head.keep_alive = false;
    *ret_head = head;
    *ret_used = cursor.at;
    return DECODE_OK;
}

struct bytes http1_find(const struct http1_head *head, const char *name)
{
    for (size_t i = 0; i < head->header_count; i++)
        if (same_word(head->headers[i].name, name)) return head->headers[i].value;
    return bytes_of(NULL, 0);
}

/* --- bodies --------------------------------------------------------------------------------------
 */

enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER };

void http1_body_init(struct http1_body *body, const struct http1_head *head)
{
    *body = (struct http1_body) { .kind = head->body,
                                  .left = head->body_bytes,
                                  .state = CHUNK_SIZE,
                                  .is_done = head->body == HTTP1_BODY_NONE };
}

static enum decode bad_chunk(struct error *error, const char *what)
{
    (void)error_set(error, STATUS_INVALID, "the chunked body: %s", what);
    return DECODE_BAD;
}

/* The line at the front, with its CR LF; BAD when it is longer than SIZE_MAX. */
static enum decode chunk_line(const uint8_t *bytes, size_t size, size_t size_max,
                              struct bytes *ret_line, struct error *error)
{
    size_t looked = size < size_max ? size : size_max;
    const uint8_t *end = looked == 0 ? NULL : memchr(bytes, '\n', looked);
    if (end == NULL && size >= size_max) return bad_chunk(error, "a line is too long");
    if (end == NULL) return DECODE_MORE;
    if (end == bytes || end[-1] != '\r') return bad_chunk(error, "a line ends without CR LF");
    *ret_line = bytes_of(bytes, (size_t)(end - bytes) + 1);
    return DECODE_OK;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum decode take_chunk_size(struct http1_body *body, const uint8_t *bytes, size_t size,
                                   size_t *ret_used, struct error *error)
{
    struct bytes line;
    enum decode decode = chunk_line(bytes, size, HTTP1_CHUNK_LINE_BYTES_MAX, &line, error);
    if (decode != DECODE_OK) return decode;
    uint64_t length = 0;
    size_t digits = 0;
    while (hex_value(line.data[digits]) >= 0) {
        length = length << 4 | (uint64_t)hex_value(line.data[digits]);
        if (++digits > 15 || length > HTTP1_BODY_BYTES_MAX)
            return bad_chunk(error, "a chunk is too large");
    }
    /* Extensions are passed over, but must look like some. */
    struct bytes rest = bytes_of(line.data + digits, line.size - 2 - digits);
    if (digits == 0 || (rest.size > 0 && rest.data[0] != ';') || !all_are(rest, is_value))
        return bad_chunk(error, "a chunk's size is malformed");
    body->left = length;
    body->state = length == 0 ? CHUNK_TRAILER : CHUNK_DATA;
    *ret_used = line.size;
    return DECODE_OK;
}

static enum decode take_chunk_end(struct http1_body *body, const uint8_t *bytes, size_t size,
                                  size_t *ret_used, struct error *error)
{
    if (size > 0 && bytes[0] != '\r') return bad_chunk(error, "a chunk is not followed by CR LF");
    if (size < 2) return DECODE_MORE;
    if (bytes[1] != '\n') return bad_chunk(error, "a chunk is not followed by CR LF");
    body->state = CHUNK_SIZE;
    *ret_used = 2;
    return DECODE_OK;
}

/* Trailers are passed over. */
static enum decode take_trailer(struct http1_body *body, const uint8_t *bytes, size_t size,
                                size_t *ret_used, struct error *error)
{
    struct bytes line;
    enum decode decode =
        chunk_line(bytes, size, HTTP1_TRAILER_BYTES_MAX - body->trailer_bytes, &line, error);
    if (decode != DECODE_OK) return decode;
    body->trailer_bytes += line.size;
    body->is_done = line.size == 2;
    *ret_used = line.size;
    return DECODE_OK;
}

static enum decode take_data(struct http1_body *body, const uint8_t *bytes, size_t size,
                             struct bytes *ret_piece, size_t *ret_used)
{
    if (size == 0) return DECODE_MORE;
    if (body->kind != HTTP1_BODY_TO_END && size > body->left) size = (size_t)body->left;
    if (body->kind != HTTP1_BODY_TO_END) body->left -= size;
    *ret_piece = bytes_of(bytes, size);
    *ret_used = size;
    return DECODE_OK;
}

enum decode http1_body_decode(struct http1_body *body, const uint8_t *bytes, size_t size,
                              struct bytes *ret_piece, size_t *ret_used, struct error *error)
{
    struct bytes piece = bytes_of(NULL, 0);
    size_t used = 0;
    enum decode decode = DECODE_OK;
    if (body->is_done) {
        /* Nothing of BYTES belongs to it. */
    } else if (body->kind != HTTP1_BODY_CHUNKED) {
        decode = take_data(body, bytes, size, &piece, &used);
        if (body->kind == HTTP1_BODY_LENGTH && body->left == 0) body->is_done = true;
    } else if (body->state == CHUNK_DATA) {
        decode = take_data(body, bytes, size, &piece, &used);
        if (body->left == 0) body->state = CHUNK_DATA_END;
    } else if (body->state == CHUNK_SIZE) {
        decode = take_chunk_size(body, bytes, size, &used, error);
    } else if (body->state == CHUNK_DATA_END) {
        decode = take_chunk_end(body, bytes, size, &used, error);
    } else {
        decode = take_trailer(body, bytes, size, &used, error);
    }
    if (decode != DECODE_OK) return decode;
    *ret_piece = piece;
    *ret_used = used;
    return DECODE_OK;
}

/* --- what we send
 * ----------------------------------------------------------------------------------
 */

static enum status append_text(struct buffer *buffer, const char *text)
{
    return buffer_append(buffer, text, strlen(text));
}

enum status http1_request_encode(struct buffer *buffer, const char *method, const char *target,
                                 const char *host, bool keep_alive)
{
    struct bytes parts[] = { bytes_of_text(method), bytes_of_text(target), bytes_of_text(host) };
    if (parts[0].size == 0 || !all_are(parts[0], is_token) || parts[1].size == 0 ||
        !all_are(parts[1], is_target) || !all_are(parts[2], is_target))
        return STATUS_INVALID;
    const char *texts[] = { method,
                            " ",
                            target,
                            " HTTP/1.1\r\nHost: ",
                            host,
                            "\r\n",
                            "User-Agent: unum\r\nAccept: */*\r\n",
                            keep_alive ? "\r\n" : "Connection: close\r\n\r\n" };
    size_t used = buffer->used;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        enum status status = append_text(buffer, texts[i]);
        if (status == STATUS_OK) continue;
        buffer->used = used;
        return status;
    }
    return STATUS_OK;
}

const char *http1_reason(unsigned status)
{
    switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 411: return "Length Required";
    case 413: return "Content Too Large";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    default: return "";
    }
}

enum status http1_answer_encode(struct buffer *buffer, unsigned status, const char *content_type,
                                struct bytes body, bool keep_alive)
{
    char head[512];
    int length = snprintf(
        head, sizeof head, "HTTP/1.1 %03u %s\r\n%s%.200s%sContent-Length: %zu\r\n%s\r\n", status,
        http1_reason(status),
        content_type == NULL ? "" : "Content-Type: ", content_type == NULL ? "" : content_type,
        content_type == NULL ? "" : "\r\n", body.size, keep_alive ? "" : "Connection: close\r\n");
    if (length < 0 || (size_t)length >= sizeof head) return STATUS_INVALID;
    size_t used = buffer->used;
    enum status result = buffer_append(buffer, head, (size_t)length);
    if (result == STATUS_OK) result = buffer_append(buffer, body.data, body.size);
    if (result != STATUS_OK) buffer->used = used;
    return result;
}
