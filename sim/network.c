#include "sim/network.h"

#include "base/parse.h"
#include "reactor/reactor.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PORT_FREE_FIRST = 40000, PORT_MAX = 65535 };

/* What one write put on the way. */
struct parcel {
    STAILQ_ENTRY(parcel) queue;
    uint64_t arrives_ns;
    size_t size, taken;
    uint8_t bytes[];
};

/* One direction. */
struct pipe {
    STAILQ_HEAD(, parcel) parcels;
    size_t flight_bytes;
    uint64_t arrived_ns; /* of the last parcel: nothing overtakes it */
    uint64_t end_ns;     /* the reader sees the end behind the parcels; DEADLINE_NEVER: open */
    bool end_held;       /* the end is under way behind a cut */
    struct condition readable, writable;
};

struct connection;

struct end {
    struct stream stream;
    struct connection *connection;
    struct sim_machine *machine; /* NULL: crashed away */
    struct sim_machine *home;    /* the same, and stays */
    struct pipe *in, *out;
    uint64_t reset_ns; /* from then on reading and writing fail; DEADLINE_NEVER: fine */
    uint64_t deaf_ns;  /* from then on writing fails: the other end takes no more */
    bool reset_held;   /* the other end is gone, which a cut keeps us from learning */
    unsigned users;    /* fibers inside a call */
    bool shut, closed, freed;
    char peer[NETWORK_ADDRESS_BYTES_MAX];
};

struct connection {
    TAILQ_ENTRY(connection) all;
    struct sim_network *network;
    struct pipe pipes[2];
    struct end ends[2]; /* who connected, who accepted */
    uint64_t delay_ns;
    /* Until accepted. */
    TAILQ_ENTRY(connection) backlog;
    uint64_t offered_ns;
};

struct sim_listener {
    struct listener listener;
    TAILQ_ENTRY(sim_listener) all;
    struct sim_machine *machine; /* NULL: crashed away */
    struct sim_network *network;
    uint16_t port;
    TAILQ_HEAD(, connection) waiting;
    size_t waiting_count;
    struct condition arrived;
    unsigned users;
    bool closed;
    char address[NETWORK_ADDRESS_BYTES_MAX];
};

struct sim_machine {
    struct network network;
    struct sim_network *world;
    char name[SIM_NETWORK_NAME_BYTES_MAX + 1];
    size_t number;
    uint16_t port_next;
};

struct sim_network {
    struct sim_network_options options;
    struct random_seeded random;
    struct sim_network_figures figures;
    struct sim_machine *machines[SIM_NETWORK_MACHINES_MAX];
    size_t machine_count;
    bool cut[SIM_NETWORK_MACHINES_MAX][SIM_NETWORK_MACHINES_MAX]; /* from, to */
    struct condition healed;
    TAILQ_HEAD(, connection) connections;
    TAILQ_HEAD(, sim_listener) listeners;
};

static uint64_t now_of(struct sim_network *network)
{
    uint64_t now;
    clock_monotonic_ns(reactor_clock(network->options.reactor), &now);
    return now;
}

static uint64_t draw(struct sim_network *network, uint64_t bound)
{
    uint64_t value;
    random_below(&network->random.random, bound, &value);
    return value;
}

