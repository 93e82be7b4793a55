#include "base/status.h"

#include <stddef.h>

const char *status_name(enum status status)
{
    static const char *const names[STATUS_COUNT] = {
        [STATUS_OK] = "ok",
        [STATUS_INVALID] = "invalid",
        [STATUS_NOT_FOUND] = "not found",
        [STATUS_EXISTS] = "exists",
        [STATUS_CONFLICT] = "conflict",
        [STATUS_DENIED] = "denied",
        [STATUS_BUSY] = "busy",
        [STATUS_FULL] = "full",
        [STATUS_IO] = "i/o error",
        [STATUS_CORRUPT] = "corrupt",
        [STATUS_UNSUPPORTED] = "unsupported",
        [STATUS_TIMEOUT] = "timeout",
        [STATUS_CANCELLED] = "cancelled",
        [STATUS_UNAVAILABLE] = "unavailable",
        [STATUS_CLOSED] = "closed",
        [STATUS_NO_MEMORY] = "out of memory",
        [STATUS_INTERNAL] = "internal",
    };
    if ((unsigned)status >= STATUS_COUNT || names[status] == NULL) return "?";
    return names[status];
}
