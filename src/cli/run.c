/* unum run: a job from the command line. */
#include "base/parse.h"
#include "cli/job_yaml.h"
#include "cli/jobs.h"
#include "cli/logs.h"
#include "schedule/job.h"

#include <string.h>

enum { CPU_MILLI_MAX = 1024 * 1000 };

static const struct option_spec options[] = {
    { "name", 0, "NAME", "of the job (default: the program's)" },
    { "count", 0, "N", "how many tasks (default: 1)" },
    { "cpu", 0, "CORES", "set aside for each, like 0.5; 0: it takes what others leave (0.1)" },
    { "memory", 0, "SIZE", "set aside for each, like 64Mi (64Mi)" },
    { "processes", 0, "N", "of each, at most (1024)" },
    { "port", 0, "NAME=PORT[+]", "it listens on; + is one more in each task; may be repeated" },
    { "env", 0, "NAME=VALUE", "a variable of its environment; may be repeated" },
    { "restart", 0, "POLICY", "permanent, transient (after failures) or temporary (never)" },
    { "ready", 0, "CHECK", "none, notify, tcp:PORT or http:PORT/path, PORT by its name" },
    { "net", 0, "NETWORK", "host, or private: a network of its own (host)" },
    { "directory", 0, "PATH", "to run in (/)" },
    { "scratch", 0, "PATH[=SIZE]", "a folder in memory of its own; may be repeated" },
    { "detach", 'd', NULL, "return at once (the default)" },
    { "follow", 'f', NULL, "show its output until Ctrl-C; the job goes on" },
};

/* "nginx" from "/usr/sbin/nginx": what a name may not hold becomes a dash. */
static const char *name_of_program(struct cli *cli, const char *program)
{
    const char *slash = strrchr(program, '/');
    const char *base = slash == NULL ? program : slash + 1;
    char name[JOB_NAME_BYTES_MAX + 1];
    size_t used = 0;
    for (; *base != '\0' && used < JOB_NAME_BYTES_MAX; base++) {
        char c = *base;
        if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!plain && (used == 0 || name[used - 1] == '-')) continue;
        if (!plain) c = '-';
        name[used++] = c;
    }
    while (used > 0 && name[used - 1] == '-') used--;
    name[used] = '\0';
    return cli_format(cli, "%s", used == 0 ? "job" : name);
}

static int take_resources(struct cli *cli, Unum__V1__Job *job)
{
    Unum__V1__Resources *resources = job->resources;
    const char *cpu = cli_value(cli, "cpu");
    if (cpu != NULL && parse_cpu_milli(cpu, CPU_MILLI_MAX, &resources->cpu_milli) != STATUS_OK)
        return cli_usage(cli, "--cpu must be a number of cores like 0.5, 2 or 250m, is \"%s\"",
                         cpu);
    resources->cpu_unreserved = cpu != NULL && resources->cpu_milli == 0;
    const char *memory = cli_value(cli, "memory");
    if (memory != NULL &&
        (parse_size_bytes(memory, UINT64_MAX >> 1, &resources->memory_bytes) != STATUS_OK ||
         resources->memory_bytes == 0))
        return cli_usage(cli, "--memory must be a size like 64Mi or 2Gi, is \"%s\"", memory);
    return cli_number(cli, "processes", UINT32_MAX, &resources->processes);
}

static char *copy(struct cli *cli, const char *text, size_t size)
{
    char *kept = arena_copy_text(&cli->arena, text, size);
    return kept == NULL ? (char *)"" : kept;
}

static int take_ports(struct cli *cli, Unum__V1__Job *job)
{
    job->ports = arena_take(&cli->arena, CLI_VALUES_MAX * sizeof(void *));
    if (job->ports == NULL) return cli_fail(cli, "out of memory");
    const char *text;
    while ((text = cli_value_at(cli, "port", job->n_ports)) != NULL) {
        Unum__V1__Port *port = arena_take(&cli->arena, sizeof *port);
        if (port == NULL) return cli_fail(cli, "out of memory");
        unum__v1__port__init(port);
        size_t size = strcspn(text, "=");
        if (text[size] != '=' ||
            job_yaml_parse_port(text + size + 1, &port->port, &port->step) != STATUS_OK)
            return cli_usage(cli, "--port must be like http=8081 or http=8081+, is \"%s\"", text);
        port->name = copy(cli, text, size);
        job->ports[job->n_ports++] = port;
    }
    return CLI_DONE;
}

