/* Both sides of a TLS stream show certificates of their authority, or nobody talks; what went wrong
 * is said in a clear sentence on both sides; garbage and cut connections harm one connection only.
 *
 * Method: authorities and certificates are made in memory; client and server are fibers of one
 * reactor over loopback TCP; a client that breaks the rules is bare OpenSSL in a worker thread. */
#include "reactor/real_test.h"
#include "reactor/tls.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

enum { PEM_BYTES = 4096, LARGE_BYTES = 10 * 1024 * 1024, DAY = 24 * 3600 };

/* --- certificates ---
 */

struct signer {
    EVP_PKEY *key;
    X509 *certificate;
    char certificate_pem[PEM_BYTES];
    char key_pem[PEM_BYTES];
};

static struct signer authority, stranger, server, client, expired, foreign;

static void add_extension(X509 *certificate, X509 *issuer, int kind, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static void to_pem(struct signer *signer)
{
    BIO *text = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(text, signer->certificate), 1);
    int size = BIO_read(text, signer->certificate_pem, PEM_BYTES - 1);
    assert_in_range(size, 1, PEM_BYTES - 1);
    assert_int_equal(PEM_write_bio_PrivateKey(text, signer->key, NULL, NULL, 0, NULL, NULL), 1);
    size = BIO_read(text, signer->key_pem, PEM_BYTES - 1);
    assert_in_range(size, 1, PEM_BYTES - 1);
    BIO_free(text);
}

/* ISSUER NULL: an authority of its own. NAMES: subject alternative names. */
static void make(struct signer *signer, const char *name, const struct signer *issuer,
                 const char *names, long days_from, long days_to)
{
    static long serial = 1;
    signer->key = EVP_EC_gen("P-256");
    X509 *certificate = signer->certificate = X509_new();
    assert_non_null(signer->key);
    (void)X509_set_version(certificate, X509_VERSION_3);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    (void)X509_gmtime_adj(X509_getm_notBefore(certificate), days_from * DAY);
    (void)X509_gmtime_adj(X509_getm_notAfter(certificate), days_to * DAY);
    (void)X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                                     (const unsigned char *)name, -1, -1, 0);
    X509 *above = issuer == NULL ? certificate : issuer->certificate;
    (void)X509_set_issuer_name(certificate, X509_get_subject_name(above));
    (void)X509_set_pubkey(certificate, signer->key);
    if (issuer == NULL) add_extension(certificate, above, NID_basic_constraints, "CA:TRUE");
    if (names != NULL) add_extension(certificate, above, NID_subject_alt_name, names);
    EVP_PKEY *key = issuer == NULL ? signer->key : issuer->key;
    assert_int_not_equal(X509_sign(certificate, key, EVP_sha256()), 0);
    to_pem(signer);
}

static void forget(struct signer *signer)
{
    EVP_PKEY_free(signer->key);
    X509_free(signer->certificate);
}

/* --- a connection ---
 */

struct connection {
    struct listener *listener;
    struct stream *plain_client, *plain_server;
    struct tls_options client_options, server_options;
    struct tls_context *client_context, *server_context;
    struct stream *client, *server;
    enum status client_status, server_status;
    enum status first_read; /* of the client */
    char client_failure[ERROR_TEXT_BYTES_MAX];
    struct error client_error, server_error;
    uint64_t timeout_ns;
};

static struct tls_options options_of(const struct signer *signer, bool is_server)
{
    return (struct tls_options) { .is_server = is_server,
                                  .certificate_pem = signer->certificate_pem,
                                  .key_pem = signer->key_pem,
                                  .authority_pem = authority.certificate_pem,
                                  .alpn = { "unum/1", "h2" } };
}

static void connection_init(struct connection *connection)
{
    *connection = (struct connection) { .client_options = options_of(&client, false),
                                        .server_options = options_of(&server, true),
                                        .timeout_ns = 20000ULL * MS };
}

static void accept_fiber(void *argument)
{
    struct connection *connection = argument;
    struct listener *listener = connection->listener;
    assert_int_equal(
        listener->operations->accept(listener, DEADLINE_NEVER, &connection->plain_server),
        STATUS_OK);
}

static void listen_here(struct connection *connection)
{
    struct network *network = reactor_network(fiber_reactor());
    assert_int_equal(network->listen(network, "127.0.0.1:0", &connection->listener, NULL),
                     STATUS_OK);
}

