/* The port answers who may ask, bounds who may not, and what one client does harms no other.
 *
 * Method: the port and its clients are fibers of one reactor over loopback TCP, plain and with TLS;
 * well-behaved clients are libunum's, the others write bytes. Run once for each backend. */
#include "node/serve.h"

#include "client/client.h"
#include "client/credential.h"
#include "identity/authority.h"
#include "reactor/real_test.h"
#include "unum/v1/computer.pb-c.h"
#include "unum/v1/registry.pb-c.h"

enum { REPLY_ARENA_BYTES = 8 * 1024 * 1024, LOG_BYTES = 4096 };
static const uint64_t SECOND_MS = 1000;

static const struct id computer = { { 7 } };

/* What the services did. */
struct fixture {
    struct serve *serve;
    struct client *client;
    struct arena arena;
    struct error error;
    char log[LOG_BYTES];
    unsigned log_lines;
    unsigned puts, puts_running, cancelled, watching;
    unsigned unavailable_left; /* puts to answer with UNAVAILABLE */
    struct id session;
    uint64_t sequence;
    char principal[SERVE_PRINCIPAL_BYTES_MAX + 1];
    const struct authority *authority; /* NULL: plain */
    struct tls_context *server_tls, *client_tls;
    uint64_t expires_ms;
};

/* --- a service -----------------------------------------------------------------------------------
 */

static enum status wait_forever(struct fixture *fixture)
{
    enum status status = fiber_sleep_until_ns(DEADLINE_NEVER);
    if (status == STATUS_CANCELLED) fixture->cancelled++;
    return status;
}

static enum status put(struct fixture *fixture, const Unum__V1__PutRequest *request,
                       struct buffer *reply, struct error *error)
{
    char key[32];
    (void)snprintf(key, sizeof key, "%.*s", (int)request->key.len, (const char *)request->key.data);
    fixture->puts++;
    if (request->context != NULL && request->context->session.len == ID_BYTES) {
        memcpy(fixture->session.bytes, request->context->session.data, ID_BYTES);
        fixture->sequence = request->context->sequence;
    }
    if (strcmp(key, "denied") == 0) return error_set(error, STATUS_DENIED, "not \"you\", 100%%");
    if (strcmp(key, "wait") == 0) return wait_forever(fixture);
    if (strcmp(key, "yield") == 0) {
        enum status status = fiber_sleep_ns(20ull * MS);
        if (status != STATUS_OK) return status;
    }
    if (fixture->unavailable_left > 0) {
        fixture->unavailable_left--;
        return error_set(error, STATUS_UNAVAILABLE, "no leader");
    }
    Unum__V1__PutResponse response = UNUM__V1__PUT_RESPONSE__INIT;
    response.revision = request->value.len;
    return proto_pack(&response.base, reply);
}

static enum status unary(void *context, const char *method, struct serve_call *call,
                         struct bytes request, struct buffer *reply, struct error *error)
{
    struct fixture *fixture = context;
    (void)snprintf(fixture->principal, sizeof fixture->principal, "%s", serve_call_principal(call));
    if (strcmp(method, "Put") != 0)
        return error_set(error, STATUS_UNSUPPORTED, "no method %s", method);
    const Unum__V1__PutRequest *message =
        proto_unpack(&unum__v1__put_request__descriptor, serve_call_arena(call), request);
    if (message == NULL) return error_set(error, STATUS_INVALID, "not a PutRequest");
    fixture->puts_running++;
    enum status status = put(fixture, message, reply, error);
    fixture->puts_running--;
    return status;
}

static enum status watch(struct fixture *fixture, struct serve_call *call)
{
    static uint8_t filler[4000];
    struct bytes bytes;
    enum status status = serve_call_receive(call, DEADLINE_NEVER, &bytes);
    if (status != STATUS_OK) return status;
    Unum__V1__WatchRequest *request =
        proto_unpack(&unum__v1__watch_request__descriptor, serve_call_arena(call), bytes);
    if (request == NULL) return STATUS_INVALID;
    struct buffer reply;
    buffer_init(&reply, LIMIT_MESSAGE_BYTES_MAX);
    fixture->watching++;
    for (uint64_t i = 1; i <= request->start_revision && status == STATUS_OK; i++) {
        Unum__V1__KeyValue item = UNUM__V1__KEY_VALUE__INIT;
        item.value.data = filler;
        item.value.len = sizeof filler;
        Unum__V1__Event event = UNUM__V1__EVENT__INIT, *events = &event;
        event.item = &item;
        Unum__V1__WatchResponse response = UNUM__V1__WATCH_RESPONSE__INIT;
        response.revision = i;
        response.n_events = 1;
        response.events = &events;
        reply.used = 0;
        status = proto_pack(&response.base, &reply);
        if (status == STATUS_OK) status = serve_call_send(call, bytes_of(reply.data, reply.used));
    }
    buffer_finish(&reply);
    if (status == STATUS_CANCELLED) fixture->cancelled++;
    fixture->watching--;
    return status;
}

