/* Computer.Logs: the lines of a task, or of all tasks of a job merged by time, once or followed.
 * The files are unum-log's; they are read on worker threads. */
#include "node/computer_service.h"
#include "node/node_internal.h"
#include "node/tasks.h"
#include "supervise/log_read.h"
#include "unum/v1/computer.pb-c.h"
#include "wire/proto_arena.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    LOGS_TASKS_MAX = 256, /* read at once; a larger job is read task by task */
    LOGS_LINES_DEFAULT = 100,
    LOGS_BATCH_LINES_MAX = 256,
    LOGS_BATCH_BYTES_MAX = 256 * 1024,
    LOGS_ARENA_BYTES_MAX = 1024 * 1024,
    LOGS_FOLLOW_PAUSE_MS = 50,
};

struct source {
    char task[JOB_TASK_NAME_BYTES_MAX + 1];
    struct log_reader *reader; /* NULL: nothing written yet */
    struct log_line line;      /* the next one, when there is one */
    bool has_line;
    bool is_placed; /* the client has read up to POSITION before */
    uint64_t position;
};

struct session {
    struct node *node;
    struct serve_call *call;
    const char *logs_folder;
    char job[LIMIT_NAME_BYTES_MAX + 1];
    struct source *sources;
    size_t source_count;
    uint64_t lines;
    bool begun; /* later readers (of tasks that had written nothing) begin at their start */
    /* The batch in hand. */
    struct arena arena;
    Unum__V1__LogLine *batch[LOGS_BATCH_LINES_MAX];
    size_t batch_count, batch_bytes;
};

/* --- on a worker thread
 * --------------------------------------------------------------------------- */

static void fetch(struct source *source)
{
    if (source->reader == NULL || source->has_line) return;
    source->has_line = log_reader_next(source->reader, &source->line) == STATUS_OK;
}

static void open_source(struct session *session, struct source *source)
{
    enum status status =
        log_reader_open(session->logs_folder, session->job, source->task, &source->reader, NULL);
    if (status != STATUS_OK) {
        source->reader = NULL;
        return;
    }
    if (source->is_placed)
        log_reader_seek(source->reader, source->position);
    else if (!session->begun)
        log_reader_tail(source->reader, session->lines);
}

static bool add_line(struct session *session, struct source *source)
{
    const struct log_line *line = &source->line;
    Unum__V1__LogLine *made = arena_take(&session->arena, sizeof *made);
    struct bytes text = arena_copy(&session->arena, line->text);
    if (made == NULL || (text.data == NULL && line->text.size > 0)) return false;
    unum__v1__log_line__init(made);
    made->task = source->task;
    made->wall_us = line->wall_ns / 1000;
    made->stream = line->standard_error ? 2 : 1;
    made->text = (ProtobufCBinaryData) { .len = text.size, .data = (uint8_t *)text.data };
    made->incarnation = line->incarnation;
    made->cut = line->cut;
    made->next = line->next;
    session->batch[session->batch_count++] = made;
    session->batch_bytes += text.size;
    source->has_line = false;
    return true;
}

/* Fill the batch with what is there, the oldest line of all sources first. */
static void read_batch(void *argument)
{
    struct session *session = argument;
    arena_reset(&session->arena);
    session->batch_count = session->batch_bytes = 0;
    for (size_t i = 0; i < session->source_count; i++)
        if (session->sources[i].reader == NULL) open_source(session, &session->sources[i]);
    session->begun = true;
    while (session->batch_count < LOGS_BATCH_LINES_MAX &&
           session->batch_bytes < LOGS_BATCH_BYTES_MAX) {
        struct source *oldest = NULL;
        for (size_t i = 0; i < session->source_count; i++) {
            struct source *source = &session->sources[i];
            fetch(source);
            if (!source->has_line) continue;
            if (oldest == NULL || source->line.wall_ns < oldest->line.wall_ns) oldest = source;
        }
        if (oldest == NULL || !add_line(session, oldest)) return;
    }
}

static void close_sources(void *argument)
{
    struct session *session = argument;
    for (size_t i = 0; i < session->source_count; i++)
        if (session->sources[i].reader != NULL) log_reader_close(session->sources[i].reader);
}

/* --- in the call's fiber
 * -------------------------------------------------------------------------- */

