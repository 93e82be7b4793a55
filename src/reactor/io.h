/* What sockets and files need from a real backend, and the parts around it: errno, mailbox,
 * workers. One thread, but for reactor_post and the inside of worker.c. */
#ifndef UNUM_REACTOR_IO_H
#define UNUM_REACTOR_IO_H

#include "reactor/internal.h"

#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/types.h>

/* --- descriptors -------------------------------------------------------------------------------
 */

/* A non-blocking socket. `readable` and `writable` say that a call is worth trying before waiting:
 * at first, and until one came back short. */
struct descriptor {
    struct reactor *reactor;
    int number;
    struct fiber *reader; /* suspended here, or NULL */
    struct fiber *writer;
    bool readable;
    bool writable;
    bool hung_up;    /* the peer ended its side: a short read says nothing about more to come */
    unsigned streak; /* calls that did not have to wait, in a row */
};

/* Calls in a row that may succeed at once before the fiber lets others run. */
enum { DESCRIPTOR_STREAK_MAX = 32 };

enum file_action { FILE_READ, FILE_WRITE, FILE_WRITE_SYNC, FILE_SYNC };

struct io_operations {
    /* Before the first wait; detach before the descriptor is closed. */
    enum status (*attach)(struct descriptor *descriptor);
    void (*detach)(struct descriptor *descriptor);
    /* Suspend until a call is worth trying. STATUS_TIMEOUT, STATUS_CANCELLED, and what closed it.
     */
    enum status (*wait_readable)(struct descriptor *descriptor, uint64_t deadline_ns);
    enum status (*wait_writable)(struct descriptor *descriptor, uint64_t deadline_ns);
    /* Suspend until bytes came; *ret_result as recv(2), or a negative errno. NULL: wait and try. */
    enum status (*receive)(struct descriptor *descriptor, void *ret_bytes, size_t size,
                           uint64_t deadline_ns, ssize_t *ret_result);
    /* Suspend until a foreign descriptor has EVENTS of poll(2). */
    enum status (*poll)(struct reactor *reactor, int number, short events, uint64_t deadline_ns);
    /* One step of a file, not cut short by cancellation: bytes done, or a negative errno. NULL:
     * the worker pool does it. */
    ssize_t (*file)(struct reactor *reactor, enum file_action action, int number, void *bytes,
                    size_t size, uint64_t offset);
};

/* epoll.c, uring.c: fill in reactor->backend and backend_state. STATUS_UNSUPPORTED: not there. */
enum status epoll_create_backend(struct reactor *reactor, struct error *error);
enum status uring_create_backend(struct reactor *reactor, struct error *error);

/* --- system.c ----------------------------------------------------------------------------------
 */

/* What an errno means to those above; never STATUS_OK. */
enum status status_of_errno(int number);
/* Sets "WHAT: the errno's sentence" and returns its status. */
enum status error_set_errno(struct error *error, int number, const char *what);
void system_clock_init(struct clock *clock);
void system_random_init(struct system_random *random);

/* --- address.c ---------------------------------------------------------------------------------
 */

struct address {
    socklen_t size;
    union {
        uint64_t align;
        uint8_t bytes[128]; /* struct sockaddr_storage */
    } storage;
};

/* "1.2.3.4:80", "[::1]:80", "unix:/path"; a host name is looked up by a worker.
 * STATUS_INVALID: ERROR says what is wrong. STATUS_UNAVAILABLE: the name is not known. */
enum status address_parse(struct reactor *reactor, const char *text, struct address *ret_address,
                          struct error *error);
void address_format(const struct address *address, char ret_text[NETWORK_ADDRESS_BYTES_MAX]);

/* socket.c */
void socket_network_init(struct network *network);

/* --- mailbox.c ---------------------------------------------------------------------------------
 */

struct mailbox *mailbox_create(void);
void mailbox_destroy(struct mailbox *mailbox);
bool mailbox_is_pending(const struct mailbox *mailbox);
/* Run what was posted until now. */
void mailbox_run(struct reactor *reactor);

/* --- worker.c ----------------------------------------------------------------------------------
 */

struct worker_pool *workers_create(struct reactor *reactor, unsigned thread_count);
/* Ends the threads; none may be busy. */
void workers_destroy(struct worker_pool *pool);
bool workers_are_pending(const struct worker_pool *pool);
/* Wake the fibers whose work is done. */
void workers_reap(struct worker_pool *pool);
/* As worker_run, but waits for room in the queue. */
void workers_run(struct reactor *reactor, void (*function)(void *), void *argument);

#endif
