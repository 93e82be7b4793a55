/* No bytes make the loader read outside its memory; what it accepts is valid and packs. */
#include "cli/job_yaml.h"
#include "schedule/job.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct job_list list;
    struct error error;
    arena_init(&arena, JOB_YAML_ARENA_BYTES_MAX);
    if (job_yaml_load("fuzz", bytes_of(data, size), &arena, &list, &error) == STATUS_OK) {
        for (size_t i = 0; i < list.count; i++) {
            struct job_change change;
            struct task_spec *spec;
            if (job_check(list.jobs[i], NULL, NULL) != STATUS_OK) abort();
            if (unum__v1__job__get_packed_size(list.jobs[i]) > JOB_BYTES_MAX) abort();
            if (job_diff(list.jobs[i], list.jobs[0], &arena, &change) == STATUS_OK && i == 0 &&
                change.kind != JOB_UNCHANGED && !list.jobs[0]->stopped)
                abort();
            if (list.jobs[i]->count > 0)
                (void)!job_task_spec(list.jobs[i], list.jobs[i]->count - 1, &arena, &spec, &error);
        }
    }
    arena_finish(&arena);
    return 0;
}
