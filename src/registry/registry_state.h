/* The inside of a registry space, shared by the files of this folder.
 *
 * State: the group's range of the store (docs/formats/registry.md); in memory only what is bounded:
 * counters, leases, watches. An apply collects its changes first (struct registry_apply), so that a
 * refusal leaves nothing behind and later operations of a transaction see earlier ones; it writes
 * them into the batch at its end. */
#ifndef UNUM_REGISTRY_REGISTRY_STATE_H
#define UNUM_REGISTRY_REGISTRY_STATE_H

#include "registry/registry.h"
#include "registry/registry_codec.h"
#include "registry/registry_interval.h"

#include <bsd/sys/tree.h>
#include <sys/queue.h>

enum {
    /* Leases that one apply ends; what is left is due at once (next_deadline_ms). */
    REGISTRY_EXPIRED_LEASES_MAX = 64,
    /* Compaction works in steps of this many revisions, so that its iterator is paid rarely. */
    REGISTRY_COMPACT_STEP = 128,
    /* More than a command can add on average (128 puts and what it deletes, put before), so
     * compaction keeps up; a revision is compacted whole. */
    REGISTRY_COMPACT_EVENTS_MAX = 2000,
    /* What a version costs besides its key and value, for quota and history: an estimate of its
     * records' heads that is the same for all, so that the sums need no reading. */
    REGISTRY_VERSION_OVERHEAD_BYTES = 64,
    REGISTRY_EVENT_OVERHEAD_BYTES = 32,
    /* A history record: the keys of the largest revision and their heads. */
    REGISTRY_RECORD_BYTES_MAX = 4 * 1024 * 1024,
    REGISTRY_SCRATCH_BYTES_MAX = 64 * 1024 * 1024,
};
_Static_assert((LIMIT_TXN_OPERATIONS_MAX + REGISTRY_REVISION_EVENTS_MAX) *
                           REGISTRY_EVENT_HEAD_BYTES_MAX +
                       LIMIT_TXN_OPERATIONS_MAX * LIMIT_KEY_BYTES_MAX +
                       REGISTRY_REVISION_DELETED_BYTES_MAX + REGISTRY_HISTORY_HEAD_BYTES_MAX <=
                   REGISTRY_RECORD_BYTES_MAX,
               "the largest revision fits a history record");
_Static_assert(LIMIT_VALUE_BYTES_MAX + REGISTRY_VERSION_HEAD_BYTES_MAX <= REGISTRY_RECORD_BYTES_MAX,
               "the largest value fits a version record");

/* --- leases ------------------------------------------------------------------------------------
 */

struct registry_lease_state {
    RB_ENTRY(registry_lease_state) by_number;
    RB_ENTRY(registry_lease_state) by_end; /* (ends_at_ms, number): a total order */
    uint64_t number, time_to_live_ms, ends_at_ms;
    uint64_t key_count, key_bytes;
};
RB_HEAD(registry_leases_by_number, registry_lease_state);
RB_HEAD(registry_leases_by_end, registry_lease_state);

/* --- watches -----------------------------------------------------------------------------------
 */

struct registry_watch {
    struct registry_interval interval;
    struct registry *registry;
    uint64_t cursor; /* the next revision to look at */
    /* Nothing in [cursor, now] concerns the watch but what is at or behind `hit`. */
    bool caught_up;
    uint64_t hit; /* 0: none */
    bool include_previous;
    void (*notify)(void *context);
    void *context;
    bool marked;
    TAILQ_ENTRY(registry_watch) marks;
};
TAILQ_HEAD(registry_watch_list, registry_watch);

/* --- the space ---------------------------------------------------------------------------------
 */

