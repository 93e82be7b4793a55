/* What a change of a job means, in sentences. */
#include "schedule/job.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

enum { SENTENCE_BYTES_MAX = 320, VALUE_BYTES_MAX = 96 };

enum kind { KIND_NUMBER, KIND_CPU, KIND_SIZE, KIND_DURATION, KIND_TEXT, KIND_CHOICE };

struct field {
    const char *name;
    size_t offset; /* in struct job_settings */
    enum kind kind;
    bool replaces; /* unum-init is told at the start of a task, and not again */
    const char *const *choices;
};

static const char *const policies[] = { "permanent", "transient", "temporary" };
static const char *const probes[] = { "none", "notify", "tcp", "http", "command" };
static const char *const networks[] = { "host", "private" };

#define SETTING(member) offsetof(struct job_settings, member)
static const struct field fields[] = {
    { "count", SETTING(count), KIND_NUMBER, false, NULL },
    { "resources.cpu", SETTING(cpu_milli), KIND_CPU, true, NULL },
    { "resources.memory", SETTING(memory_bytes), KIND_SIZE, true, NULL },
    { "resources.processes", SETTING(processes), KIND_NUMBER, true, NULL },
    { "network", SETTING(private_network), KIND_CHOICE, true, networks },
    { "directory", SETTING(working_directory), KIND_TEXT, true, NULL },
    { "restart.policy", SETTING(restart_policy), KIND_CHOICE, true, policies },
    { "restart.burst", SETTING(restart_burst), KIND_NUMBER, true, NULL },
    { "restart.period", SETTING(restart_period_ms), KIND_DURATION, true, NULL },
    { "restart.backoff", SETTING(restart_backoff_ms), KIND_DURATION, true, NULL },
    { "restart.backoff_max", SETTING(restart_backoff_max_ms), KIND_DURATION, true, NULL },
    { "restart.stable", SETTING(restart_stable_ms), KIND_DURATION, true, NULL },
    { "stop.signal", SETTING(stop_signal), KIND_TEXT, true, NULL },
    { "stop.grace", SETTING(stop_grace_ms), KIND_DURATION, true, NULL },
    { "ready", SETTING(ready_kind), KIND_CHOICE, true, probes },
    { "ready.port", SETTING(ready_port), KIND_TEXT, false, NULL },
    { "ready.path", SETTING(ready_path), KIND_TEXT, false, NULL },
    { "ready.interval", SETTING(ready_interval_ms), KIND_DURATION, false, NULL },
    { "ready.timeout", SETTING(ready_timeout_ms), KIND_DURATION, false, NULL },
    { "ready.failures", SETTING(ready_failures), KIND_NUMBER, false, NULL },
    { "ready.start_timeout", SETTING(ready_start_timeout_ms), KIND_DURATION, true, NULL },
};

struct diff {
    struct arena *arena;
    struct job_change *change;
    bool no_memory;
    bool differs;
};

