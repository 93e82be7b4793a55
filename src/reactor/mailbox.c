/* The mailbox: functions that other threads ask the reactor's thread to run, in order of arrival.
 * A mutex guards the ring; the flag lets the reactor look without taking it. */
#include "reactor/io.h"

#include <pthread.h>
#include <stdlib.h>

struct letter {
    void (*function)(void *);
    void *argument;
};

struct mailbox {
    pthread_mutex_t mutex;
    atomic_bool pending; /* something was posted since the last look */
    unsigned first;
    unsigned count;
    struct letter letters[MAILBOX_COUNT_MAX];
};

struct mailbox *mailbox_create(void)
{
    struct mailbox *mailbox = calloc(1, sizeof *mailbox);
    if (mailbox == NULL) return NULL;
    (void)pthread_mutex_init(&mailbox->mutex, NULL);
    return mailbox;
}

void mailbox_destroy(struct mailbox *mailbox)
{
    if (mailbox == NULL) return;
    (void)pthread_mutex_destroy(&mailbox->mutex);
    free(mailbox);
}

enum status reactor_post(struct reactor *reactor, void (*function)(void *), void *argument)
{
    struct mailbox *mailbox = reactor->mailbox;
    enum status status = STATUS_BUSY;
    (void)pthread_mutex_lock(&mailbox->mutex);
    if (mailbox->count < MAILBOX_COUNT_MAX) {
        unsigned place = (mailbox->first + mailbox->count) % MAILBOX_COUNT_MAX;
        mailbox->letters[place] = (struct letter) { .function = function, .argument = argument };
        mailbox->count++;
        status = STATUS_OK;
    }
    (void)pthread_mutex_unlock(&mailbox->mutex);
    /* One interrupt wakes it for all that is posted until it looks. */
    if (status == STATUS_OK && !atomic_exchange(&mailbox->pending, true))
        reactor->backend->interrupt(reactor);
    return status;
}

static bool mailbox_take(struct mailbox *mailbox, struct letter *ret_letter)
{
    bool taken = false;
    (void)pthread_mutex_lock(&mailbox->mutex);
    if (mailbox->count > 0) {
        *ret_letter = mailbox->letters[mailbox->first];
        mailbox->first = (mailbox->first + 1) % MAILBOX_COUNT_MAX;
        mailbox->count--;
        taken = true;
    }
    (void)pthread_mutex_unlock(&mailbox->mutex);
    return taken;
}

bool mailbox_is_pending(const struct mailbox *mailbox)
{
    return atomic_load_explicit(&mailbox->pending, memory_order_acquire);
}

void mailbox_run(struct reactor *reactor)
{
    struct mailbox *mailbox = reactor->mailbox;
    if (!mailbox_is_pending(mailbox)) return;
    /* Before taking: what comes later sets it again. */
    atomic_store(&mailbox->pending, false);
    struct letter letter;
    for (unsigned i = 0; i < MAILBOX_COUNT_MAX && mailbox_take(mailbox, &letter); i++)
        letter.function(letter.argument);
}
