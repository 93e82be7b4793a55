#include "schedule/job.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CPU_MILLI_DEFAULT = 100,
    CPU_MILLI_MAX = 1024 * 1000, /* more cores than a machine has */
    PROCESSES_DEFAULT = 1024,
    PROCESSES_MAX = 65536,
    RESTART_BURST_MAX = 20, /* what unum-init remembers of a task */
    QUOTED_BYTES_MAX = 48,
};
#define MEMORY_DEFAULT    (64ULL << 20)
#define MEMORY_BYTES_MIN  (1ULL << 20)
#define MEMORY_BYTES_MAX  (16ULL << 40)
#define SCRATCH_DEFAULT   (16ULL << 20)
#define SCRATCH_BYTES_MIN (64ULL << 10)

static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
    return value == 0 ? otherwise : value;
}

static const char *text_or_default(const char *text, const char *otherwise)
{
    return text == NULL || text[0] == '\0' ? otherwise : text;
}

static uint64_t scratch_total(const Unum__V1__Job *job)
{
    uint64_t total = 0;
    for (size_t i = 0; i < job->n_scratch; i++) {
        uint64_t size = or_default(job->scratch[i]->size_bytes, SCRATCH_DEFAULT);
        total = total > UINT64_MAX - size ? UINT64_MAX : total + size;
    }
    return total;
}

static void probe_settings(const Unum__V1__Probe *ready, struct job_settings *settings)
{
    settings->ready_kind = (uint64_t)ready->kind;
    settings->ready_port = ready->port;
    settings->ready_path = text_or_default(ready->path, "/");
    settings->ready_interval_ms = or_default(ready->interval_ms, 1000);
    settings->ready_timeout_ms = or_default(ready->timeout_ms, 1000);
    settings->ready_failures = or_default(ready->failures, 3);
    settings->ready_start_timeout_ms = or_default(ready->start_timeout_ms, 30000);
}

void job_settings(const Unum__V1__Job *job, struct job_settings *ret_settings)
{
    static const Unum__V1__Resources no_resources = UNUM__V1__RESOURCES__INIT;
    static const Unum__V1__Restart no_restart = UNUM__V1__RESTART__INIT;
    static const Unum__V1__Stop no_stop = UNUM__V1__STOP__INIT;
    static const Unum__V1__Probe no_probe = UNUM__V1__PROBE__INIT;
    const Unum__V1__Resources *resources = job->resources ? job->resources : &no_resources;
    const Unum__V1__Restart *restart = job->restart ? job->restart : &no_restart;
    const Unum__V1__Stop *stop = job->stop ? job->stop : &no_stop;

    struct job_settings settings = {
        .name = job->name,
        .project = text_or_default(job->project, "default"),
        .count = job->count,
        .cpu_milli =
            resources->cpu_unreserved ? 0 : or_default(resources->cpu_milli, CPU_MILLI_DEFAULT),
        .memory_bytes = or_default(resources->memory_bytes, MEMORY_DEFAULT),
        .processes = or_default(resources->processes, PROCESSES_DEFAULT),
        .private_network = job->private_network ? 1 : 0,
        .working_directory = text_or_default(job->working_directory, "/"),
        .restart_policy = (uint64_t)restart->policy,
        .restart_burst = or_default(restart->burst, 5),
        .restart_period_ms = or_default(restart->period_ms, 10000),
        .restart_backoff_ms = restart->backoff_ms,
        .restart_backoff_max_ms = or_default(restart->backoff_max_ms, 30000),
        .restart_stable_ms = or_default(restart->stable_ms, 10000),
        .stop_signal = text_or_default(stop->signal, "SIGTERM"),
        .stop_grace_ms = or_default(stop->grace_ms, 10000),
        .scratch_bytes = scratch_total(job),
    };
    probe_settings(job->ready ? job->ready : &no_probe, &settings);
    *ret_settings = settings;
}

bool job_name_is_valid(const char *name, size_t size_max_allowed)
{
    size_t size = strnlen(name, size_max_allowed + 1);
    if (size == 0 || size > size_max_allowed) return false;
    if (name[0] == '-' || name[size - 1] == '-') return false;
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-')) return false;
    }
    return true;
}

