/* unum ps: what runs. */
#include "cli/call.h"
#include "unum/v1/computer.pb-c.h"

#include <inttypes.h>
#include <string.h>

static const struct option_spec options[] = {
    { "jobs", 'j', NULL, "one line for each job instead of each task" },
};

static const char *join_ports(struct cli *cli, const Unum__V1__Task *task)
{
    const char *joined = "";
    for (size_t i = 0; i < task->n_ports; i++)
        joined = cli_format(cli, "%s%s%s", joined, i == 0 ? "" : " ", task->ports[i]);
    return joined;
}

static const char *explain(struct cli *cli, const Unum__V1__Task *task)
{
    const char *reason = cli_printable(cli, bytes_of_text(task->reason));
    if (task->next_start_in_ms > 0)
        return cli_format(cli, "%s%sstarts in %s", reason, reason[0] == '\0' ? "" : "; ",
                          cli_format_duration(cli, task->next_start_in_ms));
    /* What is well needs no words. */
    if (strcmp(task->state, "ready") == 0 || strcmp(task->state, "running") == 0) return "";
    return reason;
}

static int write_tasks(struct cli *cli, const Unum__V1__ListTasksResponse *response)
{
    static const char *const titles[] = { "TASK", "STATE",  "UP",    "PID", "RESTARTS",
                                          "CPU",  "MEMORY", "PORTS", "WHY" };
    enum { COLUMNS = sizeof titles / sizeof titles[0] };
    struct table table;
    table_begin(&table, cli, titles, COLUMNS);
    for (size_t i = 0; i < response->n_tasks; i++) {
        const Unum__V1__Task *task = response->tasks[i];
        const char *cells[COLUMNS] = {
            task->name,
            task->state,
            task->uptime_ms == 0 ? "-" : cli_format_duration(cli, task->uptime_ms),
            task->pid == 0 ? "-" : cli_format(cli, "%" PRIu64, task->pid),
            cli_format(cli, "%" PRIu64, task->restarts),
            task->pid == 0 ? "-" : cli_format_cpu(cli, task->cpu_milli),
            task->memory_bytes == 0 ? "-" : cli_format_size(cli, task->memory_bytes),
            task->n_ports == 0 ? "-" : join_ports(cli, task),
            explain(cli, task),
        };
        table_add(&table, cells, 1, cli_color_of_state(task->state));
    }
    return table_write(&table);
}

static int run_jobs(struct cli *cli)
{
    Unum__V1__ListJobsRequest request = UNUM__V1__LIST_JOBS_REQUEST__INIT;
    Unum__V1__ListJobsResponse *response;
    struct error error = { 0 };
    if (call_unary(cli, CLIENT_READ, "Computer/ListJobs", &request.base,
                   &unum__v1__list_jobs_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (cli->json) return cli_write_json(cli, &response->base);
    static const char *const titles[] = { "JOB",  "TASKS",  "RUNNING", "READY",
                                          "HELD", "FAILED", "STATE" };
    enum { COLUMNS = sizeof titles / sizeof titles[0] };
    struct table table;
    table_begin(&table, cli, titles, COLUMNS);
    for (size_t i = 0; i < response->n_jobs; i++) {
        const Unum__V1__JobSummary *job = response->jobs[i];
        if (job->job == NULL) continue;
        const char *cells[COLUMNS] = {
            job->job->name,
            cli_format(cli, "%" PRIu32, job->job->count),
            cli_format(cli, "%" PRIu32, job->running),
            cli_format(cli, "%" PRIu32, job->ready),
            cli_format(cli, "%" PRIu32, job->held),
            cli_format(cli, "%" PRIu32, job->failed),
            job->job->stopped ? "stopped" : "wanted",
        };
        table_add(&table, cells, 4, job->held > 0 ? CLI_RED : CLI_PLAIN);
    }
    return table_write(&table);
}

static int run(struct cli *cli)
{
    if (cli_flag(cli, "jobs")) return run_jobs(cli);
    Unum__V1__ListTasksRequest request = UNUM__V1__LIST_TASKS_REQUEST__INIT;
    Unum__V1__ListTasksResponse *response;
    struct error error = { 0 };
    if (cli->argument_count > 0) request.job = cli->arguments[0];
    if (call_unary(cli, CLIENT_READ, "Computer/ListTasks", &request.base,
                   &unum__v1__list_tasks_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (cli->json) return cli_write_json(cli, &response->base);
    if (response->n_tasks > 0) return write_tasks(cli, response);
    if (cli->argument_count > 0)
        (void)fprintf(stdout, "job %s has no tasks\n", cli->arguments[0]);
    else
        (void)fprintf(stdout, "nothing runs; `unum apply FILE` or `unum run -- COMMAND` starts "
                              "something\n");
    return cli_finish_output(cli);
}

const struct subcommand subcommand_ps = {
    .name = "ps",
    .arguments = "[JOB]",
    .summary = "List tasks: state, time up, restarts, resources, ports",
    .details =
        "  unum ps              every task of this computer\n"
        "  unum ps web          those of the job web\n"
        "  unum ps --jobs       one line for each job\n"
        "  unum ps -o json      what a program wants to read\n\n"
        "States: pending (not placed yet), starting, running, ready (its own check says so),\n"
        "stopping, backoff (ended, starts again), held (ended too often, waits longer), failed,\n"
        "done, stopped. `unum why TASK` tells how it came to that.\n",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .arguments_max = 1,
    .connects = true,
    .run = run,
};
