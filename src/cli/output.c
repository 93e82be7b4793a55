#include "cli/cli.h"
#include "wire/json.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char no_memory[] = "?";

static void say(const struct cli *cli, const char *format, va_list arguments)
{
    char text[2048];
    (void)vsnprintf(text, sizeof text, format, arguments);
    (void)fflush(stdout);
    if (cli != NULL && cli->subcommand != NULL)
        (void)fprintf(stderr, "unum %s: %s\n", cli->subcommand->name, text);
    else
        (void)fprintf(stderr, "unum: %s\n", text);
}

int cli_fail(const struct cli *cli, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(cli, format, arguments);
    va_end(arguments);
    return CLI_FAILED;
}

int cli_fail_with(const struct cli *cli, const struct error *error)
{
    return cli_fail(cli, "%s", error->text[0] == '\0' ? "out of memory" : error->text);
}

int cli_usage(const struct cli *cli, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(cli, format, arguments);
    va_end(arguments);
    if (cli != NULL && cli->subcommand != NULL)
        (void)fprintf(stderr, "`unum %s --help` shows how it is used\n", cli->subcommand->name);
    else
        (void)fprintf(stderr, "`unum help` lists the subcommands\n");
    return CLI_USAGE;
}

int cli_finish_output(const struct cli *cli)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0) return CLI_DONE;
    if (errno == EPIPE) {
        /* Nobody reads any more: end as every filter does. */
        (void)signal(SIGPIPE, SIG_DFL);
        (void)raise(SIGPIPE);
    }
    return cli_fail(cli, "the output can't be written: %s", strerror(errno));
}

int cli_write_json(struct cli *cli, const ProtobufCMessage *message)
{
    struct buffer buffer;
    buffer_init(&buffer, CLI_ARENA_BYTES_MAX);
    enum status status = json_encode(message, JSON_COMPACT | JSON_DEFAULTS, &buffer, NULL);
    if (status == STATUS_OK) {
        (void)fwrite(buffer.data, 1, buffer.used, stdout);
        (void)fputc('\n', stdout);
    }
    buffer_finish(&buffer);
    if (status != STATUS_OK) return cli_fail(cli, "the answer is too large for JSON");
    return cli_finish_output(cli);
}

const char *cli_printable(struct cli *cli, struct bytes bytes)
{
    static const char hex[] = "0123456789abcdef";
    char *text = arena_take(&cli->arena, bytes.size * 4 + 1);
    if (text == NULL) return no_memory;
    size_t used = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t c = bytes.data[i];
        bool plain = (c >= 0x20 && c != 0x7f && c != '\\') || c == '\t';
        /* C1 controls in UTF-8 (0xc2 0x80..0x9f) would be obeyed by some terminals. */
        if (c == 0xc2 && i + 1 < bytes.size && bytes.data[i + 1] < 0xa0) plain = false;
        if (plain) {
            text[used++] = (char)c;
        } else if (c == '\\') {
            text[used++] = '\\';
            text[used++] = '\\';
        } else {
            text[used++] = '\\';
            text[used++] = 'x';
            text[used++] = hex[c >> 4];
            text[used++] = hex[c & 15];
        }
    }
    text[used] = '\0';
    return text;
}

const char *cli_format(struct cli *cli, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const char *kept = arena_copy_text(&cli->arena, text, strlen(text));
    return kept == NULL ? no_memory : kept;
}

const char *cli_format_size(struct cli *cli, uint64_t size_bytes)
{
    static const char *const units[] = { "", "Ki", "Mi", "Gi", "Ti" };
    if (size_bytes < 1024) return cli_format(cli, "%" PRIu64, size_bytes);
    unsigned unit = 1;
    uint64_t scaled = size_bytes;
    for (; unit < 4 && scaled >= UINT64_C(1024) * 1024; unit++) scaled /= 1024;
    uint64_t tenths = scaled * 10 / 1024;
    if (tenths >= 1000) return cli_format(cli, "%" PRIu64 "%s", tenths / 10, units[unit]);
    return cli_format(cli, "%" PRIu64 ".%" PRIu64 "%s", tenths / 10, tenths % 10, units[unit]);
}

const char *cli_format_duration(struct cli *cli, uint64_t duration_ms)
{
    uint64_t seconds = duration_ms / 1000;
    if (duration_ms < 1000) return cli_format(cli, "%" PRIu64 "ms", duration_ms);
    if (seconds < 10)
        return cli_format(cli, "%" PRIu64 ".%" PRIu64 "s", seconds, duration_ms % 1000 / 100);
    if (seconds < 60) return cli_format(cli, "%" PRIu64 "s", seconds);
    if (seconds < 3600)
        return cli_format(cli, "%" PRIu64 "m%02" PRIu64 "s", seconds / 60, seconds % 60);
    if (seconds < 86400)
        return cli_format(cli, "%" PRIu64 "h%02" PRIu64 "m", seconds / 3600, seconds / 60 % 60);
    return cli_format(cli, "%" PRIu64 "d%02" PRIu64 "h", seconds / 86400, seconds / 3600 % 24);
}

