/* Services: unum-log and unumd, children of unum-init in the full view of the host, restarted by
 * the same policy as tasks, without any capability. */
#include "supervise/init.h"
#include "supervise/log_channel.h"
#include "supervise/raw.h"
#include "supervise/stub.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    HANDOVER_BATCH_MAX = 256, /* tasks whose pipes are handed over in one turn */
    HANDOVER_RETRY_MS = 5,
    UNUMD_ARGUMENTS_MAX = 64,
};

static const char *service_name(uint32_t slot)
{
    return slot == INIT_SLOT_LOG ? "unum-log" : "unumd";
}

void init_service_begin(struct init *init, uint32_t slot)
{
    static const struct policy_spec spec = {
        .first_incarnation = 1,
        .restarts_period_ms = 10000,
        .backoff_base_ms = 20,
        .backoff_cap_ms = 1000,
        .stable_after_ms = 5000,
        .stop_grace_ms = 5000,
        .restarts_limit = SUPERVISE_RESTARTS_MAX,
        .restart = SUPERVISE_PERMANENT,
        .stop_signal = SIGTERM,
    };
    struct policy_event event = { .kind = POLICY_WANTED, .slot = slot, .spec = &spec };
    init_feed(init, &event);
}

/* A new pair of sockets for each unum-log: what the old one never read is handed over again. */
static bool make_channel(struct init *init)
{
    if (init->files.log_ours >= 0) (void)close(init->files.log_ours);
    if (init->files.log_theirs >= 0) (void)close(init->files.log_theirs);
    int pair[2] = { -1, -1 };
    bool made = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0;
    init->files.log_ours = pair[0];
    init->files.log_theirs = pair[1];
    for (uint32_t slot = INIT_SLOT_TASKS; slot < INIT_SLOTS; slot++) {
        if (init->tasks[slot].log_has) init->tasks[slot].log_has = false; /* untouched pages stay */
    }
    init->log_handover = true;
    init->log_handover_at_ns = init->now_ns;
    return made;
}

__attribute__((noreturn)) static void die(const char *what)
{
    init_say("%s: %s", what, strerror(errno));
    _exit(126);
}

/* Become the user that owns the data. The working directory is the computer's folder already, and
 * the binary is open: whoever owns the folders above both does not matter. */
static void become_private(const struct init *init)
{
    uid_t id = init->unumd_user;
    if (id == 0) return;
    if (setgroups(0, NULL) != 0 || setresgid(id, id, id) != 0 || setresuid(id, id, id) != 0)
        die("unumd: cannot become its private user");
}

static void confine(void)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct none[2] = { 0 };
    raw_confine(0);
    (void)syscall(SYS_capset, &head, none);
}

__attribute__((noreturn)) static void run_log(struct init *init)
{
    /* Its folder is reached by this, whoever owns the folders above. */
    if (fchdir(init->files.logs) != 0) die("unum-log: cannot enter its folder");
    if (dup2(init->files.log_theirs, LOG_CHANNEL_DESCRIPTOR) < 0) die("unum-log: dup2");
    confine();
    char *argv[] = { (char *)"unum-log", NULL };
    (void)syscall(SYS_execveat, init->files.programs, "unum-log", argv, environ, 0);
    die("unum-log: cannot execute");
}

__attribute__((noreturn)) static void run_unumd(struct init *init)
{
    char *argv[UNUMD_ARGUMENTS_MAX + 2] = { (char *)init->options.unumd };
    size_t count = 1;
    for (char **argument = init->options.unumd_arguments; *argument != NULL; argument++) {
        if (count <= UNUMD_ARGUMENTS_MAX) argv[count++] = *argument;
    }
    if (fchdir(init->files.folder) != 0) die("unumd: cannot enter the folder");
    int binary = open(argv[0], O_PATH | O_CLOEXEC);
    if (binary < 0) die("unumd: cannot open its binary");
    become_private(init);
    confine();
    /* Changing the user forgets it. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)syscall(SYS_execveat, binary, "", argv, environ, AT_EMPTY_PATH);
    die("unumd: cannot execute");
}

void init_service_spawn(struct init *init, uint32_t slot, uint64_t incarnation)
{
    if (slot == INIT_SLOT_LOG && !make_channel(init)) init_say("unum-log: %s", strerror(errno));
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t none;
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (init->files.view >= 0 && setns(init->files.view, CLONE_NEWNS) != 0)
            die("cannot enter the full view");
        if (slot == INIT_SLOT_LOG) run_log(init);
        run_unumd(init);
    }
    struct policy_event event = { .slot = slot, .incarnation = incarnation };
    if (pid < 0) {
        event.kind = POLICY_EXITED;
        event.exit_kind = SUPERVISE_NOT_STARTED;
        event.exit_code = (uint32_t)errno;
        init_feed(init, &event);
        init->tasks[slot].gone_waits = true;
        init->gone_count++;
        init->gone_at_ns = init->now_ns;
        return;
    }
    init->tasks[slot].stub = pid; /* not in the index of stubs */
    event.kind = POLICY_SPAWNED;
    init_feed(init, &event);
    event.kind = POLICY_PROGRAM_RUNS;
    event.pid = (uint32_t)pid;
    init_feed(init, &event);
}

