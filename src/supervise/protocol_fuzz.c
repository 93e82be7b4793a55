/* Any packet is either refused with a sentence, or written back byte by byte. */
#include "supervise/protocol.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t memory[SUPERVISE_MESSAGE_BYTES_MAX];
    struct error error = { 0 };
    struct supervise_message message;
    if (supervise_decode(bytes_of(data, size), &message, &error) != STATUS_OK) {
        if (error.text[0] == 0) abort();
        return 0;
    }
    size_t written = 0;
    if (supervise_encode(&message, memory, sizeof memory, &written, &error) != STATUS_OK) abort();
    if (written != size || memcmp(memory, data, size) != 0) abort();
    return 0;
}
