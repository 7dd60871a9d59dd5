/* lib/repl/ticker.h - a timer of the loop that any thread may start, and that goes on for as long as it is needed. */
#ifndef LITEFS_REPL_TICKER_H
#define LITEFS_REPL_TICKER_H

#include <pthread.h>

#include "net/loop.h"

struct ticker {
        struct loop *loop;
        struct loop_timer *timer;
        int64_t every_ms;
        bool (*fn)(void *arg); /* on the loop; false: it has nothing left to look after */
        void *arg;
        pthread_mutex_t lock; /* a leaf; guards the two flags */
        bool is_ticking, is_wanted;
        struct mail mail;
};

/* 0 or -ENOMEM. Not from the loop's thread. */
int ticker_init(struct ticker *t, struct loop *loop, int64_t every_ms, bool (*fn)(void *arg), void *arg);
/* Any thread, under any lock. */
void ticker_start(struct ticker *t);
/* When no thread starts it any more and the loop has stopped. Of a zeroed one is fine. */
void ticker_release(struct ticker *t);

#endif
