/* The disks over a real folder do what base/disk.h promises, and say why when they can not.
 *
 * Method: each test runs on the reactor's disk (in a fiber, on the backend that UNUM_IO names) and
 * on the blocking disk. Devices that fail are special files: /dev/full for a full disk, a pipe for
 * one that can't sync. */
#include "reactor/real_test.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

enum { BLOCK = DISK_DIRECT_ALIGN, BLOCKS = 64, FIBERS = 20 };

struct trial {
    void (*test)(struct disk *disk);
};

static void reactor_trial(struct scope *root, void *context)
{
    (void)root;
    struct trial *trial = context;
    struct disk *disk;
    struct error error = { 0 };
    assert_int_equal(reactor_disk_open(fiber_reactor(), test_folder, &disk, &error), STATUS_OK);
    trial->test(disk);
    reactor_disk_close(disk);
}

/* On the reactor's disk, then on the blocking one, each in a fresh folder. */
static void on_both_disks(void (*test)(struct disk *disk))
{
    struct trial trial = { .test = test };
    test_folder_create();
    test_run(reactor_trial, &trial);
    test_folder_remove();
    test_folder_create();
    struct disk *disk;
    assert_int_equal(blocking_disk_open(test_folder, &disk, NULL), STATUS_OK);
    test(disk);
    blocking_disk_close(disk);
    test_folder_remove();
}

static struct disk_file *open_file(struct disk *disk, const char *path, unsigned flags)
{
    struct disk_file *file = NULL;
    assert_int_equal(disk->open(disk, path, flags, &file), STATUS_OK);
    return file;
}

/* --- contents ---
 */

static void contents(struct disk *disk)
{
    struct disk_file *file = open_file(disk, "file", DISK_OPEN_CREATE);
    char bytes[32];
    size_t got;
    uint64_t size;
    assert_int_equal(disk->write(file, 0, "hello, world", 12), STATUS_OK);
    assert_int_equal(disk->write(file, 7, "Unum!", 5), STATUS_OK);
    assert_int_equal(disk->sync(file), STATUS_OK);
    assert_int_equal(disk->read(file, 0, bytes, sizeof bytes, &got), STATUS_OK);
    assert_int_equal(got, 12);
    assert_memory_equal(bytes, "hello, Unum!", 12);
    assert_int_equal(disk->read(file, 10, bytes, sizeof bytes, &got), STATUS_OK);
    assert_int_equal(got, 2);
    assert_int_equal(disk->read(file, 100, bytes, sizeof bytes, &got), STATUS_OK);
    assert_int_equal(got, 0);
    assert_int_equal(disk->write_sync(file, 12, " Well.", 6), STATUS_OK);
    assert_int_equal(disk->size(file, &size), STATUS_OK);
    assert_int_equal(size, 18);
    assert_int_equal(disk->truncate(file, 5), STATUS_OK);
    assert_int_equal(disk->size(file, &size), STATUS_OK);
    assert_int_equal(size, 5);
    disk->close(file);
    disk->close(NULL);
    file = open_file(disk, "file", DISK_OPEN_READ);
    assert_int_equal(disk->write(file, 0, "x", 1), STATUS_IO); /* opened for reading */
    assert_int_equal(disk->read(file, 0, bytes, sizeof bytes, &got), STATUS_OK);
    assert_int_equal(got, 5);
    disk->close(file);
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    on_both_disks(contents);
}

static void direct(struct disk *disk)
{
    static _Alignas(DISK_DIRECT_ALIGN) uint8_t out[BLOCK * BLOCKS], in[BLOCK * BLOCKS];
    struct disk_file *file =
        open_file(disk, "direct", DISK_OPEN_CREATE | DISK_OPEN_EXCLUSIVE | DISK_OPEN_DIRECT);
    size_t got;
    assert_int_equal(disk->write(file, 0, in, sizeof in), STATUS_OK);
    assert_int_equal(disk->sync(file), STATUS_OK);
    for (unsigned i = 0; i < BLOCKS; i++) {
        memset(out + (size_t)i * BLOCK, (int)i + 1, BLOCK);
        assert_int_equal(
            disk->write_sync(file, (uint64_t)i * BLOCK, out + (size_t)i * BLOCK, BLOCK), STATUS_OK);
    }
    assert_int_equal(disk->read(file, 0, in, sizeof in, &got), STATUS_OK);
    assert_int_equal(got, sizeof in);
    assert_memory_equal(in, out, sizeof in);
    disk->close(file);
}

