/* lib/net/loop.h in a simulated world: what is posted and what a timer fires are events of the loop's host. */
#include "tests/sim/net.h"

#include <errno.h>
#include <stdlib.h>

#include "tests/sim/threads.h"

#define POST_US 20

struct loop_timer {
        struct loop *loop;
        void (*fn)(void *arg);
        void *arg;
        uint64_t generation; /* of the start that counts */
        int n_events;
        bool is_freed;
};

struct firing {
        struct loop_timer *timer;
        uint64_t generation;
};

int
loop_new(struct loop **ret, struct err *e)
{
        struct loop *l = calloc(1, sizeof *l);

        if (l == NULL)
                return err_set(e, -ENOMEM, "loop");
        l->sim = threads_sim();
        l->host = l->sim->here;
        *ret = l;
        return 0;
}

static void
run_mail(void *arg, bool is_lost)
{
        struct mail *m = arg;

        if (!is_lost)
                m->run(m);
}

int
loop_post(struct loop *l, struct mail *m)
{
        if (l->is_stopped)
                return -ESHUTDOWN;
        sim_post(l->sim, l->host, POST_US, run_mail, m);
        return 0;
}

int
loop_call(struct loop *l, int (*fn)(void *arg), void *arg)
{
        return l->is_stopped ? -ESHUTDOWN : fn(arg);
}

void
loop_stop(struct loop *l)
{
        /* What was posted before still runs. */
        fiber_sleep(l->sim, 1);
        l->is_stopped = true;
        conns_cancel(l);
}

void
loop_free(struct loop *l)
{
        free(l);
}

bool
loop_is_current(const struct loop *l)
{
        (void)l;
        return true;
}

int64_t
loop_now_ms(const struct loop *l)
{
        return host_now_ms(l->host);
}

int
loop_timer_new(struct loop *l, void (*fn)(void *arg), void *arg, struct loop_timer **ret)
{
        struct loop_timer *t = calloc(1, sizeof *t);

        if (t == NULL)
                return -ENOMEM;
        *t = (struct loop_timer){ .loop = l, .fn = fn, .arg = arg };
        *ret = t;
        return 0;
}

static void
fire(void *arg, bool is_lost)
{
        struct firing *f = arg;
        struct loop_timer *t = f->timer;
        bool is_due = !is_lost && !t->is_freed && t->generation == f->generation && !t->loop->is_stopped;

        free(f);
        t->n_events--;
        if (is_due)
                t->fn(t->arg);
        else if (t->is_freed && t->n_events == 0)
                free(t);
}

void
loop_timer_start(struct loop_timer *t, int64_t ms)
{
        struct firing *f = malloc(sizeof *f);
        const struct sim_host *h = t->loop->host;

        if (f == NULL)
                abort();
        *f = (struct firing){ t, ++t->generation };
        t->n_events++;
        sim_post(t->loop->sim, t->loop->host, host_until_us(h, host_now_ms(h) + ms), fire, f);
}

void
loop_timer_cancel(struct loop_timer *t)
{
        t->generation++;
}

void
loop_timer_free(struct loop_timer *t)
{
        if (t == NULL)
                return;
        t->is_freed = true;
        t->generation++;
        if (t->n_events == 0)
                free(t);
}
