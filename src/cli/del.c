/* unum del: delete keys of the registry. */
#include "cli/call.h"
#include "cli/range.h"

#include <inttypes.h>

static const struct option_spec options[] = { RANGE_OPTIONS };

static int run(struct cli *cli)
{
    struct key_range range;
    Unum__V1__DeleteRequest request = UNUM__V1__DELETE_REQUEST__INIT;
    Unum__V1__DeleteResponse *response;
    struct error error = { 0 };
    int code = range_take(cli, &range);
    if (code != CLI_DONE) return code;
    request.space = range.space;
    request.key = range.key;
    request.end = range.end;
    if (call_unary(cli, CLIENT_WRITE, "Registry/Delete", &request.base,
                   &unum__v1__delete_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (cli->json) return cli_write_json(cli, &response->base);
    (void)fprintf(stdout, "%" PRIu64 " deleted, revision %" PRIu64 "\n", response->deleted,
                  response->revision);
    return cli_finish_output(cli);
}

const struct subcommand subcommand_del = {
    .name = "del",
    .arguments = "KEY",
    .summary = "Delete keys of the registry",
    .details = "  unum del config/color\n"
               "  unum del --prefix config/          all below it\n",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .arguments_max = 1,
    .connects = true,
    .run = run,
};