static int take_environment(struct cli *cli, Unum__V1__Job *job)
{
    job->environment = arena_take(&cli->arena, CLI_VALUES_MAX * sizeof(void *));
    if (job->environment == NULL) return cli_fail(cli, "out of memory");
    const char *text;
    while ((text = cli_value_at(cli, "env", job->n_environment)) != NULL) {
        Unum__V1__Job__EnvironmentEntry *entry = arena_take(&cli->arena, sizeof *entry);
        if (entry == NULL) return cli_fail(cli, "out of memory");
        unum__v1__job__environment_entry__init(entry);
        size_t size = strcspn(text, "=");
        if (text[size] != '=')
            return cli_usage(cli, "--env must be like NAME=VALUE, is \"%s\"", text);
        entry->key = copy(cli, text, size);
        entry->value = copy(cli, text + size + 1, strlen(text + size + 1));
        for (size_t i = 0; i < job->n_environment; i++)
            if (strcmp(job->environment[i]->key, entry->key) == 0)
                return cli_usage(cli, "--env %s is given twice", entry->key);
        job->environment[job->n_environment++] = entry;
    }
    return CLI_DONE;
}

static int take_scratch(struct cli *cli, Unum__V1__Job *job)
{
    job->scratch = arena_take(&cli->arena, CLI_VALUES_MAX * sizeof(void *));
    if (job->scratch == NULL) return cli_fail(cli, "out of memory");
    const char *text;
    while ((text = cli_value_at(cli, "scratch", job->n_scratch)) != NULL) {
        Unum__V1__Scratch *scratch = arena_take(&cli->arena, sizeof *scratch);
        if (scratch == NULL) return cli_fail(cli, "out of memory");
        unum__v1__scratch__init(scratch);
        size_t size = strcspn(text, "=");
        if (text[size] == '=' &&
            parse_size_bytes(text + size + 1, UINT64_MAX >> 1, &scratch->size_bytes) != STATUS_OK)
            return cli_usage(cli, "--scratch must be like /tmp/work=16Mi, is \"%s\"", text);
        scratch->path = copy(cli, text, size);
        job->scratch[job->n_scratch++] = scratch;
    }
    return CLI_DONE;
}

static int take_ready(struct cli *cli, Unum__V1__Probe *ready)
{
    const char *text = cli_value(cli, "ready");
    if (text == NULL || strcmp(text, "none") == 0) return CLI_DONE;
    if (strcmp(text, "notify") == 0) {
        ready->kind = UNUM__V1__PROBE__KIND__NOTIFY;
        return CLI_DONE;
    }
    bool http = strncmp(text, "http:", 5) == 0;
    if (!http && strncmp(text, "tcp:", 4) != 0)
        return cli_usage(cli, "--ready must be none, notify, tcp:PORT or http:PORT/path, is \"%s\"",
                         text);
    ready->kind = http ? UNUM__V1__PROBE__KIND__HTTP : UNUM__V1__PROBE__KIND__TCP;
    const char *port = text + (http ? 5 : 4);
    size_t size = http ? strcspn(port, "/") : strlen(port);
    ready->port = copy(cli, port, size);
    if (port[size] == '/') ready->path = copy(cli, port + size, strlen(port + size));
    return CLI_DONE;
}

