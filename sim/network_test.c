/* The simulated network keeps the promises of base/network.h: bytes arrive whole and in order after
 * a delay, writers feel slow readers, and whoever waits learns of ends, breaks and crashes.
 *
 * Method: two machines of one simulated reactor, each with a fiber of its own; every test runs
 * under many seeds and must leave no stream and no listener behind. */
#include "sim/network.h"

#include "reactor/reactor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEEDS = 50, LONG_BYTES = 3 * SIM_NETWORK_FLIGHT_BYTES_MAX };

static const uint64_t MS = 1000000;

struct pair {
    struct sim_network *network;
    struct sim_machine *left, *right;
    struct listener *listener;
    struct scope scope;
    struct reactor *reactor;
    void (*body)(struct pair *pair, struct stream *stream); /* on the left, connected */
    void (*serve)(struct pair *pair, struct stream *stream);
    uint64_t seed, served_bytes, hash;
    enum status served;
    unsigned breaks_per_million;
};

static uint64_t now_of(struct pair *pair)
{
    uint64_t now;
    clock_monotonic_ns(reactor_clock(pair->reactor), &now);
    return now;
}

static void serve_fiber(void *argument)
{
    struct pair *pair = argument;
    struct stream *stream;
    pair->served = pair->listener->operations->accept(pair->listener, DEADLINE_NEVER, &stream);
    if (pair->served != STATUS_OK) return;
    pair->serve(pair, stream);
    stream_close(stream);
}

static void main_fiber(struct scope *root, void *context)
{
    struct pair *pair = context;
    struct sim_network_options options = { .reactor = pair->reactor,
                                           .seed = pair->seed,
                                           .delay_ns_min = MS / 10,
                                           .delay_ns_max = 2 * MS,
                                           .breaks_per_million = pair->breaks_per_million };
    assert_int_equal(sim_network_create(&options, &pair->network), STATUS_OK);
    assert_int_equal(sim_network_add_machine(pair->network, "left", &pair->left), STATUS_OK);
    assert_int_equal(sim_network_add_machine(pair->network, "right", &pair->right), STATUS_OK);
    struct network *left = sim_machine_network(pair->left);
    struct network *right = sim_machine_network(pair->right);
    struct error error;
    assert_int_equal(right->listen(right, "right:80", &pair->listener, &error), STATUS_OK);
    scope_init(&pair->scope, root);
    assert_int_equal(scope_spawn(&pair->scope, "serve", serve_fiber, pair), STATUS_OK);
    struct stream *stream;
    assert_int_equal(left->connect(left, "right:80", DEADLINE_NEVER, &stream, &error), STATUS_OK);
    pair->body(pair, stream);
    stream_close(stream);
    scope_join(&pair->scope);
    pair->listener->operations->close(pair->listener);
    assert_int_equal(sim_network_figures(pair->network).streams_open, 0);
    assert_int_equal(sim_network_figures(pair->network).listeners_open, 0);
    sim_network_destroy(pair->network);
}

static void run(struct pair *pair)
{
    struct reactor_simulation_options options = { .seed = pair->seed, .end_ns = 60000 * MS };
    assert_int_equal(reactor_create_simulation(&options, &pair->reactor), STATUS_OK);
    assert_int_equal(reactor_run(pair->reactor, main_fiber, pair), STATUS_OK);
    pair->hash = reactor_trace_hash(pair->reactor);
    reactor_destroy(pair->reactor);
}

/* --- what the fibers do -------------------------------------------------------------------------
 */

static uint8_t byte_number(uint64_t number)
{
    return (uint8_t)(number * 31 + number / 251);
}

static void read_slowly_to_the_end(struct pair *pair, struct stream *stream)
{
    uint8_t bytes[3000];
    size_t got;
    while ((pair->served = stream_read(stream, bytes, sizeof bytes, DEADLINE_NEVER, &got)) ==
               STATUS_OK &&
           got > 0) {
        for (size_t i = 0; i < got; i++)
            assert_int_equal(bytes[i], byte_number(pair->served_bytes + i));
        pair->served_bytes += got;
        assert_int_equal(fiber_sleep_ns(MS / 5), STATUS_OK);
    }
}

