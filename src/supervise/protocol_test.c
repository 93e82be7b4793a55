/* Every message comes back as it was written; every truncation, every longer packet and every
 * field out of its range is refused with a sentence.
 *
 * Method: one filled message of each kind; round trip; each prefix; then single fields broken. */
#include "supervise/protocol.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const enum supervise_kind kinds[] = {
    SUPERVISE_HELLO,        SUPERVISE_START,       SUPERVISE_STOP,        SUPERVISE_RESTART,
    SUPERVISE_REPORT_READY, SUPERVISE_LIST,        SUPERVISE_EXEC,        SUPERVISE_KILL,
    SUPERVISE_DROP,         SUPERVISE_REEXEC,      SUPERVISE_SHUTDOWN,    SUPERVISE_EVENTS_SINCE,
    SUPERVISE_RENEW_LEASE,  SUPERVISE_EXEC_SIGNAL, SUPERVISE_WELCOME,     SUPERVISE_RESULT,
    SUPERVISE_END,          SUPERVISE_TASK_STATE,  SUPERVISE_EXEC_EXITED, SUPERVISE_ZOMBIE_FOUND,
    SUPERVISE_TASK_DROPPED,
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static const struct id task = { { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 } };
static uint8_t packet[SUPERVISE_MESSAGE_BYTES_MAX];

static struct supervise_strings strings_of(const char *text, size_t size, uint32_t count)
{
    return (struct supervise_strings) { .bytes = bytes_of(text, size), .count = count };
}

static struct supervise_start filled_start(void)
{
    struct supervise_start start = supervise_start_defaults();
    start.task = task;
    start.incarnation = 7;
    start.flags = SUPERVISE_OWN_NETWORK | SUPERVISE_EXCLUSIVE;
    start.restart = SUPERVISE_TRANSIENT;
    start.readiness = SUPERVISE_READINESS_PROBE;
    start.cpu_milli = 1500;
    start.memory_bytes = 1u << 30;
    start.lease_until_ns = UINT64_MAX;
    start.ports[0] = 8080;
    start.port_count = 1;
    start.job = bytes_of_text("web");
    start.name = bytes_of_text("web-0");
    start.folder = bytes_of_text("/srv");
    start.argv = strings_of("sh\0-c\0exec nginx", 17, 3);
    start.env = strings_of("A=1\0B=", 7, 2);
    start.writable = strings_of("/var/lib/x", 11, 1);
    return start;
}

static struct supervise_task_state filled_state(void)
{
    return (struct supervise_task_state) { .sequence = 17,
                                           .task = task,
                                           .incarnation = 3,
                                           .state = SUPERVISE_HELD,
                                           .exit_kind = SUPERVISE_SIGNALED,
                                           .exit_code = 11,
                                           .pid = 100,
                                           .host_pid = 2000,
                                           .restarts = 5,
                                           .failures = 4,
                                           .started_at_ns = 1,
                                           .ended_at_ns = 2,
                                           .next_start_ns = 3,
                                           .cpu_milli = 250,
                                           .memory_bytes = 1u << 30,
                                           .ports = { 8080, 8443 },
                                           .port_count = 2,
                                           .job = bytes_of_text("web"),
                                           .name = bytes_of_text("web-0"),
                                           .reason = bytes_of_text("restarted 5 times in 60 s") };
}

