/* Supervise protocol: the messages between unumd (client) and unum-init (server).
 *
 * One SOCK_SEQPACKET Unix socket, one message per packet, little-endian, fixed layout:
 * docs/formats/supervise-protocol.md. The server accepts one client; a newer connection replaces
 * the older one. The first request is HELLO. Each request gets exactly one answer that carries
 * its number: WELCOME, RESULT, or for LIST a TASK_STATE per task and then END. Events carry
 * request 0 and a sequence number; EVENTS_SINCE chooses where the stream begins, and END tells
 * whether the ring had already dropped some. Until EVENTS_SINCE is asked no event is sent.
 *
 * Promise: decode never reads outside the packet, accepts only what encode can write (same bytes
 * back), and names the field that is wrong. Decoded texts and strings are borrowed from the
 * packet. Times are CLOCK_BOOTTIME nanoseconds. Pure: no I/O, no allocation, no state. */
#ifndef UNUM_SUPERVISE_PROTOCOL_H
#define UNUM_SUPERVISE_PROTOCOL_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/ids.h"
#include "base/limits.h"

/* In the computer's folder. A folder whose path is too long for a socket address is reached through
 * a descriptor: "/proc/self/fd/N/" before the name. */
#define SUPERVISE_SOCKET_NAME "supervise.sock"
#define SUPERVISE_LOGS_NAME   "logs" /* logs/JOB/TASK/..., docs/formats/log.md */

/* The user that `unum up`, as root, makes the owner of the computer's data: unum-init runs unumd as
 * whoever owns DIR/data. Below the ids of tasks, above what distributions hand out. */
#define SUPERVISE_UNUMD_USER 1073741824u

enum {
    SUPERVISE_VERSION = 1,
    SUPERVISE_HEAD_BYTES = 16,
    SUPERVISE_MESSAGE_BYTES_MAX = 65536, /* fits the default send buffer of a Unix socket */
    SUPERVISE_PATH_BYTES_MAX = 1023,     /* working directory, binary, writable path */
    SUPERVISE_STRINGS_BYTES_MAX = 28672, /* argv, and env, each; with their NULs */
    SUPERVISE_STRINGS_COUNT_MAX = 1024,  /* arguments, and variables, each */
    SUPERVISE_WRITABLE_BYTES_MAX = 4096, /* the list of writable paths with its NULs */
    SUPERVISE_WRITABLE_COUNT_MAX = 16,   /* each is a mount of the task */
    SUPERVISE_REASON_BYTES_MAX = 255,    /* a sentence for `unum why` */
    SUPERVISE_PORTS_MAX = 16,            /* listen ports told for a task */
    SUPERVISE_RESTARTS_MAX = 20,         /* n of "n restarts in a sliding period" */
    SUPERVISE_PERIOD_MS_MAX = 86400000,  /* one day: period, backoff, stable time, timeouts */
    SUPERVISE_EXEC_DESCRIPTORS = 3,      /* stdin, stdout, stderr, by SCM_RIGHTS with EXEC */
    SUPERVISE_TASKS_MAX = 10000,         /* tasks of one machine */
};

enum supervise_kind {
    /* requests */
    SUPERVISE_HELLO = 1,
    SUPERVISE_START = 2,        /* make a task known and wanted; the same task again is EXISTS */
    SUPERVISE_STOP = 3,         /* stop signal, after the grace time its whole tree is killed */
    SUPERVISE_RESTART = 4,      /* stop as above, then start; not counted as a failure */
    SUPERVISE_REPORT_READY = 5, /* verdict of a probe that unumd ran */
    SUPERVISE_LIST = 6,
    SUPERVISE_EXEC = 7, /* a command inside the task's namespaces, with 3 descriptors */
    SUPERVISE_KILL = 8, /* kill the tree now; the restart policy then decides */
    SUPERVISE_DROP = 9, /* forget a task that is stopped, done or failed; else BUSY */
    SUPERVISE_REEXEC = 10,
    SUPERVISE_SHUTDOWN = 11, /* stop all tasks, then unum-init ends */
    SUPERVISE_EVENTS_SINCE = 12,
    SUPERVISE_RENEW_LEASE = 13,
    SUPERVISE_EXEC_SIGNAL = 14, /* a signal to a command that EXEC started */
    /* answers and events */
    SUPERVISE_WELCOME = 64,
    SUPERVISE_RESULT = 65,
    SUPERVISE_END = 66,
    SUPERVISE_TASK_STATE = 67, /* answer of LIST and event */
    SUPERVISE_EXEC_EXITED = 68,
    SUPERVISE_ZOMBIE_FOUND = 69,
    SUPERVISE_TASK_DROPPED = 70, /* event: the task is forgotten */
};

