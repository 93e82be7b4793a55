/* Somebody who runs jobs: applies, changes, stops, restarts and removes them, each until he knows
 * that it is done; and at the end what he wants is what runs. */
#include "sim/workload.h"
#include "unum/v1/computer.pb-c.h"

#include <stdio.h>
#include <string.h>

enum { TASKS_PER_JOB_MAX = 4 };

static const char *const behaviours[] = {
    "steady", "large", "crash", "stubborn", "short", "broken"
};
enum { BEHAVIOUR_COUNT = sizeof behaviours / sizeof behaviours[0] };

static char *text(const char *constant)
{
    return (char *)constant;
}

/* Until the outcome is known: all of these may be done twice. True: done. */
static bool insist(struct person *person, const char *path, const ProtobufCMessage *request,
                   const ProtobufCMessageDescriptor *reply, bool missing_is_fine)
{
    for (;;) {
        void *answer;
        enum status status;
        enum outcome outcome = person_call(person, path, request, reply, &answer, &status);
        if (outcome == OUTCOME_DONE) return true;
        if (outcome == OUTCOME_OVER) return false;
        bool passing = outcome == OUTCOME_UNKNOWN || refusal_is_passing(status) ||
                       status == STATUS_CONFLICT || status == STATUS_TIMEOUT;
        if (status == STATUS_NOT_FOUND && missing_is_fine) return true;
        if (!passing) {
            world_fail(person->world, "%s: %s was refused (%s): %s", person->name, path,
                       status_name(status), person->client.text);
            return false;
        }
        if (!person_pause(person, 20, 400)) return false;
    }
}

static bool apply(struct person *person, const struct world_job *job)
{
    char version[24];
    bool large = strcmp(job->behaviour, "large") == 0; /* behaves as a steady one */
    char *command[1] = { text(job->behaviour) };
    Unum__V1__Resources resources = UNUM__V1__RESOURCES__INIT;
    Unum__V1__Job__EnvironmentEntry variable = UNUM__V1__JOB__ENVIRONMENT_ENTRY__INIT;
    Unum__V1__Job__EnvironmentEntry *environment[1] = { &variable };
    Unum__V1__Restart restart = UNUM__V1__RESTART__INIT;
    Unum__V1__Stop stop = UNUM__V1__STOP__INIT;
    Unum__V1__Job message = UNUM__V1__JOB__INIT;
    (void)snprintf(version, sizeof version, "%llu", (unsigned long long)job->version);
    variable.key = text("VERSION");
    variable.value = version;
    message.name = text(job->name);
    message.count = job->count;
    message.n_command = 1;
    message.command = command;
    message.n_environment = 1;
    message.environment = environment;
    /* What is to be up at the end must not be held back for long. */
    bool lasting = strcmp(job->behaviour, "steady") == 0 || strcmp(job->behaviour, "stubborn") == 0;
    restart.burst = lasting ? 20 : 4;
    restart.period_ms = lasting ? 5000 : 8000;
    restart.backoff_ms = 50;
    restart.backoff_max_ms = 2000;
    message.restart = &restart;
    stop.grace_ms = 1500;
    message.stop = &stop;
    resources.memory_bytes = large ? WORLD_LARGE_TASK_BYTES : 0;
    message.resources = &resources;
    Unum__V1__Job *jobs[1] = { &message };
    Unum__V1__ApplyRequest request = UNUM__V1__APPLY_REQUEST__INIT;
    request.n_jobs = 1;
    request.jobs = jobs;
    return insist(person, "/unum.v1.Computer/Apply", &request.base,
                  &unum__v1__apply_response__descriptor, false);
}

static bool stop(struct person *person, const struct world_job *job, bool removed)
{
    Unum__V1__StopJobRequest request = UNUM__V1__STOP_JOB_REQUEST__INIT;
    request.job = text(job->name);
    request.remove = removed;
    return insist(person, "/unum.v1.Computer/StopJob", &request.base,
                  &unum__v1__stop_job_response__descriptor, removed);
}

static bool restart(struct person *person, const struct world_job *job)
{
    Unum__V1__RestartJobRequest request = UNUM__V1__RESTART_JOB_REQUEST__INIT;
    request.job = text(job->name);
    return insist(person, "/unum.v1.Computer/RestartJob", &request.base,
                  &unum__v1__restart_job_response__descriptor, false);
}

