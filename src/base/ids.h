/* Ids that are never reused (foundations, 5). 128-bit ids are random; counters are 64-bit and start
 * at 1. */
#ifndef UNUM_BASE_IDS_H
#define UNUM_BASE_IDS_H

#include "base/bytes.h"

enum { ID_BYTES = 16, ID_TEXT_BYTES = 33 };

/* Computer, machine, disk incarnation, task. All zero means none. */
struct id {
    uint8_t bytes[ID_BYTES];
};

static inline bool id_is_zero(const struct id *id)
{
    static const struct id zero;
    return memcmp(id, &zero, sizeof zero) == 0;
}
static inline bool id_equal(const struct id *a, const struct id *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}
/* 32 lower-case hex digits and NUL. */
void id_format(const struct id *id, char ret_text[ID_TEXT_BYTES]);
MUST_USE enum status id_parse(const char *text, struct id *ret_id);

#endif
