/* What the files of the node share. Not for other folders. */
#ifndef UNUM_NODE_INTERNAL_H
#define UNUM_NODE_INTERNAL_H

#include "node/audit.h"
#include "node/exec.h"
#include "node/node.h"
#include "node/registry_service.h"
#include "node/space.h"

struct tasks;

struct node {
    struct node_options options;
    struct scope scope; /* of everything that the node runs */
    struct replica_host *host;
    struct space system;
    struct reasons *reasons;
    struct audit *audit;
    struct agent *agent; /* NULL: no tasks here */
    struct exec_table *execs;
    struct tasks *tasks;
    struct registry_service registry_service;
    struct serve *serve;
    uint64_t started_ns;
};

/* Who used authority for what, into the audit. REQUEST: the id that the client gave; TEXT: the
 * sentence of a refusal. */
void node_audit(struct node *node, const char *principal, struct bytes request, const char *action,
                const char *subject, enum status outcome, const char *text);

#endif
