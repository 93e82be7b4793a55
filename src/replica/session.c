#include "replica/session.h"

#include "replica/keys.h"

#include <assert.h>
#include <bsd/sys/tree.h>
#include <stdlib.h>

/* A record, one per remembered request; docs/formats/replica.md draws it. */
enum {
    KEY_BYTES = 2 + ID_BYTES + 1,
    OFFSET_SEQUENCE = 0,
    OFFSET_INDEX = 8,
    OFFSET_TIME = 16,
    OFFSET_FLAGS = 24,
    RECORD_HEAD_BYTES = 25,
    RECORD_BYTES_MAX = RECORD_HEAD_BYTES + REPLICA_REPLY_REMEMBERED_BYTES_MAX,
    FLAG_REPLY_KEPT = 1,
};
_Static_assert(RECORD_BYTES_MAX + KEY_BYTES <= UINT16_MAX, "the charge of a slot is 16 bits");
_Static_assert(SESSION_WINDOW == 64, "`seen` is one word");
_Static_assert(SESSION_BYTES_MAX >= (uint64_t)64 * SESSION_WINDOW * (RECORD_BYTES_MAX + KEY_BYTES),
               "one session can never drive out all others");

struct session {
    RB_ENTRY(session) by_id;
    TAILQ_ENTRY(session) by_use;
    struct id id;
    uint64_t highest;
    uint64_t seen; /* bit i: number highest - i is remembered */
    uint64_t used_index;
    uint64_t used_ms;
    uint16_t charges[SESSION_WINDOW]; /* bytes of key and value in the store, by slot */
};

RB_HEAD(session_tree, session);
TAILQ_HEAD(session_list, session);

struct session_table {
    struct session_limits limits;
    struct session_tree by_id;
    struct session_list by_use; /* the longest unused first; by index, so the order is total */
    uint64_t count;
    uint64_t bytes;
};

static int session_compare(const struct session *a, const struct session *b)
{
    return memcmp(a->id.bytes, b->id.bytes, ID_BYTES);
}

RB_GENERATE_INTERNAL(session_tree, session, by_id, session_compare, __attribute__((unused)) static)

enum status session_table_create(const struct session_limits *limits,
                                 struct session_table **ret_table)
{
    struct session_table *table = calloc(1, sizeof *table);
    if (table == NULL) return STATUS_NO_MEMORY;
    table->limits = *limits;
    if (table->limits.count_max == 0) table->limits.count_max = REPLICA_SESSIONS_MAX;
    if (table->limits.bytes_max == 0) table->limits.bytes_max = SESSION_BYTES_MAX;
    if (table->limits.idle_ms_max == 0) table->limits.idle_ms_max = REPLICA_SESSION_IDLE_MS_MAX;
    RB_INIT(&table->by_id);
    TAILQ_INIT(&table->by_use);
    *ret_table = table;
    return STATUS_OK;
}

static void table_clear(struct session_table *table)
{
    struct session *session;
    while ((session = TAILQ_FIRST(&table->by_use)) != NULL) {
        TAILQ_REMOVE(&table->by_use, session, by_use);
        free(session);
    }
    RB_INIT(&table->by_id);
    table->count = 0;
    table->bytes = 0;
}

void session_table_destroy(struct session_table *table)
{
    if (table == NULL) return;
    table_clear(table);
    free(table);
}

static struct session *table_find(struct session_table *table, const struct id *id)
{
    struct session wanted = { .id = *id };
    return RB_FIND(session_tree, &table->by_id, &wanted);
}

static struct session *table_add(struct session_table *table, const struct id *id)
{
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL) return NULL;
    session->id = *id;
    RB_INSERT(session_tree, &table->by_id, session);
    TAILQ_INSERT_TAIL(&table->by_use, session, by_use);
    table->count++;
    return session;
}

static bool is_idle(const struct session_table *table, const struct session *session,
                    uint64_t time_ms)
{
    return time_ms >= session->used_ms && time_ms - session->used_ms >= table->limits.idle_ms_max;
}

static unsigned slot_of(uint64_t sequence)
{
    return (unsigned)(sequence % SESSION_WINDOW);
}

