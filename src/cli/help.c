/* unum help: of everything, or of one subcommand. */
#include "cli/cli.h"

static const struct option_spec options[] = {
    { "markdown", 0, NULL, "all of it at once, as docs/cli.md has it" },
};

static int run(struct cli *cli)
{
    if (cli_flag(cli, "markdown")) {
        cli_write_markdown(stdout);
        return cli_finish_output(cli);
    }
    if (cli->argument_count == 0) {
        cli_write_overview(stdout, cli->color);
        return cli_finish_output(cli);
    }
    const struct subcommand *subcommand = subcommand_find(cli->arguments[0]);
    if (subcommand == NULL)
        return cli_usage(NULL, "there is no subcommand \"%.60s\"", cli->arguments[0]);
    cli_write_help(subcommand, stdout, cli->color);
    return cli_finish_output(cli);
}

const struct subcommand subcommand_help = {
    .name = "help",
    .arguments = "[SUBCOMMAND]",
    .summary = "Teach a subcommand, or list all",
    .details = "  unum help run\n",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .arguments_max = 1,
    .run = run,
};
