#include "sim/client.h"

#include <stdio.h>

enum { CLIENT_PART_BYTES = 2048 };

static void on_message(void *context, struct grpc_call *call, struct bytes message)
{
    struct sim_client *client = context;
    uint8_t size[4];
    store_u32_le(size, (uint32_t)message.size);
    if (buffer_reserve(&client->queue, sizeof size + message.size) != STATUS_OK) {
        grpc_call_cancel(call);
        return;
    }
    (void)!buffer_append(&client->queue, size, sizeof size);
    (void)!buffer_append(&client->queue, message.data, message.size);
}

static void on_half_closed(void *context, struct grpc_call *call)
{
    (void)context;
    (void)call;
}

static void on_ended(void *context, struct grpc_call *call, enum grpc_status status,
                     const char *text)
{
    struct sim_client *client = context;
    if (call != client->call) return;
    client->call = NULL;
    client->ended = true;
    client->status = status;
    (void)snprintf(client->text, sizeof client->text, "%s", text == NULL ? "" : text);
}

static const struct grpc_events events = { .message = on_message,
                                           .half_closed = on_half_closed,
                                           .ended = on_ended };

void sim_client_init(struct sim_client *client, struct network *network, const char *address)
{
    *client = (struct sim_client) { .network = network, .address = address };
    buffer_init(&client->queue, 2ull * LIMIT_MESSAGE_BYTES_MAX);
}

void sim_client_disconnect(struct sim_client *client)
{
    client->call = NULL;
    grpc_connection_destroy(client->grpc);
    client->grpc = NULL;
    stream_close(client->stream);
    client->stream = NULL;
}

void sim_client_finish(struct sim_client *client)
{
    sim_client_disconnect(client);
    buffer_finish(&client->queue);
}

static enum status connect_client(struct sim_client *client, uint64_t deadline_ns)
{
    if (client->grpc != NULL) return STATUS_OK;
    enum status status = client->network->connect(client->network, client->address, deadline_ns,
                                                  &client->stream, NULL);
    if (status != STATUS_OK) {
        client->stream = NULL;
        return status;
    }
    struct grpc_options options = { .events = &events, .context = client, .authority = "sim" };
    status = grpc_connection_create(&options, &client->grpc);
    if (status != STATUS_OK) sim_client_disconnect(client);
    return status;
}

/* Send what is to be sent, then wait for something to arrive, once. */
static enum status turn(struct sim_client *client, bool for_message, uint64_t deadline_ns)
{
    uint8_t part[CLIENT_PART_BYTES];
    enum status status;
    size_t used;
    while ((status = grpc_output(client->grpc, part, sizeof part, &used)) == STATUS_OK &&
           used > 0) {
        status = stream_write(client->stream, part, used, deadline_ns);
        if (status != STATUS_OK) return status;
    }
    if (status != STATUS_OK) return status;
    if (client->ended || (for_message && client->queue.used > 0)) return STATUS_OK;
    status = stream_read(client->stream, part, sizeof part, deadline_ns, &used);
    if (status != STATUS_OK) return status;
    if (used == 0) return STATUS_CLOSED;
    return grpc_receive(client->grpc, part, used, NULL);
}

static enum status start_call(struct sim_client *client, const char *path, struct bytes request)
{
    client->ended = false;
    client->queue.used = client->taken_bytes = 0;
    client->message = (struct bytes) { 0 };
    client->text[0] = '\0';
    enum status status = grpc_call_start(client->grpc, path, UINT64_MAX, client, &client->call);
    if (status == STATUS_OK) status = grpc_call_send(client->call, request);
    if (status == STATUS_OK) grpc_call_half_close(client->call);
    return status;
}

/* The first message of the queue becomes `message`; false when there is none. */
static bool take_message(struct sim_client *client)
{
    buffer_consume(&client->queue, client->taken_bytes);
    client->taken_bytes = 0;
    if (client->queue.used == 0) return false;
    size_t size = load_u32_le(client->queue.data);
    client->message = bytes_of(client->queue.data + 4, size);
    client->taken_bytes = 4 + size;
    return true;
}

enum status sim_client_call(struct sim_client *client, const char *path, struct bytes request,
                            uint64_t deadline_ns, bool *ret_unknown)
{
    *ret_unknown = false;
    enum status status = connect_client(client, deadline_ns);
    if (status != STATUS_OK) return status == STATUS_CANCELLED ? status : STATUS_UNAVAILABLE;
    status = start_call(client, path, request);
    while (status == STATUS_OK && !client->ended) status = turn(client, false, deadline_ns);
    if (status != STATUS_OK) {
        sim_client_disconnect(client);
        *ret_unknown = true;
        return status == STATUS_CANCELLED ? status : STATUS_UNAVAILABLE;
    }
    if (client->status == GRPC_OK) return take_message(client) ? STATUS_OK : STATUS_INTERNAL;
    /* A refusal before the log is certain; these are not. */
    *ret_unknown = client->status == GRPC_UNAVAILABLE || client->status == GRPC_DEADLINE_EXCEEDED ||
                   client->status == GRPC_CANCELLED || client->status == GRPC_INTERNAL ||
                   client->status == GRPC_UNKNOWN || client->status == GRPC_DATA_LOSS;
    return status_of_grpc(client->status);
}

enum status sim_client_open(struct sim_client *client, const char *path, struct bytes request,
                            uint64_t deadline_ns)
{
    enum status status = connect_client(client, deadline_ns);
    if (status != STATUS_OK) return status;
    status = start_call(client, path, request);
    if (status != STATUS_OK) sim_client_disconnect(client);
    return status;
}

enum status sim_client_next(struct sim_client *client, uint64_t deadline_ns)
{
    while (!take_message(client)) {
        if (client->ended)
            return client->status == GRPC_OK ? STATUS_CLOSED : status_of_grpc(client->status);
        if (client->grpc == NULL) return STATUS_UNAVAILABLE;
        enum status status = turn(client, true, deadline_ns);
        if (status != STATUS_OK) {
            if (status != STATUS_TIMEOUT) sim_client_disconnect(client);
            return status;
        }
    }
    return STATUS_OK;
}
