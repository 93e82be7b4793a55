/* The others: a hauler with large values, a visitor who asks everything that can be asked, and a
 * vandal who sends garbage or leaves in the middle of a call. None may harm anybody. */
#include "sim/workload.h"
#include "unum/v1/computer.pb-c.h"
#include "unum/v1/registry.pb-c.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    HAUL_BYTES_MAX = 100 * 1024,
    HAULS_IN_DOUBT_MAX = 64,
    HEAVY_HAULS_MAX = 1800,
    GARBAGE_BYTES_MAX = 1024
};

/* --- the hauler ---------------------------------------------------------------------------------
 */

/* One key of its own: what it reads is the last value that was acknowledged, or one whose outcome
 * is unknown since then (which may take effect at any later time). */
struct hauler {
    struct person *person;
    char key[32];
    size_t key_size;
    uint64_t number_last;
    uint64_t allowed[HAULS_IN_DOUBT_MAX]; /* the acknowledged one first; 0: no value */
    size_t allowed_count;
    uint8_t *bytes;
    bool heavy;
};

/* A load: its number, then what follows from it. */
static size_t load_up(uint64_t number, bool heavy, uint8_t *ret_bytes)
{
    struct random_seeded random;
    random_seeded_init(&random, number);
    uint64_t size = world_draw(&random, heavy ? HAUL_BYTES_MAX / 2 : 8, HAUL_BYTES_MAX);
    if (!heavy && world_chance(&random, 70)) size = 8 + size / 16;
    store_u64_le(ret_bytes, number);
    size -= size % 8;
    for (uint64_t i = 8; i < size; i += 8) store_u64_le(ret_bytes + i, number * 7 + i * i);
    return (size_t)size;
}

static void haul(struct hauler *hauler)
{
    struct person *person = hauler->person;
    if (hauler->allowed_count == HAULS_IN_DOUBT_MAX) return;
    Unum__V1__PutRequest request = UNUM__V1__PUT_REQUEST__INIT;
    uint64_t number = ++hauler->number_last;
    request.key.data = (uint8_t *)hauler->key;
    request.key.len = hauler->key_size;
    request.value.data = hauler->bytes;
    request.value.len = load_up(number, hauler->heavy, hauler->bytes);
    Unum__V1__PutResponse *reply;
    enum status status;
    enum outcome outcome = person_call(person, "/unum.v1.Registry/Put", &request.base,
                                       &unum__v1__put_response__descriptor, &reply, &status);
    if (outcome == OUTCOME_UNKNOWN) hauler->allowed[hauler->allowed_count++] = number;
    if (outcome == OUTCOME_DONE) hauler->allowed[0] = number;
    /* What is in doubt stays so: it may still be under way. */
    world_say(person->world, person->name, "hauls %zu bytes: %s", request.value.len,
              status_name(status));
}

static void unload(struct hauler *hauler)
{
    struct person *person = hauler->person;
    Unum__V1__RangeRequest request = UNUM__V1__RANGE_REQUEST__INIT;
    request.key.data = (uint8_t *)hauler->key;
    request.key.len = hauler->key_size;
    Unum__V1__RangeResponse *reply;
    if (person_call(person, "/unum.v1.Registry/Range", &request.base,
                    &unum__v1__range_response__descriptor, &reply, NULL) != OUTCOME_DONE)
        return;
    uint64_t number = 0;
    if (reply->n_items == 1) {
        const ProtobufCBinaryData *value = &reply->items[0]->value;
        number = value->len >= 8 ? load_u64_le(value->data) : UINT64_MAX;
        size_t size = load_up(number, hauler->heavy, hauler->bytes);
        if (size != value->len || memcmp(value->data, hauler->bytes, size) != 0)
            number = UINT64_MAX;
    }
    for (size_t i = 0; i < hauler->allowed_count; i++)
        if (hauler->allowed[i] == number) return;
    world_fail(person->world, "%s reads load %llu, the last that was acknowledged is %llu",
               person->name, (unsigned long long)number, (unsigned long long)hauler->allowed[0]);
}

static void hauler_fiber(void *argument)
{
    struct person *person = argument;
    struct hauler hauler = { .person = person,
                             .allowed_count = 1,
                             .heavy = person->world->temper.heavy_hauler };
    uint64_t pause_ms_max = hauler.heavy ? 20 : 900;
    hauler.bytes = malloc(HAUL_BYTES_MAX);
    if (hauler.bytes == NULL) abort();
    hauler.key_size = (size_t)snprintf(hauler.key, sizeof hauler.key, "haul/%u", person->number);
    while (!person->world->writers_stop && person_pause(person, 5, pause_ms_max)) {
        if (hauler.number_last > HEAVY_HAULS_MAX) pause_ms_max = 900;
        if (world_chance(&person->random, hauler.heavy ? 95 : 60))
            haul(&hauler);
        else
            unload(&hauler);
    }
    free(hauler.bytes);
    person_destroy(person);
}