static void connect_plain(struct connection *connection)
{
    struct network *network = reactor_network(fiber_reactor());
    listen_here(connection);
    const char *address = connection->listener->operations->address(connection->listener);
    assert_int_equal(
        network->connect(network, address, DEADLINE_NEVER, &connection->plain_client, NULL),
        STATUS_OK);
    accept_fiber(connection);
}

static enum status shake(const struct tls_options *options, struct tls_context **ret_context,
                         struct stream **plain, uint64_t timeout_ns, struct stream **ret_stream,
                         struct error *error)
{
    enum status status = tls_context_create(options, ret_context, error);
    if (status != STATUS_OK) return status;
    status = tls_stream_create(*ret_context, *plain, test_now_ns() + timeout_ns, ret_stream, error);
    if (status != STATUS_OK) stream_close(*plain);
    *plain = NULL;
    return status;
}

static void client_fiber(void *argument)
{
    struct connection *connection = argument;
    connection->client_status =
        shake(&connection->client_options, &connection->client_context, &connection->plain_client,
              connection->timeout_ns, &connection->client, &connection->client_error);
    if (connection->client_status != STATUS_OK) return;
    char byte;
    size_t size;
    connection->first_read =
        stream_read(connection->client, &byte, 1, test_now_ns() + 10000 * MS, &size);
    (void)snprintf(connection->client_failure, sizeof connection->client_failure, "%s",
                   tls_stream_failure(connection->client));
}

static void server_fiber(void *argument)
{
    struct connection *connection = argument;
    connection->server_status =
        shake(&connection->server_options, &connection->server_context, &connection->plain_server,
              connection->timeout_ns, &connection->server, &connection->server_error);
    if (connection->server_status == STATUS_OK)
        assert_int_equal(stream_write(connection->server, "!", 1, DEADLINE_NEVER), STATUS_OK);
}

/* Both shake hands; the server greets with one byte, which the client reads. */
static void connect_both(struct connection *connection)
{
    struct scope scope;
    connect_plain(connection);
    scope_init(&scope, fiber_scope());
    test_spawn(&scope, client_fiber, connection);
    test_spawn(&scope, server_fiber, connection);
    scope_join(&scope);
}

static void disconnect(struct connection *connection)
{
    stream_close(connection->client);
    stream_close(connection->server);
    tls_context_destroy(connection->client_context);
    tls_context_destroy(connection->server_context);
    connection->listener->operations->close(connection->listener);
}

/* --- both sides are who they should be ---
 */

static void mutual_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    struct connection connection;
    connection_init(&connection);
    connection.client_options.alpn[0] = "h2";
    connection.client_options.alpn[1] = "unum/1";
    connect_both(&connection);
    assert_string_equal(connection.client_error.text, "");
    assert_string_equal(connection.server_error.text, "");
    assert_string_equal(connection.client_failure, "");
    assert_int_equal(connection.first_read, STATUS_OK);
    assert_string_equal(tls_stream_alpn(connection.client), "unum/1"); /* the server prefers */
    assert_string_equal(tls_stream_alpn(connection.server), "unum/1");
    struct tls_peer peer = tls_stream_peer(connection.server);
    unsigned char *der = NULL;
    int size = i2d_X509(client.certificate, &der);
    assert_int_equal(peer.certificate_size, size);
    assert_memory_equal(peer.certificate_der, der, (size_t)size);
    OPENSSL_free(der);
    assert_int_equal(
        strncmp(connection.client->operations->peer(connection.client), "127.0.0.1:", 10), 0);
    disconnect(&connection);
}

static void two_sides_of_one_authority_agree(void **state)
{
    (void)state;
    test_run(mutual_main, NULL);
}

static void names_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    static const struct {
        const char *name;
        enum status status;
    } cases[] = {
        { "localhost", STATUS_OK },
        { "127.0.0.1", STATUS_OK },
        { "spiffe://computer/machine/one", STATUS_OK },
        { "elsewhere", STATUS_DENIED },
        { "127.0.0.2", STATUS_DENIED },
        { "spiffe://computer/machine/on", STATUS_DENIED },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct connection connection;
        connection_init(&connection);
        connection.client_options.server_name = cases[i].name;
        connect_both(&connection);
        assert_int_equal(connection.client_status, cases[i].status);
        if (cases[i].status != STATUS_OK)
            assert_non_null(strstr(connection.client_error.text, "carries another"));
        disconnect(&connection);
    }
}

