/* The two disks over a folder: the blocking one for threads outside the reactor, and the reactor's,
 * whose calls suspend the fiber.
 *
 * Decision, by io_bench on the test machine (ext4 on virtio, 4 KiB, ratio of medians to a bare
 * pwrite + fdatasync of 110 to 150 us):
 *
 *     blocking the reactor's thread, RWF_DSYNC             0.94 to 1.00
 *     io_uring, linked write + fdatasync                   1.00 to 1.17; 1.45 when the kernel's
 *                                                          worker wakes on another, sleeping core
 *     io_uring, RWF_DSYNC on O_DIRECT                      1.00 to 1.07; 15 to 40 on a busy machine
 *     a thread, futex both ways                            1.01 to 1.53
 *     a thread, both sides spin for 50 us                  1.17 to 1.54
 *
 * So a durable write of the reactor's disk goes the first road while nobody would notice: no other
 * fiber can run, the backend has no news, it is small, and the disk has not been slow lately. The
 * thread would sleep for that time anyway; what arrives meanwhile waits for one disk operation, as
 * it would for the sync that follows. One that takes longer than INLINE_NS_MAX bars this road for
 * INLINE_PAUSE_NS. Otherwise, and for all else, io_uring works by itself (uring.c), and epoll uses
 * the worker pool. Calls on names are rare and go to the worker pool with both. */
#include "reactor/folder.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static struct folder_file *file_of(struct disk_file *file)
{
    return (struct folder_file *)((char *)file - offsetof(struct folder_file, file));
}

static struct folder *folder_of_file(struct disk_file *file)
{
    return (struct folder *)((char *)file->disk - offsetof(struct folder, disk));
}

/* --- steps -------------------------------------------------------------------------------------
 */

struct step {
    enum file_action action;
    int number;
    void *bytes;
    size_t size;
    uint64_t offset;
    ssize_t result;
};

static void run_step(void *argument)
{
    struct step *step = argument;
    step->result = folder_step(step->action, step->number, step->bytes, step->size, step->offset);
}

enum {
    INLINE_BYTES_MAX = 256 * 1024,
    INLINE_NS_MAX =
        10 * 1000 * 1000, /* a tenth of a heartbeat; a good disk has such an outlier now and then */
    INLINE_PAUSE_NS = 100 * 1000 * 1000,
};

/* Whether the reactor has nothing better to do than to wait for the disk. */
static bool may_block(struct reactor *reactor, const struct step *step, uint64_t now_ns)
{
    if (step->action != FILE_WRITE_SYNC || step->size > INLINE_BYTES_MAX) return false;
    if (now_ns < reactor->disk_slow_until_ns || !TAILQ_EMPTY(&reactor->ready)) return false;
    /* A look at the backend, so that what has arrived already is served first. */
    return reactor->backend->wait(reactor, 0) == STATUS_OK && TAILQ_EMPTY(&reactor->ready);
}

static void run_step_inline(struct reactor *reactor, struct step *step, uint64_t begin_ns)
{
    uint64_t end_ns;
    run_step(step);
    clock_monotonic_ns(&reactor->clock, &end_ns);
    if (end_ns - begin_ns > INLINE_NS_MAX) reactor->disk_slow_until_ns = end_ns + INLINE_PAUSE_NS;
}

/* By the road of the disk: this thread, the backend, or a worker. */
static ssize_t take_step(struct disk_file *handle, struct step step)
{
    struct reactor *reactor = folder_of_file(handle)->reactor;
    uint64_t now_ns;
    if (reactor == NULL) {
        run_step(&step);
        return step.result;
    }
    clock_monotonic_ns(&reactor->clock, &now_ns);
    if (may_block(reactor, &step, now_ns)) {
        run_step_inline(reactor, &step, now_ns);
    } else if (reactor->backend->io->file != NULL) {
        step.result = reactor->backend->io->file(reactor, step.action, step.number, step.bytes,
                                                 step.size, step.offset);
    } else {
        workers_run(reactor, run_step, &step);
    }
    return step.result;
}

static void assert_aligned(const struct folder_file *file, uint64_t offset, const void *bytes,
                           size_t size)
{
    if (!file->direct) return;
    assert(offset % DISK_DIRECT_ALIGN == 0);
    assert((uintptr_t)bytes % DISK_DIRECT_ALIGN == 0);
    assert(size % DISK_DIRECT_ALIGN == 0);
}

/* Steps until SIZE bytes are done, the file ends (reading), or one fails. Interrupted ones again.
 */
