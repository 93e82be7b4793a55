/* unum-init: the supervisor of one machine.
 *
 *   unum-init --dir DIR [--unumd PATH] -- ARGUMENTS OF UNUMD
 *   unum-init --pid1 --dir DIR ...     as PID 1 of an image
 *
 * As a service it is always PID 1 of a PID namespace of its own, so that its death is everyone's
 * death in the kernel; the process that was started waits, hands signals down, and dies together
 * with it. */
#include "supervise/init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    FIRST_FREE_DESCRIPTOR = 10, /* below it stand those that children get */
    LISTEN_BACKLOG = 8,
    EXIT_USAGE = 2,
};

static const char usage[] =
    "usage: unum-init --dir DIR [--unumd PATH] [--pid1] [-- ARGUMENT...]\n"
    "Supervises the tasks of one machine. DIR is the computer's folder; PATH the daemon that it\n"
    "starts and keeps running with the ARGUMENTs. Usually started by `unum up`.\n";

/* ---- memory ---- */

/* Zeroed; tables of this size cost nothing until they are touched. */
static void *reserve(size_t size)
{
    void *memory = calloc(1, size);
    if (memory == NULL) {
        init_say("no memory for the tables");
        exit(1);
    }
    return memory;
}

static struct init *make_init(void)
{
    static char *no_arguments[] = { NULL };
    struct init *init = reserve(sizeof *init);
    init->tasks = reserve(sizeof *init->tasks * INIT_SLOTS);
    init->policy_tasks = reserve(sizeof *init->policy_tasks * INIT_SLOTS);
    init->policy_heap = reserve(sizeof *init->policy_heap * INIT_SLOTS);
    init->by_id = reserve(sizeof *init->by_id * INIT_INDEX_SIZE);
    init->by_pid = reserve(sizeof *init->by_pid * INIT_INDEX_SIZE);
    init->pids_wanted = reserve(sizeof *init->pids_wanted * INIT_SLOTS);
    init->ring = reserve(sizeof *init->ring);
    init->ring->first = 1;
    policy_init(&init->policy, init->policy_tasks, init->policy_heap, INIT_SLOTS);
    init->slot_next = INIT_SLOT_TASKS;
    init->client.descriptor = -1;
    init->options.unumd_arguments = no_arguments;
    int *files = &init->files.folder;
    for (size_t i = 0; i < sizeof init->files / sizeof *files; i++) files[i] = -1;
    if (init_spawn_create(&init->spawn) != STATUS_OK) exit(1);
    return init;
}

/* ---- arguments ---- */

static char *absolute(const char *path)
{
    char *found = realpath(path, NULL);
    if (found == NULL) {
        (void)fprintf(stderr, "unum-init: %s: %s\n", path, strerror(errno));
        exit(EXIT_USAGE);
    }
    return found;
}

static void parse_arguments(struct init *init, int argc, char **argv)
{
    const char *folder = NULL;
    int i = 1;
    for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--dir") == 0 && i + 1 < argc) {
            folder = argv[++i];
        } else if (strcmp(argv[i], "--unumd") == 0 && i + 1 < argc) {
            init->options.unumd = absolute(argv[++i]);
        } else if (strcmp(argv[i], "--pid1") == 0) {
            init->options.pid1 = true;
        } else {
            bool help = strcmp(argv[i], "--help") == 0;
            (void)fprintf(help ? stdout : stderr, "%s", usage);
            exit(help ? 0 : EXIT_USAGE);
        }
    }
    if (folder == NULL) {
        (void)fprintf(stderr, "unum-init: --dir is missing\n%s", usage);
        exit(EXIT_USAGE);
    }
    init->options.folder = absolute(folder);
    if (i < argc) init->options.unumd_arguments = argv + i + 1;
}

/* ---- the folder ---- */

