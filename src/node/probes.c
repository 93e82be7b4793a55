#include "node/probes.h"

#include "unum/v1/job.pb-c.h"

#include <assert.h>
#include <bsd/sys/tree.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PROBE_COMMAND_MAX = 32, PROBE_HOST_BYTES_MAX = 32 };

struct probe {
    UT_hash_handle hh;
    RB_ENTRY(probe) order; /* while it waits */
    struct id task;
    uint64_t incarnation;
    uint64_t due_ns;
    uint64_t interval_ns, timeout_ns, pause_ns;
    uint64_t kind; /* UNUM__V1__PROBE__KIND__... */
    uint64_t failures_max, failures;
    uint16_t port;
    bool was_good;  /* of this incarnation: readiness was reported */
    bool under_way; /* a fiber has it; it may be forgotten meanwhile */
    bool forgotten;
    char path[LIMIT_NAME_BYTES_MAX * 4];
    char *command[PROBE_COMMAND_MAX + 1];
};

static int compare_probes(const struct probe *a, const struct probe *b)
{
    if (a->due_ns != b->due_ns) return a->due_ns < b->due_ns ? -1 : 1;
    return memcmp(&a->task, &b->task, sizeof a->task);
}

RB_HEAD(probe_order, probe);
RB_PROTOTYPE_INTERNAL(probe_order, probe, order, compare_probes, __attribute__((unused)) static)
RB_GENERATE_INTERNAL(probe_order, probe, order, compare_probes, __attribute__((unused)) static)

struct probes {
    struct network *network;
    struct clock *clock;
    struct agent *agent;
    struct exec_table *execs;
    struct probe *all;
    struct probe_order waiting;
    struct condition changed;
};

static void free_probe(struct probe *probe)
{
    for (size_t i = 0; probe->command[i] != NULL; i++) free(probe->command[i]);
    free(probe);
}

/* --- one probe
 * ------------------------------------------------------------------------------------ */

static enum status probe_connect(struct probes *probes, const struct probe *probe,
                                 uint64_t deadline_ns, struct stream **ret_stream,
                                 struct error *error)
{
    char address[PROBE_HOST_BYTES_MAX];
    (void)snprintf(address, sizeof address, "127.0.0.1:%" PRIu16, probe->port);
    return probes->network->connect(probes->network, address, deadline_ns, ret_stream, error);
}

static enum status ask_http(struct probes *probes, const struct probe *probe, uint64_t deadline_ns,
                            struct error *error)
{
    struct stream *stream;
    enum status status = probe_connect(probes, probe, deadline_ns, &stream, error);
    if (status != STATUS_OK) return status;
    char text[PROBES_HTTP_ANSWER_BYTES_MAX];
    int size = snprintf(text, sizeof text,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: unum\r\n"
                        "Connection: close\r\n\r\n",
                        probe->path);
    status = stream_write(stream, text, (size_t)size, deadline_ns);
    size_t used = 0;
    /* The status line is all that is wanted: "HTTP/1.1 200". */
    while (status == STATUS_OK && used < 12) {
        size_t part;
        status = stream_read(stream, text + used, sizeof text - 1 - used, deadline_ns, &part);
        if (status == STATUS_OK && part == 0) break;
        if (status == STATUS_OK) used += part;
    }
    stream_close(stream);
    if (status != STATUS_OK)
        return error_set(error, status, "port %" PRIu16 " gave no answer: %s", probe->port,
                         status_name(status));
    text[used] = '\0';
    if (used < 12 || strncmp(text, "HTTP/1.", 7) != 0 || text[8] != ' ')
        return error_set(error, STATUS_INVALID, "port %" PRIu16 " does not speak HTTP",
                         probe->port);
    if (text[9] != '2' && text[9] != '3')
        return error_set(error, STATUS_INVALID, "GET %.100s on port %" PRIu16 " gave %.3s",
                         probe->path, probe->port, text + 9);
    return STATUS_OK;
}

