/* Log channel: what unum-init tells unum-log, one packet per incarnation, with the read ends of its
 * two output pipes by SCM_RIGHTS (out, then err). Both are of the same build; the layout is still
 * explicit, since unum-init may be newer than a running unum-log:
 *   u8 kind = 1 | u64 incarnation | u64 kept bytes | varint + job | varint + name */
#ifndef UNUM_SUPERVISE_LOG_CHANNEL_H
#define UNUM_SUPERVISE_LOG_CHANNEL_H

#include "base/bytes.h"
#include "base/limits.h"

enum { LOG_CHANNEL_PIPES = 1, LOG_CHANNEL_BYTES_MAX = 256, LOG_CHANNEL_DESCRIPTOR = 3 };

struct log_channel_pipes {
    uint64_t incarnation;
    uint64_t log_bytes; /* 0: the default */
    struct bytes job;
    struct bytes name;
};

static inline size_t log_channel_encode(const struct log_channel_pipes *pipes,
                                        uint8_t memory[LOG_CHANNEL_BYTES_MAX])
{
    struct writer writer = writer_of(memory, LOG_CHANNEL_BYTES_MAX);
    writer_put_u8(&writer, LOG_CHANNEL_PIPES);
    writer_put_u64(&writer, pipes->incarnation);
    writer_put_u64(&writer, pipes->log_bytes);
    writer_put_bytes(&writer, pipes->job);
    writer_put_bytes(&writer, pipes->name);
    return writer.used;
}

MUST_USE static inline enum status log_channel_decode(struct bytes packet,
                                                      struct log_channel_pipes *ret_pipes)
{
    struct reader reader = reader_of(packet.data, packet.size);
    if (reader_u8(&reader) != LOG_CHANNEL_PIPES) return STATUS_INVALID;
    struct log_channel_pipes pipes = { 0 };
    pipes.incarnation = reader_u64(&reader);
    pipes.log_bytes = reader_u64(&reader);
    pipes.job = reader_bytes(&reader, LIMIT_NAME_BYTES_MAX);
    pipes.name = reader_bytes(&reader, LIMIT_NAME_BYTES_MAX);
    if (reader.failed || reader_left(&reader) != 0) return STATUS_INVALID;
    *ret_pipes = pipes;
    return STATUS_OK;
}

#endif
