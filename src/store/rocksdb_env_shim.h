/* RocksDB's environment onto base/disk.h: the one place where C++ is written.
 *
 * Files, names and folders go to DISK, and RocksDB's Sync, Fsync and folder syncs are DISK's sync
 * and sync_folder. Log files of RocksDB's own are discarded; its folder lock is the superblock's.
 *
 * In simulation the environment owns clock and ids as well, and the work that RocksDB hands to
 * background threads runs on one thread at a time while the caller waits for it
 * (rocksdb_env_shim_wait_idle), so the order of operations on DISK is always the same. Otherwise
 * clock and threads are those of the machine, and DISK must be safe for threads.
 *
 * No exception leaves these functions. */
#ifndef UNUM_STORE_ROCKSDB_ENV_SHIM_H
#define UNUM_STORE_ROCKSDB_ENV_SHIM_H

#include <rocksdb/c.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "base/disk.h"

struct rocksdb_env_shim;

/* DISK is borrowed. STATUS_UNSUPPORTED: this librocksdb is laid out differently. */
MUST_USE enum status rocksdb_env_shim_create(struct disk *disk, bool simulation,
                                             struct rocksdb_env_shim **ret_shim);
/* No database may use it any more. Accepts NULL. */
void rocksdb_env_shim_destroy(struct rocksdb_env_shim *shim);
/* Borrowed; for rocksdb_options_set_env. */
rocksdb_env_t *rocksdb_env_shim_env(struct rocksdb_env_shim *shim);
/* In simulation: return when no background work is left. Otherwise at once. */
void rocksdb_env_shim_wait_idle(struct rocksdb_env_shim *shim);

/* A thread that runs one function at a time in the order they are given, started with the first.
 * FUNCTION begins after all that the caller did before, and what it did is seen by who finds it
 * finished. The one before must have been found finished or awaited. Where no thread can be had,
 * FUNCTION has run on the caller's. */
void rocksdb_env_shim_run(struct rocksdb_env_shim *shim, void (*function)(void *), void *argument);
bool rocksdb_env_shim_is_finished(struct rocksdb_env_shim *shim);
/* Blocks until it is finished. */
void rocksdb_env_shim_await(struct rocksdb_env_shim *shim);

#ifdef __cplusplus
}
#endif

#endif
