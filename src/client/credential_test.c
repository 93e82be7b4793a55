/* A whole credential is loaded, and a folder that is not one is refused by its file.
 *
 * Method: write the files, load, compare; then spoil one at a time. */
#include "client/credential.h"

#include "reactor/real_test.h"

#include <sys/stat.h>

static struct credential example, loaded;
static char folder[TEST_PATH_BYTES * 2];

static void spoil(const char *name, const char *text, size_t size)
{
    char path[TEST_PATH_BYTES * 3];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0600), 0);
}

static void save_example(void)
{
    test_path(folder, "operator");
    (void)mkdir(folder, 0700);
    memset(&example, 0, sizeof example);
    (void)snprintf(example.certificate, sizeof example.certificate, "certificate\n");
    (void)snprintf(example.key, sizeof example.key, "key\n");
    (void)snprintf(example.authority, sizeof example.authority, "authority\n");
    (void)snprintf(example.addresses[0], sizeof example.addresses[0], "127.0.0.1:7117");
    (void)snprintf(example.addresses[1], sizeof example.addresses[1], "[::1]:7117");
    example.address_count = 2;
    static const char addresses[] = "127.0.0.1:7117\n[::1]:7117\n";
    spoil("operator.crt", example.certificate, strlen(example.certificate));
    spoil("operator.key", example.key, strlen(example.key));
    spoil("authority.crt", example.authority, strlen(example.authority));
    spoil("addresses", addresses, strlen(addresses));
}

static void check_refused(enum status expected, const char *part)
{
    struct error error = { 0 };
    assert_int_equal(credential_load(folder, &loaded, &error), expected);
    if (strstr(error.text, part) == NULL) fail_msg("%s", error.text);
}

static void a_whole_folder_is_loaded(void **state)
{
    (void)state;
    struct error error = { 0 };
    save_example();
    assert_int_equal(credential_load(folder, &loaded, &error), STATUS_OK);
    assert_memory_equal(&loaded, &example, sizeof example);
}

static void a_folder_that_is_not_there_is_said_to_be_missing(void **state)
{
    (void)state;
    test_path(folder, "nowhere");
    check_refused(STATUS_NOT_FOUND, "nowhere: No such file or directory");
    save_example();
    char path[TEST_PATH_BYTES * 3];
    (void)snprintf(path, sizeof path, "%s/addresses", folder);
    assert_int_equal(unlink(path), 0);
    check_refused(STATUS_NOT_FOUND, "addresses can't be read: not found");
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
    char many[17 * 4];
    for (size_t i = 0; i < sizeof many; i++) many[i] = "a:1\n"[i % 4];
    spoil("addresses", many, sizeof many);
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
        cmocka_unit_test(a_whole_folder_is_loaded),
        cmocka_unit_test(a_folder_that_is_not_there_is_said_to_be_missing),
        cmocka_unit_test(a_key_that_others_may_read_is_refused_with_the_way_out),
        cmocka_unit_test(a_file_that_is_empty_too_large_or_no_text_is_refused),
        cmocka_unit_test(an_address_that_is_none_is_refused_by_its_line),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
