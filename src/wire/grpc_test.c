/* A call and its messages arrive whole and once, its end arrives always, and nothing that a peer
 * sends does more than end its own connection.
 *
 * Method: a client and a server of ours joined in memory, each recording its events; then the
 * client's bytes cut at every length, split at every byte, changed at every byte; requests that
 * our client would never send come from a bare nghttp2 session. */
#include "wire/grpc.h"
#include "wire/grpc_memory.h"
#include "wire/grpc_text.h"

#include <nghttp2/nghttp2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { TRANSCRIPT_BYTES_MAX = 64 * 1024, CHUNK_BYTES = 16 * 1024 };

struct side {
    struct grpc_connection *connection;
    struct grpc_call *last;
    unsigned called, messages, half_closed, writable, ended;
    uint64_t timeout_ns;
    uint64_t message_bytes;
    char path[GRPC_PATH_BYTES_MAX + 1];
    char message[64]; /* the last one's beginning */
    enum grpc_status status;
    char text[GRPC_STATUS_TEXT_BYTES_MAX + 1];
    bool echoes;  /* answer each message with itself, and finish when the client has */
    bool cancels; /* cancel at the first message */
    enum grpc_status finish_with;
    const char *finish_text;
};

/* What a broken or full connection answers does not matter here. */
static void ignore(enum status status)
{
    (void)status;
}

struct pair {
    struct side client, server;
    struct buffer transcript; /* what the client sent */
};

static void on_called(void *context, struct grpc_call *call, const char *path, uint64_t timeout_ns)
{
    struct side *side = context;
    side->called++;
    side->last = call;
    side->timeout_ns = timeout_ns;
    (void)snprintf(side->path, sizeof side->path, "%s", path);
}

static void on_message(void *context, struct grpc_call *call, struct bytes message)
{
    struct side *side = context;
    side->messages++;
    side->message_bytes += message.size;
    size_t kept = message.size < sizeof side->message - 1 ? message.size : sizeof side->message - 1;
    if (kept > 0) memcpy(side->message, message.data, kept);
    side->message[kept] = '\0';
    if (side->cancels) grpc_call_cancel(call);
    if (side->echoes) ignore(grpc_call_send(call, message));
}

static void on_half_closed(void *context, struct grpc_call *call)
{
    struct side *side = context;
    side->half_closed++;
    if (side->echoes) grpc_call_finish(call, side->finish_with, side->finish_text);
}

static void on_writable(void *context, struct grpc_call *call)
{
    (void)call;
    struct side *side = context;
    side->writable++;
}

static void on_ended(void *context, struct grpc_call *call, enum grpc_status status,
                     const char *text)
{
    struct side *side = context;
    side->ended++;
    side->status = status;
    if (side->last == call) side->last = NULL;
    (void)snprintf(side->text, sizeof side->text, "%s", text);
}

static const struct grpc_events events = { on_called, on_message, on_half_closed, on_writable,
                                           on_ended };

static struct grpc_connection *connection_of(struct side *side, bool is_server)
{
    struct grpc_options options = {
        .is_server = is_server, .events = &events, .context = side, .authority = "computer"
    };
    struct grpc_connection *connection = NULL;
    assert_int_equal(grpc_connection_create(&options, &connection), STATUS_OK);
    return connection;
}

static void pair_init(struct pair *pair)
{
    memset(pair, 0, sizeof *pair);
    pair->client.connection = connection_of(&pair->client, false);
    pair->server.connection = connection_of(&pair->server, true);
    buffer_init(&pair->transcript, TRANSCRIPT_BYTES_MAX);
}

static void pair_finish(struct pair *pair)
{
    grpc_connection_destroy(pair->client.connection);
    grpc_connection_destroy(pair->server.connection);
    buffer_finish(&pair->transcript);
}