/* Sends back what it receives. */
static enum status echo(struct serve_call *call)
{
    for (;;) {
        struct bytes bytes;
        enum status status = serve_call_receive(call, DEADLINE_NEVER, &bytes);
        if (status == STATUS_CLOSED) return STATUS_OK;
        if (status == STATUS_OK) {
            /* Field 4 of ExecRequest and field 1 of ExecResponse carry the same bytes. */
            Unum__V1__ExecRequest *request =
                unum__v1__exec_request__unpack(NULL, bytes.size, bytes.data);
            if (request == NULL) return STATUS_INVALID;
            Unum__V1__ExecResponse response = UNUM__V1__EXEC_RESPONSE__INIT;
            response.output = request->input;
            struct buffer reply;
            buffer_init(&reply, LIMIT_MESSAGE_BYTES_MAX);
            status = proto_pack(&response.base, &reply);
            if (status == STATUS_OK)
                status = serve_call_send(call, bytes_of(reply.data, reply.used));
            buffer_finish(&reply);
            unum__v1__exec_request__free_unpacked(request, NULL);
        }
        if (status != STATUS_OK) return status;
    }
}

static bool is_stream(void *context, const char *method)
{
    (void)context;
    return strcmp(method, "Watch") == 0 || strcmp(method, "Exec") == 0;
}

static enum status stream(void *context, const char *method, struct serve_call *call,
                          struct error *error)
{
    (void)error;
    return strcmp(method, "Watch") == 0 ? watch(context, call) : echo(call);
}

/* --- fixture -------------------------------------------------------------------------------------
 */

static struct network *network(void)
{
    return reactor_network(fiber_reactor());
}

static void log_line(void *context, const char *line)
{
    struct fixture *fixture = context;
    fixture->log_lines++;
    (void)snprintf(fixture->log, sizeof fixture->log, "%s", line);
}

static enum status identify(void *context, struct tls_peer peer,
                            char ret_principal[SERVE_PRINCIPAL_BYTES_MAX + 1], struct error *error)
{
    const struct fixture *fixture = context;
    struct identity identity;
    enum status status =
        identity_decode(peer.certificate_der, peer.certificate_size, &identity, error);
    if (status == STATUS_OK) status = identity_check(&identity, &computer, 1000, error);
    if (status != STATUS_OK) return status;
    (void)fixture;
    identity_format(&identity, ret_principal);
    return STATUS_OK;
}

static void serve_at(struct fixture *fixture, const char *address)
{
    struct serve_service service = { .prefix = "/unum.v1.Registry/",
                                     .unary = unary,
                                     .is_stream = is_stream,
                                     .stream = stream,
                                     .context = fixture };
    struct serve_options options = { .scope = fiber_scope(),
                                     .network = network(),
                                     .clock = reactor_clock(fiber_reactor()),
                                     .address = address,
                                     .tls = fixture->server_tls,
                                     .plain_principal = "spiffe://test/operator/plain",
                                     .identify = identify,
                                     .log = log_line,
                                     .context = fixture,
                                     .handshake_ms = 300,
                                     .services = &service,
                                     .service_count = 1 };
    if (serve_start(&options, &fixture->serve, &fixture->error) != STATUS_OK)
        fail_msg("%s", fixture->error.text);
}

static struct client *client_at(struct fixture *fixture, const char *address,
                                struct tls_context *tls)
{
    struct client_options options = { .scope = fiber_scope(),
                                      .network = network(),
                                      .clock = reactor_clock(fiber_reactor()),
                                      .random = reactor_random(fiber_reactor()),
                                      .addresses = &address,
                                      .address_count = 1,
                                      .tls = tls };
    struct client *client = NULL;
    assert_int_equal(client_create(&options, &client, &fixture->error), STATUS_OK);
    return client;
}

static void fixture_open(struct fixture *fixture)
{
    memset(fixture, 0, sizeof *fixture);
    arena_init(&fixture->arena, REPLY_ARENA_BYTES);
    serve_at(fixture, "127.0.0.1:0");
    fixture->client = client_at(fixture, serve_address(fixture->serve), NULL);
}

static void fixture_close(struct fixture *fixture)
{
    client_destroy(fixture->client);
    serve_stop(fixture->serve, test_now_ns() + 1000ull * MS);
    arena_finish(&fixture->arena);
}