static const char *const signal_names[] = {
    [1] = "SIGHUP",   [2] = "SIGINT",     [3] = "SIGQUIT",  [4] = "SIGILL",    [5] = "SIGTRAP",
    [6] = "SIGABRT",  [7] = "SIGBUS",     [8] = "SIGFPE",   [9] = "SIGKILL",   [10] = "SIGUSR1",
    [11] = "SIGSEGV", [12] = "SIGUSR2",   [13] = "SIGPIPE", [14] = "SIGALRM",  [15] = "SIGTERM",
    [18] = "SIGCONT", [21] = "SIGTTIN",   [22] = "SIGTTOU", [23] = "SIGURG",   [24] = "SIGXCPU",
    [25] = "SIGXFSZ", [26] = "SIGVTALRM", [27] = "SIGPROF", [28] = "SIGWINCH", [29] = "SIGIO",
    [30] = "SIGPWR",  [31] = "SIGSYS",
};

unsigned job_signal_number(const char *name)
{
    for (unsigned i = 1; i < sizeof signal_names / sizeof signal_names[0]; i++)
        if (signal_names[i] != NULL && strcmp(signal_names[i], name) == 0) return i;
    return 0;
}

/* --- refusals ----------------------------------------------------------------------------------
 */

/* A user's text within a sentence: short, and nothing that a terminal would obey. */
struct quoted {
    char text[QUOTED_BYTES_MAX + 4];
};

static struct quoted quote(const char *text)
{
    struct quoted quoted;
    size_t used = 0;
    for (; text[used] != '\0' && used < QUOTED_BYTES_MAX; used++) {
        unsigned char c = (unsigned char)text[used];
        quoted.text[used] = '?';
        if (c >= 0x20 && c != 0x7f) quoted.text[used] = text[used];
    }
    if (text[used] != '\0')
        for (unsigned i = 0; i < 3; i++) quoted.text[used++] = '.';
    quoted.text[used] = '\0';
    return quoted;
}

/* The checks share this: the first refusal stands. */
struct check {
    const Unum__V1__Job *job;
    const struct job_settings *settings;
    struct job_refusal *refusal;
    char field[JOB_FIELD_BYTES_MAX];
    bool refused;
};

static void __attribute__((format(printf, 2, 3)))
field_set(struct check *check, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(check->field, sizeof check->field, format, arguments);
    va_end(arguments);
}

static void __attribute__((format(printf, 2, 3)))
refuse(struct check *check, const char *format, ...)
{
    if (check->refused) return;
    check->refused = true;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(check->refusal->text, sizeof check->refusal->text, format, arguments);
    va_end(arguments);
    memcpy(check->refusal->field, check->field, sizeof check->field);
}

static void check_range(struct check *check, const char *field, uint64_t value, uint64_t min,
                        uint64_t max, const char *allowed)
{
    if (value >= min && value <= max) return;
    field_set(check, "%s", field);
    refuse(check, "must be %s", allowed);
}

