/* The connection: found, kept, replaced.
 *
 * A fiber of the client tries the addresses in turn, then reads until the end; a second one writes
 * what many calls have to send at once. When the connection ends, all its calls end, and the next
 * call starts another. */
#include "client/client_internal.h"
#include "identity/identity.h"

#include <stdio.h>
#include <stdlib.h>

uint64_t client_now_ns(const struct client *client)
{
    uint64_t now_ns;
    clock_monotonic_ns(client->options.clock, &now_ns);
    return now_ns;
}

/* --- connecting --------------------------------------------------------------------------------
 */

/* What is behind "ADDRESS: " in a network's sentence. */
static const char *reason_of(const char *text, const char *address)
{
    const char *found = strstr(text, address);
    if (found == NULL) return text;
    found += strlen(address);
    return strncmp(found, ": ", 2) == 0 ? found + 2 : text;
}

/* The certificate that answers must be a machine's: an operator can't pose as the computer. */
static enum status check_server(const struct connection *connection, struct error *error)
{
    struct identity identity;
    struct tls_peer peer = tls_stream_peer(connection->stream);
    enum status status =
        identity_decode(peer.certificate_der, peer.certificate_size, &identity, error);
    if (status == STATUS_OK && identity.kind != IDENTITY_MACHINE)
        status = error_set(error, STATUS_DENIED, "who answers is no machine but %s %s",
                           identity_kind_name(identity.kind), identity.name);
    if (status != STATUS_OK)
        return error_wrap(error, status, "the computer at %s", connection->address);
    return STATUS_OK;
}

static enum status secure(struct connection *connection, uint64_t deadline_ns, struct error *error)
{
    struct client *client = connection->client;
    struct stream *stream = NULL;
    enum status status =
        tls_stream_create(client->options.tls, connection->stream, deadline_ns, &stream, error);
    if (status != STATUS_OK) return error_wrap(error, status, "no secure connection");
    connection->stream = stream;
    return check_server(connection, error);
}

static enum status try_address(struct connection *connection, struct error *error)
{
    struct client *client = connection->client;
    uint64_t deadline_ns = client_now_ns(client) + CLIENT_CONNECT_MS_MAX * MS_NS;
    struct error cause;
    cause.text[0] = '\0';
    enum status status = client->options.network->connect(
        client->options.network, connection->address, deadline_ns, &connection->stream, &cause);
    if (status == STATUS_CANCELLED || status == STATUS_INVALID)
        return error_set(error, status, "%s", cause.text);
    if (status != STATUS_OK)
        return error_set(error, STATUS_UNAVAILABLE,
                         "no computer answers at %s: %s; start one with `unum up`",
                         connection->address, reason_of(cause.text, connection->address));
    if (client->options.tls == NULL) return STATUS_OK;
    status = secure(connection, deadline_ns, error);
    if (status == STATUS_OK) return STATUS_OK;
    stream_close(connection->stream);
    connection->stream = NULL;
    bool try_again = status == STATUS_TIMEOUT || status == STATUS_CLOSED || status == STATUS_IO;
    return try_again ? STATUS_UNAVAILABLE : status;
}

/* Each address once, beginning with the one that worked last. */
static enum status try_addresses(struct connection *connection, struct error *error)
{
    struct client *client = connection->client;
    enum status status = STATUS_UNAVAILABLE;
    for (size_t i = 0; i < client->options.address_count; i++) {
        memcpy(connection->address, client->addresses[client->address], sizeof connection->address);
        status = try_address(connection, error);
        if (status == STATUS_OK || status == STATUS_CANCELLED) return status;
        client->address = (client->address + 1) % (unsigned)client->options.address_count;
    }
    return status;
}

static enum status open_connection(struct connection *connection, struct error *error)
{
    enum status status = try_addresses(connection, error);
    if (status != STATUS_OK) return status;
    struct grpc_options options = { .events = &client_stream_events,
                                    .context = connection,
                                    .authority = "unum",
                                    .is_https = connection->client->options.tls != NULL };
    status = grpc_connection_create(&options, &connection->grpc);
    if (status != STATUS_OK) return error_set(error, status, "no memory for a connection");
    return STATUS_OK;
}

/* --- writing -----------------------------------------------------------------------------------
 */

static enum status flush(struct connection *connection)
{
    uint8_t *bytes = malloc(CLIENT_WRITE_BYTES);
    if (bytes == NULL) return STATUS_NO_MEMORY;
    enum status status;
    for (;;) {
        size_t used = 0;
        status = grpc_output(connection->grpc, bytes, CLIENT_WRITE_BYTES, &used);
        if (status != STATUS_OK || used == 0) break;
        uint64_t deadline_ns = client_now_ns(connection->client) + CLIENT_WRITE_MS_MAX * MS_NS;
        status = stream_write(connection->stream, bytes, used, deadline_ns);
        if (status != STATUS_OK) break;
    }
    free(bytes);
    return status;
}