static void __attribute__((format(printf, 3, 4)))
say(struct diff *diff, bool replaces, const char *format, ...)
{
    struct job_change *change = diff->change;
    diff->differs = true;
    if (replaces) change->replaces_tasks = true;
    if (change->sentence_count == JOB_CHANGES_MAX) return;
    char text[SENTENCE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = ' ';
    const char *kept = arena_copy_text(diff->arena, text, strlen(text));
    if (kept == NULL) {
        diff->no_memory = true;
        return;
    }
    change->sentences[change->sentence_count++] = kept;
}

static void format_in_units(uint64_t value, const uint64_t *factors, const char *const *units,
                            size_t count, char *text, size_t size)
{
    for (size_t i = 0; i < count; i++) {
        if (value == 0 || value % factors[i] != 0) continue;
        (void)snprintf(text, size, "%" PRIu64 "%s", value / factors[i], units[i]);
        return;
    }
    (void)snprintf(text, size, "%" PRIu64, value);
}

static void format_value(const struct field *field, const struct job_settings *settings,
                         char text[VALUE_BYTES_MAX])
{
    static const uint64_t sizes[] = { 1ULL << 40, 1ULL << 30, 1ULL << 20, 1ULL << 10 };
    static const char *const size_units[] = { "Ti", "Gi", "Mi", "Ki" };
    static const uint64_t times[] = { 3600000, 60000, 1000, 1 };
    static const char *const time_units[] = { "h", "m", "s", "ms" };
    const void *at = (const char *)settings + field->offset;
    if (field->kind == KIND_TEXT) {
        const char *value;
        memcpy(&value, at, sizeof value);
        (void)snprintf(text, VALUE_BYTES_MAX, "%s", value);
        return;
    }
    uint64_t value;
    memcpy(&value, at, sizeof value);
    switch (field->kind) {
    case KIND_CPU:
        if (value % 1000 == 0)
            (void)snprintf(text, VALUE_BYTES_MAX, "%" PRIu64, value / 1000);
        else
            (void)snprintf(text, VALUE_BYTES_MAX, "%" PRIu64 "m", value);
        break;
    case KIND_SIZE: format_in_units(value, sizes, size_units, 4, text, VALUE_BYTES_MAX); break;
    case KIND_DURATION: format_in_units(value, times, time_units, 4, text, VALUE_BYTES_MAX); break;
    case KIND_CHOICE: (void)snprintf(text, VALUE_BYTES_MAX, "%s", field->choices[value]); break;
    case KIND_NUMBER:
    case KIND_TEXT: (void)snprintf(text, VALUE_BYTES_MAX, "%" PRIu64, value); break;
    }
}

static void diff_settings(struct diff *diff, const Unum__V1__Job *before,
                          const Unum__V1__Job *after)
{
    struct job_settings a, b;
    job_settings(before, &a);
    job_settings(after, &b);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        char old[VALUE_BYTES_MAX], new[VALUE_BYTES_MAX];
        format_value(&fields[i], &a, old);
        format_value(&fields[i], &b, new);
        bool same = strcmp(old, new) == 0;
        if (fields[i].kind == KIND_TEXT) { /* may have been cut in the sentence */
            const char *x, *y;
            memcpy(&x, (const char *)&a + fields[i].offset, sizeof x);
            memcpy(&y, (const char *)&b + fields[i].offset, sizeof y);
            same = strcmp(x, y) == 0;
        }
        if (!same) say(diff, fields[i].replaces, "%s: %s -> %s", fields[i].name, old, new);
    }
}

static void join(char **parts, size_t count, char text[VALUE_BYTES_MAX])
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < count && used + 1 < VALUE_BYTES_MAX; i++) {
        int wrote =
            snprintf(text + used, VALUE_BYTES_MAX - used, "%s%s", i == 0 ? "" : " ", parts[i]);
        used += wrote < 0 ? 0 : (size_t)wrote;
    }
    if (used >= VALUE_BYTES_MAX) memcpy(text + VALUE_BYTES_MAX - 4, "...", 4);
}

static void diff_command(struct diff *diff, const char *name, bool replaces, char **before,
                         size_t before_count, char **after, size_t after_count)
{
    bool same = before_count == after_count;
    for (size_t i = 0; same && i < before_count; i++) same = strcmp(before[i], after[i]) == 0;
    if (same) return;
    char old[VALUE_BYTES_MAX], new[VALUE_BYTES_MAX];
    join(before, before_count, old);
    join(after, after_count, new);
    say(diff, replaces, "%s: %s -> %s", name, old, new);
}

static const Unum__V1__Job__EnvironmentEntry *environment_find(const Unum__V1__Job *job,
                                                               const char *key)
{
    for (size_t i = 0; i < job->n_environment; i++)
        if (strcmp(job->environment[i]->key, key) == 0) return job->environment[i];
    return NULL;
}

