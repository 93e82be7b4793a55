/* The blocking calls on a folder of the real file system. */
#include "reactor/folder.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

static struct folder *folder_of(struct disk *disk)
{
    return (struct folder *)((char *)disk - offsetof(struct folder, disk));
}

static struct folder_file *file_of(struct disk_file *file)
{
    return (struct folder_file *)((char *)file - offsetof(struct folder_file, file));
}

/* Names joined by '/', none of them empty, "." or "..". */
static bool path_is_valid(const char *path)
{
    size_t size = strnlen(path, DISK_PATH_BYTES_MAX + 1);
    if (size == 0 || size > DISK_PATH_BYTES_MAX) return false;
    const char *name = path;
    for (;;) {
        size_t length = strcspn(name, "/");
        if (length == 0) return false;
        if (length == 1 && name[0] == '.') return false;
        if (length == 2 && name[0] == '.' && name[1] == '.') return false;
        if (name[length] == '\0') return true;
        name += length + 1;
    }
}

static enum status status_of_result(int result)
{
    return result == 0 ? STATUS_OK : status_of_errno(errno);
}

/* --- files -------------------------------------------------------------------------------------
 */

static int open_at(struct folder *folder, const char *path, unsigned flags)
{
    int mode = O_CLOEXEC | O_NOFOLLOW;
    bool writes = (flags & (DISK_OPEN_WRITE | DISK_OPEN_CREATE)) != 0;
    mode |= writes ? O_RDWR : O_RDONLY;
    if ((flags & DISK_OPEN_CREATE) != 0) mode |= O_CREAT;
    if ((flags & DISK_OPEN_EXCLUSIVE) != 0) mode |= O_EXCL;
    if ((flags & DISK_OPEN_DIRECT) != 0) {
        int number = openat(folder->number, path, mode | O_DIRECT, 0600);
        if (number >= 0 || errno != EINVAL) return number;
        /* This file system has no way around its cache. What O_CREAT made is there now. */
        mode &= ~O_EXCL;
    }
    return openat(folder->number, path, mode, 0600);
}

static enum status folder_open(struct disk *disk, const char *path, unsigned flags,
                               struct disk_file **ret_file)
{
    if (!path_is_valid(path)) return STATUS_INVALID;
    struct folder_file *file = calloc(1, sizeof *file);
    if (file == NULL) return STATUS_NO_MEMORY;
    *file = (struct folder_file) { .file.disk = disk,
                                   .number = open_at(folder_of(disk), path, flags),
                                   .direct = (flags & DISK_OPEN_DIRECT) != 0 };
    struct stat entry;
    if (file->number < 0 || fstat(file->number, &entry) != 0) {
        enum status status = status_of_errno(errno);
        if (file->number >= 0) (void)close(file->number);
        free(file);
        return status;
    }
    if (S_ISDIR(entry.st_mode)) {
        (void)close(file->number);
        free(file);
        return STATUS_INVALID;
    }
    *ret_file = &file->file;
    return STATUS_OK;
}

static void folder_close(struct disk_file *handle)
{
    if (handle == NULL) return;
    (void)close(file_of(handle)->number);
    free(file_of(handle));
}

ssize_t folder_step(enum file_action action, int number, void *bytes, size_t size, uint64_t offset)
{
    struct iovec part = { .iov_base = bytes, .iov_len = size };
    ssize_t result = -1;
    switch (action) {
    case FILE_READ: result = pread(number, bytes, size, (off_t)offset); break;
    case FILE_WRITE: result = pwrite(number, bytes, size, (off_t)offset); break;
    case FILE_WRITE_SYNC: result = pwritev2(number, &part, 1, (off_t)offset, RWF_DSYNC); break;
    case FILE_SYNC: result = fdatasync(number); break;
    }
    return result < 0 ? -errno : result;
}

static enum status folder_size(struct disk_file *handle, uint64_t *ret_bytes)
{
    struct stat entry;
    if (fstat(file_of(handle)->number, &entry) != 0) return status_of_errno(errno);
    *ret_bytes = (uint64_t)entry.st_size;
    return STATUS_OK;
}

static enum status folder_truncate(struct disk_file *handle, uint64_t size)
{
    return status_of_result(ftruncate(file_of(handle)->number, (off_t)size));
}

/* --- names -------------------------------------------------------------------------------------
 */

static enum status folder_remove(struct disk *disk, const char *path)
{
    if (!path_is_valid(path)) return STATUS_INVALID;
    int folder = folder_of(disk)->number;
    if (unlinkat(folder, path, 0) == 0) return STATUS_OK;
    if (errno != EISDIR) return status_of_errno(errno);
    return status_of_result(unlinkat(folder, path, AT_REMOVEDIR));
}

static enum status folder_rename(struct disk *disk, const char *from, const char *to)
{
    if (!path_is_valid(from) || !path_is_valid(to)) return STATUS_INVALID;
    int folder = folder_of(disk)->number;
    return status_of_result(renameat(folder, from, folder, to));
}

