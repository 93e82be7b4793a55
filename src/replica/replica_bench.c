/* How long does a durable proposal take, and how many does one disk carry?
 *
 * A group whose state machine puts one key, on a real disk: one proposer after another, then 64 at
 * once, beside a bare write + fdatasync of a zero-filled file in the same run.
 * Usage: replica_bench FOLDER [SECONDS] */
#include "replica/replica.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PROPOSERS_MAX = 64, SAMPLES_MAX = 1 << 20, PAYLOAD_BYTES = 128 };

struct bench {
    const char *folder;
    struct disk *disk, *store_disk;
    struct reactor *reactor;
    struct replica *replica;
    uint64_t end_ns;
    uint64_t *samples_ns;
    size_t count;
    int exit_status;
};

static uint64_t now_ns(struct bench *bench)
{
    uint64_t now;
    clock_monotonic_ns(reactor_clock(bench->reactor), &now);
    return now;
}

/* --- a machine that puts -----------------------------------------------------------------------
 */

static enum status put_open(struct state_machine *machine, const struct store_range *range,
                            struct error *error)
{
    (void)machine, (void)range, (void)error;
    return STATUS_OK;
}

static enum status put_apply(struct state_machine *machine, const struct apply_context *context,
                             struct error *error)
{
    (void)machine, (void)error;
    uint8_t key[9] = { 'k' };
    store_u64_be(key + 1, context->index % 1000);
    store_batch_put(context->batch, context->range, bytes_of(key, sizeof key),
                    context->entry->payload);
    return buffer_append(context->reply, "ok", 2);
}

static void put_applied(struct state_machine *machine, uint64_t index)
{
    (void)machine, (void)index;
}

static uint64_t put_deadline(const struct state_machine *machine)
{
    (void)machine;
    return UINT64_MAX;
}

static void put_close(struct state_machine *machine)
{
    free(machine);
}

static enum status put_create(void *context, const struct group_description *group,
                              struct state_machine **ret_machine, struct error *error)
{
    static const struct state_machine_operations operations = {
        .kind = "put",
        .open = put_open,
        .apply = put_apply,
        .applied = put_applied,
        .next_deadline_ms = put_deadline,
        .close = put_close,
    };
    (void)context, (void)group, (void)error;
    struct state_machine *machine = malloc(sizeof *machine);
    if (machine == NULL) return STATUS_NO_MEMORY;
    machine->operations = &operations;
    *ret_machine = machine;
    return STATUS_OK;
}

/* --- load --------------------------------------------------------------------------------------
 */

static int compare_samples(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return *x < *y ? -1 : *x > *y;
}

static void add_sample(struct bench *bench, uint64_t ns)
{
    if (bench->count < SAMPLES_MAX) bench->samples_ns[bench->count++] = ns;
}

static void report(struct bench *bench, const char *what, uint64_t elapsed_ns)
{
    if (bench->count == 0) return;
    qsort(bench->samples_ns, bench->count, sizeof *bench->samples_ns, compare_samples);
    uint64_t median_ns = bench->samples_ns[bench->count / 2];
    uint64_t slow_ns = bench->samples_ns[bench->count * 99 / 100];
    printf("%-28s %8.0f /s   p50 %6.1f us   p99 %6.1f us\n", what,
           (double)bench->count * 1e9 / (double)elapsed_ns, (double)median_ns / 1000,
           (double)slow_ns / 1000);
    bench->count = 0;
}

static void proposer(void *argument)
{
    struct bench *bench = argument;
    uint8_t payload[PAYLOAD_BYTES] = { 1 };
    struct buffer reply;
    buffer_init(&reply, 64);
    for (;;) {
        uint64_t start_ns = now_ns(bench);
        if (start_ns >= bench->end_ns) break;
        struct replica_request request = { .payload = bytes_of(payload, sizeof payload),
                                           .deadline_ns = DEADLINE_NEVER };
        struct error error = { 0 };
        uint64_t index;
        if (replica_propose(bench->replica, &request, &reply, &index, &error) != STATUS_OK) {
            fprintf(stderr, "propose: %s\n", error.text);
            bench->exit_status = 1;
            break;
        }
        add_sample(bench, now_ns(bench) - start_ns);
    }
    buffer_finish(&reply);
}

static void propose_by(struct bench *bench, unsigned count, uint64_t duration_ns, const char *what)
{
    struct scope scope;
    uint64_t start_ns = now_ns(bench);
    bench->end_ns = start_ns + duration_ns;
    scope_init(&scope, fiber_scope());
    for (unsigned i = 0; i < count; i++) {
        if (scope_spawn(&scope, "proposer", proposer, bench) != STATUS_OK) bench->exit_status = 1;
    }
    scope_join(&scope);
    report(bench, what, now_ns(bench) - start_ns);
}

