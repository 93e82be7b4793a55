/* The codec of replies, what the state machine answers to the proposer. docs/formats/registry.md.
 */
#include "registry/registry_codec.h"

#include <stdlib.h>

enum { REPLY_FORMAT_VERSION = 1 };
enum reply_kind { REPLY_REFUSED, REPLY_TRANSACTION, REPLY_LEASE };
enum {
    REPLY_OFFSET_REVISION = 3,
    REPLY_HEAD_BYTES_MAX = 11 + 3 * REGISTRY_VARINT_BYTES_MAX,
    RESPONSE_HEAD_BYTES = 1 + 1 + 4 + 8,
    ITEM_HEAD_BYTES_MAX = 6 * REGISTRY_VARINT_BYTES_MAX,
    RESPONSE_FLAG_MORE = 1,
};

/* A writer over SIZE_MAX fresh bytes at the buffer's end. */
static enum status writer_at_end(struct buffer *buffer, size_t size_max, struct writer *ret_writer)
{
    enum status status = buffer_reserve(buffer, size_max);
    if (status != STATUS_OK) return status;
    *ret_writer = writer_of(buffer->data + buffer->used, size_max);
    return STATUS_OK;
}

static void put_head(struct writer *writer, enum reply_kind kind, enum status status,
                     uint64_t revision)
{
    writer_put_u8(writer, REPLY_FORMAT_VERSION);
    writer_put_u8(writer, (uint8_t)kind);
    writer_put_u8(writer, (uint8_t)status);
    writer_put_u64(writer, revision);
}

enum status registry_reply_refuse(struct buffer *buffer, enum status refusal, uint64_t revision,
                                  const char *text)
{
    assert(refusal != STATUS_OK);
    buffer->used = 0;
    size_t text_size = strlen(text);
    if (text_size >= sizeof((struct registry_reply *)NULL)->text) {
        text_size = sizeof((struct registry_reply *)NULL)->text - 1;
    }
    struct writer writer;
    enum status status = writer_at_end(buffer, REPLY_HEAD_BYTES_MAX + text_size, &writer);
    if (status != STATUS_OK) return status;
    put_head(&writer, REPLY_REFUSED, refusal, revision);
    writer_put_bytes(&writer, bytes_of(text, text_size));
    assert(!writer.failed);
    buffer->used += writer.used;
    return STATUS_OK;
}

enum status registry_reply_lease(struct buffer *buffer, uint64_t revision, uint64_t lease,
                                 uint64_t time_to_live_ms)
{
    struct writer writer;
    enum status status = writer_at_end(buffer, REPLY_HEAD_BYTES_MAX, &writer);
    if (status != STATUS_OK) return status;
    put_head(&writer, REPLY_LEASE, STATUS_OK, revision);
    writer_put_varint(&writer, lease);
    writer_put_varint(&writer, time_to_live_ms);
    assert(!writer.failed);
    buffer->used += writer.used;
    return STATUS_OK;
}

enum status registry_reply_transaction(struct buffer *buffer, bool succeeded, size_t response_count)
{
    struct writer writer;
    enum status status = writer_at_end(buffer, REPLY_HEAD_BYTES_MAX, &writer);
    if (status != STATUS_OK) return status;
    put_head(&writer, REPLY_TRANSACTION, STATUS_OK, 0);
    writer_put_u8(&writer, succeeded);
    writer_put_varint(&writer, response_count);
    assert(!writer.failed);
    buffer->used += writer.used;
    return STATUS_OK;
}

void registry_reply_set_revision(struct buffer *buffer, uint64_t revision)
{
    assert(buffer->used >= REPLY_OFFSET_REVISION + sizeof revision);
    store_u64_le(buffer->data + REPLY_OFFSET_REVISION, revision);
}

enum status registry_reply_response_begin(struct buffer *buffer, enum registry_operation_kind kind,
                                          struct registry_response_mark *ret_mark)
{
    struct writer writer;
    enum status status = writer_at_end(buffer, RESPONSE_HEAD_BYTES, &writer);
    if (status != STATUS_OK) return status;
    writer_put_u8(&writer, (uint8_t)kind);
    writer_put_u8(&writer, 0);
    writer_put_u32(&writer, 0);
    writer_put_u64(&writer, 0);
    assert(!writer.failed && writer.used == RESPONSE_HEAD_BYTES);
    *ret_mark = (struct registry_response_mark) { .offset = buffer->used };
    buffer->used += writer.used;
    return STATUS_OK;
}

