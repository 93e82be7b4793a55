/* Whatever a peer sends: nothing is read outside, each announced call ends exactly once, and the
 * memory of the connection comes back.
 *
 * The first byte chooses the side under test and how the rest is cut. A server gets the client's
 * magic for free; a client has three calls open. */
#include "wire/grpc.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct tally {
    unsigned opened, ended;
    bool is_server;
};

/* What a broken or full connection answers does not matter here. */
static void ignore(enum status status)
{
    (void)status;
}

static void on_called(void *context, struct grpc_call *call, const char *path, uint64_t timeout_ns)
{
    (void)call, (void)path, (void)timeout_ns;
    struct tally *tally = context;
    tally->opened++;
}

static void on_message(void *context, struct grpc_call *call, struct bytes message)
{
    const struct tally *tally = context;
    if (message.size > LIMIT_MESSAGE_BYTES_MAX) abort();
    if (tally->is_server) ignore(grpc_call_send(call, message));
}

static void on_half_closed(void *context, struct grpc_call *call)
{
    const struct tally *tally = context;
    if (tally->is_server) grpc_call_finish(call, GRPC_NOT_FOUND, "none");
}

static void on_ended(void *context, struct grpc_call *call, enum grpc_status status,
                     const char *text)
{
    (void)call, (void)status;
    struct tally *tally = context;
    tally->ended++;
    if (strlen(text) > GRPC_STATUS_TEXT_BYTES_MAX) abort();
}

static const struct grpc_events events = {
    .called = on_called, .message = on_message, .half_closed = on_half_closed, .ended = on_ended
};

static void take_output(struct grpc_connection *connection)
{
    static uint8_t bytes[64 * 1024];
    size_t used = 0;
    for (int i = 0; i < 16; i++)
        if (grpc_output(connection, bytes, sizeof bytes, &used) != STATUS_OK || used == 0) return;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct tally tally = { .is_server = (data[0] & 1) != 0 };
    size_t step = data[0] >> 1 == 0 ? size : data[0] >> 1;
    struct grpc_options options = { .is_server = tally.is_server,
                                    .events = &events,
                                    .context = &tally };
    struct grpc_connection *connection = NULL;
    if (grpc_connection_create(&options, &connection) != STATUS_OK) return 0;
    if (tally.is_server) {
        ignore(grpc_receive(connection, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24, NULL));
    } else {
        for (int i = 0; i < 3; i++) {
            struct grpc_call *call = NULL;
            if (grpc_call_start(connection, "/a.B/C", 1000, NULL, &call) != STATUS_OK) abort();
            tally.opened++;
            ignore(grpc_call_send(call, bytes_of_text("hello")));
            if (i > 0) grpc_call_half_close(call);
        }
        take_output(connection);
    }
    for (size_t i = 1; i < size; i += step) {
        size_t part = size - i < step ? size - i : step;
        if (grpc_receive(connection, data + i, part, NULL) != STATUS_OK) break;
        take_output(connection);
    }
    grpc_connection_destroy(connection);
    if (tally.opened != tally.ended) abort();
    return 0;
}
