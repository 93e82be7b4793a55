/* Any bytes as a superblock: judged without a fault, and what is taken encodes to what is taken. */
#include "store/superblock.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct superblock first, second;
    if (superblock_decode(data, size, &first) != STATUS_OK) return 0;
    uint8_t *bytes = malloc(SUPERBLOCK_FILE_BYTES);
    if (bytes == NULL) return 0;
    superblock_encode(&first, bytes);
    enum status status = superblock_decode(bytes, SUPERBLOCK_FILE_BYTES, &second);
    assert(status == STATUS_OK);
    assert(id_equal(&first.computer, &second.computer));
    assert(first.flags == second.flags);
    free(bytes);
    return 0;
}
