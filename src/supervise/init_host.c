/* Host: what this machine can do, and what a task sees of it.
 *
 * Two mount namespaces are made once. The *full view* is the host's, with /proc of our PID
 * namespace; unum-log and unumd live in it. The *task view* is what every task's own mount
 * namespace is copied from: the host's real file systems read-only, an empty folder over the
 * computer's folder, a small /dev, and nothing else; few mounts, since each is copied per task, and
 * locked by the kernel, since the copy belongs to a less privileged user namespace. unum-init
 * itself stays in the task view and reaches the rest through descriptors. */
#include "supervise/init.h"
#include "supervise/raw.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum {
    MOUNTINFO_BYTES_MAX = 256 * 1024,
    CGROUP2_MAGIC = 0x63677270,
};

uint64_t init_clock_ns(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_BOOTTIME, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void lacks(struct init *init, const char *what, int error)
{
    size_t used = strlen(init->missing);
    (void)snprintf(init->missing + used, sizeof init->missing - used, "%s%s%s%s",
                   used == 0 ? "" : "; ", what, error == 0 ? "" : ": ",
                   error == 0 ? "" : strerror(error));
}

/* A whole file of /proc; NUL-terminated, owned by the caller; NULL when it can't be read. */
static char *read_whole(const char *path, size_t size_max)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return NULL;
    char *text = malloc(size_max + 1);
    size_t used = 0;
    while (text != NULL && used < size_max) {
        ssize_t got = read(file, text + used, size_max - used);
        if (got <= 0) break;
        used += (size_t)got;
    }
    if (text != NULL) text[used] = 0;
    (void)close(file);
    return text;
}

static bool write_text(int folder, const char *name, const char *text)
{
    int file = openat(folder, name, O_WRONLY | O_CLOEXEC);
    if (file < 0) return false;
    bool fine = write(file, text, strlen(text)) == (ssize_t)strlen(text);
    (void)close(file);
    return fine;
}

/* ---- mounts of this namespace ---- */

struct mount_line {
    char *point; /* unescaped */
    char *type;
};

/* Undo the \040 of the kernel, in place. */
static void unescape(char *text)
{
    char *to = text;
    for (char *from = text; *from != 0; from++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] != 0 && from[3] != 0) {
            *to++ = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 3;
        } else {
            *to++ = *from;
        }
    }
    *to = 0;
}

/* Take one line off TEXT; false at its end. */
static bool next_mount(char **text, struct mount_line *ret_line)
{
    while (**text != 0) {
        char *line = *text;
        char *end = strchr(line, '\n');
        if (end != NULL) *end = 0;
        *text = end == NULL ? line + strlen(line) : end + 1;
        char *dash = strstr(line, " - ");
        if (dash == NULL) continue;
        *dash = 0;
        char *field = line;
        for (int i = 0; i < 4 && field != NULL; i++) {
            field = strchr(field, ' ');
            if (field != NULL) field++;
        }
        if (field == NULL) continue;
        field[strcspn(field, " ")] = 0;
        unescape(field);
        char *type = dash + 3;
        type[strcspn(type, " ")] = 0;
        *ret_line = (struct mount_line) { .point = field, .type = type };
        return true;
    }
    return false;
}

static bool is_below(const char *path, const char *folder)
{
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && (path[length] == 0 || path[length] == '/');
}

/* Only what holds a user's or the distribution's files is shown to tasks. */
static bool belongs_in_tasks(const struct mount_line *line)
{
    static const char *const folders[] = { "/proc", "/sys", "/dev", "/run", "/tmp", "/boot" };
    static const char *const types[] = { "ext2",    "ext3",     "ext4",  "xfs",
                                         "btrfs",   "f2fs",     "zfs",   "bcachefs",
                                         "overlay", "squashfs", "erofs", "tmpfs",
                                         "nfs",     "nfs4",     "9p",    "virtiofs" };
    if (strcmp(line->point, "/") == 0) return true;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        if (is_below(line->point, folders[i])) return false;
    }
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(line->type, types[i]) == 0) return true;
    }
    return false;
}

/* ---- cgroups ---- */

static bool find_cgroup2(char *ret_path, size_t size)
{
    char *text = read_whole("/proc/self/mountinfo", MOUNTINFO_BYTES_MAX);
    char *own = read_whole("/proc/self/cgroup", 16384);
    bool found = false;
    char *at = text;
    struct mount_line line;
    char *path = own == NULL ? NULL : strstr(own, "0::/");
    while (path != NULL && path != own && path[-1] != '\n') path = strstr(path + 1, "0::/");
    if (path != NULL) path[strcspn(path, "\n")] = 0;
    while (!found && path != NULL && text != NULL && next_mount(&at, &line)) {
        if (strcmp(line.type, "cgroup2") != 0) continue;
        int length = snprintf(ret_path, size, "%s%s", line.point, path + 3);
        found = length > 0 && (size_t)length < size;
    }
    free(text);
    free(own);
    return found;
}

