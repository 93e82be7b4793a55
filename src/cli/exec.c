/* unum exec: a command inside a running task. */
#include "cli/call.h"
#include "unum/v1/computer.pb-c.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PART_BYTES_MAX = 16 * 1024, MESSAGE_ARENA_BYTES_MAX = 16 * 1024 * 1024 };

struct session {
    struct client_stream *stream;
    bool pollable; /* standard input can be waited for */
    bool ended;
    uint8_t part[PART_BYTES_MAX];
};

/* A terminal, pipe or socket has to be waited for; a file is always there. */
static bool input_is_pollable(void)
{
    struct stat about;
    if (fstat(STDIN_FILENO, &about) != 0) return false;
    return S_ISFIFO(about.st_mode) || S_ISSOCK(about.st_mode) ||
           (S_ISCHR(about.st_mode) && isatty(STDIN_FILENO));
}

static void send_input(void *argument)
{
    struct session *session = argument;
    for (bool more = true; more && !session->ended;) {
        if (session->pollable && fiber_wait_readable(STDIN_FILENO, DEADLINE_NEVER) != STATUS_OK)
            return;
        ssize_t got = read(STDIN_FILENO, session->part, sizeof session->part);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        Unum__V1__ExecRequest request = UNUM__V1__EXEC_REQUEST__INIT;
        more = got > 0;
        request.input.data = session->part;
        request.input.len = more ? (size_t)got : 0;
        request.input_end = !more;
        if (session->ended || client_stream_send(session->stream, &request.base) != STATUS_OK)
            return;
    }
    if (!session->ended) client_stream_half_close(session->stream);
}

/* All of it; the exit status of a command that nobody listens to is not worth a signal. */
static bool write_all(int file, const ProtobufCBinaryData *data)
{
    for (size_t done = 0; done < data->len;) {
        ssize_t wrote = write(file, data->data + done, data->len - done);
        if (wrote < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (wrote < 0) return false;
        done += (size_t)wrote;
    }
    return true;
}

static int show_output(struct cli *cli, struct session *session)
{
    struct arena arena;
    struct error error = { 0 };
    int code = -1;
    arena_init(&arena, MESSAGE_ARENA_BYTES_MAX);
    while (code < 0) {
        Unum__V1__ExecResponse *response;
        arena_reset(&arena);
        enum status status =
            client_stream_receive(session->stream, &unum__v1__exec_response__descriptor, &arena,
                                  DEADLINE_NEVER, &response, &error);
        if (status == STATUS_CLOSED)
            code = cli_fail(cli, "the computer ended the call before the command ended");
        else if (status != STATUS_OK)
            code = cli_fail_with(cli, &error);
        else if (!write_all(STDOUT_FILENO, &response->output) ||
                 !write_all(STDERR_FILENO, &response->error_output))
            code = CLI_FAILED;
        else if (response->ended)
            code = (int)(response->exit_status & 0xff);
    }
    arena_finish(&arena);
    return code;
}

static int prepare(struct cli *cli)
{
    if (cli->command_count > 0) return CLI_DONE;
    return cli_usage(cli, "needs a command: unum exec %s -- COMMAND ...", cli->arguments[0]);
}

static int run(struct cli *cli)
{
    struct session *session = arena_take(&cli->arena, sizeof *session);
    if (session == NULL) return cli_fail(cli, "out of memory");
    Unum__V1__ExecRequest request = UNUM__V1__EXEC_REQUEST__INIT;
    struct error error = { 0 };
    request.task = cli->arguments[0];
    request.command = cli->command;
    request.n_command = cli->command_count;
    if (call_stream(cli, "Computer/Exec", &request.base, false, &session->stream, &error) !=
        STATUS_OK)
        return cli_fail_with(cli, &error);
    session->pollable = input_is_pollable();
    struct scope scope;
    scope_init(&scope, cli->scope);
    int code = CLI_FAILED;
    if (scope_spawn(&scope, "input", send_input, session) == STATUS_OK)
        code = show_output(cli, session);
    session->ended = true;
    scope_cancel(&scope);
    scope_join(&scope);
    client_stream_close(session->stream);
    return code;
}

const struct subcommand subcommand_exec = {
    .name = "exec",
    .arguments = "TASK -- COMMAND [ARGUMENT...]",
    .summary = "Run a command inside a running task",
    .details = "  unum exec web-3 -- ps ax\n"
               "  unum exec web-3 -- sh -c 'cat > /tmp/x' < x\n\n"
               "It sees what the task sees: its files, processes and network. Input, output and\n"
               "errors are passed on; the exit status is the command's, 128 + signal when it was\n"
               "killed. It ends when this program does.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .has_command = true,
    .connects = true,
    .prepare = prepare,
    .run = run,
};
