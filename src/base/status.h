/* Status: what a function that can fail returns. Names are for people, numbers are not on any wire.
 */
#ifndef UNUM_BASE_STATUS_H
#define UNUM_BASE_STATUS_H

#define MUST_USE __attribute__((warn_unused_result))

enum status {
    STATUS_OK = 0,
    STATUS_INVALID, /* the caller's input is wrong; the error names the field or offset */
    STATUS_NOT_FOUND,
    STATUS_EXISTS,
    STATUS_CONFLICT,    /* a compare failed, or a newer incarnation is there */
    STATUS_DENIED,      /* the identity or capability does not allow it */
    STATUS_BUSY,        /* a bound is reached; try again later */
    STATUS_FULL,        /* a disk or quota is full; nothing was changed */
    STATUS_IO,          /* the device failed; the owner stops (fail-stop) */
    STATUS_CORRUPT,     /* stored bytes are damaged; the error names where */
    STATUS_UNSUPPORTED, /* newer format or level, or a missing kernel feature */
    STATUS_TIMEOUT,     /* the deadline passed; the outcome may be unknown */
    STATUS_CANCELLED,   /* the scope of the caller ends */
    STATUS_UNAVAILABLE, /* no leader, no connection; try again */
    STATUS_CLOSED,      /* the other side ended, or this object was closed */
    STATUS_NO_MEMORY,
    STATUS_INTERNAL,
    STATUS_COUNT
};

/* The name in lower case, "ok" to "internal"; "?" for a number out of range. */
const char *status_name(enum status status);

#endif
