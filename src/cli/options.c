#include "base/closest.h"
#include "base/parse.h"
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Known to every subcommand. */
static const struct option_spec common_options[] = {
    { "dir", 0, "DIR",
      "the computer's folder (default: $UNUM_DIR, else ~/.unum, as root "
      "/var/lib/unum)" },
    { "address", 0, "ADDRESS",
      "where it answers, like 127.0.0.1:7117 (default: as its folder says)" },
    { "output", 'o', "FORMAT", "text, or json: what the API answers, one object in a line" },
    { "help", 'h', NULL, "this help" },
};
enum { COMMON_COUNT = sizeof common_options / sizeof common_options[0] };

static const struct option_spec *find_option(const struct subcommand *subcommand, const char *name,
                                             size_t size)
{
    for (size_t i = 0; i < subcommand->option_count; i++) {
        const char *known = subcommand->options[i].name;
        if (strlen(known) == size && memcmp(known, name, size) == 0) return &subcommand->options[i];
    }
    for (size_t i = 0; i < COMMON_COUNT; i++) {
        const char *known = common_options[i].name;
        if (strlen(known) == size && memcmp(known, name, size) == 0) return &common_options[i];
    }
    return NULL;
}

static const struct option_spec *find_letter(const struct subcommand *subcommand, char letter)
{
    for (size_t i = 0; i < subcommand->option_count; i++)
        if (subcommand->options[i].letter == letter) return &subcommand->options[i];
    for (size_t i = 0; i < COMMON_COUNT; i++)
        if (common_options[i].letter == letter) return &common_options[i];
    return NULL;
}

static int refuse_option(struct cli *cli, const char *name, size_t size)
{
    const char *names[CLI_OPTIONS_MAX + COMMON_COUNT];
    size_t count = 0;
    for (size_t i = 0; i < cli->subcommand->option_count; i++)
        names[count++] = cli->subcommand->options[i].name;
    for (size_t i = 0; i < COMMON_COUNT; i++) names[count++] = common_options[i].name;
    char word[CLOSEST_WORD_BYTES_MAX + 1];
    if (size > CLOSEST_WORD_BYTES_MAX) size = CLOSEST_WORD_BYTES_MAX;
    memcpy(word, name, size);
    word[size] = '\0';
    const char *closest = closest_word(word, names, count);
    if (closest != NULL)
        return cli_usage(cli, "there is no option --%s; did you mean --%s?", word, closest);
    return cli_usage(cli, "there is no option --%s", word);
}

static int keep(struct cli *cli, const struct option_spec *option, const char *value)
{
    if (cli->value_count == CLI_VALUES_MAX)
        return cli_usage(cli, "more than %d options", (int)CLI_VALUES_MAX);
    cli->values[cli->value_count++] =
        (struct option_value) { .name = option->name, .value = value };
    if (strcmp(option->name, "dir") == 0) {
        cli->folder = value;
        cli->folder_given = true;
    } else if (strcmp(option->name, "address") == 0) {
        cli->address = value;
    } else if (strcmp(option->name, "help") == 0) {
        cli->help = true;
    } else if (value != NULL && strcmp(option->name, "output") == 0) {
        if (strcmp(value, "json") != 0 && strcmp(value, "text") != 0)
            return cli_usage(cli, "--output must be text or json, is \"%s\"", value);
        cli->json = strcmp(value, "json") == 0;
    }
    return CLI_DONE;
}

/* "--name", "--name=value", "--name value". */
static int take_long(struct cli *cli, int argc, char **argv, int *at)
{
    const char *name = argv[*at] + 2;
    size_t size = strcspn(name, "=");
    const char *value = name[size] == '=' ? name + size + 1 : NULL;
    const struct option_spec *option = find_option(cli->subcommand, name, size);
    if (option == NULL) return refuse_option(cli, name, size);
    if (option->value == NULL && value != NULL)
        return cli_usage(cli, "--%s takes no value", option->name);
    if (option->value != NULL && value == NULL) {
        if (*at + 1 >= argc) return cli_usage(cli, "--%s needs a %s", option->name, option->value);
        value = argv[++*at];
    }
    return keep(cli, option, value);
}

