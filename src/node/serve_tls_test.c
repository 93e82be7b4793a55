/* Over TLS the port knows who asks, and refuses with the reason whom it can't trust.
 *
 * Method: as in serve_test.c, with certificates of two authorities: ours and a foreign one. */
#include "node/serve_harness.h"

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
        cmocka_unit_test(over_tls_the_principal_is_the_certificates),
        cmocka_unit_test(a_certificate_of_another_authority_is_refused_on_both_sides),
        cmocka_unit_test(
            a_certificate_that_has_expired_in_computer_time_is_refused_with_the_reason),
        cmocka_unit_test(an_operator_cannot_pose_as_the_computer),
        cmocka_unit_test(without_tls_and_half_open_the_secure_port_says_no_and_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
