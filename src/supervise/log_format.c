#include "supervise/log_format.h"

#include "base/checksum.h"

#include <assert.h>

enum { RECORD_MARK = 0xa7 };
static const uint8_t segment_magic[8] = { 'U', 'N', 'U', 'M', 'L', 'O', 'G', '1' };

void log_segment_encode(uint64_t base, uint64_t wall_ns, uint8_t ret_bytes[LOG_SEGMENT_HEAD_BYTES])
{
    memcpy(ret_bytes, segment_magic, sizeof segment_magic);
    store_u64_le(ret_bytes + 8, base);
    store_u64_le(ret_bytes + 16, wall_ns);
    store_u32_le(ret_bytes + 24, 0);
    store_u32_le(ret_bytes + 28, crc32c(ret_bytes, 28));
}

enum status log_segment_decode(struct bytes bytes, uint64_t *ret_base)
{
    if (bytes.size < LOG_SEGMENT_HEAD_BYTES) return STATUS_CORRUPT;
    if (memcmp(bytes.data, segment_magic, sizeof segment_magic) != 0) return STATUS_CORRUPT;
    if (load_u32_le(bytes.data + 28) != crc32c(bytes.data, 28)) return STATUS_CORRUPT;
    *ret_base = load_u64_le(bytes.data + 8);
    return STATUS_OK;
}

enum status log_record_encode(const struct log_record *record, struct writer *writer)
{
    assert(record->text.size <= LOG_LINE_BYTES_MAX);
    assert((record->flags & ~LOG_FLAGS_ALL) == 0);
    size_t size = LOG_RECORD_HEAD_BYTES + record->text.size;
    if (writer->failed || writer->size - writer->used < size) return STATUS_FULL;
    uint8_t *at = writer->data + writer->used;
    store_u16_le(at + 4, (uint16_t)record->text.size);
    at[6] = record->flags;
    at[7] = RECORD_MARK;
    store_u64_le(at + 8, record->wall_ns);
    store_u64_le(at + 16, record->incarnation);
    if (record->text.size > 0)
        memcpy(at + LOG_RECORD_HEAD_BYTES, record->text.data, record->text.size);
    store_u32_le(at, crc32c(at + 4, size - 4));
    writer->used += size;
    return STATUS_OK;
}

enum decode log_record_decode(struct bytes bytes, struct log_record *ret_record, size_t *ret_used)
{
    if (bytes.size < LOG_RECORD_HEAD_BYTES) return DECODE_MORE;
    const uint8_t *at = bytes.data;
    size_t text_size = load_u16_le(at + 4);
    if (at[7] != RECORD_MARK || (at[6] & ~LOG_FLAGS_ALL) != 0) return DECODE_BAD;
    if (text_size > LOG_LINE_BYTES_MAX) return DECODE_BAD;
    size_t size = LOG_RECORD_HEAD_BYTES + text_size;
    if (bytes.size < size) return DECODE_MORE;
    if (load_u32_le(at) != crc32c(at + 4, size - 4)) return DECODE_BAD;
    *ret_record = (struct log_record) { .wall_ns = load_u64_le(at + 8),
                                        .incarnation = load_u64_le(at + 16),
                                        .flags = at[6],
                                        .text = bytes_of(at + LOG_RECORD_HEAD_BYTES, text_size) };
    *ret_used = size;
    return DECODE_OK;
}
