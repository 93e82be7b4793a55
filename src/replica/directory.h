/* Directory: which groups exist, of which kind and name, and who their members are. Itself the
 * state machine of group 1 (foundations, 6).
 *
 * Promise: a group number is given once and never again, also after the group was removed; kind and
 * name together name one group at a time; an epoch counts the changes of its group, so that who
 * acts on an old description is refused.
 * Its state is the range of group 1 and nothing else. Formats: docs/formats/directory.md. */
#ifndef UNUM_REPLICA_DIRECTORY_H
#define UNUM_REPLICA_DIRECTORY_H

#include "replica/replica.h"

enum {
    DIRECTORY_GROUP = 1,
    DIRECTORY_MEMBERS_MAX = 5,
    DIRECTORY_COMMAND_BYTES_MAX =
        2 + 2 + GROUP_KIND_BYTES_MAX + GROUP_NAME_BYTES_MAX + 1 + DIRECTORY_MEMBERS_MAX * ID_BYTES,
    DIRECTORY_REPLY_BYTES = 18,
};
#define DIRECTORY_KIND "directory"

enum directory_command_kind {
    DIRECTORY_CREATE = 1,
    DIRECTORY_REMOVE = 2,
};

struct directory_command {
    enum directory_command_kind kind;
    struct group_description
        group; /* CREATE: kind, name, members; REMOVE: group, and epoch (0: any)
                */
};

/* WRITER has DIRECTORY_COMMAND_BYTES_MAX. STATUS_INVALID: a field over its maximum. */
MUST_USE enum status directory_command_encode(const struct directory_command *command,
                                              struct writer *writer);
enum decode directory_command_decode(struct bytes bytes, struct directory_command *ret_command);

/* How a command ended. The numbers are on disk (remembered replies). */
enum directory_verdict {
    DIRECTORY_OK = 0,
    DIRECTORY_EXISTS = 1,    /* kind and name are taken by the group in the reply */
    DIRECTORY_NOT_FOUND = 2, /* no such group */
    DIRECTORY_CONFLICT = 3,  /* another epoch: that of the reply */
    DIRECTORY_FULL = 4,      /* GROUPS_MAX */
    DIRECTORY_INVALID = 5,   /* the command is malformed */
    DIRECTORY_VERDICT_COUNT
};

struct directory_reply {
    enum directory_verdict verdict;
    uint64_t group;
    uint64_t epoch;
};
enum decode directory_reply_decode(struct bytes bytes, struct directory_reply *ret_reply);

/* Letters, digits, '-', '_', '.'; 1 to SIZE_MAX_ALLOWED of them. */
bool directory_name_valid(const char *name, size_t size_max_allowed);

/* The state machine. CHANGED(CONTEXT) is called after each command that changed something. */
MUST_USE enum status directory_create(void (*changed)(void *context), void *context,
                                      struct state_machine **ret_machine);
/* The first group with a number above AFTER. STATUS_NOT_FOUND at the end, STATUS_CORRUPT. */
MUST_USE enum status directory_next(const struct store_range *range, uint64_t after,
                                    struct group_description *ret_group, struct error *error);

#endif
