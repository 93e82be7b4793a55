/* Room on the disk: writes are refused while there is still enough left to go on living.
 *
 * The journal and RocksDB both survive a full disk badly: one holds back what it can't write, the
 * other ends the daemon. So ordinary requests are refused when less is left than the two would take
 * at once; those that free room, and the machine's own, are taken for longer, and for them the
 * reserve is given up. The look costs a call, so it is made when some bytes were let in since the
 * last, or some time passed; nothing looks while nobody writes. */
#include "replica/internal.h"

enum {
    LOOK_BYTES = 4 * 1024 * 1024,
    MEMTABLE_BYTES = 8 * 1024 * 1024, /* store.h, journal.h: their defaults */
    MEMTABLES = 2,
};
static const uint64_t LOOK_NS = 1000000000;
static const uint64_t LOOK_WHILE_FULL_NS = 50000000;

uint64_t room_needed(const struct replica_host *host)
{
    uint64_t memtable = host->options.store_memtable_bytes;
    uint64_t segment = host->options.journal_segment_bytes;
    return MEMTABLES * (memtable == 0 ? MEMTABLE_BYTES : memtable) +
           (segment == 0 ? JOURNAL_SEGMENT_BYTES_DEFAULT : segment) + SUPERBLOCK_RESERVE_BYTES;
}

enum status room_give_reserve(struct replica_host *host)
{
    host->reserve_given = true;
    return superblock_release_reserve(host->options.disk);
}

bool room_for_reserve(const struct replica_host *host)
{
    return host->free_bytes >= room_needed(host) + SUPERBLOCK_RESERVE_BYTES;
}

static bool is_short(const struct replica_host *host)
{
    return host->free_bytes < room_needed(host);
}

enum status room_look(struct replica_host *host)
{
    struct disk *disk = host->options.disk;
    host->room_looking = true;
    host->room_looked_ns = host_now_ns(host);
    host->room_bytes = 0;
    uint64_t free_bytes;
    enum status status = disk->free_bytes(disk, &free_bytes);
    if (status == STATUS_OK) host->free_bytes = free_bytes;
    host->room_looking = false;
    if (status == STATUS_OK && host->reserve_given && room_for_reserve(host))
        condition_signal(&host->maintainer_wake);
    return status;
}

static bool look_is_due(const struct replica_host *host, uint64_t now_ns)
{
    if (host->room_looking) return false;
    uint64_t pause_ns = is_short(host) ? LOOK_WHILE_FULL_NS : LOOK_NS;
    return host->room_bytes >= LOOK_BYTES || now_ns - host->room_looked_ns >= pause_ns;
}

enum status room_admit(struct replica_host *host, size_t size, bool essential, struct error *error)
{
    enum status status = STATUS_OK;
    if (look_is_due(host, host_now_ns(host))) status = room_look(host);
    if (status == STATUS_OK && essential && is_short(host) && !host->reserve_given)
        status = room_give_reserve(host);
    if (status != STATUS_OK)
        return error_set(error, status, "the disk does not tell how much room it has");
    if (is_short(host) && !essential) {
        enum { MIB = 1024 * 1024 };
        return error_set(error, STATUS_FULL,
                         "the disk is full: %llu MiB left, %llu needed; free some space, deletes "
                         "still work",
                         (unsigned long long)(host->free_bytes / MIB),
                         (unsigned long long)(room_needed(host) / MIB));
    }
    host->room_bytes += size;
    return STATUS_OK;
}
