#include "node/exec.h"

#include "supervise/link.h"

#include <assert.h>
#include <stdlib.h>

enum { EXEC_SIGNAL_KILL = 9, EXEC_AFTER_EXIT_MS_MAX = 1000 };

struct run {
    TAILQ_ENTRY(run) all;
    uint64_t exec;
    bool exited;
    struct supervise_exec_exited exit;
    struct condition changed;
    const struct exec_sink *sink;
    int ours[3];
    unsigned readers; /* output streams still open */
    enum status status;
};

struct exec_table {
    struct agent *agent;
    TAILQ_HEAD(, run) runs;
    unsigned run_count;
    struct supervise_exec_exited exits[EXEC_EXITS_KEPT];
    uint64_t exit_count;
};

enum status exec_table_create(struct agent *agent, struct exec_table **ret_table)
{
    struct exec_table *table = calloc(1, sizeof *table);
    if (table == NULL) return STATUS_NO_MEMORY;
    table->agent = agent;
    TAILQ_INIT(&table->runs);
    *ret_table = table;
    return STATUS_OK;
}

void exec_table_destroy(struct exec_table *table)
{
    if (table == NULL) return;
    assert(TAILQ_EMPTY(&table->runs));
    free(table);
}

void exec_table_exited(struct exec_table *table, const struct supervise_exec_exited *exited)
{
    table->exits[table->exit_count++ % EXEC_EXITS_KEPT] = *exited;
    struct run *run;
    TAILQ_FOREACH (run, &table->runs, all) {
        if (run->exec != exited->exec) continue;
        run->exited = true;
        run->exit = *exited;
        condition_broadcast(&run->changed);
    }
}

/* The end may have been told before the answer to the start was taken. */
static void look_for_early_exit(struct exec_table *table, struct run *run)
{
    for (uint64_t back = 1; back <= table->exit_count && back <= EXEC_EXITS_KEPT; back++) {
        const struct supervise_exec_exited *exit =
            &table->exits[(table->exit_count - back) % EXEC_EXITS_KEPT];
        if (exit->exec != run->exec) continue;
        run->exited = true;
        run->exit = *exit;
    }
}

static void pump_output(struct run *run, unsigned stream)
{
    uint8_t bytes[2048]; /* small: a fiber's stack */
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        size_t used;
        status = link_pipe_read(run->ours[stream], bytes, sizeof bytes, &used);
        if (status == STATUS_BUSY) {
            status = fiber_wait_readable(run->ours[stream], DEADLINE_NEVER);
            continue;
        }
        if (status != STATUS_OK || used == 0) break;
        status = run->sink->output(run->sink->context, stream, bytes_of(bytes, used));
        if (status != STATUS_OK) run->status = status;
    }
    run->readers--;
    condition_broadcast(&run->changed);
}

static void output_fiber(void *argument)
{
    pump_output(argument, 1);
}

static void errors_fiber(void *argument)
{
    pump_output(argument, 2);
}

static enum status write_input(struct run *run, struct bytes bytes)
{
    while (bytes.size > 0) {
        size_t used;
        enum status status = link_pipe_write(run->ours[0], bytes.data, bytes.size, &used);
        if (status == STATUS_BUSY) {
            status = fiber_wait_writable(run->ours[0], DEADLINE_NEVER);
            if (status != STATUS_OK) return status;
            continue;
        }
        if (status != STATUS_OK) return status;
        bytes.data += used;
        bytes.size -= used;
    }
    return STATUS_OK;
}

static void input_fiber(void *argument)
{
    struct run *run = argument;
    for (;;) {
        struct bytes bytes;
        enum status status = run->sink->input(run->sink->context, &bytes);
        if (status != STATUS_OK || bytes.size == 0) break;
        if (write_input(run, bytes) != STATUS_OK) break;
    }
    link_close(run->ours[0]);
    run->ours[0] = -1;
}

/* Until the command ended and its output was read; a descendant that keeps the pipes open does not
 * hold the run for ever. */
static enum status wait_for_end(struct run *run, uint64_t deadline_ns)
{
    enum status status = STATUS_OK;
    struct reactor *reactor = fiber_scope()->reactor;
    while (status == STATUS_OK && run->status == STATUS_OK && !run->exited)
        status = condition_wait(&run->changed, deadline_ns);
    if (status != STATUS_OK || run->status != STATUS_OK)
        return status != STATUS_OK ? status : run->status;
    uint64_t now;
    clock_monotonic_ns(reactor_clock(reactor), &now);
    uint64_t last = now + EXEC_AFTER_EXIT_MS_MAX * 1000000ull;
    while (status == STATUS_OK && run->status == STATUS_OK && run->readers > 0)
        status = condition_wait(&run->changed, last);
    return status == STATUS_CANCELLED ? status : run->status;
}

