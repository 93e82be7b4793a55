/* restart_bench FOLDER N NAME   kill -9 a task N times, print the time until its new main()
 * restart_bench --main NAME     the task: tell when its main() began, then sleep
 *
 * NAME is an abstract socket, which tasks of the host's network reach. This program's own file must
 * be visible to tasks: not below /tmp or /run. */
#include "bench/supervise_load.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct load load;

static struct sockaddr_un address_of(const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    (void)snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "%s", name);
    return address;
}

static int tell_main(const char *name)
{
    double now = load_now_us();
    struct sockaddr_un address = address_of(name);
    int sender = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (sendto(sender, &now, sizeof now, 0, (struct sockaddr *)&address, sizeof address) < 0)
        return 1;
    for (;;) (void)pause();
}

static double receive_main(int receiver)
{
    double at = 0;
    if (recv(receiver, &at, sizeof at, 0) != (ssize_t)sizeof at) load_fail("recv", "short");
    return at;
}

static pid_t host_pid(const struct id *task, uint64_t after)
{
    struct supervise_message message;
    do load_wait(&load, task, SUPERVISE_RUNNING, &message);
    while (message.task_state.host_pid == 0 || message.task_state.incarnation <= after);
    return (pid_t)message.task_state.host_pid;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--main") == 0) return tell_main(argv[2]);
    if (argc != 4) load_fail("usage", "restart_bench FOLDER N NAME");
    size_t count = (size_t)strtoul(argv[2], NULL, 10);
    double *times = calloc(count + 1, sizeof *times);
    struct sockaddr_un address = address_of(argv[3]);
    int receiver = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (times == NULL || bind(receiver, (struct sockaddr *)&address, sizeof address) != 0)
        load_fail(argv[3], "cannot listen");
    struct supervise_start start = supervise_start_defaults();
    start.job = bytes_of_text("bench");
    start.name = bytes_of_text("restart");
    start.backoff_base_ms = start.backoff_cap_ms = 0;
    start.restarts_period_ms = 1;
    start.restarts_limit = SUPERVISE_RESTARTS_MAX;
    char own[1024] = { 0 };
    if (readlink("/proc/self/exe", own, sizeof own - 1) < 0) load_fail("own path", "unknown");
    char *command[] = { own, (char *)"--main", argv[3], NULL };
    load_open(&load, argv[1]);
    struct id task = load_start(&load, start, command);
    (void)receive_main(receiver);
    double begun = load_now_us();
    for (size_t i = 0; i < count; i++) {
        pid_t pid = host_pid(&task, i);
        double from = load_now_us();
        if (kill(pid, SIGKILL) != 0) load_fail("kill", strerror(errno));
        times[i] = receive_main(receiver) - from;
    }
    load_print(times, count, load_now_us() - begun);
    struct supervise_message message = { .kind = SUPERVISE_STOP, .task = { task } };
    load_send(&load, &message);
    load_wait(&load, &task, SUPERVISE_STOPPED, &message);
    free(times);
    return 0;
}
