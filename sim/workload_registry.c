/* Writers and readers of the registry's space "main": everything they ask and are told goes to the
 * checkers of linearizability and watches. Some have sessions: then a request of unknown outcome is
 * sent again with its sequence number until the answer is known, and counts as one operation. */
#include "sim/workload.h"
#include "unum/v1/registry.pb-c.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    REQUEST_PARTS_MAX = 4,
    RECORDS_MAX = HISTORY_KEYS_MAX,
    EARLY_RETRY_MS = 5,
    LATE_RETRY_MS = 600,
};

struct registry_client {
    struct person *person;
    bool has_session;
    uint8_t session[ID_BYTES];
    uint64_t sequence;
    uint64_t seen[HISTORY_KEYS_MAX]; /* the value each key had last, as far as we know */
    /* The request in hand, and what it will be in the history. */
    struct check_linear_operation records[RECORDS_MAX];
    size_t record_count;
    Unum__V1__Context context;
    char keys[REQUEST_PARTS_MAX][32];
    char values[REQUEST_PARTS_MAX][HISTORY_VALUE_BYTES_MAX];
    size_t key_sizes[REQUEST_PARTS_MAX], value_sizes[REQUEST_PARTS_MAX];
    char expected[HISTORY_VALUE_BYTES_MAX];
};

static ProtobufCBinaryData binary(const void *data, size_t size)
{
    return (ProtobufCBinaryData) { .len = size, .data = (uint8_t *)data };
}

/* --- records ------------------------------------------------------------------------------------
 */

static struct check_linear_operation *record(struct registry_client *client,
                                             enum check_linear_kind kind, uint32_t key)
{
    struct check_linear_operation *operation = &client->records[client->record_count++];
    *operation = (struct check_linear_operation) { .kind = kind, .key = key };
    return operation;
}

static void tell_watch_checker(struct world *world, const struct check_linear_operation *operation)
{
    bool changed = operation->kind == CHECK_LINEAR_PUT ||
                   (operation->kind == CHECK_LINEAR_SWAP && operation->succeeded) ||
                   (operation->kind == CHECK_LINEAR_DELETE && operation->succeeded);
    if (!changed || operation->unknown) return;
    struct check_watch_event event = {
        .revision = operation->revision,
        .key = operation->key,
        .deleted = operation->kind == CHECK_LINEAR_DELETE,
        .value = operation->value,
    };
    world_need(world, check_watch_wrote(world->watch, &event));
}

/* Everything recorded for the request in hand happened between START and now. */
static void keep_records(struct registry_client *client, uint64_t start_ns, bool unknown)
{
    struct world *world = client->person->world;
    uint64_t transaction = client->record_count > 1 ? ++world->transaction_last : 0;
    for (size_t i = 0; i < client->record_count; i++) {
        struct check_linear_operation *operation = &client->records[i];
        if (unknown && operation->kind == CHECK_LINEAR_GET) continue;
        operation->start_ns = start_ns;
        operation->end_ns = world_now(world);
        operation->unknown = unknown;
        operation->transaction = transaction;
        world_need(world, check_linear_add(world->linear, operation));
        tell_watch_checker(world, operation);
        if (!unknown && operation->revision > world->revision_seen)
            world->revision_seen = operation->revision;
        if (!unknown && operation->kind != CHECK_LINEAR_SWAP)
            client->seen[operation->key] = operation->value;
        if (!unknown && operation->kind == CHECK_LINEAR_SWAP && operation->succeeded)
            client->seen[operation->key] = operation->value;
    }
    world->result->operations++;
    world->result->operations_unknown += unknown;
}

/* --- sending ------------------------------------------------------------------------------------
 */

