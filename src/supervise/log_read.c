#include "supervise/log_read.h"

#include "supervise/log_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SEGMENTS_LISTED_MAX = 64,
    BUFFER_BYTES = 64 * 1024,
    NO_FILE = -1,
};

/* The parts of a line that goes on, of one stream. */
struct part {
    uint64_t incarnation;
    uint64_t position; /* where it began */
    size_t size;
    bool under_way;
    uint8_t text[LOG_LINE_BYTES_MAX];
};

struct log_reader {
    int folder;
    int file;          /* segment under the position; NO_FILE: none is open */
    uint64_t base;     /* its base */
    uint64_t position; /* next record */
    uint64_t missed_bytes;
    uint64_t buffer_at; /* position of the buffer's first byte */
    size_t buffer_size;
    uint8_t buffer[BUFFER_BYTES];
    uint8_t line[LOG_LINE_BYTES_MAX];
    struct part parts[2];
};

_Static_assert((int)BUFFER_BYTES > LOG_RECORD_HEAD_BYTES + LOG_LINE_BYTES_MAX,
               "the buffer holds the largest record");

enum status log_reader_open(const char *logs, const char *job, const char *task,
                            struct log_reader **ret_reader, struct error *error)
{
    char path[4096 - 512];
    int length = snprintf(path, sizeof path, "%s/%s/%s", logs, job, task);
    if (length < 0 || (size_t)length >= sizeof path)
        return error_set(error, STATUS_INVALID, "the path of the logs is too long");
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return error_set(error, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO,
                         "no log of task %s of job %s: %s", task, job, strerror(errno));
    struct log_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL) {
        (void)close(folder);
        return error_set(error, STATUS_NO_MEMORY, "no memory to read a log");
    }
    reader->folder = folder;
    reader->file = NO_FILE;
    log_reader_seek(reader, 0);
    reader->missed_bytes = 0; /* what was dropped before we came is nobody's surprise */
    *ret_reader = reader;
    return STATUS_OK;
}

void log_reader_close(struct log_reader *reader)
{
    if (reader == NULL) return;
    if (reader->file != NO_FILE) (void)close(reader->file);
    (void)close(reader->folder);
    free(reader);
}

static void leave_segment(struct log_reader *reader)
{
    if (reader->file != NO_FILE) (void)close(reader->file);
    reader->file = NO_FILE;
    reader->buffer_size = 0;
}

