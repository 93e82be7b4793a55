#include "client/credential.h"

#include "reactor/host.h"
#include "reactor/reactor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PATH_BYTES = 2048,
    ADDRESSES_FILE_BYTES_MAX = CREDENTIAL_ADDRESSES_MAX * NETWORK_ADDRESS_BYTES_MAX,
};

struct folder {
    const char *path; /* for sentences */
    struct disk *disk;
    struct error *error;
};

static enum status read_file(const struct folder *folder, struct disk_file *file, const char *name,
                             char *ret_text, size_t size)
{
    uint64_t file_size = 0;
    enum status status = folder->disk->size(file, &file_size);
    if (status == STATUS_OK && (file_size == 0 || file_size >= size))
        return error_set(folder->error, STATUS_INVALID, "%s/%s is empty or larger than %zu bytes",
                         folder->path, name, size - 1);
    size_t used = 0;
    if (status == STATUS_OK) status = folder->disk->read(file, 0, ret_text, size - 1, &used);
    if (status != STATUS_OK)
        return error_set(folder->error, status, "%s/%s can't be read: %s", folder->path, name,
                         status_name(status));
    ret_text[used] = '\0';
    if (memchr(ret_text, 0, used) != NULL)
        return error_set(folder->error, STATUS_INVALID, "%s/%s is not a text", folder->path, name);
    return STATUS_OK;
}

static enum status load(const struct folder *folder, const char *name, char *ret_text, size_t size)
{
    struct disk_file *file = NULL;
    enum status status = folder->disk->open(folder->disk, name, DISK_OPEN_READ, &file);
    if (status != STATUS_OK)
        return error_set(folder->error, status, "%s/%s can't be read: %s", folder->path, name,
                         status_name(status));
    status = read_file(folder, file, name, ret_text, size);
    folder->disk->close(file);
    return status;
}

static enum status load_key(const struct folder *folder, char *ret_text, size_t size)
{
    char path[PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s/operator.key", folder->path);
    if (length < 0 || (size_t)length >= sizeof path)
        return error_set(folder->error, STATUS_INVALID, "the credential's path is too long");
    if (host_check_private(path) == STATUS_DENIED)
        return error_set(folder->error, STATUS_DENIED,
                         "%s can be read by others; make it yours alone: chmod 600 %s", path, path);
    return load(folder, "operator.key", ret_text, size);
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

static enum status load_all(const struct folder *folder, struct credential *read, char *addresses)
{
    enum status status = load(folder, "operator.crt", read->certificate, sizeof read->certificate);
    if (status == STATUS_OK) status = load_key(folder, read->key, sizeof read->key);
    if (status == STATUS_OK)
        status = load(folder, "authority.crt", read->authority, sizeof read->authority);
    if (status == STATUS_OK)
        status = load(folder, "addresses", addresses, ADDRESSES_FILE_BYTES_MAX);
    if (status == STATUS_OK) status = parse_addresses(addresses, read, folder->error);
    return status;
}

enum status credential_load(const char *path, struct credential *ret_credential,
                            struct error *error)
{
    struct folder folder = { .path = path, .error = error };
    enum status status = blocking_disk_open(path, &folder.disk, error);
    if (status != STATUS_OK) return status;
    struct credential *read = calloc(1, sizeof *read);
    char *addresses = malloc(ADDRESSES_FILE_BYTES_MAX);
    if (read == NULL || addresses == NULL) {
        status = error_set(error, STATUS_NO_MEMORY, "no memory for a credential");
    } else {
        status = load_all(&folder, read, addresses);
        if (status == STATUS_OK) *ret_credential = *read;
    }
    free(read);
    free(addresses);
    blocking_disk_close(folder.disk);
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