struct registry {
    struct state_machine machine;
    struct registry_limits limits;
    struct store_range range;
    struct registry_counters counters; /* after the last apply */
    struct registry_counters visible;  /* what is in the store: reads and watches go up to here */
    struct registry_leases_by_number leases_by_number;
    struct registry_leases_by_end leases_by_end;
    size_t lease_count;
    struct registry_intervals intervals;
    size_t watch_count;
    struct registry_watch_list marked; /* told by `applied` */
    /* Memory that is used again: of an apply, and of one call into the store. */
    struct arena scratch;
    struct buffer meta_record, record;
    uint8_t key_scratch[3][REGISTRY_STORE_KEY_BYTES_MAX];
};

/* The current version of KEY, without what an apply holds. STATUS_NOT_FOUND. */
MUST_USE enum status registry_read_meta(struct registry *registry, struct bytes key,
                                        struct registry_meta *ret_meta, struct error *error);
/* A version's value, borrowed until the next read. META may be NULL (it lacks modify_revision). A
 * version that should be there and is not: STATUS_CORRUPT. */
MUST_USE enum status registry_read_version(struct registry *registry, struct bytes key,
                                           uint64_t revision, struct registry_meta *ret_meta,
                                           struct bytes *ret_value, struct error *error);
uint64_t registry_version_bytes(struct bytes key, uint64_t value_size);
/* What an event adds to the history: itself, the version it replaced, its tombstone. */
uint64_t registry_event_bytes(const struct registry_history_event *event);

/* --- an apply ----------------------------------------------------------------------------------
 */

struct registry_change {
    RB_ENTRY(registry_change) by_key;
    STAILQ_ENTRY(registry_change) in_revision;
    struct bytes key, value; /* of the entry or the scratch arena */
    bool deleted, has_previous;
    struct registry_meta previous, now;
};
RB_HEAD(registry_changes, registry_change);

struct registry_revision {
    STAILQ_ENTRY(registry_revision) revisions;
    STAILQ_HEAD(, registry_change) changes;
    uint64_t revision;
    size_t change_count, deleted_count, deleted_bytes;
};

/* What is left of the bounds of one command or read. */
struct registry_budget {
    uint64_t scan_keys;
    uint64_t answer_bytes;
};

struct registry_apply {
    struct registry *registry;
    struct store_batch *batch;
    uint64_t now_ms;
    uint64_t index;
    struct buffer *reply;
    struct registry_changes changes; /* by key: the state on top of the store's */
    STAILQ_HEAD(, registry_revision) revisions;
    struct registry_budget budget;
    struct error *error;
    /* A refusal: the status and sentence of the reply. */
    enum status refusal;
    struct error sentence;
};

RB_PROTOTYPE(registry_changes, registry_change, by_key, registry_change_compare)
int registry_change_compare(const struct registry_change *a, const struct registry_change *b);

/* The change of KEY in this apply, or NULL. */
struct registry_change *registry_change_find(struct registry_apply *apply, struct bytes key);
/* The present version with this apply's changes on top. ret_change: the one that made it, or NULL.
 * STATUS_NOT_FOUND. */
MUST_USE enum status registry_change_lookup(struct registry_apply *apply, struct bytes key,
                                            struct registry_meta *ret_meta,
                                            struct registry_change **ret_change);
/* A new revision, empty and not counted yet; its number is the next one. NULL: no memory. */
struct registry_revision *registry_revision_begin(struct registry_apply *apply);
/* Put or delete KEY in REVISION: counters, leases and the overlay follow. */
MUST_USE enum status registry_change_put(struct registry_apply *apply,
                                         struct registry_revision *revision, struct bytes key,
                                         struct bytes value, uint64_t lease,
                                         const struct registry_meta *previous);
MUST_USE enum status registry_change_delete(struct registry_apply *apply,
                                            struct registry_revision *revision, struct bytes key,
                                            const struct registry_meta *previous);
/* Count it when it changed something. */
void registry_revision_end(struct registry_apply *apply, struct registry_revision *revision);
/* Undo what it did to counters and leases; nothing reads the overlay afterwards. */
void registry_revision_drop(struct registry_apply *apply, struct registry_revision *revision,
                            const struct registry_counters *before);
