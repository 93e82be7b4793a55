#include "node/registry_service.h"

static enum status find_space(void *context, const char *name, struct replica **ret_replica)
{
    return replica_find(context, "registry", name, ret_replica);
}

static struct registry_serve_call call_of(struct serve_call *call)
{
    return (struct registry_serve_call) {
        .principal = serve_call_principal(call),
        .deadline_ns = serve_call_deadline_ns(call),
        .arena = serve_call_arena(call),
    };
}

static enum status unary(void *context, const char *method, struct serve_call *call,
                         struct bytes request, struct buffer *reply, struct error *error)
{
    struct registry_service *service = context;
    struct registry_serve_call own = call_of(call);
    return registry_serve_unary(&service->serve, method, &own, request, reply, error);
}

static bool is_stream(void *context, const char *method)
{
    (void)context;
    return registry_serve_is_stream(method);
}

static enum status send_message(void *context, struct bytes message)
{
    return serve_call_send(context, message);
}

static enum status stream(void *context, const char *method, struct serve_call *call,
                          struct error *error)
{
    (void)method;
    struct registry_service *service = context;
    struct bytes first;
    enum status status = serve_call_receive(call, serve_call_deadline_ns(call), &first);
    if (status != STATUS_OK) return error_set(error, status, "the request did not come");
    struct bytes request = arena_copy(serve_call_arena(call), first);
    if (request.data == NULL) return error_set(error, STATUS_INVALID, "the request is too large");
    struct registry_serve_call own = call_of(call);
    struct registry_serve_sink sink = { .send = send_message, .context = call };
    return registry_serve_watch(&service->serve, &own, request, &sink, error);
}

struct serve_service registry_service(struct registry_service *service, struct replica_host *host,
                                      struct clock *clock)
{
    *service = (struct registry_service) {
        .serve = { .clock = clock, .find_space = find_space, .context = host },
    };
    return (struct serve_service) {
        .prefix = "/unum.v1.Registry/",
        .unary = unary,
        .is_stream = is_stream,
        .stream = stream,
        .context = service,
    };
}