static void enable_controllers(struct init *init, int parent)
{
    static const struct {
        const char *name;
        const char *enable;
        uint32_t feature;
    } controllers[] = {
        { "cpu", "+cpu", SUPERVISE_FEATURE_CPU },
        { "memory", "+memory", SUPERVISE_FEATURE_MEMORY },
        { "pids", "+pids", SUPERVISE_FEATURE_PIDS },
    };
    for (size_t i = 0; i < sizeof controllers / sizeof *controllers; i++) {
        (void)write_text(parent, "cgroup.subtree_control", controllers[i].enable);
        if (write_text(init->files.cgroup, "cgroup.subtree_control", controllers[i].enable)) {
            init->features |= controllers[i].feature;
        } else {
            char what[96];
            (void)snprintf(what, sizeof what, "no limits by the %s controller of cgroup v2",
                           controllers[i].name);
            lacks(init, what, 0);
        }
    }
}

void init_host_sweep(struct init *init)
{
    int copy = openat(init->files.cgroup, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = copy < 0 ? NULL : fdopendir(copy);
    if (folder == NULL) return;
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            (void)unlinkat(init->files.cgroup, entry->d_name, AT_REMOVEDIR);
    }
    (void)closedir(folder);
}

void init_host_remove(struct init *init)
{
    char path[SUPERVISE_PATH_BYTES_MAX + 1];
    char own[SUPERVISE_PATH_BYTES_MAX + 128];
    if (!find_cgroup2(path, sizeof path)) return;
    (void)snprintf(own, sizeof own, "%s/%s", path, init->cgroup_name);
    init->files.cgroup = open(own, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (init->files.cgroup < 0) return;
    init_host_sweep(init);
    (void)rmdir(own);
}

static void open_cgroup(struct init *init)
{
    char path[SUPERVISE_PATH_BYTES_MAX + 1];
    init->files.cgroup = -1;
    if (!find_cgroup2(path, sizeof path)) {
        lacks(init, "no cgroup v2 is mounted", 0);
        return;
    }
    int parent = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0) {
        lacks(init, "no access to cgroup v2", errno);
        return;
    }
    bool made = mkdirat(parent, init->cgroup_name, 0755) == 0 || errno == EEXIST;
    int base = made ? openat(parent, init->cgroup_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (base < 0) {
        lacks(init, "no cgroup of our own", errno);
        (void)close(parent);
        return;
    }
    init->files.cgroup = base;
    init_host_sweep(init);
    (void)mkdirat(base, "init", 0755);
    if (write_text(base, "init/cgroup.procs", "0")) {
        init->features |= SUPERVISE_FEATURE_CGROUP;
        enable_controllers(init, parent);
    } else {
        lacks(init, "no right to move into a cgroup of our own", errno);
        (void)close(base);
        init->files.cgroup = -1;
    }
    (void)close(parent);
}

/* ---- descriptors ---- */

static enum status open_files(struct init *init, struct error *error)
{
    struct init_files *files = &init->files;
    files->proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    files->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    files->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    (void)mkdirat(files->folder, SUPERVISE_LOGS_NAME, 0755);
    files->logs = openat(files->folder, SUPERVISE_LOGS_NAME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (files->logs < 0)
        return error_set(error, STATUS_IO, "cannot make %s/%s: %s", init->options.folder,
                         SUPERVISE_LOGS_NAME, strerror(errno));
    char own[SUPERVISE_PATH_BYTES_MAX + 1];
    ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    if (length <= 0) return error_set(error, STATUS_IO, "cannot read /proc/self/exe");
    own[length] = 0;
    char *slash = strrchr(own, '/');
    *(slash == own ? slash + 1 : slash) = 0;
    files->programs = open(own, O_PATH | O_DIRECTORY | O_CLOEXEC);
    files->stub = openat(files->programs, "unum-stub", O_PATH | O_CLOEXEC);
    if (files->stub < 0)
        return error_set(error, STATUS_NOT_FOUND, "cannot open %s/unum-stub: %s", own,
                         strerror(errno));
    return STATUS_OK;
}

void init_host_renew_proc(struct init *init)
{
    int context = (int)syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC);
    int fresh = -1;
    if (context >= 0 && syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        fresh = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC,
                             MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (context >= 0) (void)close(context);
    if (fresh < 0) return; /* the present one serves as well */
    (void)close(init->files.proc);
    init->files.proc = fresh;
}

enum status init_host_open(struct init *init, struct error *error)
{
    /* Private to us, but what the host mounts later appears here too. */
    (void)mount(NULL, "/", NULL, MS_REC | (init->rootless ? MS_PRIVATE : MS_SLAVE), NULL);
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
        return error_set(error, STATUS_UNSUPPORTED, "cannot mount /proc: %s", strerror(errno));
    enum status status = open_files(init, error);
    if (status != STATUS_OK) return status;
    init_host_renew_proc(init);
    open_cgroup(init);
    if (init->rootless) {
        lacks(init, "no private range of user ids: not started as root", 0);
    } else {
        init->features |= SUPERVISE_FEATURE_ID_RANGE;
    }
    if (access("/proc/self/ns/net", F_OK) == 0) {
        init->features |= SUPERVISE_FEATURE_NETWORK;
    } else {
        lacks(init, "no network namespaces", errno);
    }
    init->files.view = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    return STATUS_OK;
}

/* ---- the task view ---- */

static void drop_mounts(void)
{
    char *text = read_whole("/proc/self/mountinfo", MOUNTINFO_BYTES_MAX);
    if (text == NULL) return;
    char *at = text;
    struct mount_line line;
    /* A parent takes its children along; those are then not found, which is fine. */
    while (next_mount(&at, &line)) {
        if (belongs_in_tasks(&line)) continue;
        (void)umount2(line.point, MNT_DETACH | UMOUNT_NOFOLLOW);
    }
    free(text);
}

static const struct {
    const char *path;
    unsigned major, minor;
} nodes[] = {
    { "/dev/null", 1, 3 },   { "/dev/zero", 1, 5 },    { "/dev/full", 1, 7 },
    { "/dev/random", 1, 8 }, { "/dev/urandom", 1, 9 }, { "/dev/tty", 5, 0 },
};
enum { NODES = sizeof nodes / sizeof *nodes };

/* Without root no node can be made: the host's are bound. */
static void make_node(size_t i, int host_node)
{
    mode_t mode = S_IFCHR | 0666;
    if (mknod(nodes[i].path, mode, makedev(nodes[i].major, nodes[i].minor)) == 0) return;
    int file = open(nodes[i].path, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
    if (file >= 0) (void)close(file);
    char from[64];
    (void)snprintf(from, sizeof from, "/proc/self/fd/%d", host_node);
    (void)mount(from, nodes[i].path, NULL, MS_BIND, NULL);
}

static enum status make_devices(struct error *error)
{
    static const char *const links[][2] = { { "/proc/self/fd", "/dev/fd" },
                                            { "/proc/self/fd/0", "/dev/stdin" },
                                            { "/proc/self/fd/1", "/dev/stdout" },
                                            { "/proc/self/fd/2", "/dev/stderr" },
                                            { "/run/shm", "/dev/shm" } };
    int host[NODES];
    for (size_t i = 0; i < NODES; i++) host[i] = open(nodes[i].path, O_PATH | O_CLOEXEC);
    if (mount("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k") != 0)
        return error_set(error, STATUS_UNSUPPORTED, "cannot mount /dev of tasks: %s",
                         strerror(errno));
    mode_t before = umask(0);
    for (size_t i = 0; i < NODES; i++) {
        make_node(i, host[i]);
        if (host[i] >= 0) (void)close(host[i]);
    }
    (void)umask(before);
    bool fine = mkdir("/dev/unum", 0755) == 0;
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        fine = fine && symlink(links[i][0], links[i][1]) == 0;
    if (!fine) return error_set(error, STATUS_IO, "cannot fill /dev of tasks: %s", strerror(errno));
    return STATUS_OK;
}

enum status init_host_view(struct init *init, struct error *error)
{
    if (unshare(CLONE_NEWNS) != 0)
        return error_set(error, STATUS_UNSUPPORTED, "cannot make a mount namespace: %s",
                         strerror(errno));
    (void)mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    drop_mounts();
    enum status status = make_devices(error);
    if (status != STATUS_OK) return status;
    status = init_notify_bind(init, error);
    if (status != STATUS_OK) return status;
    /* Secrets of the computer, and of other tasks, are out of every task's sight. */
    if (mount("tmpfs", init->options.folder, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "mode=555,size=4k") != 0 &&
        errno != ENOENT)
        return error_set(error, STATUS_UNSUPPORTED, "cannot hide %s from tasks: %s",
                         init->options.folder, strerror(errno));
    struct mount_attr attributes = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID };
    if (syscall(SYS_mount_setattr, -1, "/", AT_RECURSIVE, &attributes, sizeof attributes) != 0)
        return error_set(error, STATUS_UNSUPPORTED, "cannot make the tasks' view read-only: %s",
                         strerror(errno));
    /* Last and writable: the kernel allows a task its own /proc only if it sees an open one. */
    (void)mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    if (chdir("/") != 0) return error_set(error, STATUS_IO, "cannot enter /: %s", strerror(errno));
    return STATUS_OK;
}
