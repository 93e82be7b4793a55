#include "cli/cli.h"

#include <errno.h>
#include <string.h>

enum status cli_read_file(struct cli *cli, const char *path, size_t size_max_allowed,
                          struct bytes *ret_bytes, struct error *error)
{
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "re");
    if (file == NULL) return error_set(error, STATUS_NOT_FOUND, "%s: %s", path, strerror(errno));
    struct buffer buffer;
    buffer_init(&buffer, size_max_allowed + 1);
    enum status status = STATUS_OK;
    uint8_t part[2048];
    for (size_t got = sizeof part; got == sizeof part && status == STATUS_OK;) {
        got = fread(part, 1, sizeof part, file);
        status = buffer_append(&buffer, part, got);
    }
    if (ferror(file))
        status = error_set(error, STATUS_IO, "%s: %s", is_stdin ? "standard input" : path,
                           strerror(errno));
    else if (status == STATUS_FULL || buffer.used > size_max_allowed)
        status = error_set(error, STATUS_INVALID, "%s: larger than %zu bytes",
                           is_stdin ? "standard input" : path, size_max_allowed);
    if (!is_stdin) (void)fclose(file);
    if (status == STATUS_OK) {
        *ret_bytes = arena_copy(&cli->arena, bytes_of(buffer.data, buffer.used));
        if (buffer.used > 0 && ret_bytes->data == NULL)
            status = error_set(error, STATUS_NO_MEMORY, "out of memory");
    }
    buffer_finish(&buffer);
    return status;
}
