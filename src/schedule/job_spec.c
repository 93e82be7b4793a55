/* The specification of one task: substitution and environment. */
#include "schedule/job.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Search path of a task that sets none itself. */
static const char path_default[] =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

enum {
    VARIABLES_OWN_MAX = 3 + 1 + JOB_PORTS_MAX, /* UNUM_TASK, _JOB, _INDEX, PATH, ports */
    VARIABLE_BYTES_MAX = 128,
};

struct expansion {
    const Unum__V1__Job *job;
    uint32_t index;
    const char *task;
    struct arena *arena;
    struct error *error;
};

static uint32_t port_of(const Unum__V1__Port *port, uint32_t index)
{
    return port->port + port->step * index;
}

/* The value of ${NAME}; false: not one of ours. */
static bool value_of(const struct expansion *expansion, const char *name, size_t size,
                     char ret_value[LIMIT_NAME_BYTES_MAX + 1])
{
    const size_t room = LIMIT_NAME_BYTES_MAX + 1;
    if (size == 4 && memcmp(name, "task", 4) == 0) {
        (void)snprintf(ret_value, room, "%s", expansion->task);
        return true;
    }
    if (size == 3 && memcmp(name, "job", 3) == 0) {
        (void)snprintf(ret_value, room, "%s", expansion->job->name);
        return true;
    }
    if (size == 5 && memcmp(name, "index", 5) == 0) {
        (void)snprintf(ret_value, room, "%" PRIu32, expansion->index);
        return true;
    }
    if (size < 5 || memcmp(name, "port.", 5) != 0) return false;
    for (size_t i = 0; i < expansion->job->n_ports; i++) {
        const Unum__V1__Port *port = expansion->job->ports[i];
        if (strlen(port->name) != size - 5 || memcmp(port->name, name + 5, size - 5) != 0) continue;
        (void)snprintf(ret_value, room, "%" PRIu32, port_of(port, expansion->index));
        return true;
    }
    return false;
}

/* Expand TEXT into WRITER. */
static void expand_into(const struct expansion *expansion, const char *text, size_t size,
                        struct writer *writer)
{
    for (size_t i = 0; i < size && !writer->failed;) {
        if (size - i >= 3 && memcmp(text + i, "$${", 3) == 0) {
            writer_put(writer, "${", 2);
            i += 3;
            continue;
        }
        const char *end = size - i >= 2 && text[i] == '$' && text[i + 1] == '{'
                              ? memchr(text + i, '}', size - i)
                              : NULL;
        char value[LIMIT_NAME_BYTES_MAX + 1];
        if (end != NULL && value_of(expansion, text + i + 2, (size_t)(end - text) - i - 2, value)) {
            writer_put(writer, value, strlen(value));
            i = (size_t)(end - text) + 1;
            continue;
        }
        /* Up to the next dollar in one go. */
        size_t plain = 1;
        while (i + plain < size && text[i + plain] != '$') plain++;
        writer_put(writer, text + i, plain);
        i += plain;
    }
}

/* Expand up to SIZE_MAX_ALLOWED bytes. STATUS_INVALID: longer. */
static enum status expand(const struct expansion *expansion, const char *text, size_t size,
                          size_t size_max_allowed, struct bytes *ret_bytes)
{
    if (size == 0 || memchr(text, '$', size) == NULL) {
        *ret_bytes = arena_copy(expansion->arena, bytes_of(text, size));
        if (size > 0 && ret_bytes->data == NULL) return STATUS_NO_MEMORY;
        return STATUS_OK;
    }
    uint8_t *scratch = malloc(size_max_allowed);
    if (scratch == NULL) return STATUS_NO_MEMORY;
    struct writer writer = writer_of(scratch, size_max_allowed);
    expand_into(expansion, text, size, &writer);
    enum status status = writer.failed ? STATUS_INVALID : STATUS_OK;
    if (status == STATUS_OK) {
        *ret_bytes = arena_copy(expansion->arena, bytes_of(scratch, writer.used));
        if (writer.used > 0 && ret_bytes->data == NULL) status = STATUS_NO_MEMORY;
    }
    free(scratch);
    return status;
}

/* TEXT expanded, NUL-terminated; counts into *USED against SIZE_MAX_ALLOWED. */
static enum status expand_text(const struct expansion *expansion, const char *text,
                               size_t size_max_allowed, size_t *used, const char **ret_text)
{
    struct bytes bytes = { 0 };
    enum status status = expand(expansion, text, strlen(text), size_max_allowed, &bytes);
    if (status != STATUS_OK) return status;
    *used += bytes.size + 1;
    if (*used > size_max_allowed) return STATUS_INVALID;
    *ret_text = arena_copy_text(expansion->arena, (const char *)bytes.data, bytes.size);
    return *ret_text == NULL ? STATUS_NO_MEMORY : STATUS_OK;
}

static enum status too_long(const struct expansion *expansion, enum status status,
                            const char *field, int size_max)
{
    if (status != STATUS_INVALID) return status;
    return error_set(expansion->error, status, "%s: %s: longer than %d bytes after substitution",
                     expansion->task, field, size_max);
}