static enum status put_by(struct fixture *fixture, struct client *client, enum client_kind kind,
                          const char *key, uint64_t deadline_ms, uint64_t *ret_revision)
{
    Unum__V1__PutRequest request = UNUM__V1__PUT_REQUEST__INIT;
    Unum__V1__PutResponse *response = NULL;
    request.key.data = (uint8_t *)key;
    request.key.len = strlen(key);
    request.value = request.key;
    fixture->error.text[0] = '\0';
    enum status status = client_call(
        client, kind, "/unum.v1.Registry/Put", &request.base, &unum__v1__put_response__descriptor,
        &fixture->arena, client_deadline_ns(client, deadline_ms), &response, &fixture->error);
    if (status == STATUS_OK && ret_revision != NULL) *ret_revision = response->revision;
    return status;
}

static enum status put_key(struct fixture *fixture, const char *key)
{
    return put_by(fixture, fixture->client, CLIENT_WRITE, key, 10 * SECOND_MS, NULL);
}

/* Until VALUE is WANTED; a bound, not a wait of fixed length. */
static void wait_for(const unsigned *value, unsigned wanted)
{
    uint64_t end_ns = test_now_ns() + 10ull * SECOND_MS * MS;
    while (*value != wanted) {
        assert_true(test_now_ns() < end_ns);
        assert_int_equal(fiber_sleep_ns(MS), STATUS_OK);
    }
}

