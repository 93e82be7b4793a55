/* Limits reach the files of a cgroup; here the cgroup is a plain folder with such files. */
#include "supervise/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const names[] = { "memory.max", "memory.oom.group", "pids.max", "cpu.max" };
enum { NAMES = sizeof names / sizeof *names };
static const uint32_t all =
    SUPERVISE_FEATURE_CPU | SUPERVISE_FEATURE_MEMORY | SUPERVISE_FEATURE_PIDS;
static char path[] = "/tmp/unum-limits-XXXXXX";
static int leaf;

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(path, sizeof path, "/tmp/unum-limits-XXXXXX");
    if (mkdtemp(path) == NULL) return -1;
    leaf = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < NAMES; i++) {
        int file = openat(leaf, names[i], O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        if (file < 0) return -1;
        (void)close(file);
    }
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    for (size_t i = 0; i < NAMES; i++) (void)unlinkat(leaf, names[i], 0);
    (void)close(leaf);
    return rmdir(path);
}

static void expect(const char *name, const char *text)
{
    char found[64] = { 0 };
    int file = openat(leaf, name, O_RDONLY | O_CLOEXEC);
    assert_true(file >= 0);
    assert_true(read(file, found, sizeof found - 1) >= 0);
    (void)close(file);
    assert_string_equal(found, text);
}

static struct supervise_start limited(void)
{
    struct supervise_start start = supervise_start_defaults();
    start.cpu_milli = 1500;
    start.memory_bytes = 3ull << 30;
    start.processes_max = 64;
    return start;
}

static void every_limit_is_written_in_the_words_of_the_kernel(void **state)
{
    (void)state;
    struct supervise_start start = limited();
    assert_null(limits_write(leaf, all, &start));
    expect("memory.max", "3221225472");
    expect("memory.oom.group", "1");
    expect("pids.max", "64");
    expect("cpu.max", "150000 100000");
}

static void no_limit_writes_nothing(void **state)
{
    (void)state;
    struct supervise_start start = limited();
    start.cpu_milli = 0;
    start.memory_bytes = 0;
    start.processes_max = 0;
    assert_null(limits_write(leaf, all, &start));
    for (size_t i = 0; i < NAMES; i++) expect(names[i], "");
}

static void a_controller_that_is_absent_is_left_alone(void **state)
{
    (void)state;
    struct supervise_start start = limited();
    assert_null(limits_write(leaf, SUPERVISE_FEATURE_PIDS, &start));
    expect("memory.max", "");
    expect("cpu.max", "");
    expect("pids.max", "64");
}

static void a_small_share_of_a_core_gets_a_longer_period(void **state)
{
    (void)state;
    struct supervise_start start = limited();
    start.cpu_milli = 9; /* 0.9 ms of 100 ms: the kernel refuses less than 1 ms */
    assert_null(limits_write(leaf, all, &start));
    expect("cpu.max", "9000 1000000");
}

static void a_file_that_can_not_be_written_is_named(void **state)
{
    (void)state;
    struct supervise_start start = limited();
    assert_int_equal(unlinkat(leaf, "pids.max", 0), 0);
    assert_string_equal(limits_write(leaf, all, &start), "pids.max");
    assert_int_equal(errno, ENOENT);
}

int main(void)
{
#define IN_A_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        IN_A_FOLDER(every_limit_is_written_in_the_words_of_the_kernel),
        IN_A_FOLDER(no_limit_writes_nothing),
        IN_A_FOLDER(a_controller_that_is_absent_is_left_alone),
        IN_A_FOLDER(a_small_share_of_a_core_gets_a_longer_period),
        IN_A_FOLDER(a_file_that_can_not_be_written_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
