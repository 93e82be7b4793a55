#include "wire/entry.h"

#include "base/checksum.h"

#include <assert.h>

/* Offsets of the fixed part; docs/formats/entry.md draws them. */
enum {
    OFFSET_CHECKSUM = 0,
    OFFSET_VERSION = 4,
    OFFSET_KIND = 5,
    OFFSET_LEVEL = 6,
    OFFSET_GROUP = 8,
    OFFSET_SESSION = 16,
    OFFSET_SEQUENCE = 32,
    OFFSET_TIME = 40,
    OFFSET_SEED = 48,
    OFFSET_TRACE = 56,
    OFFSET_PRINCIPAL_SIZE = 72,
    OFFSET_SPACE_SIZE = 73,
    OFFSET_RESERVED = 74,
    OFFSET_PAYLOAD_SIZE = 76,
    ENTRY_HEAD_BYTES = 80,
};

_Static_assert(ENTRY_HEAD_BYTES + ENTRY_PRINCIPAL_BYTES_MAX + ENTRY_SPACE_BYTES_MAX <=
                   ENTRY_OVERHEAD_BYTES_MAX,
               "what surrounds a payload fits the overhead that others reckon with");
_Static_assert(ENTRY_PRINCIPAL_BYTES_MAX <= UINT8_MAX && ENTRY_SPACE_BYTES_MAX <= UINT8_MAX,
               "their sizes are one byte each");
_Static_assert(ENTRY_KIND_COUNT <= UINT8_MAX, "a kind is one byte");

enum { ENTRY_PAYLOAD_BYTES_MAX = LIMIT_ENTRY_BYTES_MAX - ENTRY_OVERHEAD_BYTES_MAX };

static void encode_head(const struct entry *entry, uint8_t head[ENTRY_HEAD_BYTES])
{
    memset(head, 0, ENTRY_HEAD_BYTES);
    head[OFFSET_VERSION] = ENTRY_FORMAT_VERSION;
    head[OFFSET_KIND] = (uint8_t)entry->kind;
    store_u16_le(head + OFFSET_LEVEL, entry->feature_level);
    store_u64_le(head + OFFSET_GROUP, entry->group);
    memcpy(head + OFFSET_SESSION, entry->session.bytes, ID_BYTES);
    store_u64_le(head + OFFSET_SEQUENCE, entry->sequence);
    store_u64_le(head + OFFSET_TIME, entry->computer_time_ms);
    store_u64_le(head + OFFSET_SEED, entry->random_seed);
    memcpy(head + OFFSET_TRACE, entry->trace.bytes, ID_BYTES);
    head[OFFSET_PRINCIPAL_SIZE] = (uint8_t)entry->principal.size;
    head[OFFSET_SPACE_SIZE] = (uint8_t)entry->space.size;
    store_u32_le(head + OFFSET_PAYLOAD_SIZE, (uint32_t)entry->payload.size);
}

enum status entry_encode(const struct entry *entry, struct writer *writer)
{
    if ((unsigned)entry->kind >= ENTRY_KIND_COUNT) return STATUS_INVALID;
    if (entry->principal.size > ENTRY_PRINCIPAL_BYTES_MAX) return STATUS_INVALID;
    if (entry->space.size > ENTRY_SPACE_BYTES_MAX) return STATUS_INVALID;
    if (entry->payload.size > ENTRY_PAYLOAD_BYTES_MAX) return STATUS_INVALID;

    size_t size =
        ENTRY_HEAD_BYTES + entry->principal.size + entry->space.size + entry->payload.size;
    /* Asked first, so that a writer that is too small is left as it was. */
    if (writer->failed || writer->size - writer->used < size) return STATUS_FULL;

    size_t start = writer->used;
    uint8_t head[ENTRY_HEAD_BYTES];
    encode_head(entry, head);
    writer_put(writer, head, sizeof head);
    writer_put(writer, entry->principal.data, entry->principal.size);
    writer_put(writer, entry->space.data, entry->space.size);
    writer_put(writer, entry->payload.data, entry->payload.size);
    assert(!writer->failed);

    uint8_t *bytes = writer->data + start;
    store_u32_le(bytes + OFFSET_CHECKSUM, crc32c(bytes + OFFSET_VERSION, size - OFFSET_VERSION));
    return STATUS_OK;
}

enum decode entry_decode(const uint8_t *bytes, size_t size, struct entry *ret_entry)
{
    assert(bytes != NULL || size == 0);

    if (size < ENTRY_HEAD_BYTES || size > LIMIT_ENTRY_BYTES_MAX) return DECODE_BAD;
    if (bytes[OFFSET_VERSION] != ENTRY_FORMAT_VERSION) return DECODE_BAD;
    if (bytes[OFFSET_KIND] >= ENTRY_KIND_COUNT) return DECODE_BAD;
    if (load_u16_le(bytes + OFFSET_RESERVED) != 0) return DECODE_BAD;

    size_t principal_size = bytes[OFFSET_PRINCIPAL_SIZE];
    size_t space_size = bytes[OFFSET_SPACE_SIZE];
    size_t payload_size = load_u32_le(bytes + OFFSET_PAYLOAD_SIZE);
    if (space_size > ENTRY_SPACE_BYTES_MAX) return DECODE_BAD;
    if (payload_size > ENTRY_PAYLOAD_BYTES_MAX) return DECODE_BAD;
    if (size != ENTRY_HEAD_BYTES + principal_size + space_size + payload_size) return DECODE_BAD;
    uint32_t checksum = crc32c(bytes + OFFSET_VERSION, size - OFFSET_VERSION);
    if (load_u32_le(bytes + OFFSET_CHECKSUM) != checksum) return DECODE_BAD;

    const uint8_t *principal = bytes + ENTRY_HEAD_BYTES;
    const uint8_t *space = principal + principal_size;
    *ret_entry = (struct entry) {
        .kind = (enum entry_kind)bytes[OFFSET_KIND],
        .feature_level = load_u16_le(bytes + OFFSET_LEVEL),
        .group = load_u64_le(bytes + OFFSET_GROUP),
        .sequence = load_u64_le(bytes + OFFSET_SEQUENCE),
        .computer_time_ms = load_u64_le(bytes + OFFSET_TIME),
        .random_seed = load_u64_le(bytes + OFFSET_SEED),
        .principal = bytes_of(principal, principal_size),
        .space = bytes_of(space, space_size),
        .payload = bytes_of(space + space_size, payload_size),
    };
    memcpy(ret_entry->session.bytes, bytes + OFFSET_SESSION, ID_BYTES);
    memcpy(ret_entry->trace.bytes, bytes + OFFSET_TRACE, ID_BYTES);
    return DECODE_OK;
}
