/* The model test of the registry on the real store and a simulated disk. */
#include "registry/registry_model_store.h"
#include "sim/disk.h"

#include <stdio.h>
#include <stdlib.h>

static struct store *stores[2];
static struct sim_disk disks[2];

struct store *model_store_open(unsigned index, uint64_t seed)
{
    sim_disk_init(&disks[index], &(struct sim_disk_options) { .seed = seed });
    /* A small memtable, so that most of what is read has been flushed. */
    struct store_options options = { .folder = "store",
                                     .simulation = true,
                                     .memtable_bytes = 16384 };
    struct error error = { 0 };
    if (store_open(&disks[index].disk, &options, &stores[index], &error) != STATUS_OK) {
        fprintf(stderr, "%s\n", error.text);
        abort();
    }
    return stores[index];
}

void model_store_close(unsigned index)
{
    store_close(stores[index]);
    sim_disk_finish(&disks[index]);
}
