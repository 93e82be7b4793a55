/* Exec: commands inside running tasks, for `unum exec` and for command probes.
 *
 * unum-init starts the command with three pipes of ours and tells when it ended. One reactor. */
#ifndef UNUM_NODE_EXEC_H
#define UNUM_NODE_EXEC_H

#include "node/agent.h"

enum {
    EXEC_RUNNING_MAX = 64, /* at once; three descriptors each */
    EXEC_EXITS_KEPT = 128, /* ends that were told before their start was answered */
    EXEC_PART_BYTES_MAX = 16 * 1024,
};

struct exec_table;

/* What comes of a command. Called in fibers of the run; may suspend; not STATUS_OK ends the run. */
struct exec_sink {
    /* STREAM 1: output, 2: errors. */
    enum status (*output)(void *context, unsigned stream, struct bytes bytes);
    /* The next input; empty: it ends. NULL: there is none. */
    enum status (*input)(void *context, struct bytes *ret_bytes);
    void *context;
};

MUST_USE enum status exec_table_create(struct agent *agent, struct exec_table **ret_table);
void exec_table_destroy(struct exec_table *table);
/* Wired to agent_events.exec_exited. */
void exec_table_exited(struct exec_table *table, const struct supervise_exec_exited *exited);

/* Run ARGUMENTS (NULL-terminated) in TASK until it ends or DEADLINE_NS passes (then it is killed).
 * ret_exit_status: as a shell has it, 128 + signal when killed. STATUS_BUSY: EXEC_RUNNING_MAX. */
MUST_USE enum status exec_run(struct exec_table *table, const struct id *task,
                              const char *const *arguments, const struct exec_sink *sink,
                              uint64_t deadline_ns, uint32_t *ret_exit_status, struct error *error);

#endif