/* Send until the outcome is known, when there is a session; once otherwise. */
static enum outcome ask(struct registry_client *client, const char *path,
                        const ProtobufCMessage *request, const ProtobufCMessageDescriptor *reply,
                        void *ret_reply)
{
    struct person *person = client->person;
    bool in_doubt = false;
    for (;;) {
        enum status status;
        enum outcome outcome = person_call(person, path, request, reply, ret_reply, &status);
        if (outcome == OUTCOME_DONE) {
            if (in_doubt)
                world_say(person->world, person->name, "  the retry of %llu is answered",
                          (unsigned long long)client->sequence);
            return outcome;
        }
        if (outcome == OUTCOME_OVER) return in_doubt ? OUTCOME_UNKNOWN : outcome;
        if (outcome == OUTCOME_REFUSED && !refusal_is_passing(status)) {
            world_fail(person->world, "%s: %s was refused (%s): %s", person->name, path,
                       status_name(status), person->client.text);
            return OUTCOME_OVER;
        }
        in_doubt |= outcome == OUTCOME_UNKNOWN;
        if (!in_doubt) return outcome;
        if (!client->has_session || person->world->writers_stop) return OUTCOME_UNKNOWN;
        if (!person_pause(person, EARLY_RETRY_MS, LATE_RETRY_MS)) return OUTCOME_UNKNOWN;
    }
}

/* A write: records it as it went. True: done. */
static bool write_and_keep(struct registry_client *client, const char *path,
                           const ProtobufCMessage *request, const ProtobufCMessageDescriptor *reply,
                           void *ret_reply, uint64_t *ret_start_ns)
{
    uint64_t start_ns = world_now(client->person->world);
    enum outcome outcome = ask(client, path, request, reply, ret_reply);
    if (outcome == OUTCOME_UNKNOWN) keep_records(client, start_ns, true);
    *ret_start_ns = start_ns;
    return outcome == OUTCOME_DONE;
}

static Unum__V1__Context *next_context(struct registry_client *client)
{
    unum__v1__context__init(&client->context);
    if (!client->has_session) return NULL;
    client->sequence++;
    client->context.session = binary(client->session, sizeof client->session);
    client->context.sequence = client->sequence;
    return &client->context;
}

static void fill_key(struct registry_client *client, size_t part, uint32_t key)
{
    client->key_sizes[part] = history_format_key(key, client->keys[part]);
}

static uint64_t fill_value(struct registry_client *client, size_t part)
{
    uint64_t value = ++client->person->world->value_last;
    client->value_sizes[part] = history_format_value(value, client->values[part]);
    return value;
}

static ProtobufCBinaryData key_of(const struct registry_client *client, size_t part)
{
    return binary(client->keys[part], client->key_sizes[part]);
}

static ProtobufCBinaryData value_of(const struct registry_client *client, size_t part)
{
    return binary(client->values[part], client->value_sizes[part]);
}

static uint32_t draw_key(struct registry_client *client)
{
    return (uint32_t)world_draw(&client->person->random, 0, HISTORY_KEYS_MAX - 1);
}

/* --- operations ---------------------------------------------------------------------------------
 */

static void put(struct registry_client *client)
{
    Unum__V1__PutRequest request = UNUM__V1__PUT_REQUEST__INIT;
    uint32_t key = draw_key(client);
    fill_key(client, 0, key);
    uint64_t value = fill_value(client, 0);
    request.context = next_context(client);
    request.key = key_of(client, 0);
    request.value = value_of(client, 0);
    record(client, CHECK_LINEAR_PUT, key)->value = value;
    Unum__V1__PutResponse *reply;
    uint64_t start_ns;
    if (!write_and_keep(client, "/unum.v1.Registry/Put", &request.base,
                        &unum__v1__put_response__descriptor, &reply, &start_ns))
        return;
    client->records[0].revision = reply->revision;
    keep_records(client, start_ns, false);
    world_say(client->person->world, client->person->name, "put %u = %llu at %llu", key,
              (unsigned long long)value, (unsigned long long)reply->revision);
}

