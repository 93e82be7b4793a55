/* Each message is walked by one function for both directions, so that what is written and what is
 * read can't drift apart; ranges are judged in one place after reading and before writing. */
#include "supervise/protocol.h"

#include <assert.h>

struct codec {
    struct writer *writer; /* one of the two is NULL */
    struct reader *reader;
};

static void codec_u8(struct codec *codec, uint8_t *value)
{
    if (codec->writer != NULL) {
        writer_put_u8(codec->writer, *value);
    } else {
        *value = reader_u8(codec->reader);
    }
}

static void codec_u16(struct codec *codec, uint16_t *value)
{
    if (codec->writer != NULL) {
        writer_put_u16(codec->writer, *value);
    } else {
        *value = reader_u16(codec->reader);
    }
}

static void codec_u32(struct codec *codec, uint32_t *value)
{
    if (codec->writer != NULL) {
        writer_put_u32(codec->writer, *value);
    } else {
        *value = reader_u32(codec->reader);
    }
}

static void codec_u64(struct codec *codec, uint64_t *value)
{
    if (codec->writer != NULL) {
        writer_put_u64(codec->writer, *value);
    } else {
        *value = reader_u64(codec->reader);
    }
}

static void codec_id(struct codec *codec, struct id *id)
{
    if (codec->writer != NULL) {
        writer_put(codec->writer, id->bytes, ID_BYTES);
        return;
    }
    const uint8_t *bytes = reader_take(codec->reader, ID_BYTES);
    if (bytes != NULL) memcpy(id->bytes, bytes, ID_BYTES);
}

/* u16 size, then the bytes. */
static void codec_text(struct codec *codec, struct bytes *text)
{
    if (codec->writer != NULL) {
        if (text->size > UINT16_MAX) {
            codec->writer->failed = true;
            return;
        }
        writer_put_u16(codec->writer, (uint16_t)text->size);
        writer_put(codec->writer, text->data, text->size);
        return;
    }
    uint16_t size = reader_u16(codec->reader);
    const uint8_t *data = reader_take(codec->reader, size);
    *text = data == NULL ? bytes_of(NULL, 0) : bytes_of(data, size);
}

/* u16 count, u16 size, then the bytes. */
static void codec_strings(struct codec *codec, struct supervise_strings *strings)
{
    uint16_t count = (uint16_t)strings->count;
    codec_u16(codec, &count);
    strings->count = count;
    codec_text(codec, &strings->bytes);
}

/* u32 count, then room for all. */
static void codec_ports(struct codec *codec, uint16_t *ports, uint32_t *count)
{
    codec_u32(codec, count);
    for (size_t i = 0; i < SUPERVISE_PORTS_MAX; i++) codec_u16(codec, &ports[i]);
}

static void walk_start(struct codec *codec, struct supervise_start *start)
{
    codec_id(codec, &start->task);
    codec_u64(codec, &start->incarnation);
    codec_u32(codec, &start->flags);
    codec_u8(codec, &start->restart);
    codec_u8(codec, &start->readiness);
    codec_u8(codec, &start->stop_signal);
    codec_u8(codec, &start->restarts_limit);
    codec_u32(codec, &start->restarts_period_ms);
    codec_u32(codec, &start->backoff_base_ms);
    codec_u32(codec, &start->backoff_cap_ms);
    codec_u32(codec, &start->stable_after_ms);
    codec_u32(codec, &start->stop_grace_ms);
    codec_u32(codec, &start->start_timeout_ms);
    codec_u32(codec, &start->zombie_after_ms);
    codec_u32(codec, &start->cpu_milli);
    codec_u32(codec, &start->processes_max);
    codec_u64(codec, &start->memory_bytes);
    codec_u64(codec, &start->scratch_bytes);
    codec_u64(codec, &start->log_bytes);
    codec_u64(codec, &start->lease_until_ns);
    codec_ports(codec, start->ports, &start->port_count);
    codec_text(codec, &start->job);
    codec_text(codec, &start->name);
    codec_text(codec, &start->folder);
    codec_strings(codec, &start->argv);
    codec_strings(codec, &start->env);
    codec_strings(codec, &start->writable);
}

