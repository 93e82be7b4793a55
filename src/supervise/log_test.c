/* The log keeps every line while the ring holds it, and ends with a whole record after any crash.
 *
 * Method: records cut at every byte; segments cut at every byte and opened again by the writer;
 * a ring that turns under a slow reader. Files live in a fresh folder below the working one. */
#include "supervise/log_read.h"
#include "supervise/log_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char before[1024];
static char folder[] = "/tmp/unum-log-test-XXXXXX";

static int enter_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/unum-log-test-XXXXXX");
    if (getcwd(before, sizeof before) == NULL || mkdtemp(folder) == NULL) return -1;
    return chdir(folder);
}

static int leave_folder(void **state)
{
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", folder);
    if (chdir(before) != 0) return -1;
    return system(command);
}

static struct log_record record_of(const char *text, uint8_t flags)
{
    return (struct log_record) { 1000, 7, flags, bytes_of_text(text) };
}

static void append(struct log_writer *writer, const char *text, uint8_t flags)
{
    uint8_t memory[2048];
    struct writer out = writer_of(memory, sizeof memory);
    struct log_record record = record_of(text, flags);
    assert_int_equal(log_record_encode(&record, &out), STATUS_OK);
    assert_int_equal(log_writer_append(writer, bytes_of(memory, out.used), 1), STATUS_OK);
}

static struct log_writer new_writer(void)
{
    struct log_writer writer;
    log_writer_init(&writer, bytes_of_text("job"), bytes_of_text("task"), 0);
    return writer;
}

static struct log_reader *new_reader(void)
{
    struct log_reader *reader = NULL;
    struct error error = { 0 };
    enum status status = log_reader_open(".", "job", "task", &reader, &error);
    if (status != STATUS_OK) fail_msg("%s", error.text);
    return reader;
}

static void expect_line(struct log_reader *reader, const char *text)
{
    struct log_line line;
    assert_int_equal(log_reader_next(reader, &line), STATUS_OK);
    if (!bytes_equal(line.text, bytes_of_text(text)))
        fail_msg("\"%.*s\" instead of \"%s\"", (int)line.text.size, (const char *)line.text.data,
                 text);
}

static void expect_end(struct log_reader *reader)
{
    struct log_line line;
    assert_int_equal(log_reader_next(reader, &line), STATUS_NOT_FOUND);
}

