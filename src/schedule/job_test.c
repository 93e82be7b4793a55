/* A job that can't run is refused with the field's name; one that can expands to what its author
 * meant; and a change is told and replaces tasks only when it must.
 *
 * Method: start from one good job, break one field at a time, and compare the sentence. */
#include "schedule/job.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A good job on static memory, made anew for each use. */
struct example {
    Unum__V1__Job job;
    Unum__V1__Resources resources;
    Unum__V1__Restart restart;
    Unum__V1__Stop stop;
    Unum__V1__Probe ready;
    Unum__V1__Port ports[3];
    Unum__V1__Port *port_list[3];
    char *command[4];
    Unum__V1__Job__EnvironmentEntry variables[2];
    Unum__V1__Job__EnvironmentEntry *variable_list[2];
    Unum__V1__File file;
    Unum__V1__File *file_list[1];
    Unum__V1__Scratch scratch;
    Unum__V1__Scratch *scratch_list[1];
};

static char file_content[] = "listen ${port.http}; # ${task} $uri ${other} $${task}";

static void example_init(struct example *e)
{
    memset(e, 0, sizeof *e);
    unum__v1__job__init(&e->job);
    unum__v1__resources__init(&e->resources);
    unum__v1__restart__init(&e->restart);
    unum__v1__stop__init(&e->stop);
    unum__v1__probe__init(&e->ready);
    unum__v1__file__init(&e->file);
    unum__v1__scratch__init(&e->scratch);
    static char *const names[3] = { "http", "admin", "third" };
    for (size_t i = 0; i < 3; i++) {
        unum__v1__port__init(&e->ports[i]);
        e->ports[i].name = names[i];
        e->ports[i].port = (uint32_t)(8081 + 1000 * i);
        e->ports[i].step = 1;
        e->port_list[i] = &e->ports[i];
    }
    for (size_t i = 0; i < 2; i++) {
        unum__v1__job__environment_entry__init(&e->variables[i]);
        e->variable_list[i] = &e->variables[i];
    }
    e->variables[0].key = "WHO";
    e->variables[0].value = "${job}/${index}";
    e->variables[1].key = "A";
    e->variables[1].value = "1";
    e->job.name = "web";
    e->job.count = 8;
    e->command[0] = "nginx";
    e->command[1] = "-p${port.admin}";
    e->job.command = e->command;
    e->job.n_command = 2;
    e->job.resources = &e->resources;
    e->job.restart = &e->restart;
    e->job.stop = &e->stop;
    e->job.ready = &e->ready;
    e->ready.kind = UNUM__V1__PROBE__KIND__HTTP;
    e->ready.port = "http";
    e->job.ports = e->port_list;
    e->job.n_ports = 2;
    e->job.environment = e->variable_list;
    e->job.n_environment = 2;
    e->file.path = "/run/web.conf";
    e->file.content.data = (uint8_t *)file_content;
    e->file.content.len = sizeof file_content - 1;
    e->file_list[0] = &e->file;
    e->job.files = e->file_list;
    e->job.n_files = 1;
    e->scratch.path = "/var/lib/nginx";
    e->scratch_list[0] = &e->scratch;
    e->job.scratch = e->scratch_list;
    e->job.n_scratch = 1;
}

static void refused(const Unum__V1__Job *job, const char *sentence)
{
    struct error error;
    const struct job_machine machine = { .cpu_milli = 2000, .memory_bytes = 4ULL << 30 };
    assert_int_equal(job_check(job, &machine, &error), STATUS_INVALID);
    assert_string_equal(error.text, sentence);
}

static void a_good_job_is_accepted(void **state)
{
    (void)state;
    struct example e;
    example_init(&e);
    struct error error = { 0 };
    assert_int_equal(job_check(&e.job, NULL, &error), STATUS_OK);
    e.job.count = 0;
    assert_int_equal(job_check(&e.job, NULL, &error), STATUS_OK);
    e.job.count = JOB_COUNT_MAX;
    assert_int_equal(job_check(&e.job, NULL, &error), STATUS_INVALID); /* the ports end */
    e.job.n_ports = 0;
    e.ready.kind = UNUM__V1__PROBE__KIND__NONE;
    e.job.n_command = 1;
    e.job.n_files = 0;
    assert_int_equal(job_check(&e.job, NULL, &error), STATUS_OK);
}

