/* Node: the daemon of one machine, wired from its parts. The same code serves users (main.c) and
 * runs in the simulator; what differs arrives in the options. */
#ifndef UNUM_NODE_NODE_H
#define UNUM_NODE_NODE_H

#include "node/agent.h"
#include "node/serve.h"
#include "replica/replica.h"

struct node;

struct node_options {
    struct reactor *reactor;
    struct scope *scope;
    struct disk *disk;       /* suspending */
    struct disk *store_disk; /* blocking */
    struct network *network;
    struct clock *clock;
    struct random *random;
    bool simulation;

    struct id computer, machine, disk_incarnation;
    const char *computer_name; /* borrowed, as the others */
    const char *machine_name;
    const char *address; /* to listen on */
    unsigned cores;
    uint64_t memory_bytes;
    uint32_t process; /* our number, for people */

    struct tls_context *tls;                              /* NULL: plain streams */
    struct agent_transport *supervisor;                   /* NULL: this machine runs no tasks */
    const char *logs_folder;                              /* of unum-log; NULL: no logs */
    uint64_t journal_segment_bytes, store_memtable_bytes; /* 0: defaults */
    void (*log)(void *context, const char *line);
    /* Told of every applied entry, see replica_host_options; NULL: nobody listens. */
    void (*witness)(void *context, uint64_t group, uint64_t index, uint64_t running_hash,
                    uint64_t computer_time_ms);
    void *context;
};

/* Recover, open the spaces, listen. On failure nothing is left running. */
MUST_USE enum status node_start(const struct node_options *options, struct node **ret_node,
                                struct error *error);
/* Ends everything within a bound. Accepts NULL. */
void node_stop(struct node *node);

/* The address with the real port; borrowed. */
const char *node_address(const struct node *node);
struct replica_host *node_replicas(struct node *node);
/* Suspends until the node can't go on (a failed disk): the sentence is in ERROR. STATUS_CANCELLED:
 * the scope ends. */
MUST_USE enum status node_wait_failure(struct node *node, struct error *error);

#define NODE_VERSION "0.1.0"

#endif
