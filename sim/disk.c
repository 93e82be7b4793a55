#include "sim/disk.h"

#include "base/checksum.h"

#include <assert.h>
#include <stdlib.h>

enum { SECTOR = DISK_SECTOR_BYTES, NAMES_MAX = 4096, FILE_BYTES_MIN = 16 * 1024 };

/* A file or a folder, whatever its names are. */
struct sim_node {
    bool is_folder;
    bool locked;         /* in this life */
    unsigned references; /* names, changes of names, handles */
    uint8_t *live, *durable;
    uint64_t *dirty; /* per sector: sequence of its last unsynced write; 0: clean */
    uint64_t capacity;
    uint64_t live_bytes, durable_bytes;
    uint64_t dirty_from, dirty_to; /* sectors; bounds of what may be dirty */
};

struct sim_name {
    char *path;
    struct sim_node *node;
};

enum change_kind { CHANGE_CREATE, CHANGE_REMOVE, CHANGE_RENAME };

struct sim_name_change {
    enum change_kind kind;
    char *path;
    char *to; /* of a rename */
    struct sim_node *node;
};

struct sim_file {
    struct disk_file file;
    struct sim_disk *sim;
    struct sim_node *node;
    uint64_t life;
    bool writable, direct;
};

/* --- helpers ---------------------------------------------------------------------------------- */

static void *must(void *memory)
{
    if (memory == NULL) abort(); /* a simulator without memory has nothing to say */
    return memory;
}

static uint64_t draw(struct sim_disk *sim, uint64_t bound)
{
    uint64_t value;
    random_below(&sim->random.random, bound, &value);
    return value;
}

static bool coin(struct sim_disk *sim, unsigned percent)
{
    return draw(sim, 100) < percent;
}

static void note(struct sim_disk *sim, const void *bytes, size_t size)
{
    sim->history_hash = hash64(bytes, size, sim->history_hash);
}

static void node_release(struct sim_node *node)
{
    assert(node->references > 0);
    if (--node->references > 0) return;
    free(node->live);
    free(node->durable);
    free(node->dirty);
    free(node);
}

static struct sim_node *node_hold(struct sim_node *node)
{
    node->references++;
    return node;
}

static size_t find_name(const struct sim_name *names, size_t count, const char *path)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i].path, path) == 0) return i;
    }
    return count;
}

static struct sim_node *find_live(const struct sim_disk *sim, const char *path)
{
    size_t at = find_name(sim->live, sim->live_count, path);
    return at == sim->live_count ? NULL : sim->live[at].node;
}

static void set_name(struct sim_name **names, size_t *count, const char *path,
                     struct sim_node *node)
{
    size_t at = find_name(*names, *count, path);
    node_hold(node);
    if (at < *count) {
        node_release((*names)[at].node);
    } else {
        assert(*count < NAMES_MAX);
        *names = must(realloc(*names, (*count + 1) * sizeof **names));
        (*names)[(*count)++].path = must(strdup(path));
    }
    (*names)[at].node = node;
}

static void drop_name(struct sim_name *names, size_t *count, const char *path)
{
    size_t at = find_name(names, *count, path);
    if (at == *count) return;
    free(names[at].path);
    node_release(names[at].node);
    names[at] = names[--*count];
}

static size_t parent_size(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path);
}

static bool is_in_folder(const char *path, const char *folder)
{
    size_t size = parent_size(path);
    return size == strlen(folder) && memcmp(path, folder, size) == 0;
}

static bool parent_exists(const struct sim_name *names, size_t count, const char *path)
{
    char parent[DISK_PATH_BYTES_MAX + 1];
    size_t size = parent_size(path);
    if (size == 0) return true;
    memcpy(parent, path, size);
    parent[size] = 0;
    size_t at = find_name(names, count, parent);
    return at < count && names[at].node->is_folder;
}

static void check_path(const char *path)
{
    size_t size = strlen(path);
    assert(size <= DISK_PATH_BYTES_MAX);
    assert(size == 0 || (path[0] != '/' && path[size - 1] != '/'));
    assert(strstr(path, "..") == NULL);
}

/* --- sectors ---------------------------------------------------------------------------------- */