static void write_much(struct pair *pair, struct stream *stream)
{
    (void)pair;
    uint8_t *bytes = malloc(LONG_BYTES);
    assert_non_null(bytes);
    for (size_t i = 0; i < LONG_BYTES; i++) bytes[i] = byte_number(i);
    uint64_t began = now_of(pair);
    /* What does not fit at once is refused at once; whatever went out counts. */
    assert_int_equal(stream_write(stream, bytes, 1000, 0), STATUS_OK);
    assert_int_equal(stream_write(stream, bytes + 1000, LONG_BYTES - 1000, DEADLINE_NEVER),
                     STATUS_OK);
    assert_true(now_of(pair) > began); /* it had to wait for the reader */
    free(bytes);
}

static void write_until_it_fails(struct pair *pair, struct stream *stream)
{
    uint8_t bytes[100] = { 0 };
    enum status status;
    while ((status = stream_write(stream, bytes, sizeof bytes, DEADLINE_NEVER)) == STATUS_OK)
        assert_int_equal(fiber_sleep_ns(MS), STATUS_OK);
    assert_int_equal(status, STATUS_CLOSED);
    (void)pair;
}

static void read_until_it_fails(struct pair *pair, struct stream *stream)
{
    uint8_t bytes[100];
    size_t got = 1;
    while (got > 0 && pair->served == STATUS_OK)
        pair->served = stream_read(stream, bytes, sizeof bytes, DEADLINE_NEVER, &got);
}

static void crash_then_see_it(struct pair *pair, struct stream *stream)
{
    assert_int_equal(fiber_sleep_ns(10 * MS), STATUS_OK);
    sim_machine_crash(pair->right);
    write_until_it_fails(pair, stream);
    struct network *left = sim_machine_network(pair->left);
    struct stream *none;
    struct error error;
    assert_int_equal(left->connect(left, "right:80", DEADLINE_NEVER, &none, &error),
                     STATUS_UNAVAILABLE);
}

static void see_deadlines(struct pair *pair, struct stream *stream)
{
    uint8_t byte;
    size_t got;
    uint64_t deadline_ns = now_of(pair) + 7 * MS;
    assert_int_equal(stream_read(stream, &byte, 1, deadline_ns, &got), STATUS_TIMEOUT);
    assert_int_equal(now_of(pair), deadline_ns);
    assert_int_equal(stream_write(stream, "x", 1, DEADLINE_NEVER), STATUS_OK);
    stream->operations->shutdown(stream);
    assert_int_equal(stream_write(stream, "x", 1, DEADLINE_NEVER), STATUS_CLOSED);
    assert_int_equal(stream_read(stream, &byte, 1, DEADLINE_NEVER, &got), STATUS_CLOSED);
}

static void wait_for_a_break(struct pair *pair, struct stream *stream)
{
    (void)stream;
    assert_int_equal(fiber_sleep_ns(5 * MS), STATUS_OK);
    assert_true(sim_machine_break_one(pair->left));
    assert_false(sim_machine_break_one(pair->left)); /* it had one */
}

static void answer_each_byte(struct pair *pair, struct stream *stream)
{
    uint8_t byte;
    size_t got = 0;
    while ((pair->served = stream_read(stream, &byte, 1, DEADLINE_NEVER, &got)) == STATUS_OK &&
           got > 0) {
        pair->served_bytes++;
        assert_int_equal(stream_write(stream, &byte, 1, DEADLINE_NEVER), STATUS_OK);
    }
}

