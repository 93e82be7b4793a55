/* TCP and Unix streams and listeners over either backend.
 *
 * A call is tried before it waits, unless the last one came back short: then there is nothing, and
 * trying would be a wasted system call. Who closes a stream while another fiber uses it leaves the
 * memory to that fiber, which frees it on its way out. */
#include "reactor/io.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    LISTEN_BACKLOG = 1024, /* connections the kernel keeps for us; the rest try again */
};

struct socket {
    union {
        struct stream stream;
        struct listener listener;
    };
    struct descriptor descriptor;
    unsigned users;                          /* fibers inside a call */
    bool ended;                              /* shut down or closed by our side */
    bool closed;                             /* the owner is gone; the last user frees */
    char address[NETWORK_ADDRESS_BYTES_MAX]; /* of the peer; of a listener its own */
    char *unlink_path;                       /* of a Unix listener */
};

static const struct stream_operations socket_stream_operations;
static const struct listener_operations socket_listener_operations;

static struct socket *socket_of_stream(const struct stream *stream)
{
    return (struct socket *)((char *)stream - offsetof(struct socket, stream));
}

static struct socket *socket_of_listener(const struct listener *listener)
{
    return (struct socket *)((char *)listener - offsetof(struct socket, listener));
}

static const struct io_operations *io_of(const struct socket *socket)
{
    return socket->descriptor.reactor->backend->io;
}

/* --- life --------------------------------------------------------------------------------------
 */

/* Takes NUMBER, also when it fails. */
static enum status socket_create(struct reactor *reactor, int number, struct socket **ret_socket)
{
    struct socket *socket = calloc(1, sizeof *socket);
    if (socket == NULL) {
        (void)close(number);
        return STATUS_NO_MEMORY;
    }
    socket->descriptor = (struct descriptor) {
        .reactor = reactor, .number = number, .readable = true, .writable = true
    };
    enum status status = io_of(socket)->attach(&socket->descriptor);
    if (status != STATUS_OK) {
        (void)close(number);
        free(socket);
        return status;
    }
    *ret_socket = socket;
    return STATUS_OK;
}

static void socket_free(struct socket *socket)
{
    io_of(socket)->detach(&socket->descriptor);
    (void)close(socket->descriptor.number);
    if (socket->unlink_path != NULL) (void)unlink(socket->unlink_path);
    free(socket->unlink_path);
    free(socket);
}

static void socket_end(struct socket *socket)
{
    if (socket->ended) return;
    socket->ended = true;
    (void)shutdown(socket->descriptor.number, SHUT_RDWR);
    if (socket->descriptor.reader != NULL) fiber_wake(socket->descriptor.reader, STATUS_CLOSED);
    if (socket->descriptor.writer != NULL) fiber_wake(socket->descriptor.writer, STATUS_CLOSED);
}

static void socket_close(struct socket *socket)
{
    assert(!socket->closed);
    socket->closed = true;
    if (socket->users == 0) {
        socket_free(socket);
        return;
    }
    socket_end(socket);
}

/* The way out of every waiting call. */
static enum status socket_leave(struct socket *socket, enum status status)
{
    if (socket->ended) status = STATUS_CLOSED;
    socket->users--;
    if (socket->closed && socket->users == 0) socket_free(socket);
    return status;
}

/* Let others run after a long row of calls that never waited. */
static enum status socket_be_fair(struct socket *socket)
{
    if (++socket->descriptor.streak < DESCRIPTOR_STREAK_MAX) return STATUS_OK;
    socket->descriptor.streak = 0;
    return fiber_yield();
}

/* --- reading and writing -----------------------------------------------------------------------
 */

/* -EAGAIN: nothing there, by the flag or by trying. */
static ssize_t socket_try_read(struct descriptor *descriptor, void *ret_bytes, size_t size)
{
    if (!descriptor->readable) return -EAGAIN;
    ssize_t got = recv(descriptor->number, ret_bytes, size, MSG_DONTWAIT);
    if (got < 0) got = -errno;
    if (got == -EAGAIN) descriptor->readable = false;
    if (got > 0 && (size_t)got < size && !descriptor->hung_up) descriptor->readable = false;
    return got;
}

