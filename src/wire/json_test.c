/* A message written as JSON reads back the same, and a wrong text is refused by the name of its
 * field.
 *
 * Method: random messages of every type of the public interface, written in every style, read, and
 * compared packed; then texts that are wrong in one place each, and every truncation of a good one.
 */
#include "wire/json.h"

#include "base/random.h"
#include "unum/v1/computer.pb-c.h"
#include "unum/v1/registry.pb-c.h"
#include "wire/json_names.h"
#include "wire/proto_arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ARENA_BYTES = 16 * 1024 * 1024, TEXT_BYTES = 1024 * 1024, ROUNDS = 200 };

static const ProtobufCMessageDescriptor *const types[] = {
    &unum__v1__put_request__descriptor,          &unum__v1__put_response__descriptor,
    &unum__v1__range_request__descriptor,        &unum__v1__range_response__descriptor,
    &unum__v1__delete_request__descriptor,       &unum__v1__delete_response__descriptor,
    &unum__v1__txn_request__descriptor,          &unum__v1__txn_response__descriptor,
    &unum__v1__watch_request__descriptor,        &unum__v1__watch_response__descriptor,
    &unum__v1__grant_lease_request__descriptor,  &unum__v1__grant_lease_response__descriptor,
    &unum__v1__list_leases_response__descriptor, &unum__v1__apply_request__descriptor,
    &unum__v1__apply_response__descriptor,       &unum__v1__plan_response__descriptor,
    &unum__v1__list_jobs_response__descriptor,   &unum__v1__list_tasks_response__descriptor,
    &unum__v1__why_response__descriptor,         &unum__v1__logs_request__descriptor,
    &unum__v1__logs_response__descriptor,        &unum__v1__exec_request__descriptor,
    &unum__v1__exec_response__descriptor,        &unum__v1__list_machines_response__descriptor,
    &unum__v1__status_response__descriptor,
};
enum { TYPE_COUNT = sizeof types / sizeof types[0] };

/* --- random messages -----------------------------------------------------------------------------
 */

struct maker {
    struct random *random;
    struct arena *arena;
};

static uint64_t below(const struct maker *maker, uint64_t bound)
{
    uint64_t value;
    random_below(maker->random, bound, &value);
    return value;
}

static char *random_text(const struct maker *maker, size_t number)
{
    static const char *const parts[] = { "a",
                                         "Z9",
                                         " ",
                                         "\"",
                                         "\\",
                                         "\n",
                                         "\x01",
                                         "\x7f",
                                         "\xc3\xa9",
                                         "\xe2\x82\xac",
                                         "\xf0\x9f\x98\x80",
                                         "/",
                                         "<&>",
                                         "%" };
    char text[256];
    size_t used = (size_t)snprintf(text, sizeof text, "%zu", number);
    for (uint64_t i = below(maker, 20); i > 0; i--) {
        const char *part = parts[below(maker, sizeof parts / sizeof parts[0])];
        size_t length = strlen(part);
        for (size_t k = 0; k < length; k++) text[used++] = part[k];
    }
    return arena_copy_text(maker->arena, text, used);
}

static ProtobufCMessage *random_message(const struct maker *maker,
                                        const ProtobufCMessageDescriptor *type);

static void random_value(const struct maker *maker, const ProtobufCFieldDescriptor *field,
                         size_t number, void *ret_value)
{
    uint64_t bits;
    random_u64(maker->random, &bits);
    if (below(maker, 3) == 0) bits = below(maker, 3); /* small ones, and zero, too */
    const ProtobufCEnumDescriptor *values = field->descriptor;
    ProtobufCBinaryData data;
    void *pointer;
    int value;
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL: value = (int)(bits & 1); break;
    case PROTOBUF_C_TYPE_ENUM:
        value = (int)below(maker, values->n_values + 1); /* the last one is unknown */
        break;
    case PROTOBUF_C_TYPE_STRING:
        pointer = random_text(maker, number);
        memcpy(ret_value, &pointer, sizeof pointer);
        return;
    case PROTOBUF_C_TYPE_MESSAGE:
        pointer = random_message(maker, field->descriptor);
        memcpy(ret_value, &pointer, sizeof pointer);
        return;
    case PROTOBUF_C_TYPE_BYTES:
        data.len = below(maker, 8) == 0 ? 2000 : below(maker, 20);
        data.data = arena_take(maker->arena, data.len);
        maker->random->fill(maker->random, data.data, data.len);
        memcpy(ret_value, &data, sizeof data);
        return;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64: memcpy(ret_value, &bits, sizeof bits); return;
    default: value = (int)(uint32_t)bits; break;
    }
    memcpy(ret_value, &value, sizeof value);
}

