/* Notify: one datagram socket in the tasks' /dev takes the words of all stubs and of all programs
 * that speak sd_notify. Who speaks is told by the kernel: the sender's user id lies in its task's
 * private range. Root inside a task can name any process of its own task, never another's. */
#include "supervise/init.h"
#include "supervise/stub.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    NOTIFY_BYTES_MAX = 4096,
    NOTIFY_BATCH_MAX = 256, /* datagrams per turn of the loop */
    ANCESTORS_MAX = 64,     /* steps from a sender to its stub, where ids don't tell */
};

enum status init_notify_bind(struct init *init, struct error *error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = STUB_SOCKET };
    int on = 1;
    int receiver = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (receiver < 0 || bind(receiver, (struct sockaddr *)&address, sizeof address) != 0 ||
        chmod(STUB_SOCKET, 0666) != 0 ||
        setsockopt(receiver, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
        return error_set(error, STATUS_IO, "cannot make %s: %s", STUB_SOCKET, strerror(errno));
    init->files.notify = receiver;
    return STATUS_OK;
}

/* The parent of PID as /proc tells; 0: unknown. */
static pid_t parent_of(const struct init *init, pid_t pid)
{
    char path[32];
    char text[512];
    (void)snprintf(path, sizeof path, "%d/stat", pid);
    int file = openat(init->files.proc, path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t size = read(file, text, sizeof text - 1);
    (void)close(file);
    if (size <= 0) return 0;
    text[size] = 0;
    const char *behind_name = strrchr(text, ')');
    if (behind_name == NULL || strlen(behind_name) < 4) return 0;
    return (pid_t)strtol(behind_name + 4, NULL, 10);
}

/* Slot of the task that the sender belongs to; 0: none. */
static uint32_t sender_slot(const struct init *init, const struct ucred *sender)
{
    if (!init->rootless) {
        if (sender->uid < init->id_base) return 0;
        uint32_t slot = (sender->uid - init->id_base) / INIT_IDS_PER_TASK;
        bool known = slot >= INIT_SLOT_TASKS && slot < INIT_SLOTS && init->policy_tasks[slot].used;
        return known ? slot : 0;
    }
    pid_t pid = sender->pid;
    for (int i = 0; i < ANCESTORS_MAX && pid > 1; i++) {
        uint32_t slot = init_find_pid(init, pid);
        if (slot != 0) return slot;
        pid = parent_of(init, pid);
    }
    return 0;
}

static void on_stub(struct init *init, uint32_t slot, const uint8_t *text, pid_t pid)
{
    static const char *const steps[STUB_STEP_COUNT] = {
        [STUB_STEP_PROC] = "cannot mount /proc",
        [STUB_STEP_SCRATCH] = "cannot mount its scratch file system",
        [STUB_STEP_WRITABLE] = "cannot make a writable path",
        [STUB_STEP_FOLDER] = "cannot enter its folder",
        [STUB_STEP_PROGRAM] = "cannot execute",
        [STUB_STEP_FORK] = "cannot make a process",
    };
    uint32_t value = load_u32_le(text + 4);
    struct policy_event event = { .slot = slot,
                                  .incarnation = init->policy_tasks[slot].incarnation };
    char sentence[256];
    switch (text[1]) {
    case STUB_RUNS:
        event.kind = POLICY_PROGRAM_RUNS;
        event.pid = (uint32_t)pid;
        break;
    case STUB_KILLED:
        /* Its own end follows, and is then read as this. */
        init->tasks[slot].told_signal = (uint8_t)value;
        return;
    case STUB_FAILED: {
        struct supervise_start start;
        init_task_spec(init, slot, &start);
        const char *step = text[2] < STUB_STEP_COUNT ? steps[text[2]] : NULL;
        bool named = text[2] == STUB_STEP_PROGRAM;
        (void)snprintf(sentence, sizeof sentence, "%s%s%.150s: %s", step == NULL ? "?" : step,
                       named ? " " : "", named ? (const char *)start.argv.bytes.data : "",
                       strerror((int)value));
        event.kind = POLICY_EXITED;
        event.exit_kind = SUPERVISE_NOT_STARTED;
        event.exit_code = value;
        event.text = sentence;
        break;
    }
    default: return;
    }
    init_feed(init, &event);
}

/* Lines NAME=value as sd_notify(3) has them; those that mean nothing here are accepted. */
static void on_words(struct init *init, uint32_t slot, char *text)
{
    struct policy_event event = { .slot = slot,
                                  .incarnation = init->policy_tasks[slot].incarnation };
    bool ready = false;
    for (char *line = text; line != NULL;) {
        char *end = strchr(line, '\n');
        if (end != NULL) *end = 0;
        if (strcmp(line, "READY=1") == 0) ready = true;
        if (strncmp(line, "STATUS=", 7) == 0) event.text = line + 7;
        line = end == NULL ? NULL : end + 1;
    }
    if (!ready || init->policy_tasks[slot].spec.readiness != SUPERVISE_READINESS_NOTIFY) return;
    event.kind = POLICY_IS_READY;
    init_feed(init, &event);
}

static bool receive_one(struct init *init)
{
    uint8_t text[NOTIFY_BYTES_MAX / 2];
    struct iovec part = { text, sizeof text - 1 };
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(16 * sizeof(int))];
    } control;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    ssize_t size = recvmsg(init->files.notify, &message, MSG_CMSG_CLOEXEC);
    if (size < 0) return errno == EINTR;
    struct ucred sender = { 0 };
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
            memcpy(&sender, CMSG_DATA(c), sizeof sender);
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        /* Nobody may leave descriptors with us. */
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int file = -1;
            memcpy(&file, CMSG_DATA(c) + i * sizeof file, sizeof file);
            (void)close(file);
        }
    }
    uint32_t slot = sender_slot(init, &sender);
    if (slot == 0) return true;
    text[size] = 0;
    if (size == STUB_MESSAGE_BYTES && text[0] == STUB_MARK) {
        on_stub(init, slot, text, sender.pid);
    } else {
        on_words(init, slot, (char *)text);
    }
    return true;
}

void init_notify_readable(struct init *init)
{
    for (int i = 0; i < NOTIFY_BATCH_MAX; i++) {
        if (!receive_one(init)) return;
    }
}
