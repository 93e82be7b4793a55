/* Leases in computer time. A lease has ended for commands and readers of the table at the first
 * entry whose time is its end or later; its keys are deleted by that entry too, or, when very many
 * leases end at once, by the entries right behind it. */
#include "registry/registry_state.h"

#include <stdlib.h>

static int compare_numbers(const struct registry_lease_state *a,
                           const struct registry_lease_state *b)
{
    return a->number < b->number ? -1 : a->number > b->number;
}

static int compare_ends(const struct registry_lease_state *a, const struct registry_lease_state *b)
{
    if (a->ends_at_ms != b->ends_at_ms) return a->ends_at_ms < b->ends_at_ms ? -1 : 1;
    return compare_numbers(a, b);
}

RB_PROTOTYPE(registry_leases_by_number, registry_lease_state, by_number, compare_numbers)
RB_GENERATE(registry_leases_by_number, registry_lease_state, by_number, compare_numbers)
RB_PROTOTYPE(registry_leases_by_end, registry_lease_state, by_end, compare_ends)
RB_GENERATE(registry_leases_by_end, registry_lease_state, by_end, compare_ends)

struct registry_lease_state *registry_lease_find(const struct registry *registry, uint64_t lease)
{
    struct registry_lease_state wanted = { .number = lease };
    /* The macro asks for a head that it could change, but finding changes nothing. */
    struct registry_leases_by_number *head =
        (struct registry_leases_by_number *)&registry->leases_by_number;
    return RB_FIND(registry_leases_by_number, head, &wanted);
}

static enum status lease_add(struct registry *registry, uint64_t number, uint64_t time_to_live_ms,
                             uint64_t ends_at_ms)
{
    struct registry_lease_state *lease = calloc(1, sizeof *lease);
    if (lease == NULL) return STATUS_NO_MEMORY;
    lease->number = number;
    lease->time_to_live_ms = time_to_live_ms;
    lease->ends_at_ms = ends_at_ms;
    if (RB_INSERT(registry_leases_by_number, &registry->leases_by_number, lease) != NULL) {
        free(lease);
        return STATUS_CORRUPT;
    }
    RB_INSERT(registry_leases_by_end, &registry->leases_by_end, lease);
    registry->lease_count++;
    return STATUS_OK;
}

static void lease_remove(struct registry *registry, struct registry_lease_state *lease)
{
    RB_REMOVE(registry_leases_by_number, &registry->leases_by_number, lease);
    RB_REMOVE(registry_leases_by_end, &registry->leases_by_end, lease);
    registry->lease_count--;
    free(lease);
}

void registry_leases_clear(struct registry *registry)
{
    struct registry_lease_state *lease;
    while ((lease = RB_MIN(registry_leases_by_end, &registry->leases_by_end)) != NULL) {
        lease_remove(registry, lease);
    }
}

uint64_t registry_leases_deadline_ms(const struct registry *registry)
{
#ifdef MUTATION_LEASE_IGNORED
    return UINT64_MAX; /* nobody is woken, and expire does nothing */
#endif
    struct registry_leases_by_end *head = (struct registry_leases_by_end *)&registry->leases_by_end;
    const struct registry_lease_state *first = RB_MIN(registry_leases_by_end, head);
    return first == NULL ? UINT64_MAX : first->ends_at_ms;
}

/* Ended for good, even while its keys wait to be deleted. */
static bool lease_ended(const struct registry_lease_state *lease, uint64_t now_ms)
{
#ifdef MUTATION_LEASE_ENDS_EARLY
    now_ms += lease->time_to_live_ms / 2; /* the second half of its life is taken */
#endif
    return now_ms >= lease->ends_at_ms;
}

/* --- open --------------------------------------------------------------------------------------
 */

