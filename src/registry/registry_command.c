/* The codec of commands, the payload of an entry of kind COMMAND. docs/formats/registry.md. */
#include "registry/registry_codec.h"

#include "wire/entry.h"

#include <stdlib.h>

enum { COMMAND_FORMAT_VERSION = 1 };
/* Version, kind, and the varints of a command without operations. */
enum { COMMAND_HEAD_BYTES_MAX = 2 + 6 * REGISTRY_VARINT_BYTES_MAX };
/* Kind, flags or result, and the varints of a compare or an operation. */
enum { COMMAND_PART_HEAD_BYTES_MAX = 2 + 4 * REGISTRY_VARINT_BYTES_MAX };

enum {
    FLAG_RETURN_PREVIOUS = 1,
    FLAG_KEYS_ONLY = 2,
    FLAG_COUNT_ONLY = 4,
    FLAG_DESCENDING = 8,
    FLAGS_ALL = 15,
};

_Static_assert(REGISTRY_COMMAND_BYTES_MAX + ENTRY_OVERHEAD_BYTES_MAX <= LIMIT_ENTRY_BYTES_MAX,
               "an entry holds every command");
_Static_assert(LIMIT_KEY_BYTES_MAX + LIMIT_VALUE_BYTES_MAX + COMMAND_HEAD_BYTES_MAX +
                       COMMAND_PART_HEAD_BYTES_MAX <=
                   REGISTRY_COMMAND_BYTES_MAX,
               "a command holds the largest put");

/* An upper bound, so that room is asked for once. */
static size_t command_size_max(const struct registry_command *command)
{
    size_t size = COMMAND_HEAD_BYTES_MAX;
    for (size_t i = 0; i < command->compare_count; i++) {
        const struct registry_compare *compare = &command->compares[i];
        size += COMMAND_PART_HEAD_BYTES_MAX + compare->key.size + compare->value.size;
    }
    for (unsigned branch = 0; branch < 2; branch++) {
        const struct registry_operation *operations =
            branch == 0 ? command->success : command->failure;
        size_t count = branch == 0 ? command->success_count : command->failure_count;
        for (size_t i = 0; i < count; i++) {
            size += COMMAND_PART_HEAD_BYTES_MAX + operations[i].key.size + operations[i].end.size +
                    operations[i].value.size;
        }
    }
    return size;
}

static void encode_compare(const struct registry_compare *compare, struct writer *writer)
{
    writer_put_u8(writer, (uint8_t)compare->target);
    writer_put_u8(writer, (uint8_t)compare->result);
    writer_put_bytes(writer, compare->key);
    if (compare->target == REGISTRY_VALUE) {
        writer_put_bytes(writer, compare->value);
    } else {
        writer_put_varint(writer, compare->number);
    }
}

static void encode_operation(const struct registry_operation *operation, struct writer *writer)
{
    unsigned flags = (operation->return_previous ? FLAG_RETURN_PREVIOUS : 0u) |
                     (operation->keys_only ? FLAG_KEYS_ONLY : 0u) |
                     (operation->count_only ? FLAG_COUNT_ONLY : 0u) |
                     (operation->descending ? FLAG_DESCENDING : 0u);
    writer_put_u8(writer, (uint8_t)operation->kind);
    writer_put_u8(writer, (uint8_t)flags);
    writer_put_bytes(writer, operation->key);
    switch (operation->kind) {
    case REGISTRY_PUT:
        writer_put_bytes(writer, operation->value);
        writer_put_varint(writer, operation->lease);
        break;
    case REGISTRY_RANGE:
        writer_put_bytes(writer, operation->end);
        writer_put_varint(writer, operation->limit);
        break;
    case REGISTRY_DELETE: writer_put_bytes(writer, operation->end); break;
    }
}