static void bare_syncs(struct bench *bench, uint64_t duration_ns)
{
    enum { FILE_BYTES = 4 * 1024 * 1024, BLOCK_BYTES = 4096 };
    struct disk *disk = bench->disk;
    struct disk_file *file;
    uint8_t *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    if (block == NULL) return;
    memset(block, 0, BLOCK_BYTES);
    enum status status = disk->open(disk, "bare", DISK_OPEN_CREATE | DISK_OPEN_DIRECT, &file);
    for (uint64_t at = 0; status == STATUS_OK && at < FILE_BYTES; at += BLOCK_BYTES) {
        status = disk->write(file, at, block, BLOCK_BYTES);
    }
    if (status == STATUS_OK) status = disk->sync(file);
    uint64_t begin_ns = now_ns(bench);
    for (uint64_t at = 0; status == STATUS_OK && now_ns(bench) < begin_ns + duration_ns;
         at = (at + BLOCK_BYTES) % FILE_BYTES) {
        uint64_t start_ns = now_ns(bench);
        status = disk->write_sync(file, at, block, BLOCK_BYTES);
        add_sample(bench, now_ns(bench) - start_ns);
    }
    report(bench, "bare write + fdatasync", now_ns(bench) - begin_ns);
    disk->close(file);
    free(block);
}

static enum status open_group(struct bench *bench, struct scope *root,
                              struct replica_host **ret_host, struct error *error)
{
    struct replica_host_options options = {
        .reactor = bench->reactor,
        .scope = root,
        .disk = bench->disk,
        .store_disk = bench->store_disk,
        .clock = reactor_clock(bench->reactor),
        .random = reactor_random(bench->reactor),
        .computer = { { 1 } },
        .machine = { { 2 } },
        .disk_incarnation = { { 3 } },
    };
    struct state_machine_kind kind = { .kind = "put", .create = put_create };
    uint64_t group;
    enum status status = replica_host_open(&options, ret_host, error);
    if (status != STATUS_OK) return status;
    status = replica_register_kind(*ret_host, &kind);
    if (status == STATUS_OK) status = replica_host_start(*ret_host, error);
    if (status == STATUS_OK)
        status = replica_create_group(*ret_host, "put", "bench", &group, error);
    if (status == STATUS_OK || status == STATUS_EXISTS) {
        status = replica_find(*ret_host, "put", "bench", &bench->replica);
    }
    return status;
}

static void bench_main(struct scope *root, void *context)
{
    struct bench *bench = context;
    struct replica_host *host = NULL;
    struct error error = { 0 };
    uint64_t duration_ns = bench->end_ns;
    if (open_group(bench, root, &host, &error) != STATUS_OK) {
        fprintf(stderr, "replica_bench: %s\n", error.text);
        bench->exit_status = 1;
    } else {
        for (unsigned round = 0; round < 2; round++) {
            bare_syncs(bench, duration_ns);
            propose_by(bench, 1, duration_ns, "1 proposer");
            propose_by(bench, PROPOSERS_MAX, duration_ns, "64 proposers");
        }
        struct replica_figures figures = replica_figures(bench->replica);
        printf("%" PRIu64 " entries, kept from %" PRIu64 "\n", figures.last_index,
               figures.first_index);
    }
    replica_host_close(host);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: replica_bench FOLDER [SECONDS]\n");
        return 2;
    }
    struct bench bench = { .folder = argv[1] };
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 2;
    bench.end_ns = (uint64_t)(seconds * 1e9);
    bench.samples_ns = calloc(SAMPLES_MAX, sizeof *bench.samples_ns);
    struct reactor_options options = { 0 };
    struct error error = { 0 };
    if (bench.samples_ns == NULL || reactor_create(&options, &bench.reactor, &error) != STATUS_OK ||
        reactor_disk_open(bench.reactor, bench.folder, &bench.disk, &error) != STATUS_OK ||
        blocking_disk_open(bench.folder, &bench.store_disk, &error) != STATUS_OK ||
        reactor_run(bench.reactor, bench_main, &bench) != STATUS_OK) {
        fprintf(stderr, "replica_bench: %s\n", error.text);
        return 1;
    }
    blocking_disk_close(bench.store_disk);
    reactor_disk_close(bench.disk);
    reactor_destroy(bench.reactor);
    free(bench.samples_ns);
    return bench.exit_status;
}
