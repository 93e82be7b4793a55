/* Stub: PID 1 of a task's namespaces. A program as PID 1 would ignore the signals that it does not
 * handle and would not reap; so the stub stands there: it sets the mounts up, starts the program,
 * forwards signals, reaps orphans at once, and ends as the program ends, which ends the namespace.
 * No C library, no heap, no writable data: one page of code, one of stack, for each task. */
#include "supervise/stub.h"
#include "supervise/raw.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

enum { DRAIN_STEP_NS = 100000, DRAIN_STEPS_MAX = 100000 }; /* 10 s for unum-log to come back */

void *memset(void *memory, int value, size_t size);
void *memcpy(void *restrict to, const void *restrict from, size_t size);
__attribute__((noreturn, used)) void stub_start(long *stack);

/* The compiler may ask for these two. */
void *memset(void *memory, int value, size_t size)
{
    volatile unsigned char *bytes = memory;
    for (size_t i = 0; i < size; i++) bytes[i] = (unsigned char)value;
    return memory;
}

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    volatile unsigned char *bytes = to;
    for (size_t i = 0; i < size; i++) bytes[i] = ((const unsigned char *)from)[i];
    return to;
}

__attribute__((noreturn)) static void finish(int status)
{
    for (;;) (void)RAW(SYS_exit_group, status, 0, 0, 0, 0);
}

/* Tell unum-init; PID 0 sends the stub's own. Nobody there: it is dead, and so are we soon. */
static void tell(unsigned kind, unsigned step, unsigned value, unsigned pid)
{
    unsigned char text[STUB_MESSAGE_BYTES] = { STUB_MARK, (unsigned char)kind, (unsigned char)step,
                                               0 };
    for (unsigned i = 0; i < 4; i++) text[4 + i] = (unsigned char)(value >> (8 * i));
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = STUB_SOCKET };
    struct iovec part = { text, sizeof text };
    union {
        struct cmsghdr head;
        unsigned char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control = { .head = { CMSG_LEN(sizeof(struct ucred)), SOL_SOCKET, SCM_CREDENTIALS } };
    struct ucred who = { .pid = pid == 0 ? 1 : (int)pid };
    memcpy(CMSG_DATA(&control.head), &who, sizeof who);
    struct msghdr message = { .msg_name = &address,
                              .msg_namelen = sizeof address,
                              .msg_iov = &part,
                              .msg_iovlen = 1,
                              .msg_control = &control,
                              .msg_controllen = sizeof control };
    long socket = RAW(SYS_socket, AF_UNIX, SOCK_DGRAM, 0, 0, 0);
    (void)RAW(SYS_sendmsg, socket, &message, 0, 0, 0);
    (void)RAW(SYS_close, socket, 0, 0, 0, 0);
}

__attribute__((noreturn)) static void fail(unsigned step, long error)
{
    tell(STUB_FAILED, step, (unsigned)-error, 0);
    finish(127);
}

static long bind_scratch(const char *from, const char *to, unsigned mode)
{
    (void)RAW(SYS_mkdirat, AT_FDCWD, from, mode, 0, 0);
    return RAW(SYS_mount, from, to, 0, MS_BIND, 0);
}

