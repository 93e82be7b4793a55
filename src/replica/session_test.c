/* What sessions remember follows from the entries alone: a table that was rebuilt from the store is
 * the one that was never closed.
 *
 * Method: random requests of many sessions run through a table with small bounds; beside it a model
 * that keeps everything by the rules of replica/session.h. At random times the table is thrown away
 * and rebuilt. Every verdict, every reply and every count must be the model's, and the batches of a
 * table that is often rebuilt must be those of one that never is. */
#include "replica/session.h"

#include "replica/keys.h"
#include "sim/disk.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    SESSIONS = 12,
    COUNT_MAX = 8,
    BYTES_MAX = 12000,
    IDLE_MS = 500,
    ENTRIES = 4000,
    RECORD_COST = 25 + 19, /* value and key of an empty reply */
};

/* --- the model ---------------------------------------------------------------------------------
 */

struct model_request {
    bool known;
    uint64_t index;
    size_t reply_size;
};

struct model_session {
    bool known;
    uint64_t highest, used_index, used_ms;
    struct model_request requests[ENTRIES * 4 + 128]; /* by sequence */
};

struct model {
    struct model_session sessions[SESSIONS];
};

static size_t model_cost(const struct model_session *session)
{
    size_t cost = 0;
    uint64_t from = session->highest >= SESSION_WINDOW ? session->highest - SESSION_WINDOW + 1 : 1;
    for (uint64_t i = from; i <= session->highest; i++) {
        const struct model_request *request = &session->requests[i];
        if (!request->known) continue;
        bool kept = request->reply_size <= REPLICA_REPLY_REMEMBERED_BYTES_MAX;
        cost += RECORD_COST + (kept ? request->reply_size : 0);
    }
    return cost;
}

static void model_totals(const struct model *model, uint64_t *ret_count, uint64_t *ret_bytes)
{
    *ret_count = *ret_bytes = 0;
    for (unsigned i = 0; i < SESSIONS; i++) {
        if (!model->sessions[i].known) continue;
        *ret_count += 1;
        *ret_bytes += model_cost(&model->sessions[i]);
    }
}

static struct model_session *model_oldest(struct model *model)
{
    struct model_session *oldest = NULL;
    for (unsigned i = 0; i < SESSIONS; i++) {
        struct model_session *session = &model->sessions[i];
        if (!session->known) continue;
        if (oldest == NULL || session->used_index < oldest->used_index) oldest = session;
    }
    return oldest;
}

static enum session_verdict model_check(const struct model_session *session, uint64_t sequence,
                                        uint64_t time_ms)
{
    if (!session->known || time_ms - session->used_ms >= IDLE_MS) return SESSION_APPLY;
    if (sequence > session->highest) return SESSION_APPLY;
    if (session->highest - sequence >= SESSION_WINDOW) return SESSION_OLD;
    const struct model_request *request = &session->requests[sequence];
    if (!request->known) return SESSION_APPLY;
    return request->reply_size <= REPLICA_REPLY_REMEMBERED_BYTES_MAX ? SESSION_REPEATED
                                                                     : SESSION_NOT_KEPT;
}

static void model_record(struct model *model, struct model_session *session, uint64_t sequence,
                         uint64_t index, uint64_t time_ms, size_t reply_size)
{
    if (session->known && time_ms - session->used_ms >= IDLE_MS) {
        memset(session, 0, sizeof *session);
    }
    session->known = true;
    if (sequence > session->highest) session->highest = sequence;
    session->used_index = index;
    session->used_ms = time_ms;
    session->requests[sequence] =
        (struct model_request) { .known = true, .index = index, .reply_size = reply_size };
    for (;;) {
        uint64_t count, bytes;
        model_totals(model, &count, &bytes);
        if (count <= COUNT_MAX && bytes <= BYTES_MAX) return;
        struct model_session *oldest = model_oldest(model);
        if (oldest == session) return;
        memset(oldest, 0, sizeof *oldest);
    }
}

static void model_expire(struct model *model, uint64_t time_ms)
{
    for (unsigned i = 0; i < SESSION_EXPIRED_PER_ENTRY_MAX; i++) {
        struct model_session *oldest = model_oldest(model);
        if (oldest == NULL || time_ms - oldest->used_ms < IDLE_MS) return;
        memset(oldest, 0, sizeof *oldest);
    }
}

