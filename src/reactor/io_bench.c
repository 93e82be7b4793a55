/* What a durable write costs by every road, so that write_sync can take the fastest; and what an
 * echo over TCP costs on both backends.
 *
 * Method: one zero-filled file, 4 KiB writes one after another, each durable before the next. The
 * roads take turns within one run (the machine's disk swings by 2x from hour to hour), so only the
 * ratio to the first, a bare pwrite + fdatasync, means something. The echo: a client process of 50
 * (then 1) connections on one core, the reactor on the other; the backends take turns; what counts
 * is the requests that one second of the reactor's CPU time answers.
 * `io_bench FOLDER [ROUNDS]`. */
#include "reactor/reactor.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/futex.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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

static void ring_dsync(int file, bool at_once)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
    io_uring_prep_write(entry, file, block, BLOCK, (uint64_t)place());
    entry->rw_flags = RWF_DSYNC;
    if (at_once) entry->flags |= IOSQE_ASYNC;
    ring_finish(1);
}

static void road_ring_direct_dsync(void)
{
    ring_dsync(direct, false);
}

static void road_ring_buffered_dsync(void)
{
    ring_dsync(buffered, false);
}

static void road_ring_buffered_dsync_at_once(void)
{
    ring_dsync(buffered, true);
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

/* --- the reactor ---
 */

enum { BACKENDS = 2 };
static const char *const backends[BACKENDS] = { "epoll", "io_uring" };
static struct reactor *reactors[BACKENDS];
static struct disk *disks[BACKENDS];
static struct disk_file *files[BACKENDS];
static const char *folder;

static void open_main(struct scope *root, void *context)
{
    (void)root;
    int which = *(int *)context;
    must(reactor_disk_open(fiber_reactor(), folder, &disks[which], NULL) == STATUS_OK, folder);
    must(disks[which]->open(disks[which], "io_bench.tmp", DISK_OPEN_WRITE | DISK_OPEN_DIRECT,
                            &files[which]) == STATUS_OK,
         "open");
}

static void close_main(struct scope *root, void *context)
{
    (void)root;
    int which = *(int *)context;
    disks[which]->close(files[which]);
    reactor_disk_close(disks[which]);
}

static void write_main(struct scope *root, void *context)
{
    (void)root;
    int which = *(int *)context;
    must(disks[which]->write_sync(files[which], (uint64_t)place(), block, BLOCK) == STATUS_OK,
         "write_sync");
}

static void run_on(int which, void (*main)(struct scope *, void *))
{
    must(reactor_run(reactors[which], main, &which) == STATUS_OK, "reactor_run");
}

static void nothing(void *unused)
{
    (void)unused;
}

/* Another fiber is ready, so the thread must not block. */
static void write_busy_main(struct scope *root, void *context)
{
    must(scope_spawn(root, "other", nothing, NULL) == STATUS_OK, "spawn");
    write_main(root, context);
}

static void road_reactor_epoll_busy(void)
{
    run_on(0, write_busy_main);
}

static void road_reactor_uring_busy(void)
{
    run_on(1, write_busy_main);
}

static void road_reactor_epoll(void)
{
    run_on(0, write_main);
}

static void road_reactor_uring(void)
{
    run_on(1, write_main);
}

/* --- echo ---
 */

enum { CONNECTIONS_MAX = 50, MESSAGE = 64, TURNS = 4, TURN_NS = 500 * 1000 * 1000 };

static void pin(unsigned core)
{
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    (void)sched_setaffinity(0, sizeof cores, &cores);
}

/* Never returns; ends with the connections. */
static void client_process(uint16_t port, unsigned connections)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    char message[MESSAGE] = { 0 };
    int one = 1;
    int watch = epoll_create1(0);
    pin(1);
    for (unsigned i = 0; i < connections; i++) {
        int number = socket(AF_INET, SOCK_STREAM, 0);
        must(connect(number, (struct sockaddr *)&address, sizeof address) == 0, "connect");
        (void)setsockopt(number, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = { .events = EPOLLIN, .data.fd = number };
        must(epoll_ctl(watch, EPOLL_CTL_ADD, number, &event) == 0, "epoll_ctl");
        must(send(number, message, MESSAGE, MSG_NOSIGNAL) == MESSAGE, "send");
    }
    for (;;) {
        struct epoll_event events[CONNECTIONS_MAX];
        int count = epoll_wait(watch, events, CONNECTIONS_MAX, -1);
        for (int i = 0; i < count; i++) {
            int number = events[i].data.fd;
            if (recv(number, message, MESSAGE, 0) != MESSAGE) _exit(0);
            if (send(number, message, MESSAGE, MSG_NOSIGNAL) != MESSAGE) _exit(0);
        }
    }
}

struct echo {
    struct listener *listener;
    unsigned connections;
    uint64_t requests;
    double seconds;
    double cpu_seconds;
    struct stream *accepted[CONNECTIONS_MAX];
    unsigned count;
};

static void echo_fiber(void *argument)
{
    struct echo *echo = argument;
    struct stream *stream = echo->accepted[echo->count++];
    char message[MESSAGE];
    size_t size;
    while (stream_read(stream, message, sizeof message, DEADLINE_NEVER, &size) == STATUS_OK &&
           size > 0) {
        if (stream_write(stream, message, size, DEADLINE_NEVER) != STATUS_OK) break;
        echo->requests++;
    }
    stream_close(stream);
}

static double thread_cpu_seconds(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_THREAD, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void echo_main(struct scope *root, void *context)
{
    struct echo *echo = context;
    struct network *network = reactor_network(fiber_reactor());
    struct scope scope;
    must(network->listen(network, "127.0.0.1:0", &echo->listener, NULL) == STATUS_OK, "listen");
    const char *address = echo->listener->operations->address(echo->listener);
    uint16_t port = (uint16_t)strtoul(strrchr(address, ':') + 1, NULL, 10);
    pid_t child = fork();
    if (child == 0) client_process(port, echo->connections);
    scope_init(&scope, root);
    for (unsigned i = 0; i < echo->connections; i++) {
        must(echo->listener->operations->accept(echo->listener, DEADLINE_NEVER,
                                                &echo->accepted[i]) == STATUS_OK,
             "accept");
        must(scope_spawn(&scope, "echo", echo_fiber, echo) == STATUS_OK, "spawn");
    }
    uint64_t begin = now_ns();
    uint64_t requests = echo->requests;
    double cpu = thread_cpu_seconds();
    must(fiber_sleep_ns(TURN_NS) == STATUS_OK, "sleep");
    echo->requests -= requests;
    echo->seconds = (double)(now_ns() - begin) / 1e9;
    echo->cpu_seconds = thread_cpu_seconds() - cpu;
    requests = echo->requests;
    scope_cancel(&scope);
    scope_join(&scope);
    echo->requests = requests;
    echo->listener->operations->close(echo->listener);
    (void)waitpid(child, NULL, 0);
}

static void bench_echo(unsigned connections)
{
    double requests[BACKENDS] = { 0 }, seconds[BACKENDS] = { 0 }, cpu[BACKENDS] = { 0 };
    for (int turn = 0; turn < TURNS * BACKENDS; turn++) {
        int which = turn % BACKENDS;
        struct echo echo = { .connections = connections };
        must(reactor_run(reactors[which], echo_main, &echo) == STATUS_OK, "reactor_run");
        requests[which] += (double)echo.requests;
        seconds[which] += echo.seconds;
        cpu[which] += echo.cpu_seconds;
    }
    for (int which = 0; which < BACKENDS; which++)
        printf("echo, %2u connections, %-9s %9.0f a second, %9.0f a CPU second, %6.1f us each\n",
               connections, backends[which], requests[which] / seconds[which],
               requests[which] / cpu[which], seconds[which] / requests[which] * 1e6 * connections);
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
    { "io_uring write RWF_DSYNC, page cache", road_ring_buffered_dsync },
    { "the same, to a kernel worker at once", road_ring_buffered_dsync_at_once },
    { "io_uring linked write + fdatasync, page cache", road_ring_buffered_linked },
    { "io_uring linked write + fdatasync, O_DIRECT", road_ring_direct_linked },
    { "thread, futex both ways, page cache", road_thread },
    { "thread, both spin 50 us first, page cache", road_thread_spin },
    { "the reactor's write_sync, epoll, idle", road_reactor_epoll },
    { "the reactor's write_sync, io_uring, idle", road_reactor_uring },
    { "the reactor's write_sync, epoll, busy", road_reactor_epoll_busy },
    { "the reactor's write_sync, io_uring, busy", road_reactor_uring_busy },
};
enum { ROADS = sizeof roads / sizeof roads[0] };

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* The value that PERCENT of them stay below. */
static const uint64_t *part(const uint64_t *sorted, unsigned count, unsigned percent)
{
    return &sorted[count * percent / 100];
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
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/io_bench.tmp", arguments[1]);
    must(posix_memalign((void **)&block, BLOCK, BLOCK) == 0, "memory");
    memset(block, 0, BLOCK);
    buffered = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(buffered >= 0, path);
    direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    must(direct >= 0, "O_DIRECT");
    fill(buffered);
    folder = arguments[1];
    for (int which = 0; which < BACKENDS; which++) {
        struct reactor_options options = { .backend = backends[which] };
        must(reactor_create(&options, &reactors[which], NULL) == STATUS_OK, backends[which]);
        run_on(which, open_main);
    }
    (void)unlink(path);
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
        double median = (double)*part(taken[road], rounds, 50) / 1e3;
        if (road == 0) base = median;
        printf("%-48s %9.1f %9.1f %9.1f %6.2f\n", roads[road].name, median,
               (double)*part(taken[road], rounds, 90) / 1e3,
               (double)*part(taken[road], rounds, 99) / 1e3, median / base);
    }
    pin(0);
    bench_echo(CONNECTIONS_MAX);
    bench_echo(1);
    for (int which = 0; which < BACKENDS; which++) {
        run_on(which, close_main);
        reactor_destroy(reactors[which]);
    }
    free(block);
    return 0;
}
