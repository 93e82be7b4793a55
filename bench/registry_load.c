/* registry_load: closed-loop load on a registry, the same generator for Unum's API and for etcd's.
 *
 *   registry_load --api unum|etcd --op put|get [--address 127.0.0.1:PORT] [--clients N]
 *                 [--connections N] [--count N] [--seconds N] [--value-bytes N] [--keys N]
 *
 * CLIENTS requests are outstanding at any time, spread over the connections; each is a durable put
 * of a random key, or a linearizable get of one. HTTP/2 without TLS on both sides. One thread.
 * Prints one line: rate, p50_us, p99_us, max_us, n, errors, generator CPU per operation. */
#include "base/random.h"
#include "wire/grpc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    CONNECTIONS_MAX = 256,
    CLIENTS_MAX = 1024,
    LATENCIES_MAX = 8 * 1000 * 1000,
    VALUE_BYTES_MAX = 64 * 1024,
    OUTPUT_BYTES = 256 * 1024,
};

struct connection {
    int descriptor;
    struct grpc_connection *grpc;
    uint8_t output[OUTPUT_BYTES];
    size_t output_used, output_sent;
    bool wants_write;
};

struct client {
    struct connection *connection;
    uint64_t started_ns;
};

struct load {
    bool etcd, put;
    const char *path;
    uint64_t count_max, end_ns, started, finished, errors;
    uint32_t key_count;
    size_t value_bytes;
    uint8_t *value;
    uint32_t *latencies_us;
    unsigned live;
    int poll;
    struct random_seeded random;
    struct client clients[CLIENTS_MAX];
    struct connection *connections[CONNECTIONS_MAX];
    unsigned connection_count, client_count;
};

static struct load load;

static uint64_t now_ns(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000ull + (uint64_t)time.tv_nsec;
}

