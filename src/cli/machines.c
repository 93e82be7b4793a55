/* unum machines: what this computer is made of. */
#include "cli/call.h"
#include "unum/v1/computer.pb-c.h"

#include <inttypes.h>

static void add_row(struct table *table, const Unum__V1__Machine *machine)
{
    struct cli *cli = table->cli;
    const char *labels = "";
    for (size_t i = 0; i < machine->n_labels; i++)
        labels = cli_format(cli, "%s%s%s=%s", labels, i == 0 ? "" : " ", machine->labels[i]->key,
                            machine->labels[i]->value);
    const char *cells[] = {
        machine->name,
        machine->state,
        machine->role,
        machine->address,
        cli_format(cli, "%s of %" PRIu32, cli_format_cpu(cli, machine->cpu_milli_reserved),
                   machine->cores),
        cli_format(cli, "%s of %s", cli_format_size(cli, machine->memory_bytes_reserved),
                   cli_format_size(cli, machine->memory_bytes)),
        cli_format(cli, "%" PRIu32, machine->tasks),
        machine->version,
        machine->io,
        labels,
    };
    table_add(table, cells, 1, cli_color_of_state(machine->state));
}

static int run(struct cli *cli)
{
    Unum__V1__ListMachinesRequest request = UNUM__V1__LIST_MACHINES_REQUEST__INIT;
    Unum__V1__ListMachinesResponse *response;
    struct error error = { 0 };
    if (call_unary(cli, CLIENT_READ, "Computer/ListMachines", &request.base,
                   &unum__v1__list_machines_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (cli->json) return cli_write_json(cli, &response->base);
    static const char *const titles[] = { "MACHINE", "STATE",          "ROLE",
                                          "ADDRESS", "CORES RESERVED", "MEMORY RESERVED",
                                          "TASKS",   "VERSION",        "IO",
                                          "LABELS" };
    struct table table;
    table_begin(&table, cli, titles, sizeof titles / sizeof titles[0]);
    for (size_t i = 0; i < response->n_machines; i++) add_row(&table, response->machines[i]);
    int code = table_write(&table);
    for (size_t i = 0; i < response->n_machines; i++)
        for (size_t k = 0; k < response->machines[i]->n_missing; k++)
            (void)fprintf(stdout, "%s lacks: %s\n", response->machines[i]->name,
                          cli_printable(cli, bytes_of_text(response->machines[i]->missing[k])));
    return code == CLI_DONE ? cli_finish_output(cli) : code;
}

const struct subcommand subcommand_machines = {
    .name = "machines",
    .arguments = "",
    .summary = "List the machines: what each has, what is reserved, what it lacks",
    .details = "  unum machines\n",
    .connects = true,
    .run = run,
};