static enum status send_batch(struct session *session)
{
    if (session->batch_count == 0) return STATUS_OK;
    Unum__V1__LogsResponse response = UNUM__V1__LOGS_RESPONSE__INIT;
    response.n_lines = session->batch_count;
    response.lines = session->batch;
    struct buffer packed;
    buffer_init(&packed, LIMIT_MESSAGE_BYTES_MAX);
    enum status status = proto_pack(&response.base, &packed);
    if (status == STATUS_OK)
        status = serve_call_send(session->call, bytes_of(packed.data, packed.used));
    buffer_finish(&packed);
    return status;
}

static enum status stream_lines(struct session *session, bool follow)
{
    for (;;) {
        enum status status = worker_run(session->node->options.reactor, read_batch, session);
        if (status == STATUS_OK) status = send_batch(session);
        if (status != STATUS_OK) return status;
        if (session->batch_count > 0) continue;
        if (!follow) return STATUS_OK;
        status = fiber_sleep_ns(LOGS_FOLLOW_PAUSE_MS * 1000000ull);
        if (status != STATUS_OK) return status;
    }
}

/* NAME is a job's or a task's. */
static enum status choose_sources(struct session *session, const char *name, struct error *error)
{
    struct jobs *jobs = tasks_jobs(session->node->tasks);
    enum status status = jobs_refresh(jobs, error);
    if (status != STATUS_OK) return status;
    uint32_t index = 0, count = 1;
    const struct jobs_entry *entry = jobs_find(jobs, NULL, name);
    if (entry != NULL) {
        count = entry->job->count == 0 ? 1 : entry->job->count;
        (void)snprintf(session->job, sizeof session->job, "%s", name);
    } else if (job_task_name_parse(name, session->job, &index) != STATUS_OK) {
        return error_set(error, STATUS_NOT_FOUND,
                         "there is no job or task %s; `unum ps` lists them", name);
    }
    if (count > LOGS_TASKS_MAX)
        return error_set(error, STATUS_INVALID,
                         "%s has %u tasks, at most %d can be read at once: name one of them", name,
                         count, LOGS_TASKS_MAX);
    session->sources = arena_take(serve_call_arena(session->call), count * sizeof(struct source));
    if (session->sources == NULL) return error_set(error, STATUS_NO_MEMORY, "out of memory");
    session->source_count = count;
    for (uint32_t i = 0; i < count; i++)
        job_task_name(session->job, index + i, session->sources[i].task);
    return STATUS_OK;
}

/* A client that comes back says how far it has read. */
static void place_sources(struct session *session, const Unum__V1__LogsRequest *request)
{
    for (size_t i = 0; i < request->n_after; i++)
        for (size_t k = 0; k < session->source_count; k++) {
            struct source *source = &session->sources[k];
            if (strcmp(source->task, request->after[i]->task) != 0) continue;
            source->position = request->after[i]->position;
            source->is_placed = true;
        }
}

enum status computer_logs(struct node *node, struct serve_call *call, struct error *error)
{
    if (node->options.logs_folder == NULL)
        return error_set(error, STATUS_UNSUPPORTED, "this machine keeps no logs");
    struct bytes message;
    enum status status = serve_call_receive(call, serve_call_deadline_ns(call), &message);
    if (status != STATUS_OK) return error_set(error, status, "the request did not come");
    Unum__V1__LogsRequest *request =
        proto_unpack(&unum__v1__logs_request__descriptor, serve_call_arena(call), message);
    if (request == NULL) return error_set(error, STATUS_INVALID, "the request can't be read");
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL) return error_set(error, STATUS_NO_MEMORY, "out of memory");
    session->node = node;
    session->call = call;
    session->logs_folder = node->options.logs_folder;
    session->lines = request->lines == 0 ? LOGS_LINES_DEFAULT : request->lines;
    arena_init(&session->arena, LOGS_ARENA_BYTES_MAX);
    status = choose_sources(session, request->name, error);
    if (status == STATUS_OK) place_sources(session, request);
    if (status == STATUS_OK) status = stream_lines(session, request->follow);
    /* Also when the client has gone: descriptors must not stay behind. */
    close_sources(session);
    arena_finish(&session->arena);
    free(session);
    return status;
}