static enum status transfer(struct disk_file *handle, enum file_action action, uint64_t offset,
                            uint8_t *bytes, size_t size, size_t *ret_done)
{
    struct folder_file *file = file_of(handle);
    size_t done = 0;
    assert_aligned(file, offset, bytes, size);
    while (done < size) {
        size_t part = size - done < DISK_STEP_BYTES_MAX ? size - done : DISK_STEP_BYTES_MAX;
        ssize_t result = take_step(handle, (struct step) { .action = action,
                                                           .number = file->number,
                                                           .bytes = bytes + done,
                                                           .size = part,
                                                           .offset = offset + done });
        if (result == -EINTR || result == -EAGAIN) continue;
        if (result < 0) return status_of_errno((int)-result);
        if (result == 0 && action == FILE_READ) break;
        if (result == 0) return STATUS_IO;
        done += (size_t)result;
    }
    *ret_done = done;
    return STATUS_OK;
}

static enum status disk_read(struct disk_file *file, uint64_t offset, void *ret_bytes, size_t size,
                             size_t *ret_read)
{
    return transfer(file, FILE_READ, offset, ret_bytes, size, ret_read);
}

static enum status disk_write(struct disk_file *file, uint64_t offset, const void *bytes,
                              size_t size)
{
    size_t done;
    return transfer(file, FILE_WRITE, offset, (uint8_t *)bytes, size, &done);
}

static enum status disk_sync(struct disk_file *handle)
{
    ssize_t result;
    do
        result = take_step(
            handle, (struct step) { .action = FILE_SYNC, .number = file_of(handle)->number });
    while (result == -EINTR);
    if (result >= 0) return STATUS_OK;
    enum status status = status_of_errno((int)-result);
    /* Whatever it says: the bytes may be lost. Only a full disk is a reason of its own. */
    return status == STATUS_FULL ? STATUS_FULL : STATUS_IO;
}

static enum status disk_write_sync(struct disk_file *file, uint64_t offset, const void *bytes,
                                   size_t size)
{
    size_t done;
    enum status status = transfer(file, FILE_WRITE_SYNC, offset, (uint8_t *)bytes, size, &done);
    if (status != STATUS_UNSUPPORTED) return status;
    /* A file system that does not know the flag: nothing was written yet. */
    status = disk_write(file, offset, bytes, size);
    return status == STATUS_OK ? disk_sync(file) : status;
}

/* --- names, by a worker ------------------------------------------------------------------------
 */

enum name_action {
    NAME_OPEN,
    NAME_CLOSE,
    NAME_SIZE,
    NAME_TRUNCATE,
    NAME_REMOVE,
    NAME_RENAME,
    NAME_MAKE_FOLDER,
    NAME_SYNC_FOLDER,
    NAME_LIST,
    NAME_LOCK,
    NAME_FREE_BYTES,
};

struct name_call {
    enum name_action action;
    struct disk *disk;
    struct disk_file *file;
    const char *path;
    const char *other;
    unsigned flags;
    uint64_t size;
    struct disk_entry *entries;
    size_t count;
    enum status status;
};

static void run_name_call(void *argument)
{
    struct name_call *call = argument;
    struct disk blocking;
    folder_operations_init(&blocking);
    struct disk *disk = call->disk;
    const char *path = call->path;
    switch (call->action) {
    case NAME_OPEN: call->status = blocking.open(disk, path, call->flags, &call->file); break;
    case NAME_CLOSE: blocking.close(call->file); break;
    case NAME_SIZE: call->status = blocking.size(call->file, &call->size); break;
    case NAME_TRUNCATE: call->status = blocking.truncate(call->file, call->size); break;
    case NAME_REMOVE: call->status = blocking.remove(disk, path); break;
    case NAME_RENAME: call->status = blocking.rename(disk, path, call->other); break;
    case NAME_MAKE_FOLDER: call->status = blocking.make_folder(disk, path); break;
    case NAME_SYNC_FOLDER: call->status = blocking.sync_folder(disk, path); break;
    case NAME_LIST:
        call->status = blocking.list(disk, path, call->entries, call->count, &call->count);
        break;
    case NAME_LOCK: call->status = blocking.lock(disk, path); break;
    case NAME_FREE_BYTES: call->status = blocking.free_bytes(disk, &call->size); break;
    }
}

static enum status by_worker(struct disk *disk, struct name_call *call)
{
    struct folder *folder = (struct folder *)((char *)disk - offsetof(struct folder, disk));
    call->disk = disk;
    workers_run(folder->reactor, run_name_call, call);
    return call->status;
}

static enum status reactor_disk_file_open(struct disk *disk, const char *path, unsigned flags,
                                          struct disk_file **ret_file)
{
    struct name_call call = { .action = NAME_OPEN, .path = path, .flags = flags };
    enum status status = by_worker(disk, &call);
    if (status == STATUS_OK) *ret_file = call.file;
    return status;
}

