/* Init: the state of unum-init and what its parts offer each other.
 *
 * One thread, one epoll loop; every decision is the policy's (policy.h), these files perform it:
 *   init_main.c     arguments, the waiting parent, becoming PID 1
 *   init_host.c     what this machine can do; the base cgroup; the view of the host that tasks get
 *   init_loop.c     events, timers, reaping, performing actions
 *   init_task.c     making and killing an incarnation
 *   init_service.c  unum-log and unumd, supervised by the same policy
 *   init_client.c   requests of unumd, the ring of events
 *   init_exec.c     a command inside a task's namespaces
 *   init_notify.c   words from stubs and from sd_notify
 *   init_zombie.c   the slow scan for children that nobody reaps
 *   init_save.c     its own state across a re-execution
 * No descriptor is held per task: the limit is 20,000 and tasks may be 10,000. */
#ifndef UNUM_SUPERVISE_INIT_H
#define UNUM_SUPERVISE_INIT_H

#include "supervise/policy.h"
#include "supervise/protocol.h"

#include <signal.h>
#include <stdio.h>
#include <sys/types.h>

enum {
    INIT_SLOT_LOG = 0, /* the two services stand in the same table as tasks */
    INIT_SLOT_UNUMD = 1,
    INIT_SLOT_TASKS = 2, /* the first task */
    INIT_SLOTS = SUPERVISE_TASKS_MAX + INIT_SLOT_TASKS,
    INIT_INDEX_SIZE = 32768, /* of hash tables over slots; a power of 2, over twice the entries */
    INIT_IDS_PER_TASK = 65536,
    INIT_ID_BASE = 1 << 30, /* of the private id ranges; above what distributions hand out */
    INIT_ID_AREAS = 4,      /* computers on one host with disjoint ranges */
    INIT_EXECS_MAX = 256,   /* commands by EXEC at the same time */
    INIT_RING_BYTES = 512 * 1024,
    INIT_GONE_RETRY_MAX_MS = 100, /* a cgroup that is not empty yet is tried again */
};

_Static_assert(INIT_INDEX_SIZE > 3 * INIT_SLOTS, "open addressing stays sparse");
_Static_assert((uint64_t)INIT_ID_BASE + (uint64_t)INIT_ID_AREAS * INIT_SLOTS * INIT_IDS_PER_TASK <
                   UINT32_MAX,
               "every slot of every area has a range of ids");

/* What the policy does not need to know about a task. */
struct init_task {
    struct id id;
    uint8_t *spec; /* its START as encoded, owned */
    uint32_t spec_size;
    pid_t stub;          /* 0: none lives */
    uint64_t leaf;       /* incarnation whose cgroup leaf exists; 0: none */
    uint32_t host_pid;   /* the program's */
    uint32_t exec_count; /* commands by EXEC inside */
    uint64_t event;      /* sequence of its newest event */
    uint16_t gone_wait_ms;
    bool gone_waits;     /* its processes are reaped, its cgroup is not empty yet */
    uint8_t told_signal; /* the stub told that this ended the program; 0: nothing */
    bool log_has;        /* the present unum-log got this incarnation's pipes */
};

struct init_exec {
    struct id task;
    uint64_t request;
    pid_t pid; /* 0: free */
    uint32_t slot;
};

/* Events in their encoded form, the oldest overwritten by the newest. */
struct init_ring {
    uint8_t bytes[INIT_RING_BYTES];
    uint64_t head; /* where the next is written; offsets grow for ever */
    uint64_t tail;
    uint64_t first; /* sequence at the tail */
    uint64_t last;  /* newest sequence; 0: none */
};

struct init_client {
    int descriptor; /* -1: none */
    bool greeted;
    bool streams;       /* events are wanted */
    bool lists;         /* a LIST is under way */
    bool full;          /* the socket was full: wait until it is writable */
    bool watched_full;  /* epoll waits for that, not for requests */
    uint32_t list_slot; /* next to send */
    uint64_t list_request;
    uint64_t list_count;
    uint64_t event_offset; /* next in the ring */
    uint64_t event_next;   /* its sequence */
    size_t pending_size;   /* an answer that did not fit the socket */
    uint8_t pending[2048];
};

struct init_options {
    const char *folder;     /* absolute */
    const char *unumd;      /* NULL: none is started */
    char **unumd_arguments; /* NULL-terminated, after argv[0] */
    bool pid1;
};

/* Descriptors that live as long as unum-init, also across re-execution. */
struct init_files {
    int folder;     /* the computer's */
    int logs;       /* folder/logs */
    int listener;   /* supervise.sock */
    int notify;     /* datagrams of stubs and sd_notify */
    int log_ours;   /* our end of the channel to unum-log */
    int log_theirs; /* its end, kept so that messages wait while it restarts */
    int cgroup;     /* the base cgroup; -1: none */
    int proc;       /* /proc of our PID namespace */
    int host_proc;  /* /proc of the host; -1 as real PID 1 */
    int view;       /* the full mount namespace, for services; -1: not separated */
    int root;       /* its root */
    int stub;       /* the binary */
    int programs;   /* the folder of our binaries */
    int null;
    int area; /* an abstract socket whose name says that the area of ids is ours */
    int lock; /* exclusive, so that a second unum-init on the folder is refused */
};