#define FIBER_TEST(NAME)                                                                           \
    static void NAME##_main(struct scope *root, void *context);                                    \
    static void NAME(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        test_run(NAME##_main, NULL);                                                               \
    }                                                                                              \
    static void NAME##_main(struct scope *root, void *context)

/* --- plain ---------------------------------------------------------------------------------------
 */

FIBER_TEST(a_call_is_answered_and_an_error_keeps_its_sentence)
{
    (void)root, (void)context;
    static struct fixture fixture;
    fixture_open(&fixture);
    uint64_t revision = 0;
    assert_int_equal(
        put_by(&fixture, fixture.client, CLIENT_WRITE, "hello", SECOND_MS * 10, &revision),
        STATUS_OK);
    assert_int_equal(revision, 5);
    assert_string_equal(fixture.principal, "spiffe://test/operator/plain");
    assert_int_equal(put_key(&fixture, "denied"), STATUS_DENIED);
    assert_string_equal(fixture.error.text, "not \"you\", 100%");
    Unum__V1__PutRequest request = UNUM__V1__PUT_REQUEST__INIT;
    void *reply;
    assert_int_equal(client_call(fixture.client, CLIENT_READ, "/unum.v1.Nothing/Put", &request.base,
                                 &unum__v1__put_response__descriptor, &fixture.arena,
                                 DEADLINE_NEVER, &reply, &fixture.error),
                     STATUS_UNSUPPORTED);
    assert_string_equal(fixture.error.text, "no service answers /unum.v1.Nothing/Put");
    assert_int_equal(client_call(fixture.client, CLIENT_READ, "/unum.v1.Registry/Pat",
                                 &request.base, &unum__v1__put_response__descriptor, &fixture.arena,
                                 DEADLINE_NEVER, &reply, &fixture.error),
                     STATUS_UNSUPPORTED);
    assert_string_equal(fixture.error.text, "no method Pat");
    fixture_close(&fixture);
}

FIBER_TEST(a_passed_deadline_ends_the_call_on_both_sides)
{
    (void)root, (void)context;
    static struct fixture fixture;
    fixture_open(&fixture);
    uint64_t start_ns = test_now_ns();
    assert_int_equal(put_by(&fixture, fixture.client, CLIENT_WRITE, "wait", 100, NULL),
                     STATUS_TIMEOUT);
    assert_in_range(test_now_ns() - start_ns, 90ull * MS, 5000ull * MS);
    wait_for(&fixture.cancelled, 1);
    assert_int_equal(put_key(&fixture, "after"), STATUS_OK);
    fixture_close(&fixture);
}

FIBER_TEST(a_deadline_is_kept_by_the_port_when_the_client_does_not)
{
    (void)root, (void)context;
    static struct fixture fixture;
    fixture_open(&fixture);
    Unum__V1__PutRequest request = UNUM__V1__PUT_REQUEST__INIT;
    request.key.data = (uint8_t *)"wait";
    request.key.len = 4;
    struct client_stream *call = NULL;
    uint64_t start_ns = test_now_ns();
    assert_int_equal(client_stream_open(fixture.client, "/unum.v1.Registry/Put", &request.base,
                                        true, client_deadline_ns(fixture.client, 100), &call,
                                        &fixture.error),
                     STATUS_OK);
    void *reply;
    assert_int_equal(client_stream_receive(call, &unum__v1__put_response__descriptor,
                                           &fixture.arena,
                                           client_deadline_ns(fixture.client, 10 * SECOND_MS),
                                           &reply, &fixture.error),
                     STATUS_TIMEOUT);
    assert_string_equal(fixture.error.text, "the deadline has passed");
    assert_in_range(test_now_ns() - start_ns, 90ull * MS, 5000ull * MS);
    assert_int_equal(fixture.cancelled, 1);
    client_stream_close(call);
    fixture_close(&fixture);
}

static void waiting_put_fiber(void *argument)
{
    struct fixture *fixture = argument;
    /* Its scope is cancelled, or the port stops. */
    assert_int_not_equal(
        put_by(fixture, fixture->client, CLIENT_WRITE, "wait", 60 * SECOND_MS, NULL), STATUS_OK);
}

FIBER_TEST(a_client_that_goes_away_cancels_its_calls)
{
    (void)root, (void)context;
    static struct fixture fixture;
    fixture_open(&fixture);
    struct scope scope;
    scope_init(&scope, fiber_scope());
    for (int i = 0; i < 3; i++) test_spawn(&scope, waiting_put_fiber, &fixture);
    wait_for(&fixture.puts_running, 3);
    scope_cancel(&scope);
    scope_join(&scope);
    wait_for(&fixture.cancelled, 3);
    for (int i = 0; i < 3; i++) {
        struct scope again;
        scope_init(&again, fiber_scope());
        test_spawn(&again, waiting_put_fiber, &fixture);
        wait_for(&fixture.puts_running, 1);
        scope_cancel(&again);
        scope_join(&again);
        wait_for(&fixture.puts_running, 0);
    }
    fixture_close(&fixture);
}

struct many {
    struct fixture *fixture;
    unsigned done;
};

static void yielding_put_fiber(void *argument)
{
    struct many *many = argument;
    uint64_t revision = 0;
    assert_int_equal(put_by(many->fixture, many->fixture->client, CLIENT_READ, "yield",
                            30 * SECOND_MS, &revision),
                     STATUS_OK);
    assert_int_equal(revision, 5);
    many->done++;
}

FIBER_TEST(hundreds_of_calls_run_at_once_on_one_connection)
{
    (void)root, (void)context;
    static struct fixture fixture;
    fixture_open(&fixture);
    struct many many = { .fixture = &fixture };
    struct scope scope;
    scope_init(&scope, fiber_scope());
    assert_int_equal(put_key(&fixture, "first"), STATUS_OK);
    for (int i = 0; i < 300; i++) test_spawn(&scope, yielding_put_fiber, &many);
    scope_join(&scope);
    assert_int_equal(many.done, 300);
    assert_int_equal(serve_figures(fixture.serve).calls, 301);
    assert_int_equal(serve_figures(fixture.serve).connections, 1);
    fixture_close(&fixture);
}

FIBER_TEST(a_repeated_write_carries_the_same_session_and_sequence)
{
    (void)root, (void)context;
    static struct fixture fixture;
    fixture_open(&fixture);
    assert_int_equal(put_key(&fixture, "a"), STATUS_OK);
    struct id session = fixture.session;
    assert_false(id_is_zero(&session));
    assert_int_equal(fixture.sequence, 1);
    fixture.unavailable_left = 3;
    assert_int_equal(put_key(&fixture, "b"), STATUS_OK);
    assert_int_equal(fixture.puts, 5);
    assert_true(id_equal(&fixture.session, &session));
    assert_int_equal(fixture.sequence, 2);
    fixture.unavailable_left = 1;
    assert_int_equal(put_by(&fixture, fixture.client, CLIENT_ONCE, "c", SECOND_MS, NULL),
                     STATUS_UNAVAILABLE);
    assert_string_equal(fixture.error.text, "no leader");
    fixture_close(&fixture);
}

FIBER_TEST(a_client_finds_a_port_that_was_started_anew)
{
    (void)root, (void)context;
    static struct fixture fixture;
    fixture_open(&fixture);
    assert_int_equal(put_key(&fixture, "before"), STATUS_OK);
    char address[NETWORK_ADDRESS_BYTES_MAX];
    (void)snprintf(address, sizeof address, "%s", serve_address(fixture.serve));
    serve_stop(fixture.serve, test_now_ns() + 100ull * MS);
    assert_int_equal(put_by(&fixture, fixture.client, CLIENT_READ, "x", 50, NULL),
                     STATUS_UNAVAILABLE);
    char expected[256];
    (void)snprintf(expected, sizeof expected,
                   "no computer answers at %s: Connection refused; start one with `unum up`",
                   address);
    assert_string_equal(fixture.error.text, expected);
    serve_at(&fixture, address);
    assert_int_equal(put_key(&fixture, "after"), STATUS_OK);
    fixture_close(&fixture);
}

FIBER_TEST(a_stopping_port_lets_calls_end_and_cancels_those_that_do_not)
{
    (void)root, (void)context;
    static struct fixture fixture;
    fixture_open(&fixture);
    struct many many = { .fixture = &fixture };
    struct scope scope;
    scope_init(&scope, fiber_scope());
    test_spawn(&scope, yielding_put_fiber, &many);
    test_spawn(&scope, waiting_put_fiber, &fixture);
    wait_for(&fixture.puts_running, 2);
    uint64_t start_ns = test_now_ns();
    serve_stop(fixture.serve, start_ns + 200ull * MS);
    assert_in_range(test_now_ns() - start_ns, 190ull * MS, 5000ull * MS);
    assert_int_equal(fixture.cancelled, 1);
    wait_for(&many.done, 1);
    scope_cancel(&scope);
    scope_join(&scope);
    client_destroy(fixture.client);
    arena_finish(&fixture.arena);
}

FIBER_TEST(a_stopping_port_does_not_wait_for_idle_clients)
{
    (void)root, (void)context;
    static struct fixture fixture;
    fixture_open(&fixture);
    assert_int_equal(put_key(&fixture, "hello"), STATUS_OK);
    uint64_t start_ns = test_now_ns();
    serve_stop(fixture.serve, start_ns + 20000ull * MS);
    assert_true(test_now_ns() - start_ns < 10000ull * MS);
    client_destroy(fixture.client);
    arena_finish(&fixture.arena);
}

/* --- streams -------------------------------------------------------------------------------------
 */

static struct client_stream *open_watch(struct fixture *fixture, uint64_t count)
{
    Unum__V1__WatchRequest request = UNUM__V1__WATCH_REQUEST__INIT;
    request.start_revision = count;
    struct client_stream *watch = NULL;
    assert_int_equal(client_stream_open(fixture->client, "/unum.v1.Registry/Watch", &request.base,
                                        true, DEADLINE_NEVER, &watch, &fixture->error),
                     STATUS_OK);
    return watch;
}

static enum status next_event(struct fixture *fixture, struct client_stream *watch,
                              uint64_t *ret_revision)
{
    Unum__V1__WatchResponse *response = NULL;
    arena_clear(&fixture->arena);
    enum status status = client_stream_receive(
        watch, &unum__v1__watch_response__descriptor, &fixture->arena,
        client_deadline_ns(fixture->client, 20 * SECOND_MS), &response, &fixture->error);
    if (status == STATUS_OK) *ret_revision = response->revision;
    return status;
}

FIBER_TEST(a_stream_arrives_whole_and_in_order)
{
    (void)root, (void)context;
    static struct fixture fixture;
    fixture_open(&fixture);
    enum { EVENTS = 5000 };
    struct client_stream *watch = open_watch(&fixture, EVENTS);
    uint64_t revision = 0;
    for (uint64_t i = 1; i <= EVENTS; i++) {
        assert_int_equal(next_event(&fixture, watch, &revision), STATUS_OK);
        assert_int_equal(revision, i);
    }
    assert_int_equal(next_event(&fixture, watch, &revision), STATUS_CLOSED);
    client_stream_close(watch);
    fixture_close(&fixture);
}

FIBER_TEST(a_slow_reader_holds_its_sender_and_nobody_else)
{
    (void)root, (void)context;
    static struct fixture fixture;
    fixture_open(&fixture);
    enum { EVENTS = 50000 }; /* 200 MB, if anyone held them */
    struct client_stream *slow = open_watch(&fixture, EVENTS);
    wait_for(&fixture.watching, 1);
    for (int i = 0; i < 50; i++) assert_int_equal(put_key(&fixture, "meanwhile"), STATUS_OK);
    assert_int_equal(fixture.watching, 1);
    struct client_stream *other = open_watch(&fixture, 100);
    uint64_t revision = 0;
    while (next_event(&fixture, other, &revision) == STATUS_OK) {
    }
    assert_int_equal(revision, 100);
    client_stream_close(other);
    client_stream_close(slow);
    wait_for(&fixture.watching, 0);
    assert_int_equal(fixture.cancelled, 1);
    fixture_close(&fixture);
}

struct sender {
    struct client_stream *stream;
    unsigned count, sent;
};

/* Until it is held: neither side of the stream has room left. */
static void wait_for_stall(const struct sender *sender)
{
    unsigned before = UINT32_MAX;
    while (sender->sent != before || sender->sent == 0) {
        before = sender->sent;
        assert_int_equal(fiber_sleep_ns(20ull * MS), STATUS_OK);
    }
}

static void sender_fiber(void *argument)
{
    struct sender *sender = argument;
    static uint8_t bytes[8000];
    Unum__V1__ExecRequest request = UNUM__V1__EXEC_REQUEST__INIT;
    request.input.data = bytes;
    request.input.len = sizeof bytes;
    for (; sender->sent < sender->count; sender->sent++)
        assert_int_equal(client_stream_send(sender->stream, &request.base), STATUS_OK);
    client_stream_half_close(sender->stream);
}

FIBER_TEST(both_sides_of_a_stream_may_send_more_than_is_buffered)
{
    (void)root, (void)context;
    static struct fixture fixture;
    fixture_open(&fixture);
    enum { MESSAGES = 1000 };
    Unum__V1__ExecRequest request = UNUM__V1__EXEC_REQUEST__INIT;
    struct sender sender = { .count = MESSAGES };
    assert_int_equal(client_stream_open(fixture.client, "/unum.v1.Registry/Exec", &request.base,
                                        false, DEADLINE_NEVER, &sender.stream, &fixture.error),
                     STATUS_OK);
    struct scope scope;
    scope_init(&scope, fiber_scope());
    test_spawn(&scope, sender_fiber, &sender);
    wait_for_stall(&sender);
    assert_true(sender.sent < MESSAGES / 2);
    unsigned received = 0;
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        Unum__V1__ExecResponse *response;
        /* Slower than the sender, so that it is held. */
        if (received % 64 == 0) assert_int_equal(fiber_sleep_ns(MS), STATUS_OK);
        arena_clear(&fixture.arena);
        status = client_stream_receive(
            sender.stream, &unum__v1__exec_response__descriptor, &fixture.arena,
            client_deadline_ns(fixture.client, 20 * SECOND_MS), &response, &fixture.error);
        if (status == STATUS_OK && response->output.len > 0) received++;
    }
    assert_int_equal(status, STATUS_CLOSED);
    assert_int_equal(received, MESSAGES);
    scope_join(&scope);
    client_stream_close(sender.stream);
    fixture_close(&fixture);
}

