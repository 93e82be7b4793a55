/* Nothing acknowledged is lost, nothing is applied twice, and replicas of one history are equal,
 * whatever happens to the machine.
 *
 * Method: a workload of several clients with sessions runs on a disk that loses power, or whose
 * process dies, at operation 1, 2, 3, ... until a run survives to its end. After each death the
 * next life must hold every acknowledged line once, in the order of the replies; every request is
 * then sent again, with the reply of before, and the running hash at each index must be that of the
 * first life. A small store is flushed, and the journal released, in the middle of it.
 *
 * UNUM_TEST_SCOPE=full takes every operation; otherwise each test takes every third, from another
 * beginning. */
#include "sim/replica_world.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    CLIENTS = 4,
    REQUESTS = 12, /* of each client */
    OPERATIONS_MAX = 2000,
    STRIDE = 3, /* of the short scope */
    LINE_BYTES = 200,
};

struct history {
    char replies[CLIENTS][REQUESTS][WORLD_LINE_BYTES_MAX]; /* empty: not acknowledged */
    unsigned acknowledged;
    bool died;
};

static void make_line(unsigned client, unsigned request, char line[LINE_BYTES])
{
    memset(line, '.', LINE_BYTES - 1);
    line[LINE_BYTES - 1] = '\0';
    int size = snprintf(line, LINE_BYTES, "client %u request %u ", client, request);
    line[size] = '.';
}

struct client {
    struct world *world;
    unsigned number;
};

static void run_client(void *argument)
{
    struct client *client = argument;
    struct history *history = client->world->test;
    for (unsigned i = 0; i < REQUESTS; i++) {
        char line[LINE_BYTES];
        char reply[WORLD_LINE_BYTES_MAX];
        struct error error;
        make_line(client->number, i, line);
        if (world_propose(client->world, client->number + 1, i + 1, line, reply, &error) !=
            STATUS_OK) {
            history->died = true;
            return;
        }
        memcpy(history->replies[client->number][i], reply, sizeof reply);
        history->acknowledged++;
    }
}

static void run_clients(struct world *world)
{
    struct client clients[CLIENTS];
    struct scope scope;
    scope_init(&scope, world->root);
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client) { .world = world, .number = i };
        assert_int_equal(scope_spawn(&scope, "client", run_client, &clients[i]), STATUS_OK);
    }
    scope_join(&scope);
}

/* Every request again: once is enough, and the reply is that of before. */
static void retry_all(struct world *world)
{
    struct history *history = world->test;
    for (unsigned client = 0; client < CLIENTS; client++) {
        for (unsigned i = 0; i < REQUESTS; i++) {
            char line[LINE_BYTES];
            char reply[WORLD_LINE_BYTES_MAX];
            struct error error;
            const char *before = history->replies[client][i];
            make_line(client, i, line);
            if (before[0] != '\0') assert_int_equal(world_count(world, line), 1);
            assert_int_equal(world_propose(world, client + 1, i + 1, line, reply, &error),
                             STATUS_OK);
            if (before[0] != '\0') assert_string_equal(reply, before);
            assert_int_equal(world_count(world, line), 1);
        }
    }
    assert_int_equal(world_lines(world), CLIENTS * REQUESTS);
}

static void life_main(struct world *world)
{
    struct history *history = world->test;
    struct error error = { 0 };
    world->options.store_memtable_bytes = 4096;
    world->options.journal_segment_bytes = 32ull * 1024;
    enum status status = world_open(world, &error);
    if (status == STATUS_OK)
        run_clients(world);
    else
        history->died = true;
    bool disk_died = world->disk.lost_power || world->disk.crashed;
    assert_true(disk_died || !history->died);
    history->died = disk_died; /* also when it was too late to matter to a client */
    world->disk.options.power_loss_at = world->disk.options.crash_at = 0; /* what follows lives */
    if (history->died) {
        world_close(world);
        sim_disk_restart(&world->disk);
        status = world_open(world, &error);
        if (status != STATUS_OK) print_message("%s: %s\n", status_name(status), error.text);
        assert_int_equal(status, STATUS_OK);
    }
    retry_all(world);
    /* And once more from what the disk holds. */
    world_lose_power(world);
    assert_int_equal(world_open(world, &error), STATUS_OK);
    retry_all(world);
}

static unsigned stride(void)
{
    const char *scope = getenv("UNUM_TEST_SCOPE");
    return scope != NULL && strcmp(scope, "full") == 0 ? 1 : STRIDE;
}

static void die_at_operations(unsigned first, uint64_t *ret_at, struct sim_disk_options *disk)
{
    static struct world world;
    static struct history history;
    unsigned step = stride();
    unsigned operation = step == 1 ? 1 : first;
    unsigned acknowledged_most = 0;
    unsigned deaths = 0;
    bool died = true;
    for (; died; operation += step) {
        assert_true(operation < OPERATIONS_MAX);
        *ret_at = operation;
        history = (struct history) { 0 };
        world.test = &history;
        world_run(&world, operation, disk, life_main);
        if (world.hash_differed || world.time_went_back) print_message("at %u\n", operation);
        assert_false(world.hash_differed);
        assert_false(world.time_went_back);
        if (history.acknowledged > acknowledged_most) acknowledged_most = history.acknowledged;
        died = history.died;
        deaths += died;
    }
    print_message("[ survived death at %u operations, each %u. of them ]\n", deaths, step);
    assert_int_equal(acknowledged_most, CLIENTS * REQUESTS);
}

static void power_loss_at_any_operation_loses_nothing_acknowledged(void **state)
{
    (void)state;
    struct sim_disk_options disk = { 0 };
    die_at_operations(1, &disk.power_loss_at, &disk);
}

static void a_crash_at_any_operation_loses_nothing_acknowledged(void **state)
{
    (void)state;
    struct sim_disk_options disk = { 0 };
    die_at_operations(2, &disk.crash_at, &disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_loss_at_any_operation_loses_nothing_acknowledged),
        cmocka_unit_test(a_crash_at_any_operation_loses_nothing_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