struct init {
    struct init_options options;
    struct init_files files;
    struct policy policy;
    struct policy_task *policy_tasks;
    uint32_t *policy_heap;
    struct init_task *tasks; /* by slot */
    uint32_t *by_id;         /* slot + 1, hashed by task id */
    uint32_t *by_pid;        /* slot + 1, hashed by the stub's pid */
    uint32_t slot_next;      /* where the search for a free slot begins */
    struct init_exec execs[INIT_EXECS_MAX];
    struct init_ring *ring;
    struct init_client client;
    uint32_t features;
    char missing[ERROR_TEXT_BYTES_MAX];
    char cgroup_name[64]; /* below our own cgroup */
    uint64_t instance;
    uint64_t started_at_ns;
    uint64_t now_ns; /* CLOCK_BOOTTIME, taken once per turn of the loop */
    uint32_t reexec_count;
    uint32_t id_base; /* of our area; slot 0's range begins here */
    uid_t unumd_user; /* 0: keeps our user id, without capabilities */
    bool rootless;
    bool shutting_down;
    bool reexec_wanted;
    char reexec_binary[SUPERVISE_PATH_BYTES_MAX + 1];
    int epoll;
    int signals;
    int timer;
    uint64_t timer_at_ns;
    uint32_t *pids_wanted; /* ring of slots whose host pid is to be found when there is time */
    uint32_t pids_head, pids_tail;
    uint64_t pids_at_ns; /* 0: none is wanted */
    uint32_t gone_count; /* tasks whose cgroup is to be tried again */
    uint64_t gone_at_ns;
    uint64_t zombie_scan_at_ns;
    struct init_zombies *zombies;
    struct init_spawn *spawn; /* what a child that shares our memory reads until it executes */
    bool log_handover;        /* some running task's pipes are not in unum-log's hands */
    uint64_t log_handover_at_ns;
};

/* init_host.c */
uint64_t init_clock_ns(void);
MUST_USE enum status init_host_open(struct init *init, struct error *error);
MUST_USE enum status init_host_view(struct init *init, struct error *error);
/* Everything below the base cgroup that is empty goes. */
void init_host_sweep(struct init *init);
/* A fresh instance of /proc for us: with the old one goes what the kernel remembers of each process
 * that was looked at, several KB each. */
void init_host_renew_proc(struct init *init);
/* By the waiting parent, after everything has ended: the base cgroup goes. */
void init_host_remove(struct init *init);

/* init_loop.c */
void init_loop_run(struct init *init);
void init_feed(struct init *init, struct policy_event *event);
void init_arm(struct init *init);
/* Stop all tasks, then unumd, then unum-log, then end. */
void init_shut_down(struct init *init);
/* The loop watches the client's socket for writability too, or no longer. */
void init_watch_client(struct init *init, bool add, bool writable);

/* init_task.c */
MUST_USE enum status init_spawn_create(struct init_spawn **ret_spawn);
uint32_t init_find(const struct init *init, const struct id *id); /* slot; 0: unknown */
uint32_t init_find_pid(const struct init *init, pid_t pid);       /* slot; 0: not a stub */
/* STATUS_EXISTS, STATUS_BUSY when the table is full, STATUS_NO_MEMORY. */
MUST_USE enum status init_task_add(struct init *init, const struct supervise_start *start,
                                   struct bytes packet, uint32_t *ret_slot, struct error *error);
void init_task_remove(struct init *init, uint32_t slot);
void init_task_index(struct init *init, uint32_t slot); /* after loading */
void init_task_spec(const struct init *init, uint32_t slot, struct supervise_start *ret_start);
void init_task_spawn(struct init *init, uint32_t slot, uint64_t incarnation);
void init_task_kill(struct init *init, uint32_t slot);
/* The stub is reaped. */
void init_task_reaped(struct init *init, uint32_t slot, const siginfo_t *info);
/* Report GONE if nothing of the incarnation is left, else try again soon. */
void init_task_check_gone(struct init *init, uint32_t slot);
int init_task_open_leaf(const struct init *init, uint32_t slot);

/* init_service.c */
void init_service_spawn(struct init *init, uint32_t slot, uint64_t incarnation);
void init_service_begin(struct init *init, uint32_t slot);
void init_service_reaped(struct init *init, uint32_t slot, const siginfo_t *info);
/* Hand the read ends of an incarnation's pipes to unum-log; they stay the caller's. */
void init_log_hand(struct init *init, uint32_t slot, int out, int err);
/* After a new unum-log: hand over the pipes of what runs, a bounded number per call. */
void init_log_hand_all(struct init *init);

/* init_client.c */
void init_client_accept(struct init *init);
void init_client_readable(struct init *init);
void init_client_flush(struct init *init);
void init_client_close(struct init *init);
void init_event(struct init *init, struct supervise_message *message);
void init_report(struct init *init, uint32_t slot);
void init_state_message(const struct init *init, uint32_t slot,
                        struct supervise_message *ret_message);

/* init_exec.c */
MUST_USE enum status init_exec_start(struct init *init, const struct supervise_message *message,
                                     const int descriptors[SUPERVISE_EXEC_DESCRIPTORS],
                                     struct error *error);
MUST_USE enum status init_exec_signal(struct init *init, uint64_t request, int signal);
/* True: it was one of the commands. */
bool init_exec_reaped(struct init *init, const siginfo_t *info);

/* init_notify.c */
MUST_USE enum status init_notify_bind(struct init *init, struct error *error);
void init_notify_readable(struct init *init);

/* init_zombie.c */
void init_zombie_scan(struct init *init);

/* init_save.c */
/* Executes the binary anew; returns only when that failed. */
void init_reexec(struct init *init);
MUST_USE enum status init_resume(struct init *init, int memory, struct error *error);

/* A line on standard error, with the time. */
void init_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
