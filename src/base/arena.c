#include "base/arena.h"

#include <stdlib.h>

enum { ARENA_BLOCK_BYTES = 4096, ARENA_ALIGN = 16 };

struct arena_block {
    struct arena_block *next;
    size_t size;
    size_t used;
    _Alignas(16) uint8_t data[];
};

void arena_init(struct arena *arena, size_t size_max)
{
    *arena = (struct arena) { .size_max = size_max };
}

void arena_reset(struct arena *arena)
{
    struct arena_block *block = arena->blocks;
    while (block != NULL) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
    arena->blocks = NULL;
    arena->used_bytes = 0;
}

void arena_clear(struct arena *arena)
{
    struct arena_block *kept = NULL;
    struct arena_block *block = arena->blocks;
    while (block != NULL) {
        struct arena_block *next = block->next;
        if (kept == NULL && block->size == ARENA_BLOCK_BYTES) {
            kept = block;
        } else {
            free(block);
        }
        block = next;
    }
    if (kept != NULL) {
        memset(kept->data, 0, kept->used);
        kept->used = 0;
        kept->next = NULL;
    }
    arena->blocks = kept;
    arena->used_bytes = 0;
}

void arena_finish(struct arena *arena)
{
    arena_reset(arena);
    arena->size_max = 0;
}

void *arena_take(struct arena *arena, size_t size)
{
    if (size > arena->size_max || arena->used_bytes > arena->size_max - size) return NULL;
    size_t rounded = (size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    struct arena_block *block = arena->blocks;
    if (block == NULL || block->size - block->used < rounded) {
        size_t data_size = rounded > ARENA_BLOCK_BYTES ? rounded : ARENA_BLOCK_BYTES;
        block = calloc(1, sizeof *block + data_size);
        if (block == NULL) return NULL;
        block->size = data_size;
        block->next = arena->blocks;
        arena->blocks = block;
    }
    void *data = block->data + block->used;
    block->used += rounded;
    arena->used_bytes += rounded;
    return data;
}

struct bytes arena_copy(struct arena *arena, struct bytes bytes)
{
    void *data = arena_take(arena, bytes.size);
    if (data == NULL) return (struct bytes) { 0 };
    if (bytes.size > 0) memcpy(data, bytes.data, bytes.size);
    return bytes_of(data, bytes.size);
}

char *arena_copy_text(struct arena *arena, const char *text, size_t length)
{
    char *copy = arena_take(arena, length + 1);
    if (copy == NULL) return NULL;
    if (length > 0) memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}
