/* lib/net/mailbox.h - messages from any thread to one reader.
 *
 * A locked list that wakes the reader when it stops being empty; the reader takes all there is and runs it in
 * the order posted. A message belongs to the poster until it is posted, to its own run() afterwards. Lock
 * rank: a leaf, so posting is allowed under any lock. */
#ifndef LITEFS_NET_MAILBOX_H
#define LITEFS_NET_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>

struct mail {
        void (*run)(struct mail *m); /* on the reader's thread; may free @m */
        struct mail *next;           /* the mailbox's */
};

struct mailbox {
        pthread_mutex_t lock; /* guards the list and is_closed, and is held in wake() */
        struct mail *head;
        struct mail **tail;
        bool is_closed;
        void (*wake)(void *arg); /* must not post */
        void *arg;
};

void mailbox_init(struct mailbox *mb, void (*wake)(void *arg), void *arg);
void mailbox_release(struct mailbox *mb);
/* 0, or -ESHUTDOWN when the mailbox is closed, and then @m is still the caller's. Any thread. */
int mailbox_post(struct mailbox *mb, struct mail *m);
/* No more is taken in; the reader is woken a last time. Any thread; again is fine. */
void mailbox_close(struct mailbox *mb);
/* Runs what was there at the time of the call. True: the mailbox is closed, and nothing will come any more.
 * The reader only. */
bool mailbox_drain(struct mailbox *mb);

#endif
