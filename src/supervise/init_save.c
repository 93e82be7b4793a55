/* Save: unum-init executes itself anew and keeps every task, unum-log, unumd and its connection.
 *
 * Its state is written to a memfd; children stay children across execve, and the descriptors that
 * matter stay open. The layout is explicit and versioned, since the new binary may be newer:
 *   magic u64 | version u32 | descriptors i32 each | numbers | texts | tasks
 * If the execution fails, the old one goes on as if nothing had been asked. */
#include "supervise/init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SAVE_VERSION = 1, SAVE_BYTES_MAX = 1 << 30, SAVE_FILES = sizeof(struct init_files) / 4 };
static const uint64_t save_magic = 0x65766173206d756eu; /* "num save" */

_Static_assert(sizeof(struct init_files) % 4 == 0, "init_files holds descriptors only");

static void put_task(const struct init *init, uint32_t slot, struct writer *writer)
{
    const struct init_task *task = &init->tasks[slot];
    writer_put_u32(writer, slot);
    writer_put(writer, task->id.bytes, ID_BYTES);
    writer_put_u32(writer, (uint32_t)task->stub);
    writer_put_u64(writer, task->leaf);
    writer_put_u32(writer, task->host_pid);
    writer_put_u64(writer, task->event);
    writer_put_u8(writer, task->told_signal);
    writer_put_u8(writer, task->log_has);
    writer_put_bytes(writer, bytes_of(task->spec, task->spec_size));
    policy_save(&init->policy, slot, writer);
}

static void put_execs(const struct init *init, struct writer *writer)
{
    for (int i = 0; i < INIT_EXECS_MAX; i++) {
        const struct init_exec *exec = &init->execs[i];
        if (exec->pid == 0) continue;
        writer_put_u32(writer, (uint32_t)exec->pid);
        writer_put_u32(writer, exec->slot);
        writer_put_u64(writer, exec->request);
        writer_put(writer, exec->task.bytes, ID_BYTES);
    }
    writer_put_u32(writer, 0);
}

static void put_all(const struct init *init, struct writer *writer)
{
    writer_put_u64(writer, save_magic);
    writer_put_u32(writer, SAVE_VERSION);
    const int *files = &init->files.folder;
    for (size_t i = 0; i < SAVE_FILES; i++) writer_put_u32(writer, (uint32_t)files[i]);
    writer_put_u32(writer, (uint32_t)init->client.descriptor);
    writer_put_u8(writer, init->client.greeted);
    writer_put_u8(writer, init->client.streams);
    writer_put_u64(writer, init->client.event_next);
    writer_put_u64(writer, init->instance);
    writer_put_u64(writer, init->started_at_ns);
    writer_put_u64(writer, init->ring->last);
    writer_put_u32(writer, init->reexec_count + 1);
    writer_put_u32(writer, init->features);
    writer_put_u8(writer, init->rootless);
    writer_put_u8(writer, init->options.pid1);
    writer_put_u32(writer, init->id_base);
    writer_put_u32(writer, init->unumd_user);
    writer_put_bytes(writer, bytes_of_text(init->missing));
    writer_put_bytes(writer, bytes_of_text(init->cgroup_name));
    writer_put_bytes(writer, bytes_of_text(init->options.folder));
    writer_put_bytes(writer, bytes_of_text(init->options.unumd == NULL ? "" : init->options.unumd));
    for (char **argument = init->options.unumd_arguments; *argument != NULL; argument++)
        writer_put_bytes(writer, bytes_of_text(*argument));
    writer_put_bytes(writer, bytes_of(NULL, 0));
    put_execs(init, writer);
    for (uint32_t slot = 0; slot < INIT_SLOTS; slot++) {
        if (init->policy_tasks[slot].used) put_task(init, slot, writer);
    }
    writer_put_u32(writer, UINT32_MAX);
}

static void keep_open(struct init *init, bool keep)
{
    const int *files = &init->files.folder;
    for (size_t i = 0; i <= SAVE_FILES; i++) {
        int file = i < SAVE_FILES ? files[i] : init->client.descriptor;
        if (file >= 0) (void)fcntl(file, F_SETFD, keep ? 0 : FD_CLOEXEC);
    }
}

