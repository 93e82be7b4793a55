#include "node/audit.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { AUDIT_REQUEST_BYTES_MAX = 16, AUDIT_ACTION_BYTES_MAX = 31, AUDIT_RETRY_MS = 1000 };

struct audit {
    struct audit_options options;
    struct buffer waiting, writing;
    struct condition wake, idle;
    struct disk_file *file; /* NULL: not open yet */
    uint64_t size;
    uint64_t lost; /* records, since the last that was kept */
    bool busy, closing, failed;
};

/* --- lines -------------------------------------------------------------------------------------
 */

/* As the inside of a JSON string, at most SIZE_MAX_SHOWN bytes of TEXT; what is not ASCII or not
 * visible is escaped, byte by byte, so that a line is a line whatever it tells. */
static void put_text(struct writer *writer, const char *text, size_t size_max_shown)
{
    for (size_t i = 0; i < size_max_shown && text[i] != '\0'; i++) {
        unsigned char c = (unsigned char)text[i];
        char escaped[8];
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            writer_put_u8(writer, c);
            continue;
        }
        int size = snprintf(escaped, sizeof escaped, "\\u%04x", c);
        writer_put(writer, escaped, (size_t)size);
    }
}

static void put_plain(struct writer *writer, const char *text)
{
    writer_put(writer, text, strlen(text));
}

static void put_number(struct writer *writer, const char *name, uint64_t number)
{
    char text[64];
    int size = snprintf(text, sizeof text, "\"%s\":%" PRIu64 ",", name, number);
    writer_put(writer, text, (size_t)size);
}

static void put_field(struct writer *writer, const char *name, const char *text, size_t size_max)
{
    put_plain(writer, "\"");
    put_plain(writer, name);
    put_plain(writer, "\":\"");
    put_text(writer, text, size_max);
    put_plain(writer, "\",");
}

/* At most so many bytes of the principal and of each text; false: that does not fit. */
static bool put_line(struct writer *writer, const struct audit_record *record, size_t principal_max,
                     size_t text_max)
{
    char request[2 * AUDIT_REQUEST_BYTES_MAX + 1] = "";
    for (size_t i = 0; i < record->request.size && i < AUDIT_REQUEST_BYTES_MAX; i++)
        (void)snprintf(request + 2 * i, 3, "%02x", record->request.data[i]);
    put_plain(writer, "{");
    put_number(writer, "wall_ms", record->wall_ms);
    put_number(writer, "computer_time_ms", record->computer_time_ms);
    put_field(writer, "principal", record->principal, principal_max);
    put_field(writer, "capability", "", 0);
    put_field(writer, "request", request, sizeof request);
    put_field(writer, "action", record->action, AUDIT_ACTION_BYTES_MAX);
    put_field(writer, "outcome", status_name(record->outcome), AUDIT_ACTION_BYTES_MAX);
    put_field(writer, "subject", record->subject, text_max);
    put_field(writer, "text", record->text, text_max);
    if (writer->failed) return false;
    writer->used--; /* the last comma */
    put_plain(writer, "}\n");
    return !writer->failed;
}

/* An escaped byte takes six; the fields' names and numbers take less than 300. */
enum { STRANGE_PRINCIPAL_BYTES = 100, STRANGE_TEXT_BYTES = 50 };
_Static_assert(6 * (STRANGE_PRINCIPAL_BYTES + 2 * STRANGE_TEXT_BYTES + 2 * AUDIT_ACTION_BYTES_MAX) +
                       300 <
                   AUDIT_LINE_BYTES_MAX,
               "what is all escapes fits when it is cut");

size_t audit_format(const struct audit_record *record, char ret_line[AUDIT_LINE_BYTES_MAX])
{
    struct writer writer = writer_of(ret_line, AUDIT_LINE_BYTES_MAX);
    if (put_line(&writer, record, AUDIT_SUBJECT_BYTES_MAX, AUDIT_TEXT_BYTES_MAX))
        return writer.used;
    writer = writer_of(ret_line, AUDIT_LINE_BYTES_MAX);
    bool fits = put_line(&writer, record, STRANGE_PRINCIPAL_BYTES, STRANGE_TEXT_BYTES);
    assert(fits);
    return writer.used;
}

/* --- the file ----------------------------------------------------------------------------------
 */

/* A line that a power cut left torn is ended, so that the next one stands alone. */
static enum status open_file(struct audit *audit)
{
    struct disk *disk = audit->options.disk;
    enum status status = disk->open(disk, AUDIT_PATH, DISK_OPEN_CREATE, &audit->file);
    if (status != STATUS_OK) {
        audit->file = NULL;
        return status;
    }
    uint8_t last = '\n';
    size_t used = 0;
    status = disk->size(audit->file, &audit->size);
    if (status == STATUS_OK && audit->size > 0)
        status = disk->read(audit->file, audit->size - 1, &last, 1, &used);
    if (status == STATUS_OK && last != '\n') {
        status = disk->write(audit->file, audit->size, "\n", 1);
        if (status == STATUS_OK) audit->size++;
    }
    if (status == STATUS_OK) status = disk->sync_folder(disk, "");
    return status;
}

