/* Simulated client: one gRPC connection over the simulated network, one call at a time, no retries
 * of its own: the workload decides about those, since the checkers must know every attempt and
 * every unknown outcome. Runs in one fiber. */
#ifndef UNUM_SIM_CLIENT_H
#define UNUM_SIM_CLIENT_H

#include "base/network.h"
#include "wire/grpc.h"

struct sim_client {
    struct network *network;
    const char *address;
    struct stream *stream;
    struct grpc_connection *grpc;
    struct grpc_call *call; /* under way */
    struct buffer queue;    /* messages that arrived: size u32, bytes */
    struct bytes message;   /* the reply, or the next message; valid until the next call */
    size_t taken_bytes;     /* of the queue, by `message` */
    bool ended;
    enum grpc_status status;
    char text[GRPC_STATUS_TEXT_BYTES_MAX];
};

void sim_client_init(struct sim_client *client, struct network *network, const char *address);
void sim_client_finish(struct sim_client *client);

/* A unary call. STATUS_OK: the reply is in client->message. Otherwise client->text is the server's
 * sentence; STATUS_UNAVAILABLE with *ret_unknown: the request may or may not have been applied. */
MUST_USE enum status sim_client_call(struct sim_client *client, const char *path,
                                     struct bytes request, uint64_t deadline_ns, bool *ret_unknown);
/* A call with a stream of answers; sim_client_next gives them in client->message until it is not
 * STATUS_OK (STATUS_CLOSED: the server ended it well). */
MUST_USE enum status sim_client_open(struct sim_client *client, const char *path,
                                     struct bytes request, uint64_t deadline_ns);
MUST_USE enum status sim_client_next(struct sim_client *client, uint64_t deadline_ns);
/* Give the stream and the connection up. */
void sim_client_disconnect(struct sim_client *client);

#endif