enum status registry_reply_item(struct buffer *buffer, struct registry_response_mark *mark,
                                const struct registry_item *item)
{
    struct writer writer;
    size_t size_max = ITEM_HEAD_BYTES_MAX + item->key.size + item->value.size;
    enum status status = writer_at_end(buffer, size_max, &writer);
    if (status != STATUS_OK) return status;
    writer_put_bytes(&writer, item->key);
    writer_put_bytes(&writer, item->value);
    writer_put_varint(&writer, item->create_revision);
    writer_put_varint(&writer, item->modify_revision);
    writer_put_varint(&writer, item->version);
    writer_put_varint(&writer, item->lease);
    assert(!writer.failed);
    buffer->used += writer.used;
    mark->item_count++;
    return STATUS_OK;
}

void registry_reply_response_end(struct buffer *buffer, const struct registry_response_mark *mark,
                                 uint64_t count, bool more)
{
    assert(mark->offset + RESPONSE_HEAD_BYTES <= buffer->used);
    uint8_t *head = buffer->data + mark->offset;
    head[1] = more ? RESPONSE_FLAG_MORE : 0;
    store_u32_le(head + 2, mark->item_count);
    store_u64_le(head + 6, count);
}

static void decode_item(struct reader *reader, struct registry_item *item)
{
    item->key = reader_bytes(reader, LIMIT_KEY_BYTES_MAX);
    item->value = reader_bytes(reader, LIMIT_VALUE_BYTES_MAX);
    item->create_revision = reader_varint(reader);
    item->modify_revision = reader_varint(reader);
    item->version = reader_varint(reader);
    item->lease = reader_varint(reader);
}

static enum status decode_response(struct reader *reader, struct arena *arena,
                                   struct registry_response *response)
{
    enum { ITEM_BYTES_MIN = 6 };
    uint8_t kind = reader_u8(reader);
    uint8_t flags = reader_u8(reader);
    uint32_t item_count = reader_u32(reader);
    uint64_t count = reader_u64(reader);
    if (kind > REGISTRY_DELETE || flags > RESPONSE_FLAG_MORE) reader->failed = true;
    /* A lie about the count must not make us take memory for it. */
    if (item_count > reader_left(reader) / ITEM_BYTES_MIN) reader->failed = true;
    if (reader->failed) return STATUS_CORRUPT;

    response->kind = (enum registry_operation_kind)kind;
    response->more = (flags & RESPONSE_FLAG_MORE) != 0;
    response->count = count;
    response->item_count = item_count;
    if (item_count == 0) return STATUS_OK;
    response->items = arena_take(arena, item_count * sizeof *response->items);
    if (response->items == NULL) return STATUS_NO_MEMORY;
    for (uint32_t i = 0; i < item_count && !reader->failed; i++) {
        decode_item(reader, &response->items[i]);
    }
    return reader->failed ? STATUS_CORRUPT : STATUS_OK;
}

static enum status decode_responses(struct reader *reader, struct arena *arena,
                                    struct registry_reply *reply)
{
    uint8_t succeeded = reader_u8(reader);
    uint64_t count = reader_varint(reader);
    if (reader->failed || succeeded > 1 || count > LIMIT_TXN_OPERATIONS_MAX) return STATUS_CORRUPT;
    reply->succeeded = succeeded == 1;
    reply->response_count = (size_t)count;
    if (count == 0) return STATUS_OK;
    reply->responses = arena_take(arena, (size_t)count * sizeof *reply->responses);
    if (reply->responses == NULL) return STATUS_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        enum status status = decode_response(reader, arena, &reply->responses[i]);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

enum status registry_reply_decode(struct bytes bytes, struct arena *arena,
                                  struct registry_reply *ret_reply)
{
    struct reader reader = reader_of(bytes.data, bytes.size);
    uint8_t version = reader_u8(&reader);
    uint8_t kind = reader_u8(&reader);
    uint8_t refusal = reader_u8(&reader);
    uint64_t revision = reader_u64(&reader);
    if (reader.failed || version != REPLY_FORMAT_VERSION || kind > REPLY_LEASE ||
        refusal >= STATUS_COUNT || (refusal == STATUS_OK) == (kind == REPLY_REFUSED)) {
        return STATUS_CORRUPT;
    }
    struct registry_reply reply = { .status = (enum status)refusal, .revision = revision };
    enum status status = STATUS_OK;
    switch ((enum reply_kind)kind) {
    case REPLY_REFUSED: {
        struct bytes text = reader_bytes(&reader, sizeof reply.text - 1);
        if (text.size > 0) memcpy(reply.text, text.data, text.size);
        break;
    }
    case REPLY_TRANSACTION: status = decode_responses(&reader, arena, &reply); break;
    case REPLY_LEASE:
        reply.lease = reader_varint(&reader);
        reply.time_to_live_ms = reader_varint(&reader);
        break;
    }
    if (status != STATUS_OK) return status;
    if (reader.failed || reader.used != reader.size) return STATUS_CORRUPT;
    *ret_reply = reply;
    return STATUS_OK;
}
