/* TLS 1.3 streams over any stream, with client certificates, by OpenSSL.
 * A context is shared by the streams made with it and outlives them. */
#ifndef UNUM_REACTOR_TLS_H
#define UNUM_REACTOR_TLS_H

#include "base/network.h"

struct tls_context;

enum { TLS_ALPN_COUNT_MAX = 4, TLS_NAME_BYTES_MAX = 255 };

struct tls_options {
    bool is_server;
    const char *certificate_pem; /* chain, leaf first; borrowed during the call */
    const char *key_pem;
    const char
        *authority_pem; /* who may be on the other side; required: both sides show a certificate */
    /* In order of preference; NULL-terminated. The peer must share one. */
    const char *alpn[TLS_ALPN_COUNT_MAX + 1];
    /* Client: the name that the server's certificate must carry (a SPIFFE URI or DNS name). */
    const char *server_name;
};

MUST_USE enum status tls_context_create(const struct tls_options *options,
                                        struct tls_context **ret_context, struct error *error);
void tls_context_destroy(struct tls_context *context);

/* Shake hands over PLAIN (whose writes take a deadline of 0 as "without waiting"), whose ownership
 * moves into the TLS stream on STATUS_OK only. STATUS_DENIED: no certificate, a wrong, expired or
 * unknown one (ERROR says which). STATUS_INVALID: the peer does not speak TLS 1.3, or shares no
 * ALPN. STATUS_TIMEOUT.
 *
 * TLS 1.3 lets a client finish before the server has judged its certificate: a refusal then comes
 * with the client's first read, as STATUS_DENIED, and tls_stream_failure says why. Reading tells a
 * goodbye of the peer (*ret_read is 0) from a cut connection (STATUS_CLOSED). */
MUST_USE enum status tls_stream_create(struct tls_context *context, struct stream *plain,
                                       uint64_t deadline_ns, struct stream **ret_stream,
                                       struct error *error);
/* Of a TLS stream: the protocol agreed upon, and the peer's leaf certificate (DER, borrowed). */
const char *tls_stream_alpn(const struct stream *stream);
struct tls_peer {
    const unsigned char *certificate_der;
    size_t certificate_size;
};
struct tls_peer tls_stream_peer(const struct stream *stream);
/* Why the connection failed, for a person; "" while it has not. */
const char *tls_stream_failure(const struct stream *stream);

#endif