/* --- strangers -----------------------------------------------------------------------------------
 */

static struct stream *connect_raw(struct fixture *fixture)
{
    struct stream *stream = NULL;
    assert_int_equal(network()->connect(network(), serve_address(fixture->serve),
                                        test_now_ns() + 5000ull * MS, &stream, &fixture->error),
                     STATUS_OK);
    return stream;
}

/* Until the port closes. */
static void read_to_end(struct stream *stream)
{
    uint8_t bytes[512];
    size_t used = 1;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && used > 0)
        status = stream_read(stream, bytes, sizeof bytes, test_now_ns() + 10000ull * MS, &used);
    assert_int_not_equal(status, STATUS_TIMEOUT);
}

FIBER_TEST(garbage_is_told_in_one_sentence_and_closes_only_its_own_connection)
{
    (void)root, (void)context;
    static struct fixture fixture;
    fixture_open(&fixture);
    assert_int_equal(put_key(&fixture, "before"), STATUS_OK);
    static const char *const garbage[] = { "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                           "\x16\x03\x01\x02\x00\x01\x00",
                                           "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot a frame at all" };
    for (size_t i = 0; i < 3; i++) {
        fixture.log_lines = 0;
        struct stream *stream = connect_raw(&fixture);
        const char *text = garbage[i];
        size_t size = i == 1 ? 7 : strlen(text);
        assert_int_equal(stream_write(stream, text, size, DEADLINE_NEVER), STATUS_OK);
        read_to_end(stream);
        assert_int_equal(fixture.log_lines, 1);
        assert_non_null(strstr(fixture.log, i < 2 ? "does not speak HTTP/2" : "breaks HTTP/2"));
        stream_close(stream);
    }
    assert_int_equal(serve_figures(fixture.serve).garbage, 3);
    assert_int_equal(put_key(&fixture, "after"), STATUS_OK);
    assert_int_equal(serve_figures(fixture.serve).connections, 4);
    fixture_close(&fixture);
}