static enum status socket_read_inside(struct socket *socket, void *ret_bytes, size_t size,
                                      uint64_t deadline_ns, size_t *ret_read)
{
    struct descriptor *descriptor = &socket->descriptor;
    enum status status = socket_be_fair(socket);
    while (status == STATUS_OK && !socket->ended) {
        ssize_t got = socket_try_read(descriptor, ret_bytes, size);
        if (got == -EAGAIN) {
            descriptor->streak = 0;
            if (io_of(socket)->receive == NULL) {
                status = io_of(socket)->wait_readable(descriptor, deadline_ns);
                continue;
            }
            status = io_of(socket)->receive(descriptor, ret_bytes, size, deadline_ns, &got);
            if (status != STATUS_OK) break;
        }
        if (got == -EAGAIN || got == -EINTR) continue;
        if (got < 0) return status_of_errno((int)-got);
        *ret_read = (size_t)got;
        return STATUS_OK;
    }
    return status;
}

static enum status socket_read(struct stream *stream, void *ret_bytes, size_t size,
                               uint64_t deadline_ns, size_t *ret_read)
{
    struct socket *socket = socket_of_stream(stream);
    assert(size > 0);
    enum status status = fiber_check(fiber_running());
    if (status != STATUS_OK) return status;
    socket->users++;
    status = socket_read_inside(socket, ret_bytes, size, deadline_ns, ret_read);
    return socket_leave(socket, status);
}

static enum status socket_write_inside(struct socket *socket, const uint8_t *bytes, size_t size,
                                       uint64_t deadline_ns)
{
    struct descriptor *descriptor = &socket->descriptor;
    enum status status = deadline_ns == 0 ? STATUS_OK : socket_be_fair(socket);
    while (status == STATUS_OK && size > 0 && !socket->ended) {
        ssize_t sent = send(descriptor->number, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) {
            bytes += sent;
            size -= (size_t)sent;
            continue;
        }
        if (errno == EINTR) continue;
        if (errno != EAGAIN) return status_of_errno(errno);
        descriptor->writable = false;
        descriptor->streak = 0;
        if (deadline_ns == 0) return STATUS_TIMEOUT; /* not even a round of the reactor */
        status = io_of(socket)->wait_writable(descriptor, deadline_ns);
    }
    return status;
}

static enum status socket_write(struct stream *stream, const void *bytes, size_t size,
                                uint64_t deadline_ns)
{
    struct socket *socket = socket_of_stream(stream);
    enum status status = fiber_check(fiber_running());
    if (status != STATUS_OK) return status;
    socket->users++;
    status = socket_write_inside(socket, bytes, size, deadline_ns);
    return socket_leave(socket, status);
}

static void socket_stream_close(struct stream *stream)
{
    socket_close(socket_of_stream(stream));
}

static void socket_stream_shutdown(struct stream *stream)
{
    socket_end(socket_of_stream(stream));
}

static const char *socket_peer(const struct stream *stream)
{
    return socket_of_stream(stream)->address;
}

static const struct stream_operations socket_stream_operations = {
    .read = socket_read,
    .write = socket_write,
    .close = socket_stream_close,
    .shutdown = socket_stream_shutdown,
    .peer = socket_peer,
};

/* --- listening ---------------------------------------------------------------------------------
 */

