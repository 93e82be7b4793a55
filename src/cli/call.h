/* Call: the command line's way to a computer, over libunum.
 *
 * DIR/operator holds what an operator needs to talk to the computer: certificate, key, the
 * computer's authority, addresses (client/credential.h).
 * Every failure is a sentence that says what to do next. In a fiber, but for call_prepare. */
#ifndef UNUM_CLI_CALL_H
#define UNUM_CLI_CALL_H

#include "cli/cli.h"
#include "client/client.h"

enum {
    CALL_DEADLINE_MS = 30000,
    CALL_PATIENCE_MS = 3000, /* a daemon that is being restarted is back by then */
};

/* Read address and credential. On the thread's own stack, before the reactor runs. */
MUST_USE enum status call_prepare(struct cli *cli, struct error *error);
/* Make the client within its reactor; PATIENCE_MS as in client_options. Connects at the first call.
 */
MUST_USE enum status call_begin(struct cli *cli, struct scope *scope, uint64_t patience_ms,
                                struct error *error);
/* Ends the client; for call_begin again, or call_finish. */
void call_end(struct cli *cli);
/* Outside the reactor; accepts what was never prepared. */
void call_finish(struct cli *cli);

/* One call; the reply lives in cli->arena. METHOD is "Computer/ListJobs". */
MUST_USE enum status call_unary(struct cli *cli, enum client_kind kind, const char *method,
                                ProtobufCMessage *request, const ProtobufCMessageDescriptor *reply,
                                void *ret_reply, struct error *error);
MUST_USE enum status call_stream(struct cli *cli, const char *method, ProtobufCMessage *request,
                                 bool half_close, struct client_stream **ret_stream,
                                 struct error *error);
/* Where the computer answers; borrowed. */
const char *call_address(const struct cli *cli);

#endif
