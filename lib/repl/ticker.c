#include "repl/ticker.h"

#include <stddef.h>

static void
ticker_on_timer(void *arg)
{
        struct ticker *t = arg;
        bool has_more;

        pthread_mutex_lock(&t->lock);
        t->is_wanted = false;
        pthread_mutex_unlock(&t->lock);
        has_more = t->fn(t->arg);
        pthread_mutex_lock(&t->lock);
        t->is_ticking = has_more || t->is_wanted; /* somebody may have started it meanwhile */
        has_more = t->is_ticking;
        pthread_mutex_unlock(&t->lock);
        if (has_more)
                loop_timer_start(t->timer, t->every_ms);
}

static void
on_start(struct mail *m)
{
        struct ticker *t = (struct ticker *)((char *)m - offsetof(struct ticker, mail));

        loop_timer_start(t->timer, t->every_ms);
}

static int
make_timer(void *arg)
{
        struct ticker *t = arg;

        return loop_timer_new(t->loop, ticker_on_timer, t, &t->timer);
}

int
ticker_init(struct ticker *t, struct loop *loop, int64_t every_ms, bool (*fn)(void *arg), void *arg)
{
        *t = (struct ticker){ .loop = loop, .every_ms = every_ms, .fn = fn, .arg = arg };
        pthread_mutex_init(&t->lock, NULL);
        return loop_call(loop, make_timer, t);
}

void
ticker_start(struct ticker *t)
{
        pthread_mutex_lock(&t->lock);
        t->is_wanted = true;
        if (!t->is_ticking) {
                t->mail = (struct mail){ on_start, NULL };
                t->is_ticking = loop_post(t->loop, &t->mail) == 0;
        }
        pthread_mutex_unlock(&t->lock);
}

void
ticker_release(struct ticker *t)
{
        if (t->loop == NULL)
                return;
        loop_timer_free(t->timer);
        pthread_mutex_destroy(&t->lock);
}
