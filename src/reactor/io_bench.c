/* What a durable write costs by every road, so that write_sync can take the fastest.
 *
 * Method: one zero-filled file, 4 KiB writes one after another, each durable before the next. The
 * roads take turns within one run (the machine's disk swings by 2x from hour to hour), so only the
 * ratio to the first, a bare pwrite + fdatasync, means something. `io_bench FOLDER [ROUNDS]`. */
#include <fcntl.h>
#include <liburing.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 4096, ROUNDS_MAX = 20000, SPIN_NS = 50 * 1000 };

static int buffered;
static int direct;
static struct io_uring ring;
static unsigned char *block;
static unsigned next_block;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void must(bool good, const char *what)
{
    if (good) return;
    perror(what);
    exit(1);
}

static off_t place(void)
{
    next_block = (next_block + 1) % BLOCKS;
    return (off_t)next_block * BLOCK;
}

/* --- blocking ---
 */

static void write_then_sync(int file)
{
    must(pwrite(file, block, BLOCK, place()) == BLOCK, "pwrite");
    must(fdatasync(file) == 0, "fdatasync");
}

static void road_buffered(void)
{
    write_then_sync(buffered);
}

static void road_direct(void)
{
    write_then_sync(direct);
}

static void dsync(int file)
{
    struct iovec part = { .iov_base = block, .iov_len = BLOCK };
    must(pwritev2(file, &part, 1, place(), RWF_DSYNC) == BLOCK, "pwritev2");
}

static void road_buffered_dsync(void)
{
    dsync(buffered);
}

static void road_direct_dsync(void)
{
    dsync(direct);
}

/* --- io_uring ---
 */

static void ring_finish(unsigned count)
{
    io_uring_submit_and_wait(&ring, count);
    for (unsigned i = 0; i < count; i++) {
        struct io_uring_cqe *completion;
        must(io_uring_wait_cqe(&ring, &completion) == 0, "wait_cqe");
        must(completion->res >= 0, "completion");
        io_uring_cqe_seen(&ring, completion);
    }
}

static void ring_dsync(int file)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
    io_uring_prep_write(entry, file, block, BLOCK, (uint64_t)place());
    entry->rw_flags = RWF_DSYNC;
    ring_finish(1);
}

static void road_ring_direct_dsync(void)
{
    ring_dsync(direct);
}

static void ring_linked(int file)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
    io_uring_prep_write(entry, file, block, BLOCK, (uint64_t)place());
    entry->flags |= IOSQE_IO_LINK;
    entry = io_uring_get_sqe(&ring);
    io_uring_prep_fsync(entry, file, IORING_FSYNC_DATASYNC);
    ring_finish(2);
}

static void road_ring_buffered_linked(void)
{
    ring_linked(buffered);
}

static void road_ring_direct_linked(void)
{
    ring_linked(direct);
}

/* --- a thread ---
 */

static atomic_uint request;
static atomic_uint reply;
static atomic_uint thread_spins;
static int thread_file;

