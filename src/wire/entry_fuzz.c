/* What decodes, encodes to the same bytes.
 *
 * The checksum is made right first: else nearly every input would end at it. */
#include "base/checksum.h"
#include "wire/entry.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t again[LIMIT_ENTRY_BYTES_MAX];
    struct entry entry;
    if (entry_decode(data, size, &entry) == DECODE_OK && size < 80) abort();
    if (size < 4) return 0;

    uint8_t *whole = malloc(size);
    if (whole == NULL) return 0;
    memcpy(whole, data, size);
    store_u32_le(whole, crc32c(whole + 4, size - 4));
    if (entry_decode(whole, size, &entry) == DECODE_OK) {
        struct writer writer = writer_of(again, sizeof again);
        if (entry_encode(&entry, &writer) != STATUS_OK) abort();
        if (writer.used != size || memcmp(again, whole, size) != 0) abort();
    }
    free(whole);
    return 0;
}
