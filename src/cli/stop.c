/* unum stop: end a job's tasks. */
#include "cli/call.h"
#include "unum/v1/computer.pb-c.h"

#include <inttypes.h>

static const struct option_spec options[] = {
    { "remove", 0, NULL, "forget the job too: `unum apply` would make it anew" },
};

static int run(struct cli *cli)
{
    Unum__V1__StopJobRequest request = UNUM__V1__STOP_JOB_REQUEST__INIT;
    Unum__V1__StopJobResponse *response;
    struct error error = { 0 };
    request.job = cli->arguments[0];
    request.remove = cli_flag(cli, "remove");
    if (call_unary(cli, CLIENT_ONCE, "Computer/StopJob", &request.base,
                   &unum__v1__stop_job_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (cli->json) return cli_write_json(cli, &response->base);
    (void)fprintf(stdout, "job %s stops: %" PRIu32 " tasks%s\n", request.job, response->tasks,
                  request.remove ? ", and is removed" : "; `unum apply` starts it again");
    return cli_finish_output(cli);
}

const struct subcommand subcommand_stop = {
    .name = "stop",
    .arguments = "JOB",
    .summary = "Stop a job: its tasks get their stop signal, then time, then are killed",
    .details = "  unum stop web             the job stays known, as stopped\n"
               "  unum stop --remove web    the job is gone\n",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .arguments_min = 1,
    .arguments_max = 1,
    .connects = true,
    .run = run,
};
