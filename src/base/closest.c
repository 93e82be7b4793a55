#include "base/closest.h"

#include <assert.h>
#include <string.h>

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Optimal string alignment distance, three rows at a time. */
static size_t distance(const char *a, size_t a_size, const char *b, size_t b_size)
{
    size_t rows[3][CLOSEST_WORD_BYTES_MAX + 1];
    for (size_t k = 0; k <= b_size; k++) rows[0][k] = k;
    for (size_t i = 1; i <= a_size; i++) {
        size_t *now = rows[i % 3];
        const size_t *before = rows[(i + 2) % 3];
        const size_t *earlier = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t k = 1; k <= b_size; k++) {
            size_t cost = a[i - 1] == b[k - 1] ? 0 : 1;
            now[k] = least(least(before[k] + 1, now[k - 1] + 1), before[k - 1] + cost);
            if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
                now[k] = least(now[k], earlier[k - 2] + 1);
        }
    }
    return rows[a_size % 3][b_size];
}

const char *closest_word(const char *word, const char *const *words, size_t count)
{
    size_t size = strlen(word);
    if (size == 0 || size > CLOSEST_WORD_BYTES_MAX) return NULL;
    size_t limit = size / 3 > 1 ? size / 3 : 1;
    const char *closest = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t other = strlen(words[i]);
        assert(other <= CLOSEST_WORD_BYTES_MAX);
        size_t away = distance(word, size, words[i], other);
        if (away > limit) continue;
        limit = away == 0 ? 0 : away - 1;
        closest = words[i];
        if (away == 0) break;
    }
    return closest;
}
