#include "sim/disk.h"

#include "sim/disk_internal.h"

#include <assert.h>
#include <stdlib.h>

struct sim_file {
    struct disk_file file;
    struct sim_disk *sim;
    struct sim_node *node;
    uint64_t life;
    bool writable, direct;
};

/* --- faults ----------------------------------------------------------------------------------- */

void sim_disk_lose_power(struct sim_disk *sim)
{
    if (sim->lost_power) return;
    sim->lost_power = true;
    sim->counters.power_losses++;
    /* All, nothing, or a mix: each is a world that real disks make. */
    unsigned mode = (unsigned)sim_disk_draw(sim, 4);
    unsigned survive_percent = mode == 0 ? 100 : mode == 1 ? 0 : (unsigned)sim_disk_draw(sim, 101);
    /* Every file that has a name now or on the platter, each once. */
    for (size_t i = 0; i < sim->live_count; i++) {
        sim_node_lose_power(sim, sim->live[i].node, survive_percent);
    }
    for (size_t i = 0; i < sim->durable_count; i++) {
        sim_node_lose_power(sim, sim->durable[i].node, survive_percent);
    }
    for (size_t i = 0; i < sim->change_count; i++) {
        sim_node_lose_power(sim, sim->changes[i].node, survive_percent);
    }
    sim_disk_changes_settle(sim, NULL, sim->change_count, survive_percent);
    sim_disk_drop_orphans(sim);
    sim_names_clear(&sim->live, &sim->live_count);
    for (size_t i = 0; i < sim->durable_count; i++) {
        sim_name_set(&sim->live, &sim->live_count, sim->durable[i].path, sim->durable[i].node);
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
    struct sim_node *node = sim_disk_find(sim, path);
    if (node == NULL || offset >= node->live_bytes) return STATUS_NOT_FOUND;
    sim->rots = sim_must(realloc(sim->rots, (sim->rot_count + 1) * sizeof *sim->rots));
    uint8_t mask = (uint8_t)(1U << bit);
    sim->rots[sim->rot_count++] =
        (struct sim_rot) { .node = sim_node_hold(node), .offset = offset, .mask = mask };
    node->live[offset] ^= mask;
    node->durable[offset] ^= mask;
    sim->counters.bits_rotten++;
    return STATUS_OK;
}

void sim_disk_heal(struct sim_disk *sim)
{
    while (sim->rot_count > 0) {
        struct sim_rot *rot = &sim->rots[--sim->rot_count];
        rot->node->live[rot->offset] ^= rot->mask;
        rot->node->durable[rot->offset] ^= rot->mask;
        sim_node_release(rot->node);
    }
}

static void rot_somewhere(struct sim_disk *sim)
{
    for (unsigned tries = 0; tries < 16 && sim->durable_count > 0; tries++) {
        size_t at = (size_t)sim_disk_draw(sim, sim->durable_count);
        struct sim_node *node = sim->durable[at].node;
        if (node->is_folder || node->durable_bytes == 0) continue;
        uint64_t offset = sim_disk_draw(sim, node->durable_bytes);
        if (offset >= node->live_bytes || node->dirty[offset / SIM_SECTOR] != 0) continue;
        unsigned bit = (unsigned)sim_disk_draw(sim, 8);
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
    sim_disk_note(sim, what, strlen(what));
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
    uint64_t duration = max > min ? min + sim_disk_draw(sim, max - min + 1) : min;
    if (sim->options.slow_permille > 0 && sim_disk_draw(sim, 1000) < sim->options.slow_permille) {
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
    if (!sim_parent_exists(sim->live, sim->live_count, path)) return STATUS_NOT_FOUND;
    enum fate fate = operation_begin(sim, path);
    if (fate == FATE_NORMAL && is_full_now(sim)) {
        sim->counters.full_refused++;
        return STATUS_FULL;
    }
    if (fate != FATE_NORMAL && sim_disk_coin(sim, 50)) return operation_die(sim, fate);
    struct sim_node *node = sim_must(calloc(1, sizeof *node));
    node->is_folder = is_folder;
    sim_name_set(&sim->live, &sim->live_count, path, node);
    sim_disk_change_add(sim, CHANGE_CREATE, path, NULL, node);
    if (fate != FATE_NORMAL) return operation_die(sim, fate);
    *ret_node = node;
    return STATUS_OK;
}

static enum status sim_open(struct disk *disk, const char *path, unsigned flags,
                            struct disk_file **ret_file)
{
    struct sim_disk *sim = sim_of(disk);
    sim_path_check(path);
    if (!spend_operation(sim, disk)) return STATUS_IO;
    bool writable = (flags & (DISK_OPEN_WRITE | DISK_OPEN_CREATE)) != 0;
    struct sim_node *node = sim_disk_find(sim, path);
    if (node != NULL && node->is_folder) return STATUS_INVALID;
    if (node != NULL && (flags & DISK_OPEN_EXCLUSIVE) != 0) return STATUS_EXISTS;
    if (node == NULL && (flags & DISK_OPEN_CREATE) == 0) return STATUS_NOT_FOUND;
    if (writable && sim->options.read_only) return STATUS_DENIED;
    if (node == NULL) {
        enum status status = sim_create(sim, path, false, &node);
        if (status != STATUS_OK) return status;
    }
    struct sim_file *file = sim_must(calloc(1, sizeof *file));
    *file = (struct sim_file) { .file.disk = disk,
                                .sim = sim,
                                .node = sim_node_hold(node),
                                .life = sim->life,
                                .writable = writable,
                                .direct = (flags & DISK_OPEN_DIRECT) != 0 };
    *ret_file = &file->file;
    return STATUS_OK;
}

static void sim_close(struct disk_file *disk_file)
{
    if (disk_file == NULL) return;
    sim_node_release(file_of(disk_file)->node);
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
        sim_disk_draw(sim, 1000000) < sim->options.rot_reads_per_million) {
        size_t at = (size_t)sim_disk_draw(sim, count);
        ((uint8_t *)ret_bytes)[at] ^= (uint8_t)(1U << (unsigned)sim_disk_draw(sim, 8));
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
    sim_disk_note(sim, where, sizeof where);
    /* RocksDB's bytes hold session ids of its own; those of the other face are all ours. */
    if (file->file.disk == &sim->disk) sim_disk_note(sim, bytes, size);
    if (fate == FATE_NORMAL && has_room(sim, file->node, offset + size)) {
        sim_node_write(sim, file->node, offset, bytes, size);
        sim->counters.bytes_written += size;
        return STATUS_OK;
    }
    size_t part = size;
    if (fate != FATE_POWER_LOSS)
        part = (size_t)sim_disk_draw(sim, size / SIM_SECTOR + 1) * SIM_SECTOR;
    if (fate == FATE_NORMAL && offset + part > file->node->live_bytes) part = 0;
    sim_node_write(sim, file->node, offset, bytes, part);
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
        sim_node_fail_sync(sim, file->node);
        return STATUS_IO;
    }
    if (!spend(sim, face, sim->options.sync_ns_min, sim->options.sync_ns_max)) return STATUS_IO;
    if (file_is_dead(file)) return STATUS_IO;
    sim_node_sync(file->node, up_to);
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
    sim_disk_note(sim, &size, sizeof size);
    if (fate == FATE_NORMAL && !has_room(sim, file->node, size)) return STATUS_FULL;
    if (fate == FATE_NORMAL || sim_disk_coin(sim, 50)) sim_node_truncate(sim, file->node, size);
    if (fate != FATE_NORMAL) return operation_die(sim, fate);
    return spend_operation(sim, disk_file->disk) ? STATUS_OK : STATUS_IO;
}

static bool folder_is_empty(const struct sim_disk *sim, const char *path)
{
    for (size_t i = 0; i < sim->live_count; i++) {
        if (sim_path_is_in(sim->live[i].path, path)) return false;
    }
    return true;
}

static enum status sim_remove(struct disk *disk, const char *path)
{
    struct sim_disk *sim = sim_of(disk);
    sim_path_check(path);
    enum status status = write_refused(sim);
    if (status != STATUS_OK) return status;
    struct sim_node *node = sim_disk_find(sim, path);
    if (node == NULL) return STATUS_NOT_FOUND;
    if (node->is_folder && !folder_is_empty(sim, path)) return STATUS_EXISTS;
    enum fate fate = operation_begin(sim, path);
    if (fate == FATE_NORMAL || sim_disk_coin(sim, 50)) {
        sim_disk_change_add(sim, CHANGE_REMOVE, path, NULL, node);
        sim_name_drop(sim->live, &sim->live_count, path);
    }
    if (fate != FATE_NORMAL) return operation_die(sim, fate);
    return spend_operation(sim, disk) ? STATUS_OK : STATUS_IO;
}

static enum status sim_rename(struct disk *disk, const char *from, const char *to)
{
    struct sim_disk *sim = sim_of(disk);
    sim_path_check(from);
    sim_path_check(to);
    enum status status = write_refused(sim);
    if (status != STATUS_OK) return status;
    struct sim_node *node = sim_disk_find(sim, from);
    if (node == NULL || !sim_parent_exists(sim->live, sim->live_count, to)) return STATUS_NOT_FOUND;
    assert(!node->is_folder); /* nobody renames folders */
    enum fate fate = operation_begin(sim, from);
    sim_disk_note(sim, to, strlen(to));
    if ((fate == FATE_NORMAL || sim_disk_coin(sim, 50)) && strcmp(from, to) != 0) {
        sim_disk_change_add(sim, CHANGE_RENAME, from, to, node);
        sim_name_set(&sim->live, &sim->live_count, to, node);
        sim_name_drop(sim->live, &sim->live_count, from);
    }
    if (fate != FATE_NORMAL) return operation_die(sim, fate);
    return spend_operation(sim, disk) ? STATUS_OK : STATUS_IO;
}

static enum status sim_make_folder(struct disk *disk, const char *path)
{
    struct sim_disk *sim = sim_of(disk);
    sim_path_check(path);
    enum status status = write_refused(sim);
    if (status == STATUS_IO) return status;
    if (sim_disk_find(sim, path) != NULL) return STATUS_EXISTS;
    struct sim_node *node;
    if (status == STATUS_OK) status = sim_create(sim, path, true, &node);
    if (status != STATUS_OK) return status;
    return spend_operation(sim, disk) ? STATUS_OK : STATUS_IO;
}

static enum status sim_sync_folder(struct disk *disk, const char *path)
{
    struct sim_disk *sim = sim_of(disk);
    sim_path_check(path);
    if (is_dead(sim)) return STATUS_IO;
    struct sim_node *node = path[0] == 0 ? NULL : sim_disk_find(sim, path);
    if (path[0] != 0 && (node == NULL || !node->is_folder)) return STATUS_NOT_FOUND;
    enum fate fate = operation_begin(sim, "sync_folder");
    sim_disk_note(sim, path, strlen(path));
    if (fate != FATE_NORMAL) return operation_die(sim, fate);
    size_t count = sim->change_count;
    if (++sim->counters.syncs == sim->options.sync_fails_at) {
        /* Some of the names may have got there; the others wait for the next sync, or are lost with
         * the power. (File systems log names in order, and stop for good when that log fails.) */
        sim->counters.syncs_failed++;
        sim_disk_changes_settle(sim, path, (size_t)sim_disk_draw(sim, count + 1), 100);
        return STATUS_IO;
    }
    if (!spend(sim, disk, sim->options.sync_ns_min, sim->options.sync_ns_max)) return STATUS_IO;
    /* Another fiber may have synced some of them meanwhile: the count is an upper bound. */
    sim_disk_changes_settle(sim, path, count < sim->change_count ? count : sim->change_count, 100);
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
    sim_path_check(path);
    if (!spend_operation(sim, disk)) return STATUS_IO;
    struct sim_node *node = path[0] == 0 ? NULL : sim_disk_find(sim, path);
    if (path[0] != 0 && (node == NULL || !node->is_folder)) return STATUS_NOT_FOUND;
    size_t count = 0;
    for (size_t i = 0; i < sim->live_count; i++) {
        const struct sim_name *name = &sim->live[i];
        if (!sim_path_is_in(name->path, path)) continue;
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
    sim_path_check(path);
    enum status status = write_refused(sim);
    if (status != STATUS_OK) return status;
    struct sim_node *node = sim_disk_find(sim, path);
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
    sim_disk_heal(sim);
    free(sim->rots);
    sim->rots = NULL;
    for (size_t i = 0; i < sim->change_count; i++) sim_change_finish(&sim->changes[i]);
    free(sim->changes);
    sim->changes = NULL;
    sim->change_count = 0;
    sim_names_clear(&sim->live, &sim->live_count);
    sim_names_clear(&sim->durable, &sim->durable_count);
}