static void trace(struct sim_network *network, const char *what, const struct connection *of)
{
    reactor_trace_add(network->options.reactor, what, strlen(what));
    reactor_trace_add(network->options.reactor, &of->delay_ns, sizeof of->delay_ns);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* --- connections --------------------------------------------------------------------------------
 */

static void drop_parcels(struct pipe *pipe)
{
    struct parcel *parcel;
    while ((parcel = STAILQ_FIRST(&pipe->parcels)) != NULL) {
        STAILQ_REMOVE_HEAD(&pipe->parcels, queue);
        free(parcel);
    }
    pipe->flight_bytes = 0;
}

static struct end *other_end(struct end *end)
{
    return end == &end->connection->ends[0] ? &end->connection->ends[1] : &end->connection->ends[0];
}

static void wake_end(struct end *end)
{
    condition_broadcast(&end->in->readable);
    condition_broadcast(&end->out->writable);
}

/* Whether nothing of what the machine of END sends arrives. */
static bool is_cut(struct end *end)
{
    return end->connection->network->cut[end->home->number][other_end(end)->home->number];
}

/* The end learns at AT_NS that the connection is no more. */
static void reset_end(struct end *end, uint64_t at_ns)
{
    end->reset_ns = earlier(end->reset_ns, at_ns);
    wake_end(end);
}

static void break_connection(struct connection *connection)
{
    uint64_t now = now_of(connection->network);
    connection->network->figures.broken++;
    trace(connection->network, "break", connection);
    for (size_t i = 0; i < 2; i++) reset_end(&connection->ends[i], now);
}

static void free_end(struct end *end)
{
    struct connection *connection = end->connection;
    assert(!end->freed);
    end->freed = true;
    connection->network->figures.streams_open--;
    if (!connection->ends[0].freed || !connection->ends[1].freed) return;
    TAILQ_REMOVE(&connection->network->connections, connection, all);
    for (size_t i = 0; i < 2; i++) drop_parcels(&connection->pipes[i]);
    free(connection);
}

static struct end *end_of(const struct stream *stream)
{
    return (struct end *)stream; /* the first member */
}

/* The way out of every call that may have waited. */
static enum status leave(struct end *end, enum status status)
{
    if (end->closed || end->shut) status = STATUS_CLOSED;
    end->users--;
    if (end->closed && end->users == 0) free_end(end);
    return status;
}

static size_t take_arrived(struct end *end, uint64_t now, uint8_t *ret_bytes, size_t size)
{
    size_t taken = 0;
    struct parcel *parcel;
    while (taken < size && (parcel = STAILQ_FIRST(&end->in->parcels)) != NULL &&
           parcel->arrives_ns <= now) {
        size_t part = parcel->size - parcel->taken;
        if (part > size - taken) part = size - taken;
        memcpy(ret_bytes + taken, parcel->bytes + parcel->taken, part);
        parcel->taken += part;
        taken += part;
        if (parcel->taken < parcel->size) break;
        STAILQ_REMOVE_HEAD(&end->in->parcels, queue);
        free(parcel);
    }
    if (taken > 0) {
        end->in->flight_bytes -= taken;
        condition_signal(&end->in->writable);
    }
    return taken;
}

static enum status read_inside(struct end *end, void *ret_bytes, size_t size, uint64_t deadline_ns,
                               size_t *ret_read)
{
    for (;;) {
        uint64_t now = now_of(end->connection->network);
        if (end->shut || end->closed || end->reset_ns <= now) return STATUS_CLOSED;
        size_t taken = take_arrived(end, now, ret_bytes, size);
        const struct parcel *next = STAILQ_FIRST(&end->in->parcels);
        if (taken > 0 || (next == NULL && end->in->end_ns <= now)) {
            *ret_read = taken;
            return STATUS_OK;
        }
        uint64_t change_ns = next != NULL ? next->arrives_ns : end->in->end_ns;
        change_ns = earlier(change_ns, end->reset_ns);
        enum status status = condition_wait(&end->in->readable, earlier(change_ns, deadline_ns));
        if (status == STATUS_TIMEOUT && deadline_ns < change_ns) return status;
        if (status == STATUS_CANCELLED) return status;
    }
}

static enum status stream_read_bytes(struct stream *stream, void *ret_bytes, size_t size,
                                     uint64_t deadline_ns, size_t *ret_read)
{
    struct end *end = end_of(stream);
    assert(size > 0);
    if (fiber_must_stop()) return STATUS_CANCELLED;
    end->users++;
    return leave(end, read_inside(end, ret_bytes, size, deadline_ns, ret_read));
}

/* As much as there is room for. */
static size_t send_parcel(struct end *end, const uint8_t *bytes, size_t size)
{
    struct sim_network *network = end->connection->network;
    struct pipe *pipe = end->out;
    size_t room = SIM_NETWORK_FLIGHT_BYTES_MAX - pipe->flight_bytes;
    if (size > room) size = room;
    if (size == 0) return 0;
    struct parcel *parcel = malloc(sizeof *parcel + size);
    assert(parcel != NULL);
    uint64_t jitter = draw(network, end->connection->delay_ns / 4 + 1);
    uint64_t arrives_ns = now_of(network) + end->connection->delay_ns + jitter;
    if (arrives_ns < pipe->arrived_ns) arrives_ns = pipe->arrived_ns;
    if (is_cut(end)) arrives_ns = DEADLINE_NEVER; /* until it is sent again */
    *parcel = (struct parcel) { .arrives_ns = arrives_ns, .size = size };
    memcpy(parcel->bytes, bytes, size);
    STAILQ_INSERT_TAIL(&pipe->parcels, parcel, queue);
    pipe->arrived_ns = arrives_ns;
    pipe->flight_bytes += size;
    network->figures.bytes += size;
    condition_signal(&pipe->readable);
    return size;
}

static enum status write_inside(struct end *end, const uint8_t *bytes, size_t size,
                                uint64_t deadline_ns)
{
    struct sim_network *network = end->connection->network;
    if (network->options.breaks_per_million > 0 &&
        draw(network, 1000000) < network->options.breaks_per_million) {
        (void)send_parcel(end, bytes, draw(network, size + 1)); /* some of it may have gone out */
        break_connection(end->connection);
        return STATUS_CLOSED;
    }
    for (;;) {
        uint64_t now = now_of(network);
        uint64_t fails_ns = earlier(end->reset_ns, end->deaf_ns);
        if (end->shut || end->closed || fails_ns <= now) return STATUS_CLOSED;
        size_t sent = send_parcel(end, bytes, size);
        bytes += sent;
        size -= sent;
        if (size == 0) return STATUS_OK;
        if (deadline_ns == 0) return STATUS_TIMEOUT;
        enum status status = condition_wait(&end->out->writable, earlier(fails_ns, deadline_ns));
        if (status == STATUS_TIMEOUT && deadline_ns < fails_ns) return status;
        if (status == STATUS_CANCELLED) return status;
    }
}

static enum status stream_write_bytes(struct stream *stream, const void *bytes, size_t size,
                                      uint64_t deadline_ns)
{
    struct end *end = end_of(stream);
    if (fiber_must_stop()) return STATUS_CANCELLED;
    end->users++;
    return leave(end, write_inside(end, bytes, size, deadline_ns));
}

/* Our side sends no more, and takes no more: the other side reads the end behind what is under way,
 * and its writes fail once it can know. */
static void shut_end(struct end *end)
{
    if (end->shut) return;
    end->shut = true;
    uint64_t now = now_of(end->connection->network);
    uint64_t known_ns = now + end->connection->delay_ns;
    if (known_ns < end->out->arrived_ns) known_ns = end->out->arrived_ns;
    drop_parcels(end->in);
    if (is_cut(end)) {
        end->out->end_held = true;
    } else {
        end->out->end_ns = earlier(end->out->end_ns, known_ns);
        other_end(end)->deaf_ns =
            earlier(other_end(end)->deaf_ns, known_ns + 2 * end->connection->delay_ns);
    }
    wake_end(end);
    wake_end(other_end(end));
}

static void stream_shutdown(struct stream *stream)
{
    shut_end(end_of(stream));
}

static void stream_close_end(struct stream *stream)
{
    struct end *end = end_of(stream);
    assert(!end->closed);
    shut_end(end);
    end->closed = true;
    if (end->users == 0) free_end(end);
}

static const char *stream_peer(const struct stream *stream)
{
    return end_of(stream)->peer;
}

static const struct stream_operations stream_functions = {
    .read = stream_read_bytes,
    .write = stream_write_bytes,
    .close = stream_close_end,
    .shutdown = stream_shutdown,
    .peer = stream_peer,
};

/* --- listeners ----------------------------------------------------------------------------------
 */

static struct sim_listener *listener_of(const struct listener *listener)
{
    return (struct sim_listener *)listener; /* the first member */
}

static void free_listener(struct sim_listener *listener)
{
    TAILQ_REMOVE(&listener->network->listeners, listener, all);
    listener->network->figures.listeners_open--;
    free(listener);
}

/* Nobody will accept those that wait. */
static void refuse_waiting(struct sim_listener *listener)
{
    struct connection *connection;
    while ((connection = TAILQ_FIRST(&listener->waiting)) != NULL) {
        TAILQ_REMOVE(&listener->waiting, connection, backlog);
        stream_close_end(&connection->ends[1].stream);
    }
    listener->waiting_count = 0;
}

static enum status accept_inside(struct sim_listener *listener, uint64_t deadline_ns,
                                 struct stream **ret_stream)
{
    for (;;) {
        if (listener->closed || listener->machine == NULL) return STATUS_CLOSED;
        uint64_t now = now_of(listener->network);
        struct connection *first = TAILQ_FIRST(&listener->waiting);
        if (first != NULL && first->offered_ns <= now) {
            TAILQ_REMOVE(&listener->waiting, first, backlog);
            listener->waiting_count--;
            *ret_stream = &first->ends[1].stream;
            return STATUS_OK;
        }
        uint64_t offered_ns = first == NULL ? DEADLINE_NEVER : first->offered_ns;
        enum status status = condition_wait(&listener->arrived, earlier(offered_ns, deadline_ns));
        if (status == STATUS_TIMEOUT && deadline_ns < offered_ns) return status;
        if (status == STATUS_CANCELLED) return status;
    }
}

static enum status listener_accept(struct listener *base, uint64_t deadline_ns,
                                   struct stream **ret_stream)
{
    struct sim_listener *listener = listener_of(base);
    if (fiber_must_stop()) return STATUS_CANCELLED;
    listener->users++;
    enum status status = accept_inside(listener, deadline_ns, ret_stream);
    listener->users--;
    if (listener->closed && listener->users == 0) free_listener(listener);
    return status;
}

static void listener_close(struct listener *base)
{
    struct sim_listener *listener = listener_of(base);
    assert(!listener->closed);
    listener->closed = true;
    refuse_waiting(listener);
    condition_broadcast(&listener->arrived);
    if (listener->users == 0) free_listener(listener);
}

static const char *listener_address(const struct listener *listener)
{
    return listener_of(listener)->address;
}

static const struct listener_operations listener_functions = {
    .accept = listener_accept,
    .close = listener_close,
    .address = listener_address,
};

/* --- machines -----------------------------------------------------------------------------------
 */

static struct sim_listener *find_listener(struct sim_network *network,
                                          const struct sim_machine *machine, uint16_t port)
{
    struct sim_listener *listener;
    TAILQ_FOREACH (listener, &network->listeners, all) {
        if (listener->machine == machine && listener->port == port && !listener->closed)
            return listener;
    }
    return NULL;
}

static enum status parse_address(struct sim_network *network, const char *text,
                                 struct sim_machine **ret_machine, uint16_t *ret_port,
                                 struct error *error)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;
    if (colon == NULL || parse_u64(colon + 1, PORT_MAX, &port) != STATUS_OK)
        return error_set(error, STATUS_INVALID, "%.100s: want NAME:PORT", text);
    size_t size = (size_t)(colon - text);
    for (size_t i = 0; i < network->machine_count; i++) {
        struct sim_machine *machine = network->machines[i];
        if (strlen(machine->name) != size || memcmp(machine->name, text, size) != 0) continue;
        *ret_machine = machine;
        *ret_port = (uint16_t)port;
        return STATUS_OK;
    }
    return error_set(error, STATUS_NOT_FOUND, "%.100s: no machine of this name", text);
}

