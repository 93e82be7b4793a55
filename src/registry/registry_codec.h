/* The bytes of commands, replies and stored records of a registry space, and what makes a command
 * well-formed. Layouts: docs/formats/registry.md. Private to this folder.
 *
 * Decoders borrow from their input, never read outside it, and refuse what they can't have
 * written. */
#ifndef UNUM_REGISTRY_REGISTRY_CODEC_H
#define UNUM_REGISTRY_REGISTRY_CODEC_H

#include "registry/registry.h"

#include <assert.h>

enum {
    REGISTRY_VARINT_BYTES_MAX = 10,
    REGISTRY_COMMAND_BYTES_MAX = LIMIT_ENTRY_BYTES_MAX - 1024, /* the rest is the envelope's */
};

/* --- commands ----------------------------------------------------------------------------------
 */

/* STATUS_INVALID with a sentence that names the field; else STATUS_OK. */
MUST_USE enum status registry_command_check(const struct registry_command *command,
                                            struct error *error);
/* KEY and END of a range as in RangeRequest. */
MUST_USE enum status registry_interval_check(struct bytes key, struct bytes end,
                                             struct error *error);
/* END is "\0": everything from the start on. */
bool registry_range_is_infinite(struct bytes end);
bool registry_range_holds(struct bytes start, struct bytes end, struct bytes key);

/* --- replies -----------------------------------------------------------------------------------
 * Written front to back; a response's head is written first and its counts put in afterwards. Each
 * answers STATUS_FULL or STATUS_NO_MEMORY when the buffer refuses. */

/* A reply that changed nothing and says why. Drops what the buffer holds. */
MUST_USE enum status registry_reply_refuse(struct buffer *buffer, enum status status,
                                           uint64_t revision, const char *text);
MUST_USE enum status registry_reply_lease(struct buffer *buffer, uint64_t revision, uint64_t lease,
                                          uint64_t time_to_live_ms);
/* RESPONSE_COUNT responses follow. */
MUST_USE enum status registry_reply_transaction(struct buffer *buffer, bool succeeded,
                                                size_t response_count);
/* The revision is known only when all responses are there. */
void registry_reply_set_revision(struct buffer *buffer, uint64_t revision);
struct registry_response_mark {
    size_t offset; /* of the head, from the buffer's start */
    uint32_t item_count;
};
MUST_USE enum status registry_reply_response_begin(struct buffer *buffer,
                                                   enum registry_operation_kind kind,
                                                   struct registry_response_mark *ret_mark);
MUST_USE enum status registry_reply_item(struct buffer *buffer, struct registry_response_mark *mark,
                                         const struct registry_item *item);
void registry_reply_response_end(struct buffer *buffer, const struct registry_response_mark *mark,
                                 uint64_t count, bool more);

/* --- stored records ----------------------------------------------------------------------------
 * The first byte of a key in the group's range tells what it is. */

enum {
    REGISTRY_PREFIX_ATTACHED = 'a', /* a lease's key */
    REGISTRY_PREFIX_DELETED = 'd',  /* a key whose deletion is in the history */
    REGISTRY_PREFIX_HISTORY = 'h',  /* a revision: its events and the counters after it */
    REGISTRY_PREFIX_CURRENT = 'k',  /* a key's present version, without the value */
    REGISTRY_PREFIX_LEASE = 'l',
    REGISTRY_PREFIX_VERSION = 'v', /* a version of a key: value or tombstone */
    /* Prefix, size of the key, key, a number. */
    REGISTRY_STORE_KEY_BYTES_MAX = 1 + 2 + LIMIT_KEY_BYTES_MAX + 8,
    REGISTRY_META_BYTES_MAX = 5 * REGISTRY_VARINT_BYTES_MAX,
    REGISTRY_VERSION_HEAD_BYTES_MAX = 1 + 3 * REGISTRY_VARINT_BYTES_MAX,
    REGISTRY_EVENT_HEAD_BYTES_MAX = 1 + 3 * REGISTRY_VARINT_BYTES_MAX,
    REGISTRY_HISTORY_HEAD_BYTES_MAX = 1 + 6 * REGISTRY_VARINT_BYTES_MAX,
};
_Static_assert(REGISTRY_STORE_KEY_BYTES_MAX <= (size_t)STORE_KEY_BYTES_MAX,
               "the store takes every key");

/* Each writes into SCRATCH (REGISTRY_STORE_KEY_BYTES_MAX) and gives a slice of it. */
struct bytes registry_key_current(uint8_t *scratch, struct bytes key);
struct bytes registry_key_deleted(uint8_t *scratch, struct bytes key);
struct bytes registry_key_version(uint8_t *scratch, struct bytes key, uint64_t revision);
struct bytes registry_key_history(uint8_t *scratch, uint64_t revision);
struct bytes registry_key_lease(uint8_t *scratch, uint64_t lease);
struct bytes registry_key_attached(uint8_t *scratch, uint64_t lease, struct bytes key);
/* The first key behind all that start with PREFIX. */
struct bytes registry_key_after(uint8_t *scratch, uint8_t prefix);

struct registry_meta {
    uint64_t create_revision, modify_revision, version, lease, value_size;
};
void registry_meta_encode(const struct registry_meta *meta, struct writer *writer);
MUST_USE enum decode registry_meta_decode(struct bytes bytes, struct registry_meta *ret_meta);

/* The head of a version record; the value follows. A tombstone is the head alone. */
void registry_version_encode_head(bool deleted, const struct registry_meta *meta,
                                  struct writer *writer);
/* ret_meta lacks modify_revision, which stands in the key. */
MUST_USE enum decode registry_version_decode(struct bytes bytes, bool *ret_deleted,
                                             struct registry_meta *ret_meta,
                                             struct bytes *ret_value);

struct registry_counters {
    uint64_t revision;         /* the last change */
    uint64_t compact_revision; /* reads of the past from here on, events behind it */
    uint64_t keys, bytes, history_bytes;
};
struct registry_history_event {
    struct bytes key;
    bool deleted, has_previous;
    uint64_t previous_revision, previous_value_size;
};
void registry_history_encode_head(const struct registry_counters *counters, size_t event_count,
                                  struct writer *writer);
void registry_history_encode_event(const struct registry_history_event *event,
                                   struct writer *writer);
/* ret_counters lacks the revision, which stands in the key. The events follow in ret_reader. */
MUST_USE enum decode registry_history_decode_head(struct bytes bytes,
                                                  struct registry_counters *ret_counters,
                                                  size_t *ret_event_count,
                                                  struct reader *ret_reader);
MUST_USE enum decode registry_history_decode_event(struct reader *reader,
                                                   struct registry_history_event *ret_event);

void registry_lease_encode(uint64_t time_to_live_ms, uint64_t ends_at_ms, struct writer *writer);
MUST_USE enum decode registry_lease_decode(struct bytes bytes, uint64_t *ret_time_to_live_ms,
                                           uint64_t *ret_ends_at_ms);

#endif
