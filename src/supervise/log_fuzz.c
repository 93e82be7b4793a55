/* Any bytes are read as records, and what is accepted is written back the same. */
#include "supervise/log_format.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t memory[LOG_RECORD_HEAD_BYTES + LOG_LINE_BYTES_MAX];
    uint64_t base = 0;
    if (log_segment_decode(bytes_of(data, size), &base) == STATUS_OK && size < 32) abort();
    struct log_record record;
    size_t used = 0;
    if (log_record_decode(bytes_of(data, size), &record, &used) != DECODE_OK) return 0;
    struct writer writer = writer_of(memory, sizeof memory);
    if (used > size || log_record_encode(&record, &writer) != STATUS_OK) abort();
    if (writer.used != used || memcmp(memory, data, used) != 0) abort();
    return 0;
}