static void diff_environment(struct diff *diff, const Unum__V1__Job *before,
                             const Unum__V1__Job *after)
{
    for (size_t i = 0; i < after->n_environment; i++) {
        const Unum__V1__Job__EnvironmentEntry *entry = after->environment[i];
        const Unum__V1__Job__EnvironmentEntry *old = environment_find(before, entry->key);
        if (old == NULL)
            say(diff, true, "environment.%s: added", entry->key);
        else if (strcmp(old->value, entry->value) != 0)
            say(diff, true, "environment.%s: changed", entry->key);
    }
    for (size_t i = 0; i < before->n_environment; i++)
        if (environment_find(after, before->environment[i]->key) == NULL)
            say(diff, true, "environment.%s: removed", before->environment[i]->key);
}

static const Unum__V1__Job__LabelsEntry *label_find(const Unum__V1__Job *job, const char *key)
{
    for (size_t i = 0; i < job->n_labels; i++)
        if (strcmp(job->labels[i]->key, key) == 0) return job->labels[i];
    return NULL;
}

static void diff_labels(struct diff *diff, const Unum__V1__Job *before, const Unum__V1__Job *after)
{
    for (size_t i = 0; i < after->n_labels; i++) {
        const Unum__V1__Job__LabelsEntry *entry = after->labels[i];
        const Unum__V1__Job__LabelsEntry *old = label_find(before, entry->key);
        if (old == NULL)
            say(diff, false, "labels.%s: added %s", entry->key, entry->value);
        else if (strcmp(old->value, entry->value) != 0)
            say(diff, false, "labels.%s: %s -> %s", entry->key, old->value, entry->value);
    }
    for (size_t i = 0; i < before->n_labels; i++)
        if (label_find(after, before->labels[i]->key) == NULL)
            say(diff, false, "labels.%s: removed", before->labels[i]->key);
}

static const Unum__V1__Port *port_find(const Unum__V1__Job *job, const char *name)
{
    for (size_t i = 0; i < job->n_ports; i++)
        if (strcmp(job->ports[i]->name, name) == 0) return job->ports[i];
    return NULL;
}

static void format_port(const Unum__V1__Port *port, char text[VALUE_BYTES_MAX])
{
    if (port->step <= 1)
        (void)snprintf(text, VALUE_BYTES_MAX, "%" PRIu32 "%s", port->port,
                       port->step == 1 ? "+" : "");
    else
        (void)snprintf(text, VALUE_BYTES_MAX, "%" PRIu32 "+%" PRIu32, port->port, port->step);
}

static void diff_ports(struct diff *diff, const Unum__V1__Job *before, const Unum__V1__Job *after)
{
    for (size_t i = 0; i < after->n_ports; i++) {
        const Unum__V1__Port *port = after->ports[i];
        const Unum__V1__Port *old = port_find(before, port->name);
        char text[VALUE_BYTES_MAX], old_text[VALUE_BYTES_MAX];
        format_port(port, text);
        if (old == NULL) {
            say(diff, true, "ports.%s: added %s", port->name, text);
        } else if (old->port != port->port || old->step != port->step) {
            format_port(old, old_text);
            say(diff, true, "ports.%s: %s -> %s", port->name, old_text, text);
        }
    }
    for (size_t i = 0; i < before->n_ports; i++)
        if (port_find(after, before->ports[i]->name) == NULL)
            say(diff, true, "ports.%s: removed", before->ports[i]->name);
}

static const Unum__V1__Scratch *scratch_find(const Unum__V1__Job *job, const char *path)
{
    for (size_t i = 0; i < job->n_scratch; i++)
        if (strcmp(job->scratch[i]->path, path) == 0) return job->scratch[i];
    return NULL;
}

static void diff_scratch(struct diff *diff, const Unum__V1__Job *before, const Unum__V1__Job *after)
{
    for (size_t i = 0; i < after->n_scratch; i++) {
        const Unum__V1__Scratch *old = scratch_find(before, after->scratch[i]->path);
        if (old == NULL)
            say(diff, true, "scratch.%s: added", after->scratch[i]->path);
        else if (old->size_bytes != after->scratch[i]->size_bytes)
            say(diff, true, "scratch.%s: size changed", after->scratch[i]->path);
    }
    for (size_t i = 0; i < before->n_scratch; i++)
        if (scratch_find(after, before->scratch[i]->path) == NULL)
            say(diff, true, "scratch.%s: removed", before->scratch[i]->path);
}

