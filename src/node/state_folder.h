/* State folder: what a computer keeps on one machine, and how a new one is made.
 *
 *   data/         superblock, lock, journal, store: the daemon's alone
 *   machine/      config (docs/formats/config.md), machine.crt, machine.key, authority.crt:
 * likewise authority/    authority.crt, authority.key: root's alone, never read by the daemon
 *   operator/     operator.crt, operator.key, authority.crt, addresses: the first operator's
 * credential supervise.sock, logs/, ...   unum-init's
 *
 * Making one is done in an order that can be interrupted anywhere and begun again: data/superblock
 * comes last. Runs before there is a reactor, on a blocking disk. */
#ifndef UNUM_NODE_STATE_FOLDER_H
#define UNUM_NODE_STATE_FOLDER_H

#include "base/disk.h"
#include "base/ids.h"
#include "base/limits.h"
#include "base/network.h"

enum { STATE_FOLDER_PEM_BYTES_MAX = 16 * 1024, STATE_FOLDER_CONFIG_BYTES_MAX = 1024 };

struct state_folder_config {
    char name[LIMIT_NAME_BYTES_MAX + 1];    /* of the computer */
    char machine[LIMIT_NAME_BYTES_MAX + 1]; /* of this machine */
    char address[NETWORK_ADDRESS_BYTES_MAX + 1];
};

/* The text of a config file: "key: value" lines, '#' comments. STATUS_INVALID names the line. */
MUST_USE enum status state_folder_parse_config(const char *text, size_t size,
                                               struct state_folder_config *ret_config,
                                               struct error *error);

/* Make FOLDER a computer of this one machine, or check that it is one. CONFIG's empty fields keep
 * what is there, or get a default. OWNER: whose data/ and machine/ become; 0: nobody else's. */
MUST_USE enum status state_folder_create(const char *folder,
                                         const struct state_folder_config *config, uint32_t owner,
                                         struct error *error);

struct state_folder {
    struct state_folder_config config;
    struct id computer, machine, disk_incarnation;
    char certificate[STATE_FOLDER_PEM_BYTES_MAX];
    char key[STATE_FOLDER_PEM_BYTES_MAX];
    char authority[STATE_FOLDER_PEM_BYTES_MAX];
};
/* Read what the daemon needs. STATUS_NOT_FOUND: no computer here. */
MUST_USE enum status state_folder_read(const char *folder, struct state_folder *ret_state,
                                       struct error *error);

#endif
