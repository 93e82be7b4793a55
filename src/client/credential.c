#include "client/credential.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PATH_BYTES = 4096 - 512, /* fits the frame; longer folders are refused */
    ADDRESSES_FILE_BYTES_MAX = CREDENTIAL_ADDRESSES_MAX * NETWORK_ADDRESS_BYTES_MAX,
    FOLDER_MODE = 0700,
    KEY_MODE = 0600,
    OTHER_MODE = 0644,
    OTHERS_MASK = 077,
};

static enum status failed(struct error *error, const char *path, int number)
{
    enum status status = number == ENOENT || number == ENOTDIR                    ? STATUS_NOT_FOUND
                         : number == EACCES || number == EPERM || number == EROFS ? STATUS_DENIED
                         : number == ENOSPC || number == EDQUOT                   ? STATUS_FULL
                                                                                  : STATUS_IO;
    return error_set(error, status, "%s: %s", path, strerror(number));
}

static enum status path_of(const char *folder, const char *name, const char *suffix,
                           char ret_path[PATH_BYTES], struct error *error)
{
    int length = snprintf(ret_path, PATH_BYTES, "%s/%s%s", folder, name, suffix);
    if (length < 0 || length >= PATH_BYTES)
        return error_set(error, STATUS_INVALID, "the credential's path is too long: %.100s...",
                         folder);
    return STATUS_OK;
}

/* --- loading -----------------------------------------------------------------------------------
 */

static enum status check_file(int file, const char *path, bool is_key, size_t size,
                              struct error *error)
{
    struct stat facts;
    if (fstat(file, &facts) != 0) return failed(error, path, errno);
    if (!S_ISREG(facts.st_mode))
        return error_set(error, STATUS_INVALID, "%s is not a regular file", path);
    if (is_key && (facts.st_mode & OTHERS_MASK) != 0)
        return error_set(error, STATUS_DENIED,
                         "%s can be read by others; make it yours alone: chmod 600 %s", path, path);
    if (facts.st_size <= 0 || (size_t)facts.st_size >= size)
        return error_set(error, STATUS_INVALID, "%s is empty or larger than %zu bytes", path,
                         size - 1);
    return STATUS_OK;
}

static enum status read_text(int file, const char *path, char *ret_text, size_t size,
                             struct error *error)
{
    size_t used = 0;
    while (used < size - 1) {
        ssize_t count = read(file, ret_text + used, size - 1 - used);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return failed(error, path, errno);
        if (count == 0) break;
        used += (size_t)count;
    }
    ret_text[used] = '\0';
    if (memchr(ret_text, 0, used) != NULL)
        return error_set(error, STATUS_INVALID, "%s is not a text", path);
    return STATUS_OK;
}

static enum status load_file(const char *folder, const char *name, bool is_key, char *ret_text,
                             size_t size, struct error *error)
{
    char path[PATH_BYTES];
    enum status status = path_of(folder, name, "", path, error);
    if (status != STATUS_OK) return status;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0) return failed(error, path, errno);
    status = check_file(file, path, is_key, size, error);
    if (status == STATUS_OK) status = read_text(file, path, ret_text, size, error);
    (void)close(file);
    return status;
}

/* One address on each line; empty lines and those that begin with '#' are left out. */
static enum status parse_addresses(char *text, struct credential *credential, struct error *error)
{
    char *rest = text;
    char *line;
    unsigned number = 0;
    while ((line = strsep(&rest, "\n")) != NULL) {
        number++;
        if (line[0] == '\0' || line[0] == '#') continue;
        if (strlen(line) >= NETWORK_ADDRESS_BYTES_MAX || strchr(line, ':') == NULL ||
            strpbrk(line, " \t\r") != NULL)
            return error_set(error, STATUS_INVALID,
                             "addresses: line %u is not HOST:PORT: \"%.60s\"", number, line);
        if (credential->address_count == CREDENTIAL_ADDRESSES_MAX)
            return error_set(error, STATUS_INVALID, "addresses: line %u: more than %d addresses",
                             number, CREDENTIAL_ADDRESSES_MAX);
        memcpy(credential->addresses[credential->address_count++], line, strlen(line) + 1);
    }
    if (credential->address_count == 0)
        return error_set(error, STATUS_INVALID, "addresses: there is none");
    return STATUS_OK;
}