static uint16_t free_port(struct sim_machine *machine)
{
    for (;;) {
        uint16_t port = machine->port_next;
        machine->port_next = port == PORT_MAX ? PORT_FREE_FIRST : (uint16_t)(port + 1);
        if (find_listener(machine->world, machine, port) == NULL) return port;
    }
}

static struct sim_machine *machine_of(struct network *network)
{
    return (struct sim_machine *)network; /* the first member */
}

static enum status machine_listen(struct network *base, const char *address,
                                  struct listener **ret_listener, struct error *error)
{
    struct sim_machine *self = machine_of(base), *named;
    struct sim_network *network = self->world;
    uint16_t port;
    enum status status = parse_address(network, address, &named, &port, error);
    if (status != STATUS_OK) return status;
    if (named != self)
        return error_set(error, STATUS_INVALID, "%.100s is not an address of %s", address,
                         self->name);
    if (port == 0) port = free_port(self);
    if (find_listener(network, self, port) != NULL)
        return error_set(error, STATUS_EXISTS, "%.100s is taken", address);
    struct sim_listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL) return error_set(error, STATUS_NO_MEMORY, "out of memory");
    listener->listener.operations = &listener_functions;
    listener->machine = self;
    listener->network = network;
    listener->port = port;
    TAILQ_INIT(&listener->waiting);
    condition_init(&listener->arrived);
    (void)snprintf(listener->address, sizeof listener->address, "%s:%u", self->name, port);
    TAILQ_INSERT_TAIL(&network->listeners, listener, all);
    network->figures.listeners_open++;
    *ret_listener = &listener->listener;
    return STATUS_OK;
}

