#include "node/node.h"

#include "identity/identity.h"
#include "node/computer_service.h"
#include "node/node_internal.h"
#include "node/registry_service.h"
#include "node/tasks.h"

#include <stdio.h>
#include <stdlib.h>

enum { NODE_DRAIN_MS_MAX = 2000, NODE_AUDIT_MS_MAX = 1000, NODE_HEALTH_PAUSE_MS = 100 };

static enum status identify(void *context, struct tls_peer peer,
                            char ret_principal[SERVE_PRINCIPAL_BYTES_MAX + 1], struct error *error)
{
    struct node *node = context;
    struct identity identity;
    enum status status =
        identity_decode(peer.certificate_der, peer.certificate_size, &identity, error);
    bool read = status == STATUS_OK;
    if (status == STATUS_OK)
        status = identity_check(&identity, &node->options.computer,
                                replica_computer_time_ms(node->system.replica), error);
    char text[IDENTITY_TEXT_BYTES_MAX + 1];
    if (!read) return status; /* nobody's: an ordinary stranger */
    identity_format(&identity, text);
    if (status != STATUS_OK) {
        node_audit(node, text, (struct bytes) { 0 }, "Connect", node->options.machine_name, status,
                   error->text);
        return status;
    }
    (void)snprintf(ret_principal, SERVE_PRINCIPAL_BYTES_MAX + 1, "%s", text);
    return STATUS_OK;
}

void node_audit(struct node *node, const char *principal, struct bytes request, const char *action,
                const char *subject, enum status outcome, const char *text)
{
    if (node->audit == NULL) return;
    uint64_t wall_ns;
    clock_wall_ns(node->options.clock, &wall_ns);
    struct audit_record record = {
        .wall_ms = wall_ns / 1000000,
        .computer_time_ms = replica_computer_time_ms(node->system.replica),
        .principal = principal,
        .request = request,
        .action = action,
        .subject = subject,
        .outcome = outcome,
        .text = outcome == STATUS_OK ? "" : text,
    };
    audit_add(node->audit, &record);
}

static void log_line(void *context, const char *line)
{
    struct node *node = context;
    node->options.log(node->options.context, line);
}

/* --- parts, in the order in which they start
 * ------------------------------------------------------ */

static enum status open_replicas(struct node *node, struct error *error)
{
    const struct node_options *options = &node->options;
    struct replica_host_options host = {
        .reactor = options->reactor,
        .scope = &node->scope,
        .disk = options->disk,
        .store_disk = options->store_disk,
        .clock = options->clock,
        .random = options->random,
        .simulation = options->simulation,
        .computer = options->computer,
        .machine = options->machine,
        .disk_incarnation = options->disk_incarnation,
        .journal_segment_bytes = options->journal_segment_bytes,
        .store_memtable_bytes = options->store_memtable_bytes,
        .witness = options->witness,
        .witness_context = options->context,
    };
    enum status status = replica_host_open(&host, &node->host, error);
    struct state_machine_kind kind = { .kind = "registry", .create = registry_create };
    if (status == STATUS_OK) status = replica_register_kind(node->host, &kind);
    if (status == STATUS_OK) status = replica_host_start(node->host, error);
    static const char *const spaces[] = { "system", "main" };
    for (size_t i = 0; status == STATUS_OK && i < 2; i++) {
        uint64_t group;
        status = replica_create_group(node->host, "registry", spaces[i], &group, error);
        if (status == STATUS_EXISTS) status = STATUS_OK;
    }
    if (status == STATUS_OK)
        status =
            space_open(node->host, options->clock, "system", "unum:machine", &node->system, error);
    return status;
}

static void agent_changed(void *context, const struct agent_task *task)
{
    struct node *node = context;
    if (node->tasks != NULL) tasks_observe(node->tasks, task);
}

static void agent_exec_exited(void *context, const struct supervise_exec_exited *exited)
{
    struct node *node = context;
    if (node->execs != NULL) exec_table_exited(node->execs, exited);
}

