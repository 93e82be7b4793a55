/* unum watch: changes of the registry as they come. */
#include "cli/call.h"
#include "cli/range.h"

#include <inttypes.h>

enum { MESSAGE_ARENA_BYTES_MAX = 64 * 1024 * 1024 };

static const struct option_spec options[] = {
    RANGE_OPTIONS,
    { "revision", 0, "N", "from that revision on, also what has happened already" },
    { "previous", 0, NULL, "tell the values before, too" },
};

static int write_events(struct cli *cli, const Unum__V1__WatchResponse *response)
{
    /* That the watch stands, and how far it is, is for programs. */
    if (cli->json) return cli_write_json(cli, &response->base);
    for (size_t i = 0; i < response->n_events; i++) {
        const Unum__V1__Event *event = response->events[i];
        if (event->item == NULL) continue;
        bool put = event->kind == UNUM__V1__EVENT__KIND__PUT;
        (void)fprintf(stdout, "%" PRIu64 " %s%s%s %s", event->item->modify_revision,
                      cli_begin(cli, put ? CLI_GREEN : CLI_RED), put ? "put" : "del",
                      cli_end(cli, CLI_GREEN),
                      cli_printable(cli, bytes_of(event->item->key.data, event->item->key.len)));
        if (put)
            (void)fprintf(
                stdout, "  %s",
                cli_printable(cli, bytes_of(event->item->value.data, event->item->value.len)));
        if (event->previous != NULL)
            (void)fprintf(stdout, "  (was %s)",
                          cli_printable(cli, bytes_of(event->previous->value.data,
                                                      event->previous->value.len)));
        (void)fputc('\n', stdout);
    }
    return cli_finish_output(cli);
}

/* One stream; *REVISION becomes the one behind the last that was shown. */
static enum status show_stream(struct cli *cli, Unum__V1__WatchRequest *request, int *ret_code,
                               struct error *error)
{
    struct client_stream *stream;
    enum status status = call_stream(cli, "Registry/Watch", &request->base, true, &stream, error);
    if (status != STATUS_OK) return status;
    struct arena arena;
    arena_init(&arena, MESSAGE_ARENA_BYTES_MAX);
    for (*ret_code = CLI_DONE; *ret_code == CLI_DONE;) {
        Unum__V1__WatchResponse *response;
        arena_reset(&arena);
        status = client_stream_receive(stream, &unum__v1__watch_response__descriptor, &arena,
                                       DEADLINE_NEVER, &response, error);
        if (status != STATUS_OK) break;
        struct arena whole = cli->arena; /* texts of a long stream must not pile up */
        cli->arena = arena;
        *ret_code = write_events(cli, response);
        arena = cli->arena;
        cli->arena = whole;
        if (response->revision >= request->start_revision)
            request->start_revision = response->revision + 1;
    }
    arena_finish(&arena);
    client_stream_close(stream);
    return status;
}

static int run(struct cli *cli)
{
    struct key_range range;
    Unum__V1__WatchRequest request = UNUM__V1__WATCH_REQUEST__INIT;
    struct error error = { 0 };
    int code = range_take(cli, &range);
    if (code == CLI_DONE) code = cli_number(cli, "revision", UINT64_MAX, &request.start_revision);
    if (code != CLI_DONE) return code;
    request.space = range.space;
    request.key = range.key;
    request.end = range.end;
    request.include_previous = cli_flag(cli, "previous");
    /* A daemon that is being restarted is waited for, and nothing between is missed. */
    for (;;) {
        enum status status = show_stream(cli, &request, &code, &error);
        if (code != CLI_DONE) return code;
        if (status != STATUS_UNAVAILABLE || request.start_revision == 0)
            return status == STATUS_CLOSED ? cli_fail(cli, "the computer ended the watch")
                                           : cli_fail_with(cli, &error);
        Unum__V1__RangeRequest probe = UNUM__V1__RANGE_REQUEST__INIT;
        Unum__V1__RangeResponse *answer;
        probe.space = range.space;
        probe.key = range.key;
        probe.count_only = true;
        if (call_unary(cli, CLIENT_READ, "Registry/Range", &probe.base,
                       &unum__v1__range_response__descriptor, &answer, &error) != STATUS_OK)
            return cli_fail_with(cli, &error);
    }
}

const struct subcommand subcommand_watch = {
    .name = "watch",
    .arguments = "KEY",
    .summary = "Show changes of keys as they happen, until Ctrl-C",
    .details = "  unum watch --prefix config/\n"
               "  unum watch config/color --revision 1   from the beginning\n"
               "  unum watch --prefix '' -o json         JSON lines for a program\n\n"
               "Every change is shown once, in order; also those that happen while the daemon is\n"
               "being restarted.\n",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .arguments_max = 1,
    .connects = true,
    .run = run,
};