#define REFUSED(change, sentence)                                                                  \
    do {                                                                                           \
        struct example e;                                                                          \
        example_init(&e);                                                                          \
        change;                                                                                    \
        refused(&e.job, sentence);                                                                 \
    } while (0)

static void each_wrong_name_or_command_is_refused_with_its_field(void **state)
{
    (void)state;
    REFUSED(e.job.name = "", "job : name: must be 1 to 58 of a-z, 0-9 and inner dashes, is \"\"");
    REFUSED(e.job.name = "We\nb",
            "job We?b: name: must be 1 to 58 of a-z, 0-9 and inner dashes, is \"We?b\"");
    REFUSED(e.job.name = "-web",
            "job -web: name: must be 1 to 58 of a-z, 0-9 and inner dashes, is \"-web\"");
    REFUSED(e.job.project = "a.b",
            "job web: project: must be 1 to 63 of a-z, 0-9 and inner dashes, is \"a.b\"");
    REFUSED(e.job.n_command = 0,
            "job web: command: must name a program, like [nginx, -g, \"daemon off;\"]");
    REFUSED(e.command[0] = "",
            "job web: command: must begin with the name of a program, not with \"\"");
    REFUSED(e.job.working_directory = "srv",
            "job web: directory: must be an absolute path without \".\", \"..\" or \"//\" of at "
            "most 1023 bytes");
    REFUSED(e.job.working_directory = "/srv/../etc",
            "job web: directory: must be an absolute path without \".\", \"..\" or \"//\" of at "
            "most 1023 bytes");
    REFUSED(e.variables[0].key = "1A", "job web: environment.1A: a variable's name is letters, "
                                       "digits and _, not beginning with a digit");
    REFUSED(e.variables[0].key = "UNUM_X", "job web: environment.UNUM_X: names that begin with "
                                           "UNUM_ are set by the computer");
    REFUSED(e.stop.signal = "TERM", "job web: stop.signal: must be the name of a signal, like "
                                    "SIGTERM, SIGQUIT or SIGINT, is \"TERM\"");
}

static void each_number_out_of_range_is_refused_with_its_field(void **state)
{
    (void)state;
    REFUSED(e.job.count = 10001, "job web: count: must be 0 to 10000 tasks");
    REFUSED(e.resources.memory_bytes = 1, "job web: resources.memory: must be 1Mi to 16Ti");
    REFUSED(e.resources.processes = 65537, "job web: resources.processes: must be 1 to 65536");
    REFUSED(e.restart.policy = (Unum__V1__Restart__Policy)3,
            "job web: restart.policy: must be permanent, transient or temporary");
    REFUSED(e.restart.policy = (Unum__V1__Restart__Policy)-1,
            "job web: restart.policy: must be permanent, transient or temporary");
    REFUSED(e.restart.burst = 21, "job web: restart.burst: must be 1 to 20 restarts");
    REFUSED(e.restart.period_ms = 86400001, "job web: restart.period: must be 1ms to 24h");
    REFUSED(e.restart.backoff_ms = 30001,
            "job web: restart.backoff: must not be longer than restart.backoff_max");
    REFUSED(e.stop.grace_ms = UINT64_MAX, "job web: stop.grace: must be 1ms to 24h");
    REFUSED(e.ready.timeout_ms = 60001, "job web: ready.timeout: must be 1ms to 60s");
    REFUSED(e.scratch.size_bytes = 1, "job web: scratch./var/lib/nginx: must be 64Ki to 16Ti");
    REFUSED(e.scratch.size_bytes = 65ULL << 20,
            "job web: scratch: is memory and counts as the task's: together at most "
            "resources.memory");
    REFUSED(e.file.mode = 01000, "job web: files./run/web.conf: mode must be 0 to 0777, in octal");
    REFUSED(e.file.path = "etc/x", "job web: files.etc/x: must be an absolute path without \".\", "
                                   "\"..\" or \"//\" of at most 1023 bytes");
    REFUSED(e.file.path = "/etc/x", "job web: files./etc/x: must lie below /run, /tmp or a "
                                    "scratch folder of the job");
    REFUSED(file_content[3] = 0,
            "job web: files./run/web.conf: must be text: it holds a zero byte");
    file_content[3] = 't';
}

