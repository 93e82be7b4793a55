#include "store/journal_format.h"

#include "base/checksum.h"
#include "base/limits.h"

#include <assert.h>

static const uint8_t segment_magic[8] = { 'U', 'N', 'U', 'M', 'J', 'R', 'N', 'L' };
enum { BATCH_MAGIC = 0x31424a55 /* "UJB1" */ };

static void encode_segment_copy(const struct journal_segment_header *header, uint8_t *bytes)
{
    memcpy(bytes, segment_magic, sizeof segment_magic);
    store_u32_le(bytes + 8, JOURNAL_FORMAT_VERSION);
    store_u64_le(bytes + 16, header->segment);
    store_u64_le(bytes + 24, header->segment_bytes);
    memcpy(bytes + 32, header->disk_incarnation.bytes, ID_BYTES);
    store_u32_le(bytes + 12, crc32c(bytes + 16, JOURNAL_SEGMENT_HEADER_BYTES - 16));
}

void journal_segment_encode(const struct journal_segment_header *header,
                            uint8_t bytes[JOURNAL_BLOCK_BYTES])
{
    memset(bytes, 0, JOURNAL_BLOCK_BYTES);
    encode_segment_copy(header, bytes);
    encode_segment_copy(header, bytes + JOURNAL_SEGMENT_COPY_OFFSET);
}

static bool all_zero(const uint8_t *bytes, size_t size)
{
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++) any |= bytes[i];
    return any == 0;
}

static enum journal_segment_verdict decode_segment_copy(const uint8_t *bytes,
                                                        struct journal_segment_header *ret_header)
{
    if (all_zero(bytes, JOURNAL_SEGMENT_COPY_OFFSET)) return JOURNAL_SEGMENT_BLANK;
    if (memcmp(bytes, segment_magic, sizeof segment_magic) != 0) return JOURNAL_SEGMENT_DAMAGED;
    /* The checksum covers what follows it; the version stands before it, so that another layout
     * can still be told from damage. */
    if (load_u32_le(bytes + 8) != JOURNAL_FORMAT_VERSION) return JOURNAL_SEGMENT_NEWER;
    uint32_t checksum = crc32c(bytes + 16, JOURNAL_SEGMENT_HEADER_BYTES - 16);
    if (load_u32_le(bytes + 12) != checksum) return JOURNAL_SEGMENT_DAMAGED;
    ret_header->segment = load_u64_le(bytes + 16);
    ret_header->segment_bytes = load_u64_le(bytes + 24);
    memcpy(ret_header->disk_incarnation.bytes, bytes + 32, ID_BYTES);
    return JOURNAL_SEGMENT_VALID;
}

enum journal_segment_verdict journal_segment_decode(const uint8_t bytes[JOURNAL_BLOCK_BYTES],
                                                    struct journal_segment_header *ret_header)
{
    struct journal_segment_header first = { 0 }, second = { 0 };
    enum journal_segment_verdict one = decode_segment_copy(bytes, &first);
    enum journal_segment_verdict two =
        decode_segment_copy(bytes + JOURNAL_SEGMENT_COPY_OFFSET, &second);

    if (one == JOURNAL_SEGMENT_VALID || two == JOURNAL_SEGMENT_VALID) {
        bool take_first = one == JOURNAL_SEGMENT_VALID &&
                          (two != JOURNAL_SEGMENT_VALID || first.segment >= second.segment);
        *ret_header = take_first ? first : second;
        return JOURNAL_SEGMENT_VALID;
    }
    /* A flipped bit in the version looks like a newer one in one copy only. */
    if (one == JOURNAL_SEGMENT_NEWER && two == JOURNAL_SEGMENT_NEWER) return JOURNAL_SEGMENT_NEWER;
    if (one == JOURNAL_SEGMENT_BLANK || two == JOURNAL_SEGMENT_BLANK) return JOURNAL_SEGMENT_BLANK;
    return JOURNAL_SEGMENT_DAMAGED;
}

uint64_t journal_salt(const struct id *disk_incarnation, uint64_t segment)
{
    return hash64(disk_incarnation->bytes, ID_BYTES, segment);
}

void journal_batch_encode(const struct journal_batch_header *header, uint64_t salt, uint8_t *batch)
{
    assert(header->size_bytes % JOURNAL_BLOCK_BYTES == 0);
    assert(JOURNAL_BATCH_HEADER_BYTES + header->used_bytes <= header->size_bytes);
    memset(batch, 0, JOURNAL_BATCH_HEADER_BYTES);
    store_u32_le(batch + 4, BATCH_MAGIC);
    store_u64_le(batch + 8, salt);
    store_u64_le(batch + 16, header->segment);
    store_u64_le(batch + 24, header->sequence);
    store_u64_le(batch + 32, header->synced_through);
    store_u64_le(batch + 40, header->oldest_segment);
    store_u64_le(batch + 48, header->previous_segment);
    store_u64_le(batch + 56, header->previous_end);
    store_u32_le(batch + 64, header->epoch);
    store_u32_le(batch + 68, header->size_bytes);
    store_u32_le(batch + 72, header->used_bytes);
    store_u32_le(batch + 76, header->record_count);
    store_u32_le(batch + 80, crc32c(batch + JOURNAL_BATCH_HEADER_BYTES,
                                    header->size_bytes - JOURNAL_BATCH_HEADER_BYTES));
    store_u32_le(batch, crc32c(batch + 4, JOURNAL_BATCH_HEADER_BYTES - 4));
}