static void check_numbers(struct check *check)
{
    const struct job_settings *s = check->settings;
    enum { DAY = JOB_PERIOD_MS_MAX };
    const struct {
        const char *field;
        uint64_t value, min, max;
        const char *allowed;
    } ranges[] = {
        { "count", s->count, 0, JOB_COUNT_MAX, "0 to 10000 tasks" },
        { "resources.cpu", s->cpu_milli, 0, CPU_MILLI_MAX, "at most 1024 cores" },
        { "resources.memory", s->memory_bytes, MEMORY_BYTES_MIN, MEMORY_BYTES_MAX, "1Mi to 16Ti" },
        { "resources.processes", s->processes, 1, PROCESSES_MAX, "1 to 65536" },
        { "restart.policy", s->restart_policy, 0, 2, "permanent, transient or temporary" },
        { "restart.burst", s->restart_burst, 1, RESTART_BURST_MAX, "1 to 20 restarts" },
        { "restart.period", s->restart_period_ms, 1, DAY, "1ms to 24h" },
        { "restart.backoff", s->restart_backoff_ms, 0, DAY, "0 to 24h" },
        { "restart.backoff_max", s->restart_backoff_max_ms, 1, DAY, "1ms to 24h" },
        { "restart.stable", s->restart_stable_ms, 1, DAY, "1ms to 24h" },
        { "stop.grace", s->stop_grace_ms, 1, DAY, "1ms to 24h" },
        { "ready.interval", s->ready_interval_ms, 10, DAY, "10ms to 24h" },
        { "ready.timeout", s->ready_timeout_ms, 1, 60000, "1ms to 60s" },
        { "ready.failures", s->ready_failures, 1, 1000, "1 to 1000 failures in a row" },
        { "ready.start_timeout", s->ready_start_timeout_ms, 1, DAY, "1ms to 24h" },
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        check_range(check, ranges[i].field, ranges[i].value, ranges[i].min, ranges[i].max,
                    ranges[i].allowed);
    if (s->restart_backoff_ms > s->restart_backoff_max_ms) {
        field_set(check, "restart.backoff");
        refuse(check, "must not be longer than restart.backoff_max");
    }
}

static void check_names(struct check *check)
{
    const struct job_settings *s = check->settings;
    if (!job_name_is_valid(s->name, JOB_NAME_BYTES_MAX)) {
        field_set(check, "name");
        refuse(check, "must be 1 to %d of a-z, 0-9 and inner dashes, is \"%s\"",
               (int)JOB_NAME_BYTES_MAX, quote(s->name).text);
    }
    if (!job_name_is_valid(s->project, LIMIT_NAME_BYTES_MAX)) {
        field_set(check, "project");
        refuse(check, "must be 1 to %d of a-z, 0-9 and inner dashes, is \"%s\"",
               (int)LIMIT_NAME_BYTES_MAX, quote(s->project).text);
    }
}

static void check_command(struct check *check, const char *field, char **command, size_t count)
{
    field_set(check, "%s", field);
    if (count == 0) {
        refuse(check, "must name a program, like [nginx, -g, \"daemon off;\"]");
        return;
    }
    if (count > JOB_COMMAND_COUNT_MAX)
        refuse(check, "must have at most %d parts, has %zu", (int)JOB_COMMAND_COUNT_MAX, count);
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        size += strlen(command[i]) + 1;
        if (size > JOB_COMMAND_BYTES_MAX) {
            refuse(check, "must be at most %d bytes long", (int)JOB_COMMAND_BYTES_MAX);
            return;
        }
    }
    if (command[0][0] == '\0')
        refuse(check, "must begin with the name of a program, not with \"\"");
}

