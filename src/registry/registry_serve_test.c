/* The service as a client sees it: messages in, messages out, sentences for what is wrong.
 *
 * Method: a replica of this test's own, which applies what is proposed at once to a space in
 * memory; watches run in fibers of a simulated reactor. */
#include "reactor/reactor.h"
#include "registry/registry_harness.h"
#include "registry/registry_serve.h"
#include "unum/v1/registry.pb-c.h"
#include "wire/proto_arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct replica {
    struct registry_harness harness;
    struct store *store;
    struct id last_session, last_trace;
    uint64_t last_sequence;
    char last_principal[64];
    unsigned barriers;
};

enum status replica_propose(struct replica *replica, const struct replica_request *request,
                            struct buffer *reply, uint64_t *ret_index, struct error *error)
{
    (void)error;
    replica->last_session = request->session;
    replica->last_sequence = request->sequence;
    replica->last_trace = request->trace;
    snprintf(replica->last_principal, sizeof replica->last_principal, "%.*s",
             (int)request->principal.size, (const char *)request->principal.data);
    (void)harness_apply_bytes(&replica->harness, request->payload);
    *ret_index = replica->harness.index;
    return buffer_append(reply, replica->harness.reply.data, replica->harness.reply.used);
}

enum status replica_read_barrier(struct replica *replica, uint64_t deadline_ns, struct error *error)
{
    (void)deadline_ns;
    (void)error;
    replica->barriers++;
    return STATUS_OK;
}

struct state_machine *replica_machine(const struct replica *replica)
{
    return replica->harness.first.machine;
}

uint64_t replica_computer_time_ms(const struct replica *replica)
{
    return replica->harness.now_ms;
}

struct fixture {
    struct replica replica;
    struct registry_serve serve;
    struct registry_serve_call call;
    struct arena arena, answer_arena;
    struct buffer request, reply;
    struct error error;
};

static enum status find_space(void *context, const char *name, struct replica **ret_replica)
{
    struct fixture *fixture = context;
    if (strcmp(name, "main") != 0 && strcmp(name, "system") != 0) return STATUS_NOT_FOUND;
    *ret_replica = &fixture->replica;
    return STATUS_OK;
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_int_equal(store_open(NULL, NULL, &fixture->replica.store, NULL), STATUS_OK);
    harness_init(&fixture->replica.harness, fixture->replica.store, NULL, NULL);
    arena_init(&fixture->arena, 16 << 20);
    arena_init(&fixture->answer_arena, 64 << 20);
    buffer_init(&fixture->request, LIMIT_MESSAGE_BYTES_MAX);
    buffer_init(&fixture->reply, LIMIT_MESSAGE_BYTES_MAX);
    fixture->serve = (struct registry_serve) { .find_space = find_space, .context = fixture };
    fixture->call = (struct registry_serve_call) { .principal = "spiffe://test/ann",
                                                   .deadline_ns = UINT64_MAX,
                                                   .arena = &fixture->arena };
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    harness_finish(&fixture->replica.harness);
    store_close(fixture->replica.store);
    arena_finish(&fixture->arena);
    arena_finish(&fixture->answer_arena);
    buffer_finish(&fixture->request);
    buffer_finish(&fixture->reply);
    free(fixture);
    return 0;
}

static enum status call(struct fixture *fixture, const char *method,
                        const ProtobufCMessage *request)
{
    fixture->request.used = fixture->reply.used = 0;
    fixture->error.text[0] = '\0';
    arena_clear(&fixture->arena);
    assert_int_equal(proto_pack(request, &fixture->request), STATUS_OK);
    return registry_serve_unary(&fixture->serve, method, &fixture->call,
                                bytes_of(fixture->request.data, fixture->request.used),
                                &fixture->reply, &fixture->error);
}