/* JOB becomes WANTED once it is known to be so. */
static void change(struct person *person, struct world_job *job)
{
    struct world_job wanted = *job;
    uint64_t kind = world_draw(&person->random, 0, 99);
    bool done;
    const char *what = "apply";
    if (!job->present || kind < 35) {
        wanted.present = true;
        wanted.stopped = false;
        wanted.count = (uint32_t)world_draw(&person->random, 1, TASKS_PER_JOB_MAX);
        wanted.version += world_chance(&person->random, 40);
        done = apply(person, &wanted);
    } else if (kind < 55) {
        what = "stop";
        wanted.stopped = true;
        done = stop(person, job, false);
    } else if (kind < 65) {
        what = "remove";
        wanted.present = false;
        done = stop(person, job, true);
    } else {
        what = "restart"; /* a stopped job stays stopped */
        done = restart(person, job);
    }
    if (!done) return;
    *job = wanted;
    world_say(person->world, person->name, "%s %s: %s, %u wanted, %s", what, job->name,
              job->behaviour, job->present && !job->stopped ? job->count : 0,
              job->present ? (job->stopped ? "stopped" : "present") : "gone");
}

static void jobs_fiber(void *argument)
{
    struct person *person = argument;
    struct world *world = person->world;
    uint64_t pause_ms_max = world_draw(&person->random, 300, 5000);
    for (unsigned i = 0; i < world->job_count && !fiber_must_stop(); i++)
        change(person, &world->jobs[i]);
    while (!world->writers_stop && person_pause(person, 50, pause_ms_max))
        change(person, &world->jobs[world_draw(&person->random, 0, world->job_count - 1)]);
    person_destroy(person);
}

void world_start_jobs_client(struct world *world)
{
    world->job_count = (unsigned)world_draw(&world->random, 2, WORLD_JOBS_MAX);
    for (unsigned i = 0; i < world->job_count; i++) {
        struct world_job *job = &world->jobs[i];
        job->behaviour =
            i == 0 ? "steady" : behaviours[world_draw(&world->random, 0, BEHAVIOUR_COUNT - 1)];
        (void)snprintf(job->name, sizeof job->name, "%s-%c", job->behaviour, (char)('a' + i));
    }
    person_start(world, &world->writers, "operator", 0, jobs_fiber);
}

/* --- judging ------------------------------------------------------------------------------------
 */

bool world_jobs_are_well(struct world *world, char *ret_text, size_t size)
{
    for (unsigned i = 0; i < world->job_count; i++) {
        const struct world_job *job = &world->jobs[i];
        bool runs = job->present && !job->stopped;
        bool steady =
            strcmp(job->behaviour, "steady") == 0 || strcmp(job->behaviour, "stubborn") == 0;
        for (unsigned number = 0; number < TASKS_PER_JOB_MAX; number++) {
            char name[64];
            (void)snprintf(name, sizeof name, "%s-%u", job->name, number);
            bool wanted = runs && number < job->count;
            unsigned live = sim_supervisor_live_named(world->supervisor, name);
            if (!wanted && live > 0) {
                (void)snprintf(ret_text, size, "%s still runs", name);
                return false;
            }
            if (wanted && steady && !sim_supervisor_task_is_up(world->supervisor, name)) {
                (void)snprintf(ret_text, size, "%s is not up", name);
                return false;
            }
        }
    }
    return true;
}

static void ask_why(struct person *person, const char *name)
{
    Unum__V1__WhyRequest request = UNUM__V1__WHY_REQUEST__INIT;
    Unum__V1__WhyResponse *reply;
    enum status status;
    request.name = text(name);
    enum outcome outcome = person_call(person, "/unum.v1.Computer/Why", &request.base,
                                       &unum__v1__why_response__descriptor, &reply, &status);
    if (outcome == OUTCOME_OVER) return;
    if (outcome != OUTCOME_DONE)
        world_fail(person->world, "why %s: %s %s", name, status_name(status), person->client.text);
    else if (reply->summary[0] == '\0')
        world_fail(person->world, "why %s says nothing", name);
    else
        world_say(person->world, person->name, "why %s: %s", name, reply->summary);
}

void world_ask_why(struct world *world)
{
    struct person *person = person_create(world, "curious", 0);
    for (unsigned i = 0; i < world->job_count && !fiber_must_stop(); i++)
        if (world->jobs[i].present) ask_why(person, world->jobs[i].name);
    person_destroy(person);
}