static void random_list(const struct maker *maker, const ProtobufCFieldDescriptor *field,
                        uint8_t *message)
{
    size_t count = below(maker, 4);
    size_t size = field->type == PROTOBUF_C_TYPE_BYTES    ? sizeof(ProtobufCBinaryData)
                  : field->type == PROTOBUF_C_TYPE_STRING ? sizeof(char *)
                                                          : sizeof(void *);
    assert_true(field->type == PROTOBUF_C_TYPE_BYTES || field->type == PROTOBUF_C_TYPE_STRING ||
                field->type == PROTOBUF_C_TYPE_MESSAGE);
    uint8_t *array = arena_take(maker->arena, count * size);
    for (size_t i = 0; i < count; i++) {
        random_value(maker, field, i, array + i * size);
        if (field->type != PROTOBUF_C_TYPE_MESSAGE) continue;
        ProtobufCMessage *entry;
        memcpy(&entry, array + i * size, sizeof(void *));
        /* The keys of a map differ. */
        if (strstr(entry->descriptor->name, "Entry") != NULL)
            random_value(maker, &entry->descriptor->fields[0], i,
                         (uint8_t *)entry + entry->descriptor->fields[0].offset);
    }
    memcpy(message + field->offset, &array, sizeof array);
    memcpy(message + field->quantifier_offset, &count, sizeof count);
}

static ProtobufCMessage *random_message(const struct maker *maker,
                                        const ProtobufCMessageDescriptor *type)
{
    ProtobufCMessage *message = arena_take(maker->arena, type->sizeof_message);
    type->message_init(message);
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        uint8_t *base = (uint8_t *)message;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            random_list(maker, field, base);
            continue;
        }
        if (below(maker, 4) == 0) continue;
        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
            uint32_t chosen;
            memcpy(&chosen, base + field->quantifier_offset, sizeof chosen);
            if (chosen != 0) continue;
            memcpy(base + field->quantifier_offset, &field->id, sizeof field->id);
        }
        random_value(maker, field, i, base + field->offset);
    }
    return message;
}

static void every_message_reads_back_as_it_was_written(void **state)
{
    (void)state;
    struct random_seeded random;
    struct arena arena;
    struct buffer text, before, after;
    random_seeded_init(&random, 1);
    arena_init(&arena, ARENA_BYTES);
    buffer_init(&text, TEXT_BYTES);
    buffer_init(&before, TEXT_BYTES);
    buffer_init(&after, TEXT_BYTES);
    struct maker maker = { .random = &random.random, .arena = &arena };
    for (unsigned round = 0; round < ROUNDS * TYPE_COUNT; round++) {
        const ProtobufCMessageDescriptor *type = types[round % TYPE_COUNT];
        arena_clear(&arena);
        text.used = before.used = after.used = 0;
        struct error error = { 0 };
        const ProtobufCMessage *message = random_message(&maker, type);
        assert_int_equal(proto_pack(message, &before), STATUS_OK);
        unsigned style = round / TYPE_COUNT % 4;
        assert_int_equal(json_encode(message, style, &text, &error), STATUS_OK);
        if ((style & JSON_PRETTY) == 0)
            assert_null(text.used == 0 ? NULL : memchr(text.data, '\n', text.used));
        void *again = NULL;
        if (json_decode(type, bytes_of(text.data, text.used), &arena, &again, &error) != STATUS_OK)
            fail_msg("%s: %s in %.*s", type->name, error.text, (int)text.used, text.data);
        assert_int_equal(proto_pack(again, &after), STATUS_OK);
        assert_true(
            bytes_equal(bytes_of(before.data, before.used), bytes_of(after.data, after.used)));
    }
    buffer_finish(&text);
    buffer_finish(&before);
    buffer_finish(&after);
    arena_finish(&arena);
}