/* --- the table ---------------------------------------------------------------------------------
 */

struct subject {
    struct session_table *table;
    struct store_range range;
    struct store_batch *batch;
    struct buffer reply;
};

static void subject_init(struct subject *subject, struct store *store, uint64_t group)
{
    struct session_limits limits = { .count_max = COUNT_MAX,
                                     .bytes_max = BYTES_MAX,
                                     .idle_ms_max = IDLE_MS };
    struct error error;
    subject->range = (struct store_range) { .store = store, .group = group, .generation = 1 };
    buffer_init(&subject->reply, REPLICA_REPLY_REMEMBERED_BYTES_MAX);
    assert_int_equal(store_batch_create(store, &subject->batch), STATUS_OK);
    assert_int_equal(session_table_create(&limits, &subject->table), STATUS_OK);
    assert_int_equal(session_table_open(subject->table, &subject->range, &error), STATUS_OK);
}

static void subject_finish(struct subject *subject)
{
    session_table_destroy(subject->table);
    store_batch_destroy(subject->batch);
    buffer_finish(&subject->reply);
}

struct step {
    struct id session;
    uint64_t sequence, index, time_ms;
    struct bytes reply;
};

static enum session_verdict subject_step(struct subject *subject, const struct step *step,
                                         uint64_t *ret_index)
{
    enum session_verdict verdict;
    struct error error;
    store_batch_clear(subject->batch);
    assert_int_equal(session_table_check(subject->table, &subject->range, &step->session,
                                         step->sequence, step->time_ms, &subject->reply, ret_index,
                                         &verdict, &error),
                     STATUS_OK);
    if (verdict == SESSION_APPLY) {
        struct session_record record = { .session = step->session,
                                         .sequence = step->sequence,
                                         .index = step->index,
                                         .time_ms = step->time_ms,
                                         .reply = step->reply };
        assert_int_equal(
            session_table_record(subject->table, &subject->range, subject->batch, &record),
            STATUS_OK);
    }
    session_table_expire(subject->table, &subject->range, subject->batch, step->time_ms);
    assert_int_equal(store_write(subject->range.store, subject->batch, &error), STATUS_OK);
    return verdict;
}

/* --- the run -----------------------------------------------------------------------------------
 */

static uint64_t draw(struct random_seeded *random, uint64_t bound)
{
    uint64_t value;
    random_below(&random->random, bound, &value);
    return value;
}

/* Near the highest number mostly, sometimes far ahead, sometimes behind the window. */
static uint64_t draw_sequence(struct random_seeded *random, const struct model_session *session)
{
    uint64_t highest = session->highest;
    switch (draw(random, 8)) {
    case 0: return highest > 70 ? highest - draw(random, 70) : 1 + draw(random, highest + 1);
    case 1: return highest + 1 + draw(random, 5);
    case 2: return draw(random, 20) == 0 ? highest + 1 + draw(random, 100) : highest + 1;
    case 3: return highest == 0 ? 1 : highest;
    default: return highest + 1;
    }
}