static void node_reserve(struct sim_node *node, uint64_t bytes)
{
    if (bytes <= node->capacity) return;
    uint64_t capacity = node->capacity == 0 ? FILE_BYTES_MIN : node->capacity;
    while (capacity < bytes) capacity *= 2;
    size_t old = (size_t)node->capacity, new = (size_t)capacity;
    node->live = must(realloc(node->live, new));
    node->durable = must(realloc(node->durable, new));
    node->dirty = must(realloc(node->dirty, new / SECTOR * sizeof *node->dirty));
    memset(node->live + old, 0, new - old);
    memset(node->durable + old, 0, new - old);
    memset(node->dirty + old / SECTOR, 0, (new - old) / SECTOR * sizeof *node->dirty);
    node->capacity = capacity;
}

/* Before a sector changes: a version that was written but never synced may have gone to the platter
 * by itself. */
static void sector_touch(struct sim_disk *sim, struct sim_node *node, uint64_t sector)
{
    size_t at = (size_t)(sector * SECTOR);
    if (node->dirty[sector] != 0 && coin(sim, 50)) {
        memcpy(node->durable + at, node->live + at, SECTOR);
    }
    node->dirty[sector] = sim->write_sequence;
    if (node->dirty_to == node->dirty_from) {
        node->dirty_from = sector;
        node->dirty_to = sector + 1;
    }
    if (sector < node->dirty_from) node->dirty_from = sector;
    if (sector >= node->dirty_to) node->dirty_to = sector + 1;
}

static void node_write(struct sim_disk *sim, struct sim_node *node, uint64_t offset,
                       const uint8_t *bytes, size_t size)
{
    if (size == 0) return;
    node_reserve(node, offset + size);
    sim->write_sequence++;
    for (uint64_t sector = offset / SECTOR; sector <= (offset + size - 1) / SECTOR; sector++) {
        sector_touch(sim, node, sector);
    }
    memcpy(node->live + offset, bytes, size);
    if (offset + size > node->live_bytes) node->live_bytes = offset + size;
}

static void node_truncate(struct sim_disk *sim, struct sim_node *node, uint64_t size)
{
    node_reserve(node, size);
    sim->write_sequence++;
    if (size < node->live_bytes) {
        for (uint64_t sector = size / SECTOR; sector * SECTOR < node->live_bytes; sector++) {
            sector_touch(sim, node, sector);
        }
        memset(node->live + size, 0, (size_t)(node->live_bytes - size));
    }
    node->live_bytes = size;
}

static void sector_settle(struct sim_node *node, uint64_t sector, bool survives)
{
    size_t at = (size_t)(sector * SECTOR);
    if (survives) memcpy(node->durable + at, node->live + at, SECTOR);
    node->dirty[sector] = 0;
}

/* Writes up to sequence UP_TO are now on the platter. */
static void node_sync(struct sim_node *node, uint64_t up_to)
{
    uint64_t from = node->dirty_to, to = node->dirty_from;
    for (uint64_t s = node->dirty_from; s < node->dirty_to; s++) {
        if (node->dirty[s] == 0) continue;
        if (node->dirty[s] <= up_to) {
            sector_settle(node, s, true);
            continue;
        }
        if (s < from) from = s;
        to = s + 1;
    }
    node->dirty_from = from < to ? from : 0;
    node->dirty_to = from < to ? to : 0;
    node->durable_bytes = node->live_bytes;
}

/* As Linux does it: the pages count as clean afterwards, whatever reached the platter. */
static void node_fail_sync(struct sim_disk *sim, struct sim_node *node)
{
    for (uint64_t s = node->dirty_from; s < node->dirty_to; s++) {
        if (node->dirty[s] != 0) sector_settle(node, s, coin(sim, 50));
    }
    node->dirty_from = node->dirty_to = 0;
    if (coin(sim, 50)) node->durable_bytes = node->live_bytes;
}

static void node_lose_power(struct sim_disk *sim, struct sim_node *node, unsigned survive_percent)
{
    for (uint64_t s = node->dirty_from; s < node->dirty_to; s++) {
        if (node->dirty[s] == 0) continue;
        bool survives = coin(sim, survive_percent);
        if (survives)
            sim->counters.sectors_survived++;
        else
            sim->counters.sectors_lost++;
        sector_settle(node, s, survives);
    }
    node->dirty_from = node->dirty_to = 0;
    if (node->live_bytes != node->durable_bytes && coin(sim, survive_percent)) {
        node->durable_bytes = node->live_bytes;
    }
    if (node->capacity > 0) {
        size_t size = (size_t)node->durable_bytes;
        memset(node->durable + size, 0, (size_t)node->capacity - size);
        memcpy(node->live, node->durable, (size_t)node->capacity);
    }
    node->live_bytes = node->durable_bytes;
}

