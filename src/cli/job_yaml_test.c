/* A job file means what docs/jobs.md says, and a wrong one is refused with line, column and field.
 *
 * Method: small files, one mistake in each, compared with the whole sentence; the examples; every
 * truncation of an example, which may be refused but never misread memory. */
#include "base/closest.h"
#include "cli/job_yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct arena arena;
static struct error error;

static enum status load(const char *text, struct job_list *ret_list)
{
    arena_reset(&arena);
    error.text[0] = '\0';
    return job_yaml_load("job.yaml", bytes_of_text(text), &arena, ret_list, &error);
}

static void refused(const char *text, const char *sentence)
{
    struct job_list list;
    assert_int_equal(load(text, &list), STATUS_INVALID);
    assert_string_equal(error.text, sentence);
}

static void every_key_is_read(void **state)
{
    (void)state;
    struct job_list list;
    assert_int_equal(load("name: all\nproject: team\ncount: 3\ncommand: [prog, --x, '1']\n"
                          "environment: {B: 2, A: one}\ndirectory: /srv\n"
                          "resources: {cpu: 0.5, memory: 64Mi, processes: 9}\n"
                          "ports: {http: 8080+, admin: 9000+10}\n"
                          "restart: {policy: transient, burst: 2, period: 1m, backoff: 0,\n"
                          "  backoff_max: 5s, stable: 250ms}\n"
                          "stop: {signal: SIGQUIT, grace: 3s}\n"
                          "ready: {http: http/up, interval: 2s, timeout: 1s, failures: 7,\n"
                          "  start_timeout: 9s}\n"
                          "network: host\nscratch: {/var/x: 1Mi}\nlabels: {tier: front}\n"
                          "files:\n  /run/a: text\n  /var/x/b: {content: '', mode: 0755}\n",
                          &list),
                     STATUS_OK);
    assert_int_equal(list.count, 1);
    const Unum__V1__Job *job = list.jobs[0];
    assert_string_equal(job->name, "all");
    assert_string_equal(job->project, "team");
    assert_int_equal(job->count, 3);
    assert_int_equal(job->n_command, 3);
    assert_string_equal(job->command[2], "1");
    assert_string_equal(job->environment[0]->key, "A"); /* canonical order */
    assert_string_equal(job->environment[1]->value, "2");
    assert_string_equal(job->working_directory, "/srv");
    assert_int_equal(job->resources->cpu_milli, 500);
    assert_int_equal(job->resources->memory_bytes, 64 << 20);
    assert_int_equal(job->resources->processes, 9);
    assert_int_equal(job->ports[0]->step, 1);
    assert_int_equal(job->ports[1]->port, 9000);
    assert_int_equal(job->ports[1]->step, 10);
    assert_int_equal(job->restart->policy, UNUM__V1__RESTART__POLICY__TRANSIENT);
    assert_int_equal(job->restart->burst, 2);
    assert_int_equal(job->restart->period_ms, 60000);
    assert_int_equal(job->restart->backoff_max_ms, 5000);
    assert_int_equal(job->restart->stable_ms, 250);
    assert_string_equal(job->stop->signal, "SIGQUIT");
    assert_int_equal(job->stop->grace_ms, 3000);
    assert_int_equal(job->ready->kind, UNUM__V1__PROBE__KIND__HTTP);
    assert_string_equal(job->ready->port, "http");
    assert_string_equal(job->ready->path, "/up");
    assert_int_equal(job->ready->interval_ms, 2000);
    assert_int_equal(job->ready->timeout_ms, 1000);
    assert_int_equal(job->ready->failures, 7);
    assert_int_equal(job->ready->start_timeout_ms, 9000);
    assert_false(job->private_network);
    assert_int_equal(job->scratch[0]->size_bytes, 1 << 20);
    assert_string_equal(job->labels[0]->value, "front");
    assert_int_equal(job->files[0]->content.len, 4);
    assert_int_equal(job->files[1]->content.len, 0);
    assert_int_equal(job->files[1]->mode, 0755);
}

static void short_forms_and_defaults_are_understood(void **state)
{
    (void)state;
    struct job_list list;
    assert_int_equal(load("# two jobs\n---\nname: a\ncommand: [x]\nready: notify\n"
                          "restart: temporary\nresources: {cpu: 0}\nnetwork: private\n---\n"
                          "name: b\ncommand: [x]\nready: {command: [test, -e, /run/up]}\n",
                          &list),
                     STATUS_OK);
    assert_int_equal(list.count, 2);
    assert_int_equal(list.jobs[0]->count, 1);
    assert_true(list.jobs[0]->private_network);
    assert_int_equal(list.jobs[0]->ready->kind, UNUM__V1__PROBE__KIND__NOTIFY);
    assert_int_equal(list.jobs[0]->restart->policy, UNUM__V1__RESTART__POLICY__TEMPORARY);
    assert_true(list.jobs[0]->resources->cpu_unreserved);
    assert_int_equal(list.jobs[1]->ready->n_command, 3);
}

