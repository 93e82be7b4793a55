/* The port and its connections.
 *
 * A connection has two fibers: the reader shakes hands, feeds grpc and owns everything; the writer
 * sends what grpc has to send and frees ended calls. It waits on `output_wanted`, and since fibers
 * run in order of arrival, it runs after every call that is ready now: their answers leave in one
 * write. A third fiber of the port, the sweeper, cancels calls whose deadline has passed. */
#include "node/serve_internal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

uint64_t serve_now_ns(const struct serve *serve)
{
    uint64_t now_ns;
    clock_monotonic_ns(serve->options.clock, &now_ns);
    return now_ns;
}

/* --- one sentence per trouble, and a bounded number of them
 * ---------------------------------------
 */

static bool may_log(struct serve *serve)
{
    uint64_t now_ns = serve_now_ns(serve);
    if (now_ns - serve->log_window_ns >= 1000 * MS_NS) {
        serve->log_window_ns = now_ns;
        serve->log_lines = 0;
    }
    if (serve->log_lines >= SERVE_LOG_LINES_PER_S_MAX) {
        serve->log_lines_lost++;
        return false;
    }
    serve->log_lines++;
    return true;
}

__attribute__((format(printf, 2, 3))) static void say(struct serve *serve, const char *format, ...)
{
    if (serve->options.log == NULL || !may_log(serve)) return;
    char line[ERROR_TEXT_BYTES_MAX + NETWORK_ADDRESS_BYTES_MAX + 64];
    if (serve->log_lines_lost > 0) {
        (void)snprintf(line, sizeof line, "port: %u lines like the ones before left out",
                       serve->log_lines_lost);
        serve->log_lines_lost = 0;
        serve->options.log(serve->options.context, line);
    }
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    serve->options.log(serve->options.context, line);
}

static const char *peer_of(const struct stream *stream)
{
    return stream->operations->peer(stream);
}

/* SENTENCE without the "ADDRESS: " that it may begin with. */
static const char *without_peer(const char *sentence, const char *peer)
{
    size_t length = strlen(peer);
    if (strncmp(sentence, peer, length) != 0 || strncmp(sentence + length, ": ", 2) != 0)
        return sentence;
    return sentence + length + 2;
}

static void stream_shut(struct stream *stream)
{
    stream->operations->shutdown(stream);
}

/* --- writing -----------------------------------------------------------------------------------
 */

/* Send all that there is now. */
static enum status flush(struct serve_connection *connection)
{
    uint8_t *bytes = malloc(SERVE_WRITE_BYTES);
    if (bytes == NULL) return STATUS_NO_MEMORY;
    enum status status;
    for (;;) {
        size_t used = 0;
        status = grpc_output(connection->grpc, bytes, SERVE_WRITE_BYTES, &used);
        if (status != STATUS_OK || used == 0) break;
        uint64_t deadline_ns = serve_now_ns(connection->serve) + SERVE_WRITE_MS_MAX * MS_NS;
        status = stream_write(connection->stream, bytes, used, deadline_ns);
        if (status != STATUS_OK) break;
    }
    free(bytes);
    return status;
}

static enum status writer_step(struct serve_connection *connection)
{
    while (!grpc_wants_output(connection->grpc) && TAILQ_EMPTY(&connection->done)) {
        if (connection->is_ending || grpc_finished(connection->grpc)) return STATUS_CLOSED;
        enum status status = condition_wait(&connection->output_wanted, DEADLINE_NEVER);
        if (status != STATUS_OK) return status;
    }
    serve_calls_reap(connection);
    return flush(connection);
}

static void writer_fiber(void *argument)
{
    struct serve_connection *connection = argument;
    enum status status = STATUS_OK;
    while (status == STATUS_OK) status = writer_step(connection);
    if (status == STATUS_TIMEOUT)
        say(connection->serve, "%s: closed: it did not take what it asked for within %d s",
            peer_of(connection->stream), SERVE_WRITE_MS_MAX / 1000);
    stream_shut(connection->stream); /* wakes the reader */
    connection->writer_runs = false;
    condition_signal(&connection->writer_ended);
}