FIBER_TEST(a_flood_of_garbage_is_logged_within_bounds)
{
    (void)root, (void)context;
    static struct fixture fixture;
    fixture_open(&fixture);
    for (int i = 0; i < 100; i++) {
        struct stream *stream = connect_raw(&fixture);
        assert_int_equal(stream_write(stream, "garbage\n", 8, DEADLINE_NEVER), STATUS_OK);
        read_to_end(stream);
        stream_close(stream);
    }
    assert_int_equal(serve_figures(fixture.serve).garbage, 100);
    assert_in_range(fixture.log_lines, 20, 60);
    fixture_close(&fixture);
}

FIBER_TEST(more_connections_than_the_maximum_are_closed_and_then_there_is_room_again)
{
    (void)root, (void)context;
    static struct fixture fixture;
    static struct stream *streams[SERVE_CONNECTIONS_MAX];
    fixture_open(&fixture);
    for (int i = 0; i < SERVE_CONNECTIONS_MAX; i++) streams[i] = connect_raw(&fixture);
    struct stream *more = connect_raw(&fixture);
    read_to_end(more);
    stream_close(more);
    assert_int_equal(serve_figures(fixture.serve).refused, 1);
    for (int i = 0; i < SERVE_CONNECTIONS_MAX; i++) stream_close(streams[i]);
    assert_int_equal(put_key(&fixture, "after"), STATUS_OK);
    fixture_close(&fixture);
}

/* --- TLS -----------------------------------------------------------------------------------------
 */