enum status credential_load(const char *folder, struct credential *ret_credential,
                            struct error *error)
{
    struct credential *read = calloc(1, sizeof *read);
    char *addresses = malloc(ADDRESSES_FILE_BYTES_MAX);
    enum status status = STATUS_NO_MEMORY;
    if (read == NULL || addresses == NULL) {
        (void)error_set(error, status, "no memory for a credential");
        goto out;
    }
    status = load_file(folder, "operator.crt", false, read->certificate, sizeof read->certificate,
                       error);
    if (status == STATUS_OK)
        status = load_file(folder, "operator.key", true, read->key, sizeof read->key, error);
    if (status == STATUS_OK)
        status = load_file(folder, "authority.crt", false, read->authority, sizeof read->authority,
                           error);
    if (status == STATUS_OK)
        status = load_file(folder, "addresses", false, addresses, ADDRESSES_FILE_BYTES_MAX, error);
    if (status == STATUS_OK) status = parse_addresses(addresses, read, error);
    if (status == STATUS_OK) *ret_credential = *read;
out:
    free(read);
    free(addresses);
    return status;
}

/* --- saving ------------------------------------------------------------------------------------
 */

static enum status write_whole(int file, const char *path, const char *text, struct error *error)
{
    size_t left = strlen(text);
    while (left > 0) {
        ssize_t count = write(file, text, left);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return failed(error, path, errno);
        text += count;
        left -= (size_t)count;
    }
    return fsync(file) == 0 ? STATUS_OK : failed(error, path, errno);
}

/* Under another name first, so that a reader never sees a part. */
static enum status save_file(const char *folder, const char *name, mode_t mode, const char *text,
                             struct error *error)
{
    char path[PATH_BYTES];
    enum status status = path_of(folder, name, ".new", path, error);
    if (status != STATUS_OK) return status;
    (void)unlink(path);
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (file < 0) return failed(error, path, errno);
    status = write_whole(file, path, text, error);
    (void)close(file);
    if (status != STATUS_OK) {
        (void)unlink(path);
        return status;
    }
    int directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) return failed(error, folder, errno);
    char from[NAME_MAX];
    (void)snprintf(from, sizeof from, "%s.new", name);
    if (renameat(directory, from, directory, name) != 0 || fsync(directory) != 0)
        status = failed(error, path, errno);
    (void)close(directory);
    return status;
}

enum status credential_save(const char *folder, const struct credential *credential,
                            struct error *error)
{
    if (mkdir(folder, FOLDER_MODE) != 0 && errno != EEXIST) return failed(error, folder, errno);
    char *addresses = calloc(1, ADDRESSES_FILE_BYTES_MAX + 1);
    if (addresses == NULL) return error_set(error, STATUS_NO_MEMORY, "no memory");
    for (size_t i = 0; i < credential->address_count; i++) {
        strcat(addresses, credential->addresses[i]);
        strcat(addresses, "\n");
    }
    enum status status =
        save_file(folder, "authority.crt", OTHER_MODE, credential->authority, error);
    if (status == STATUS_OK)
        status = save_file(folder, "operator.key", KEY_MODE, credential->key, error);
    if (status == STATUS_OK)
        status = save_file(folder, "operator.crt", OTHER_MODE, credential->certificate, error);
    if (status == STATUS_OK) status = save_file(folder, "addresses", OTHER_MODE, addresses, error);
    free(addresses);
    return status;
}

enum status credential_tls(const struct credential *credential, struct tls_context **ret_context,
                           struct error *error)
{
    struct tls_options options = { .certificate_pem = credential->certificate,
                                   .key_pem = credential->key,
                                   .authority_pem = credential->authority,
                                   .alpn = { "h2" } };
    return tls_context_create(&options, ret_context, error);
}