static void delete_key(struct registry_client *client)
{
    Unum__V1__DeleteRequest request = UNUM__V1__DELETE_REQUEST__INIT;
    uint32_t key = draw_key(client);
    fill_key(client, 0, key);
    request.context = next_context(client);
    request.key = key_of(client, 0);
    struct check_linear_operation *operation = record(client, CHECK_LINEAR_DELETE, key);
    Unum__V1__DeleteResponse *reply;
    uint64_t start_ns;
    if (!write_and_keep(client, "/unum.v1.Registry/Delete", &request.base,
                        &unum__v1__delete_response__descriptor, &reply, &start_ns))
        return;
    operation->succeeded = reply->deleted > 0;
    operation->revision = reply->revision;
    keep_records(client, start_ns, false);
    world_say(client->person->world, client->person->name, "delete %u: %llu at %llu", key,
              (unsigned long long)reply->deleted, (unsigned long long)reply->revision);
}

/* The value of an item; fails the world on bytes that nobody wrote. */
static bool take_value(struct registry_client *client, const Unum__V1__KeyValue *item,
                       uint64_t *ret_value)
{
    uint64_t value = history_parse_value(bytes_of(item->value.data, item->value.len));
    if (value == UINT64_MAX || value == 0) {
        world_fail(client->person->world, "%s read %zu bytes of %.*s that nobody wrote",
                   client->person->name, item->value.len, (int)item->key.len,
                   (const char *)item->key.data);
        return false;
    }
    *ret_value = value;
    return true;
}

/* One key, or all in one answer, which then must fit together. */
static bool get(struct registry_client *client, bool all)
{
    Unum__V1__RangeRequest request = UNUM__V1__RANGE_REQUEST__INIT;
    uint32_t first = all ? 0 : draw_key(client), last = all ? HISTORY_KEYS_MAX - 1 : first;
    fill_key(client, 0, first);
    request.key = key_of(client, 0);
    if (all) request.end = binary("sim0", 4);
    for (uint32_t key = first; key <= last; key++) (void)record(client, CHECK_LINEAR_GET, key);
    uint64_t start_ns = world_now(client->person->world);
    Unum__V1__RangeResponse *reply;
    enum status status;
    enum outcome outcome = person_call(client->person, "/unum.v1.Registry/Range", &request.base,
                                       &unum__v1__range_response__descriptor, &reply, &status);
    if (outcome == OUTCOME_REFUSED && !refusal_is_passing(status))
        world_fail(client->person->world, "%s: a read was refused (%s): %s", client->person->name,
                   status_name(status), client->person->client.text);
    if (outcome != OUTCOME_DONE) return false;
    for (size_t i = 0; i < reply->n_items; i++) {
        const Unum__V1__KeyValue *item = reply->items[i];
        uint32_t key = history_parse_key(bytes_of(item->key.data, item->key.len));
        if (key < first || key > last || key == UINT32_MAX) {
            world_fail(client->person->world, "%s asked for keys %u to %u and got another",
                       client->person->name, first, last);
            return false;
        }
        if (!take_value(client, item, &client->records[key - first].value)) return false;
    }
    for (uint32_t key = first; key <= last; key++)
        client->records[key - first].revision = reply->revision;
    keep_records(client, start_ns, false);
    if (!all)
        world_say(client->person->world, client->person->name, "get %u: %llu at %llu", first,
                  (unsigned long long)client->records[0].value,
                  (unsigned long long)reply->revision);
    return true;
}

/* Put the first of COUNT keys if it has the value that we believe it has, and the others with it.
 */
