#include "replica/directory.h"

#include <assert.h>
#include <stdlib.h>

enum {
    DIRECTORY_FORMAT_VERSION = 1,
    /* Keys: the counter, groups by number, groups by kind and name. */
    KEY_COUNTER = 'c',
    KEY_GROUP = 'g',
    KEY_NAME = 'n',
    GROUP_KEY_BYTES = 9,
    NAME_KEY_BYTES_MAX = 1 + GROUP_KIND_BYTES_MAX + 1 + GROUP_NAME_BYTES_MAX,
    COUNTER_BYTES = 17,
    GROUP_VALUE_BYTES_MAX = 1 + 8 + 2 + GROUP_KIND_BYTES_MAX + GROUP_NAME_BYTES_MAX + 1 +
                            DIRECTORY_MEMBERS_MAX * ID_BYTES,
};
_Static_assert(sizeof(((struct group_description *)NULL)->members) ==
                   DIRECTORY_MEMBERS_MAX * sizeof(struct id),
               "a description has room for DIRECTORY_MEMBERS_MAX");
_Static_assert(GROUP_NAME_BYTES_MAX < 128 && GROUP_KIND_BYTES_MAX < 128,
               "their varint sizes are one byte each");

struct directory {
    struct state_machine machine;
    void (*changed)(void *context);
    void *context;
    bool change_staged;
};

static struct directory *directory_of(struct state_machine *machine)
{
    return (struct directory *)machine;
}

bool directory_name_valid(const char *name, size_t size_max_allowed)
{
    size_t size = strnlen(name, size_max_allowed + 1);
    if (size == 0 || size > size_max_allowed) return false;
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '_' || c == '.';
        if (!good) return false;
    }
    return true;
}

/* --- formats -----------------------------------------------------------------------------------
 */

static void write_members(struct writer *writer, const struct group_description *group)
{
    writer_put_u8(writer, (uint8_t)group->member_count);
    for (uint32_t i = 0; i < group->member_count; i++) {
        writer_put(writer, group->members[i].bytes, ID_BYTES);
    }
}

static void read_text(struct reader *reader, char *ret_text, size_t size_max_allowed)
{
    struct bytes bytes = reader_bytes(reader, size_max_allowed);
    if (reader->failed) return;
    if (bytes.size > 0) memcpy(ret_text, bytes.data, bytes.size);
    ret_text[bytes.size] = '\0';
    if (!directory_name_valid(ret_text, size_max_allowed) || strlen(ret_text) != bytes.size) {
        reader->failed = true;
    }
}

/* Kind, name and members, as both a command and a description have them. */
static void read_names(struct reader *reader, struct group_description *group)
{
    read_text(reader, group->kind, GROUP_KIND_BYTES_MAX);
    read_text(reader, group->name, GROUP_NAME_BYTES_MAX);
    group->member_count = reader_u8(reader);
    if (group->member_count > DIRECTORY_MEMBERS_MAX) {
        reader->failed = true;
        return;
    }
    for (uint32_t i = 0; i < group->member_count; i++) {
        const uint8_t *id = reader_take(reader, ID_BYTES);
        if (id == NULL) return;
        memcpy(group->members[i].bytes, id, ID_BYTES);
    }
}

enum status directory_command_encode(const struct directory_command *command, struct writer *writer)
{
    const struct group_description *group = &command->group;
    writer_put_u8(writer, DIRECTORY_FORMAT_VERSION);
    writer_put_u8(writer, (uint8_t)command->kind);
    if (command->kind == DIRECTORY_REMOVE) {
        writer_put_u64(writer, group->group);
        writer_put_u64(writer, group->epoch);
    } else {
        if (!directory_name_valid(group->kind, GROUP_KIND_BYTES_MAX)) return STATUS_INVALID;
        if (!directory_name_valid(group->name, GROUP_NAME_BYTES_MAX)) return STATUS_INVALID;
        if (group->member_count > DIRECTORY_MEMBERS_MAX) return STATUS_INVALID;
        writer_put_bytes(writer, bytes_of_text(group->kind));
        writer_put_bytes(writer, bytes_of_text(group->name));
        write_members(writer, group);
    }
    return writer->failed ? STATUS_FULL : STATUS_OK;
}

