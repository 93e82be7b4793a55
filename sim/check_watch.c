#include "sim/check_watch.h"

#include <assert.h>
#include <stdlib.h>

enum { EVENTS_FIRST = 256, NO_STREAM = CHECK_WATCH_STREAMS_MAX };

struct noted {
    struct check_watch_event event;
    uint32_t stream; /* NO_STREAM: a writer's */
    uint32_t number; /* the order of noting */
};

/* What the stream does not vouch for: revisions from..to were compacted. */
struct hole {
    uint64_t from, to;
    uint32_t stream;
};

struct stream {
    uint32_t first_key, last_key;
    uint64_t start_revision;
    uint64_t told;     /* everything up to here has been delivered */
    uint64_t last;     /* of the events delivered */
    bool out_of_order; /* the first offence, judged at the end */
    struct check_watch_event offender;
};

struct check_watch {
    struct noted *noted;
    size_t noted_count, noted_capacity;
    struct stream *streams;
    size_t stream_count;
    struct hole *holes;
    size_t hole_count, hole_capacity;
};

enum status check_watch_create(struct check_watch **ret_check)
{
    struct check_watch *check = calloc(1, sizeof *check);
    if (check == NULL) return STATUS_NO_MEMORY;
    check->streams = calloc(CHECK_WATCH_STREAMS_MAX, sizeof *check->streams);
    if (check->streams == NULL) {
        free(check);
        return STATUS_NO_MEMORY;
    }
    *ret_check = check;
    return STATUS_OK;
}

void check_watch_destroy(struct check_watch *check)
{
    if (check == NULL) return;
    free(check->noted);
    free(check->streams);
    free(check->holes);
    free(check);
}

static enum status note(struct check_watch *check, const struct check_watch_event *event,
                        size_t stream)
{
    if (check->noted_count == CHECK_WATCH_EVENTS_MAX) return STATUS_FULL;
    if (check->noted_count == check->noted_capacity) {
        size_t capacity = check->noted_capacity == 0 ? EVENTS_FIRST : 2 * check->noted_capacity;
        struct noted *noted = realloc(check->noted, capacity * sizeof *noted);
        if (noted == NULL) return STATUS_NO_MEMORY;
        check->noted = noted;
        check->noted_capacity = capacity;
    }
    check->noted[check->noted_count] = (struct noted) { .event = *event,
                                                        .stream = (uint32_t)stream,
                                                        .number = (uint32_t)check->noted_count };
    check->noted_count++;
    return STATUS_OK;
}

enum status check_watch_wrote(struct check_watch *check, const struct check_watch_event *event)
{
    return note(check, event, NO_STREAM);
}

enum status check_watch_start(struct check_watch *check, uint32_t first_key, uint32_t last_key,
                              uint64_t start_revision, size_t *ret_stream)
{
    if (check->stream_count == CHECK_WATCH_STREAMS_MAX) return STATUS_FULL;
    check->streams[check->stream_count] = (struct stream) {
        .first_key = first_key,
        .last_key = last_key,
        .start_revision = start_revision,
        .told = start_revision == 0 ? 0 : start_revision - 1,
    };
    *ret_stream = check->stream_count++;
    return STATUS_OK;
}

enum status check_watch_delivered(struct check_watch *check, size_t stream,
                                  const struct check_watch_event *event)
{
    assert(stream < check->stream_count);
    struct stream *s = &check->streams[stream];
    bool good = event->revision >= s->last && event->revision > s->told &&
                event->revision >= s->start_revision && event->key >= s->first_key &&
                event->key <= s->last_key;
    if (!good && !s->out_of_order) {
        s->out_of_order = true;
        s->offender = *event;
    }
    if (event->revision > s->last) s->last = event->revision;
    return note(check, event, stream);
}

void check_watch_progress(struct check_watch *check, size_t stream, uint64_t revision)
{
    assert(stream < check->stream_count);
    struct stream *s = &check->streams[stream];
    if (revision > s->told) s->told = revision;
}