static void direct_files_bypass_the_cache_and_hold_what_was_written(void **state)
{
    (void)state;
    on_both_disks(direct);
}

/* --- names ---
 */

static void names(struct disk *disk)
{
    struct disk_entry entries[4];
    struct disk_file *file;
    size_t count;
    assert_int_equal(disk->make_folder(disk, "folder"), STATUS_OK);
    assert_int_equal(disk->make_folder(disk, "folder"), STATUS_EXISTS);
    assert_int_equal(disk->make_folder(disk, "missing/folder"), STATUS_NOT_FOUND);
    disk->close(open_file(disk, "folder/b", DISK_OPEN_CREATE));
    disk->close(open_file(disk, "folder/a", DISK_OPEN_CREATE));
    assert_int_equal(disk->make_folder(disk, "folder/B"), STATUS_OK);
    assert_int_equal(disk->open(disk, "folder/b", DISK_OPEN_CREATE | DISK_OPEN_EXCLUSIVE, &file),
                     STATUS_EXISTS);
    assert_int_equal(disk->open(disk, "folder/c", DISK_OPEN_WRITE, &file), STATUS_NOT_FOUND);
    assert_int_equal(disk->open(disk, "folder", DISK_OPEN_READ, &file), STATUS_INVALID);
    assert_int_equal(disk->sync_folder(disk, "folder"), STATUS_OK);
    assert_int_equal(disk->sync_folder(disk, ""), STATUS_OK);
    assert_int_equal(disk->list(disk, "folder", entries, 4, &count), STATUS_OK);
    assert_int_equal(count, 3);
    assert_string_equal(entries[0].name, "B"); /* in byte order */
    assert_true(entries[0].is_folder);
    assert_string_equal(entries[1].name, "a");
    assert_string_equal(entries[2].name, "b");
    assert_int_equal(disk->list(disk, "folder", entries, 2, &count), STATUS_FULL);
    assert_int_equal(count, 3);
    assert_int_equal(disk->list(disk, "missing", entries, 2, &count), STATUS_NOT_FOUND);
    assert_int_equal(disk->rename(disk, "folder/a", "folder/b"), STATUS_OK);
    assert_int_equal(disk->rename(disk, "folder/a", "folder/c"), STATUS_NOT_FOUND);
    assert_int_equal(disk->remove(disk, "folder"), STATUS_EXISTS); /* not empty */
    assert_int_equal(disk->remove(disk, "folder/b"), STATUS_OK);
    assert_int_equal(disk->remove(disk, "folder/b"), STATUS_NOT_FOUND);
    assert_int_equal(disk->remove(disk, "folder/B"), STATUS_OK);
    assert_int_equal(disk->remove(disk, "folder"), STATUS_OK);
    uint64_t free_bytes = 0;
    assert_int_equal(disk->free_bytes(disk, &free_bytes), STATUS_OK);
    assert_true(free_bytes > 0);
}

static void names_are_made_listed_renamed_and_removed(void **state)
{
    (void)state;
    on_both_disks(names);
}

static void bad_paths(struct disk *disk)
{
    char long_path[DISK_PATH_BYTES_MAX + 2];
    memset(long_path, 'x', sizeof long_path);
    long_path[sizeof long_path - 1] = '\0';
    const char *const paths[] = { "",     "/",     "/etc/passwd", ".",  "..",  "a/..",
                                  "../a", "a/./b", "a//b",        "a/", "./a", long_path };
    struct disk_file *file;
    struct disk_entry entry;
    size_t count;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        assert_int_equal(disk->open(disk, paths[i], DISK_OPEN_CREATE, &file), STATUS_INVALID);
        assert_int_equal(disk->remove(disk, paths[i]), STATUS_INVALID);
        assert_int_equal(disk->rename(disk, paths[i], "good"), STATUS_INVALID);
        assert_int_equal(disk->rename(disk, "good", paths[i]), STATUS_INVALID);
        assert_int_equal(disk->make_folder(disk, paths[i]), STATUS_INVALID);
        assert_int_equal(disk->lock(disk, paths[i]), STATUS_INVALID);
        if (paths[i][0] == '\0') continue; /* the root */
        assert_int_equal(disk->list(disk, paths[i], &entry, 1, &count), STATUS_INVALID);
        assert_int_equal(disk->sync_folder(disk, paths[i]), STATUS_INVALID);
    }
    /* Three dots are a name like any other. */
    disk->close(open_file(disk, "...", DISK_OPEN_CREATE));
    char link_path[TEST_NAME_BYTES];
    test_path(link_path, "link");
    assert_int_equal(symlink("/etc/passwd", link_path), 0);
    assert_int_equal(disk->open(disk, "link", DISK_OPEN_READ, &file), STATUS_INVALID);
}

