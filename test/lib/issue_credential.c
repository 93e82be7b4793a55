/* issue_credential AUTHORITY OUTPUT NAME EXPIRES_MS: an operator's key and certificate, signed by
 * the authority in the folder AUTHORITY, that end at EXPIRES_MS of computer time. For tests. */
#include "base/parse.h"
#include "identity/authority.h"

#include <stdio.h>
#include <stdlib.h>

static bool read_file(const char *folder, const char *name, char text[AUTHORITY_PEM_BYTES_MAX])
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (file == NULL) return false;
    size_t size = fread(text, 1, AUTHORITY_PEM_BYTES_MAX - 1, file);
    text[size] = '\0';
    (void)fclose(file);
    return size > 0;
}

static bool write_file(const char *folder, const char *name, const char *text)
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (file == NULL) return false;
    bool good = fputs(text, file) >= 0;
    return fclose(file) == 0 && good;
}

static enum status issue(char **arguments, uint64_t expires_ms, struct error *error)
{
    static struct identity_pem own, issued;
    if (!read_file(arguments[1], "authority.crt", own.certificate) ||
        !read_file(arguments[1], "authority.key", own.key))
        return error_set(error, STATUS_NOT_FOUND, "no authority in %s", arguments[1]);
    struct authority *authority = NULL;
    enum status status = authority_load(&own, &authority, error);
    if (status != STATUS_OK) return status;
    struct authority_request request = { .kind = IDENTITY_OPERATOR,
                                         .name = arguments[3],
                                         .expires_ms = expires_ms };
    status = authority_issue(authority, &request, &issued, error);
    authority_destroy(authority);
    if (status != STATUS_OK) return status;
    if (!write_file(arguments[2], "operator.crt", issued.certificate) ||
        !write_file(arguments[2], "operator.key", issued.key))
        return error_set(error, STATUS_IO, "%s can't be written", arguments[2]);
    return STATUS_OK;
}

int main(int argument_count, char **arguments)
{
    uint64_t expires_ms;
    if (argument_count != 5 || parse_u64(arguments[4], UINT64_MAX, &expires_ms) != STATUS_OK) {
        (void)fprintf(stderr, "usage: issue_credential AUTHORITY OUTPUT NAME EXPIRES_MS\n");
        return 2;
    }
    struct error error = { 0 };
    enum status status = issue(arguments, expires_ms, &error);
    if (status != STATUS_OK) (void)fprintf(stderr, "issue_credential: %s\n", error.text);
    return status == STATUS_OK ? 0 : 1;
}
