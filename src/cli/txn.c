/* unum txn: compare and change the registry in one step. */
#include "base/closest.h"
#include "base/limits.h"
#include "base/parse.h"
#include "cli/call.h"
#include "cli/range.h"

#include <inttypes.h>
#include <string.h>

enum { WORDS_MAX = 4 };

static const struct option_spec options[] = {
    { "if", 0, "CONDITION", "must hold; may be repeated, then all must" },
    { "then", 0, "OPERATION", "done when they hold; may be repeated" },
    { "else", 0, "OPERATION", "done when one does not; may be repeated" },
    { "space", 0, "SPACE", "another space than main" },
};

/* Cut TEXT into words at blanks; '...' and "..." keep theirs. */
static int split(struct cli *cli, const char *option, const char *text, char *words[WORDS_MAX],
                 size_t *ret_count)
{
    size_t count = 0;
    char *copy = arena_copy_text(&cli->arena, text, strlen(text));
    if (copy == NULL) return cli_fail(cli, "out of memory");
    for (char *p = copy;;) {
        while (*p == ' ' || *p == '\t') p++;
        if (*p == '\0') break;
        if (count == WORDS_MAX)
            return cli_usage(cli, "--%s: more words than expected: %s", option, text);
        char quote = '\0';
        if (*p == '\'' || *p == '"') quote = *p;
        char *word = quote != '\0' ? ++p : p;
        while (*p != '\0' && (quote != '\0' ? *p != quote : *p != ' ' && *p != '\t')) p++;
        if (quote != '\0' && *p == '\0')
            return cli_usage(cli, "--%s: a quote is not closed: %s", option, text);
        words[count++] = word;
        if (*p == '\0') break;
        *p++ = '\0';
    }
    *ret_count = count;
    return CLI_DONE;
}

/* --- conditions ---------------------------------------------------------------------------------
 */

/* "version(KEY)" and its like; what is in the parentheses becomes *key. */
static bool take_target(struct cli *cli, const char *text, Unum__V1__Compare *compare,
                        const char **key)
{
    static const struct {
        const char *name;
        Unum__V1__Compare__Target target;
    } targets[] = {
        { "version", UNUM__V1__COMPARE__TARGET__VERSION },
        { "created", UNUM__V1__COMPARE__TARGET__CREATE_REVISION },
        { "modified", UNUM__V1__COMPARE__TARGET__MODIFY_REVISION },
        { "lease", UNUM__V1__COMPARE__TARGET__LEASE },
    };
    size_t size = strlen(text);
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        size_t name_size = strlen(targets[i].name);
        if (size < name_size + 3 || memcmp(text, targets[i].name, name_size) != 0) continue;
        if (text[name_size] != '(' || text[size - 1] != ')') continue;
        compare->target = targets[i].target;
        *key = arena_copy_text(&cli->arena, text + name_size + 1, size - name_size - 2);
        return *key != NULL;
    }
    return false;
}

static int take_condition(struct cli *cli, const char *text, Unum__V1__Compare *compare)
{
    static const char *const signs[] = { "=", "!=", "<", ">" };
    char *words[WORDS_MAX] = { NULL };
    size_t count = 0;
    int code = split(cli, "if", text, words, &count);
    if (code != CLI_DONE) return code;
    const char *key = words[0];
    bool exists = count == 2 && strcmp(words[0], "exists") == 0;
    if (exists || (count == 2 && strcmp(words[0], "missing") == 0)) {
        compare->target = UNUM__V1__COMPARE__TARGET__VERSION;
        compare->result =
            exists ? UNUM__V1__COMPARE__RESULT__GREATER : UNUM__V1__COMPARE__RESULT__EQUAL;
        compare->key = range_bytes(words[1]);
        return CLI_DONE;
    }
    unsigned sign = 0;
    while (count == 3 && sign < 4 && strcmp(words[1], signs[sign]) != 0) sign++;
    if (count != 3 || sign == 4)
        return cli_usage(cli,
                         "--if must be like 'KEY = VALUE', 'version(KEY) > 3', 'exists KEY' or "
                         "'missing KEY', is \"%s\"",
                         text);
    compare->result = (Unum__V1__Compare__Result)sign;
    if (take_target(cli, words[0], compare, &key)) {
        if (parse_u64(words[2], UINT64_MAX, &compare->number) != STATUS_OK)
            return cli_usage(cli, "--if: %s is compared with a number, not with \"%s\"", words[0],
                             words[2]);
    } else {
        compare->target = UNUM__V1__COMPARE__TARGET__VALUE;
        compare->value = range_bytes(words[2]);
    }
    compare->key = range_bytes(key);
    return CLI_DONE;
}

