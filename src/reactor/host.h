/* Host: facts about the machine this process runs on, and about its processes. Real systems only.
 * Nothing here waits for a device; /proc and /sys are memory. */
#ifndef UNUM_REACTOR_HOST_H
#define UNUM_REACTOR_HOST_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HOST_NAME_BYTES_MAX = 63 };

struct host_facts {
    char name[HOST_NAME_BYTES_MAX + 1]; /* a DNS label made from the host's name */
    unsigned cores;
    uint64_t memory_bytes;
    uint32_t process; /* the caller's number in its PID namespace */
    bool is_root;
};
void host_read_facts(struct host_facts *ret_facts);

struct host_usage {
    uint64_t memory_bytes; /* resident */
    uint64_t cpu_ns;       /* used since its start, its reaped children included */
};
/* Of process PID in the namespace of this process's /proc. STATUS_NOT_FOUND. */
MUST_USE enum status host_process_usage(uint32_t process, struct host_usage *ret_usage);

/* From the kernel; for ids and keys, before there is a reactor. */
void host_random(void *ret_bytes, size_t size);

/* Make FOLDER and everything below belong to user ID (private, mode 0700 and 0600). */
MUST_USE enum status host_give_folder(const char *folder, uint32_t user, struct error *error);

/* Let other users read the names in FOLDER and pass through it (mode 0755). */
MUST_USE enum status host_pass_folder(const char *folder, struct error *error);

/* Whether only the owner of FILE can reach it (mode & 077 is 0). STATUS_DENIED: others can.
 * STATUS_NOT_FOUND, STATUS_IO. */
MUST_USE enum status host_check_private(const char *file);

/* SIGTERM and SIGINT become readiness of the returned descriptor (fiber_wait_readable); SIGPIPE is
 * ignored. */
MUST_USE enum status host_signals_open(int *ret_descriptor, struct error *error);
/* The pending signal, 0 for none. */
int host_signals_take(int descriptor);

#endif
