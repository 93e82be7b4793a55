/* The keys and records of a space in the group's range of the store. docs/formats/registry.md. */
#include "registry/registry_codec.h"

enum { VERSION_VALUE = 1, VERSION_DELETED = 2 };
enum { EVENT_DELETED = 1, EVENT_HAS_PREVIOUS = 2, EVENT_FLAGS_ALL = 3 };
enum { HISTORY_FORMAT_VERSION = 1 };

static struct bytes key_of(uint8_t *scratch, uint8_t prefix, struct bytes key)
{
    assert(key.size <= LIMIT_KEY_BYTES_MAX);
    scratch[0] = prefix;
    if (key.size > 0) memcpy(scratch + 1, key.data, key.size);
    return bytes_of(scratch, 1 + key.size);
}

static struct bytes key_of_number(uint8_t *scratch, uint8_t prefix, uint64_t number)
{
    scratch[0] = prefix;
    store_u64_be(scratch + 1, number);
    return bytes_of(scratch, 9);
}

struct bytes registry_key_current(uint8_t *scratch, struct bytes key)
{
    return key_of(scratch, REGISTRY_PREFIX_CURRENT, key);
}

struct bytes registry_key_deleted(uint8_t *scratch, struct bytes key)
{
    return key_of(scratch, REGISTRY_PREFIX_DELETED, key);
}

/* The size stands before the key so that the versions of one key never lie among another's. */
struct bytes registry_key_version(uint8_t *scratch, struct bytes key, uint64_t revision)
{
    assert(key.size <= LIMIT_KEY_BYTES_MAX);
    scratch[0] = REGISTRY_PREFIX_VERSION;
    scratch[1] = (uint8_t)(key.size >> 8);
    scratch[2] = (uint8_t)key.size;
    if (key.size > 0) memcpy(scratch + 3, key.data, key.size);
    store_u64_be(scratch + 3 + key.size, revision);
    return bytes_of(scratch, 3 + key.size + 8);
}

struct bytes registry_key_history(uint8_t *scratch, uint64_t revision)
{
    return key_of_number(scratch, REGISTRY_PREFIX_HISTORY, revision);
}

struct bytes registry_key_lease(uint8_t *scratch, uint64_t lease)
{
    return key_of_number(scratch, REGISTRY_PREFIX_LEASE, lease);
}

struct bytes registry_key_attached(uint8_t *scratch, uint64_t lease, struct bytes key)
{
    assert(key.size <= LIMIT_KEY_BYTES_MAX);
    struct bytes head = key_of_number(scratch, REGISTRY_PREFIX_ATTACHED, lease);
    if (key.size > 0) memcpy(scratch + head.size, key.data, key.size);
    return bytes_of(scratch, head.size + key.size);
}

struct bytes registry_key_after(uint8_t *scratch, uint8_t prefix)
{
    scratch[0] = (uint8_t)(prefix + 1);
    return bytes_of(scratch, 1);
}

void registry_meta_encode(const struct registry_meta *meta, struct writer *writer)
{
    writer_put_varint(writer, meta->create_revision);
    writer_put_varint(writer, meta->modify_revision);
    writer_put_varint(writer, meta->version);
    writer_put_varint(writer, meta->lease);
    writer_put_varint(writer, meta->value_size);
}

enum decode registry_meta_decode(struct bytes bytes, struct registry_meta *ret_meta)
{
    struct reader reader = reader_of(bytes.data, bytes.size);
    struct registry_meta meta = { 0 };
    meta.create_revision = reader_varint(&reader);
    meta.modify_revision = reader_varint(&reader);
    meta.version = reader_varint(&reader);
    meta.lease = reader_varint(&reader);
    meta.value_size = reader_varint(&reader);
    if (reader.failed || reader.used != reader.size) return DECODE_BAD;
    if (meta.create_revision == 0 || meta.create_revision > meta.modify_revision) return DECODE_BAD;
    if (meta.version == 0 || meta.value_size > LIMIT_VALUE_BYTES_MAX) return DECODE_BAD;
    *ret_meta = meta;
    return DECODE_OK;
}

void registry_version_encode_head(bool deleted, const struct registry_meta *meta,
                                  struct writer *writer)
{
    writer_put_u8(writer, deleted ? VERSION_DELETED : VERSION_VALUE);
    if (deleted) return;
    writer_put_varint(writer, meta->create_revision);
    writer_put_varint(writer, meta->version);
    writer_put_varint(writer, meta->lease);
}

