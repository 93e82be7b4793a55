/* Exec: a command inside a task's namespaces, as our own direct child.
 *
 * A short-lived helper that shares our memory joins the namespaces of the task's stub, and from
 * inside makes the command with CLONE_PARENT: so the command has the task's PID namespace, and we
 * get its exit status ourselves. */
#include "supervise/init.h"
#include "supervise/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct exec_plan {
    const char *argv[SUPERVISE_STRINGS_COUNT_MAX + 1];
    const char *envp[SUPERVISE_STRINGS_COUNT_MAX + 2];
    const char *folder;
    int process; /* pidfd of the stub */
    int spaces;  /* of it to join */
    int leaf;    /* cgroup.procs of the task's leaf; -1: none */
    int files[SUPERVISE_EXEC_DESCRIPTORS];
    int error;
    const char *step;
    pid_t pid;
};

__attribute__((noreturn)) static void run_command(const struct exec_plan *plan)
{
    static const char sentence[] = "unum: cannot execute the command\n";
    uint64_t none = 0;
    (void)RAW(SYS_setsid, 0, 0, 0, 0, 0);
    (void)RAW(SYS_setgroups, 0, 0, 0, 0, 0);
    (void)RAW(SYS_setresgid, 0, 0, 0, 0, 0);
    (void)RAW(SYS_setresuid, 0, 0, 0, 0, 0);
    for (int i = 0; i < SUPERVISE_EXEC_DESCRIPTORS; i++)
        (void)RAW(SYS_dup3, plan->files[i], i, 0, 0, 0);
    (void)RAW(SYS_chdir, plan->folder, 0, 0, 0, 0);
    raw_confine(raw_capabilities_kept);
    (void)RAW(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, 8, 0);
    int error = raw_execute((char *const *)plan->argv, (char *const *)plan->envp);
    (void)RAW(SYS_write, 2, sentence, sizeof sentence - 1, 0, 0);
    /* As a shell has it: 127 not found, 126 not executable. */
    for (;;) (void)RAW(SYS_exit_group, error == RAW_ENOENT ? 127 : 126, 0, 0, 0, 0);
}