static void encode_transaction(const struct registry_command *command, struct writer *writer)
{
    writer_put_varint(writer, command->compare_count);
    for (size_t i = 0; i < command->compare_count; i++) {
        encode_compare(&command->compares[i], writer);
    }
    writer_put_varint(writer, command->success_count);
    for (size_t i = 0; i < command->success_count; i++) {
        encode_operation(&command->success[i], writer);
    }
    writer_put_varint(writer, command->failure_count);
    for (size_t i = 0; i < command->failure_count; i++) {
        encode_operation(&command->failure[i], writer);
    }
}

enum status registry_command_encode(const struct registry_command *command, struct buffer *buffer,
                                    struct error *error)
{
    enum status status = registry_command_check(command, error);
    if (status != STATUS_OK) return status;

    /* The keys and values are bounded one by one, so the sum can't overflow. */
    size_t size_max = command_size_max(command);
    if (size_max > REGISTRY_COMMAND_BYTES_MAX + COMMAND_HEAD_BYTES_MAX +
                       3 * LIMIT_TXN_OPERATIONS_MAX * COMMAND_PART_HEAD_BYTES_MAX) {
        return error_set(error, STATUS_INVALID,
                         "the transaction has about %zu bytes, the maximum is %d", size_max,
                         REGISTRY_COMMAND_BYTES_MAX);
    }
    status = buffer_reserve(buffer, size_max);
    if (status != STATUS_OK) {
        return error_set(error, status, "no room for a command of %zu bytes", size_max);
    }
    struct writer writer = writer_of(buffer->data + buffer->used, size_max);
    writer_put_u8(&writer, COMMAND_FORMAT_VERSION);
    writer_put_u8(&writer, (uint8_t)command->kind);
    writer_put_varint(&writer, command->fence);
    switch (command->kind) {
    case REGISTRY_COMMAND_TXN: encode_transaction(command, &writer); break;
    case REGISTRY_COMMAND_GRANT:
        writer_put_varint(&writer, command->lease);
        writer_put_varint(&writer, command->time_to_live_ms);
        break;
    case REGISTRY_COMMAND_KEEP:
    case REGISTRY_COMMAND_REVOKE: writer_put_varint(&writer, command->lease); break;
    }
    assert(!writer.failed);
    if (writer.used > REGISTRY_COMMAND_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "the transaction has %zu bytes, the maximum is %d",
                         writer.used, REGISTRY_COMMAND_BYTES_MAX);
    }
    buffer->used += writer.used;
    return STATUS_OK;
}

static void decode_compare(struct reader *reader, struct registry_compare *compare)
{
    uint8_t target = reader_u8(reader);
    uint8_t result = reader_u8(reader);
    if (target > REGISTRY_LEASE || result > REGISTRY_GREATER) reader->failed = true;
    compare->target = (enum registry_target)target;
    compare->result = (enum registry_result)result;
    compare->key = reader_bytes(reader, LIMIT_KEY_BYTES_MAX);
    if (compare->target == REGISTRY_VALUE) {
        compare->value = reader_bytes(reader, LIMIT_VALUE_BYTES_MAX);
    } else {
        compare->number = reader_varint(reader);
    }
}

static void decode_operation(struct reader *reader, struct registry_operation *operation)
{
    uint8_t kind = reader_u8(reader);
    uint8_t flags = reader_u8(reader);
    if (kind > REGISTRY_DELETE || flags > FLAGS_ALL) reader->failed = true;
    operation->kind = (enum registry_operation_kind)kind;
    operation->return_previous = (flags & FLAG_RETURN_PREVIOUS) != 0;
    operation->keys_only = (flags & FLAG_KEYS_ONLY) != 0;
    operation->count_only = (flags & FLAG_COUNT_ONLY) != 0;
    operation->descending = (flags & FLAG_DESCENDING) != 0;
    operation->key = reader_bytes(reader, LIMIT_KEY_BYTES_MAX);
    switch (operation->kind) {
    case REGISTRY_PUT:
        operation->value = reader_bytes(reader, LIMIT_VALUE_BYTES_MAX);
        operation->lease = reader_varint(reader);
        break;
    case REGISTRY_RANGE:
        operation->end = reader_bytes(reader, LIMIT_KEY_BYTES_MAX);
        operation->limit = reader_varint(reader);
        break;
    case REGISTRY_DELETE: operation->end = reader_bytes(reader, LIMIT_KEY_BYTES_MAX); break;
    }
}