static void close_file(struct audit *audit)
{
    if (audit->file != NULL) audit->options.disk->close(audit->file);
    audit->file = NULL;
}

static enum status write_out(struct audit *audit)
{
    struct disk *disk = audit->options.disk;
    enum status status = audit->file == NULL ? open_file(audit) : STATUS_OK;
    if (status == STATUS_OK && audit->size > 0 &&
        audit->size + audit->writing.used > audit->options.file_bytes_max) {
        close_file(audit);
        status = disk->rename(disk, AUDIT_PATH, AUDIT_OLDER_PATH);
        if (status == STATUS_OK) status = open_file(audit);
    }
    if (status == STATUS_OK)
        status = disk->write(audit->file, audit->size, audit->writing.data, audit->writing.used);
    if (status == STATUS_OK) status = disk->sync(audit->file);
    if (status == STATUS_OK) {
        audit->size += audit->writing.used;
        audit->writing.used = 0;
    }
    return status;
}

static void take_waiting(struct audit *audit)
{
    struct buffer taken = audit->waiting;
    audit->waiting = audit->writing;
    audit->writing = taken;
}

/* Until nothing waits; false: it can't go on, or is cancelled. */
static bool write_all(struct audit *audit)
{
    while (audit->waiting.used > 0 || audit->writing.used > 0) {
        if (audit->writing.used == 0) take_waiting(audit);
        enum status status = write_out(audit);
        if (status == STATUS_CANCELLED) return false;
        if (status == STATUS_OK) continue;
        /* What was written in part is written again; a truncate that fails leaves a torn line. */
        if (audit->file != NULL) (void)audit->options.disk->truncate(audit->file, audit->size);
        close_file(audit);
        if (status == STATUS_FULL && !audit->closing) {
            if (fiber_sleep_ns(AUDIT_RETRY_MS * 1000000ull) != STATUS_OK) return false;
            continue;
        }
        audit->failed = true;
        char line[128];
        (void)snprintf(line, sizeof line, "the audit can't be written any more: %s",
                       status_name(status));
        audit->options.log(audit->options.context, line);
        return false;
    }
    return true;
}

static void audit_fiber(void *argument)
{
    struct audit *audit = argument;
    for (;;) {
        audit->busy = true;
        bool good = write_all(audit);
        audit->busy = false;
        condition_broadcast(&audit->idle);
        if (!good || audit->closing) break;
        if (audit->waiting.used > 0) continue;
        if (condition_wait(&audit->wake, DEADLINE_NEVER) != STATUS_OK) break;
    }
    close_file(audit);
}

/* --- for the node ------------------------------------------------------------------------------
 */

enum status audit_create(const struct audit_options *options, struct audit **ret_audit)
{
    struct audit *audit = calloc(1, sizeof *audit);
    if (audit == NULL) return STATUS_NO_MEMORY;
    audit->options = *options;
    if (audit->options.file_bytes_max == 0) audit->options.file_bytes_max = AUDIT_FILE_BYTES_MAX;
    buffer_init(&audit->waiting, AUDIT_WAITING_BYTES_MAX);
    buffer_init(&audit->writing, AUDIT_WAITING_BYTES_MAX);
    condition_init(&audit->wake);
    condition_init(&audit->idle);
    enum status status = scope_spawn(options->scope, "audit", audit_fiber, audit);
    if (status != STATUS_OK) {
        audit_destroy(audit);
        return status;
    }
    *ret_audit = audit;
    return STATUS_OK;
}

static bool append(struct audit *audit, const struct audit_record *record)
{
    char line[AUDIT_LINE_BYTES_MAX];
    size_t size = audit_format(record, line);
    return buffer_append(&audit->waiting, line, size) == STATUS_OK;
}

void audit_add(struct audit *audit, const struct audit_record *record)
{
    if (audit->failed || audit->closing) return;
    if (audit->lost > 0) {
        char text[64];
        (void)snprintf(text, sizeof text, "%" PRIu64 " records", audit->lost);
        struct audit_record gap = { .wall_ms = record->wall_ms,
                                    .computer_time_ms = record->computer_time_ms,
                                    .principal = "",
                                    .action = "lost",
                                    .subject = "audit",
                                    .outcome = STATUS_FULL,
                                    .text = text };
        if (append(audit, &gap)) audit->lost = 0;
    }
    if (audit->lost > 0 || !append(audit, record)) audit->lost++;
    condition_signal(&audit->wake);
}

void audit_finish(struct audit *audit, uint64_t deadline_ns)
{
    if (audit == NULL) return;
    audit->closing = true;
    condition_signal(&audit->wake);
    fiber_shield();
    while (!audit->failed && (audit->busy || audit->waiting.used > 0))
        if (condition_wait(&audit->idle, deadline_ns) != STATUS_OK) break;
    fiber_unshield();
}

void audit_destroy(struct audit *audit)
{
    if (audit == NULL) return;
    close_file(audit);
    buffer_finish(&audit->waiting);
    buffer_finish(&audit->writing);
    free(audit);
}
