/* unum logs: what tasks wrote. */
#include "cli/logs.h"
#include "base/limits.h"
#include "cli/call.h"
#include "unum/v1/computer.pb-c.h"

#include <stdlib.h>
#include <string.h>

enum {
    MESSAGE_ARENA_BYTES_MAX = 64 * 1024 * 1024,
    TASKS_MAX = 256,         /* of a stream: computer.proto, LogsRequest */
    PATIENCE_MS = 30 * 1000, /* for the daemon to come back while a log is followed */
    PAUSE_MS = 50,
};

static const struct option_spec options[] = {
    { "follow", 'f', NULL, "go on with what is written from now on, until Ctrl-C" },
    { "lines", 'n', "N", "the last N lines of each task (100)" },
    { "times", 't', NULL, "with the time of each line" },
};

/* How far each task was read, so that a broken stream goes on where it was. */
struct progress {
    struct {
        char task[2 * LIMIT_NAME_BYTES_MAX];
        uint64_t next;
    } tasks[TASKS_MAX];
    size_t count;
    uint64_t moved_ns; /* when a line came last */
};

static void note_line(struct progress *progress, const Unum__V1__LogLine *line)
{
    size_t i = 0;
    while (i < progress->count && strcmp(progress->tasks[i].task, line->task) != 0) i++;
    if (i == TASKS_MAX) return;
    if (i == progress->count) {
        int size =
            snprintf(progress->tasks[i].task, sizeof progress->tasks[i].task, "%s", line->task);
        if (size < 0 || (size_t)size >= sizeof progress->tasks[i].task) return;
        progress->count++;
    }
    progress->tasks[i].next = line->next;
}

/* Several tasks are told apart by their names. */
static void write_line(struct cli *cli, const struct logs_options *show,
                       const Unum__V1__LogLine *line)
{
    static const enum cli_color colors[] = { CLI_CYAN, CLI_GREEN, CLI_YELLOW, CLI_BOLD };
    if (show->times)
        (void)fprintf(stdout, "%s%s%s ", cli_begin(cli, CLI_DIM),
                      cli_format_time(cli, line->wall_us / 1000), cli_end(cli, CLI_DIM));
    if (strcmp(line->task, show->name) != 0) {
        size_t size = strlen(line->task);
        enum cli_color color = colors[size == 0 ? 0 : (unsigned char)line->task[size - 1] % 4];
        (void)fprintf(stdout, "%s%s%s | ", cli_begin(cli, color), line->task, cli_end(cli, color));
    }
    (void)fwrite(line->text.data, 1, line->text.len, stdout);
    (void)fputs(line->cut ? " [cut]\n" : "\n", stdout);
}

static int write_lines(struct cli *cli, const struct logs_options *show,
                       const Unum__V1__LogsResponse *response, struct progress *progress)
{
    for (size_t i = 0; i < response->n_lines; i++) note_line(progress, response->lines[i]);
    struct scope *scope = cli->scope;
    clock_monotonic_ns(reactor_clock(scope->reactor), &progress->moved_ns);
    if (cli->json) return cli_write_json(cli, &response->base);
    for (size_t i = 0; i < response->n_lines; i++) write_line(cli, show, response->lines[i]);
    return cli_finish_output(cli);
}

static bool take_after(struct progress *progress, struct arena *arena,
                       Unum__V1__LogsRequest *request)
{
    request->after = arena_take(arena, (progress->count + 1) * sizeof(void *));
    for (size_t i = 0; request->after != NULL && i < progress->count; i++) {
        Unum__V1__LogPosition *position = arena_take(arena, sizeof *position);
        if (position == NULL) return false;
        unum__v1__log_position__init(position);
        position->task = progress->tasks[i].task;
        position->position = progress->tasks[i].next;
        request->after[request->n_after++] = position;
    }
    return request->after != NULL;
}

