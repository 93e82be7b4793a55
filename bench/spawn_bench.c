/* spawn_bench FOLDER N net|nonet PROGRAM...   start and reap N tasks, one after the other
 * spawn_bench FOLDER N sleep|sleepnet PROGRAM... start N tasks that stay, print what one costs the
 * machine, and the slowest LIST
 * FOLDER is the one of a running unum-init. The time of a task is from sending START to receiving
 * the event that it is done: its processes are reaped and its cgroup is empty. */
#include "bench/supervise_load.h"

#include <unistd.h>

static struct load load;

/* What the whole machine uses; and what its kernel holds for processes, which the noise of other
 * programs touches less. */
static void memory_used_kb(double *ret_all, double *ret_kernel)
{
    static const char *const parts[] = { "SUnreclaim:", "KernelStack:", "PageTables:", "Percpu:" };
    char line[256];
    *ret_all = *ret_kernel = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        double value = 0;
        const char *colon = strchr(line, ':');
        if (colon != NULL) value = strtod(colon + 1, NULL);
        if (strncmp(line, "MemTotal:", 9) == 0) *ret_all += value;
        if (strncmp(line, "MemAvailable:", 13) == 0) *ret_all -= value;
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            if (strncmp(line, parts[i], strlen(parts[i])) == 0) *ret_kernel += value;
        }
    }
    if (file != NULL) (void)fclose(file);
}

static void start_and_reap(struct supervise_start start, size_t count, char **argv)
{
    static struct supervise_message message;
    double *times = calloc(count, sizeof *times);
    if (times == NULL) load_fail("memory", "none");
    double begun = load_now_us();
    for (size_t i = 0; i < count; i++) {
        double from = load_now_us();
        struct id task = load_start(&load, start, argv);
        load_wait(&load, &task, SUPERVISE_DONE, &message);
        times[i] = load_now_us() - from;
        message = (struct supervise_message) { .kind = SUPERVISE_DROP, .task = { task } };
        load_send(&load, &message);
    }
    load_print(times, count, load_now_us() - begun);
    free(times);
}

static void keep_sleeping(struct supervise_start start, size_t count, char **argv)
{
    static struct supervise_message message;
    double before[2];
    double after[2];
    memory_used_kb(&before[0], &before[1]);
    double begun = load_now_us();
    for (size_t i = 0; i < count; i++) {
        struct id task = load_start(&load, start, argv);
        load_wait(&load, &task, SUPERVISE_RUNNING, &message);
    }
    double took = load_now_us() - begun;
    (void)sleep(3); /* the kernel frees and settles what the starts needed */
    memory_used_kb(&after[0], &after[1]);
    double from = load_now_us();
    message = (struct supervise_message) { .kind = SUPERVISE_LIST };
    load_send(&load, &message);
    do load_receive(&load, &message);
    while (message.kind != SUPERVISE_END);
    (void)printf("tasks=%zu each_kb=%.1f each_kernel_kb=%.1f start_each_us=%.0f list_ms=%.1f\n",
                 count, (after[0] - before[0]) / (double)count,
                 (after[1] - before[1]) / (double)count, took / (double)count,
                 (load_now_us() - from) / 1e3);
}

int main(int argc, char **argv)
{
    if (argc < 5) load_fail("usage", "spawn_bench FOLDER N net|nonet|sleep|sleepnet PROGRAM...");
    bool stays = strncmp(argv[3], "sleep", 5) == 0;
    struct supervise_start start = supervise_start_defaults();
    start.restart = stays ? SUPERVISE_PERMANENT : SUPERVISE_TEMPORARY;
    if (strcmp(argv[3], "net") == 0 || strcmp(argv[3], "sleepnet") == 0)
        start.flags = SUPERVISE_OWN_NETWORK;
    start.job = bytes_of_text("bench");
    start.name = bytes_of_text("spawn");
    load_open(&load, argv[1]);
    size_t count = (size_t)strtoul(argv[2], NULL, 10);
    if (count == 0) load_fail("N", "is 0");
    if (stays) {
        keep_sleeping(start, count, argv + 4);
    } else {
        start_and_reap(start, count, argv + 4);
    }
    return 0;
}
