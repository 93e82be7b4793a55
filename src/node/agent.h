/* Agent: the daemon's view of what unum-init runs on this machine.
 *
 * Keeps one connection to unum-init, comes back after every loss, learns all tasks (LIST) and every
 * change (events), and carries requests. What it holds is a copy: unum-init decides and remembers.
 * One reactor; callbacks run in the agent's fiber and must not suspend. */
#ifndef UNUM_NODE_AGENT_H
#define UNUM_NODE_AGENT_H

#include "base/clock.h"
#include "node/reasons.h"
#include "reactor/reactor.h"
#include "supervise/protocol.h"

#include <uthash.h>

/* How packets travel: a socket in the daemon, the policy core itself in the simulator. */
struct agent_transport {
    enum status (*connect)(struct agent_transport *transport, struct error *error);
    void (*disconnect)(struct agent_transport *transport);
    /* Suspends while the other side is slow. Descriptors stay the caller's. */
    enum status (*send)(struct agent_transport *transport, struct bytes packet,
                        const int *descriptors, size_t descriptor_count);
    /* Suspends until a packet is there. */
    enum status (*receive)(struct agent_transport *transport, void *ret_bytes, size_t size,
                           size_t *ret_size);
};

/* The socket of unum-init at PATH (borrowed). */
struct agent_socket {
    struct agent_transport transport;
    const char *path;
    int descriptor;
};
void agent_socket_init(struct agent_socket *transport, const char *path);

enum { AGENT_REQUESTS_MAX = 256 };

struct agent_task {
    struct id id;
    uint64_t sequence;
    uint64_t incarnation;
    enum supervise_state state;
    bool up;
    uint8_t exit_kind;
    uint32_t exit_code;
    uint32_t pid, host_pid;
    uint32_t restarts, failures;
    uint64_t started_at_ns, ended_at_ns, next_start_ns;
    uint64_t cpu_milli, memory_bytes;    /* what it reserves */
    uint16_t ports[SUPERVISE_PORTS_MAX]; /* of the host */
    uint32_t port_count;
    char job[LIMIT_NAME_BYTES_MAX + 1];
    char name[LIMIT_NAME_BYTES_MAX + 1];
    char reason[SUPERVISE_REASON_BYTES_MAX + 1];
    uint64_t round; /* of the LIST that named it last */
    UT_hash_handle hh;
};

struct agent;

struct agent_events {
    /* A task changed, appeared, or (task NULL) was dropped, or the link came or went. */
    void (*changed)(void *context, const struct agent_task *task);
    void (*exec_exited)(void *context, const struct supervise_exec_exited *exited);
};

struct agent_options {
    struct scope *scope; /* the agent's fiber lives here */
    struct clock *clock;
    struct agent_transport *transport;
    struct reasons *reasons;
    struct agent_events events;
    void *context;
};

MUST_USE enum status agent_create(const struct agent_options *options, struct agent **ret_agent);
/* After its scope has been joined. */
void agent_destroy(struct agent *agent);

/* All tasks are known: connected, and the first LIST is complete. */
bool agent_synchronized(const struct agent *agent);
/* What unum-init said at HELLO; valid while synchronized. */
uint64_t agent_instance(const struct agent *agent);
uint32_t agent_features(const struct agent *agent);
const char *agent_missing(const struct agent *agent);

/* The tasks in order of arrival: for (task = agent_tasks(a); task; task = task->hh.next). */
const struct agent_task *agent_tasks(const struct agent *agent);
size_t agent_task_count(const struct agent *agent);
const struct agent_task *agent_find(const struct agent *agent, const struct id *id);

/* Send and wait for the answer. MESSAGE.request is chosen here. The status is unum-init's; ERROR
 * its sentence. STATUS_UNAVAILABLE: no link, or it broke (outcome unknown). ret_request may be
 * NULL. */
MUST_USE enum status agent_request(struct agent *agent, struct supervise_message *message,
                                   const int *descriptors, size_t descriptor_count,
                                   uint64_t *ret_value, struct error *error);

/* "exit 1", "killed by SIGKILL"; empty for none. */
void agent_format_exit(uint8_t exit_kind, uint32_t exit_code, char *ret_text, size_t size);

#endif