/* --- names ------------------------------------------------------------------------------------ */

static void change_apply(struct sim_disk *sim, const struct sim_name_change *change)
{
    switch (change->kind) {
    case CHANGE_CREATE:
        set_name(&sim->durable, &sim->durable_count, change->path, change->node);
        break;
    case CHANGE_REMOVE: drop_name(sim->durable, &sim->durable_count, change->path); break;
    case CHANGE_RENAME:
        set_name(&sim->durable, &sim->durable_count, change->to, change->node);
        drop_name(sim->durable, &sim->durable_count, change->path);
        break;
    }
}

static void change_finish(struct sim_name_change *change)
{
    free(change->path);
    free(change->to);
    node_release(change->node);
}

static void change_add(struct sim_disk *sim, enum change_kind kind, const char *path,
                       const char *to, struct sim_node *node)
{
    sim->changes = must(realloc(sim->changes, (sim->change_count + 1) * sizeof *sim->changes));
    sim->changes[sim->change_count++] = (struct sim_name_change) {
        .kind = kind,
        .path = must(strdup(path)),
        .to = to == NULL ? NULL : must(strdup(to)),
        .node = node_hold(node),
    };
}

/* Settle the first COUNT changes of FOLDER (NULL: all folders); each survives with the given
 * chance. */
static void changes_settle(struct sim_disk *sim, const char *folder, size_t count,
                           unsigned survive_percent)
{
    size_t kept = 0;
    for (size_t i = 0; i < sim->change_count; i++) {
        struct sim_name_change *change = &sim->changes[i];
        bool matches = folder == NULL || is_in_folder(change->path, folder) ||
                       (change->to != NULL && is_in_folder(change->to, folder));
        if (i >= count || !matches) {
            sim->changes[kept++] = *change;
            continue;
        }
        if (survive_percent == 100 || coin(sim, survive_percent))
            change_apply(sim, change);
        else
            sim->counters.names_lost++;
        change_finish(change);
    }
    sim->change_count = kept;
}

static void names_clear(struct sim_name **names, size_t *count)
{
    for (size_t i = 0; i < *count; i++) {
        free((*names)[i].path);
        node_release((*names)[i].node);
    }
    free(*names);
    *names = NULL;
    *count = 0;
}

static void drop_orphans(struct sim_disk *sim)
{
    bool dropped = true;
    while (dropped) {
        dropped = false;
        for (size_t i = 0; i < sim->durable_count && !dropped; i++) {
            char *path = sim->durable[i].path;
            if (parent_exists(sim->durable, sim->durable_count, path)) continue;
            drop_name(sim->durable, &sim->durable_count, path);
            dropped = true;
        }
    }
}

/* --- faults ----------------------------------------------------------------------------------- */

void sim_disk_lose_power(struct sim_disk *sim)
{
    if (sim->lost_power) return;
    sim->lost_power = true;
    sim->counters.power_losses++;
    /* All, nothing, or a mix: each is a world that real disks make. */
    unsigned mode = (unsigned)draw(sim, 4);
    unsigned survive_percent = mode == 0 ? 100 : mode == 1 ? 0 : (unsigned)draw(sim, 101);
    /* Every file that has a name now or on the platter, each once. */
    for (size_t i = 0; i < sim->live_count; i++) {
        node_lose_power(sim, sim->live[i].node, survive_percent);
    }
    for (size_t i = 0; i < sim->durable_count; i++) {
        node_lose_power(sim, sim->durable[i].node, survive_percent);
    }
    for (size_t i = 0; i < sim->change_count; i++) {
        node_lose_power(sim, sim->changes[i].node, survive_percent);
    }
    changes_settle(sim, NULL, sim->change_count, survive_percent);
    drop_orphans(sim);
    names_clear(&sim->live, &sim->live_count);
    for (size_t i = 0; i < sim->durable_count; i++) {
        set_name(&sim->live, &sim->live_count, sim->durable[i].path, sim->durable[i].node);
    }
}

