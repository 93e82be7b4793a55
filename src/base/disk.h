/* Disk: files in one folder tree, as the journal, the store and the logs need them.
 *
 * Every call returns when it is done: in the daemon it suspends the calling fiber (or blocks the
 * calling worker thread), in the simulator it advances virtual time. Paths are relative to the
 * folder of the disk, with '/' between names, no "." or "..", at most DISK_PATH_BYTES_MAX.
 *
 * Durability: a write survives power loss once disk_file_sync returned STATUS_OK after it; a
 * created, renamed or removed name once disk_sync_folder of its folder returned STATUS_OK. Before
 * that, each 512-byte sector independently survives or not. A failed sync leaves the fate of all
 * unsynced bytes unknown: never call it again in the hope for better (fail-stop).
 *
 * Errors: STATUS_NOT_FOUND, STATUS_EXISTS, STATUS_FULL, STATUS_DENIED (read-only), STATUS_IO,
 * STATUS_BUSY (lock held by another), STATUS_CANCELLED. */
#ifndef UNUM_BASE_DISK_H
#define UNUM_BASE_DISK_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum { DISK_PATH_BYTES_MAX = 255, DISK_SECTOR_BYTES = 512 };

enum disk_open_flags {
    DISK_OPEN_READ = 0,
    DISK_OPEN_WRITE = 1,     /* read and write */
    DISK_OPEN_CREATE = 2,    /* make it when missing; implies WRITE */
    DISK_OPEN_EXCLUSIVE = 4, /* with CREATE: STATUS_EXISTS when it is there */
    DISK_OPEN_DIRECT = 8,    /* bypass the page cache when possible: offset, size and memory of each
                              * access are multiples of DISK_DIRECT_ALIGN (asserted). A hint. */
};
enum { DISK_DIRECT_ALIGN = 4096 };

struct disk;
struct disk_file {
    struct disk *disk;
};

struct disk_entry {
    char name[DISK_PATH_BYTES_MAX + 1];
    bool is_folder;
    uint64_t size_bytes;
};

struct disk {
    enum status (*open)(struct disk *disk, const char *path, unsigned flags,
                        struct disk_file **ret_file);
    void (*close)(struct disk_file *file);
    /* Reads up to SIZE; fewer only at the end of the file. */
    enum status (*read)(struct disk_file *file, uint64_t offset, void *ret_bytes, size_t size,
                        size_t *ret_read);
    /* All or an error (then any part may be written). */
    enum status (*write)(struct disk_file *file, uint64_t offset, const void *bytes, size_t size);
    enum status (*sync)(struct disk_file *file);
    /* write + sync in one, when the device can do it in one go: same promise as both after another.
     */
    enum status (*write_sync)(struct disk_file *file, uint64_t offset, const void *bytes,
                              size_t size);
    enum status (*size)(struct disk_file *file, uint64_t *ret_bytes);
    enum status (*truncate)(struct disk_file *file, uint64_t size);
    enum status (*remove)(struct disk *disk, const char *path); /* a file, or an empty folder */
    enum status (*rename)(struct disk *disk, const char *from, const char *to);
    enum status (*make_folder)(struct disk *disk, const char *path);
    enum status (*sync_folder)(struct disk *disk, const char *path); /* "" is the root */
    /* Names in byte order. STATUS_FULL when there are more than COUNT_MAX. */
    enum status (*list)(struct disk *disk, const char *path, struct disk_entry *ret_entries,
                        size_t count_max, size_t *ret_count);
    /* An exclusive lock on a file for the life of the process. */
    enum status (*lock)(struct disk *disk, const char *path);
    enum status (*free_bytes)(struct disk *disk, uint64_t *ret_bytes);
};

#endif
