/* unum lease: leases of the registry. */
#include "base/closest.h"
#include "base/parse.h"
#include "cli/call.h"
#include "cli/range.h"

#include <inttypes.h>
#include <string.h>

static const struct option_spec options[] = {
    { "id", 0, "ID", "with grant: this id instead of one that the computer chooses" },
    { "space", 0, "SPACE", "another space than main" },
};

#define LEASE_MS_MAX (UINT64_C(86400000) * 365)

static char *space_of(struct cli *cli)
{
    const char *space = cli_value(cli, "space");
    return (char *)(space == NULL ? "" : space);
}

static int take_id(struct cli *cli, uint64_t *ret_id)
{
    if (cli->argument_count < 2)
        return cli_usage(cli, "%s needs the id of a lease", cli->arguments[0]);
    if (parse_u64(cli->arguments[1], UINT64_MAX, ret_id) != STATUS_OK)
        return cli_usage(cli, "\"%s\" is not the id of a lease", cli->arguments[1]);
    return CLI_DONE;
}

static int run_grant(struct cli *cli)
{
    Unum__V1__GrantLeaseRequest request = UNUM__V1__GRANT_LEASE_REQUEST__INIT;
    Unum__V1__GrantLeaseResponse *response;
    struct error error = { 0 };
    if (cli->argument_count < 2) return cli_usage(cli, "grant needs a time, like 10s");
    if (parse_duration_ms(cli->arguments[1], LEASE_MS_MAX, &request.time_to_live_ms) != STATUS_OK ||
        request.time_to_live_ms < 1000)
        return cli_usage(cli, "a lease lasts 1s to 365d, is \"%s\"", cli->arguments[1]);
    int code = cli_number(cli, "id", UINT64_MAX, &request.lease);
    if (code != CLI_DONE) return code;
    request.space = space_of(cli);
    if (call_unary(cli, CLIENT_WRITE, "Registry/GrantLease", &request.base,
                   &unum__v1__grant_lease_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (cli->json) return cli_write_json(cli, &response->base);
    (void)fprintf(stdout, "lease %" PRIu64 " for %s\n", response->lease,
                  cli_format_duration(cli, response->time_to_live_ms));
    return cli_finish_output(cli);
}

static int run_keep(struct cli *cli)
{
    Unum__V1__KeepLeaseRequest request = UNUM__V1__KEEP_LEASE_REQUEST__INIT;
    Unum__V1__KeepLeaseResponse *response;
    struct error error = { 0 };
    int code = take_id(cli, &request.lease);
    if (code != CLI_DONE) return code;
    request.space = space_of(cli);
    if (call_unary(cli, CLIENT_WRITE, "Registry/KeepLease", &request.base,
                   &unum__v1__keep_lease_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (cli->json) return cli_write_json(cli, &response->base);
    (void)fprintf(stdout, "lease %" PRIu64 " goes on for %s\n", response->lease,
                  cli_format_duration(cli, response->time_to_live_ms));
    return cli_finish_output(cli);
}

static int run_revoke(struct cli *cli)
{
    Unum__V1__RevokeLeaseRequest request = UNUM__V1__REVOKE_LEASE_REQUEST__INIT;
    Unum__V1__RevokeLeaseResponse *response;
    struct error error = { 0 };
    int code = take_id(cli, &request.lease);
    if (code != CLI_DONE) return code;
    request.space = space_of(cli);
    if (call_unary(cli, CLIENT_WRITE, "Registry/RevokeLease", &request.base,
                   &unum__v1__revoke_lease_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (cli->json) return cli_write_json(cli, &response->base);
    (void)fprintf(stdout, "lease %" PRIu64 " is revoked, revision %" PRIu64 "\n", request.lease,
                  response->revision);
    return cli_finish_output(cli);
}

static int run_list(struct cli *cli)
{
    Unum__V1__ListLeasesRequest request = UNUM__V1__LIST_LEASES_REQUEST__INIT;
    Unum__V1__ListLeasesResponse *response;
    struct error error = { 0 };
    request.space = space_of(cli);
    if (call_unary(cli, CLIENT_READ, "Registry/ListLeases", &request.base,
                   &unum__v1__list_leases_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (cli->json) return cli_write_json(cli, &response->base);
    static const char *const titles[] = { "LEASE", "GRANTED", "REMAINING", "KEYS" };
    struct table table;
    table_begin(&table, cli, titles, 4);
    for (size_t i = 0; i < response->n_leases; i++) {
        const Unum__V1__Lease *lease = response->leases[i];
        const char *keys = "";
        for (size_t k = 0; k < lease->n_keys && k < 8; k++)
            keys =
                cli_format(cli, "%s%s%s", keys, k == 0 ? "" : " ",
                           cli_printable(cli, bytes_of(lease->keys[k].data, lease->keys[k].len)));
        const char *cells[4] = { cli_format(cli, "%" PRIu64, lease->lease),
                                 cli_format_duration(cli, lease->time_to_live_ms),
                                 cli_format_duration(cli, lease->remaining_ms), keys };
        table_add(&table, cells, TABLE_COLUMNS_MAX, CLI_PLAIN);
    }
    return table_write(&table);
}

static int run(struct cli *cli)
{
    static const char *const verbs[] = { "grant", "keep", "revoke", "list" };
    static int (*const functions[])(struct cli *) = { run_grant, run_keep, run_revoke, run_list };
    for (size_t i = 0; i < 4; i++)
        if (strcmp(cli->arguments[0], verbs[i]) == 0) return functions[i](cli);
    const char *closest = closest_word(cli->arguments[0], verbs, 4);
    return cli_usage(cli, "must be grant, keep, revoke or list, is \"%s\"%s%s%s", cli->arguments[0],
                     closest ? "; did you mean " : "", closest ? closest : "", closest ? "?" : "");
}

const struct subcommand subcommand_lease = {
    .name = "lease",
    .arguments = "grant TIME | keep ID | revoke ID | list",
    .summary = "Grant, keep, revoke and list leases of the registry",
    .details = "  unum lease grant 10s         tells its id\n"
               "  unum put here/me alive --lease ID\n"
               "  unum lease keep ID           again within 10s, or the key is gone\n"
               "  unum lease revoke ID         the key goes now\n\n"
               "Leases run in computer time: while the computer is off they stand still.\n",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .arguments_min = 1,
    .arguments_max = 2,
    .connects = true,
    .run = run,
};
