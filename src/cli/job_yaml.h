/* Job files: YAML documents to jobs. Every key: docs/jobs.md.
 *
 * Every refusal names file, line, column and the field, and suggests the closest known key for an
 * unknown one. The jobs live in the caller's arena: never free them with protobuf-c. */
#ifndef UNUM_CLI_JOB_YAML_H
#define UNUM_CLI_JOB_YAML_H

#include "cli/yaml.h"
#include "unum/v1/job.pb-c.h"

enum { JOB_YAML_ARENA_BYTES_MAX = 64 * 1024 * 1024 };

struct job_list {
    Unum__V1__Job **jobs;
    size_t count;
};

/* The jobs of one file, in its order, valid (job_validate) and canonical. STATUS_INVALID: ERROR is
 * "NAME: line L, column C: field: sentence". A file without a job is refused. */
MUST_USE enum status job_yaml_load(const char *name, struct bytes bytes, struct arena *arena,
                                   struct job_list *ret_list, struct error *error);

/* The value of a port as files and flags write it: "8081", "8081+", "8081+2". */
MUST_USE enum status job_yaml_parse_port(const char *text, uint32_t *ret_port, uint32_t *ret_step);

#endif
