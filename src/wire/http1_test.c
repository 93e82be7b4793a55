/* A message means one thing only, however it is cut, and what could mean two things is refused.
 *
 * Method: good messages whole, cut at every length and in every two pieces; a table of bad ones
 * with the sentence of each; pipelined ones; chunked bodies in pieces of every size. */
#include "wire/http1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { TEXT_BYTES_MAX = 64 * 1024 };

static const char get[] = "GET /health?x=1 HTTP/1.1\r\nHost: a.example\r\nAccept:\t*/* \r\n"
                          "X-Empty:\r\nConnection: Upgrade, Close\r\n\r\n";

static enum decode decode_request(const char *text, struct http1_head *ret_head, size_t *ret_used,
                                  struct error *error)
{
    return http1_request_decode((const uint8_t *)text, strlen(text), ret_head, ret_used, error);
}

static void check_text(struct bytes bytes, const char *expected)
{
    assert_true(bytes_equal(bytes, bytes_of_text(expected)));
}

static void a_request_is_read_whole(void **state)
{
    (void)state;
    struct http1_head head;
    size_t used;
    assert_int_equal(decode_request(get, &head, &used, NULL), DECODE_OK);
    assert_int_equal(used, strlen(get));
    check_text(head.method, "GET");
    check_text(head.target, "/health?x=1");
    assert_int_equal(head.minor, 1);
    assert_int_equal(head.header_count, 4);
    check_text(http1_find(&head, "ACCEPT"), "*/*");
    check_text(http1_find(&head, "x-empty"), "");
    assert_null(http1_find(&head, "x-none").data);
    assert_false(head.keep_alive);
    assert_int_equal(head.body, HTTP1_BODY_NONE);
}

static void every_truncation_of_a_head_wants_more(void **state)
{
    (void)state;
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    const char *const texts[] = { get, answer };
    for (size_t which = 0; which < 2; which++) {
        for (size_t cut = 0; cut < strlen(texts[which]); cut++) {
            uint8_t *copy = malloc(cut + 1);
            assert_non_null(copy);
            memcpy(copy, texts[which], cut);
            struct http1_head head;
            size_t used;
            enum decode decode = which == 0
                                     ? http1_request_decode(copy, cut, &head, &used, NULL)
                                     : http1_answer_decode(copy, cut, false, &head, &used, NULL);
            assert_int_equal(decode, DECODE_MORE);
            free(copy);
        }
    }
}

static void pipelined_requests_come_one_after_the_other(void **state)
{
    (void)state;
    static const char two[] = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
                              "\r\nGET /b HTTP/1.0\r\n\r\nrest";
    struct http1_head head;
    struct http1_body body;
    struct bytes piece;
    size_t used, at = 0;
    assert_int_equal(decode_request(two, &head, &used, NULL), DECODE_OK);
    assert_true(head.keep_alive);
    assert_int_equal(head.body, HTTP1_BODY_LENGTH);
    at += used;
    http1_body_init(&body, &head);
    assert_int_equal(
        http1_body_decode(&body, (const uint8_t *)two + at, strlen(two + at), &piece, &used, NULL),
        DECODE_OK);
    check_text(piece, "abc");
    assert_true(body.is_done);
    at += used;
    assert_int_equal(decode_request(two + at, &head, &used, NULL), DECODE_OK);
    check_text(head.target, "/b");
    assert_false(head.keep_alive);
    check_text(bytes_of_text(two + at + used), "rest");
}

struct wrong {
    const char *text;
    const char *sentence;
};

static void what_could_be_read_in_two_ways_is_refused(void **state)
{
    (void)state;
    static const struct wrong wrongs[] = {
        { "GET / HTTP/1.1\nHost: x\r\n\r\n", "byte 0 of the HTTP head: a line ends without CR LF" },
        { "GET /\r\n\r\n",
          "byte 0 of the HTTP head: the request line is not METHOD TARGET VERSION" },
        { "G@T / HTTP/1.1\r\n\r\n", "byte 0 of the HTTP head: the method is malformed" },
        { "GET / HTTP/2.0\r\n\r\n", "byte 0 of the HTTP head: the version is not HTTP/1.0 or 1.1" },
        { "GET  / HTTP/1.1\r\n\r\n",
          "byte 0 of the HTTP head: the target is malformed or longer than 4096 bytes" },
        { "GET / HTTP/1.1\r\n\r\n", "byte 18 of the HTTP head: no host" },
        { "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "byte 36 of the HTTP head: two hosts" },
        { "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
          "byte 16 of the HTTP head: a header line is malformed" },
        { "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
          "byte 25 of the HTTP head: a header line is malformed" },
        { "GET / HTTP/1.1\r\nHost: a\x01\r\n\r\n",
          "byte 16 of the HTTP head: a header's value is malformed" },
        { "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
          "byte 16 of the HTTP head: a header's value is malformed" },
        { "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
          "byte 66 of the HTTP head: two content lengths" },
        { "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
          "byte 48 of the HTTP head: the content length is malformed or too large" },
        { "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
          "byte 66 of the HTTP head: the content length is malformed or too large" },
        { "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
          "byte 75 of the HTTP head: a content length beside chunked" },
        { "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
          "byte 62 of the HTTP head: a transfer encoding other than chunked" },
        { "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
          "byte 47 of the HTTP head: chunked in HTTP/1.0" },
    };
    for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++) {
        struct http1_head head;
        struct error error = { 0 };
        size_t used;
        assert_int_equal(decode_request(wrongs[i].text, &head, &used, &error), DECODE_BAD);
        assert_string_equal(error.text, wrongs[i].sentence);
    }
}

