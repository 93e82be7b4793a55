/* Registry: one consistent key-value space with revisions, the state machine of a group.
 *
 * Pure: knows neither protocol nor reactor. A command (put, delete, transaction, lease grant, keep,
 * revoke) is encoded into an entry's payload by registry_command_encode and applied by the state
 * machine; its reply is decoded by registry_reply_decode. Reads and watches are served from the
 * local state by registry_range and registry_watch_*; the caller makes them linearizable with
 * replica_read_barrier first.
 *
 * Semantics are those of etcd v3 where both have the word: a revision counts changing commands, all
 * changes of a transaction share one, a watch delivers each event once in revision order, history
 * is kept for a bounded number of revisions and bytes (REGISTRY_HISTORY_*), older ones are
 * compacted by themselves. Leases end in computer time. Formats: docs/formats/registry.md. */
#ifndef UNUM_REGISTRY_REGISTRY_H
#define UNUM_REGISTRY_REGISTRY_H

#include "base/arena.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/limits.h"
#include "replica/state_machine.h"

struct group_description;

enum {
    REGISTRY_HISTORY_REVISIONS_MAX = 100000,
    REGISTRY_HISTORY_BYTES_MAX = 64 * 1024 * 1024,
    REGISTRY_QUOTA_BYTES_DEFAULT = 2147483647, /* STATUS_FULL beyond; deletes always work */
    REGISTRY_RANGE_ITEMS_DEFAULT = 1000,
    REGISTRY_RANGE_BYTES_MAX = 3 * 1024 * 1024, /* of one answer; `more` is set beyond */
    REGISTRY_LEASES_MAX = 100000,
    REGISTRY_WATCHES_MAX = 100000,
    /* A revision is delivered whole, so it must fit a message; an apply must not keep others
     * waiting, so it touches a bounded number of keys. What a command deletes, and what ends with
     * a lease: */
    REGISTRY_REVISION_EVENTS_MAX = 10000,
    REGISTRY_REVISION_DELETED_BYTES_MAX = 1024 * 1024, /* of keys */
    REGISTRY_LEASE_KEYS_MAX = REGISTRY_REVISION_EVENTS_MAX,
    REGISTRY_LEASE_KEY_BYTES_MAX = REGISTRY_REVISION_DELETED_BYTES_MAX,
    /* Keys that one command or read looks at; `more` is set beyond. A count is exact up to it, and,
     * where items are asked for and some were left out, up to REGISTRY_COUNT_KEYS_MAX more keys. */
    REGISTRY_SCAN_KEYS_MAX = 100000,
    REGISTRY_COUNT_KEYS_MAX = 5000,
    /* What an answer in an arena may need: an array that grew by doubling, and its bytes. */
    REGISTRY_ARENA_BYTES_MAX = 16 * 1024 * 1024,
    REGISTRY_REPLY_BYTES_MAX = LIMIT_MESSAGE_BYTES_MAX,
};
#define REGISTRY_LEASE_MS_MIN 1000ull
#define REGISTRY_LEASE_MS_MAX (365ull * 86400000)

struct registry_item {
    struct bytes key, value;
    uint64_t create_revision, modify_revision, version, lease;
};

enum registry_operation_kind { REGISTRY_PUT, REGISTRY_RANGE, REGISTRY_DELETE };

struct registry_operation {
    enum registry_operation_kind kind;
    struct bytes key;
    struct bytes end; /* range, delete: as RangeRequest.end */
    struct bytes value;
    uint64_t lease;
    uint64_t limit;
    uint64_t revision; /* range outside a transaction only */
    bool return_previous, keys_only, count_only, descending;
};

enum registry_target {
    REGISTRY_VERSION,
    REGISTRY_CREATE_REVISION,
    REGISTRY_MODIFY_REVISION,
    REGISTRY_VALUE,
    REGISTRY_LEASE,
};
enum registry_result { REGISTRY_EQUAL, REGISTRY_NOT_EQUAL, REGISTRY_LESS, REGISTRY_GREATER };

struct registry_compare {
    struct bytes key;
    enum registry_target target;
    enum registry_result result;
    uint64_t number;
    struct bytes value;
};

enum registry_command_kind {
    REGISTRY_COMMAND_TXN, /* a put or delete is a transaction without compares */
    REGISTRY_COMMAND_GRANT,
    REGISTRY_COMMAND_KEEP,
    REGISTRY_COMMAND_REVOKE,
};

/* VALUE compares fail on a missing key, whatever the result asked for (as etcd). */
struct registry_command {
    enum registry_command_kind kind;
    const struct registry_compare *compares;
    size_t compare_count; /* each of the three: LIMIT_TXN_OPERATIONS_MAX */
    const struct registry_operation *success;
    size_t success_count;
    const struct registry_operation *failure;
    size_t failure_count;
    uint64_t lease; /* grant: 0 lets the entry's index choose */
    uint64_t time_to_live_ms;
    /* Guard of a later issue: refuse unless this fencing number is current. 0: none. */
    uint64_t fence;
};

