#include "registry/registry_pack.h"

#include <assert.h>

/* Wire types of protobuf. */
enum { TYPE_VARINT = 0, TYPE_BYTES = 2 };

static size_t varint_size(uint64_t value)
{
    size_t size = 1;
    for (; value >= 0x80; value >>= 7) size++;
    return size;
}

/* All fields here have numbers below 16, so that a tag is one byte. What is zero is left out. */
static size_t number_size(uint64_t value)
{
    return value == 0 ? 0 : 1 + varint_size(value);
}

static size_t nested_size(size_t size)
{
    return 1 + varint_size(size) + size;
}

static size_t bytes_size(struct bytes bytes)
{
    return bytes.size == 0 ? 0 : nested_size(bytes.size);
}

static void put_number(struct writer *writer, unsigned field, uint64_t value)
{
    if (value == 0) return;
    writer_put_u8(writer, (uint8_t)(field << 3 | TYPE_VARINT));
    writer_put_varint(writer, value);
}

static void put_nested(struct writer *writer, unsigned field, size_t size)
{
    writer_put_u8(writer, (uint8_t)(field << 3 | TYPE_BYTES));
    writer_put_varint(writer, size);
}

static void put_bytes(struct writer *writer, unsigned field, struct bytes bytes)
{
    if (bytes.size == 0) return;
    put_nested(writer, field, bytes.size);
    writer_put(writer, bytes.data, bytes.size);
}

/* A message of exactly SIZE bytes at the end of BUFFER. */
static enum status begin(struct buffer *buffer, size_t size, struct writer *ret_writer)
{
    enum status status = buffer_reserve(buffer, size);
    if (status != STATUS_OK) return status;
    *ret_writer = writer_of(buffer->data + buffer->used, size);
    return STATUS_OK;
}

static enum status end(struct buffer *buffer, const struct writer *writer)
{
    /* Sizes and writers say the same thing twice; here they are held together. */
    assert(!writer->failed && writer->used == writer->size);
    buffer->used += writer->used;
    return STATUS_OK;
}

/* --- KeyValue ----------------------------------------------------------------------------------
 */

static size_t item_size(const struct registry_item *item)
{
    return bytes_size(item->key) + bytes_size(item->value) + number_size(item->create_revision) +
           number_size(item->modify_revision) + number_size(item->version) +
           number_size(item->lease);
}

static void put_item(struct writer *writer, unsigned field, const struct registry_item *item)
{
    put_nested(writer, field, item_size(item));
    put_bytes(writer, 1, item->key);
    put_bytes(writer, 2, item->value);
    put_number(writer, 3, item->create_revision);
    put_number(writer, 4, item->modify_revision);
    put_number(writer, 5, item->version);
    put_number(writer, 6, item->lease);
}

/* --- PutResponse, RangeResponse, DeleteResponse ------------------------------------------------
 */

static size_t response_size(const struct registry_response *response, uint64_t revision)
{
    size_t size = number_size(revision);
    for (size_t i = 0; i < response->item_count; i++) {
        size += nested_size(item_size(&response->items[i]));
    }
    if (response->kind != REGISTRY_PUT) size += number_size(response->count);
    if (response->kind == REGISTRY_RANGE) size += number_size(response->more);
    return size;
}

static void put_response(struct writer *writer, const struct registry_response *response,
                         uint64_t revision)
{
    put_number(writer, 1, revision);
    if (response->kind == REGISTRY_DELETE) put_number(writer, 2, response->count);
    unsigned items_field = response->kind == REGISTRY_DELETE ? 3 : 2;
    for (size_t i = 0; i < response->item_count; i++) {
        put_item(writer, items_field, &response->items[i]);
    }
    if (response->kind != REGISTRY_RANGE) return;
    put_number(writer, 3, response->count);
    put_number(writer, 4, response->more);
}

enum status registry_pack_response(const struct registry_response *response, uint64_t revision,
                                   struct buffer *reply)
{
    struct writer writer;
    enum status status = begin(reply, response_size(response, revision), &writer);
    if (status != STATUS_OK) return status;
    put_response(&writer, response, revision);
    return end(reply, &writer);
}

/* --- TxnResponse -------------------------------------------------------------------------------
 */

