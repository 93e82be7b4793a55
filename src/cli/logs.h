/* Showing the output of tasks, for `unum logs` and `unum run --follow`. */
#ifndef UNUM_CLI_LOGS_H
#define UNUM_CLI_LOGS_H

#include "cli/cli.h"

struct logs_options {
    const char *name; /* a job or a task */
    bool follow;
    bool times;
    uint32_t lines; /* of each task; 0: as the computer thinks best */
};

int logs_show(struct cli *cli, const struct logs_options *options);

#endif