static enum status ignore_output(void *context, unsigned stream, struct bytes bytes)
{
    (void)context;
    (void)stream;
    (void)bytes;
    return STATUS_OK;
}

static enum status ask_command(struct probes *probes, const struct probe *probe,
                               uint64_t deadline_ns, struct error *error)
{
    struct exec_sink sink = { .output = ignore_output };
    uint32_t exit_status;
    enum status status = exec_run(probes->execs, &probe->task, (const char *const *)probe->command,
                                  &sink, deadline_ns, &exit_status, error);
    if (status == STATUS_OK && exit_status != 0)
        return error_set(error, STATUS_INVALID, "%.200s ended with %" PRIu32, probe->command[0],
                         exit_status);
    return status;
}

static enum status ask(struct probes *probes, const struct probe *probe, struct error *error)
{
    uint64_t now;
    clock_monotonic_ns(probes->clock, &now);
    uint64_t deadline = now + probe->timeout_ns;
    if (probe->kind == UNUM__V1__PROBE__KIND__HTTP) return ask_http(probes, probe, deadline, error);
    if (probe->kind == UNUM__V1__PROBE__KIND__COMMAND)
        return ask_command(probes, probe, deadline, error);
    struct stream *stream;
    enum status status = probe_connect(probes, probe, deadline, &stream, error);
    if (status == STATUS_OK) stream_close(stream);
    return status;
}

/* --- verdicts
 * ------------------------------------------------------------------------------------- */

static void report(struct probes *probes, const struct probe *probe, bool ready, const char *text)
{
    struct supervise_message message = {
        .kind = SUPERVISE_REPORT_READY,
        .report_ready = { .task = probe->task,
                          .incarnation = probe->incarnation,
                          .ready = ready,
                          .reason = bytes_of(text, strnlen(text, SUPERVISE_REASON_BYTES_MAX)) },
    };
    /* Lost with the link, or of an incarnation that has ended: the next probe says it again. */
    enum status status = agent_request(probes->agent, &message, NULL, 0, NULL, NULL);
    if (ready || status != STATUS_OK) return;
    message =
        (struct supervise_message) { .kind = SUPERVISE_KILL, .task = { .task = probe->task } };
    status = agent_request(probes->agent, &message, NULL, 0, NULL, NULL);
    (void)status;
}

static void judge(struct probes *probes, struct probe *probe, enum status status,
                  const char *sentence)
{
    if (status == STATUS_OK) {
        probe->failures = 0;
        probe->pause_ns = probe->interval_ns;
        if (probe->was_good) return;
        probe->was_good = true;
        report(probes, probe, true, "");
        return;
    }
    if (!probe->was_good) {
        /* Still starting: ask soon again; the start timeout is unum-init's. */
        probe->pause_ns *= 2;
        if (probe->pause_ns > probe->interval_ns) probe->pause_ns = probe->interval_ns;
        return;
    }
    probe->failures++;
    if (probe->failures < probe->failures_max) return;
    probe->failures = 0;
    probe->was_good = false;
    char text[SUPERVISE_REASON_BYTES_MAX + 1];
    (void)snprintf(text, sizeof text, "%" PRIu64 " probes in a row failed: %.180s",
                   probe->failures_max, sentence);
    report(probes, probe, false, text);
}

static void serve_one(struct probes *probes, struct probe *probe)
{
    probe->under_way = true;
    struct error error = { 0 };
    enum status status = ask(probes, probe, &error);
    if (status != STATUS_CANCELLED && !probe->forgotten) judge(probes, probe, status, error.text);
    probe->under_way = false;
    if (probe->forgotten) {
        free_probe(probe);
        return;
    }
    uint64_t now;
    clock_monotonic_ns(probes->clock, &now);
    probe->due_ns = now + probe->pause_ns;
    RB_INSERT(probe_order, &probes->waiting, probe);
    condition_signal(&probes->changed);
}

