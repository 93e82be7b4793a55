#include "replica/applier.h"

#include "base/checksum.h"
#include "replica/keys.h"

#include <assert.h>

enum {
    APPLIED_FORMAT_VERSION = 1,
    /* A machine may answer with a whole range read. */
    REPLY_BYTES_MAX = LIMIT_MESSAGE_BYTES_MAX,
    REPLY_BYTES_KEPT_MAX = 64 * 1024,
};

static const uint8_t applied_key[] = { STATE_MACHINE_RESERVED_PREFIX, REPLICA_KEY_APPLIED };

void applied_encode(const struct applied *applied, struct writer *writer)
{
    writer_put_u8(writer, APPLIED_FORMAT_VERSION);
    writer_put_u8(writer, 0);
    writer_put_u16(writer, applied->feature_level);
    writer_put_u32(writer, 0);
    writer_put_u64(writer, applied->index);
    writer_put_u64(writer, applied->term);
    writer_put_u64(writer, applied->running_hash);
    writer_put_u64(writer, applied->computer_time_ms);
    raft_membership_encode(&applied->membership, writer);
}

enum status applied_decode(struct bytes bytes, struct applied *ret_applied, struct error *error)
{
    struct reader reader = reader_of(bytes.data, bytes.size);
    uint8_t version = reader_u8(&reader);
    if (!reader.failed && version > APPLIED_FORMAT_VERSION) {
        return error_set(error, STATUS_UNSUPPORTED,
                         "the applied record has format %u, this release knows %u", version,
                         APPLIED_FORMAT_VERSION);
    }
    uint8_t reserved = reader_u8(&reader);
    struct applied applied = { .feature_level = reader_u16(&reader) };
    uint32_t reserved_too = reader_u32(&reader);
    applied.index = reader_u64(&reader);
    applied.term = reader_u64(&reader);
    applied.running_hash = reader_u64(&reader);
    applied.computer_time_ms = reader_u64(&reader);
    if (reader.failed || version != APPLIED_FORMAT_VERSION || reserved != 0 || reserved_too != 0 ||
        applied.index == 0 || applied.term == 0 ||
        raft_membership_decode(&reader, &applied.membership) != STATUS_OK ||
        reader_left(&reader) != 0) {
        return error_set(error, STATUS_CORRUPT, "the applied record in the store is damaged");
    }
    if (applied.feature_level > FEATURE_LEVEL_NEWEST) {
        return error_set(error, STATUS_UNSUPPORTED,
                         "the group is at feature level %u, this release knows %u",
                         applied.feature_level, FEATURE_LEVEL_NEWEST);
    }
    *ret_applied = applied;
    return STATUS_OK;
}

static enum status read_applied(const struct store_range *range, bool persisted,
                                struct applied *ret_applied, struct error *error)
{
    struct buffer buffer;
    buffer_init(&buffer, 2ull * APPLIED_BYTES_MAX);
    struct bytes key = bytes_of(applied_key, sizeof applied_key);
    enum status status =
        persisted ? store_get_persisted(range, key, &buffer) : store_get(range, NULL, key, &buffer);
    if (status == STATUS_OK) {
        status = applied_decode(bytes_of(buffer.data, buffer.used), ret_applied, error);
    } else if (status != STATUS_NOT_FOUND) {
        error_set(error, status, "the applied record can't be read (%s)", status_name(status));
    }
    buffer_finish(&buffer);
    return status;
}

enum status applied_read_persisted(const struct store_range *range, struct applied *ret_applied,
                                   struct error *error)
{
    return read_applied(range, true, ret_applied, error);
}

/* --- life --------------------------------------------------------------------------------------
 */

enum status applier_init(struct applier *applier, const struct store_range *range,
                         const struct session_limits *limits)
{
    *applier =
        (struct applier) { .range = *range, .applied = { .feature_level = FEATURE_LEVEL_FIRST } };
    buffer_init(&applier->reply, REPLY_BYTES_MAX);
    enum status status = store_batch_create(range->store, &applier->batch);
    if (status == STATUS_OK) status = session_table_create(limits, &applier->sessions);
    if (status != STATUS_OK) applier_finish(applier);
    return status;
}

