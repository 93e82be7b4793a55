#include "base/bytes.h"

#include <assert.h>
#include <stdlib.h>

int bytes_compare(struct bytes a, struct bytes b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0) return order;
    return a.size < b.size ? -1 : a.size > b.size;
}

void writer_put_varint(struct writer *writer, uint64_t value)
{
    if (value < 0x80) {
        writer_put_u8(writer, (uint8_t)value);
        return;
    }
    uint8_t bytes[10];
    size_t size = 0;
    while (value >= 0x80) {
        bytes[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[size++] = (uint8_t)value;
    writer_put(writer, bytes, size);
}

void writer_put_bytes(struct writer *writer, struct bytes bytes)
{
    writer_put_varint(writer, bytes.size);
    writer_put(writer, bytes.data, bytes.size);
}

uint64_t reader_varint(struct reader *reader)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        uint8_t byte = reader_u8(reader);
        if (reader->failed) return 0;
        /* The tenth byte holds one bit only. */
        if (shift == 63 && byte > 1) break;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) return value;
    }
    reader->failed = true;
    return 0;
}

struct bytes reader_bytes(struct reader *reader, size_t size_max_allowed)
{
    uint64_t size = reader_varint(reader);
    if (size > size_max_allowed) reader->failed = true;
    if (reader->failed) return (struct bytes) { 0 };
    const uint8_t *data = reader_take(reader, (size_t)size);
    return data == NULL ? (struct bytes) { 0 } : bytes_of(data, (size_t)size);
}

void buffer_init(struct buffer *buffer, size_t size_max)
{
    *buffer = (struct buffer) { .size_max = size_max };
}

void buffer_finish(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer) { 0 };
}

enum status buffer_reserve(struct buffer *buffer, size_t size)
{
    enum { BUFFER_BYTES_FIRST = 256 };
    if (size > buffer->size_max || buffer->used > buffer->size_max - size) return STATUS_FULL;
    size_t need = buffer->used + size;
    if (need <= buffer->capacity) return STATUS_OK;
    size_t capacity = buffer->capacity == 0 ? BUFFER_BYTES_FIRST : buffer->capacity;
    while (capacity < need) capacity *= 2;
    if (capacity > buffer->size_max) capacity = buffer->size_max;
    uint8_t *data = realloc(buffer->data, capacity);
    if (data == NULL) return STATUS_NO_MEMORY;
    buffer->data = data;
    buffer->capacity = capacity;
    return STATUS_OK;
}

enum status buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    enum status status = buffer_reserve(buffer, size);
    if (status != STATUS_OK) return status;
    if (size > 0) memcpy(buffer->data + buffer->used, data, size);
    buffer->used += size;
    return STATUS_OK;
}

void buffer_consume(struct buffer *buffer, size_t size)
{
    assert(size <= buffer->used);
    if (size == 0) return;
    memmove(buffer->data, buffer->data + size, buffer->used - size);
    buffer->used -= size;
}
