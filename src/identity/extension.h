/* The certificate extension that carries the computer's id and the expiry in computer time. Shared
 * by authority.c, which writes it, and identity.c, which reads it. docs/formats/certificate.md. */
#ifndef UNUM_IDENTITY_EXTENSION_H
#define UNUM_IDENTITY_EXTENSION_H

#include "base/ids.h"

/* An arc of ITU-T X.667: 2.25.(a UUID as an integer); no registration is needed. */
#define EXTENSION_OID "2.25.138802883685685384001738741000536767"

enum { EXTENSION_VERSION = 1, EXTENSION_BYTES = 27 };

void extension_encode(const struct id *computer, uint64_t expires_ms,
                      uint8_t ret_bytes[EXTENSION_BYTES]);
/* STATUS_UNSUPPORTED: another version. STATUS_INVALID: not this shape. */
MUST_USE enum status extension_decode(struct bytes bytes, struct id *ret_computer,
                                      uint64_t *ret_expires_ms);

#endif