void applier_finish(struct applier *applier)
{
    session_table_destroy(applier->sessions);
    if (applier->batch != NULL) store_batch_destroy(applier->batch);
    buffer_finish(&applier->reply);
    *applier = (struct applier) { 0 };
}

enum status applier_open(struct applier *applier, struct state_machine *machine,
                         const struct raft_membership *first_membership, struct error *error)
{
    struct applied applied = { .feature_level = FEATURE_LEVEL_FIRST,
                               .membership = *first_membership };
    enum status status = read_applied(&applier->range, false, &applied, error);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) return status;
    status = session_table_open(applier->sessions, &applier->range, error);
    if (status == STATUS_OK) status = machine->operations->open(machine, &applier->range, error);
    if (status != STATUS_OK) {
        /* A read of the store fails without a sentence. */
        if (error != NULL && error->text[0] == '\0') {
            error_set(error, status, "the state of group %llu can't be read from the store (%s)",
                      (unsigned long long)applier->range.group, status_name(status));
        }
        return status;
    }
    applier->applied = applied;
    applier->machine = machine;
    return STATUS_OK;
}

/* --- one entry ---------------------------------------------------------------------------------
 */

static enum status run_machine(struct applier *applier, uint64_t index, uint64_t term,
                               const struct entry *entry, struct error *error)
{
    applier->reply.used = 0;
    struct apply_context context = {
        .index = index,
        .term = term,
        .entry = entry,
        .range = &applier->range,
        .batch = applier->batch,
        .reply = &applier->reply,
    };
    return applier->machine->operations->apply(applier->machine, &context, error);
}

/* Apply the command unless its session remembers it. */
static enum status stage_command(struct applier *applier, uint64_t index, uint64_t term,
                                 const struct entry *entry, struct applier_outcome *ret_outcome,
                                 struct error *error)
{
    bool remembered = !id_is_zero(&entry->session);
    enum session_verdict verdict = SESSION_APPLY;
    uint64_t applied_at = index;

    if (remembered) {
        enum status status = session_table_check(
            applier->sessions, &applier->range, &entry->session, entry->sequence,
            entry->computer_time_ms, &applier->reply, &applied_at, &verdict, error);
        if (status != STATUS_OK) return status;
    }
    ret_outcome->index = applied_at;
#ifdef MUTATION_SESSION_REAPPLY /* a retried request is applied once more */
    if (verdict == SESSION_REPEATED) return run_machine(applier, index, term, entry, error);
#endif
    if (verdict == SESSION_OLD) {
        applier->reply.used = 0;
        ret_outcome->status = STATUS_INVALID;
        return STATUS_OK;
    }
    if (verdict != SESSION_APPLY) {
        ret_outcome->status = verdict == SESSION_NOT_KEPT ? STATUS_EXISTS : STATUS_OK;
        return STATUS_OK;
    }
    enum status status = run_machine(applier, index, term, entry, error);
    if (status != STATUS_OK || !remembered) return status;
    struct session_record record = {
        .session = entry->session,
        .sequence = entry->sequence,
        .index = index,
        .time_ms = entry->computer_time_ms,
        .reply = bytes_of(applier->reply.data, applier->reply.used),
    };
    return session_table_record(applier->sessions, &applier->range, applier->batch, &record);
}

static enum status check_entry(const struct applier *applier, uint64_t index,
                               const struct entry *entry, struct error *error)
{
    if (entry->group != applier->range.group) {
        return error_set(error, STATUS_CORRUPT,
                         "entry %llu of group %llu says that it belongs to group %llu",
                         (unsigned long long)index, (unsigned long long)applier->range.group,
                         (unsigned long long)entry->group);
    }
    if (entry->feature_level > FEATURE_LEVEL_NEWEST) {
        return error_set(error, STATUS_UNSUPPORTED,
                         "entry %llu of group %llu is of feature level %u, this release knows %u",
                         (unsigned long long)index, (unsigned long long)applier->range.group,
                         entry->feature_level, FEATURE_LEVEL_NEWEST);
    }
    return STATUS_OK;
}