static void the_server_must_carry_the_name_that_the_client_asks_for(void **state)
{
    (void)state;
    test_run(names_main, NULL);
}

/* --- wrong certificates ---
 */

static void wrong_client(const struct signer *signer, const char *server_says,
                         const char *client_hears)
{
    struct connection connection;
    connection_init(&connection);
    connection.client_options = options_of(signer, false);
    connect_both(&connection);
    assert_int_equal(connection.server_status, STATUS_DENIED);
    assert_non_null(strstr(connection.server_error.text, server_says));
    assert_int_equal(connection.client_status, STATUS_OK); /* so TLS 1.3 has it */
    assert_int_equal(connection.first_read, STATUS_DENIED);
    assert_non_null(strstr(connection.client_failure, client_hears));
    disconnect(&connection);
}

static void wrong_client_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    wrong_client(&foreign, "the peer's certificate comes from an unknown authority",
                 "it does not know its authority");
    wrong_client(&expired, "the peer's certificate has expired", "it has expired");
}

static void a_wrong_or_expired_client_certificate_is_denied_and_both_hear_why(void **state)
{
    (void)state;
    test_run(wrong_client_main, NULL);
}

static void wrong_server(const struct signer *signer, const char *client_says,
                         const char *server_hears)
{
    struct connection connection;
    connection_init(&connection);
    connection.server_options = options_of(signer, true);
    connect_both(&connection);
    assert_int_equal(connection.client_status, STATUS_DENIED);
    assert_non_null(strstr(connection.client_error.text, client_says));
    assert_int_equal(connection.server_status, STATUS_DENIED);
    assert_non_null(strstr(connection.server_error.text, server_hears));
    disconnect(&connection);
}

static void wrong_server_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    wrong_server(&foreign, "the peer's certificate comes from an unknown authority",
                 "it does not know its authority");
    wrong_server(&expired, "the peer's certificate has expired", "it has expired");
}

static void a_wrong_or_expired_server_certificate_is_denied_and_both_hear_why(void **state)
{
    (void)state;
    test_run(wrong_server_main, NULL);
}

static void protocols_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    struct connection connection;
    connection_init(&connection);
    connection.client_options.alpn[0] = "gopher";
    connection.client_options.alpn[1] = NULL;
    connect_both(&connection);
    assert_int_equal(connection.server_status, STATUS_INVALID);
    assert_int_equal(connection.client_status, STATUS_INVALID);
    assert_non_null(strstr(connection.server_error.text, "speaks none of our protocols"));
    assert_non_null(strstr(connection.client_error.text, "speaks none of our protocols"));
    disconnect(&connection);
}

static void sides_without_a_common_protocol_do_not_talk(void **state)
{
    (void)state;
    test_run(protocols_main, NULL);
}

static void contexts_that_can_not_work_are_refused_with_a_sentence(void **state)
{
    (void)state;
    struct tls_context *context;
    struct error error;
    static const struct {
        bool swap_key, no_certificate, garbage_authority;
        const char *says;
    } cases[] = {
        { .swap_key = true, .says = "key: it does not belong to the certificate" },
        { .no_certificate = true, .says = "a certificate, its key and an authority belong" },
        { .garbage_authority = true, .says = "authority: no PEM certificate in it" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tls_options options = options_of(&server, true);
        if (cases[i].swap_key) options.key_pem = client.key_pem;
        if (cases[i].no_certificate) options.certificate_pem = NULL;
        if (cases[i].garbage_authority) options.authority_pem = "garbage";
        assert_int_equal(tls_context_create(&options, &context, &error), STATUS_INVALID);
        assert_non_null(strstr(error.text, cases[i].says));
    }
}

/* --- peers that break the rules ---
 */

struct bare {
    uint16_t port;
    int version_max; /* 0: TLS 1.3 */
    int connected;
    ssize_t last; /* what the socket says in the end: 0, an end; -1, a reset */
    char heard[128];
};

static int bare_connect(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int number = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(number, (struct sockaddr *)&address, sizeof address) != 0) abort();
    return number;
}