static void run(uint64_t seed)
{
    static uint8_t replies[2048];
    struct sim_disk disk;
    sim_disk_init(&disk, &(struct sim_disk_options) { .seed = seed });
    struct store *store;
    struct error error;
    struct store_options options = { .folder = "store", .simulation = true };
    assert_int_equal(store_open(&disk.blocking, &options, &store, &error), STATUS_OK);
    struct subject steady, rebuilt;
    subject_init(&steady, store, 1);
    subject_init(&rebuilt, store, 2);
    struct model *model = calloc(1, sizeof *model);
    assert_non_null(model);
    struct random_seeded random;
    random_seeded_init(&random, seed);
    uint64_t time_ms = 1000;

    for (uint64_t index = 1; index <= ENTRIES; index++) {
        unsigned number = (unsigned)draw(&random, SESSIONS);
        time_ms += draw(&random, 60) == 0 ? draw(&random, 2ull * IDLE_MS) : draw(&random, 10);
        struct model_session *session = &model->sessions[number];
        struct step step = { .session.bytes = { (uint8_t)(number + 1) },
                             .sequence = draw_sequence(&random, session),
                             .index = index,
                             .time_ms = time_ms };
        size_t reply_size =
            (size_t)(draw(&random, 10) == 0 ? draw(&random, 1200) : draw(&random, 40));
        memset(replies, (int)(index & 0xff), reply_size);
        step.reply = bytes_of(replies, reply_size);
        enum session_verdict wanted = model_check(session, step.sequence, time_ms);
        struct model_request before = session->requests[step.sequence];

        uint64_t applied_at = 0;
        assert_int_equal(subject_step(&steady, &step, &applied_at), wanted);
        assert_int_equal(subject_step(&rebuilt, &step, &applied_at), wanted);
        if (wanted == SESSION_REPEATED) {
            assert_int_equal(applied_at, before.index);
            assert_int_equal(rebuilt.reply.used, before.reply_size);
            if (before.reply_size > 0) {
                assert_int_equal(rebuilt.reply.data[0], before.index & 0xff);
            }
        }
        if (wanted == SESSION_APPLY) {
            model_record(model, session, step.sequence, index, time_ms, reply_size);
        }
        model_expire(model, time_ms);

        uint64_t count, bytes;
        model_totals(model, &count, &bytes);
        struct session_figures figures = session_table_figures(rebuilt.table);
        assert_int_equal(figures.count, count);
        assert_int_equal(figures.bytes, bytes);
        figures = session_table_figures(steady.table);
        assert_int_equal(figures.bytes, bytes);
        assert_int_equal(store_batch_bytes(steady.batch).size,
                         store_batch_bytes(rebuilt.batch).size);
        if (draw(&random, 20) == 0) {
            assert_int_equal(session_table_open(rebuilt.table, &rebuilt.range, &error), STATUS_OK);
        }
    }
    subject_finish(&steady);
    subject_finish(&rebuilt);
    free(model);
    store_close(store);
    sim_disk_finish(&disk);
}

static void a_rebuilt_table_decides_as_one_that_was_never_closed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) run(seed);
}

static void a_damaged_record_is_refused_with_its_session(void **state)
{
    (void)state;
    struct sim_disk disk;
    sim_disk_init(&disk, &(struct sim_disk_options) { .seed = 1 });
    struct store *store;
    struct error error;
    struct store_options options = { .folder = "store", .simulation = true };
    assert_int_equal(store_open(&disk.blocking, &options, &store, &error), STATUS_OK);
    struct subject subject;
    subject_init(&subject, store, 1);
    uint8_t key[19] = { STATE_MACHINE_RESERVED_PREFIX, REPLICA_KEY_SESSION, 0xab };
    static const uint8_t good[25] = { 1 };
    static const uint8_t zero[25];
    struct {
        size_t key_size;
        uint8_t slot;
        struct bytes value;
    } cases[] = {
        { 19, 1, bytes_of(good, 24) }, /* too short */
        { 18, 1, bytes_of(good, 25) }, /* a key of another size */
        { 19, 2, bytes_of(good, 25) }, /* sequence 1 is not of slot 2 */
        { 19, 64, bytes_of(good, 25) }, { 19, 0, bytes_of(zero, 25) }, /* there is no sequence 0 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        key[18] = cases[i].slot;
        struct bytes at = bytes_of(key, cases[i].key_size);
        store_batch_clear(subject.batch);
        store_batch_put(subject.batch, &subject.range, at, cases[i].value);
        assert_int_equal(store_write(store, subject.batch, &error), STATUS_OK);
        error.text[0] = '\0';
        assert_int_equal(session_table_open(subject.table, &subject.range, &error), STATUS_CORRUPT);
        assert_true(error.text[0] != '\0');
        store_batch_clear(subject.batch);
        store_batch_delete(subject.batch, &subject.range, at);
        assert_int_equal(store_write(store, subject.batch, &error), STATUS_OK);
    }
    assert_int_equal(session_table_open(subject.table, &subject.range, &error), STATUS_OK);
    subject_finish(&subject);
    store_close(store);
    sim_disk_finish(&disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rebuilt_table_decides_as_one_that_was_never_closed),
        cmocka_unit_test(a_damaged_record_is_refused_with_its_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
