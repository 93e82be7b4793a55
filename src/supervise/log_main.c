/* unum-log: reads the output pipes of all tasks into their logs, so that nothing stalls while unumd
 * restarts. Its working folder is logs/; descriptor 3 is the channel of unum-init.
 *
 * No line is lost when it is killed: what is still in a pipe stays there, since the task's stub
 * holds a read end that unum-init hands to the next unum-log; and what is taken out of a pipe goes
 * by one read() into a staging file that outlives the process. The next unum-log rewinds that
 * task's log to where the batch began and writes the batch once more. */
#include "supervise/log_channel.h"
#include "supervise/log_write.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    STAGE_HEAD_BYTES = 4096,
    STAGE_DATA_BYTES = 65536, /* what a pipe holds */
    OUT_BYTES = 48 * 1024,    /* records per write */
    OPEN_LOGS_MAX = 64,       /* segments kept open; the longest unused is closed */
    EVENTS_MAX = 64,
};

_Static_assert((int)OUT_BYTES <= LOG_SEGMENT_BYTES_MIN, "a batch fits a segment");

/* The layout of the staging file: written and read by this program only, on the same machine. */
struct stage {
    uint32_t busy; /* a batch is under way */
    uint32_t size; /* of the data; 0: not known, up to its last byte that is not zero */
    uint64_t position;
    uint64_t incarnation;
    uint64_t kept_bytes;
    uint32_t line_bytes;
    uint8_t error_stream;
    uint8_t skipping;
    uint8_t job_size, name_size;
    uint8_t job[LIMIT_NAME_BYTES_MAX];
    uint8_t name[LIMIT_NAME_BYTES_MAX];
};
_Static_assert(sizeof(struct stage) <= STAGE_HEAD_BYTES, "the head has its page");

struct source; /* one incarnation: two pipes */

struct stream {
    struct source *source;
    int file;            /* -1: ended */
    uint32_t line_bytes; /* of the line under way that are written */
    bool error_stream;
    bool skipping; /* the rest of a line that was cut */
};

struct source {
    struct log_writer writer;
    struct stream streams[2];
    uint64_t incarnation;
    uint64_t kept_bytes;
    uint64_t lost_bytes; /* could not be written; told when it can be */
    uint8_t job_size, name_size;
    char job[LIMIT_NAME_BYTES_MAX];
    char name[LIMIT_NAME_BYTES_MAX];
};

struct log {
    int epoll;
    struct stage *stage;
    uint8_t *data; /* of the stage */
    struct source *open[OPEN_LOGS_MAX];
    size_t open_next;
    uint8_t out[OUT_BYTES];
    size_t out_used;
};

static uint64_t wall_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- writing ---- */

/* Few descriptors: sources share OPEN_LOGS_MAX of them. Two sources of one task (its old and its
 * new incarnation) must not both believe to know the end: the other one forgets. */
static void keep_open(struct log *log, struct source *source)
{
    size_t place = OPEN_LOGS_MAX;
    for (size_t i = 0; i < OPEN_LOGS_MAX; i++) {
        struct source *other = log->open[i];
        if (other == source) {
            place = i;
        } else if (other != NULL && strcmp(other->writer.folder, source->writer.folder) == 0) {
            log_writer_close(&other->writer);
            other->writer.found = false;
            log->open[i] = NULL;
        }
    }
    if (place < OPEN_LOGS_MAX) return;
    place = log->open_next++ % OPEN_LOGS_MAX;
    if (log->open[place] != NULL) {
        log_writer_close(&log->open[place]->writer);
        log->open[place]->writer.found = false;
    }
    log->open[place] = source;
}

static void flush(struct log *log, struct source *source, uint64_t wall_ns)
{
    if (log->out_used == 0) return;
    if (log_writer_append(&source->writer, bytes_of(log->out, log->out_used), wall_ns) != STATUS_OK)
        source->lost_bytes += log->out_used;
    log->out_used = 0;
}

static void put(struct log *log, struct source *source, const struct log_record *record)
{
    struct writer writer = writer_of(log->out, sizeof log->out);
    writer.used = log->out_used;
    if (log_record_encode(record, &writer) != STATUS_OK) {
        flush(log, source, record->wall_ns);
        writer.used = 0;
        if (log_record_encode(record, &writer) != STATUS_OK) return; /* it always fits */
    }
    log->out_used = writer.used;
}

