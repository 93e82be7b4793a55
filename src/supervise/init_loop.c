/* Loop: events in, policy, actions out. Nothing here blocks but epoll_wait. */
#include "supervise/init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TAG_SIGNALS = 1, TAG_TIMER, TAG_LISTENER, TAG_CLIENT, TAG_NOTIFY };
enum {
    PIDS_BATCH_MAX = 64,
    PIDS_AFTER_MS = 20, /* short runs never pay for their host pid */
    EVENTS_MAX = 16,
};

static const uint64_t ms = 1000000;

void init_say(const char *format, ...)
{
    char text[768];
    struct timespec now;
    struct tm parts;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &parts);
    size_t used = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ unum-init: ", &parts);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text + used, sizeof text - used - 1, format, arguments);
    va_end(arguments);
    used = strlen(text);
    text[used++] = '\n';
    if (write(STDERR_FILENO, text, used) < 0) return; /* nobody to tell */
}

/* ---- policy ---- */

static void perform(struct init *init, const struct policy_action *action)
{
    uint32_t slot = action->slot;
    bool service = slot < INIT_SLOT_TASKS;
    pid_t pid = init->tasks[slot].stub;
    switch (action->kind) {
    case POLICY_SPAWN:
        if (service) {
            init_service_spawn(init, slot, action->incarnation);
        } else {
            init_task_spawn(init, slot, action->incarnation);
        }
        break;
    case POLICY_SIGNAL:
        if (pid > 0) (void)kill(pid, action->signal);
        break;
    case POLICY_KILL_TREE:
        if (!service) {
            init_task_kill(init, slot);
        } else if (pid > 0) {
            (void)kill(pid, SIGKILL);
        }
        break;
    case POLICY_REPORT:
        if (!service) {
            init_report(init, slot);
        } else if (init->policy_tasks[slot].next_start_ns != 0) {
            init_say("%s %s", slot == INIT_SLOT_LOG ? "unum-log" : "unumd",
                     init->policy_tasks[slot].reason);
        }
        break;
    }
}

void init_feed(struct init *init, struct policy_event *event)
{
    struct policy_actions actions;
    event->now_ns = init->now_ns;
    if (getrandom(&event->random, sizeof event->random, 0) < 0) event->random = init->now_ns;
    policy_step(&init->policy, event, &actions);
    for (size_t i = 0; i < actions.count; i++) perform(init, &actions.list[i]);
    if (event->kind != POLICY_PROGRAM_RUNS || event->slot < INIT_SLOT_TASKS) return;
    if (init->files.host_proc < 0) return;
    init->pids_wanted[init->pids_tail++ % INIT_SLOTS] = event->slot;
    if (init->pids_at_ns == 0) init->pids_at_ns = init->now_ns + PIDS_AFTER_MS * ms;
}

/* ---- host pids, when there is time ---- */

/* As the host numbers PID; 0: unknown. The kernel tells it of a process descriptor, in the numbers
 * of the /proc that is asked. */
static uint32_t host_pid_of(const struct init *init, pid_t pid)
{
    char path[64];
    char self[32];
    ssize_t length = readlinkat(init->files.host_proc, "self", self, sizeof self - 1);
    if (length <= 0) return 0;
    self[length] = 0;
    int process = (int)syscall(SYS_pidfd_open, pid, 0);
    if (process < 0) return 0;
    (void)snprintf(path, sizeof path, "%s/fdinfo/%d", self, process);
    int file = openat(init->files.host_proc, path, O_RDONLY | O_CLOEXEC);
    char text[512];
    ssize_t size = file < 0 ? 0 : read(file, text, sizeof text - 1);
    if (file >= 0) (void)close(file);
    (void)close(process);
    if (size <= 0) return 0;
    text[size] = 0;
    const char *found = strstr(text, "Pid:");
    if (found == NULL) return 0;
    long host = strtol(found + 4, NULL, 10);
    return host > 0 ? (uint32_t)host : 0;
}

