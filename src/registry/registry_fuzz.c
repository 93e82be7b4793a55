/* Commands, replies and stored records: nothing is read outside the input, and a command that
 * decodes and is well-formed encodes and decodes to the same bytes again. The first byte chooses
 * the decoder. */
#include "registry/registry_codec.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_command(struct bytes bytes, struct arena *arena)
{
    struct registry_command command, again;
    struct error error = { 0 };
    if (registry_command_decode(bytes, arena, &command, &error) != STATUS_OK) return;
    struct buffer first, second;
    buffer_init(&first, LIMIT_ENTRY_BYTES_MAX);
    buffer_init(&second, LIMIT_ENTRY_BYTES_MAX);
    if (registry_command_encode(&command, &first, &error) == STATUS_OK) {
        if (registry_command_decode(bytes_of(first.data, first.used), arena, &again, &error) !=
            STATUS_OK) {
            abort();
        }
        if (registry_command_encode(&again, &second, &error) != STATUS_OK) abort();
        if (first.used != second.used || memcmp(first.data, second.data, first.used) != 0) abort();
    }
    buffer_finish(&first);
    buffer_finish(&second);
}

static void fuzz_records(struct bytes bytes)
{
    struct registry_meta meta;
    struct bytes value;
    bool deleted;
    uint64_t time_to_live_ms, ends_at_ms;
    if (registry_meta_decode(bytes, &meta) == DECODE_OK && meta.version == 0) abort();
    if (registry_version_decode(bytes, &deleted, &meta, &value) == DECODE_OK &&
        value.size > bytes.size) {
        abort();
    }
    if (registry_lease_decode(bytes, &time_to_live_ms, &ends_at_ms) == DECODE_OK &&
        time_to_live_ms == 0) {
        abort();
    }
    struct registry_counters counters;
    struct registry_history_event event;
    struct reader reader;
    size_t count;
    if (registry_history_decode_head(bytes, &counters, &count, &reader) != DECODE_OK) return;
    for (size_t i = 0; i < count; i++) {
        if (registry_history_decode_event(&reader, &event) != DECODE_OK) break;
        if (event.key.size == 0) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct arena arena;
    arena_init(&arena, REGISTRY_ARENA_BYTES_MAX);
    struct bytes bytes = bytes_of(data + 1, size - 1);
    struct registry_reply reply;
    switch (data[0] % 3) {
    case 0: fuzz_command(bytes, &arena); break;
    case 1:
        if (registry_reply_decode(bytes, &arena, &reply) == STATUS_OK &&
            reply.text[sizeof reply.text - 1] != '\0') {
            abort();
        }
        break;
    default: fuzz_records(bytes); break;
    }
    arena_finish(&arena);
    return 0;
}
