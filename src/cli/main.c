/* unum: the command line of a computer. */
#include "base/closest.h"
#include "cli/call.h"
#include "cli/cli.h"
#include "cli/process.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUBCOMMAND(name) extern const struct subcommand subcommand_##name
SUBCOMMAND(up);
SUBCOMMAND(down);
SUBCOMMAND(status);
SUBCOMMAND(machines);
SUBCOMMAND(apply);
SUBCOMMAND(plan);
SUBCOMMAND(run);
SUBCOMMAND(ps);
SUBCOMMAND(why);
SUBCOMMAND(logs);
SUBCOMMAND(exec);
SUBCOMMAND(stop);
SUBCOMMAND(restart);
SUBCOMMAND(get);
SUBCOMMAND(put);
SUBCOMMAND(del);
SUBCOMMAND(watch);
SUBCOMMAND(txn);
SUBCOMMAND(lease);
SUBCOMMAND(version);
SUBCOMMAND(help);

const struct subcommand *const subcommands[] = {
    &subcommand_up,      &subcommand_down, &subcommand_status, &subcommand_machines,
    &subcommand_apply,   &subcommand_plan, &subcommand_run,    &subcommand_ps,
    &subcommand_why,     &subcommand_logs, &subcommand_exec,   &subcommand_stop,
    &subcommand_restart, &subcommand_get,  &subcommand_put,    &subcommand_del,
    &subcommand_watch,   &subcommand_txn,  &subcommand_lease,  &subcommand_version,
    &subcommand_help,
};
const size_t subcommand_count = sizeof subcommands / sizeof subcommands[0];

const struct subcommand *subcommand_find(const char *name)
{
    for (size_t i = 0; i < subcommand_count; i++)
        if (strcmp(subcommands[i]->name, name) == 0) return subcommands[i];
    return NULL;
}

/* What the reactor runs. */
struct invocation {
    struct cli *cli;
    int code;
};

/* A daemon that is being restarted is waited for; not one whose unum-init is gone from this host.
 */
static uint64_t patience_ms(struct cli *cli)
{
    bool is_here = access(cli_format(cli, "%s/up.lock", cli->folder), F_OK) == 0;
    return cli->address == NULL && is_here && process_find(cli->folder) == 0 ? 1 : CALL_PATIENCE_MS;
}

static void run_in_fiber(struct scope *root, void *context)
{
    struct invocation *invocation = context;
    struct cli *cli = invocation->cli;
    struct error error = { 0 };
    if (call_begin(cli, root, patience_ms(cli), &error) != STATUS_OK) {
        invocation->code = cli_fail_with(cli, &error);
        return;
    }
    invocation->code = cli->subcommand->run(cli);
    call_end(cli);
}

static int run_connected(struct cli *cli)
{
    struct error error = { 0 };
    struct reactor *reactor;
    struct invocation invocation = { .cli = cli, .code = CLI_FAILED };
    if (call_prepare(cli, &error) != STATUS_OK) return cli_fail_with(cli, &error);
    if (reactor_create(&(struct reactor_options) { 0 }, &reactor, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (reactor_run(reactor, run_in_fiber, &invocation) != STATUS_OK)
        invocation.code = cli_fail(cli, "out of memory");
    reactor_destroy(reactor);
    call_finish(cli);
    return invocation.code;
}

static int run_subcommand(struct cli *cli, int argc, char **argv)
{
    int code = cli_parse(cli, argc, argv);
    if (code != CLI_DONE) return code;
    if (cli->help) {
        cli_write_help(cli->subcommand, stdout, cli->color);
        return cli_finish_output(cli);
    }
    if (cli->subcommand->prepare != NULL) code = cli->subcommand->prepare(cli);
    if (code != CLI_DONE) return code;
    return cli->subcommand->connects ? run_connected(cli) : cli->subcommand->run(cli);
}

static int refuse_subcommand(const char *name)
{
    const char *names[64];
    for (size_t i = 0; i < subcommand_count; i++) names[i] = subcommands[i]->name;
    const char *closest = closest_word(name, names, subcommand_count);
    if (closest != NULL)
        return cli_usage(NULL, "there is no subcommand \"%.60s\"; did you mean %s?", name, closest);
    return cli_usage(NULL, "there is no subcommand \"%.60s\"", name);
}

static bool wants_color(void)
{
    const char *no_color = getenv("NO_COLOR");
    const char *terminal = getenv("TERM");
    if (no_color != NULL && no_color[0] != '\0') return false;
    return isatty(STDOUT_FILENO) && (terminal == NULL || strcmp(terminal, "dumb") != 0);
}

int main(int argc, char **argv)
{
    /* A reader that went away shows as a failed write: cli_finish_output ends quietly then. */
    (void)signal(SIGPIPE, SIG_IGN);
    bool color = wants_color();
    if (argc < 2) {
        cli_write_overview(stderr, false);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) name = "help";
    if (strcmp(name, "--version") == 0) name = "version";
    static struct cli cli;
    cli.color = color;
    cli.subcommand = subcommand_find(name);
    if (cli.subcommand == NULL) return refuse_subcommand(name);
    arena_init(&cli.arena, CLI_ARENA_BYTES_MAX);
    int code = run_subcommand(&cli, argc - 2, argv + 2);
    arena_finish(&cli.arena);
    return code;
}
