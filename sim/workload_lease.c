/* Owners of leases: grant one, attach keys of their own, keep it alive for a while, let it end or
 * revoke it, and look at the keys all the time. */
#include "sim/workload.h"
#include "unum/v1/registry.pb-c.h"

#include <stdio.h>

enum { LEASE_KEYS_MAX = 3, LEASE_MS_MIN = 1000, LEASE_MS_MAX = 5000, LEASE_GONE_READS = 3 };

/* Until when a request without an answer can still take effect: it has been proposed by then, and
 * its entry bears the time of its proposal. */
static const uint64_t IN_DOUBT_SECONDS = 2;

struct tenant {
    struct person *person;
    uint64_t lease, ttl_ms;
    bool attached[LEASE_KEYS_MAX];
};

static uint64_t last_moment(const struct world *world, enum outcome outcome)
{
    uint64_t now = world_now(world);
    return outcome == OUTCOME_DONE ? now : now + IN_DOUBT_SECONDS * WORLD_SECOND;
}

static void note_extension(struct tenant *tenant, uint64_t start_ns, enum outcome outcome)
{
    struct world *world = tenant->person->world;
    if (outcome == OUTCOME_REFUSED) return;
    world_need(world, check_lease_extended(world->lease, tenant->lease, start_ns,
                                           last_moment(world, outcome), tenant->ttl_ms * WORLD_MS,
                                           outcome == OUTCOME_DONE));
}

static bool grant(struct tenant *tenant)
{
    struct person *person = tenant->person;
    Unum__V1__GrantLeaseRequest request = UNUM__V1__GRANT_LEASE_REQUEST__INIT;
    tenant->lease = ++person->world->lease_last;
    tenant->ttl_ms = world_draw(&person->random, LEASE_MS_MIN, LEASE_MS_MAX);
    request.lease = tenant->lease;
    request.time_to_live_ms = tenant->ttl_ms;
    uint64_t start_ns = world_now(person->world);
    Unum__V1__GrantLeaseResponse *reply;
    enum outcome outcome = person_call(person, "/unum.v1.Registry/GrantLease", &request.base,
                                       &unum__v1__grant_lease_response__descriptor, &reply, NULL);
    note_extension(tenant, start_ns, outcome);
    if (outcome != OUTCOME_DONE) return false;
    person->world->result->leases++;
    world_say(person->world, person->name, "lease %llu for %llu ms",
              (unsigned long long)tenant->lease, (unsigned long long)tenant->ttl_ms);
    return true;
}

static size_t format_key(const struct tenant *tenant, unsigned number, char ret_text[48])
{
    return (size_t)snprintf(ret_text, 48, "lease/%llu/%u", (unsigned long long)tenant->lease,
                            number);
}

static void attach(struct tenant *tenant, unsigned number)
{
    char key[48], value[HISTORY_VALUE_BYTES_MAX];
    Unum__V1__PutRequest request = UNUM__V1__PUT_REQUEST__INIT;
    request.key.data = (uint8_t *)key;
    request.key.len = format_key(tenant, number, key);
    request.value.data = (uint8_t *)value;
    request.value.len = history_format_value(tenant->lease, value);
    request.lease = tenant->lease;
    Unum__V1__PutResponse *reply;
    tenant->attached[number] =
        person_call(tenant->person, "/unum.v1.Registry/Put", &request.base,
                    &unum__v1__put_response__descriptor, &reply, NULL) == OUTCOME_DONE;
}

static void keep(struct tenant *tenant)
{
    struct person *person = tenant->person;
    Unum__V1__KeepLeaseRequest request = UNUM__V1__KEEP_LEASE_REQUEST__INIT;
    request.lease = tenant->lease;
    uint64_t start_ns = world_now(person->world);
    Unum__V1__KeepLeaseResponse *reply;
    enum status status;
    enum outcome outcome = person_call(person, "/unum.v1.Registry/KeepLease", &request.base,
                                       &unum__v1__keep_lease_response__descriptor, &reply, &status);
    note_extension(tenant, start_ns, outcome);
    world_say(person->world, person->name, "keep %llu: %s", (unsigned long long)tenant->lease,
              status_name(status));
}

static void revoke(struct tenant *tenant)
{
    struct person *person = tenant->person;
    Unum__V1__RevokeLeaseRequest request = UNUM__V1__REVOKE_LEASE_REQUEST__INIT;
    request.lease = tenant->lease;
    uint64_t start_ns = world_now(person->world);
    Unum__V1__RevokeLeaseResponse *reply;
    enum status status;
    enum outcome outcome =
        person_call(person, "/unum.v1.Registry/RevokeLease", &request.base,
                    &unum__v1__revoke_lease_response__descriptor, &reply, &status);
    world_say(person->world, person->name, "revoke %llu: %s", (unsigned long long)tenant->lease,
              status_name(status));
    if (outcome == OUTCOME_REFUSED) return;
    world_need(person->world,
               check_lease_revoked(person->world->lease, tenant->lease, start_ns,
                                   world_now(person->world), outcome == OUTCOME_DONE));
}

/* False: the key is not there, or nobody says. */
static bool look(struct tenant *tenant, unsigned number, bool *ret_gone)
{
    struct person *person = tenant->person;
    char key[48];
    Unum__V1__RangeRequest request = UNUM__V1__RANGE_REQUEST__INIT;
    request.key.data = (uint8_t *)key;
    request.key.len = format_key(tenant, number, key);
    uint64_t start_ns = world_now(person->world);
    Unum__V1__RangeResponse *reply;
    if (person_call(person, "/unum.v1.Registry/Range", &request.base,
                    &unum__v1__range_response__descriptor, &reply, NULL) != OUTCOME_DONE)
        return false;
    bool found = reply->n_items > 0;
    world_need(person->world, check_lease_read(person->world->lease, tenant->lease, start_ns,
                                               world_now(person->world), found));
    *ret_gone = !found;
    return true;
}

static void live_with_a_lease(struct tenant *tenant)
{
    struct person *person = tenant->person;
    for (unsigned i = 0; i < LEASE_KEYS_MAX; i++) attach(tenant, i);
    uint64_t keeps = world_draw(&person->random, 0, 6);
    bool revokes = world_chance(&person->random, 25);
    uint64_t began_ns = world_now(person->world);
    unsigned gone = 0;
    while (!person->world->writers_stop && gone < LEASE_GONE_READS) {
        if (!person_pause(person, 50, tenant->ttl_ms / 3)) return;
        if (keeps > 0) {
            keeps--;
            keep(tenant);
        } else if (revokes) {
            revokes = false;
            revoke(tenant);
        }
        unsigned number = (unsigned)world_draw(&person->random, 0, LEASE_KEYS_MAX - 1);
        bool is_gone = false;
        if (tenant->attached[number] && look(tenant, number, &is_gone)) gone += is_gone;
        /* Nothing to look at, or a machine that was off for very long. */
        if (world_now(person->world) > began_ns + 40 * WORLD_SECOND) return;
        if (!tenant->attached[0] && !tenant->attached[1] && !tenant->attached[2]) return;
    }
}

static void lease_fiber(void *argument)
{
    struct person *person = argument;
    struct tenant tenant = { .person = person };
    while (!person->world->writers_stop && person_pause(person, 10, 500))
        if (grant(&tenant)) live_with_a_lease(&tenant);
    person_destroy(person);
}

void world_start_lease_clients(struct world *world)
{
    world->lease_last = 1000;
    uint64_t count = world_draw(&world->random, 1, 3);
    for (unsigned i = 0; i < count; i++)
        person_start(world, &world->writers, "tenant", i, lease_fiber);
}
