/* Watchers of the registry: from now on or from a revision of the past, over all keys or some, and
 * after every break from the next revision on. */
#include "sim/workload.h"
#include "unum/v1/registry.pb-c.h"

#include <stdio.h>

struct watcher {
    struct person *person;
    uint32_t first_key, last_key;
    uint64_t next; /* revision; 0: from now on */
    bool known;    /* the stream has begun */
    size_t stream;
};

static bool is_done(const struct watcher *watcher)
{
    const struct world *world = watcher->person->world;
    return world->final_revision != 0 && watcher->next > world->final_revision;
}

static void begin(struct watcher *watcher, uint64_t next)
{
    struct world *world = watcher->person->world;
    watcher->next = next;
    if (watcher->known) return;
    watcher->known = true;
    world_need(world, check_watch_start(world->watch, watcher->first_key, watcher->last_key, next,
                                        &watcher->stream));
}

static void take_event(struct watcher *watcher, const Unum__V1__Event *event)
{
    struct world *world = watcher->person->world;
    const Unum__V1__KeyValue *item = event->item;
    if (item == NULL) {
        world_fail(world, "%s got an event without a key", watcher->person->name);
        return;
    }
    bool deleted = event->kind == UNUM__V1__EVENT__KIND__DELETE;
    struct check_watch_event seen = {
        .revision = item->modify_revision,
        .key = history_parse_key(bytes_of(item->key.data, item->key.len)),
        .deleted = deleted,
        .value = deleted ? 0 : history_parse_value(bytes_of(item->value.data, item->value.len)),
    };
    if (seen.key == UINT32_MAX || seen.value == UINT64_MAX) {
        world_fail(world, "%s got an event of %.*s with %zu bytes that nobody wrote",
                   watcher->person->name, (int)item->key.len, (const char *)item->key.data,
                   item->value.len);
        return;
    }
    world->result->watch_events++;
    if (item->modify_revision > world->revision_seen) world->revision_seen = item->modify_revision;
    world_need(world, check_watch_delivered(world->watch, watcher->stream, &seen));
}

static void take_response(struct watcher *watcher, const Unum__V1__WatchResponse *response)
{
    struct world *world = watcher->person->world;
    if (response->created)
        begin(watcher, watcher->next == 0 ? response->revision + 1 : watcher->next);
    if (!watcher->known) {
        world_fail(world, "%s got events before it was told of the watch", watcher->person->name);
        return;
    }
    for (size_t i = 0; i < response->n_events; i++) take_event(watcher, response->events[i]);
    if (response->revision >= watcher->next) {
        check_watch_progress(world->watch, watcher->stream, response->revision);
        watcher->next = response->revision + 1;
    }
}

/* The revisions from the next one on are compacted away: go on with what is newest. */
static bool skip(struct watcher *watcher)
{
    struct world *world = watcher->person->world;
    Unum__V1__RangeRequest request = UNUM__V1__RANGE_REQUEST__INIT;
    request.key = (ProtobufCBinaryData) { .len = 4, .data = (uint8_t *)"sim/" };
    Unum__V1__RangeResponse *reply;
    if (person_call(watcher->person, "/unum.v1.Registry/Range", &request.base,
                    &unum__v1__range_response__descriptor, &reply, NULL) != OUTCOME_DONE)
        return false;
    world_say(world, watcher->person->name, "skips from %llu to %llu",
              (unsigned long long)watcher->next, (unsigned long long)reply->revision + 1);
    if (watcher->known) check_watch_skipped(world->watch, watcher->stream, reply->revision + 1);
    begin(watcher, reply->revision + 1);
    return true;
}

/* One stream, until it breaks. */
static void watch_once(struct watcher *watcher)
{
    struct person *person = watcher->person;
    struct world *world = person->world;
    char first[32], end[32];
    Unum__V1__WatchRequest request = UNUM__V1__WATCH_REQUEST__INIT;
    request.key.data = (uint8_t *)first;
    request.key.len = history_format_key(watcher->first_key, first);
    request.end.data = (uint8_t *)end;
    request.end.len = history_format_key(watcher->last_key + 1, end);
    request.start_revision = watcher->next;
    request.progress = true;
    person_pack(person, &request.base);
    enum status status = sim_client_open(&person->client, "/unum.v1.Registry/Watch",
                                         bytes_of(person->request.data, person->request.used),
                                         person_deadline(person));
    while (status == STATUS_OK && !is_done(watcher)) {
        status = sim_client_next(&person->client, world_now(world) + 200 * WORLD_MS);
        if (status == STATUS_TIMEOUT) {
            status = STATUS_OK;
            continue;
        }
        if (status != STATUS_OK) break;
        Unum__V1__WatchResponse *response =
            person_unpack(person, &unum__v1__watch_response__descriptor);
        if (response == NULL) return;
        take_response(watcher, response);
        /* Some read slowly; now and then somebody changes his mind. */
        if (world->final_revision == 0 && world_chance(&person->random, 2) &&
            !person_pause(person, 100, 2000))
            break;
        if (world->final_revision == 0 && world_chance(&person->random, 1)) break;
    }
    bool compacted = status == STATUS_INVALID;
    if (!is_done(watcher) && status != STATUS_OK)
        world_say(world, person->name, "watch from %llu ends (%s) %s",
                  (unsigned long long)watcher->next, status_name(status), person->client.text);
    sim_client_disconnect(&person->client);
    if (compacted) (void)skip(watcher);
}

static void watch_fiber(void *argument)
{
    struct person *person = argument;
    struct world *world = person->world;
    struct watcher watcher = { .person = person, .last_key = HISTORY_KEYS_MAX - 1 };
    if (person->number % 3 == 1) {
        watcher.first_key = (uint32_t)world_draw(&person->random, 0, HISTORY_KEYS_MAX - 1);
        watcher.last_key =
            (uint32_t)world_draw(&person->random, watcher.first_key, HISTORY_KEYS_MAX - 1);
    }
    bool alive = person_pause(person, 0, person->number < 2 ? 100 : 20000);
    /* Some begin in the past. */
    if (person->number % 2 == 0 && world->revision_seen > 0)
        begin(&watcher, world_draw(&person->random, 1, world->revision_seen));
    while (alive && !is_done(&watcher)) {
        watch_once(&watcher);
        /* Now and then as a new watcher, from far back. */
        if (watcher.known && world->revision_seen > 0 && world->final_revision == 0 &&
            world_chance(&person->random, world->temper.heavy_hauler ? 30 : 10)) {
            watcher.known = false;
            watcher.next = world_draw(&person->random, 1, world->revision_seen);
        }
        alive = person_pause(person, 1, 300);
    }
    person_destroy(person);
}

void world_start_watchers(struct world *world)
{
    uint64_t count = world_draw(&world->random, 2, 4);
    for (unsigned i = 0; i < count; i++)
        person_start(world, &world->watchers, "watcher", i, watch_fiber);
}