static struct supervise_message filled(enum supervise_kind kind)
{
    struct supervise_message message = { .kind = kind, .request = 0x1122334455667788 };
    switch (kind) {
    case SUPERVISE_HELLO: message.hello.version = 1; break;
    case SUPERVISE_START: message.start = filled_start(); break;
    case SUPERVISE_EXEC:
        message.exec.task = task;
        message.exec.argv = strings_of("ls", 3, 1);
        break;
    case SUPERVISE_REPORT_READY:
        message.report_ready =
            (struct supervise_report_ready) { task, 9, 1, bytes_of_text("HTTP 200") };
        break;
    case SUPERVISE_REEXEC: message.reexec.binary = bytes_of_text("/usr/sbin/unum-init"); break;
    case SUPERVISE_RENEW_LEASE:
        message.renew_lease = (struct supervise_renew_lease) { task, 12345 };
        break;
    case SUPERVISE_EXEC_SIGNAL:
        message.exec_signal = (struct supervise_exec_signal) { 5, 9 };
        break;
    case SUPERVISE_WELCOME:
        message.welcome = (struct supervise_welcome) { 1, 63, 99,
                                                       5, 8,  2,
                                                       3, 1,  bytes_of_text("no cpu controller") };
        break;
    case SUPERVISE_RESULT:
        message.result =
            (struct supervise_result) { STATUS_CONFLICT, 4, bytes_of_text("incarnation 4 runs") };
        break;
    case SUPERVISE_TASK_STATE: message.task_state = filled_state(); break;
    case SUPERVISE_ZOMBIE_FOUND:
        message.zombie_found = (struct supervise_zombie_found) {
            18, task, 3, 100, 101, 5000, bytes_of_text("leaker")
        };
        break;
    case SUPERVISE_EXEC_EXITED:
        message.exec_exited = (struct supervise_exec_exited) { 20, task, 5, SUPERVISE_EXITED, 3 };
        break;
    case SUPERVISE_TASK_DROPPED:
        message.task_dropped = (struct supervise_task_dropped) { 21, task };
        break;
    case SUPERVISE_END: message.end = (struct supervise_end) { 4, 21 }; break;
    case SUPERVISE_EVENTS_SINCE: message.events_since.sequence = 6; break;
    case SUPERVISE_LIST:
    case SUPERVISE_SHUTDOWN: break;
    default: message.task.task = task; break;
    }
    return message;
}

static size_t encoded(const struct supervise_message *message)
{
    struct error error = { 0 };
    size_t size = 0;
    enum status status = supervise_encode(message, packet, sizeof packet, &size, &error);
    if (status != STATUS_OK) fail_msg("kind %d: %s", (int)message->kind, error.text);
    return size;
}

static void every_message_comes_back_as_it_was_written(void **state)
{
    (void)state;
    static uint8_t again[SUPERVISE_MESSAGE_BYTES_MAX];
    for (size_t i = 0; i < KINDS; i++) {
        struct supervise_message message = filled(kinds[i]);
        size_t size = encoded(&message);
        struct supervise_message read;
        struct error error = { 0 };
        assert_int_equal(supervise_decode(bytes_of(packet, size), &read, &error), STATUS_OK);
        assert_int_equal(read.kind, kinds[i]);
        assert_true(read.request == 0x1122334455667788);
        size_t again_size = 0;
        assert_int_equal(supervise_encode(&read, again, sizeof again, &again_size, &error),
                         STATUS_OK);
        assert_int_equal(again_size, size);
        assert_memory_equal(again, packet, size);
    }
}

static void a_start_keeps_its_fields(void **state)
{
    (void)state;
    struct supervise_message message = filled(SUPERVISE_START);
    size_t size = encoded(&message);
    struct supervise_message read;
    assert_int_equal(supervise_decode(bytes_of(packet, size), &read, NULL), STATUS_OK);
    assert_true(id_equal(&read.start.task, &task));
    assert_int_equal(read.start.cpu_milli, 1500);
    assert_int_equal(read.start.ports[0], 8080);
    assert_true(bytes_equal(read.start.name, bytes_of_text("web-0")));
    const char *argv[4];
    supervise_strings_point(&read.start.argv, argv, 4);
    assert_string_equal(argv[2], "exec nginx");
    assert_null(argv[3]);
}

static void a_state_keeps_what_the_task_holds(void **state)
{
    (void)state;
    struct supervise_message message = filled(SUPERVISE_TASK_STATE);
    size_t size = encoded(&message);
    struct supervise_message read;
    assert_int_equal(supervise_decode(bytes_of(packet, size), &read, NULL), STATUS_OK);
    assert_int_equal(read.task_state.cpu_milli, 250);
    assert_true(read.task_state.memory_bytes == 1u << 30);
    assert_int_equal(read.task_state.port_count, 2);
    assert_int_equal(read.task_state.ports[1], 8443);
    message.task_state.port_count = SUPERVISE_PORTS_MAX + 1;
    struct error error = { 0 };
    assert_int_equal(supervise_encode(&message, packet, sizeof packet, &size, &error),
                     STATUS_INVALID);
    assert_non_null(strstr(error.text, "port_count"));
}