/* A client without a certificate, on a worker thread. */
static void bare_client(void *argument)
{
    struct bare *bare = argument;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (bare->version_max != 0) (void)SSL_CTX_set_max_proto_version(context, bare->version_max);
    static const unsigned char alpn[] = { 6, 'u', 'n', 'u', 'm', '/', '1' };
    (void)SSL_CTX_set_alpn_protos(context, alpn, sizeof alpn);
    SSL *ssl = SSL_new(context);
    int number = bare_connect(bare->port);
    (void)SSL_set_fd(ssl, number);
    bare->connected = SSL_connect(ssl);
    char byte;
    /* It believes to be connected and speaks first. */
    static const char request[40000];
    if (bare->connected == 1 && SSL_write(ssl, request, sizeof request) == sizeof request)
        (void)SSL_read(ssl, &byte, 1);
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    (void)snprintf(bare->heard, sizeof bare->heard, "%s", reason == NULL ? "" : reason);
    ERR_clear_error();
    char rest[256];
    do bare->last = recv(number, rest, sizeof rest, 0);
    while (bare->last > 0);
    SSL_free(ssl);
    SSL_CTX_free(context);
    (void)close(number);
}

static void accept_and_shake(void *argument)
{
    struct connection *connection = argument;
    accept_fiber(connection);
    server_fiber(connection);
}

static uint16_t port_of(const struct connection *connection)
{
    const char *address = connection->listener->operations->address(connection->listener);
    return (uint16_t)strtoul(strrchr(address, ':') + 1, NULL, 10);
}

static void bare_meets(int version_max, enum status status, const char *server_says,
                       const char *client_hears)
{
    struct connection connection;
    struct scope scope;
    connection_init(&connection);
    listen_here(&connection);
    scope_init(&scope, fiber_scope());
    test_spawn(&scope, accept_and_shake, &connection);
    struct bare bare = { .port = port_of(&connection), .version_max = version_max };
    assert_int_equal(worker_run(fiber_reactor(), bare_client, &bare), STATUS_OK);
    scope_join(&scope);
    assert_int_equal(connection.server_status, status);
    assert_non_null(strstr(connection.server_error.text, server_says));
    assert_string_equal(bare.heard, client_hears);
    assert_int_equal(bare.last, 0); /* a reset could have swallowed the reason */
    disconnect(&connection);
}

static void bare_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    bare_meets(0, STATUS_DENIED, "the peer showed no certificate",
               "tlsv13 alert certificate required");
    bare_meets(TLS1_2_VERSION, STATUS_INVALID, "the peer does not speak TLS 1.3",
               "tlsv1 alert protocol version");
}

static void a_client_without_a_certificate_or_with_old_tls_is_told_so(void **state)
{
    (void)state;
    test_run(bare_main, NULL);
}

/* The server meets BYTES and then, by choice, the end of the connection. */
static enum status server_meets(const void *bytes, size_t size, bool ends, struct error *ret_error)
{
    struct connection connection;
    struct scope scope;
    connection_init(&connection);
    /* Only who says nothing and stays is waited for in vain. */
    connection.timeout_ns = size == 0 && !ends ? 50 * MS : 20000 * MS;
    connect_plain(&connection);
    scope_init(&scope, fiber_scope());
    if (size > 0)
        assert_int_equal(stream_write(connection.plain_client, bytes, size, DEADLINE_NEVER),
                         STATUS_OK);
    if (ends) {
        stream_close(connection.plain_client);
        connection.plain_client = NULL;
    }
    test_spawn(&scope, server_fiber, &connection);
    scope_join(&scope);
    *ret_error = connection.server_error;
    enum status status = connection.server_status;
    stream_close(connection.plain_client);
    disconnect(&connection);
    return status;
}

static size_t make_hello(unsigned char *ret_hello, size_t size)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(context);
    BIO *in = BIO_new(BIO_s_mem());
    BIO *out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, in, out);
    (void)SSL_connect(ssl);
    int got = BIO_read(out, ret_hello, (int)size);
    assert_in_range(got, 100, (int)size);
    SSL_free(ssl);
    SSL_CTX_free(context);
    ERR_clear_error();
    return (size_t)got;
}

static void garbage_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    struct error error;
    static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_int_equal(server_meets(http, sizeof http - 1, false, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "the peer speaks plain HTTP, not TLS"));
    uint8_t noise[1000];
    for (size_t i = 0; i < sizeof noise; i++) noise[i] = (uint8_t)(i * 37 + 11);
    assert_int_equal(server_meets(noise, sizeof noise, false, &error), STATUS_INVALID);
    assert_int_equal(server_meets(noise, 0, true, &error), STATUS_CLOSED);
    assert_int_equal(server_meets(noise, 0, false, &error), STATUS_TIMEOUT);
    assert_non_null(strstr(error.text, "no TLS handshake in time"));

    unsigned char hello[2048];
    size_t size = make_hello(hello, sizeof hello);
    for (size_t cut = 0; cut <= size; cut++)
        assert_int_equal(server_meets(hello, cut, true, &error), STATUS_CLOSED);
    for (size_t i = 0; i < size; i += 3) {
        hello[i] ^= 0x55;
        enum status status = server_meets(hello, size, true, &error);
        assert_int_not_equal(status, STATUS_OK);
        hello[i] ^= 0x55;
    }
}