static enum status open_lease(struct registry *registry, struct bytes key, struct bytes value,
                              struct error *error)
{
    uint64_t time_to_live_ms, ends_at_ms;
    if (key.size != 9 || registry_lease_decode(value, &time_to_live_ms, &ends_at_ms) != DECODE_OK) {
        return error_set(error, STATUS_CORRUPT, "the record of a lease is damaged");
    }
    enum status status =
        lease_add(registry, load_u64_be(key.data + 1), time_to_live_ms, ends_at_ms);
    if (status == STATUS_OK) return STATUS_OK;
    return error_set(error, status, "can't keep the lease %llu",
                     (unsigned long long)load_u64_be(key.data + 1));
}

static enum status open_attachment(struct registry *registry, struct bytes key, struct bytes value,
                                   struct error *error)
{
    struct registry_lease_state *lease = NULL;
    if (key.size > 9 && value.size == 0) {
        lease = registry_lease_find(registry, load_u64_be(key.data + 1));
    }
    if (lease == NULL) {
        return error_set(error, STATUS_CORRUPT, "a key is attached to a lease that is not there");
    }
    lease->key_count++;
    lease->key_bytes += key.size - 9;
    return STATUS_OK;
}

static enum status open_records(struct registry *registry, uint8_t prefix,
                                enum status (*open)(struct registry *registry, struct bytes key,
                                                    struct bytes value, struct error *error),
                                struct error *error)
{
    registry->key_scratch[0][0] = prefix;
    struct store_iterator *iterator;
    enum status status = store_iterator_create(
        &registry->range, NULL, bytes_of(registry->key_scratch[0], 1),
        registry_key_after(registry->key_scratch[1], prefix), false, &iterator);
    if (status != STATUS_OK) return error_set(error, status, "can't read the leases");
    struct bytes key, value;
    while ((status = store_iterator_next(iterator, &key, &value)) == STATUS_OK) {
        status = open(registry, key, value, error);
        if (status != STATUS_OK) break;
    }
    store_iterator_destroy(iterator);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status registry_leases_open(struct registry *registry, struct error *error)
{
    enum status status = open_records(registry, REGISTRY_PREFIX_LEASE, open_lease, error);
    if (status != STATUS_OK) return status;
    return open_records(registry, REGISTRY_PREFIX_ATTACHED, open_attachment, error);
}

/* --- apply -------------------------------------------------------------------------------------
 */

static void write_lease(struct registry_apply *apply, const struct registry_lease_state *lease)
{
    uint8_t record[2 * REGISTRY_VARINT_BYTES_MAX];
    struct writer writer = writer_of(record, sizeof record);
    registry_lease_encode(lease->time_to_live_ms, lease->ends_at_ms, &writer);
    store_batch_put(apply->batch, &apply->registry->range,
                    registry_key_lease(apply->registry->key_scratch[0], lease->number),
                    bytes_of(record, writer.used));
}

static enum status delete_attached(struct registry_apply *apply, struct registry_revision *revision,
                                   struct bytes store_key)
{
    struct registry *registry = apply->registry;
    struct bytes key =
        arena_copy(&registry->scratch, bytes_of(store_key.data + 9, store_key.size - 9));
    if (key.data == NULL)
        return error_set(apply->error, STATUS_NO_MEMORY, "no memory for an apply");
    struct registry_meta meta;
    enum status status = registry_read_meta(registry, key, &meta, apply->error);
    if (status == STATUS_NOT_FOUND) {
        return error_set(apply->error, STATUS_CORRUPT, "a key attached to a lease is not there");
    }
    if (status != STATUS_OK) return status;
    return registry_change_delete(apply, revision, key, &meta);
}

/* Delete its keys in one revision, then the lease itself. No change of this apply concerns them: a
 * key belongs to one lease, and leases end before the command runs. */
static enum status lease_end(struct registry_apply *apply, struct registry_lease_state *lease)
{
    struct registry *registry = apply->registry;
    uint64_t number = lease->number;
    if (lease->key_count > 0) {
        struct registry_revision *revision = registry_revision_begin(apply);
        if (revision == NULL) {
            return error_set(apply->error, STATUS_NO_MEMORY, "no memory for an apply");
        }
        struct bytes from =
            registry_key_attached(registry->key_scratch[0], number, bytes_of("", 0));
        struct bytes to =
            number == UINT64_MAX
                ? registry_key_after(registry->key_scratch[1], REGISTRY_PREFIX_ATTACHED)
                : registry_key_attached(registry->key_scratch[1], number + 1, bytes_of("", 0));
        struct store_iterator *iterator;
        enum status status =
            store_iterator_create(&registry->range, NULL, from, to, false, &iterator);
        if (status != STATUS_OK) return error_set(apply->error, status, "can't read a lease");
        struct bytes key, value;
        while ((status = store_iterator_next(iterator, &key, &value)) == STATUS_OK) {
            status = delete_attached(apply, revision, key);
            if (status != STATUS_OK) break;
        }
        store_iterator_destroy(iterator);
        if (status != STATUS_NOT_FOUND) return status;
        registry_revision_end(apply, revision);
    }
    store_batch_delete(apply->batch, &registry->range,
                       registry_key_lease(registry->key_scratch[0], number));
    lease_remove(registry, lease);
    return STATUS_OK;
}

enum status registry_leases_expire(struct registry_apply *apply)
{
#ifdef MUTATION_LEASE_IGNORED
    return STATUS_OK; /* its keys live for ever */
#endif
    struct registry *registry = apply->registry;
    uint64_t key_count = 0;
    for (unsigned i = 0; i < REGISTRY_EXPIRED_LEASES_MAX; i++) {
        struct registry_lease_state *lease =
            RB_MIN(registry_leases_by_end, &registry->leases_by_end);
        if (lease == NULL || !lease_ended(lease, apply->now_ms)) return STATUS_OK;
        /* One lease always fits; more only within what an apply may touch. */
        key_count += lease->key_count;
        if (i > 0 && key_count > REGISTRY_REVISION_EVENTS_MAX) return STATUS_OK;
        enum status status = lease_end(apply, lease);
        if (status != STATUS_OK) return status;
    }
    return STATUS_OK;
}

static struct registry_lease_state *find_living(struct registry_apply *apply, uint64_t number)
{
    struct registry_lease_state *lease = registry_lease_find(apply->registry, number);
    if (lease != NULL && !lease_ended(lease, apply->now_ms)) return lease;
    (void)registry_refuse(apply, STATUS_NOT_FOUND, "lease %llu is not there, or has ended",
                          (unsigned long long)number);
    return NULL;
}

enum status registry_lease_check_attach(struct registry_apply *apply, uint64_t number,
                                        struct bytes key)
{
    const struct registry_lease_state *lease = find_living(apply, number);
    if (lease == NULL) return STATUS_NOT_FOUND;
    if (lease->key_count >= REGISTRY_LEASE_KEYS_MAX ||
        lease->key_bytes + key.size > REGISTRY_LEASE_KEY_BYTES_MAX) {
        return registry_refuse(apply, STATUS_FULL,
                               "lease %llu holds %llu keys already, the maximum is %d keys of "
                               "together %d bytes",
                               (unsigned long long)number, (unsigned long long)lease->key_count,
                               REGISTRY_LEASE_KEYS_MAX, REGISTRY_LEASE_KEY_BYTES_MAX);
    }
    return STATUS_OK;
}

static enum status lease_grant(struct registry_apply *apply, const struct registry_command *command,
                               struct registry_lease_state **ret_lease)
{
    struct registry *registry = apply->registry;
    uint64_t number = command->lease;
    if (registry->lease_count >= REGISTRY_LEASES_MAX) {
        return registry_refuse(apply, STATUS_FULL, "the space holds %d leases, the maximum",
                               REGISTRY_LEASES_MAX);
    }
    if (number != 0 && registry_lease_find(registry, number) != NULL) {
        return registry_refuse(apply, STATUS_EXISTS, "lease %llu exists",
                               (unsigned long long)number);
    }
    if (number == 0) {
        /* The entry's index is new; a client can have chosen the same number, though. */
        number = apply->index;
        while (number == 0 || registry_lease_find(registry, number) != NULL) number++;
    }
    enum status status = lease_add(registry, number, command->time_to_live_ms,
                                   apply->now_ms + command->time_to_live_ms);
    if (status != STATUS_OK) return error_set(apply->error, status, "no memory for a lease");
    *ret_lease = registry_lease_find(registry, number);
    return STATUS_OK;
}

static void lease_keep(struct registry_apply *apply, struct registry_lease_state *lease)
{
    struct registry *registry = apply->registry;
    RB_REMOVE(registry_leases_by_end, &registry->leases_by_end, lease);
    lease->ends_at_ms = apply->now_ms + lease->time_to_live_ms;
    RB_INSERT(registry_leases_by_end, &registry->leases_by_end, lease);
}

enum status registry_apply_lease(struct registry_apply *apply,
                                 const struct registry_command *command)
{
    struct registry *registry = apply->registry;
    struct registry_lease_state *lease = NULL;
    if (command->kind == REGISTRY_COMMAND_GRANT) {
        enum status status = lease_grant(apply, command, &lease);
        if (status != STATUS_OK) return status;
    } else {
        lease = find_living(apply, command->lease);
        if (lease == NULL) return STATUS_NOT_FOUND;
    }
    assert(lease != NULL);
    uint64_t number = lease->number;
    uint64_t time_to_live_ms = lease->time_to_live_ms;
    if (command->kind == REGISTRY_COMMAND_REVOKE) {
        enum status status = lease_end(apply, lease);
        if (status != STATUS_OK) return status;
    } else {
        if (command->kind == REGISTRY_COMMAND_KEEP) lease_keep(apply, lease);
        write_lease(apply, lease);
    }
    enum status status =
        registry_reply_lease(apply->reply, registry->counters.revision, number, time_to_live_ms);
    if (status != STATUS_OK) return error_set(apply->error, status, "no room for a reply");
    return STATUS_OK;
}

/* --- reads -------------------------------------------------------------------------------------
 */

size_t registry_leases(const struct registry *registry, uint64_t after,
                       struct registry_lease *ret_leases, size_t count_max)
{
    if (after == UINT64_MAX) return 0;
    struct registry_lease_state wanted = { .number = after + 1 };
    struct registry_leases_by_number *head =
        (struct registry_leases_by_number *)&registry->leases_by_number;
    struct registry_lease_state *lease = RB_NFIND(registry_leases_by_number, head, &wanted);
    size_t count = 0;
    for (; lease != NULL && count < count_max;
         lease = RB_NEXT(registry_leases_by_number, head, lease)) {
        ret_leases[count++] = (struct registry_lease) {
            .lease = lease->number,
            .time_to_live_ms = lease->time_to_live_ms,
            .ends_at_ms = lease->ends_at_ms,
            .key_count = lease->key_count,
        };
    }
    return count;
}

size_t registry_lease_keys(struct registry *registry, uint64_t lease, struct arena *arena,
                           struct bytes *ret_keys, size_t count_max)
{
    struct bytes from = registry_key_attached(registry->key_scratch[0], lease, bytes_of("", 0));
    struct bytes to = registry_key_after(registry->key_scratch[1], REGISTRY_PREFIX_ATTACHED);
    struct store_iterator *iterator;
    if (store_iterator_create(&registry->range, NULL, from, to, false, &iterator) != STATUS_OK) {
        return 0;
    }
    size_t count = 0;
    struct bytes key, value;
    while (count < count_max && store_iterator_next(iterator, &key, &value) == STATUS_OK) {
        if (key.size <= 9 || load_u64_be(key.data + 1) != lease) break;
        struct bytes copy = arena_copy(arena, bytes_of(key.data + 9, key.size - 9));
        if (copy.data == NULL) break;
        ret_keys[count++] = copy;
    }
    store_iterator_destroy(iterator);
    return count;
}