static void make_key(const struct id *id, unsigned slot, uint8_t key[KEY_BYTES])
{
    key[0] = STATE_MACHINE_RESERVED_PREFIX;
    key[1] = REPLICA_KEY_SESSION;
    memcpy(key + 2, id->bytes, ID_BYTES);
    key[2 + ID_BYTES] = (uint8_t)slot;
}

/* --- rebuild -----------------------------------------------------------------------------------
 */

static enum status damaged(const struct id *id, struct error *error)
{
    char text[ID_TEXT_BYTES];
    id_format(id, text);
    return error_set(error, STATUS_CORRUPT, "the record of session %s in the store is damaged",
                     text);
}

/* Take one record into the session; `highest` and `seen` are settled by finish_open, when all of
 * the session's records are known. */
static enum status take_record(struct session_table *table, struct bytes key, struct bytes value,
                               struct error *error)
{
    if (key.size != KEY_BYTES) {
        return error_set(error, STATUS_CORRUPT, "a session key in the store has %zu bytes, not %d",
                         key.size, KEY_BYTES);
    }
    struct id id;
    memcpy(id.bytes, key.data + 2, ID_BYTES);
    unsigned slot = key.data[2 + ID_BYTES];
    if (value.size < RECORD_HEAD_BYTES || value.size > RECORD_BYTES_MAX) return damaged(&id, error);
    uint64_t sequence = load_u64_le(value.data + OFFSET_SEQUENCE);
    uint64_t index = load_u64_le(value.data + OFFSET_INDEX);
    if (slot >= SESSION_WINDOW || sequence == 0 || slot_of(sequence) != slot) {
        return damaged(&id, error);
    }

    struct session *session = table_find(table, &id);
    if (session == NULL) session = table_add(table, &id);
    if (session == NULL) return STATUS_NO_MEMORY;
    uint64_t shift;
    if (sequence > session->highest) {
        shift = sequence - session->highest;
        /* The slots are distinct and what falls out of the window is deleted when it does, so a
         * record beyond it is damage; `highest` 0 is the first record. */
        if (session->highest != 0 && shift < SESSION_WINDOW &&
            session->seen >> (SESSION_WINDOW - shift) != 0) {
            return damaged(&id, error);
        }
        if (session->highest != 0 && shift >= SESSION_WINDOW) return damaged(&id, error);
        session->seen = (shift >= SESSION_WINDOW ? 0 : session->seen << shift) | 1;
        session->highest = sequence;
    } else {
        shift = session->highest - sequence;
        if (shift >= SESSION_WINDOW) return damaged(&id, error);
        session->seen |= UINT64_C(1) << shift;
    }
    session->charges[slot] = (uint16_t)(key.size + value.size);
    table->bytes += session->charges[slot];
    if (index > session->used_index) {
        session->used_index = index;
        session->used_ms = load_u64_le(value.data + OFFSET_TIME);
    }
    return STATUS_OK;
}

static int compare_use(const void *a, const void *b)
{
    const struct session *const *left = a;
    const struct session *const *right = b;
    uint64_t x = (*left)->used_index;
    uint64_t y = (*right)->used_index;
    return x < y ? -1 : x > y;
}

static enum status sort_by_use(struct session_table *table)
{
    if (table->count == 0) return STATUS_OK;
    struct session **order = calloc(table->count, sizeof(struct session *));
    if (order == NULL) return STATUS_NO_MEMORY;
    size_t count = 0;
    struct session *session;
    TAILQ_FOREACH (session, &table->by_use, by_use) order[count++] = session;
    assert(count == table->count);
    qsort(order, count, sizeof(struct session *), compare_use);
    TAILQ_INIT(&table->by_use);
    for (size_t i = 0; i < count; i++) TAILQ_INSERT_TAIL(&table->by_use, order[i], by_use);
    free(order);
    return STATUS_OK;
}

enum status session_table_open(struct session_table *table, const struct store_range *range,
                               struct error *error)
{
    static const uint8_t from[] = { STATE_MACHINE_RESERVED_PREFIX, REPLICA_KEY_SESSION };
    static const uint8_t to[] = { STATE_MACHINE_RESERVED_PREFIX, REPLICA_KEY_SESSION + 1 };
    struct store_iterator *iterator;