static void swap(struct registry_client *client, size_t count)
{
    Unum__V1__Compare compare = UNUM__V1__COMPARE__INIT;
    Unum__V1__PutRequest puts[REQUEST_PARTS_MAX];
    Unum__V1__Operation operations[REQUEST_PARTS_MAX];
    Unum__V1__Compare *compares[1] = { &compare };
    Unum__V1__Operation *success[REQUEST_PARTS_MAX];
    Unum__V1__TxnRequest request = UNUM__V1__TXN_REQUEST__INIT;
    uint32_t key = draw_key(client);
    for (size_t i = 0; i < count; i++, key = (key + 5) % HISTORY_KEYS_MAX) {
        fill_key(client, i, key);
        struct check_linear_operation *operation =
            record(client, i == 0 ? CHECK_LINEAR_SWAP : CHECK_LINEAR_PUT, key);
        operation->value = fill_value(client, i);
        if (i == 0) operation->expected = client->seen[key];
        unum__v1__put_request__init(&puts[i]);
        puts[i].key = key_of(client, i);
        puts[i].value = value_of(client, i);
        unum__v1__operation__init(&operations[i]);
        operations[i].operation_case = UNUM__V1__OPERATION__OPERATION_PUT;
        operations[i].put = &puts[i];
        success[i] = &operations[i];
    }
    compare.key = key_of(client, 0);
    compare.target = client->records[0].expected == 0 ? UNUM__V1__COMPARE__TARGET__VERSION
                                                      : UNUM__V1__COMPARE__TARGET__VALUE;
    if (client->records[0].expected != 0)
        compare.value = binary(client->expected,
                               history_format_value(client->records[0].expected, client->expected));
    request.context = next_context(client);
    request.n_compares = 1;
    request.compares = compares;
    request.n_success = count;
    request.success = success;
    Unum__V1__TxnResponse *reply;
    uint64_t start_ns;
    if (!write_and_keep(client, "/unum.v1.Registry/Txn", &request.base,
                        &unum__v1__txn_response__descriptor, &reply, &start_ns))
        return;
    if (!reply->succeeded) client->record_count = 1; /* the others did not happen */
    for (size_t i = 0; i < client->record_count; i++) {
        client->records[i].succeeded = reply->succeeded;
        client->records[i].revision = reply->revision;
    }
    keep_records(client, start_ns, false);
    world_say(client->person->world, client->person->name,
              "swap %u from %llu and %zu more: %s at %llu", client->records[0].key,
              (unsigned long long)client->records[0].expected, count - 1,
              reply->succeeded ? "done" : "no", (unsigned long long)reply->revision);
}

/* --- fibers -------------------------------------------------------------------------------------
 */

static void act(struct registry_client *client)
{
    client->record_count = 0;
    uint64_t kind = world_draw(&client->person->random, 0, 99);
    if (kind < 35)
        put(client);
    else if (kind < 45)
        delete_key(client);
    else if (kind < 60)
        swap(client, 1);
    else if (kind < 70)
        swap(client, (size_t)world_draw(&client->person->random, 2, REQUEST_PARTS_MAX - 1));
    else if (kind < 96)
        (void)get(client, false);
    else
        (void)get(client, true);
}

static struct registry_client *client_create(struct person *person)
{
    struct registry_client *client = calloc(1, sizeof *client);
    if (client == NULL) abort();
    client->person = person;
    person->random.random.fill(&person->random.random, client->session, sizeof client->session);
    return client;
}

static void registry_fiber(void *argument)
{
    struct person *person = argument;
    struct registry_client *client = client_create(person);
    client->has_session = person->number % 3 != 0;
    /* The pace of this person: some are hasty. */
    uint64_t pause_ms_max = world_draw(&person->random, 20, 400);
    while (!person->world->writers_stop && person_pause(person, 0, pause_ms_max)) act(client);
    person_destroy(person);
    free(client);
}

void world_start_registry_clients(struct world *world)
{
    uint64_t count = world_draw(&world->random, 3, 8);
    for (unsigned i = 0; i < count; i++)
        person_start(world, &world->writers, "writer", i, registry_fiber);
}

void world_read_all(struct world *world)
{
    struct person *person = person_create(world, "reader", 0);
    struct registry_client *client = client_create(person);
    bool done = false;
    for (unsigned tries = 0; tries < 20 && !done && !fiber_must_stop(); tries++) {
        client->record_count = 0;
        done = get(client, true);
    }
    if (done) world->final_revision = client->records[0].revision;
    if (!done && !fiber_must_stop())
        world_fail(world, "the last read is not answered: %s", person->client.text);
    person_destroy(person);
    free(client);
}
