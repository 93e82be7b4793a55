#include "reactor/host.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

void host_read_facts(struct host_facts *ret_facts)
{
    struct host_facts facts = { .cores = 1 };
    char name[256] = "";
    if (gethostname(name, sizeof name - 1) != 0) name[0] = '\0';
    size_t used = 0;
    for (const char *p = name; *p != '\0' && *p != '.' && used < HOST_NAME_BYTES_MAX; p++) {
        char c = (char)tolower((unsigned char)*p);
        bool good = isalnum((unsigned char)c) || (c == '-' && used > 0);
        if (good) facts.name[used++] = c;
    }
    while (used > 0 && facts.name[used - 1] == '-') used--;
    facts.name[used] = '\0';
    if (used == 0) memcpy(facts.name, "machine", sizeof "machine");
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (cores > 0) facts.cores = (unsigned)cores;
    struct sysinfo info;
    if (sysinfo(&info) == 0) facts.memory_bytes = (uint64_t)info.totalram * info.mem_unit;
    facts.process = (uint32_t)getpid();
    facts.is_root = geteuid() == 0;
    *ret_facts = facts;
}

static enum status read_small_file(const char *path, char *ret_text, size_t size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return STATUS_NOT_FOUND;
    ssize_t used = read(file, ret_text, size - 1);
    (void)close(file);
    if (used <= 0) return STATUS_NOT_FOUND;
    ret_text[used] = '\0';
    return STATUS_OK;
}

enum status host_process_usage(uint32_t process, struct host_usage *ret_usage)
{
    char path[64], text[1024];
    (void)snprintf(path, sizeof path, "/proc/%" PRIu32 "/stat", process);
    enum status status = read_small_file(path, text, sizeof text);
    if (status != STATUS_OK) return status;
    /* The name may contain anything; the numbers start behind its last parenthesis. */
    const char *numbers = strrchr(text, ')');
    if (numbers == NULL) return STATUS_NOT_FOUND;
    /* proc(5): behind the name stand fields 3 and on; 14 to 17 are times, 24 the pages. */
    uint64_t ticks = 0, pages = 0;
    const char *field = numbers + 1;
    for (unsigned number = 3; number <= 24; number++) {
        field += strspn(field, " ");
        char *end = NULL;
        uint64_t value = strtoull(field, &end, 10);
        if (number >= 14 && number <= 17) ticks += value;
        if (number == 24) pages = value;
        if (*field == '\0') return STATUS_NOT_FOUND;
        field += strcspn(field, " ");
    }
    *ret_usage = (struct host_usage) {
        .memory_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE),
        .cpu_ns = ticks * (1000000000ULL / (uint64_t)sysconf(_SC_CLK_TCK)),
    };
    return STATUS_OK;
}

void host_random(void *ret_bytes, size_t size)
{
    uint8_t *bytes = ret_bytes;
    while (size > 0) {
        ssize_t used = getrandom(bytes, size, 0);
        if (used < 0 && errno != EINTR) abort(); /* no randomness, no identity */
        if (used <= 0) continue;
        bytes += used;
        size -= (size_t)used;
    }
}

enum status host_check_private(const char *file)
{
    struct stat facts;
    if (stat(file, &facts) != 0) return errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO;
    return (facts.st_mode & 077) == 0 ? STATUS_OK : STATUS_DENIED;
}

enum status host_give_folder(const char *folder, uint32_t user, struct error *error)
{
    char *paths[] = { (char *)folder, NULL };
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
    if (tree == NULL) return error_set(error, STATUS_IO, "%s: %s", folder, strerror(errno));
    enum status status = STATUS_OK;
    FTSENT *entry;
    while (status == STATUS_OK && (entry = fts_read(tree)) != NULL) {
        if (entry->fts_info == FTS_DP || entry->fts_info == FTS_SL) continue;
        mode_t mode = entry->fts_info == FTS_D ? 0700 : 0600;
        if (lchown(entry->fts_path, user, user) != 0 || chmod(entry->fts_path, mode) != 0)
            status = error_set(error, STATUS_DENIED, "cannot give %s to user %" PRIu32 ": %s",
                               entry->fts_path, user, strerror(errno));
    }
    (void)fts_close(tree);
    return status;
}

enum status host_pass_folder(const char *folder, struct error *error)
{
    if (chmod(folder, 0755) == 0) return STATUS_OK;
    enum status status = errno == EROFS || errno == EPERM ? STATUS_DENIED : STATUS_IO;
    return error_set(error, status, "cannot change the mode of %s: %s", folder, strerror(errno));
}

enum status host_signals_open(int *ret_descriptor, struct error *error)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return error_set(error, STATUS_INTERNAL, "cannot block signals: %s", strerror(errno));
    int descriptor = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (descriptor < 0)
        return error_set(error, STATUS_INTERNAL, "cannot watch signals: %s", strerror(errno));
    *ret_descriptor = descriptor;
    return STATUS_OK;
}

int host_signals_take(int descriptor)
{
    struct signalfd_siginfo info;
    return read(descriptor, &info, sizeof info) == sizeof info ? (int)info.ssi_signo : 0;
}