static void a_head_has_a_maximum_of_bytes_and_headers(void **state)
{
    (void)state;
    struct http1_head head;
    struct error error = { 0 };
    size_t used;
    static char text[TEXT_BYTES_MAX];
    size_t size = (size_t)snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    memset(text + size, 'x', HTTP1_HEAD_BYTES_MAX);
    assert_int_equal(
        http1_request_decode((uint8_t *)text, HTTP1_HEAD_BYTES_MAX, &head, &used, &error),
        DECODE_MORE);
    assert_int_equal(
        http1_request_decode((uint8_t *)text, HTTP1_HEAD_BYTES_MAX + 1, &head, &used, &error),
        DECODE_BAD);
    assert_string_equal(error.text, "byte 25 of the HTTP head: it is larger than 16 KiB");

    size = (size_t)snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < HTTP1_HEADERS_MAX; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, "x: y\r\n");
    assert_int_equal(http1_request_decode((uint8_t *)text, size, &head, &used, &error), DECODE_BAD);
    assert_string_equal(error.text, "byte 403 of the HTTP head: more than 64 headers");
}

/* Feeds TEXT in pieces of STEP bytes, keeping what was not used; the body's bytes into RET_BODY. */
static enum decode read_chunked(const char *text, size_t step, char *ret_body, size_t *ret_rest)
{
    struct http1_head head = { .body = HTTP1_BODY_CHUNKED };
    struct http1_body body;
    size_t size = strlen(text), start = 0, end = 0, length = 0;
    http1_body_init(&body, &head);
    while (!body.is_done) {
        struct bytes piece;
        size_t used;
        enum decode decode = http1_body_decode(&body, (const uint8_t *)text + start, end - start,
                                               &piece, &used, NULL);
        if (decode == DECODE_BAD) return DECODE_BAD;
        if (decode == DECODE_MORE) {
            if (end == size) return DECODE_MORE;
            end = size - end < step ? size : end + step;
            continue;
        }
        if (piece.size > 0) memcpy(ret_body + length, piece.data, piece.size);
        length += piece.size;
        start += used;
    }
    ret_body[length] = '\0';
    *ret_rest = size - start;
    return DECODE_OK;
}

static void a_chunked_body_is_the_same_in_pieces_of_every_size(void **state)
{
    (void)state;
    static const char text[] = "5\r\nhello\r\n00A;name=\"v\"\r\n, my world\r\n0\r\nTrailer: x\r\n"
                               "\r\nGET";
    for (size_t step = 1; step < sizeof text; step++) {
        char body[64];
        size_t rest;
        assert_int_equal(read_chunked(text, step, body, &rest), DECODE_OK);
        assert_string_equal(body, "hello, my world");
        assert_int_equal(rest, 3);
    }
    for (size_t cut = 0; cut < sizeof text - 4; cut++) {
        char part[sizeof text], body[64];
        size_t rest;
        memcpy(part, text, cut);
        part[cut] = '\0';
        assert_int_equal(read_chunked(part, 7, body, &rest), DECODE_MORE);
    }
}

static void a_malformed_chunk_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "\r\n",
                                       "g\r\n",
                                       "5 \r\nhello\r\n",
                                       "5\nhello\r\n",
                                       "5\r\nhelloX",
                                       "5\r\nhello\rX",
                                       "-1\r\n",
                                       "0x5\r\nhello\r\n",
                                       "fffffffffffffffff\r\n",
                                       "ffffffffffff\r\n",
                                       "5;\x01\r\nhello\r\n" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char body[64];
        size_t rest;
        assert_int_equal(read_chunked(bad[i], 1, body, &rest), DECODE_BAD);
    }
    static char longest[HTTP1_CHUNK_LINE_BYTES_MAX + 2];
    memset(longest, '0', sizeof longest - 1);
    char body[64];
    size_t rest;
    assert_int_equal(read_chunked(longest, 1, body, &rest), DECODE_BAD);
    static char trailers[2 * HTTP1_TRAILER_BYTES_MAX];
    size_t size = (size_t)snprintf(trailers, sizeof trailers, "0\r\n");
    while (size + 8 < sizeof trailers)
        size += (size_t)snprintf(trailers + size, sizeof trailers - size, "a: b\r\n");
    assert_int_equal(read_chunked(trailers, 100, body, &rest), DECODE_BAD);
}

