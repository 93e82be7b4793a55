/* A credential reads back as it was saved, and a folder that is not one is refused by its file.
 *
 * Method: save, load, compare; then spoil one file at a time. */
#include "client/credential.h"

#include "reactor/real_test.h"

#include <sys/stat.h>

static struct credential example, loaded;
static char folder[TEST_PATH_BYTES * 2];

static void save_example(void)
{
    struct error error = { 0 };
    test_path(folder, "operator");
    memset(&example, 0, sizeof example);
    (void)snprintf(example.certificate, sizeof example.certificate, "certificate\n");
    (void)snprintf(example.key, sizeof example.key, "key\n");
    (void)snprintf(example.authority, sizeof example.authority, "authority\n");
    (void)snprintf(example.addresses[0], sizeof example.addresses[0], "127.0.0.1:7117");
    (void)snprintf(example.addresses[1], sizeof example.addresses[1], "[::1]:7117");
    example.address_count = 2;
    if (credential_save(folder, &example, &error) != STATUS_OK) fail_msg("%s", error.text);
}

static void spoil(const char *name, const char *text, size_t size)
{
    char path[TEST_PATH_BYTES * 3];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void check_refused(enum status expected, const char *part)
{
    struct error error = { 0 };
    assert_int_equal(credential_load(folder, &loaded, &error), expected);
    if (strstr(error.text, part) == NULL) fail_msg("%s", error.text);
}

static void what_is_saved_is_what_is_loaded(void **state)
{
    (void)state;
    struct error error = { 0 };
    save_example();
    save_example(); /* over itself */
    assert_int_equal(credential_load(folder, &loaded, &error), STATUS_OK);
    assert_memory_equal(&loaded, &example, sizeof example);
    char path[TEST_PATH_BYTES * 3];
    struct stat facts;
    (void)snprintf(path, sizeof path, "%s/operator.key", folder);
    assert_int_equal(stat(path, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0600);
    assert_int_equal(stat(folder, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0700);
}

static void a_folder_that_is_not_there_is_said_to_be_missing(void **state)
{
    (void)state;
    test_path(folder, "nowhere");
    check_refused(STATUS_NOT_FOUND, "nowhere/operator.crt: No such file or directory");
}

static void a_key_that_others_may_read_is_refused_with_the_way_out(void **state)
{
    (void)state;
    save_example();
    char path[TEST_PATH_BYTES * 3];
    (void)snprintf(path, sizeof path, "%s/operator.key", folder);
    assert_int_equal(chmod(path, 0640), 0);
    check_refused(STATUS_DENIED, "make it yours alone: chmod 600 ");
    assert_int_equal(chmod(path, 0600), 0);
    struct error error = { 0 };
    assert_int_equal(credential_load(folder, &loaded, &error), STATUS_OK);
}

static void a_file_that_is_empty_too_large_or_no_text_is_refused(void **state)
{
    (void)state;
    static char large[CREDENTIAL_PEM_BYTES_MAX + 1];
    memset(large, 'x', sizeof large);
    save_example();
    spoil("authority.crt", "", 0);
    check_refused(STATUS_INVALID, "authority.crt is empty or larger");
    spoil("authority.crt", large, sizeof large);
    check_refused(STATUS_INVALID, "authority.crt is empty or larger");
    spoil("authority.crt", "a\0b", 3);
    check_refused(STATUS_INVALID, "authority.crt is not a text");
}

static void an_address_that_is_none_is_refused_by_its_line(void **state)
{
    (void)state;
    struct error error = { 0 };
    save_example();
    static const char good[] = "# first\n\nhost:1\nunix:/run/unum";
    spoil("addresses", good, sizeof good - 1);
    assert_int_equal(credential_load(folder, &loaded, &error), STATUS_OK);
    assert_int_equal(loaded.address_count, 2);
    assert_string_equal(loaded.addresses[1], "unix:/run/unum");
    static const char bad[] = "host:1\nnowhere\n";
    spoil("addresses", bad, sizeof bad - 1);
    check_refused(STATUS_INVALID, "addresses: line 2 is not HOST:PORT: \"nowhere\"");
    spoil("addresses", "#\n", 2);
    check_refused(STATUS_INVALID, "addresses: there is none");
    char many[17 * 4 + 1] = "";
    for (int i = 0; i < 17; i++) strcat(many, "a:1\n");
    spoil("addresses", many, strlen(many));
    check_refused(STATUS_INVALID, "addresses: line 17: more than 16 addresses");
}

static int setup(void **state)
{
    (void)state;
    test_folder_create();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_folder_remove();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_saved_is_what_is_loaded),
        cmocka_unit_test(a_folder_that_is_not_there_is_said_to_be_missing),
        cmocka_unit_test(a_key_that_others_may_read_is_refused_with_the_way_out),
        cmocka_unit_test(a_file_that_is_empty_too_large_or_no_text_is_refused),
        cmocka_unit_test(an_address_that_is_none_is_refused_by_its_line),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
