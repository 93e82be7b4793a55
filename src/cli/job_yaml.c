#include "cli/job_yaml.h"

#include "base/closest.h"
#include "base/parse.h"
#include "schedule/job.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

enum { CPU_MILLI_MAX = 1024 * 1000, KEYS_MAX = 24, PATH_BYTES_MAX = JOB_FIELD_BYTES_MAX };

struct loader {
    const char *name; /* of the file */
    struct arena *arena;
    struct error *error;
    char path[PATH_BYTES_MAX]; /* of the field being read */
};

/* Reads one value into TARGET. */
typedef enum status load_value(struct loader *loader, const struct yaml_node *node, void *target);

struct key {
    const char *name;
    load_value *load;
};

static enum status __attribute__((format(printf, 3, 4)))
refuse(struct loader *loader, const struct yaml_node *node, const char *format, ...)
{
    char text[ERROR_TEXT_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return error_set(loader->error, STATUS_INVALID, "%s: line %u, column %u: %s%s%s", loader->name,
                     node->line, node->column, loader->path, loader->path[0] == '\0' ? "" : ": ",
                     text);
}

/* Go one level down the path; path_leave with what this returned goes back. */
static size_t path_enter(struct loader *loader, const char *name)
{
    size_t used = strlen(loader->path);
    (void)snprintf(loader->path + used, sizeof loader->path - used, "%s%.60s", used == 0 ? "" : ".",
                   name);
    return used;
}

static void path_leave(struct loader *loader, size_t used)
{
    loader->path[used] = '\0';
}

static enum status refuse_unknown(struct loader *loader, const struct yaml_node *key,
                                  const struct key *keys, size_t count)
{
    const char *names[KEYS_MAX] = { NULL };
    assert(count <= KEYS_MAX);
    for (size_t i = 0; i < count; i++) names[i] = keys[i].name;
    const char *closest = closest_word(key->text, names, count);
    if (closest != NULL)
        return refuse(loader, key, "unknown key \"%.60s\"; did you mean %s?", key->text, closest);
    char list[256];
    size_t used = 0;
    for (size_t i = 0; i < count && used < sizeof list; i++) {
        int wrote = snprintf(list + used, sizeof list - used, "%s%s", i == 0 ? "" : ", ", names[i]);
        used += wrote < 0 ? 0 : (size_t)wrote;
    }
    return refuse(loader, key, "unknown key \"%.60s\"; known are: %s", key->text, list);
}

static enum status load_map(struct loader *loader, const struct yaml_node *node,
                            const struct key *keys, size_t count, void *target)
{
    if (node->kind != YAML_MAP)
        return refuse(loader, node, "must be a mapping of keys and values, one in each line");
    for (const struct yaml_node *key = node->first; key != NULL; key = key->next->next) {
        const struct key *known = NULL;
        for (size_t i = 0; i < count && known == NULL; i++)
            if (strcmp(keys[i].name, key->text) == 0) known = &keys[i];
        if (known == NULL) return refuse_unknown(loader, key, keys, count);
        size_t used = path_enter(loader, known->name);
        enum status status = known->load(loader, key->next, target);
        if (status != STATUS_OK) return status;
        path_leave(loader, used);
    }
    return STATUS_OK;
}
#define LOAD_MAP(loader, node, keys, target)                                                       \
    load_map(loader, node, keys, sizeof(keys) / sizeof(keys)[0], target)

/* --- scalars ------------------------------------------------------------------------------------
 */

static enum status load_text(struct loader *loader, const struct yaml_node *node, char **ret_text)
{
    if (node->kind != YAML_SCALAR) return refuse(loader, node, "must be a text");
    char *text = arena_copy_text(loader->arena, node->text, node->text_size);
    if (text == NULL) return STATUS_NO_MEMORY;
    *ret_text = text;
    return STATUS_OK;
}

static const char *scalar_of(const struct yaml_node *node)
{
    return node->kind == YAML_SCALAR ? node->text : "";
}

static enum status load_number(struct loader *loader, const struct yaml_node *node, uint64_t max,
                               uint64_t *ret_value)
{
    if (parse_u64(scalar_of(node), max, ret_value) == STATUS_OK) return STATUS_OK;
    return refuse(loader, node, "must be a whole number from 0 to %llu, is \"%.40s\"",
                  (unsigned long long)max, scalar_of(node));
}

static enum status load_u32(struct loader *loader, const struct yaml_node *node,
                            uint32_t *ret_value)
{
    uint64_t value = 0;
    enum status status = load_number(loader, node, UINT32_MAX, &value);
    if (status == STATUS_OK) *ret_value = (uint32_t)value;
    return status;
}

static enum status load_duration(struct loader *loader, const struct yaml_node *node,
                                 uint64_t *ret_ms)
{
    if (parse_duration_ms(scalar_of(node), JOB_PERIOD_MS_MAX, ret_ms) == STATUS_OK)
        return STATUS_OK;
    return refuse(loader, node, "must be a time like 250ms, 10s or 5m, at most 24h, is \"%.40s\"",
                  scalar_of(node));
}

static enum status load_size(struct loader *loader, const struct yaml_node *node,
                             uint64_t *ret_bytes)
{
    if (parse_size_bytes(scalar_of(node), UINT64_MAX >> 1, ret_bytes) == STATUS_OK)
        return STATUS_OK;
    return refuse(loader, node, "must be a size like 512Ki, 64Mi or 2Gi, is \"%.40s\"",
                  scalar_of(node));
}

/* A duration or number that is written may not be 0 where 0 would mean the default. */
static enum status load_positive_duration(struct loader *loader, const struct yaml_node *node,
                                          uint64_t *ret_ms)
{
    uint64_t ms = 0;
    enum status status = load_duration(loader, node, &ms);
    if (status != STATUS_OK) return status;
    if (ms == 0) return refuse(loader, node, "must be more than 0");
    *ret_ms = ms;
    return STATUS_OK;
}

static enum status load_positive_u32(struct loader *loader, const struct yaml_node *node,
                                     uint32_t *ret_value)
{
    uint32_t value = 0;
    enum status status = load_u32(loader, node, &value);
    if (status != STATUS_OK) return status;
    if (value == 0) return refuse(loader, node, "must be more than 0");
    *ret_value = value;
    return STATUS_OK;
}

static enum status load_positive_size(struct loader *loader, const struct yaml_node *node,
                                      uint64_t *ret_bytes)
{
    uint64_t size = 0;
    enum status status = load_size(loader, node, &size);
    if (status != STATUS_OK) return status;
    if (size == 0) return refuse(loader, node, "must be more than 0");
    *ret_bytes = size;
    return STATUS_OK;
}

static enum status load_choice(struct loader *loader, const struct yaml_node *node,
                               const char *const *choices, size_t count, unsigned *ret_choice)
{
    const char *text = scalar_of(node);
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(text, choices[i]) != 0) continue;
        *ret_choice = i;
        return STATUS_OK;
    }
    char list[128];
    size_t used = 0;
    for (size_t i = 0; i < count && used < sizeof list; i++) {
        const char *glue = i == 0 ? "" : i + 1 == count ? " or " : ", ";
        int wrote = snprintf(list + used, sizeof list - used, "%s%s", glue, choices[i]);
        used += wrote < 0 ? 0 : (size_t)wrote;
    }
    const char *closest = closest_word(text, choices, count);
    return refuse(loader, node, "must be %s, is \"%.40s\"%s%s%s", list, text,
                  closest ? "; did you mean " : "", closest ? closest : "", closest ? "?" : "");
}