/* --- operations ---------------------------------------------------------------------------------
 */

static int make_put(struct cli *cli, char **words, Unum__V1__Operation *operation)
{
    Unum__V1__PutRequest *put = arena_take(&cli->arena, sizeof *put);
    if (put == NULL) return cli_fail(cli, "out of memory");
    unum__v1__put_request__init(put);
    put->key = range_bytes(words[1]);
    put->value = range_bytes(words[2]);
    operation->operation_case = UNUM__V1__OPERATION__OPERATION_PUT;
    operation->put = put;
    return CLI_DONE;
}

static int make_get(struct cli *cli, char **words, Unum__V1__Operation *operation)
{
    Unum__V1__RangeRequest *range = arena_take(&cli->arena, sizeof *range);
    if (range == NULL) return cli_fail(cli, "out of memory");
    unum__v1__range_request__init(range);
    range->key = range_bytes(words[1]);
    operation->operation_case = UNUM__V1__OPERATION__OPERATION_RANGE;
    operation->range = range;
    return CLI_DONE;
}

static int make_delete(struct cli *cli, char **words, Unum__V1__Operation *operation)
{
    Unum__V1__DeleteRequest *delete = arena_take(&cli->arena, sizeof *delete);
    if (delete == NULL) return cli_fail(cli, "out of memory");
    unum__v1__delete_request__init(delete);
    delete->key = range_bytes(words[1]);
    operation->operation_case = UNUM__V1__OPERATION__OPERATION_DELETE;
    operation->delete_ = delete;
    return CLI_DONE;
}

static int take_operation(struct cli *cli, const char *option, const char *text,
                          Unum__V1__Operation *operation)
{
    static const char *const verbs[] = { "put", "get", "del" };
    char *words[WORDS_MAX];
    size_t count = 0;
    int code = split(cli, option, text, words, &count);
    if (code != CLI_DONE) return code;
    if (count == 3 && strcmp(words[0], "put") == 0) return make_put(cli, words, operation);
    if (count == 2 && strcmp(words[0], "get") == 0) return make_get(cli, words, operation);
    if (count == 2 && strcmp(words[0], "del") == 0) return make_delete(cli, words, operation);
    const char *closest = count > 0 ? closest_word(words[0], verbs, 3) : NULL;
    return cli_usage(
        cli, "--%s must be like 'put KEY VALUE', 'get KEY' or 'del KEY', is \"%s\"%s%s%s", option,
        text, closest ? "; did you mean " : "", closest ? closest : "", closest ? "?" : "");
}

static int take_operations(struct cli *cli, const char *option, Unum__V1__Operation ***ret_list,
                           size_t *ret_count)
{
    size_t count = 0;
    while (cli_value_at(cli, option, count) != NULL) count++;
    if (count > LIMIT_TXN_OPERATIONS_MAX)
        return cli_usage(cli, "--%s can be given at most %d times", option,
                         (int)LIMIT_TXN_OPERATIONS_MAX);
    Unum__V1__Operation **list = arena_take(&cli->arena, (count + 1) * sizeof(void *));
    if (list == NULL) return cli_fail(cli, "out of memory");
    for (size_t i = 0; i < count; i++) {
        list[i] = arena_take(&cli->arena, sizeof **list);
        if (list[i] == NULL) return cli_fail(cli, "out of memory");
        unum__v1__operation__init(list[i]);
        int code = take_operation(cli, option, cli_value_at(cli, option, i), list[i]);
        if (code != CLI_DONE) return code;
    }
    *ret_list = list;
    *ret_count = count;
    return CLI_DONE;
}

