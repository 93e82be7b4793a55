/* A folder of the real file system as a disk: the calls themselves, which block, and the two fronts
 * made of them (disk.c). Threads: the blocking calls may run on any thread, each file on one at a
 * time; opening and locking take no shared state but the lock list, which is guarded. */
#ifndef UNUM_REACTOR_FOLDER_H
#define UNUM_REACTOR_FOLDER_H

#include "reactor/io.h"

#include <pthread.h>

enum {
    DISK_LOCK_COUNT_MAX = 8, /* locks of one disk: the folder's, and a few to spare */
    DISK_STEP_BYTES_MAX = 64 * 1024 * 1024, /* one system call; more takes several */
};

struct folder {
    struct disk disk;
    struct reactor *reactor; /* NULL: calls block the thread */
    int number;              /* of the folder */
    pthread_mutex_t mutex;   /* guards the locks */
    unsigned lock_count;
    int locks[DISK_LOCK_COUNT_MAX];
};

struct folder_file {
    struct disk_file file;
    int number;
    bool direct; /* asked for: accesses are aligned, whether the file system bypasses or not */
};

enum status folder_create(const char *path, struct reactor *reactor, struct folder **ret_folder,
                          struct error *error);
void folder_destroy(struct folder *folder);
/* The blocking calls; reading and writing go in steps through folder_step. */
void folder_operations_init(struct disk *disk);
/* One blocking step: bytes done or a negative errno. */
ssize_t folder_step(enum file_action action, int number, void *bytes, size_t size, uint64_t offset);

#endif
