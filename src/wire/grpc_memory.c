#include "wire/grpc_memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Stands before every block. 16 bytes, so that what follows is aligned as malloc's. */
struct grpc_memory_block {
    union {
        struct grpc_memory_block *next; /* while kept */
        size_t size;                    /* while taken: with this head */
    };
    size_t tier; /* GRPC_MEMORY_CLASS_COUNT: of no tier */
};
_Static_assert(sizeof(struct grpc_memory_block) == 16, "the head keeps malloc's alignment");

static size_t tier_of(size_t size)
{
    size_t tier = 0;
    while (tier < GRPC_MEMORY_CLASS_COUNT && size > (size_t)GRPC_MEMORY_CLASS_FIRST_BYTES << tier)
        tier++;
    return tier;
}

static size_t tier_bytes(size_t tier)
{
    return (size_t)GRPC_MEMORY_CLASS_FIRST_BYTES << tier;
}

void grpc_memory_init(struct grpc_memory *memory, size_t size_max)
{
    *memory = (struct grpc_memory) { .size_max = size_max };
}

void grpc_memory_finish(struct grpc_memory *memory)
{
    for (size_t tier = 0; tier < GRPC_MEMORY_CLASS_COUNT; tier++) {
        while (memory->kept[tier] != NULL) {
            struct grpc_memory_block *block = memory->kept[tier];
            memory->kept[tier] = block->next;
            memory->used_bytes -= tier_bytes(tier);
            free(block);
        }
    }
    assert(memory->used_bytes == 0);
    memory->kept_bytes = 0;
}

void *grpc_memory_take(size_t size, void *context)
{
    struct grpc_memory *memory = context;
    if (size > memory->size_max) return NULL;
    size_t need = size + sizeof(struct grpc_memory_block);
    size_t tier = tier_of(need);
    struct grpc_memory_block *block;
    if (tier < GRPC_MEMORY_CLASS_COUNT) {
        need = tier_bytes(tier);
        block = memory->kept[tier];
        if (block != NULL) {
            memory->kept[tier] = block->next;
            memory->kept_bytes -= need;
            block->size = need;
            return block + 1;
        }
    }
    if (need > memory->size_max - memory->used_bytes) return NULL;
    block = malloc(need);
    if (block == NULL) return NULL;
    memory->used_bytes += need;
    block->size = need;
    block->tier = tier;
    return block + 1;
}

void grpc_memory_give(void *pointer, void *context)
{
    if (pointer == NULL) return;
    struct grpc_memory *memory = context;
    struct grpc_memory_block *block = (struct grpc_memory_block *)pointer - 1;
    size_t size = block->size;
    if (block->tier < GRPC_MEMORY_CLASS_COUNT &&
        memory->kept_bytes + size <= GRPC_MEMORY_KEPT_BYTES_MAX) {
        block->next = memory->kept[block->tier];
        memory->kept[block->tier] = block;
        memory->kept_bytes += size;
        return;
    }
    memory->used_bytes -= size;
    free(block);
}

void *grpc_memory_take_zeroed(size_t count, size_t size, void *context)
{
    if (size != 0 && count > SIZE_MAX / size) return NULL;
    void *pointer = grpc_memory_take(count * size, context);
    if (pointer != NULL) memset(pointer, 0, count * size);
    return pointer;
}

void *grpc_memory_resize(void *pointer, size_t size, void *context)
{
    if (pointer == NULL) return grpc_memory_take(size, context);
    const struct grpc_memory_block *block = (struct grpc_memory_block *)pointer - 1;
    size_t room = block->size - sizeof *block;
    if (size <= room) return pointer;
    void *larger = grpc_memory_take(size, context);
    if (larger == NULL) return NULL;
    memcpy(larger, pointer, room);
    grpc_memory_give(pointer, context);
    return larger;
}
