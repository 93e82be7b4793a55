/* unum down: end the computer of a folder. */
#include "cli/cli.h"
#include "cli/process.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DOWN_TIMEOUT_MS = 60000, DOWN_KILL_MS = 10000 };

static const struct option_spec options[] = {
    { "now", 0, NULL, "kill everything at once, as if the plug were pulled" },
    { "timeout", 0, "TIME", "tasks that have not ended by then are killed (60s)" },
};

static int end(struct cli *cli, pid_t pid, uint64_t timeout_ms)
{
    bool now = cli_flag(cli, "now");
    struct timespec begun, ended;
    (void)clock_gettime(CLOCK_MONOTONIC, &begun);
    if (kill(pid, now ? SIGKILL : SIGTERM) != 0 && errno != ESRCH)
        return cli_fail(cli, "process %d can't be told to end: %s", (int)pid, strerror(errno));
    bool gone = process_wait_end(pid, now ? DOWN_KILL_MS : timeout_ms);
    bool killed = now;
    if (!gone) {
        killed = true;
        (void)kill(pid, SIGKILL);
        gone = process_wait_end(pid, DOWN_KILL_MS);
    }
    if (!gone) return cli_fail(cli, "process %d does not end, even when killed", (int)pid);
    (void)clock_gettime(CLOCK_MONOTONIC, &ended);
    uint64_t took_ms = (uint64_t)((ended.tv_sec - begun.tv_sec) * 1000 +
                                  (ended.tv_nsec - begun.tv_nsec) / 1000000);
    process_forget(cli->folder);
    if (cli->json)
        (void)fprintf(stdout, "{\"was_up\":true,\"killed\":%s}\n", killed ? "true" : "false");
    else
        (void)fprintf(stdout, "The computer in %s is down, after %s%s.\n", cli->folder,
                      cli_format_duration(cli, took_ms),
                      killed && !now ? "; what had not ended in time was killed" : "");
    return cli_finish_output(cli);
}

static int run(struct cli *cli)
{
    uint64_t timeout_ms = DOWN_TIMEOUT_MS;
    int code = cli_duration(cli, "timeout", UINT32_MAX, &timeout_ms);
    if (code != CLI_DONE) return code;
    pid_t pid = process_find(cli->folder);
    if (pid != 0) return end(cli, pid, timeout_ms);
    if (access(cli->folder, F_OK) != 0)
        return cli_fail(cli, "there is no computer in %s; --dir names another folder", cli->folder);
    if (cli->json)
        (void)fprintf(stdout, "{\"was_up\":false}\n");
    else
        (void)fprintf(stdout, "The computer in %s was not up.\n", cli->folder);
    process_forget(cli->folder);
    return cli_finish_output(cli);
}

const struct subcommand subcommand_down = {
    .name = "down",
    .arguments = "",
    .summary = "End the computer of the folder, and every task on this host with it",
    .details =
        "  unum down            tasks are told to end, then killed; `unum up` starts them again\n"
        "  unum down --now      at once\n\n"
        "It returns when no process is left. Jobs and the registry stay in the folder.\n",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
