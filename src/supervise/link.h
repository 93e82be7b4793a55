/* Link: unumd's end of the socket to unum-init. Thin and non-blocking: the caller waits for
 * readability in its own way. The messages are those of supervise/protocol.h. */
#ifndef UNUM_SUPERVISE_LINK_H
#define UNUM_SUPERVISE_LINK_H

#include "base/bytes.h"
#include "base/error.h"

/* Connect to the socket at PATH (relative paths allowed). STATUS_UNAVAILABLE: nobody listens. */
MUST_USE enum status link_open(const char *path, int *ret_descriptor, struct error *error);
void link_close(int descriptor);

/* One packet, with DESCRIPTOR_COUNT (0..3) descriptors, which stay the caller's. STATUS_BUSY: the
 * socket is full, try when writable. STATUS_CLOSED. */
MUST_USE enum status link_send(int descriptor, struct bytes packet, const int *descriptors,
                               size_t descriptor_count);
/* One packet of at most SIZE bytes; STATUS_BUSY when none waits; STATUS_CLOSED at the end. */
MUST_USE enum status link_receive(int descriptor, void *ret_bytes, size_t size, size_t *ret_size);

/* Three pairs for a command's input, output and errors: ours[i] is the caller's non-blocking end,
 * theirs[i] goes to the command. */
MUST_USE enum status link_make_pipes(int ret_ours[3], int ret_theirs[3]);

/* Read or write what fits now. STATUS_BUSY: nothing now. Read: *ret_used 0 with STATUS_OK is the
 * end. */
MUST_USE enum status link_pipe_read(int descriptor, void *ret_bytes, size_t size, size_t *ret_used);
MUST_USE enum status link_pipe_write(int descriptor, const void *bytes, size_t size,
                                     size_t *ret_used);

#endif
