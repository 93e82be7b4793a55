/* unum restart: replace every task of a job once. */
#include "cli/call.h"
#include "unum/v1/computer.pb-c.h"

#include <inttypes.h>

static int run(struct cli *cli)
{
    Unum__V1__RestartJobRequest request = UNUM__V1__RESTART_JOB_REQUEST__INIT;
    Unum__V1__RestartJobResponse *response;
    struct error error = { 0 };
    request.job = cli->arguments[0];
    if (call_unary(cli, CLIENT_ONCE, "Computer/RestartJob", &request.base,
                   &unum__v1__restart_job_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (cli->json) return cli_write_json(cli, &response->base);
    (void)fprintf(stdout, "job %s restarts: %" PRIu32 " tasks, a quarter at a time\n", request.job,
                  response->tasks);
    return cli_finish_output(cli);
}

const struct subcommand subcommand_restart = {
    .name = "restart",
    .arguments = "JOB",
    .summary = "Restart every task of a job, a quarter of them at a time",
    .details = "  unum restart web     as the others serve on; `unum ps web` shows it go\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .connects = true,
    .run = run,
};
