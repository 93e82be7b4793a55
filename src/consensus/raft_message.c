#include "consensus/raft_internal.h"

/* Layout: docs/formats/raft-messages.md. */
enum { RAFT_MESSAGE_VERSION = 1, RAFT_MESSAGE_HEAD_BYTES = 6 };

/* Fifteen varints, the runs, a membership. */
_Static_assert(RAFT_MESSAGE_HEAD_BYTES + 15 * 10 + RAFT_MESSAGE_RUNS_MAX * 20 +
                       RAFT_MEMBERSHIP_BYTES_MAX <=
                   RAFT_MESSAGE_BYTES_MAX,
               "the largest message fits");

bool raft_send_add_entry(struct raft_send *send, uint64_t index, uint64_t term, uint32_t size,
                         const struct raft_membership *membership)
{
    struct raft_message *message = &send->message;

    assert(message->type == RAFT_MESSAGE_APPEND);
    assert(index == message->index + message->count + 1);
    if (message->count >= send->count_max) return false;
    if (message->count > 0 && (message->payload_bytes >= send->bytes_max ||
                               size > send->bytes_max - message->payload_bytes)) {
        return false;
    }
    if (membership != NULL && message->membership_index != 0) return false;
    bool is_new_run = message->run_count == 0 || message->runs[message->run_count - 1].term != term;
    if (is_new_run) {
        if (message->run_count == RAFT_MESSAGE_RUNS_MAX) return false;
        message->runs[message->run_count++] = (struct raft_run) { .index = index, .term = term };
    }
    if (membership != NULL) {
        message->membership_index = index;
        message->membership = *membership;
    }
    message->count++;
    message->payload_bytes += size;
    message->window_bytes += size;
    return true;
}

static bool has_membership(const struct raft_message *message)
{
    return message->type == RAFT_MESSAGE_SNAPSHOT || message->membership_index != 0;
}

static bool entries_valid(const struct raft_message *message)
{
    uint64_t end = message->index + message->count;

    if (message->count > RAFT_ENTRIES_PER_MESSAGE_MAX || message->index > UINT64_MAX / 4) {
        return false;
    }
    if ((message->count == 0) != (message->run_count == 0)) return false;
    if (message->index == 0 && message->index_term != 0) return false;
    if (message->run_count > RAFT_MESSAGE_RUNS_MAX) return false;
    uint64_t term = message->index_term;
    for (int i = 0; i < message->run_count; i++) {
        const struct raft_run *run = &message->runs[i];
        bool is_first = i == 0;
        if (is_first ? run->index != message->index + 1 : run->index <= run[-1].index) return false;
        if (run->index > end || run->term > message->term || run->term == 0) return false;
        if (is_first ? run->term < term : run->term <= term) return false;
        term = run->term;
    }
    if (message->membership_index == 0) return true;
    return message->membership_index > message->index && message->membership_index <= end;
}

bool raft_message_valid(const struct raft_message *message)
{
    if (message->type >= RAFT_MESSAGE_TYPE_COUNT || (message->flags & ~RAFT_FLAGS_ALL) != 0 ||
        message->from == 0 || message->to == 0 ||
        (message->term == 0 && message->type != RAFT_MESSAGE_PRE_VOTE_REPLY) ||
        message->payload_bytes > RAFT_PAYLOAD_BYTES_MAX) {
        return false;
    }
    bool is_append = message->type == RAFT_MESSAGE_APPEND;
    bool is_snapshot = message->type == RAFT_MESSAGE_SNAPSHOT;
    if (!is_append &&
        (message->count != 0 || message->run_count != 0 || message->membership_index != 0)) {
        return false;
    }
    if (!is_append && !is_snapshot && message->payload_bytes != 0) return false;
    if (is_append && !entries_valid(message)) return false;
    if (is_snapshot && (message->index == 0 || message->index > UINT64_MAX / 4 ||
                        message->index_term == 0 || message->index_term > message->term)) {
        return false;
    }
    if (!has_membership(message)) return true;
    return message->membership.count > 0 && raft_membership_valid(&message->membership);
}

