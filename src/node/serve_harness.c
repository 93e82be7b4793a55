#include "node/serve_harness.h"

#include "unum/v1/computer.pb-c.h"
#include "unum/v1/registry.pb-c.h"

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

void serve_at(struct fixture *fixture, const char *address)
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

struct client *client_at(struct fixture *fixture, const char *address, struct tls_context *tls)
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

void fixture_open(struct fixture *fixture)
{
    memset(fixture, 0, sizeof *fixture);
    arena_init(&fixture->arena, REPLY_ARENA_BYTES);
    serve_at(fixture, "127.0.0.1:0");
    fixture->client = client_at(fixture, serve_address(fixture->serve), NULL);
}

void fixture_close(struct fixture *fixture)
{
    client_destroy(fixture->client);
    serve_stop(fixture->serve, test_now_ns() + 1000ull * MS);
    arena_finish(&fixture->arena);
}

enum status put_by(struct fixture *fixture, struct client *client, enum client_kind kind,
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

enum status put_key(struct fixture *fixture, const char *key)
{
    return put_by(fixture, fixture->client, CLIENT_WRITE, key, 10 * SECOND_MS, NULL);
}

/* Until VALUE is WANTED; a bound, not a wait of fixed length. */
void wait_for(const unsigned *value, unsigned wanted)
{
    uint64_t end_ns = test_now_ns() + 10ull * SECOND_MS * MS;
    while (*value != wanted) {
        assert_true(test_now_ns() < end_ns);
        assert_int_equal(fiber_sleep_ns(MS), STATUS_OK);
    }
}

struct client_stream *open_watch(struct fixture *fixture, uint64_t count)
{
    Unum__V1__WatchRequest request = UNUM__V1__WATCH_REQUEST__INIT;
    request.start_revision = count;
    struct client_stream *watch = NULL;
    assert_int_equal(client_stream_open(fixture->client, "/unum.v1.Registry/Watch", &request.base,
                                        true, DEADLINE_NEVER, &watch, &fixture->error),
                     STATUS_OK);
    return watch;
}

enum status next_event(struct fixture *fixture, struct client_stream *watch, uint64_t *ret_revision)
{
    Unum__V1__WatchResponse *response = NULL;
    arena_clear(&fixture->arena);
    enum status status = client_stream_receive(
        watch, &unum__v1__watch_response__descriptor, &fixture->arena,
        client_deadline_ns(fixture->client, 20 * SECOND_MS), &response, &fixture->error);
    if (status == STATUS_OK) *ret_revision = response->revision;
    return status;
}

struct stream *connect_raw(struct fixture *fixture)
{
    struct stream *stream = NULL;
    assert_int_equal(network()->connect(network(), serve_address(fixture->serve),
                                        test_now_ns() + 5000ull * MS, &stream, &fixture->error),
                     STATUS_OK);
    return stream;
}

/* Until the port closes. */
void read_to_end(struct stream *stream)
{
    uint8_t bytes[512];
    size_t used = 1;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && used > 0)
        status = stream_read(stream, bytes, sizeof bytes, test_now_ns() + 10000ull * MS, &used);
    assert_int_not_equal(status, STATUS_TIMEOUT);
}
