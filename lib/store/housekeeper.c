#include "store/housekeeper.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/thread.h"

#define PAUSE_MS 500 /* between being asked and running: gathers what comes in a burst */

struct housekeeper {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        bool is_asked;
        bool is_stopping;
        int64_t interval_ms;
        bool (*run)(void *arg, bool is_interval);
        void *arg;
        pthread_t thread;
};

static int64_t
now_ms(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void
wait_until(struct housekeeper *h, int64_t at_ms)
{
        struct timespec ts = { (time_t)(at_ms / 1000), (long)(at_ms % 1000) * 1000000 };

        pthread_cond_timedwait(&h->wake, &h->lock, &ts);
}

/* Sleeps until a call is due: true, or false when the thread is to end. With the lock. */
static bool
wait_for_call(struct housekeeper *h, int64_t interval_at)
{
        int64_t pause_until;

        while (!h->is_asked && !h->is_stopping && now_ms() < interval_at) {
                if (h->interval_ms > 0)
                        wait_until(h, interval_at);
                else
                        pthread_cond_wait(&h->wake, &h->lock);
        }
        pause_until = now_ms() + PAUSE_MS;
        while (!h->is_stopping && now_ms() < pause_until)
                wait_until(h, pause_until);
        return !h->is_stopping;
}

static void *
run_thread(void *arg)
{
        struct housekeeper *h = arg;
        int64_t interval_at = h->interval_ms > 0 ? now_ms() + h->interval_ms : INT64_MAX;

        pthread_mutex_lock(&h->lock);
        while (wait_for_call(h, interval_at)) {
                bool is_interval = now_ms() >= interval_at, wants_more;

                if (is_interval)
                        interval_at = now_ms() + h->interval_ms;
                h->is_asked = false;
                pthread_mutex_unlock(&h->lock);
                wants_more = h->run(h->arg, is_interval);
                pthread_mutex_lock(&h->lock);
                h->is_asked |= wants_more;
        }
        pthread_mutex_unlock(&h->lock);
        return NULL;
}

static void
release(struct housekeeper *h)
{
        pthread_cond_destroy(&h->wake);
        pthread_mutex_destroy(&h->lock);
        free(h);
}

int
housekeeper_new(int64_t interval_ms, bool (*run)(void *, bool), void *arg, struct housekeeper **ret)
{
        struct housekeeper *h = calloc(1, sizeof *h);
        pthread_condattr_t attr;
        int r;

        if (h == NULL)
                return -ENOMEM;
        h->interval_ms = interval_ms;
        h->run = run;
        h->arg = arg;
        pthread_mutex_init(&h->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&h->wake, &attr);
        pthread_condattr_destroy(&attr);
        r = thread_start(&h->thread, run_thread, h);
        if (r < 0) {
                release(h);
                return r;
        }
        *ret = h;
        return 0;
}

void
housekeeper_ask(struct housekeeper *h)
{
        pthread_mutex_lock(&h->lock);
        if (!h->is_asked) {
                h->is_asked = true;
                pthread_cond_signal(&h->wake);
        }
        pthread_mutex_unlock(&h->lock);
}

void
housekeeper_free(struct housekeeper *h)
{
        if (h == NULL)
                return;
        pthread_mutex_lock(&h->lock);
        h->is_stopping = true;
        pthread_cond_signal(&h->wake);
        pthread_mutex_unlock(&h->lock);
        pthread_join(h->thread, NULL);
        release(h);
}
