#include "supervise/log_write.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEGMENTS_LISTED_MAX = 64, SCAN_BYTES = 128 * 1024 };

_Static_assert((int)SCAN_BYTES > LOG_RECORD_HEAD_BYTES + LOG_LINE_BYTES_MAX,
               "a scan's buffer holds the largest record");

void log_writer_init(struct log_writer *writer, struct bytes job, struct bytes name,
                     uint64_t kept_bytes)
{
    *writer = (struct log_writer) { .file = -1 };
    (void)snprintf(writer->folder, sizeof writer->folder, "%.*s/%.*s", (int)job.size,
                   (const char *)job.data, (int)name.size, (const char *)name.data);
    if (kept_bytes == 0) kept_bytes = LOG_KEPT_BYTES_DEFAULT;
    writer->segment_bytes = kept_bytes / LOG_SEGMENTS_KEPT;
    if (writer->segment_bytes < LOG_SEGMENT_BYTES_MIN)
        writer->segment_bytes = LOG_SEGMENT_BYTES_MIN;
}

static int compare_bases(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

size_t log_list_segments(int folder, uint64_t *ret_bases, size_t room)
{
    int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *open_folder = copy < 0 ? NULL : fdopendir(copy);
    size_t count = 0;
    if (open_folder == NULL) return 0;
    for (struct dirent *entry = readdir(open_folder); entry != NULL; entry = readdir(open_folder)) {
        char *end = NULL;
        uint64_t base = strtoull(entry->d_name, &end, 16);
        if (end != entry->d_name + 16 || strcmp(end, ".log") != 0) continue;
        if (count < room) {
            ret_bases[count++] = base;
            continue;
        }
        /* Keep the newest: drop the oldest of all. */
        qsort(ret_bases, count, sizeof *ret_bases, compare_bases);
        if (count > 0 && base > ret_bases[0]) ret_bases[0] = base;
    }
    (void)closedir(open_folder);
    qsort(ret_bases, count, sizeof *ret_bases, compare_bases);
    return count;
}

static void segment_path(const struct log_writer *writer, uint64_t base, char ret_path[160])
{
    (void)snprintf(ret_path, 160, "%s/%016llx.log", writer->folder, (unsigned long long)base);
}

static int open_folder(const struct log_writer *writer)
{
    char job[LOG_FOLDER_BYTES_MAX];
    (void)snprintf(job, sizeof job, "%s", writer->folder);
    *strchr(job, '/') = 0;
    (void)mkdir(job, 0755);
    (void)mkdir(writer->folder, 0755);
    return open(writer->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static enum status make_segment(struct log_writer *writer, uint64_t base, uint64_t wall_ns)
{
    char path[160];
    uint8_t head[LOG_SEGMENT_HEAD_BYTES];
    segment_path(writer, base, path);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0) return errno == ENOSPC ? STATUS_FULL : STATUS_IO;
    log_segment_encode(base, wall_ns, head);
    if (pwrite(file, head, sizeof head, 0) != (ssize_t)sizeof head) {
        enum status status = errno == ENOSPC ? STATUS_FULL : STATUS_IO;
        (void)close(file);
        (void)unlink(path);
        return status;
    }
    log_writer_close(writer);
    writer->file = file;
    writer->base = writer->end = base;
    writer->found = true;
    return STATUS_OK;
}

/* Position behind the last whole record; what follows it is torn. */
static uint64_t find_end(int file, uint64_t base)
{
    uint8_t *memory = malloc(SCAN_BYTES);
    uint64_t at = LOG_SEGMENT_HEAD_BYTES;
    while (memory != NULL) {
        ssize_t got = pread(file, memory, SCAN_BYTES, (off_t)at);
        size_t size = got < 0 ? 0 : (size_t)got;
        size_t used = 0;
        for (;;) {
            struct log_record record;
            size_t one = 0;
            if (log_record_decode(bytes_of(memory + used, size - used), &record, &one) != DECODE_OK)
                break;
            used += one;
        }
        if (used == 0) break;
        at += used;
    }
    free(memory);
    return base + at - LOG_SEGMENT_HEAD_BYTES;
}

static enum status reopen(struct log_writer *writer, uint64_t base)
{
    char path[160];
    uint8_t head[LOG_SEGMENT_HEAD_BYTES];
    uint64_t told = 0;
    segment_path(writer, base, path);
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return STATUS_IO;
    ssize_t got = pread(file, head, sizeof head, 0);
    if (got != (ssize_t)sizeof head ||
        log_segment_decode(bytes_of(head, sizeof head), &told) != STATUS_OK || told != base) {
        (void)close(file);
        return STATUS_CORRUPT;
    }
    writer->file = file;
    writer->base = base;
    if (writer->found) return STATUS_OK;
    writer->end = find_end(file, base);
    writer->found = true;
    if (ftruncate(file, (off_t)(writer->end - base + LOG_SEGMENT_HEAD_BYTES)) != 0)
        return STATUS_IO;
    return STATUS_OK;
}

enum status log_writer_open(struct log_writer *writer, uint64_t wall_ns)
{
    if (writer->file >= 0) return STATUS_OK;
    if (writer->found) {
        /* The folder may have been removed meanwhile: begin a segment where we were. */
        if (reopen(writer, writer->base) == STATUS_OK) return STATUS_OK;
    }
    uint64_t bases[SEGMENTS_LISTED_MAX];
    int folder = open_folder(writer);
    if (folder < 0) return errno == ENOSPC ? STATUS_FULL : STATUS_IO;
    size_t count = log_list_segments(folder, bases, SEGMENTS_LISTED_MAX);
    (void)close(folder);
    if (!writer->found && count > 0) {
        enum status status = reopen(writer, bases[count - 1]);
        if (status != STATUS_CORRUPT) return status;
        /* Its head never reached the disk: it takes its place anew. */
        return make_segment(writer, bases[count - 1], wall_ns);
    }
    return make_segment(writer, writer->found ? writer->end : 0, wall_ns);
}

void log_writer_close(struct log_writer *writer)
{
    if (writer->file >= 0) (void)close(writer->file);
    writer->file = -1;
}

static void drop_oldest(struct log_writer *writer)
{
    uint64_t bases[SEGMENTS_LISTED_MAX];
    int folder = open_folder(writer);
    if (folder < 0) return;
    size_t count = log_list_segments(folder, bases, SEGMENTS_LISTED_MAX);
    (void)close(folder);
    for (size_t i = 0; i + LOG_SEGMENTS_KEPT < count; i++) {
        char path[160];
        segment_path(writer, bases[i], path);
        (void)unlink(path);
    }
}

enum status log_writer_append(struct log_writer *writer, struct bytes records, uint64_t wall_ns)
{
    assert(records.size <= LOG_SEGMENT_BYTES_MIN);
    enum status status = log_writer_open(writer, wall_ns);
    if (status != STATUS_OK) return status;
    uint64_t used = writer->end - writer->base;
    if (used > 0 && used + records.size > writer->segment_bytes) {
        status = make_segment(writer, writer->end, wall_ns);
        if (status != STATUS_OK) return status;
        drop_oldest(writer);
        used = 0;
    }
    off_t at = (off_t)(used + LOG_SEGMENT_HEAD_BYTES);
    ssize_t written = pwrite(writer->file, records.data, records.size, at);
    if (written != (ssize_t)records.size) {
        status = written >= 0 || errno == ENOSPC ? STATUS_FULL : STATUS_IO;
        if (ftruncate(writer->file, at) != 0) status = STATUS_IO;
        return status;
    }
    writer->end += records.size;
    return STATUS_OK;
}

enum status log_writer_rewind(struct log_writer *writer, uint64_t position, uint64_t wall_ns)
{
    uint64_t bases[SEGMENTS_LISTED_MAX];
    log_writer_close(writer);
    writer->found = false;
    int folder = open_folder(writer);
    if (folder < 0) return STATUS_IO;
    size_t count = log_list_segments(folder, bases, SEGMENTS_LISTED_MAX);
    (void)close(folder);
    while (count > 0 && bases[count - 1] > position) {
        char path[160];
        segment_path(writer, bases[--count], path);
        (void)unlink(path);
    }
    enum status status = log_writer_open(writer, wall_ns);
    if (status != STATUS_OK || writer->end <= position) return status;
    if (position < writer->base) return STATUS_CORRUPT;
    writer->end = position;
    off_t size = (off_t)(position - writer->base + LOG_SEGMENT_HEAD_BYTES);
    return ftruncate(writer->file, size) == 0 ? STATUS_OK : STATUS_IO;
}
