/* Simulated unum-init: the policy core of src/supervise under virtual time, with simulated
 * processes, behind the packets that the daemon speaks. It outlives crashes of the daemon, not
 * power losses.
 *
 * Processes behave by the first argument of their command: "steady" runs until it is told to stop;
 * "crash" ends with 1 after a while; "stubborn" ignores the stop signal; "short" ends well after a
 * while; "broken" can't be started. A process takes a while to start and its tree a while to be
 * gone.
 *
 * Checked here, independent of policy and controller: never two live incarnations of a task or of a
 * task's name, incarnation numbers only rise, no more restarts in a period than the task may have,
 * and never more memory promised than there is. */
#ifndef UNUM_SIM_SUPERVISOR_H
#define UNUM_SIM_SUPERVISOR_H

#include "base/random.h"
#include "node/agent.h"
#include "supervise/policy.h"

enum {
    SIM_SUPERVISOR_TASKS_MAX = 64,
    SIM_SUPERVISOR_EVENTS_MAX = 256,
    SIM_SUPERVISOR_PACKETS_MAX = 1024,
    SIM_SUPERVISOR_RESTARTS_MAX = 32, /* within a task's period */
};

struct sim_supervisor;

struct sim_supervisor_options {
    struct scope *scope; /* its fiber lives here, not in the machine's */
    struct clock *clock;
    uint64_t seed;
    uint64_t memory_bytes; /* of the machine */
    /* A violated promise; must not return to normal work. */
    void (*failed)(void *context, const char *text);
    /* Every change, for the timeline. */
    void (*changed)(void *context, const char *task, const char *state, const char *reason);
    void *context;
};

MUST_USE enum status sim_supervisor_create(const struct sim_supervisor_options *options,
                                           struct sim_supervisor **ret_supervisor);
void sim_supervisor_destroy(struct sim_supervisor *supervisor);
struct agent_transport *sim_supervisor_transport(struct sim_supervisor *supervisor);
/* Power loss: all tasks are gone, a new unum-init begins. */
void sim_supervisor_restart(struct sim_supervisor *supervisor);
/* A process of some running task dies (kill -9 by somebody). False: none runs. */
bool sim_supervisor_kill_one(struct sim_supervisor *supervisor);

struct sim_supervisor_figures {
    uint64_t tasks, live, up, restarts, held;
};
struct sim_supervisor_figures sim_supervisor_figures(const struct sim_supervisor *supervisor);
/* Whether a task of this name does its work. */
/* How many processes of a task of this name live. */
unsigned sim_supervisor_live_named(const struct sim_supervisor *supervisor, const char *name);
bool sim_supervisor_task_is_up(const struct sim_supervisor *supervisor, const char *name);

#endif