enum decode directory_command_decode(struct bytes bytes, struct directory_command *ret_command)
{
    struct reader reader = reader_of(bytes.data, bytes.size);
    struct directory_command command = { 0 };
    uint8_t version = reader_u8(&reader);
    uint8_t kind = reader_u8(&reader);
    if (reader.failed || version != DIRECTORY_FORMAT_VERSION) return DECODE_BAD;
    if (kind == DIRECTORY_CREATE) {
        command.kind = DIRECTORY_CREATE;
        read_names(&reader, &command.group);
    } else if (kind == DIRECTORY_REMOVE) {
        command.kind = DIRECTORY_REMOVE;
        command.group.group = reader_u64(&reader);
        command.group.epoch = reader_u64(&reader);
    } else {
        return DECODE_BAD;
    }
    if (reader.failed || reader_left(&reader) != 0) return DECODE_BAD;
    *ret_command = command;
    return DECODE_OK;
}

static enum status put_reply(struct buffer *buffer, enum directory_verdict verdict, uint64_t group,
                             uint64_t epoch)
{
    uint8_t bytes[DIRECTORY_REPLY_BYTES];
    struct writer writer = writer_of(bytes, sizeof bytes);
    writer_put_u8(&writer, DIRECTORY_FORMAT_VERSION);
    writer_put_u8(&writer, (uint8_t)verdict);
    writer_put_u64(&writer, group);
    writer_put_u64(&writer, epoch);
    assert(!writer.failed);
    return buffer_append(buffer, bytes, writer.used);
}

enum decode directory_reply_decode(struct bytes bytes, struct directory_reply *ret_reply)
{
    struct reader reader = reader_of(bytes.data, bytes.size);
    uint8_t version = reader_u8(&reader);
    uint8_t verdict = reader_u8(&reader);
    uint64_t group = reader_u64(&reader);
    uint64_t epoch = reader_u64(&reader);
    if (reader.failed || reader_left(&reader) != 0) return DECODE_BAD;
    if (version != DIRECTORY_FORMAT_VERSION || verdict >= DIRECTORY_VERDICT_COUNT)
        return DECODE_BAD;
    *ret_reply = (struct directory_reply) { .verdict = (enum directory_verdict)verdict,
                                            .group = group,
                                            .epoch = epoch };
    return DECODE_OK;
}

static enum decode description_decode(struct bytes key, struct bytes value,
                                      struct group_description *ret_group)
{
    if (key.size != GROUP_KEY_BYTES || key.data[0] != KEY_GROUP) return DECODE_BAD;
    struct group_description group = { .group = load_u64_be(key.data + 1) };
    struct reader reader = reader_of(value.data, value.size);
    uint8_t version = reader_u8(&reader);
    group.epoch = reader_u64(&reader);
    read_names(&reader, &group);
    if (reader.failed || version != DIRECTORY_FORMAT_VERSION || reader_left(&reader) != 0) {
        return DECODE_BAD;
    }
    *ret_group = group;
    return DECODE_OK;
}

static void group_key(uint64_t group, uint8_t key[GROUP_KEY_BYTES])
{
    key[0] = KEY_GROUP;
    store_u64_be(key + 1, group);
}

static struct bytes name_key(const struct group_description *group, uint8_t key[NAME_KEY_BYTES_MAX])
{
    struct writer writer = writer_of(key, NAME_KEY_BYTES_MAX);
    writer_put_u8(&writer, KEY_NAME);
    writer_put(&writer, group->kind, strlen(group->kind));
    writer_put_u8(&writer, 0); /* no kind holds one, so no two pairs share a key */
    writer_put(&writer, group->name, strlen(group->name));
    assert(!writer.failed);
    return bytes_of(key, writer.used);
}

/* --- state -------------------------------------------------------------------------------------
 */

struct counter {
    uint64_t next;  /* the next group number */
    uint64_t count; /* of groups, without the directory itself */
};

static enum status read_counter(const struct store_range *range, struct counter *ret_counter,
                                struct error *error)
{
    static const uint8_t key[] = { KEY_COUNTER };
    struct buffer buffer;
    buffer_init(&buffer, 2ull * COUNTER_BYTES);
    enum status status = store_get(range, NULL, bytes_of(key, sizeof key), &buffer);
    if (status == STATUS_NOT_FOUND) {
        *ret_counter = (struct counter) { .next = DIRECTORY_GROUP + 1 };
        status = STATUS_OK;
    } else if (status == STATUS_OK &&
               (buffer.used != COUNTER_BYTES || buffer.data[0] != DIRECTORY_FORMAT_VERSION)) {
        status = error_set(error, STATUS_CORRUPT, "the counter of the directory is damaged");
    } else if (status == STATUS_OK) {
        *ret_counter = (struct counter) { .next = load_u64_le(buffer.data + 1),
                                          .count = load_u64_le(buffer.data + 9) };
    }
    buffer_finish(&buffer);
    return status;
}

