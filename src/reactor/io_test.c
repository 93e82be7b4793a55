/* Streams, foreign descriptors, workers and the mailbox do with a real kernel what they promise.
 *
 * Method: client and server are fibers of one reactor, over loopback TCP and Unix sockets. Run once
 * for each backend, which UNUM_IO names. */
#include "reactor/internal.h"
#include "reactor/real_test.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>

enum { LARGE_BYTES = 10 * 1024 * 1024 };

static struct network *network(void)
{
    return reactor_network(fiber_reactor());
}

/* A listener and a connected pair. */
struct pair {
    struct listener *listener;
    struct stream *client;
    struct stream *server;
    size_t written;
    size_t got;
    unsigned count;
    enum status status;
    struct condition condition;
};

static void accept_fiber(void *argument)
{
    struct pair *pair = argument;
    assert_int_equal(
        pair->listener->operations->accept(pair->listener, DEADLINE_NEVER, &pair->server),
        STATUS_OK);
}

static void pair_open(struct pair *pair, const char *address)
{
    struct error error = { 0 };
    struct scope scope;
    condition_init(&pair->condition);
    assert_int_equal(network()->listen(network(), address, &pair->listener, &error), STATUS_OK);
    scope_init(&scope, fiber_scope());
    test_spawn(&scope, accept_fiber, pair);
    const char *real = pair->listener->operations->address(pair->listener);
    assert_int_equal(
        network()->connect(network(), real, test_now_ns() + 5000ULL * MS, &pair->client, &error),
        STATUS_OK);
    scope_join(&scope);
}

static void pair_close(struct pair *pair)
{
    stream_close(pair->client);
    stream_close(pair->server);
    pair->listener->operations->close(pair->listener);
}

/* --- streams ---
 */

static void echo_fiber(void *argument)
{
    struct pair *pair = argument;
    char bytes[64];
    size_t size;
    for (;;) {
        assert_int_equal(stream_read(pair->server, bytes, sizeof bytes, DEADLINE_NEVER, &size),
                         STATUS_OK);
        if (size == 0) return;
        assert_int_equal(stream_write(pair->server, bytes, size, DEADLINE_NEVER), STATUS_OK);
        pair->count++;
    }
}

static void echo_at(const char *address)
{
    struct pair pair = { 0 };
    struct scope scope;
    pair_open(&pair, address);
    scope_init(&scope, fiber_scope());
    test_spawn(&scope, echo_fiber, &pair);
    for (unsigned i = 0; i < 100; i++) {
        char out[16], in[16];
        size_t size;
        int length = snprintf(out, sizeof out, "message %u", i);
        assert_int_equal(stream_write(pair.client, out, (size_t)length, DEADLINE_NEVER), STATUS_OK);
        assert_int_equal(stream_read(pair.client, in, sizeof in, DEADLINE_NEVER, &size), STATUS_OK);
        assert_int_equal(size, length);
        assert_memory_equal(in, out, size);
    }
    stream_close(pair.client);
    scope_join(&scope);
    pair.client = NULL;
    assert_int_equal(pair.count, 100);
    pair_close(&pair);
}

static void echo_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    char path[TEST_NAME_BYTES + 8] = "unix:";
    test_path(path + 5, "echo");
    echo_at("127.0.0.1:0");
    echo_at("[::1]:0");
    echo_at(path);
    assert_int_equal(access(path + 5, F_OK), -1); /* the listener took its name with it */
}

static void what_is_written_comes_back_over_tcp_and_unix_sockets(void **state)
{
    (void)state;
    test_run(echo_main, NULL);
}