    table_clear(table);
    enum status status = store_iterator_create(range, NULL, bytes_of(from, sizeof from),
                                               bytes_of(to, sizeof to), false, &iterator);
    if (status != STATUS_OK) return error_set(error, status, "the sessions can't be read");
    for (;;) {
        struct bytes key;
        struct bytes value;
        status = store_iterator_next(iterator, &key, &value);
        if (status != STATUS_OK) break;
        status = take_record(table, key, value, error);
        if (status != STATUS_OK) break;
    }
    store_iterator_destroy(iterator);
    if (status != STATUS_NOT_FOUND) return status;
    return sort_by_use(table);
}

/* --- use ---------------------------------------------------------------------------------------
 */

static enum status read_record(const struct session *session, uint64_t sequence,
                               const struct store_range *range, struct buffer *reply,
                               uint64_t *ret_index, enum session_verdict *ret_verdict,
                               struct error *error)
{
    uint8_t key[KEY_BYTES];
    make_key(&session->id, slot_of(sequence), key);
    struct buffer record;
    buffer_init(&record, RECORD_BYTES_MAX);
    enum status status = store_get(range, NULL, bytes_of(key, sizeof key), &record);
    if (status == STATUS_NOT_FOUND) status = STATUS_CORRUPT;
    if (status == STATUS_OK && (record.used < RECORD_HEAD_BYTES ||
                                load_u64_le(record.data + OFFSET_SEQUENCE) != sequence)) {
        status = STATUS_CORRUPT;
    }
    if (status == STATUS_OK) {
        reply->used = 0;
        status =
            buffer_append(reply, record.data + RECORD_HEAD_BYTES, record.used - RECORD_HEAD_BYTES);
    }
    if (status == STATUS_OK) {
        *ret_index = load_u64_le(record.data + OFFSET_INDEX);
        *ret_verdict =
            record.data[OFFSET_FLAGS] & FLAG_REPLY_KEPT ? SESSION_REPEATED : SESSION_NOT_KEPT;
    }
    buffer_finish(&record);
    if (status == STATUS_CORRUPT) return damaged(&session->id, error);
    if (status != STATUS_OK) return error_set(error, status, "a remembered reply can't be read");
    return STATUS_OK;
}

enum status session_table_check(struct session_table *table, const struct store_range *range,
                                const struct id *session_id, uint64_t sequence, uint64_t time_ms,
                                struct buffer *reply, uint64_t *ret_index,
                                enum session_verdict *ret_verdict, struct error *error)
{
    assert(!id_is_zero(session_id));

    if (sequence == 0) {
        *ret_verdict = SESSION_OLD;
        return STATUS_OK;
    }
    struct session *session = table_find(table, session_id);
    if (session == NULL || is_idle(table, session, time_ms) || sequence > session->highest) {
        *ret_verdict = SESSION_APPLY;
        return STATUS_OK;
    }
    uint64_t age = session->highest - sequence;
    if (age >= SESSION_WINDOW) {
        *ret_verdict = SESSION_OLD;
        return STATUS_OK;
    }
    if ((session->seen >> age & 1) == 0) {
        *ret_verdict = SESSION_APPLY;
        return STATUS_OK;
    }
    return read_record(session, sequence, range, reply, ret_index, ret_verdict, error);
}

static void forget_slot(struct session_table *table, struct session *session, unsigned slot)
{
    assert(table->bytes >= session->charges[slot]);
    table->bytes -= session->charges[slot];
    session->charges[slot] = 0;
}

/* Delete what lies AGE_FROM numbers or more below the highest. The record in slot REPLACED is about
 * to be overwritten and needs no deletion (SESSION_WINDOW: none is). */
static void drop_older(struct session_table *table, const struct store_range *range,
                       struct store_batch *batch, struct session *session, unsigned age_from,
                       unsigned replaced)
{
    for (unsigned age = age_from; age < SESSION_WINDOW; age++) {
        if ((session->seen >> age & 1) == 0) continue;
        unsigned slot = slot_of(session->highest - age);
        uint8_t key[KEY_BYTES];
        make_key(&session->id, slot, key);
        if (slot != replaced) store_batch_delete(batch, range, bytes_of(key, sizeof key));
        forget_slot(table, session, slot);
        session->seen &= ~(UINT64_C(1) << age);
    }
}

