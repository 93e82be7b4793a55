/* TLS 1.3 streams by OpenSSL.
 *
 * OpenSSL never touches a socket: a pair of hooks (a BIO of our own) lets it take the bytes that
 * were read from the plain stream and put those to be written into a buffer, so that its calls
 * never wait and the fiber does the waiting. Handshakes run on the large stack. No session tickets,
 * no resumption: each connection shows its certificates anew.
 *
 * A stream may have a reader and a writer fiber. Both may have bytes to send (a reader answers key
 * updates), so sending is one at a time: who finds another at it waits for its end. */
#include "reactor/tls.h"

#include "base/bytes.h"
#include "reactor/reactor.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TLS_RECORD_BYTES = 16 * 1024,        /* RFC 8446, 5.1 */
    TLS_READ_BYTES = 17 * 1024,          /* one whole record */
    TLS_WRITE_BYTES = 64 * 1024,         /* encrypted before it is sent */
    TLS_OUTGOING_BYTES_MAX = 512 * 1024, /* a write and whatever a handshake says */
    TLS_ALPN_BYTES_MAX = 255,
    TLS_CHAIN_COUNT_MAX = 8,           /* certificates of one chain */
    TLS_AUTHORITY_COUNT_MAX = 64,      /* certificates of authorities */
    TLS_LINGER_NS = 500 * 1000 * 1000, /* for a refused peer to read why */
    TLS_LINGER_BYTES_MAX = 64 * 1024,
};
_Static_assert(TLS_WRITE_BYTES * 2 < TLS_OUTGOING_BYTES_MAX, "an encrypted write fits");

struct tls_context {
    SSL_CTX *ssl_context;
    BIO_METHOD *hooks;
    bool is_server;
    bool has_alpn;
    unsigned char alpn[TLS_ALPN_BYTES_MAX]; /* as on the wire: length, name, ... */
    unsigned alpn_size;
    char server_name[TLS_NAME_BYTES_MAX + 1];
};

struct tls_stream {
    struct stream stream;
    struct tls_context *context;
    struct stream *plain; /* owned */
    SSL *ssl;
    uint8_t *incoming; /* TLS_READ_BYTES, read from the plain stream */
    size_t incoming_begin;
    size_t incoming_end;
    bool plain_ended;       /* the plain stream is at its end */
    struct buffer outgoing; /* to be written to the plain stream */
    bool sending;           /* a fiber is at it */
    struct condition sent;
    enum status failure; /* of the connection as a whole; STATUS_OK: none */
    char failure_text[128];
    unsigned users;
    bool ended;
    bool closed;
    char alpn[TLS_ALPN_BYTES_MAX + 1];
    unsigned char *peer_der;
    int peer_size;
};

static struct tls_stream *tls_of(const struct stream *stream)
{
    return (struct tls_stream *)((char *)stream - offsetof(struct tls_stream, stream));
}

/* --- the hooks ---------------------------------------------------------------------------------
 */

static int hook_read(BIO *bio, char *ret_bytes, size_t size, size_t *ret_read)
{
    struct tls_stream *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    size_t have = tls->incoming_end - tls->incoming_begin;
    if (have == 0) {
        if (!tls->plain_ended) BIO_set_retry_read(bio);
        return 0;
    }
    size_t part = have < size ? have : size;
    memcpy(ret_bytes, tls->incoming + tls->incoming_begin, part);
    tls->incoming_begin += part;
    *ret_read = part;
    return 1;
}

static int hook_write(BIO *bio, const char *bytes, size_t size, size_t *ret_written)
{
    struct tls_stream *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (buffer_append(&tls->outgoing, bytes, size) != STATUS_OK) return 0;
    *ret_written = size;
    return 1;
}

static long hook_control(BIO *bio, int command, long number, void *pointer)
{
    struct tls_stream *tls = BIO_get_data(bio);
    (void)number;
    (void)pointer;
    if (command == BIO_CTRL_FLUSH) return 1;
    if (command == BIO_CTRL_EOF) return tls->plain_ended;
    return 0;
}