static void addresses_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    struct pair pair = { 0 };
    struct stream *stream;
    struct listener *second;
    struct error error = { 0 };
    pair_open(&pair, "127.0.0.1:0");
    char address[NETWORK_ADDRESS_BYTES_MAX];
    (void)snprintf(address, sizeof address, "%s", pair.client->operations->peer(pair.client));
    assert_string_equal(address, pair.listener->operations->address(pair.listener));
    assert_int_equal(strncmp(pair.server->operations->peer(pair.server), "127.0.0.1:", 10), 0);
    assert_int_equal(network()->listen(network(), address, &second, &error), STATUS_EXISTS);
    assert_non_null(strstr(error.text, "is taken by another program"));
    pair_close(&pair);
    assert_int_equal(network()->connect(network(), address, DEADLINE_NEVER, &stream, &error),
                     STATUS_UNAVAILABLE);
    static const char *const bad[] = { "",        "x",          "1.2.3.4",       "1.2.3.4:",
                                       ":80",     "1.2.3.4:x",  "1.2.3.4:65536", "::1:80",
                                       "[::1:80", "1.2.3.4:-1", "unix:",         "[]:80" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(network()->listen(network(), bad[i], &second, &error), STATUS_INVALID);
        assert_int_not_equal(strlen(error.text), 0);
    }
    char path[TEST_NAME_BYTES + 8] = "unix:";
    test_path(path + 5, "nobody");
    assert_int_equal(network()->connect(network(), path, DEADLINE_NEVER, &stream, &error),
                     STATUS_UNAVAILABLE);
}

static void a_bad_or_taken_or_deserted_address_is_named_in_a_sentence(void **state)
{
    (void)state;
    test_run(addresses_main, NULL);
}

static void stale_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    char path[TEST_NAME_BYTES + 8] = "unix:";
    test_path(path + 5, "stale");
    struct listener *first, *second;
    struct error error = { 0 };
    assert_int_equal(network()->listen(network(), path, &first, &error), STATUS_OK);
    assert_int_equal(network()->listen(network(), path, &second, &error), STATUS_EXISTS);
    char kept[TEST_NAME_BYTES];
    test_path(kept, "kept");
    assert_int_equal(rename(path + 5, kept), 0);
    first->operations->close(first);
    assert_int_equal(rename(kept, path + 5), 0); /* as after a crash: the name, and nobody */
    assert_int_equal(network()->listen(network(), path, &second, &error), STATUS_OK);
    second->operations->close(second);
}

static void a_unix_path_left_by_a_dead_process_is_taken_over(void **state)
{
    (void)state;
    test_run(stale_main, NULL);
}

static void wait_in_read(void *argument)
{
    struct pair *pair = argument;
    char byte;
    size_t size = 99;
    pair->status = stream_read(pair->server, &byte, 1, DEADLINE_NEVER, &size);
    pair->count++;
    assert_int_equal(size, 99); /* written only on success */
}

static void wait_in_accept(void *argument)
{
    struct pair *pair = argument;
    struct stream *stream;
    pair->status = pair->listener->operations->accept(pair->listener, DEADLINE_NEVER, &stream);
    pair->count++;
}

static void wait_in_write(void *argument)
{
    struct pair *pair = argument;
    static char bytes[LARGE_BYTES];
    pair->status = stream_write(pair->server, bytes, sizeof bytes, DEADLINE_NEVER);
    pair->count++;
}

static void closing_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    struct pair pair;
    struct scope scope;
    void (*const waits[])(void *) = { wait_in_read, wait_in_write, wait_in_accept };
    for (unsigned i = 0; i < 9; i++) { /* each wait: closed, shut down, cancelled */
        pair = (struct pair) { 0 };
        pair_open(&pair, "127.0.0.1:0");
        struct stream *server = pair.server;
        scope_init(&scope, fiber_scope());
        test_spawn(&scope, waits[i % 3], &pair);
        assert_int_equal(fiber_sleep_ns(5 * MS), STATUS_OK);
        assert_int_equal(pair.count, 0);
        enum status expected = STATUS_CLOSED;
        if (i < 3) {
            if (i == 2) {
                pair.listener->operations->close(pair.listener);
                pair.listener = NULL;
            } else {
                stream_close(server);
                pair.server = NULL;
            }
        } else if (i < 5) {
            server->operations->shutdown(server);
            server->operations->shutdown(server);
        } else {
            scope_cancel(&scope);
            expected = STATUS_CANCELLED;
        }
        scope_join(&scope);
        assert_int_equal(pair.count, 1);
        assert_int_equal(pair.status, expected);
        stream_close(pair.client);
        stream_close(pair.server);
        if (pair.listener != NULL) pair.listener->operations->close(pair.listener);
    }
}