static void open_folder(struct init *init)
{
    struct init_files *files = &init->files;
    files->folder = open(init->options.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    files->lock = files->folder < 0
                      ? -1
                      : openat(files->folder, "init.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (files->lock < 0) {
        init_say("cannot open %s: %s", init->options.folder, strerror(errno));
        exit(1);
    }
    if (flock(files->lock, LOCK_EX | LOCK_NB) != 0) {
        init_say("another unum-init runs on %s; stop it first (unum down --dir %s)",
                 init->options.folder, init->options.folder);
        exit(1);
    }
    /* FNV-1a: two computers on one host have two names, and each finds its own again. */
    uint64_t hash = 14695981039346656037u;
    for (const char *c = init->options.folder; *c != 0; c++)
        hash = (hash ^ (uint8_t)*c) * 1099511628211u;
    (void)snprintf(init->cgroup_name, sizeof init->cgroup_name, "unum-%016llx",
                   (unsigned long long)hash);
}

/* unumd runs as the user that owns the computer's data, made so by `unum up`. */
static void find_user(struct init *init)
{
    struct stat about;
    bool found = fstatat(init->files.folder, "data", &about, AT_SYMLINK_NOFOLLOW) == 0;
    if (!init->rootless && found) init->unumd_user = about.st_uid;
}

/* Two computers on one host: root of a task of one must not be root of a task of the other. */
static void take_id_area(struct init *init)
{
    for (uint32_t area = 0; area < INIT_ID_AREAS; area++) {
        struct sockaddr_un name = { .sun_family = AF_UNIX };
        int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "unum-ids-%u", area);
        socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
        int holder = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        init->id_base = (uint32_t)INIT_ID_BASE + area * INIT_SLOTS * INIT_IDS_PER_TASK;
        init->files.area = holder;
        if (holder >= 0 && bind(holder, (struct sockaddr *)&name, size) == 0) return;
        if (holder >= 0) (void)close(holder);
        init->files.area = -1;
    }
    init->id_base = INIT_ID_BASE;
    init_say("more than %d computers on this host: tasks share user ids with those of another",
             INIT_ID_AREAS);
}

static void listen_for_unumd(struct init *init)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    /* The folder's path may be longer than an address. */
    (void)snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s",
                   init->files.folder, SUPERVISE_SOCKET_NAME);
    (void)unlinkat(init->files.folder, SUPERVISE_SOCKET_NAME, 0);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool fine = listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof address) == 0 &&
                listen(listener, LISTEN_BACKLOG) == 0;
    uid_t owner = init->unumd_user;
    if (fine) {
        fine = fchownat(init->files.folder, SUPERVISE_SOCKET_NAME, owner, owner, 0) == 0 &&
               fchmodat(init->files.folder, SUPERVISE_SOCKET_NAME, 0600, 0) == 0;
    }
    if (!fine) {
        init_say("cannot listen on %s/%s: %s", init->options.folder, SUPERVISE_SOCKET_NAME,
                 strerror(errno));
        exit(1);
    }
    init->files.listener = listener;
}

/* ---- processes ---- */

/* Children get 0 to 4 by dup; nothing of ours may stand there. */
static void reserve_low_descriptors(void)
{
    for (;;) {
        int file = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (file < 0 || file >= FIRST_FREE_DESCRIPTOR) {
            if (file >= 0) (void)close(file);
            return;
        }
        /* Standard descriptors that were closed are opened for good. */
        if (file <= STDERR_FILENO) (void)fcntl(file, F_SETFD, 0);
    }
}

static void mount_for_pid1(void)
{
    static const struct {
        const char *type, *path;
    } mounts[] = { { "proc", "/proc" }, { "sysfs", "/sys" }, { "devtmpfs", "/dev" },
                   { "tmpfs", "/run" }, { "tmpfs", "/tmp" }, { "cgroup2", "/sys/fs/cgroup" } };
    for (size_t i = 0; i < sizeof mounts / sizeof *mounts; i++) {
        if (mount(mounts[i].type, mounts[i].path, mounts[i].type, MS_NOSUID, NULL) != 0 &&
            errno != EBUSY)
            init_say("cannot mount %s: %s", mounts[i].path, strerror(errno));
    }
}