static struct connection *create_connection(struct sim_network *network, struct sim_machine *from,
                                            struct sim_machine *to)
{
    struct connection *connection = calloc(1, sizeof *connection);
    assert(connection != NULL);
    connection->network = network;
    uint64_t spread = network->options.delay_ns_max - network->options.delay_ns_min;
    connection->delay_ns = network->options.delay_ns_min + draw(network, spread + 1);
    for (size_t i = 0; i < 2; i++) {
        struct pipe *pipe = &connection->pipes[i];
        STAILQ_INIT(&pipe->parcels);
        pipe->end_ns = DEADLINE_NEVER;
        condition_init(&pipe->readable);
        condition_init(&pipe->writable);
        struct end *end = &connection->ends[i];
        end->stream.operations = &stream_functions;
        end->connection = connection;
        end->machine = end->home = i == 0 ? from : to;
        end->out = &connection->pipes[i];
        end->in = &connection->pipes[1 - i];
        end->reset_ns = end->deaf_ns = DEADLINE_NEVER;
        (void)snprintf(end->peer, sizeof end->peer, "%s", i == 0 ? to->name : from->name);
    }
    TAILQ_INSERT_TAIL(&network->connections, connection, all);
    network->figures.streams_open += 2;
    network->figures.connections++;
    return connection;
}