enum decode registry_version_decode(struct bytes bytes, bool *ret_deleted,
                                    struct registry_meta *ret_meta, struct bytes *ret_value)
{
    struct reader reader = reader_of(bytes.data, bytes.size);
    uint8_t kind = reader_u8(&reader);
    struct registry_meta meta = { 0 };
    if (kind == VERSION_VALUE) {
        meta.create_revision = reader_varint(&reader);
        meta.version = reader_varint(&reader);
        meta.lease = reader_varint(&reader);
        meta.value_size = reader_left(&reader);
        if (meta.create_revision == 0 || meta.version == 0) return DECODE_BAD;
        if (meta.value_size > LIMIT_VALUE_BYTES_MAX) return DECODE_BAD;
    } else if (kind != VERSION_DELETED || reader_left(&reader) != 0) {
        return DECODE_BAD;
    }
    if (reader.failed) return DECODE_BAD;
    *ret_deleted = kind == VERSION_DELETED;
    *ret_meta = meta;
    *ret_value = bytes_of(bytes.data + reader.used, (size_t)meta.value_size);
    return DECODE_OK;
}

void registry_history_encode_head(const struct registry_counters *counters, size_t event_count,
                                  struct writer *writer)
{
    writer_put_u8(writer, HISTORY_FORMAT_VERSION);
    writer_put_varint(writer, counters->compact_revision);
    writer_put_varint(writer, counters->keys);
    writer_put_varint(writer, counters->bytes);
    writer_put_varint(writer, counters->history_bytes);
    writer_put_varint(writer, event_count);
}

void registry_history_encode_event(const struct registry_history_event *event,
                                   struct writer *writer)
{
    unsigned flags =
        (event->deleted ? EVENT_DELETED : 0u) | (event->has_previous ? EVENT_HAS_PREVIOUS : 0u);
    writer_put_u8(writer, (uint8_t)flags);
    writer_put_bytes(writer, event->key);
    if (!event->has_previous) return;
    writer_put_varint(writer, event->previous_revision);
    writer_put_varint(writer, event->previous_value_size);
}

enum decode registry_history_decode_head(struct bytes bytes, struct registry_counters *ret_counters,
                                         size_t *ret_event_count, struct reader *ret_reader)
{
    enum { EVENT_BYTES_MIN = 3 };
    struct reader reader = reader_of(bytes.data, bytes.size);
    struct registry_counters counters = { 0 };
    uint8_t version = reader_u8(&reader);
    counters.compact_revision = reader_varint(&reader);
    counters.keys = reader_varint(&reader);
    counters.bytes = reader_varint(&reader);
    counters.history_bytes = reader_varint(&reader);
    uint64_t event_count = reader_varint(&reader);
    if (reader.failed || version != HISTORY_FORMAT_VERSION) return DECODE_BAD;
    if (event_count == 0 || event_count > reader_left(&reader) / EVENT_BYTES_MIN) return DECODE_BAD;
    *ret_counters = counters;
    *ret_event_count = (size_t)event_count;
    *ret_reader = reader;
    return DECODE_OK;
}

enum decode registry_history_decode_event(struct reader *reader,
                                          struct registry_history_event *ret_event)
{
    struct registry_history_event event = { 0 };
    uint8_t flags = reader_u8(reader);
    event.deleted = (flags & EVENT_DELETED) != 0;
    event.has_previous = (flags & EVENT_HAS_PREVIOUS) != 0;
    event.key = reader_bytes(reader, LIMIT_KEY_BYTES_MAX);
    if (event.has_previous) {
        event.previous_revision = reader_varint(reader);
        event.previous_value_size = reader_varint(reader);
    }
    if (reader->failed || flags > EVENT_FLAGS_ALL || event.key.size == 0) return DECODE_BAD;
    if (event.deleted && !event.has_previous) return DECODE_BAD;
    *ret_event = event;
    return DECODE_OK;
}

void registry_lease_encode(uint64_t time_to_live_ms, uint64_t ends_at_ms, struct writer *writer)
{
    writer_put_varint(writer, time_to_live_ms);
    writer_put_varint(writer, ends_at_ms);
}

enum decode registry_lease_decode(struct bytes bytes, uint64_t *ret_time_to_live_ms,
                                  uint64_t *ret_ends_at_ms)
{
    struct reader reader = reader_of(bytes.data, bytes.size);
    uint64_t time_to_live_ms = reader_varint(&reader);
    uint64_t ends_at_ms = reader_varint(&reader);
    if (reader.failed || reader.used != reader.size) return DECODE_BAD;
    if (time_to_live_ms < REGISTRY_LEASE_MS_MIN || time_to_live_ms > REGISTRY_LEASE_MS_MAX) {
        return DECODE_BAD;
    }
    *ret_time_to_live_ms = time_to_live_ms;
    *ret_ends_at_ms = ends_at_ms;
    return DECODE_OK;
}