static int take_conditions(struct cli *cli, Unum__V1__TxnRequest *request)
{
    size_t count = 0;
    while (cli_value_at(cli, "if", count) != NULL) count++;
    if (count > LIMIT_TXN_OPERATIONS_MAX)
        return cli_usage(cli, "--if can be given at most %d times", (int)LIMIT_TXN_OPERATIONS_MAX);
    request->compares = arena_take(&cli->arena, (count + 1) * sizeof(void *));
    if (request->compares == NULL) return cli_fail(cli, "out of memory");
    for (; request->n_compares < count; request->n_compares++) {
        Unum__V1__Compare *compare = arena_take(&cli->arena, sizeof *compare);
        if (compare == NULL) return cli_fail(cli, "out of memory");
        unum__v1__compare__init(compare);
        int code = take_condition(cli, cli_value_at(cli, "if", request->n_compares), compare);
        if (code != CLI_DONE) return code;
        request->compares[request->n_compares] = compare;
    }
    return CLI_DONE;
}

static void write_response(struct cli *cli, const Unum__V1__OperationResponse *response)
{
    if (response->response_case == UNUM__V1__OPERATION_RESPONSE__RESPONSE_DELETE)
        (void)fprintf(stdout, "%" PRIu64 " deleted\n", response->delete_->deleted);
    if (response->response_case != UNUM__V1__OPERATION_RESPONSE__RESPONSE_RANGE) return;
    for (size_t i = 0; i < response->range->n_items; i++) {
        const Unum__V1__KeyValue *item = response->range->items[i];
        (void)fprintf(stdout, "%s  %s\n",
                      cli_printable(cli, bytes_of(item->key.data, item->key.len)),
                      cli_printable(cli, bytes_of(item->value.data, item->value.len)));
    }
}

static int prepare(struct cli *cli)
{
    Unum__V1__TxnRequest *request = arena_take(&cli->arena, sizeof *request);
    if (request == NULL) return cli_fail(cli, "out of memory");
    unum__v1__txn_request__init(request);
    int code = take_conditions(cli, request);
    if (code == CLI_DONE)
        code = take_operations(cli, "then", &request->success, &request->n_success);
    if (code == CLI_DONE)
        code = take_operations(cli, "else", &request->failure, &request->n_failure);
    if (code != CLI_DONE) return code;
    if (request->n_success + request->n_failure == 0)
        return cli_usage(cli, "needs something to do: --then 'put KEY VALUE'");
    const char *space = cli_value(cli, "space");
    if (space != NULL) request->space = (char *)space;
    cli->prepared = request;
    return CLI_DONE;
}

static int run(struct cli *cli)
{
    Unum__V1__TxnRequest *request = cli->prepared;
    Unum__V1__TxnResponse *response;
    struct error error = { 0 };
    if (call_unary(cli, CLIENT_WRITE, "Registry/Txn", &request->base,
                   &unum__v1__txn_response__descriptor, &response, &error) != STATUS_OK)
        return cli_fail_with(cli, &error);
    if (cli->json) return cli_write_json(cli, &response->base);
    (void)fprintf(stdout, "%s, revision %" PRIu64 "\n",
                  response->succeeded ? "the conditions held" : "a condition did not hold",
                  response->revision);
    for (size_t i = 0; i < response->n_responses; i++) write_response(cli, response->responses[i]);
    int code = cli_finish_output(cli);
    return code != CLI_DONE ? code : response->succeeded ? CLI_DONE : CLI_FAILED;
}

const struct subcommand subcommand_txn = {
    .name = "txn",
    .arguments = "",
    .summary = "Compare keys and change them in one step",
    .details =
        "  unum txn --if 'config/color = blue' --then 'put config/color red' \\\n"
        "           --else 'get config/color'\n"
        "  unum txn --if 'missing lock/a' --then 'put lock/a me'\n"
        "  unum txn --then 'put a 1' --then 'put b 2'     both or none\n\n"
        "CONDITION: KEY SIGN VALUE compares the value; version(KEY), created(KEY), modified(KEY)\n"
        "and lease(KEY) compare a number; SIGN is = != < or >; exists KEY, missing KEY.\n"
        "OPERATION: put KEY VALUE, get KEY, del KEY. Quotes '...' and \"...\" keep blanks.\n"
        "Exit status 1 when a condition did not hold (not with -o json).\n",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .connects = true,
    .prepare = prepare,
    .run = run,
};
