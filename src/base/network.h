/* Network: byte streams, as the reactor (TCP, Unix, TLS) and the simulator offer them.
 *
 * Every call suspends the calling fiber until it is done. A deadline is monotonic nanoseconds,
 * DEADLINE_NEVER for none; a passed one is STATUS_TIMEOUT. The end of the fiber's scope is
 * STATUS_CANCELLED. A stream may have one reader and one writer fiber at a time.
 *
 * Addresses are text: "127.0.0.1:7117", "[::1]:7117", "unix:/path", and in the simulator
 * "NAME:PORT". */
#ifndef UNUM_BASE_NETWORK_H
#define UNUM_BASE_NETWORK_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define DEADLINE_NEVER UINT64_MAX

enum { NETWORK_ADDRESS_BYTES_MAX = 128 };

struct stream;

struct stream_operations {
    /* At least one byte, unless *ret_read is 0: the peer has ended its side. */
    enum status (*read)(struct stream *stream, void *ret_bytes, size_t size, uint64_t deadline_ns,
                        size_t *ret_read);
    /* All of it, or an error (then the stream is good for close only). A deadline of 0 never
     * suspends: what does not fit at once is STATUS_TIMEOUT. */
    enum status (*write)(struct stream *stream, const void *bytes, size_t size,
                         uint64_t deadline_ns);
    /* Frees the stream. Wakes a fiber that reads or writes it (STATUS_CLOSED). */
    void (*close)(struct stream *stream);
    /* Ends our side without waiting, so that readers and writers wake with STATUS_CLOSED; close
     * still has to be called by the owner. Idempotent. */
    void (*shutdown)(struct stream *stream);
    const char *(*peer)(const struct stream *stream); /* address text, borrowed */
};

struct stream {
    const struct stream_operations *operations;
};

struct listener;

struct listener_operations {
    enum status (*accept)(struct listener *listener, uint64_t deadline_ns,
                          struct stream **ret_stream);
    void (*close)(struct listener *listener);
    const char *(*address)(const struct listener *listener); /* with the real port; borrowed */
};

struct listener {
    const struct listener_operations *operations;
};

struct network {
    enum status (*connect)(struct network *network, const char *address, uint64_t deadline_ns,
                           struct stream **ret_stream, struct error *error);
    /* Port 0 asks for a free one. STATUS_EXISTS: the address is taken. */
    enum status (*listen)(struct network *network, const char *address,
                          struct listener **ret_listener, struct error *error);
};

static inline enum status stream_read(struct stream *stream, void *ret_bytes, size_t size,
                                      uint64_t deadline_ns, size_t *ret_read)
{
    return stream->operations->read(stream, ret_bytes, size, deadline_ns, ret_read);
}
static inline enum status stream_write(struct stream *stream, const void *bytes, size_t size,
                                       uint64_t deadline_ns)
{
    return stream->operations->write(stream, bytes, size, deadline_ns);
}
static inline void stream_close(struct stream *stream)
{
    if (stream != NULL) stream->operations->close(stream);
}

#endif