static bool enter_segment(struct log_reader *reader, uint64_t base)
{
    char name[LOG_NAME_BYTES];
    uint8_t head[LOG_SEGMENT_HEAD_BYTES];
    uint64_t told = 0;
    (void)snprintf(name, sizeof name, "%016llx.log", (unsigned long long)base);
    int file = openat(reader->folder, name, O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    if (pread(file, head, sizeof head, 0) != (ssize_t)sizeof head ||
        log_segment_decode(bytes_of(head, sizeof head), &told) != STATUS_OK || told != base) {
        (void)close(file);
        return false;
    }
    leave_segment(reader);
    reader->file = file;
    reader->base = base;
    return true;
}

void log_reader_seek(struct log_reader *reader, uint64_t position)
{
    uint64_t bases[SEGMENTS_LISTED_MAX];
    size_t count = log_list_segments(reader->folder, bases, SEGMENTS_LISTED_MAX);
    leave_segment(reader);
    reader->position = position;
    reader->parts[0].under_way = reader->parts[1].under_way = false;
    for (size_t i = count; i > 0; i--) {
        if (bases[i - 1] <= position && enter_segment(reader, bases[i - 1])) return;
    }
    for (size_t i = 0; i < count; i++) {
        if (bases[i] < position || !enter_segment(reader, bases[i])) continue;
        reader->missed_bytes += bases[i] - position;
        reader->position = bases[i];
        return;
    }
}

/* Go on in the segment behind this one. False: there is none yet. */
static bool next_segment(struct log_reader *reader)
{
    uint64_t bases[SEGMENTS_LISTED_MAX];
    size_t count = log_list_segments(reader->folder, bases, SEGMENTS_LISTED_MAX);
    for (size_t i = 0; i < count; i++) {
        bool behind =
            reader->file == NO_FILE ? bases[i] >= reader->position : bases[i] > reader->base;
        if (!behind || !enter_segment(reader, bases[i])) continue;
        if (bases[i] > reader->position) reader->missed_bytes += bases[i] - reader->position;
        if (bases[i] < reader->position) continue; /* an empty one that was passed */
        reader->position = bases[i];
        return true;
    }
    return false;
}

/* The record at the position, from the buffer. DECODE_MORE: nothing whole is there yet. */
static enum decode take_record(struct log_reader *reader, struct log_record *ret_record)
{
    for (int tries = 0; tries < 2 && reader->file != NO_FILE; tries++) {
        uint64_t end = reader->buffer_at + reader->buffer_size;
        if (reader->buffer_size > 0 && reader->position >= reader->buffer_at &&
            reader->position < end) {
            size_t at = (size_t)(reader->position - reader->buffer_at);
            size_t used = 0;
            enum decode verdict = log_record_decode(
                bytes_of(reader->buffer + at, reader->buffer_size - at), ret_record, &used);
            if (verdict == DECODE_OK) reader->position += used;
            /* What looks damaged may be half written: look once more at the file. */
            if (verdict == DECODE_OK || tries == 1) return verdict;
        }
        off_t offset = (off_t)(reader->position - reader->base + LOG_SEGMENT_HEAD_BYTES);
        ssize_t got = pread(reader->file, reader->buffer, sizeof reader->buffer, offset);
        reader->buffer_at = reader->position;
        reader->buffer_size = got < 0 ? 0 : (size_t)got;
        if (got <= 0) return DECODE_MORE;
    }
    return DECODE_MORE;
}

static void begin_or_extend(struct part *part, const struct log_record *record, uint64_t position)
{
    if (!part->under_way || part->incarnation != record->incarnation) {
        part->under_way = true;
        part->incarnation = record->incarnation;
        part->position = position;
        part->size = 0;
    }
    size_t room = sizeof part->text - part->size;
    size_t size = record->text.size < room ? record->text.size : room;
    if (size > 0) memcpy(part->text + part->size, record->text.data, size);
    part->size += size;
}

/* Where to seek so that no part under way is lost; a whole line may then come again. */
static uint64_t resume_position(const struct log_reader *reader)
{
    uint64_t position = reader->position;
    for (int i = 0; i < 2; i++) {
        const struct part *part = &reader->parts[i];
        if (part->under_way && part->position < position) position = part->position;
    }
    return position;
}

enum status log_reader_next(struct log_reader *reader, struct log_line *ret_line)
{
    for (;;) {
        struct log_record record;
        uint64_t position = reader->position;
        enum decode verdict = take_record(reader, &record);
        if (verdict != DECODE_OK) {
            if (!next_segment(reader)) return STATUS_NOT_FOUND;
            continue;
        }
        bool standard_error = (record.flags & LOG_STDERR) != 0;
        struct part *part = &reader->parts[standard_error];
        bool joined = part->under_way && part->incarnation == record.incarnation &&
                      (record.flags & LOG_NOTE) == 0;
        if ((record.flags & LOG_CONTINUES) != 0 || joined) {
            begin_or_extend(part, &record, position);
            if ((record.flags & LOG_CONTINUES) != 0) continue;
            memcpy(reader->line, part->text, part->size);
            record.text = bytes_of(reader->line, part->size);
            part->under_way = false;
        }
        *ret_line = (struct log_line) {
            .wall_ns = record.wall_ns,
            .incarnation = record.incarnation,
            .standard_error = standard_error,
            .cut = (record.flags & LOG_CUT) != 0,
            .note = (record.flags & LOG_NOTE) != 0,
            .text = record.text,
            .next = resume_position(reader),
            .missed_bytes = reader->missed_bytes,
        };
        reader->missed_bytes = 0;
        return STATUS_OK;
    }
}

void log_reader_tail(struct log_reader *reader, uint64_t lines)
{
    uint64_t count = 0;
    struct log_line line;
    log_reader_seek(reader, 0);
    while (log_reader_next(reader, &line) == STATUS_OK) count++;
    uint64_t skip = count > lines ? count - lines : 0;
    log_reader_seek(reader, 0);
    while (skip > 0 && log_reader_next(reader, &line) == STATUS_OK) skip--;
    reader->missed_bytes = 0;
}