/* --- reading -----------------------------------------------------------------------------------
 */

/* Nothing came for SERVE_SILENCE_MS_MAX. SILENCES counts how often in a row. */
static enum status on_silence(struct serve_connection *connection, unsigned silences)
{
    if (silences > 1) {
        say(connection->serve, "%s: closed: no sign of life", peer_of(connection->stream));
        return STATUS_TIMEOUT;
    }
    grpc_ping(connection->grpc);
    condition_signal(&connection->output_wanted);
    return STATUS_OK;
}

static bool is_idle(const struct serve_connection *connection, uint64_t now_ns,
                    uint64_t *idle_since_ns)
{
    if (!TAILQ_EMPTY(&connection->calls) || !TAILQ_EMPTY(&connection->done))
        *idle_since_ns = now_ns;
    return now_ns - *idle_since_ns > SERVE_IDLE_MS_MAX * MS_NS;
}

static void read_loop(struct serve_connection *connection, uint8_t *bytes)
{
    struct serve *serve = connection->serve;
    unsigned silences = 0;
    uint64_t idle_since_ns = serve_now_ns(serve);
    enum status status = STATUS_OK;
    uint64_t end_ns =
        connection->refusal == NULL ? DEADLINE_NEVER : idle_since_ns + SERVE_REFUSED_MS_MAX * MS_NS;
    while (status == STATUS_OK) {
        size_t used = 0;
        uint64_t now_ns = serve_now_ns(serve);
        if (now_ns >= end_ns) return;
        if (is_idle(connection, now_ns, &idle_since_ns)) {
            grpc_drain(connection->grpc);
            condition_signal(&connection->output_wanted);
        }
        uint64_t deadline_ns = now_ns + SERVE_SILENCE_MS_MAX * MS_NS;
        if (deadline_ns > end_ns) deadline_ns = end_ns;
        status = stream_read(connection->stream, bytes, SERVE_READ_BYTES, deadline_ns, &used);
        if (status == STATUS_TIMEOUT) {
            status = on_silence(connection, ++silences);
            continue;
        }
        if (status != STATUS_OK || used == 0) return;
        silences = 0;
        struct error error;
        status = grpc_receive(connection->grpc, bytes, used, &error);
        if (status != STATUS_OK) {
            serve->figures.garbage++;
            say(serve, "%s: closed: %s", peer_of(connection->stream), error.text);
        }
        if (grpc_wants_output(connection->grpc)) condition_signal(&connection->output_wanted);
    }
}

/* Reads until the connection ends; then all its calls have ended, too. */
static void converse(struct serve_connection *connection)
{
    uint8_t *bytes = malloc(SERVE_READ_BYTES);
    scope_init(&connection->scope, fiber_scope());
    if (bytes != NULL &&
        scope_spawn(&connection->scope, "port writer", writer_fiber, connection) == STATUS_OK) {
        connection->writer_runs = true;
        read_loop(connection, bytes);
    }
    free(bytes);
    connection->is_ending = true;
    struct serve_call *call;
    TAILQ_FOREACH (call, &connection->calls, list)
        if (call->is_running) scope_cancel(&call->scope);
    /* A GOAWAY may still leave. */
    uint64_t deadline_ns = serve_now_ns(connection->serve) + SERVE_GOODBYE_MS_MAX * MS_NS;
    condition_signal(&connection->output_wanted);
    while (connection->writer_runs &&
           condition_wait(&connection->writer_ended, deadline_ns) == STATUS_OK) {
    }
    scope_cancel(&connection->scope);
    scope_join(&connection->scope);
    grpc_connection_destroy(connection->grpc);
    serve_calls_free(connection);
}

/* --- the life of a connection
 * ----------------------------------------------------------------------
 */

