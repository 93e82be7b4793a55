#include "store/superblock.h"

#include "base/checksum.h"

#include <stdlib.h>

static const uint8_t magic[8] = { 'U', 'N', 'U', 'M', 'D', 'I', 'S', 'K' };

#define SUPERBLOCK_PATH     "superblock"
#define SUPERBLOCK_NEW_PATH "superblock.new"
#define LOCK_PATH           "lock"
#define RESERVE_PATH        "reserve"

/* --- the bytes ----------------------------------------------------------------------------------
 */

static void encode_copy(const struct superblock *superblock, uint8_t *bytes)
{
    memcpy(bytes, magic, sizeof magic);
    store_u32_le(bytes + 8, SUPERBLOCK_FORMAT_VERSION);
    memcpy(bytes + 16, superblock->computer.bytes, ID_BYTES);
    memcpy(bytes + 32, superblock->machine.bytes, ID_BYTES);
    memcpy(bytes + 48, superblock->disk_incarnation.bytes, ID_BYTES);
    store_u32_le(bytes + 64, superblock->feature_level);
    store_u32_le(bytes + 68, superblock->flags);
    store_u32_le(bytes + 12, crc32c(bytes + 16, SUPERBLOCK_COPY_BYTES - 16));
}

void superblock_encode(const struct superblock *superblock, uint8_t bytes[SUPERBLOCK_FILE_BYTES])
{
    memset(bytes, 0, SUPERBLOCK_FILE_BYTES);
    encode_copy(superblock, bytes);
    encode_copy(superblock, bytes + SUPERBLOCK_COPY_DISTANCE);
}

static enum status decode_copy(const uint8_t *bytes, struct superblock *ret_superblock)
{
    if (memcmp(bytes, magic, sizeof magic) != 0) return STATUS_CORRUPT;
    if (load_u32_le(bytes + 8) != SUPERBLOCK_FORMAT_VERSION) return STATUS_UNSUPPORTED;
    uint32_t checksum = crc32c(bytes + 16, SUPERBLOCK_COPY_BYTES - 16);
    if (load_u32_le(bytes + 12) != checksum) return STATUS_CORRUPT;
    memcpy(ret_superblock->computer.bytes, bytes + 16, ID_BYTES);
    memcpy(ret_superblock->machine.bytes, bytes + 32, ID_BYTES);
    memcpy(ret_superblock->disk_incarnation.bytes, bytes + 48, ID_BYTES);
    ret_superblock->feature_level = load_u32_le(bytes + 64);
    ret_superblock->flags = load_u32_le(bytes + 68);
    return STATUS_OK;
}

enum status superblock_decode(const uint8_t *bytes, size_t size, struct superblock *ret_superblock)
{
    if (size < SUPERBLOCK_COPY_BYTES) return STATUS_CORRUPT;
    struct superblock superblock;
    enum status first = decode_copy(bytes, &superblock);
    enum status second = STATUS_CORRUPT;
    if (first != STATUS_OK && size >= SUPERBLOCK_COPY_DISTANCE + SUPERBLOCK_COPY_BYTES) {
        second = decode_copy(bytes + SUPERBLOCK_COPY_DISTANCE, &superblock);
    }
    if (first == STATUS_OK || second == STATUS_OK) {
        *ret_superblock = superblock;
        return STATUS_OK;
    }
    /* A flipped bit in one copy's version is damage; both say it only when it is so. */
    bool newer = first == STATUS_UNSUPPORTED && second == STATUS_UNSUPPORTED;
    return newer ? STATUS_UNSUPPORTED : STATUS_CORRUPT;
}

/* --- the files ----------------------------------------------------------------------------------
 */

enum status superblock_lock(struct disk *disk, struct error *error)
{
    enum status status = disk->lock(disk, LOCK_PATH);
    switch (status) {
    case STATUS_OK: return STATUS_OK;
    case STATUS_BUSY:
        return error_set(error, status,
                         "another daemon uses this folder; stop it, or choose another folder");
    case STATUS_DENIED:
        return error_set(error, status,
                         "this folder cannot be written; give the daemon's user the right to, or "
                         "mount its file system writable");
    case STATUS_FULL:
        return error_set(error, status, "the disk is full: not even a lock file fits; free some");
    default:
        return error_set(error, status, "the lock of this folder cannot be taken (%s)",
                         status_name(status));
    }
}

static bool exists(struct disk *disk, const char *name)
{
    enum { NAMES_MAX = 512 };
    struct disk_entry *entries = malloc(NAMES_MAX * sizeof *entries);
    if (entries == NULL) return true; /* rather refuse than begin anew over data */
    size_t count = 0;
    enum status status = disk->list(disk, "", entries, NAMES_MAX, &count);
    bool found = status != STATUS_OK;
    for (size_t i = 0; i < count && !found; i++) found = strcmp(entries[i].name, name) == 0;
    free(entries);
    return found;
}