static void tell_lost(struct log *log, struct source *source, uint64_t wall_ns)
{
    char sentence[96];
    if (source->lost_bytes == 0) return;
    (void)snprintf(sentence, sizeof sentence, "%llu bytes of output could not be written here",
                   (unsigned long long)source->lost_bytes);
    struct log_record record = { wall_ns, source->incarnation, LOG_NOTE, bytes_of_text(sentence) };
    source->lost_bytes = 0;
    put(log, source, &record);
}

/* Cut SIZE bytes of a stream into lines. */
static void take_bytes(struct log *log, struct stream *stream, const uint8_t *bytes, size_t size)
{
    struct source *source = stream->source;
    struct log_record record = { .wall_ns = wall_now(), .incarnation = source->incarnation };
    tell_lost(log, source, record.wall_ns);
    while (size > 0) {
        const uint8_t *end = memchr(bytes, '\n', size);
        size_t length = end == NULL ? size : (size_t)(end - bytes);
        size_t used = end == NULL ? size : length + 1;
        size_t room = LOG_LINE_BYTES_MAX - stream->line_bytes;
        bool cut = length > room;
        if (!stream->skipping) {
            record.text = bytes_of(bytes, cut ? room : length);
            record.flags = stream->error_stream ? LOG_STDERR : 0;
            if (cut) {
                record.flags |= LOG_CUT;
            } else if (end == NULL) {
                record.flags |= LOG_CONTINUES;
            }
            put(log, source, &record);
            stream->line_bytes += (uint32_t)record.text.size;
            stream->skipping = cut;
        }
        if (end != NULL) {
            stream->line_bytes = 0;
            stream->skipping = false;
        }
        bytes += used;
        size -= used;
    }
    flush(log, source, record.wall_ns);
}

/* ---- the stage ---- */

static void stage_begin(struct log *log, const struct stream *stream)
{
    const struct source *source = stream->source;
    struct stage *stage = log->stage;
    stage->size = 0;
    stage->position = source->writer.end;
    stage->incarnation = source->incarnation;
    stage->kept_bytes = source->kept_bytes;
    stage->line_bytes = stream->line_bytes;
    stage->error_stream = stream->error_stream;
    stage->skipping = stream->skipping;
    stage->job_size = source->job_size;
    stage->name_size = source->name_size;
    memcpy(stage->job, source->job, sizeof stage->job);
    memcpy(stage->name, source->name, sizeof stage->name);
    __atomic_store_n(&stage->busy, 1, __ATOMIC_SEQ_CST);
}

static void stage_end(struct log *log, size_t size)
{
    /* The mark falls first: data of a batch that is done must not be taken for a new one. */
    __atomic_store_n(&log->stage->busy, 0, __ATOMIC_SEQ_CST);
    memset(log->data, 0, size);
}

static void init_source(struct source *source, const struct log_channel_pipes *pipes)
{
    *source = (struct source) { .incarnation = pipes->incarnation,
                                .kept_bytes = pipes->log_bytes,
                                .job_size = (uint8_t)pipes->job.size,
                                .name_size = (uint8_t)pipes->name.size };
    memcpy(source->job, pipes->job.data, pipes->job.size);
    memcpy(source->name, pipes->name.data, pipes->name.size);
    log_writer_init(&source->writer, pipes->job, pipes->name, pipes->log_bytes);
    for (int i = 0; i < 2; i++)
        source->streams[i] = (struct stream) { source, -1, 0, i == 1, false };
}

/* The batch that a killed unum-log had begun. */
static void recover(struct log *log)
{
    const struct stage *stage = log->stage;
    if (stage->busy != 1 || stage->job_size > LIMIT_NAME_BYTES_MAX || stage->job_size == 0 ||
        stage->name_size > LIMIT_NAME_BYTES_MAX || stage->name_size == 0 ||
        stage->size > STAGE_DATA_BYTES || stage->line_bytes > LOG_LINE_BYTES_MAX) {
        stage_end(log, STAGE_DATA_BYTES);
        return;
    }
    size_t size = stage->size;
    /* Killed between the read and noting its size: output rarely ends with zero bytes. */
    for (size_t i = STAGE_DATA_BYTES; size == 0 && i > 0; i--) {
        if (log->data[i - 1] != 0) size = i;
    }
    struct log_channel_pipes pipes = { .incarnation = stage->incarnation,
                                       .log_bytes = stage->kept_bytes,
                                       .job = bytes_of(stage->job, stage->job_size),
                                       .name = bytes_of(stage->name, stage->name_size) };
    struct source source;
    init_source(&source, &pipes);
    struct stream *stream = &source.streams[stage->error_stream != 0];
    stream->line_bytes = stage->line_bytes;
    stream->skipping = stage->skipping != 0;
    if (log_writer_rewind(&source.writer, stage->position, wall_now()) == STATUS_OK)
        take_bytes(log, stream, log->data, size);
    log_writer_close(&source.writer);
    stage_end(log, STAGE_DATA_BYTES);
}

