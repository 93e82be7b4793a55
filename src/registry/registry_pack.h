/* Answers of the registry as messages of proto/unum/v1/registry.proto, written straight into a
 * buffer: no structs in between, one reservation a message. The request side is unpacked by
 * protobuf-c. Private to this folder. */
#ifndef UNUM_REGISTRY_REGISTRY_PACK_H
#define UNUM_REGISTRY_REGISTRY_PACK_H

#include "registry/registry.h"

/* Each appends one whole message to REPLY. STATUS_FULL, STATUS_NO_MEMORY. */
MUST_USE enum status registry_pack_response(const struct registry_response *response,
                                            uint64_t revision, struct buffer *reply);
MUST_USE enum status registry_pack_transaction(const struct registry_reply *transaction,
                                               struct buffer *reply);
/* GrantLeaseResponse; KeepLeaseResponse is the same without a revision (0). */
MUST_USE enum status registry_pack_lease(uint64_t lease, uint64_t time_to_live_ms,
                                         uint64_t revision, struct buffer *reply);
MUST_USE enum status registry_pack_revision(uint64_t revision, struct buffer *reply);
/* One Lease of a ListLeasesResponse, and what ends it. */
MUST_USE enum status registry_pack_listed_lease(const struct registry_lease *lease,
                                                uint64_t remaining_ms, const struct bytes *keys,
                                                size_t key_count, struct buffer *reply);
MUST_USE enum status registry_pack_listed_time(uint64_t computer_time_ms, struct buffer *reply);
MUST_USE enum status registry_pack_events(bool created, uint64_t revision,
                                          const struct registry_event *events, size_t count,
                                          struct buffer *message);

#endif