void check_watch_skipped(struct check_watch *check, size_t stream, uint64_t revision)
{
    assert(stream < check->stream_count);
    struct stream *s = &check->streams[stream];
    if (revision <= s->told + 1) return;
    if (check->hole_count == check->hole_capacity) {
        size_t capacity = check->hole_capacity == 0 ? EVENTS_FIRST : 2 * check->hole_capacity;
        struct hole *holes = realloc(check->holes, capacity * sizeof *holes);
        assert(holes != NULL);
        check->holes = holes;
        check->hole_capacity = capacity;
    }
    check->holes[check->hole_count++] =
        (struct hole) { .from = s->told + 1, .to = revision - 1, .stream = (uint32_t)stream };
    s->told = revision - 1;
}

/* --- verdict -----------------------------------------------------------------------------------
 */

static int compare_noted(const void *a, const void *b)
{
    const struct noted *left = a, *right = b;
    if (left->event.revision != right->event.revision) {
        return left->event.revision < right->event.revision ? -1 : 1;
    }
    if (left->event.key != right->event.key) return left->event.key < right->event.key ? -1 : 1;
    if (left->stream != right->stream) return left->stream < right->stream ? -1 : 1;
    return left->number < right->number ? -1 : left->number > right->number;
}

static bool same_event(const struct check_watch_event *a, const struct check_watch_event *b)
{
    return a->revision == b->revision && a->key == b->key;
}

static bool in_hole(const struct check_watch *check, size_t stream, uint64_t revision)
{
    for (size_t i = 0; i < check->hole_count; i++) {
        const struct hole *hole = &check->holes[i];
        if (hole->stream == stream && revision >= hole->from && revision <= hole->to) return true;
    }
    return false;
}

/* Those of NOTED speak of one event: each stream that must have it has it once. */
static enum status check_event(const struct check_watch *check, const struct noted *noted,
                               size_t count, struct error *error)
{
    const struct check_watch_event *event = &noted[0].event;
    for (size_t i = 1; i < count; i++) {
        const struct check_watch_event *other = &noted[i].event;
        if (noted[i].stream != NO_STREAM && noted[i].stream == noted[i - 1].stream) {
            return error_set(error, STATUS_CONFLICT,
                             "watch %u delivered the event of key %u at revision %llu twice",
                             noted[i].stream, event->key, (unsigned long long)event->revision);
        }
        if (other->deleted != event->deleted || other->value != event->value) {
            return error_set(error, STATUS_CONFLICT,
                             "key %u at revision %llu is %llu for one and %llu for another",
                             event->key, (unsigned long long)event->revision,
                             (unsigned long long)event->value, (unsigned long long)other->value);
        }
    }
    size_t next = 0;
    for (size_t s = 0; s < check->stream_count; s++) {
        while (next < count && noted[next].stream < s) next++;
        if (next < count && noted[next].stream == s) continue;
        const struct stream *stream = &check->streams[s];
        if (event->key < stream->first_key || event->key > stream->last_key) continue;
        if (event->revision < stream->start_revision || event->revision > stream->told) continue;
        if (in_hole(check, s, event->revision)) continue;
        return error_set(error, STATUS_CONFLICT,
                         "watch %zu was told to have everything up to revision %llu, but never "
                         "got the event of key %u at revision %llu",
                         s, (unsigned long long)stream->told, event->key,
                         (unsigned long long)event->revision);
    }
    return STATUS_OK;
}

enum status check_watch_verdict(struct check_watch *check, struct error *error)
{
    for (size_t s = 0; s < check->stream_count; s++) {
        const struct stream *stream = &check->streams[s];
        if (!stream->out_of_order) continue;
        return error_set(error, STATUS_CONFLICT,
                         "watch %zu delivered key %u at revision %llu out of order, again, or "
                         "without having been asked for it",
                         s, stream->offender.key, (unsigned long long)stream->offender.revision);
    }
    if (check->noted_count == 0) return STATUS_OK;
    qsort(check->noted, check->noted_count, sizeof *check->noted, compare_noted);
    size_t from = 0;
    for (size_t i = 1; i <= check->noted_count; i++) {
        if (i < check->noted_count &&
            same_event(&check->noted[i].event, &check->noted[from].event)) {
            continue;
        }
        enum status status = check_event(check, check->noted + from, i - from, error);
        if (status != STATUS_OK) return status;
        from = i;
    }
    return STATUS_OK;
}