void sim_disk_crash(struct sim_disk *sim)
{
    if (sim->lost_power || sim->crashed) return;
    sim->crashed = true;
    sim->counters.crashes++;
}

void sim_disk_restart(struct sim_disk *sim)
{
    sim->lost_power = sim->crashed = false;
    sim->life++;
    for (size_t i = 0; i < sim->live_count; i++) sim->live[i].node->locked = false;
    sim->options.power_loss_at = sim->options.crash_at = sim->options.sync_fails_at = 0;
    sim->options.full_at = sim->options.full_until = sim->options.rot_at = 0;
}

enum status sim_disk_rot(struct sim_disk *sim, const char *path, uint64_t offset, unsigned bit)
{
    struct sim_node *node = find_live(sim, path);
    if (node == NULL || offset >= node->live_bytes) return STATUS_NOT_FOUND;
    node->live[offset] ^= (uint8_t)(1U << bit);
    node->durable[offset] ^= (uint8_t)(1U << bit);
    sim->counters.bits_rotten++;
    return STATUS_OK;
}

static void rot_somewhere(struct sim_disk *sim)
{
    for (unsigned tries = 0; tries < 16 && sim->durable_count > 0; tries++) {
        size_t at = (size_t)draw(sim, sim->durable_count);
        struct sim_node *node = sim->durable[at].node;
        if (node->is_folder || node->durable_bytes == 0) continue;
        uint64_t offset = draw(sim, node->durable_bytes);
        if (offset >= node->live_bytes || node->dirty[offset / SECTOR] != 0) continue;
        unsigned bit = (unsigned)draw(sim, 8);
        node->live[offset] ^= (uint8_t)(1U << bit);
        node->durable[offset] ^= (uint8_t)(1U << bit);
        sim->counters.bits_rotten++;
        return;
    }
}

/* --- operations ------------------------------------------------------------------------------- */

enum fate { FATE_NORMAL, FATE_DEAD, FATE_POWER_LOSS, FATE_CRASH };

static bool is_dead(const struct sim_disk *sim)
{
    return sim->lost_power || sim->crashed;
}

/* Count a changing operation and say how it ends. */
static enum fate operation_begin(struct sim_disk *sim, const char *what)
{
    if (is_dead(sim)) return FATE_DEAD;
    uint64_t number = ++sim->counters.operations;
    note(sim, what, strlen(what));
    if (number == sim->options.rot_at) rot_somewhere(sim);
    if (number == sim->options.power_loss_at) return FATE_POWER_LOSS;
    if (number == sim->options.crash_at) return FATE_CRASH;
    return FATE_NORMAL;
}

static enum status operation_die(struct sim_disk *sim, enum fate fate)
{
    if (fate == FATE_POWER_LOSS) sim_disk_lose_power(sim);
    if (fate == FATE_CRASH) sim_disk_crash(sim);
    return STATUS_IO;
}

static bool is_full_now(const struct sim_disk *sim)
{
    uint64_t number = sim->counters.operations;
    return sim->options.full_at != 0 && number >= sim->options.full_at &&
           (sim->options.full_until == 0 || number < sim->options.full_until);
}

static uint64_t used_bytes(const struct sim_disk *sim)
{
    uint64_t used = 0;
    for (size_t i = 0; i < sim->live_count; i++) used += sim->live[i].node->live_bytes;
    return used;
}

/* Is there room for FILE_BYTES in all of NODE? */
static bool has_room(struct sim_disk *sim, const struct sim_node *node, uint64_t file_bytes)
{
    if (file_bytes <= node->live_bytes) return true;
    bool room = !is_full_now(sim) &&
                (sim->options.capacity_bytes == 0 ||
                 used_bytes(sim) + file_bytes - node->live_bytes <= sim->options.capacity_bytes);
    if (!room) sim->counters.full_refused++;
    return room;
}