/* A count that is believed only within its maximum. */
static size_t decode_count(struct reader *reader)
{
    uint64_t count = reader_varint(reader);
    if (count > LIMIT_TXN_OPERATIONS_MAX) reader->failed = true;
    return reader->failed ? 0 : (size_t)count;
}

static enum status decode_operations(struct reader *reader, struct arena *arena,
                                     const struct registry_operation **ret_operations,
                                     size_t *ret_count)
{
    size_t count = decode_count(reader);
    struct registry_operation *operations = NULL;
    if (count > 0) {
        operations = arena_take(arena, count * sizeof *operations);
        if (operations == NULL) return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < count && !reader->failed; i++) decode_operation(reader, &operations[i]);
    *ret_operations = operations;
    *ret_count = count;
    return STATUS_OK;
}

static enum status decode_transaction(struct reader *reader, struct arena *arena,
                                      struct registry_command *command)
{
    size_t count = decode_count(reader);
    struct registry_compare *compares = NULL;
    if (count > 0) {
        compares = arena_take(arena, count * sizeof *compares);
        if (compares == NULL) return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < count && !reader->failed; i++) decode_compare(reader, &compares[i]);
    command->compares = compares;
    command->compare_count = count;
    enum status status =
        decode_operations(reader, arena, &command->success, &command->success_count);
    if (status != STATUS_OK) return status;
    return decode_operations(reader, arena, &command->failure, &command->failure_count);
}

enum status registry_command_decode(struct bytes bytes, struct arena *arena,
                                    struct registry_command *ret_command, struct error *error)
{
    struct reader reader = reader_of(bytes.data, bytes.size);
    uint8_t version = reader_u8(&reader);
    uint8_t kind = reader_u8(&reader);
    if (!reader.failed && version != COMMAND_FORMAT_VERSION) {
        return error_set(error, STATUS_INVALID, "the command has format version %u, this is %d",
                         version, COMMAND_FORMAT_VERSION);
    }
    if (bytes.size > REGISTRY_COMMAND_BYTES_MAX || kind > REGISTRY_COMMAND_REVOKE) {
        reader.failed = true;
    }
    struct registry_command command = { .kind = (enum registry_command_kind)kind };
    command.fence = reader_varint(&reader);
    enum status status = STATUS_OK;
    switch (command.kind) {
    case REGISTRY_COMMAND_TXN: status = decode_transaction(&reader, arena, &command); break;
    case REGISTRY_COMMAND_GRANT:
        command.lease = reader_varint(&reader);
        command.time_to_live_ms = reader_varint(&reader);
        break;
    case REGISTRY_COMMAND_KEEP:
    case REGISTRY_COMMAND_REVOKE: command.lease = reader_varint(&reader); break;
    }
    if (status != STATUS_OK) {
        return error_set(error, status, "no memory to decode a command of %zu bytes", bytes.size);
    }
    if (reader.failed || reader.used != reader.size) {
        return error_set(error, STATUS_INVALID, "the command is malformed at byte %zu of %zu",
                         reader.used, reader.size);
    }
    *ret_command = command;
    return STATUS_OK;
}

static bool only_takes_away(const struct registry_operation *operations, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (operations[i].kind == REGISTRY_PUT) return false;
    return true;
}

bool registry_command_frees_room(const struct registry_command *command)
{
    if (command->kind == REGISTRY_COMMAND_GRANT) return false;
    return only_takes_away(command->success, command->success_count) &&
           only_takes_away(command->failure, command->failure_count);
}
