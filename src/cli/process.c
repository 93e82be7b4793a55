#include "cli/process.h"

#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SMALL_FILE_BYTES = 1024 };

static void path_of(const char *folder, const char *name, char path[PROCESS_PATH_BYTES_MAX + 1])
{
    if (snprintf(path, PROCESS_PATH_BYTES_MAX + 1, "%s/%s", folder, name) > PROCESS_PATH_BYTES_MAX)
        path[0] = '\0'; /* no file has this path */
}

static bool read_small(const char *path, char text[SMALL_FILE_BYTES + 1])
{
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    size_t used = fread(text, 1, SMALL_FILE_BYTES, file);
    text[used] = '\0';
    (void)fclose(file);
    return true;
}

/* When PID began; 0: there is no such process, or it is a zombie. */
static uint64_t start_of(pid_t pid)
{
    char path[64], text[SMALL_FILE_BYTES + 1];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (!read_small(path, text)) return 0;
    /* The name in parentheses may hold anything; state is field 3, start is field 22. */
    char *field = strrchr(text, ')');
    if (field == NULL || field[1] == '\0' || field[2] == 'Z' || field[2] == 'X') return 0;
    field += 2;
    for (int i = 3; i < 22 && field != NULL; i++) {
        field = strchr(field, ' ');
        if (field != NULL) field++;
    }
    if (field == NULL) return 0;
    field[strcspn(field, " \n")] = '\0';
    uint64_t start;
    return parse_u64(field, UINT64_MAX, &start) == STATUS_OK ? start : 0;
}

pid_t process_find(const char *folder)
{
    char path[PROCESS_PATH_BYTES_MAX + 1], text[SMALL_FILE_BYTES + 1];
    path_of(folder, "up.pid", path);
    if (!read_small(path, text)) return 0;
    char *space = strchr(text, ' ');
    if (space == NULL) return 0;
    *space = '\0';
    space[1 + strcspn(space + 1, "\n")] = '\0';
    uint64_t pid, start;
    if (parse_u64(text, INT32_MAX, &pid) != STATUS_OK || pid == 0 ||
        parse_u64(space + 1, UINT64_MAX, &start) != STATUS_OK)
        return 0;
    return start != 0 && start_of((pid_t)pid) == start ? (pid_t)pid : 0;
}

enum status process_remember(const char *folder, pid_t pid, struct error *error)
{
    char path[PROCESS_PATH_BYTES_MAX + 1], new[PROCESS_PATH_BYTES_MAX + 1];
    path_of(folder, "up.pid", path);
    path_of(folder, "up.pid.new", new);
    FILE *file = fopen(new, "we");
    bool fine = file != NULL;
    if (fine) fine = fprintf(file, "%d %" PRIu64 "\n", (int)pid, start_of(pid)) > 0;
    if (file != NULL && fclose(file) != 0) fine = false;
    if (fine && rename(new, path) == 0) return STATUS_OK;
    return error_set(error, STATUS_IO, "%s can't be written: %s", path, strerror(errno));
}

void process_forget(const char *folder)
{
    char path[PROCESS_PATH_BYTES_MAX + 1];
    path_of(folder, "up.pid", path);
    (void)unlink(path);
}

enum status process_lock(const char *folder, int *ret_lock, struct error *error)
{
    char path[PROCESS_PATH_BYTES_MAX + 1];
    path_of(folder, "up.lock", path);
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock < 0)
        return error_set(error, errno == EROFS || errno == EACCES ? STATUS_DENIED : STATUS_IO,
                         "%s can't be written: %s", folder,
                         errno == EROFS ? "it is read-only" : strerror(errno));
    if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
        (void)close(lock);
        return error_set(error, STATUS_BUSY, "another `unum up` is already starting %s", folder);
    }
    *ret_lock = lock;
    return STATUS_OK;
}