static const Unum__V1__File *file_find(const Unum__V1__Job *job, const char *path)
{
    for (size_t i = 0; i < job->n_files; i++)
        if (strcmp(job->files[i]->path, path) == 0) return job->files[i];
    return NULL;
}

static void diff_files(struct diff *diff, const Unum__V1__Job *before, const Unum__V1__Job *after)
{
    for (size_t i = 0; i < after->n_files; i++) {
        const Unum__V1__File *file = after->files[i];
        const Unum__V1__File *old = file_find(before, file->path);
        if (old == NULL)
            say(diff, true, "files.%s: added", file->path);
        else if (!bytes_equal(bytes_of(old->content.data, old->content.len),
                              bytes_of(file->content.data, file->content.len)))
            say(diff, true, "files.%s: content changed (%zu -> %zu bytes)", file->path,
                old->content.len, file->content.len);
        else if (old->mode != file->mode)
            say(diff, true, "files.%s: mode changed", file->path);
    }
    for (size_t i = 0; i < before->n_files; i++)
        if (file_find(after, before->files[i]->path) == NULL)
            say(diff, true, "files.%s: removed", before->files[i]->path);
}

static void count_tasks(const Unum__V1__Job *before, const Unum__V1__Job *after,
                        struct job_change *change)
{
    uint32_t old = before == NULL || before->stopped ? 0 : before->count;
    uint32_t kept = old < after->count ? old : after->count;
    change->tasks_started = after->count - kept;
    change->tasks_stopped = old - kept;
    change->tasks_restarted = change->replaces_tasks ? kept : 0;
}

enum status job_diff(const Unum__V1__Job *before, const Unum__V1__Job *after, struct arena *arena,
                     struct job_change *ret_change)
{
    struct job_change change = { .kind = JOB_CREATED };
    struct diff diff = { .arena = arena, .change = &change };
    if (before != NULL) {
        if (before->stopped) say(&diff, false, "stopped: yes -> no");
        diff_settings(&diff, before, after);
        diff_command(&diff, "command", true, before->command, before->n_command, after->command,
                     after->n_command);
        if (before->ready != NULL && after->ready != NULL)
            diff_command(&diff, "ready.command", false, before->ready->command,
                         before->ready->n_command, after->ready->command, after->ready->n_command);
        diff_ports(&diff, before, after);
        diff_environment(&diff, before, after);
        diff_scratch(&diff, before, after);
        diff_files(&diff, before, after);
        diff_labels(&diff, before, after);
        change.kind = diff.differs ? JOB_UPDATED : JOB_UNCHANGED;
    }
    if (diff.no_memory) return STATUS_NO_MEMORY;
    count_tasks(before, after, &change);
    *ret_change = change;
    return STATUS_OK;
}

const char *job_change_kind_name(enum job_change_kind kind)
{
    static const char *const names[] = {
        [JOB_CREATED] = "create", [JOB_UPDATED] = "update", [JOB_UNCHANGED] = "unchanged"
    };
    return names[kind];
}

void job_succeed(const Unum__V1__Job *before, Unum__V1__Job *after, const struct job_change *change)
{
    after->stopped = false;
    after->generation = before == NULL ? 1 : before->generation;
    after->task_generation = before == NULL ? 1 : before->task_generation;
    after->restart_epoch = before == NULL ? 0 : before->restart_epoch;
    if (before == NULL) return;
    if (change->kind == JOB_UPDATED) after->generation++;
    if (change->replaces_tasks) after->task_generation++;
}

void job_restart(Unum__V1__Job *job)
{
    job->restart_epoch++;
    job->generation++;
    job->task_generation++;
}