static void every_truncation_is_refused_with_a_sentence(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct supervise_message message = filled(kinds[i]);
        size_t size = encoded(&message);
        for (size_t cut = 0; cut < size; cut++) {
            uint8_t *exact = malloc(cut + 1); /* of the exact size, for the sanitizer's eye */
            memcpy(exact, packet, cut);
            /* Once with the size as written, once with a size that agrees with the cut. */
            for (int lie = 0; lie < 2; lie++) {
                if (lie == 1 && cut >= SUPERVISE_HEAD_BYTES)
                    store_u32_le(exact + 4, (uint32_t)(cut - SUPERVISE_HEAD_BYTES));
                struct error error = { 0 };
                struct supervise_message read;
                assert_int_not_equal(supervise_decode(bytes_of(exact, cut), &read, &error),
                                     STATUS_OK);
                assert_true(error.text[0] != 0);
            }
            free(exact);
        }
    }
}

static void a_longer_packet_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct supervise_message message = filled(kinds[i]);
        size_t size = encoded(&message);
        packet[size] = 0;
        store_u32_le(packet + 4, (uint32_t)(size + 1 - SUPERVISE_HEAD_BYTES));
        struct supervise_message read;
        assert_int_equal(supervise_decode(bytes_of(packet, size + 1), &read, NULL), STATUS_INVALID);
    }
}

static void expect_refused(const struct supervise_start *start, const char *field)
{
    struct supervise_message message = { .kind = SUPERVISE_START, .request = 1, .start = *start };
    struct error error = { 0 };
    size_t size = 0;
    assert_int_equal(supervise_encode(&message, packet, sizeof packet, &size, &error),
                     STATUS_INVALID);
    if (strstr(error.text, field) == NULL) fail_msg("\"%s\" lacks %s", error.text, field);
}

static void a_start_out_of_range_names_the_field(void **state)
{
    (void)state;
    struct supervise_start start = filled_start();
    start.task = (struct id) { 0 };
    expect_refused(&start, "task");
    start = filled_start();
    start.job = bytes_of_text("../etc");
    expect_refused(&start, "job");
    start = filled_start();
    start.name = bytes_of_text("");
    expect_refused(&start, "name");
    start = filled_start();
    start.argv = strings_of("", 0, 0);
    expect_refused(&start, "argv");
    start = filled_start();
    start.argv = strings_of("a\0b", 3, 2); /* the last one is not terminated */
    expect_refused(&start, "argv");
    start = filled_start();
    start.env.count = 3;
    expect_refused(&start, "env");
    start = filled_start();
    start.folder = bytes_of_text("srv");
    expect_refused(&start, "folder");
    start = filled_start();
    start.writable = strings_of("/a\0b\0", 6, 3);
    expect_refused(&start, "writable");
    start = filled_start();
    start.restarts_limit = SUPERVISE_RESTARTS_MAX + 1;
    expect_refused(&start, "restarts_limit");
    start = filled_start();
    start.backoff_cap_ms = start.backoff_base_ms - 1;
    expect_refused(&start, "backoff_cap_ms");
    start = filled_start();
    start.stop_signal = 32;
    expect_refused(&start, "stop_signal");
}

static void another_version_is_unsupported(void **state)
{
    (void)state;
    struct supervise_message message = filled(SUPERVISE_LIST);
    size_t size = encoded(&message);
    packet[0] = 2;
    struct error error = { 0 };
    struct supervise_message read;
    assert_int_equal(supervise_decode(bytes_of(packet, size), &read, &error), STATUS_UNSUPPORTED);
    assert_non_null(strstr(error.text, "version 2"));
}

static void every_status_crosses_the_wire(void **state)
{
    (void)state;
    for (unsigned status = 0; status < STATUS_COUNT; status++) {
        struct supervise_message message = filled(SUPERVISE_RESULT);
        message.result.status = (enum status)status;
        size_t size = encoded(&message);
        struct supervise_message read;
        assert_int_equal(supervise_decode(bytes_of(packet, size), &read, NULL), STATUS_OK);
        assert_int_equal(read.result.status, status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_comes_back_as_it_was_written),
        cmocka_unit_test(a_start_keeps_its_fields),
        cmocka_unit_test(a_state_keeps_what_the_task_holds),
        cmocka_unit_test(every_truncation_is_refused_with_a_sentence),
        cmocka_unit_test(a_longer_packet_is_refused),
        cmocka_unit_test(a_start_out_of_range_names_the_field),
        cmocka_unit_test(another_version_is_unsupported),
        cmocka_unit_test(every_status_crosses_the_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
