/* Computer service: the API of proto/unum/v1/computer.proto. Everything that the command line can
 * do. */
#ifndef UNUM_NODE_COMPUTER_SERVICE_H
#define UNUM_NODE_COMPUTER_SERVICE_H

#include "node/serve.h"

struct node;

/* For serve_options; NODE is borrowed. */
struct serve_service computer_service(struct node *node);

/* In logs_service.c and exec_service.c: the streams. */
MUST_USE enum status computer_logs(struct node *node, struct serve_call *call, struct error *error);
MUST_USE enum status computer_exec(struct node *node, struct serve_call *call, struct error *error);

#endif