/* Move what FROM has to send, at most SIZE bytes. Returns how much it was. */
static size_t move(struct pair *pair, struct side *from, struct side *to, size_t size)
{
    static uint8_t bytes[CHUNK_BYTES];
    size_t used = 0;
    if (size > sizeof bytes) size = sizeof bytes;
    assert_int_equal(grpc_output(from->connection, bytes, size, &used), STATUS_OK);
    if (used == 0) return 0;
    if (from == &pair->client && pair->transcript.used + used <= TRANSCRIPT_BYTES_MAX)
        assert_int_equal(buffer_append(&pair->transcript, bytes, used), STATUS_OK);
    struct error error = { 0 };
    enum status status = grpc_receive(to->connection, bytes, used, &error);
    if (status != STATUS_OK) fail_msg("%s", error.text);
    return used;
}

static void settle(struct pair *pair)
{
    size_t moved;
    do {
        moved = move(pair, &pair->client, &pair->server, CHUNK_BYTES);
        moved += move(pair, &pair->server, &pair->client, CHUNK_BYTES);
    } while (moved > 0);
}

static struct grpc_call *start(struct pair *pair, const char *path)
{
    struct grpc_call *call = NULL;
    assert_int_equal(
        grpc_call_start(pair->client.connection, path, UINT64_MAX, &pair->client, &call),
        STATUS_OK);
    return call;
}

static void send_text(struct grpc_call *call, const char *text)
{
    assert_int_equal(grpc_call_send(call, bytes_of_text(text)), STATUS_OK);
}

static void a_unary_call_arrives_whole_and_is_answered_once(void **state)
{
    (void)state;
    static struct pair pair;
    pair_init(&pair);
    pair.server.echoes = true;
    struct grpc_call *call = NULL;
    assert_int_equal(
        grpc_call_start(pair.client.connection, "/unum.v1.Registry/Put", 1500000000, &pair, &call),
        STATUS_OK);
    assert_ptr_equal(grpc_call_attachment(call), &pair);
    send_text(call, "hello");
    grpc_call_half_close(call);
    settle(&pair);
    assert_string_equal(pair.server.path, "/unum.v1.Registry/Put");
    assert_true(pair.server.timeout_ns == 1500000000);
    assert_int_equal(pair.server.messages, 1);
    assert_string_equal(pair.server.message, "hello");
    assert_int_equal(pair.server.half_closed, 1);
    assert_int_equal(pair.server.ended, 1);
    assert_int_equal(pair.server.status, GRPC_OK);
    assert_int_equal(pair.client.messages, 1);
    assert_string_equal(pair.client.message, "hello");
    assert_int_equal(pair.client.ended, 1);
    assert_int_equal(pair.client.status, GRPC_OK);
    pair_finish(&pair);
}

static void an_error_arrives_with_its_sentence_even_with_strange_characters(void **state)
{
    (void)state;
    static const char sentence[] = "no key \"a%2fb\"\n \xc3\xa9 100%";
    for (int with_message = 0; with_message < 2; with_message++) {
        struct pair pair;
        pair_init(&pair);
        struct grpc_call *call = start(&pair, "/a.B/C");
        grpc_call_half_close(call);
        settle(&pair);
        if (with_message) send_text(pair.server.last, "before the end");
        grpc_call_finish(pair.server.last, GRPC_NOT_FOUND, sentence);
        settle(&pair);
        assert_int_equal(pair.client.ended, 1);
        assert_int_equal(pair.client.messages, with_message);
        assert_int_equal(pair.client.status, GRPC_NOT_FOUND);
        assert_string_equal(pair.client.text, sentence);
        pair_finish(&pair);
    }
}

static void an_answer_before_the_client_has_finished_ends_the_call_on_both_sides(void **state)
{
    (void)state;
    static struct pair pair;
    pair_init(&pair);
    struct grpc_call *call = start(&pair, "/a.B/C");
    send_text(call, "first");
    settle(&pair);
    grpc_call_finish(pair.server.last, GRPC_RESOURCE_EXHAUSTED, "enough");
    settle(&pair);
    assert_int_equal(pair.client.ended, 1);
    assert_int_equal(pair.client.status, GRPC_RESOURCE_EXHAUSTED);
    assert_int_equal(pair.server.ended, 1);
    assert_int_equal(pair.server.status, GRPC_RESOURCE_EXHAUSTED);
    pair_finish(&pair);
}