const char *cli_format_cpu(struct cli *cli, uint64_t milli)
{
    return cli_format(cli, "%" PRIu64 ".%02" PRIu64, milli / 1000, milli % 1000 / 10);
}

const char *cli_format_time(struct cli *cli, uint64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;
    char text[64];
    if (localtime_r(&seconds, &parts) == NULL ||
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts) == 0)
        return no_memory;
    return cli_format(cli, "%s.%03u", text, (unsigned)(wall_ms % 1000));
}

/* --- colour -------------------------------------------------------------------------------------
 */

const char *cli_begin(const struct cli *cli, enum cli_color color)
{
    static const char *const sequences[] = {
        [CLI_PLAIN] = "",         [CLI_BOLD] = "\033[1m",    [CLI_DIM] = "\033[2m",
        [CLI_GREEN] = "\033[32m", [CLI_YELLOW] = "\033[33m", [CLI_RED] = "\033[31m",
        [CLI_CYAN] = "\033[36m",
    };
    return cli->color ? sequences[color] : "";
}

const char *cli_end(const struct cli *cli, enum cli_color color)
{
    return cli->color && color != CLI_PLAIN ? "\033[0m" : "";
}

enum cli_color cli_color_of_state(const char *state)
{
    static const struct {
        const char *state;
        enum cli_color color;
    } colors[] = {
        { "ready", CLI_GREEN },    { "running", CLI_GREEN }, { "up", CLI_GREEN },
        { "ok", CLI_GREEN },       { "starting", CLI_CYAN }, { "pending", CLI_YELLOW },
        { "done", CLI_DIM },       { "stopped", CLI_DIM },   { "stopping", CLI_YELLOW },
        { "backoff", CLI_YELLOW }, { "held", CLI_RED },      { "failed", CLI_RED },
    };
    for (size_t i = 0; i < sizeof colors / sizeof colors[0]; i++)
        if (strcmp(state, colors[i].state) == 0) return colors[i].color;
    return CLI_PLAIN;
}

/* --- tables -------------------------------------------------------------------------------------
 */

struct table_row {
    struct table_row *next;
    size_t colored;
    enum cli_color color;
    const char *cells[TABLE_COLUMNS_MAX];
};

/* Characters on the terminal: bytes that do not go on a UTF-8 sequence. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (const char *p = text; *p != '\0'; p++)
        if (((unsigned char)*p & 0xc0) != 0x80) width++;
    return width;
}

void table_begin(struct table *table, struct cli *cli, const char *const *titles,
                 size_t column_count)
{
    *table = (struct table) { .cli = cli, .column_count = column_count };
    table_add(table, titles, TABLE_COLUMNS_MAX, CLI_BOLD);
}

void table_add(struct table *table, const char *const *cells, size_t colored, enum cli_color color)
{
    struct table_row *row = arena_take(&table->cli->arena, sizeof *row);
    if (row == NULL) return;
    row->colored = colored;
    row->color = color;
    for (size_t i = 0; i < table->column_count; i++) {
        row->cells[i] = cells[i];
        size_t width = width_of(cells[i]);
        if (width > table->widths[i]) table->widths[i] = width;
    }
    if (table->last == NULL)
        table->first = row;
    else
        table->last->next = row;
    table->last = row;
}

static void write_row(const struct table *table, const struct table_row *row, bool title)
{
    const struct cli *cli = table->cli;
    if (title) (void)fputs(cli_begin(cli, CLI_BOLD), stdout);
    for (size_t i = 0; i < table->column_count; i++) {
        enum cli_color color = i == row->colored ? row->color : CLI_PLAIN;
        (void)fprintf(stdout, "%s%s%s", cli_begin(cli, color), row->cells[i], cli_end(cli, color));
        bool more = false; /* no blanks at the end of a line */
        for (size_t k = i + 1; k < table->column_count && !more; k++)
            more = row->cells[k][0] != '\0';
        if (!more) break;
        (void)fprintf(stdout, "%*s", (int)(table->widths[i] - width_of(row->cells[i]) + 2), "");
    }
    if (title) (void)fputs(cli_end(cli, CLI_BOLD), stdout);
    (void)fputc('\n', stdout);
}

int table_write(struct table *table)
{
    for (const struct table_row *row = table->first; row != NULL; row = row->next)
        write_row(table, row, row == table->first);
    return cli_finish_output(table->cli);
}
