/* A space outside of a replica, for tests and benchmarks: applies one command after another, and
 * checks on the way that a second instance writes the same batches. */
#ifndef UNUM_REGISTRY_REGISTRY_HARNESS_H
#define UNUM_REGISTRY_REGISTRY_HARNESS_H

#include "registry/registry.h"

struct registry_instance {
    struct store *store;
    struct store_range range;
    struct store_batch *batch;
    struct state_machine *machine;
    struct registry *registry;
    uint64_t running_hash;
};

struct registry_harness {
    struct registry_instance first, second;
    struct buffer payload, reply, second_reply;
    struct arena arena; /* of the last reply and read */
    uint64_t index, now_ms;
    bool compare; /* false: only the first instance is used */
};

/* STORE and SECOND_STORE are borrowed; SECOND_STORE may be NULL. */
void harness_init(struct registry_harness *harness, struct store *store, struct store *second_store,
                  const struct registry_limits *limits);
void harness_finish(struct registry_harness *harness);
/* Close the state machines and open new ones on the same stores. */
void harness_reopen(struct registry_harness *harness, const struct registry_limits *limits);

/* Apply COMMAND as the next entry, at the harness' time; the reply lives in the arena. */
struct registry_reply harness_apply(struct registry_harness *harness,
                                    const struct registry_command *command);
struct registry_reply harness_apply_bytes(struct registry_harness *harness, struct bytes payload);
/* An ENTRY_TIME at NOW_MS. */
void harness_time(struct registry_harness *harness, uint64_t now_ms);

/* Short forms; texts are NUL-terminated. */
struct registry_reply harness_put(struct registry_harness *harness, const char *key,
                                  const char *value, uint64_t lease);
struct registry_reply harness_delete(struct registry_harness *harness, const char *key,
                                     const char *end);
struct registry_reply harness_lease(struct registry_harness *harness,
                                    enum registry_command_kind kind, uint64_t lease,
                                    uint64_t time_to_live_ms);
enum status harness_range(struct registry_harness *harness, const char *key, const char *end,
                          uint64_t revision, struct registry_response *ret_response,
                          struct error *error);

#endif
