/* Closest: the word that a person most likely meant. Pure. */
#ifndef UNUM_BASE_CLOSEST_H
#define UNUM_BASE_CLOSEST_H

#include <stddef.h>

enum { CLOSEST_WORD_BYTES_MAX = 63 };

/* Of WORDS (COUNT, each at most CLOSEST_WORD_BYTES_MAX, asserted) the one with the fewest
 * insertions, deletions, substitutions and swaps of neighbours away from WORD, the first when
 * equal. NULL when none is near: more than a third of the letters, and more than one, differ. */
const char *closest_word(const char *word, const char *const *words, size_t count);

#endif