static void drop_session(struct session_table *table, const struct store_range *range,
                         struct store_batch *batch, struct session *session)
{
    drop_older(table, range, batch, session, 0, SESSION_WINDOW);
    RB_REMOVE(session_tree, &table->by_id, session);
    TAILQ_REMOVE(&table->by_use, session, by_use);
    assert(table->count > 0);
    table->count--;
    free(session);
}

static void put_record(struct session_table *table, const struct store_range *range,
                       struct store_batch *batch, struct session *session,
                       const struct session_record *record)
{
    uint8_t value[RECORD_BYTES_MAX];
    bool kept = record->reply.size <= REPLICA_REPLY_REMEMBERED_BYTES_MAX;
    size_t reply_size = kept ? record->reply.size : 0;
    store_u64_le(value + OFFSET_SEQUENCE, record->sequence);
    store_u64_le(value + OFFSET_INDEX, record->index);
    store_u64_le(value + OFFSET_TIME, record->time_ms);
    value[OFFSET_FLAGS] = kept ? FLAG_REPLY_KEPT : 0;
    if (reply_size > 0) memcpy(value + RECORD_HEAD_BYTES, record->reply.data, reply_size);

    unsigned slot = slot_of(record->sequence);
    uint8_t key[KEY_BYTES];
    make_key(&session->id, slot, key);
    size_t value_size = RECORD_HEAD_BYTES + reply_size;
#ifndef MUTATION_SESSION_NOT_STORED /* a crash forgets which requests were applied */
    store_batch_put(batch, range, bytes_of(key, sizeof key), bytes_of(value, value_size));
#else
    (void)batch, (void)range;
#endif
    session->charges[slot] = (uint16_t)(KEY_BYTES + value_size);
    table->bytes += session->charges[slot];
}

enum status session_table_record(struct session_table *table, const struct store_range *range,
                                 struct store_batch *batch, const struct session_record *record)
{
    assert(!id_is_zero(&record->session));
    assert(record->sequence > 0);

    struct session *session = table_find(table, &record->session);
    if (session != NULL && is_idle(table, session, record->time_ms)) {
        drop_session(table, range, batch, session);
        session = NULL;
    }
    if (session == NULL) session = table_add(table, &record->session);
    if (session == NULL) return STATUS_NO_MEMORY;

    if (record->sequence > session->highest) {
        uint64_t shift = record->sequence - session->highest;
        unsigned age_from = shift >= SESSION_WINDOW ? 0 : (unsigned)(SESSION_WINDOW - shift);
        drop_older(table, range, batch, session, age_from, slot_of(record->sequence));
        session->seen = (shift >= SESSION_WINDOW ? 0 : session->seen << shift) | 1;
        session->highest = record->sequence;
    } else {
        uint64_t age = session->highest - record->sequence;
        assert(age < SESSION_WINDOW);
        assert((session->seen >> age & 1) == 0);
        session->seen |= UINT64_C(1) << age;
    }
    put_record(table, range, batch, session, record);
    session->used_index = record->index;
    session->used_ms = record->time_ms;
    TAILQ_REMOVE(&table->by_use, session, by_use);
    TAILQ_INSERT_TAIL(&table->by_use, session, by_use);

    while (table->count > table->limits.count_max || table->bytes > table->limits.bytes_max) {
        struct session *oldest = TAILQ_FIRST(&table->by_use);
        if (oldest == session) break;
        drop_session(table, range, batch, oldest);
    }
    return STATUS_OK;
}

void session_table_expire(struct session_table *table, const struct store_range *range,
                          struct store_batch *batch, uint64_t time_ms)
{
    for (unsigned i = 0; i < SESSION_EXPIRED_PER_ENTRY_MAX; i++) {
        struct session *oldest = TAILQ_FIRST(&table->by_use);
        if (oldest == NULL || !is_idle(table, oldest, time_ms)) return;
        drop_session(table, range, batch, oldest);
    }
}

struct session_figures session_table_figures(const struct session_table *table)
{
    return (struct session_figures) { .count = table->count, .bytes = table->bytes };
}