static void *answer(struct fixture *fixture, const ProtobufCMessageDescriptor *descriptor)
{
    static const uint8_t nothing[1];
    struct bytes bytes = { fixture->reply.data == NULL ? nothing : fixture->reply.data,
                           fixture->reply.used };
    arena_clear(&fixture->answer_arena);
    void *message = proto_unpack(descriptor, &fixture->answer_arena, bytes);
    assert_non_null(message);
    /* What is packed by hand is what protobuf-c would have packed. */
    struct buffer again;
    buffer_init(&again, LIMIT_MESSAGE_BYTES_MAX);
    assert_int_equal(proto_pack(message, &again), STATUS_OK);
    assert_true(bytes_equal(bytes_of(again.data, again.used),
                            bytes_of(fixture->reply.data, fixture->reply.used)));
    buffer_finish(&again);
    return message;
}

static ProtobufCBinaryData binary(const char *text)
{
    return (ProtobufCBinaryData) { .data = (uint8_t *)text, .len = strlen(text) };
}

static void check_binary(ProtobufCBinaryData actual, const char *expected)
{
    assert_int_equal(actual.len, strlen(expected));
    assert_memory_equal(actual.data, expected, actual.len);
}

static enum status put_with(struct fixture *fixture, Unum__V1__Context *context, const char *space,
                            const char *key, const char *value, uint64_t lease)
{
    Unum__V1__PutRequest request = UNUM__V1__PUT_REQUEST__INIT;
    request.context = context;
    request.space = (char *)space;
    request.key = binary(key);
    request.value = binary(value);
    request.lease = lease;
    request.return_previous = true;
    return call(fixture, "Put", &request.base);
}

static enum status put(struct fixture *fixture, const char *key, const char *value)
{
    return put_with(fixture, NULL, "", key, value, 0);
}

static void a_put_answers_its_revision_and_what_was_before(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put(fixture, "a", "1"), STATUS_OK);
    Unum__V1__PutResponse *response = answer(fixture, &unum__v1__put_response__descriptor);
    assert_int_equal(response->revision, 1);
    assert_null(response->previous);
    assert_int_equal(put(fixture, "a", "2"), STATUS_OK);
    response = answer(fixture, &unum__v1__put_response__descriptor);
    assert_int_equal(response->revision, 2);
    check_binary(response->previous->value, "1");
    assert_int_equal(response->previous->version, 1);
    assert_string_equal(fixture->replica.last_principal, "spiffe://test/ann");
}

static void a_range_answers_items_count_and_more(void **state)
{
    struct fixture *fixture = *state;
    const char *keys[] = { "a", "b", "c" };
    for (unsigned i = 0; i < 3; i++) assert_int_equal(put(fixture, keys[i], "v"), STATUS_OK);
    Unum__V1__RangeRequest request = UNUM__V1__RANGE_REQUEST__INIT;
    uint8_t end = 0;
    request.key = binary("a");
    request.end = (ProtobufCBinaryData) { .data = &end, .len = 1 };
    request.limit = 2;
    assert_int_equal(call(fixture, "Range", &request.base), STATUS_OK);
    Unum__V1__RangeResponse *response = answer(fixture, &unum__v1__range_response__descriptor);
    assert_int_equal(response->revision, 3);
    assert_int_equal(response->n_items, 2);
    check_binary(response->items[1]->key, "b");
    assert_int_equal(response->count, 3);
    assert_true(response->more);
    assert_int_equal(fixture->replica.barriers, 1);
    request.stale = true;
    assert_int_equal(call(fixture, "Range", &request.base), STATUS_OK);
    assert_int_equal(fixture->replica.barriers, 1);
}