static enum status read_missing(struct disk *disk, struct error *error)
{
    if (exists(disk, "journal") || exists(disk, "store")) {
        return error_set(error, STATUS_CORRUPT,
                         "the file superblock is missing beside the data of a computer; nothing "
                         "was changed: restore this folder from a copy");
    }
    return error_set(error, STATUS_NOT_FOUND, "this folder holds no computer yet");
}

enum status superblock_read(struct disk *disk, struct superblock *ret_superblock,
                            struct error *error)
{
    struct disk_file *file;
    enum status status = disk->open(disk, SUPERBLOCK_PATH, DISK_OPEN_READ, &file);
    if (status == STATUS_NOT_FOUND) return read_missing(disk, error);
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (status == STATUS_OK) {
        bytes = malloc(SUPERBLOCK_FILE_BYTES);
        status = bytes == NULL ? STATUS_NO_MEMORY
                               : disk->read(file, 0, bytes, SUPERBLOCK_FILE_BYTES, &size);
        disk->close(file);
    }
    if (status != STATUS_OK) {
        free(bytes);
        return error_set(error, status, "the file superblock cannot be read (%s)",
                         status_name(status));
    }
    status = superblock_decode(bytes, size, ret_superblock);
    free(bytes);
    if (status == STATUS_UNSUPPORTED) {
        return error_set(error, status,
                         "this folder was written by a newer version; start that version, or "
                         "choose another folder");
    }
    if (status == STATUS_CORRUPT) {
        return error_set(error, status,
                         "the file superblock is damaged at bytes 0 and %d, or not ours; nothing "
                         "was changed: restore this folder from a copy",
                         SUPERBLOCK_COPY_DISTANCE);
    }
    return status;
}

static enum status write_file(struct disk *disk, const struct superblock *superblock)
{
    uint8_t *bytes = malloc(SUPERBLOCK_FILE_BYTES);
    if (bytes == NULL) return STATUS_NO_MEMORY;
    superblock_encode(superblock, bytes);
    struct disk_file *file;
    enum status status = disk->open(disk, SUPERBLOCK_NEW_PATH, DISK_OPEN_CREATE, &file);
    if (status == STATUS_OK) {
        status = disk->write(file, 0, bytes, SUPERBLOCK_FILE_BYTES);
        if (status == STATUS_OK) status = disk->truncate(file, SUPERBLOCK_FILE_BYTES);
        if (status == STATUS_OK) status = disk->sync(file);
        disk->close(file);
    }
    free(bytes);
    if (status == STATUS_OK) status = disk->rename(disk, SUPERBLOCK_NEW_PATH, SUPERBLOCK_PATH);
    if (status == STATUS_OK) status = disk->sync_folder(disk, "");
    return status;
}

enum status superblock_write(struct disk *disk, const struct superblock *superblock,
                             struct error *error)
{
    enum status status = write_file(disk, superblock);
    if (status == STATUS_OK) return STATUS_OK;
    return error_set(error, status, "the file superblock cannot be written (%s)",
                     status_name(status));
}

/* --- the reserve --------------------------------------------------------------------------------
 */

enum status superblock_reserve(struct disk *disk)
{
    enum { PART_BYTES = 256 * 1024 };
    _Static_assert(SUPERBLOCK_RESERVE_BYTES % PART_BYTES == 0, "the reserve is whole parts");
    struct disk_file *file;
    enum status status = disk->open(disk, RESERVE_PATH, DISK_OPEN_CREATE, &file);
    if (status != STATUS_OK) return status;
    uint64_t size = 0;
    status = disk->size(file, &size);
    /* Written, not merely stretched: a hole holds no room. */
    uint8_t *zeros = calloc(1, PART_BYTES);
    if (zeros == NULL) status = STATUS_NO_MEMORY;
    uint64_t at = size - size % PART_BYTES;
    for (; status == STATUS_OK && at < SUPERBLOCK_RESERVE_BYTES; at += PART_BYTES) {
        status = disk->write(file, at, zeros, PART_BYTES);
    }
    if (status == STATUS_OK && size < SUPERBLOCK_RESERVE_BYTES) status = disk->sync(file);
    free(zeros);
    disk->close(file);
    /* A part of a reserve on a full disk only takes what others need. */
    if (status == STATUS_FULL) {
        enum status removed = disk->remove(disk, RESERVE_PATH);
        if (removed != STATUS_OK && removed != STATUS_NOT_FOUND) status = removed;
    }
    return status;
}

enum status superblock_release_reserve(struct disk *disk)
{
    enum status status = disk->remove(disk, RESERVE_PATH);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}