static void a_slow_reader_makes_the_sender_busy_and_then_writable(void **state)
{
    (void)state;
    enum { MESSAGES = 3000, MESSAGE_BYTES = 4096 };
    static uint8_t payload[MESSAGE_BYTES];
    static struct pair pair;
    pair_init(&pair);
    (void)start(&pair, "/a.B/Watch");
    settle(&pair);
    unsigned sent = 0, busy = 0;
    while (sent < MESSAGES) {
        store_u32_le(payload, sent);
        enum status status = grpc_call_send(pair.server.last, bytes_of(payload, sizeof payload));
        if (status == STATUS_OK) {
            sent++;
            continue;
        }
        assert_int_equal(status, STATUS_BUSY);
        assert_int_equal(pair.server.writable, busy);
        busy++;
        settle(&pair);
        assert_int_equal(pair.server.writable, busy);
    }
    assert_in_range(busy, 40, 60);
    grpc_call_finish(pair.server.last, GRPC_OK, NULL);
    settle(&pair);
    assert_int_equal(pair.client.messages, MESSAGES);
    assert_true(pair.client.message_bytes == (uint64_t)MESSAGES * MESSAGE_BYTES);
    assert_int_equal(load_u32_le((const uint8_t *)pair.client.message), MESSAGES - 1);
    assert_int_equal(pair.client.status, GRPC_OK);
    pair_finish(&pair);
}

static void all_calls_of_a_connection_share_a_maximum_of_waiting_output(void **state)
{
    (void)state;
    static struct pair pair;
    pair_init(&pair);
    uint8_t *large = calloc(1, LIMIT_MESSAGE_BYTES_MAX);
    assert_non_null(large);
    struct grpc_call *calls[3];
    for (int i = 0; i < 3; i++) {
        calls[i] = start(&pair, "/a.B/C");
        assert_int_equal(grpc_call_send(calls[i], bytes_of(large, 3 << 20)),
                         i < 2 ? STATUS_OK : STATUS_BUSY);
    }
    settle(&pair);
    assert_int_equal(pair.client.writable, 1);
    assert_int_equal(grpc_call_send(calls[2], bytes_of(large, 3 << 20)), STATUS_OK);
    settle(&pair);
    assert_int_equal(pair.server.messages, 3);
    free(large);
    pair_finish(&pair);
}

static void the_largest_message_passes_and_a_larger_one_is_refused(void **state)
{
    (void)state;
    static struct pair pair;
    pair_init(&pair);
    pair.server.echoes = true;
    uint8_t *large = calloc(1, LIMIT_MESSAGE_BYTES_MAX + 1);
    assert_non_null(large);
    struct grpc_call *call = start(&pair, "/a.B/C");
    assert_int_equal(grpc_call_send(call, bytes_of(large, LIMIT_MESSAGE_BYTES_MAX + 1)),
                     STATUS_INVALID);
    assert_int_equal(grpc_call_send(call, bytes_of(large, LIMIT_MESSAGE_BYTES_MAX)), STATUS_OK);
    grpc_call_half_close(call);
    settle(&pair);
    assert_int_equal(pair.client.status, GRPC_OK);
    assert_true(pair.client.message_bytes == LIMIT_MESSAGE_BYTES_MAX);
    free(large);
    pair_finish(&pair);
}

static void a_call_that_is_held_stops_its_sender_at_the_window(void **state)
{
    (void)state;
    enum { MESSAGES = 1000, MESSAGE_BYTES = 4096 };
    static uint8_t payload[MESSAGE_BYTES];
    static struct pair pair;
    pair_init(&pair);
    struct grpc_call *call = start(&pair, "/a.B/Exec");
    settle(&pair);
    grpc_call_hold(pair.server.last);
    unsigned sent = 0;
    while (grpc_call_send(call, bytes_of(payload, sizeof payload)) == STATUS_OK) {
        sent++;
        settle(&pair);
        assert_true(sent < MESSAGES);
    }
    assert_true(pair.server.message_bytes <= 1024ull * 1024);
    grpc_call_release(pair.server.last);
    settle(&pair);
    assert_int_equal(pair.server.messages, sent);
    assert_int_equal(pair.client.writable, 1);
    pair_finish(&pair);
}

