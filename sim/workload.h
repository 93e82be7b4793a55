/* Workload: what people do to the computer of a world. Each person is a fiber with a connection, a
 * random sequence and memory of its own. */
#ifndef UNUM_SIM_WORKLOAD_H
#define UNUM_SIM_WORKLOAD_H

#include "base/arena.h"
#include "sim/client.h"
#include "sim/history.h"
#include "sim/world_internal.h"

#include <protobuf-c/protobuf-c.h>

struct person {
    struct world *world;
    const char *name;
    unsigned number;
    struct random_seeded random;
    struct sim_client client;
    struct buffer request;
    struct arena arena; /* of the answer in hand */
    char text[32];
};

/* A person with the part of the seed that is its own; starts MAIN(PERSON) in SCOPE. The fiber owns
 * the person and ends with person_destroy. */
void person_start(struct world *world, struct scope *scope, const char *name, unsigned number,
                  void (*main)(void *person));
void person_destroy(struct person *person);
/* The same outside of a fiber of its own. */
struct person *person_create(struct world *world, const char *name, unsigned number);

/* What became of a request. */
enum outcome {
    OUTCOME_DONE,    /* the answer is there */
    OUTCOME_REFUSED, /* for certain without effect; the status tells why */
    OUTCOME_UNKNOWN,
    OUTCOME_OVER, /* the world winds up */
};

/* A call, once. OUTCOME_DONE: *ret_reply is the answer, of type REPLY, valid until the next call.
 */
enum outcome person_call(struct person *person, const char *path, const ProtobufCMessage *request,
                         const ProtobufCMessageDescriptor *reply, void *ret_reply,
                         enum status *ret_status);
/* The message in hand, unpacked; NULL (and the world has failed): it can't be. */
void *person_unpack(struct person *person, const ProtobufCMessageDescriptor *descriptor);
void person_pack(struct person *person, const ProtobufCMessage *message);
uint64_t person_deadline(const struct person *person);
/* False: the world winds up. */
bool person_pause(struct person *person, uint64_t ms_min, uint64_t ms_max);

/* A refusal that only says "not now". */
bool refusal_is_passing(enum status status);

#endif