static void writer_fiber(void *argument)
{
    struct connection *connection = argument;
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        if (grpc_wants_output(connection->grpc)) {
            status = flush(connection);
        } else if (grpc_finished(connection->grpc)) {
            status = STATUS_CLOSED;
        } else {
            status = condition_wait(&connection->output_wanted, DEADLINE_NEVER);
        }
    }
    connection->stream->operations->shutdown(connection->stream); /* wakes the reader */
}

/* --- reading -----------------------------------------------------------------------------------
 */

static enum status read_once(struct connection *connection, uint8_t *bytes, unsigned *silences)
{
    struct client *client = connection->client;
    size_t used = 0;
    enum status status = stream_read(connection->stream, bytes, CLIENT_READ_BYTES,
                                     client_now_ns(client) + CLIENT_SILENCE_MS_MAX * MS_NS, &used);
    if (status == STATUS_TIMEOUT && ++*silences == 1) {
        grpc_ping(connection->grpc);
        condition_signal(&connection->output_wanted);
        return STATUS_OK;
    }
    if (status != STATUS_OK) return status;
    if (used == 0) return STATUS_CLOSED;
    *silences = 0;
    struct error ignored;
    status = grpc_receive(connection->grpc, bytes, used, &ignored);
    if (grpc_wants_output(connection->grpc)) condition_signal(&connection->output_wanted);
    return status;
}

/* The server looks at our certificate only after we think that all is well: its refusal is the
 * first thing that we read. */
static void judge_first_read(struct connection *connection, enum status status)
{
    struct client *client = connection->client;
    if (status != STATUS_DENIED) return;
    connection->is_refused = true;
    client->address = (client->address + 1) % (unsigned)client->options.address_count;
}

static void converse(struct connection *connection)
{
    struct client *client = connection->client;
    uint8_t *bytes = malloc(CLIENT_READ_BYTES);
    scope_init(&connection->scope, fiber_scope());
    if (bytes != NULL &&
        scope_spawn(&connection->scope, "client writer", writer_fiber, connection) == STATUS_OK) {
        unsigned silences = 0;
        enum status status = read_once(connection, bytes, &silences);
        judge_first_read(connection, status);
        while (status == STATUS_OK) status = read_once(connection, bytes, &silences);
    }
    if (client->connection == connection) client->connection = NULL;
    scope_cancel(&connection->scope);
    scope_join(&connection->scope);
    free(bytes);
    grpc_connection_destroy(connection->grpc); /* ends the calls */
}

static void connection_fiber(void *argument)
{
    struct connection *connection = argument;
    struct client *client = connection->client;
    struct error error;
    error.text[0] = '\0';
    enum status status = open_connection(connection, &error);
    if (status == STATUS_OK) {
        condition_broadcast(&client->changed);
        converse(connection);
    } else {
        client->failure_count++;
        client->failure = status;
        client->failure_text = error;
    }
    if (client->connection == connection) client->connection = NULL;
    stream_close(connection->stream);
    free(connection);
    condition_broadcast(&client->changed);
}

/* --- for calls -----------------------------------------------------------------------------------
 */

static enum status connection_start(struct client *client, struct error *error)
{
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) return error_set(error, STATUS_NO_MEMORY, "no memory to connect");
    connection->client = client;
    condition_init(&connection->output_wanted);
    enum status status = scope_spawn(&client->scope, "client reader", connection_fiber, connection);
    if (status != STATUS_OK) {
        free(connection);
        return error_set(error, status, "no fiber is left to connect");
    }
    client->connection = connection;
    return STATUS_OK;
}

enum status client_connect(struct client *client, uint64_t deadline_ns, struct error *error)
{
    uint64_t failures = client->failure_count;
    for (;;) {
        if (client->connection != NULL && client->connection->grpc != NULL) return STATUS_OK;
        enum status status = STATUS_OK;
        if (client->connection == NULL) {
            if (client->failure_count != failures)
                return error_set(error, client->failure, "%s", client->failure_text.text);
            status = connection_start(client, error);
            if (status != STATUS_OK) return status;
        }
        status = condition_wait(&client->changed, deadline_ns);
        if (status == STATUS_TIMEOUT)
            return error_set(error, status, "no computer answers at %s in time",
                             client_address(client));
        if (status != STATUS_OK) return error_set(error, status, "the call was given up");
    }
}

void client_abandon(struct client *client)
{
    client->connection = NULL;
}
