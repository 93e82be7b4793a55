#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum status error_set(struct error *error, enum status status, const char *format, ...)
{
    if (error == NULL) return status;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return status;
}

enum status error_wrap(struct error *error, enum status status, const char *format, ...)
{
    if (error == NULL) return status;
    char context[ERROR_TEXT_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(context, sizeof context, format, arguments);
    va_end(arguments);
    if (length <= 0) return status;
    size_t used = strnlen(context, sizeof context - 1);
    size_t room = sizeof error->text - 1;
    if (used + 2 > room) return status;
    size_t kept = strnlen(error->text, room);
    if (kept > room - used - 2) kept = room - used - 2;
    memmove(error->text + used + 2, error->text, kept);
    memcpy(error->text, context, used);
    memcpy(error->text + used, ": ", 2);
    error->text[used + 2 + kept] = '\0';
    return status;
}