static int take_choices(struct cli *cli, Unum__V1__Job *job)
{
    const char *restart = cli_value(cli, "restart");
    static const char *const policies[] = { "permanent", "transient", "temporary" };
    for (unsigned i = 0; restart != NULL && i < 3; i++) {
        if (strcmp(restart, policies[i]) != 0) continue;
        job->restart->policy = (Unum__V1__Restart__Policy)i;
        restart = NULL;
    }
    if (restart != NULL)
        return cli_usage(cli, "--restart must be permanent, transient or temporary, is \"%s\"",
                         restart);
    const char *net = cli_value(cli, "net");
    job->private_network = net != NULL && strcmp(net, "private") == 0;
    if (net != NULL && !job->private_network && strcmp(net, "host") != 0)
        return cli_usage(cli, "--net must be host or private, is \"%s\"", net);
    const char *directory = cli_value(cli, "directory");
    if (directory != NULL) job->working_directory = copy(cli, directory, strlen(directory));
    return CLI_DONE;
}

static int make_job(struct cli *cli, Unum__V1__Job *job)
{
    uint64_t count = 1;
    const char *name = cli_value(cli, "name");
    if (name == NULL) name = name_of_program(cli, cli->command[0]);
    job->name = copy(cli, name, strlen(name));
    job->command = cli->command;
    job->n_command = cli->command_count;
    int code = cli_number(cli, "count", JOB_COUNT_MAX, &count);
    job->count = (uint32_t)count;
    if (code == CLI_DONE) code = take_resources(cli, job);
    if (code == CLI_DONE) code = take_ports(cli, job);
    if (code == CLI_DONE) code = take_environment(cli, job);
    if (code == CLI_DONE) code = take_scratch(cli, job);
    if (code == CLI_DONE) code = take_ready(cli, job->ready);
    if (code == CLI_DONE) code = take_choices(cli, job);
    if (code != CLI_DONE) return code;
    struct job_refusal refusal;
    if (job_validate(job, NULL, &refusal) != STATUS_OK)
        return cli_usage(cli, "%s: %s", refusal.field, refusal.text);
    job_canonicalize(job);
    return CLI_DONE;
}

/* The job with its parts, so that one allocation holds it. */
struct parts {
    Unum__V1__Job job;
    Unum__V1__Resources resources;
    Unum__V1__Restart restart;
    Unum__V1__Probe ready;
    Unum__V1__Job *list[1];
};

static int prepare(struct cli *cli)
{
    if (cli->command_count == 0) return cli_usage(cli, "needs a command: unum run -- COMMAND ...");
    Unum__V1__ApplyRequest *request = jobs_make_request(cli);
    struct parts *parts = arena_take(&cli->arena, sizeof *parts);
    if (request == NULL || parts == NULL) return CLI_FAILED;
    unum__v1__job__init(&parts->job);
    unum__v1__resources__init(&parts->resources);
    unum__v1__restart__init(&parts->restart);
    unum__v1__probe__init(&parts->ready);
    parts->job.resources = &parts->resources;
    parts->job.restart = &parts->restart;
    parts->job.ready = &parts->ready;
    parts->list[0] = &parts->job;
    request->jobs = parts->list;
    request->n_jobs = 1;
    cli->prepared = request;
    return make_job(cli, &parts->job);
}

static int run(struct cli *cli)
{
    Unum__V1__ApplyRequest *request = cli->prepared;
    int code = jobs_apply(cli, request, cli_flag(cli, "follow"));
    if (code != CLI_DONE || !cli_flag(cli, "follow")) return code;
    struct logs_options follow = { .name = request->jobs[0]->name, .follow = true, .lines = 10 };
    return logs_show(cli, &follow);
}

const struct subcommand subcommand_run = {
    .name = "run",
    .arguments = "-- COMMAND [ARGUMENT...]",
    .summary = "Run a command as a job",
    .details =
        "  unum run -- sleep 1000\n"
        "  unum run --name web --count 8 --port http=8081+ --ready http:http/ -- my-server \\\n"
        "      '${port.http}'\n"
        "  unum run --restart temporary --follow -- make all\n\n"
        "In the command ${port.NAME}, ${task}, ${index} and ${job} are replaced for each task; it\n"
        "also sees UNUM_TASK, UNUM_JOB, UNUM_INDEX and UNUM_PORT_NAME. Running the same name\n"
        "again changes that job. What a job can say beyond this: docs/jobs.md.\n",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .has_command = true,
    .connects = true,
    .prepare = prepare,
    .run = run,
};
