/* unum status: is the computer well? */
#include "cli/call.h"
#include "unum/v1/computer.pb-c.h"

#include <inttypes.h>
#include <string.h>

static int run(struct cli *cli)
{
    Unum__V1__StatusRequest request = UNUM__V1__STATUS_REQUEST__INIT;
    Unum__V1__StatusResponse *response;
    struct error error = { 0 };
    if (call_unary(cli, CLIENT_READ, "Computer/Status", &request.base,
                   &unum__v1__status_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    bool well = strcmp(response->health, "ok") == 0;
    if (cli->json) {
        int code = cli_write_json(cli, &response->base);
        return code != CLI_DONE ? code : well ? CLI_DONE : CLI_FAILED;
    }
    enum cli_color color = well ? CLI_GREEN : CLI_RED;
    (void)fprintf(stdout, "%s%s%s: %s%s%s, up %s, at %s\n", cli_begin(cli, CLI_BOLD),
                  response->name, cli_end(cli, CLI_BOLD), cli_begin(cli, color),
                  cli_printable(cli, bytes_of_text(response->health)), cli_end(cli, color),
                  cli_format_duration(cli, response->uptime_ms), call_address(cli));
    (void)fprintf(stdout, "%" PRIu32 " jobs, %" PRIu32 " tasks, %" PRIu32 " of them up\n",
                  response->jobs, response->tasks, response->ready);
    (void)fprintf(stdout, "version %s, computer time %s\n", response->version,
                  cli_format_duration(cli, response->computer_time_ms));
    int code = cli_finish_output(cli);
    return code != CLI_DONE ? code : well ? CLI_DONE : CLI_FAILED;
}

const struct subcommand subcommand_status = {
    .name = "status",
    .arguments = "",
    .summary = "Tell whether the computer is well",
    .details = "  unum status && echo well\n\n"
               "Exit status 0 only if it answers and its health is ok.\n",
    .connects = true,
    .run = run,
};