#define GOOD "name: x\ncommand: [y]\n"

static void text_that_is_not_a_job_file_is_refused_with_its_place(void **state)
{
    (void)state;
    refused("", "job.yaml: no job in it; a job begins with name: and command:");
    refused("# nothing\n", "job.yaml: no job in it; a job begins with name: and command:");
    refused("job: [", "job.yaml: line 2, column 1: did not find expected node content while "
                      "parsing a flow node");
    refused("a: b: c\n", "job.yaml: line 1, column 5: mapping values are not allowed in this "
                         "context");
    refused("\ttabs: no\n", "job.yaml: line 1, column 1: found character that cannot start any "
                            "token while scanning for the next token");
    refused("just a text\n",
            "job.yaml: line 1, column 1: must be a mapping of keys and values, one in each line");
    refused("- name: x\n",
            "job.yaml: line 1, column 1: must be a mapping of keys and values, one in each line");
    refused("name: x\nname: y\n",
            "job.yaml: line 2, column 1: the key name is there twice, first in line 1");
    refused("name: &n x\n", "job.yaml: line 1, column 7: anchors (&name) are not allowed; write "
                            "the value out");
    refused("name: *n\n", "job.yaml: line 1, column 7: aliases (*name) are not allowed; write the "
                          "value out");
    refused("name: !!str x\n", "job.yaml: line 1, column 7: tags (!name) are not allowed");
    refused("? [a, b]\n: c\n", "job.yaml: line 1, column 3: a key must be a word");
    refused("name: \"a\\0b\"\n", "job.yaml: line 1, column 7: a zero byte in a text");
    refused("name: \xff\n", "job.yaml: byte 6: not UTF-8 text (invalid leading UTF-8 octet)");
    refused(GOOD "---\n" GOOD, "job.yaml: line 4, column 1: the job x is in this file twice");
    refused("x: [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]\n",
            "job.yaml: line 1, column 19: nested more than 16 levels deep");
}

static void an_unknown_key_suggests_the_closest(void **state)
{
    (void)state;
    refused("name: x\ncuont: 3\n",
            "job.yaml: line 2, column 1: unknown key \"cuont\"; did you mean count?");
    refused(GOOD "restart:\n  perod: 3s\n",
            "job.yaml: line 4, column 3: restart: unknown key \"perod\"; did you mean period?");
    refused(GOOD "stop: {zzz: 1}\n",
            "job.yaml: line 3, column 8: stop: unknown key \"zzz\"; known are: signal, grace");
    refused(GOOD "restart: permanet\n",
            "job.yaml: line 3, column 10: restart: must be permanent, transient or temporary, is "
            "\"permanet\"; did you mean permanent?");
}

static void a_wrong_value_is_refused_with_its_field(void **state)
{
    (void)state;
    refused("name: x\n", "job.yaml: line 1, column 1: command: must name a program, like [nginx, "
                         "-g, \"daemon off;\"]");
    refused("name: x\ncommand: nginx -g x\n",
            "job.yaml: line 2, column 10: command: must be a list like [nginx, -g, \"daemon "
            "off;\"]; a line for the shell is [sh, -c, \"...\"]");
    refused("name: x\ncommand: []\n", "job.yaml: line 2, column 10: command: must name a program, "
                                      "like [nginx, -g, \"daemon off;\"]");
    refused("name: UPPER_case\ncommand: [y]\n",
            "job.yaml: line 1, column 7: name: must be 1 to 58 of a-z, 0-9 and inner dashes, is "
            "\"UPPER_case\"");
    refused(GOOD "count: -1\n",
            "job.yaml: line 3, column 8: count: must be a whole number from 0 to 10000, is "
            "\"-1\"");
    refused(GOOD "resources: {cpu: 100000}\n",
            "job.yaml: line 3, column 18: resources.cpu: must be a number of cores like 0.5, 2 or "
            "250m, at most 1024, is \"100000\"");
    refused(GOOD "resources: {memory: lots}\n",
            "job.yaml: line 3, column 21: resources.memory: must be a size like 512Ki, 64Mi or "
            "2Gi, is \"lots\"");
    refused(GOOD "resources: {memory: 0}\n",
            "job.yaml: line 3, column 21: resources.memory: must be more than 0");
    refused(GOOD "stop: {grace: 10}\n",
            "job.yaml: line 3, column 15: stop.grace: must be a time like 250ms, 10s or 5m, at "
            "most 24h, is \"10\"");
    refused(GOOD "ports: {http: 70000}\n",
            "job.yaml: line 3, column 15: ports.http: must be a port like 8081, or 8081+ for one "
            "more in each task, is \"70000\"");
    refused(GOOD "ports: [80]\n",
            "job.yaml: line 3, column 8: ports: must be a mapping like \"http: 8081+\"");
    refused(GOOD "count: 2\nports: {http: 80}\n",
            "job.yaml: line 4, column 15: ports.http: all 2 tasks would take port 80; write 80+ "
            "for one more in each task, or network: private");
    refused(GOOD "ready: {tcp: http}\n",
            "job.yaml: line 3, column 8: ready.port: the job has no ports; name one under ports");
    refused(GOOD "ready: {notify: true, tcp: http}\n",
            "job.yaml: line 3, column 28: ready.tcp: only one of tcp, http, command and notify "
            "can be asked");
    refused(GOOD "environment:\n  A: [1]\n",
            "job.yaml: line 4, column 6: environment.A: must be a text");
    refused(GOOD "files:\n  /etc/x.conf: a\n",
            "job.yaml: line 4, column 16: files./etc/x.conf: must lie below /run, /tmp or a "
            "scratch folder of the job");
    refused(GOOD "files:\n  /run/x: {content: a, mode: 9}\n",
            "job.yaml: line 4, column 30: files./run/x.mode: must be octal like 0444 or 0755, is "
            "\"9\"");
    refused(GOOD "network: bridge\n",
            "job.yaml: line 3, column 10: network: must be host or private, is \"bridge\"");
}