static enum status load_texts(struct loader *loader, const struct yaml_node *node,
                              char ***ret_texts, size_t *ret_count)
{
    if (node->kind != YAML_LIST)
        return refuse(loader, node,
                      "must be a list like [nginx, -g, \"daemon off;\"]; a line for the shell is "
                      "[sh, -c, \"...\"]");
    char **texts = arena_take(loader->arena, (node->count + 1) * sizeof *texts);
    if (texts == NULL) return STATUS_NO_MEMORY;
    size_t count = 0;
    for (const struct yaml_node *item = node->first; item != NULL; item = item->next) {
        enum status status = load_text(loader, item, &texts[count]);
        if (status != STATUS_OK) return status;
        count++;
    }
    *ret_texts = texts;
    *ret_count = count;
    return STATUS_OK;
}

/* --- parts of a job -----------------------------------------------------------------------------
 * Each takes the job, or the part, as TARGET. */

static enum status load_cpu(struct loader *loader, const struct yaml_node *node, void *target)
{
    Unum__V1__Resources *resources = target;
    uint64_t milli = 0;
    if (parse_cpu_milli(scalar_of(node), CPU_MILLI_MAX, &milli) != STATUS_OK)
        return refuse(loader, node,
                      "must be a number of cores like 0.5, 2 or 250m, at most 1024, is \"%.40s\"",
                      scalar_of(node));
    resources->cpu_milli = milli;
    resources->cpu_unreserved = milli == 0;
    return STATUS_OK;
}

