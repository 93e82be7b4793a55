/* YAML: a file as a tree whose every node knows its line and column.
 *
 * A subset on purpose: mappings, lists and scalars; no anchors, aliases or tags, so that what is
 * read is as large as what was written. Duplicate keys are refused. Bounded by the maxima below.
 * The tree lives in the caller's arena. Pure but for memory. Parser: libyaml (YAML 1.1). */
#ifndef UNUM_CLI_YAML_H
#define UNUM_CLI_YAML_H

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>

enum {
    YAML_BYTES_MAX = 1024 * 1024, /* one file */
    YAML_DEPTH_MAX = 16,          /* a job needs 4 */
    YAML_NODES_MAX = 64 * 1024,   /* of one file */
    YAML_DOCUMENTS_MAX = 1000,
};

enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAP };

struct yaml_node {
    enum yaml_kind kind;
    bool wants_value;      /* a map whose last key has no value yet; only while loading */
    bool quoted;           /* a scalar in quotes or of block style: a text, never a number */
    unsigned line, column; /* from 1 */
    const char *text;      /* of a scalar; NUL-terminated, holds no other NUL */
    size_t text_size;
    struct yaml_node *first; /* items of a list; key, value, key, value of a map */
    struct yaml_node *last;
    struct yaml_node *next;
    size_t count; /* items, or pairs */
};

struct yaml_documents {
    struct yaml_node *items[YAML_DOCUMENTS_MAX];
    size_t count;
};

/* STATUS_INVALID: ERROR is "NAME: line L, column C: sentence". Empty documents are left out.
 * RET_DOCUMENTS lives in ARENA. STATUS_NO_MEMORY. */
MUST_USE enum status yaml_load(const char *name, struct bytes bytes, struct arena *arena,
                               struct yaml_documents **ret_documents, struct error *error);

#endif