static void a_record_comes_back_and_every_truncation_asks_for_more(void **state)
{
    (void)state;
    uint8_t memory[128];
    struct writer writer = writer_of(memory, sizeof memory);
    struct log_record record = record_of("hello", LOG_STDERR | LOG_CUT);
    assert_int_equal(log_record_encode(&record, &writer), STATUS_OK);
    struct log_record read;
    size_t used = 0;
    for (size_t size = 0; size < writer.used; size++) {
        uint8_t *exact = malloc(size + 1);
        memcpy(exact, memory, size);
        assert_int_equal(log_record_decode(bytes_of(exact, size), &read, &used), DECODE_MORE);
        free(exact);
    }
    assert_int_equal(log_record_decode(bytes_of(memory, writer.used), &read, &used), DECODE_OK);
    assert_int_equal(used, writer.used);
    assert_int_equal(read.flags, LOG_STDERR | LOG_CUT);
    assert_true(bytes_equal(read.text, bytes_of_text("hello")));
    for (size_t bit = 0; bit < writer.used * 8; bit++) {
        memory[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(log_record_decode(bytes_of(memory, writer.used), &read, &used),
                             DECODE_OK);
        memory[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void lines_are_read_in_order_with_their_parts_joined(void **state)
{
    (void)state;
    struct log_writer writer = new_writer();
    append(&writer, "one", 0);
    append(&writer, "two ", LOG_CONTINUES);
    append(&writer, "warning", LOG_STDERR);
    append(&writer, "goes on", 0);
    struct log_reader *reader = new_reader();
    expect_line(reader, "one");
    expect_line(reader, "warning");
    expect_line(reader, "two goes on");
    expect_end(reader);
    append(&writer, "later", 0);
    expect_line(reader, "later");
    log_reader_tail(reader, 2);
    expect_line(reader, "two goes on");
    expect_line(reader, "later");
    expect_end(reader);
    log_reader_close(reader);
    log_writer_close(&writer);
}

static void a_log_torn_at_any_byte_keeps_its_whole_records(void **state)
{
    (void)state;
    struct log_writer writer = new_writer();
    append(&writer, "first", 0);
    append(&writer, "second", 0);
    log_writer_close(&writer);
    const char *path = "job/task/0000000000000000.log";
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    uint8_t whole[512];
    FILE *file = fopen(path, "rb");
    assert_int_equal(fread(whole, 1, sizeof whole, file), about.st_size);
    assert_int_equal(fclose(file), 0);
    for (off_t size = 0; size <= about.st_size; size++) {
        file = fopen(path, "wb");
        assert_int_equal(fwrite(whole, 1, (size_t)size, file), size);
        assert_int_equal(fclose(file), 0);
        struct log_writer again = new_writer();
        append(&again, "third", 0);
        struct log_reader *reader = new_reader();
        if (size >= 32 + 24 + 5) expect_line(reader, "first");
        if (size >= 32 + 24 + 5 + 24 + 6) expect_line(reader, "second");
        expect_line(reader, "third");
        expect_end(reader);
        log_reader_close(reader);
        log_writer_close(&again);
    }
}

/* Of "line N". */
static int number_of(const struct log_line *line)
{
    return (int)strtol((const char *)line->text.data + 5, NULL, 10);
}

static void the_ring_keeps_the_newest_and_tells_a_slow_reader_what_it_missed(void **state)
{
    (void)state;
    enum { LINES = 4000 };
    struct log_writer writer = new_writer();
    char text[1001];
    append(&writer, "line 0", 0);
    struct log_reader *slow = new_reader();
    expect_line(slow, "line 0");
    for (int i = 1; i < LINES; i++) {
        (void)snprintf(text, sizeof text, "line %-990d", i);
        append(&writer, text, 0);
    }
    struct log_line line;
    assert_int_equal(log_reader_next(slow, &line), STATUS_OK); /* its segment is still open */
    uint64_t missed = line.missed_bytes;
    int last = number_of(&line);
    int count = 1;
    while (log_reader_next(slow, &line) == STATUS_OK) {
        int number = number_of(&line);
        missed += line.missed_bytes;
        if (line.missed_bytes == 0) assert_int_equal(number, last + 1);
        last = number;
        count++;
    }
    assert_int_equal(last, LINES - 1);
    assert_true(missed > 0);
    assert_true(count < LINES);
    log_reader_close(slow);
    struct log_reader *late = new_reader();
    assert_int_equal(log_reader_next(late, &line), STATUS_OK);
    assert_true(line.missed_bytes == 0);
    int kept = LINES - number_of(&line);
    assert_true(kept * 1024 > LOG_KEPT_BYTES_DEFAULT / 2);
    assert_true(kept * 1024 < LOG_KEPT_BYTES_DEFAULT * 2);
    log_reader_close(late);
    log_writer_close(&writer);
}

static void a_rewound_log_forgets_what_followed_also_across_segments(void **state)
{
    (void)state;
    struct log_writer writer = new_writer();
    append(&writer, "stays", 0);
    uint64_t position = writer.end;
    char text[1001];
    (void)snprintf(text, sizeof text, "%-1000d", 1);
    while (writer.base == 0) append(&writer, text, 0);
    log_writer_close(&writer);
    struct log_writer again = new_writer();
    assert_int_equal(log_writer_rewind(&again, position, 1), STATUS_OK);
    append(&again, "new", 0);
    struct log_reader *reader = new_reader();
    expect_line(reader, "stays");
    expect_line(reader, "new");
    expect_end(reader);
    log_reader_close(reader);
    log_writer_close(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_comes_back_and_every_truncation_asks_for_more),
        cmocka_unit_test_setup_teardown(lines_are_read_in_order_with_their_parts_joined,
                                        enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(a_log_torn_at_any_byte_keeps_its_whole_records,
                                        enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(
            the_ring_keeps_the_newest_and_tells_a_slow_reader_what_it_missed, enter_folder,
            leave_folder),
        cmocka_unit_test_setup_teardown(a_rewound_log_forgets_what_followed_also_across_segments,
                                        enter_folder, leave_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
