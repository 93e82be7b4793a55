#include "node/reasons.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct reasons {
    struct reason ring[REASONS_COUNT_MAX];
    size_t used;
    uint64_t count; /* ever added; the newest stands at (count - 1) % REASONS_COUNT_MAX */
};

enum status reasons_create(struct reasons **ret_reasons)
{
    /* Touched only as far as it is used. */
    struct reasons *reasons = calloc(1, sizeof *reasons);
    if (reasons == NULL) return STATUS_NO_MEMORY;
    *ret_reasons = reasons;
    return STATUS_OK;
}

void reasons_destroy(struct reasons *reasons)
{
    free(reasons);
}

static void copy_text(char *ret_text, size_t size, const char *text)
{
    (void)snprintf(ret_text, size, "%s", text);
}

/* The newest of SUBJECT among the last few, NULL when there is none. */
static struct reason *find_recent(struct reasons *reasons, const char *subject)
{
    enum { LOOK_BACK = 64 };
    for (uint64_t back = 1; back <= LOOK_BACK && back <= reasons->count; back++) {
        struct reason *reason = &reasons->ring[(reasons->count - back) % REASONS_COUNT_MAX];
        if (strcmp(reason->subject, subject) == 0) return reason;
    }
    return NULL;
}

void reasons_add(struct reasons *reasons, uint64_t wall_ms, const char *job, const char *subject,
                 const char *event, const char *format, ...)
{
    char text[REASON_TEXT_BYTES_MAX + 1];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);

    struct reason *recent = find_recent(reasons, subject);
    if (recent != NULL && strcmp(recent->event, event) == 0 && strcmp(recent->text, text) == 0) {
        recent->wall_ms = wall_ms;
        return;
    }
    struct reason *reason = &reasons->ring[reasons->count % REASONS_COUNT_MAX];
    reasons->count++;
    if (reasons->used < REASONS_COUNT_MAX) reasons->used++;
    *reason = (struct reason) { .wall_ms = wall_ms, .number = reasons->count };
    copy_text(reason->job, sizeof reason->job, job);
    copy_text(reason->subject, sizeof reason->subject, subject);
    copy_text(reason->event, sizeof reason->event, event);
    copy_text(reason->text, sizeof reason->text, text);
}

size_t reasons_find(const struct reasons *reasons, const char *subject, struct reason *ret_reasons,
                    size_t count_max)
{
    size_t found = 0;
    /* From the newest back, written from the end; then moved to the front. */
    for (uint64_t back = 1; back <= reasons->used && found < count_max; back++) {
        const struct reason *reason = &reasons->ring[(reasons->count - back) % REASONS_COUNT_MAX];
        if (strcmp(reason->subject, subject) != 0 && strcmp(reason->job, subject) != 0) continue;
        found++;
        ret_reasons[count_max - found] = *reason;
    }
    memmove(ret_reasons, ret_reasons + (count_max - found), found * sizeof *ret_reasons);
    return found;
}
