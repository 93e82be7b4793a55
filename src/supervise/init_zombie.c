/* Zombie: a program that leaves an exited child unreaped is broken; past a deadline this is
 * recorded, and its task is killed with all its processes.
 *
 * Method: a slow scan of /proc, a bounded number of processes per tick, paced so that it costs less
 * than a two-hundredth of a core. A zombie is remembered when first seen; one that is still there
 * after the task's deadline is found. The stub reaps its own at once, so they never stay. */
#include "supervise/init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SCAN_TICK_MS = 1000,       /* a scan begins at most this often */
    SCAN_BATCH_MAX = 400,      /* processes per tick */
    SCAN_BATCH_PAUSE_MS = 500, /* between the ticks of one scan */
    RENEW_AFTER = 64,          /* processes looked at, before /proc is mounted anew */
    ZOMBIES_MAX = 256,         /* remembered at a time; more are found in later scans */
    ANCESTORS_MAX = 64,
};

struct zombie {
    pid_t pid;
    uint64_t started; /* of its life, in the kernel's ticks: pids come again */
    uint64_t first_seen_ns;
    uint64_t scan; /* the last one that saw it */
};

struct init_zombies {
    DIR *folder; /* open while a scan is under way */
    uint64_t scan;
    size_t count;
    size_t looked; /* processes, since /proc was mounted anew */
    struct zombie list[ZOMBIES_MAX];
};

struct process {
    char state;
    char name[16];
    pid_t parent;
    uint64_t started;
};

static bool read_process(const struct init *init, pid_t pid, struct process *ret_process)
{
    char path[32];
    char text[512];
    (void)snprintf(path, sizeof path, "%d/stat", pid);
    int file = openat(init->files.proc, path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    ssize_t size = read(file, text, sizeof text - 1);
    (void)close(file);
    if (size <= 0) return false;
    text[size] = 0;
    char *open_bracket = strchr(text, '(');
    char *close_bracket = strrchr(text, ')');
    if (open_bracket == NULL || close_bracket == NULL || strlen(close_bracket) < 5) return false;
    *close_bracket = 0;
    struct process process = { .state = close_bracket[2] };
    (void)snprintf(process.name, sizeof process.name, "%.15s", open_bracket + 1);
    char *field = close_bracket + 4;
    process.parent = (pid_t)strtol(field, &field, 10);
    /* Field 22 is the start time; field 4, the parent, was just read. */
    for (int i = 5; i < 22 && *field != 0; i++) (void)strtoll(field, &field, 10);
    process.started = strtoull(field, NULL, 10);
    *ret_process = process;
    return true;
}

/* The task below whose stub PID is; 0: none, or the stub itself is the negligent parent. */
static uint32_t task_above(const struct init *init, pid_t parent)
{
    for (int i = 0; i < ANCESTORS_MAX && parent > 1; i++) {
        uint32_t slot = init_find_pid(init, parent);
        if (slot != 0) return i == 0 ? 0 : slot;
        struct process process;
        if (!read_process(init, parent, &process)) return 0;
        parent = process.parent;
    }
    return 0;
}

static struct zombie *remember(struct init *init, pid_t pid, uint64_t started)
{
    struct init_zombies *zombies = init->zombies;
    for (size_t i = 0; i < zombies->count; i++) {
        struct zombie *zombie = &zombies->list[i];
        if (zombie->pid != pid || zombie->started != started) continue;
        zombie->scan = zombies->scan;
        return zombie;
    }
    if (zombies->count == ZOMBIES_MAX) return NULL;
    struct zombie *zombie = &zombies->list[zombies->count++];
    *zombie = (struct zombie) { pid, started, init->now_ns, zombies->scan };
    return zombie;
}

static void punish(struct init *init, uint32_t slot, const struct zombie *zombie, pid_t parent)
{
    struct process process = { .name = "?" };
    (void)read_process(init, parent, &process);
    uint64_t age_ms = (init->now_ns - zombie->first_seen_ns) / 1000000;
    uint64_t incarnation = init->policy_tasks[slot].incarnation;
    struct supervise_message message = { .kind = SUPERVISE_ZOMBIE_FOUND };
    message.zombie_found.task = init->tasks[slot].id;
    message.zombie_found.incarnation = incarnation;
    message.zombie_found.parent_pid = (uint32_t)parent;
    message.zombie_found.zombie_pid = (uint32_t)zombie->pid;
    message.zombie_found.age_ms = age_ms;
    message.zombie_found.parent_name = bytes_of_text(process.name);
    init_event(init, &message);
    char sentence[160];
    (void)snprintf(sentence, sizeof sentence,
                   "process %d (%s) left its exited child %d unreaped for over %llu ms", parent,
                   process.name, zombie->pid, (unsigned long long)age_ms);
    struct policy_event event = {
        .kind = POLICY_ZOMBIE, .slot = slot, .incarnation = incarnation, .text = sentence
    };
    init_feed(init, &event);
}

static void look_at(struct init *init, pid_t pid)
{
    struct process process;
    if (!read_process(init, pid, &process) || process.state != 'Z') return;
    uint32_t slot = task_above(init, process.parent);
    if (slot == 0) return;
    const struct zombie *zombie = remember(init, pid, process.started);
    struct supervise_start start;
    init_task_spec(init, slot, &start);
    if (zombie == NULL || start.zombie_after_ms == 0 || !init->policy_tasks[slot].live) return;
    if (init->policy_tasks[slot].state == SUPERVISE_STOPPING) return;
    if (init->now_ns - zombie->first_seen_ns < start.zombie_after_ms * 1000000ull) return;
    punish(init, slot, zombie, process.parent);
}

/* Those that this scan did not see are gone. */
static void forget(struct init_zombies *zombies)
{
    size_t kept = 0;
    for (size_t i = 0; i < zombies->count; i++) {
        if (zombies->list[i].scan == zombies->scan) zombies->list[kept++] = zombies->list[i];
    }
    zombies->count = kept;
}

static bool begin_scan(struct init *init)
{
    if (init->zombies == NULL) init->zombies = calloc(1, sizeof *init->zombies);
    if (init->zombies == NULL) return false;
    int file = openat(init->files.proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    init->zombies->folder = file < 0 ? NULL : fdopendir(file);
    init->zombies->scan++;
    return init->zombies->folder != NULL;
}

void init_zombie_scan(struct init *init)
{
    init->zombie_scan_at_ns = init->now_ns + SCAN_TICK_MS * 1000000ull;
    bool under_way = init->zombies != NULL && init->zombies->folder != NULL;
    if (!under_way && !begin_scan(init)) return;
    struct init_zombies *zombies = init->zombies;
    for (int i = 0; i < SCAN_BATCH_MAX; i++) {
        const struct dirent *entry = readdir(zombies->folder);
        if (entry == NULL) {
            (void)closedir(zombies->folder);
            zombies->folder = NULL;
            forget(zombies);
            if (zombies->looked < RENEW_AFTER) return;
            zombies->looked = 0;
            init_host_renew_proc(init);
            return;
        }
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
        zombies->looked++;
        look_at(init, (pid_t)strtol(entry->d_name, NULL, 10));
    }
    init->zombie_scan_at_ns = init->now_ns + SCAN_BATCH_PAUSE_MS * 1000000ull;
}