static void ports_that_can_not_be_are_refused(void **state)
{
    (void)state;
    REFUSED(e.ports[0].port = 0, "job web: ports.http: must be 1 to 65535, is 0");
    REFUSED(e.ports[0].port = 65536, "job web: ports.http: must be 1 to 65535, is 65536");
    REFUSED(e.ports[0].port = 65529, "job web: ports.http: the last of 8 tasks would get port "
                                     "65536, the highest is 65535");
    REFUSED(e.ports[1].port = 8088,
            "job web: ports.admin: port 8088 would be taken by ports.http too");
    REFUSED((e.ports[1].port = 8001, e.ports[1].step = 20),
            "job web: ports.admin: port 8081 would be taken by ports.http too");
    REFUSED(e.ports[1].name = "http", "job web: ports.http: is there twice");
    REFUSED(e.ports[1].name = "Admin",
            "job web: ports.Admin: a port's name is 1 to 32 of a-z, 0-9 and inner dashes");
    REFUSED(e.ports[0].step = 0,
            "job web: ports.http: all 8 tasks would take port 8081; write 8081+ for one more in "
            "each task, or network: private");
    struct example e;
    example_init(&e);
    e.ports[0].step = 0;
    e.ports[1].step = 0;
    e.job.private_network = true;
    e.job.ready = NULL;
    assert_int_equal(job_check(&e.job, NULL, NULL), STATUS_OK);
    example_init(&e);
    e.ports[0].step = 2;
    e.ports[1].port = 8082;
    e.ports[1].step = 2;
    assert_int_equal(job_check(&e.job, NULL, NULL), STATUS_OK); /* odd and even */
}

static void a_probe_must_mean_something_that_is_there(void **state)
{
    (void)state;
    REFUSED(
        e.job.private_network = true,
        "job web: ready: tcp and http can't reach into a private network; use command or notify");
    REFUSED(e.ready.port = "htpp", "job web: ready.port: must be the name of one of the job's "
                                   "ports, like http, is \"htpp\"");
    REFUSED((e.job.n_ports = 0, e.command[1] = ""),
            "job web: ready.port: the job has no ports; name one under ports");
    REFUSED(e.ready.path = "health",
            "job web: ready.path: must begin with / and be at most 255 visible ASCII characters");
    REFUSED(e.ready.path = "/a b",
            "job web: ready.path: must begin with / and be at most 255 visible ASCII characters");
    REFUSED(e.ready.kind = UNUM__V1__PROBE__KIND__COMMAND,
            "job web: ready.command: must name a program, like [nginx, -g, \"daemon off;\"]");
    REFUSED(e.ready.kind = (Unum__V1__Probe__Kind)9,
            "job web: ready: must be none, notify, tcp, http or command");
    REFUSED(e.command[1] = "${port.htpp}", "job web: command: ${port.htpp} is not one of the "
                                           "job's ports (write $${ for a plain ${)");
    REFUSED(e.variables[0].value = "${port.",
            "job web: environment.WHO: ${port.} is not one of the job's ports (write $${ for a "
            "plain ${)");
}

static void what_the_machine_can_not_give_is_refused(void **state)
{
    (void)state;
    REFUSED(e.resources.cpu_milli = 3000,
            "job web: resources.cpu: a task needs 3 cores, the machine has 2");
    REFUSED(e.resources.cpu_milli = 2500,
            "job web: resources.cpu: a task needs 2.500 cores, the machine has 2");
    REFUSED(e.resources.memory_bytes = 5ULL << 30,
            "job web: resources.memory: a task needs 5120 MiB, the machine has 4096 MiB");
}