static void closing_shutting_down_and_cancelling_wake_who_reads_writes_or_accepts(void **state)
{
    (void)state;
    test_run(closing_main, NULL);
}

static void deadline_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    struct pair pair = { 0 };
    char bytes[16];
    size_t size;
    pair_open(&pair, "127.0.0.1:0");
    uint64_t begin_ns = test_now_ns();
    assert_int_equal(stream_read(pair.server, bytes, 16, begin_ns + 20 * MS, &size),
                     STATUS_TIMEOUT);
    assert_true(test_now_ns() >= begin_ns + 20 * MS);
    assert_int_equal(stream_read(pair.server, bytes, 16, begin_ns, &size), STATUS_TIMEOUT);
    struct stream *none;
    assert_int_equal(pair.listener->operations->accept(pair.listener, test_now_ns() + MS, &none),
                     STATUS_TIMEOUT);
    /* After a timeout the stream is as good as before. */
    assert_int_equal(stream_write(pair.client, "again", 5, DEADLINE_NEVER), STATUS_OK);
    assert_int_equal(stream_read(pair.server, bytes, 16, DEADLINE_NEVER, &size), STATUS_OK);
    assert_int_equal(size, 5);
    static char large[LARGE_BYTES];
    assert_int_equal(stream_write(pair.server, large, sizeof large, test_now_ns() + 20 * MS),
                     STATUS_TIMEOUT); /* nobody reads */
    pair_close(&pair);
}

static void a_deadline_ends_reading_writing_and_accepting(void **state)
{
    (void)state;
    test_run(deadline_main, NULL);
}

static void write_large(void *argument)
{
    struct pair *pair = argument;
    static uint8_t bytes[LARGE_BYTES];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 31 + i / 257);
    assert_int_equal(stream_write(pair->client, bytes, sizeof bytes, DEADLINE_NEVER), STATUS_OK);
    pair->written = sizeof bytes;
    stream_close(pair->client);
    pair->client = NULL;
}

static void large_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    struct pair pair = { 0 };
    struct scope scope;
    pair_open(&pair, "127.0.0.1:0");
    scope_init(&scope, fiber_scope());
    test_spawn(&scope, write_large, &pair);
    assert_int_equal(fiber_sleep_ns(20 * MS), STATUS_OK);
    assert_int_equal(pair.written, 0); /* back-pressure: the reader has not begun */
    for (;;) {
        uint8_t bytes[1000];
        size_t size;
        assert_int_equal(stream_read(pair.server, bytes, sizeof bytes, DEADLINE_NEVER, &size),
                         STATUS_OK);
        if (size == 0) break;
        for (size_t i = 0; i < size; i++) {
            size_t place = pair.got + i;
            if (bytes[i] != (uint8_t)(place * 31 + place / 257)) fail();
        }
        pair.got += size;
    }
    assert_int_equal(pair.got, LARGE_BYTES);
    scope_join(&scope);
    pair_close(&pair);
}

static void ten_megabytes_pass_through_small_buffers_under_back_pressure(void **state)
{
    (void)state;
    test_run(large_main, NULL);
}

static void broken_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    struct pair pair = { 0 };
    pair_open(&pair, "127.0.0.1:0");
    stream_close(pair.client);
    pair.client = NULL;
    static char bytes[64 * 1024];
    enum status status = STATUS_OK;
    for (unsigned i = 0; i < 1000 && status == STATUS_OK; i++)
        status = stream_write(pair.server, bytes, sizeof bytes, DEADLINE_NEVER);
    assert_int_equal(status, STATUS_CLOSED);
    pair_close(&pair);
}

