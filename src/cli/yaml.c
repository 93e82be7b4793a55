#include "cli/yaml.h"

#include <assert.h>
#include <yaml.h>

enum { KEY_SHOWN_BYTES_MAX = 40 };

struct loader {
    const char *name;
    yaml_parser_t parser;
    struct arena *arena;
    struct error *error;
    struct yaml_documents *documents;
    /* The containers that are open, outermost first. */
    struct yaml_node *open[YAML_DEPTH_MAX];
    size_t depth;
    size_t nodes;
};

static enum status refuse_at(struct loader *loader, const yaml_mark_t *mark, const char *text)
{
    return error_set(loader->error, STATUS_INVALID, "%s: line %zu, column %zu: %s", loader->name,
                     mark->line + 1, mark->column + 1, text);
}

/* The words of libyaml, with the place. */
static enum status refuse_syntax(struct loader *loader)
{
    const yaml_parser_t *parser = &loader->parser;
    if (parser->error == YAML_MEMORY_ERROR) return STATUS_NO_MEMORY;
    if (parser->error == YAML_READER_ERROR)
        return error_set(loader->error, STATUS_INVALID, "%s: byte %zu: not UTF-8 text (%s)",
                         loader->name, parser->problem_offset,
                         parser->problem ? parser->problem : "?");
    const char *context = parser->context ? parser->context : "";
    return error_set(loader->error, STATUS_INVALID, "%s: line %zu, column %zu: %s%s%s",
                     loader->name, parser->problem_mark.line + 1, parser->problem_mark.column + 1,
                     parser->problem ? parser->problem : "not YAML", context[0] ? " " : "",
                     context);
}

static enum status refuse_duplicate(struct loader *loader, const struct yaml_node *key,
                                    const struct yaml_node *earlier)
{
    return error_set(loader->error, STATUS_INVALID,
                     "%s: line %u, column %u: the key %.*s is there twice, first in line %u",
                     loader->name, key->line, key->column, (int)KEY_SHOWN_BYTES_MAX, key->text,
                     earlier->line);
}

/* A key is a scalar and new in its map. Maps are small, or their keys are counted (nodes). */
static enum status check_key(struct loader *loader, const struct yaml_node *map,
                             const struct yaml_node *key, const yaml_mark_t *mark)
{
    if (key->kind != YAML_SCALAR) return refuse_at(loader, mark, "a key must be a word");
    if (map->count >= 1024) return refuse_at(loader, mark, "a mapping has at most 1024 keys");
    for (const struct yaml_node *k = map->first; k != NULL; k = k->next->next) {
        if (k->text_size == key->text_size && memcmp(k->text, key->text, key->text_size) == 0)
            return refuse_duplicate(loader, key, k);
    }
    return STATUS_OK;
}

static void append(struct yaml_node *parent, struct yaml_node *node)
{
    if (parent->last == NULL)
        parent->first = node;
    else
        parent->last->next = node;
    parent->last = node;
}

/* A key and its value come one after the other. */
static enum status attach(struct loader *loader, struct yaml_node *node, const yaml_mark_t *mark)
{
    if (loader->depth == 0) {
        if (loader->documents->count == YAML_DOCUMENTS_MAX)
            return refuse_at(loader, mark, "at most 1000 documents are read from a file");
        loader->documents->items[loader->documents->count++] = node;
        return STATUS_OK;
    }
    struct yaml_node *parent = loader->open[loader->depth - 1];
    if (parent->kind == YAML_MAP && !parent->wants_value) {
        enum status status = check_key(loader, parent, node, mark);
        if (status != STATUS_OK) return status;
        parent->wants_value = true;
    } else {
        parent->wants_value = false;
        parent->count++;
    }
    append(parent, node);
    return STATUS_OK;
}

static enum status take_node(struct loader *loader, const yaml_mark_t *mark, enum yaml_kind kind,
                             struct yaml_node **ret_node)
{
    if (++loader->nodes > YAML_NODES_MAX)
        return refuse_at(loader, mark, "the file has more than 65536 values");
    struct yaml_node *node = arena_take(loader->arena, sizeof *node);
    if (node == NULL) return STATUS_NO_MEMORY;
    node->kind = kind;
    node->line = (unsigned)mark->line + 1;
    node->column = (unsigned)mark->column + 1;
    *ret_node = node;
    return STATUS_OK;
}