static unsigned operation_field(enum registry_operation_kind kind)
{
    static const unsigned fields[] = {
        [REGISTRY_PUT] = 1, [REGISTRY_RANGE] = 2, [REGISTRY_DELETE] = 3
    };
    return fields[kind];
}

enum status registry_pack_transaction(const struct registry_reply *transaction,
                                      struct buffer *reply)
{
    uint64_t revision = transaction->revision;
    size_t size = number_size(revision) + number_size(transaction->succeeded);
    for (size_t i = 0; i < transaction->response_count; i++) {
        size_t inner = response_size(&transaction->responses[i], revision);
        size += nested_size(nested_size(inner));
    }
    struct writer writer;
    enum status status = begin(reply, size, &writer);
    if (status != STATUS_OK) return status;
    put_number(&writer, 1, revision);
    put_number(&writer, 2, transaction->succeeded);
    for (size_t i = 0; i < transaction->response_count; i++) {
        const struct registry_response *response = &transaction->responses[i];
        size_t inner = response_size(response, revision);
        put_nested(&writer, 3, nested_size(inner));
        put_nested(&writer, operation_field(response->kind), inner);
        put_response(&writer, response, revision);
    }
    return end(reply, &writer);
}

/* --- leases ------------------------------------------------------------------------------------
 */

enum status registry_pack_lease(uint64_t lease, uint64_t time_to_live_ms, uint64_t revision,
                                struct buffer *reply)
{
    struct writer writer;
    size_t size = number_size(lease) + number_size(time_to_live_ms) + number_size(revision);
    enum status status = begin(reply, size, &writer);
    if (status != STATUS_OK) return status;
    put_number(&writer, 1, lease);
    put_number(&writer, 2, time_to_live_ms);
    put_number(&writer, 3, revision);
    return end(reply, &writer);
}

enum status registry_pack_revision(uint64_t revision, struct buffer *reply)
{
    struct writer writer;
    enum status status = begin(reply, number_size(revision), &writer);
    if (status != STATUS_OK) return status;
    put_number(&writer, 1, revision);
    return end(reply, &writer);
}

enum status registry_pack_listed_lease(const struct registry_lease *lease, uint64_t remaining_ms,
                                       const struct bytes *keys, size_t key_count,
                                       struct buffer *reply)
{
    size_t inner =
        number_size(lease->lease) + number_size(lease->time_to_live_ms) + number_size(remaining_ms);
    for (size_t i = 0; i < key_count; i++) inner += bytes_size(keys[i]);
    struct writer writer;
    enum status status = begin(reply, nested_size(inner), &writer);
    if (status != STATUS_OK) return status;
    put_nested(&writer, 1, inner);
    put_number(&writer, 1, lease->lease);
    put_number(&writer, 2, lease->time_to_live_ms);
    put_number(&writer, 3, remaining_ms);
    for (size_t i = 0; i < key_count; i++) put_bytes(&writer, 4, keys[i]);
    return end(reply, &writer);
}

enum status registry_pack_listed_time(uint64_t computer_time_ms, struct buffer *reply)
{
    struct writer writer;
    enum status status = begin(reply, number_size(computer_time_ms), &writer);
    if (status != STATUS_OK) return status;
    put_number(&writer, 2, computer_time_ms);
    return end(reply, &writer);
}

/* --- WatchResponse -----------------------------------------------------------------------------
 */

static size_t event_size(const struct registry_event *event)
{
    size_t size = number_size(event->deleted) + nested_size(item_size(&event->item));
    if (event->has_previous) size += nested_size(item_size(&event->previous));
    return size;
}

enum status registry_pack_events(bool created, uint64_t revision,
                                 const struct registry_event *events, size_t count,
                                 struct buffer *message)
{
    size_t size = number_size(created) + number_size(revision);
    for (size_t i = 0; i < count; i++) size += nested_size(event_size(&events[i]));
    struct writer writer;
    enum status status = begin(message, size, &writer);
    if (status != STATUS_OK) return status;
    put_number(&writer, 1, created);
    put_number(&writer, 2, revision);
    for (size_t i = 0; i < count; i++) {
        put_nested(&writer, 3, event_size(&events[i]));
        put_number(&writer, 1, events[i].deleted);
        put_item(&writer, 2, &events[i].item);
        if (events[i].has_previous) put_item(&writer, 3, &events[i].previous);
    }
    return end(message, &writer);
}