static void put_applied(struct applier *applier, const struct applied *applied)
{
    uint8_t value[APPLIED_BYTES_MAX];
    struct writer writer = writer_of(value, sizeof value);
    applied_encode(applied, &writer);
    assert(!writer.failed);
    store_batch_put(applier->batch, &applier->range, bytes_of(applied_key, sizeof applied_key),
                    bytes_of(value, writer.used));
}

static void clear_reply(struct applier *applier)
{
    applier->reply.used = 0;
    /* One large answer must not cost the group its size for ever. */
    if (applier->reply.capacity <= REPLY_BYTES_KEPT_MAX) return;
    buffer_finish(&applier->reply);
    buffer_init(&applier->reply, REPLY_BYTES_MAX);
}

enum status applier_stage(struct applier *applier, uint64_t index, uint64_t term,
                          struct bytes bytes, struct applier_outcome *ret_outcome,
                          struct error *error)
{
    assert(applier->machine != NULL);
    assert(index == applier->applied.index + 1);

    struct entry entry;
    if (entry_decode(bytes.data, bytes.size, &entry) != DECODE_OK) {
        return error_set(error, STATUS_CORRUPT, "entry %llu of group %llu is damaged",
                         (unsigned long long)index, (unsigned long long)applier->range.group);
    }
    enum status status = check_entry(applier, index, &entry, error);
    if (status != STATUS_OK) return status;

    struct applied *staged = &applier->staged;
    *staged = applier->applied;
    staged->index = index;
    staged->term = term;
    /* A leader never writes a time below the one before; if one did, time stands still. */
#ifdef MUTATION_TIME_GOES_BACK /* whatever the leader says */
    staged->computer_time_ms = entry.computer_time_ms;
#else
    if (entry.computer_time_ms > staged->computer_time_ms) {
        staged->computer_time_ms = entry.computer_time_ms;
    }
#endif
    entry.computer_time_ms = staged->computer_time_ms;
    if (entry.kind == ENTRY_LEVEL && entry.feature_level > staged->feature_level) {
        staged->feature_level = entry.feature_level;
    }

    if (entry.kind == ENTRY_MEMBERSHIP) {
        struct reader reader = reader_of(entry.payload.data, entry.payload.size);
        if (raft_membership_decode(&reader, &staged->membership) != STATUS_OK) {
            return error_set(error, STATUS_CORRUPT,
                             "membership entry %llu of group %llu is damaged",
                             (unsigned long long)index, (unsigned long long)applier->range.group);
        }
    }

    struct applier_outcome outcome = { .status = STATUS_OK, .index = index };
    store_batch_clear(applier->batch);
    clear_reply(applier);
    if (entry.kind == ENTRY_COMMAND) {
        status = stage_command(applier, index, term, &entry, &outcome, error);
    } else if (entry.kind == ENTRY_TIME) {
        status = run_machine(applier, index, term, &entry, error);
    }
    if (status != STATUS_OK) return status;
    session_table_expire(applier->sessions, &applier->range, applier->batch,
                         staged->computer_time_ms);

    struct bytes writes = store_batch_bytes(applier->batch);
    staged->running_hash = hash64(writes.data, writes.size, staged->running_hash);
#ifndef MUTATION_APPLIED_INDEX_SEPARATE_BATCH /* else: it comes with the next entry's batch */
    put_applied(applier, staged);
#else
    if (applier->applied.index != 0) put_applied(applier, &applier->applied);
#endif
    outcome.reply = bytes_of(applier->reply.data, applier->reply.used);
    *ret_outcome = outcome;
    return STATUS_OK;
}

void applier_commit(struct applier *applier)
{
    applier->applied = applier->staged;
    applier->machine->operations->applied(applier->machine, applier->applied.index);
}