static void no_path_leads_out_of_the_folder(void **state)
{
    (void)state;
    on_both_disks(bad_paths);
}

/* --- failures ---
 */

static void failing(struct disk *disk)
{
    char path[TEST_NAME_BYTES];
    test_path(path, "pipe");
    assert_int_equal(mkfifo(path, 0600), 0);
    struct disk_file *file = open_file(disk, "pipe", DISK_OPEN_WRITE);
    assert_int_equal(disk->sync(file), STATUS_IO);
    disk->close(file);
    test_path(path, "full");
    if (mknod(path, S_IFCHR | 0600, makedev(1, 7)) != 0 || access("/dev/full", F_OK) != 0) {
        print_message("skipped: no right to make a device that is full\n");
        return;
    }
    int number = open(path, O_WRONLY | O_CLOEXEC);
    if (number < 0) {
        print_message("skipped: devices do not work in this folder\n");
        return;
    }
    (void)close(number);
    file = open_file(disk, "full", DISK_OPEN_WRITE);
    assert_int_equal(disk->write(file, 0, "x", 1), STATUS_FULL);
    assert_int_equal(disk->write_sync(file, 0, "x", 1), STATUS_FULL);
    disk->close(file);
}

static void a_full_disk_and_a_failed_sync_are_told_apart(void **state)
{
    (void)state;
    on_both_disks(failing);
}

static void missing_folder_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    struct disk *disk;
    struct error error;
    assert_int_equal(reactor_disk_open(fiber_reactor(), "/nowhere/at/all", &disk, &error),
                     STATUS_NOT_FOUND);
    assert_string_equal(error.text, "/nowhere/at/all: No such file or directory");
    assert_int_equal(blocking_disk_open("/dev/null", &disk, &error), STATUS_INVALID);
}

static void a_missing_folder_is_named(void **state)
{
    (void)state;
    test_run(missing_folder_main, NULL);
}

/* --- the lock ---
 */

/* Whether another process gets the lock. */
static bool another_process_locks(const char *name)
{
    char path[TEST_NAME_BYTES];
    test_path(path, name);
    pid_t child = fork();
    if (child == 0) {
        int number = open(path, O_RDWR | O_CLOEXEC);
        _exit(number >= 0 && flock(number, LOCK_EX | LOCK_NB) == 0 ? 0 : 1);
    }
    int result = -1;
    assert_int_equal(waitpid(child, &result, 0), child);
    return WIFEXITED(result) && WEXITSTATUS(result) == 0;
}