static void walk_task_state(struct codec *codec, struct supervise_task_state *state)
{
    codec_u64(codec, &state->sequence);
    codec_id(codec, &state->task);
    codec_u64(codec, &state->incarnation);
    codec_u8(codec, &state->state);
    codec_u8(codec, &state->up);
    codec_u8(codec, &state->exit_kind);
    codec_u32(codec, &state->exit_code);
    codec_u32(codec, &state->pid);
    codec_u32(codec, &state->host_pid);
    codec_u32(codec, &state->restarts);
    codec_u32(codec, &state->failures);
    codec_u64(codec, &state->started_at_ns);
    codec_u64(codec, &state->ended_at_ns);
    codec_u64(codec, &state->next_start_ns);
    codec_u32(codec, &state->cpu_milli);
    codec_u64(codec, &state->memory_bytes);
    codec_ports(codec, state->ports, &state->port_count);
    codec_text(codec, &state->job);
    codec_text(codec, &state->name);
    codec_text(codec, &state->reason);
}

static void walk_welcome(struct codec *codec, struct supervise_welcome *welcome)
{
    codec_u32(codec, &welcome->version);
    codec_u32(codec, &welcome->features);
    codec_u64(codec, &welcome->instance);
    codec_u64(codec, &welcome->started_at_ns);
    codec_u64(codec, &welcome->event_last);
    codec_u64(codec, &welcome->event_first);
    codec_u32(codec, &welcome->task_count);
    codec_u32(codec, &welcome->reexec_count);
    codec_text(codec, &welcome->missing);
}

/* The wire has its own numbers, since those of enum status may change between builds. */
static const uint8_t answers[STATUS_COUNT] = {
    [STATUS_OK] = 0,         [STATUS_INVALID] = 1,      [STATUS_NOT_FOUND] = 2,
    [STATUS_EXISTS] = 3,     [STATUS_CONFLICT] = 4,     [STATUS_DENIED] = 5,
    [STATUS_BUSY] = 6,       [STATUS_FULL] = 7,         [STATUS_IO] = 8,
    [STATUS_CORRUPT] = 9,    [STATUS_UNSUPPORTED] = 10, [STATUS_TIMEOUT] = 11,
    [STATUS_CANCELLED] = 12, [STATUS_UNAVAILABLE] = 13, [STATUS_CLOSED] = 14,
    [STATUS_NO_MEMORY] = 15, [STATUS_INTERNAL] = 16,
};

static void walk_result(struct codec *codec, struct supervise_result *result)
{
    uint8_t answer = codec->writer == NULL ? 0 : answers[result->status];
    codec_u8(codec, &answer);
    if (codec->reader != NULL) {
        result->status = STATUS_COUNT; /* refused below unless it is known */
        for (unsigned status = 0; status < STATUS_COUNT; status++) {
            if (answers[status] == answer) result->status = (enum status)status;
        }
    }
    codec_u64(codec, &result->value);
    codec_text(codec, &result->text);
}