struct registry_response { /* of one operation */
    enum registry_operation_kind kind;
    struct registry_item *items; /* previous (put, delete) or found (range) */
    size_t item_count;
    uint64_t count; /* deleted, or in the range */
    bool more;      /* items were left out, or COUNT is a lower bound (REGISTRY_SCAN_KEYS_MAX) */
};

struct registry_reply {
    enum status status; /* refusals: INVALID, NOT_FOUND (lease), EXISTS (lease), FULL, DENIED */
    char text[256];     /* the sentence of a refusal */
    uint64_t revision;
    bool succeeded;
    struct registry_response *responses;
    size_t response_count;
    uint64_t lease, time_to_live_ms;
};

/* Does it only take away? A full disk takes deletes and the end of a lease; keeping a lease too,
 * for it writes next to nothing and without it keys would go. */
bool registry_command_frees_room(const struct registry_command *command);

/* Everything of a decoded command or reply borrows from BYTES and ARENA. */
MUST_USE enum status registry_command_encode(const struct registry_command *command,
                                             struct buffer *buffer, struct error *error);
MUST_USE enum status registry_command_decode(struct bytes bytes, struct arena *arena,
                                             struct registry_command *ret_command,
                                             struct error *error);
MUST_USE enum status registry_reply_decode(struct bytes bytes, struct arena *arena,
                                           struct registry_reply *ret_reply);

struct registry;

/* What a space keeps. All replicas of a group must have the same: they decide what apply does. */
struct registry_limits {
    uint64_t history_revisions_max, history_bytes_max, quota_bytes;
};

/* The state_machine of kind "registry". CONTEXT: a struct registry_limits, copied, or NULL for the
 * defaults above. GROUP is unused. */
MUST_USE enum status registry_create(void *context, const struct group_description *group,
                                     struct state_machine **ret_machine, struct error *error);
struct registry *registry_of(struct state_machine *machine);

/* --- reads of the local state --------------------------------------------------------------------
 */

struct registry_figures {
    uint64_t revision, compact_revision, keys, bytes, leases, watches, history_bytes;
};
struct registry_figures registry_figures(const struct registry *registry);

/* STATUS_INVALID: a revision of the future or a malformed range. STATUS_NOT_FOUND never: an empty
 * range is a good answer. STATUS_CLOSED: the revision is compacted; ERROR names the oldest kept.
 * Items live in ARENA. */
MUST_USE enum status registry_range(struct registry *registry,
                                    const struct registry_operation *operation, struct arena *arena,
                                    uint64_t *ret_revision, struct registry_response *ret_response,
                                    struct error *error);

struct registry_lease {
    uint64_t lease, time_to_live_ms, ends_at_ms; /* computer time */
    uint64_t key_count;
};
/* The leases with a number above AFTER, ascending, at most COUNT_MAX. */
size_t registry_leases(const struct registry *registry, uint64_t after,
                       struct registry_lease *ret_leases, size_t count_max);
/* Keys attached to a lease, at most COUNT_MAX, copied into ARENA. */
size_t registry_lease_keys(struct registry *registry, uint64_t lease, struct arena *arena,
                           struct bytes *ret_keys, size_t count_max);

/* --- watches -------------------------------------------------------------------------------------
 * A watch has a cursor (the next revision to look at) and no queue: events are read from the
 * history when its owner asks, so a slow watcher costs nothing and loses nothing until compaction.
 */
struct registry_watch;

struct registry_event {
    bool deleted;
    struct registry_item item; /* of a delete: key, modify_revision */
    bool has_previous;
    struct registry_item previous;
};

struct registry_watch_options {
    struct bytes key, end;   /* copied */
    uint64_t start_revision; /* 0: after the current one */
    bool include_previous;
    /* Called when an apply is in the store and there is something to read; must not suspend. It may
     * create and destroy watches. */
    void (*notify)(void *context);
    void *context;
};
MUST_USE enum status registry_watch_create(struct registry *registry,
                                           const struct registry_watch_options *options,
                                           struct registry_watch **ret_watch, struct error *error);
/* Accepts NULL. A watch outlives its space: then registry_watch_next is STATUS_CLOSED. */
void registry_watch_destroy(struct registry_watch *watch);
/* Up to EVENT_COUNT_MAX events, whole revisions, at least one of them, in order, in ARENA
 * (REGISTRY_ARENA_BYTES_MAX). ret_revision: all events up to it have been given. Looks at a bounded
 * number of revisions: while ret_revision is below registry_figures().revision, call again; then
 * wait for notify. Previous values that would take the answer over REGISTRY_RANGE_BYTES_MAX are
 * left out (has_previous is false). STATUS_CLOSED: the cursor is compacted, ERROR names the oldest
 * revision kept. */
MUST_USE enum status registry_watch_next(struct registry_watch *watch, size_t event_count_max,
                                         struct arena *arena, struct registry_event **ret_events,
                                         size_t *ret_count, uint64_t *ret_revision,
                                         struct error *error);

#endif
