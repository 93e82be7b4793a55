/* What decodes, encodes to the same meaning, and the core survives it. */
#include "consensus/raft.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void feed_core(struct raft_message message)
{
    static struct raft_actions actions;
    _Alignas(16) static uint8_t memory[8192];
    struct raft_options options = { .id = 1 };
    struct raft_persisted persisted = { .term = 3,
                                        .membership = { .count = 3, .ids = { 1, 2, 3 } } };
    struct raft *raft = NULL;

    if (raft_init(memory, &options, &persisted, &raft) != STATUS_OK) abort();
    if (raft_restore_entries(raft, 1, 5, 2, NULL) != STATUS_OK) abort();
    if (raft_start(raft, 1, 0) != STATUS_OK) abort();
    message.group = 0;
    message.to = 1;
    struct raft_event event = { .type = RAFT_EVENT_MESSAGE,
                                .now_ns = UINT64_C(3000000000),
                                .message = &message };
    for (int i = 0; i < 2; i++) {
        enum status status = raft_step(raft, &event, &actions);
        if (status != STATUS_OK && status != STATUS_CORRUPT) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct raft_message message, again;
    uint8_t bytes[RAFT_MESSAGE_BYTES_MAX], bytes_again[RAFT_MESSAGE_BYTES_MAX];
    size_t used = 0, used_again = 0;

    if (raft_message_decode(data, size, &message, &used) != DECODE_OK) return 0;
    assert(used <= size);
    struct writer writer = writer_of(bytes, sizeof bytes);
    raft_message_encode(&message, &writer);
    assert(!writer.failed);
    enum decode verdict = raft_message_decode(bytes, writer.used, &again, &used_again);
    assert(verdict == DECODE_OK);
    assert(used_again == writer.used);
    struct writer second = writer_of(bytes_again, sizeof bytes_again);
    raft_message_encode(&again, &second);
    assert(second.used == writer.used && memcmp(bytes, bytes_again, writer.used) == 0);
    feed_core(message);
    return 0;
}