/* In a child of fork, with memory of its own. The pid goes back through PIPE. */
__attribute__((noreturn)) static void run_helper(struct exec_plan *plan, int result)
{
    int32_t answer[2] = { 0, 0 };
    bool inside = plan->leaf < 0 || write(plan->leaf, "0", 1) == 1;
    if (inside) inside = setns(plan->process, plan->spaces) == 0;
    if (!inside) {
        answer[1] = errno;
    } else {
        long pid = RAW(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
        if (pid == 0) run_command(plan);
        answer[0] = pid > 0 ? (int32_t)pid : 0;
        answer[1] = pid < 0 ? (int32_t)-pid : 0;
    }
    if (write(result, answer, sizeof answer) != (ssize_t)sizeof answer) _exit(1);
    _exit(0);
}

/* Makes the command; writes plan->pid. */
static enum status run_plan(struct exec_plan *plan, struct error *error)
{
    int result[2];
    if (pipe2(result, O_CLOEXEC) != 0)
        return error_set(error, STATUS_BUSY, "no descriptors left: %s", strerror(errno));
    pid_t helper = fork();
    if (helper == 0) run_helper(plan, result[1]);
    (void)close(result[1]);
    int32_t answer[2] = { 0, EAGAIN };
    /* The helper does a fixed number of system calls; it can't wait for anybody. */
    bool told = helper > 0 && read(result[0], answer, sizeof answer) == (ssize_t)sizeof answer;
    (void)close(result[0]);
    if (helper > 0) (void)waitpid(helper, NULL, 0);
    if (!told || answer[0] == 0)
        return error_set(error, STATUS_INTERNAL, "cannot enter the task's namespaces: %s",
                         strerror(answer[1]));
    plan->pid = answer[0];
    return STATUS_OK;
}

static struct init_exec *free_place(struct init *init)
{
    for (int i = 0; i < INIT_EXECS_MAX; i++) {
        if (init->execs[i].pid == 0) return &init->execs[i];
    }
    return NULL;
}

static enum status plan_exec(struct init *init, uint32_t slot, const struct supervise_exec *exec,
                             const int *files, struct exec_plan *plan, struct error *error)
{
    char folder[SUPERVISE_PATH_BYTES_MAX + 1];
    (void)snprintf(folder, sizeof folder, "%.*s", (int)exec->folder.size,
                   exec->folder.size == 0 ? "" : (const char *)exec->folder.data);
    plan->folder = folder[0] == 0 ? "/" : folder;
    supervise_strings_point(&exec->argv, plan->argv, SUPERVISE_STRINGS_COUNT_MAX + 1);
    supervise_strings_point(&exec->env, plan->envp, SUPERVISE_STRINGS_COUNT_MAX + 1);
    if (exec->env.count == 0) {
        plan->envp[0] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        plan->envp[1] = NULL;
    }
    memcpy(plan->files, files, sizeof plan->files);
    struct supervise_start start;
    init_task_spec(init, slot, &start);
    plan->spaces =
        CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
    /* The host's network is ours already, and without root none that we may join. */
    if ((start.flags & SUPERVISE_OWN_NETWORK) != 0) plan->spaces |= CLONE_NEWNET;
    plan->process = (int)syscall(SYS_pidfd_open, init->tasks[slot].stub, 0);
    if (plan->process < 0)
        return error_set(error, STATUS_CONFLICT, "the task is ending: %s", strerror(errno));
    int leaf = init_task_open_leaf(init, slot);
    plan->leaf = leaf < 0 ? -1 : openat(leaf, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (leaf >= 0) (void)close(leaf);
    enum status status = run_plan(plan, error);
    if (plan->leaf >= 0) (void)close(plan->leaf);
    (void)close(plan->process);
    return status;
}

enum status init_exec_start(struct init *init, const struct supervise_message *message,
                            const int descriptors[SUPERVISE_EXEC_DESCRIPTORS], struct error *error)
{
    for (int i = 0; i < SUPERVISE_EXEC_DESCRIPTORS; i++) {
        if (descriptors[i] < 0)
            return error_set(error, STATUS_INVALID, "EXEC comes with 3 descriptors");
    }
    uint32_t slot = init_find(init, &message->exec.task);
    if (slot == 0) return error_set(error, STATUS_NOT_FOUND, "no such task is known here");
    if (init->policy_tasks[slot].pid == 0 || init->tasks[slot].stub == 0)
        return error_set(error, STATUS_CONFLICT, "the task does not run: it is %s",
                         supervise_state_name(init->policy_tasks[slot].state));
    struct init_exec *place = free_place(init);
    if (place == NULL)
        return error_set(error, STATUS_BUSY, "%d commands run already", INIT_EXECS_MAX);
    struct exec_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) return error_set(error, STATUS_NO_MEMORY, "no memory for the command");
    enum status status = plan_exec(init, slot, &message->exec, descriptors, plan, error);
    if (status == STATUS_OK) {
        *place = (struct init_exec) {
            .task = message->exec.task, .request = message->request, .pid = plan->pid, .slot = slot
        };
        init->tasks[slot].exec_count++;
    }
    free(plan);
    return status;
}

enum status init_exec_signal(struct init *init, uint64_t request, int signal)
{
    for (int i = 0; i < INIT_EXECS_MAX; i++) {
        if (init->execs[i].pid == 0 || init->execs[i].request != request) continue;
        (void)kill(init->execs[i].pid, signal);
        return STATUS_OK;
    }
    return STATUS_NOT_FOUND;
}

bool init_exec_reaped(struct init *init, const siginfo_t *info)
{
    for (int i = 0; i < INIT_EXECS_MAX; i++) {
        struct init_exec *exec = &init->execs[i];
        if (exec->pid != info->si_pid) continue;
        struct supervise_message message = { .kind = SUPERVISE_EXEC_EXITED };
        message.exec_exited.task = exec->task;
        message.exec_exited.exec = exec->request;
        message.exec_exited.exit_kind =
            info->si_code == CLD_EXITED ? SUPERVISE_EXITED : SUPERVISE_SIGNALED;
        message.exec_exited.exit_code = (uint32_t)info->si_status;
        uint32_t slot = exec->slot;
        exec->pid = 0;
        init_event(init, &message);
        init->tasks[slot].exec_count--;
        if (init->tasks[slot].stub == 0) init_task_check_gone(init, slot);
        return true;
    }
    return false;
}