static enum status load_memory(struct loader *loader, const struct yaml_node *node, void *target)
{
    return load_positive_size(loader, node, &((Unum__V1__Resources *)target)->memory_bytes);
}

static enum status load_processes(struct loader *loader, const struct yaml_node *node, void *target)
{
    uint32_t processes = 0;
    enum status status = load_positive_u32(loader, node, &processes);
    if (status == STATUS_OK) ((Unum__V1__Resources *)target)->processes = processes;
    return status;
}

static enum status load_resources(struct loader *loader, const struct yaml_node *node, void *target)
{
    static const struct key keys[] = { { "cpu", load_cpu },
                                       { "memory", load_memory },
                                       { "processes", load_processes } };
    Unum__V1__Resources *resources = arena_take(loader->arena, sizeof *resources);
    if (resources == NULL) return STATUS_NO_MEMORY;
    unum__v1__resources__init(resources);
    ((Unum__V1__Job *)target)->resources = resources;
    return LOAD_MAP(loader, node, keys, resources);
}

static const char *const policies[] = { "permanent", "transient", "temporary" };

static enum status load_policy(struct loader *loader, const struct yaml_node *node, void *target)
{
    unsigned policy = 0;
    enum status status = load_choice(loader, node, policies, 3, &policy);
    if (status == STATUS_OK)
        ((Unum__V1__Restart *)target)->policy = (Unum__V1__Restart__Policy)policy;
    return status;
}

static enum status load_burst(struct loader *loader, const struct yaml_node *node, void *target)
{
    return load_positive_u32(loader, node, &((Unum__V1__Restart *)target)->burst);
}

static enum status load_period(struct loader *loader, const struct yaml_node *node, void *target)
{
    return load_positive_duration(loader, node, &((Unum__V1__Restart *)target)->period_ms);
}

static enum status load_backoff(struct loader *loader, const struct yaml_node *node, void *target)
{
    return load_duration(loader, node, &((Unum__V1__Restart *)target)->backoff_ms);
}

static enum status load_backoff_max(struct loader *loader, const struct yaml_node *node,
                                    void *target)
{
    return load_positive_duration(loader, node, &((Unum__V1__Restart *)target)->backoff_max_ms);
}

static enum status load_stable(struct loader *loader, const struct yaml_node *node, void *target)
{
    return load_positive_duration(loader, node, &((Unum__V1__Restart *)target)->stable_ms);
}

static enum status load_restart(struct loader *loader, const struct yaml_node *node, void *target)
{
    static const struct key keys[] = {
        { "policy", load_policy },           { "burst", load_burst },
        { "period", load_period },           { "backoff", load_backoff },
        { "backoff_max", load_backoff_max }, { "stable", load_stable },
    };
    Unum__V1__Restart *restart = arena_take(loader->arena, sizeof *restart);
    if (restart == NULL) return STATUS_NO_MEMORY;
    unum__v1__restart__init(restart);
    ((Unum__V1__Job *)target)->restart = restart;
    if (node->kind == YAML_SCALAR) return load_policy(loader, node, restart);
    return LOAD_MAP(loader, node, keys, restart);
}

static enum status load_signal(struct loader *loader, const struct yaml_node *node, void *target)
{
    return load_text(loader, node, &((Unum__V1__Stop *)target)->signal);
}

static enum status load_grace(struct loader *loader, const struct yaml_node *node, void *target)
{
    return load_positive_duration(loader, node, &((Unum__V1__Stop *)target)->grace_ms);
}