/* Spend the time of a call; false when the disk died meanwhile. */
static bool spend(struct sim_disk *sim, struct disk *face, uint64_t min, uint64_t max)
{
    if (sim->options.wait == NULL || face != &sim->disk) return !is_dead(sim);
    uint64_t life = sim->life;
    uint64_t duration = max > min ? min + draw(sim, max - min + 1) : min;
    if (sim->options.slow_permille > 0 && draw(sim, 1000) < sim->options.slow_permille) {
        duration += sim->options.slow_ns;
        sim->counters.slow++;
    }
    if (duration > 0) sim->options.wait(duration);
    return !is_dead(sim) && sim->life == life;
}

static bool spend_operation(struct sim_disk *sim, struct disk *face)
{
    return spend(sim, face, sim->options.operation_ns_min, sim->options.operation_ns_max);
}

/* The two faces differ in this one function, by which they are told apart. */
static enum status free_bytes_blocking(struct disk *disk, uint64_t *ret_bytes);

static struct sim_disk *sim_of(struct disk *disk)
{
    size_t offset = disk->free_bytes == free_bytes_blocking ? offsetof(struct sim_disk, blocking)
                                                            : offsetof(struct sim_disk, disk);
    return (struct sim_disk *)(void *)((char *)disk - offset);
}

/* What a call that reached its end found in the way. */
static enum status write_refused(struct sim_disk *sim)
{
    if (is_dead(sim)) return STATUS_IO;
    return sim->options.read_only ? STATUS_DENIED : STATUS_OK;
}

static struct sim_file *file_of(struct disk_file *file)
{
    return (struct sim_file *)file;
}

static bool file_is_dead(const struct sim_file *file)
{
    return is_dead(file->sim) || file->life != file->sim->life;
}

static void check_direct(const struct sim_file *file, uint64_t offset, const void *bytes,
                         size_t size)
{
    if (!file->direct) return;
    assert(offset % DISK_DIRECT_ALIGN == 0);
    assert(size % DISK_DIRECT_ALIGN == 0);
    assert((uintptr_t)bytes % DISK_DIRECT_ALIGN == 0);
}

static enum status sim_create(struct sim_disk *sim, const char *path, bool is_folder,
                              struct sim_node **ret_node)
{
    enum status status = write_refused(sim);
    if (status != STATUS_OK) return status;
    if (!parent_exists(sim->live, sim->live_count, path)) return STATUS_NOT_FOUND;
    enum fate fate = operation_begin(sim, path);
    if (fate == FATE_NORMAL && is_full_now(sim)) {
        sim->counters.full_refused++;
        return STATUS_FULL;
    }
    if (fate != FATE_NORMAL && coin(sim, 50)) return operation_die(sim, fate);
    struct sim_node *node = must(calloc(1, sizeof *node));
    node->is_folder = is_folder;
    set_name(&sim->live, &sim->live_count, path, node);
    change_add(sim, CHANGE_CREATE, path, NULL, node);
    if (fate != FATE_NORMAL) return operation_die(sim, fate);
    *ret_node = node;
    return STATUS_OK;
}

static enum status sim_open(struct disk *disk, const char *path, unsigned flags,
                            struct disk_file **ret_file)
{
    struct sim_disk *sim = sim_of(disk);
    check_path(path);
    if (!spend_operation(sim, disk)) return STATUS_IO;
    bool writable = (flags & (DISK_OPEN_WRITE | DISK_OPEN_CREATE)) != 0;
    struct sim_node *node = find_live(sim, path);
    if (node != NULL && node->is_folder) return STATUS_INVALID;
    if (node != NULL && (flags & DISK_OPEN_EXCLUSIVE) != 0) return STATUS_EXISTS;
    if (node == NULL && (flags & DISK_OPEN_CREATE) == 0) return STATUS_NOT_FOUND;
    if (writable && sim->options.read_only) return STATUS_DENIED;
    if (node == NULL) {
        enum status status = sim_create(sim, path, false, &node);
        if (status != STATUS_OK) return status;
    }
    struct sim_file *file = must(calloc(1, sizeof *file));
    *file = (struct sim_file) { .file.disk = disk,
                                .sim = sim,
                                .node = node_hold(node),
                                .life = sim->life,
                                .writable = writable,
                                .direct = (flags & DISK_OPEN_DIRECT) != 0 };
    *ret_file = &file->file;
    return STATUS_OK;
}

static void sim_close(struct disk_file *disk_file)
{
    if (disk_file == NULL) return;
    node_release(file_of(disk_file)->node);
    free(disk_file);
}

