/* Job: the model of what should run: limits, defaults, the specification of one task, and what a
 * change of a job means.
 *
 * A job is stored as it was written: 0 and "" stay, and mean the default at the time of use
 * (job_settings). Pure: no I/O, no clock; memory comes from the caller's arena. Not thread-safe.
 * Keys, units and ranges: docs/jobs.md. The message: proto/unum/v1/job.proto. */
#ifndef UNUM_SCHEDULE_JOB_H
#define UNUM_SCHEDULE_JOB_H

#include "base/arena.h"
#include "base/error.h"
#include "base/limits.h"
#include "unum/v1/job.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    JOB_COUNT_MAX = 10000,           /* tasks of a job */
    JOB_BYTES_MAX = 512 * 1024,      /* the packed message: a registry value with room to spare */
    JOB_COMMAND_COUNT_MAX = 256,     /* program and arguments */
    JOB_COMMAND_BYTES_MAX = 24576,   /* of all with their NULs, after substitution */
    JOB_LAUNCH_BYTES_MAX = 28672,    /* command and files, as unum-init takes arguments */
    JOB_ENVIRONMENT_COUNT_MAX = 256, /* variables of the job's own */
    JOB_ENVIRONMENT_BYTES_MAX = 24576,
    JOB_PORTS_MAX = 16,
    JOB_PORT_STEP_MAX = 1000,
    JOB_SCRATCH_COUNT_MAX = 16,
    JOB_FILES_MAX = 16,
    JOB_FILES_BYTES_MAX = 16 * 1024, /* all contents of a task, after substitution */
    JOB_LABELS_MAX = 32,
    JOB_LABEL_BYTES_MAX = 255,
    JOB_PATH_BYTES_MAX = 1023,
    JOB_FIELD_BYTES_MAX = 160, /* "environment.SOME_NAME" */
    JOB_CHANGES_MAX = 64,      /* sentences of one diff; more are counted */
    JOB_TASK_NAME_BYTES_MAX = LIMIT_NAME_BYTES_MAX,
    JOB_PERIOD_MS_MAX = 86400000, /* one day: every duration of a job */
};

/* Room for "-9999" behind the name, so that a task's name is a DNS label too. */
enum { JOB_NAME_BYTES_MAX = LIMIT_NAME_BYTES_MAX - 5 };

/* Every number and text of a job with its default in place. Texts are borrowed from the job. */
struct job_settings {
    const char *name;
    const char *project;
    uint64_t count;
    uint64_t cpu_milli; /* 0: unreserved */
    uint64_t memory_bytes;
    uint64_t processes;
    uint64_t private_network; /* 0, 1 */
    const char *working_directory;
    uint64_t restart_policy; /* UNUM__V1__RESTART__POLICY__... */
    uint64_t restart_burst;
    uint64_t restart_period_ms;
    uint64_t restart_backoff_ms;
    uint64_t restart_backoff_max_ms;
    uint64_t restart_stable_ms;
    const char *stop_signal;
    uint64_t stop_grace_ms;
    uint64_t ready_kind; /* UNUM__V1__PROBE__KIND__... */
    const char *ready_port;
    const char *ready_path;
    uint64_t ready_interval_ms;
    uint64_t ready_timeout_ms;
    uint64_t ready_failures;
    uint64_t ready_start_timeout_ms;
    uint64_t scratch_bytes; /* of all scratch folders together; 0: none */
};

void job_settings(const Unum__V1__Job *job, struct job_settings *ret_settings);

/* What a machine has, to judge a job against. */
struct job_machine {
    uint64_t cpu_milli;
    uint64_t memory_bytes;
};

/* Why a job is refused: the path of the field ("ports.http.port") and a sentence that says what is
 * allowed. The field is empty when the whole job is meant. */
struct job_refusal {
    char field[JOB_FIELD_BYTES_MAX];
    char text[ERROR_TEXT_BYTES_MAX - JOB_FIELD_BYTES_MAX - LIMIT_NAME_BYTES_MAX - 16];
};

/* STATUS_INVALID: RET_REFUSAL tells why; it is written then only. MACHINE NULL: resources are not
 * held against any machine. Accepts every message that unpacks. */
MUST_USE enum status job_validate(const Unum__V1__Job *job, const struct job_machine *machine,
                                  struct job_refusal *ret_refusal);