static void open_stage(struct log *log)
{
    size_t size = STAGE_HEAD_BYTES + STAGE_DATA_BYTES;
    int file = open(".staging", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void *map = MAP_FAILED;
    if (file >= 0 && ftruncate(file, (off_t)size) == 0)
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) { /* a full disk: go on, only a kill of ours can then lose a batch */
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (file >= 0) (void)close(file);
    if (map == MAP_FAILED) exit(1);
    log->stage = map;
    log->data = (uint8_t *)map + STAGE_HEAD_BYTES;
    recover(log);
}

/* ---- pipes ---- */

static void end_stream(struct log *log, struct stream *stream)
{
    struct source *source = stream->source;
    (void)close(stream->file); /* epoll forgets it */
    stream->file = -1;
    if (source->streams[0].file >= 0 || source->streams[1].file >= 0) return;
    for (size_t i = 0; i < OPEN_LOGS_MAX; i++) {
        if (log->open[i] == source) log->open[i] = NULL;
    }
    log_writer_close(&source->writer);
    free(source);
}

static void on_stream(struct log *log, struct stream *stream)
{
    keep_open(log, stream->source);
    /* Where the batch will begin must be known before it is taken. If it can't be (full disk), the
     * output is read all the same: a task never stalls because of its log. */
    bool known = log_writer_open(&stream->source->writer, wall_now()) == STATUS_OK;
    if (known) stage_begin(log, stream);
    ssize_t got = read(stream->file, log->data, STAGE_DATA_BYTES);
    if (got > 0) {
        log->stage->size = (uint32_t)got;
        take_bytes(log, stream, log->data, (size_t)got);
    }
    bool ended = got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
    stage_end(log, got > 0 ? (size_t)got : 0);
    if (ended) end_stream(log, stream);
}

static void add_source(struct log *log, const struct log_channel_pipes *pipes, const int files[2])
{
    struct source *source = malloc(sizeof *source);
    if (source == NULL) return;
    init_source(source, pipes);
    for (int i = 0; i < 2; i++) {
        source->streams[i].file = files[i];
        /* Not O_NONBLOCK: that would be the writer's too. We read only what epoll told. */
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = &source->streams[i] };
        (void)epoll_ctl(log->epoll, EPOLL_CTL_ADD, files[i], &event);
    }
}

/* False: nothing waits, or unum-init is gone. */
static bool on_channel(struct log *log)
{
    uint8_t text[LOG_CHANNEL_BYTES_MAX];
    int files[2] = { -1, -1 };
    struct iovec part = { text, sizeof text };
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof files)];
    } control;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    ssize_t size = recvmsg(LOG_CHANNEL_DESCRIPTOR, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (size < 0) return false;
    if (size == 0) exit(0);
    struct cmsghdr *first = CMSG_FIRSTHDR(&message);
    if (first != NULL && first->cmsg_type == SCM_RIGHTS)
        memcpy(files, CMSG_DATA(first), first->cmsg_len - CMSG_LEN(0));
    struct log_channel_pipes pipes;
    bool fine = files[0] >= 0 && files[1] >= 0 &&
                log_channel_decode(bytes_of(text, (size_t)size), &pipes) == STATUS_OK &&
                pipes.job.size > 0 && pipes.name.size > 0;
    if (fine) {
        add_source(log, &pipes, files);
    } else {
        for (int i = 0; i < 2; i++) {
            if (files[i] >= 0) (void)close(files[i]);
        }
    }
    return true;
}

static volatile sig_atomic_t ending; /* the one thing a signal handler may touch */

static void on_end(int signal)
{
    (void)signal;
    ending = 1;
}

int main(void)
{
    static struct log log;
    struct sigaction action = { .sa_handler = on_end };
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)umask(022);
    log.epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event channel = { .events = EPOLLIN };
    if (log.epoll < 0 || epoll_ctl(log.epoll, EPOLL_CTL_ADD, LOG_CHANNEL_DESCRIPTOR, &channel) != 0)
        return 1;
    open_stage(&log);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        /* Told to end: what is in the pipes is still written. */
        int count = epoll_wait(log.epoll, events, EVENTS_MAX, ending ? 0 : -1);
        if (count <= 0 && ending) return 0;
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL) {
                while (on_channel(&log)) {
                }
                continue;
            }
            on_stream(&log, events[i].data.ptr);
            break; /* it may have ended its source, and with it the other stream of the list */
        }
    }
}