static void probes_fiber(void *argument)
{
    struct probes *probes = argument;
    for (;;) {
        uint64_t now;
        clock_monotonic_ns(probes->clock, &now);
        struct probe *first = RB_MIN(probe_order, &probes->waiting);
        if (first != NULL && first->due_ns <= now) {
            RB_REMOVE(probe_order, &probes->waiting, first);
            serve_one(probes, first);
            if (fiber_cancelled()) return;
            continue;
        }
        uint64_t until = first == NULL ? DEADLINE_NEVER : first->due_ns;
        if (condition_wait(&probes->changed, until) == STATUS_CANCELLED) return;
    }
}

/* --- for the daemon
 * ------------------------------------------------------------------------------- */

enum status probes_create(struct scope *scope, struct network *network, struct clock *clock,
                          struct agent *agent, struct exec_table *execs, struct probes **ret_probes)
{
    struct probes *probes = calloc(1, sizeof *probes);
    if (probes == NULL) return STATUS_NO_MEMORY;
    *probes =
        (struct probes) { .network = network, .clock = clock, .agent = agent, .execs = execs };
    RB_INIT(&probes->waiting);
    condition_init(&probes->changed);
    enum status status = STATUS_OK;
    for (int i = 0; status == STATUS_OK && i < PROBES_FIBERS_MAX; i++)
        status = scope_spawn(scope, "probe", probes_fiber, probes);
    /* Fibers that were started refer to it: they end with the scope, which the caller cancels. */
    *ret_probes = probes;
    return status;
}

void probes_destroy(struct probes *probes)
{
    if (probes == NULL) return;
    struct probe *probe, *next;
    HASH_ITER(hh, probes->all, probe, next)
    {
        HASH_DEL(probes->all, probe);
        assert(!probe->under_way);
        free_probe(probe);
    }
    free(probes);
}

void probes_forget(struct probes *probes, const struct id *task)
{
    struct probe *probe = NULL;
    HASH_FIND(hh, probes->all, task, sizeof *task, probe);
    if (probe == NULL) return;
    HASH_DEL(probes->all, probe);
    probe->forgotten = true;
    if (probe->under_way) return; /* its fiber frees it */
    RB_REMOVE(probe_order, &probes->waiting, probe);
    free_probe(probe);
}

static enum status copy_command(struct probe *probe, const struct task_spec *spec)
{
    for (size_t i = 0; i < spec->ready_command_count && i < PROBE_COMMAND_MAX; i++) {
        probe->command[i] = strdup(spec->ready_command[i]);
        if (probe->command[i] == NULL) return STATUS_NO_MEMORY;
    }
    return STATUS_OK;
}

enum status probes_watch(struct probes *probes, const struct id *task, uint64_t incarnation,
                         bool is_up, const struct task_spec *spec)
{
    struct probe *probe = NULL;
    HASH_FIND(hh, probes->all, task, sizeof *task, probe);
    if (probe != NULL && probe->incarnation == incarnation) return STATUS_OK;
    if (probe != NULL) probes_forget(probes, task);
    probe = calloc(1, sizeof *probe);
    if (probe == NULL) return STATUS_NO_MEMORY;
    probe->task = *task;
    probe->incarnation = incarnation;
    probe->was_good = is_up;
    probe->kind = spec->settings.ready_kind;
    probe->port = spec->ready_port;
    probe->interval_ns = spec->settings.ready_interval_ms * 1000000;
    probe->timeout_ns = spec->settings.ready_timeout_ms * 1000000;
    probe->failures_max = spec->settings.ready_failures;
    probe->pause_ns = is_up ? probe->interval_ns : PROBES_FIRST_PAUSE_MS * 1000000ull;
    (void)snprintf(probe->path, sizeof probe->path, "%s", spec->settings.ready_path);
    if (copy_command(probe, spec) != STATUS_OK) {
        free_probe(probe);
        return STATUS_NO_MEMORY;
    }
    clock_monotonic_ns(probes->clock, &probe->due_ns);
    HASH_ADD(hh, probes->all, task, sizeof probe->task, probe);
    RB_INSERT(probe_order, &probes->waiting, probe);
    condition_signal(&probes->changed);
    return STATUS_OK;
}
