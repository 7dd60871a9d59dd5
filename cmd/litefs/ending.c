#include "cmd/litefs/ending.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/monotonic.h"
#include "base/thread.h"
#include "cmd/litefs/stuck.h"

#define LAST_SECONDS 5 /* for the line itself: what reads our log may hang, too */

struct ending {
        void (*last)(void *arg);
        void *arg;
        pthread_t thread;
        pthread_mutex_t lock; /* guards what follows; leaf */
        pthread_cond_t changed;
        const char *part;
        int64_t given_ms; /* negative: no end is asked for, or it may take any time */
        struct timespec until;
        bool is_over;
};

static _Noreturn void
end_by_force(struct ending *x)
{
        char calls[1024];

        alarm(LAST_SECONDS);
        x->last(x->arg);
        stuck_describe(calls, sizeof calls);
        log_error(
                "litefs was told to stop and has not ended within %g s: it waits for %s%s%s; it is ended by force. What "
                "was acknowledged is in the log",
                (double)x->given_ms / 1000, x->part, calls[0] != '\0' ? ", while " : "", calls);
        _exit(1);
}

static void *
count_down(void *arg)
{
        struct ending *x = arg;
        int r = 0;

        pthread_mutex_lock(&x->lock);
        while (!x->is_over && r != ETIMEDOUT) {
                struct timespec until = x->until;

                if (x->given_ms < 0)
                        pthread_cond_wait(&x->changed, &x->lock);
                else
                        r = pthread_cond_timedwait(&x->changed, &x->lock, &until);
        }
        if (!x->is_over)
                end_by_force(x);
        pthread_mutex_unlock(&x->lock);
        return NULL;
}

int
ending_new(void (*last)(void *arg), void *arg, struct ending **ret)
{
        struct ending *x = calloc(1, sizeof *x);
        int r;

        if (x == NULL)
                return -ENOMEM;
        x->last = last;
        x->arg = arg;
        x->given_ms = -1;
        pthread_mutex_init(&x->lock, NULL);
        thread_cond_init(&x->changed);
        r = thread_start(&x->thread, count_down, x);
        if (r < 0) {
                pthread_cond_destroy(&x->changed);
                pthread_mutex_destroy(&x->lock);
                free(x);
                return r;
        }
        *ret = x;
        return 0;
}

void
ending_allow(struct ending *x, const char *part, int64_t ms)
{
        pthread_mutex_lock(&x->lock);
        x->part = part;
        x->given_ms = ms;
        x->until = monotonic_after_ms(ms > 0 ? ms : 0);
        pthread_cond_signal(&x->changed);
        pthread_mutex_unlock(&x->lock);
}

void
ending_at(struct ending *x, const char *part)
{
        pthread_mutex_lock(&x->lock);
        x->part = part;
        pthread_mutex_unlock(&x->lock);
}

void
ending_free(struct ending *x)
{
        if (x == NULL)
                return;
        pthread_mutex_lock(&x->lock);
        x->is_over = true;
        pthread_cond_signal(&x->changed);
        pthread_mutex_unlock(&x->lock);
        pthread_join(x->thread, NULL);
        pthread_cond_destroy(&x->changed);
        pthread_mutex_destroy(&x->lock);
        free(x);
}
