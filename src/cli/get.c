/* unum get: read the registry. */
#include "cli/call.h"
#include "cli/range.h"

#include <inttypes.h>
#include <unistd.h>

static const struct option_spec options[] = {
    RANGE_OPTIONS,
    { "revision", 0, "N", "as it was at that revision" },
    { "stale", 0, NULL, "what this machine knows, without asking the others" },
    { "keys", 'k', NULL, "keys without their values" },
    { "count", 0, NULL, "only how many there are" },
    { "limit", 'n', "N", "at most N (1000)" },
    { "long", 'l', NULL, "with revisions, version and lease" },
    { "raw", 0, NULL, "the value's bytes and nothing else" },
};

static int write_long(struct cli *cli, const Unum__V1__RangeResponse *response)
{
    static const char *const titles[] = {
        "KEY", "CREATED", "MODIFIED", "VERSION", "LEASE", "VALUE"
    };
    struct table table;
    table_begin(&table, cli, titles, 6);
    for (size_t i = 0; i < response->n_items; i++) {
        const Unum__V1__KeyValue *item = response->items[i];
        const char *cells[6] = {
            cli_printable(cli, bytes_of(item->key.data, item->key.len)),
            cli_format(cli, "%" PRIu64, item->create_revision),
            cli_format(cli, "%" PRIu64, item->modify_revision),
            cli_format(cli, "%" PRIu64, item->version),
            item->lease == 0 ? "-" : cli_format(cli, "%" PRIu64, item->lease),
            cli_printable(cli, bytes_of(item->value.data, item->value.len)),
        };
        table_add(&table, cells, TABLE_COLUMNS_MAX, CLI_PLAIN);
    }
    return table_write(&table);
}

/* One key: its value, as it is but on a terminal. Several: a key and its value in each line. */
static int write_items(struct cli *cli, const Unum__V1__RangeResponse *response, bool single)
{
    bool raw = cli_flag(cli, "raw");
    bool terminal = isatty(STDOUT_FILENO);
    for (size_t i = 0; i < response->n_items; i++) {
        const Unum__V1__KeyValue *item = response->items[i];
        struct bytes value = bytes_of(item->value.data, item->value.len);
        if (single || raw) {
            if (terminal && !raw)
                (void)fputs(cli_printable(cli, value), stdout);
            else
                (void)fwrite(value.data, 1, value.size, stdout);
            if (!raw) (void)fputc('\n', stdout);
            continue;
        }
        (void)fprintf(stdout, "%s%s%s", cli_begin(cli, CLI_CYAN),
                      cli_printable(cli, bytes_of(item->key.data, item->key.len)),
                      cli_end(cli, CLI_CYAN));
        if (!cli_flag(cli, "keys")) (void)fprintf(stdout, "  %s", cli_printable(cli, value));
        (void)fputc('\n', stdout);
    }
    if (response->more)
        (void)fprintf(stderr,
                      "unum get: there are more, %" PRIu64 " in all; --limit N shows them\n",
                      response->count);
    return cli_finish_output(cli);
}

static int run(struct cli *cli)
{
    struct key_range range;
    Unum__V1__RangeRequest request = UNUM__V1__RANGE_REQUEST__INIT;
    Unum__V1__RangeResponse *response;
    struct error error = { 0 };
    int code = range_take(cli, &range);
    if (code == CLI_DONE) code = cli_number(cli, "revision", UINT64_MAX, &request.revision);
    if (code == CLI_DONE) code = cli_number(cli, "limit", UINT64_MAX, &request.limit);
    if (code != CLI_DONE) return code;
    request.space = range.space;
    request.key = range.key;
    request.end = range.end;
    request.stale = cli_flag(cli, "stale");
    request.keys_only = cli_flag(cli, "keys");
    request.count_only = cli_flag(cli, "count");
    if (call_unary(cli, CLIENT_READ, "Registry/Range", &request.base,
                   &unum__v1__range_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (cli->json) return cli_write_json(cli, &response->base);
    if (request.count_only) {
        (void)fprintf(stdout, "%" PRIu64 "\n", response->count);
        return cli_finish_output(cli);
    }
    if (response->n_items == 0)
        return range.end.len == 0 ? cli_fail(cli, "there is no key %s", cli->arguments[0])
                                  : CLI_DONE;
    if (cli_flag(cli, "long")) return write_long(cli, response);
    return write_items(cli, response, range.end.len == 0 && !cli_flag(cli, "keys"));
}

const struct subcommand subcommand_get = {
    .name = "get",
    .arguments = "KEY",
    .summary = "Read keys of the registry",
    .details = "  unum get config/color              the value\n"
               "  unum get --prefix config/          keys and values\n"
               "  unum get --prefix -l ''            all there are, with their revisions\n"
               "  unum get config/color --revision 7 as it was then\n\n"
               "What is read is current, also right after a failure; --stale is faster and may be\n"
               "old. Exit status 1 when there is no such key (not with -o json).\n",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .arguments_max = 1,
    .connects = true,
    .run = run,
};