static void writing_to_a_peer_that_left_is_closed_and_raises_no_signal(void **state)
{
    (void)state;
    test_run(broken_main, NULL);
}

static void greedy_reader(void *argument)
{
    struct pair *pair = argument;
    char byte;
    size_t size;
    while (stream_read(pair->server, &byte, 1, DEADLINE_NEVER, &size) == STATUS_OK && size == 1)
        pair->got++;
}

static void fair_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    struct pair pair = { 0 };
    struct scope scope;
    static char bytes[10000];
    pair_open(&pair, "127.0.0.1:0");
    assert_int_equal(stream_write(pair.client, bytes, sizeof bytes, DEADLINE_NEVER), STATUS_OK);
    assert_int_equal(fiber_sleep_ns(5 * MS), STATUS_OK);
    scope_init(&scope, fiber_scope());
    test_spawn(&scope, greedy_reader, &pair);
    assert_int_equal(fiber_yield(), STATUS_OK);
    assert_in_range(pair.got, 1, 100); /* it had to let us run long before the end */
    stream_close(pair.client);
    pair.client = NULL;
    scope_join(&scope);
    assert_int_equal(pair.got, sizeof bytes);
    pair_close(&pair);
}

static void a_fiber_that_never_has_to_wait_lets_others_run(void **state)
{
    (void)state;
    test_run(fair_main, NULL);
}

/* --- foreign descriptors ---
 */

struct watched {
    int ends[2];
    unsigned ready;
};

static void watch_fiber(void *argument)
{
    struct watched *watched = argument;
    assert_int_equal(fiber_wait_readable(watched->ends[0], DEADLINE_NEVER), STATUS_OK);
    watched->ready++;
}

static void watch_main(struct scope *root, void *context)
{
    (void)context;
    struct watched watched = { 0 };
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, watched.ends), 0);
    assert_int_equal(fiber_wait_writable(watched.ends[0], DEADLINE_NEVER), STATUS_OK);
    assert_int_equal(fiber_wait_readable(watched.ends[0], test_now_ns() + 5 * MS), STATUS_TIMEOUT);
    struct scope scope;
    scope_init(&scope, root);
    test_spawn(&scope, watch_fiber, &watched);
    test_spawn(&scope, watch_fiber, &watched);
    assert_int_equal(fiber_sleep_ns(5 * MS), STATUS_OK);
    assert_int_equal(watched.ready, 0);
    assert_int_equal(write(watched.ends[1], "x", 1), 1);
    scope_join(&scope);
    assert_int_equal(watched.ready, 2);
    (void)close(watched.ends[0]);
    (void)close(watched.ends[1]);
}

static void two_fibers_may_wait_for_one_foreign_descriptor(void **state)
{
    (void)state;
    test_run(watch_main, NULL);
}

/* --- workers and the mailbox ---
 */

struct job {
    unsigned number;
    pthread_t thread;
    unsigned *ended;
};

static void job_work(void *argument)
{
    struct job *job = argument;
    job->thread = pthread_self();
    assert_false(fiber_may_wait());
    job->number *= 2;
}

static void job_fiber(void *argument)
{
    struct job *job = argument;
    assert_int_equal(worker_run(fiber_reactor(), job_work, job), STATUS_OK);
    assert_true(fiber_cancelled());
    (*job->ended)++;
}

static void workers_main(struct scope *root, void *context)
{
    (void)context;
    enum { JOBS = 200 };
    static struct job jobs[JOBS];
    unsigned ended = 0;
    struct scope scope;
    scope_init(&scope, root);
    for (unsigned i = 0; i < JOBS; i++) {
        jobs[i] = (struct job) { .number = i, .ended = &ended };
        test_spawn(&scope, job_fiber, &jobs[i]);
    }
    assert_int_equal(fiber_yield(), STATUS_OK);
    scope_cancel(&scope); /* does not cut them short */
    scope_join(&scope);
    assert_int_equal(ended, JOBS);
    for (unsigned i = 0; i < JOBS; i++) {
        assert_int_equal(jobs[i].number, 2 * i);
        assert_false(pthread_equal(jobs[i].thread, pthread_self()));
    }
}