/* --- the visitor --------------------------------------------------------------------------------
 */

static void ask(struct person *person, const char *path, const ProtobufCMessage *request,
                const ProtobufCMessageDescriptor *reply)
{
    void *answer;
    enum status status;
    enum outcome outcome = person_call(person, path, request, reply, &answer, &status);
    if (outcome == OUTCOME_REFUSED && !refusal_is_passing(status) && status != STATUS_NOT_FOUND)
        world_fail(person->world, "%s asked %s and was refused (%s): %s", person->name, path,
                   status_name(status), person->client.text);
}

static void visit(struct person *person)
{
    Unum__V1__ListTasksRequest tasks = UNUM__V1__LIST_TASKS_REQUEST__INIT;
    Unum__V1__ListJobsRequest jobs = UNUM__V1__LIST_JOBS_REQUEST__INIT;
    Unum__V1__ListMachinesRequest machines = UNUM__V1__LIST_MACHINES_REQUEST__INIT;
    Unum__V1__StatusRequest about = UNUM__V1__STATUS_REQUEST__INIT;
    Unum__V1__ListLeasesRequest leases = UNUM__V1__LIST_LEASES_REQUEST__INIT;
    Unum__V1__WhyRequest why = UNUM__V1__WHY_REQUEST__INIT;
    struct world *world = person->world;
    switch (world_draw(&person->random, 0, 5)) {
    case 0:
        ask(person, "/unum.v1.Computer/ListTasks", &tasks.base,
            &unum__v1__list_tasks_response__descriptor);
        break;
    case 1:
        ask(person, "/unum.v1.Computer/ListJobs", &jobs.base,
            &unum__v1__list_jobs_response__descriptor);
        break;
    case 2:
        ask(person, "/unum.v1.Computer/ListMachines", &machines.base,
            &unum__v1__list_machines_response__descriptor);
        break;
    case 3:
        ask(person, "/unum.v1.Computer/Status", &about.base,
            &unum__v1__status_response__descriptor);
        break;
    case 4:
        ask(person, "/unum.v1.Registry/ListLeases", &leases.base,
            &unum__v1__list_leases_response__descriptor);
        break;
    default:
        why.name = world->jobs[world_draw(&person->random, 0, world->job_count - 1)].name;
        ask(person, "/unum.v1.Computer/Why", &why.base, &unum__v1__why_response__descriptor);
        break;
    }
}

static void visitor_fiber(void *argument)
{
    struct person *person = argument;
    while (!person->world->writers_stop && person_pause(person, 50, 1500)) visit(person);
    person_destroy(person);
}

/* --- the vandal ---------------------------------------------------------------------------------
 */

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static void throw_garbage(struct person *person)
{
    struct network *network = sim_machine_network(person->world->people);
    struct stream *stream;
    if (network->connect(network, WORLD_ADDRESS, person_deadline(person), &stream, NULL) !=
        STATUS_OK)
        return;
    uint8_t bytes[GARBAGE_BYTES_MAX];
    size_t size = (size_t)world_draw(&person->random, 1, sizeof bytes);
    person->random.random.fill(&person->random.random, bytes, size);
    if (world_chance(&person->random, 50) && size > sizeof preface)
        memcpy(bytes, preface, sizeof preface - 1);
    enum status status = stream_write(stream, bytes, size, person_deadline(person));
    if (status == STATUS_OK && world_chance(&person->random, 50)) {
        size_t got;
        status = stream_read(stream, bytes, sizeof bytes, person_deadline(person), &got);
    }
    (void)status; /* whatever becomes of it */
    stream_close(stream);
}

/* Ask for something that takes a while, and go away. */
static void leave_in_the_middle(struct person *person)
{
    Unum__V1__DeleteRequest request = UNUM__V1__DELETE_REQUEST__INIT;
    request.key.data = (uint8_t *)"nothing";
    request.key.len = 7;
    person_pack(person, &request.base);
    bool unknown;
    uint64_t deadline_ns = world_now(person->world) + world_draw(&person->random, 1, 9000) * 1000;
    enum status status = sim_client_call(&person->client, "/unum.v1.Registry/Delete",
                                         bytes_of(person->request.data, person->request.used),
                                         deadline_ns, &unknown);
    (void)status;
    sim_client_disconnect(&person->client);
}

static void vandal_fiber(void *argument)
{
    struct person *person = argument;
    while (!person->world->writers_stop && person_pause(person, 50, 2000)) {
        if (world_chance(&person->random, 50))
            throw_garbage(person);
        else
            leave_in_the_middle(person);
    }
    person_destroy(person);
}

void world_start_others(struct world *world)
{
    person_start(world, &world->writers, "hauler", 0, hauler_fiber);
    person_start(world, &world->writers, "visitor", 0, visitor_fiber);
    person_start(world, &world->writers, "vandal", 0, vandal_fiber);
}