/* The memfd with our state; -1: no memory. */
static int write_state(const struct init *init)
{
    size_t size = 65536 + (size_t)init->policy.task_count * POLICY_TASK_BYTES_MAX;
    for (uint32_t slot = 0; slot < INIT_SLOTS; slot++) size += init->tasks[slot].spec_size + 128u;
    int memory = memfd_create("unum-init", MFD_CLOEXEC);
    void *map = MAP_FAILED;
    if (memory >= 0 && ftruncate(memory, (off_t)size) == 0)
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (map != MAP_FAILED) {
        struct writer writer = writer_of(map, size);
        put_all(init, &writer);
        bool fine = !writer.failed && ftruncate(memory, (off_t)writer.used) == 0;
        (void)munmap(map, size);
        if (fine) return memory;
    }
    if (memory >= 0) (void)close(memory);
    return -1;
}

static int open_binary(const struct init *init)
{
    if (init->reexec_binary[0] == 0)
        return openat(init->files.programs, "unum-init", O_PATH | O_CLOEXEC);
    struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT };
    return (int)syscall(SYS_openat2, init->files.root, init->reexec_binary, &how, sizeof how);
}

void init_reexec(struct init *init)
{
    /* The client has the answer first, and no LIST is cut. */
    init_client_flush(init);
    if (init->client.lists || init->client.pending_size > 0) return;
    init->reexec_wanted = false;
    int binary = open_binary(init);
    int memory = binary < 0 ? -1 : write_state(init);
    if (memory >= 0) {
        char resume[32];
        (void)snprintf(resume, sizeof resume, "--resume=%d", memory);
        char *argv[] = { (char *)"unum-init", resume, NULL };
        (void)fcntl(memory, F_SETFD, 0);
        keep_open(init, true);
        (void)syscall(SYS_execveat, binary, "", argv, environ, AT_EMPTY_PATH);
    }
    init_say("cannot execute itself anew, goes on as it is: %s", strerror(errno));
    keep_open(init, false);
    if (memory >= 0) (void)close(memory);
    if (binary >= 0) (void)close(binary);
}

/* ---- the new one ---- */

static char *take_text(struct reader *reader)
{
    struct bytes text = reader_bytes(reader, 65536);
    char *copy = calloc(1, text.size + 1);
    if (copy != NULL && text.size > 0) memcpy(copy, text.data, text.size);
    return copy;
}

static enum status take_task(struct init *init, uint32_t slot, struct reader *reader)
{
    if (slot >= INIT_SLOTS || init->policy_tasks[slot].used) return STATUS_CORRUPT;
    struct init_task *task = &init->tasks[slot];
    const uint8_t *id = reader_take(reader, ID_BYTES);
    if (id != NULL) memcpy(task->id.bytes, id, ID_BYTES);
    task->stub = (pid_t)reader_u32(reader);
    task->leaf = reader_u64(reader);
    task->host_pid = reader_u32(reader);
    task->event = reader_u64(reader);
    task->told_signal = reader_u8(reader);
    task->log_has = reader_u8(reader) != 0;
    struct bytes spec = reader_bytes(reader, SUPERVISE_MESSAGE_BYTES_MAX);
    if (reader->failed) return STATUS_CORRUPT;
    if (slot >= INIT_SLOT_TASKS) {
        struct supervise_message message;
        if (supervise_decode(spec, &message, NULL) != STATUS_OK) return STATUS_CORRUPT;
        task->spec = malloc(spec.size);
        if (task->spec == NULL) return STATUS_NO_MEMORY;
        memcpy(task->spec, spec.data, spec.size);
        task->spec_size = (uint32_t)spec.size;
        init_task_index(init, slot);
    }
    enum status status = policy_load(&init->policy, slot, reader);
    if (status != STATUS_OK || slot < INIT_SLOT_TASKS) return status;
    if (init->policy_tasks[slot].pid != 0 && task->host_pid == 0)
        init->pids_wanted[init->pids_tail++ % INIT_SLOTS] = slot;
    /* Ended, but its cgroup was not empty yet. */
    if (task->stub == 0 && init->policy_tasks[slot].live) {
        task->gone_waits = true;
        init->gone_count++;
    }
    return STATUS_OK;
}