static void a_cancelled_call_ends_on_both_sides(void **state)
{
    (void)state;
    static struct pair pair;
    pair_init(&pair);
    struct grpc_call *call = start(&pair, "/a.B/C");
    settle(&pair);
    grpc_call_cancel(call);
    assert_int_equal(grpc_call_send(call, bytes_of_text("late")), STATUS_CLOSED);
    settle(&pair);
    assert_int_equal(pair.client.ended, 1);
    assert_int_equal(pair.client.status, GRPC_CANCELLED);
    assert_int_equal(pair.server.ended, 1);
    assert_int_equal(pair.server.status, GRPC_CANCELLED);

    pair.server.cancels = true;
    call = start(&pair, "/a.B/C");
    send_text(call, "x");
    settle(&pair);
    assert_int_equal(pair.client.ended, 2);
    assert_int_equal(pair.server.ended, 2);
    pair_finish(&pair);
}

static void a_broken_connection_ends_every_call_on_both_sides(void **state)
{
    (void)state;
    static struct pair pair;
    pair_init(&pair);
    for (int i = 0; i < 5; i++) (void)start(&pair, "/a.B/C");
    settle(&pair);
    grpc_connection_destroy(pair.client.connection);
    grpc_connection_destroy(pair.server.connection);
    pair.client.connection = pair.server.connection = NULL;
    assert_int_equal(pair.client.ended, 5);
    assert_int_equal(pair.server.ended, 5);
    assert_int_equal(pair.client.status, GRPC_UNAVAILABLE);
    assert_int_equal(pair.server.status, GRPC_UNAVAILABLE);
    pair_finish(&pair);
}

static void more_calls_than_the_maximum_are_busy_and_none_is_lost(void **state)
{
    (void)state;
    static struct pair pair;
    pair_init(&pair);
    settle(&pair);
    struct grpc_call *call = NULL;
    for (int i = 0; i < GRPC_CALLS_MAX; i++) call = start(&pair, "/a.B/C");
    struct grpc_call *more = NULL;
    assert_int_equal(grpc_call_start(pair.client.connection, "/a.B/C", UINT64_MAX, NULL, &more),
                     STATUS_BUSY);
    settle(&pair);
    assert_int_equal(pair.server.called, GRPC_CALLS_MAX);
    grpc_call_cancel(call);
    settle(&pair);
    (void)start(&pair, "/a.B/C");
    settle(&pair);
    assert_int_equal(pair.server.called, GRPC_CALLS_MAX + 1);
    pair_finish(&pair);
    assert_int_equal(pair.client.ended, GRPC_CALLS_MAX + 1);
}

static void a_draining_server_finishes_what_is_open_and_takes_nothing_new(void **state)
{
    (void)state;
    static struct pair pair;
    pair_init(&pair);
    struct grpc_call *call = start(&pair, "/a.B/C");
    settle(&pair);
    grpc_drain(pair.server.connection);
    /* A call that is on its way meanwhile is told to go elsewhere. */
    (void)start(&pair, "/a.B/Late");
    settle(&pair);
    assert_int_equal(pair.client.ended, 1);
    assert_int_equal(pair.client.status, GRPC_UNAVAILABLE);
    struct grpc_call *more = NULL;
    assert_int_equal(grpc_call_start(pair.client.connection, "/a.B/C", UINT64_MAX, NULL, &more),
                     STATUS_CLOSED);
    assert_false(grpc_finished(pair.server.connection));
    send_text(call, "still here");
    grpc_call_half_close(call);
    settle(&pair);
    assert_string_equal(pair.server.message, "still here");
    grpc_call_finish(pair.server.last, GRPC_OK, NULL);
    settle(&pair);
    assert_int_equal(pair.client.ended, 2);
    assert_int_equal(pair.client.status, GRPC_OK);
    assert_true(grpc_finished(pair.server.connection));
    pair_finish(&pair);
}