static BIO_METHOD *hooks_create(void)
{
    BIO_METHOD *hooks = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "fiber");
    if (hooks == NULL) return NULL;
    (void)BIO_meth_set_read_ex(hooks, hook_read);
    (void)BIO_meth_set_write_ex(hooks, hook_write);
    (void)BIO_meth_set_ctrl(hooks, hook_control);
    return hooks;
}

/* --- contexts ----------------------------------------------------------------------------------
 */

static const char *library_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason == NULL ? "unknown reason" : reason;
}

static enum status use_chain(SSL_CTX *ssl_context, const char *pem, struct error *error)
{
    BIO *text = BIO_new_mem_buf(pem, -1);
    if (text == NULL) return error_set(error, STATUS_NO_MEMORY, "certificate: out of memory");
    enum status status = STATUS_OK;
    unsigned count = 0;
    X509 *certificate;
    while (status == STATUS_OK && count <= TLS_CHAIN_COUNT_MAX &&
           (certificate = PEM_read_bio_X509(text, NULL, NULL, NULL)) != NULL) {
        long good = count == 0 ? SSL_CTX_use_certificate(ssl_context, certificate)
                               : SSL_CTX_add1_chain_cert(ssl_context, certificate);
        if (good != 1)
            status = error_set(error, STATUS_INVALID, "certificate: %s", library_reason());
        X509_free(certificate);
        count++;
    }
    BIO_free(text);
    ERR_clear_error(); /* the end of the text counts as an error */
    if (status == STATUS_OK && count == 0)
        return error_set(error, STATUS_INVALID, "certificate: no PEM certificate in it");
    if (status == STATUS_OK && count > TLS_CHAIN_COUNT_MAX)
        return error_set(error, STATUS_INVALID, "certificate: more than %d in the chain",
                         TLS_CHAIN_COUNT_MAX);
    return status;
}

static enum status use_key(SSL_CTX *ssl_context, const char *pem, struct error *error)
{
    BIO *text = BIO_new_mem_buf(pem, -1);
    if (text == NULL) return error_set(error, STATUS_NO_MEMORY, "key: out of memory");
    char no_password[] = "";
    EVP_PKEY *key = PEM_read_bio_PrivateKey(text, NULL, NULL, no_password);
    BIO_free(text);
    if (key == NULL) {
        ERR_clear_error();
        return error_set(error, STATUS_INVALID, "key: no PEM private key in it");
    }
    int good = SSL_CTX_use_PrivateKey(ssl_context, key);
    EVP_PKEY_free(key);
    ERR_clear_error();
    if (good != 1 || SSL_CTX_check_private_key(ssl_context) != 1)
        return error_set(error, STATUS_INVALID, "key: it does not belong to the certificate");
    return STATUS_OK;
}

static enum status use_authority(SSL_CTX *ssl_context, const char *pem, struct error *error)
{
    BIO *text = BIO_new_mem_buf(pem, -1);
    if (text == NULL) return error_set(error, STATUS_NO_MEMORY, "authority: out of memory");
    X509_STORE *store = SSL_CTX_get_cert_store(ssl_context);
    unsigned count = 0;
    X509 *certificate;
    while (count < TLS_AUTHORITY_COUNT_MAX &&
           (certificate = PEM_read_bio_X509(text, NULL, NULL, NULL)) != NULL) {
        count += X509_STORE_add_cert(store, certificate) == 1;
        X509_free(certificate);
    }
    BIO_free(text);
    ERR_clear_error();
    if (count == 0) return error_set(error, STATUS_INVALID, "authority: no PEM certificate in it");
    return STATUS_OK;
}