void raft_message_encode(const struct raft_message *message, struct writer *writer)
{
    uint8_t memory[RAFT_MESSAGE_BYTES_MAX];
    struct writer body = writer_of(memory, sizeof memory);

    writer_put_varint(&body, message->group);
    writer_put_varint(&body, message->from);
    writer_put_varint(&body, message->to);
    writer_put_varint(&body, message->term);
    writer_put_varint(&body, message->index);
    writer_put_varint(&body, message->index_term);
    writer_put_varint(&body, message->commit);
    writer_put_varint(&body, message->match);
    writer_put_varint(&body, message->round);
    writer_put_varint(&body, message->sent_ns);
    writer_put_varint(&body, message->window_bytes);
    writer_put_varint(&body, message->window_messages);
    writer_put_varint(&body, message->offset);
    writer_put_varint(&body, message->payload_bytes);
    if (message->type == RAFT_MESSAGE_APPEND) {
        writer_put_u16(&body, (uint16_t)message->count);
        writer_put_varint(&body, message->membership_index);
    }
    for (int i = 0; i < message->run_count; i++) {
        writer_put_varint(&body, message->runs[i].index);
        writer_put_varint(&body, message->runs[i].term);
    }
    if (has_membership(message)) raft_membership_encode(&message->membership, &body);
    assert(!body.failed);

    writer_put_u16(writer, (uint16_t)(RAFT_MESSAGE_HEAD_BYTES + body.used));
    writer_put_u8(writer, RAFT_MESSAGE_VERSION);
    writer_put_u8(writer, message->type);
    writer_put_u8(writer, message->flags);
    writer_put_u8(writer, message->run_count);
    writer_put(writer, memory, body.used);
}

/* A varint that has to fit into 32 bits. */
static uint32_t varint_u32(struct reader *reader)
{
    uint64_t value = reader_varint(reader);
    if (value > UINT32_MAX) reader->failed = true;
    return reader->failed ? 0 : (uint32_t)value;
}

static bool decode_body(struct reader *reader, struct raft_message *message)
{
    message->group = reader_varint(reader);
    message->from = reader_varint(reader);
    message->to = reader_varint(reader);
    message->term = reader_varint(reader);
    message->index = reader_varint(reader);
    message->index_term = reader_varint(reader);
    message->commit = reader_varint(reader);
    message->match = reader_varint(reader);
    message->round = reader_varint(reader);
    message->sent_ns = reader_varint(reader);
    message->window_bytes = reader_varint(reader);
    message->window_messages = varint_u32(reader);
    message->offset = reader_varint(reader);
    message->payload_bytes = varint_u32(reader);
    if (message->type == RAFT_MESSAGE_APPEND) {
        message->count = reader_u16(reader);
        message->membership_index = reader_varint(reader);
    }
    for (int i = 0; i < message->run_count; i++) {
        message->runs[i].index = reader_varint(reader);
        message->runs[i].term = reader_varint(reader);
    }
    if (reader->failed) return false;
    if (has_membership(message) &&
        raft_membership_decode(reader, &message->membership) != STATUS_OK) {
        return false;
    }
    return reader_left(reader) == 0 && raft_message_valid(message);
}

enum decode raft_message_decode(const uint8_t *bytes, size_t size, struct raft_message *ret_message,
                                size_t *ret_used)
{
    struct raft_message message = { 0 };

    assert(bytes != NULL || size == 0);
    if (size < RAFT_MESSAGE_HEAD_BYTES) return DECODE_MORE;
    uint16_t total = load_u16_le(bytes);
    if (total < RAFT_MESSAGE_HEAD_BYTES || total > RAFT_MESSAGE_BYTES_MAX) return DECODE_BAD;
    if (bytes[2] != RAFT_MESSAGE_VERSION || bytes[3] >= RAFT_MESSAGE_TYPE_COUNT ||
        bytes[5] > RAFT_MESSAGE_RUNS_MAX) {
        return DECODE_BAD;
    }
    if (size < total) return DECODE_MORE;

    message.type = bytes[3];
    message.flags = bytes[4];
    message.run_count = bytes[5];
    struct reader reader =
        reader_of(bytes + RAFT_MESSAGE_HEAD_BYTES, (size_t)total - RAFT_MESSAGE_HEAD_BYTES);
    if (!decode_body(&reader, &message)) return DECODE_BAD;
    *ret_message = message;
    *ret_used = total;
    return DECODE_OK;
}