static void walk_rest(struct codec *codec, struct supervise_message *message)
{
    switch (message->kind) {
    case SUPERVISE_END:
        codec_u64(codec, &message->end.count);
        codec_u64(codec, &message->end.event_last);
        break;
    case SUPERVISE_EXEC_EXITED:
        codec_u64(codec, &message->exec_exited.sequence);
        codec_id(codec, &message->exec_exited.task);
        codec_u64(codec, &message->exec_exited.exec);
        codec_u8(codec, &message->exec_exited.exit_kind);
        codec_u32(codec, &message->exec_exited.exit_code);
        break;
    case SUPERVISE_ZOMBIE_FOUND:
        codec_u64(codec, &message->zombie_found.sequence);
        codec_id(codec, &message->zombie_found.task);
        codec_u64(codec, &message->zombie_found.incarnation);
        codec_u32(codec, &message->zombie_found.parent_pid);
        codec_u32(codec, &message->zombie_found.zombie_pid);
        codec_u64(codec, &message->zombie_found.age_ms);
        codec_text(codec, &message->zombie_found.parent_name);
        break;
    case SUPERVISE_TASK_DROPPED:
        codec_u64(codec, &message->task_dropped.sequence);
        codec_id(codec, &message->task_dropped.task);
        break;
    case SUPERVISE_EXEC_SIGNAL:
        codec_u64(codec, &message->exec_signal.exec);
        codec_u8(codec, &message->exec_signal.signal);
        break;
    case SUPERVISE_RENEW_LEASE:
        codec_id(codec, &message->renew_lease.task);
        codec_u64(codec, &message->renew_lease.lease_until_ns);
        break;
    default: break; /* LIST and SHUTDOWN have no body; judged by known_kind() */
    }
}

static void walk_body(struct codec *codec, struct supervise_message *message)
{
    switch (message->kind) {
    case SUPERVISE_HELLO: codec_u32(codec, &message->hello.version); break;
    case SUPERVISE_START: walk_start(codec, &message->start); break;
    case SUPERVISE_STOP:
    case SUPERVISE_RESTART:
    case SUPERVISE_KILL:
    case SUPERVISE_DROP: codec_id(codec, &message->task.task); break;
    case SUPERVISE_REPORT_READY:
        codec_id(codec, &message->report_ready.task);
        codec_u64(codec, &message->report_ready.incarnation);
        codec_u8(codec, &message->report_ready.ready);
        codec_text(codec, &message->report_ready.reason);
        break;
    case SUPERVISE_EXEC:
        codec_id(codec, &message->exec.task);
        codec_text(codec, &message->exec.folder);
        codec_strings(codec, &message->exec.argv);
        codec_strings(codec, &message->exec.env);
        break;
    case SUPERVISE_REEXEC: codec_text(codec, &message->reexec.binary); break;
    case SUPERVISE_EVENTS_SINCE: codec_u64(codec, &message->events_since.sequence); break;
    case SUPERVISE_WELCOME: walk_welcome(codec, &message->welcome); break;
    case SUPERVISE_RESULT: walk_result(codec, &message->result); break;
    case SUPERVISE_TASK_STATE: walk_task_state(codec, &message->task_state); break;
    default: walk_rest(codec, message); break;
    }
}

static bool known_kind(unsigned kind)
{
    return (kind >= SUPERVISE_HELLO && kind <= SUPERVISE_EXEC_SIGNAL) ||
           (kind >= SUPERVISE_WELCOME && kind <= SUPERVISE_TASK_DROPPED);
}

static enum status refuse(struct error *error, const char *field, const char *what)
{
    return error_set(error, STATUS_INVALID, "%s %s", field, what);
}

static bool is_name(struct bytes text)
{
    if (text.size < 1 || text.size > LIMIT_NAME_BYTES_MAX || text.data[0] == '.') return false;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '_' || c == '.';
        if (!fine) return false;
    }
    return true;
}

static bool has_nul(struct bytes text)
{
    return text.size > 0 && memchr(text.data, 0, text.size) != NULL;
}

static bool is_path_or_empty(struct bytes path)
{
    if (path.size == 0) return true;
    return path.size <= SUPERVISE_PATH_BYTES_MAX && path.data[0] == '/' && !has_nul(path);
}

static enum status check_strings(const struct supervise_strings *strings, const char *field,
                                 uint32_t count_max, size_t size_max, struct error *error)
{
    struct bytes bytes = strings->bytes;
    if (strings->count > count_max || bytes.size > size_max)
        return refuse(error, field, "is too long");
    uint32_t nuls = 0;
    for (size_t i = 0; i < bytes.size; i++) nuls += bytes.data[i] == 0;
    if (nuls != strings->count || (bytes.size > 0 && bytes.data[bytes.size - 1] != 0))
        return refuse(error, field, "is not as many NUL-terminated strings as it says");
    return STATUS_OK;
}