enum status process_make_folder(const char *folder, char ret_path[PROCESS_PATH_BYTES_MAX + 1],
                                struct error *error)
{
    char path[PROCESS_PATH_BYTES_MAX + 1];
    size_t size = strlen(folder);
    if (size == 0 || size > PROCESS_PATH_BYTES_MAX)
        return error_set(error, STATUS_INVALID, "--dir must be a path of at most %d bytes",
                         (int)PROCESS_PATH_BYTES_MAX);
    memcpy(path, folder, size + 1);
    for (size_t i = 1; i <= size; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        char kept = path[i];
        path[i] = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST && errno != EROFS)
            return error_set(error, STATUS_IO, "%s can't be made: %s", path, strerror(errno));
        path[i] = kept;
    }
    char *absolute = realpath(folder, NULL);
    struct stat about;
    if (absolute == NULL || stat(absolute, &about) != 0 || !S_ISDIR(about.st_mode) ||
        strlen(absolute) > PROCESS_PATH_BYTES_MAX) {
        free(absolute);
        return error_set(error, STATUS_IO, "%s is not a folder", folder);
    }
    memcpy(ret_path, absolute, strlen(absolute) + 1);
    free(absolute);
    return STATUS_OK;
}

enum status process_find_program(const char *name, char ret_path[PROCESS_PATH_BYTES_MAX + 1],
                                 struct error *error)
{
    static const char *const places[] = { "", "../lib/unum/", "../node/", "../supervise/" };
    char own[PROCESS_PATH_BYTES_MAX + 1];
    ssize_t size = readlink("/proc/self/exe", own, PROCESS_PATH_BYTES_MAX);
    if (size <= 0) return error_set(error, STATUS_IO, "/proc/self/exe can't be read");
    own[size] = '\0';
    char *slash = strrchr(own, '/');
    if (slash != NULL) slash[1] = '\0';
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char path[PROCESS_PATH_BYTES_MAX + 64];
        (void)snprintf(path, sizeof path, "%s%s%s", own, places[i], name);
        if (strlen(path) > PROCESS_PATH_BYTES_MAX || access(path, X_OK) != 0) continue;
        memcpy(ret_path, path, strlen(path) + 1);
        return STATUS_OK;
    }
    return error_set(error, STATUS_NOT_FOUND,
                     "the program %s is missing: it belongs beside unum or into ../lib/unum", name);
}

/* The last line of TEXT without what names the program. */
static void last_line(char *text, char ret_line[PROCESS_LINE_BYTES_MAX + 1])
{
    size_t used = strlen(text);
    while (used > 0 && text[used - 1] == '\n') text[--used] = '\0';
    char *line = strrchr(text, '\n');
    line = line == NULL ? text : line + 1;
    char *colon = strstr(line, ": ");
    if (colon != NULL && memchr(line, ' ', (size_t)(colon - line)) == NULL) line = colon + 2;
    (void)snprintf(ret_line, PROCESS_LINE_BYTES_MAX + 1, "%.*s", PROCESS_LINE_BYTES_MAX, line);
}

enum status process_run(char *const *arguments, struct error *error)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_set(error, STATUS_IO, "no pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(ends[1], STDERR_FILENO);
        (void)signal(SIGPIPE, SIG_DFL);
        (void)execv(arguments[0], arguments);
        _exit(127);
    }
    (void)close(ends[1]);
    char text[SMALL_FILE_BYTES + 1];
    size_t used = 0;
    for (ssize_t got = 1; pid > 0 && got != 0;) {
        /* Only the end counts: what is too long loses its front. */
        if (used > SMALL_FILE_BYTES / 2) {
            memmove(text, text + SMALL_FILE_BYTES / 4, used - SMALL_FILE_BYTES / 4);
            used -= SMALL_FILE_BYTES / 4;
        }
        got = read(ends[0], text + used, SMALL_FILE_BYTES - used);
        if (got < 0 && errno != EINTR) break;
        used += got > 0 ? (size_t)got : 0;
    }
    text[used] = '\0';
    (void)close(ends[0]);
    int result = -1;
    while (pid > 0 && waitpid(pid, &result, 0) < 0 && errno == EINTR) continue;
    if (pid > 0 && WIFEXITED(result) && WEXITSTATUS(result) == 0) return STATUS_OK;
    char line[PROCESS_LINE_BYTES_MAX + 1];
    last_line(text, line);
    return error_set(error, STATUS_IO, "%s", line[0] == '\0' ? "a program of unum failed" : line);
}

