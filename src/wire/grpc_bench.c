/* What a unary call costs the server's side of gRPC: a client and a server joined in memory.
 *
 *   grpc_bench [CALLS [CONCURRENT [REQUEST_BYTES [REPLY_BYTES]]]]
 * Only the time within the server's functions is counted. Answers come after the whole input has
 * been taken, as the daemon does it. */
#include "wire/grpc.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BATCH_BYTES = 256 * 1024, CONCURRENT_MAX = 1024, PAYLOAD_BYTES_MAX = 64 * 1024 };

struct bench {
    struct grpc_connection *client, *server;
    struct grpc_call *ready[CONCURRENT_MAX];
    size_t ready_count;
    uint64_t started, ended, wanted;
    size_t request_bytes, reply_bytes;
    uint8_t payload[PAYLOAD_BYTES_MAX];
    uint8_t wire[BATCH_BYTES];
    uint64_t server_ns;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void check(enum status status)
{
    if (status == STATUS_OK) return;
    fprintf(stderr, "grpc_bench: %s\n", status_name(status));
    exit(1);
}

static void start_call(struct bench *bench)
{
    struct grpc_call *call;
    check(grpc_call_start(bench->client, "/unum.v1.Registry/Put", 5000000000u, NULL, &call));
    check(grpc_call_send(call, bytes_of(bench->payload, bench->request_bytes)));
    grpc_call_half_close(call);
    bench->started++;
}

static void on_called(void *context, struct grpc_call *call, const char *path, uint64_t timeout_ns)
{
    (void)context, (void)call, (void)path, (void)timeout_ns;
}
static void on_message(void *context, struct grpc_call *call, struct bytes message)
{
    (void)context, (void)call, (void)message;
}
static void on_client_half_closed(void *context, struct grpc_call *call)
{
    (void)context, (void)call;
}
static void on_server_half_closed(void *context, struct grpc_call *call)
{
    struct bench *bench = context;
    bench->ready[bench->ready_count++] = call;
}
static void on_server_ended(void *context, struct grpc_call *call, enum grpc_status status,
                            const char *text)
{
    (void)context, (void)call, (void)status, (void)text;
}
static void on_client_ended(void *context, struct grpc_call *call, enum grpc_status status,
                            const char *text)
{
    (void)call;
    struct bench *bench = context;
    if (status != GRPC_OK) {
        fprintf(stderr, "grpc_bench: status %d %s\n", (int)status, text);
        exit(1);
    }
    bench->ended++;
}

static const struct grpc_events server_events = { .called = on_called,
                                                  .message = on_message,
                                                  .half_closed = on_server_half_closed,
                                                  .ended = on_server_ended };
static const struct grpc_events client_events = { .called = on_called,
                                                  .message = on_message,
                                                  .half_closed = on_client_half_closed,
                                                  .ended = on_client_ended };

static void serve(struct bench *bench, size_t size)
{
    uint64_t start = now_ns();
    struct error error = { 0 };
    check(grpc_receive(bench->server, bench->wire, size, &error));
    for (size_t i = 0; i < bench->ready_count; i++) {
        check(grpc_call_send(bench->ready[i], bytes_of(bench->payload, bench->reply_bytes)));
        grpc_call_finish(bench->ready[i], GRPC_OK, NULL);
    }
    bench->ready_count = 0;
    size_t used = 0;
    check(grpc_output(bench->server, bench->wire, sizeof bench->wire, &used));
    bench->server_ns += now_ns() - start;
    if (used > 0) check(grpc_receive(bench->client, bench->wire, used, &error));
}

static size_t argument(int count, char **values, int index, size_t otherwise, size_t max)
{
    if (index >= count) return otherwise;
    size_t value = strtoul(values[index], NULL, 10);
    return value > max ? max : value;
}

int main(int count, char **values)
{
    static struct bench bench;
    size_t concurrent = argument(count, values, 2, 64, CONCURRENT_MAX);
    bench.wanted = argument(count, values, 1, 200000, 1000000000);
    bench.request_bytes = argument(count, values, 3, 280, PAYLOAD_BYTES_MAX);
    bench.reply_bytes = argument(count, values, 4, 8, PAYLOAD_BYTES_MAX);
    struct grpc_options server = { .is_server = true, .events = &server_events, .context = &bench };
    struct grpc_options client = { .events = &client_events, .context = &bench };
    check(grpc_connection_create(&server, &bench.server));
    check(grpc_connection_create(&client, &bench.client));

    while (bench.ended < bench.wanted) {
        while (bench.started < bench.wanted && bench.started - bench.ended < concurrent) {
            start_call(&bench);
            if (bench.started == 1) break; /* the settings cross with the first */
        }
        size_t used = 0;
        check(grpc_output(bench.client, bench.wire, sizeof bench.wire, &used));
        serve(&bench, used);
    }
    printf("calls=%llu concurrent=%zu request_bytes=%zu reply_bytes=%zu server_ns_per_call=%llu "
           "server_calls_per_s=%llu\n",
           (unsigned long long)bench.ended, concurrent, bench.request_bytes, bench.reply_bytes,
           (unsigned long long)(bench.server_ns / bench.ended),
           (unsigned long long)(bench.ended * 1000000000u / bench.server_ns));
    grpc_connection_destroy(bench.client);
    grpc_connection_destroy(bench.server);
    return 0;
}