static void find_host_pids(struct init *init)
{
    for (int i = 0; i < PIDS_BATCH_MAX && init->pids_head != init->pids_tail; i++) {
        uint32_t slot = init->pids_wanted[init->pids_head++ % INIT_SLOTS];
        const struct policy_task *task = &init->policy_tasks[slot];
        if (!task->used || task->pid == 0 || init->tasks[slot].host_pid != 0) continue;
        init->tasks[slot].host_pid = host_pid_of(init, (pid_t)task->pid);
        if (init->tasks[slot].host_pid != 0) init_report(init, slot);
    }
    init->pids_at_ns = init->pids_head == init->pids_tail ? 0 : init->now_ns + ms;
}

/* ---- ends ---- */

static void reap_one(struct init *init, const siginfo_t *info)
{
    for (uint32_t slot = 0; slot < INIT_SLOT_TASKS; slot++) {
        if (init->tasks[slot].stub != info->si_pid) continue;
        init_service_reaped(init, slot, info);
        return;
    }
    uint32_t slot = init_find_pid(init, info->si_pid);
    if (slot != 0) {
        init_task_reaped(init, slot, info);
    } else {
        (void)init_exec_reaped(init, info); /* else an orphan of the full view */
    }
}

static void reap(struct init *init)
{
    /* What a stub said before its end counts before its end. */
    init_notify_readable(init);
    for (;;) {
        siginfo_t info = { 0 };
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0) return;
        reap_one(init, &info);
    }
}

static void retry_gone(struct init *init)
{
    /* Services wait for nothing but their own end. */
    uint32_t left = init->gone_count;
    init->gone_at_ns = init->now_ns + INIT_GONE_RETRY_MAX_MS * ms;
    for (uint32_t slot = 0; slot < INIT_SLOTS && left > 0; slot++) {
        struct init_task *task = &init->tasks[slot];
        if (!task->gone_waits) continue;
        left--;
        if (slot >= INIT_SLOT_TASKS) {
            init_task_check_gone(init, slot);
            continue;
        }
        task->gone_waits = false;
        init->gone_count--;
        struct policy_event event = { .kind = POLICY_GONE,
                                      .slot = slot,
                                      .incarnation = init->policy_tasks[slot].incarnation };
        init_feed(init, &event);
    }
}

void init_shut_down(struct init *init)
{
    if (init->shutting_down) return;
    init->shutting_down = true;
    init_say("shutting down: tasks are stopped first");
    for (uint32_t slot = INIT_SLOT_TASKS; slot < INIT_SLOTS; slot++) {
        if (!init->policy_tasks[slot].used) continue;
        struct policy_event event = { .kind = POLICY_STOP, .slot = slot };
        init_feed(init, &event);
    }
}

/* Tasks first, then unumd, which sees them end, then unum-log, which writes their last words. */
static void shut_down_further(struct init *init)
{
    uint32_t services = 0;
    for (uint32_t slot = 0; slot < INIT_SLOT_TASKS; slot++)
        services += init->policy_tasks[slot].live;
    if (init->policy.live_count > services) return;
    uint32_t slot = init->policy_tasks[INIT_SLOT_UNUMD].live ? INIT_SLOT_UNUMD : INIT_SLOT_LOG;
    if (init->policy_tasks[slot].used) {
        struct policy_event event = { .kind = POLICY_STOP, .slot = slot };
        init_feed(init, &event);
    }
    if (init->policy.live_count > 0) return;
    init_say("everything has ended");
    init_host_sweep(init);
    if (init->options.pid1) (void)reboot(RB_POWER_OFF);
    exit(0);
}