static enum status sim_read(struct disk_file *disk_file, uint64_t offset, void *ret_bytes,
                            size_t size, size_t *ret_read)
{
    struct sim_file *file = file_of(disk_file);
    struct sim_disk *sim = file->sim;
    check_direct(file, offset, ret_bytes, size);
    if (file_is_dead(file)) return STATUS_IO;
    if (!spend_operation(sim, disk_file->disk) || file_is_dead(file)) return STATUS_IO;
    sim->counters.reads++;
    struct sim_node *node = file->node;
    uint64_t left = offset < node->live_bytes ? node->live_bytes - offset : 0;
    size_t count = left < size ? (size_t)left : size;
    if (count > 0) memcpy(ret_bytes, node->live + offset, count);
    if (count > 0 && sim->options.rot_reads_per_million > 0 &&
        draw(sim, 1000000) < sim->options.rot_reads_per_million) {
        size_t at = (size_t)draw(sim, count);
        ((uint8_t *)ret_bytes)[at] ^= (uint8_t)(1U << (unsigned)draw(sim, 8));
        sim->counters.bits_rotten++;
    }
    *ret_read = count;
    return STATUS_OK;
}

/* The part of a write that reaches the page cache; a write that meets its end may get anywhere. */
static enum status write_cache(struct sim_file *file, uint64_t offset, const void *bytes,
                               size_t size)
{
    struct sim_disk *sim = file->sim;
    assert(file->writable);
    check_direct(file, offset, bytes, size);
    if (file_is_dead(file)) return STATUS_IO;
    if (sim->options.read_only) return STATUS_DENIED;
    enum fate fate = operation_begin(sim, "write");
    uint64_t where[2] = { offset, size };
    note(sim, where, sizeof where);
    /* RocksDB's bytes hold session ids of its own; those of the other face are all ours. */
    if (file->file.disk == &sim->disk) note(sim, bytes, size);
    if (fate == FATE_NORMAL && has_room(sim, file->node, offset + size)) {
        node_write(sim, file->node, offset, bytes, size);
        sim->counters.bytes_written += size;
        return STATUS_OK;
    }
    size_t part = size;
    if (fate != FATE_POWER_LOSS) part = (size_t)draw(sim, size / SECTOR + 1) * SECTOR;
    if (fate == FATE_NORMAL && offset + part > file->node->live_bytes) part = 0;
    node_write(sim, file->node, offset, bytes, part);
    return fate == FATE_NORMAL ? STATUS_FULL : operation_die(sim, fate);
}

static enum status sim_write(struct disk_file *disk_file, uint64_t offset, const void *bytes,
                             size_t size)
{
    struct sim_file *file = file_of(disk_file);
    enum status status = write_cache(file, offset, bytes, size);
    if (status != STATUS_OK) return status;
    if (!spend_operation(file->sim, disk_file->disk) || file_is_dead(file)) return STATUS_IO;
    return STATUS_OK;
}

static enum status sync_node(struct sim_file *file, struct disk *face)
{
    struct sim_disk *sim = file->sim;
    uint64_t up_to = sim->write_sequence;
    if (++sim->counters.syncs == sim->options.sync_fails_at) {
        sim->counters.syncs_failed++;
        node_fail_sync(sim, file->node);
        return STATUS_IO;
    }
    if (!spend(sim, face, sim->options.sync_ns_min, sim->options.sync_ns_max)) return STATUS_IO;
    if (file_is_dead(file)) return STATUS_IO;
    node_sync(file->node, up_to);
    return STATUS_OK;
}

static enum status sim_sync(struct disk_file *disk_file)
{
    struct sim_file *file = file_of(disk_file);
    if (file_is_dead(file)) return STATUS_IO;
    enum fate fate = operation_begin(file->sim, "sync");
    if (fate != FATE_NORMAL) return operation_die(file->sim, fate);
    return sync_node(file, disk_file->disk);
}

static enum status sim_write_sync(struct disk_file *disk_file, uint64_t offset, const void *bytes,
                                  size_t size)
{
    struct sim_file *file = file_of(disk_file);
    enum status status = write_cache(file, offset, bytes, size);
    if (status != STATUS_OK) return status;
    return sync_node(file, disk_file->disk);
}

