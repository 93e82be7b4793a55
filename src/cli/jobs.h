/* What `unum apply`, `unum plan` and `unum run` share. */
#ifndef UNUM_CLI_JOBS_H
#define UNUM_CLI_JOBS_H

#include "cli/call.h"
#include "unum/v1/computer.pb-c.h"

/* The jobs of all files given as arguments become cli->prepared, an ApplyRequest. CLI_DONE, or a
 * failure that has been told. */
int jobs_prepare(struct cli *cli);
/* An empty request in the arena; NULL after telling that there is no memory. */
Unum__V1__ApplyRequest *jobs_make_request(struct cli *cli);
/* "create web: 8 tasks start", and what changes; DONE: it has happened. */
void jobs_write_change(struct cli *cli, const Unum__V1__Change *change, bool done);
/* Send it and tell what came of it. */
int jobs_apply(struct cli *cli, Unum__V1__ApplyRequest *request, bool quiet);

#endif
