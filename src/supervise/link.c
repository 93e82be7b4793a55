#include "supervise/link.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { LINK_DESCRIPTORS_MAX = 3 };

enum status link_open(const char *path, int *ret_descriptor, struct error *error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof address.sun_path)
        return error_set(error, STATUS_INVALID, "the path %s is too long for a socket", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int descriptor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0)
        return error_set(error, STATUS_BUSY, "cannot make a socket: %s", strerror(errno));
    if (connect(descriptor, (const struct sockaddr *)&address, sizeof address) != 0) {
        int cause = errno;
        (void)close(descriptor);
        return error_set(error, STATUS_UNAVAILABLE, "unum-init does not answer at %s: %s", path,
                         strerror(cause));
    }
    *ret_descriptor = descriptor;
    return STATUS_OK;
}

void link_close(int descriptor)
{
    if (descriptor >= 0) (void)close(descriptor);
}

static enum status status_of_errno(void)
{
    if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS) return STATUS_BUSY;
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return STATUS_CLOSED;
    return STATUS_IO;
}

enum status link_send(int descriptor, struct bytes packet, const int *descriptors,
                      size_t descriptor_count)
{
    assert(descriptor_count <= LINK_DESCRIPTORS_MAX);
    struct iovec part = { .iov_base = (void *)packet.data, .iov_len = packet.size };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * LINK_DESCRIPTORS_MAX)] = { 0 };
    if (descriptor_count > 0) {
        size_t size = sizeof(int) * descriptor_count;
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(size);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(header), descriptors, size);
    }
    return sendmsg(descriptor, &message, MSG_NOSIGNAL) < 0 ? status_of_errno() : STATUS_OK;
}

enum status link_receive(int descriptor, void *ret_bytes, size_t size, size_t *ret_size)
{
    ssize_t used = recv(descriptor, ret_bytes, size, 0);
    if (used < 0) return status_of_errno();
    if (used == 0) return STATUS_CLOSED;
    *ret_size = (size_t)used;
    return STATUS_OK;
}

enum status link_make_pipes(int ret_ours[3], int ret_theirs[3])
{
    int ours[3] = { -1, -1, -1 }, theirs[3] = { -1, -1, -1 };
    for (int i = 0; i < 3; i++) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) != 0) {
            for (int k = 0; k < 3; k++) {
                link_close(ours[k]);
                link_close(theirs[k]);
            }
            return STATUS_BUSY;
        }
        /* The command reads the first and writes the others. */
        ours[i] = i == 0 ? ends[1] : ends[0];
        theirs[i] = i == 0 ? ends[0] : ends[1];
        (void)fcntl(ours[i], F_SETFL, O_NONBLOCK);
    }
    memcpy(ret_ours, ours, sizeof ours);
    memcpy(ret_theirs, theirs, sizeof theirs);
    return STATUS_OK;
}

enum status link_pipe_read(int descriptor, void *ret_bytes, size_t size, size_t *ret_used)
{
    ssize_t used = read(descriptor, ret_bytes, size);
    if (used < 0) return status_of_errno();
    *ret_used = (size_t)used;
    return STATUS_OK;
}

enum status link_pipe_write(int descriptor, const void *bytes, size_t size, size_t *ret_used)
{
    ssize_t used = write(descriptor, bytes, size);
    if (used < 0) return status_of_errno();
    *ret_used = (size_t)used;
    return STATUS_OK;
}