static enum status sim_size(struct disk_file *disk_file, uint64_t *ret_bytes)
{
    struct sim_file *file = file_of(disk_file);
    if (file_is_dead(file)) return STATUS_IO;
    *ret_bytes = file->node->live_bytes;
    return STATUS_OK;
}

static enum status sim_truncate(struct disk_file *disk_file, uint64_t size)
{
    struct sim_file *file = file_of(disk_file);
    struct sim_disk *sim = file->sim;
    assert(file->writable);
    if (file_is_dead(file)) return STATUS_IO;
    if (sim->options.read_only) return STATUS_DENIED;
    enum fate fate = operation_begin(sim, "truncate");
    note(sim, &size, sizeof size);
    if (fate == FATE_NORMAL && !has_room(sim, file->node, size)) return STATUS_FULL;
    if (fate == FATE_NORMAL || coin(sim, 50)) node_truncate(sim, file->node, size);
    if (fate != FATE_NORMAL) return operation_die(sim, fate);
    return spend_operation(sim, disk_file->disk) ? STATUS_OK : STATUS_IO;
}

static bool folder_is_empty(const struct sim_disk *sim, const char *path)
{
    for (size_t i = 0; i < sim->live_count; i++) {
        if (is_in_folder(sim->live[i].path, path)) return false;
    }
    return true;
}

static enum status sim_remove(struct disk *disk, const char *path)
{
    struct sim_disk *sim = sim_of(disk);
    check_path(path);
    enum status status = write_refused(sim);
    if (status != STATUS_OK) return status;
    struct sim_node *node = find_live(sim, path);
    if (node == NULL) return STATUS_NOT_FOUND;
    if (node->is_folder && !folder_is_empty(sim, path)) return STATUS_EXISTS;
    enum fate fate = operation_begin(sim, path);
    if (fate == FATE_NORMAL || coin(sim, 50)) {
        change_add(sim, CHANGE_REMOVE, path, NULL, node);
        drop_name(sim->live, &sim->live_count, path);
    }
    if (fate != FATE_NORMAL) return operation_die(sim, fate);
    return spend_operation(sim, disk) ? STATUS_OK : STATUS_IO;
}

static enum status sim_rename(struct disk *disk, const char *from, const char *to)
{
    struct sim_disk *sim = sim_of(disk);
    check_path(from);
    check_path(to);
    enum status status = write_refused(sim);
    if (status != STATUS_OK) return status;
    struct sim_node *node = find_live(sim, from);
    if (node == NULL || !parent_exists(sim->live, sim->live_count, to)) return STATUS_NOT_FOUND;
    assert(!node->is_folder); /* nobody renames folders */
    enum fate fate = operation_begin(sim, from);
    note(sim, to, strlen(to));
    if ((fate == FATE_NORMAL || coin(sim, 50)) && strcmp(from, to) != 0) {
        change_add(sim, CHANGE_RENAME, from, to, node);
        set_name(&sim->live, &sim->live_count, to, node);
        drop_name(sim->live, &sim->live_count, from);
    }
    if (fate != FATE_NORMAL) return operation_die(sim, fate);
    return spend_operation(sim, disk) ? STATUS_OK : STATUS_IO;
}

static enum status sim_make_folder(struct disk *disk, const char *path)
{
    struct sim_disk *sim = sim_of(disk);
    check_path(path);
    enum status status = write_refused(sim);
    if (status == STATUS_IO) return status;
    if (find_live(sim, path) != NULL) return STATUS_EXISTS;
    struct sim_node *node;
    if (status == STATUS_OK) status = sim_create(sim, path, true, &node);
    if (status != STATUS_OK) return status;
    return spend_operation(sim, disk) ? STATUS_OK : STATUS_IO;
}

static enum status sim_sync_folder(struct disk *disk, const char *path)
{
    struct sim_disk *sim = sim_of(disk);
    check_path(path);
    if (is_dead(sim)) return STATUS_IO;
    struct sim_node *node = path[0] == 0 ? NULL : find_live(sim, path);
    if (path[0] != 0 && (node == NULL || !node->is_folder)) return STATUS_NOT_FOUND;
    enum fate fate = operation_begin(sim, "sync_folder");
    note(sim, path, strlen(path));
    if (fate != FATE_NORMAL) return operation_die(sim, fate);
    size_t count = sim->change_count;
    if (++sim->counters.syncs == sim->options.sync_fails_at) {
        sim->counters.syncs_failed++;
        changes_settle(sim, path, count, 50);
        return STATUS_IO;
    }
    if (!spend(sim, disk, sim->options.sync_ns_min, sim->options.sync_ns_max)) return STATUS_IO;
    /* Another fiber may have synced some of them meanwhile: the count is an upper bound. */
    changes_settle(sim, path, count < sim->change_count ? count : sim->change_count, 100);
    return STATUS_OK;
}