/* The bytes of a client that makes three calls, one of them streaming. */
static void record_transcript(struct pair *pair)
{
    pair_init(pair);
    pair->server.echoes = true;
    struct grpc_call *calls[3];
    for (int i = 0; i < 3; i++) {
        calls[i] = start(pair, "/unum.v1.Registry/Range");
        send_text(calls[i], "one message");
        settle(pair);
    }
    send_text(calls[1], "another message");
    for (int i = 0; i < 3; i++) grpc_call_half_close(calls[i]);
    settle(pair);
    assert_int_equal(pair->server.messages, 4);
    assert_int_equal(pair->client.ended, 3);
}

static void a_transcript_split_at_every_byte_means_the_same(void **state)
{
    (void)state;
    static struct pair pair;
    record_transcript(&pair);
    struct side side = { .echoes = true };
    side.connection = connection_of(&side, true);
    for (size_t i = 0; i < pair.transcript.used; i++) {
        uint8_t byte = pair.transcript.data[i];
        assert_int_equal(grpc_receive(side.connection, &byte, 1, NULL), STATUS_OK);
    }
    static uint8_t bytes[CHUNK_BYTES];
    size_t used = 0;
    assert_int_equal(grpc_output(side.connection, bytes, sizeof bytes, &used), STATUS_OK);
    assert_int_equal(side.called, 3);
    assert_int_equal(side.messages, 4);
    assert_int_equal(side.half_closed, 3);
    assert_int_equal(side.ended, 3);
    grpc_connection_destroy(side.connection);
    pair_finish(&pair);
}

static void after_every_truncation_each_call_ends_exactly_once(void **state)
{
    (void)state;
    static struct pair pair;
    record_transcript(&pair);
    for (size_t cut = 0; cut < pair.transcript.used; cut++) {
        struct side side = { .echoes = true };
        side.connection = connection_of(&side, true);
        uint8_t *copy = malloc(cut + 1);
        assert_non_null(copy);
        memcpy(copy, pair.transcript.data, cut);
        assert_int_equal(grpc_receive(side.connection, copy, cut, NULL), STATUS_OK);
        free(copy);
        grpc_connection_destroy(side.connection);
        assert_int_equal(side.called, side.ended);
    }
    pair_finish(&pair);
}

static void a_changed_byte_harms_at_most_its_own_connection(void **state)
{
    (void)state;
    static struct pair pair;
    record_transcript(&pair);
    unsigned refused = 0;
    for (size_t i = 0; i < pair.transcript.used; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            struct side side = { .echoes = true };
            side.connection = connection_of(&side, true);
            struct error error = { 0 };
            pair.transcript.data[i] ^= (uint8_t)(1 << bit);
            enum status status =
                grpc_receive(side.connection, pair.transcript.data, pair.transcript.used, &error);
            pair.transcript.data[i] ^= (uint8_t)(1 << bit);
            if (status != STATUS_OK) {
                refused++;
                assert_int_equal(status, STATUS_INVALID);
                assert_true(error.text[0] != '\0');
            }
            static uint8_t bytes[CHUNK_BYTES];
            size_t used = 0;
            ignore(grpc_output(side.connection, bytes, sizeof bytes, &used));
            grpc_connection_destroy(side.connection);
            assert_int_equal(side.called, side.ended);
        }
    }
    assert_true(refused > 200);
    pair_finish(&pair);
}

static void a_peer_that_does_not_speak_http2_is_told_apart_by_a_sentence(void **state)
{
    (void)state;
    struct side side = { 0 };
    side.connection = connection_of(&side, true);
    struct error error = { 0 };
    assert_int_equal(grpc_receive(side.connection, "GET / HTTP/1.1\r\n\r\n", 18, &error),
                     STATUS_INVALID);
    assert_string_equal(error.text,
                        "the peer does not speak HTTP/2: it begins with \"GET / HTTP/1.1..\"");
    assert_int_equal(grpc_receive(side.connection, "more", 4, &error), STATUS_INVALID);
    grpc_connection_destroy(side.connection);
}