static enum status load_stop(struct loader *loader, const struct yaml_node *node, void *target)
{
    static const struct key keys[] = { { "signal", load_signal }, { "grace", load_grace } };
    Unum__V1__Stop *stop = arena_take(loader->arena, sizeof *stop);
    if (stop == NULL) return STATUS_NO_MEMORY;
    unum__v1__stop__init(stop);
    ((Unum__V1__Job *)target)->stop = stop;
    return LOAD_MAP(loader, node, keys, stop);
}

static enum status set_probe_kind(struct loader *loader, const struct yaml_node *node,
                                  Unum__V1__Probe *probe, Unum__V1__Probe__Kind kind)
{
    if (probe->kind != UNUM__V1__PROBE__KIND__NONE)
        return refuse(loader, node, "only one of tcp, http, command and notify can be asked");
    probe->kind = kind;
    return STATUS_OK;
}

static enum status load_tcp(struct loader *loader, const struct yaml_node *node, void *target)
{
    enum status status = set_probe_kind(loader, node, target, UNUM__V1__PROBE__KIND__TCP);
    return status == STATUS_OK ? load_text(loader, node, &((Unum__V1__Probe *)target)->port)
                               : status;
}

/* "PORT" or "PORT/path". */
static enum status load_http(struct loader *loader, const struct yaml_node *node, void *target)
{
    Unum__V1__Probe *probe = target;
    char *text = NULL;
    enum status status = set_probe_kind(loader, node, probe, UNUM__V1__PROBE__KIND__HTTP);
    if (status == STATUS_OK) status = load_text(loader, node, &text);
    if (status != STATUS_OK) return status;
    assert(text != NULL);
    size_t size = strcspn(text, "/");
    if (text[size] == '/') {
        probe->path = arena_copy_text(loader->arena, text + size, strlen(text + size));
        if (probe->path == NULL) return STATUS_NO_MEMORY;
    }
    text[size] = '\0';
    probe->port = text;
    return STATUS_OK;
}

static enum status load_probe_command(struct loader *loader, const struct yaml_node *node,
                                      void *target)
{
    Unum__V1__Probe *probe = target;
    enum status status = set_probe_kind(loader, node, probe, UNUM__V1__PROBE__KIND__COMMAND);
    return status == STATUS_OK ? load_texts(loader, node, &probe->command, &probe->n_command)
                               : status;
}

static enum status load_notify(struct loader *loader, const struct yaml_node *node, void *target)
{
    if (strcmp(scalar_of(node), "true") != 0)
        return refuse(loader, node, "must be true, or be left out");
    return set_probe_kind(loader, node, target, UNUM__V1__PROBE__KIND__NOTIFY);
}

static enum status load_interval(struct loader *loader, const struct yaml_node *node, void *target)
{
    return load_positive_duration(loader, node, &((Unum__V1__Probe *)target)->interval_ms);
}

static enum status load_timeout(struct loader *loader, const struct yaml_node *node, void *target)
{
    return load_positive_duration(loader, node, &((Unum__V1__Probe *)target)->timeout_ms);
}

static enum status load_failures(struct loader *loader, const struct yaml_node *node, void *target)
{
    return load_positive_u32(loader, node, &((Unum__V1__Probe *)target)->failures);
}

static enum status load_start_timeout(struct loader *loader, const struct yaml_node *node,
                                      void *target)
{
    return load_positive_duration(loader, node, &((Unum__V1__Probe *)target)->start_timeout_ms);
}

static enum status load_ready(struct loader *loader, const struct yaml_node *node, void *target)
{
    static const struct key keys[] = {
        { "tcp", load_tcp },
        { "http", load_http },
        { "command", load_probe_command },
        { "notify", load_notify },
        { "interval", load_interval },
        { "timeout", load_timeout },
        { "failures", load_failures },
        { "start_timeout", load_start_timeout },
    };
    static const char *const words[] = { "none", "notify" };
    Unum__V1__Probe *probe = arena_take(loader->arena, sizeof *probe);
    if (probe == NULL) return STATUS_NO_MEMORY;
    unum__v1__probe__init(probe);
    ((Unum__V1__Job *)target)->ready = probe;
    if (node->kind == YAML_SCALAR) {
        unsigned choice = 0;
        enum status status = load_choice(loader, node, words, 2, &choice);
        if (status == STATUS_OK) probe->kind = (Unum__V1__Probe__Kind)choice;
        return status;
    }
    return LOAD_MAP(loader, node, keys, probe);
}

