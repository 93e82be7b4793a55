/* What the tests of the public port share: a port with a small service, clients of libunum, and
 * clients that write bytes. Everything runs in one fiber reactor (FIBER_TEST). */
#ifndef UNUM_NODE_SERVE_HARNESS_H
#define UNUM_NODE_SERVE_HARNESS_H

#include "client/client.h"
#include "identity/authority.h"
#include "node/serve.h"
#include "reactor/real_test.h"

enum { REPLY_ARENA_BYTES = 8 * 1024 * 1024, LOG_BYTES = 4096 };
static const uint64_t SECOND_MS = 1000;

static const struct id computer = { { 7 } };

/* What the services did. */
struct fixture {
    struct serve *serve;
    struct client *client;
    struct arena arena;
    struct error error;
    char log[LOG_BYTES];
    unsigned log_lines;
    unsigned puts, puts_running, cancelled, watching;
    unsigned unavailable_left; /* puts to answer with UNAVAILABLE */
    struct id session;
    uint64_t sequence;
    char principal[SERVE_PRINCIPAL_BYTES_MAX + 1];
    const struct authority *authority; /* NULL: plain */
    struct tls_context *server_tls, *client_tls;
    uint64_t expires_ms;
};

void serve_at(struct fixture *fixture, const char *address);
struct client *client_at(struct fixture *fixture, const char *address, struct tls_context *tls);
void fixture_open(struct fixture *fixture);
void fixture_close(struct fixture *fixture);
enum status put_by(struct fixture *fixture, struct client *client, enum client_kind kind,
                   const char *key, uint64_t deadline_ms, uint64_t *ret_revision);
enum status put_key(struct fixture *fixture, const char *key);
/* Until VALUE is WANTED; a bound, not a wait of fixed length. */
void wait_for(const unsigned *value, unsigned wanted);
struct client_stream *open_watch(struct fixture *fixture, uint64_t count);
enum status next_event(struct fixture *fixture, struct client_stream *watch,
                       uint64_t *ret_revision);
struct stream *connect_raw(struct fixture *fixture);
/* Until the port closes. */
void read_to_end(struct stream *stream);

#define FIBER_TEST(NAME)                                                                           \
    static void NAME##_main(struct scope *root, void *context);                                    \
    static void NAME(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        test_run(NAME##_main, NULL);                                                               \
    }                                                                                              \
    static void NAME##_main(struct scope *root, void *context)

#endif