static void locks(struct disk *disk)
{
    assert_int_equal(disk->lock(disk, "lock"), STATUS_OK);
    assert_int_equal(disk->lock(disk, "lock"), STATUS_BUSY);
    assert_false(another_process_locks("lock"));

    /* A second process holds it, and dies. */
    char path[TEST_NAME_BYTES];
    int ready[2], end[2];
    char byte;
    test_path(path, "other");
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(end), 0);
    pid_t child = fork();
    if (child == 0) {
        (void)close(end[1]);
        int number = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (flock(number, LOCK_EX | LOCK_NB) == 0 && write(ready[1], "x", 1) == 1)
            while (read(end[0], &byte, 1) > 0) continue;
        _exit(0);
    }
    (void)close(end[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(disk->lock(disk, "other"), STATUS_BUSY);
    (void)close(end[1]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(disk->lock(disk, "other"), STATUS_OK);
    (void)close(ready[0]);
    (void)close(ready[1]);
}

static void a_lock_held_by_a_second_process_is_busy_until_it_dies(void **state)
{
    (void)state;
    on_both_disks(locks);
}

/* --- many at once ---
 */

struct writer_fiber {
    struct disk *disk;
    struct disk_file *file;
    unsigned number;
    unsigned *ended;
};

static void write_blocks(void *argument)
{
    struct writer_fiber *writer = argument;
    uint8_t *block = aligned_alloc(BLOCK, BLOCK);
    memset(block, (int)writer->number + 1, BLOCK);
    for (unsigned i = 0; i < 5; i++) {
        uint64_t offset = ((uint64_t)writer->number * 5 + i) * BLOCK;
        assert_int_equal(writer->disk->write_sync(writer->file, offset, block, BLOCK), STATUS_OK);
    }
    free(block);
    (*writer->ended)++;
}

static void many_main(struct scope *root, void *context)
{
    (void)context;
    struct disk *disk;
    struct scope scope;
    struct writer_fiber writers[FIBERS];
    unsigned ended = 0;
    assert_int_equal(reactor_disk_open(fiber_reactor(), test_folder, &disk, NULL), STATUS_OK);
    struct disk_file *file = open_file(disk, "many", DISK_OPEN_CREATE | DISK_OPEN_DIRECT);
    scope_init(&scope, root);
    for (unsigned i = 0; i < FIBERS; i++) {
        writers[i] =
            (struct writer_fiber) { .disk = disk, .file = file, .number = i, .ended = &ended };
        test_spawn(&scope, write_blocks, &writers[i]);
    }
    assert_int_equal(fiber_yield(), STATUS_OK);
    scope_cancel(&scope); /* a disk operation is not cut short, and the next still goes through */
    scope_join(&scope);
    assert_int_equal(ended, FIBERS);
    uint8_t *block = aligned_alloc(BLOCK, BLOCK);
    for (unsigned i = 0; i < FIBERS * 5; i++) {
        size_t got;
        assert_int_equal(disk->read(file, (uint64_t)i * BLOCK, block, BLOCK, &got), STATUS_OK);
        assert_int_equal(got, BLOCK);
        assert_int_equal(block[0], i / 5 + 1);
        assert_int_equal(block[BLOCK - 1], i / 5 + 1);
    }
    free(block);
    disk->close(file);
    reactor_disk_close(disk);
}

static void many_fibers_write_one_file_at_once(void **state)
{
    (void)state;
    test_folder_create();
    test_run(many_main, NULL);
    test_folder_remove();
}

/* A letter that arrives while a write looks for news must not wait for the next event. */
struct letter_box {
    struct condition condition;
    bool delivered;
};

static void deliver(void *argument)
{
    struct letter_box *box = argument;
    box->delivered = true;
    condition_signal(&box->condition);
}

static void letter_main(struct scope *root, void *context)
{
    (void)root;
    (void)context;
    struct letter_box box = { 0 };
    struct disk *disk;
    condition_init(&box.condition);
    assert_int_equal(reactor_disk_open(fiber_reactor(), test_folder, &disk, NULL), STATUS_OK);
    struct disk_file *file = open_file(disk, "file", DISK_OPEN_CREATE);
    uint64_t begin_ns = test_now_ns();
    assert_int_equal(reactor_post(fiber_reactor(), deliver, &box), STATUS_OK);
    assert_int_equal(disk->write_sync(file, 0, "x", 1), STATUS_OK);
    if (!box.delivered)
        assert_int_equal(condition_wait(&box.condition, test_now_ns() + 5000ULL * MS), STATUS_OK);
    assert_true(box.delivered);
    assert_true(test_now_ns() < begin_ns + 4000ULL * MS);
    disk->close(file);
    reactor_disk_close(disk);
}

static void a_letter_posted_before_a_write_is_delivered_after_it(void **state)
{
    (void)state;
    test_folder_create();
    test_run(letter_main, NULL);
    test_folder_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(direct_files_bypass_the_cache_and_hold_what_was_written),
        cmocka_unit_test(names_are_made_listed_renamed_and_removed),
        cmocka_unit_test(no_path_leads_out_of_the_folder),
        cmocka_unit_test(a_full_disk_and_a_failed_sync_are_told_apart),
        cmocka_unit_test(a_missing_folder_is_named),
        cmocka_unit_test(a_lock_held_by_a_second_process_is_busy_until_it_dies),
        cmocka_unit_test(many_fibers_write_one_file_at_once),
        cmocka_unit_test(a_letter_posted_before_a_write_is_delivered_after_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