static enum status load_network(struct loader *loader, const struct yaml_node *node, void *target)
{
    static const char *const words[] = { "host", "private" };
    unsigned choice = 0;
    enum status status = load_choice(loader, node, words, 2, &choice);
    if (status == STATUS_OK) ((Unum__V1__Job *)target)->private_network = choice == 1;
    return status;
}

enum status job_yaml_parse_port(const char *text, uint32_t *ret_port, uint32_t *ret_step)
{
    char digits[12];
    size_t size = strcspn(text, "+");
    if (size >= sizeof digits) return STATUS_INVALID;
    memcpy(digits, text, size);
    digits[size] = '\0';
    uint64_t port, step = 0;
    if (parse_u64(digits, 65535, &port) != STATUS_OK) return STATUS_INVALID;
    if (text[size] == '+') {
        step = 1;
        if (text[size + 1] != '\0' &&
            parse_u64(text + size + 1, JOB_PORT_STEP_MAX, &step) != STATUS_OK)
            return STATUS_INVALID;
    }
    *ret_port = (uint32_t)port;
    *ret_step = (uint32_t)step;
    return STATUS_OK;
}

/* The keys of these maps are the user's: a function that is called for each pair. */
static enum status load_port(struct loader *loader, const struct yaml_node *key,
                             Unum__V1__Port **ret_port)
{
    Unum__V1__Port *port = arena_take(loader->arena, sizeof *port);
    if (port == NULL) return STATUS_NO_MEMORY;
    unum__v1__port__init(port);
    enum status status = load_text(loader, key, &port->name);
    if (status != STATUS_OK) return status;
    if (job_yaml_parse_port(scalar_of(key->next), &port->port, &port->step) != STATUS_OK)
        return refuse(loader, key->next,
                      "must be a port like 8081, or 8081+ for one more in each task, is \"%.40s\"",
                      scalar_of(key->next));
    *ret_port = port;
    return STATUS_OK;
}

static enum status check_is_map(struct loader *loader, const struct yaml_node *node,
                                const char *example)
{
    if (node->kind == YAML_MAP) return STATUS_OK;
    return refuse(loader, node, "must be a mapping like \"%s\"", example);
}

static enum status load_ports(struct loader *loader, const struct yaml_node *node, void *target)
{
    Unum__V1__Job *job = target;
    enum status status = check_is_map(loader, node, "http: 8081+");
    if (status != STATUS_OK) return status;
    job->ports = arena_take(loader->arena, node->count * sizeof(void *));
    if (job->ports == NULL) return STATUS_NO_MEMORY;
    for (const struct yaml_node *key = node->first; key != NULL; key = key->next->next) {
        size_t used = path_enter(loader, key->text);
        status = load_port(loader, key, &job->ports[job->n_ports]);
        if (status != STATUS_OK) return status;
        job->n_ports++;
        path_leave(loader, used);
    }
    return STATUS_OK;
}

static enum status load_environment(struct loader *loader, const struct yaml_node *node,
                                    void *target)
{
    Unum__V1__Job *job = target;
    enum status status = check_is_map(loader, node, "NAME: value");
    if (status != STATUS_OK) return status;
    job->environment = arena_take(loader->arena, node->count * sizeof(void *));
    if (job->environment == NULL) return STATUS_NO_MEMORY;
    for (const struct yaml_node *key = node->first; key != NULL; key = key->next->next) {
        size_t used = path_enter(loader, key->text);
        Unum__V1__Job__EnvironmentEntry *entry = arena_take(loader->arena, sizeof *entry);
        if (entry == NULL) return STATUS_NO_MEMORY;
        unum__v1__job__environment_entry__init(entry);
        status = load_text(loader, key, &entry->key);
        if (status == STATUS_OK) status = load_text(loader, key->next, &entry->value);
        if (status != STATUS_OK) return status;
        job->environment[job->n_environment++] = entry;
        path_leave(loader, used);
    }
    return STATUS_OK;
}

