/* The port answers who may ask, bounds who may not, and what one client does harms no other.
 *
 * Method: the port and its clients are fibers of one reactor over loopback TCP, plain;
 * well-behaved clients are libunum's, the others write bytes. Run once for each backend. */
#include "node/serve_harness.h"

#include "unum/v1/computer.pb-c.h"
#include "unum/v1/registry.pb-c.h"

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
    assert_int_equal(put_by(&fixture, fixture.client, CLIENT_READ, "x", 1000, NULL),
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
