#include "sim/replica_world.h"

#include "sim/wait.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    KEY_LINE = 'l', /* | number u64 big-endian -> the line */
    KEY_COUNT = 'n',
    KEY_ALARM = 'a',
    LINE_KEY_BYTES = 9,
};
static const uint64_t WORLD_END_NS = UINT64_C(1000) * 3600 * 1000 * 1000 * 1000;

/* --- the ledger --------------------------------------------------------------------------------
 */

struct ledger {
    struct state_machine machine;
    struct world *world;
    uint64_t group;
    uint64_t count;
    uint64_t alarm_ms; /* UINT64_MAX: none */
    uint64_t time_ms;
};

static struct ledger *ledger_of(const struct state_machine *machine)
{
    return (struct ledger *)machine;
}

static enum status read_number(const struct store_range *range, uint8_t letter,
                               uint64_t when_missing, uint64_t *ret_number)
{
    struct buffer buffer;
    buffer_init(&buffer, 8);
    enum status status = store_get(range, NULL, bytes_of(&letter, 1), &buffer);
    if (status == STATUS_OK) *ret_number = load_u64_le(buffer.data);
    if (status == STATUS_NOT_FOUND) *ret_number = when_missing;
    buffer_finish(&buffer);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static void put_number(const struct apply_context *context, uint8_t letter, uint64_t number)
{
    uint8_t value[8];
    store_u64_le(value, number);
    store_batch_put(context->batch, context->range, bytes_of(&letter, 1),
                    bytes_of(value, sizeof value));
}

static void put_line(struct ledger *ledger, const struct apply_context *context, struct bytes line)
{
    uint8_t key[LINE_KEY_BYTES] = { KEY_LINE };
    ledger->count++;
    store_u64_be(key + 1, ledger->count);
    store_batch_put(context->batch, context->range, bytes_of(key, sizeof key), line);
    put_number(context, KEY_COUNT, ledger->count);
}

static enum status ledger_open(struct state_machine *machine, const struct store_range *range,
                               struct error *error)
{
    (void)error;
    struct ledger *ledger = ledger_of(machine);
    enum status status = read_number(range, KEY_COUNT, 0, &ledger->count);
    if (status != STATUS_OK) return status;
    return read_number(range, KEY_ALARM, UINT64_MAX, &ledger->alarm_ms);
}

static void run_alarm(struct ledger *ledger, const struct apply_context *context)
{
    if (context->entry->computer_time_ms < ledger->alarm_ms) return;
    ledger->alarm_ms = UINT64_MAX;
    put_number(context, KEY_ALARM, UINT64_MAX);
    put_line(ledger, context, bytes_of_text("rang"));
}

static enum status ledger_apply(struct state_machine *machine, const struct apply_context *context,
                                struct error *error)
{
    (void)error;
    struct ledger *ledger = ledger_of(machine);
    ledger->time_ms = context->entry->computer_time_ms;
    run_alarm(ledger, context);
    if (context->entry->kind != ENTRY_COMMAND) return STATUS_OK;

    char text[WORLD_LINE_BYTES_MAX];
    struct bytes payload = context->entry->payload;
    snprintf(text, sizeof text, "%.*s", (int)payload.size, (const char *)payload.data);
    if (strncmp(text, "ring ", 5) == 0) {
        uint64_t number = strtoull(text + 5, NULL, 10);
        ledger->alarm_ms = ledger->time_ms + number;
        put_number(context, KEY_ALARM, ledger->alarm_ms);
    }
    put_line(ledger, context, payload);
    if (strncmp(text, "answer ", 7) == 0) {
        uint64_t number = strtoull(text + 7, NULL, 10);
        if (buffer_reserve(context->reply, number) != STATUS_OK) return STATUS_NO_MEMORY;
        memset(context->reply->data, 'a', number);
        context->reply->used = number;
        return STATUS_OK;
    }
    char reply[WORLD_LINE_BYTES_MAX + 32];
    int size = snprintf(reply, sizeof reply, "%" PRIu64 " %s", ledger->count, text);
    return buffer_append(context->reply, reply, (size_t)size);
}

static void ledger_applied(struct state_machine *machine, uint64_t index)
{
    struct ledger *ledger = ledger_of(machine);
    struct world *world = ledger->world;
    struct replica *replica = host_find_group(world->host, ledger->group);
    uint64_t time_ms = replica->applier.applied.computer_time_ms;
    uint64_t hash = replica->applier.applied.running_hash;
    assert(index < WORLD_HASHES_MAX);
    if (world->hashes[index] == 0) {
        world->hashes[index] = hash;
        /* New entries, not those that recovery applies again. */
        if (time_ms < world->latest_time_ms) world->time_went_back = true;
        world->latest_time_ms = time_ms;
    } else if (world->hashes[index] != hash) {
        world->hash_differed = true;
    }
}

static uint64_t ledger_deadline(const struct state_machine *machine)
{
    return ledger_of(machine)->alarm_ms;
}

static void ledger_close(struct state_machine *machine)
{
    free(ledger_of(machine));
}

static enum status ledger_create(void *context, const struct group_description *group,
                                 struct state_machine **ret_machine, struct error *error)
{
    static const struct state_machine_operations operations = {
        .kind = "ledger",
        .open = ledger_open,
        .apply = ledger_apply,
        .applied = ledger_applied,
        .next_deadline_ms = ledger_deadline,
        .close = ledger_close,
    };
    (void)error;
    struct ledger *ledger = calloc(1, sizeof *ledger);
    if (ledger == NULL) return STATUS_NO_MEMORY;
    *ledger = (struct ledger) { .machine = { .operations = &operations },
                                .world = context,
                                .group = group->group,
                                .alarm_ms = UINT64_MAX };
    *ret_machine = &ledger->machine;
    return STATUS_OK;
}

/* --- lives -------------------------------------------------------------------------------------
 */

struct start {
    struct world *world;
    void (*main)(struct world *world);
};

static void run_main(struct scope *root, void *context)
{
    struct start *start = context;
    start->world->root = root;
    start->main(start->world);
    world_close(start->world);
}

void world_run(struct world *world, uint64_t seed, const struct sim_disk_options *disk,
               void (*main)(struct world *world))
{
    void *test = world->test;
    *world = (struct world) { .seed = seed, .test = test };
    struct sim_disk_options options = *disk;
    options.seed = seed;
    options.wait = sim_wait_in_fiber;
    if (options.sync_ns_max == 0) options.sync_ns_min = options.sync_ns_max = 100000;
    sim_disk_init(&world->disk, &options);
    struct reactor_simulation_options simulation = { .seed = seed, .end_ns = WORLD_END_NS };
    enum status status = reactor_create_simulation(&simulation, &world->reactor);
    assert(status == STATUS_OK);
    struct start start = { .world = world, .main = main };
    status = reactor_run(world->reactor, run_main, &start);
    assert(status == STATUS_OK);
    reactor_destroy(world->reactor);
    sim_disk_finish(&world->disk);
}

enum status world_open_host(struct world *world, struct error *error)
{
    assert(world->host == NULL);
    struct replica_host_options options = world->options;
    options.reactor = world->reactor;
    options.scope = world->root;
    options.disk = &world->disk.disk;
    options.store_disk = &world->disk.blocking;
    options.clock = reactor_clock(world->reactor);
    options.random = reactor_random(world->reactor);
    options.simulation = true;
    if (options.journal_segment_bytes == 0) options.journal_segment_bytes = WORLD_SEGMENT_BYTES;
    memset(options.computer.bytes, 1, ID_BYTES);
    memset(options.machine.bytes, 2, ID_BYTES);
    memset(options.disk_incarnation.bytes, 3, ID_BYTES);
    enum status status = replica_host_open(&options, &world->host, error);
    if (status != STATUS_OK) return status;
    struct state_machine_kind kind = { .kind = "ledger",
                                       .create = ledger_create,
                                       .context = world };
    status = replica_register_kind(world->host, &kind);
    assert(status == STATUS_OK);
    return STATUS_OK;
}

enum status world_open(struct world *world, struct error *error)
{
    enum status status = world_open_host(world, error);
    if (status != STATUS_OK) return status;
    uint64_t group;
    status = replica_host_start(world->host, error);
    if (status == STATUS_OK) {
        status = replica_create_group(world->host, "ledger", "main", &group, error);
        if (status == STATUS_EXISTS) status = STATUS_OK;
    }
    if (status != STATUS_OK) world_close(world);
    return status;
}

void world_close(struct world *world)
{
    replica_host_close(world->host);
    world->host = NULL;
}

void world_exit(struct world *world)
{
    world_close(world);
    sim_disk_crash(&world->disk); /* which loses nothing of what was written */
    sim_disk_restart(&world->disk);
}

void world_crash(struct world *world)
{
    if (!world->disk.lost_power) sim_disk_crash(&world->disk);
    world_close(world);
    sim_disk_restart(&world->disk);
}

void world_lose_power(struct world *world)
{
    sim_disk_lose_power(&world->disk);
    world_close(world);
    sim_disk_restart(&world->disk);
}

/* --- use ---------------------------------------------------------------------------------------
 */

struct replica *world_main(struct world *world)
{
    struct replica *replica = NULL;
    enum status status = replica_find(world->host, "ledger", "main", &replica);
    assert(status == STATUS_OK);
    return replica;
}

enum status world_propose(struct world *world, unsigned session, uint64_t sequence,
                          const char *text, char ret_reply[WORLD_LINE_BYTES_MAX],
                          struct error *error)
{
    struct replica_request request = { .sequence = sequence,
                                       .payload = bytes_of_text(text),
                                       .deadline_ns = DEADLINE_NEVER };
    if (session != 0) memset(request.session.bytes, (int)session, ID_BYTES);
    struct buffer reply;
    buffer_init(&reply, WORLD_ANSWER_BYTES_MAX);
    uint64_t index;
    enum status status = replica_propose(world_main(world), &request, &reply, &index, error);
    if (status == STATUS_OK && ret_reply != NULL) {
        snprintf(ret_reply, WORLD_LINE_BYTES_MAX, "%.*s", (int)reply.used,
                 reply.used > 0 ? (const char *)reply.data : "");
    }
    buffer_finish(&reply);
    return status;
}

unsigned world_count(struct world *world, const char *text)
{
    static const uint8_t from[] = { KEY_LINE };
    static const uint8_t to[] = { KEY_LINE + 1 };
    struct store_iterator *iterator;
    enum status status =
        store_iterator_create(replica_range(world_main(world)), NULL, bytes_of(from, sizeof from),
                              bytes_of(to, sizeof to), false, &iterator);
    assert(status == STATUS_OK);
    unsigned count = 0;
    struct bytes key;
    struct bytes value;
    while (store_iterator_next(iterator, &key, &value) == STATUS_OK) {
        if (bytes_equal(value, bytes_of_text(text))) count++;
    }
    store_iterator_destroy(iterator);
    return count;
}

uint64_t world_lines(struct world *world)
{
    uint64_t count;
    enum status status = read_number(replica_range(world_main(world)), KEY_COUNT, 0, &count);
    assert(status == STATUS_OK);
    return count;
}