static enum status load_labels(struct loader *loader, const struct yaml_node *node, void *target)
{
    Unum__V1__Job *job = target;
    enum status status = check_is_map(loader, node, "tier: front");
    if (status != STATUS_OK) return status;
    job->labels = arena_take(loader->arena, node->count * sizeof(void *));
    if (job->labels == NULL) return STATUS_NO_MEMORY;
    for (const struct yaml_node *key = node->first; key != NULL; key = key->next->next) {
        size_t used = path_enter(loader, key->text);
        Unum__V1__Job__LabelsEntry *entry = arena_take(loader->arena, sizeof *entry);
        if (entry == NULL) return STATUS_NO_MEMORY;
        unum__v1__job__labels_entry__init(entry);
        status = load_text(loader, key, &entry->key);
        if (status == STATUS_OK) status = load_text(loader, key->next, &entry->value);
        if (status != STATUS_OK) return status;
        job->labels[job->n_labels++] = entry;
        path_leave(loader, used);
    }
    return STATUS_OK;
}

static enum status load_scratch(struct loader *loader, const struct yaml_node *node, void *target)
{
    Unum__V1__Job *job = target;
    enum status status = check_is_map(loader, node, "/tmp: 16Mi");
    if (status != STATUS_OK) return status;
    job->scratch = arena_take(loader->arena, node->count * sizeof(void *));
    if (job->scratch == NULL) return STATUS_NO_MEMORY;
    for (const struct yaml_node *key = node->first; key != NULL; key = key->next->next) {
        size_t used = path_enter(loader, key->text);
        Unum__V1__Scratch *scratch = arena_take(loader->arena, sizeof *scratch);
        if (scratch == NULL) return STATUS_NO_MEMORY;
        unum__v1__scratch__init(scratch);
        status = load_text(loader, key, &scratch->path);
        if (status == STATUS_OK)
            status = load_positive_size(loader, key->next, &scratch->size_bytes);
        if (status != STATUS_OK) return status;
        job->scratch[job->n_scratch++] = scratch;
        path_leave(loader, used);
    }
    return STATUS_OK;
}

static enum status load_file_content(struct loader *loader, const struct yaml_node *node,
                                     void *target)
{
    Unum__V1__File *file = target;
    char *text = NULL;
    enum status status = load_text(loader, node, &text);
    if (status != STATUS_OK) return status;
    file->content.data = (uint8_t *)text;
    file->content.len = node->text_size;
    return STATUS_OK;
}

static enum status load_file_mode(struct loader *loader, const struct yaml_node *node, void *target)
{
    const char *text = scalar_of(node);
    size_t size = strlen(text);
    uint32_t mode = 0;
    bool good = size >= 3 && size <= 4 && (size == 3 || text[0] == '0');
    for (size_t i = 0; good && i < size; i++) {
        good = text[i] >= '0' && text[i] <= '7';
        mode = mode * 8 + (uint32_t)(text[i] - '0');
    }
    if (!good || mode == 0)
        return refuse(loader, node, "must be octal like 0444 or 0755, is \"%.40s\"", text);
    ((Unum__V1__File *)target)->mode = mode;
    return STATUS_OK;
}

static enum status load_files(struct loader *loader, const struct yaml_node *node, void *target)
{
    static const struct key keys[] = { { "content", load_file_content },
                                       { "mode", load_file_mode } };
    Unum__V1__Job *job = target;
    enum status status = check_is_map(loader, node, "/etc/web.conf: content");
    if (status != STATUS_OK) return status;
    job->files = arena_take(loader->arena, node->count * sizeof(void *));
    if (job->files == NULL) return STATUS_NO_MEMORY;
    for (const struct yaml_node *key = node->first; key != NULL; key = key->next->next) {
        size_t used = path_enter(loader, key->text);
        Unum__V1__File *file = arena_take(loader->arena, sizeof *file);
        if (file == NULL) return STATUS_NO_MEMORY;
        unum__v1__file__init(file);
        status = load_text(loader, key, &file->path);
        if (status == STATUS_OK)
            status = key->next->kind == YAML_MAP ? LOAD_MAP(loader, key->next, keys, file)
                                                 : load_file_content(loader, key->next, file);
        if (status != STATUS_OK) return status;
        job->files[job->n_files++] = file;
        path_leave(loader, used);
    }
    return STATUS_OK;
}

static enum status load_name(struct loader *loader, const struct yaml_node *node, void *target)
{
    return load_text(loader, node, &((Unum__V1__Job *)target)->name);
}

static enum status load_project(struct loader *loader, const struct yaml_node *node, void *target)
{
    return load_text(loader, node, &((Unum__V1__Job *)target)->project);
}

