/* Bytes: little-endian loads and stores, a borrowed slice, a bounded writer and a bounded reader.
 *
 * Promise: no function reads or writes outside the memory it was given. A writer or reader that
 * ran out stays failed (`failed`), so a whole record is written or read first and judged once.
 * Integers on disk and wire are little-endian; varints are LEB128 as protobuf has them. */
#ifndef UNUM_BASE_BYTES_H
#define UNUM_BASE_BYTES_H

#include "base/status.h"

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Verdict of a sans-io decoder. */
enum decode { DECODE_OK, DECODE_MORE, DECODE_BAD };

/* One load or store each: compilers do not make that of loops over bytes. */
static inline uint16_t load_u16_le(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return le16toh(v);
}
static inline uint32_t load_u32_le(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return le32toh(v);
}
static inline uint64_t load_u64_le(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
}
static inline void store_u16_le(uint8_t *p, uint16_t v)
{
    v = htole16(v);
    memcpy(p, &v, sizeof v);
}
static inline void store_u32_le(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof v);
}
static inline void store_u64_le(uint8_t *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof v);
}
/* Big-endian, for store keys whose byte order must be the numeric order. */
static inline uint64_t load_u64_be(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return be64toh(v);
}
static inline uint32_t load_u32_be(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return be32toh(v);
}
static inline void store_u64_be(uint8_t *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, sizeof v);
}
static inline void store_u32_be(uint8_t *p, uint32_t v)
{
    v = htobe32(v);
    memcpy(p, &v, sizeof v);
}

/* A borrowed slice. {NULL, 0} is the empty one. */
struct bytes {
    const uint8_t *data;
    size_t size;
};

static inline struct bytes bytes_of(const void *data, size_t size)
{
    return (struct bytes) { .data = data, .size = size };
}
static inline struct bytes bytes_of_text(const char *text)
{
    return bytes_of(text, strlen(text));
}
static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}
/* Total order: by bytes, then the shorter first. Returns <0, 0, >0. */
int bytes_compare(struct bytes a, struct bytes b);

/* Writes into the caller's memory of SIZE bytes. */
struct writer {
    uint8_t *data;
    size_t size;
    size_t used;
    bool failed; /* something did not fit; `used` stands before it */
};

static inline struct writer writer_of(void *data, size_t size)
{
    return (struct writer) { .data = data, .size = size };
}
static inline bool writer_has_room(struct writer *writer, size_t size)
{
    if (!writer->failed && writer->size - writer->used >= size) return true;
    writer->failed = true;
    return false;
}
static inline void writer_put(struct writer *writer, const void *data, size_t size)
{
    if (!writer_has_room(writer, size)) return;
    if (size > 0) memcpy(writer->data + writer->used, data, size);
    writer->used += size;
}
static inline void writer_put_u8(struct writer *writer, uint8_t value)
{
    if (writer_has_room(writer, sizeof value)) writer->data[writer->used++] = value;
}
static inline void writer_put_u16(struct writer *writer, uint16_t value)
{
    if (!writer_has_room(writer, sizeof value)) return;
    store_u16_le(writer->data + writer->used, value);
    writer->used += sizeof value;
}
static inline void writer_put_u32(struct writer *writer, uint32_t value)
{
    if (!writer_has_room(writer, sizeof value)) return;
    store_u32_le(writer->data + writer->used, value);
    writer->used += sizeof value;
}
static inline void writer_put_u64(struct writer *writer, uint64_t value)
{
    if (!writer_has_room(writer, sizeof value)) return;
    store_u64_le(writer->data + writer->used, value);
    writer->used += sizeof value;
}
void writer_put_varint(struct writer *writer, uint64_t value);
/* varint size, then the bytes. */
void writer_put_bytes(struct writer *writer, struct bytes bytes);

/* Reads from borrowed memory. After a failure every value is 0 or empty. */
struct reader {
    const uint8_t *data;
    size_t size;
    size_t used;
    bool failed;
};

static inline struct reader reader_of(const void *data, size_t size)
{
    return (struct reader) { .data = data, .size = size };
}
static inline size_t reader_left(const struct reader *reader)
{
    return reader->failed ? 0 : reader->size - reader->used;
}
/* Borrow SIZE bytes; NULL when there are fewer. */
static inline const uint8_t *reader_take(struct reader *reader, size_t size)
{
    if (reader->failed || reader->size - reader->used < size) {
        reader->failed = true;
        return NULL;
    }
    const uint8_t *data = reader->data + reader->used;
    reader->used += size;
    return data;
}
static inline uint8_t reader_u8(struct reader *reader)
{
    const uint8_t *p = reader_take(reader, 1);
    return p == NULL ? 0 : p[0];
}
static inline uint16_t reader_u16(struct reader *reader)
{
    const uint8_t *p = reader_take(reader, 2);
    return p == NULL ? 0 : load_u16_le(p);
}
static inline uint32_t reader_u32(struct reader *reader)
{
    const uint8_t *p = reader_take(reader, 4);
    return p == NULL ? 0 : load_u32_le(p);
}
static inline uint64_t reader_u64(struct reader *reader)
{
    const uint8_t *p = reader_take(reader, 8);
    return p == NULL ? 0 : load_u64_le(p);
}
uint64_t reader_varint(struct reader *reader);
/* varint size (at most SIZE_MAX_ALLOWED), then the bytes, borrowed. */
struct bytes reader_bytes(struct reader *reader, size_t size_max_allowed);

/* A growing buffer with a named maximum, on malloc. Zeroed is empty. */
struct buffer {
    uint8_t *data;
    size_t used;
    size_t capacity;
    size_t size_max; /* 0: nothing fits; set it before use */
};

void buffer_init(struct buffer *buffer, size_t size_max);
void buffer_finish(struct buffer *buffer);
/* Make room for SIZE more bytes behind `used`. STATUS_FULL over size_max, STATUS_NO_MEMORY. */
MUST_USE enum status buffer_reserve(struct buffer *buffer, size_t size);
MUST_USE enum status buffer_append(struct buffer *buffer, const void *data, size_t size);
/* Drop the first SIZE bytes (SIZE <= used, asserted). */
void buffer_consume(struct buffer *buffer, size_t size);

#endif
