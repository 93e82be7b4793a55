/* Process: the computer of a folder as processes of this host, for `unum up` and `unum down`.
 *
 *   DIR/up.lock   held while an `unum up` starts something
 *   DIR/up.pid    "PID START\n": the outer process of unum-init and when it began (clock ticks
 * since boot, proc(5)), so that a number that was given away again is not taken for it
 *   DIR/computer.log   what unum-init, unum-log and unumd say */
#ifndef UNUM_CLI_PROCESS_H
#define UNUM_CLI_PROCESS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    PROCESS_PATH_BYTES_MAX = 1023, /* as unum-init has it */
    PROCESS_LINE_BYTES_MAX = 400,
    PROCESS_LOG_BYTES_MAX = 4 * 1024 * 1024, /* a larger one is put aside at the next start */
};

/* The outer process that up.pid of FOLDER names; 0: none, or it has ended. */
pid_t process_find(const char *folder);
MUST_USE enum status process_remember(const char *folder, pid_t pid, struct error *error);
void process_forget(const char *folder);
/* The lock of FOLDER, as a descriptor. STATUS_BUSY: another `unum up` has it. */
MUST_USE enum status process_lock(const char *folder, int *ret_lock, struct error *error);

/* FOLDER and those above it, private to the caller; then its absolute path. */
MUST_USE enum status process_make_folder(const char *folder,
                                         char ret_path[PROCESS_PATH_BYTES_MAX + 1],
                                         struct error *error);
/* The program NAME ("unumd") that belongs to this unum: beside it, in ../lib/unum, or where the
 * build puts it. STATUS_NOT_FOUND. */
MUST_USE enum status process_find_program(const char *name,
                                          char ret_path[PROCESS_PATH_BYTES_MAX + 1],
                                          struct error *error);
/* Run it to its end. Not STATUS_OK: it failed, ERROR is the last line that it wrote to stderr. */
MUST_USE enum status process_run(char *const *arguments, struct error *error);
/* Start it in a session of its own, without terminal, its words to the file LOG. DIES_WITH_US: it
 * gets SIGTERM when this process ends. */
MUST_USE enum status process_start(char *const *arguments, const char *log, bool dies_with_us,
                                   pid_t *ret_pid, struct error *error);
/* Our child PID has ended; it is reaped then. */
bool process_has_ended(pid_t pid);
/* Wait up to TIMEOUT_MS for the end of any process; true when it has ended. */
bool process_wait_end(pid_t pid, uint64_t timeout_ms);

/* What the log says since OFFSET. */
struct process_log {
    unsigned failures;                         /* how often unumd ended by itself */
    char sentence[PROCESS_LINE_BYTES_MAX + 1]; /* the last that tells why; empty: none */
};
void process_read_log(const char *log, int64_t offset, struct process_log *ret_log);
/* The size of the log, after an oversized one was put aside. */
int64_t process_open_log(const char *log);

#endif