static void blocking_work_runs_on_other_threads_to_its_end(void **state)
{
    (void)state;
    test_run(workers_main, NULL);
}

enum { POSTERS = 4, POSTS = 5000 };

struct post {
    struct reactor *reactor;
    struct condition condition;
    unsigned count; /* reactor's thread only */
    unsigned last[POSTERS];
    unsigned refused;
};

struct posted {
    struct post *post;
    unsigned poster;
    unsigned number;
};

static struct posted letters[POSTERS][POSTS];

static void receive(void *argument)
{
    struct posted *posted = argument;
    struct post *post = posted->post;
    assert_int_equal(posted->number, post->last[posted->poster]++); /* in order of each poster */
    post->count++;
    condition_signal(&post->condition);
}

static void *poster_main(void *argument)
{
    struct posted *mine = argument;
    for (unsigned i = 0; i < POSTS; i++) {
        while (reactor_post(mine->post->reactor, receive, &mine[i]) == STATUS_BUSY) sched_yield();
    }
    return NULL;
}

static void mailbox_main(struct scope *root, void *context)
{
    (void)root;
    struct post *post = context;
    pthread_t threads[POSTERS];
    *post = (struct post) { .reactor = fiber_reactor() };
    condition_init(&post->condition);
    for (unsigned i = 0; i < POSTERS; i++) {
        for (unsigned j = 0; j < POSTS; j++)
            letters[i][j] = (struct posted) { .post = post, .poster = i, .number = j };
        assert_int_equal(pthread_create(&threads[i], NULL, poster_main, letters[i]), 0);
    }
    while (post->count < POSTERS * POSTS)
        assert_int_equal(condition_wait(&post->condition, DEADLINE_NEVER), STATUS_OK);
    for (unsigned i = 0; i < POSTERS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void nothing_posted_from_other_threads_is_lost_or_reordered(void **state)
{
    (void)state;
    struct post post;
    test_run(mailbox_main, &post);
}

static void nothing(void *argument)
{
    (void)argument;
}

static void overfull_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    for (unsigned i = 0; i < MAILBOX_COUNT_MAX; i++)
        assert_int_equal(reactor_post(fiber_reactor(), nothing, NULL), STATUS_OK);
    assert_int_equal(reactor_post(fiber_reactor(), nothing, NULL), STATUS_BUSY);
    assert_int_equal(fiber_sleep_ns(MS), STATUS_OK);
    assert_int_equal(reactor_post(fiber_reactor(), nothing, NULL), STATUS_OK);
}

static void a_full_mailbox_is_busy(void **state)
{
    (void)state;
    test_run(overfull_main, NULL);
}

static void timers_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    uint64_t begin_ns = test_now_ns();
    for (unsigned i = 0; i < 20; i++) assert_int_equal(fiber_sleep_ns(MS / 2), STATUS_OK);
    uint64_t taken_ns = test_now_ns() - begin_ns;
    assert_true(taken_ns >= 10ULL * MS);
    assert_true(taken_ns < 2000ULL * MS);
}

static void timers_keep_real_time(void **state)
{
    (void)state;
    test_run(timers_main, NULL);
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec used;
    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used), 0);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static void idle_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    /* Busy enough to make it look before it sleeps. */
    for (unsigned i = 0; i < 100; i++) assert_int_equal(fiber_sleep_ns(MS / 50), STATUS_OK);
    uint64_t begin_ns = thread_cpu_ns();
    for (unsigned i = 0; i < 300; i++) assert_int_equal(fiber_sleep_ns(MS / 2), STATUS_OK);
    /* Looking each time would take 24 ms; sleeping takes 3, and twice that when instrumented. */
    assert_true(thread_cpu_ns() - begin_ns < 16 * MS);
}

static void a_reactor_with_little_to_do_uses_little_of_its_core(void **state)
{
    (void)state;
    test_run(idle_main, NULL);
}