static enum status expand_command(const struct expansion *expansion, const char *field,
                                  char **command, size_t count, const char ***ret_command)
{
    const char **expanded = arena_take(expansion->arena, (count + 1) * sizeof *expanded);
    if (expanded == NULL) return STATUS_NO_MEMORY;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        enum status status =
            expand_text(expansion, command[i], JOB_COMMAND_BYTES_MAX, &used, &expanded[i]);
        if (status != STATUS_OK) return too_long(expansion, status, field, JOB_COMMAND_BYTES_MAX);
    }
    *ret_command = expanded;
    return STATUS_OK;
}

static int text_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum status add_variable(const struct expansion *expansion, struct task_spec *spec,
                                const char *name, const char *value)
{
    size_t size = strlen(name) + 1 + strlen(value);
    char *text = arena_take(expansion->arena, size + 1);
    if (text == NULL) return STATUS_NO_MEMORY;
    (void)snprintf(text, size + 1, "%s=%s", name, value);
    spec->environment[spec->environment_count++] = text;
    return STATUS_OK;
}

static enum status add_own_variables(const struct expansion *expansion, struct task_spec *spec)
{
    char number[16];
    (void)snprintf(number, sizeof number, "%" PRIu32, expansion->index);
    enum status status = add_variable(expansion, spec, "UNUM_TASK", expansion->task);
    if (status == STATUS_OK)
        status = add_variable(expansion, spec, "UNUM_JOB", expansion->job->name);
    if (status == STATUS_OK) status = add_variable(expansion, spec, "UNUM_INDEX", number);
    for (size_t i = 0; i < spec->port_count && status == STATUS_OK; i++) {
        char name[VARIABLE_BYTES_MAX];
        (void)snprintf(name, sizeof name, "UNUM_PORT_%s", spec->ports[i].name);
        for (char *p = name; *p != '\0'; p++) {
            if (*p >= 'a' && *p <= 'z') *p = (char)(*p - 'a' + 'A');
            if (*p == '-') *p = '_';
        }
        (void)snprintf(number, sizeof number, "%u", (unsigned)spec->ports[i].port);
        status = add_variable(expansion, spec, name, number);
    }
    return status;
}

static enum status expand_environment(const struct expansion *expansion, struct task_spec *spec)
{
    const Unum__V1__Job *job = expansion->job;
    size_t room = job->n_environment + VARIABLES_OWN_MAX + 1;
    spec->environment = arena_take(expansion->arena, room * sizeof *spec->environment);
    if (spec->environment == NULL) return STATUS_NO_MEMORY;
    bool has_path = false;
    size_t used = 0;
    for (size_t i = 0; i < job->n_environment; i++) {
        const char *value = NULL;
        enum status status = expand_text(expansion, job->environment[i]->value,
                                         JOB_ENVIRONMENT_BYTES_MAX, &used, &value);
        if (status != STATUS_OK)
            return too_long(expansion, status, "environment", JOB_ENVIRONMENT_BYTES_MAX);
        status = add_variable(expansion, spec, job->environment[i]->key, value);
        if (status != STATUS_OK) return status;
        has_path = has_path || strcmp(job->environment[i]->key, "PATH") == 0;
    }
    if (!has_path) spec->environment[spec->environment_count++] = path_default;
    enum status status = add_own_variables(expansion, spec);
    if (status != STATUS_OK) return status;
    assert(spec->environment_count < room);
    qsort(spec->environment, spec->environment_count, sizeof *spec->environment, text_order);
    return STATUS_OK;
}

static enum status expand_files(const struct expansion *expansion, struct task_spec *spec)
{
    const Unum__V1__Job *job = expansion->job;
    spec->files = arena_take(expansion->arena, job->n_files * sizeof *spec->files);
    if (spec->files == NULL) return STATUS_NO_MEMORY;
    size_t used = 0;
    for (size_t i = 0; i < job->n_files; i++) {
        const Unum__V1__File *file = job->files[i];
        struct task_file *target = &spec->files[spec->file_count++];
        *target =
            (struct task_file) { .path = file->path, .mode = file->mode == 0 ? 0444 : file->mode };
        enum status status = expand(expansion, (const char *)file->content.data, file->content.len,
                                    JOB_FILES_BYTES_MAX, &target->content);
        used += target->content.size;
        if (status == STATUS_OK && used > JOB_FILES_BYTES_MAX) status = STATUS_INVALID;
        if (status != STATUS_OK) return too_long(expansion, status, "files", JOB_FILES_BYTES_MAX);
    }
    return STATUS_OK;
}

/* Arguments: count of files, then path, mode, content of each, then the command. */
static const char place_files[] =
    "n=$1; shift; while [ \"$n\" -gt 0 ]; do mkdir -p \"${1%/*}\" && printf %s \"$3\" > \"$1\" && "
    "chmod \"$2\" \"$1\" || exit 127; shift 3; n=$((n - 1)); done; exec \"$@\"";