/* "-f", "-fn 10", "-n10". */
static int take_short(struct cli *cli, int argc, char **argv, int *at)
{
    for (const char *p = argv[*at] + 1; *p != '\0'; p++) {
        const struct option_spec *option = find_letter(cli->subcommand, *p);
        if (option == NULL) return cli_usage(cli, "there is no option -%c", *p);
        if (option->value == NULL) {
            int code = keep(cli, option, NULL);
            if (code != CLI_DONE) return code;
            continue;
        }
        if (p[1] != '\0') return keep(cli, option, p + 1);
        if (*at + 1 >= argc) return cli_usage(cli, "-%c needs a %s", *p, option->value);
        return keep(cli, option, argv[++*at]);
    }
    return CLI_DONE;
}

static const char *default_folder(struct cli *cli)
{
    const char *given = getenv("UNUM_DIR");
    if (given != NULL && given[0] != '\0') return given;
    if (geteuid() == 0) return "/var/lib/unum";
    const char *home = getenv("HOME");
    return cli_format(cli, "%s/.unum", home == NULL ? "" : home);
}

int cli_parse(struct cli *cli, int argc, char **argv)
{
    static char *none[] = { NULL };
    cli->arguments = arena_take(&cli->arena, ((size_t)argc + 1) * sizeof *cli->arguments);
    if (cli->arguments == NULL) return cli_fail(cli, "out of memory");
    cli->command = none;
    for (int i = 0; i < argc; i++) {
        int code = CLI_DONE;
        if (strcmp(argv[i], "--") == 0) {
            if (!cli->subcommand->has_command) return cli_usage(cli, "takes no command behind --");
            cli->command = argv + i + 1;
            cli->command_count = (size_t)(argc - i - 1);
            break;
        }
        if (strncmp(argv[i], "--", 2) == 0)
            code = take_long(cli, argc, argv, &i);
        else if (argv[i][0] == '-' && argv[i][1] != '\0')
            code = take_short(cli, argc, argv, &i);
        else
            cli->arguments[cli->argument_count++] = argv[i];
        if (code != CLI_DONE) return code;
    }
    if (cli->help) return CLI_DONE;
    if (cli->folder == NULL) cli->folder = default_folder(cli);
    if (cli->argument_count < cli->subcommand->arguments_min)
        return cli_usage(cli, "needs %s", cli->subcommand->arguments);
    if (cli->argument_count > cli->subcommand->arguments_max)
        return cli_usage(cli, "\"%s\" is one argument too many",
                         cli->arguments[cli->subcommand->arguments_max]);
    return CLI_DONE;
}

const char *cli_value(const struct cli *cli, const char *name)
{
    for (size_t i = cli->value_count; i > 0; i--)
        if (strcmp(cli->values[i - 1].name, name) == 0) return cli->values[i - 1].value;
    return NULL;
}

bool cli_flag(const struct cli *cli, const char *name)
{
    for (size_t i = 0; i < cli->value_count; i++)
        if (strcmp(cli->values[i].name, name) == 0) return true;
    return false;
}

const char *cli_value_at(const struct cli *cli, const char *name, size_t index)
{
    for (size_t i = 0; i < cli->value_count; i++)
        if (strcmp(cli->values[i].name, name) == 0 && index-- == 0) return cli->values[i].value;
    return NULL;
}

int cli_number(struct cli *cli, const char *name, uint64_t max, uint64_t *value)
{
    const char *text = cli_value(cli, name);
    if (text == NULL || parse_u64(text, max, value) == STATUS_OK) return CLI_DONE;
    return cli_usage(cli, "--%s must be a whole number from 0 to %llu, is \"%s\"", name,
                     (unsigned long long)max, text);
}