static enum status check_command(struct bytes folder, const struct supervise_strings *argv,
                                 const struct supervise_strings *env, struct error *error)
{
    if (!is_path_or_empty(folder))
        return refuse(error, "folder", "is not an absolute path of at most 1023 bytes");
    enum status status = check_strings(argv, "argv", SUPERVISE_STRINGS_COUNT_MAX,
                                       SUPERVISE_STRINGS_BYTES_MAX, error);
    if (status != STATUS_OK) return status;
    if (argv->count < 1 || argv->bytes.data[0] == 0)
        return refuse(error, "argv", "names no program");
    return check_strings(env, "env", SUPERVISE_STRINGS_COUNT_MAX, SUPERVISE_STRINGS_BYTES_MAX,
                         error);
}

static enum status check_start_numbers(const struct supervise_start *start, struct error *error)
{
    if (start->restart >= SUPERVISE_RESTART_COUNT) return refuse(error, "restart", "is unknown");
    if (start->readiness >= SUPERVISE_READINESS_COUNT)
        return refuse(error, "readiness", "is unknown");
    if (start->stop_signal < 1 || start->stop_signal > 31)
        return refuse(error, "stop_signal", "is not in 1..31");
    if (start->restarts_limit < 1 || start->restarts_limit > SUPERVISE_RESTARTS_MAX)
        return refuse(error, "restarts_limit", "is not in 1..20");
    if (start->restarts_period_ms < 1) return refuse(error, "restarts_period_ms", "is 0");
    if (start->backoff_cap_ms < start->backoff_base_ms)
        return refuse(error, "backoff_cap_ms", "is below the base");
    if ((start->flags & ~(uint32_t)SUPERVISE_FLAGS_ALL) != 0)
        return refuse(error, "flags", "has an unknown bit");
    if (start->scratch_bytes < 65536) return refuse(error, "scratch_bytes", "is below 64 KiB");
    if (start->port_count > SUPERVISE_PORTS_MAX) return refuse(error, "ports", "are too many");
    const uint32_t times[] = { start->restarts_period_ms, start->backoff_cap_ms,
                               start->stable_after_ms,    start->stop_grace_ms,
                               start->start_timeout_ms,   start->zombie_after_ms };
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        if (times[i] > SUPERVISE_PERIOD_MS_MAX) return refuse(error, "a time", "is over one day");
    }
    return STATUS_OK;
}

static enum status check_start(const struct supervise_start *start, struct error *error)
{
    if (id_is_zero(&start->task)) return refuse(error, "task", "is zero");
    if (start->incarnation < 1 || start->incarnation > UINT64_MAX / 2)
        return refuse(error, "incarnation", "is out of range");
    enum status status = check_start_numbers(start, error);
    if (status != STATUS_OK) return status;
    if (!is_name(start->job)) return refuse(error, "job", "is not a name of 1 to 63 bytes");
    if (!is_name(start->name)) return refuse(error, "name", "is not a name of 1 to 63 bytes");
    status = check_command(start->folder, &start->argv, &start->env, error);
    if (status != STATUS_OK) return status;
    status = check_strings(&start->writable, "writable", SUPERVISE_WRITABLE_COUNT_MAX,
                           SUPERVISE_WRITABLE_BYTES_MAX, error);
    if (status != STATUS_OK) return status;
    for (size_t i = 0; i < start->writable.bytes.size; i++) {
        bool first = i == 0 || start->writable.bytes.data[i - 1] == 0;
        if (first && start->writable.bytes.data[i] != '/')
            return refuse(error, "writable", "has a path that is not absolute");
    }
    return STATUS_OK;
}

