/* Task: making one incarnation of a task, and knowing when nothing of it is left.
 *
 * The first process is made by clone3 with all namespaces and the cgroup leaf at once, sharing our
 * memory until it executes the stub, so that its cost does not grow with our size. While it waits
 * for its user id map, we write the map; then it becomes root of its namespace and executes. */
#include "supervise/init.h"
#include "supervise/limits.h"
#include "supervise/raw.h"
#include "supervise/stub.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    SPAWN_STACK_BYTES = 64 * 1024,
    SPAWN_TEXT_BYTES_MAX = 8192, /* writable paths and variables that we add */
    SPAWN_FAILED_STATUS = 125,
};

struct init_spawn {
    uint8_t stack[SPAWN_STACK_BYTES] __attribute__((aligned(64)));
    const char *argv[STUB_ARGUMENTS + SUPERVISE_STRINGS_COUNT_MAX + 1];
    const char *envp[SUPERVISE_STRINGS_COUNT_MAX + 8];
    char text[SPAWN_TEXT_BYTES_MAX];
    size_t text_used;
    char flags[2];
    char scratch[64];
    char name[LIMIT_NAME_BYTES_MAX + 1];
    char folder[SUPERVISE_PATH_BYTES_MAX + 1];
    int pipes[4]; /* out read, out write, err read, err write */
    int null;
    int stub;
    int error;     /* the child's errno when it could not execute */
    uint32_t go;   /* futex: the map is written */
    uint32_t busy; /* futex: cleared by the kernel once the child has executed or died */
};

