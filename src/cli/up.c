/* unum up: a computer for this host. */
#include "cli/call.h"
#include "cli/process.h"
#include "supervise/protocol.h"
#include "unum/v1/computer.pb-c.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    UP_TIMEOUT_MS = 60000,
    UP_PATIENCE_MS = 100, /* of one attempt to reach it */
    UP_PAUSE_MS = 10,     /* between two */
    UP_FAILURES_MAX = 2,  /* of unumd in a row: what failed twice at once fails again */
    UP_STOP_MS = 15000,   /* for what did not come up to end */
    UP_FOLLOW_MS = 200,
};

static const struct option_spec options[] = {
    { "name", 0, "NAME", "of the computer, when it is made (computer)" },
    { "background", 'b', NULL, "return once it answers; it goes on without this terminal" },
    { "timeout", 0, "TIME", "give up when it does not answer by then (60s)" },
};

struct up {
    struct cli *cli;
    char folder[PROCESS_PATH_BYTES_MAX + 1];
    char unumd[PROCESS_PATH_BYTES_MAX + 1];
    char init[PROCESS_PATH_BYTES_MAX + 1];
    char log[PROCESS_PATH_BYTES_MAX + 16];
    int64_t log_begin;
    uint64_t timeout_ms;
    pid_t pid;
    bool answers;
    bool ended; /* the process is reaped */
    struct process_log said;
    Unum__V1__StatusResponse *status;
};

/* `unumd --init`: make the folder a computer, or check that it is one. */
static enum status prepare(struct up *up, struct error *error)
{
    struct cli *cli = up->cli;
    const char *name = cli_value(cli, "name");
    char owner[16];
    const char *arguments[12] = { up->unumd, "--init", up->folder };
    size_t count = 3;
    if (name != NULL) {
        arguments[count++] = "--name";
        arguments[count++] = name;
    }
    if (cli->address != NULL) {
        arguments[count++] = "--address";
        arguments[count++] = cli->address;
    }
    if (geteuid() == 0) {
        (void)snprintf(owner, sizeof owner, "%u", SUPERVISE_UNUMD_USER);
        arguments[count++] = "--owner";
        arguments[count++] = owner;
    }
    arguments[count] = NULL;
    return process_run((char *const *)arguments, error);
}

static enum status begin(struct up *up, struct error *error)
{
    const char *arguments[] = { up->init, "--dir", up->folder, "--unumd", up->unumd,
                                "--",     "--dir", ".",        NULL };
    (void)snprintf(up->log, sizeof up->log, "%s/computer.log", up->folder);
    up->log_begin = process_open_log(up->log);
    enum status status = process_start((char *const *)arguments, up->log,
                                       !cli_flag(up->cli, "background"), &up->pid, error);
    return status == STATUS_OK ? process_remember(up->folder, up->pid, error) : status;
}

static bool ask_status(struct up *up, struct scope *root)
{
    struct error error = { 0 };
    Unum__V1__StatusRequest request = UNUM__V1__STATUS_REQUEST__INIT;
    if (call_begin(up->cli, root, UP_PATIENCE_MS, &error) != STATUS_OK) return false;
    enum status status = call_unary(up->cli, CLIENT_READ, "Computer/Status", &request.base,
                                    &unum__v1__status_response__descriptor, &up->status, &error);
    call_end(up->cli);
    return status == STATUS_OK;
}

/* In a fiber: until it answers, has ended, fails again and again, or time is up. */
static void wait_until_it_answers(struct scope *root, void *context)
{
    struct up *up = context;
    struct clock *clock = reactor_clock(root->reactor);
    uint64_t now, end;
    clock_monotonic_ns(clock, &now);
    end = now + up->timeout_ms * 1000000;
    while (now < end) {
        if (ask_status(up, root)) {
            up->answers = true;
            return;
        }
        process_read_log(up->log, up->log_begin, &up->said);
        up->ended = process_has_ended(up->pid);
        if (up->ended || up->said.failures >= UP_FAILURES_MAX) return;
        if (fiber_sleep_ns(UP_PAUSE_MS * UINT64_C(1000000)) != STATUS_OK) return;
        clock_monotonic_ns(clock, &now);
    }
}

static int stop_and_explain(struct up *up)
{
    if (!up->ended) {
        (void)kill(up->pid, SIGTERM);
        if (!process_wait_end(up->pid, UP_STOP_MS)) (void)kill(up->pid, SIGKILL);
        (void)process_wait_end(up->pid, UP_STOP_MS);
    }
    process_read_log(up->log, up->log_begin, &up->said);
    process_forget(up->folder);
    int code = cli_fail(up->cli, "the computer did not start: %s",
                        up->said.sentence[0] != '\0'
                            ? up->said.sentence
                            : "it did not answer in time; --timeout gives it more");
    (void)fprintf(stderr, "Its log: %s\n", up->log);
    return code;
}

static int wait_for_answer(struct up *up)
{
    struct error error = { 0 };
    struct reactor *reactor;
    if (call_prepare(up->cli, &error) != STATUS_OK ||
        reactor_create(&(struct reactor_options) { 0 }, &reactor, &error) != STATUS_OK) {
        (void)snprintf(up->said.sentence, sizeof up->said.sentence, "%.*s", PROCESS_LINE_BYTES_MAX,
                       error.text);
        return stop_and_explain(up);
    }
    enum status status = reactor_run(reactor, wait_until_it_answers, up);
    reactor_destroy(reactor);
    return status == STATUS_OK && up->answers ? CLI_DONE : stop_and_explain(up);
}