static void put_counter(const struct apply_context *context, const struct counter *counter)
{
    static const uint8_t key[] = { KEY_COUNTER };
    uint8_t value[COUNTER_BYTES];
    value[0] = DIRECTORY_FORMAT_VERSION;
    store_u64_le(value + 1, counter->next);
    store_u64_le(value + 9, counter->count);
    store_batch_put(context->batch, context->range, bytes_of(key, sizeof key),
                    bytes_of(value, sizeof value));
}

static enum status read_group(const struct store_range *range, uint64_t group,
                              struct group_description *ret_group, struct error *error)
{
    uint8_t key[GROUP_KEY_BYTES];
    group_key(group, key);
    struct buffer buffer;
    buffer_init(&buffer, GROUP_VALUE_BYTES_MAX);
    enum status status = store_get(range, NULL, bytes_of(key, sizeof key), &buffer);
    if (status == STATUS_OK &&
        description_decode(bytes_of(key, sizeof key), bytes_of(buffer.data, buffer.used),
                           ret_group) != DECODE_OK) {
        status = error_set(error, STATUS_CORRUPT,
                           "the description of group %llu in the directory is damaged",
                           (unsigned long long)group);
    }
    buffer_finish(&buffer);
    return status;
}

/* STATUS_NOT_FOUND: the name is free. */
static enum status read_name(const struct store_range *range, struct bytes key, uint64_t *ret_group,
                             struct error *error)
{
    struct buffer buffer;
    buffer_init(&buffer, 8);
    enum status status = store_get(range, NULL, key, &buffer);
    if (status == STATUS_OK && buffer.used != 8) {
        status = error_set(error, STATUS_CORRUPT, "a name in the directory is damaged");
    }
    if (status == STATUS_OK) *ret_group = load_u64_le(buffer.data);
    buffer_finish(&buffer);
    return status;
}

enum status directory_next(const struct store_range *range, uint64_t after,
                           struct group_description *ret_group, struct error *error)
{
    static const uint8_t to[] = { KEY_GROUP + 1 };
    if (after == UINT64_MAX) return STATUS_NOT_FOUND;
    uint8_t from[GROUP_KEY_BYTES];
    group_key(after + 1, from);
    struct store_iterator *iterator;
    enum status status = store_iterator_create(range, NULL, bytes_of(from, sizeof from),
                                               bytes_of(to, sizeof to), false, &iterator);
    if (status != STATUS_OK) return error_set(error, status, "the directory can't be read");
    struct bytes key;
    struct bytes value;
    status = store_iterator_next(iterator, &key, &value);
    if (status == STATUS_OK && description_decode(key, value, ret_group) != DECODE_OK) {
        status = error_set(error, STATUS_CORRUPT, "a description in the directory is damaged");
    }
    store_iterator_destroy(iterator);
    return status;
}

/* --- commands ----------------------------------------------------------------------------------
 */

static enum status apply_create(struct directory *directory, const struct apply_context *context,
                                const struct group_description *wanted, struct error *error)
{
    uint8_t key[NAME_KEY_BYTES_MAX];
    struct bytes name = name_key(wanted, key);
    uint64_t taken = 0;
    enum status status = read_name(context->range, name, &taken, error);
    if (status == STATUS_OK) {
        struct group_description there;
        status = read_group(context->range, taken, &there, error);
        if (status == STATUS_NOT_FOUND) {
            return error_set(error, STATUS_CORRUPT, "the directory names group %llu and lacks it",
                             (unsigned long long)taken);
        }
        if (status != STATUS_OK) return status;
        return put_reply(context->reply, DIRECTORY_EXISTS, taken, there.epoch);
    }
    if (status != STATUS_NOT_FOUND) return status;

    struct counter counter;
    status = read_counter(context->range, &counter, error);
    if (status != STATUS_OK) return status;
    if (counter.count + 1 >= GROUPS_MAX) return put_reply(context->reply, DIRECTORY_FULL, 0, 0);

    uint8_t value[GROUP_VALUE_BYTES_MAX];
    struct writer writer = writer_of(value, sizeof value);
    writer_put_u8(&writer, DIRECTORY_FORMAT_VERSION);
    writer_put_u64(&writer, 1);
    writer_put_bytes(&writer, bytes_of_text(wanted->kind));
    writer_put_bytes(&writer, bytes_of_text(wanted->name));
    write_members(&writer, wanted);
    assert(!writer.failed);

    uint8_t number_key[GROUP_KEY_BYTES];
    group_key(counter.next, number_key);
    uint8_t number[8];
    store_u64_le(number, counter.next);
    store_batch_put(context->batch, context->range, bytes_of(number_key, sizeof number_key),
                    bytes_of(value, writer.used));
    store_batch_put(context->batch, context->range, name, bytes_of(number, sizeof number));
    struct counter raised = { .next = counter.next + 1, .count = counter.count + 1 };
    put_counter(context, &raised);
    directory->change_staged = true;
    return put_reply(context->reply, DIRECTORY_OK, counter.next, 1);
}