enum supervise_state {
    SUPERVISE_PENDING = 0,  /* known; its first process is not made yet */
    SUPERVISE_STARTING = 1, /* the process is made, the program does not run yet */
    SUPERVISE_RUNNING = 2,  /* the program runs; not ready, unless readiness is none */
    SUPERVISE_READY = 3,
    SUPERVISE_STOPPING = 4, /* told to end, or ended with processes left that are being killed */
    SUPERVISE_BACKOFF = 5,  /* waits `next_start_ns` after a failure */
    SUPERVISE_HELD = 6,     /* restarted too often: held back until `next_start_ns` */
    SUPERVISE_FAILED = 7,   /* ended badly and is not restarted (temporary) */
    SUPERVISE_STOPPED = 8,  /* ended because STOP was asked */
    SUPERVISE_DONE = 9,     /* ended well and is not restarted */
    SUPERVISE_STATE_COUNT
};

enum supervise_restart {
    SUPERVISE_PERMANENT = 0, /* always restarted */
    SUPERVISE_TRANSIENT = 1, /* restarted after a failure */
    SUPERVISE_TEMPORARY = 2, /* never restarted */
    SUPERVISE_RESTART_COUNT
};

enum supervise_readiness {
    SUPERVISE_READINESS_NONE = 0,   /* up as soon as the program runs: RUNNING, `up` is true */
    SUPERVISE_READINESS_NOTIFY = 1, /* READY=1 on NOTIFY_SOCKET */
    SUPERVISE_READINESS_PROBE = 2,  /* unumd probes and sends REPORT_READY */
    SUPERVISE_READINESS_COUNT
};

/* Flags of START. */
enum {
    SUPERVISE_OWN_NETWORK = 1u << 0, /* a network namespace of its own, with only a loopback */
    SUPERVISE_EXCLUSIVE = 1u << 1,   /* runs only while its task lease holds (RENEW_LEASE) */
    SUPERVISE_FLAGS_ALL = 3u,
};

/* How a program ended. */
enum supervise_exit {
    SUPERVISE_EXIT_NONE = 0,   /* has not ended yet */
    SUPERVISE_EXITED = 1,      /* exit_code is its exit status */
    SUPERVISE_SIGNALED = 2,    /* exit_code is the signal's number */
    SUPERVISE_NOT_STARTED = 3, /* exit_code is an errno; the reason names the step */
    SUPERVISE_EXIT_COUNT
};

/* What WELCOME's `features` says this machine and these rights can do. A missing one is named with
 * its cause in `missing`. */
enum {
    SUPERVISE_FEATURE_ID_RANGE = 1u << 0, /* a private range of 65,536 user ids per task */
    SUPERVISE_FEATURE_CGROUP = 1u << 1,   /* a leaf of cgroup v2 per incarnation, cgroup.kill */
    SUPERVISE_FEATURE_CPU = 1u << 2,      /* limits: the v2 controller is there */
    SUPERVISE_FEATURE_MEMORY = 1u << 3,
    SUPERVISE_FEATURE_PIDS = 1u << 4,
    SUPERVISE_FEATURE_NETWORK = 1u << 5, /* network namespaces */
    SUPERVISE_FEATURES_ALL = 63u,
};

/* NUL-terminated strings one after the other. Empty: count 0. */
struct supervise_strings {
    struct bytes bytes;
    uint32_t count;
};

struct supervise_hello {
    uint32_t version; /* the client's; the server answers UNSUPPORTED for one that it lacks */
};

