/* Identity: who is on the other side, read from a peer's certificate.
 *
 * A certificate says who (a SPIFFE id), of which computer (its id, never reused), and until when in
 * computer time. TLS has checked that the authority signed it; this part reads it and judges the
 * rest. Pure; knows no clock. Format: docs/formats/certificate.md. */
#ifndef UNUM_IDENTITY_IDENTITY_H
#define UNUM_IDENTITY_IDENTITY_H

#include "base/error.h"
#include "base/ids.h"
#include "base/limits.h"

enum {
    IDENTITY_NAME_BYTES_MAX = LIMIT_NAME_BYTES_MAX,
    /* "spiffe://COMPUTER/operator/NAME" */
    IDENTITY_TEXT_BYTES_MAX = 9 + LIMIT_NAME_BYTES_MAX + 10 + IDENTITY_NAME_BYTES_MAX,
    IDENTITY_CERTIFICATE_BYTES_MAX = 16 * 1024, /* of one DER certificate */
};
/* The certificate does not expire. */
#define IDENTITY_NEVER UINT64_MAX

enum identity_kind { IDENTITY_MACHINE, IDENTITY_OPERATOR, IDENTITY_TASK, IDENTITY_KIND_COUNT };

struct identity {
    enum identity_kind kind;
    char computer_name[LIMIT_NAME_BYTES_MAX + 1];
    char name[IDENTITY_NAME_BYTES_MAX + 1]; /* of the machine, operator or task */
    struct id computer;
    uint64_t expires_ms; /* computer time */
};

/* "machine", "operator", "task". */
const char *identity_kind_name(enum identity_kind kind);

/* A name is 1..63 of [A-Za-z0-9._-]; a computer's name is 1..63 of [a-z0-9-]. */
bool identity_name_is_valid(const char *name);
bool identity_computer_name_is_valid(const char *name);

/* The SPIFFE id, the principal of audit records and log entries. */
void identity_format(const struct identity *identity, char ret_text[IDENTITY_TEXT_BYTES_MAX + 1]);
/* KIND, COMPUTER_NAME and NAME from such a text; the rest becomes zero. */
MUST_USE enum status identity_parse(const char *text, struct identity *ret_identity);

/* Read a leaf certificate (DER, whole). STATUS_DENIED: it is not one of ours; ERROR says why. */
MUST_USE enum status identity_decode(const uint8_t *der, size_t size, struct identity *ret_identity,
                                     struct error *error);

/* Whether COMPUTER lets IDENTITY in, when its time is COMPUTER_TIME_MS. STATUS_DENIED: it belongs
 * to another computer, or has expired; ERROR says which. */
MUST_USE enum status identity_check(const struct identity *identity, const struct id *computer,
                                    uint64_t computer_time_ms, struct error *error);

#endif