static void kill_run(struct exec_table *table, struct run *run)
{
    struct supervise_message message = {
        .kind = SUPERVISE_EXEC_SIGNAL,
        .exec_signal = { .exec = run->exec, .signal = EXEC_SIGNAL_KILL },
    };
    /* The caller is being cancelled, but the command must not stay behind. */
    fiber_shield();
    enum status status = agent_request(table->agent, &message, NULL, 0, NULL, NULL);
    (void)status; /* it may have ended meanwhile */
    fiber_unshield();
}

static enum status start_run(struct exec_table *table, struct run *run, const struct id *task,
                             const char *const *arguments, struct error *error)
{
    struct supervise_message *message = calloc(1, sizeof *message + SUPERVISE_STRINGS_BYTES_MAX);
    if (message == NULL) return error_set(error, STATUS_NO_MEMORY, "out of memory");
    char *memory = (char *)(message + 1);
    message->kind = SUPERVISE_EXEC;
    message->exec.task = *task;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && arguments[i] != NULL; i++)
        status = supervise_strings_add(&message->exec.argv, memory, SUPERVISE_STRINGS_BYTES_MAX,
                                       arguments[i]);
    if (status != STATUS_OK)
        (void)error_set(error, STATUS_INVALID, "the command is longer than %d bytes",
                        SUPERVISE_STRINGS_BYTES_MAX);
    int theirs[3] = { -1, -1, -1 };
    if (status == STATUS_OK) {
        status = link_make_pipes(run->ours, theirs);
        if (status != STATUS_OK)
            (void)error_set(error, status, "no descriptors are left for the command's pipes");
    }
    if (status == STATUS_OK)
        status = agent_request(table->agent, message, theirs, 3, &run->exec, error);
    for (int i = 0; i < 3; i++) link_close(theirs[i]);
    free(message);
    return status;
}

static enum status serve_run(struct exec_table *table, struct run *run, uint64_t deadline_ns,
                             struct error *error)
{
    struct scope scope;
    scope_init(&scope, fiber_scope());
    enum status status = scope_spawn(&scope, "exec output", output_fiber, run);
    if (status == STATUS_OK) {
        run->readers++;
        status = scope_spawn(&scope, "exec errors", errors_fiber, run);
    }
    if (status == STATUS_OK) {
        run->readers++;
        if (run->sink->input != NULL) {
            status = scope_spawn(&scope, "exec input", input_fiber, run);
        } else {
            link_close(run->ours[0]);
            run->ours[0] = -1;
        }
    }
    if (status == STATUS_OK) status = wait_for_end(run, deadline_ns);
    if (!run->exited) kill_run(table, run);
    scope_cancel(&scope);
    scope_join(&scope);
    if (status == STATUS_TIMEOUT)
        (void)error_set(error, status, "the command did not end in time and was killed");
    return status;
}

enum status exec_run(struct exec_table *table, const struct id *task, const char *const *arguments,
                     const struct exec_sink *sink, uint64_t deadline_ns, uint32_t *ret_exit_status,
                     struct error *error)
{
    if (table->run_count >= EXEC_RUNNING_MAX)
        return error_set(error, STATUS_BUSY, "%d commands run already; try again later",
                         EXEC_RUNNING_MAX);
    struct run run = { .sink = sink, .ours = { -1, -1, -1 } };
    condition_init(&run.changed);
    table->run_count++;
    enum status status = start_run(table, &run, task, arguments, error);
    if (status == STATUS_OK) {
        TAILQ_INSERT_TAIL(&table->runs, &run, all);
        look_for_early_exit(table, &run);
        status = serve_run(table, &run, deadline_ns, error);
        TAILQ_REMOVE(&table->runs, &run, all);
    }
    table->run_count--;
    for (int i = 0; i < 3; i++) link_close(run.ours[i]);
    if (status != STATUS_OK) return status;
    if (run.exit.exit_kind == SUPERVISE_NOT_STARTED)
        return error_set(error, STATUS_NOT_FOUND, "the command could not be started (%s)",
                         strerrordesc_np((int)run.exit.exit_code));
    *ret_exit_status =
        run.exit.exit_kind == SUPERVISE_SIGNALED ? 128 + run.exit.exit_code : run.exit.exit_code;
    return STATUS_OK;
}