/* --- known texts ---------------------------------------------------------------------------------
 */

static void check_text(const ProtobufCMessage *message, unsigned style, const char *expected)
{
    struct buffer text;
    struct error error;
    buffer_init(&text, TEXT_BYTES);
    assert_int_equal(json_encode(message, style, &text, &error), STATUS_OK);
    assert_int_equal(buffer_append(&text, "", 1), STATUS_OK);
    assert_string_equal((const char *)text.data, expected);
    buffer_finish(&text);
}

static void the_text_is_that_of_the_proto3_mapping(void **state)
{
    (void)state;
    Unum__V1__KeyValue item = UNUM__V1__KEY_VALUE__INIT;
    item.key = (ProtobufCBinaryData) { .data = (uint8_t *)"key\xff", .len = 4 };
    item.create_revision = UINT64_MAX;
    Unum__V1__Event event = UNUM__V1__EVENT__INIT, *events = &event;
    event.kind = UNUM__V1__EVENT__KIND__DELETE;
    event.item = &item;
    Unum__V1__WatchResponse response = UNUM__V1__WATCH_RESPONSE__INIT;
    response.created = 1;
    response.n_events = 1;
    response.events = &events;
    check_text(&response.base, JSON_COMPACT,
               "{\"created\":true,\"events\":[{\"kind\":\"DELETE\",\"item\":{\"key\":\"a2V5/w==\","
               "\"createRevision\":\"18446744073709551615\"}}]}");
    check_text(&response.base, JSON_PRETTY,
               "{\n  \"created\": true,\n  \"events\": [\n    {\n      \"kind\": \"DELETE\",\n"
               "      \"item\": {\n        \"key\": \"a2V5/w==\",\n"
               "        \"createRevision\": \"18446744073709551615\"\n      }\n    }\n  ]\n}\n");
    Unum__V1__WatchResponse empty = UNUM__V1__WATCH_RESPONSE__INIT;
    check_text(&empty.base, JSON_COMPACT, "{}");
    check_text(&empty.base, JSON_DEFAULTS, "{\"created\":false,\"revision\":\"0\",\"events\":[]}");
    Unum__V1__Reason reason = UNUM__V1__REASON__INIT;
    reason.text = (char *)"a\xff\"\t\x1f\xed\xa0\x80";
    check_text(&reason.base, JSON_COMPACT,
               "{\"text\":\"a\xef\xbf\xbd\\\"\\t\\u001f\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"}");
    Unum__V1__Job__LabelsEntry label = UNUM__V1__JOB__LABELS_ENTRY__INIT, *labels = &label;
    label.key = (char *)"zone";
    label.value = (char *)"a";
    Unum__V1__Job job = UNUM__V1__JOB__INIT;
    job.n_labels = 1;
    job.labels = &labels;
    check_text(&job.base, JSON_COMPACT, "{\"labels\":{\"zone\":\"a\"}}");
}

static void both_names_of_a_field_and_all_forms_of_a_value_are_read(void **state)
{
    (void)state;
    struct arena arena;
    struct error error = { 0 };
    arena_init(&arena, ARENA_BYTES);
    static const char *const texts[] = {
        "{\"startRevision\":\"7\",\"key\":\"aw==\",\"includePrevious\":true,\"end\":null}",
        "{\"start_revision\":7,\"key\":\"aw\",\"include_previous\":true}",
        (" {\n\"key\" : \"aw==\", \"startRevision\":7 , "
         "\"includePrevious\": true, \"progress\": false}\n"),
    };
    for (size_t i = 0; i < 3; i++) {
        Unum__V1__WatchRequest *request = NULL;
        assert_int_equal(json_decode(&unum__v1__watch_request__descriptor, bytes_of_text(texts[i]),
                                     &arena, &request, &error),
                         STATUS_OK);
        assert_int_equal(request->start_revision, 7);
        assert_int_equal(request->key.len, 1);
        assert_int_equal(request->key.data[0], 'k');
        assert_true(request->include_previous);
        assert_string_equal(request->space, "");
    }
    arena_finish(&arena);
}

