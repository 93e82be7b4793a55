#include "replica/internal.h"

#include <assert.h>
#include <stdlib.h>

/* --- admission ---------------------------------------------------------------------------------
 */

static enum status stopped(const struct replica_host *host, struct error *error)
{
    if (host->stopped == STATUS_OK) {
        return error_set(error, STATUS_UNAVAILABLE, "the daemon is closing");
    }
    return error_set(error, STATUS_IO, "stopped: %s", host->stopped_error.text);
}

static enum status check_usable(struct replica *replica, uint64_t deadline_ns, struct error *error)
{
    struct replica_host *host = replica->host;
    if (!host_is_running(host)) return stopped(host, error);
    if (!replica->open) {
        return error_set(error, STATUS_UNAVAILABLE, "%s %s was removed", replica->description.kind,
                         replica->description.name);
    }
    if (host_now_ns(host) >= deadline_ns) {
        return error_set(error, STATUS_TIMEOUT, "the deadline had passed before the request began");
    }
    return STATUS_OK;
}

static enum status check_request(const struct replica_request *request, struct error *error)
{
    if (request->payload.size > LIMIT_ENTRY_BYTES_MAX - ENTRY_OVERHEAD_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "the request has %zu bytes, the maximum is %d",
                         request->payload.size, LIMIT_ENTRY_BYTES_MAX - ENTRY_OVERHEAD_BYTES_MAX);
    }
    if (request->principal.size > ENTRY_PRINCIPAL_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "the principal is longer than %d bytes",
                         ENTRY_PRINCIPAL_BYTES_MAX);
    }
    if (request->space.size > ENTRY_SPACE_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "the space's name is longer than %d bytes",
                         ENTRY_SPACE_BYTES_MAX);
    }
    if (!id_is_zero(&request->session) && request->sequence == 0) {
        return error_set(error, STATUS_INVALID, "sequence numbers of a session begin at 1");
    }
    return STATUS_OK;
}

static enum status check_room(const struct replica *replica, size_t size, struct error *error)
{
    const struct replica_host *host = replica->host;
    if (replica->proposal_count >= REPLICA_PROPOSALS_MAX ||
        replica->proposal_bytes + size > REPLICA_PROPOSAL_BYTES_MAX) {
        return error_set(error, STATUS_BUSY, "%u requests wait to be written",
                         replica->proposal_count);
    }
    if (host->journal_full || host->store_full) {
        return error_set(error, STATUS_FULL, "the disk has no room for more writes");
    }
    if (release_is_pressed(host)) {
        return error_set(error, STATUS_BUSY, "the journal waits for the store to catch up");
    }
    return STATUS_OK;
}

/* --- into the log ------------------------------------------------------------------------------
 */

static enum status refused(const struct replica *replica, enum status status, struct error *error)
{
    if (status == STATUS_UNAVAILABLE) {
        return error_set(error, status, "this machine does not lead %s %s",
                         replica->description.kind, replica->description.name);
    }
    return error_set(error, status, "%s %s takes no request now (%s)", replica->description.kind,
                     replica->description.name, status_name(status));
}

/* Encode ENTRY, with the time and chance of now, and hand it to consensus. */
static enum status propose_entry(struct replica *replica, struct entry *entry, size_t *ret_size,
                                 uint64_t *ret_index, uint64_t *ret_term)
{
    struct replica_host *host = replica->host;
    /* Not only consensus' to know: a time may be written by a leader only. */
    if (!replica->is_leader) return STATUS_UNAVAILABLE;
    entry->feature_level = replica->applier.applied.feature_level;
    entry->group = replica->description.group;
    entry->computer_time_ms = replica_leader_time_ms(replica);
    random_u64(host->options.random, &entry->random_seed);

    size_t room = ENTRY_OVERHEAD_BYTES_MAX + entry->payload.size;
    uint8_t *bytes = malloc(room);
    if (bytes == NULL) return STATUS_NO_MEMORY;
    struct writer writer = writer_of(bytes, room);
    enum status status = entry_encode(entry, &writer);
    assert(status == STATUS_OK);

    struct raft_event event = { .type = RAFT_EVENT_PROPOSE,
                                .count = 1,
                                .bytes = (uint32_t)writer.used };
    struct step_input input = { .entry = bytes, .entry_size = (uint32_t)writer.used };
    status = replica_step(replica, &event, &input);
    if (status != STATUS_OK) {
        free(bytes);
        return host_is_running(host) ? status : STATUS_IO;
    }
    struct raft_info info;
    raft_info(replica->raft, &info);
    replica->log_time_ms = entry->computer_time_ms;
    *ret_size = writer.used;
    *ret_index = info.last;
    *ret_term = info.last_term;
    return STATUS_OK;
}

enum status replica_propose_time(struct replica *replica)
{
    struct entry entry = { .kind = ENTRY_TIME };
    size_t size;
    uint64_t index;
    uint64_t term;
    return propose_entry(replica, &entry, &size, &index, &term);
}

