/* The memory of one connection: an allocator with a budget and a small store of freed blocks.
 * For libraries that take an allocator (nghttp2). Not thread-safe. */
#ifndef UNUM_WIRE_GRPC_MEMORY_H
#define UNUM_WIRE_GRPC_MEMORY_H

#include <stddef.h>
#include <stdint.h>

enum {
    GRPC_MEMORY_CLASS_COUNT = 6, /* 64, 128, ... 2048 bytes; larger ones go straight to malloc */
    GRPC_MEMORY_CLASS_FIRST_BYTES = 64,
    GRPC_MEMORY_KEPT_BYTES_MAX = 64 * 1024, /* freed blocks kept for reuse, per connection */
};

struct grpc_memory_block;

struct grpc_memory {
    struct grpc_memory_block *kept[GRPC_MEMORY_CLASS_COUNT];
    size_t kept_bytes;
    size_t used_bytes; /* with what is kept */
    size_t size_max;
};

void grpc_memory_init(struct grpc_memory *memory, size_t size_max);
/* Everything taken must have been given back. */
void grpc_memory_finish(struct grpc_memory *memory);
/* As malloc, free, calloc, realloc; NULL over the budget. The shape that nghttp2_mem wants. */
void *grpc_memory_take(size_t size, void *memory);
void grpc_memory_give(void *block, void *memory);
void *grpc_memory_take_zeroed(size_t count, size_t size, void *memory);
void *grpc_memory_resize(void *block, size_t size, void *memory);

#endif
