/* The audit keeps whole lines, within its bounds, whatever it is told, on a full disk too.
 *
 * Method: the simulated reactor and disk, driven by one fiber; what the files hold is read back. */
#include "node/audit.h"
#include "sim/disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct world {
    struct sim_disk disk;
    struct audit *audit;
    struct scope scope;
    unsigned complaints;
};

static void complain(void *context, const char *line)
{
    struct world *world = context;
    world->complaints++;
    print_message("[ %s ]\n", line);
}

static struct audit_record record_of(const char *subject)
{
    return (struct audit_record) {
        .wall_ms = 1,
        .computer_time_ms = 2,
        .principal = "spiffe://computer/operator/first",
        .request = bytes_of("0123456789abcdef", 16),
        .action = "Apply",
        .subject = subject,
        .outcome = STATUS_OK,
        .text = "",
    };
}

static void a_line_is_one_line_of_ascii_and_never_too_long(void **state)
{
    (void)state;
    static char subject[2000], line[AUDIT_LINE_BYTES_MAX + 1];
    memset(subject, '\xff', sizeof subject - 1);
    subject[sizeof subject - 1] = '\0';
    struct audit_record record = record_of("a\"b\\c\nd");
    size_t size = audit_format(&record, line);
    assert_memory_equal(line + size - 2, "}\n", 2);
    line[size] = '\0';
    assert_non_null(strstr(line, "\"subject\":\"a\\u0022b\\u005cc\\u000ad\""));
    assert_non_null(strstr(line, "\"request\":\"30313233343536373839616263646566\""));
    record.subject = record.text = record.principal = record.action = subject;
    size = audit_format(&record, line);
    assert_true(size < AUDIT_LINE_BYTES_MAX);
    assert_memory_equal(line + size - 2, "}\n", 2);
    for (size_t i = 0; i + 1 < size; i++) assert_in_range(line[i], 0x20, 0x7e);
}

/* --- on a disk ---------------------------------------------------------------------------------
 */

static void begin(struct world *world, uint64_t file_bytes_max)
{
    scope_init(&world->scope, fiber_scope());
    struct audit_options options = { .scope = &world->scope,
                                     .disk = &world->disk.disk,
                                     .file_bytes_max = file_bytes_max,
                                     .log = complain,
                                     .context = world };
    assert_int_equal(audit_create(&options, &world->audit), STATUS_OK);
}

static void end(struct world *world)
{
    audit_finish(world->audit, DEADLINE_NEVER);
    scope_cancel(&world->scope);
    scope_join(&world->scope);
    audit_destroy(world->audit);
    world->audit = NULL;
}

/* The text of a file, for the caller to free. */
static char *text_of(struct world *world, const char *path)
{
    struct disk *disk = &world->disk.disk;
    struct disk_file *file;
    uint64_t size;
    size_t used;
    assert_int_equal(disk->open(disk, path, DISK_OPEN_READ, &file), STATUS_OK);
    assert_int_equal(disk->size(file, &size), STATUS_OK);
    char *text = calloc(1, size + 1);
    assert_non_null(text);
    assert_int_equal(disk->read(file, 0, text, size, &used), STATUS_OK);
    disk->close(file);
    return text;
}

static void simulate(void (*main)(struct scope *scope, void *context))
{
    static struct world world;
    memset(&world, 0, sizeof world);
    struct sim_disk_options disk = { .seed = 1 };
    sim_disk_init(&world.disk, &disk);
    struct reactor *reactor;
    struct reactor_simulation_options options = { .seed = 1, .end_ns = UINT64_C(60000000000) };
    assert_int_equal(reactor_create_simulation(&options, &reactor), STATUS_OK);
    assert_int_equal(reactor_run(reactor, main, &world), STATUS_OK);
    reactor_destroy(reactor);
    sim_disk_finish(&world.disk);
}

static void two_files_main(struct scope *scope, void *context)
{
    (void)scope;
    struct world *world = context;
    enum { FILE_BYTES = 2000, RECORDS = 40 };
    begin(world, FILE_BYTES);
    for (unsigned i = 0; i < RECORDS; i++) {
        char subject[16];
        (void)snprintf(subject, sizeof subject, "job-%u.", i);
        struct audit_record record = record_of(subject);
        audit_add(world->audit, &record);
        assert_int_equal(fiber_sleep_ns(1000000), STATUS_OK);
    }
    end(world);
    char *now = text_of(world, AUDIT_PATH), *older = text_of(world, AUDIT_OLDER_PATH);
    assert_in_range(strlen(now), 1, FILE_BYTES);
    assert_in_range(strlen(older), 1, FILE_BYTES);
    assert_non_null(strstr(now, "job-39."));
    assert_null(strstr(now, "job-0."));
    free(now);
    free(older);
}

static void two_files_are_kept_and_each_is_bounded(void **state)
{
    (void)state;
    simulate(two_files_main);
}

static void full_main(struct scope *scope, void *context)
{
    (void)scope;
    struct world *world = context;
    begin(world, 0);
    struct audit_record record = record_of("before");
    audit_add(world->audit, &record);
    assert_int_equal(fiber_sleep_ns(1000000), STATUS_OK);
    world->disk.options.full_at = 1;
    record.subject = "while";
    for (unsigned i = 0; i < 3000; i++) audit_add(world->audit, &record);
    assert_int_equal(fiber_sleep_ns(UINT64_C(1500000000)), STATUS_OK);
    world->disk.options.full_at = 0;
    assert_int_equal(fiber_sleep_ns(UINT64_C(1500000000)), STATUS_OK);
    record.subject = "after";
    audit_add(world->audit, &record);
    end(world);
    char *text = text_of(world, AUDIT_PATH);
    assert_non_null(strstr(text, "\"before\""));
    assert_non_null(strstr(text, "\"while\""));
    assert_non_null(strstr(text, "\"action\":\"lost\",\"outcome\":\"full\""));
    assert_non_null(strstr(text, "\"after\""));
    assert_int_equal(world->complaints, 0);
    free(text);
}

static void a_full_disk_leaves_a_gap_that_is_told(void **state)
{
    (void)state;
    simulate(full_main);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_one_line_of_ascii_and_never_too_long),
        cmocka_unit_test(two_files_are_kept_and_each_is_bounded),
        cmocka_unit_test(a_full_disk_leaves_a_gap_that_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
