/* What the supervision benchmarks share: a connection to unum-init, and the median of times. */
#ifndef UNUM_BENCH_SUPERVISE_LOAD_H
#define UNUM_BENCH_SUPERVISE_LOAD_H

#include "supervise/link.h"
#include "supervise/protocol.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

struct load {
    int descriptor;
    uint64_t request;
    uint8_t sent[SUPERVISE_MESSAGE_BYTES_MAX];
    uint8_t received[SUPERVISE_MESSAGE_BYTES_MAX];
};

static inline double load_now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static inline void load_fail(const char *what, const char *why)
{
    (void)fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static inline void load_send(struct load *load, struct supervise_message *message)
{
    struct error error = { 0 };
    size_t size = 0;
    message->request = ++load->request;
    if (supervise_encode(message, load->sent, sizeof load->sent, &size, &error) != STATUS_OK)
        load_fail("encode", error.text);
    while (link_send(load->descriptor, bytes_of(load->sent, size), NULL, 0) == STATUS_BUSY) {
        struct pollfd wait = { load->descriptor, POLLOUT, 0 };
        (void)poll(&wait, 1, -1);
    }
}

static inline void load_receive(struct load *load, struct supervise_message *ret_message)
{
    for (;;) {
        struct error error = { 0 };
        size_t size = 0;
        enum status status =
            link_receive(load->descriptor, load->received, sizeof load->received, &size);
        if (status == STATUS_BUSY) {
            struct pollfd wait = { load->descriptor, POLLIN, 0 };
            (void)poll(&wait, 1, -1);
            continue;
        }
        if (status != STATUS_OK) load_fail("unum-init", status_name(status));
        if (supervise_decode(bytes_of(load->received, size), ret_message, &error) != STATUS_OK)
            load_fail("decode", error.text);
        if (ret_message->kind == SUPERVISE_RESULT && ret_message->result.status != STATUS_OK)
            load_fail("refused", (const char *)ret_message->result.text.data);
        return;
    }
}

static inline void load_open(struct load *load, const char *folder)
{
    char path[1024];
    struct error error = { 0 };
    struct supervise_message message = { .kind = SUPERVISE_HELLO };
    (void)snprintf(path, sizeof path, "%s/%s", folder, SUPERVISE_SOCKET_NAME);
    if (link_open(path, &load->descriptor, &error) != STATUS_OK) load_fail(path, error.text);
    message.hello.version = SUPERVISE_VERSION;
    load_send(load, &message);
    do load_receive(load, &message);
    while (message.kind != SUPERVISE_WELCOME);
    uint64_t last = message.welcome.event_last;
    message = (struct supervise_message) { .kind = SUPERVISE_EVENTS_SINCE };
    message.events_since.sequence = last;
    load_send(load, &message);
    do load_receive(load, &message);
    while (message.kind != SUPERVISE_END);
}

/* Send START of ARGV under a new id. */
static inline struct id load_start(struct load *load, struct supervise_start start, char **argv)
{
    static char memory[SUPERVISE_STRINGS_BYTES_MAX];
    static struct supervise_message message;
    message = (struct supervise_message) { .kind = SUPERVISE_START, .start = start };
    if (getrandom(&message.start.task, ID_BYTES, 0) != ID_BYTES) load_fail("getrandom", "short");
    message.start.argv = (struct supervise_strings) { 0 };
    for (; *argv != NULL; argv++) {
        if (supervise_strings_add(&message.start.argv, memory, sizeof memory, *argv) != STATUS_OK)
            load_fail(*argv, "too long");
    }
    load_send(load, &message);
    return message.start.task;
}

/* Wait for an event of TASK in STATE. */
static inline void load_wait(struct load *load, const struct id *task, enum supervise_state state,
                             struct supervise_message *ret_message)
{
    do load_receive(load, ret_message);
    while (ret_message->kind != SUPERVISE_TASK_STATE ||
           !id_equal(&ret_message->task_state.task, task) ||
           ret_message->task_state.state != state);
}

static inline int load_compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* As the peers' programs print it. */
static inline void load_print(double *times_us, size_t count, double wall_us)
{
    qsort(times_us, count, sizeof *times_us, load_compare);
    (void)printf("rate=%.0f p50_us=%.0f p99_us=%.0f\n", (double)count / wall_us * 1e6,
                 times_us[count / 2], times_us[count * 99 / 100]);
}

#endif
