/* unumd: the daemon of one machine.
 *
 *   unumd --dir DIR                       serve the computer in DIR (started and kept by unum-init)
 *   unumd --init DIR [--name N] [--machine M] [--address A] [--owner UID]
 *                                         make DIR a computer, or check that it is one; then end
 *   --plain                               without TLS; for benchmarks on this machine only
 *   --no-supervisor                       without tasks: the registry alone
 *
 * Logs go to standard error, one line each. Exit status: 0 ended as asked, 1 failed, 2 usage. */
#include "base/parse.h"
#include "node/node.h"
#include "node/state_folder.h"
#include "reactor/host.h"
#include "supervise/protocol.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAIN_PATH_BYTES_MAX = 2048 };

struct options {
    const char *folder;
    bool make;
    bool plain;
    bool no_supervisor;
    struct state_folder_config config;
    uint64_t owner;
};

struct daemon {
    const struct options *options;
    struct state_folder *state;
    struct reactor *reactor;
    struct disk *disk, *store_disk;
    struct tls_context *tls;
    int signals;
    enum status status;
    struct error error;
};

static void say(void *context, const char *line)
{
    (void)context;
    (void)fprintf(stderr, "unumd: %s\n", line);
}

static int usage(void)
{
    (void)fprintf(stderr, "usage: unumd --dir DIR [--plain] [--no-supervisor]\n"
                          "       unumd --init DIR [--name NAME] [--machine NAME] "
                          "[--address HOST:PORT] [--owner UID]\n"
                          "Usually started by `unum up`.\n");
    return 2;
}

static bool take_text(char *field, size_t size, const char *value)
{
    return value != NULL && snprintf(field, size, "%s", value) < (int)size;
}

static bool parse_options(int argument_count, char **arguments, struct options *options)
{
    for (int i = 1; i < argument_count; i++) {
        const char *name = arguments[i];
        if (strcmp(name, "--plain") == 0) {
            options->plain = true;
            continue;
        }
        if (strcmp(name, "--no-supervisor") == 0) {
            options->no_supervisor = true;
            continue;
        }
        const char *value = i + 1 < argument_count ? arguments[++i] : NULL;
        if (value == NULL) return false;
        struct state_folder_config *config = &options->config;
        bool good = true;
        if (strcmp(name, "--dir") == 0) {
            options->folder = value;
        } else if (strcmp(name, "--init") == 0) {
            options->folder = value;
            options->make = true;
        } else if (strcmp(name, "--name") == 0) {
            good = take_text(config->name, sizeof config->name, value);
        } else if (strcmp(name, "--machine") == 0) {
            good = take_text(config->machine, sizeof config->machine, value);
        } else if (strcmp(name, "--address") == 0) {
            good = take_text(config->address, sizeof config->address, value);
        } else if (strcmp(name, "--owner") == 0) {
            good = parse_u64(value, UINT32_MAX, &options->owner) == STATUS_OK;
        } else {
            good = false;
        }
        if (!good) return false;
    }
    return options->folder != NULL;
}

/* --- the daemon's main fiber
 * ---------------------------------------------------------------------- */

struct watcher {
    struct scope *scope;
    int signals;
    bool asked;
};

static void signal_fiber(void *argument)
{
    struct watcher *watcher = argument;
    while (fiber_wait_readable(watcher->signals, DEADLINE_NEVER) == STATUS_OK) {
        if (host_signals_take(watcher->signals) == 0) continue;
        watcher->asked = true;
        scope_cancel(watcher->scope);
        return;
    }
}

static struct node_options node_options_of(struct daemon *daemon, struct scope *scope,
                                           struct agent_socket *socket,
                                           const struct host_facts *facts)
{
    const struct state_folder *state = daemon->state;
    agent_socket_init(socket, SUPERVISE_SOCKET_NAME);
    return (struct node_options) {
        .reactor = daemon->reactor,
        .scope = scope,
        .disk = daemon->disk,
        .store_disk = daemon->store_disk,
        .network = reactor_network(daemon->reactor),
        .clock = reactor_clock(daemon->reactor),
        .random = reactor_random(daemon->reactor),
        .computer = state->computer,
        .machine = state->machine,
        .disk_incarnation = state->disk_incarnation,
        .computer_name = state->config.name,
        .machine_name = state->config.machine,
        .address = state->config.address,
        .cores = facts->cores,
        .memory_bytes = facts->memory_bytes,
        .process = facts->process,
        .tls = daemon->tls,
        .supervisor = daemon->options->no_supervisor ? NULL : &socket->transport,
        .logs_folder = SUPERVISE_LOGS_NAME,
        .log = say,
    };
}

