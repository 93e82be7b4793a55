/* Probes: asks running tasks over TCP, HTTP or by a command whether they do their work, and tells
 * unum-init the verdict. unum-init decides about restarts and keeps the state of readiness.
 *
 * A bounded number of fibers serves all tasks in the order in which they are due. One reactor. */
#ifndef UNUM_NODE_PROBES_H
#define UNUM_NODE_PROBES_H

#include "node/exec.h"
#include "schedule/job.h"

enum { PROBES_FIBERS_MAX = 16, PROBES_FIRST_PAUSE_MS = 10, PROBES_HTTP_ANSWER_BYTES_MAX = 2048 };

struct probes;

MUST_USE enum status probes_create(struct scope *scope, struct network *network,
                                   struct clock *clock, struct agent *agent,
                                   struct exec_table *execs, struct probes **ret_probes);
/* After its scope has been joined. */
void probes_destroy(struct probes *probes);
/* TASK runs as SPEC says (its probe kind is TCP, HTTP or COMMAND); copied. Known already with this
 * incarnation: nothing changes. STATUS_NO_MEMORY. */
MUST_USE enum status probes_watch(struct probes *probes, const struct id *task,
                                  uint64_t incarnation, bool is_up, const struct task_spec *spec);
/* Not running any more. */
void probes_forget(struct probes *probes, const struct id *task);

#endif
