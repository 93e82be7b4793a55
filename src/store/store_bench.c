/* What journal and store cost on this machine's disk, beside the bare system calls.
 *
 *   store_bench FOLDER    (an empty one on the disk to measure; it is left empty)
 *
 * The journal's flush and the bare pwrite + fdatasync of a zero-filled file are interleaved in one
 * run, because disks swing from minute to minute: compare by ratio. */
#include "store/journal.h"
#include "store/store.h"

#include "reactor/reactor.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    FLUSHES = 1500,
    BARE_BYTES = 16 * 1024 * 1024,
    STAGED = 400 * 1000,
    ENTRY_BYTES = 300,
    PUTS = 20 * 1000,
    FILL_BYTES = 100 * 1000 * 1000,
};

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void must(bool held, const char *what)
{
    if (held) return;
    fprintf(stderr, "store_bench: %s failed\n", what);
    exit(1);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static double percentile_us(uint64_t *samples, size_t count, unsigned percent)
{
    qsort(samples, count, sizeof *samples, compare_u64);
    uint64_t sample = samples[count * percent / 100];
    return (double)sample / 1000;
}

static uint64_t private_dirty_kb(void)
{
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    if (file == NULL) return 0;
    char line[256];
    uint64_t kb = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        static const char name[] = "Private_Dirty:";
        if (strncmp(line, name, sizeof name - 1) != 0) continue;
        kb = strtoull(line + sizeof name - 1, NULL, 10);
        break;
    }
    fclose(file);
    return kb;
}

static void bench_flush(struct disk *disk, const char *folder)
{
    struct journal *journal;
    struct error error = { 0 };
    struct journal_options options = { .folder = "journal", .disk_incarnation = { { 1 } } };
    uint64_t start = now_ns();
    must(journal_open(disk, &options, &journal, &error) == STATUS_OK, error.text);
    printf("journal: first open (one segment zero-filled)  %8.1f ms\n",
           (double)(now_ns() - start) / 1e6);
    must(journal_maintain(journal, NULL) == STATUS_OK, "journal_maintain");

    char path[512];
    snprintf(path, sizeof path, "%s/bare", folder);
    int bare = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    int direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    uint8_t *zeros = aligned_alloc(4096, BARE_BYTES);
    must(bare >= 0 && direct >= 0 && zeros != NULL, "bare file");
    memset(zeros, 0, BARE_BYTES);
    must(pwrite(bare, zeros, BARE_BYTES, 0) == BARE_BYTES && fsync(bare) == 0, "bare file");

    static uint64_t bare_ns[FLUSHES], direct_ns[FLUSHES], flush_ns[FLUSHES];
    uint8_t entry[ENTRY_BYTES] = { 1 };
    for (unsigned i = 0; i < FLUSHES; i++) {
        start = now_ns();
        must(pwrite(bare, zeros, 4096, (off_t)i * 4096) == 4096 && fdatasync(bare) == 0, "bare");
        bare_ns[i] = now_ns() - start;
        start = now_ns();
        must(pwrite(direct, zeros, 4096, (off_t)(i + FLUSHES) * 4096) == 4096 &&
                 fdatasync(direct) == 0,
             "bare O_DIRECT");
        direct_ns[i] = now_ns() - start;
        start = now_ns();
        must(journal_append(journal, 1, i + 1, 1, bytes_of(entry, sizeof entry)) == STATUS_OK &&
                 journal_flush(journal, NULL) == STATUS_OK,
             "journal");
        flush_ns[i] = now_ns() - start;
    }
    double bare_us = percentile_us(bare_ns, FLUSHES, 50);
    double flush_us = percentile_us(flush_ns, FLUSHES, 50);
    printf("bare pwrite 4 KiB + fdatasync      p50 %8.1f us   p99 %8.1f us\n", bare_us,
           percentile_us(bare_ns, FLUSHES, 99));
    printf("bare O_DIRECT + fdatasync          p50 %8.1f us   p99 %8.1f us\n",
           percentile_us(direct_ns, FLUSHES, 50), percentile_us(direct_ns, FLUSHES, 99));
    printf("journal append 300 B + flush       p50 %8.1f us   p99 %8.1f us   %.2fx of bare\n",
           flush_us, percentile_us(flush_ns, FLUSHES, 99), flush_us / bare_us);
    close(bare);
    close(direct);
    unlink(path);
    free(zeros);
    journal_close(journal);
}

static void bench_staging(struct disk *disk)
{
    struct journal *journal;
    struct error error = { 0 };
    struct journal_options options = { .folder = "journal", .disk_incarnation = { { 1 } } };
    uint64_t start = now_ns();
    must(journal_open(disk, &options, &journal, &error) == STATUS_OK, error.text);
    printf("journal: open with one segment in use          %8.1f ms\n",
           (double)(now_ns() - start) / 1e6);
    uint8_t entry[ENTRY_BYTES] = { 1 };
    struct journal_group group;
    must(journal_find_group(journal, 1, &group) == STATUS_OK, "find");
    uint64_t staging_ns = 0, flushing_ns = 0, index = group.last_index;
    for (unsigned i = 0; i < STAGED; i += 1000) {
        start = now_ns();
        for (unsigned j = 0; j < 1000; j++) {
            index++;
            enum status status =
                journal_append(journal, 1, index, 1, bytes_of(entry, sizeof entry));
            must(status == STATUS_OK, status_name(status));
        }
        staging_ns += now_ns() - start;
        must(journal_release(journal, 1, index - 500) == STATUS_OK, "release");
        start = now_ns();
        must(journal_flush(journal, &error) == STATUS_OK, error.text);
        flushing_ns += now_ns() - start;
        if (journal_wants_maintenance(journal)) {
            must(journal_maintain(journal, &error) == STATUS_OK, error.text);
        }
    }
    printf("journal: staging                               %8.1f ns an entry of 300 B "
           "(50,000/s: %.1f %% of a core)\n",
           (double)staging_ns / STAGED, (double)staging_ns / STAGED * 50000 / 1e7);
    printf("journal: flush of 1,000 entries                %8.1f us\n",
           (double)flushing_ns / 1000 / (STAGED / 1000.0));
    journal_close(journal);
}