static enum status machine_connect(struct network *base, const char *address, uint64_t deadline_ns,
                                   struct stream **ret_stream, struct error *error)
{
    struct sim_machine *self = machine_of(base), *named = NULL;
    struct sim_network *network = self->world;
    uint16_t port;
    enum status status = parse_address(network, address, &named, &port, error);
    if (status != STATUS_OK || named == NULL) return status;
    /* There and back, before we know. */
    uint64_t delay_ns = network->options.delay_ns_min * 2, now = now_of(network);
    if (deadline_ns <= now + delay_ns) {
        status = fiber_sleep_until_ns(deadline_ns);
        if (status == STATUS_OK) status = STATUS_TIMEOUT;
        return error_set(error, status, "connect to %.100s: %s", address, status_name(status));
    }
    status = fiber_sleep_ns(delay_ns);
    while (status == STATUS_OK &&
           (network->cut[self->number][named->number] || network->cut[named->number][self->number]))
        status = condition_wait(&network->healed, deadline_ns);
    if (status != STATUS_OK)
        return error_set(error, status, "connect to %.100s: %s", address, status_name(status));
    struct sim_listener *listener = find_listener(network, named, port);
    if (listener == NULL || listener->waiting_count == SIM_NETWORK_BACKLOG_MAX) {
        network->figures.refused++;
        return error_set(error, STATUS_UNAVAILABLE, "connect to %.100s: nobody listens", address);
    }
    struct connection *connection = create_connection(network, self, named);
    connection->offered_ns = now_of(network);
    TAILQ_INSERT_TAIL(&listener->waiting, connection, backlog);
    listener->waiting_count++;
    condition_signal(&listener->arrived);
    *ret_stream = &connection->ends[0].stream;
    return STATUS_OK;
}

void sim_machine_crash(struct sim_machine *machine)
{
    struct sim_network *network = machine->world;
    struct sim_listener *listener;
    TAILQ_FOREACH (listener, &network->listeners, all) {
        if (listener->machine != machine) continue;
        listener->machine = NULL;
        refuse_waiting(listener);
        condition_broadcast(&listener->arrived);
    }
    struct connection *connection;
    uint64_t now = now_of(network);
    TAILQ_FOREACH (connection, &network->connections, all) {
        for (size_t i = 0; i < 2; i++) {
            struct end *end = &connection->ends[i];
            if (end->machine != machine || end->closed) continue;
            end->machine = NULL;
            trace(network, "crash", connection);
            reset_end(end, now);
            /* It may get what is under way before it learns of the end, or only a part. */
            uint64_t after_ns = draw(network, 2 * connection->delay_ns + 1);
            if (is_cut(end))
                other_end(end)->reset_held = true;
            else
                reset_end(other_end(end), now + after_ns);
        }
    }
}

bool sim_machine_break_one(struct sim_machine *machine)
{
    struct sim_network *network = machine->world;
    struct connection *connection, *chosen = NULL;
    uint64_t now = now_of(network), seen = 0;
    TAILQ_FOREACH (connection, &network->connections, all) {
        bool ours =
            connection->ends[0].machine == machine || connection->ends[1].machine == machine;
        if (!ours || connection->ends[0].reset_ns <= now || connection->ends[1].reset_ns <= now)
            continue;
        seen++;
        if (draw(network, seen) == 0) chosen = connection;
    }
    if (chosen != NULL) break_connection(chosen);
    return chosen != NULL;
}

/* --- cuts ---------------------------------------------------------------------------------------
 */

