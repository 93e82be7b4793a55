#include "cli/range.h"

#include "base/limits.h"

#include <string.h>

ProtobufCBinaryData range_bytes(const char *text)
{
    return (ProtobufCBinaryData) { .len = strlen(text), .data = (uint8_t *)text };
}

/* The first key behind all that begin with PREFIX. */
static int end_of_prefix(struct cli *cli, struct key_range *range)
{
    size_t size = range->key.len;
    while (size > 0 && range->key.data[size - 1] == 0xff) size--;
    if (size == 0) {
        static uint8_t everything[1] = { 0 };
        range->end = (ProtobufCBinaryData) { .len = 1, .data = everything };
        if (range->key.len == 0)
            range->key = range->end; /* no key is empty: the smallest begins with a zero byte */
        return CLI_DONE;
    }
    struct bytes end = arena_copy(&cli->arena, bytes_of(range->key.data, size));
    if (end.data == NULL) return cli_fail(cli, "out of memory");
    uint8_t *last = (uint8_t *)end.data + size - 1;
    (*last)++;
    range->end = (ProtobufCBinaryData) { .len = size, .data = (uint8_t *)end.data };
    return CLI_DONE;
}

int range_take(struct cli *cli, struct key_range *ret_range)
{
    struct key_range range = { .space = (char *)"" };
    const char *end = cli_value(cli, "range");
    bool prefix = cli_flag(cli, "prefix");
    const char *space = cli_value(cli, "space");
    if (space != NULL) range.space = (char *)space;
    if (prefix && end != NULL)
        return cli_usage(cli, "only one of --prefix and --range can be asked");
    if (cli->argument_count == 0 && !prefix) return cli_usage(cli, "needs a KEY, or --prefix");
    range.key = range_bytes(cli->argument_count == 0 ? "" : cli->arguments[0]);
    if (range.key.len > LIMIT_KEY_BYTES_MAX)
        return cli_usage(cli, "a key has at most %d bytes", (int)LIMIT_KEY_BYTES_MAX);
    if (range.key.len == 0 && !prefix) return cli_usage(cli, "a key has at least one byte");
    if (end != NULL) {
        range.end = range_bytes(end);
        if (strcmp(end, cli->arguments[0]) <= 0)
            return cli_usage(cli, "--range must be behind KEY in the order of bytes");
    }
    if (prefix) {
        int code = end_of_prefix(cli, &range);
        if (code != CLI_DONE) return code;
    }
    *ret_range = range;
    return CLI_DONE;
}