static void serve(void *argument)
{
    struct daemon *daemon = argument;
    struct scope *scope = fiber_scope();
    struct host_facts facts;
    host_read_facts(&facts);
    struct agent_socket socket;
    struct node_options options = node_options_of(daemon, scope, &socket, &facts);
    struct node *node;
    daemon->status = node_start(&options, &node, &daemon->error);
    if (daemon->status != STATUS_OK) return;
    char line[256];
    (void)snprintf(line, sizeof line, "computer %s serves on %s, I/O by %s", options.computer_name,
                   node_address(node), reactor_backend_name(daemon->reactor));
    say(NULL, line);
    daemon->status = node_wait_failure(node, &daemon->error);
    node_stop(node);
}

static void main_fiber(struct scope *root, void *context)
{
    struct daemon *daemon = context;
    struct scope scope;
    scope_init(&scope, root);
    struct watcher watcher = { .scope = &scope, .signals = daemon->signals };
    struct scope watching;
    scope_init(&watching, root);
    daemon->status = scope_spawn(&watching, "signals", signal_fiber, &watcher);
    if (daemon->status == STATUS_OK) daemon->status = scope_spawn(&scope, "node", serve, daemon);
    scope_join(&scope);
    scope_cancel(&watching);
    scope_join(&watching);
    if (watcher.asked) daemon->status = STATUS_OK;
}

static enum status open_disks(struct daemon *daemon, struct error *error)
{
    char path[MAIN_PATH_BYTES_MAX];
    (void)snprintf(path, sizeof path, "%s/data", daemon->options->folder);
    enum status status = reactor_disk_open(daemon->reactor, path, &daemon->disk, error);
    if (status == STATUS_OK) status = blocking_disk_open(path, &daemon->store_disk, error);
    return status;
}

static enum status open_tls(struct daemon *daemon, struct error *error)
{
    if (daemon->options->plain) return STATUS_OK;
    struct tls_options tls = {
        .is_server = true,
        .certificate_pem = daemon->state->certificate,
        .key_pem = daemon->state->key,
        .authority_pem = daemon->state->authority,
        .alpn = { "h2", NULL },
    };
    return tls_context_create(&tls, &daemon->tls, error);
}

static int run_daemon(const struct options *options)
{
    struct daemon daemon = { .options = options, .signals = -1 };
    struct error *error = &daemon.error;
    daemon.state = calloc(1, sizeof *daemon.state);
    enum status status = daemon.state == NULL
                             ? error_set(error, STATUS_NO_MEMORY, "out of memory")
                             : state_folder_read(options->folder, daemon.state, error);
    if (status == STATUS_OK) status = host_signals_open(&daemon.signals, error);
    if (status == STATUS_OK)
        status = reactor_create(&(struct reactor_options) { 0 }, &daemon.reactor, error);
    if (status == STATUS_OK) status = open_disks(&daemon, error);
    if (status == STATUS_OK) status = open_tls(&daemon, error);
    if (status == STATUS_OK) status = reactor_run(daemon.reactor, main_fiber, &daemon);
    if (status == STATUS_OK) status = daemon.status;
    if (status != STATUS_OK) say(NULL, error->text[0] != '\0' ? error->text : status_name(status));
    tls_context_destroy(daemon.tls);
    if (daemon.disk != NULL) reactor_disk_close(daemon.disk);
    if (daemon.store_disk != NULL) blocking_disk_close(daemon.store_disk);
    if (daemon.reactor != NULL) reactor_destroy(daemon.reactor);
    free(daemon.state);
    return status == STATUS_OK ? 0 : 1;
}

int main(int argument_count, char **arguments)
{
    struct options options = { 0 };
    if (!parse_options(argument_count, arguments, &options)) return usage();
    if (!options.make) return run_daemon(&options);
    struct error error = { 0 };
    enum status status =
        state_folder_create(options.folder, &options.config, (uint32_t)options.owner, &error);
    if (status != STATUS_OK) say(NULL, error.text);
    return status == STATUS_OK ? 0 : 1;
}