/* What END has under way is lost, and will be sent again when the cut heals. */
static void hold_parcels(struct end *end, uint64_t now)
{
    struct parcel *parcel;
    STAILQ_FOREACH (parcel, &end->out->parcels, queue) {
        if (parcel->arrives_ns <= now) continue;
        parcel->arrives_ns = DEADLINE_NEVER;
        end->out->arrived_ns = DEADLINE_NEVER;
    }
    if (end->out->end_ns > now && end->out->end_ns != DEADLINE_NEVER) {
        end->out->end_ns = DEADLINE_NEVER;
        end->out->end_held = true;
    }
}

static void send_held_again(struct end *end, uint64_t now)
{
    uint64_t arrives_ns = now + end->connection->delay_ns;
    struct end *other = other_end(end);
    struct parcel *parcel;
    STAILQ_FOREACH (parcel, &end->out->parcels, queue) {
        if (parcel->arrives_ns == DEADLINE_NEVER) parcel->arrives_ns = arrives_ns;
    }
    if (end->out->arrived_ns == DEADLINE_NEVER) end->out->arrived_ns = arrives_ns;
    if (end->out->end_held) {
        end->out->end_held = false;
        end->out->end_ns = arrives_ns;
        other->deaf_ns = earlier(other->deaf_ns, arrives_ns + 2 * end->connection->delay_ns);
    }
    if (other->reset_held) {
        other->reset_held = false;
        reset_end(other, arrives_ns);
    }
    wake_end(other);
}

void sim_network_cut(struct sim_network *network, struct sim_machine *from, struct sim_machine *to,
                     bool cut)
{
    if (network->cut[from->number][to->number] == cut) return;
    network->cut[from->number][to->number] = cut;
    uint64_t now = now_of(network);
    struct connection *connection;
    TAILQ_FOREACH (connection, &network->connections, all) {
        for (size_t i = 0; i < 2; i++) {
            struct end *end = &connection->ends[i];
            if (end->home != from || other_end(end)->home != to) continue;
            trace(network, cut ? "cut" : "heal", connection);
            if (cut)
                hold_parcels(end, now);
            else
                send_held_again(end, now);
        }
    }
    if (!cut) condition_broadcast(&network->healed);
}

/* --- the world ----------------------------------------------------------------------------------
 */

enum status sim_network_create(const struct sim_network_options *options,
                               struct sim_network **ret_network)
{
    assert(options->delay_ns_min <= options->delay_ns_max);
    struct sim_network *network = calloc(1, sizeof *network);
    if (network == NULL) return STATUS_NO_MEMORY;
    network->options = *options;
    random_seeded_init(&network->random, options->seed);
    TAILQ_INIT(&network->connections);
    TAILQ_INIT(&network->listeners);
    condition_init(&network->healed);
    *ret_network = network;
    return STATUS_OK;
}

void sim_network_destroy(struct sim_network *network)
{
    if (network == NULL) return;
    assert(TAILQ_EMPTY(&network->connections));
    assert(TAILQ_EMPTY(&network->listeners));
    for (size_t i = 0; i < network->machine_count; i++) free(network->machines[i]);
    free(network);
}

void sim_network_set_breaks(struct sim_network *network, unsigned per_million)
{
    network->options.breaks_per_million = per_million;
}

struct sim_network_figures sim_network_figures(const struct sim_network *network)
{
    return network->figures;
}

enum status sim_network_add_machine(struct sim_network *network, const char *name,
                                    struct sim_machine **ret_machine)
{
    assert(strlen(name) <= SIM_NETWORK_NAME_BYTES_MAX);
    if (network->machine_count == SIM_NETWORK_MACHINES_MAX) return STATUS_BUSY;
    for (size_t i = 0; i < network->machine_count; i++) {
        if (strcmp(network->machines[i]->name, name) == 0) return STATUS_EXISTS;
    }
    struct sim_machine *machine = calloc(1, sizeof *machine);
    if (machine == NULL) return STATUS_NO_MEMORY;
    machine->network = (struct network) { .connect = machine_connect, .listen = machine_listen };
    machine->world = network;
    machine->port_next = PORT_FREE_FIRST;
    machine->number = network->machine_count;
    (void)snprintf(machine->name, sizeof machine->name, "%s", name);
    network->machines[network->machine_count++] = machine;
    *ret_machine = machine;
    return STATUS_OK;
}

struct network *sim_machine_network(struct sim_machine *machine)
{
    return &machine->network;
}
