#include "sim/disk_internal.h"

#include "base/checksum.h"

#include <assert.h>
#include <stdlib.h>

enum { NAMES_MAX = 4096, FILE_BYTES_MIN = 16 * 1024 };

/* --- helpers ---------------------------------------------------------------------------------- */

void *sim_must(void *memory)
{
    if (memory == NULL) abort(); /* a simulator without memory has nothing to say */
    return memory;
}

uint64_t sim_disk_draw(struct sim_disk *sim, uint64_t bound)
{
    uint64_t value;
    random_below(&sim->random.random, bound, &value);
    return value;
}

bool sim_disk_coin(struct sim_disk *sim, unsigned percent)
{
    return sim_disk_draw(sim, 100) < percent;
}

void sim_disk_note(struct sim_disk *sim, const void *bytes, size_t size)
{
    sim->history_hash = hash64(bytes, size, sim->history_hash);
}

void sim_node_release(struct sim_node *node)
{
    assert(node->references > 0);
    if (--node->references > 0) return;
    free(node->live);
    free(node->durable);
    free(node->dirty);
    free(node);
}

struct sim_node *sim_node_hold(struct sim_node *node)
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

struct sim_node *sim_disk_find(const struct sim_disk *sim, const char *path)
{
    size_t at = find_name(sim->live, sim->live_count, path);
    return at == sim->live_count ? NULL : sim->live[at].node;
}

void sim_name_set(struct sim_name **names, size_t *count, const char *path, struct sim_node *node)
{
    size_t at = find_name(*names, *count, path);
    sim_node_hold(node);
    if (at < *count) {
        sim_node_release((*names)[at].node);
    } else {
        assert(*count < NAMES_MAX);
        *names = sim_must(realloc(*names, (*count + 1) * sizeof **names));
        (*names)[(*count)++].path = sim_must(strdup(path));
    }
    (*names)[at].node = node;
}

void sim_name_drop(struct sim_name *names, size_t *count, const char *path)
{
    size_t at = find_name(names, *count, path);
    if (at == *count) return;
    struct sim_name gone = names[at];
    names[at] = names[--*count];
    names[*count] = (struct sim_name) { 0 };
    free(gone.path);
    sim_node_release(gone.node);
}

static size_t parent_size(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path);
}

bool sim_path_is_in(const char *path, const char *folder)
{
    size_t size = parent_size(path);
    return size == strlen(folder) && memcmp(path, folder, size) == 0;
}

bool sim_parent_exists(const struct sim_name *names, size_t count, const char *path)
{
    char parent[DISK_PATH_BYTES_MAX + 1];
    size_t size = parent_size(path);
    if (size == 0) return true;
    memcpy(parent, path, size);
    parent[size] = 0;
    size_t at = find_name(names, count, parent);
    return at < count && names[at].node->is_folder;
}

void sim_path_check(const char *path)
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
    node->live = sim_must(realloc(node->live, new));
    node->durable = sim_must(realloc(node->durable, new));
    node->dirty = sim_must(realloc(node->dirty, new / SIM_SECTOR * sizeof *node->dirty));
    memset(node->live + old, 0, new - old);
    memset(node->durable + old, 0, new - old);
    memset(node->dirty + old / SIM_SECTOR, 0, (new - old) / SIM_SECTOR * sizeof *node->dirty);
    node->capacity = capacity;
}

/* Before a sector changes: a version that was written but never synced may have gone to the platter
 * by itself. */
static void sector_touch(struct sim_disk *sim, struct sim_node *node, uint64_t sector)
{
    size_t at = (size_t)(sector * SIM_SECTOR);
    if (node->dirty[sector] != 0 && sim_disk_coin(sim, 50)) {
        memcpy(node->durable + at, node->live + at, SIM_SECTOR);
    }
    node->dirty[sector] = sim->write_sequence;
    if (node->dirty_to == node->dirty_from) {
        node->dirty_from = sector;
        node->dirty_to = sector + 1;
    }
    if (sector < node->dirty_from) node->dirty_from = sector;
    if (sector >= node->dirty_to) node->dirty_to = sector + 1;
}

void sim_rots_overwritten(struct sim_disk *sim, const struct sim_node *node, uint64_t offset,
                          uint64_t size)
{
    size_t kept = 0;
    for (size_t i = 0; i < sim->rot_count; i++) {
        struct sim_rot *rot = &sim->rots[i];
        if (rot->node != node || rot->offset < offset || rot->offset - offset >= size) {
            sim->rots[kept++] = *rot;
            continue;
        }
        /* The old content may come back from the platter; it comes back whole. */
        rot->node->durable[rot->offset] ^= rot->mask;
        sim_node_release(rot->node);
    }
    sim->rot_count = kept;
}