/* The first DATA frame of the client's bytes gets another prefix. */
static void check_prefix(const uint8_t prefix[5], enum grpc_status expected)
{
    static struct pair pair;
    pair_init(&pair);
    struct grpc_call *call = start(&pair, "/a.B/C");
    send_text(call, "find me");
    grpc_call_half_close(call);
    static uint8_t bytes[CHUNK_BYTES];
    size_t used = 0;
    assert_int_equal(grpc_output(pair.client.connection, bytes, sizeof bytes, &used), STATUS_OK);
    uint8_t *found = memmem(bytes, used, "find me", 7);
    assert_non_null(found);
    memcpy(found - 5, prefix, 5);
    assert_int_equal(grpc_receive(pair.server.connection, bytes, used, NULL), STATUS_OK);
    settle(&pair);
    assert_int_equal(pair.server.messages, 0);
    assert_int_equal(pair.server.ended, 1);
    assert_int_equal(pair.client.ended, 1);
    assert_int_equal(pair.client.status, expected);
    assert_true(pair.client.text[0] != '\0');
    pair_finish(&pair);
}

static void a_compressed_an_oversized_and_a_cut_message_are_each_refused_by_name(void **state)
{
    (void)state;
    check_prefix((uint8_t[]) { 1, 0, 0, 0, 7 }, GRPC_UNIMPLEMENTED);
    check_prefix((uint8_t[]) { 2, 0, 0, 0, 7 }, GRPC_INTERNAL);
    check_prefix((uint8_t[]) { 0, 0, 0x40, 0, 1 }, GRPC_RESOURCE_EXHAUSTED);
    check_prefix((uint8_t[]) { 0, 0xff, 0xff, 0xff, 0xff }, GRPC_RESOURCE_EXHAUSTED);
    check_prefix((uint8_t[]) { 0, 0, 0, 0, 8 }, GRPC_INTERNAL);
}

/* --- requests of a foreign client --------------------------------------------------------------
 */

struct answer {
    char http_status[8];
    char grpc_status[8];
    char content_type[32];
};

static int on_answer_header(nghttp2_session *session, const nghttp2_frame *frame,
                            const uint8_t *name, size_t name_size, const uint8_t *value,
                            size_t value_size, uint8_t flags, void *user)
{
    (void)session, (void)frame, (void)flags;
    struct answer *answer = user;
    struct {
        const char *name;
        char *to;
        size_t size;
    } wanted[] = {
        { ":status", answer->http_status, sizeof answer->http_status },
        { "grpc-status", answer->grpc_status, sizeof answer->grpc_status },
        { "content-type", answer->content_type, sizeof answer->content_type },
    };
    for (size_t i = 0; i < 3; i++)
        if (bytes_equal(bytes_of(name, name_size), bytes_of_text(wanted[i].name)))
            (void)snprintf(wanted[i].to, wanted[i].size, "%.*s", (int)value_size, value);
    return 0;
}

static void ask(const char *const (*headers)[2], size_t count, struct side *side,
                struct answer *ret_answer)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_session *session;
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_answer_header);
    memset(ret_answer, 0, sizeof *ret_answer);
    assert_int_equal(nghttp2_session_client_new(&session, callbacks, ret_answer), 0);
    nghttp2_nv values[16];
    for (size_t i = 0; i < count; i++)
        values[i] = (nghttp2_nv) { .name = (uint8_t *)headers[i][0],
                                   .value = (uint8_t *)headers[i][1],
                                   .namelen = strlen(headers[i][0]),
                                   .valuelen = strlen(headers[i][1]) };
    assert_int_equal(nghttp2_submit_settings(session, 0, NULL, 0), 0);
    assert_true(nghttp2_submit_request(session, NULL, values, count, NULL, NULL) > 0);
    const uint8_t *out;
    ssize_t size;
    while ((size = nghttp2_session_mem_send(session, &out)) > 0)
        assert_int_equal(grpc_receive(side->connection, out, (size_t)size, NULL), STATUS_OK);
    static uint8_t bytes[CHUNK_BYTES];
    size_t used = 0;
    assert_int_equal(grpc_output(side->connection, bytes, sizeof bytes, &used), STATUS_OK);
    assert_int_equal(nghttp2_session_mem_recv(session, bytes, used), (int)used);
    nghttp2_session_del(session);
    nghttp2_session_callbacks_del(callbacks);
}

