#include "sim/workload.h"

#include "wire/proto_arena.h"

#include <stdio.h>
#include <stdlib.h>

enum { ANSWER_BYTES_MAX = 8 * 1024 * 1024 };

struct person *person_create(struct world *world, const char *name, unsigned number)
{
    struct person *person = calloc(1, sizeof *person);
    if (person == NULL) abort(); /* a simulator without memory has nothing to say */
    person->world = world;
    (void)snprintf(person->text, sizeof person->text, "%s-%u", name, number);
    person->name = person->text;
    person->number = number;
    uint64_t seed = world->options.seed * 64 + number;
    for (const char *letter = name; *letter != '\0'; letter++)
        seed = seed * 131 + (uint64_t)(unsigned char)*letter;
    random_seeded_init(&person->random, seed);
    sim_client_init(&person->client, sim_machine_network(world->people), WORLD_ADDRESS);
    buffer_init(&person->request, LIMIT_MESSAGE_BYTES_MAX);
    arena_init(&person->arena, ANSWER_BYTES_MAX);
    return person;
}

void person_destroy(struct person *person)
{
    sim_client_finish(&person->client);
    buffer_finish(&person->request);
    arena_finish(&person->arena);
    free(person);
}

void person_start(struct world *world, struct scope *scope, const char *name, unsigned number,
                  void (*main)(void *person))
{
    struct person *person = person_create(world, name, number);
    enum status status = scope_spawn(scope, name, main, person);
    if (status == STATUS_OK) return;
    person_destroy(person);
    world_need(world, status);
}

void person_pack(struct person *person, const ProtobufCMessage *message)
{
    person->request.used = 0;
    enum status status = proto_pack(message, &person->request);
    if (status != STATUS_OK) abort();
}

void *person_unpack(struct person *person, const ProtobufCMessageDescriptor *descriptor)
{
    arena_clear(&person->arena);
    void *message = proto_unpack(descriptor, &person->arena, person->client.message);
    if (message == NULL)
        world_fail(person->world, "%s got an answer that is not a %s", person->name,
                   descriptor->short_name);
    return message;
}

uint64_t person_deadline(const struct person *person)
{
    return world_now(person->world) + WORLD_CALL_SECONDS_MAX * WORLD_SECOND;
}

enum outcome person_call(struct person *person, const char *path, const ProtobufCMessage *request,
                         const ProtobufCMessageDescriptor *reply, void *ret_reply,
                         enum status *ret_status)
{
    person_pack(person, request);
    bool unknown = false;
    enum status status =
        sim_client_call(&person->client, path, bytes_of(person->request.data, person->request.used),
                        person_deadline(person), &unknown);
    if (ret_status != NULL) *ret_status = status;
    if (status == STATUS_OK) {
        void *message = person_unpack(person, reply);
        if (message == NULL) return OUTCOME_OVER;
        *(void **)ret_reply = message;
        return OUTCOME_DONE;
    }
    if (unknown) return OUTCOME_UNKNOWN;
    return status == STATUS_CANCELLED || fiber_must_stop() ? OUTCOME_OVER : OUTCOME_REFUSED;
}

bool person_pause(struct person *person, uint64_t ms_min, uint64_t ms_max)
{
    uint64_t pause_ns = world_draw(&person->random, ms_min * 1000, ms_max * 1000) * 1000;
    return fiber_sleep_ns(pause_ns) == STATUS_OK;
}

bool refusal_is_passing(enum status status)
{
    return status == STATUS_BUSY || status == STATUS_FULL || status == STATUS_UNAVAILABLE;
}
