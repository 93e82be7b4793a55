/* unum-sim: whole computers under virtual time, by the thousands.
 *
 *   unum-sim --seeds N --first S     runs the seeds S .. S+N-1; stops at the first that fails
 *   unum-sim --seed S [--trace]      replays one, twice, and compares the trace hashes
 *   --seconds N                      virtual seconds per seed (60)
 *   --quiet                          no progress
 * Exit status: 0 all good, 1 a seed failed, 2 usage. */
#include "base/parse.h"
#include "sim/world.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct totals {
    struct world_result sum;
    uint64_t seeds;
};

/* An assertion is a failure of the seed too: say which one before the process ends. The sentence is
 * made beforehand, since a signal handler may not format one. */
static char abort_text[200];

static void remember_seed(uint64_t seed, uint64_t tried)
{
    (void)snprintf(abort_text, sizeof abort_text,
                   "FAILED seed %" PRIu64 " (the %" PRIu64 ". tried): an assertion, see above; "
                   "replay: make sim SEED=%" PRIu64 " TRACE=1\n",
                   seed, tried, seed);
}

static void on_abort(int number)
{
    ssize_t written = write(STDOUT_FILENO, abort_text, strlen(abort_text));
    (void)written; /* there is nobody left to tell */
    (void)signal(number, SIG_DFL);
}

static double seconds_of(clockid_t clock)
{
    struct timespec time;
    (void)clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void add(struct totals *totals, const struct world_result *result)
{
    totals->seeds++;
    totals->sum.virtual_ns += result->virtual_ns;
    totals->sum.operations += result->operations;
    totals->sum.operations_unknown += result->operations_unknown;
    totals->sum.watch_events += result->watch_events;
    totals->sum.leases += result->leases;
    totals->sum.tasks_restarted += result->tasks_restarted;
    totals->sum.crashes += result->crashes;
    totals->sum.power_losses += result->power_losses;
    totals->sum.syncs_failed += result->syncs_failed;
    totals->sum.full_disks += result->full_disks;
    totals->sum.bits_rotten += result->bits_rotten;
    totals->sum.slow_disks += result->slow_disks;
    totals->sum.refused_starts += result->refused_starts;
}

static void print_failure(uint64_t seed, const struct world_result *result, uint64_t tried)
{
    (void)printf("FAILED seed %" PRIu64 " (the %" PRIu64 ". tried) at %.3f s: %s; "
                 "replay: make sim SEED=%" PRIu64 " TRACE=1\n",
                 seed, tried, (double)result->virtual_ns / 1e9, result->failure, seed);
}

static void print_totals(const struct totals *totals, double seconds)
{
    const struct world_result *sum = &totals->sum;
    double virtual_seconds = (double)sum->virtual_ns / 1e9;
    (void)printf("%" PRIu64 " seeds good: %" PRIu64 " operations (%" PRIu64
                 " of unknown outcome), %" PRIu64 " watch events, %" PRIu64 " leases, %" PRIu64
                 " task restarts\n",
                 totals->seeds, sum->operations, sum->operations_unknown, sum->watch_events,
                 sum->leases, sum->tasks_restarted);
    (void)printf("faults: %" PRIu64 " crashes, %" PRIu64 " power losses, %" PRIu64
                 " failed syncs, %" PRIu64 " full disks, %" PRIu64 " slow disks, %" PRIu64
                 " rotten bits (%" PRIu64 " starts refused)\n",
                 sum->crashes, sum->power_losses, sum->syncs_failed, sum->full_disks,
                 sum->slow_disks, sum->bits_rotten, sum->refused_starts);
    double processor = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    (void)printf("%.0f virtual seconds in %.1f s: %.0f times real time, %.0f by processor time\n",
                 virtual_seconds, seconds, virtual_seconds / (seconds > 0 ? seconds : 1),
                 virtual_seconds / (processor > 0 ? processor : 1));
}

static int replay(const struct world_options *options)
{
    struct world_result first, second;
    struct world_options quiet = *options;
    quiet.trace = false;
    world_run(options, &first);
    world_run(&quiet, &second);
    (void)printf("seed %" PRIu64 ": trace hash %016" PRIx64 "\n", options->seed, first.trace_hash);
    if (first.trace_hash != second.trace_hash) {
        (void)printf("FAILED seed %" PRIu64 ": the second run has trace hash %016" PRIx64 "\n",
                     options->seed, second.trace_hash);
        return 1;
    }
    if (first.failed) {
        print_failure(options->seed, &first, 1);
        return 1;
    }
    return 0;
}

static int run_seeds(struct world_options *options, uint64_t first, uint64_t count, bool quiet)
{
    struct totals totals = { 0 };
    double began = seconds_of(CLOCK_MONOTONIC);
    for (uint64_t seed = first; seed < first + count; seed++) {
        struct world_result result;
        options->seed = seed;
        remember_seed(seed, seed - first + 1);
        world_run(options, &result);
        if (result.failed) {
            print_failure(seed, &result, seed - first + 1);
            return 1;
        }
        add(&totals, &result);
        if (!quiet && totals.seeds % 100 == 0 && totals.seeds < count) {
            (void)printf("%" PRIu64 " seeds good so far, %.1f s\n", totals.seeds,
                         seconds_of(CLOCK_MONOTONIC) - began);
            (void)fflush(stdout);
        }
    }
    print_totals(&totals, seconds_of(CLOCK_MONOTONIC) - began);
    return 0;
}

static int usage(void)
{
    (void)fprintf(stderr, "usage: unum-sim --seeds N [--first S] | --seed S [--trace]"
                          "  [--seconds N] [--quiet]\n");
    return 2;
}

int main(int argument_count, char **arguments)
{
    struct world_options options = { 0 };
    uint64_t seeds = 0, first = 1;
    bool single = false, quiet = false;
    for (int i = 1; i < argument_count; i++) {
        const char *name = arguments[i];
        uint64_t *target = NULL;
        if (strcmp(name, "--trace") == 0)
            options.trace = true;
        else if (strcmp(name, "--quiet") == 0)
            quiet = true;
        else if (strcmp(name, "--seeds") == 0)
            target = &seeds;
        else if (strcmp(name, "--first") == 0)
            target = &first;
        else if (strcmp(name, "--seed") == 0)
            target = &options.seed;
        else if (strcmp(name, "--seconds") == 0)
            target = &options.virtual_seconds;
        else
            return usage();
        if (target == NULL) continue;
        if (target == &options.seed) single = true;
        i++;
        if (i >= argument_count || parse_u64(arguments[i], UINT32_MAX, target) != STATUS_OK)
            return usage();
    }
    (void)signal(SIGABRT, on_abort);
    remember_seed(options.seed, 1);
    if (single) return replay(&options);
    if (seeds == 0) return usage();
    return run_seeds(&options, first, seeds, quiet);
}