static enum status check_texts(struct bytes text, size_t size_max, const char *field,
                               struct error *error)
{
    if (text.size > size_max || has_nul(text))
        return refuse(error, field, "is too long or has a NUL");
    return STATUS_OK;
}

static enum status check_task_state(const struct supervise_task_state *state, struct error *error)
{
    if (state->state >= SUPERVISE_STATE_COUNT) return refuse(error, "state", "is unknown");
    if (state->up > 1) return refuse(error, "up", "is not 0 or 1");
    if (state->exit_kind >= SUPERVISE_EXIT_COUNT) return refuse(error, "exit_kind", "is unknown");
    if (state->port_count > SUPERVISE_PORTS_MAX) return refuse(error, "port_count", "is over 16");
    if (!is_name(state->job)) return refuse(error, "job", "is not a name of 1 to 63 bytes");
    if (!is_name(state->name)) return refuse(error, "name", "is not a name of 1 to 63 bytes");
    return check_texts(state->reason, SUPERVISE_REASON_BYTES_MAX, "reason", error);
}

static enum status check_body(const struct supervise_message *message, struct error *error)
{
    switch (message->kind) {
    case SUPERVISE_START: return check_start(&message->start, error);
    case SUPERVISE_EXEC:
        return check_command(message->exec.folder, &message->exec.argv, &message->exec.env, error);
    case SUPERVISE_REPORT_READY:
        if (message->report_ready.ready > 1) return refuse(error, "ready", "is not 0 or 1");
        return check_texts(message->report_ready.reason, SUPERVISE_REASON_BYTES_MAX, "reason",
                           error);
    case SUPERVISE_REEXEC:
        if (!is_path_or_empty(message->reexec.binary))
            return refuse(error, "binary", "is not an absolute path of at most 1023 bytes");
        return STATUS_OK;
    case SUPERVISE_EXEC_SIGNAL:
        if (message->exec_signal.signal < 1 || message->exec_signal.signal > 31)
            return refuse(error, "signal", "is not in 1..31");
        return STATUS_OK;
    case SUPERVISE_WELCOME:
        if ((message->welcome.features & ~(uint32_t)SUPERVISE_FEATURES_ALL) != 0)
            return refuse(error, "features", "has an unknown bit");
        return check_texts(message->welcome.missing, ERROR_TEXT_BYTES_MAX, "missing", error);
    case SUPERVISE_RESULT:
        if ((unsigned)message->result.status >= STATUS_COUNT)
            return refuse(error, "status", "is unknown");
        return check_texts(message->result.text, ERROR_TEXT_BYTES_MAX, "text", error);
    case SUPERVISE_TASK_STATE: return check_task_state(&message->task_state, error);
    case SUPERVISE_EXEC_EXITED:
        if (message->exec_exited.exit_kind >= SUPERVISE_EXIT_COUNT)
            return refuse(error, "exit_kind", "is unknown");
        return STATUS_OK;
    case SUPERVISE_ZOMBIE_FOUND:
        return check_texts(message->zombie_found.parent_name, 15, "parent_name", error);
    default: return STATUS_OK;
    }
}

enum status supervise_encode(const struct supervise_message *message, void *memory, size_t size,
                             size_t *ret_size, struct error *error)
{
    assert(known_kind(message->kind));
    enum status status = check_body(message, error);
    if (status != STATUS_OK) return status;
    struct supervise_message copy = *message; /* the walk takes what it could write to */
    struct writer writer = writer_of(memory, size);
    writer_put_u16(&writer, SUPERVISE_VERSION);
    writer_put_u16(&writer, (uint16_t)message->kind);
    writer_put_u32(&writer, 0); /* size of the body, below */
    writer_put_u64(&writer, message->request);
    struct codec codec = { .writer = &writer };
    walk_body(&codec, &copy);
    if (writer.failed || writer.used > SUPERVISE_MESSAGE_BYTES_MAX)
        return error_set(error, STATUS_FULL, "the message does not fit %zu bytes", size);
    store_u32_le((uint8_t *)memory + 4, (uint32_t)(writer.used - SUPERVISE_HEAD_BYTES));
    *ret_size = writer.used;
    return STATUS_OK;
}