int cli_duration(struct cli *cli, const char *name, uint64_t max_ms, uint64_t *value_ms)
{
    const char *text = cli_value(cli, name);
    if (text == NULL || parse_duration_ms(text, max_ms, value_ms) == STATUS_OK) return CLI_DONE;
    return cli_usage(cli, "--%s must be a time like 250ms, 10s or 5m, is \"%s\"", name, text);
}

/* --- help ---------------------------------------------------------------------------------------
 */

enum { HELP_COLUMN = 24 };

static void write_option(FILE *file, const struct option_spec *option)
{
    char left[64];
    char letter[8] = "";
    if (option->letter != 0) (void)snprintf(letter, sizeof letter, "-%c, ", option->letter);
    (void)snprintf(left, sizeof left, "%s--%s%s%s", letter, option->name, option->value ? " " : "",
                   option->value ? option->value : "");
    if (strlen(left) < HELP_COLUMN)
        (void)fprintf(file, "  %-*s%s\n", (int)HELP_COLUMN, left, option->help);
    else
        (void)fprintf(file, "  %s\n  %-*s%s\n", left, (int)HELP_COLUMN, "", option->help);
}

static void write_usage(const struct subcommand *subcommand, FILE *file)
{
    (void)fprintf(file, "unum %s%s%s%s", subcommand->name,
                  subcommand->option_count > 0 ? " [OPTIONS]" : "",
                  subcommand->arguments[0] == '\0' ? "" : " ", subcommand->arguments);
}

static void write_options(const struct subcommand *subcommand, FILE *file)
{
    if (subcommand->option_count > 0) (void)fprintf(file, "Options:\n");
    for (size_t i = 0; i < subcommand->option_count; i++)
        write_option(file, &subcommand->options[i]);
    (void)fprintf(file, "%sOptions of every subcommand:\n",
                  subcommand->option_count > 0 ? "\n" : "");
    for (size_t i = 0; i < COMMON_COUNT; i++) write_option(file, &common_options[i]);
}

void cli_write_help(const struct subcommand *subcommand, FILE *file, bool color)
{
    (void)fprintf(file, "%s%s%s\n\nUsage: ", color ? "\033[1m" : "", subcommand->summary,
                  color ? "\033[0m" : "");
    write_usage(subcommand, file);
    (void)fprintf(file, "\n\n%s\n", subcommand->details);
    write_options(subcommand, file);
}

void cli_write_overview(FILE *file, bool color)
{
    (void)fprintf(file,
                  "%sunum: one computer of all your machines.%s\n\n"
                  "Usage: unum SUBCOMMAND [OPTIONS] ...\n\n"
                  "A first walk:\n"
                  "  unum up --background           a computer for this host\n"
                  "  unum apply examples/web.yaml   eight web servers\n"
                  "  unum ps                        what runs\n"
                  "  unum why web-0                 and why it is as it is\n"
                  "  unum down\n\n"
                  "Subcommands:\n",
                  color ? "\033[1m" : "", color ? "\033[0m" : "");
    for (size_t i = 0; i < subcommand_count; i++)
        (void)fprintf(file, "  %-10s %s\n", subcommands[i]->name, subcommands[i]->summary);
    (void)fprintf(file,
                  "\n`unum SUBCOMMAND --help` teaches each with examples. Exit status: 0 done, "
                  "1 failed, 2 used wrongly.\n");
}

void cli_write_markdown(FILE *file)
{
    (void)fprintf(file, "# The command line\n\n"
                        "Written by `unum help --markdown`; a test keeps it so.\n\n```text\n");
    cli_write_overview(file, false);
    (void)fprintf(file, "```\n");
    for (size_t i = 0; i < subcommand_count; i++) {
        (void)fprintf(file, "\n## unum %s\n\n```text\n", subcommands[i]->name);
        cli_write_help(subcommands[i], file, false);
        (void)fprintf(file, "```\n");
    }
}
