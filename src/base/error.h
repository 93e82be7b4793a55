/* Error: one bounded sentence for a person, wrapped with context on the way up.
 * Ownership: the caller's memory. A NULL error is allowed everywhere and means "not interested". */
#ifndef UNUM_BASE_ERROR_H
#define UNUM_BASE_ERROR_H

#include "base/status.h"

#include <stddef.h>

enum { ERROR_TEXT_BYTES_MAX = 512 };

struct error {
    char text[ERROR_TEXT_BYTES_MAX]; /* NUL-terminated; empty when nothing failed */
};

/* Write the sentence and return STATUS, so that `return error_set(error, STATUS_INVALID, ...)`
 * reads well. Too long a sentence is cut. */
enum status error_set(struct error *error, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "context: " before the sentence; cut at the end when too long. Returns STATUS. */
enum status error_wrap(struct error *error, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The static analyzer reads one file at a time: it is told that STATUS comes back. */
#ifdef __clang_analyzer__
#define error_set(error, status, ...)  ((void)error_set(error, status, __VA_ARGS__), (status))
#define error_wrap(error, status, ...) ((void)error_wrap(error, status, __VA_ARGS__), (status))
#endif

#endif