enum status process_start(char *const *arguments, const char *log, bool dies_with_us,
                          pid_t *ret_pid, struct error *error)
{
    int words = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    pid_t parent = getpid();
    pid_t pid = words < 0 || nothing < 0 ? -1 : fork();
    if (pid == 0) {
        (void)setsid();
        (void)dup2(nothing, STDIN_FILENO);
        (void)dup2(words, STDOUT_FILENO);
        (void)dup2(words, STDERR_FILENO);
        (void)signal(SIGPIPE, SIG_DFL);
        (void)umask(077);
        if (dies_with_us) (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (dies_with_us && getppid() != parent) _exit(1);
        if (chdir("/") != 0) _exit(126);
        (void)execv(arguments[0], arguments);
        _exit(127);
    }
    enum status status = STATUS_OK;
    if (pid < 0)
        status = error_set(error, STATUS_IO, "%s: %s", words < 0 ? log : "a process can't be made",
                           strerror(errno));
    else
        *ret_pid = pid;
    if (words >= 0) (void)close(words);
    if (nothing >= 0) (void)close(nothing);
    return status;
}

bool process_has_ended(pid_t pid)
{
    int result;
    return waitpid(pid, &result, WNOHANG) == pid;
}

bool process_wait_end(pid_t pid, uint64_t timeout_ms)
{
    int handle = (int)syscall(SYS_pidfd_open, pid, 0);
    if (handle < 0) return errno == ESRCH;
    struct pollfd wait = { .fd = handle, .events = POLLIN };
    int timeout = timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms;
    int got;
    do got = poll(&wait, 1, timeout);
    while (got < 0 && errno == EINTR);
    (void)close(handle);
    return got > 0;
}

int64_t process_open_log(const char *log)
{
    struct stat about;
    if (stat(log, &about) != 0) return 0;
    if (about.st_size <= PROCESS_LOG_BYTES_MAX) return about.st_size;
    char old[PROCESS_PATH_BYTES_MAX + 8];
    (void)snprintf(old, sizeof old, "%s.1", log);
    return rename(log, old) == 0 ? 0 : about.st_size;
}

/* What unumd says counts more than what unum-init says about it. */
static void judge_line(const char *line, struct process_log *log, bool *daemon_spoke)
{
    static const char daemon[] = "unumd: ", init[] = "unum-init: ";
    static const char *const usual[] = { "this machine lacks", "unumd ", "unum-log ",
                                         "shutting down", "everything has ended" };
    /* unum-init's lines begin with the time. */
    if (line[0] >= '0' && line[0] <= '9') {
        line += strcspn(line, " ");
        if (line[0] == ' ') line++;
    }
    if (strncmp(line, daemon, sizeof daemon - 1) == 0 && strstr(line, " serves on ") == NULL) {
        (void)snprintf(log->sentence, sizeof log->sentence, "%s", line + sizeof daemon - 1);
        *daemon_spoke = true;
    }
    if (strncmp(line, init, sizeof init - 1) != 0) return;
    const char *text = line + sizeof init - 1;
    if (strncmp(text, "unumd ended", 11) == 0) log->failures++;
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++)
        if (strncmp(text, usual[i], strlen(usual[i])) == 0) return;
    if (!*daemon_spoke) (void)snprintf(log->sentence, sizeof log->sentence, "%s", text);
}

void process_read_log(const char *log, int64_t offset, struct process_log *ret_log)
{
    *ret_log = (struct process_log) { 0 };
    bool daemon_spoke = false;
    FILE *file = fopen(log, "re");
    if (file == NULL) return;
    char line[PROCESS_LINE_BYTES_MAX + 64];
    if (fseek(file, (long)offset, SEEK_SET) == 0) {
        while (fgets(line, sizeof line, file) != NULL) {
            line[strcspn(line, "\n")] = '\0';
            judge_line(line, ret_log, &daemon_spoke);
        }
    }
    (void)fclose(file);
}
