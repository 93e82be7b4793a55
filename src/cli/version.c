/* unum version: of this program. */
#include "cli/cli.h"

static int run(struct cli *cli)
{
    if (cli->json)
        (void)fprintf(stdout, "{\"version\":\"%s\"}\n", UNUM_VERSION);
    else
        (void)fprintf(stdout, "unum %s\n", UNUM_VERSION);
    return cli_finish_output(cli);
}

const struct subcommand subcommand_version = {
    .name = "version",
    .arguments = "",
    .summary = "Print the version of this program",
    .details = "  unum version\n\n`unum status` tells the computer's own.\n",
    .run = run,
};