static void the_body_of_an_answer_ends_as_its_head_says(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is_head;
        enum http1_body_kind kind;
        bool keep_alive;
    } answers[] = {
        { "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", false, HTTP1_BODY_LENGTH, true },
        { "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", true, HTTP1_BODY_NONE, true },
        { "HTTP/1.1 200\r\n\r\n", false, HTTP1_BODY_TO_END, false },
        { "HTTP/1.0 404 Not Found\r\n\r\n", false, HTTP1_BODY_TO_END, false },
        { "HTTP/1.1 204 \r\n\r\n", false, HTTP1_BODY_NONE, true },
        { "HTTP/1.1 304 x\r\nContent-Length: 7\r\n\r\n", false, HTTP1_BODY_NONE, true },
        { "HTTP/1.1 500 x\r\ntransfer-encoding: Chunked\r\n\r\n", false, HTTP1_BODY_CHUNKED, true },
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct http1_head head;
        size_t used;
        assert_int_equal(http1_answer_decode((const uint8_t *)answers[i].text,
                                             strlen(answers[i].text), answers[i].is_head, &head,
                                             &used, NULL),
                         DECODE_OK);
        assert_int_equal(head.body, answers[i].kind);
        assert_int_equal(head.keep_alive, answers[i].keep_alive);
        assert_int_equal(head.status, strtoul(answers[i].text + 9, NULL, 10));
    }
    static const char *const bad[] = { "HTTP/1.1 20 OK\r\n\r\n",
                                       "HTTP/1.1 600 OK\r\n\r\n",
                                       "HTTP/1.1 2000\r\n\r\n",
                                       "ICY 200 OK\r\n\r\n",
                                       "\r\n",
                                       "SSH-2.0-OpenSSH_9.2\r\n" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct http1_head head;
        size_t used;
        assert_int_equal(
            http1_answer_decode((const uint8_t *)bad[i], strlen(bad[i]), false, &head, &used, NULL),
            DECODE_BAD);
    }
}

static void what_is_sent_reads_back(void **state)
{
    (void)state;
    struct buffer buffer;
    struct http1_head head;
    size_t used;
    buffer_init(&buffer, TEXT_BYTES_MAX);
    assert_int_equal(http1_request_encode(&buffer, "GET", "/health", "127.0.0.1:80", false),
                     STATUS_OK);
    assert_int_equal(http1_request_decode(buffer.data, buffer.used, &head, &used, NULL), DECODE_OK);
    check_text(head.target, "/health");
    check_text(http1_find(&head, "host"), "127.0.0.1:80");
    assert_false(head.keep_alive);
    buffer.used = 0;
    assert_int_equal(http1_request_encode(&buffer, "GET", "/a b", "x", true), STATUS_INVALID);
    assert_int_equal(http1_request_encode(&buffer, "GET", "/", "x\r\nEvil: y", true),
                     STATUS_INVALID);
    assert_int_equal(buffer.used, 0);
    assert_int_equal(http1_answer_encode(&buffer, 404, "text/plain", bytes_of_text("none"), true),
                     STATUS_OK);
    assert_int_equal(http1_answer_decode(buffer.data, buffer.used, false, &head, &used, NULL),
                     DECODE_OK);
    assert_int_equal(head.status, 404);
    assert_int_equal(head.body_bytes, 4);
    assert_int_equal(buffer.used - used, 4);
    buffer_finish(&buffer);
    buffer_init(&buffer, 30);
    assert_int_equal(http1_answer_encode(&buffer, 200, NULL, bytes_of(NULL, 0), true), STATUS_FULL);
    assert_int_equal(buffer.used, 0);
    buffer_finish(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_read_whole),
        cmocka_unit_test(every_truncation_of_a_head_wants_more),
        cmocka_unit_test(pipelined_requests_come_one_after_the_other),
        cmocka_unit_test(what_could_be_read_in_two_ways_is_refused),
        cmocka_unit_test(a_head_has_a_maximum_of_bytes_and_headers),
        cmocka_unit_test(a_chunked_body_is_the_same_in_pieces_of_every_size),
        cmocka_unit_test(a_malformed_chunk_is_refused),
        cmocka_unit_test(the_body_of_an_answer_ends_as_its_head_says),
        cmocka_unit_test(what_is_sent_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
