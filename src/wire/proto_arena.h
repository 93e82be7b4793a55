/* An allocator for protobuf-c on an arena: unpacked messages live and die with the arena, and its
 * maximum bounds what a peer can make us hold. Never call ..._free_unpacked on them. */
#ifndef UNUM_WIRE_PROTO_ARENA_H
#define UNUM_WIRE_PROTO_ARENA_H

#include "base/arena.h"

#include <protobuf-c/protobuf-c.h>

static inline void *proto_arena_take(void *arena, size_t size)
{
    return arena_take(arena, size);
}

static inline void proto_arena_keep(void *arena, void *memory)
{
    (void)arena;
    (void)memory;
}

static inline ProtobufCAllocator proto_arena(struct arena *arena)
{
    return (ProtobufCAllocator) { .alloc = proto_arena_take,
                                  .free = proto_arena_keep,
                                  .allocator_data = arena };
}

/* NULL: not such a message, or over the arena's maximum. */
static inline void *proto_unpack(const ProtobufCMessageDescriptor *descriptor, struct arena *arena,
                                 struct bytes bytes)
{
    ProtobufCAllocator allocator = proto_arena(arena);
    return protobuf_c_message_unpack(descriptor, &allocator, bytes.size, bytes.data);
}

/* Append the packed message to BUFFER. STATUS_FULL, STATUS_NO_MEMORY. */
MUST_USE static inline enum status proto_pack(const ProtobufCMessage *message,
                                              struct buffer *buffer)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    if (size == 0) return STATUS_OK;
    enum status status = buffer_reserve(buffer, size);
    if (status != STATUS_OK) return status;
    (void)protobuf_c_message_pack(message, buffer->data + buffer->used);
    buffer->used += size;
    return STATUS_OK;
}

#endif