static enum status identify(struct serve_connection *connection, struct error *error)
{
    const struct serve_options *options = &connection->serve->options;
    const char *alpn = tls_stream_alpn(connection->stream);
    if (alpn == NULL || strcmp(alpn, "h2") != 0)
        return error_set(error, STATUS_INVALID, "the peer asks for a protocol other than h2");
    assert(options->identify != NULL);
    enum status status = options->identify(options->context, tls_stream_peer(connection->stream),
                                           connection->principal, error);
    if (status != STATUS_DENIED) return status;
    /* It is told why, as the answer to whatever it calls. */
    connection->serve->figures.refused++;
    say(connection->serve, "%s: refused: %s", peer_of(connection->stream), error->text);
    connection->refusal = strdup(error->text);
    return connection->refusal == NULL ? STATUS_NO_MEMORY : STATUS_OK;
}

static enum status shake_hands(struct serve_connection *connection, struct error *error)
{
    struct serve *serve = connection->serve;
    uint64_t limit_ms = serve->options.handshake_ms;
    if (limit_ms == 0 || limit_ms > SERVE_HANDSHAKE_MS_MAX) limit_ms = SERVE_HANDSHAKE_MS_MAX;
    uint64_t deadline_ns = serve_now_ns(serve) + limit_ms * MS_NS;
    struct stream *secure = NULL;
    serve->handshake_count++;
    enum status status =
        tls_stream_create(serve->options.tls, connection->stream, deadline_ns, &secure, error);
    serve->handshake_count--;
    if (status != STATUS_OK) return status;
    connection->stream = secure;
    return identify(connection, error);
}

static enum status prepare(struct serve_connection *connection, struct error *error)
{
    const struct serve_options *options = &connection->serve->options;
    if (options->tls != NULL) {
        enum status status = shake_hands(connection, error);
        if (status != STATUS_OK) return status;
    } else {
        (void)snprintf(connection->principal, sizeof connection->principal, "%s",
                       options->plain_principal == NULL ? "" : options->plain_principal);
    }
    struct grpc_options grpc = { .is_server = true,
                                 .events = &serve_call_events,
                                 .context = connection };
    return grpc_connection_create(&grpc, &connection->grpc);
}

static void connection_fiber(void *argument)
{
    struct serve_connection *connection = argument;
    struct serve *serve = connection->serve;
    struct error error;
    error.text[0] = '\0';
    enum status status = prepare(connection, &error);
    if (status == STATUS_OK) {
        if (serve->is_stopping) grpc_drain(connection->grpc);
        converse(connection);
    } else if (status != STATUS_CANCELLED && status != STATUS_CLOSED) {
        if (status == STATUS_DENIED) {
            serve->figures.refused++;
        } else {
            serve->figures.garbage++;
        }
        const char *peer = peer_of(connection->stream);
        say(serve, "%s: refused: %s", peer,
            error.text[0] != '\0' ? without_peer(error.text, peer) : status_name(status));
    }
    stream_close(connection->stream);
    free(connection->refusal);
    TAILQ_REMOVE(&serve->connections, connection, all);
    serve->connection_count--;
    free(connection);
    condition_signal(&serve->connection_ended);
}

/* Takes STREAM. */
static void connection_start(struct serve *serve, struct stream *stream)
{
    struct serve_connection *connection = NULL;
    if (serve->connection_count >= SERVE_CONNECTIONS_MAX ||
        serve->handshake_count >= SERVE_HANDSHAKES_MAX) {
        say(serve, "%s: refused: %u connections are open", peer_of(stream),
            serve->connection_count);
    } else {
        connection = calloc(1, sizeof *connection);
    }
    if (connection == NULL) {
        serve->figures.refused++;
        stream_close(stream);
        return;
    }
    connection->serve = serve;
    connection->stream = stream;
    condition_init(&connection->output_wanted);
    condition_init(&connection->writer_ended);
    TAILQ_INIT(&connection->calls);
    TAILQ_INIT(&connection->done);
    if (scope_spawn(&serve->scope, "port reader", connection_fiber, connection) != STATUS_OK) {
        serve->figures.refused++;
        stream_close(stream);
        free(connection);
        return;
    }
    TAILQ_INSERT_TAIL(&serve->connections, connection, all);
    serve->connection_count++;
    serve->figures.connections++;
}

