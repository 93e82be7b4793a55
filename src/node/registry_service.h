/* Registry service: src/registry's service on the public port. */
#ifndef UNUM_NODE_REGISTRY_SERVICE_H
#define UNUM_NODE_REGISTRY_SERVICE_H

#include "node/serve.h"
#include "registry/registry_serve.h"

struct registry_service {
    struct registry_serve serve;
};

/* For serve_options; SERVICE is borrowed and filled here. */
struct serve_service registry_service(struct registry_service *service, struct replica_host *host,
                                      struct clock *clock);

#endif