void sim_node_write(struct sim_disk *sim, struct sim_node *node, uint64_t offset,
                    const uint8_t *bytes, size_t size)
{
    if (size == 0) return;
    sim_rots_overwritten(sim, node, offset, size);
    node_reserve(node, offset + size);
    sim->write_sequence++;
    for (uint64_t sector = offset / SIM_SECTOR; sector <= (offset + size - 1) / SIM_SECTOR;
         sector++) {
        sector_touch(sim, node, sector);
    }
    memcpy(node->live + offset, bytes, size);
    if (offset + size > node->live_bytes) node->live_bytes = offset + size;
}

void sim_node_truncate(struct sim_disk *sim, struct sim_node *node, uint64_t size)
{
    sim_rots_overwritten(sim, node, size, UINT64_MAX - size);
    node_reserve(node, size);
    sim->write_sequence++;
    if (size < node->live_bytes) {
        for (uint64_t sector = size / SIM_SECTOR; sector * SIM_SECTOR < node->live_bytes;
             sector++) {
            sector_touch(sim, node, sector);
        }
        memset(node->live + size, 0, (size_t)(node->live_bytes - size));
    }
    node->live_bytes = size;
}

static void sector_settle(struct sim_node *node, uint64_t sector, bool survives)
{
    size_t at = (size_t)(sector * SIM_SECTOR);
    if (survives) memcpy(node->durable + at, node->live + at, SIM_SECTOR);
    node->dirty[sector] = 0;
}

/* Writes up to sequence UP_TO are now on the platter. */
void sim_node_sync(struct sim_node *node, uint64_t up_to)
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
void sim_node_fail_sync(struct sim_disk *sim, struct sim_node *node)
{
    for (uint64_t s = node->dirty_from; s < node->dirty_to; s++) {
        if (node->dirty[s] != 0) sector_settle(node, s, sim_disk_coin(sim, 50));
    }
    node->dirty_from = node->dirty_to = 0;
    if (sim_disk_coin(sim, 50)) node->durable_bytes = node->live_bytes;
}

void sim_node_lose_power(struct sim_disk *sim, struct sim_node *node, unsigned survive_percent)
{
    for (uint64_t s = node->dirty_from; s < node->dirty_to; s++) {
        if (node->dirty[s] == 0) continue;
        bool survives = sim_disk_coin(sim, survive_percent);
        if (survives)
            sim->counters.sectors_survived++;
        else
            sim->counters.sectors_lost++;
        sector_settle(node, s, survives);
    }
    node->dirty_from = node->dirty_to = 0;
    if (node->live_bytes != node->durable_bytes && sim_disk_coin(sim, survive_percent)) {
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
        sim_name_set(&sim->durable, &sim->durable_count, change->path, change->node);
        break;
    case CHANGE_REMOVE: sim_name_drop(sim->durable, &sim->durable_count, change->path); break;
    case CHANGE_RENAME:
        sim_name_set(&sim->durable, &sim->durable_count, change->to, change->node);
        sim_name_drop(sim->durable, &sim->durable_count, change->path);
        break;
    }
}

void sim_change_finish(struct sim_name_change *change)
{
    free(change->path);
    free(change->to);
    sim_node_release(change->node);
}

void sim_disk_change_add(struct sim_disk *sim, enum sim_change_kind kind, const char *path,
                         const char *to, struct sim_node *node)
{
    sim->changes = sim_must(realloc(sim->changes, (sim->change_count + 1) * sizeof *sim->changes));
    sim->changes[sim->change_count++] = (struct sim_name_change) {
        .kind = kind,
        .path = sim_must(strdup(path)),
        .to = to == NULL ? NULL : sim_must(strdup(to)),
        .node = sim_node_hold(node),
    };
}

/* Settle the first COUNT changes of FOLDER (NULL: all folders); each survives with the given
 * chance. */
void sim_disk_changes_settle(struct sim_disk *sim, const char *folder, size_t count,
                             unsigned survive_percent)
{
    size_t kept = 0;
    for (size_t i = 0; i < sim->change_count; i++) {
        struct sim_name_change *change = &sim->changes[i];
        bool matches = folder == NULL || sim_path_is_in(change->path, folder) ||
                       (change->to != NULL && sim_path_is_in(change->to, folder));
        if (i >= count || !matches) {
            sim->changes[kept++] = *change;
            continue;
        }
        if (survive_percent == 100 || sim_disk_coin(sim, survive_percent))
            change_apply(sim, change);
        else
            sim->counters.names_lost++;
        sim_change_finish(change);
    }
    sim->change_count = kept;
}

void sim_names_clear(struct sim_name **names, size_t *count)
{
    for (size_t i = 0; i < *count; i++) {
        free((*names)[i].path);
        sim_node_release((*names)[i].node);
    }
    free(*names);
    *names = NULL;
    *count = 0;
}

void sim_disk_drop_orphans(struct sim_disk *sim)
{
    bool dropped = true;
    while (dropped) {
        dropped = false;
        for (size_t i = 0; i < sim->durable_count && !dropped; i++) {
            char *path = sim->durable[i].path;
            if (sim_parent_exists(sim->durable, sim->durable_count, path)) continue;
            sim_name_drop(sim->durable, &sim->durable_count, path);
            dropped = true;
        }
    }
}
