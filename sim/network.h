/* Simulated network: base/network.h between named machines of one world, under virtual time.
 *
 * Model: an address is "NAME:PORT", NAME a machine of the world. A connection has a delay of its
 * own, the same for its whole life, plus a jitter per write; bytes arrive in order, after the
 * delay. Each direction holds NETWORK_FLIGHT_BYTES_MAX; a writer waits for the rest
 * (back-pressure). A connection breaks when somebody says so, or at a write, as the seed decides:
 * both ends then see STATUS_CLOSED, what was under way is lost. When a machine crashes its
 * listeners are gone and its connections break: the other ends learn it after the delay, having got
 * some of what was under way. A cut in one direction keeps everything from arriving, the end of a
 * connection too; it is sent again when the cut heals. Who connects across a cut waits.
 *
 * Ownership: streams and listeners are freed by their close, as always. One reactor. Deterministic:
 * every draw comes from the seed, in the order of the calls. */
#ifndef UNUM_SIM_NETWORK_H
#define UNUM_SIM_NETWORK_H

#include "base/network.h"
#include "base/random.h"

enum {
    SIM_NETWORK_MACHINES_MAX = 64,
    SIM_NETWORK_NAME_BYTES_MAX = 31,
    SIM_NETWORK_FLIGHT_BYTES_MAX = 256 * 1024, /* per direction: as large socket buffers */
    SIM_NETWORK_BACKLOG_MAX = 64,
};

struct reactor;
struct sim_network;
struct sim_machine;

struct sim_network_options {
    struct reactor *reactor;
    uint64_t seed;
    uint64_t delay_ns_min, delay_ns_max; /* one way */
    unsigned breaks_per_million;         /* writes */
};

struct sim_network_figures {
    uint64_t connections, refused, broken, bytes;
    uint64_t streams_open, listeners_open; /* not closed by their owners yet */
};

MUST_USE enum status sim_network_create(const struct sim_network_options *options,
                                        struct sim_network **ret_network);
/* All streams and listeners have been closed (asserted). Accepts NULL. */
void sim_network_destroy(struct sim_network *network);
/* Breaks at writes, from now on. */
void sim_network_set_breaks(struct sim_network *network, unsigned per_million);
struct sim_network_figures sim_network_figures(const struct sim_network *network);

/* A machine of this name; its network is valid as long as the world's. STATUS_EXISTS, STATUS_BUSY:
 * SIM_NETWORK_MACHINES_MAX. */
MUST_USE enum status sim_network_add_machine(struct sim_network *network, const char *name,
                                             struct sim_machine **ret_machine);
struct network *sim_machine_network(struct sim_machine *machine);
/* Its process is gone, or its power: see above. It may listen and connect again at once. */
void sim_machine_crash(struct sim_machine *machine);
/* Nothing sent by FROM arrives at TO while CUT; the other direction is its own. Idempotent. */
void sim_network_cut(struct sim_network *network, struct sim_machine *from, struct sim_machine *to,
                     bool cut);
/* Break one connection of the machine; false: it has none. */
bool sim_machine_break_one(struct sim_machine *machine);

#endif