static void too_large_a_file_is_refused(void **state)
{
    (void)state;
    struct job_list list;
    size_t size = YAML_BYTES_MAX + 1;
    char *text = malloc(size);
    assert_non_null(text);
    memset(text, '#', size);
    arena_reset(&arena);
    assert_int_equal(job_yaml_load("big", bytes_of(text, size), &arena, &list, &error),
                     STATUS_INVALID);
    assert_string_equal(error.text, "big: 1048577 bytes long; at most 1048576 are read");
    /* Many values in few bytes. */
    memset(text, ',', size);
    for (size_t i = 1; i < size; i += 2) text[i] = '1';
    text[0] = '[';
    arena_reset(&arena);
    assert_int_equal(job_yaml_load("many", bytes_of(text, 200000), &arena, &list, &error),
                     STATUS_INVALID);
    assert_string_equal(error.text,
                        "many: line 1, column 131072: the file has more than 65536 values");
    free(text);
}

static void ports_of_flags_are_read(void **state)
{
    (void)state;
    uint32_t port, step;
    assert_int_equal(job_yaml_parse_port("8081", &port, &step), STATUS_OK);
    assert_int_equal(step, 0);
    assert_int_equal(job_yaml_parse_port("8081+5", &port, &step), STATUS_OK);
    assert_int_equal(step, 5);
    static const char *const bad[] = { "", "+", "x", "80+x", "80+-1", "80+1001", "99999999999999" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(job_yaml_parse_port(bad[i], &port, &step), STATUS_INVALID);
}

static void the_closest_word_is_found_or_none(void **state)
{
    (void)state;
    static const char *const words[] = { "apply", "plan", "ps", "put", "up", "status", "stop" };
    const size_t count = sizeof words / sizeof words[0];
    assert_string_equal(closest_word("aply", words, count), "apply");
    assert_string_equal(closest_word("paln", words, count), "plan");
    assert_string_equal(closest_word("stauts", words, count), "status");
    assert_string_equal(closest_word("pp", words, count), "ps");
    assert_null(closest_word("frobnicate", words, count));
    assert_null(closest_word("", words, count));
}

static void the_examples_load_whole_and_no_part_of_one_misreads(void **state)
{
    (void)state;
    static const char *const names[] = { "web", "numbers", "crash", "tree" };
    for (size_t i = 0; i < 4; i++) {
        char path[256];
        const char *folder = getenv("UNUM_EXAMPLES");
        (void)snprintf(path, sizeof path, "%s/%s.yaml", folder ? folder : "examples", names[i]);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        static char text[8192];
        size_t size = fread(text, 1, sizeof text, file);
        (void)fclose(file);
        struct job_list list;
        for (size_t cut = 0; cut <= size; cut++) {
            char *part = malloc(cut + 1);
            assert_non_null(part);
            memcpy(part, text, cut);
            arena_reset(&arena);
            enum status status = job_yaml_load(path, bytes_of(part, cut), &arena, &list, &error);
            assert_true(status == STATUS_OK || status == STATUS_INVALID);
            if (cut == size) assert_int_equal(status, STATUS_OK);
            free(part);
        }
        assert_string_equal(list.jobs[0]->name, names[i]);
    }
}

int main(void)
{
    arena_init(&arena, JOB_YAML_ARENA_BYTES_MAX);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(short_forms_and_defaults_are_understood),
        cmocka_unit_test(text_that_is_not_a_job_file_is_refused_with_its_place),
        cmocka_unit_test(an_unknown_key_suggests_the_closest),
        cmocka_unit_test(a_wrong_value_is_refused_with_its_field),
        cmocka_unit_test(too_large_a_file_is_refused),
        cmocka_unit_test(ports_of_flags_are_read),
        cmocka_unit_test(the_closest_word_is_found_or_none),
        cmocka_unit_test(the_examples_load_whole_and_no_part_of_one_misreads),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_finish(&arena);
    return failed;
}