struct wrong {
    const char *text;
    const char *sentence;
};

static void a_wrong_text_is_refused_by_the_name_of_its_field(void **state)
{
    (void)state;
    static const struct wrong apply[] = {
        { "", "line 1, column 0: '[' or '{' expected near end of file" },
        { "{", "line 1, column 1: string or '}' expected near end of file" },
        { "[]", "must be an object, not a list" },
        { "{\"jbos\":[]}", "jbos: unknown field; did you mean \"jobs\"?" },
        { "{\"frobnicate\":[]}", "frobnicate: unknown field" },
        { "{\"jobs\":{}}", "jobs: must be a list, not an object" },
        { "{\"jobs\":[{},{\"count\":\"x\"}]}",
          "jobs[1].count: must be a whole number, not a text" },
        { "{\"jobs\":[{\"count\":1.5}]}",
          "jobs[0].count: must be a whole number, not a number with a fraction" },
        { "{\"jobs\":[{\"count\":-1}]}",
          "jobs[0].count: must be a number of 32 bits, not negative" },
        { "{\"jobs\":[{\"count\":4294967296}]}",
          "jobs[0].count: must be a number of 32 bits, not negative" },
        { "{\"jobs\":[{\"name\":7}]}", "jobs[0].name: must be a text, not a number" },
        { "{\"jobs\":[{\"name\":\"a\\u0000b\"}]}",
          "jobs[0].name: must not contain the character 0" },
        { "{\"jobs\":[{\"privateNetwork\":1}]}",
          "jobs[0].privateNetwork: must be true or false, not a number" },
        { "{\"jobs\":[{\"privateNetwork\":true,\"private_network\":true}]}",
          "jobs[0].private_network: is given under both of its names" },
        { "{\"jobs\":[{\"restart\":{\"policy\":\"PERMANET\"}}]}",
          "jobs[0].restart.policy: \"PERMANET\" is not known; did you mean \"PERMANENT\"?" },
        { "{\"jobs\":[{\"environment\":{\"PATH\":3}}]}",
          "jobs[0].environment.PATH: must be a text, not a number" },
        { "{\"jobs\":[{\"files\":[{\"content\":\"a=b\"}]}]}",
          "jobs[0].files[0].content: is not base64" },
        { "{\"context\":{\"sequence\":\"18446744073709551616\"}}",
          "context.sequence: must be a whole number, not a text" },
        { "{\"jobs\":[],\"jobs\":[]}", "line 1, column 17: duplicate object key near '\"jobs\"'" },
    };
    struct arena arena;
    arena_init(&arena, ARENA_BYTES);
    for (size_t i = 0; i < sizeof apply / sizeof apply[0]; i++) {
        struct error error = { 0 };
        void *message = NULL;
        assert_int_equal(json_decode(&unum__v1__apply_request__descriptor,
                                     bytes_of_text(apply[i].text), &arena, &message, &error),
                         STATUS_INVALID);
        assert_string_equal(error.text, apply[i].sentence);
        assert_null(message);
    }
    struct error error = { 0 };
    void *message = NULL;
    static const char two[] = "{\"success\":[{\"put\":{},\"delete\":{}}]}";
    assert_int_equal(json_decode(&unum__v1__txn_request__descriptor, bytes_of_text(two), &arena,
                                 &message, &error),
                     STATUS_INVALID);
    assert_string_equal(error.text, "success[0].delete: excludes another field that is given, too");
    arena_finish(&arena);
}