static void accept_fiber(void *argument)
{
    struct serve *serve = argument;
    while (!serve->is_stopping) { /* then the listener is gone */
        struct stream *stream = NULL;
        enum status status =
            serve->listener->operations->accept(serve->listener, DEADLINE_NEVER, &stream);
        if (status == STATUS_OK) {
            connection_start(serve, stream);
            continue;
        }
        if (status == STATUS_CANCELLED || status == STATUS_CLOSED) return;
        if (serve->is_stopping) return;
        say(serve, "port: can't accept a connection: %s", status_name(status));
        if (fiber_sleep_ns(SERVE_FULL_PAUSE_MS * MS_NS) != STATUS_OK) return;
    }
}

static void sweep_fiber(void *argument)
{
    struct serve *serve = argument;
    for (;;) {
        enum status status = serve->deadline_count == 0
                                 ? condition_wait(&serve->deadline_set, DEADLINE_NEVER)
                                 : fiber_sleep_ns(SERVE_SWEEP_MS * MS_NS);
        if (status != STATUS_OK) return;
        uint64_t now_ns = serve_now_ns(serve);
        struct serve_connection *connection;
        TAILQ_FOREACH (connection, &serve->connections, all) serve_calls_expire(connection, now_ns);
    }
}

/* --- start and stop
 * --------------------------------------------------------------------------------
 */

enum status serve_start(const struct serve_options *options, struct serve **ret_serve,
                        struct error *error)
{
    assert(options->service_count <= SERVE_SERVICES_MAX);
    struct serve *serve = calloc(1, sizeof *serve);
    if (serve == NULL) return error_set(error, STATUS_NO_MEMORY, "no memory for the port");
    serve->options = *options;
    if (options->service_count > 0)
        memcpy(serve->services, options->services,
               options->service_count * sizeof *options->services);
    TAILQ_INIT(&serve->connections);
    TAILQ_INIT(&serve->kept);
    condition_init(&serve->connection_ended);
    condition_init(&serve->deadline_set);
    enum status status =
        options->network->listen(options->network, options->address, &serve->listener, error);
    if (status != STATUS_OK) {
        free(serve);
        return status;
    }
    scope_init(&serve->scope, options->scope);
    status = scope_spawn(&serve->scope, "port", accept_fiber, serve);
    if (status == STATUS_OK) status = scope_spawn(&serve->scope, "port sweep", sweep_fiber, serve);
    if (status != STATUS_OK) {
        serve_stop(serve, 0);
        return error_set(error, status, "no fiber is left for the port");
    }
    *ret_serve = serve;
    return STATUS_OK;
}

const char *serve_address(const struct serve *serve)
{
    return serve->listener->operations->address(serve->listener);
}

void serve_stop(struct serve *serve, uint64_t deadline_ns)
{
    if (serve == NULL) return;
    serve->is_stopping = true;
    serve->listener->operations->close(serve->listener);
    struct serve_connection *connection;
    TAILQ_FOREACH (connection, &serve->connections, all) {
        if (connection->grpc == NULL) continue;
        grpc_drain(connection->grpc);
        condition_signal(&connection->output_wanted);
    }
    while (serve->connection_count > 0 && serve_now_ns(serve) < deadline_ns)
        if (condition_wait(&serve->connection_ended, deadline_ns) != STATUS_OK) break;
    scope_cancel(&serve->scope);
    scope_join(&serve->scope);
    serve_calls_kept_free(serve);
    free(serve);
}

struct serve_figures serve_figures(const struct serve *serve)
{
    return serve->figures;
}