static void garbage_and_every_truncation_of_a_handshake_end_one_connection_only(void **state)
{
    (void)state;
    test_run(garbage_main, NULL);
}

/* --- bytes ---
 */

struct side {
    struct stream *stream;
    size_t got;
    enum status status;
    bool done;
};

static uint8_t pattern(size_t place)
{
    return (uint8_t)(place * 31 + place / 257);
}

static void write_large(void *argument)
{
    struct side *side = argument;
    uint8_t *bytes = malloc(LARGE_BYTES);
    for (size_t i = 0; i < LARGE_BYTES; i++) bytes[i] = pattern(i);
    assert_int_equal(stream_write(side->stream, bytes, LARGE_BYTES, DEADLINE_NEVER), STATUS_OK);
    free(bytes);
}

static void read_large(void *argument)
{
    struct side *side = argument;
    while (side->got < LARGE_BYTES) {
        uint8_t bytes[1000];
        size_t size;
        assert_int_equal(stream_read(side->stream, bytes, sizeof bytes, DEADLINE_NEVER, &size),
                         STATUS_OK);
        assert_int_not_equal(size, 0);
        for (size_t i = 0; i < size; i++)
            if (bytes[i] != pattern(side->got + i)) fail();
        side->got += size;
    }
}

static void large_main(struct scope *root, void *context)
{
    (void)context;
    struct connection connection;
    struct scope scope;
    connection_init(&connection);
    connect_both(&connection);
    struct side near = { .stream = connection.client };
    struct side far = { .stream = connection.server };
    scope_init(&scope, root);
    test_spawn(&scope, write_large, &near);
    test_spawn(&scope, read_large, &near);
    test_spawn(&scope, write_large, &far);
    test_spawn(&scope, read_large, &far);
    scope_join(&scope);
    assert_int_equal(near.got, LARGE_BYTES);
    assert_int_equal(far.got, LARGE_BYTES);
    disconnect(&connection);
}

static void ten_megabytes_pass_in_both_directions_at_once(void **state)
{
    (void)state;
    test_run(large_main, NULL);
}

static void read_one(void *argument)
{
    struct side *side = argument;
    char byte;
    size_t size = 99;
    side->status = stream_read(side->stream, &byte, 1, DEADLINE_NEVER, &size);
    side->got = size;
    side->done = true;
}

static void endings_main(struct scope *root, void *context)
{
    (void)context;
    enum { GOODBYE, CLOSED_HERE, SHUT_DOWN_HERE, CANCELLED, WAYS };
    for (int way = 0; way < WAYS; way++) {
        struct connection connection;
        struct scope scope;
        connection_init(&connection);
        connect_both(&connection);
        struct side side = { .stream = connection.server };
        scope_init(&scope, root);
        test_spawn(&scope, read_one, &side);
        assert_int_equal(fiber_sleep_ns(5 * MS), STATUS_OK);
        assert_false(side.done);
        enum status expected = way == GOODBYE ? STATUS_OK : STATUS_CLOSED;
        switch (way) {
        case GOODBYE:
            stream_close(connection.client);
            connection.client = NULL;
            break;
        case CLOSED_HERE:
            stream_close(connection.server);
            connection.server = NULL;
            break;
        case SHUT_DOWN_HERE: connection.server->operations->shutdown(connection.server); break;
        default: scope_cancel(&scope); expected = STATUS_CANCELLED;
        }
        scope_join(&scope);
        assert_int_equal(side.status, expected);
        assert_int_equal(side.got, way == GOODBYE ? 0 : 99);
        disconnect(&connection);
    }
}

static void a_goodbye_is_an_end_and_closing_or_cancelling_wakes_the_reader(void **state)
{
    (void)state;
    test_run(endings_main, NULL);
}

/* A relay between the two sides that forwards a number of bytes and then cuts. */
struct relay {
    struct stream *from, *to;
    size_t left;
};

