/* Arena: allocations that live and die together, with a maximum.
 * Ownership: everything taken from it ends with arena_finish or arena_reset. Not thread-safe. */
#ifndef UNUM_BASE_ARENA_H
#define UNUM_BASE_ARENA_H

#include "base/bytes.h"

struct arena_block;

struct arena {
    struct arena_block *blocks;
    size_t used_bytes;
    size_t size_max;
};

void arena_init(struct arena *arena, size_t size_max);
/* Free all; the arena may be used again. */
void arena_reset(struct arena *arena);
/* As arena_reset, but keep one small block, so that a loop that uses little allocates nothing. */
void arena_clear(struct arena *arena);
void arena_finish(struct arena *arena);
/* SIZE zeroed bytes aligned to 16; NULL over the maximum or without memory. SIZE 0 gives a valid
 * pointer. */
void *arena_take(struct arena *arena, size_t size);
/* Copies; NULL as above. The text is NUL-terminated. */
struct bytes arena_copy(struct arena *arena, struct bytes bytes);
char *arena_copy_text(struct arena *arena, const char *text, size_t length);

#endif