static void a_transaction_answers_each_operation(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put(fixture, "a", "1"), STATUS_OK);
    Unum__V1__Compare compare = UNUM__V1__COMPARE__INIT;
    compare.key = binary("a");
    compare.target = UNUM__V1__COMPARE__TARGET__VALUE;
    compare.value = binary("1");
    Unum__V1__PutRequest put_request = UNUM__V1__PUT_REQUEST__INIT;
    put_request.key = binary("b");
    put_request.value = binary("2");
    Unum__V1__RangeRequest range_request = UNUM__V1__RANGE_REQUEST__INIT;
    range_request.key = binary("b");
    Unum__V1__DeleteRequest delete_request = UNUM__V1__DELETE_REQUEST__INIT;
    delete_request.key = binary("a");
    Unum__V1__Operation operations[3];
    Unum__V1__Operation *list[3];
    for (unsigned i = 0; i < 3; i++) {
        unum__v1__operation__init(&operations[i]);
        list[i] = &operations[i];
    }
    operations[0].operation_case = UNUM__V1__OPERATION__OPERATION_PUT;
    operations[0].put = &put_request;
    operations[1].operation_case = UNUM__V1__OPERATION__OPERATION_RANGE;
    operations[1].range = &range_request;
    operations[2].operation_case = UNUM__V1__OPERATION__OPERATION_DELETE;
    operations[2].delete_ = &delete_request;
    Unum__V1__TxnRequest request = UNUM__V1__TXN_REQUEST__INIT;
    Unum__V1__Compare *compares[] = { &compare };
    request.compares = compares;
    request.n_compares = 1;
    request.success = list;
    request.n_success = 3;
    assert_int_equal(call(fixture, "Txn", &request.base), STATUS_OK);
    Unum__V1__TxnResponse *response = answer(fixture, &unum__v1__txn_response__descriptor);
    assert_int_equal(response->revision, 2);
    assert_true(response->succeeded);
    assert_int_equal(response->n_responses, 3);
    assert_int_equal(response->responses[0]->put->revision, 2);
    check_binary(response->responses[1]->range->items[0]->value, "2");
    assert_int_equal(response->responses[2]->delete_->deleted, 1);

    operations[1].operation_case = UNUM__V1__OPERATION__OPERATION__NOT_SET;
    assert_int_equal(call(fixture, "Txn", &request.base), STATUS_INVALID);
    assert_string_equal(fixture->error.text, "success[1] has no operation");
    compare.target = (Unum__V1__Compare__Target)77;
    operations[1].operation_case = UNUM__V1__OPERATION__OPERATION_RANGE;
    operations[1].range = &range_request;
    assert_int_equal(call(fixture, "Txn", &request.base), STATUS_INVALID);
    assert_string_equal(fixture->error.text, "compares[0].target or result is unknown");
}

static void a_delete_answers_what_it_deleted(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put(fixture, "a", "1"), STATUS_OK);
    assert_int_equal(put(fixture, "b", "2"), STATUS_OK);
    Unum__V1__DeleteRequest request = UNUM__V1__DELETE_REQUEST__INIT;
    request.key = binary("a");
    request.end = binary("z");
    request.return_previous = true;
    assert_int_equal(call(fixture, "Delete", &request.base), STATUS_OK);
    Unum__V1__DeleteResponse *response = answer(fixture, &unum__v1__delete_response__descriptor);
    assert_int_equal(response->revision, 3);
    assert_int_equal(response->deleted, 2);
    check_binary(response->previous[1]->value, "2");
}

static void leases_are_granted_kept_listed_and_revoked(void **state)
{
    struct fixture *fixture = *state;
    Unum__V1__GrantLeaseRequest grant = UNUM__V1__GRANT_LEASE_REQUEST__INIT;
    grant.lease = 7;
    grant.time_to_live_ms = 5000;
    assert_int_equal(call(fixture, "GrantLease", &grant.base), STATUS_OK);
    Unum__V1__GrantLeaseResponse *granted =
        answer(fixture, &unum__v1__grant_lease_response__descriptor);
    assert_int_equal(granted->lease, 7);
    assert_int_equal(put_with(fixture, NULL, "main", "a", "1", 7), STATUS_OK);
    fixture->replica.harness.now_ms += 1000;
    Unum__V1__ListLeasesRequest list = UNUM__V1__LIST_LEASES_REQUEST__INIT;
    assert_int_equal(call(fixture, "ListLeases", &list.base), STATUS_OK);
    Unum__V1__ListLeasesResponse *listed =
        answer(fixture, &unum__v1__list_leases_response__descriptor);
    assert_int_equal(listed->n_leases, 1);
    assert_int_equal(listed->leases[0]->remaining_ms, 4000);
    assert_int_equal(listed->leases[0]->n_keys, 1);
    check_binary(listed->leases[0]->keys[0], "a");
    assert_int_equal(listed->computer_time_ms, 2000);
    Unum__V1__KeepLeaseRequest keep = UNUM__V1__KEEP_LEASE_REQUEST__INIT;
    keep.lease = 7;
    assert_int_equal(call(fixture, "KeepLease", &keep.base), STATUS_OK);
    Unum__V1__KeepLeaseResponse *kept = answer(fixture, &unum__v1__keep_lease_response__descriptor);
    assert_int_equal(kept->time_to_live_ms, 5000);
    Unum__V1__RevokeLeaseRequest revoke = UNUM__V1__REVOKE_LEASE_REQUEST__INIT;
    revoke.lease = 7;
    assert_int_equal(call(fixture, "RevokeLease", &revoke.base), STATUS_OK);
    Unum__V1__RevokeLeaseResponse *revoked =
        answer(fixture, &unum__v1__revoke_lease_response__descriptor);
    assert_int_equal(revoked->revision, 2);
    assert_int_equal(call(fixture, "KeepLease", &keep.base), STATUS_NOT_FOUND);
    assert_string_equal(fixture->error.text, "lease 7 is not there, or has ended");
}

