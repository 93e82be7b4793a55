/* What a space costs on the real store, without log, network and sync: CPU time per operation.
 *
 *   registry_bench FOLDER [PUTS]   (a folder on the disk; "store" in it must not be there)
 *
 * Puts of 256 bytes over 100,000 random keys, first into an empty space, then with a full history,
 * when every put also compacts one; then gets, ranges, past gets, and puts with 10,000 watches. */
#include "base/random.h"
#include "reactor/reactor.h"
#include "registry/registry_harness.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { KEYS = 100000, VALUE_BYTES = 256, WATCHES = 10000 };

struct bench {
    struct registry_harness harness;
    struct random_seeded random;
    char key[32];
    uint64_t puts;
    uint64_t wall_ns, cpu_ns, thread_ns;
    struct registry_watch *watches[WATCHES];
    uint64_t told;
};

static uint64_t read_ns(clockid_t clock)
{
    struct timespec time;
    (void)clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void begin(struct bench *bench)
{
    bench->wall_ns = read_ns(CLOCK_MONOTONIC);
    bench->cpu_ns = read_ns(CLOCK_PROCESS_CPUTIME_ID);
    bench->thread_ns = read_ns(CLOCK_THREAD_CPUTIME_ID);
}

static void end(struct bench *bench, const char *what, uint64_t count)
{
    double thread_us = (double)(read_ns(CLOCK_THREAD_CPUTIME_ID) - bench->thread_ns) / 1e3;
    double cpu_us = (double)(read_ns(CLOCK_PROCESS_CPUTIME_ID) - bench->cpu_ns) / 1e3;
    double wall_us = (double)(read_ns(CLOCK_MONOTONIC) - bench->wall_ns) / 1e3;
    printf("%-42s %8.2f us of our thread, %8.2f us of all threads each; %8.0f a second\n", what,
           thread_us / (double)count, cpu_us / (double)count, (double)count / wall_us * 1e6);
}

static struct bytes random_key(struct bench *bench)
{
    uint64_t number;
    random_below(&bench->random.random, KEYS, &number);
    snprintf(bench->key, sizeof bench->key, "/service/web/%06" PRIu64, number);
    return bytes_of_text(bench->key);
}

static void put(struct bench *bench)
{
    static uint8_t value[VALUE_BYTES];
    random_u64(&bench->random.random, (uint64_t *)(void *)value);
    struct registry_operation operation = { .kind = REGISTRY_PUT,
                                            .key = random_key(bench),
                                            .value = bytes_of(value, sizeof value) };
    struct registry_command command = { .success = &operation, .success_count = 1 };
    struct registry_reply reply = harness_apply(&bench->harness, &command);
    if (reply.status != STATUS_OK) abort();
}

static void get(struct bench *bench, struct bytes end_key, uint64_t limit, uint64_t revision)
{
    struct registry_operation operation = { .kind = REGISTRY_RANGE,
                                            .key = random_key(bench),
                                            .end = end_key,
                                            .limit = limit,
                                            .revision = revision };
    struct registry_response response;
    uint64_t unused;
    arena_clear(&bench->harness.arena);
    if (registry_range(bench->harness.first.registry, &operation, &bench->harness.arena, &unused,
                       &response, NULL) != STATUS_OK) {
        abort();
    }
}

static void told(void *context)
{
    struct bench *bench = context;
    bench->told++;
}

static void watch_all(struct bench *bench)
{
    for (unsigned i = 0; i < WATCHES; i++) {
        struct registry_watch_options options = { .key = random_key(bench),
                                                  .notify = told,
                                                  .context = bench };
        if (registry_watch_create(bench->harness.first.registry, &options, &bench->watches[i],
                                  NULL) != STATUS_OK) {
            abort();
        }
    }
}

static void run(struct bench *bench)
{
    uint64_t puts = bench->puts;
    begin(bench);
    for (uint64_t i = 0; i < REGISTRY_HISTORY_REVISIONS_MAX; i++) put(bench);
    end(bench, "puts of 256 B, history not full", REGISTRY_HISTORY_REVISIONS_MAX);
    begin(bench);
    for (uint64_t i = 0; i < puts; i++) put(bench);
    end(bench, "puts of 256 B, each forgets one", puts);
    begin(bench);
    for (uint64_t i = 0; i < puts; i++) get(bench, bytes_of(NULL, 0), 0, 0);
    end(bench, "gets", puts);
    begin(bench);
    for (uint64_t i = 0; i < puts / 100; i++) get(bench, bytes_of("", 1), 100, 0);
    end(bench, "ranges of 100 (counting the rest)", puts / 100);
    struct registry_figures figures = registry_figures(bench->harness.first.registry);
    begin(bench);
    for (uint64_t i = 0; i < puts; i++) {
        get(bench, bytes_of(NULL, 0), 0, figures.compact_revision + 1);
    }
    end(bench, "gets of the oldest revision", puts);
    watch_all(bench);
    begin(bench);
    for (uint64_t i = 0; i < puts; i++) put(bench);
    end(bench, "puts of 256 B, 10,000 watches of one key", puts);
    printf("watches told: %" PRIu64 "\n", bench->told);
    for (unsigned i = 0; i < WATCHES; i++) registry_watch_destroy(bench->watches[i]);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: registry_bench FOLDER [PUTS]\n");
        return 2;
    }
    static struct bench bench;
    bench.puts = argc > 2 ? strtoull(argv[2], NULL, 10) : 100000;
    random_seeded_init(&bench.random, 1);
    struct error error = { 0 };
    struct disk *disk;
    struct store *store;
    struct store_options options = { .folder = "store" };
    if (blocking_disk_open(argv[1], &disk, &error) != STATUS_OK ||
        store_open(disk, &options, &store, &error) != STATUS_OK) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    harness_init(&bench.harness, store, NULL, NULL);
    run(&bench);
    harness_finish(&bench.harness);
    store_close(store);
    blocking_disk_close(disk);
    return 0;
}
