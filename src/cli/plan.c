/* unum plan: what apply would change. */
#include "cli/jobs.h"

enum { FILES_MAX = 1000 };

static int run(struct cli *cli)
{
    Unum__V1__ApplyRequest *request = cli->prepared;
    Unum__V1__PlanResponse *response;
    struct error error = { 0 };
    if (call_unary(cli, CLIENT_READ, "Computer/Plan", &request->base,
                   &unum__v1__plan_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (cli->json) return cli_write_json(cli, &response->base);
    for (size_t i = 0; i < response->n_changes; i++)
        jobs_write_change(cli, response->changes[i], false);
    return cli_finish_output(cli);
}

const struct subcommand subcommand_plan = {
    .name = "plan",
    .arguments = "FILE...",
    .summary = "Show what `unum apply` would change, and change nothing",
    .details = "  unum plan examples/web.yaml\n\n"
               "create, update or unchanged for each job; below it each field that changes, and\n"
               "how many tasks would start, restart and stop.\n",
    .arguments_min = 1,
    .arguments_max = FILES_MAX,
    .connects = true,
    .prepare = jobs_prepare,
    .run = run,
};