enum status init_spawn_create(struct init_spawn **ret_spawn)
{
    /* Untouched pages cost nothing: most of it is room for the longest arguments. */
    void *memory = mmap(NULL, sizeof(struct init_spawn), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return STATUS_NO_MEMORY;
    *ret_spawn = memory;
    return STATUS_OK;
}

/* ---- the table ---- */

static uint32_t hash_id(const struct id *id)
{
    /* Ids are random; a caller who picks colliding ones only slows its own machine. */
    return (load_u32_le(id->bytes) ^ load_u32_le(id->bytes + 8) * 2654435761u) &
           (INIT_INDEX_SIZE - 1);
}

static uint32_t hash_pid(pid_t pid)
{
    return (uint32_t)pid * 2654435761u >> 8 & (INIT_INDEX_SIZE - 1);
}

static void index_add(uint32_t *index, uint32_t at, uint32_t slot)
{
    while (index[at] != 0) at = (at + 1) & (INIT_INDEX_SIZE - 1);
    index[at] = slot + 1;
}

/* Take SLOT out and close the gap; HOME tells where an entry would like to stand. */
static void index_remove(const struct init *init, uint32_t *index, uint32_t at, uint32_t slot,
                         uint32_t (*home)(const struct init *init, uint32_t slot))
{
    const uint32_t mask = INIT_INDEX_SIZE - 1;
    while (index[at] != slot + 1) {
        if (index[at] == 0) return;
        at = (at + 1) & mask;
    }
    index[at] = 0;
    for (uint32_t next = (at + 1) & mask; index[next] != 0; next = (next + 1) & mask) {
        uint32_t wish = home(init, index[next] - 1);
        if (((next - wish) & mask) < ((next - at) & mask)) continue;
        index[at] = index[next];
        index[next] = 0;
        at = next;
    }
}

static uint32_t home_of_id(const struct init *init, uint32_t slot)
{
    return hash_id(&init->tasks[slot].id);
}

static uint32_t home_of_pid(const struct init *init, uint32_t slot)
{
    return hash_pid(init->tasks[slot].stub);
}

uint32_t init_find(const struct init *init, const struct id *id)
{
    uint32_t at = hash_id(id);
    for (; init->by_id[at] != 0; at = (at + 1) & (INIT_INDEX_SIZE - 1)) {
        if (id_equal(&init->tasks[init->by_id[at] - 1].id, id)) return init->by_id[at] - 1;
    }
    return 0;
}

uint32_t init_find_pid(const struct init *init, pid_t pid)
{
    uint32_t at = hash_pid(pid);
    for (; init->by_pid[at] != 0; at = (at + 1) & (INIT_INDEX_SIZE - 1)) {
        if (init->tasks[init->by_pid[at] - 1].stub == pid) return init->by_pid[at] - 1;
    }
    return 0;
}

void init_task_index(struct init *init, uint32_t slot)
{
    index_add(init->by_id, home_of_id(init, slot), slot);
    if (init->tasks[slot].stub != 0) index_add(init->by_pid, home_of_pid(init, slot), slot);
}

static void set_stub(struct init *init, uint32_t slot, pid_t pid)
{
    struct init_task *task = &init->tasks[slot];
    if (task->stub != 0) index_remove(init, init->by_pid, hash_pid(task->stub), slot, home_of_pid);
    task->stub = pid;
    if (pid != 0) index_add(init->by_pid, hash_pid(pid), slot);
}

static struct policy_spec policy_spec_of(const struct supervise_start *start)
{
    return (struct policy_spec) {
        .first_incarnation = start->incarnation,
        .lease_until_ns = start->lease_until_ns,
        .restarts_period_ms = start->restarts_period_ms,
        .backoff_base_ms = start->backoff_base_ms,
        .backoff_cap_ms = start->backoff_cap_ms,
        .stable_after_ms = start->stable_after_ms,
        .stop_grace_ms = start->stop_grace_ms,
        .start_timeout_ms = start->start_timeout_ms,
        .restarts_limit = start->restarts_limit,
        .restart = start->restart,
        .readiness = start->readiness,
        .stop_signal = start->stop_signal,
        .exclusive = (start->flags & SUPERVISE_EXCLUSIVE) != 0,
    };
}

enum status init_task_add(struct init *init, const struct supervise_start *start,
                          struct bytes packet, uint32_t *ret_slot, struct error *error)
{
    if (init_find(init, &start->task) != 0)
        return error_set(error, STATUS_EXISTS, "the task is known already");
    if ((start->flags & SUPERVISE_OWN_NETWORK) != 0 &&
        (init->features & SUPERVISE_FEATURE_NETWORK) == 0)
        return error_set(error, STATUS_UNSUPPORTED, "this machine has no network namespaces");
    if (init->policy.task_count >= INIT_SLOTS)
        return error_set(error, STATUS_BUSY, "%d tasks are the most of a machine",
                         SUPERVISE_TASKS_MAX);
    uint32_t slot = init->slot_next;
    while (init->policy_tasks[slot].used) slot = slot + 1 < INIT_SLOTS ? slot + 1 : INIT_SLOT_TASKS;
    init->slot_next = slot + 1 < INIT_SLOTS ? slot + 1 : INIT_SLOT_TASKS;
    uint8_t *spec = malloc(packet.size);
    if (spec == NULL) return error_set(error, STATUS_NO_MEMORY, "no memory for the task");
    memcpy(spec, packet.data, packet.size);
    init->tasks[slot] =
        (struct init_task) { .id = start->task, .spec = spec, .spec_size = (uint32_t)packet.size };
    init_task_index(init, slot);
    struct policy_spec numbers = policy_spec_of(start);
    struct policy_event event = { .kind = POLICY_WANTED, .slot = slot, .spec = &numbers };
    init_feed(init, &event);
    *ret_slot = slot;
    return STATUS_OK;
}

void init_task_remove(struct init *init, uint32_t slot)
{
    struct init_task *task = &init->tasks[slot];
    struct policy_event event = { .kind = POLICY_DROP, .slot = slot };
    init_feed(init, &event);
    index_remove(init, init->by_id, home_of_id(init, slot), slot, home_of_id);
    free(task->spec);
    *task = (struct init_task) { 0 };
}

void init_task_spec(const struct init *init, uint32_t slot, struct supervise_start *ret_start)
{
    struct supervise_message message = { 0 };
    /* It was decoded when it came; that it still is, is our own doing. */
    enum status status = supervise_decode(
        bytes_of(init->tasks[slot].spec, init->tasks[slot].spec_size), &message, NULL);
    *ret_start = message.start;
    if (status != STATUS_OK) abort();
}

/* ---- the cgroup leaf ---- */

static void leaf_name(uint32_t slot, uint64_t incarnation, const char *file, char ret_name[64])
{
    (void)snprintf(ret_name, 64, "t%u.%llu%s", slot, (unsigned long long)incarnation, file);
}

int init_task_open_leaf(const struct init *init, uint32_t slot)
{
    char name[64];
    if (init->files.cgroup < 0 || init->tasks[slot].leaf == 0) return -1;
    leaf_name(slot, init->tasks[slot].leaf, "", name);
    return openat(init->files.cgroup, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* A fresh one for each incarnation: one that was ever killed by cgroup.kill kills at birth. */
static int make_leaf(struct init *init, uint32_t slot, uint64_t incarnation,
                     const struct supervise_start *start)
{
    char name[64];
    if (init->files.cgroup < 0) return -1;
    leaf_name(slot, incarnation, "", name);
    if (mkdirat(init->files.cgroup, name, 0755) != 0 && errno != EEXIST) return -1;
    init->tasks[slot].leaf = incarnation;
    int leaf = init_task_open_leaf(init, slot);
    const char *refused = leaf < 0 ? NULL : limits_write(leaf, init->features, start);
    if (refused != NULL) {
        int error = errno;
        init_say("task slot %u: cannot write %s: %s", slot, refused, strerror(error));
        (void)close(leaf);
        errno = error;
        return -1;
    }
    return leaf;
}

/* ---- the child that shares our memory: raw system calls only ---- */

/* Runs ENTRY(ARGUMENT) in the child on the stack of ARGS; ENTRY does not return. */
static long clone_onto(struct clone_args *args, void (*entry)(void *), void *argument)
{
    long result = 0;
#if defined(__x86_64__)
    register void (*fn)(void *) __asm__("r12") = entry;
    register void *arg __asm__("r13") = argument;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r13, %%rdi\n\t"
                     "call *%%r12\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(result)
                     : "a"((long)SYS_clone3), "D"(args), "S"(sizeof *args), "r"(fn), "r"(arg)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = SYS_clone3;
    register long x0 __asm__("x0") = (long)args;
    register long x1 __asm__("x1") = sizeof *args;
    register void (*fn)(void *) __asm__("x19") = entry;
    register void *arg __asm__("x20") = argument;
    __asm__ volatile("svc 0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x0, x20\n\t"
                     "blr x19\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(fn), "r"(arg)
                     : "x30", "memory");
    result = x0;
#endif
    return result;
}

__attribute__((noreturn, no_sanitize("address", "undefined", "thread"))) static void
child_main(void *argument)
{
    struct init_spawn *spawn = argument;
    while (__atomic_load_n(&spawn->go, __ATOMIC_ACQUIRE) == 0)
        (void)RAW(SYS_futex, &spawn->go, FUTEX_WAIT, 0, 0, 0);
    (void)RAW(SYS_setgroups, 0, 0, 0, 0, 0); /* refused without root, where it changes nothing */
    long error = RAW(SYS_setresgid, 0, 0, 0, 0, 0);
    if (error == 0) error = RAW(SYS_setresuid, 0, 0, 0, 0, 0);
    if (error == 0) error = RAW(SYS_dup3, spawn->null, 0, 0, 0, 0);
    if (error >= 0) error = RAW(SYS_dup3, spawn->pipes[1], 1, 0, 0, 0);
    if (error >= 0) error = RAW(SYS_dup3, spawn->pipes[3], 2, 0, 0, 0);
    if (error >= 0) error = RAW(SYS_dup3, spawn->pipes[0], STUB_SPARE_OUT, 0, 0, 0);
    if (error >= 0) error = RAW(SYS_dup3, spawn->pipes[2], STUB_SPARE_ERR, 0, 0, 0);
    /* Without random addresses the stub's code and stack share their page tables: 12 KB less for
     * each task. The stub reads nothing from outside but its arguments; the program has them. */
    (void)RAW(SYS_personality, ADDR_NO_RANDOMIZE, 0, 0, 0, 0);
    if (error >= 0)
        error = RAW(SYS_execveat, spawn->stub, "", spawn->argv, spawn->envp, AT_EMPTY_PATH);
    spawn->error = (int)-error;
    for (;;) (void)RAW(SYS_exit, SPAWN_FAILED_STATUS, 0, 0, 0, 0);
}

/* The last child may still be on its way to execute; its stack and arguments are these. */
static void wait_until_executed(struct init_spawn *spawn)
{
    for (;;) {
        uint32_t busy = __atomic_load_n(&spawn->busy, __ATOMIC_ACQUIRE);
        if (busy == 0) return;
        (void)syscall(SYS_futex, &spawn->busy, FUTEX_WAIT, busy, NULL, NULL, 0);
    }
}

/* ---- arguments ---- */

static char *add_text(struct init_spawn *spawn, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static char *add_text(struct init_spawn *spawn, const char *format, ...)
{
    va_list arguments;
    size_t room = sizeof spawn->text - spawn->text_used;
    char *text = spawn->text + spawn->text_used;
    va_start(arguments, format);
    int length = vsnprintf(text, room, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= room) return NULL;
    spawn->text_used += (size_t)length + 1;
    return text;
}

static void copy_text(char *to, size_t size, struct bytes from, const char *otherwise)
{
    size_t length = from.size < size ? from.size : size - 1;
    if (length > 0) memcpy(to, from.data, length);
    to[length] = 0;
    if (length == 0) (void)snprintf(to, size, "%s", otherwise);
}

/* What packages expect to be theirs: /var/lib/NAME and so on, where the host has them. */
static char *add_writable(struct init_spawn *spawn, const struct supervise_start *start)
{
    static const char *const usual[] = { "/var/lib", "/var/log", "/var/cache" };
    const char *program = (const char *)start->argv.bytes.data;
    const char *slash = strrchr(program, '/');
    const char *base = slash == NULL ? program : slash + 1;
    char *list = spawn->text + spawn->text_used;
    size_t used = 0;
    size_t room = sizeof spawn->text - spawn->text_used;
    struct stat about;
    if (stat("/var/tmp", &about) == 0)
        used += (size_t)snprintf(list + used, room - used, "/var/tmp\n");
    for (size_t i = 0; i < sizeof usual / sizeof *usual && base[0] != 0 && base[0] != '.'; i++) {
        char path[320];
        int length = snprintf(path, sizeof path, "%s/%.255s", usual[i], base);
        if (length < 0 || stat(path, &about) != 0 || !S_ISDIR(about.st_mode)) continue;
        used += (size_t)snprintf(list + used, room - used, "%s\n", path);
    }
    size_t at = 0;
    for (uint32_t i = 0; i < start->writable.count; i++) {
        const char *path = (const char *)start->writable.bytes.data + at;
        at += strlen(path) + 1;
        used += (size_t)snprintf(list + used, room - used, "%s\n", path);
    }
    spawn->text_used += used + 1;
    list[used] = 0;
    return list;
}

static void prepare_arguments(struct init *init, const struct supervise_start *start,
                              uint64_t incarnation)
{
    struct init_spawn *spawn = init->spawn;
    spawn->text_used = 0;
    unsigned flags =
        STUB_ISOLATED + ((start->flags & SUPERVISE_OWN_NETWORK) != 0 ? STUB_OWN_NETWORK : 0u);
    spawn->flags[0] = (char)('0' + flags);
    (void)snprintf(spawn->scratch, sizeof spawn->scratch, "mode=755,size=%lluk",
                   (unsigned long long)(start->scratch_bytes / 1024));
    copy_text(spawn->name, sizeof spawn->name, start->name, "task");
    copy_text(spawn->folder, sizeof spawn->folder, start->folder, "/");
    const char *own[STUB_ARGUMENTS] = { "unum-stub", spawn->flags,  spawn->scratch,
                                        spawn->name, spawn->folder, add_writable(spawn, start) };
    memcpy(spawn->argv, own, sizeof own);
    supervise_strings_point(&start->argv, spawn->argv + STUB_ARGUMENTS,
                            SUPERVISE_STRINGS_COUNT_MAX + 1);
    supervise_strings_point(&start->env, spawn->envp, SUPERVISE_STRINGS_COUNT_MAX + 1);
    uint32_t count = start->env.count;
    bool has_path = false;
    for (uint32_t i = 0; i < count; i++)
        has_path = has_path || strncmp(spawn->envp[i], "PATH=", 5) == 0;
    if (!has_path)
        spawn->envp[count++] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    spawn->envp[count++] = add_text(spawn, "UNUM_JOB=%.*s", (int)start->job.size, start->job.data);
    spawn->envp[count++] =
        add_text(spawn, "UNUM_TASK=%.*s", (int)start->name.size, start->name.data);
    spawn->envp[count++] =
        add_text(spawn, "UNUM_INCARNATION=%llu", (unsigned long long)incarnation);
    if (start->readiness == SUPERVISE_READINESS_NOTIFY)
        spawn->envp[count++] = "NOTIFY_SOCKET=" STUB_SOCKET;
    spawn->envp[count] = NULL;
}

/* ---- making it ---- */

static bool write_map(const struct init *init, pid_t pid, const char *file, const char *text)
{
    char path[48];
    (void)snprintf(path, sizeof path, "%d/%s", pid, file);
    int map = openat(init->files.proc, path, O_WRONLY | O_CLOEXEC);
    if (map < 0) return false;
    bool fine = write(map, text, strlen(text)) == (ssize_t)strlen(text);
    (void)close(map);
    return fine;
}

static bool write_maps(struct init *init, uint32_t slot, pid_t pid)
{
    char map[64];
    if (init->rootless) {
        if (!write_map(init, pid, "setgroups", "deny")) return false;
        return write_map(init, pid, "uid_map", "0 0 1") && write_map(init, pid, "gid_map", "0 0 1");
    }
    (void)snprintf(map, sizeof map, "0 %u %d", init->id_base + slot * (uint32_t)INIT_IDS_PER_TASK,
                   INIT_IDS_PER_TASK);
    return write_map(init, pid, "uid_map", map) && write_map(init, pid, "gid_map", map);
}

static bool make_pipes(struct init *init, uint32_t slot)
{
    int *pipes = init->spawn->pipes;
    for (int i = 0; i < 4; i++) pipes[i] = -1;
    if (pipe2(pipes, O_CLOEXEC) != 0 || pipe2(pipes + 2, O_CLOEXEC) != 0) return false;
    if (init->rootless) return true;
    /* Programs open /dev/stdout anew; the pipes are theirs. */
    uid_t owner = init->id_base + slot * (uid_t)INIT_IDS_PER_TASK;
    return fchown(pipes[0], owner, owner) == 0 && fchown(pipes[2], owner, owner) == 0;
}

static void close_pipes(struct init *init)
{
    for (int i = 0; i < 4; i++) {
        if (init->spawn->pipes[i] >= 0) (void)close(init->spawn->pipes[i]);
    }
}

/* The process; negative errno. */
static long make_process(struct init *init, int leaf, bool own_network)
{
    struct init_spawn *spawn = init->spawn;
    spawn->go = 0;
    spawn->busy = 1;
    spawn->error = 0;
    uint64_t flags = CLONE_VM | CLONE_CHILD_CLEARTID | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS |
                     CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
    if (own_network) flags |= CLONE_NEWNET;
    if (leaf >= 0) flags |= CLONE_INTO_CGROUP;
    struct clone_args args = {
        .flags = flags,
        .child_tid = (uintptr_t)&spawn->busy,
        .exit_signal = SIGCHLD,
        .stack = (uintptr_t)spawn->stack,
        .stack_size = sizeof spawn->stack,
        .cgroup = leaf >= 0 ? (unsigned)leaf : 0u,
    };
    long pid = clone_onto(&args, child_main, spawn);
    if (pid < 0) spawn->busy = 0;
    return pid;
}

static void spawn_failed(struct init *init, uint32_t slot, uint64_t incarnation, const char *step,
                         int error)
{
    char sentence[160];
    (void)snprintf(sentence, sizeof sentence, "%s: %s", step, strerror(error));
    struct policy_event event = { .kind = POLICY_EXITED,
                                  .slot = slot,
                                  .incarnation = incarnation,
                                  .exit_kind = SUPERVISE_NOT_STARTED,
                                  .exit_code = (uint32_t)error,
                                  .text = sentence };
    init_feed(init, &event);
    /* GONE follows in the next turn: a failure that repeats at once must not recurse. */
    struct init_task *task = &init->tasks[slot];
    if (!task->gone_waits) init->gone_count++;
    task->gone_waits = true;
    task->gone_wait_ms = 1;
    init->gone_at_ns = init->now_ns;
}

void init_task_spawn(struct init *init, uint32_t slot, uint64_t incarnation)
{
    struct init_task *task = &init->tasks[slot];
    struct init_spawn *spawn = init->spawn;
    struct supervise_start start;
    init_task_spec(init, slot, &start);
    wait_until_executed(spawn);
    task->host_pid = 0;
    task->log_has = false;
    task->told_signal = 0;
    prepare_arguments(init, &start, incarnation);
    int leaf = make_leaf(init, slot, incarnation, &start);
    if (leaf < 0 && init->files.cgroup >= 0) {
        spawn_failed(init, slot, incarnation, "cannot make its cgroup with its limits", errno);
        return;
    }
    if (!make_pipes(init, slot)) {
        int error = errno;
        close_pipes(init);
        if (leaf >= 0) (void)close(leaf);
        spawn_failed(init, slot, incarnation, "cannot make its output pipes", error);
        return;
    }
    spawn->null = init->files.null;
    spawn->stub = init->files.stub;
    long pid = make_process(init, leaf, (start.flags & SUPERVISE_OWN_NETWORK) != 0);
    if (leaf >= 0) (void)close(leaf);
    if (pid < 0) {
        close_pipes(init);
        spawn_failed(init, slot, incarnation, "cannot make its first process", (int)-pid);
        return;
    }
    set_stub(init, slot, (pid_t)pid);
    if (!write_maps(init, slot, (pid_t)pid)) {
        init_say("task slot %u: cannot write its user id map: %s", slot, strerror(errno));
        (void)kill((pid_t)pid, SIGKILL);
    }
    __atomic_store_n(&spawn->go, 1, __ATOMIC_RELEASE);
    (void)syscall(SYS_futex, &spawn->go, FUTEX_WAKE, 1, NULL, NULL, 0);
    init_log_hand(init, slot, spawn->pipes[0], spawn->pipes[2]);
    close_pipes(init);
    struct policy_event event = { .kind = POLICY_SPAWNED,
                                  .slot = slot,
                                  .incarnation = incarnation };
    init_feed(init, &event);
}

void init_task_kill(struct init *init, uint32_t slot)
{
    struct init_task *task = &init->tasks[slot];
    /* With the stub reaped its PID namespace is empty, and so is the leaf. */
    if (task->stub == 0 && task->exec_count == 0) return;
    char name[64];
    leaf_name(slot, task->leaf, "/cgroup.kill", name);
    int file = init->files.cgroup < 0 || task->leaf == 0
                   ? -1
                   : openat(init->files.cgroup, name, O_WRONLY | O_CLOEXEC);
    bool done = file >= 0 && write(file, "1", 1) == 1;
    if (file >= 0) (void)close(file);
    if (!done && task->stub != 0) (void)kill(task->stub, SIGKILL);
}

void init_task_check_gone(struct init *init, uint32_t slot)
{
    struct init_task *task = &init->tasks[slot];
    if (task->gone_waits) init->gone_count--;
    task->gone_waits = false;
    if (task->stub != 0 || task->exec_count != 0) return; /* their end brings us back */
    char name[64];
    leaf_name(slot, task->leaf, "", name);
    /* rmdir succeeds only on an empty cgroup: it is the proof. */
    bool gone = init->files.cgroup < 0 || task->leaf == 0 ||
                unlinkat(init->files.cgroup, name, AT_REMOVEDIR) == 0 || errno == ENOENT;
    if (gone) {
        task->leaf = 0;
        task->gone_wait_ms = 0;
        struct policy_event event = { .kind = POLICY_GONE,
                                      .slot = slot,
                                      .incarnation = init->policy_tasks[slot].incarnation };
        init_feed(init, &event);
        return;
    }
    uint32_t wait = task->gone_wait_ms == 0 ? 1u : task->gone_wait_ms * 2u;
    task->gone_wait_ms = (uint16_t)(wait > INIT_GONE_RETRY_MAX_MS ? INIT_GONE_RETRY_MAX_MS : wait);
    task->gone_waits = true;
    uint64_t at = init->now_ns + task->gone_wait_ms * 1000000ull;
    if (init->gone_count == 0 || at < init->gone_at_ns) init->gone_at_ns = at;
    init->gone_count++;
}

void init_task_reaped(struct init *init, uint32_t slot, const siginfo_t *info)
{
    set_stub(init, slot, 0);
    init->tasks[slot].host_pid = 0;
    struct policy_event event = { .kind = POLICY_EXITED,
                                  .slot = slot,
                                  .incarnation = init->policy_tasks[slot].incarnation,
                                  .exit_kind = info->si_code == CLD_EXITED ? SUPERVISE_EXITED
                                                                           : SUPERVISE_SIGNALED,
                                  .exit_code = (uint32_t)info->si_status };
    if (info->si_code == CLD_EXITED && info->si_status == SPAWN_FAILED_STATUS &&
        init->spawn->error != 0) {
        event.exit_kind = SUPERVISE_NOT_STARTED;
        event.exit_code = (uint32_t)init->spawn->error;
        event.text = "cannot execute the stub";
        init->spawn->error = 0;
    }
    if (init->tasks[slot].told_signal != 0 && info->si_code == CLD_EXITED) {
        event.exit_kind = SUPERVISE_SIGNALED;
        event.exit_code = init->tasks[slot].told_signal;
    }
    init_feed(init, &event); /* no effect where the stub has told that it could not start */
    init_task_check_gone(init, slot);
}