static enum status load_count(struct loader *loader, const struct yaml_node *node, void *target)
{
    uint64_t count = 0;
    enum status status = load_number(loader, node, JOB_COUNT_MAX, &count);
    if (status == STATUS_OK) ((Unum__V1__Job *)target)->count = (uint32_t)count;
    return status;
}

static enum status load_command(struct loader *loader, const struct yaml_node *node, void *target)
{
    Unum__V1__Job *job = target;
    return load_texts(loader, node, &job->command, &job->n_command);
}

static enum status load_directory(struct loader *loader, const struct yaml_node *node, void *target)
{
    return load_text(loader, node, &((Unum__V1__Job *)target)->working_directory);
}

static const struct key job_keys[] = {
    { "name", load_name },
    { "project", load_project },
    { "count", load_count },
    { "command", load_command },
    { "environment", load_environment },
    { "directory", load_directory },
    { "resources", load_resources },
    { "ports", load_ports },
    { "restart", load_restart },
    { "stop", load_stop },
    { "ready", load_ready },
    { "network", load_network },
    { "scratch", load_scratch },
    { "labels", load_labels },
    { "files", load_files },
};

/* The node that a refusal of job_validate means: as far down FIELD as the file goes. Names of
 * ports and paths may hold dots, so the longest key that fits is taken. */
static const struct yaml_node *node_of_field(const struct yaml_node *document, const char *field)
{
    const struct yaml_node *node = document;
    while (field[0] != '\0' && node->kind == YAML_MAP) {
        const struct yaml_node *found = NULL;
        size_t found_size = 0;
        for (const struct yaml_node *key = node->first; key != NULL; key = key->next->next) {
            size_t size = key->text_size;
            if (strncmp(field, key->text, size) != 0 || size < found_size) continue;
            if (field[size] != '\0' && field[size] != '.') continue;
            found = key->next;
            found_size = size;
        }
        if (found == NULL) break;
        node = found;
        field += found_size;
        if (field[0] == '.') field++;
    }
    return node;
}

static enum status load_job(struct loader *loader, const struct yaml_node *document,
                            Unum__V1__Job **ret_job)
{
    Unum__V1__Job *job = arena_take(loader->arena, sizeof *job);
    if (job == NULL) return STATUS_NO_MEMORY;
    unum__v1__job__init(job);
    job->count = 1;
    loader->path[0] = '\0';
    enum status status = LOAD_MAP(loader, document, job_keys, job);
    if (status != STATUS_OK) return status;
    struct job_refusal refusal;
    status = job_validate(job, NULL, &refusal);
    if (status != STATUS_OK) {
        (void)snprintf(loader->path, sizeof loader->path, "%s", refusal.field);
        return refuse(loader, node_of_field(document, refusal.field), "%s", refusal.text);
    }
    job_canonicalize(job);
    *ret_job = job;
    return STATUS_OK;
}

enum status job_yaml_load(const char *name, struct bytes bytes, struct arena *arena,
                          struct job_list *ret_list, struct error *error)
{
    struct yaml_documents *documents;
    enum status status = yaml_load(name, bytes, arena, &documents, error);
    if (status != STATUS_OK) return status;
    if (documents->count == 0)
        return error_set(error, STATUS_INVALID,
                         "%s: no job in it; a job begins with name: and "
                         "command:",
                         name);
    struct loader loader = { .name = name, .arena = arena, .error = error };
    struct job_list list = { .jobs = arena_take(arena, documents->count * sizeof(void *)) };
    if (list.jobs == NULL) return STATUS_NO_MEMORY;
    for (size_t i = 0; i < documents->count; i++) {
        Unum__V1__Job *job = NULL;
        status = load_job(&loader, documents->items[i], &job);
        if (status != STATUS_OK) return status;
        assert(job != NULL);
        for (size_t k = 0; k < list.count; k++) {
            if (strcmp(list.jobs[k]->name, job->name) != 0 ||
                strcmp(list.jobs[k]->project, job->project) != 0)
                continue;
            loader.path[0] = '\0';
            return refuse(&loader, documents->items[i], "the job %s is in this file twice",
                          job->name);
        }
        list.jobs[list.count++] = job;
    }
    *ret_list = list;
    return STATUS_OK;
}