static void die(const char *what)
{
    (void)fprintf(stderr, "registry_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void put_field(struct writer *writer, unsigned field, struct bytes bytes)
{
    writer_put_varint(writer, (uint64_t)field << 3 | 2);
    writer_put_bytes(writer, bytes);
}

/* One request; false when there are enough. */
static bool start_request(struct client *client)
{
    if (load.started >= load.count_max || now_ns() >= load.end_ns) return false;
    uint64_t number;
    random_below(&load.random.random, load.key_count, &number);
    char key[32];
    (void)snprintf(key, sizeof key, "bench/%08" PRIx64, number);
    static uint8_t memory[VALUE_BYTES_MAX + 256];
    struct writer writer = writer_of(memory, sizeof memory);
    /* etcd: key 1, value 2 (Range: key 1). Unum: key 3, value 4 (Range: key 3). */
    put_field(&writer, load.etcd ? 1 : 3, bytes_of_text(key));
    if (load.put) put_field(&writer, load.etcd ? 2 : 4, bytes_of(load.value, load.value_bytes));
    struct grpc_call *call;
    if (grpc_call_start(client->connection->grpc, load.path, UINT64_MAX, client, &call) !=
            STATUS_OK ||
        grpc_call_send(call, bytes_of(memory, writer.used)) != STATUS_OK)
        die("cannot start a call");
    grpc_call_half_close(call);
    client->started_ns = now_ns();
    load.started++;
    load.live++;
    return true;
}

static void on_message(void *context, struct grpc_call *call, struct bytes message)
{
    (void)context;
    (void)call;
    (void)message;
}

static void on_half_closed(void *context, struct grpc_call *call)
{
    (void)context;
    (void)call;
}

static void on_ended(void *context, struct grpc_call *call, enum grpc_status status,
                     const char *text)
{
    (void)context;
    struct client *client = grpc_call_attachment(call);
    load.live--;
    if (status != GRPC_OK) {
        if (load.errors++ < 3)
            (void)fprintf(stderr, "registry_load: status %d: %s\n", (int)status, text ? text : "");
    } else if (load.finished < LATENCIES_MAX) {
        load.latencies_us[load.finished++] = (uint32_t)((now_ns() - client->started_ns) / 1000);
    }
    (void)start_request(client);
}

static const struct grpc_events events = { .message = on_message,
                                           .half_closed = on_half_closed,
                                           .ended = on_ended };

static void flush(struct connection *connection)
{
    for (;;) {
        if (connection->output_sent == connection->output_used) {
            connection->output_sent = connection->output_used = 0;
            size_t used;
            if (grpc_output(connection->grpc, connection->output, sizeof connection->output,
                            &used) != STATUS_OK)
                die("HTTP/2");
            connection->output_used = used;
            if (used == 0) break;
        }
        ssize_t sent = send(connection->descriptor, connection->output + connection->output_sent,
                            connection->output_used - connection->output_sent, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) die("send");
        if (sent < 0) break;
        connection->output_sent += (size_t)sent;
    }
    bool wants = connection->output_sent != connection->output_used;
    if (wants == connection->wants_write) return;
    struct epoll_event event = { .events = EPOLLIN | (wants ? EPOLLOUT : 0u),
                                 .data.ptr = connection };
    (void)epoll_ctl(load.poll, EPOLL_CTL_MOD, connection->descriptor, &event);
    connection->wants_write = wants;
}

static void turn(int timeout_ms)
{
    struct epoll_event ready[64];
    static uint8_t input[256 * 1024];
    int count = epoll_wait(load.poll, ready, 64, timeout_ms);
    for (int i = 0; i < count; i++) {
        struct connection *connection = ready[i].data.ptr;
        if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
            ssize_t used = recv(connection->descriptor, input, sizeof input, 0);
            if (used == 0 || (used < 0 && errno != EAGAIN)) die("the server closed");
            struct error error = { 0 };
            if (used > 0 &&
                grpc_receive(connection->grpc, input, (size_t)used, &error) != STATUS_OK) {
                (void)fprintf(stderr, "registry_load: %s\n", error.text);
                exit(1);
            }
        }
        flush(connection);
    }
}

static struct connection *connect_to(const char *host, uint16_t port)
{
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) die("memory");
    connection->descriptor = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) die("address");
    if (connect(connection->descriptor, (struct sockaddr *)&address, sizeof address) != 0)
        die("connect");
    int one = 1;
    (void)setsockopt(connection->descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)fcntl(connection->descriptor, F_SETFL, O_NONBLOCK);
    struct grpc_options options = { .events = &events, .context = &load, .authority = "bench" };
    if (grpc_connection_create(&options, &connection->grpc) != STATUS_OK) die("HTTP/2");
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };
    if (epoll_ctl(load.poll, EPOLL_CTL_ADD, connection->descriptor, &event) != 0) die("epoll");
    flush(connection);
    return connection;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint64_t cpu_us(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000u +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void report(uint64_t began_ns, uint64_t began_cpu_us)
{
    uint64_t n = load.finished;
    double seconds = (double)(now_ns() - began_ns) / 1e9;
    uint64_t cpu = cpu_us() - began_cpu_us;
    qsort(load.latencies_us, n, sizeof *load.latencies_us, compare_u32);
    uint32_t p50 = n ? load.latencies_us[n / 2] : 0;
    uint32_t p99 = n ? load.latencies_us[n * 99 / 100] : 0;
    uint32_t max = n ? load.latencies_us[n - 1] : 0;
    (void)printf("rate=%.0f p50_us=%" PRIu32 " p99_us=%" PRIu32 " max_us=%" PRIu32 " n=%" PRIu64
                 " errors=%" PRIu64 " generator_us_op=%.1f\n",
                 (double)n / seconds, p50, p99, max, n, load.errors,
                 n ? (double)cpu / (double)n : 0.0);
}

static void usage(void)
{
    (void)fprintf(stderr, "usage: registry_load --api unum|etcd --op put|get --address HOST:PORT "
                          "[--clients N] [--connections N] [--count N] [--seconds N] "
                          "[--value-bytes N] [--keys N]\n");
    exit(2);
}

int main(int argument_count, char **arguments)
{
    static const struct option options[] = {
        { "api", required_argument, NULL, 'a' },
        { "op", required_argument, NULL, 'o' },
        { "address", required_argument, NULL, 'e' },
        { "clients", required_argument, NULL, 'c' },
        { "connections", required_argument, NULL, 'C' },
        { "count", required_argument, NULL, 'n' },
        { "seconds", required_argument, NULL, 't' },
        { "value-bytes", required_argument, NULL, 'v' },
        { "keys", required_argument, NULL, 'k' },
        { 0 },
    };
    load = (struct load) { .put = true,
                           .count_max = UINT64_MAX,
                           .key_count = 10000,
                           .value_bytes = 256,
                           .connection_count = 1,
                           .client_count = 1 };
    char host[64] = "127.0.0.1";
    unsigned port = 7117;
    double seconds = 5;
    int option;
    while ((option = getopt_long(argument_count, arguments, "", options, NULL)) >= 0) {
        switch (option) {
        case 'a': load.etcd = strcmp(optarg, "etcd") == 0; break;
        case 'o': load.put = strcmp(optarg, "put") == 0; break;
        case 'e':
            if (sscanf(optarg, "%63[^:]:%u", host, &port) != 2) usage();
            break;
        case 'c': load.client_count = (unsigned)atoi(optarg); break;
        case 'C': load.connection_count = (unsigned)atoi(optarg); break;
        case 'n': load.count_max = strtoull(optarg, NULL, 10); break;
        case 't': seconds = atof(optarg); break;
        case 'v': load.value_bytes = (size_t)atoi(optarg); break;
        case 'k': load.key_count = (uint32_t)atoi(optarg); break;
        default: usage();
        }
    }
    if (load.client_count < 1 || load.client_count > CLIENTS_MAX || load.connection_count < 1 ||
        load.connection_count > CONNECTIONS_MAX || load.value_bytes > VALUE_BYTES_MAX ||
        load.key_count < 1)
        usage();
    load.path = load.etcd ? (load.put ? "/etcdserverpb.KV/Put" : "/etcdserverpb.KV/Range")
                          : (load.put ? "/unum.v1.Registry/Put" : "/unum.v1.Registry/Range");
    random_seeded_init(&load.random, 7);
    load.value = calloc(1, VALUE_BYTES_MAX);
    load.latencies_us = malloc(sizeof *load.latencies_us * LATENCIES_MAX);
    if (load.value == NULL || load.latencies_us == NULL) die("memory");
    for (size_t i = 0; i < load.value_bytes; i++) load.value[i] = (uint8_t)('a' + i % 26);
    load.poll = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < load.connection_count; i++)
        load.connections[i] = connect_to(host, (uint16_t)port);
    for (uint64_t until = now_ns() + 30000000; now_ns() < until;) turn(10); /* SETTINGS cross */

    uint64_t began = now_ns(), began_cpu = cpu_us();
    load.end_ns = began + (uint64_t)(seconds * 1e9);
    for (unsigned i = 0; i < load.client_count; i++) {
        load.clients[i].connection = load.connections[i % load.connection_count];
        (void)start_request(&load.clients[i]);
    }
    for (unsigned i = 0; i < load.connection_count; i++) flush(load.connections[i]);
    while (load.live > 0) {
        turn(100);
        if (now_ns() > load.end_ns + 10000000000ull) die("stuck");
    }
    report(began, began_cpu);
    return load.errors > 0;
}