/* A Unix peer has no address; who it is says more. */
static void describe_peer(int number, const struct address *address,
                          char ret_text[NETWORK_ADDRESS_BYTES_MAX])
{
    sa_family_t family;
    struct ucred peer;
    socklen_t size = sizeof peer;
    memcpy(&family, address->storage.bytes, sizeof family);
    if (family == AF_UNIX && getsockopt(number, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
        (void)snprintf(ret_text, NETWORK_ADDRESS_BYTES_MAX, "unix:uid=%u,pid=%d", peer.uid,
                       (int)peer.pid);
    else
        address_format(address, ret_text);
}

/* Small requests and answers must not wait for each other's acknowledgement. Fails harmlessly on
 * Unix sockets. */
static void set_no_delay(int number)
{
    int one = 1;
    (void)setsockopt(number, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static int accept_one(struct descriptor *descriptor, struct address *ret_address)
{
    ret_address->size = sizeof ret_address->storage;
    int number = accept4(descriptor->number, (struct sockaddr *)ret_address->storage.bytes,
                         &ret_address->size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (number >= 0) return number;
    if (errno == EAGAIN) descriptor->readable = false;
    return -errno;
}

static enum status socket_accept_inside(struct socket *socket, uint64_t deadline_ns,
                                        struct stream **ret_stream)
{
    struct descriptor *descriptor = &socket->descriptor;
    enum status status = socket_be_fair(socket);
    while (status == STATUS_OK && !socket->ended) {
        struct address address;
        int number = accept_one(descriptor, &address);
        if (number == -EAGAIN) {
            descriptor->streak = 0;
            status = io_of(socket)->wait_readable(descriptor, deadline_ns);
            continue;
        }
        /* The peer left before we looked: the next one may be there. */
        if (number == -EINTR || number == -ECONNABORTED || number == -EPROTO) continue;
        if (number < 0) return status_of_errno(-number);
        set_no_delay(number);
        struct socket *accepted;
        status = socket_create(descriptor->reactor, number, &accepted);
        if (status != STATUS_OK) return status;
        accepted->stream.operations = &socket_stream_operations;
        describe_peer(number, &address, accepted->address);
        *ret_stream = &accepted->stream;
        return STATUS_OK;
    }
    return status;
}

static enum status socket_accept(struct listener *listener, uint64_t deadline_ns,
                                 struct stream **ret_stream)
{
    struct socket *socket = socket_of_listener(listener);
    struct stream *stream = NULL;
    enum status status = fiber_check(fiber_running());
    if (status != STATUS_OK) return status;
    socket->users++;
    status = socket_leave(socket, socket_accept_inside(socket, deadline_ns, &stream));
    if (status == STATUS_OK)
        *ret_stream = stream;
    else
        stream_close(stream);
    return status;
}

static void socket_listener_close(struct listener *listener)
{
    socket_close(socket_of_listener(listener));
}

static const char *socket_listener_address(const struct listener *listener)
{
    return socket_of_listener(listener)->address;
}

static const struct listener_operations socket_listener_operations = {
    .accept = socket_accept,
    .close = socket_listener_close,
    .address = socket_listener_address,
};

static struct reactor *reactor_of_network(struct network *network)
{
    return (struct reactor *)((char *)network - offsetof(struct reactor, network));
}

static int socket_open(const struct address *address)
{
    sa_family_t family;
    memcpy(&family, address->storage.bytes, sizeof family);
    int number = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return number < 0 ? -errno : number;
}

/* A Unix path that a dead process left behind is nobody's: take it. */
static bool remove_stale_path(const struct address *address)
{
    struct sockaddr_un local;
    struct stat entry;
    memcpy(&local, address->storage.bytes, sizeof local);
    if (local.sun_family != AF_UNIX || lstat(local.sun_path, &entry) != 0 ||
        !S_ISSOCK(entry.st_mode))
        return false;
    int number = socket_open(address);
    if (number < 0) return false;
    bool refused = connect(number, (const struct sockaddr *)&local, sizeof local) != 0 &&
                   errno == ECONNREFUSED;
    (void)close(number);
    return refused && unlink(local.sun_path) == 0;
}

/* A bound and listening socket, or a negative errno. */
static int listen_at(const struct address *address)
{
    int number = socket_open(address);
    if (number < 0) return number;
    int one = 1;
    (void)setsockopt(number, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    const struct sockaddr *where = (const struct sockaddr *)address->storage.bytes;
    int result = bind(number, where, address->size);
    if (result != 0 && errno == EADDRINUSE && remove_stale_path(address))
        result = bind(number, where, address->size);
    if (result == 0) result = listen(number, LISTEN_BACKLOG);
    if (result == 0) return number;
    result = -errno;
    (void)close(number);
    return result;
}

static enum status socket_listen(struct network *network, const char *text,
                                 struct listener **ret_listener, struct error *error)
{
    struct address address;
    enum status status = address_parse(reactor_of_network(network), text, &address, error);
    if (status != STATUS_OK) return status;
    int number = listen_at(&address);
    if (number == -EADDRINUSE)
        return error_set(error, STATUS_EXISTS, "%.100s is taken by another program", text);
    if (number < 0) return error_set_errno(error, -number, text);
    struct socket *socket;
    status = socket_create(reactor_of_network(network), number, &socket);
    if (status != STATUS_OK) return error_set(error, status, "%.100s: out of memory", text);
    socket->listener.operations = &socket_listener_operations;
    socklen_t size = sizeof address.storage;
    if (getsockname(number, (struct sockaddr *)address.storage.bytes, &size) == 0)
        address.size = size;
    address_format(&address, socket->address);
    if (strncmp(socket->address, "unix:", 5) == 0) socket->unlink_path = strdup(text + 5);
    *ret_listener = &socket->listener;
    return STATUS_OK;
}

/* --- connecting --------------------------------------------------------------------------------
 */

static enum status socket_finish_connect(struct socket *socket, uint64_t deadline_ns,
                                         int *ret_number)
{
    /* Edge triggered backends have seen the unconnected socket as writable: look afresh. */
    socket->descriptor.writable = false;
    enum status status = io_of(socket)->wait_writable(&socket->descriptor, deadline_ns);
    if (status != STATUS_OK) return status;
    int number = 0;
    socklen_t size = sizeof number;
    if (getsockopt(socket->descriptor.number, SOL_SOCKET, SO_ERROR, &number, &size) != 0)
        number = errno;
    *ret_number = number;
    return STATUS_OK;
}

static enum status connect_refused(struct error *error, const char *text, enum status status)
{
    const char *why = status == STATUS_TIMEOUT     ? "no answer in time"
                      : status == STATUS_CANCELLED ? "cancelled"
                                                   : status_name(status);
    return error_set(error, status, "connect to %.100s: %s", text, why);
}

static enum status socket_connect(struct network *network, const char *text, uint64_t deadline_ns,
                                  struct stream **ret_stream, struct error *error)
{
    struct reactor *reactor = reactor_of_network(network);
    enum status status = fiber_check(fiber_running());
    if (status != STATUS_OK) return connect_refused(error, text, status);
    struct address address;
    status = address_parse(reactor, text, &address, error);
    if (status != STATUS_OK) return status;
    int number = socket_open(&address);
    if (number < 0) return error_set_errno(error, -number, text);
    set_no_delay(number);
    int result = connect(number, (struct sockaddr *)address.storage.bytes, address.size);
    int failure = result == 0 ? 0 : errno;
    struct socket *socket;
    status = socket_create(reactor, number, &socket);
    if (status != STATUS_OK) return connect_refused(error, text, status);
    if (failure == EINPROGRESS || failure == EINTR)
        status = socket_finish_connect(socket, deadline_ns, &failure);
    if (status != STATUS_OK || failure != 0) {
        socket_free(socket);
        if (status != STATUS_OK) return connect_refused(error, text, status);
        /* A missing Unix path, a full backlog: nobody is there to answer. */
        (void)error_set_errno(error, failure, text);
        return failure == EAGAIN ? STATUS_BUSY
               : failure == ENOENT || failure == ETIMEDOUT || failure == ECONNRESET
                   ? STATUS_UNAVAILABLE
                   : status_of_errno(failure);
    }
    socket->stream.operations = &socket_stream_operations;
    address_format(&address, socket->address);
    *ret_stream = &socket->stream;
    return STATUS_OK;
}

void socket_network_init(struct network *network)
{
    *network = (struct network) { .connect = socket_connect, .listen = socket_listen };
}

/* --- foreign descriptors -----------------------------------------------------------------------
 */

enum status fiber_wait_readable(int descriptor, uint64_t deadline_ns)
{
    struct reactor *reactor = fiber_reactor();
    if (reactor->backend->io == NULL) return STATUS_UNSUPPORTED;
    return reactor->backend->io->poll(reactor, descriptor, POLLIN, deadline_ns);
}

enum status fiber_wait_writable(int descriptor, uint64_t deadline_ns)
{
    struct reactor *reactor = fiber_reactor();
    if (reactor->backend->io == NULL) return STATUS_UNSUPPORTED;
    return reactor->backend->io->poll(reactor, descriptor, POLLOUT, deadline_ns);
}
