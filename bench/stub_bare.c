/* stub_bare MODE N PROGRAM CGROUP ROOT: the least that a program with a stub can do: start and reap
 * PROGRAM N times, one after the other, isolated as the peers' spawn.c does with iso and isonn, but
 * under a PID 1 that starts it, reaps, and ends as it ends; and with a private range of user ids.
 *   net, nonet            with the range of ids
 *   netroot, nonetroot    without: exactly the isolation of iso and isonn
 * The bound of what unum-init may cost is measured against this. */
#include "bench/supervise_load.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(bool fine, const char *what)
{
    if (!fine) load_fail(what, strerror(errno));
}

static void isolate(const char *root)
{
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private");
    must(mount(root, root, NULL, MS_BIND | MS_REC, NULL) == 0, "bind");
    must(chdir(root) == 0, "chdir");
    must(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0, "proc");
    must(syscall(SYS_pivot_root, ".", ".") == 0, "pivot_root");
    must(umount2(".", MNT_DETACH) == 0, "umount");
    must(chdir("/") == 0, "chdir /");
    must(sethostname("c", 1) == 0, "sethostname");
}

/* PID 1 of the namespace. */
__attribute__((noreturn)) static void be_stub(const char *root, const char *program, int go)
{
    char *argv[] = { (char *)(uintptr_t)program, NULL };
    char byte = 0;
    if (go >= 0) {
        must(read(go, &byte, 1) == 1, "read");
        must(setgroups(0, NULL) == 0 && setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0,
             "become root of the namespace");
    }
    isolate(root);
    pid_t child = vfork();
    if (child == 0) {
        (void)execv(program, argv);
        _exit(127);
    }
    int status = 0;
    while (waitpid(-1, &status, 0) != child) {
    }
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128);
}

static void write_map(pid_t pid, const char *file)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    int map = open(path, O_WRONLY | O_CLOEXEC);
    must(map >= 0 && write(map, "0 1073872896 65536", 18) == 18, path);
    (void)close(map);
}

static void start_and_reap(bool network, bool ids, const char *program, const char *cgroup,
                           const char *root)
{
    int go[2] = { -1, -1 };
    must(mkdir(cgroup, 0755) == 0, "mkdir");
    int leaf = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (ids) must(pipe2(go, O_CLOEXEC) == 0, "pipe");
    struct clone_args args = { .exit_signal = SIGCHLD, .cgroup = (unsigned)leaf };
    args.flags = CLONE_INTO_CGROUP | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS |
                 CLONE_NEWCGROUP;
    if (network) args.flags |= CLONE_NEWNET;
    if (ids) args.flags |= CLONE_NEWUSER;
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    must(pid >= 0, "clone3");
    if (pid == 0) be_stub(root, program, go[0]);
    if (ids) {
        write_map(pid, "uid_map");
        write_map(pid, "gid_map");
        must(write(go[1], "g", 1) == 1, "write");
        (void)close(go[0]);
        (void)close(go[1]);
    }
    int status = 0;
    must(waitpid(pid, &status, 0) == pid && status == 0, "program");
    (void)close(leaf);
    must(rmdir(cgroup) == 0, "rmdir");
}

int main(int argc, char **argv)
{
    if (argc != 6) load_fail("usage", "stub_bare MODE N PROGRAM CGROUP ROOT");
    size_t count = (size_t)strtoul(argv[2], NULL, 10);
    double *times = calloc(count + 1, sizeof *times);
    must(times != NULL, "memory");
    char cgroup[512];
    (void)snprintf(cgroup, sizeof cgroup, "%s/sb%d", argv[4], getpid());
    double begun = load_now_us();
    for (size_t i = 0; i < count; i++) {
        double from = load_now_us();
        start_and_reap(strncmp(argv[1], "net", 3) == 0, strstr(argv[1], "root") == NULL, argv[3],
                       cgroup, argv[5]);
        times[i] = load_now_us() - from;
    }
    load_print(times, count, load_now_us() - begun);
    free(times);
    return 0;
}
