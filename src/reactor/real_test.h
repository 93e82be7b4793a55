/* What the tests with real input and output share: a reactor of the backend that UNUM_IO names, a
 * folder of their own, and tests as programs run inside a fiber. */
#ifndef UNUM_REACTOR_REAL_TEST_H
#define UNUM_REACTOR_REAL_TEST_H

#include "reactor/reactor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { TEST_PATH_BYTES = 200, TEST_NAME_BYTES = 400 };
static const uint64_t MS = 1000000;

static char test_folder[TEST_PATH_BYTES];

static inline void test_path(char ret_path[TEST_NAME_BYTES], const char *name)
{
    (void)snprintf(ret_path, TEST_NAME_BYTES, "%s/%s", test_folder, name);
}

static inline void test_folder_create(void)
{
    const char *base = getenv("TMPDIR");
    (void)snprintf(test_folder, sizeof test_folder, "%.150s/unum-test-XXXXXX",
                   base == NULL ? "/tmp" : base);
    if (mkdtemp(test_folder) == NULL) abort();
}

static inline void test_folder_remove(void)
{
    char command[TEST_PATH_BYTES + 16];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", test_folder);
    if (system(command) != 0) abort();
}

/* NULL and a printed reason when the backend is not there. */
static inline struct reactor *test_reactor(void)
{
    struct reactor *reactor = NULL;
    struct error error = { 0 };
    struct reactor_options options = { .worker_count = 2 };
    enum status status = reactor_create(&options, &reactor, &error);
    if (status == STATUS_UNSUPPORTED) {
        print_message("skipped: %s\n", error.text);
        return NULL;
    }
    if (status != STATUS_OK) print_message("%s\n", error.text);
    assert_int_equal(status, STATUS_OK);
    return reactor;
}

/* Runs MAIN in a real reactor; a watchdog ends a test that hangs. */
static inline void test_run(void (*main)(struct scope *, void *), void *context)
{
    struct reactor *reactor = test_reactor();
    if (reactor == NULL) skip();
    (void)alarm(60);
    assert_int_equal(reactor_run(reactor, main, context), STATUS_OK);
    (void)alarm(0);
    reactor_destroy(reactor);
}

static inline uint64_t test_now_ns(void)
{
    uint64_t now_ns;
    clock_monotonic_ns(reactor_clock(fiber_reactor()), &now_ns);
    return now_ns;
}

static inline void test_spawn(struct scope *scope, void (*function)(void *), void *argument)
{
    assert_int_equal(scope_spawn(scope, "test", function, argument), STATUS_OK);
}

#endif
