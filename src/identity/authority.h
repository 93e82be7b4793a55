/* Authority: the key that signs every certificate of one computer.
 *
 * P-256 with SHA-256, which every TLS client accepts. The wall-clock validity of what it issues has
 * no end (RFC 5280, 4.1.2.5); the real expiry stands in an extension, in computer time. Keys come
 * from OpenSSL's own generator. OpenSSL needs more stack than a fiber has: call from a plain
 * thread, or through fiber_call_large_stack. Format: docs/formats/certificate.md. */
#ifndef UNUM_IDENTITY_AUTHORITY_H
#define UNUM_IDENTITY_AUTHORITY_H

#include "identity/identity.h"

enum { AUTHORITY_PEM_BYTES_MAX = 8192, AUTHORITY_HOSTS_MAX = 16 };

struct authority;

/* A certificate and its private key, as PEM texts. */
struct identity_pem {
    char certificate[AUTHORITY_PEM_BYTES_MAX];
    char key[AUTHORITY_PEM_BYTES_MAX];
};

/* A new one. STATUS_INVALID: the name is not that of a computer. */
MUST_USE enum status authority_create(const char *computer_name, const struct id *computer,
                                      struct authority **ret_authority, struct error *error);
/* From what authority_export gave. STATUS_INVALID: ERROR says what is wrong with it. */
MUST_USE enum status authority_load(const struct identity_pem *pem,
                                    struct authority **ret_authority, struct error *error);
void authority_destroy(struct authority *authority);
MUST_USE enum status authority_export(const struct authority *authority,
                                      struct identity_pem *ret_pem);
const char *authority_computer_name(const struct authority *authority);
const struct id *authority_computer(const struct authority *authority);

struct authority_request {
    enum identity_kind kind;
    const char *name;
    uint64_t expires_ms; /* computer time, or IDENTITY_NEVER */
    /* DNS names and IP addresses that clients may dial; for machines. */
    const char *hosts[AUTHORITY_HOSTS_MAX];
    size_t host_count;
};

/* Make a key and a certificate for it. STATUS_INVALID: a name or host is malformed. */
MUST_USE enum status authority_issue(const struct authority *authority,
                                     const struct authority_request *request,
                                     struct identity_pem *ret_pem, struct error *error);

#endif