static void bench_small(struct store *store, const struct store_range *range,
                        struct store_batch *batch)
{
    struct error error = { 0 };
    uint8_t value[100] = { 7 };
    char key[32];
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < PUTS; i++) {
        store_batch_clear(batch);
        for (unsigned j = 0; j < 4; j++) {
            int size = snprintf(key, sizeof key, "key-%08" PRIu64 "-%u", i, j);
            store_batch_put(batch, range, bytes_of(key, (size_t)size),
                            bytes_of(value, sizeof value));
        }
        enum status status = store_write(store, batch, &error);
        if (status == STATUS_BUSY) {
            must(store_flush(store, &error) == STATUS_OK, error.text);
            status = store_write(store, batch, &error);
        }
        must(status == STATUS_OK, error.text);
    }
    printf("store: batch of 4 puts of 100 B                %8.2f us\n",
           (double)(now_ns() - start) / 1000 / PUTS);
    struct buffer buffer;
    buffer_init(&buffer, 4096);
    start = now_ns();
    for (uint64_t i = PUTS - 10000; i < PUTS; i++) {
        int size = snprintf(key, sizeof key, "key-%08" PRIu64 "-%u", i, 2);
        must(store_get(range, NULL, bytes_of(key, (size_t)size), &buffer) == STATUS_OK, "get");
    }
    printf("store: get from the memtable                   %8.2f us\n",
           (double)(now_ns() - start) / 1000 / 10000);
    buffer_finish(&buffer);
}

static void fill_with_large(struct store *store, const struct store_range *range,
                            struct store_batch *batch)
{
    static uint8_t large[10000];
    struct error error = { 0 };
    char key[32];
    uint64_t written = 0;
    for (uint64_t i = 0; written < FILL_BYTES; i++, written += sizeof large) {
        store_batch_clear(batch);
        int size = snprintf(key, sizeof key, "large-%08" PRIu64, i * 7919 % 100003);
        store_batch_put(batch, range, bytes_of(key, (size_t)size), bytes_of(large, sizeof large));
        enum status status;
        while ((status = store_write(store, batch, &error)) == STATUS_BUSY) {
            must(store_flush(store, &error) == STATUS_OK, error.text);
        }
        must(status == STATUS_OK, error.text);
    }
}

static void bench_store(struct disk *disk)
{
    uint64_t before_kb = private_dirty_kb();
    struct store *store;
    struct error error = { 0 };
    struct store_options options = { .folder = "store" };
    uint64_t start = now_ns();
    must(store_open(disk, &options, &store, &error) == STATUS_OK, error.text);
    printf("store: open, empty                             %8.1f ms\n",
           (double)(now_ns() - start) / 1e6);
    printf("store: private dirty memory of it, idle        %8" PRIu64 " KB (process %" PRIu64
           " KB)\n",
           private_dirty_kb() - before_kb, private_dirty_kb());

    struct store_range range = { .store = store, .group = 1, .generation = 1 };
    struct store_batch *batch;
    must(store_batch_create(store, &batch) == STATUS_OK, "batch");
    bench_small(store, &range, batch);
    fill_with_large(store, &range, batch);
    start = now_ns();
    must(store_flush(store, &error) == STATUS_OK, error.text);
    printf("store: flush of a memtable                     %8.1f ms\n",
           (double)(now_ns() - start) / 1e6);
    printf("store: private dirty memory of it, used        %8" PRIu64 " KB\n",
           private_dirty_kb() - before_kb);
    store_batch_destroy(batch);
    store_close(store);
    start = now_ns();
    must(store_open(disk, &options, &store, &error) == STATUS_OK, error.text);
    printf("store: open with 100 MB                        %8.1f ms\n",
           (double)(now_ns() - start) / 1e6);
    store_close(store);
}

static void empty_folder(struct disk *disk, const char *folder)
{
    struct disk_entry *entries = malloc(2048 * sizeof *entries);
    size_t count = 0;
    must(entries != NULL, "memory");
    if (disk->list(disk, folder, entries, 2048, &count) == STATUS_OK) {
        for (size_t i = 0; i < count; i++) {
            char path[600];
            snprintf(path, sizeof path, "%s/%s", folder, entries[i].name);
            (void)!disk->remove(disk, path);
        }
    }
    (void)!disk->remove(disk, folder);
    free(entries);
}

int main(int argument_count, char **arguments)
{
    if (argument_count != 2) {
        fprintf(stderr, "usage: store_bench FOLDER\n");
        return 2;
    }
    struct disk *disk;
    struct error error = { 0 };
    must(blocking_disk_open(arguments[1], &disk, &error) == STATUS_OK, error.text);
    bench_store(disk);
    bench_flush(disk, arguments[1]);
    bench_staging(disk);
    empty_folder(disk, "journal");
    empty_folder(disk, "store");
    blocking_disk_close(disk);
    return 0;
}