static enum status take_scalar(struct loader *loader, const yaml_event_t *event)
{
    const yaml_mark_t *mark = &event->start_mark;
    const char *text = (const char *)event->data.scalar.value;
    size_t size = event->data.scalar.length;
    if (memchr(text, '\0', size) != NULL) return refuse_at(loader, mark, "a zero byte in a text");
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    /* A file of comments alone is one empty document. */
    if (loader->depth == 0 && plain && size == 0) return STATUS_OK;
    struct yaml_node *node = NULL;
    enum status status = take_node(loader, mark, YAML_SCALAR, &node);
    if (status != STATUS_OK) return status;
    assert(node != NULL);
    node->quoted = !plain;
    node->text = arena_copy_text(loader->arena, text, size);
    node->text_size = size;
    if (node->text == NULL) return STATUS_NO_MEMORY;
    return attach(loader, node, mark);
}

static enum status open_container(struct loader *loader, const yaml_event_t *event,
                                  enum yaml_kind kind)
{
    const yaml_mark_t *mark = &event->start_mark;
    if (loader->depth == YAML_DEPTH_MAX)
        return refuse_at(loader, mark, "nested more than 16 levels deep");
    struct yaml_node *node = NULL;
    enum status status = take_node(loader, mark, kind, &node);
    if (status == STATUS_OK) status = attach(loader, node, mark);
    if (status == STATUS_OK) loader->open[loader->depth++] = node;
    return status;
}

static enum status check_plain(struct loader *loader, const yaml_event_t *event,
                               const yaml_char_t *anchor, const yaml_char_t *tag)
{
    if (anchor != NULL)
        return refuse_at(loader, &event->start_mark,
                         "anchors (&name) are not allowed; write the value out");
    if (tag != NULL) return refuse_at(loader, &event->start_mark, "tags (!name) are not allowed");
    return STATUS_OK;
}

static enum status take_event(struct loader *loader, const yaml_event_t *event)
{
    enum status status = STATUS_OK;
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return refuse_at(loader, &event->start_mark,
                         "aliases (*name) are not allowed; write the value out");
    case YAML_SCALAR_EVENT:
        status = check_plain(loader, event, event->data.scalar.anchor, event->data.scalar.tag);
        return status == STATUS_OK ? take_scalar(loader, event) : status;
    case YAML_SEQUENCE_START_EVENT:
        status = check_plain(loader, event, event->data.sequence_start.anchor,
                             event->data.sequence_start.tag);
        return status == STATUS_OK ? open_container(loader, event, YAML_LIST) : status;
    case YAML_MAPPING_START_EVENT:
        status = check_plain(loader, event, event->data.mapping_start.anchor,
                             event->data.mapping_start.tag);
        return status == STATUS_OK ? open_container(loader, event, YAML_MAP) : status;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        assert(loader->depth > 0);
        loader->depth--;
        return STATUS_OK;
    default: return STATUS_OK;
    }
}

static enum status take_events(struct loader *loader)
{
    for (bool ended = false; !ended;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&loader->parser, &event)) return refuse_syntax(loader);
        ended = event.type == YAML_STREAM_END_EVENT;
        enum status status = take_event(loader, &event);
        yaml_event_delete(&event);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

enum status yaml_load(const char *name, struct bytes bytes, struct arena *arena,
                      struct yaml_documents **ret_documents, struct error *error)
{
    if (bytes.size > YAML_BYTES_MAX)
        return error_set(error, STATUS_INVALID, "%s: %zu bytes long; at most %d are read", name,
                         bytes.size, (int)YAML_BYTES_MAX);
    struct loader loader = { .name = name, .arena = arena, .error = error };
    loader.documents = arena_take(arena, sizeof *loader.documents);
    if (loader.documents == NULL) return STATUS_NO_MEMORY;
    if (!yaml_parser_initialize(&loader.parser)) return STATUS_NO_MEMORY;
    yaml_parser_set_encoding(&loader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&loader.parser,
                                 bytes.data == NULL ? (const uint8_t *)"" : bytes.data, bytes.size);
    enum status status = take_events(&loader);
    yaml_parser_delete(&loader.parser);
    if (status == STATUS_OK) *ret_documents = loader.documents;
    return status;
}
