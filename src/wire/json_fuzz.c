/* A text that is read as a message, written again and read again, is the same message. */
#include "wire/json.h"

#include "unum/v1/computer.pb-c.h"
#include "unum/v1/registry.pb-c.h"
#include "wire/proto_arena.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const types[] = {
    &unum__v1__apply_request__descriptor, &unum__v1__txn_request__descriptor,
    &unum__v1__watch_response__descriptor, &unum__v1__list_machines_response__descriptor
};

enum { ARENA_BYTES = 8 * 1024 * 1024, TEXT_BYTES = 8 * 1024 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    const ProtobufCMessageDescriptor *type = types[data[0] % 4];
    unsigned style = data[0] / 4 % 4;
    struct arena arena;
    struct error error;
    struct buffer text, before, after;
    void *message = NULL, *again = NULL;
    arena_init(&arena, ARENA_BYTES);
    buffer_init(&text, TEXT_BYTES);
    buffer_init(&before, TEXT_BYTES);
    buffer_init(&after, TEXT_BYTES);
    error.text[0] = '\0';
    if (json_decode(type, bytes_of(data + 1, size - 1), &arena, &message, &error) != STATUS_OK) {
        if (error.text[0] == '\0') abort();
    } else {
        if (json_encode(message, style, &text, &error) != STATUS_OK) abort();
        if (json_decode(type, bytes_of(text.data, text.used), &arena, &again, &error) != STATUS_OK)
            abort();
        if (proto_pack(message, &before) != STATUS_OK) abort();
        if (proto_pack(again, &after) != STATUS_OK) abort();
        if (!bytes_equal(bytes_of(before.data, before.used), bytes_of(after.data, after.used)))
            abort();
    }
    buffer_finish(&text);
    buffer_finish(&before);
    buffer_finish(&after);
    arena_finish(&arena);
    return 0;
}