static void session_sequence_and_trace_reach_the_log(void **state)
{
    struct fixture *fixture = *state;
    uint8_t session[16] = { 1, 2, 3 };
    Unum__V1__Context context = UNUM__V1__CONTEXT__INIT;
    context.session = (ProtobufCBinaryData) { .data = session, .len = 16 };
    context.sequence = 9;
    char traceparent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    context.traceparent = traceparent;
    assert_int_equal(put_with(fixture, &context, "", "a", "1", 0), STATUS_OK);
    assert_memory_equal(fixture->replica.last_session.bytes, session, 16);
    assert_int_equal(fixture->replica.last_sequence, 9);
    char text[ID_TEXT_BYTES];
    id_format(&fixture->replica.last_trace, text);
    assert_string_equal(text, "0af7651916cd43dd8448eb211c80319c");
    traceparent[5] = 'Z'; /* ignored, as the specification says */
    assert_int_equal(put_with(fixture, &context, "", "a", "1", 0), STATUS_OK);
    assert_true(id_is_zero(&fixture->replica.last_trace));
    context.session.len = 5;
    assert_int_equal(put_with(fixture, &context, "", "a", "1", 0), STATUS_INVALID);
    assert_string_equal(fixture->error.text, "context.session has 5 bytes, not 16");
    context.session.len = 16;
    context.sequence = 0;
    assert_int_equal(put_with(fixture, &context, "", "a", "1", 0), STATUS_INVALID);
}

static void what_is_wrong_gets_one_sentence(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put(fixture, "", "1"), STATUS_INVALID);
    assert_string_equal(fixture->error.text, "key is empty");
    assert_int_equal(put_with(fixture, NULL, "other", "a", "1", 0), STATUS_NOT_FOUND);
    assert_string_equal(fixture->error.text, "there is no space \"other\"");
    assert_int_equal(put_with(fixture, NULL, "system", "a", "1", 0), STATUS_DENIED);
    assert_string_equal(fixture->error.text, "the space \"system\" is the computer's own");
    fixture->call.may_use_system = true;
    assert_int_equal(put_with(fixture, NULL, "system", "a", "1", 0), STATUS_OK);
    Unum__V1__PutRequest request = UNUM__V1__PUT_REQUEST__INIT;
    assert_int_equal(call(fixture, "Explode", &request.base), STATUS_UNSUPPORTED);
    assert_string_equal(fixture->error.text, "the registry has no method \"Explode\"");
    assert_int_equal(registry_serve_unary(&fixture->serve, "Put", &fixture->call,
                                          bytes_of("\xff\xff", 2), &fixture->reply,
                                          &fixture->error),
                     STATUS_INVALID);
    assert_string_equal(fixture->error.text,
                        "the request of 2 bytes is not a PutRequest, or has too many parts");
    assert_false(registry_serve_is_stream("Put"));
    assert_true(registry_serve_is_stream("Watch"));
}