static enum status take_execs(struct init *init, struct reader *reader)
{
    for (int i = 0;; i++) {
        uint32_t pid = reader_u32(reader);
        if (pid == 0) return reader->failed ? STATUS_CORRUPT : STATUS_OK;
        struct init_exec exec = { .pid = (pid_t)pid };
        exec.slot = reader_u32(reader);
        exec.request = reader_u64(reader);
        const uint8_t *id = reader_take(reader, ID_BYTES);
        if (id == NULL || i == INIT_EXECS_MAX || exec.slot >= INIT_SLOTS) return STATUS_CORRUPT;
        memcpy(exec.task.bytes, id, ID_BYTES);
        init->execs[i] = exec;
        init->tasks[exec.slot].exec_count++;
    }
}

static enum status take_arguments(struct init *init, struct reader *reader)
{
    enum { ARGUMENTS_MAX = 64 };
    char **arguments = calloc(ARGUMENTS_MAX + 1, sizeof *arguments);
    if (arguments == NULL) return STATUS_NO_MEMORY;
    init->options.unumd_arguments = arguments;
    for (int i = 0; i < ARGUMENTS_MAX; i++) {
        char *text = take_text(reader);
        if (text == NULL || reader->failed) return STATUS_CORRUPT;
        if (text[0] == 0) return STATUS_OK;
        arguments[i] = text;
    }
    return STATUS_CORRUPT;
}

static enum status take_all(struct init *init, struct reader *reader)
{
    if (reader_u64(reader) != save_magic || reader_u32(reader) != SAVE_VERSION)
        return STATUS_UNSUPPORTED;
    int *files = &init->files.folder;
    for (size_t i = 0; i < SAVE_FILES; i++) files[i] = (int)reader_u32(reader);
    init->client.descriptor = (int)reader_u32(reader);
    init->client.greeted = reader_u8(reader) != 0;
    init->client.streams = reader_u8(reader) != 0;
    init->client.event_next = reader_u64(reader);
    init->instance = reader_u64(reader);
    init->started_at_ns = reader_u64(reader);
    /* The ring begins empty: who asks for older events is told that they are missed. */
    init->ring->last = reader_u64(reader);
    init->ring->first = init->ring->last + 1;
    init->reexec_count = reader_u32(reader);
    init->features = reader_u32(reader);
    init->rootless = reader_u8(reader) != 0;
    init->options.pid1 = reader_u8(reader) != 0;
    init->id_base = reader_u32(reader);
    init->unumd_user = reader_u32(reader);
    char *missing = take_text(reader);
    char *cgroup = take_text(reader);
    init->options.folder = take_text(reader);
    init->options.unumd = take_text(reader);
    if (reader->failed) return STATUS_CORRUPT;
    (void)snprintf(init->missing, sizeof init->missing, "%s", missing);
    (void)snprintf(init->cgroup_name, sizeof init->cgroup_name, "%s", cgroup);
    free(missing);
    free(cgroup);
    if (init->options.unumd[0] == 0) init->options.unumd = NULL;
    enum status status = take_arguments(init, reader);
    if (status == STATUS_OK) status = take_execs(init, reader);
    while (status == STATUS_OK) {
        uint32_t slot = reader_u32(reader);
        if (slot == UINT32_MAX) break;
        status = take_task(init, slot, reader);
    }
    return reader->failed ? STATUS_CORRUPT : status;
}

enum status init_resume(struct init *init, int memory, struct error *error)
{
    struct stat about;
    if (fstat(memory, &about) != 0 || about.st_size > SAVE_BYTES_MAX)
        return error_set(error, STATUS_CORRUPT, "descriptor %d holds no saved state", memory);
    size_t size = (size_t)about.st_size;
    void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, memory, 0);
    if (map == MAP_FAILED) return error_set(error, STATUS_NO_MEMORY, "cannot map the saved state");
    struct reader reader = reader_of(map, size);
    enum status status = take_all(init, &reader);
    (void)munmap(map, size);
    (void)close(memory);
    if (status != STATUS_OK)
        return error_set(error, status, "the saved state is damaged at byte %zu", reader.used);
    keep_open(init, false);
    init->now_ns = init_clock_ns();
    init->gone_at_ns = init->now_ns;
    if (init->pids_tail != init->pids_head) init->pids_at_ns = init->now_ns + 1;
    init->client.event_offset = init->ring->tail;
    return STATUS_OK;
}