void init_service_reaped(struct init *init, uint32_t slot, const siginfo_t *info)
{
    if (!init->shutting_down)
        init_say("%s ended: %s %d", service_name(slot),
                 info->si_code == CLD_EXITED ? "status" : "signal", info->si_status);
    init->tasks[slot].stub = 0;
    struct policy_event event = { .kind = POLICY_EXITED,
                                  .slot = slot,
                                  .incarnation = init->policy_tasks[slot].incarnation,
                                  .exit_kind = info->si_code == CLD_EXITED ? SUPERVISE_EXITED
                                                                           : SUPERVISE_SIGNALED,
                                  .exit_code = (uint32_t)info->si_status };
    init_feed(init, &event);
    event.kind = POLICY_GONE;
    init_feed(init, &event);
}

/* ---- the pipes ---- */

static bool send_pipes(struct init *init, uint32_t slot, int out, int err)
{
    struct supervise_start start;
    init_task_spec(init, slot, &start);
    struct log_channel_pipes pipes = { .incarnation = init->policy_tasks[slot].incarnation,
                                       .log_bytes = start.log_bytes,
                                       .job = start.job,
                                       .name = start.name };
    uint8_t text[LOG_CHANNEL_BYTES_MAX];
    struct iovec part = { text, log_channel_encode(&pipes, text) };
    int files[2] = { out, err };
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof files)];
    } control = { .head = { CMSG_LEN(sizeof files), SOL_SOCKET, SCM_RIGHTS } };
    memcpy(CMSG_DATA(&control.head), files, sizeof files);
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    return sendmsg(init->files.log_ours, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

void init_log_hand(struct init *init, uint32_t slot, int out, int err)
{
    if (init->files.log_ours >= 0 && send_pipes(init, slot, out, err)) {
        init->tasks[slot].log_has = true;
        return;
    }
    init->log_handover = true;
    init->log_handover_at_ns = init->now_ns + HANDOVER_RETRY_MS * 1000000ull;
}

/* Take the spare read ends back from the stub. False: try again later. */
static bool hand_again(struct init *init, uint32_t slot)
{
    int process = (int)syscall(SYS_pidfd_open, init->tasks[slot].stub, 0);
    if (process < 0) return true; /* it is ending */
    int out = (int)syscall(SYS_pidfd_getfd, process, STUB_SPARE_OUT, 0);
    int err = (int)syscall(SYS_pidfd_getfd, process, STUB_SPARE_ERR, 0);
    bool done = out < 0 || err < 0 || send_pipes(init, slot, out, err);
    if (done) init->tasks[slot].log_has = true;
    if (out >= 0) (void)close(out);
    if (err >= 0) (void)close(err);
    (void)close(process);
    return done;
}

void init_log_hand_all(struct init *init)
{
    uint32_t handed = 0;
    bool again = false;
    for (uint32_t slot = INIT_SLOT_TASKS; slot < INIT_SLOTS; slot++) {
        struct init_task *task = &init->tasks[slot];
        if (task->stub == 0 || task->log_has) continue;
        /* Before its program runs, the stub's descriptors are not in their places. */
        bool runs = init->policy_tasks[slot].pid != 0;
        if (!runs || handed == HANDOVER_BATCH_MAX || !hand_again(init, slot)) {
            again = true;
            if (runs) break; /* the socket is full: unum-log reads first */
        }
        handed++;
    }
    init->log_handover = again;
    init->log_handover_at_ns = init->now_ns + HANDOVER_RETRY_MS * 1000000ull;
}
