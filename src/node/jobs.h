/* Jobs: the desired state, as the system space has it under "job/PROJECT/NAME", mirrored in memory.
 *
 * The mirror follows the space by a watch; jobs_refresh makes it current before a decision. One
 * reactor. A job handed out is borrowed until the next refresh. */
#ifndef UNUM_NODE_JOBS_H
#define UNUM_NODE_JOBS_H

#include "node/space.h"
#include "schedule/job.h"

enum { JOBS_COUNT_MAX = 1024, JOBS_BYTES_MAX = 64 * 1024 * 1024 };

struct jobs_entry {
    const Unum__V1__Job *job;
    uint64_t create_revision, revision;
};

struct jobs;

/* NOTIFY: the space has changed; called from its apply, must not suspend. */
MUST_USE enum status jobs_create(struct space *system, void (*notify)(void *context), void *context,
                                 struct jobs **ret_jobs, struct error *error);
void jobs_destroy(struct jobs *jobs);
/* Read them again if the space has changed. */
MUST_USE enum status jobs_refresh(struct jobs *jobs, struct error *error);
/* Counts the times that they were read. */
uint64_t jobs_version(const struct jobs *jobs);
/* In the order of project and name. */
size_t jobs_count(const struct jobs *jobs);
const struct jobs_entry *jobs_at(const struct jobs *jobs, size_t index);
/* By name within PROJECT ("" or NULL: "default"); NULL when there is none. */
const struct jobs_entry *jobs_find(const struct jobs *jobs, const char *project, const char *name);

/* Put all of JOBS_NEW at once, or none. EXPECTED: each one's revision now, 0 for a new one.
 * STATUS_CONFLICT: somebody else changed one meanwhile. */
MUST_USE enum status jobs_write(struct jobs *jobs, const Unum__V1__Job *const *jobs_new,
                                const uint64_t *expected, size_t count, const char *principal,
                                bool essential, uint64_t *ret_revision, struct error *error);
MUST_USE enum status jobs_remove(struct jobs *jobs, const struct jobs_entry *entry,
                                 const char *principal, struct error *error);

#endif