static void futex(atomic_uint *word, int operation, unsigned value)
{
    (void)syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

static void await(atomic_uint *word, unsigned value, uint64_t spin_ns)
{
    uint64_t end = spin_ns == 0 ? 0 : now_ns() + spin_ns;
    while (atomic_load(word) != value) {
        unsigned seen = atomic_load(word);
        if (seen == value) break;
        if (spin_ns != 0 && now_ns() < end) continue;
        futex(word, FUTEX_WAIT_PRIVATE, seen);
    }
}

static void *sync_thread(void *unused)
{
    (void)unused;
    for (unsigned turn = 1;; turn++) {
        await(&request, turn, atomic_load(&thread_spins) ? SPIN_NS : 0);
        if (thread_file < 0) return NULL;
        write_then_sync(thread_file);
        atomic_store(&reply, turn);
        futex(&reply, FUTEX_WAKE_PRIVATE, 1);
    }
}

static void thread_call(int file, uint64_t spin_ns)
{
    thread_file = file;
    unsigned turn = atomic_fetch_add(&request, 1) + 1;
    futex(&request, FUTEX_WAKE_PRIVATE, 1);
    await(&reply, turn, spin_ns);
}

static void road_thread(void)
{
    atomic_store(&thread_spins, 0);
    thread_call(buffered, 0);
}

static void road_thread_spin(void)
{
    atomic_store(&thread_spins, 1);
    thread_call(buffered, SPIN_NS);
}

/* --- the run ---
 */

static const struct road {
    const char *name;
    void (*run)(void);
} roads[] = {
    { "blocking pwrite + fdatasync, page cache", road_buffered },
    { "blocking pwrite + fdatasync, O_DIRECT", road_direct },
    { "blocking pwritev2 RWF_DSYNC, page cache", road_buffered_dsync },
    { "blocking pwritev2 RWF_DSYNC, O_DIRECT", road_direct_dsync },
    { "io_uring write RWF_DSYNC, O_DIRECT", road_ring_direct_dsync },
    { "io_uring linked write + fdatasync, page cache", road_ring_buffered_linked },
    { "io_uring linked write + fdatasync, O_DIRECT", road_ring_direct_linked },
    { "thread, futex both ways, page cache", road_thread },
    { "thread, both spin 50 us first, page cache", road_thread_spin },
};
enum { ROADS = sizeof roads / sizeof roads[0] };

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void fill(int file)
{
    for (off_t at = 0; at < BLOCKS; at++)
        must(pwrite(file, block, BLOCK, at * BLOCK) == BLOCK, "fill");
    must(fsync(file) == 0, "fsync");
}

int main(int count, char **arguments)
{
    static uint64_t taken[ROADS][ROUNDS_MAX];
    if (count < 2) {
        fputs("usage: io_bench FOLDER [ROUNDS]\n", stderr);
        return 2;
    }
    unsigned rounds = count > 2 ? (unsigned)strtoul(arguments[2], NULL, 10) : 500;
    if (rounds == 0 || rounds > ROUNDS_MAX) rounds = 500;
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/io_bench.tmp", arguments[1]);
    must(posix_memalign((void **)&block, BLOCK, BLOCK) == 0, "memory");
    memset(block, 0, BLOCK);
    buffered = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(buffered >= 0, path);
    direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    must(direct >= 0, "O_DIRECT");
    (void)unlink(path);
    fill(buffered);
    memset(block, 'x', BLOCK);
    struct io_uring_params parameters = { .flags = IORING_SETUP_SINGLE_ISSUER |
                                                   IORING_SETUP_DEFER_TASKRUN };
    must(io_uring_queue_init_params(8, &ring, &parameters) == 0, "io_uring");
    pthread_t thread;
    must(pthread_create(&thread, NULL, sync_thread, NULL) == 0, "thread");

    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned road = 0; road < ROADS; road++) {
            uint64_t begin = now_ns();
            roads[road].run();
            taken[road][round] = now_ns() - begin;
        }
    }
    thread_file = -1;
    atomic_fetch_add(&request, 1);
    futex(&request, FUTEX_WAKE_PRIVATE, 1);
    (void)pthread_join(thread, NULL);
    io_uring_queue_exit(&ring);

    printf("%-48s %9s %9s %9s %6s\n", "4 KiB durable", "p50 us", "p90 us", "p99 us", "ratio");
    double base = 0;
    for (unsigned road = 0; road < ROADS; road++) {
        qsort(taken[road], rounds, sizeof taken[road][0], compare);
        double median = (double)taken[road][rounds / 2] / 1e3;
        if (road == 0) base = median;
        printf("%-48s %9.1f %9.1f %9.1f %6.2f\n", roads[road].name, median,
               (double)taken[road][rounds * 9 / 10] / 1e3,
               (double)taken[road][rounds * 99 / 100] / 1e3, median / base);
    }
    free(block);
    return 0;
}