static void make_authority(void *argument)
{
    struct authority **authority = argument;
    struct error error;
    assert_int_equal(authority_create("home", &computer, authority, &error), STATUS_OK);
}

struct issue {
    const struct authority *authority;
    struct authority_request request;
    struct identity_pem pem;
};

static void issue_on_large_stack(void *argument)
{
    struct issue *issue = argument;
    struct error error;
    assert_int_equal(authority_issue(issue->authority, &issue->request, &issue->pem, &error),
                     STATUS_OK);
}

/* A context with a certificate of ISSUER that trusts TRUSTED. */
static struct tls_context *tls_of(struct authority *issuer, struct authority *trusted,
                                  enum identity_kind kind, uint64_t expires_ms, bool is_server)
{
    static struct issue issue;
    static struct identity_pem root;
    issue = (struct issue) { .authority = issuer,
                             .request = { .kind = kind,
                                          .name = "x",
                                          .expires_ms = expires_ms,
                                          .hosts = { "127.0.0.1" },
                                          .host_count = kind == IDENTITY_MACHINE ? 1 : 0 } };
    fiber_call_large_stack(issue_on_large_stack, &issue);
    assert_int_equal(authority_export(trusted, &root), STATUS_OK);
    struct tls_options options = { .is_server = is_server,
                                   .certificate_pem = issue.pem.certificate,
                                   .key_pem = issue.pem.key,
                                   .authority_pem = root.certificate,
                                   .alpn = { "h2" } };
    struct tls_context *context = NULL;
    struct error error;
    if (tls_context_create(&options, &context, &error) != STATUS_OK) fail_msg("%s", error.text);
    return context;
}

struct secure {
    struct fixture fixture;
    struct authority *ours, *foreign;
    struct tls_context *operator;
};

static void secure_open(struct secure *secure)
{
    memset(secure, 0, sizeof *secure);
    fiber_call_large_stack(make_authority, &secure->ours);
    fiber_call_large_stack(make_authority, &secure->foreign);
    struct fixture *fixture = &secure->fixture;
    arena_init(&fixture->arena, REPLY_ARENA_BYTES);
    fixture->server_tls =
        tls_of(secure->ours, secure->ours, IDENTITY_MACHINE, IDENTITY_NEVER, true);
    serve_at(fixture, "127.0.0.1:0");
    secure->operator= tls_of(secure->ours, secure->ours, IDENTITY_OPERATOR, IDENTITY_NEVER, false);
    fixture->client = client_at(fixture, serve_address(fixture->serve), secure->operator);
}

static void secure_close(struct secure *secure)
{
    fixture_close(&secure->fixture);
    tls_context_destroy(secure->operator);
    tls_context_destroy(secure->fixture.server_tls);
    authority_destroy(secure->ours);
    authority_destroy(secure->foreign);
}

/* A put by a client with CONTEXT, which is freed. */
static enum status put_with(struct secure *secure, struct tls_context *context)
{
    struct fixture *fixture = &secure->fixture;
    struct client *client = client_at(fixture, serve_address(fixture->serve), context);
    enum status status = put_by(fixture, client, CLIENT_READ, "hello", 5 * SECOND_MS, NULL);
    client_destroy(client);
    tls_context_destroy(context);
    return status;
}

FIBER_TEST(over_tls_the_principal_is_the_certificates)
{
    (void)root, (void)context;
    static struct secure secure;
    secure_open(&secure);
    for (int i = 0; i < 20; i++) assert_int_equal(put_key(&secure.fixture, "hello"), STATUS_OK);
    assert_string_equal(secure.fixture.principal, "spiffe://home/operator/x");
    struct client_stream *watch = open_watch(&secure.fixture, 1000);
    uint64_t revision = 0;
    while (next_event(&secure.fixture, watch, &revision) == STATUS_OK) {
    }
    assert_int_equal(revision, 1000);
    client_stream_close(watch);
    secure_close(&secure);
}

FIBER_TEST(a_certificate_of_another_authority_is_refused_on_both_sides)
{
    (void)root, (void)context;
    static struct secure secure;
    secure_open(&secure);
    struct tls_context *theirs =
        tls_of(secure.foreign, secure.ours, IDENTITY_OPERATOR, IDENTITY_NEVER, false);
    assert_int_equal(put_with(&secure, theirs), STATUS_DENIED);
    assert_non_null(strstr(secure.fixture.error.text, "refuses this credential: "));
    wait_for(&secure.fixture.log_lines, 1);
    assert_non_null(strstr(secure.fixture.log, "comes from an unknown authority"));
    /* The peer's address stands there once. */
    assert_ptr_equal(strstr(secure.fixture.log, "127.0.0.1"), secure.fixture.log);
    assert_null(strstr(secure.fixture.log + 1, "127.0.0.1"));
    struct tls_context *wary =
        tls_of(secure.ours, secure.foreign, IDENTITY_OPERATOR, IDENTITY_NEVER, false);
    assert_int_equal(put_with(&secure, wary), STATUS_DENIED);
    assert_int_equal(secure.fixture.puts, 0);
    assert_int_equal(put_key(&secure.fixture, "hello"), STATUS_OK);
    secure_close(&secure);
}