/* One stream to its end. STATUS_OK: the server had no more. */
static enum status show_stream(struct cli *cli, const struct logs_options *show,
                               struct progress *progress, struct arena *arena, int *ret_code,
                               struct error *error)
{
    Unum__V1__LogsRequest request = UNUM__V1__LOGS_REQUEST__INIT;
    struct client_stream *stream;
    request.name = (char *)show->name;
    request.follow = show->follow;
    request.lines = show->lines;
    arena_reset(arena);
    if (!take_after(progress, arena, &request)) return STATUS_NO_MEMORY;
    enum status status = call_stream(cli, "Computer/Logs", &request.base, true, &stream, error);
    if (status != STATUS_OK) return status;
    for (*ret_code = CLI_DONE; *ret_code == CLI_DONE;) {
        Unum__V1__LogsResponse *response;
        arena_reset(arena);
        /* Small texts of a long stream must not pile up. */
        struct arena whole = cli->arena;
        status = client_stream_receive(stream, &unum__v1__logs_response__descriptor, arena,
                                       DEADLINE_NEVER, &response, error);
        if (status != STATUS_OK) break;
        cli->arena = *arena;
        *ret_code = write_lines(cli, show, response, progress);
        *arena = cli->arena;
        cli->arena = whole;
    }
    client_stream_close(stream);
    return status == STATUS_CLOSED ? STATUS_OK : status;
}

static bool may_come_back(enum status status)
{
    return status == STATUS_OK || status == STATUS_UNAVAILABLE || status == STATUS_CLOSED ||
           status == STATUS_IO || status == STATUS_CANCELLED;
}

/* Streams, one after the other while the log is followed: the daemon may be killed and return. */
static enum status show_all(struct cli *cli, const struct logs_options *show,
                            struct progress *progress, struct arena *arena, int *ret_code,
                            struct error *error)
{
    struct scope *scope = cli->scope;
    struct clock *clock = reactor_clock(scope->reactor);
    bool was_read = false;
    for (;;) {
        uint64_t before = progress->moved_ns, now;
        enum status status = show_stream(cli, show, progress, arena, ret_code, error);
        was_read = was_read || progress->moved_ns != before;
        if (*ret_code != CLI_DONE || !show->follow || !was_read || !may_come_back(status))
            return status;
        clock_monotonic_ns(clock, &now);
        if (now - progress->moved_ns > PATIENCE_MS * UINT64_C(1000000)) return status;
        status = fiber_sleep_ns(PAUSE_MS * UINT64_C(1000000));
        if (status != STATUS_OK) return status;
    }
}

int logs_show(struct cli *cli, const struct logs_options *show)
{
    struct error error = { 0 };
    struct arena arena;
    int code = CLI_DONE;
    struct progress *progress = calloc(1, sizeof *progress);
    if (progress == NULL) return cli_fail(cli, "out of memory");
    arena_init(&arena, MESSAGE_ARENA_BYTES_MAX);
    enum status status = show_all(cli, show, progress, &arena, &code, &error);
    arena_finish(&arena);
    free(progress);
    if (status != STATUS_OK && code == CLI_DONE) return cli_fail_with(cli, &error);
    return code;
}

static int run(struct cli *cli)
{
    uint64_t lines = 0;
    int code = cli_number(cli, "lines", UINT32_MAX, &lines);
    if (code != CLI_DONE) return code;
    struct logs_options show = {
        .name = cli->arguments[0],
        .follow = cli_flag(cli, "follow"),
        .times = cli_flag(cli, "times"),
        .lines = (uint32_t)lines,
    };
    return logs_show(cli, &show);
}

const struct subcommand subcommand_logs = {
    .name = "logs",
    .arguments = "JOB|TASK",
    .summary = "Show what tasks wrote to their output",
    .details =
        "  unum logs web-3            the last 100 lines of one task\n"
        "  unum logs -f web           of all its tasks, and what comes\n"
        "  unum logs -n 1000 -t web   more, with times\n"
        "  unum logs -o json web      JSON lines; text is base64\n\n"
        "Lines of a job are led by their task. Output of former incarnations is there too.\n",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .arguments_min = 1,
    .arguments_max = 1,
    .connects = true,
    .run = run,
};
