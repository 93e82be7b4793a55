/* For tests: a journal on a simulated disk beside a model of it in memory.
 *
 * Every step is done to both. The model keeps its state after each step since the last flush that
 * was acknowledged; after a power loss what the journal recovered must equal one of these states.
 */
#ifndef UNUM_SIM_JOURNAL_MODEL_H
#define UNUM_SIM_JOURNAL_MODEL_H

#include "sim/disk.h"
#include "store/journal.h"

enum {
    MODEL_SEGMENT_BYTES = 32 * 1024,
    MODEL_GROUPS = 5,
    MODEL_ENTRIES_MAX = 40,
    MODEL_HISTORY_MAX = 400
};

struct model_entry {
    uint64_t term;
    uint32_t size, seed;
};

struct model_group {
    bool exists;
    uint32_t count;
    uint64_t first;
    uint32_t state_size, state_seed;
    struct model_entry entries[MODEL_ENTRIES_MAX];
};

struct model_state {
    struct model_group groups[MODEL_GROUPS];
};

struct model {
    struct sim_disk *sim;
    struct journal *journal;
    struct journal_options options;
    struct random_seeded random;
    struct model_state *history; /* [0] is what was acknowledged last */
    unsigned history_count;
    unsigned entry_bytes_max;
    unsigned acknowledged; /* flushes */
    struct buffer buffer;
};

void model_init(struct model *model, struct sim_disk *sim, uint64_t seed);
void model_finish(struct model *model);
MUST_USE enum status model_open(struct model *model, struct error *error);
void model_close(struct model *model);

/* Steps. What the journal refuses with BUSY is flushed and tried again. */
MUST_USE enum status model_append(struct model *model, unsigned group, uint64_t back,
                                  uint32_t size);
MUST_USE enum status model_put_state(struct model *model, unsigned group, uint32_t size);
MUST_USE enum status model_truncate(struct model *model, unsigned group, uint64_t index);
MUST_USE enum status model_release(struct model *model, unsigned group, uint64_t index);
MUST_USE enum status model_remove(struct model *model, unsigned group);
MUST_USE enum status model_flush(struct model *model);
MUST_USE enum status model_mark(struct model *model);
MUST_USE enum status model_maintain(struct model *model);
/* One of them, as the seed decides. */
MUST_USE enum status model_random_step(struct model *model);

/* Does the journal hold exactly this? */
bool model_equals(struct model *model, const struct model_state *state);
struct model_state *model_now(struct model *model);
/* The newest state in the history that the journal equals becomes the only one; false: none. */
bool model_settle(struct model *model);

#endif