/* Absolute, no empty, "." or ".." part. */
static bool path_is_plain(const char *path)
{
    if (path[0] != '/' || strnlen(path, JOB_PATH_BYTES_MAX + 1) > JOB_PATH_BYTES_MAX) return false;
    if (path[1] == '\0') return true;
    for (const char *p = path; *p != '\0';) {
        const char *part = p + 1;
        size_t size = strcspn(part, "/");
        if (size == 0 || (size == 1 && part[0] == '.') ||
            (size == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        p = part + size;
    }
    return true;
}

static void check_path(struct check *check, const char *path)
{
    if (path_is_plain(path)) return;
    refuse(check, "must be an absolute path without \".\", \"..\" or \"//\" of at most %d bytes",
           (int)JOB_PATH_BYTES_MAX);
}

static bool variable_name_is_valid(const char *name)
{
    if (name[0] == '\0' || (name[0] >= '0' && name[0] <= '9')) return false;
    for (const char *p = name; *p != '\0'; p++) {
        char c = *p;
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_'))
            return false;
    }
    return true;
}

static void check_environment(struct check *check)
{
    const Unum__V1__Job *job = check->job;
    field_set(check, "environment");
    if (job->n_environment > JOB_ENVIRONMENT_COUNT_MAX) {
        refuse(check, "must have at most %d variables, has %zu", (int)JOB_ENVIRONMENT_COUNT_MAX,
               job->n_environment);
        return;
    }
    size_t size = 0;
    for (size_t i = 0; i < job->n_environment; i++) {
        const Unum__V1__Job__EnvironmentEntry *entry = job->environment[i];
        size += strlen(entry->key) + strlen(entry->value) + 2;
        field_set(check, "environment.%s", quote(entry->key).text);
        if (!variable_name_is_valid(entry->key))
            refuse(check, "a variable's name is letters, digits and _, not beginning with a digit");
        if (strncmp(entry->key, "UNUM_", 5) == 0)
            refuse(check, "names that begin with UNUM_ are set by the computer");
        if (size > JOB_ENVIRONMENT_BYTES_MAX)
            refuse(check, "all variables together must be at most %d bytes",
                   (int)JOB_ENVIRONMENT_BYTES_MAX);
    }
}

static const Unum__V1__Port *find_port(const Unum__V1__Job *job, const char *name, size_t size)
{
    for (size_t i = 0; i < job->n_ports; i++)
        if (strlen(job->ports[i]->name) == size && memcmp(job->ports[i]->name, name, size) == 0)
            return job->ports[i];
    return NULL;
}

/* The first number that both A and B take for some task of COUNT; 0: none. */
static uint32_t port_overlap(const Unum__V1__Port *a, const Unum__V1__Port *b, uint32_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t port = a->port + i * a->step;
        if (port < b->port || port > b->port + (uint64_t)b->step * (count - 1)) continue;
        if (b->step == 0 || (port - b->port) % b->step == 0) return (uint32_t)port;
        if (a->step == 0) break;
    }
    return 0;
}

static void check_port(struct check *check, size_t index)
{
    const Unum__V1__Job *job = check->job;
    const Unum__V1__Port *port = job->ports[index];
    field_set(check, "ports.%s", quote(port->name).text);
    if (!job_name_is_valid(port->name, 32)) {
        refuse(check, "a port's name is 1 to 32 of a-z, 0-9 and inner dashes");
        return;
    }
    if (port->port < 1 || port->port > 65535) {
        refuse(check, "must be 1 to 65535, is %" PRIu32, port->port);
        return;
    }
    if (port->step > JOB_PORT_STEP_MAX)
        refuse(check, "step must be 0 to %d, is %" PRIu32, (int)JOB_PORT_STEP_MAX, port->step);
    if (job->count > JOB_COUNT_MAX || check->refused) return;
    uint64_t last = port->port + (job->count == 0 ? 0 : (uint64_t)port->step * (job->count - 1));
    if (last > 65535)
        refuse(check,
               "the last of %" PRIu32 " tasks would get port %" PRIu64 ", the highest is 65535",
               job->count, last);
    if (port->step == 0 && job->count > 1 && !job->private_network)
        refuse(check,
               "all %" PRIu32 " tasks would take port %" PRIu32 "; write %" PRIu32
               "+ for one more in each task, or network: private",
               job->count, port->port, port->port);
    for (size_t i = 0; i < index && !check->refused; i++) {
        const Unum__V1__Port *other = job->ports[i];
        if (strcmp(other->name, port->name) == 0) refuse(check, "is there twice");
        uint32_t same = job->count == 0 ? 0 : port_overlap(port, other, job->count);
        if (same != 0)
            refuse(check, "port %" PRIu32 " would be taken by ports.%s too", same,
                   quote(other->name).text);
    }
}

static void check_ports(struct check *check)
{
    if (check->job->n_ports > JOB_PORTS_MAX) {
        field_set(check, "ports");
        refuse(check, "must be at most %d, are %zu", (int)JOB_PORTS_MAX, check->job->n_ports);
        return;
    }
    for (size_t i = 0; i < check->job->n_ports && !check->refused; i++) check_port(check, i);
}

static void check_probe(struct check *check)
{
    const struct job_settings *s = check->settings;
    field_set(check, "ready");
    if (s->ready_kind > UNUM__V1__PROBE__KIND__COMMAND) {
        refuse(check, "must be none, notify, tcp, http or command");
        return;
    }
    if (s->ready_kind == UNUM__V1__PROBE__KIND__COMMAND)
        check_command(check, "ready.command", check->job->ready->command,
                      check->job->ready->n_command);
    if (s->ready_kind != UNUM__V1__PROBE__KIND__TCP && s->ready_kind != UNUM__V1__PROBE__KIND__HTTP)
        return;
    if (check->job->private_network) {
        refuse(check, "tcp and http can't reach into a private network; use command or notify");
        return;
    }
    field_set(check, "ready.port");
    if (check->job->n_ports == 0) {
        refuse(check, "the job has no ports; name one under ports");
    } else if (find_port(check->job, s->ready_port, strlen(s->ready_port)) == NULL) {
        refuse(check, "must be the name of one of the job's ports, like %s, is \"%s\"",
               quote(check->job->ports[0]->name).text, quote(s->ready_port).text);
    }
    field_set(check, "ready.path");
    if (s->ready_kind == UNUM__V1__PROBE__KIND__HTTP) {
        size_t size = strnlen(s->ready_path, 256);
        bool plain = s->ready_path[0] == '/' && size < 256;
        for (size_t i = 0; plain && i < size; i++)
            plain = s->ready_path[i] > 0x20 && s->ready_path[i] < 0x7f;
        if (!plain) refuse(check, "must begin with / and be at most 255 visible ASCII characters");
    }
}

static void check_scratch(struct check *check)
{
    const Unum__V1__Job *job = check->job;
    field_set(check, "scratch");
    if (job->n_scratch > JOB_SCRATCH_COUNT_MAX) {
        refuse(check, "must be at most %d folders, are %zu", (int)JOB_SCRATCH_COUNT_MAX,
               job->n_scratch);
        return;
    }
    for (size_t i = 0; i < job->n_scratch; i++) {
        field_set(check, "scratch.%s", quote(job->scratch[i]->path).text);
        check_path(check, job->scratch[i]->path);
        if (job->scratch[i]->path[0] == '/' && job->scratch[i]->path[1] == '\0')
            refuse(check, "must be a folder below /");
        uint64_t size = or_default(job->scratch[i]->size_bytes, SCRATCH_DEFAULT);
        if (size < SCRATCH_BYTES_MIN || size > MEMORY_BYTES_MAX)
            refuse(check, "must be 64Ki to 16Ti");
        for (size_t k = 0; k < i; k++)
            if (strcmp(job->scratch[k]->path, job->scratch[i]->path) == 0)
                refuse(check, "is there twice");
    }
    field_set(check, "scratch");
    if (check->settings->scratch_bytes > check->settings->memory_bytes)
        refuse(check, "is memory and counts as the task's: together at most resources.memory");
}

/* Below /run, /tmp or a scratch folder: nothing else in a task can be written. */
static bool path_is_writable(const Unum__V1__Job *job, const char *path)
{
    if (strncmp(path, "/run/", 5) == 0 || strncmp(path, "/tmp/", 5) == 0) return true;
    for (size_t i = 0; i < job->n_scratch; i++) {
        size_t size = strlen(job->scratch[i]->path);
        if (strncmp(path, job->scratch[i]->path, size) == 0 && path[size] == '/') return true;
    }
    return false;
}

static void check_files(struct check *check)
{
    const Unum__V1__Job *job = check->job;
    field_set(check, "files");
    if (job->n_files > JOB_FILES_MAX) {
        refuse(check, "must be at most %d, are %zu", (int)JOB_FILES_MAX, job->n_files);
        return;
    }
    size_t size = 0;
    for (size_t i = 0; i < job->n_files; i++) {
        const Unum__V1__File *file = job->files[i];
        field_set(check, "files.%s", quote(file->path).text);
        check_path(check, file->path);
        if (!path_is_writable(job, file->path))
            refuse(check, "must lie below /run, /tmp or a scratch folder of the job");
        size += file->content.len;
        if (size > JOB_FILES_BYTES_MAX)
            refuse(check, "all files together must be at most %d bytes", (int)JOB_FILES_BYTES_MAX);
        if (file->content.len > 0 && memchr(file->content.data, 0, file->content.len) != NULL)
            refuse(check, "must be text: it holds a zero byte");
        if (file->mode > 0777) refuse(check, "mode must be 0 to 0777, in octal");
        for (size_t k = 0; k < i; k++)
            if (strcmp(job->files[k]->path, file->path) == 0) refuse(check, "is there twice");
    }
}

static void check_labels(struct check *check)
{
    const Unum__V1__Job *job = check->job;
    field_set(check, "labels");
    if (job->n_labels > JOB_LABELS_MAX) {
        refuse(check, "must be at most %d, are %zu", (int)JOB_LABELS_MAX, job->n_labels);
        return;
    }
    for (size_t i = 0; i < job->n_labels; i++) {
        field_set(check, "labels.%s", quote(job->labels[i]->key).text);
        if (!job_name_is_valid(job->labels[i]->key, LIMIT_NAME_BYTES_MAX))
            refuse(check, "a label's name is 1 to 63 of a-z, 0-9 and inner dashes");
        if (strlen(job->labels[i]->value) > JOB_LABEL_BYTES_MAX)
            refuse(check, "must be at most %d bytes", (int)JOB_LABEL_BYTES_MAX);
    }
}

/* ${port.NAME} of a port that is not there would stay in the text and fail far from here. */
static void check_references(struct check *check, const char *text, size_t size)
{
    static const char begin[] = "${port.";
    enum { BEGIN = sizeof begin - 1 };
    for (size_t i = 0; i + BEGIN <= size; i++) {
        if (memcmp(text + i, begin, BEGIN) != 0) continue;
        if (i > 0 && text[i - 1] == '$') continue;
        const char *name = text + i + BEGIN;
        size_t left = size - i - BEGIN;
        const char *end = memchr(name, '}', left);
        size_t name_size = end == NULL ? left : (size_t)(end - name);
        if (end != NULL && find_port(check->job, name, name_size) != NULL) continue;
        char shown[QUOTED_BYTES_MAX];
        if (name_size >= sizeof shown) name_size = sizeof shown - 1;
        memcpy(shown, name, name_size);
        shown[name_size] = '\0';
        refuse(check, "${port.%s} is not one of the job's ports (write $${ for a plain ${)",
               quote(shown).text);
        return;
    }
}

static void check_all_references(struct check *check)
{
    const Unum__V1__Job *job = check->job;
    field_set(check, "command");
    for (size_t i = 0; i < job->n_command; i++)
        check_references(check, job->command[i], strlen(job->command[i]));
    for (size_t i = 0; i < job->n_environment; i++) {
        field_set(check, "environment.%s", quote(job->environment[i]->key).text);
        check_references(check, job->environment[i]->value, strlen(job->environment[i]->value));
    }
    for (size_t i = 0; i < job->n_files; i++) {
        field_set(check, "files.%s", quote(job->files[i]->path).text);
        check_references(check, (const char *)job->files[i]->content.data,
                         job->files[i]->content.len);
    }
    field_set(check, "ready.command");
    for (size_t i = 0; job->ready != NULL && i < job->ready->n_command; i++)
        check_references(check, job->ready->command[i], strlen(job->ready->command[i]));
}

static void format_cpu(uint64_t milli, char text[32])
{
    if (milli % 1000 == 0)
        (void)snprintf(text, 32, "%" PRIu64, milli / 1000);
    else
        (void)snprintf(text, 32, "%" PRIu64 ".%03" PRIu64, milli / 1000, milli % 1000);
}

static void check_machine(struct check *check, const struct job_machine *machine)
{
    const struct job_settings *s = check->settings;
    if (s->cpu_milli > machine->cpu_milli) {
        char wanted[32], there[32];
        format_cpu(s->cpu_milli, wanted);
        format_cpu(machine->cpu_milli, there);
        field_set(check, "resources.cpu");
        refuse(check, "a task needs %s cores, the machine has %s", wanted, there);
    }
    if (s->memory_bytes > machine->memory_bytes) {
        field_set(check, "resources.memory");
        refuse(check, "a task needs %" PRIu64 " MiB, the machine has %" PRIu64 " MiB",
               s->memory_bytes >> 20, machine->memory_bytes >> 20);
    }
}

enum status job_validate(const Unum__V1__Job *job, const struct job_machine *machine,
                         struct job_refusal *ret_refusal)
{
    struct job_settings settings;
    struct job_refusal refusal;
    job_settings(job, &settings);
    struct check check = { .job = job, .settings = &settings, .refusal = &refusal };

    check_names(&check);
    check_command(&check, "command", job->command, job->n_command);
    check_numbers(&check);
    check_environment(&check);
    check_ports(&check);
    check_probe(&check);
    check_scratch(&check);
    check_files(&check);
    check_labels(&check);
    field_set(&check, "directory");
    check_path(&check, settings.working_directory);
    field_set(&check, "stop.signal");
    if (job_signal_number(settings.stop_signal) == 0)
        refuse(&check, "must be the name of a signal, like SIGTERM, SIGQUIT or SIGINT, is \"%s\"",
               quote(settings.stop_signal).text);
    if (!check.refused) check_all_references(&check);
    if (!check.refused && machine != NULL) check_machine(&check, machine);
    field_set(&check, "%s", "");
    if (!check.refused && unum__v1__job__get_packed_size(job) > JOB_BYTES_MAX)
        refuse(&check, "the whole job must be at most %d KiB", (int)JOB_BYTES_MAX / 1024);

    if (!check.refused) return STATUS_OK;
    *ret_refusal = refusal;
    return STATUS_INVALID;
}

enum status job_check(const Unum__V1__Job *job, const struct job_machine *machine,
                      struct error *error)
{
    struct job_refusal refusal;
    enum status status = job_validate(job, machine, &refusal);
    if (status == STATUS_OK) return STATUS_OK;
    return error_set(error, status, "job %s: %s%s%s", quote(job->name).text, refusal.field,
                     refusal.field[0] == '\0' ? "" : ": ", refusal.text);
}

static int environment_order(const void *a, const void *b)
{
    const Unum__V1__Job__EnvironmentEntry *const *left = a;
    const Unum__V1__Job__EnvironmentEntry *const *right = b;
    return strcmp((*left)->key, (*right)->key);
}

static int label_order(const void *a, const void *b)
{
    const Unum__V1__Job__LabelsEntry *const *left = a;
    const Unum__V1__Job__LabelsEntry *const *right = b;
    return strcmp((*left)->key, (*right)->key);
}

void job_canonicalize(Unum__V1__Job *job)
{
    if (job->n_environment > 1)
        qsort(job->environment, job->n_environment, sizeof(void *), environment_order);
    if (job->n_labels > 1) qsort(job->labels, job->n_labels, sizeof(void *), label_order);
}

void job_task_name(const char *job, uint32_t index, char ret_name[JOB_TASK_NAME_BYTES_MAX + 1])
{
    (void)snprintf(ret_name, JOB_TASK_NAME_BYTES_MAX + 1, "%.*s-%" PRIu32, (int)JOB_NAME_BYTES_MAX,
                   job, index);
}

enum status job_task_name_parse(const char *name, char ret_job[LIMIT_NAME_BYTES_MAX + 1],
                                uint32_t *ret_index)
{
    const char *dash = strrchr(name, '-');
    if (dash == NULL || dash == name || dash - name > JOB_NAME_BYTES_MAX) return STATUS_INVALID;
    const char *digits = dash + 1;
    size_t count = strlen(digits);
    if (count == 0 || count > 5 || (digits[0] == '0' && count > 1)) return STATUS_INVALID;
    uint32_t index = 0;
    for (size_t i = 0; i < count; i++) {
        if (digits[i] < '0' || digits[i] > '9') return STATUS_INVALID;
        index = index * 10 + (uint32_t)(digits[i] - '0');
    }
    if (index >= JOB_COUNT_MAX) return STATUS_INVALID;
    size_t size = (size_t)(dash - name);
    memcpy(ret_job, name, size);
    ret_job[size] = '\0';
    *ret_index = index;
    return STATUS_OK;
}