struct supervise_welcome {
    uint32_t version;
    uint32_t features;
    uint64_t instance;      /* random, of this unum-init; another one: event numbers began anew */
    uint64_t started_at_ns; /* when this unum-init began; kept across REEXEC */
    uint64_t event_last;    /* sequence of the newest event; 0: none yet */
    uint64_t event_first;   /* the oldest that the ring still has */
    uint32_t task_count;
    uint32_t reexec_count;
    struct bytes missing; /* sentence: what is absent here and why; empty when nothing is */
};

struct supervise_start {
    struct id task;
    uint64_t incarnation; /* the first to use, at least 1; restarts count up from it */
    uint32_t flags;
    uint8_t restart;             /* enum supervise_restart */
    uint8_t readiness;           /* enum supervise_readiness */
    uint8_t stop_signal;         /* 1..31; 15 is SIGTERM */
    uint8_t restarts_limit;      /* n restarts ... 1..SUPERVISE_RESTARTS_MAX */
    uint32_t restarts_period_ms; /* ... in this sliding period, at least 1 */
    uint32_t backoff_base_ms; /* 0: no waiting. First restart at once, then base * 2^k, jittered */
    uint32_t backoff_cap_ms;  /* at least the base */
    uint32_t stable_after_ms; /* k and the waiting begin anew after such a run */
    uint32_t stop_grace_ms;
    uint32_t start_timeout_ms; /* until ready; 0: none */
    uint32_t zombie_after_ms;  /* an exited child unreaped that long kills the tree; 0: never */
    uint32_t cpu_milli;        /* 0: no limit, here and below */
    uint32_t processes_max;
    uint64_t memory_bytes;
    uint64_t scratch_bytes;  /* size of the task's writable memory file system; at least 64 KiB */
    uint64_t log_bytes;      /* kept output; 0: unum-log's default */
    uint64_t lease_until_ns; /* with EXCLUSIVE: boot time up to which it may run */
    uint16_t ports[SUPERVISE_PORTS_MAX]; /* told for `unum ps`; unum-init does not open them */
    uint32_t port_count;
    struct bytes job;              /* 1..LIMIT_NAME_BYTES_MAX, a name: letters, digits, - _ . */
    struct bytes name;             /* likewise: the task's, the folder of its log, its host name */
    struct bytes folder;           /* working directory, absolute; empty: "/" */
    struct supervise_strings argv; /* at least one; the program is found by PATH of env */
    struct supervise_strings env;  /* NAME=value */
    struct supervise_strings writable; /* absolute paths of the host that get scratch on top */
};

/* STOP, RESTART, KILL, DROP. */
struct supervise_task {
    struct id task;
};

struct supervise_report_ready {
    struct id task;
    uint64_t incarnation; /* another than the running one: CONFLICT, nothing changes */
    uint8_t ready;        /* 1: ready, 0: failing */
    struct bytes reason;
};

struct supervise_exec {
    struct id task;
    struct bytes folder;
    struct supervise_strings argv;
    struct supervise_strings env;
};

struct supervise_exec_signal {
    uint64_t exec; /* the request number of its EXEC */
    uint8_t signal;
};

struct supervise_reexec {
    struct bytes binary; /* absolute path; empty: the one that runs */
};

struct supervise_events_since {
    uint64_t sequence; /* the last one seen; the stream begins with the next */
};

struct supervise_renew_lease {
    struct id task;
    uint64_t lease_until_ns;
};

struct supervise_result {
    enum status status; /* has a number of its own on the wire */
    uint64_t value;     /* for START: the incarnation; for EXEC: its number for EXEC_EXITED */
    struct bytes text;  /* the error's sentence */
};

/* End of LIST (count of tasks), and answer of EVENTS_SINCE (missed events). */
struct supervise_end {
    uint64_t count;
    uint64_t event_last;
};