static void a_task_is_expanded_with_its_own_ports_and_names(void **state)
{
    (void)state;
    struct example e;
    example_init(&e);
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct task_spec *spec;
    struct error error;
    job_canonicalize(&e.job);
    assert_int_equal(job_task_spec(&e.job, 3, &arena, &spec, &error), STATUS_OK);
    assert_string_equal(spec->name, "web-3");
    assert_int_equal(spec->command_count, 2);
    assert_string_equal(spec->command[1], "-p9084");
    assert_null(spec->command[2]);
    static const char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    static const char *const environment[] = {
        "A=1",
        path,
        "UNUM_INDEX=3",
        "UNUM_JOB=web",
        "UNUM_PORT_ADMIN=9084",
        "UNUM_PORT_HTTP=8084",
        "UNUM_TASK=web-3",
        "WHO=web/3",
    };
    assert_int_equal(spec->environment_count, 8);
    for (size_t i = 0; i < 8; i++) assert_string_equal(spec->environment[i], environment[i]);
    assert_null(spec->environment[8]);
    assert_true(bytes_equal(spec->files[0].content,
                            bytes_of_text("listen 8084; # web-3 $uri ${other} ${task}")));
    assert_int_equal(spec->files[0].mode, 0444);
    assert_int_equal(spec->ready_port, 8084);
    assert_int_equal(spec->stop_signal, 15);
    assert_int_equal(spec->settings.cpu_milli, 100);
    assert_int_equal(spec->scratch[0].size_bytes, 16 << 20);
    arena_finish(&arena);
}

static void the_launch_command_writes_the_files_and_becomes_the_program(void **state)
{
    (void)state;
    struct example e;
    example_init(&e);
    char path[] = "/tmp/unum-job-test-XXXXXX";
    assert_non_null(mkdtemp(path));
    char file[64], command[200];
    (void)snprintf(file, sizeof file, "%s/sub/a file", path);
    (void)snprintf(command, sizeof command, "cat \"%s\"; stat -c %%a \"%s\"; rm -r %s", file, file,
                   path);
    e.file.path = file;
    e.file.mode = 0640;
    e.command[0] = "sh";
    e.command[1] = "-c";
    e.command[2] = command;
    e.job.n_command = 3;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct task_spec *spec;
    assert_int_equal(job_check(&e.job, NULL, NULL), STATUS_OK);
    assert_int_equal(job_task_spec(&e.job, 0, &arena, &spec, NULL), STATUS_OK);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        (void)dup2(ends[1], 1);
        execv(spec->launch[0], (char *const *)spec->launch);
        _exit(99);
    }
    close(ends[1]);
    char output[256] = { 0 };
    size_t used = 0;
    for (ssize_t n = 1; n > 0 && used < sizeof output - 1; used += (size_t)n) {
        n = read(ends[0], output + used, sizeof output - 1 - used);
        assert_true(n >= 0);
    }
    close(ends[0]);
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    assert_string_equal(output, "listen 8081; # web-0 $uri ${other} ${task}640\n");
    arena_finish(&arena);
}

static void what_grows_too_long_by_substitution_is_refused(void **state)
{
    (void)state;
    struct example e;
    example_init(&e);
    size_t size = JOB_FILES_BYTES_MAX;
    char *content = malloc(size);
    assert_non_null(content);
    static const char part[] = "${job}";
    for (size_t i = 0; i < size; i++) content[i] = part[i % 6];
    e.file.content.data = (uint8_t *)content;
    e.file.content.len = size;
    char name[] = "a-very-long-name-of-a-job-that-grows";
    e.job.name = name;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct task_spec *spec;
    struct error error;
    assert_int_equal(job_check(&e.job, NULL, &error), STATUS_OK);
    assert_int_equal(job_task_spec(&e.job, 0, &arena, &spec, &error), STATUS_INVALID);
    assert_string_equal(error.text, "a-very-long-name-of-a-job-that-grows-0: files: longer "
                                    "than 16384 bytes after substitution");
    arena_finish(&arena);
    free(content);
}

