/* Superblock: whose folder this is, the lock that one daemon at a time holds on it, and the room
 * kept back so that deletes work on a full disk.
 *
 * The file `superblock` has two copies with checksums and is replaced as a whole by rename, so a
 * power loss leaves the old one or the new one. The file `lock` is held for the life of the
 * process. The file `reserve` is room: removed when the disk is full, made again later.
 * Layout: docs/formats/superblock.md. Every sentence in ERROR says what to do next. */
#ifndef UNUM_STORE_SUPERBLOCK_H
#define UNUM_STORE_SUPERBLOCK_H

#include "base/disk.h"
#include "base/ids.h"

enum {
    SUPERBLOCK_FORMAT_VERSION = 1,
    SUPERBLOCK_COPY_BYTES = 128,
    SUPERBLOCK_COPY_DISTANCE = 4096,
    SUPERBLOCK_FILE_BYTES = 2 * SUPERBLOCK_COPY_DISTANCE,
    SUPERBLOCK_RESERVE_BYTES = 16 * 1024 * 1024,
};

enum superblock_flags {
    SUPERBLOCK_JOURNAL_MADE = 1, /* from now on a missing journal is damage, not a first start */
};

struct superblock {
    struct id computer, machine, disk_incarnation;
    uint32_t feature_level; /* the highest that this disk's data needs */
    uint32_t flags;
};

/* Take the folder for this process. STATUS_BUSY: another daemon has it; STATUS_DENIED: it cannot be
 * written. Call before anything else here. */
MUST_USE enum status superblock_lock(struct disk *disk, struct error *error);

/* STATUS_NOT_FOUND: a folder without one, and without our data. STATUS_CORRUPT: damaged, of
 * another program, or missing beside our data. STATUS_UNSUPPORTED: of a newer version. */
MUST_USE enum status superblock_read(struct disk *disk, struct superblock *ret_superblock,
                                     struct error *error);
/* Replace it. Survives power loss once this returned STATUS_OK. */
MUST_USE enum status superblock_write(struct disk *disk, const struct superblock *superblock,
                                      struct error *error);

/* Make the reserve if it is not whole. STATUS_FULL: no room for it now (not a failure). */
MUST_USE enum status superblock_reserve(struct disk *disk);
/* Give its room to the others. STATUS_OK also when there is none. */
MUST_USE enum status superblock_release_reserve(struct disk *disk);

/* The bytes of the file, sans-io. Decode: as superblock_read tells. */
void superblock_encode(const struct superblock *superblock, uint8_t bytes[SUPERBLOCK_FILE_BYTES]);
MUST_USE enum status superblock_decode(const uint8_t *bytes, size_t size,
                                       struct superblock *ret_superblock);

#endif