static int tell(struct up *up)
{
    struct cli *cli = up->cli;
    if (cli->json) return cli_write_json(cli, &up->status->base);
    const char *dir = cli->folder_given ? " --dir " : "";
    const char *folder = cli->folder_given ? cli->folder : "";
    (void)fprintf(stdout, "Computer %s%s%s is up at %s, in %s.\n", cli_begin(cli, CLI_BOLD),
                  up->status->name, cli_end(cli, CLI_BOLD), call_address(cli), up->folder);
    if (up->status->tasks > 0)
        (void)fprintf(stdout, "%" PRIu32 " jobs with %" PRIu32 " tasks are started again.\n",
                      up->status->jobs, up->status->tasks);
    if (geteuid() != 0)
        (void)fprintf(stdout, "Not started as root: tasks get no users of their own and no limits; "
                              "`unum machines` says what is missing.\n");
    (void)fprintf(stdout,
                  "Next:\n"
                  "  unum run%s%s -- sleep 1000     run something\n"
                  "  unum apply%s%s FILE            or the jobs of a file\n"
                  "  unum ps%s%s                    what runs\n",
                  dir, folder, dir, folder, dir, folder);
    if (cli_flag(cli, "background"))
        (void)fprintf(stdout, "  unum down%s%s                  end it\n", dir, folder);
    else
        (void)fprintf(stdout, "Ctrl-C ends it. What it says from here on is its log.\n");
    return cli_finish_output(cli);
}

/* --- in the foreground --------------------------------------------------------------------------
 */

static volatile sig_atomic_t asked_to_end; /* set by the handler of SIGINT and SIGTERM */

static void note_signal(int number)
{
    (void)number;
    asked_to_end = 1;
}

static void follow_log(FILE *file)
{
    char line[1024];
    clearerr(file);
    while (fgets(line, sizeof line, file) != NULL) (void)fputs(line, stdout);
    (void)fflush(stdout);
}

/* Show the log until the computer ends; signals are handed to it. */
static int stay(struct up *up)
{
    struct sigaction action = { .sa_handler = note_signal };
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    FILE *log = fopen(up->log, "re");
    if (log != NULL) (void)fseek(log, 0, SEEK_END);
    while (!process_wait_end(up->pid, UP_FOLLOW_MS)) {
        if (log != NULL) follow_log(log);
        if (!asked_to_end) continue;
        asked_to_end = 0;
        (void)kill(up->pid, SIGTERM);
    }
    if (log != NULL) {
        follow_log(log);
        (void)fclose(log);
    }
    process_forget(up->folder);
    (void)fprintf(stdout, "The computer is down.\n");
    return cli_finish_output(up->cli);
}

static int run(struct cli *cli)
{
    struct up *up = arena_take(&cli->arena, sizeof *up);
    if (up == NULL) return cli_fail(cli, "out of memory");
    struct error error = { 0 };
    int lock = -1;
    up->cli = cli;
    up->timeout_ms = UP_TIMEOUT_MS;
    int code = cli_duration(cli, "timeout", UINT32_MAX, &up->timeout_ms);
    if (code != CLI_DONE) return code;
    enum status status = process_make_folder(cli->folder, up->folder, &error);
    if (status == STATUS_OK) status = process_find_program("unumd", up->unumd, &error);
    if (status == STATUS_OK) status = process_find_program("unum-init", up->init, &error);
    if (status != STATUS_OK) return cli_fail_with(cli, &error);
    pid_t before = process_find(up->folder);
    if (before != 0)
        return cli_fail(cli,
                        "the computer in %s is already running, as process %d; `unum down%s%s` "
                        "ends it",
                        up->folder, (int)before, cli->folder_given ? " --dir " : "",
                        cli->folder_given ? cli->folder : "");
    status = process_lock(up->folder, &lock, &error);
    if (status == STATUS_OK) status = prepare(up, &error);
    if (status == STATUS_OK) status = begin(up, &error);
    if (status != STATUS_OK) return cli_fail_with(cli, &error);
    code = wait_for_answer(up);
    if (code == CLI_DONE) code = tell(up);
    (void)close(lock);
    if (code == CLI_DONE && !cli_flag(cli, "background")) code = stay(up);
    call_finish(cli);
    return code;
}

const struct subcommand subcommand_up = {
    .name = "up",
    .arguments = "",
    .summary = "Make this host a computer, or start the one in the folder again",
    .details =
        "  unum up                          in this terminal; Ctrl-C ends it\n"
        "  unum up --background             returns once it answers; `unum down` ends it\n"
        "  unum up --dir /tmp/c --address 127.0.0.1:7200     a second one beside it\n\n"
        "The first time it makes the folder: the computer's own authority, the machine's identity\n"
        "and the first operator's credential (in operator/), with which this program talks to it.\n"
        "As root every task gets a range of user ids of its own; without root it runs with less\n"
        "isolation, and `unum machines` says what is missing.\n",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