/* Requests arrive and answers do not; connecting needs both ways; healing loses nothing. */
static void cut_the_answers(struct pair *pair, struct stream *stream)
{
    uint8_t bytes[4];
    size_t got;
    struct error error;
    struct stream *none;
    struct network *left = sim_machine_network(pair->left);
    sim_network_cut(pair->network, pair->right, pair->left, true);
    sim_network_cut(pair->network, pair->right, pair->left, true);
    assert_int_equal(stream_write(stream, "a", 1, DEADLINE_NEVER), STATUS_OK);
    assert_int_equal(stream_read(stream, bytes, 4, now_of(pair) + 1000 * MS, &got), STATUS_TIMEOUT);
    assert_int_equal(pair->served_bytes, 1);
    assert_int_equal(left->connect(left, "right:80", now_of(pair) + 100 * MS, &none, &error),
                     STATUS_TIMEOUT);
    /* The other way now: the answer of before comes, a new request does not arrive. */
    sim_network_cut(pair->network, pair->left, pair->right, true);
    sim_network_cut(pair->network, pair->right, pair->left, false);
    assert_int_equal(stream_read(stream, bytes, 4, DEADLINE_NEVER, &got), STATUS_OK);
    assert_int_equal(bytes[0], 'a');
    assert_int_equal(stream_write(stream, "b", 1, DEADLINE_NEVER), STATUS_OK);
    assert_int_equal(fiber_sleep_ns(1000 * MS), STATUS_OK);
    assert_int_equal(pair->served_bytes, 1);
    sim_network_cut(pair->network, pair->left, pair->right, false);
    assert_int_equal(stream_read(stream, bytes, 4, DEADLINE_NEVER, &got), STATUS_OK);
    assert_int_equal(bytes[0], 'b');
    /* Our end of the connection is not heard of behind a cut, nor is a crash. */
    sim_network_cut(pair->network, pair->left, pair->right, true);
    stream->operations->shutdown(stream);
    assert_int_equal(fiber_sleep_ns(1000 * MS), STATUS_OK);
    assert_int_equal(pair->scope.fiber_count, 1);
    sim_network_cut(pair->network, pair->left, pair->right, false);
    assert_int_equal(fiber_sleep_ns(10 * MS), STATUS_OK);
    assert_int_equal(pair->scope.fiber_count, 0);
}

static void crash_behind_a_cut(struct pair *pair, struct stream *stream)
{
    (void)stream;
    sim_network_cut(pair->network, pair->left, pair->right, true);
    sim_machine_crash(pair->left);
    assert_int_equal(fiber_sleep_ns(1000 * MS), STATUS_OK);
    assert_int_equal(pair->scope.fiber_count, 1);
    sim_network_cut(pair->network, pair->left, pair->right, false);
}

/* --- tests --------------------------------------------------------------------------------------
 */

static void bytes_arrive_whole_and_in_order_at_the_speed_of_the_reader(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct pair pair = { .seed = seed, .body = write_much, .serve = read_slowly_to_the_end };
        run(&pair);
        assert_int_equal(pair.served, STATUS_OK);
        assert_int_equal(pair.served_bytes, LONG_BYTES);
        struct pair again = { .seed = seed, .body = write_much, .serve = read_slowly_to_the_end };
        run(&again);
        assert_int_equal(again.hash, pair.hash);
    }
}

static void a_crash_ends_what_the_other_side_waits_for(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct pair pair = { .seed = seed,
                             .body = crash_then_see_it,
                             .serve = read_until_it_fails };
        run(&pair);
        assert_int_equal(pair.served, STATUS_CLOSED);
    }
}

static void deadlines_and_shutdown_wake_who_waits(void **state)
{
    (void)state;
    struct pair pair = { .body = see_deadlines, .serve = read_until_it_fails };
    run(&pair);
    assert_int_equal(pair.served, STATUS_OK);
}

static void a_break_reaches_both_ends(void **state)
{
    (void)state;
    struct pair pair = { .body = wait_for_a_break, .serve = read_until_it_fails };
    run(&pair);
    assert_int_equal(pair.served, STATUS_CLOSED);
    struct pair random = { .body = write_until_it_fails,
                           .serve = read_until_it_fails,
                           .breaks_per_million = 100000 };
    run(&random);
    assert_int_equal(random.served, STATUS_CLOSED);
}

static void a_cut_in_one_direction_keeps_what_is_sent_until_it_heals(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct pair pair = { .seed = seed, .body = cut_the_answers, .serve = answer_each_byte };
        run(&pair);
        assert_int_equal(pair.served, STATUS_OK);
        assert_int_equal(pair.served_bytes, 2);
        struct pair crash = { .seed = seed,
                              .body = crash_behind_a_cut,
                              .serve = read_until_it_fails };
        run(&crash);
        assert_int_equal(crash.served, STATUS_CLOSED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_arrive_whole_and_in_order_at_the_speed_of_the_reader),
        cmocka_unit_test(a_crash_ends_what_the_other_side_waits_for),
        cmocka_unit_test(deadlines_and_shutdown_wake_who_waits),
        cmocka_unit_test(a_break_reaches_both_ends),
        cmocka_unit_test(a_cut_in_one_direction_keeps_what_is_sent_until_it_heals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