static enum status folder_make_folder(struct disk *disk, const char *path)
{
    if (!path_is_valid(path)) return STATUS_INVALID;
    return status_of_result(mkdirat(folder_of(disk)->number, path, 0700));
}

static int open_folder_at(struct disk *disk, const char *path)
{
    return openat(folder_of(disk)->number, path[0] == '\0' ? "." : path,
                  O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static enum status folder_sync_folder(struct disk *disk, const char *path)
{
    if (path[0] != '\0' && !path_is_valid(path)) return STATUS_INVALID;
    int number = open_folder_at(disk, path);
    if (number < 0) return status_of_errno(errno);
    enum status status = status_of_result(fsync(number));
    (void)close(number);
    return status;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct disk_entry *)a)->name, ((const struct disk_entry *)b)->name);
}

static enum status read_entries(DIR *listing, struct disk_entry *ret_entries, size_t count_max,
                                size_t *ret_count)
{
    size_t count = 0;
    for (;;) {
        errno = 0;
        struct dirent *next = readdir(listing);
        if (next == NULL && errno != 0) return status_of_errno(errno);
        if (next == NULL) break;
        if (strcmp(next->d_name, ".") == 0 || strcmp(next->d_name, "..") == 0) continue;
        if (count == count_max) return STATUS_FULL;
        struct stat entry;
        if (fstatat(dirfd(listing), next->d_name, &entry, AT_SYMLINK_NOFOLLOW) != 0) {
            if (errno == ENOENT) continue; /* removed since */
            return status_of_errno(errno);
        }
        struct disk_entry *out = &ret_entries[count++];
        (void)snprintf(out->name, sizeof out->name, "%s", next->d_name);
        out->is_folder = S_ISDIR(entry.st_mode);
        out->size_bytes = out->is_folder ? 0 : (uint64_t)entry.st_size;
    }
    qsort(ret_entries, count, sizeof *ret_entries, compare_entries);
    *ret_count = count;
    return STATUS_OK;
}

static enum status folder_list(struct disk *disk, const char *path, struct disk_entry *ret_entries,
                               size_t count_max, size_t *ret_count)
{
    if (path[0] != '\0' && !path_is_valid(path)) return STATUS_INVALID;
    int number = open_folder_at(disk, path);
    if (number < 0) return status_of_errno(errno);
    DIR *listing = fdopendir(number);
    if (listing == NULL) {
        (void)close(number);
        return STATUS_NO_MEMORY;
    }
    enum status status = read_entries(listing, ret_entries, count_max, ret_count);
    (void)closedir(listing);
    return status;
}

/* flock belongs to the open file: kept until the disk closes, gone with the process. */
static enum status folder_lock(struct disk *disk, const char *path)
{
    if (!path_is_valid(path)) return STATUS_INVALID;
    struct folder *folder = folder_of(disk);
    int number = openat(folder->number, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (number < 0) return status_of_errno(errno);
    if (flock(number, LOCK_EX | LOCK_NB) != 0) {
        enum status status = errno == EWOULDBLOCK ? STATUS_BUSY : status_of_errno(errno);
        (void)close(number);
        return status;
    }
    (void)pthread_mutex_lock(&folder->mutex);
    assert(folder->lock_count < DISK_LOCK_COUNT_MAX);
    folder->locks[folder->lock_count++] = number;
    (void)pthread_mutex_unlock(&folder->mutex);
    return STATUS_OK;
}

static enum status folder_free_bytes(struct disk *disk, uint64_t *ret_bytes)
{
    struct statvfs entry;
    if (fstatvfs(folder_of(disk)->number, &entry) != 0) return status_of_errno(errno);
    *ret_bytes = (uint64_t)entry.f_bavail * entry.f_frsize;
    return STATUS_OK;
}

/* --- life --------------------------------------------------------------------------------------
 */

void folder_operations_init(struct disk *disk)
{
    *disk = (struct disk) {
        .open = folder_open,
        .close = folder_close,
        .size = folder_size,
        .truncate = folder_truncate,
        .remove = folder_remove,
        .rename = folder_rename,
        .make_folder = folder_make_folder,
        .sync_folder = folder_sync_folder,
        .list = folder_list,
        .lock = folder_lock,
        .free_bytes = folder_free_bytes,
    };
}

enum status folder_create(const char *path, struct reactor *reactor, struct folder **ret_folder,
                          struct error *error)
{
    struct folder *folder = calloc(1, sizeof *folder);
    if (folder == NULL) return error_set(error, STATUS_NO_MEMORY, "%s: out of memory", path);
    folder->reactor = reactor;
    folder->number = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder->number < 0) {
        int failure = errno;
        free(folder);
        return error_set_errno(error, failure, path);
    }
    (void)pthread_mutex_init(&folder->mutex, NULL);
    folder_operations_init(&folder->disk);
    *ret_folder = folder;
    return STATUS_OK;
}

void folder_destroy(struct folder *folder)
{
    if (folder == NULL) return;
    for (unsigned i = 0; i < folder->lock_count; i++) (void)close(folder->locks[i]);
    (void)close(folder->number);
    (void)pthread_mutex_destroy(&folder->mutex);
    free(folder);
}