static void a_tasks_name_is_read_back(void **state)
{
    (void)state;
    char job[LIMIT_NAME_BYTES_MAX + 1];
    uint32_t index;
    assert_int_equal(job_task_name_parse("my-web-12", job, &index), STATUS_OK);
    assert_string_equal(job, "my-web");
    assert_int_equal(index, 12);
    static const char *const bad[] = { "web", "web-", "-1", "web-01", "web-10000", "web-1x", "" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(job_task_name_parse(bad[i], job, &index), STATUS_INVALID);
}

static void a_change_is_told_and_replaces_tasks_only_when_it_must(void **state)
{
    (void)state;
    struct example a, b;
    struct arena arena;
    struct job_change change;
    arena_init(&arena, 1 << 20);
    example_init(&a);
    example_init(&b);
    assert_int_equal(job_diff(NULL, &b.job, &arena, &change), STATUS_OK);
    assert_int_equal(change.kind, JOB_CREATED);
    assert_int_equal(change.tasks_started, 8);
    job_succeed(NULL, &a.job, &change);
    assert_int_equal(a.job.task_generation, 1);

    /* A default that is written out is no change. */
    b.resources.cpu_milli = 100;
    b.stop.signal = "SIGTERM";
    assert_int_equal(job_diff(&a.job, &b.job, &arena, &change), STATUS_OK);
    assert_int_equal(change.kind, JOB_UNCHANGED);
    job_succeed(&a.job, &b.job, &change);
    assert_int_equal(b.job.generation, 1);

    b.job.count = 10;
    b.ready.interval_ms = 500;
    assert_int_equal(job_diff(&a.job, &b.job, &arena, &change), STATUS_OK);
    assert_int_equal(change.kind, JOB_UPDATED);
    assert_false(change.replaces_tasks);
    assert_int_equal(change.sentence_count, 2);
    assert_string_equal(change.sentences[0], "count: 8 -> 10");
    assert_string_equal(change.sentences[1], "ready.interval: 1s -> 500ms");
    assert_int_equal(change.tasks_started, 2);
    job_succeed(&a.job, &b.job, &change);
    assert_int_equal(b.job.generation, 2);
    assert_int_equal(b.job.task_generation, 1);

    b.job.count = 6;
    b.variables[0].value = "secret";
    b.ports[1].port = 9200;
    b.job.n_files = 0;
    assert_int_equal(job_diff(&a.job, &b.job, &arena, &change), STATUS_OK);
    assert_true(change.replaces_tasks);
    assert_int_equal(change.tasks_stopped, 2);
    assert_int_equal(change.tasks_restarted, 6);
    assert_int_equal(change.sentence_count, 5);
    assert_string_equal(change.sentences[2], "ports.admin: 9081+ -> 9200+");
    assert_string_equal(change.sentences[3], "environment.WHO: changed");
    assert_string_equal(change.sentences[4], "files./run/web.conf: removed");
    job_succeed(&a.job, &b.job, &change);
    assert_int_equal(b.job.task_generation, 2);
    job_restart(&b.job);
    assert_int_equal(b.job.task_generation, 3);
    arena_finish(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_job_is_accepted),
        cmocka_unit_test(each_wrong_name_or_command_is_refused_with_its_field),
        cmocka_unit_test(each_number_out_of_range_is_refused_with_its_field),
        cmocka_unit_test(ports_that_can_not_be_are_refused),
        cmocka_unit_test(a_probe_must_mean_something_that_is_there),
        cmocka_unit_test(what_the_machine_can_not_give_is_refused),
        cmocka_unit_test(a_task_is_expanded_with_its_own_ports_and_names),
        cmocka_unit_test(the_launch_command_writes_the_files_and_becomes_the_program),
        cmocka_unit_test(what_grows_too_long_by_substitution_is_refused),
        cmocka_unit_test(a_tasks_name_is_read_back),
        cmocka_unit_test(a_change_is_told_and_replaces_tasks_only_when_it_must),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