static enum status apply_remove(struct directory *directory, const struct apply_context *context,
                                const struct group_description *wanted, struct error *error)
{
    struct group_description group;
    enum status status = read_group(context->range, wanted->group, &group, error);
    if (status == STATUS_NOT_FOUND) {
        return put_reply(context->reply, DIRECTORY_NOT_FOUND, wanted->group, 0);
    }
    if (status != STATUS_OK) return status;
    if (wanted->epoch != 0 && wanted->epoch != group.epoch) {
        return put_reply(context->reply, DIRECTORY_CONFLICT, group.group, group.epoch);
    }
    struct counter counter;
    status = read_counter(context->range, &counter, error);
    if (status != STATUS_OK) return status;

    uint8_t number_key[GROUP_KEY_BYTES];
    group_key(group.group, number_key);
    uint8_t key[NAME_KEY_BYTES_MAX];
    struct bytes name = name_key(&group, key);
    store_batch_delete(context->batch, context->range, bytes_of(number_key, sizeof number_key));
    store_batch_delete(context->batch, context->range, name);
    struct counter lowered = { .next = counter.next,
                               .count = counter.count > 0 ? counter.count - 1 : 0 };
    put_counter(context, &lowered);
    directory->change_staged = true;
    return put_reply(context->reply, DIRECTORY_OK, group.group, group.epoch);
}

static enum status directory_apply(struct state_machine *machine,
                                   const struct apply_context *context, struct error *error)
{
    struct directory *directory = directory_of(machine);
    directory->change_staged = false;
    if (context->entry->kind != ENTRY_COMMAND) return STATUS_OK;
    struct directory_command command;
    if (directory_command_decode(context->entry->payload, &command) != DECODE_OK) {
        return put_reply(context->reply, DIRECTORY_INVALID, 0, 0);
    }
    if (command.kind == DIRECTORY_REMOVE) {
        return apply_remove(directory, context, &command.group, error);
    }
    return apply_create(directory, context, &command.group, error);
}

static enum status directory_open(struct state_machine *machine, const struct store_range *range,
                                  struct error *error)
{
    (void)machine; /* keeps nothing in memory; the counter is read so that damage shows at once */
    struct counter counter;
    return read_counter(range, &counter, error);
}

static void directory_applied(struct state_machine *machine, uint64_t index)
{
    (void)index;
    struct directory *directory = directory_of(machine);
    if (!directory->change_staged) return;
    directory->change_staged = false;
    directory->changed(directory->context);
}

static uint64_t directory_deadline(const struct state_machine *machine)
{
    (void)machine;
    return UINT64_MAX;
}

static void directory_close(struct state_machine *machine)
{
    free(directory_of(machine));
}

enum status directory_create(void (*changed)(void *context), void *context,
                             struct state_machine **ret_machine)
{
    static const struct state_machine_operations operations = {
        .kind = DIRECTORY_KIND,
        .open = directory_open,
        .apply = directory_apply,
        .applied = directory_applied,
        .next_deadline_ms = directory_deadline,
        .close = directory_close,
    };
    struct directory *directory = calloc(1, sizeof *directory);
    if (directory == NULL) return STATUS_NO_MEMORY;
    *directory = (struct directory) { .machine = { .operations = &operations },
                                      .changed = changed,
                                      .context = context };
    *ret_machine = &directory->machine;
    return STATUS_OK;
}
