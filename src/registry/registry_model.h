/* The reference that the registry is held against: a few keys, and a full copy of the state at
 * every revision. Slow, small, and written without a look at the registry's own ways. */
#ifndef UNUM_REGISTRY_REGISTRY_MODEL_H
#define UNUM_REGISTRY_REGISTRY_MODEL_H

#include "registry/registry.h"

enum {
    MODEL_KEYS = 12,
    MODEL_LEASES = 8,
    MODEL_REVISIONS_MAX = 2000,
    MODEL_VALUE_BYTES_MAX = 48,
    MODEL_ITEM_OVERHEAD = 64, /* what a key costs of the quota besides its bytes */
};

extern const char *const model_keys[MODEL_KEYS]; /* in byte order */

struct model_item {
    bool there;
    uint64_t create_revision, modify_revision, version, lease;
    size_t value_size;
    uint8_t value[MODEL_VALUE_BYTES_MAX];
};

struct model_state {
    struct model_item items[MODEL_KEYS];
};

struct model_lease {
    uint64_t number, time_to_live_ms, ends_at_ms; /* number 0: free */
};

struct model {
    struct model_state states[MODEL_REVISIONS_MAX]; /* [revision] */
    uint64_t revision;
    struct model_lease leases[MODEL_LEASES];
    uint64_t quota_bytes;
};

struct model_response {
    struct model_item items[MODEL_KEYS];
    unsigned keys[MODEL_KEYS]; /* index of each item's key */
    size_t item_count;
    uint64_t count;
    bool more;
};

struct model_reply {
    enum status status;
    uint64_t revision, lease, time_to_live_ms;
    bool succeeded;
    struct model_response responses[16];
    size_t response_count;
};

/* What entry INDEX at NOW_MS with COMMAND (NULL: none) does. */
void model_apply(struct model *model, uint64_t index, uint64_t now_ms,
                 const struct registry_command *command, struct model_reply *ret_reply);
/* The range at a revision that the model knows. */
void model_range(const struct model *model, uint64_t revision,
                 const struct registry_operation *operation, struct model_response *ret_response);
/* The keys that changed in REVISION. */
bool model_changed(const struct model *model, uint64_t revision, unsigned key);
bool model_in_range(struct bytes start, struct bytes end, unsigned key);

#endif
