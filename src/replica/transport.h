/* Transport: how the replicas of a group on other machines are reached. The links between machines
 * implement it; a host without one has groups of a single voter only.
 *
 * Messages may be lost, doubled, delayed and reordered; consensus survives it. */
#ifndef UNUM_REPLICA_TRANSPORT_H
#define UNUM_REPLICA_TRANSPORT_H

#include "consensus/raft.h"
#include "replica/replica.h"

struct replica_transport {
    /* Take MESSAGE and PAYLOAD (copies) to message->to. Must not suspend; drops what it can't take.
     */
    void (*send)(struct replica_transport *transport, const struct raft_message *message,
                 struct bytes payload);
};

/* What came from another machine's transport. PAYLOAD has message->payload_bytes; a malformed one
 * is dropped. Must not be called from within send. */
void replica_host_receive(struct replica_host *host, const struct raft_message *message,
                          struct bytes payload);
/* The link to the machine of replica PEER was lost or is there again (see consensus/raft.h). */
void replica_host_link(struct replica_host *host, uint64_t peer, bool up);

/* The number of a replica: of its machine and the incarnation of its disk. Never 0. */
uint64_t replica_id_of(const struct id *machine, const struct id *disk_incarnation);
/* Propose one change of the membership; done when it stands in the log. The statuses of raft_step.
 */
MUST_USE enum status replica_change_membership(struct replica *replica, enum raft_change change,
                                               uint64_t peer);

#endif