/* The same as one sentence: "job web: ports.http.port: must be ...". */
MUST_USE enum status job_check(const Unum__V1__Job *job, const struct job_machine *machine,
                               struct error *error);

/* A DNS label of at most SIZE_MAX_ALLOWED bytes: a-z, 0-9 and inner dashes. */
bool job_name_is_valid(const char *name, size_t size_max_allowed);

/* Bring maps into the order of their keys, so that equal jobs are equal bytes. In place. */
void job_canonicalize(Unum__V1__Job *job);

/* Number of a signal by its name ("SIGTERM", as on x86-64 and aarch64); 0: unknown. */
unsigned job_signal_number(const char *name);

/* --- the specification of one task --------------------------------------------------------------
 */

struct task_port {
    const char *name;
    uint16_t port;
};
struct task_file {
    const char *path;
    struct bytes content;
    uint32_t mode;
};
struct task_scratch {
    const char *path;
    uint64_t size_bytes;
};

/* All memory is the arena's or the job's.
 *
 * Files lie in memory file systems that are the task's own (below /run, /tmp or a scratch folder)
 * and are new for each incarnation, so something inside the task has to write them: LAUNCH is the
 * command behind a few lines of /bin/sh that do it and then become the program. Without files it
 * is the command itself. */
struct task_spec {
    const char *name; /* "web-3" */
    struct job_settings settings;
    uint32_t index;
    const char **command; /* NULL-terminated */
    size_t command_count;
    const char **launch; /* the command that also writes the files first; see below */
    size_t launch_count;
    const char **environment; /* "NAME=value", NULL-terminated, in the order of names */
    size_t environment_count;
    struct task_port *ports;
    size_t port_count;
    struct task_scratch *scratch;
    size_t scratch_count;
    struct task_file *files;
    size_t file_count;
    const char **ready_command; /* NULL-terminated; for a command probe */
    size_t ready_command_count;
    uint16_t ready_port; /* 0: none */
    unsigned stop_signal;
};

/* Expand task INDEX (< count, asserted) of a valid job. ${task}, ${index}, ${job} and ${port.NAME}
 * are replaced in command, environment, files and the probe; "$${" gives "${"; any other "${...}"
 * is left as it is. UNUM_TASK, UNUM_JOB, UNUM_INDEX, UNUM_PORT_<NAME> and a PATH are set.
 * STATUS_INVALID: too long after substitution, ERROR names the field. STATUS_NO_MEMORY. */
MUST_USE enum status job_task_spec(const Unum__V1__Job *job, uint32_t index, struct arena *arena,
                                   struct task_spec **ret_spec, struct error *error);

/* "web-3" from "web" and 3. */
void job_task_name(const char *job, uint32_t index, char ret_name[JOB_TASK_NAME_BYTES_MAX + 1]);
/* The other way round: job and index of a task's name. STATUS_INVALID: not a task's name. */
MUST_USE enum status job_task_name_parse(const char *name, char ret_job[LIMIT_NAME_BYTES_MAX + 1],
                                         uint32_t *ret_index);

/* --- changes ------------------------------------------------------------------------------------
 */

enum job_change_kind { JOB_CREATED, JOB_UPDATED, JOB_UNCHANGED };

struct job_change {
    enum job_change_kind kind;
    const char *sentences[JOB_CHANGES_MAX]; /* "count: 2 -> 8"; in the arena */
    size_t sentence_count;
    bool replaces_tasks; /* something that a running task can't take over */
    uint32_t tasks_started;
    uint32_t tasks_restarted;
    uint32_t tasks_stopped;
};

/* "create", "update", "unchanged". */
const char *job_change_kind_name(enum job_change_kind kind);

/* What applying AFTER over BEFORE (NULL: there is none) would change. Both are valid.
 * Values of the environment are never told, only their names. STATUS_NO_MEMORY. */
MUST_USE enum status job_diff(const Unum__V1__Job *before, const Unum__V1__Job *after,
                              struct arena *arena, struct job_change *ret_change);

/* Fill in what the computer writes (generation, task_generation, restart_epoch, stopped) when AFTER
 * takes the place of BEFORE (NULL: there is none), by CHANGE from job_diff. */
void job_succeed(const Unum__V1__Job *before, Unum__V1__Job *after,
                 const struct job_change *change);
/* `unum restart`: every task is replaced once. */
void job_restart(Unum__V1__Job *job);

#endif