struct supervise_task_state {
    uint64_t sequence; /* of the event; in LIST that of the task's newest event */
    struct id task;
    uint64_t incarnation;
    uint8_t state;     /* enum supervise_state */
    uint8_t up;        /* 1: does its work (ready, or running when readiness is none) */
    uint8_t exit_kind; /* enum supervise_exit, of the last run */
    uint32_t exit_code;
    uint32_t pid;      /* the program's, in unum-init's PID namespace; 0: none */
    uint32_t host_pid; /* the same as the host numbers it; 0: none or not yet known (20 ms) */
    uint32_t restarts; /* since START, not counting those asked for */
    uint32_t failures; /* k of the backoff */
    uint64_t started_at_ns;
    uint64_t ended_at_ns;
    uint64_t next_start_ns; /* with BACKOFF and HELD */
    /* What its START reserves, for a daemon that did not send it. */
    uint32_t cpu_milli;
    uint64_t memory_bytes;
    uint16_t ports[SUPERVISE_PORTS_MAX]; /* of the host: none with a network of its own */
    uint32_t port_count;
    struct bytes job;
    struct bytes name;
    struct bytes reason;
};

struct supervise_exec_exited {
    uint64_t sequence;
    struct id task;
    uint64_t exec;
    uint8_t exit_kind;
    uint32_t exit_code;
};

struct supervise_zombie_found {
    uint64_t sequence;
    struct id task;
    uint64_t incarnation;
    uint32_t parent_pid; /* in unum-init's PID namespace */
    uint32_t zombie_pid;
    uint64_t age_ms;
    struct bytes parent_name; /* the kernel's short name of the parent, at most 15 bytes */
};

struct supervise_task_dropped {
    uint64_t sequence;
    struct id task;
};

struct supervise_message {
    enum supervise_kind kind;
    uint64_t request; /* the client's number, from 1; 0 in events */
    union {
        struct supervise_hello hello;
        struct supervise_start start;
        struct supervise_task task; /* STOP, RESTART, KILL, DROP */
        struct supervise_report_ready report_ready;
        struct supervise_exec exec;
        struct supervise_exec_signal exec_signal;
        struct supervise_reexec reexec;
        struct supervise_events_since events_since;
        struct supervise_renew_lease renew_lease;
        struct supervise_welcome welcome;
        struct supervise_result result;
        struct supervise_end end;
        struct supervise_task_state task_state;
        struct supervise_exec_exited exec_exited;
        struct supervise_zombie_found zombie_found;
        struct supervise_task_dropped task_dropped;
    }; /* LIST and SHUTDOWN have no body */
};

_Static_assert(SUPERVISE_HEAD_BYTES + 512 + 2 * LIMIT_NAME_BYTES_MAX + SUPERVISE_PATH_BYTES_MAX +
                       2 * SUPERVISE_STRINGS_BYTES_MAX + SUPERVISE_WRITABLE_BYTES_MAX <=
                   SUPERVISE_MESSAGE_BYTES_MAX,
               "the largest START fits a packet");

/* Write MESSAGE into MEMORY (SUPERVISE_MESSAGE_BYTES_MAX always suffices for a valid one).
 * STATUS_INVALID: a field is out of its range, ERROR names it; STATUS_FULL: MEMORY is too small. */
MUST_USE enum status supervise_encode(const struct supervise_message *message, void *memory,
                                      size_t size, size_t *ret_size, struct error *error);

/* Read one packet. STATUS_INVALID: not such a message, ERROR names the field;
 * STATUS_UNSUPPORTED: of another version. */
MUST_USE enum status supervise_decode(struct bytes packet, struct supervise_message *ret_message,
                                      struct error *error);

/* "ready", "held", ...; "?" out of range. */
const char *supervise_state_name(unsigned state);

/* Append one string with its NUL to strings kept in MEMORY of SIZE bytes.
 * STATUS_FULL: it does not fit, nothing changes. */
MUST_USE enum status supervise_strings_add(struct supervise_strings *strings, char *memory,
                                           size_t size, const char *text);

/* Set RET_POINTERS[0..count] to the strings, with a closing NULL; ROOM > count, asserted. */
void supervise_strings_point(const struct supervise_strings *strings, const char **ret_pointers,
                             size_t room);

/* Sensible values for every number of START; the caller adds task, names and argv. */
struct supervise_start supervise_start_defaults(void);

#endif