/* Write all revisions into the batch and mark their watches. */
MUST_USE enum status registry_changes_emit(struct registry_apply *apply);

/* Drop the oldest history when there is too much of it. Before registry_changes_emit. */
MUST_USE enum status registry_history_compact(struct registry_apply *apply);

/* registry_apply.c: `apply` of the state machine. */
enum status registry_apply_entry(struct state_machine *machine, const struct apply_context *context,
                                 struct error *error);
/* registry_transaction.c */
MUST_USE enum status registry_apply_transaction(struct registry_apply *apply,
                                                const struct registry_command *command);
/* The command is refused with this status and sentence. Returns the status: a call of an apply that
 * failed while apply->refusal is set was refused, any other failure stops the replica. */
enum status registry_refuse(struct registry_apply *apply, enum status refusal, const char *format,
                            ...) __attribute__((format(printf, 3, 4)));

/* registry_lease.c */
struct registry_lease_state *registry_lease_find(const struct registry *registry, uint64_t lease);
MUST_USE enum status registry_leases_open(struct registry *registry, struct error *error);
void registry_leases_clear(struct registry *registry);
uint64_t registry_leases_deadline_ms(const struct registry *registry);
/* End what is due, each with a revision of its own, within the bounds. */
MUST_USE enum status registry_leases_expire(struct registry_apply *apply);
/* May KEY be attached to the lease? Refuses when not. */
MUST_USE enum status registry_lease_check_attach(struct registry_apply *apply, uint64_t number,
                                                 struct bytes key);
MUST_USE enum status registry_apply_lease(struct registry_apply *apply,
                                          const struct registry_command *command);

/* --- ranges ------------------------------------------------------------------------------------
 */

struct registry_range_sink {
    /* The item is borrowed for the call. */
    enum status (*item)(struct registry_range_sink *sink, const struct registry_item *item);
};
struct registry_range_run {
    struct registry *registry;
    struct registry_apply *apply; /* its changes are seen; NULL outside an apply */
    const struct registry_operation *operation;
    uint64_t revision; /* the state to read; 0: the current one */
    struct registry_budget *budget;
    struct registry_range_sink *sink;
    uint64_t limit;
    uint64_t count, item_count; /* results */
    bool more;
    struct error *error;
};
MUST_USE enum status registry_range_run(struct registry_range_run *run);

/* Keys in order, of the store and of an apply's changes, or of the past. */
struct registry_cursor;
struct registry_cursor_options {
    struct registry *registry;
    struct registry_apply *apply;
    struct bytes key, end; /* END is not empty */
    bool descending;
    bool with_deleted; /* also keys whose deletion is in the history, for reads of the past */
    struct error *error;
};
struct registry_cursor_key {
    struct bytes key; /* borrowed until the next call */
    bool current;     /* there now; META is set */
    struct registry_meta meta;
    struct registry_change *change; /* that made it so, or NULL */
};
/* The cursor lives in the scratch arena; close it. */
MUST_USE enum status registry_cursor_open(const struct registry_cursor_options *options,
                                          struct registry_cursor **ret_cursor);
/* STATUS_NOT_FOUND at the end. */
MUST_USE enum status registry_cursor_next(struct registry_cursor *cursor,
                                          struct registry_cursor_key *ret_key);
void registry_cursor_close(struct registry_cursor *cursor);

/* --- watches -----------------------------------------------------------------------------------
 */

/* KEY changed in REVISION: remember it for the watches of it. */
void registry_watches_mark(struct registry *registry, struct bytes key, uint64_t revision);
void registry_watches_notify(struct registry *registry);
/* The state is about to be replaced (a snapshot was installed): every watch looks again from where
 * it stands. */
void registry_watches_reset(struct registry *registry);
/* The space ends: its watches are told, and answer STATUS_CLOSED from now on. */
void registry_watches_orphan(struct registry *registry);

#endif
