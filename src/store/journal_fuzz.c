/* Any bytes as a segment: the journal opens, or refuses with a sentence, and goes on working.
 *
 * The first byte chooses how far the rest is helped: as it is, or with the checksums of the
 * segment header, of the first batch and of its records put right, so that what lies behind the
 * checksums is reached. */
#include "base/checksum.h"
#include "sim/disk.h"
#include "store/journal.h"
#include "store/journal_format.h"

#include <assert.h>
#include <stdlib.h>

enum { SEGMENT_BYTES = 32 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void help_records(uint8_t *batch, uint32_t used)
{
    size_t at = JOURNAL_BATCH_HEADER_BYTES, end = at + used;
    while (at + JOURNAL_RECORD_HEADER_BYTES <= end) {
        size_t payload = load_u32_le(batch + at + 4) >> 4;
        size_t whole = journal_record_size(payload);
        if (whole > end - at) return;
        store_u32_le(batch + at, crc32c(batch + at + 4, JOURNAL_RECORD_HEADER_BYTES + payload - 4));
        at += whole;
    }
}

static void help(uint8_t *segment, const struct id *disk_incarnation)
{
    journal_segment_encode(
        &(struct journal_segment_header) {
            .segment = 1, .segment_bytes = SEGMENT_BYTES, .disk_incarnation = *disk_incarnation },
        segment);
    uint8_t *batch = segment + JOURNAL_BLOCK_BYTES;
    struct journal_batch_header header = {
        .segment = 1,
        .sequence = load_u64_le(batch + 24),
        .oldest_segment = 1,
        .epoch = load_u32_le(batch + 64),
        .size_bytes = JOURNAL_BLOCK_BYTES * (1 + batch[68] % 4),
        .record_count = load_u32_le(batch + 76),
    };
    header.used_bytes =
        load_u32_le(batch + 72) % (header.size_bytes - JOURNAL_BATCH_HEADER_BYTES + 1);
    help_records(batch, header.used_bytes);
    journal_batch_encode(&header, journal_salt(disk_incarnation, 1), batch);
}

static void use(struct journal *journal)
{
    struct journal_group group;
    struct buffer buffer;
    buffer_init(&buffer, LIMIT_ENTRY_BYTES_MAX);
    for (uint64_t next = 0; journal_next_group(journal, next, &group) == STATUS_OK;) {
        uint64_t term;
        if (group.last_index >= group.first_index) {
            (void)!journal_read(journal, group.group, group.first_index, &term, &buffer);
        }
        if (group.group == UINT64_MAX) break;
        next = group.group + 1;
    }
    enum status status = journal_put_state(journal, 7, bytes_of("state", 5));
    if (status == STATUS_OK) status = journal_flush(journal, NULL);
    assert(status == STATUS_OK || status == STATUS_FULL || status == STATUS_BUSY);
    buffer_finish(&buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > SEGMENT_BYTES) return 0;
    struct journal_options options = { .folder = "journal",
                                       .segment_bytes = SEGMENT_BYTES,
                                       .total_bytes_max = 8ull * SEGMENT_BYTES,
                                       .disk_incarnation = { { 7 } } };
    uint8_t *segment = calloc(1, SEGMENT_BYTES);
    if (segment == NULL) return 0;
    size_t at = data[0] % 2 == 0 ? 0 : JOURNAL_BLOCK_BYTES;
    size_t part = size - 1 < SEGMENT_BYTES - at ? size - 1 : SEGMENT_BYTES - at;
    memcpy(segment + at, data + 1, part);
    if (data[0] % 2 == 1) help(segment, &options.disk_incarnation);

    struct sim_disk sim;
    sim_disk_init(&sim, &(struct sim_disk_options) { .seed = 1 });
    enum status status = sim.disk.make_folder(&sim.disk, "journal");
    struct disk_file *file;
    if (status == STATUS_OK) {
        status = sim.disk.open(&sim.disk, "journal/slot-0000", DISK_OPEN_CREATE, &file);
    }
    assert(status == STATUS_OK);
    status = sim.disk.write(file, 0, segment, SEGMENT_BYTES);
    assert(status == STATUS_OK);
    sim.disk.close(file);
    free(segment);

    struct error error = { 0 };
    struct journal *journal;
    status = journal_open(&sim.disk, &options, &journal, &error);
    if (status == STATUS_OK) {
        use(journal);
        journal_close(journal);
    } else {
        assert(error.text[0] != 0);
    }
    sim_disk_finish(&sim);
    return 0;
}