static enum status use_alpn(struct tls_context *context, const char *const *names,
                            struct error *error)
{
    for (unsigned i = 0; i < TLS_ALPN_COUNT_MAX && names[i] != NULL; i++) {
        size_t size = strlen(names[i]);
        if (size == 0 || context->alpn_size + size + 1 > sizeof context->alpn)
            return error_set(error, STATUS_INVALID, "ALPN \"%.100s\": empty or too long", names[i]);
        context->alpn[context->alpn_size] = (unsigned char)size;
        memcpy(context->alpn + context->alpn_size + 1, names[i], size);
        context->alpn_size += (unsigned)size + 1;
        context->has_alpn = true;
    }
    return STATUS_OK;
}

/* The first of ours that the peer offers. */
static int choose_alpn(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_size,
                       const unsigned char *offered, unsigned offered_size, void *argument)
{
    const struct tls_context *context = argument;
    (void)ssl;
    for (unsigned i = 0; i < context->alpn_size; i += context->alpn[i] + 1u) {
        for (unsigned j = 0; j < offered_size; j += offered[j] + 1u) {
            if (offered[j] != context->alpn[i] || j + offered[j] >= offered_size) continue;
            if (memcmp(offered + j + 1, context->alpn + i + 1, offered[j]) != 0) continue;
            *ret_name = context->alpn + i + 1;
            *ret_size = context->alpn[i];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void configure(struct tls_context *context)
{
    SSL_CTX *ssl_context = context->ssl_context;
    (void)SSL_CTX_set_min_proto_version(ssl_context, TLS1_3_VERSION);
    SSL_CTX_set_options(ssl_context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    (void)SSL_CTX_set_num_tickets(ssl_context, 0);
    (void)SSL_CTX_set_session_cache_mode(ssl_context, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_mode(ssl_context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(ssl_context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_verify_depth(ssl_context, TLS_CHAIN_COUNT_MAX);
    if (context->is_server) {
        SSL_CTX_set_alpn_select_cb(ssl_context, choose_alpn, context);
    } else if (context->has_alpn) {
        (void)SSL_CTX_set_alpn_protos(ssl_context, context->alpn, context->alpn_size);
    }
}

static enum status fill_context(struct tls_context *context, const struct tls_options *options,
                                struct error *error)
{
    if (options->certificate_pem == NULL || options->key_pem == NULL ||
        options->authority_pem == NULL)
        return error_set(error, STATUS_INVALID,
                         "a certificate, its key and an authority belong "
                         "to both sides of a connection");
    if (options->server_name != NULL) {
        size_t size = strlen(options->server_name);
        if (size == 0 || size > TLS_NAME_BYTES_MAX)
            return error_set(error, STATUS_INVALID, "server name: 1 to %d bytes",
                             TLS_NAME_BYTES_MAX);
        memcpy(context->server_name, options->server_name, size);
    }
    context->ssl_context =
        SSL_CTX_new(context->is_server ? TLS_server_method() : TLS_client_method());
    context->hooks = hooks_create();
    if (context->ssl_context == NULL || context->hooks == NULL)
        return error_set(error, STATUS_NO_MEMORY, "TLS: out of memory");
    enum status status = use_alpn(context, options->alpn, error);
    if (status == STATUS_OK)
        status = use_chain(context->ssl_context, options->certificate_pem, error);
    if (status == STATUS_OK) status = use_key(context->ssl_context, options->key_pem, error);
    if (status == STATUS_OK)
        status = use_authority(context->ssl_context, options->authority_pem, error);
    if (status == STATUS_OK) configure(context);
    return status;
}

enum status tls_context_create(const struct tls_options *options, struct tls_context **ret_context,
                               struct error *error)
{
    /* The machine's openssl.cnf has no say in who may connect. */
    (void)OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    struct tls_context *context = calloc(1, sizeof *context);
    if (context == NULL) return error_set(error, STATUS_NO_MEMORY, "TLS: out of memory");
    context->is_server = options->is_server;
    enum status status = fill_context(context, options, error);
    if (status != STATUS_OK) {
        tls_context_destroy(context);
        return status;
    }
    *ret_context = context;
    return STATUS_OK;
}

void tls_context_destroy(struct tls_context *context)
{
    if (context == NULL) return;
    SSL_CTX_free(context->ssl_context);
    BIO_meth_free(context->hooks);
    free(context);
}

/* --- why it failed -----------------------------------------------------------------------------
 */

struct reason {
    int code;
    enum status status;
    const char *sentence;
};

/* By the result of verification: what is wrong with the peer's certificate. */
static const struct reason verify_reasons[] = {
    { X509_V_ERR_CERT_HAS_EXPIRED, STATUS_DENIED, "the peer's certificate has expired" },
    { X509_V_ERR_CERT_NOT_YET_VALID, STATUS_DENIED, "the peer's certificate is not valid yet" },
    { X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, STATUS_DENIED,
      "the peer's certificate comes from an unknown authority" },
    { X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, STATUS_DENIED,
      "the peer's certificate comes from an unknown authority" },
    { X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, STATUS_DENIED,
      "the peer's certificate comes from an unknown authority" },
    { X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, STATUS_DENIED,
      "the peer's certificate comes from an unknown authority" },
    { X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, STATUS_DENIED,
      "the peer's certificate is signed by itself, not by the authority" },
    { X509_V_ERR_CERT_SIGNATURE_FAILURE, STATUS_DENIED,
      "the peer's certificate has a wrong signature: another authority of the same name" },
    { X509_V_ERR_HOSTNAME_MISMATCH, STATUS_DENIED, "the peer's certificate carries another name" },
    { X509_V_ERR_IP_ADDRESS_MISMATCH, STATUS_DENIED,
      "the peer's certificate carries another address" },
    { X509_V_ERR_INVALID_PURPOSE, STATUS_DENIED, "the peer's certificate is for another purpose" },
};

/* By the library's own reason: alerts of the peer, and what is no TLS 1.3 at all. */
static const struct reason library_reasons[] = {
    { SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, STATUS_DENIED, "the peer showed no certificate" },
    { SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, STATUS_DENIED,
      "the peer asks for a certificate, and ours was not shown" },
    { SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, STATUS_DENIED,
      "the peer refused our certificate: it has expired" },
    { SSL_R_TLSV1_ALERT_UNKNOWN_CA, STATUS_DENIED,
      "the peer refused our certificate: it does not know its authority" },
    { SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, STATUS_DENIED, "the peer refused our certificate" },
    { SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, STATUS_DENIED, "the peer refused our certificate" },
    { SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, STATUS_DENIED,
      "the peer refused our certificate: it was revoked" },
    { SSL_R_TLSV1_ALERT_DECRYPT_ERROR, STATUS_DENIED,
      "the peer refused our certificate: its signature is wrong" },
    { SSL_R_TLSV1_ALERT_ACCESS_DENIED, STATUS_DENIED, "the peer refused our certificate" },
    { SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL, STATUS_INVALID,
      "the peer speaks none of our protocols (ALPN)" },
    { SSL_R_NO_APPLICATION_PROTOCOL, STATUS_INVALID,
      "the peer speaks none of our protocols (ALPN)" },
    { SSL_R_UNSUPPORTED_PROTOCOL, STATUS_INVALID, "the peer does not speak TLS 1.3" },
    { SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, STATUS_INVALID, "the peer does not speak TLS 1.3" },
    { SSL_R_WRONG_VERSION_NUMBER, STATUS_INVALID, "the peer does not speak TLS" },
    { SSL_R_HTTP_REQUEST, STATUS_INVALID, "the peer speaks plain HTTP, not TLS" },
    { SSL_R_HTTPS_PROXY_REQUEST, STATUS_INVALID, "the peer speaks plain HTTP, not TLS" },
    { SSL_R_PACKET_LENGTH_TOO_LONG, STATUS_INVALID, "the peer does not speak TLS" },
    { SSL_R_UNEXPECTED_EOF_WHILE_READING, STATUS_CLOSED,
      "the connection ended in the middle of TLS" },
};

static const struct reason *find_reason(const struct reason *reasons, size_t count, int code)
{
    for (size_t i = 0; i < count; i++)
        if (reasons[i].code == code) return &reasons[i];
    return NULL;
}

/* Keep the reason of the library's last failure; the first one counts. */
static enum status tls_fail(struct tls_stream *tls)
{
    if (tls->failure != STATUS_OK) return tls->failure;
    int code = ERR_GET_REASON(ERR_peek_error());
    long verified = SSL_get_verify_result(tls->ssl);
    const struct reason *reason = NULL;
    if (verified != X509_V_OK && code == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        reason = find_reason(verify_reasons, sizeof verify_reasons / sizeof verify_reasons[0],
                             (int)verified);
        if (reason == NULL) {
            tls->failure = STATUS_DENIED;
            (void)snprintf(tls->failure_text, sizeof tls->failure_text,
                           "the peer's certificate: %s", X509_verify_cert_error_string(verified));
        }
    } else {
        reason =
            find_reason(library_reasons, sizeof library_reasons / sizeof library_reasons[0], code);
        if (reason == NULL) {
            tls->failure = STATUS_INVALID;
            (void)snprintf(tls->failure_text, sizeof tls->failure_text,
                           "the peer breaks TLS 1.3: %s", library_reason());
        }
    }
    if (reason != NULL) {
        tls->failure = reason->status;
        (void)snprintf(tls->failure_text, sizeof tls->failure_text, "%s", reason->sentence);
    }
    ERR_clear_error();
    return tls->failure;
}

static enum status tls_fail_plain(struct tls_stream *tls, enum status status)
{
    /* Cut short by the caller's own deadline or scope: not the connection's fault. */
    if (status == STATUS_TIMEOUT || status == STATUS_CANCELLED) return status;
    if (tls->failure == STATUS_OK) {
        tls->failure = status;
        (void)snprintf(tls->failure_text, sizeof tls->failure_text, "the connection is %s",
                       status_name(status));
    }
    return status;
}

/* --- moving bytes ------------------------------------------------------------------------------
 */

/* Send what OpenSSL has to say. */
static enum status tls_send(struct tls_stream *tls, uint64_t deadline_ns)
{
    while (tls->outgoing.used > 0) {
        if (tls->sending) {
            enum status status = condition_wait(&tls->sent, deadline_ns);
            if (status != STATUS_OK) return status;
            if (tls->ended || tls->failure != STATUS_OK) return STATUS_CLOSED;
            continue;
        }
        /* Others may add to `outgoing` meanwhile. */
        struct buffer sending = tls->outgoing;
        buffer_init(&tls->outgoing, TLS_OUTGOING_BYTES_MAX);
        tls->sending = true;
        enum status status = stream_write(tls->plain, sending.data, sending.used, deadline_ns);
        tls->sending = false;
        buffer_finish(&sending);
        condition_broadcast(&tls->sent);
        if (status != STATUS_OK) {
            /* Part of a record may be out: nothing sensible can follow. */
            if (tls->failure == STATUS_OK) tls->failure = STATUS_CLOSED;
            return status;
        }
    }
    return STATUS_OK;
}

/* Read more from the plain stream, whose turn it is. */
static enum status tls_receive(struct tls_stream *tls, uint64_t deadline_ns)
{
    if (tls->incoming_begin < tls->incoming_end) return STATUS_OK;
    if (tls->incoming == NULL) {
        tls->incoming = malloc(TLS_READ_BYTES);
        if (tls->incoming == NULL) return STATUS_NO_MEMORY;
    }
    size_t got;
    enum status status = stream_read(tls->plain, tls->incoming, TLS_READ_BYTES, deadline_ns, &got);
    if (status != STATUS_OK) return tls_fail_plain(tls, status);
    tls->incoming_begin = 0;
    tls->incoming_end = got;
    if (got == 0) tls->plain_ended = true;
    return STATUS_OK;
}

static void tls_free(struct tls_stream *tls)
{
    stream_close(tls->plain);
    SSL_free(tls->ssl);
    buffer_finish(&tls->outgoing);
    free(tls->incoming);
    OPENSSL_free(tls->peer_der);
    free(tls);
}

static enum status tls_leave(struct tls_stream *tls, enum status status)
{
    if (tls->ended) status = STATUS_CLOSED;
    tls->users--;
    if (tls->closed && tls->users == 0) tls_free(tls);
    return status;
}

static enum status tls_read_inside(struct tls_stream *tls, void *ret_bytes, size_t size,
                                   uint64_t deadline_ns, size_t *ret_read)
{
    while (!tls->ended) {
        if (tls->failure != STATUS_OK) return tls->failure;
        size_t got = 0;
        ERR_clear_error();
        int good = SSL_read_ex(tls->ssl, ret_bytes, size, &got);
        int why = good == 1 ? SSL_ERROR_NONE : SSL_get_error(tls->ssl, good);
        if (good != 1 && why != SSL_ERROR_WANT_READ && why != SSL_ERROR_ZERO_RETURN)
            return tls_fail(tls);
        if (tls->outgoing.used > 0 && !tls->sending) {
            enum status status = tls_send(tls, deadline_ns);
            if (status != STATUS_OK && good != 1) return status;
        }
        if (good == 1 || why == SSL_ERROR_ZERO_RETURN) {
            *ret_read = got;
            return STATUS_OK;
        }
        enum status status = tls_receive(tls, deadline_ns);
        if (status != STATUS_OK) return status;
    }
    return STATUS_CLOSED;
}

static enum status tls_read(struct stream *stream, void *ret_bytes, size_t size,
                            uint64_t deadline_ns, size_t *ret_read)
{
    struct tls_stream *tls = tls_of(stream);
    assert(size > 0);
    if (fiber_must_stop()) return STATUS_CANCELLED;
    tls->users++;
    return tls_leave(tls, tls_read_inside(tls, ret_bytes, size, deadline_ns, ret_read));
}

/* Encrypt up to TLS_WRITE_BYTES and send them together. */
static enum status tls_write_part(struct tls_stream *tls, const uint8_t **bytes, size_t *size,
                                  uint64_t deadline_ns)
{
    size_t part = *size < TLS_WRITE_BYTES ? *size : TLS_WRITE_BYTES;
    while (part > 0) {
        size_t written = 0;
        ERR_clear_error();
        if (SSL_write_ex(tls->ssl, *bytes, part, &written) != 1) return tls_fail(tls);
        *bytes += written;
        *size -= written;
        part -= written;
    }
    return tls_send(tls, deadline_ns);
}

static enum status tls_write(struct stream *stream, const void *data, size_t size,
                             uint64_t deadline_ns)
{
    struct tls_stream *tls = tls_of(stream);
    const uint8_t *bytes = data;
    if (fiber_must_stop()) return STATUS_CANCELLED;
    tls->users++;
    enum status status = STATUS_OK;
    while (size > 0 && status == STATUS_OK && !tls->ended) {
        status = tls->failure;
        if (status == STATUS_OK) status = tls_write_part(tls, &bytes, &size, deadline_ns);
    }
    return tls_leave(tls, status);
}

/* Say goodbye if that takes no waiting, and wake who is inside. */
static void tls_end(struct tls_stream *tls)
{
    if (tls->ended) return;
    if (tls->failure == STATUS_OK && !tls->sending && fiber_may_wait()) {
        ERR_clear_error();
        (void)SSL_shutdown(tls->ssl);
        fiber_shield();
        enum status status = tls_send(tls, 0);
        fiber_unshield();
        (void)status; /* the peer then sees a cut connection */
    }
    tls->ended = true;
    tls->plain->operations->shutdown(tls->plain);
    condition_broadcast(&tls->sent);
}

static void tls_shutdown(struct stream *stream)
{
    tls_end(tls_of(stream));
}

static void tls_close(struct stream *stream)
{
    struct tls_stream *tls = tls_of(stream);
    assert(!tls->closed);
    tls_end(tls);
    tls->closed = true;
    if (tls->users == 0) tls_free(tls);
}

static const char *tls_peer_address(const struct stream *stream)
{
    struct stream *plain = tls_of(stream)->plain;
    return plain->operations->peer(plain);
}

static const struct stream_operations tls_operations = {
    .read = tls_read,
    .write = tls_write,
    .close = tls_close,
    .shutdown = tls_shutdown,
    .peer = tls_peer_address,
};

/* --- the handshake -----------------------------------------------------------------------------
 */

struct handshake_step {
    SSL *ssl;
    int result;
    int why;
};

static void run_handshake_step(void *argument)
{
    struct handshake_step *step = argument;
    ERR_clear_error();
    step->result = SSL_do_handshake(step->ssl);
    step->why = step->result == 1 ? SSL_ERROR_NONE : SSL_get_error(step->ssl, step->result);
}

static enum status shake_hands(struct tls_stream *tls, uint64_t deadline_ns)
{
    for (;;) {
        struct handshake_step step = { .ssl = tls->ssl };
        fiber_call_large_stack(run_handshake_step, &step);
        enum status failure = STATUS_OK;
        if (step.result != 1 && step.why != SSL_ERROR_WANT_READ) failure = tls_fail(tls);
        enum status status = tls_send(tls, deadline_ns); /* also the alert that says why */
        if (failure != STATUS_OK) return failure;
        if (status != STATUS_OK) return tls_fail_plain(tls, status);
        if (step.result == 1) return STATUS_OK;
        status = tls_receive(tls, deadline_ns);
        if (status != STATUS_OK) return status;
    }
}

/* A refused peer has bytes under way. Closing at once would reset the connection, and it might
 * never read why: wait a moment for it to leave. */
static void linger(struct tls_stream *tls, uint64_t deadline_ns)
{
    uint64_t now_ns;
    clock_monotonic_ns(reactor_clock(fiber_reactor()), &now_ns);
    uint64_t end_ns = now_ns + TLS_LINGER_NS;
    if (end_ns > deadline_ns) end_ns = deadline_ns;
    size_t total = 0;
    while (total < TLS_LINGER_BYTES_MAX && !tls->plain_ended && tls->incoming != NULL) {
        size_t got;
        if (stream_read(tls->plain, tls->incoming, TLS_READ_BYTES, end_ns, &got) != STATUS_OK ||
            got == 0)
            return;
        total += got;
    }
}

/* A SPIFFE identity is a URI among the names of the certificate. */
static bool carries_uri(X509 *certificate, const char *uri)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    bool found = false;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI) continue;
        const ASN1_IA5STRING *text = name->d.uniformResourceIdentifier;
        found = found || ((size_t)ASN1_STRING_length(text) == strlen(uri) &&
                          memcmp(ASN1_STRING_get0_data(text), uri, strlen(uri)) == 0);
    }
    GENERAL_NAMES_free(names);
    return found;
}

static bool is_uri(const char *name)
{
    return strstr(name, "://") != NULL;
}

static enum status refuse(struct tls_stream *tls, enum status status, const char *sentence)
{
    tls->failure = status;
    (void)snprintf(tls->failure_text, sizeof tls->failure_text, "%s", sentence);
    return status;
}

/* After the handshake: keep who the peer is and what was agreed. */
static enum status read_agreement(struct tls_stream *tls)
{
    const struct tls_context *context = tls->context;
    X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
    if (certificate == NULL) return refuse(tls, STATUS_DENIED, "the peer showed no certificate");
    if (is_uri(context->server_name) && !carries_uri(certificate, context->server_name))
        return refuse(tls, STATUS_DENIED, "the peer's certificate carries another name");
    tls->peer_size = i2d_X509(certificate, &tls->peer_der);
    if (tls->peer_size <= 0) return refuse(tls, STATUS_NO_MEMORY, "out of memory");
    const unsigned char *alpn = NULL;
    unsigned alpn_size = 0;
    SSL_get0_alpn_selected(tls->ssl, &alpn, &alpn_size);
    if (alpn_size == 0 && context->has_alpn)
        return refuse(tls, STATUS_INVALID, "the peer speaks none of our protocols (ALPN)");
    if (alpn_size > 0) memcpy(tls->alpn, alpn, alpn_size);
    return STATUS_OK;
}

static enum status tls_prepare(struct tls_stream *tls)
{
    const struct tls_context *context = tls->context;
    buffer_init(&tls->outgoing, TLS_OUTGOING_BYTES_MAX);
    condition_init(&tls->sent);
    tls->ssl = SSL_new(context->ssl_context);
    if (tls->ssl == NULL) return STATUS_NO_MEMORY;
    BIO *bio = BIO_new(context->hooks);
    if (bio == NULL) return STATUS_NO_MEMORY;
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    if (context->is_server) {
        SSL_set_accept_state(tls->ssl);
        return STATUS_OK;
    }
    SSL_set_connect_state(tls->ssl);
    if (context->server_name[0] == '\0' || is_uri(context->server_name)) return STATUS_OK;
    X509_VERIFY_PARAM *verify = SSL_get0_param(tls->ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(verify, context->server_name) == 1) return STATUS_OK;
    if (X509_VERIFY_PARAM_set1_host(verify, context->server_name, 0) != 1 ||
        SSL_set_tlsext_host_name(tls->ssl, context->server_name) != 1)
        return STATUS_NO_MEMORY;
    return STATUS_OK;
}

static const char *failure_sentence(const struct tls_stream *tls, enum status status)
{
    if (tls->failure_text[0] != '\0') return tls->failure_text;
    if (status == STATUS_TIMEOUT) return "no TLS handshake in time";
    return status_name(status);
}

enum status tls_stream_create(struct tls_context *context, struct stream *plain,
                              uint64_t deadline_ns, struct stream **ret_stream, struct error *error)
{
    struct tls_stream *tls = calloc(1, sizeof *tls);
    if (tls == NULL) return error_set(error, STATUS_NO_MEMORY, "TLS: out of memory");
    tls->stream.operations = &tls_operations;
    tls->context = context;
    tls->plain = plain;
    enum status status = tls_prepare(tls);
    if (status == STATUS_OK) status = shake_hands(tls, deadline_ns);
    if (status == STATUS_OK) status = read_agreement(tls);
    if (status != STATUS_OK) {
        if (status == STATUS_DENIED || status == STATUS_INVALID) linger(tls, deadline_ns);
        (void)error_set(error, status, "%s: %s", plain->operations->peer(plain),
                        failure_sentence(tls, status));
        tls->plain = NULL; /* still the caller's */
        tls_free(tls);
        return status;
    }
    *ret_stream = &tls->stream;
    return STATUS_OK;
}

const char *tls_stream_alpn(const struct stream *stream)
{
    return tls_of(stream)->alpn;
}

struct tls_peer tls_stream_peer(const struct stream *stream)
{
    const struct tls_stream *tls = tls_of(stream);
    return (struct tls_peer) { .certificate_der = tls->peer_der,
                               .certificate_size = (size_t)tls->peer_size };
}

const char *tls_stream_failure(const struct stream *stream)
{
    return tls_of(stream)->failure_text;
}