static void check_request(const char *name, const char *value, const char *http_status,
                          const char *grpc_status)
{
    const char *headers[][2] = {
        { ":method", "POST" },       { ":scheme", "https" },
        { ":path", "/a.B/C" },       { ":authority", "x" },
        { "te", "trailers" },        { "content-type", "application/grpc" },
        { "user-agent", "foreign" }, { "grpc-timeout", "10S" }
    };
    size_t count = sizeof headers / sizeof headers[0];
    for (size_t i = 0; i < count; i++)
        if (name != NULL && strcmp(headers[i][0], name) == 0) headers[i][1] = value;
    struct side side = { .echoes = true };
    side.connection = connection_of(&side, true);
    struct answer answer;
    ask((const char *const(*)[2])headers, count, &side, &answer);
    assert_string_equal(answer.http_status, http_status);
    assert_string_equal(answer.grpc_status, grpc_status);
    assert_int_equal(side.called, 0);
    grpc_connection_destroy(side.connection);
}

static void a_request_that_is_not_grpc_is_refused_by_its_http_status(void **state)
{
    (void)state;
    check_request("content-type", "application/json", "415", "2");
    check_request("content-type", "application/grpc+json", "415", "2");
    check_request(":method", "GET", "405", "2");
    check_request("grpc-timeout", "soon", "200", "3");
    check_request("grpc-timeout", "123456789S", "200", "3");
    char path[200];
    memset(path, 'p', sizeof path);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    check_request(":path", path, "200", "12");
    static char agent[10000];
    memset(agent, 'a', sizeof agent - 1);
    check_request("user-agent", agent, "200", "8");
}

static ssize_t read_never(nghttp2_session *session, int32_t stream_id, uint8_t *bytes, size_t size,
                          uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)session, (void)stream_id, (void)bytes, (void)size, (void)flags, (void)source, (void)user;
    return NGHTTP2_ERR_DEFERRED;
}

static int on_reset(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)session;
    unsigned *resets = user;
    if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code == NGHTTP2_NO_ERROR)
        ++*resets;
    return 0;
}

static void a_client_that_goes_on_sending_after_the_answer_is_asked_to_stop(void **state)
{
    (void)state;
    nghttp2_session_callbacks *callbacks;
    nghttp2_session *session;
    unsigned resets = 0;
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_reset);
    assert_int_equal(nghttp2_session_client_new(&session, callbacks, &resets), 0);
    static const char *const headers[][2] = { { ":method", "POST" },
                                              { ":scheme", "http" },
                                              { ":path", "/a.B/C" },
                                              { ":authority", "x" },
                                              { "content-type", "application/grpc" } };
    nghttp2_nv values[5];
    for (size_t i = 0; i < 5; i++)
        values[i] = (nghttp2_nv) { .name = (uint8_t *)headers[i][0],
                                   .value = (uint8_t *)headers[i][1],
                                   .namelen = strlen(headers[i][0]),
                                   .valuelen = strlen(headers[i][1]) };
    nghttp2_data_provider provider = { .read_callback = read_never };
    assert_int_equal(nghttp2_submit_settings(session, 0, NULL, 0), 0);
    assert_true(nghttp2_submit_request(session, NULL, values, 5, &provider, NULL) > 0);
    struct side side = { 0 };
    side.connection = connection_of(&side, true);
    const uint8_t *out;
    ssize_t size;
    while ((size = nghttp2_session_mem_send(session, &out)) > 0)
        assert_int_equal(grpc_receive(side.connection, out, (size_t)size, NULL), STATUS_OK);
    assert_int_equal(side.called, 1);
    grpc_call_finish(side.last, GRPC_NOT_FOUND, "none");
    static uint8_t bytes[CHUNK_BYTES];
    size_t used = 0;
    assert_int_equal(grpc_output(side.connection, bytes, sizeof bytes, &used), STATUS_OK);
    assert_int_equal(nghttp2_session_mem_recv(session, bytes, used), (int)used);
    assert_int_equal(resets, 1);
    assert_int_equal(side.ended, 1);
    assert_int_equal(side.status, GRPC_NOT_FOUND);
    nghttp2_session_del(session);
    nghttp2_session_callbacks_del(callbacks);
    grpc_connection_destroy(side.connection);
}

