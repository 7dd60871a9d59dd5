#include "store/housekeeper.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/monotonic.h"
#include "base/thread.h"

#define PAUSE_MS 500 /* between being asked and running: gathers what comes in a burst */

struct housekeeper {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        bool is_asked;
        bool is_stopping;
        bool has_thread; /* of who starts and stops it */
        int64_t interval_ms;
        bool (*run)(void *arg, bool is_interval);
        void *arg;
        pthread_t thread;
};

static void
housekeeper_wait_until(struct housekeeper *h, int64_t at_ms)
{
        struct timespec ts = monotonic_timespec(at_ms);

        pthread_cond_timedwait(&h->wake, &h->lock, &ts);
}

/* Sleeps until a call is due: true, or false when the thread is to end. With the lock. */
static bool
wait_for_call(struct housekeeper *h, int64_t interval_at)
{
        int64_t pause_until;

        while (!h->is_asked && !h->is_stopping && monotonic_ms() < interval_at) {
                if (h->interval_ms > 0)
                        housekeeper_wait_until(h, interval_at);
                else
                        pthread_cond_wait(&h->wake, &h->lock);
        }
        pause_until = monotonic_ms() + PAUSE_MS;
        while (!h->is_stopping && monotonic_ms() < pause_until)
                housekeeper_wait_until(h, pause_until);
        return !h->is_stopping;
}

static void *
run_housekeeper(void *arg)
{
        struct housekeeper *h = arg;
        int64_t interval_at = h->interval_ms > 0 ? monotonic_ms() + h->interval_ms : INT64_MAX;

        pthread_mutex_lock(&h->lock);
        while (wait_for_call(h, interval_at)) {
                bool is_interval = monotonic_ms() >= interval_at, wants_more;

                if (is_interval)
                        interval_at = monotonic_ms() + h->interval_ms;
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
release_housekeeper(struct housekeeper *h)
{
        pthread_cond_destroy(&h->wake);
        pthread_mutex_destroy(&h->lock);
        free(h);
}

int
housekeeper_new(int64_t interval_ms, bool (*run)(void *, bool), void *arg, struct housekeeper **ret)
{
        struct housekeeper *h = calloc(1, sizeof *h);
        int r;

        if (h == NULL)
                return -ENOMEM;
        h->interval_ms = interval_ms;
        h->run = run;
        h->arg = arg;
        pthread_mutex_init(&h->lock, NULL);
        thread_cond_init(&h->wake);
        r = thread_start(&h->thread, run_housekeeper, h);
        if (r < 0) {
                release_housekeeper(h);
                return r;
        }
        h->has_thread = true;
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
housekeeper_stop(struct housekeeper *h)
{
        if (h == NULL || !h->has_thread)
                return;
        pthread_mutex_lock(&h->lock);
        h->is_stopping = true;
        pthread_cond_signal(&h->wake);
        pthread_mutex_unlock(&h->lock);
        pthread_join(h->thread, NULL);
        h->has_thread = false;
}

void
housekeeper_free(struct housekeeper *h)
{
        housekeeper_stop(h);
        if (h != NULL)
                release_housekeeper(h);
}
