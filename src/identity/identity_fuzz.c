/* Whatever a peer shows as its certificate: refused, or an identity whose text reads back. */
#include "identity/identity.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct identity identity, again;
    struct error error;
    if (identity_decode(data, size, &identity, &error) != STATUS_OK) {
        if (error.text[0] == '\0') abort();
        return 0;
    }
    char text[IDENTITY_TEXT_BYTES_MAX + 1];
    identity_format(&identity, text);
    if (identity_parse(text, &again) != STATUS_OK) abort();
    if (again.kind != identity.kind) abort();
    return 0;
}
