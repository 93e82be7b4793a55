/* Cli: one invocation of `unum`: its subcommand, options and way of output.
 *
 * A subcommand is a table entry (struct subcommand) and a function; main.c finds it, options.c
 * reads its options and writes its help. Exit status: 0 done, 1 failed, 2 used wrongly; `unum exec`
 * gives that of its command. Errors are one sentence on stderr that begins with "unum". One thread.
 */
#ifndef UNUM_CLI_CLI_H
#define UNUM_CLI_CLI_H

#include "base/arena.h"
#include "base/error.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

enum {
    CLI_OPTIONS_MAX = 24, /* that a subcommand knows */
    CLI_VALUES_MAX = 512, /* options given, in all */
    CLI_ARENA_BYTES_MAX = 256 * 1024 * 1024,
};

struct option_spec {
    const char *name;  /* "count", for --count */
    char letter;       /* 'n' for -n; 0: none */
    const char *value; /* what it takes, for help: "N"; NULL: a flag */
    const char *help;
};

struct cli;
struct connection;

struct subcommand {
    const char *name;
    const char *arguments; /* for the line of usage: "[JOB]" */
    const char *summary;   /* one line */
    const char *details;   /* text and examples */
    const struct option_spec *options;
    size_t option_count;
    size_t arguments_min, arguments_max;
    bool has_command; /* what stands behind "--" */
    bool connects;    /* run is called in a fiber of a reactor */
    /* What can be judged without the computer, before it is asked; NULL: nothing. CLI_DONE goes on.
     */
    int (*prepare)(struct cli *cli);
    int (*run)(struct cli *cli);
};

struct option_value {
    const char *name;
    const char *value; /* NULL: a flag */
};

struct cli {
    const struct subcommand *subcommand;
    const char *folder;  /* of the computer */
    const char *address; /* NULL: as the folder says */
    bool folder_given;
    bool json;
    bool color;
    bool help;
    struct option_value values[CLI_VALUES_MAX];
    size_t value_count;
    char **arguments; /* positional */
    size_t argument_count;
    char **command; /* behind "--"; NULL-terminated */
    size_t command_count;
    struct arena arena; /* for the whole invocation */
    void *prepared;     /* from prepare to run */
    struct connection *connection;
    void *scope; /* struct scope of the reactor's main fiber, for those that connect */
};

extern const struct subcommand *const subcommands[];
extern const size_t subcommand_count;
const struct subcommand *subcommand_find(const char *name);

/* --- options.c ----------------------------------------------------------------------------------
 */

/* Read ARGV behind the subcommand's name. CLI_DONE, or CLI_USAGE after telling why. */
int cli_parse(struct cli *cli, int argc, char **argv);
bool cli_flag(const struct cli *cli, const char *name);
/* The last value of an option; NULL: not given. */
const char *cli_value(const struct cli *cli, const char *name);
/* Value number INDEX of a repeated option; NULL: there are fewer. */
const char *cli_value_at(const struct cli *cli, const char *name, size_t index);
/* A whole number of an option. CLI_USAGE after telling why; *value stays when it is not given. */
int cli_number(struct cli *cli, const char *name, uint64_t max, uint64_t *value);
int cli_duration(struct cli *cli, const char *name, uint64_t max_ms, uint64_t *value_ms);
void cli_write_help(const struct subcommand *subcommand, FILE *file, bool color);
void cli_write_overview(FILE *file, bool color);
/* docs/cli.md. */
void cli_write_markdown(FILE *file);

/* --- output.c -----------------------------------------------------------------------------------
 */

/* "unum ps: sentence" on stderr; returns CLI_FAILED. */
int cli_fail(const struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_fail_with(const struct cli *cli, const struct error *error);
/* The same with a pointer to help; returns CLI_USAGE. */
int cli_usage(const struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Flush; ends the process quietly when nobody reads any more. CLI_DONE, or CLI_FAILED after telling
 * that the output could not be written. */
int cli_finish_output(const struct cli *cli);
/* A message as one line of JSON, flushed. */
int cli_write_json(struct cli *cli, const ProtobufCMessage *message);

/* Text of others for a terminal: what is not printable is escaped. In the arena; never NULL. */
const char *cli_printable(struct cli *cli, struct bytes bytes);
const char *cli_format(struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
const char *cli_format_size(struct cli *cli, uint64_t size_bytes);
const char *cli_format_duration(struct cli *cli, uint64_t duration_ms);
const char *cli_format_cpu(struct cli *cli, uint64_t milli);
/* "2024-05-17 09:30:12.123" in the local zone. */
const char *cli_format_time(struct cli *cli, uint64_t wall_ms);

enum cli_color { CLI_PLAIN, CLI_BOLD, CLI_DIM, CLI_GREEN, CLI_YELLOW, CLI_RED, CLI_CYAN };
/* The sequences, or "" without colour. */
const char *cli_begin(const struct cli *cli, enum cli_color color);
const char *cli_end(const struct cli *cli, enum cli_color color);
enum cli_color cli_color_of_state(const char *state);

/* A table with aligned columns. Cells are borrowed until it is written. */
enum { TABLE_COLUMNS_MAX = 12 };
struct table_row;
struct table {
    struct cli *cli;
    size_t column_count;
    size_t widths[TABLE_COLUMNS_MAX];
    struct table_row *first, *last;
};
void table_begin(struct table *table, struct cli *cli, const char *const *titles,
                 size_t column_count);
/* COLOR for the cell COLORED (an index; TABLE_COLUMNS_MAX: none). */
void table_add(struct table *table, const char *const *cells, size_t colored, enum cli_color color);
int table_write(struct table *table);

/* --- files.c ------------------------------------------------------------------------------------
 */

/* The whole of the file PATH, or of standard input for "-". STATUS_INVALID over SIZE_MAX_ALLOWED.
 */
MUST_USE enum status cli_read_file(struct cli *cli, const char *path, size_t size_max_allowed,
                                   struct bytes *ret_bytes, struct error *error);

#endif
