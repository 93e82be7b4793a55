#include "identity/extension.h"

enum { DER_OCTET_STRING = 0x04, HEAD_BYTES = 2 };
_Static_assert(EXTENSION_BYTES == HEAD_BYTES + 1 + ID_BYTES + 8, "head, version, id, expiry");

void extension_encode(const struct id *computer, uint64_t expires_ms,
                      uint8_t ret_bytes[EXTENSION_BYTES])
{
    ret_bytes[0] = DER_OCTET_STRING;
    ret_bytes[1] = EXTENSION_BYTES - HEAD_BYTES;
    ret_bytes[2] = EXTENSION_VERSION;
    memcpy(ret_bytes + 3, computer->bytes, ID_BYTES);
    store_u64_be(ret_bytes + 3 + ID_BYTES, expires_ms);
}

enum status extension_decode(struct bytes bytes, struct id *ret_computer, uint64_t *ret_expires_ms)
{
    if (bytes.size < HEAD_BYTES + 1 || bytes.data[0] != DER_OCTET_STRING) return STATUS_INVALID;
    if (bytes.data[2] != EXTENSION_VERSION) return STATUS_UNSUPPORTED;
    if (bytes.size != EXTENSION_BYTES || bytes.data[1] != EXTENSION_BYTES - HEAD_BYTES)
        return STATUS_INVALID;
    memcpy(ret_computer->bytes, bytes.data + 3, ID_BYTES);
    *ret_expires_ms = load_u64_be(bytes.data + 3 + ID_BYTES);
    return STATUS_OK;
}