static enum status start_tasks(struct node *node, struct error *error)
{
    if (node->options.supervisor == NULL) return STATUS_OK;
    struct agent_options agent = {
        .scope = &node->scope,
        .clock = node->options.clock,
        .transport = node->options.supervisor,
        .reasons = node->reasons,
        .events = { .changed = agent_changed, .exec_exited = agent_exec_exited },
        .context = node,
    };
    enum status status = agent_create(&agent, &node->agent);
    if (status == STATUS_OK) status = exec_table_create(node->agent, &node->execs);
    if (status != STATUS_OK) return error_set(error, status, "out of memory");
    return tasks_create(node, &node->tasks, error);
}

static enum status start_audit(struct node *node, struct error *error)
{
    struct audit_options options = {
        .scope = &node->scope,
        .disk = node->options.disk,
        .log = log_line,
        .context = node,
    };
    enum status status = audit_create(&options, &node->audit);
    return status == STATUS_OK ? status : error_set(error, status, "out of memory");
}

static enum status start_serving(struct node *node, struct error *error)
{
    struct serve_service services[] = {
        registry_service(&node->registry_service, node->host, node->options.clock),
        computer_service(node),
    };
    struct serve_options serve = {
        .scope = &node->scope,
        .network = node->options.network,
        .clock = node->options.clock,
        .address = node->options.address,
        .tls = node->options.tls,
        .plain_principal = "unum:plain",
        .identify = node->options.tls == NULL ? NULL : identify,
        .log = log_line,
        .context = node,
        .services = services,
        .service_count = sizeof services / sizeof services[0],
    };
    return serve_start(&serve, &node->serve, error);
}

enum status node_start(const struct node_options *options, struct node **ret_node,
                       struct error *error)
{
    struct node *node = calloc(1, sizeof *node);
    if (node == NULL) return error_set(error, STATUS_NO_MEMORY, "out of memory");
    node->options = *options;
    clock_monotonic_ns(options->clock, &node->started_ns);
    scope_init(&node->scope, options->scope);
    enum status status = reasons_create(&node->reasons);
    if (status == STATUS_OK) status = open_replicas(node, error);
    if (status == STATUS_OK) status = start_tasks(node, error);
    if (status == STATUS_OK) status = start_audit(node, error);
    if (status == STATUS_OK) status = start_serving(node, error);
    if (status != STATUS_OK) {
        node_stop(node);
        return status;
    }
    *ret_node = node;
    return STATUS_OK;
}

void node_stop(struct node *node)
{
    if (node == NULL) return;
    if (node->serve != NULL) {
        uint64_t now;
        clock_monotonic_ns(node->options.clock, &now);
        serve_stop(node->serve, now + NODE_DRAIN_MS_MAX * 1000000ull);
    }
    if (node->audit != NULL) {
        uint64_t now;
        clock_monotonic_ns(node->options.clock, &now);
        audit_finish(node->audit, now + NODE_AUDIT_MS_MAX * 1000000ull);
    }
    struct tasks *tasks = node->tasks;
    node->tasks = NULL; /* the agent's last words find nobody */
    scope_cancel(&node->scope);
    scope_join(&node->scope);
    tasks_destroy(tasks); /* its watch goes before the space that it watches */
    replica_host_close(node->host);
    exec_table_destroy(node->execs);
    agent_destroy(node->agent);
    reasons_destroy(node->reasons);
    audit_destroy(node->audit);
    free(node);
}

const char *node_address(const struct node *node)
{
    return serve_address(node->serve);
}

struct replica_host *node_replicas(struct node *node)
{
    return node->host;
}

enum status node_wait_failure(struct node *node, struct error *error)
{
    for (;;) {
        enum status status = replica_host_health(node->host, error);
        if (status != STATUS_OK) return status;
        status = fiber_sleep_ns(NODE_HEALTH_PAUSE_MS * 1000000ull);
        if (status != STATUS_OK) return status;
    }
}
