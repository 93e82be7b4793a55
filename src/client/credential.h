/* Credential: the folder that lets a person in. `unum up` makes the first one.
 *
 * Holds the operator's certificate and key, the computer's authority, and the addresses where the
 * computer is found. The key file is readable by its owner only, and refused when it is not. Real
 * files, blocking; no fiber needed. Format: docs/formats/credential.md. */
#ifndef UNUM_CLIENT_CREDENTIAL_H
#define UNUM_CLIENT_CREDENTIAL_H

#include "base/error.h"
#include "base/network.h"
#include "reactor/tls.h"

#include <stddef.h>

enum { CREDENTIAL_PEM_BYTES_MAX = 16 * 1024, CREDENTIAL_ADDRESSES_MAX = 16 };

struct credential {
    char certificate[CREDENTIAL_PEM_BYTES_MAX]; /* PEM texts */
    char key[CREDENTIAL_PEM_BYTES_MAX];
    char authority[CREDENTIAL_PEM_BYTES_MAX];
    char addresses[CREDENTIAL_ADDRESSES_MAX][NETWORK_ADDRESS_BYTES_MAX];
    size_t address_count;
};

/* STATUS_NOT_FOUND: there is no credential there. STATUS_DENIED: others may read the key, or we may
 * not. STATUS_INVALID: a file is empty, too large, or an address malformed. ERROR names the file.
 */
MUST_USE enum status credential_load(const char *folder, struct credential *ret_credential,
                                     struct error *error);
/* For client_options.tls. STATUS_INVALID: a text of the credential is damaged. */
MUST_USE enum status credential_tls(const struct credential *credential,
                                    struct tls_context **ret_context, struct error *error);

#endif