/* One memory file system at /run serves every writable place of the task. */
static void mount_scratch(char *options, char *writable)
{
    char from[] = "/run/writable-a";
    long error = RAW(SYS_mount, "tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, options);
    if (error != 0) fail(STUB_STEP_SCRATCH, error);
    (void)RAW(SYS_mkdirat, AT_FDCWD, "/run/shm", 01777, 0, 0); /* where /dev/shm points */
    error = bind_scratch("/run/tmp", "/tmp", 01777);
    if (error != 0) fail(STUB_STEP_SCRATCH, error);
    while (*writable != 0) {
        char *end = writable;
        while (*end != '\n' && *end != 0) end++;
        bool last = *end == 0;
        *end = 0;
        error = bind_scratch(from, writable, 0755);
        if (error != 0) fail(STUB_STEP_WRITABLE, error);
        from[sizeof from - 2]++;
        if (last) break;
        *end = '\n';
        writable = end + 1;
    }
}

static void loopback_up(void)
{
    struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
    long socket = RAW(SYS_socket, AF_INET, SOCK_DGRAM, 0, 0, 0);
    (void)RAW(SYS_ioctl, socket, SIOCSIFFLAGS, &request, 0, 0);
    (void)RAW(SYS_close, socket, 0, 0, 0, 0);
}

/* Wait, within a bound, until unum-log has read what the program wrote last: the pipes end with
 * us. Mostly it has. */
static void drain(void)
{
    for (int i = 0; i < DRAIN_STEPS_MAX; i++) {
        int out = 0;
        int err = 0;
        (void)RAW(SYS_ioctl, STUB_SPARE_OUT, FIONREAD, &out, 0, 0);
        (void)RAW(SYS_ioctl, STUB_SPARE_ERR, FIONREAD, &err, 0, 0);
        if (out <= 0 && err <= 0) return;
        struct timespec step = { 0, DRAIN_STEP_NS };
        (void)RAW(SYS_nanosleep, &step, 0, 0, 0, 0);
    }
}

__attribute__((noreturn)) static void end_as(int status)
{
    unsigned signal = (unsigned)status & 0x7f;
    /* Writers that are left would go on writing while we drain. */
    (void)RAW(SYS_kill, -1, SIGKILL, 0, 0, 0);
    drain();
    if (signal == 0) finish(status >> 8 & 0xff);
    tell(STUB_KILLED, 0, signal, 0);
    finish(128 + (int)signal);
}

/* Start the program as the child of a vfork, so that a failed execution is known at once. */
static long start(char **argv, char **envp)
{
    volatile int error = 0;
    uint64_t none = 0;
    long pid = RAW(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        (void)RAW(SYS_setsid, 0, 0, 0, 0, 0);
        (void)RAW(SYS_close, STUB_SPARE_OUT, 0, 0, 0, 0);
        (void)RAW(SYS_close, STUB_SPARE_ERR, 0, 0, 0, 0);
        (void)RAW(SYS_personality, PER_LINUX, 0, 0, 0, 0); /* the program's addresses are random */
        raw_confine(raw_capabilities_kept);
        (void)RAW(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, 8, 0);
        error = raw_execute(argv, envp);
        finish(127);
    }
    if (pid < 0) fail(STUB_STEP_FORK, pid);
    if (error != 0) fail(STUB_STEP_PROGRAM, -error);
    return pid;
}

__attribute__((noreturn)) static void serve(long program)
{
    uint64_t all = ~0ull;
    for (;;) {
        long signal = RAW(SYS_rt_sigtimedwait, &all, 0, 0, 8, 0);
        if (signal > 0 && signal != SIGCHLD) (void)RAW(SYS_kill, program, signal, 0, 0, 0);
        for (;;) {
            int status = 0;
            long pid = RAW(SYS_wait4, -1, &status, WNOHANG, 0, 0);
            if (pid == program) end_as(status);
            if (pid <= 0) break;
        }
    }
}

void stub_start(long *stack)
{
    long argc = stack[0];
    char **argv = (char **)(stack + 1);
    char **envp = argv + argc + 1;
    uint64_t all = ~0ull;
    if (argc <= STUB_ARGUMENTS) finish(126);
    unsigned flags = (unsigned)(argv[1][0] - '0');
    (void)RAW(SYS_rt_sigprocmask, SIG_SETMASK, &all, 0, 8, 0);
    (void)RAW(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if ((flags & STUB_ISOLATED) != 0) {
        (void)RAW(SYS_umask, 0, 0, 0, 0, 0);
        long error = RAW(SYS_mount, "proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0);
        if (error != 0) fail(STUB_STEP_PROC, error);
        mount_scratch(argv[2], argv[5]);
        (void)RAW(SYS_sethostname, argv[3], raw_length(argv[3]), 0, 0, 0);
        (void)RAW(SYS_umask, 022, 0, 0, 0, 0);
    }
    if ((flags & STUB_OWN_NETWORK) != 0) loopback_up();
    long error = RAW(SYS_chdir, argv[4], 0, 0, 0, 0);
    if (error != 0) fail(STUB_STEP_FOLDER, error);
    long program = start(argv + STUB_ARGUMENTS, envp);
    tell(STUB_RUNS, 0, 0, (unsigned)program);
    serve(program);
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call stub_start\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n  mov x0, sp\n  and sp, x0, #-16\n  bl stub_start\n");
#endif