__attribute__((noreturn)) static void supervise(struct init *init)
{
    struct error error = { 0 };
    (void)setsid(); /* no controlling terminal, for us and all below */
    enum status status = init_host_open(init, &error);
    if (status == STATUS_OK) {
        find_user(init);
        take_id_area(init);
        listen_for_unumd(init);
        status = init_host_view(init, &error);
    }
    if (status != STATUS_OK) {
        init_say("%s", error.text);
        exit(1);
    }
    if (getrandom(&init->instance, sizeof init->instance, 0) < 0) init->instance = init_clock_ns();
    init->now_ns = init->started_at_ns = init_clock_ns();
    if (init->missing[0] != 0) init_say("this machine lacks: %s", init->missing);
    init_service_begin(init, INIT_SLOT_LOG);
    if (init->options.unumd != NULL) init_service_begin(init, INIT_SLOT_UNUMD);
    init_loop_run(init);
    exit(1);
}

/* ---- the waiting parent ---- */

static void write_own_map(pid_t pid)
{
    static const char *const files[] = { "setgroups", "uid_map", "gid_map" };
    for (int i = 0; i < 3; i++) {
        char path[64];
        char text[64] = "deny";
        (void)snprintf(path, sizeof path, "/proc/%d/%s", pid, files[i]);
        if (i > 0)
            (void)snprintf(text, sizeof text, "0 %u 1",
                           i == 1 ? (unsigned)geteuid() : (unsigned)getegid());
        int file = open(path, O_WRONLY | O_CLOEXEC);
        bool fine = file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text);
        if (file >= 0) (void)close(file);
        if (!fine) init_say("cannot write %s: %s", path, strerror(errno));
    }
}

__attribute__((noreturn)) static void wait_for(struct init *init, pid_t child)
{
    static const int handed_down[] = { SIGTERM, SIGINT, SIGUSR2, SIGHUP };
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    for (size_t i = 0; i < sizeof handed_down / sizeof *handed_down; i++)
        (void)sigaddset(&set, handed_down[i]);
    for (;;) {
        siginfo_t info = { 0 };
        int signal = sigwaitinfo(&set, &info);
        if (signal > 0 && signal != SIGCHLD) {
            (void)kill(child, signal == SIGINT ? SIGTERM : signal);
            continue;
        }
        siginfo_t ended = { 0 };
        if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG) != 0 || ended.si_pid != child) continue;
        init_host_remove(init);
        if (ended.si_code == CLD_EXITED) exit(ended.si_status);
        init_say("unum-init was killed by signal %d, and everything below it", ended.si_status);
        exit(128 + ended.si_status);
    }
}

__attribute__((noreturn)) static void begin_as_service(struct init *init)
{
    init->rootless = geteuid() != 0;
    init->files.host_proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    sigset_t all;
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL); /* neither side loses one */
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) != 0) exit(1);
    struct clone_args args = {
        .flags = CLONE_NEWPID | CLONE_NEWNS | (init->rootless ? CLONE_NEWUSER : 0u),
        .exit_signal = SIGCHLD,
    };
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid < 0) {
        init_say("cannot make a PID namespace%s: %s", init->rootless ? " without root" : "",
                 strerror(errno));
        exit(1);
    }
    if (pid == 0) {
        char go = 0;
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)close(ready[1]);
        if (read(ready[0], &go, 1) != 1) _exit(1); /* the parent is gone */
        (void)close(ready[0]);
        supervise(init);
    }
    (void)close(ready[0]);
    if (init->rootless) write_own_map((pid_t)pid);
    if (write(ready[1], "g", 1) != 1) exit(1);
    (void)close(ready[1]);
    /* The child holds what counts; its lock too. */
    wait_for(init, (pid_t)pid);
}

int main(int argc, char **argv)
{
    struct init *init = make_init();
    struct error error = { 0 };
    reserve_low_descriptors();
    /* Whatever the caller's is: tasks reach what is made for them as other users. Secrets set their
     * mode. */
    (void)umask(022);
    if (argc == 2 && strncmp(argv[1], "--resume=", 9) == 0) {
        int memory = (int)strtol(argv[1] + 9, NULL, 10);
        if (init_resume(init, memory, &error) != STATUS_OK) {
            init_say("%s", error.text);
            return 1;
        }
        init_say("executed anew (%u), %u tasks kept", init->reexec_count, init->policy.task_count);
        init_loop_run(init);
    }
    parse_arguments(init, argc, argv);
    if (init->options.pid1) mount_for_pid1();
    open_folder(init);
    if (init->options.pid1) supervise(init);
    begin_as_service(init);
}
