/* History: what the clients of a world did and saw, handed to the checkers. Keys are small numbers
 * ("sim/3"), values are numbers used once. One reactor. */
#ifndef UNUM_SIM_HISTORY_H
#define UNUM_SIM_HISTORY_H

#include "base/bytes.h"
#include "base/error.h"

enum { HISTORY_KEYS_MAX = 16, HISTORY_VALUE_BYTES_MAX = 512 };

/* A value's bytes: its number as text, then filler of a length that the number decides, so that
 * entries differ in size and lost or torn bytes show. */
size_t history_format_value(uint64_t number, char ret_text[HISTORY_VALUE_BYTES_MAX]);
/* The number, or UINT64_MAX when the bytes are not exactly those of a value. */
uint64_t history_parse_value(struct bytes bytes);
size_t history_format_key(uint32_t key, char ret_text[32]);
/* UINT32_MAX: not such a key. */
uint32_t history_parse_key(struct bytes bytes);

#endif
