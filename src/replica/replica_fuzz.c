/* The decoders of the replica host read nothing outside their input, and what decodes encodes to
 * the same bytes. The first byte chooses the decoder. */
#include "replica/internal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct writer *writer, struct bytes input)
{
    if (writer->failed || !bytes_equal(bytes_of(writer->data, writer->used), input)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct bytes input = bytes_of(data + 1, size - 1);
    uint8_t again[1024];
    struct writer writer = writer_of(again, sizeof again);
    struct error error;
    struct applied applied;
    struct group_state state;
    struct directory_command command;
    struct directory_reply reply;

    switch (data[0] % 4) {
    case 0:
        if (applied_decode(input, &applied, &error) != STATUS_OK) return 0;
        applied_encode(&applied, &writer);
        check_same(&writer, input);
        return 0;
    case 1:
        if (group_state_decode(input, &state, &error) != STATUS_OK) return 0;
        group_state_encode(&state, &writer);
        check_same(&writer, input);
        return 0;
    case 2:
        if (directory_command_decode(input, &command) != DECODE_OK) return 0;
        if (directory_command_encode(&command, &writer) != STATUS_OK) abort();
        check_same(&writer, input);
        return 0;
    default:
        if (directory_reply_decode(input, &reply) == DECODE_OK && input.size != 18) abort();
        return 0;
    }
}
