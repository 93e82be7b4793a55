/* Tasks: makes the desired jobs so on this machine, by the controller of src/schedule and
 * unum-init, and joins desired and observed for people. One reactor. */
#ifndef UNUM_NODE_TASKS_H
#define UNUM_NODE_TASKS_H

#include "base/arena.h"
#include "node/agent.h"
#include "node/jobs.h"
#include "schedule/controller.h"
#include "unum/v1/computer.pb-c.h"

struct node;
struct tasks;

MUST_USE enum status tasks_create(struct node *node, struct tasks **ret_tasks, struct error *error);
/* After its fibers have ended with the node's scope. */
void tasks_destroy(struct tasks *tasks);
/* Something changed that the controller should look at. Does not suspend. */
void tasks_notice(struct tasks *tasks);
/* The same for one observed task (NULL: not known which): its probes follow. */
void tasks_observe(struct tasks *tasks, const struct agent_task *task);
struct node *tasks_node(const struct tasks *tasks);
/* What the controller last said of a task, one sentence; empty when nothing. */
void tasks_reason(const struct tasks *tasks, const struct jobs_entry *entry, uint32_t index,
                  char ret_text[CONTROLLER_REASON_BYTES_MAX + 1]);
struct jobs *tasks_jobs(struct tasks *tasks);

/* The tasks of JOB (NULL or "": of all jobs), by job and index; also those that do not run yet or
 * any more. In ARENA. */
MUST_USE enum status tasks_list(struct tasks *tasks, const char *job, struct arena *arena,
                                Unum__V1__Task ***ret_tasks, size_t *ret_count,
                                struct error *error);
/* The running task of this name ("web-3"). STATUS_NOT_FOUND: ERROR says what is there instead. */
MUST_USE enum status tasks_find(struct tasks *tasks, const char *name,
                                const struct agent_task **ret_task, struct error *error);

struct tasks_reserved {
    uint64_t cpu_milli, memory_bytes;
};
struct tasks_reserved tasks_reserved(const struct tasks *tasks);

#endif
