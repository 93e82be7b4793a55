/* The files of the simulated disk: sectors, names, and what of them reached the platter. Shared by
 * sim/disk.c (operations and faults) and sim/disk_files.c only. */
#ifndef UNUM_SIM_DISK_INTERNAL_H
#define UNUM_SIM_DISK_INTERNAL_H

#include "sim/disk.h"

enum { SIM_SECTOR = DISK_SECTOR_BYTES };

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

enum sim_change_kind { CHANGE_CREATE, CHANGE_REMOVE, CHANGE_RENAME };

struct sim_name_change {
    enum sim_change_kind kind;
    char *path;
    char *to; /* of a rename */
    struct sim_node *node;
};

/* A rotten bit, the same in the page cache and on the platter. */
struct sim_rot {
    struct sim_node *node;
    uint64_t offset;
    uint8_t mask;
};

void *sim_must(void *memory);
uint64_t sim_disk_draw(struct sim_disk *sim, uint64_t bound);
bool sim_disk_coin(struct sim_disk *sim, unsigned percent);
void sim_disk_note(struct sim_disk *sim, const void *bytes, size_t size);
void sim_node_release(struct sim_node *node);
struct sim_node *sim_node_hold(struct sim_node *node);
struct sim_node *sim_disk_find(const struct sim_disk *sim, const char *path);
void sim_name_set(struct sim_name **names, size_t *count, const char *path, struct sim_node *node);
void sim_name_drop(struct sim_name *names, size_t *count, const char *path);
bool sim_path_is_in(const char *path, const char *folder);
bool sim_parent_exists(const struct sim_name *names, size_t count, const char *path);
void sim_path_check(const char *path);
/* Bytes of NODE are overwritten: what was rotten there is gone for good. */
void sim_rots_overwritten(struct sim_disk *sim, const struct sim_node *node, uint64_t offset,
                          uint64_t size);
void sim_node_write(struct sim_disk *sim, struct sim_node *node, uint64_t offset,
                    const uint8_t *bytes, size_t size);
void sim_node_truncate(struct sim_disk *sim, struct sim_node *node, uint64_t size);
void sim_node_sync(struct sim_node *node, uint64_t up_to);
void sim_node_fail_sync(struct sim_disk *sim, struct sim_node *node);
void sim_node_lose_power(struct sim_disk *sim, struct sim_node *node, unsigned survive_percent);
void sim_change_finish(struct sim_name_change *change);
void sim_disk_change_add(struct sim_disk *sim, enum sim_change_kind kind, const char *path,
                         const char *to, struct sim_node *node);
void sim_disk_changes_settle(struct sim_disk *sim, const char *folder, size_t count,
                             unsigned survive_percent);
void sim_names_clear(struct sim_name **names, size_t *count);
void sim_disk_drop_orphans(struct sim_disk *sim);

#endif