bool journal_batch_decode(const uint8_t bytes[JOURNAL_BATCH_HEADER_BYTES], uint64_t salt,
                          uint64_t size_max, struct journal_batch_header *ret_header)
{
    if (load_u32_le(bytes + 4) != BATCH_MAGIC) return false;
#ifndef MUTATION_JOURNAL_STALE_SEGMENT /* what a recycled segment held before counts as new */
    if (load_u64_le(bytes + 8) != salt) return false;
#else
    (void)salt;
#endif
    if (load_u32_le(bytes) != crc32c(bytes + 4, JOURNAL_BATCH_HEADER_BYTES - 4)) return false;
    struct journal_batch_header header = {
        .segment = load_u64_le(bytes + 16),
        .sequence = load_u64_le(bytes + 24),
        .synced_through = load_u64_le(bytes + 32),
        .oldest_segment = load_u64_le(bytes + 40),
        .previous_segment = load_u64_le(bytes + 48),
        .previous_end = load_u64_le(bytes + 56),
        .epoch = load_u32_le(bytes + 64),
        .size_bytes = load_u32_le(bytes + 68),
        .used_bytes = load_u32_le(bytes + 72),
        .record_count = load_u32_le(bytes + 76),
    };
    if (header.size_bytes == 0 || header.size_bytes % JOURNAL_BLOCK_BYTES != 0) return false;
    if (header.size_bytes > size_max) return false;
    if (header.used_bytes > header.size_bytes - JOURNAL_BATCH_HEADER_BYTES) return false;
    *ret_header = header;
    return true;
}

bool journal_batch_body_holds(const struct journal_batch_header *header, const uint8_t *batch)
{
#ifdef MUTATION_JOURNAL_ACCEPT_TORN_TAIL /* a batch counts once its header is there */
    (void)header;
    (void)batch;
    return true;
#else
    return load_u32_le(batch + 80) == crc32c(batch + JOURNAL_BATCH_HEADER_BYTES,
                                             header->size_bytes - JOURNAL_BATCH_HEADER_BYTES);
#endif
}

void journal_record_encode(const struct journal_record *record, uint8_t *bytes)
{
    size_t size = record->payload.size;
    size_t padded = journal_record_size(size);
    assert(size <= LIMIT_ENTRY_BYTES_MAX);
    store_u32_le(bytes + 4, (uint32_t)size << 4 | (uint32_t)record->kind);
    store_u64_le(bytes + 8, record->group);
    store_u64_le(bytes + 16, record->index);
    store_u64_le(bytes + 24, record->term);
    if (size > 0) memcpy(bytes + JOURNAL_RECORD_HEADER_BYTES, record->payload.data, size);
    size_t end = JOURNAL_RECORD_HEADER_BYTES + size;
    memset(bytes + end, 0, padded - end);
    store_u32_le(bytes, crc32c(bytes + 4, end - 4));
}

_Static_assert((uint64_t)LIMIT_ENTRY_BYTES_MAX < (uint64_t)1 << 28,
               "the size of a payload fits 28 bits");
_Static_assert(JOURNAL_RECORD_KIND_COUNT <= 16, "the kind of a record fits 4 bits");

bool journal_record_decode(const uint8_t *bytes, size_t size, struct journal_record *ret_record)
{
    if (size < JOURNAL_RECORD_HEADER_BYTES) return false;
    uint32_t word = load_u32_le(bytes + 4);
    uint32_t kind = word & 15;
    size_t payload_size = word >> 4;
    if (kind == 0 || kind >= JOURNAL_RECORD_KIND_COUNT) return false;
    if (payload_size > LIMIT_ENTRY_BYTES_MAX) return false;
    if (journal_record_size(payload_size) > size) return false;
    if (load_u32_le(bytes) != crc32c(bytes + 4, JOURNAL_RECORD_HEADER_BYTES + payload_size - 4)) {
        return false;
    }
    *ret_record = (struct journal_record) {
        .kind = (enum journal_record_kind)kind,
        .group = load_u64_le(bytes + 8),
        .index = load_u64_le(bytes + 16),
        .term = load_u64_le(bytes + 24),
        .payload = bytes_of(bytes + JOURNAL_RECORD_HEADER_BYTES, payload_size),
    };
    return true;
}