static int compare_entries(const void *a, const void *b)
{
    const struct disk_entry *left = a, *right = b;
    return strcmp(left->name, right->name);
}

static enum status sim_list(struct disk *disk, const char *path, struct disk_entry *ret_entries,
                            size_t count_max, size_t *ret_count)
{
    struct sim_disk *sim = sim_of(disk);
    check_path(path);
    if (!spend_operation(sim, disk)) return STATUS_IO;
    struct sim_node *node = path[0] == 0 ? NULL : find_live(sim, path);
    if (path[0] != 0 && (node == NULL || !node->is_folder)) return STATUS_NOT_FOUND;
    size_t count = 0;
    for (size_t i = 0; i < sim->live_count; i++) {
        const struct sim_name *name = &sim->live[i];
        if (!is_in_folder(name->path, path)) continue;
        if (count == count_max) return STATUS_FULL;
        const char *last = path[0] == 0 ? name->path : name->path + strlen(path) + 1;
        memcpy(ret_entries[count].name, last, strlen(last) + 1);
        ret_entries[count].is_folder = name->node->is_folder;
        ret_entries[count].size_bytes = name->node->live_bytes;
        count++;
    }
    if (count > 0) qsort(ret_entries, count, sizeof *ret_entries, compare_entries);
    *ret_count = count;
    return STATUS_OK;
}

static enum status sim_lock(struct disk *disk, const char *path)
{
    struct sim_disk *sim = sim_of(disk);
    check_path(path);
    enum status status = write_refused(sim);
    if (status != STATUS_OK) return status;
    struct sim_node *node = find_live(sim, path);
    if (node == NULL) status = sim_create(sim, path, false, &node);
    if (status != STATUS_OK) return status;
    if (node->locked) return STATUS_BUSY;
    node->locked = true;
    return STATUS_OK;
}

static enum status sim_free_bytes(struct disk *disk, uint64_t *ret_bytes)
{
    struct sim_disk *sim = sim_of(disk);
    if (is_dead(sim)) return STATUS_IO;
    uint64_t capacity =
        sim->options.capacity_bytes == 0 ? (uint64_t)1 << 40 : sim->options.capacity_bytes;
    uint64_t used = used_bytes(sim);
    *ret_bytes = is_full_now(sim) || used > capacity ? 0 : capacity - used;
    return STATUS_OK;
}

static enum status free_bytes_blocking(struct disk *disk, uint64_t *ret_bytes)
{
    return sim_free_bytes(&sim_of(disk)->disk, ret_bytes);
}

void sim_disk_init(struct sim_disk *sim, const struct sim_disk_options *options)
{
    *sim = (struct sim_disk) { .options = *options, .history_hash = options->seed };
    sim->disk = (struct disk) {
        .open = sim_open,
        .close = sim_close,
        .read = sim_read,
        .write = sim_write,
        .sync = sim_sync,
        .write_sync = sim_write_sync,
        .size = sim_size,
        .truncate = sim_truncate,
        .remove = sim_remove,
        .rename = sim_rename,
        .make_folder = sim_make_folder,
        .sync_folder = sim_sync_folder,
        .list = sim_list,
        .lock = sim_lock,
        .free_bytes = sim_free_bytes,
    };
    sim->blocking = sim->disk;
    sim->blocking.free_bytes = free_bytes_blocking;
    random_seeded_init(&sim->random, options->seed);
}

void sim_disk_finish(struct sim_disk *sim)
{
    for (size_t i = 0; i < sim->change_count; i++) change_finish(&sim->changes[i]);
    free(sim->changes);
    sim->changes = NULL;
    sim->change_count = 0;
    names_clear(&sim->live, &sim->live_count);
    names_clear(&sim->durable, &sim->durable_count);
}
