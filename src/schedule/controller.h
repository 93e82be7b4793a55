/* Controller: makes what runs on a machine become what the jobs ask for.
 *
 * Promise: controller_step is a pure function of its input and of the commands that it has given
 * and not yet seen done. It never asks for two tasks of one name, nor for more than the machine
 * has, nor for a port that another task holds; it replaces a stale task exactly once; with nothing
 * to change it asks for nothing. Repeated while the machine obeys, it ends. Per step it asks for at
 * most CONTROLLER_ACTIONS_MAX things. Cost O(n log n) in tasks and jobs. All memory is taken at
 * creation. One owner, not thread-safe.
 *
 * Use: give it everything that is known (input), perform the actions in order, report those that
 * were refused (controller_refused), and step again when something was seen to change; `more` says
 * that the bound cut the actions short. The owner draws changes together and steps once.
 *
 * Identity: the id of a task is derived (controller_task_id) from the computer, project, job, index
 * and the revision that created the job, so that nothing needs to be stored to know it again, and a
 * job removed and made anew has new tasks.
 * Incarnations carry what they were started from, highest bits first:
 *     task generation of the job (20 bits) | epoch (20 bits) | launch (24 bits)
 * unum-init counts up from there at each restart. A task whose generation is lower than the job's
 * is stale. One whose generation is higher was started by somebody who knows more: it is left
 * alone. The epoch is raised in the registry by each start of the daemon, before the first step: no
 * number is used twice, even when everything but the registry is forgotten. A launch is higher than
 * any seen in its epoch. */
#ifndef UNUM_SCHEDULE_CONTROLLER_H
#define UNUM_SCHEDULE_CONTROLLER_H

#include "base/ids.h"
#include "schedule/job.h"

enum {
    CONTROLLER_TASKS_MAX = 10000, /* of a machine; what unum-init holds */
    CONTROLLER_JOBS_MAX = 4096,
    CONTROLLER_ACTIONS_MAX = 64,
    CONTROLLER_STARTING_MAX = 128, /* tasks whose program does not run yet: a thundering herd */
    CONTROLLER_REASON_BYTES_MAX = 255,
    CONTROLLER_REFUSAL_BYTES_MAX = 127,
};

/* Of incarnations. */
#define CONTROLLER_GENERATION_MAX ((UINT64_C(1) << 20) - 1)
#define CONTROLLER_EPOCH_MAX      ((UINT64_C(1) << 20) - 1)
#define CONTROLLER_LAUNCH_MAX     ((UINT64_C(1) << 24) - 1)
static inline uint64_t controller_generation_of(uint64_t incarnation)
{
    return incarnation >> 44;
}

/* A job as it is desired. Texts are borrowed during the step. */
struct controller_job {
    const char *project;
    const char *name;
    uint64_t create_revision; /* of its registry key; the order of service */
    uint64_t task_generation;
    uint32_t count;
    bool stopped;
    bool private_network; /* its ports are nobody else's */
    uint64_t cpu_milli;   /* of each task; 0: none set aside */
    uint64_t memory_bytes;
    uint16_t ports[JOB_PORTS_MAX];
    uint16_t steps[JOB_PORTS_MAX];
    size_t port_count;
};

/* From a valid job. */
struct controller_job controller_job_of(const Unum__V1__Job *job, uint64_t create_revision);

enum controller_state {
    CONTROLLER_STARTING, /* its program does not run yet */
    CONTROLLER_RUNNING,
    CONTROLLER_WAITING, /* backoff, held: unum-init will start it again */
    CONTROLLER_STOPPING,
    CONTROLLER_STOPPED,  /* because it was told */
    CONTROLLER_FINISHED, /* by its policy: done, or failed for good */
};

/* A task as it is observed. */
struct controller_task {
    struct id id;
    uint64_t incarnation;
    enum controller_state state;
    bool up; /* does its work */
    char project[LIMIT_NAME_BYTES_MAX + 1];
    char job[LIMIT_NAME_BYTES_MAX + 1];
    uint32_t index;
    /* What it holds, when the observer knows it; else what the controller remembers counts, or, of
     * a task that it did not start itself, what its job asks for now. */
    bool holdings_known;
    uint64_t cpu_milli;
    uint64_t memory_bytes;
    uint16_t ports[JOB_PORTS_MAX]; /* of the host */
    size_t port_count;
};

struct controller_input {
    bool complete;    /* both lists are whole; else nothing is asked */
    uint64_t session; /* of the link to unum-init: another one, and `tasks` alone tells what runs */
    uint64_t epoch;   /* 1..CONTROLLER_EPOCH_MAX */
    uint64_t retry;   /* raised by a timer (some seconds): what was refused is tried again */
    struct id computer;
    uint64_t cpu_milli; /* of the machine, for tasks */
    uint64_t memory_bytes;
    uint32_t tasks_max;                  /* at most CONTROLLER_TASKS_MAX */
    const struct controller_job *jobs;   /* in any order, each (project, name) once */
    size_t job_count;                    /* at most CONTROLLER_JOBS_MAX, asserted */
    const struct controller_task *tasks; /* in any order, each id once */
    size_t task_count;                   /* at most CONTROLLER_TASKS_MAX, asserted */
};

enum controller_action_kind { CONTROLLER_START, CONTROLLER_STOP, CONTROLLER_DROP };

struct controller_action {
    enum controller_action_kind kind;
    struct id task;
    uint64_t incarnation; /* START: the first to use */
    uint32_t job;         /* START: which of input.jobs */
    uint32_t index;
};

struct controller_output {
    struct controller_action actions[CONTROLLER_ACTIONS_MAX];
    size_t action_count;
    bool more; /* step again once these are performed */
    uint64_t cpu_milli_reserved;
    uint64_t memory_bytes_reserved;
};

struct controller;

MUST_USE enum status controller_create(struct controller **ret_controller);
void controller_destroy(struct controller *controller);

void controller_step(struct controller *controller, const struct controller_input *input,
                     struct controller_output *ret_output);

/* An action was refused or its fate is unknown. It is asked again when input.retry is raised, or at
 * once when INPUT.session changes. TEXT may be NULL. */
void controller_refused(struct controller *controller, const struct controller_action *action,
                        const char *text);

/* Why the last step left task INDEX of job JOB (of its input) as it is, in one sentence: "runs",
 * "refused: needs 3 cores, the machine has 2", "waits: port 8081 is held by web-1". */
void controller_reason(const struct controller *controller, uint32_t job, uint32_t index,
                       char ret_text[CONTROLLER_REASON_BYTES_MAX + 1]);
/* The same for tasks that can't become anything else but wait or be refused; false otherwise. */
bool controller_is_kept_out(const struct controller *controller, uint32_t job, uint32_t index);

void controller_task_id(const struct id *computer, const struct controller_job *job, uint32_t index,
                        struct id *ret_id);

#endif