static void on_signals(struct init *init)
{
    struct signalfd_siginfo info;
    while (read(init->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        switch (info.ssi_signo) {
        case SIGCHLD: reap(init); break;
        case SIGUSR2:
            init->reexec_wanted = true;
            init->reexec_binary[0] = 0;
            break;
        case SIGTERM:
        case SIGINT: init_shut_down(init); break;
        default: break;
        }
    }
}

/* ---- time ---- */

static void serve_time(struct init *init)
{
    while (policy_next_ns(&init->policy) <= init->now_ns) {
        struct policy_event event = { .kind = POLICY_TIME };
        init_feed(init, &event);
    }
    if (init->gone_count > 0 && init->gone_at_ns <= init->now_ns) retry_gone(init);
    if (init->pids_at_ns != 0 && init->pids_at_ns <= init->now_ns) find_host_pids(init);
    if (init->log_handover && init->log_handover_at_ns <= init->now_ns) init_log_hand_all(init);
    if (init->zombie_scan_at_ns <= init->now_ns) init_zombie_scan(init);
}

static void earlier(uint64_t *at, uint64_t other)
{
    if (other < *at) *at = other;
}

void init_arm(struct init *init)
{
    uint64_t at = policy_next_ns(&init->policy);
    if (init->gone_count > 0) earlier(&at, init->gone_at_ns);
    if (init->pids_at_ns != 0) earlier(&at, init->pids_at_ns);
    if (init->log_handover) earlier(&at, init->log_handover_at_ns);
    uint32_t services =
        init->policy_tasks[INIT_SLOT_LOG].live + init->policy_tasks[INIT_SLOT_UNUMD].live;
    if (init->policy.live_count > services) earlier(&at, init->zombie_scan_at_ns);
    if (at == init->timer_at_ns) return;
    init->timer_at_ns = at;
    struct itimerspec when = { 0 };
    if (at != UINT64_MAX) {
        if (at == 0) at = 1;
        when.it_value.tv_sec = (time_t)(at / 1000000000u);
        when.it_value.tv_nsec = (long)(at % 1000000000u);
    }
    (void)timerfd_settime(init->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static bool watch(struct init *init, int file, uint32_t tag)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = tag };
    return epoll_ctl(init->epoll, EPOLL_CTL_ADD, file, &event) == 0;
}

void init_watch_client(struct init *init, bool add, bool writable)
{
    /* While an answer waits for room nothing more is read: the client feels it. */
    struct epoll_event event = { .events = writable ? EPOLLOUT : EPOLLIN, .data.u32 = TAG_CLIENT };
    (void)epoll_ctl(init->epoll, add ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, init->client.descriptor,
                    &event);
}

static void open_loop(struct init *init)
{
    static const int signals[] = { SIGCHLD, SIGTERM, SIGINT, SIGUSR2, SIGHUP, SIGPIPE };
    sigset_t set;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) (void)sigaddset(&set, signals[i]);
    (void)sigprocmask(SIG_SETMASK, &set, NULL);
    init->epoll = epoll_create1(EPOLL_CLOEXEC);
    init->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    init->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    init->timer_at_ns = UINT64_MAX;
    bool fine = init->epoll >= 0 && init->signals >= 0 && init->timer >= 0 &&
                watch(init, init->signals, TAG_SIGNALS) && watch(init, init->timer, TAG_TIMER) &&
                watch(init, init->files.listener, TAG_LISTENER) &&
                watch(init, init->files.notify, TAG_NOTIFY);
    if (!fine) {
        init_say("cannot make the event loop: %s", strerror(errno));
        exit(1);
    }
    if (init->client.descriptor >= 0) init_watch_client(init, true, false);
}

static void dispatch(struct init *init, const struct epoll_event *event)
{
    switch (event->data.u32) {
    case TAG_SIGNALS: on_signals(init); break;
    case TAG_TIMER: {
        uint64_t count = 0;
        if (read(init->timer, &count, sizeof count) > 0) init->timer_at_ns = UINT64_MAX;
        break;
    }
    case TAG_LISTENER: init_client_accept(init); break;
    case TAG_NOTIFY: init_notify_readable(init); break;
    case TAG_CLIENT:
        if ((event->events & EPOLLOUT) != 0) init->client.full = false;
        if ((event->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) init_client_readable(init);
        break;
    default: break;
    }
}

void init_loop_run(struct init *init)
{
    open_loop(init);
    init->now_ns = init_clock_ns();
    reap(init); /* what ended during a re-execution */
    for (;;) {
        serve_time(init);
        if (init->shutting_down) shut_down_further(init);
        if (init->reexec_wanted) init_reexec(init);
        init_client_flush(init);
        init_arm(init);
        struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(init->epoll, events, EVENTS_MAX, -1);
        init->now_ns = init_clock_ns();
        for (int i = 0; i < count; i++) dispatch(init, &events[i]);
    }
}