static void reactor_disk_file_close(struct disk_file *file)
{
    if (file == NULL) return;
    struct name_call call = { .action = NAME_CLOSE, .file = file };
    enum status status = by_worker(file->disk, &call);
    assert(status == STATUS_OK);
}

static enum status reactor_disk_size(struct disk_file *file, uint64_t *ret_bytes)
{
    struct name_call call = { .action = NAME_SIZE, .file = file };
    enum status status = by_worker(file->disk, &call);
    if (status == STATUS_OK) *ret_bytes = call.size;
    return status;
}

static enum status reactor_disk_truncate(struct disk_file *file, uint64_t size)
{
    return by_worker(file->disk,
                     &(struct name_call) { .action = NAME_TRUNCATE, .file = file, .size = size });
}

static enum status reactor_disk_remove(struct disk *disk, const char *path)
{
    return by_worker(disk, &(struct name_call) { .action = NAME_REMOVE, .path = path });
}

static enum status reactor_disk_rename(struct disk *disk, const char *from, const char *to)
{
    return by_worker(disk,
                     &(struct name_call) { .action = NAME_RENAME, .path = from, .other = to });
}

static enum status reactor_disk_make_folder(struct disk *disk, const char *path)
{
    return by_worker(disk, &(struct name_call) { .action = NAME_MAKE_FOLDER, .path = path });
}

static enum status reactor_disk_sync_folder(struct disk *disk, const char *path)
{
    return by_worker(disk, &(struct name_call) { .action = NAME_SYNC_FOLDER, .path = path });
}

static enum status reactor_disk_list(struct disk *disk, const char *path,
                                     struct disk_entry *ret_entries, size_t count_max,
                                     size_t *ret_count)
{
    struct name_call call = {
        .action = NAME_LIST, .path = path, .entries = ret_entries, .count = count_max
    };
    enum status status = by_worker(disk, &call);
    if (status == STATUS_OK) *ret_count = call.count;
    return status;
}

static enum status reactor_disk_lock(struct disk *disk, const char *path)
{
    return by_worker(disk, &(struct name_call) { .action = NAME_LOCK, .path = path });
}

static enum status reactor_disk_free_bytes(struct disk *disk, uint64_t *ret_bytes)
{
    struct name_call call = { .action = NAME_FREE_BYTES };
    enum status status = by_worker(disk, &call);
    if (status == STATUS_OK) *ret_bytes = call.size;
    return status;
}

/* --- life --------------------------------------------------------------------------------------
 */

static enum status disk_open(struct reactor *reactor, const char *path, struct disk **ret_disk,
                             struct error *error)
{
    struct folder *folder;
    enum status status = folder_create(path, reactor, &folder, error);
    if (status != STATUS_OK) return status;
    folder->disk.read = disk_read;
    folder->disk.write = disk_write;
    folder->disk.sync = disk_sync;
    folder->disk.write_sync = disk_write_sync;
    *ret_disk = &folder->disk;
    return STATUS_OK;
}

static void disk_close(struct disk *disk)
{
    if (disk == NULL) return;
    folder_destroy((struct folder *)((char *)disk - offsetof(struct folder, disk)));
}

enum status blocking_disk_open(const char *folder, struct disk **ret_disk, struct error *error)
{
    return disk_open(NULL, folder, ret_disk, error);
}

void blocking_disk_close(struct disk *disk)
{
    disk_close(disk);
}

enum status reactor_disk_open(struct reactor *reactor, const char *folder, struct disk **ret_disk,
                              struct error *error)
{
    if (reactor->backend->simulated)
        return error_set(error, STATUS_UNSUPPORTED, "%s: simulated disks come from sim/", folder);
    enum status status = disk_open(reactor, folder, ret_disk, error);
    if (status != STATUS_OK) return status;
    struct disk *disk = *ret_disk;
    disk->open = reactor_disk_file_open;
    disk->close = reactor_disk_file_close;
    disk->size = reactor_disk_size;
    disk->truncate = reactor_disk_truncate;
    disk->remove = reactor_disk_remove;
    disk->rename = reactor_disk_rename;
    disk->make_folder = reactor_disk_make_folder;
    disk->sync_folder = reactor_disk_sync_folder;
    disk->list = reactor_disk_list;
    disk->lock = reactor_disk_lock;
    disk->free_bytes = reactor_disk_free_bytes;
    return STATUS_OK;
}

void reactor_disk_close(struct disk *disk)
{
    disk_close(disk);
}