/* --- watches -----------------------------------------------------------------------------------
 */

struct watch_case {
    struct fixture *fixture;
    struct reactor *reactor;
    Unum__V1__WatchRequest request;
    unsigned messages, events, created;
    uint64_t revision;
    enum status status;
};

static enum status take_message(void *context, struct bytes message)
{
    struct watch_case *watch = context;
    struct arena arena;
    arena_init(&arena, 16 << 20);
    Unum__V1__WatchResponse *response =
        proto_unpack(&unum__v1__watch_response__descriptor, &arena, message);
    assert_non_null(response);
    watch->messages++;
    watch->created += response->created != 0;
    watch->events += (unsigned)response->n_events;
    assert_true(response->revision >= watch->revision);
    watch->revision = response->revision;
    arena_finish(&arena);
    return STATUS_OK;
}

static void watch_fiber(void *argument)
{
    struct watch_case *watch = argument;
    struct fixture *fixture = watch->fixture;
    struct registry_serve_sink sink = { .send = take_message, .context = watch };
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct registry_serve_call serve_call = fixture->call;
    serve_call.arena = &arena;
    struct buffer request;
    buffer_init(&request, 4096);
    assert_int_equal(proto_pack(&watch->request.base, &request), STATUS_OK);
    watch->status = registry_serve_watch(
        &fixture->serve, &serve_call, bytes_of(request.data, request.used), &sink, &fixture->error);
    buffer_finish(&request);
    arena_finish(&arena);
}

static void watch_main(struct scope *root, void *context)
{
    struct watch_case *watch = context;
    struct fixture *fixture = watch->fixture;
    struct scope scope;
    scope_init(&scope, root);
    assert_int_equal(scope_spawn(&scope, "watch", watch_fiber, watch), STATUS_OK);
    assert_int_equal(fiber_yield(), STATUS_OK);
    assert_int_equal(watch->created, 1);
    assert_int_equal(put(fixture, "a", "2"), STATUS_OK);
    assert_int_equal(put(fixture, "x", "3"), STATUS_OK);
    assert_int_equal(fiber_sleep_ns(1000000), STATUS_OK);
    assert_int_equal(watch->events, 2);
    assert_int_equal(watch->messages, 3);
    /* Nothing happens: only the sign of life that was asked for. */
    assert_int_equal(fiber_sleep_ns(6000000000ull), STATUS_OK);
    assert_int_equal(watch->events, 2);
    assert_int_equal(watch->messages, 4);
    assert_int_equal(watch->revision, 3);
    scope_cancel(&scope);
    scope_join(&scope);
}

static void a_watch_sends_the_past_the_present_and_signs_of_life(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put(fixture, "a", "1"), STATUS_OK);
    struct watch_case watch = { .fixture = fixture };
    unum__v1__watch_request__init(&watch.request);
    watch.request.key = binary("a");
    watch.request.start_revision = 1;
    watch.request.progress = true;
    struct reactor_simulation_options options = { .seed = 1, .end_ns = 60ull * 1000000000 };
    assert_int_equal(reactor_create_simulation(&options, &watch.reactor), STATUS_OK);
    fixture->serve.clock = reactor_clock(watch.reactor);
    assert_int_equal(reactor_run(watch.reactor, watch_main, &watch), STATUS_OK);
    reactor_destroy(watch.reactor);
    assert_int_equal(watch.status, STATUS_CANCELLED);
    assert_int_equal(registry_figures(fixture->replica.harness.first.registry).watches, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_put_answers_its_revision_and_what_was_before, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_range_answers_items_count_and_more, setup, teardown),
        cmocka_unit_test_setup_teardown(a_transaction_answers_each_operation, setup, teardown),
        cmocka_unit_test_setup_teardown(a_delete_answers_what_it_deleted, setup, teardown),
        cmocka_unit_test_setup_teardown(leases_are_granted_kept_listed_and_revoked, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(session_sequence_and_trace_reach_the_log, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_wrong_gets_one_sentence, setup, teardown),
        cmocka_unit_test_setup_teardown(a_watch_sends_the_past_the_present_and_signs_of_life, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