static void depth_and_size_have_bounds(void **state)
{
    (void)state;
    struct arena arena;
    struct error error = { 0 };
    arena_init(&arena, ARENA_BYTES);
    char *deep = malloc(JSON_TEXT_BYTES_MAX + 1);
    assert_non_null(deep);
    memset(deep, '[', JSON_TEXT_BYTES_MAX + 1);
    void *message = NULL;
    const ProtobufCMessageDescriptor *type = &unum__v1__apply_request__descriptor;
    assert_int_equal(
        json_decode(type, bytes_of(deep, JSON_TEXT_BYTES_MAX), &arena, &message, &error),
        STATUS_INVALID);
    assert_string_equal(error.text, "the text is nested more than 32 levels deep");
    assert_int_equal(
        json_decode(type, bytes_of(deep, JSON_TEXT_BYTES_MAX + 1), &arena, &message, &error),
        STATUS_INVALID);
    assert_string_equal(error.text, "the text is larger than 1048576 bytes");
    free(deep);
    arena_finish(&arena);

    arena_init(&arena, 1000);
    static const char text[] = "{\"jobs\":[{},{},{},{},{},{},{},{}]}";
    assert_int_equal(json_decode(type, bytes_of_text(text), &arena, &message, &error), STATUS_FULL);
    arena_finish(&arena);

    struct buffer small;
    buffer_init(&small, 10);
    Unum__V1__WatchResponse response = UNUM__V1__WATCH_RESPONSE__INIT;
    response.revision = 5;
    assert_int_equal(json_encode(&response.base, JSON_COMPACT, &small, &error), STATUS_FULL);
    assert_int_equal(small.used, 0);
    buffer_finish(&small);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    static const char text[] =
        "{\"jobs\":[{\"name\":\"w\\u00e9b\",\"count\":8,\"labels\":{\"a\":\"b\"},"
        "\"ready\":{\"kind\":\"HTTP\"}}]}";
    struct arena arena;
    struct error error = { 0 };
    arena_init(&arena, ARENA_BYTES);
    for (size_t cut = 0; cut < sizeof text - 1; cut++) {
        char *copy = malloc(cut + 1);
        assert_non_null(copy);
        memcpy(copy, text, cut);
        void *message = NULL;
        assert_int_equal(json_decode(&unum__v1__apply_request__descriptor, bytes_of(copy, cut),
                                     &arena, &message, &error),
                         STATUS_INVALID);
        free(copy);
    }
    void *message = NULL;
    assert_int_equal(json_decode(&unum__v1__apply_request__descriptor, bytes_of_text(text), &arena,
                                 &message, &error),
                     STATUS_OK);
    arena_finish(&arena);
}

static void base64_is_exact(void **state)
{
    (void)state;
    static const char *const vectors[][2] = {
        { "", "" },        { "f", "Zg==" },        { "fo", "Zm8=" },
        { "foo", "Zm9v" }, { "foob", "Zm9vYg==" }, { "foobar", "Zm9vYmFy" }
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        char text[16];
        uint8_t bytes[16];
        size_t size;
        struct bytes plain = bytes_of_text(vectors[i][0]), coded = bytes_of_text(vectors[i][1]);
        base64_encode(plain, text);
        assert_true(bytes_equal(bytes_of(text, base64_encoded_size(plain.size)), coded));
        assert_int_equal(base64_decode(coded, bytes, &size), STATUS_OK);
        assert_true(bytes_equal(bytes_of(bytes, size), plain));
    }
    static const char *const bad[] = { "Z", "Zg=", "Zh==", "Zg===", "Z=g=", "Zm9!", "=", "====" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint8_t bytes[16];
        size_t size;
        assert_int_equal(base64_decode(bytes_of_text(bad[i]), bytes, &size), STATUS_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_reads_back_as_it_was_written),
        cmocka_unit_test(the_text_is_that_of_the_proto3_mapping),
        cmocka_unit_test(both_names_of_a_field_and_all_forms_of_a_value_are_read),
        cmocka_unit_test(a_wrong_text_is_refused_by_the_name_of_its_field),
        cmocka_unit_test(depth_and_size_have_bounds),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(base64_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