enum { BURST = 600 };

static void sleeper(void *argument)
{
    (void)argument;
    assert_int_equal(fiber_sleep_ns(MS), STATUS_OK);
}

static void burst_main(struct scope *root, void *context)
{
    (void)context;
    const struct reactor *reactor = fiber_reactor();
    struct scope burst;
    scope_init(&burst, root);
    for (unsigned i = 0; i < BURST; i++) test_spawn(&burst, sleeper, NULL);
    scope_join(&burst);
    assert_int_equal(reactor->pool_warm_count, BURST);
    uint64_t deadline_ns = test_now_ns() + 5000 * MS;
    while (fiber_pool_is_rich(reactor) && test_now_ns() < deadline_ns)
        assert_int_equal(fiber_sleep_ns(1000 * MS), STATUS_OK);
    assert_int_equal(reactor->pool_warm_count, STACK_POOL_WARM_IDLE_MAX);
    assert_int_equal(reactor->pool_count, STACK_POOL_IDLE_MAX);
}

static void the_stacks_of_a_burst_are_given_back_when_it_is_quiet(void **state)
{
    (void)state;
    test_run(burst_main, NULL);
}

static void random_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    enum { DRAWS = 2000 };
    static uint64_t drawn[DRAWS];
    struct random *random = reactor_random(fiber_reactor());
    for (unsigned i = 0; i < DRAWS; i++) {
        uint8_t large[200];
        /* Of all sizes, so that a rest of the bytes at hand is often too small. */
        random->fill(random, large, 1 + i % sizeof large);
        random_u64(random, &drawn[i]);
        for (unsigned j = 0; j < i; j++) assert_true(drawn[j] != drawn[i]);
    }
}

static void random_numbers_are_never_handed_out_twice(void **state)
{
    (void)state;
    test_run(random_main, NULL);
}

static void an_unknown_backend_is_refused(void **state)
{
    (void)state;
    struct reactor *reactor;
    struct error error;
    struct reactor_options options = { .backend = "carrier pigeon" };
    assert_int_equal(reactor_create(&options, &reactor, &error), STATUS_INVALID);
    assert_string_equal(error.text, "UNUM_IO is \"carrier pigeon\": want io_uring or epoll");
}

static int group_begin(void **state)
{
    (void)state;
    test_folder_create();
    return 0;
}

static int group_end(void **state)
{
    (void)state;
    test_folder_remove();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_comes_back_over_tcp_and_unix_sockets),
        cmocka_unit_test(a_bad_or_taken_or_deserted_address_is_named_in_a_sentence),
        cmocka_unit_test(a_unix_path_left_by_a_dead_process_is_taken_over),
        cmocka_unit_test(closing_shutting_down_and_cancelling_wake_who_reads_writes_or_accepts),
        cmocka_unit_test(a_deadline_ends_reading_writing_and_accepting),
        cmocka_unit_test(ten_megabytes_pass_through_small_buffers_under_back_pressure),
        cmocka_unit_test(writing_to_a_peer_that_left_is_closed_and_raises_no_signal),
        cmocka_unit_test(a_fiber_that_never_has_to_wait_lets_others_run),
        cmocka_unit_test(the_stacks_of_a_burst_are_given_back_when_it_is_quiet),
        cmocka_unit_test(random_numbers_are_never_handed_out_twice),
        cmocka_unit_test(two_fibers_may_wait_for_one_foreign_descriptor),
        cmocka_unit_test(blocking_work_runs_on_other_threads_to_its_end),
        cmocka_unit_test(nothing_posted_from_other_threads_is_lost_or_reordered),
        cmocka_unit_test(a_full_mailbox_is_busy),
        cmocka_unit_test(timers_keep_real_time),
        cmocka_unit_test(a_reactor_with_little_to_do_uses_little_of_its_core),
        cmocka_unit_test(an_unknown_backend_is_refused),
    };
    return cmocka_run_group_tests(tests, group_begin, group_end);
}
