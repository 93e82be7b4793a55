/* unum why: how something came to be as it is. */
#include "cli/call.h"
#include "unum/v1/computer.pb-c.h"

static int run(struct cli *cli)
{
    Unum__V1__WhyRequest request = UNUM__V1__WHY_REQUEST__INIT;
    Unum__V1__WhyResponse *response;
    struct error error = { 0 };
    request.name = cli->arguments[0];
    if (call_unary(cli, CLIENT_READ, "Computer/Why", &request.base,
                   &unum__v1__why_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (cli->json) return cli_write_json(cli, &response->base);
    (void)fprintf(stdout, "%s\n", cli_printable(cli, bytes_of_text(response->summary)));
    if (response->n_reasons == 0) return cli_finish_output(cli);
    (void)fputc('\n', stdout);
    static const char *const titles[] = { "WHEN", "WHAT", "EVENT", "BECAUSE" };
    struct table table;
    table_begin(&table, cli, titles, 4);
    for (size_t i = 0; i < response->n_reasons; i++) {
        const Unum__V1__Reason *reason = response->reasons[i];
        const char *cells[4] = {
            cli_format_time(cli, reason->wall_ms),
            reason->subject,
            reason->event,
            cli_printable(cli, bytes_of_text(reason->text)),
        };
        table_add(&table, cells, 2, cli_color_of_state(reason->event));
    }
    return table_write(&table);
}

const struct subcommand subcommand_why = {
    .name = "why",
    .arguments = "JOB|TASK|MACHINE",
    .summary = "Explain why something is as it is",
    .details = "  unum why web-3       why this task was restarted, held back, or does not start\n"
               "  unum why web         what happened to the whole job\n\n"
               "The first line is the present state; below it stand the decisions that led to it,\n"
               "the oldest first: placed, restarted, held, refused, and each one's reason.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .connects = true,
    .run = run,
};
