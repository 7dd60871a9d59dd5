#include "base/pacer.h"

#include <time.h>

#include "base/monotonic.h"
#include "base/thread.h"

#define REST_MIN_MS 1
#define REST_MAX_MS 1000

void
pacer_init(struct pacer *p)
{
        *p = (struct pacer){ 0 };
        pthread_mutex_init(&p->lock, NULL);
        thread_cond_init(&p->wake);
}

void
pacer_release(struct pacer *p)
{
        pthread_cond_destroy(&p->wake);
        pthread_mutex_destroy(&p->lock);
}

void
pacer_begin(struct pacer *p)
{
        p->began_ms = monotonic_ms();
}

bool
pacer_rest(struct pacer *p, int64_t ms)
{
        struct timespec until = monotonic_after_ms(ms);
        bool goes_on;

        pthread_mutex_lock(&p->lock);
        while (!p->is_stopping && pthread_cond_timedwait(&p->wake, &p->lock, &until) == 0)
                ;
        goes_on = !p->is_stopping;
        pthread_mutex_unlock(&p->lock);
        pacer_begin(p);
        return goes_on;
}

bool
pacer_rest_from_work(struct pacer *p, int factor)
{
        int64_t ms = (monotonic_ms() - p->began_ms) * factor;

        return pacer_rest(p, ms < REST_MIN_MS ? REST_MIN_MS : ms > REST_MAX_MS ? REST_MAX_MS : ms);
}

void
pacer_stop(struct pacer *p)
{
        pthread_mutex_lock(&p->lock);
        p->is_stopping = true;
        pthread_cond_signal(&p->wake);
        pthread_mutex_unlock(&p->lock);
}