enum status supervise_decode(struct bytes packet, struct supervise_message *ret_message,
                             struct error *error)
{
    struct reader reader = reader_of(packet.data, packet.size);
    uint16_t version = reader_u16(&reader);
    uint16_t kind = reader_u16(&reader);
    uint32_t body_size = reader_u32(&reader);
    struct supervise_message message = { .request = reader_u64(&reader) };
    if (reader.failed) return refuse(error, "the packet", "is shorter than its head of 16 bytes");
    if (version != SUPERVISE_VERSION)
        return error_set(error, STATUS_UNSUPPORTED, "protocol version %u is not known, only %d",
                         version, SUPERVISE_VERSION);
    if (!known_kind(kind)) return refuse(error, "the kind", "of the message is unknown");
    if (packet.size > SUPERVISE_MESSAGE_BYTES_MAX ||
        body_size != packet.size - SUPERVISE_HEAD_BYTES)
        return refuse(error, "the body's size", "differs from the packet's");
    message.kind = (enum supervise_kind)kind;
    struct codec codec = { .reader = &reader };
    walk_body(&codec, &message);
    if (reader.failed) return refuse(error, "the body", "ends inside a field");
    if (reader_left(&reader) != 0) return refuse(error, "the body", "is longer than its fields");
    enum status status = check_body(&message, error);
    if (status != STATUS_OK) return status;
    *ret_message = message;
    return STATUS_OK;
}

const char *supervise_state_name(unsigned state)
{
    static const char *const names[SUPERVISE_STATE_COUNT] = {
        [SUPERVISE_PENDING] = "pending",   [SUPERVISE_STARTING] = "starting",
        [SUPERVISE_RUNNING] = "running",   [SUPERVISE_READY] = "ready",
        [SUPERVISE_STOPPING] = "stopping", [SUPERVISE_BACKOFF] = "backoff",
        [SUPERVISE_HELD] = "held",         [SUPERVISE_FAILED] = "failed",
        [SUPERVISE_STOPPED] = "stopped",   [SUPERVISE_DONE] = "done",
    };
    return state < SUPERVISE_STATE_COUNT ? names[state] : "?";
}

enum status supervise_strings_add(struct supervise_strings *strings, char *memory, size_t size,
                                  const char *text)
{
    size_t used = strings->bytes.size;
    size_t length = strlen(text) + 1;
    if (used > size || length > size - used) return STATUS_FULL;
    memcpy(memory + used, text, length);
    *strings = (struct supervise_strings) { .bytes = bytes_of(memory, used + length),
                                            .count = strings->count + 1 };
    return STATUS_OK;
}

void supervise_strings_point(const struct supervise_strings *strings, const char **ret_pointers,
                             size_t room)
{
    assert(room > strings->count);
    size_t at = 0;
    for (uint32_t i = 0; i < strings->count; i++) {
        ret_pointers[i] = (const char *)strings->bytes.data + at;
        at += strlen(ret_pointers[i]) + 1;
    }
    assert(at == strings->bytes.size);
    ret_pointers[strings->count] = NULL;
}

struct supervise_start supervise_start_defaults(void)
{
    return (struct supervise_start) {
        .incarnation = 1,
        .stop_signal = 15,
        .restarts_limit = 5,
        .restarts_period_ms = 60000,
        .backoff_base_ms = 100,
        .backoff_cap_ms = 10000,
        .stable_after_ms = 10000,
        .stop_grace_ms = 10000,
        .start_timeout_ms = 60000,
        .zombie_after_ms = 5000,
        .scratch_bytes = 64u << 20,
    };
}
