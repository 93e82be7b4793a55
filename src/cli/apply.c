/* unum apply: make jobs so. */
#include "cli/job_yaml.h"
#include "cli/jobs.h"

#include <inttypes.h>
#include <string.h>

enum { FILES_MAX = 1000 };

static int add_jobs(struct cli *cli, Unum__V1__ApplyRequest *request, const struct job_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        for (size_t k = 0; k < request->n_jobs; k++)
            if (strcmp(list->jobs[i]->name, request->jobs[k]->name) == 0)
                return cli_fail(cli, "the job %s is given twice", list->jobs[i]->name);
    Unum__V1__Job **jobs =
        arena_take(&cli->arena, (request->n_jobs + list->count) * sizeof(void *));
    if (jobs == NULL) return cli_fail(cli, "out of memory");
    if (request->n_jobs > 0) memcpy(jobs, request->jobs, request->n_jobs * sizeof(void *));
    memcpy(jobs + request->n_jobs, list->jobs, list->count * sizeof(void *));
    request->jobs = jobs;
    request->n_jobs += list->count;
    return CLI_DONE;
}

Unum__V1__ApplyRequest *jobs_make_request(struct cli *cli)
{
    Unum__V1__ApplyRequest *request = arena_take(&cli->arena, sizeof *request);
    if (request == NULL)
        (void)cli_fail(cli, "out of memory");
    else
        unum__v1__apply_request__init(request);
    return request;
}

int jobs_prepare(struct cli *cli)
{
    struct error error = { 0 };
    Unum__V1__ApplyRequest *request = jobs_make_request(cli);
    if (request == NULL) return CLI_FAILED;
    for (size_t i = 0; i < cli->argument_count; i++) {
        const char *path = cli->arguments[i];
        struct bytes bytes = { 0 };
        struct job_list list;
        enum status status = cli_read_file(cli, path, YAML_BYTES_MAX, &bytes, &error);
        if (status == STATUS_OK) {
            const char *name = strcmp(path, "-") == 0 ? "standard input" : path;
            status = job_yaml_load(name, bytes, &cli->arena, &list, &error);
        }
        if (status != STATUS_OK) return cli_fail_with(cli, &error);
        int code = add_jobs(cli, request, &list);
        if (code != CLI_DONE) return code;
    }
    cli->prepared = request;
    return CLI_DONE;
}

static void write_count(uint32_t count, const char *what, bool *first)
{
    if (count == 0) return;
    (void)fprintf(stdout, "%s%" PRIu32 " task%s %s", *first ? ": " : ", ", count,
                  count == 1 ? "" : "s", what);
    *first = false;
}

void jobs_write_change(struct cli *cli, const Unum__V1__Change *change, bool done)
{
    bool first = true;
    bool creates = strcmp(change->kind, "create") == 0;
    bool updates = strcmp(change->kind, "update") == 0;
    enum cli_color color = creates ? CLI_GREEN : updates ? CLI_YELLOW : CLI_DIM;
    const char *kind = !done     ? change->kind
                       : creates ? "created"
                       : updates ? "updated"
                                 : change->kind;
    (void)fprintf(stdout, "%s%s%s %s", cli_begin(cli, color), kind, cli_end(cli, color),
                  change->job);
    write_count(change->tasks_started, "start", &first);
    write_count(change->tasks_restarted, "restart", &first);
    write_count(change->tasks_stopped, "stop", &first);
    (void)fputc('\n', stdout);
    for (size_t i = 0; i < change->n_fields; i++)
        (void)fprintf(stdout, "  %s\n", cli_printable(cli, bytes_of_text(change->fields[i])));
}

int jobs_apply(struct cli *cli, Unum__V1__ApplyRequest *request, bool quiet)
{
    Unum__V1__ApplyResponse *response;
    struct error error = { 0 };
    /* The same jobs twice are the same as once. */
    if (call_unary(cli, CLIENT_READ, "Computer/Apply", &request->base,
                   &unum__v1__apply_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (quiet) return CLI_DONE;
    if (cli->json) return cli_write_json(cli, &response->base);
    for (size_t i = 0; i < response->n_changes; i++)
        jobs_write_change(cli, response->changes[i], true);
    return cli_finish_output(cli);
}

static int run(struct cli *cli)
{
    return jobs_apply(cli, cli->prepared, false);
}

const struct subcommand subcommand_apply = {
    .name = "apply",
    .arguments = "FILE...",
    .summary = "Make the jobs of YAML files so",
    .details =
        "  unum apply examples/web.yaml       all jobs of the file, or none\n"
        "  unum plan examples/web.yaml        what it would change\n"
        "  generate | unum apply -            from standard input\n\n"
        "A job that is there is changed to what the file says; tasks are replaced only when the\n"
        "change needs it, a quarter of them at a time. Applying the same again changes nothing.\n"
        "Every key of a job file: docs/jobs.md.\n",
    .arguments_min = 1,
    .arguments_max = FILES_MAX,
    .connects = true,
    .prepare = jobs_prepare,
    .run = run,
};
