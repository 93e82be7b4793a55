/* unum put: write a key of the registry. */
#include "base/limits.h"
#include "cli/call.h"
#include "cli/range.h"

#include <inttypes.h>
#include <string.h>

static const struct option_spec options[] = {
    { "lease", 0, "ID", "the key goes when that lease does" },
    { "previous", 0, NULL, "tell the value before" },
    { "space", 0, "SPACE", "another space than main" },
};

static int run(struct cli *cli)
{
    Unum__V1__PutRequest request = UNUM__V1__PUT_REQUEST__INIT;
    Unum__V1__PutResponse *response;
    struct error error = { 0 };
    struct bytes value = bytes_of_text(cli->arguments[1]);
    int code = cli_number(cli, "lease", UINT64_MAX, &request.lease);
    if (code != CLI_DONE) return code;
    if (strcmp(cli->arguments[1], "-") == 0 &&
        cli_read_file(cli, "-", LIMIT_VALUE_BYTES_MAX, &value, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (cli_value(cli, "space") != NULL) request.space = (char *)cli_value(cli, "space");
    request.key = range_bytes(cli->arguments[0]);
    request.value = (ProtobufCBinaryData) { .len = value.size, .data = (uint8_t *)value.data };
    request.return_previous = cli_flag(cli, "previous");
    if (call_unary(cli, CLIENT_WRITE, "Registry/Put", &request.base,
                   &unum__v1__put_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (cli->json) return cli_write_json(cli, &response->base);
    if (response->previous != NULL)
        (void)fprintf(stdout, "was %s\n",
                      cli_printable(cli, bytes_of(response->previous->value.data,
                                                  response->previous->value.len)));
    (void)fprintf(stdout, "revision %" PRIu64 "\n", response->revision);
    return cli_finish_output(cli);
}

const struct subcommand subcommand_put = {
    .name = "put",
    .arguments = "KEY VALUE",
    .summary = "Write a key of the registry",
    .details = "  unum put config/color blue\n"
               "  unum put config/whole - < file      the value from standard input\n"
               "  unum put here/me alive --lease 17   gone when the lease ends\n\n"
               "When it returns with status 0 the value is on stable storage.\n",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .arguments_min = 2,
    .arguments_max = 2,
    .connects = true,
    .run = run,
};