static void add_files(const struct expansion *expansion, const struct task_spec *spec,
                      const char **launch, size_t *used)
{
    for (size_t i = 0; i < spec->file_count; i++) {
        const struct task_file *file = &spec->files[i];
        char mode[16];
        (void)snprintf(mode, sizeof mode, "0%03o", (unsigned)file->mode);
        launch[(*used)++] = file->path;
        launch[(*used)++] = arena_copy_text(expansion->arena, mode, strlen(mode));
        launch[(*used)++] =
            arena_copy_text(expansion->arena, (const char *)file->content.data, file->content.size);
    }
}

static enum status make_launch(const struct expansion *expansion, struct task_spec *spec)
{
    spec->launch = spec->command;
    spec->launch_count = spec->command_count;
    if (spec->file_count == 0) return STATUS_OK;
    size_t count = 5 + 3 * spec->file_count + spec->command_count;
    const char **launch = arena_take(expansion->arena, (count + 1) * sizeof *launch);
    if (launch == NULL) return STATUS_NO_MEMORY;
    char number[24];
    (void)snprintf(number, sizeof number, "%zu", spec->file_count);
    size_t used = 0;
    launch[used++] = "/bin/sh";
    launch[used++] = "-c";
    launch[used++] = place_files;
    launch[used++] = expansion->task;
    launch[used++] = arena_copy_text(expansion->arena, number, strlen(number));
    add_files(expansion, spec, launch, &used);
    for (size_t i = 0; i < spec->command_count; i++) launch[used++] = spec->command[i];
    assert(used == count);
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        if (launch[i] == NULL) return STATUS_NO_MEMORY;
        size += strlen(launch[i]) + 1;
    }
    if (size > JOB_LAUNCH_BYTES_MAX)
        return error_set(expansion->error, STATUS_INVALID,
                         "%s: command and files: together %zu bytes, at most %d can be given",
                         expansion->task, size, (int)JOB_LAUNCH_BYTES_MAX);
    spec->launch = launch;
    spec->launch_count = count;
    return STATUS_OK;
}

static enum status expand_ports_and_scratch(const struct expansion *expansion,
                                            struct task_spec *spec)
{
    const Unum__V1__Job *job = expansion->job;
    spec->ports = arena_take(expansion->arena, job->n_ports * sizeof *spec->ports);
    spec->scratch = arena_take(expansion->arena, job->n_scratch * sizeof *spec->scratch);
    if (spec->ports == NULL || spec->scratch == NULL) return STATUS_NO_MEMORY;
    for (size_t i = 0; i < job->n_ports; i++) {
        uint32_t port = port_of(job->ports[i], expansion->index);
        spec->ports[spec->port_count++] =
            (struct task_port) { .name = job->ports[i]->name, .port = (uint16_t)port };
        if (strcmp(job->ports[i]->name, spec->settings.ready_port) == 0)
            spec->ready_port = (uint16_t)port;
    }
    for (size_t i = 0; i < job->n_scratch; i++) {
        uint64_t size = job->scratch[i]->size_bytes;
        spec->scratch[spec->scratch_count++] =
            (struct task_scratch) { .path = job->scratch[i]->path,
                                    .size_bytes = size == 0 ? 16ULL << 20 : size };
    }
    return STATUS_OK;
}

enum status job_task_spec(const Unum__V1__Job *job, uint32_t index, struct arena *arena,
                          struct task_spec **ret_spec, struct error *error)
{
    assert(index < job->count);
    char name[JOB_TASK_NAME_BYTES_MAX + 1];
    job_task_name(job->name, index, name);
    struct task_spec *spec = arena_take(arena, sizeof *spec);
    const char *task = arena_copy_text(arena, name, strlen(name));
    if (spec == NULL || task == NULL) return STATUS_NO_MEMORY;
    struct expansion expansion = {
        .job = job, .index = index, .task = task, .arena = arena, .error = error
    };
    spec->name = task;
    spec->index = index;
    job_settings(job, &spec->settings);
    spec->command_count = job->n_command;
    spec->stop_signal = job_signal_number(spec->settings.stop_signal);

    enum status status = expand_ports_and_scratch(&expansion, spec);
    if (status == STATUS_OK)
        status =
            expand_command(&expansion, "command", job->command, job->n_command, &spec->command);
    if (status == STATUS_OK) status = expand_environment(&expansion, spec);
    if (status == STATUS_OK) status = expand_files(&expansion, spec);
    if (status == STATUS_OK && job->ready != NULL && job->ready->n_command > 0)
        status = expand_command(&expansion, "ready.command", job->ready->command,
                                job->ready->n_command, &spec->ready_command);
    if (status == STATUS_OK) status = make_launch(&expansion, spec);
    if (status != STATUS_OK) return status;
    spec->ready_command_count = job->ready == NULL ? 0 : job->ready->n_command;
    *ret_spec = spec;
    return STATUS_OK;
}