static void a_client_that_exhausts_the_budget_loses_its_connection_only(void **state)
{
    (void)state;
    struct side side = { 0 };
    static struct pair pair;
    pair_init(&pair);
    struct grpc_options options = {
        .is_server = true, .events = &events, .context = &side, .memory_bytes_max = 128ull * 1024
    };
    assert_int_equal(grpc_connection_create(&options, &side.connection), STATUS_OK);
    for (int i = 0; i < 100; i++) (void)start(&pair, "/a.B/C");
    static uint8_t bytes[CHUNK_BYTES];
    size_t used = 0;
    struct error error = { 0 };
    enum status status = STATUS_OK;
    for (int round = 0; round < 200 && status == STATUS_OK; round++) {
        ignore(grpc_output(pair.client.connection, bytes, sizeof bytes, &used));
        status = grpc_receive(side.connection, bytes, used, &error);
        ignore(grpc_output(side.connection, bytes, sizeof bytes, &used));
        assert_int_equal(grpc_receive(pair.client.connection, bytes, used, NULL), STATUS_OK);
        for (int i = 0; i < 20 && pair.client.ended == 0; i++) {
            struct grpc_call *call;
            if (grpc_call_start(pair.client.connection, "/a.B/C", UINT64_MAX, NULL, &call) !=
                STATUS_OK)
                break;
        }
    }
    assert_int_equal(status, STATUS_NO_MEMORY);
    assert_string_equal(error.text, "the connection needs more memory than its budget");
    grpc_connection_destroy(side.connection);
    assert_int_equal(side.called, side.ended);
    pair_finish(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unary_call_arrives_whole_and_is_answered_once),
        cmocka_unit_test(an_error_arrives_with_its_sentence_even_with_strange_characters),
        cmocka_unit_test(an_answer_before_the_client_has_finished_ends_the_call_on_both_sides),
        cmocka_unit_test(a_slow_reader_makes_the_sender_busy_and_then_writable),
        cmocka_unit_test(all_calls_of_a_connection_share_a_maximum_of_waiting_output),
        cmocka_unit_test(the_largest_message_passes_and_a_larger_one_is_refused),
        cmocka_unit_test(a_call_that_is_held_stops_its_sender_at_the_window),
        cmocka_unit_test(a_cancelled_call_ends_on_both_sides),
        cmocka_unit_test(a_broken_connection_ends_every_call_on_both_sides),
        cmocka_unit_test(more_calls_than_the_maximum_are_busy_and_none_is_lost),
        cmocka_unit_test(a_draining_server_finishes_what_is_open_and_takes_nothing_new),
        cmocka_unit_test(a_transcript_split_at_every_byte_means_the_same),
        cmocka_unit_test(after_every_truncation_each_call_ends_exactly_once),
        cmocka_unit_test(a_changed_byte_harms_at_most_its_own_connection),
        cmocka_unit_test(a_peer_that_does_not_speak_http2_is_told_apart_by_a_sentence),
        cmocka_unit_test(a_compressed_an_oversized_and_a_cut_message_are_each_refused_by_name),
        cmocka_unit_test(a_request_that_is_not_grpc_is_refused_by_its_http_status),
        cmocka_unit_test(a_client_that_goes_on_sending_after_the_answer_is_asked_to_stop),
        cmocka_unit_test(a_client_that_exhausts_the_budget_loses_its_connection_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
