/* Stub: what unum-init and the first process of a task's namespaces say to each other.
 *
 * unum-init executes the stub with these arguments, then those of the program:
 *   argv[0]  "unum-stub"
 *   argv[1]  flags, a sum of STUB_...
 *   argv[2]  options of the scratch file system, e.g. "mode=755,size=64k"
 *   argv[3]  host name
 *   argv[4]  working directory
 *   argv[5]  paths that get scratch on top, each ended by a newline
 * and these descriptors: 0 /dev/null, 1 and 2 the write ends of the output pipes, 3 and 4 spare
 * read ends of the same, so that no line is lost and no writer is killed while unum-log restarts.
 *
 * The stub's exit status is the program's. Before that it sends datagrams of 8 bytes to
 * STUB_SOCKET: STUB_MARK, kind, step, 0, then a u32:
 *   STUB_RUNS    the program is executed; the sender's credentials carry the program's pid
 *   STUB_FAILED  step (enum stub_step) failed with errno
 *   STUB_KILLED  the program was ended by signal */
#ifndef UNUM_SUPERVISE_STUB_H
#define UNUM_SUPERVISE_STUB_H

#define STUB_SOCKET "/dev/unum/notify" /* also every task's NOTIFY_SOCKET */

enum { STUB_MARK = 0xf1, STUB_MESSAGE_BYTES = 8, STUB_ARGUMENTS = 6 };
enum { STUB_SPARE_OUT = 3, STUB_SPARE_ERR = 4 };

enum {
    STUB_ISOLATED = 1,    /* own mounts: /proc, scratch, host name */
    STUB_OWN_NETWORK = 2, /* bring the loopback interface up */
};

enum { STUB_RUNS = 1, STUB_FAILED = 2, STUB_KILLED = 3 };

enum stub_step {
    STUB_STEP_PROC = 1,
    STUB_STEP_SCRATCH = 2,
    STUB_STEP_WRITABLE = 3,
    STUB_STEP_FOLDER = 4,
    STUB_STEP_PROGRAM = 5,
    STUB_STEP_FORK = 6,
    STUB_STEP_COUNT
};

#endif
