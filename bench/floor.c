/* floor: what the machine itself takes for a durable put: one fdatasync of a zero-filled file, and
 * one TCP echo round trip.
 *
 *   floor FOLDER [COUNT] [SERVER_CPU CLIENT_CPU]
 *
 * Prints the medians of both and their sum: fdatasync_p50_us, echo_p50_us, sum_us. Everything is
 * pinned: the syncs and the echo's server to the one core, its client to the other. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK_BYTES = 4096, FILE_BLOCKS = 4096, MESSAGE_BYTES = 320, COUNT_MAX = 100000 };

static void die(const char *what)
{
    (void)fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_us(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare_double);
    return values[count / 2];
}

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) die("pin");
}

static double measure_sync(const char *folder, int count, double *values)
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/floor.%d", folder, (int)getpid());
    int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) die(path);
    (void)unlink(path);
    static uint8_t block[BLOCK_BYTES];
    for (int i = 0; i < FILE_BLOCKS; i++)
        if (pwrite(file, block, sizeof block, (off_t)i * BLOCK_BYTES) != BLOCK_BYTES) die("write");
    if (fsync(file) != 0) die("fsync");
    memset(block, 7, sizeof block);
    for (int i = 0; i < count; i++) {
        double began = now_us();
        off_t offset = (off_t)(i % FILE_BLOCKS) * BLOCK_BYTES;
        if (pwrite(file, block, sizeof block, offset) != BLOCK_BYTES) die("write");
        if (fdatasync(file) != 0) die("fdatasync");
        values[i] = now_us() - began;
    }
    (void)close(file);
    return median(values, count);
}

static void move(int descriptor, char *bytes, int write_it)
{
    for (size_t done = 0; done < MESSAGE_BYTES;) {
        ssize_t part = write_it ? write(descriptor, bytes + done, MESSAGE_BYTES - done)
                                : read(descriptor, bytes + done, MESSAGE_BYTES - done);
        if (part <= 0) exit(write_it ? 1 : 0);
        done += (size_t)part;
    }
}

static double measure_echo(int server_cpu, int client_cpu, int count, double *values)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        die("listen");
    int one = 1;
    char bytes[MESSAGE_BYTES] = { 0 };
    pid_t server = fork();
    if (server < 0) die("fork");
    if (server == 0) {
        pin(server_cpu);
        int peer = accept(listener, NULL, NULL);
        (void)setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        for (;;) {
            move(peer, bytes, 0);
            move(peer, bytes, 1);
        }
    }
    pin(client_cpu);
    int peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(peer, (struct sockaddr *)&address, size) != 0) die("connect");
    (void)setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (int i = 0; i < count; i++) {
        double began = now_us();
        move(peer, bytes, 1);
        move(peer, bytes, 0);
        values[i] = now_us() - began;
    }
    (void)close(peer);
    (void)close(listener);
    (void)kill(server, SIGKILL);
    (void)waitpid(server, NULL, 0);
    return median(values, count);
}

int main(int argument_count, char **arguments)
{
    if (argument_count != 2 && argument_count != 3 && argument_count != 5) {
        (void)fprintf(stderr, "usage: floor FOLDER [COUNT] [SERVER_CPU CLIENT_CPU]\n");
        return 2;
    }
    int count = argument_count > 2 ? atoi(arguments[2]) : 1000;
    if (count < 1 || count > COUNT_MAX) return 2;
    int server_cpu = argument_count > 4 ? atoi(arguments[3]) : 0;
    int client_cpu = argument_count > 4 ? atoi(arguments[4]) : 1;
    double *values = calloc((size_t)count, sizeof *values);
    if (values == NULL) die("memory");
    pin(server_cpu); /* where the server's sync would run: cores differ in their way to the disk */
    double sync_us = measure_sync(arguments[1], count, values);
    double echo_us = measure_echo(server_cpu, client_cpu, count, values);
    (void)printf("fdatasync_p50_us=%.1f echo_p50_us=%.1f sum_us=%.1f n=%d\n", sync_us, echo_us,
                 sync_us + echo_us, count);
    free(values);
    return 0;
}