static void relay_fiber(void *argument)
{
    struct relay *relay = argument;
    while (relay->left > 0) {
        uint8_t bytes[512];
        size_t size;
        size_t want = relay->left < sizeof bytes ? relay->left : sizeof bytes;
        if (stream_read(relay->from, bytes, want, DEADLINE_NEVER, &size) != STATUS_OK || size == 0)
            break;
        if (stream_write(relay->to, bytes, size, DEADLINE_NEVER) != STATUS_OK) break;
        relay->left -= size;
    }
    relay->from->operations->shutdown(relay->from);
    relay->to->operations->shutdown(relay->to);
}

/* As server_fiber, but the greeting may fail. */
static void server_or_nobody(void *argument)
{
    struct connection *connection = argument;
    connection->server_status =
        shake(&connection->server_options, &connection->server_context, &connection->plain_server,
              connection->timeout_ns, &connection->server, &connection->server_error);
    if (connection->server_status == STATUS_OK)
        connection->server_status = stream_write(connection->server, "!", 1, DEADLINE_NEVER);
}

static void cut_main(struct scope *root, void *context)
{
    (void)context;
    for (size_t cut = 0; cut < 6000; cut += 97) {
        struct connection near, far;
        struct scope scope, relays;
        connection_init(&near);
        connection_init(&far);
        near.timeout_ns = far.timeout_ns = 3000ULL * MS;
        connect_plain(&near);
        connect_plain(&far);
        /* client - near - relay - far - server */
        struct relay there = { .from = near.plain_server, .to = far.plain_client, .left = cut };
        struct relay back = { .from = far.plain_client, .to = near.plain_server, .left = cut };
        near.plain_server = far.plain_client = NULL;
        far.server_options = options_of(&server, true);
        scope_init(&scope, root);
        scope_init(&relays, root);
        test_spawn(&relays, relay_fiber, &there);
        test_spawn(&relays, relay_fiber, &back);
        test_spawn(&scope, client_fiber, &near);
        test_spawn(&scope, server_or_nobody, &far);
        scope_join(&scope);
        scope_cancel(&relays);
        scope_join(&relays);
        if (near.client_status == STATUS_OK && near.first_read != STATUS_OK)
            assert_int_equal(near.first_read, STATUS_CLOSED); /* cut, not ended */
        stream_close(there.from);
        stream_close(there.to);
        disconnect(&near);
        disconnect(&far);
    }
}

static void a_connection_cut_at_any_byte_is_closed_and_never_taken_for_an_end(void **state)
{
    (void)state;
    test_run(cut_main, NULL);
}

static int group_begin(void **state)
{
    (void)state;
    static const char names[] = "DNS:localhost,IP:127.0.0.1,URI:spiffe://computer/machine/one";
    make(&authority, "authority", NULL, NULL, -1, 100);
    make(&stranger, "stranger", NULL, NULL, -1, 100);
    make(&server, "server", &authority, names, -1, 100);
    make(&client, "client", &authority, "URI:spiffe://computer/person/one", -1, 100);
    make(&expired, "expired", &authority, names, -2, -1);
    make(&foreign, "foreign", &stranger, names, -1, 100);
    return 0;
}

static int group_end(void **state)
{
    (void)state;
    struct signer *const all[] = { &authority, &stranger, &server, &client, &expired, &foreign };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) forget(all[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_sides_of_one_authority_agree),
        cmocka_unit_test(the_server_must_carry_the_name_that_the_client_asks_for),
        cmocka_unit_test(a_wrong_or_expired_client_certificate_is_denied_and_both_hear_why),
        cmocka_unit_test(a_wrong_or_expired_server_certificate_is_denied_and_both_hear_why),
        cmocka_unit_test(sides_without_a_common_protocol_do_not_talk),
        cmocka_unit_test(contexts_that_can_not_work_are_refused_with_a_sentence),
        cmocka_unit_test(a_client_without_a_certificate_or_with_old_tls_is_told_so),
        cmocka_unit_test(garbage_and_every_truncation_of_a_handshake_end_one_connection_only),
        cmocka_unit_test(ten_megabytes_pass_in_both_directions_at_once),
        cmocka_unit_test(a_goodbye_is_an_end_and_closing_or_cancelling_wakes_the_reader),
        cmocka_unit_test(a_connection_cut_at_any_byte_is_closed_and_never_taken_for_an_end),
    };
    return cmocka_run_group_tests(tests, group_begin, group_end);
}
