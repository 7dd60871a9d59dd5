#include "net/mailbox.h"

#include <errno.h>
#include <stddef.h>

void
mailbox_init(struct mailbox *mb, void (*wake)(void *arg), void *arg)
{
        *mb = (struct mailbox){ .wake = wake, .arg = arg };
        mb->tail = &mb->head;
        pthread_mutex_init(&mb->lock, NULL);
}

void
mailbox_release(struct mailbox *mb)
{
        pthread_mutex_destroy(&mb->lock);
}

int
mailbox_post(struct mailbox *mb, struct mail *m)
{
        int r = 0;

        pthread_mutex_lock(&mb->lock);
        if (mb->is_closed) {
                r = -ESHUTDOWN;
        } else {
                bool was_empty = mb->head == NULL;

                m->next = NULL;
                *mb->tail = m;
                mb->tail = &m->next;
                /* Under the lock: the reader takes down what wake() uses only after it saw the mailbox
                 * closed, and by then no poster is in here. */
                if (was_empty)
                        mb->wake(mb->arg);
        }
        pthread_mutex_unlock(&mb->lock);
        return r;
}

void
mailbox_close(struct mailbox *mb)
{
        pthread_mutex_lock(&mb->lock);
        if (!mb->is_closed) {
                mb->is_closed = true;
                mb->wake(mb->arg);
        }
        pthread_mutex_unlock(&mb->lock);
}

bool
mailbox_drain(struct mailbox *mb)
{
        struct mail *m, *next;
        bool is_closed;

        pthread_mutex_lock(&mb->lock);
        m = mb->head;
        mb->head = NULL;
        mb->tail = &mb->head;
        is_closed = mb->is_closed;
        pthread_mutex_unlock(&mb->lock);
        for (; m != NULL; m = next) {
                next = m->next;
                m->run(m);
        }
        return is_closed;
}