static enum status explain(const struct replica *replica, const struct proposal *proposal,
                           struct error *error)
{
    switch (proposal->status) {
    case STATUS_OK: return STATUS_OK;
    case STATUS_EXISTS:
        return error_set(error, STATUS_EXISTS,
                         "applied before, at %llu; its answer was over %d bytes and is not kept",
                         (unsigned long long)proposal->applied_at,
                         REPLICA_REPLY_REMEMBERED_BYTES_MAX);
    case STATUS_INVALID:
        return error_set(error, STATUS_INVALID,
                         "the sequence number is too old: whether it was applied is forgotten");
    case STATUS_IO: return stopped(replica->host, error);
    case STATUS_TIMEOUT:
        return error_set(error, STATUS_TIMEOUT,
                         "no answer before the deadline; the request may still be applied");
    default:
        return error_set(error, proposal->status, "%s %s: the request ended with %s",
                         replica->description.kind, replica->description.name,
                         status_name(proposal->status));
    }
}

/* Suspends until the proposal is done, or nobody may wait any longer. */
static void await(struct replica *replica, struct proposal *proposal, uint64_t deadline_ns)
{
    while (!proposal->done) {
        enum status status = condition_wait(&proposal->wake, deadline_ns);
        if (status == STATUS_OK || proposal->done) continue;
        TAILQ_REMOVE(&replica->proposals, proposal, links);
        proposal->status = status;
        proposal->done = true;
    }
}

static void leave(struct replica_host *host)
{
    assert(host->caller_count > 0);
    host->caller_count--;
    if (host->caller_count == 0) condition_broadcast(&host->callers_gone);
}

static enum status propose_and_wait(struct replica *replica, const struct replica_request *request,
                                    struct buffer *reply, uint64_t *ret_index, struct error *error)
{
    struct replica_host *host = replica->host;
    struct entry entry = {
        .kind = ENTRY_COMMAND,
        .session = request->session,
        .sequence = request->sequence,
        .principal = request->principal,
        .space = request->space,
        .trace = request->trace,
        .payload = request->payload,
    };
    reply->used = 0;
    struct proposal proposal = { .reply = reply };
    condition_init(&proposal.wake);
    enum status status =
        propose_entry(replica, &entry, &proposal.size, &proposal.index, &proposal.term);
    if (status == STATUS_IO) return stopped(host, error);
    if (status != STATUS_OK) return refused(replica, status, error);

    TAILQ_INSERT_TAIL(&replica->proposals, &proposal, links);
    replica->proposal_count++;
    replica->proposal_bytes += proposal.size;
    await(replica, &proposal, request->deadline_ns);
    replica->proposal_count--;
    replica->proposal_bytes -= proposal.size;
    status = explain(replica, &proposal, error);
    if (status == STATUS_OK) *ret_index = proposal.applied_at;
    return status;
}

enum status replica_propose(struct replica *replica, const struct replica_request *request,
                            struct buffer *reply, uint64_t *ret_index, struct error *error)
{
    struct replica_host *host = replica->host;
    enum status status = check_usable(replica, request->deadline_ns, error);
    if (status == STATUS_OK) status = check_request(request, error);
    if (status != STATUS_OK) return status;
    host->caller_count++; /* the host stays until we are done */
    status = room_admit(host, request->payload.size, request->essential, error);
    if (status == STATUS_OK) status = check_usable(replica, request->deadline_ns, error);
    if (status == STATUS_OK) status = check_room(replica, request->payload.size, error);
    if (status == STATUS_OK) status = propose_and_wait(replica, request, reply, ret_index, error);
    leave(host);
    return status;
}

enum status replica_change_membership(struct replica *replica, enum raft_change change,
                                      uint64_t peer)
{
    if (!host_is_running(replica->host)) return STATUS_IO;
    if (!replica->open) return STATUS_UNAVAILABLE;
    struct raft_event event = { .type = RAFT_EVENT_CHANGE, .change = change, .peer = peer };
    return replica_step(replica, &event, NULL);
}

/* --- reads -------------------------------------------------------------------------------------
 */

enum status replica_read_barrier(struct replica *replica, uint64_t deadline_ns, struct error *error)
{
    enum status status = check_usable(replica, deadline_ns, error);
    if (status != STATUS_OK) return status;
#ifdef MUTATION_READ_WITHOUT_BARRIER /* whatever is here is served */
    return STATUS_OK;
#endif
    struct replica_host *host = replica->host;
    struct barrier barrier = { .id = ++replica->barrier_id };
    condition_init(&barrier.wake);
    TAILQ_INSERT_TAIL(&replica->barriers, &barrier, links);
    struct raft_event event = { .type = RAFT_EVENT_READ, .id = barrier.id };
    status = replica_step(replica, &event, NULL);
    if (status != STATUS_OK && !barrier.done) {
        TAILQ_REMOVE(&replica->barriers, &barrier, links);
        if (!host_is_running(host)) return stopped(host, error);
        return refused(replica, status, error);
    }
    host->caller_count++;
    while (!barrier.done) {
        status = condition_wait(&barrier.wake, deadline_ns);
        if (status == STATUS_OK || barrier.done) continue;
        TAILQ_REMOVE(&replica->barriers, &barrier, links);
        barrier.status = status;
        barrier.done = true;
    }
    status = barrier.status;
    if (status == STATUS_IO) {
        status = stopped(host, error);
    } else if (status == STATUS_TIMEOUT || status == STATUS_CANCELLED) {
        error_set(error, status, "the read could not be confirmed in time");
    } else if (status != STATUS_OK) {
        refused(replica, status, error);
    }
    leave(host);
    return status;
}