FIBER_TEST(a_certificate_that_has_expired_in_computer_time_is_refused_with_the_reason)
{
    (void)root, (void)context;
    static struct secure secure;
    secure_open(&secure);
    struct tls_context *expired = tls_of(secure.ours, secure.ours, IDENTITY_OPERATOR, 1000, false);
    assert_int_equal(put_with(&secure, expired), STATUS_DENIED);
    assert_string_equal(secure.fixture.error.text,
                        "the certificate of spiffe://home/operator/x has expired (in computer "
                        "time); ask for a new one");
    assert_int_equal(secure.fixture.puts, 0);
    assert_int_equal(serve_figures(secure.fixture.serve).refused, 1);
    struct tls_context *valid = tls_of(secure.ours, secure.ours, IDENTITY_OPERATOR, 1001, false);
    assert_int_equal(put_with(&secure, valid), STATUS_OK);
    secure_close(&secure);
}

FIBER_TEST(an_operator_cannot_pose_as_the_computer)
{
    (void)root, (void)context;
    static struct secure secure;
    secure_open(&secure);
    serve_stop(secure.fixture.serve, 0);
    tls_context_destroy(secure.fixture.server_tls);
    secure.fixture.server_tls =
        tls_of(secure.ours, secure.ours, IDENTITY_OPERATOR, IDENTITY_NEVER, true);
    serve_at(&secure.fixture, "127.0.0.1:0");
    struct tls_context *client =
        tls_of(secure.ours, secure.ours, IDENTITY_OPERATOR, IDENTITY_NEVER, false);
    assert_int_equal(put_with(&secure, client), STATUS_DENIED);
    assert_int_equal(secure.fixture.puts, 0);
    secure_close(&secure);
}

FIBER_TEST(without_tls_and_half_open_the_secure_port_says_no_and_goes_on)
{
    (void)root, (void)context;
    static struct secure secure;
    secure_open(&secure);
    struct fixture *fixture = &secure.fixture;
    struct stream *silent = connect_raw(fixture);
    struct stream *plain = connect_raw(fixture);
    assert_int_equal(stream_write(plain, "GET / HTTP/1.1\r\n\r\n", 18, DEADLINE_NEVER), STATUS_OK);
    assert_int_equal(put_key(fixture, "meanwhile"), STATUS_OK);
    read_to_end(plain); /* at the latest when the handshake's deadline has passed */
    read_to_end(silent);
    stream_close(plain);
    stream_close(silent);
    assert_int_equal(fixture->log_lines, 2);
    assert_int_equal(serve_figures(fixture->serve).garbage, 2);
    assert_int_equal(put_key(fixture, "after"), STATUS_OK);
    secure_close(&secure);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_is_answered_and_an_error_keeps_its_sentence),
        cmocka_unit_test(a_passed_deadline_ends_the_call_on_both_sides),
        cmocka_unit_test(a_deadline_is_kept_by_the_port_when_the_client_does_not),
        cmocka_unit_test(a_client_that_goes_away_cancels_its_calls),
        cmocka_unit_test(a_stopping_port_does_not_wait_for_idle_clients),
        cmocka_unit_test(hundreds_of_calls_run_at_once_on_one_connection),
        cmocka_unit_test(a_repeated_write_carries_the_same_session_and_sequence),
        cmocka_unit_test(a_client_finds_a_port_that_was_started_anew),
        cmocka_unit_test(a_stopping_port_lets_calls_end_and_cancels_those_that_do_not),
        cmocka_unit_test(a_stream_arrives_whole_and_in_order),
        cmocka_unit_test(a_slow_reader_holds_its_sender_and_nobody_else),
        cmocka_unit_test(both_sides_of_a_stream_may_send_more_than_is_buffered),
        cmocka_unit_test(garbage_is_told_in_one_sentence_and_closes_only_its_own_connection),
        cmocka_unit_test(a_flood_of_garbage_is_logged_within_bounds),
        cmocka_unit_test(more_connections_than_the_maximum_are_closed_and_then_there_is_room_again),
        cmocka_unit_test(over_tls_the_principal_is_the_certificates),
        cmocka_unit_test(a_certificate_of_another_authority_is_refused_on_both_sides),
        cmocka_unit_test(
            a_certificate_that_has_expired_in_computer_time_is_refused_with_the_reason),
        cmocka_unit_test(an_operator_cannot_pose_as_the_computer),
        cmocka_unit_test(without_tls_and_half_open_the_secure_port_says_no_and_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
