#include "cli/call.h"
#include "client/credential.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct connection {
    struct tls_context *tls;
    struct client *client;
    const char *addresses[CREDENTIAL_ADDRESSES_MAX];
    size_t address_count;
};

static enum status no_computer(struct cli *cli, enum status status, struct error *error)
{
    /* Somebody else's folder can't even be looked into. */
    if (status == STATUS_DENIED || errno == EACCES) return status;
    /* A credential that lacks a file is one: the sentence names the file. */
    if (access(cli_format(cli, "%s/operator", cli->folder), F_OK) == 0) return status;
    return error_set(error, STATUS_NOT_FOUND,
                     "there is no computer in %s; `unum up%s%s` makes one, and --dir names another "
                     "folder",
                     cli->folder, cli->folder_given ? " --dir " : "",
                     cli->folder_given ? cli->folder : "");
}

enum status call_prepare(struct cli *cli, struct error *error)
{
    struct connection *connection = arena_take(&cli->arena, sizeof *connection);
    struct credential *credential = arena_take(&cli->arena, sizeof *credential);
    if (connection == NULL || credential == NULL)
        return error_set(error, STATUS_NO_MEMORY, "out of memory");
    enum status status =
        credential_load(cli_format(cli, "%s/operator", cli->folder), credential, error);
    if (status == STATUS_NOT_FOUND || status == STATUS_DENIED)
        return no_computer(cli, status, error);
    if (status == STATUS_OK) status = credential_tls(credential, &connection->tls, error);
    if (status != STATUS_OK) return status;
    for (size_t i = 0; i < credential->address_count; i++)
        connection->addresses[connection->address_count++] = credential->addresses[i];
    if (cli->address != NULL) {
        connection->addresses[0] = cli->address;
        connection->address_count = 1;
    }
    if (connection->address_count == 0)
        return error_set(error, STATUS_INVALID, "%s/operator has no address; give --address",
                         cli->folder);
    cli->connection = connection;
    return STATUS_OK;
}

enum status call_begin(struct cli *cli, struct scope *scope, uint64_t patience_ms,
                       struct error *error)
{
    struct connection *connection = cli->connection;
    struct client_options options = {
        .scope = scope,
        .network = reactor_network(scope->reactor),
        .clock = reactor_clock(scope->reactor),
        .random = reactor_random(scope->reactor),
        .addresses = connection->addresses,
        .address_count = connection->address_count,
        .tls = connection->tls,
        .patience_ms = patience_ms,
    };
    cli->scope = scope;
    return client_create(&options, &connection->client, error);
}

void call_end(struct cli *cli)
{
    if (cli->connection == NULL) return;
    client_destroy(cli->connection->client);
    cli->connection->client = NULL;
}

void call_finish(struct cli *cli)
{
    if (cli->connection == NULL) return;
    tls_context_destroy(cli->connection->tls);
    cli->connection = NULL;
}

const char *call_address(const struct cli *cli)
{
    const struct connection *connection = cli->connection;
    return connection->client == NULL ? connection->addresses[0]
                                      : client_address(connection->client);
}

/* What a person can do about it. */
static enum status add_advice(struct cli *cli, enum status status, struct error *error)
{
    size_t used = strlen(error->text);
    if (status == STATUS_UNAVAILABLE && strstr(error->text, "unum up") == NULL)
        (void)snprintf(error->text + used, sizeof error->text - used,
                       "; is the computer up? `unum up --background%s%s` starts it",
                       cli->folder_given ? " --dir " : "", cli->folder_given ? cli->folder : "");
    if (status == STATUS_DENIED && strstr(error->text, "certificate") == NULL)
        (void)snprintf(error->text + used, sizeof error->text - used,
                       " (with the certificate in %s/operator)", cli->folder);
    return status;
}

enum status call_unary(struct cli *cli, enum client_kind kind, const char *method,
                       ProtobufCMessage *request, const ProtobufCMessageDescriptor *reply,
                       void *ret_reply, struct error *error)
{
    struct client *client = cli->connection->client;
    const char *path = cli_format(cli, "/unum.v1.%s", method);
    uint64_t deadline_ns = client_deadline_ns(client, CALL_DEADLINE_MS);
    enum status status =
        client_call(client, kind, path, request, reply, &cli->arena, deadline_ns, ret_reply, error);
    return status == STATUS_OK ? status : add_advice(cli, status, error);
}

enum status call_stream(struct cli *cli, const char *method, ProtobufCMessage *request,
                        bool half_close, struct client_stream **ret_stream, struct error *error)
{
    const char *path = cli_format(cli, "/unum.v1.%s", method);
    enum status status = client_stream_open(cli->connection->client, path, request, half_close,
                                            DEADLINE_NEVER, ret_stream, error);
    return status == STATUS_OK ? status : add_advice(cli, status, error);
}
