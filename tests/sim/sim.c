#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define STACK_SIZE (256 * 1024)

struct fiber {
        struct fiber *next;
        struct sim *sim;
        struct sim_host *host;
        void (*fn)(void *arg);
        void *arg;
        struct fiber *resumer; /* NULL: the main stack */
        ucontext_t context, back;
        char *stack;
        bool is_done;
};

/* --- chance --- */

uint64_t
sim_random(struct sim *s)
{
        uint64_t z = (s->random += 0x9e3779b97f4a7c15u);

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
}

int64_t
sim_between(struct sim *s, int64_t from, int64_t to)
{
        return from + (int64_t)(sim_random(s) % (uint64_t)(to - from + 1));
}

bool
sim_chance(struct sim *s, int permille)
{
        return sim_random(s) % 1000 < (uint64_t)permille;
}

/* --- events --- */

static bool
is_before(const struct sim_event *a, const struct sim_event *b)
{
        return a->at_us != b->at_us ? a->at_us < b->at_us : a->seq < b->seq;
}

static void
append(struct sim_events *es, const struct sim_event *ev)
{
        if (es->n == es->capacity) {
                es->capacity = es->capacity == 0 ? 64 : es->capacity * 2;
                es->v = realloc(es->v, es->capacity * sizeof *es->v);
                if (es->v == NULL)
                        abort();
        }
        es->v[es->n++] = *ev;
}

static void
push(struct sim *s, const struct sim_event *ev)
{
        struct sim_events *h = &s->events;
        size_t i = h->n;

        append(h, ev);
        while (i > 0 && is_before(ev, &h->v[(i - 1) / 2])) {
                h->v[i] = h->v[(i - 1) / 2];
                i = (i - 1) / 2;
        }
        h->v[i] = *ev;
}

static struct sim_event
pop(struct sim *s)
{
        struct sim_events *h = &s->events;
        struct sim_event first = h->v[0], last = h->v[--h->n];
        size_t i = 0, child;

        while ((child = 2 * i + 1) < h->n) {
                if (child + 1 < h->n && is_before(&h->v[child + 1], &h->v[child]))
                        child++;
                if (!is_before(&h->v[child], &last))
                        break;
                h->v[i] = h->v[child];
                i = child;
        }
        h->v[i] = last;
        return first;
}

void
sim_post(struct sim *s, struct sim_host *host, int64_t delay_us, sim_fn *fn, void *arg)
{
        struct sim_event ev = { s->now_us + (delay_us > 0 ? delay_us : 0),
                                s->next_seq++,
                                host,
                                host != NULL ? host->incarnation : 0,
                                fn,
                                arg };

        push(s, &ev);
}

bool
sim_step(struct sim *s)
{
        struct sim_event ev;
        bool is_lost;

        s->here = NULL;
        if (s->events.n == 0)
                return false;
        ev = pop(s);
        s->now_us = ev.at_us;
        s->n_steps++;
        is_lost = ev.host != NULL && (!ev.host->is_up || ev.incarnation != ev.host->incarnation);
        if (!is_lost && ev.host != NULL && ev.host->is_paused)
                append(&ev.host->deferred, &ev);
        else {
                s->here = ev.host;
                ev.fn(ev.arg, is_lost);
        }
        return true;
}

void
sim_init(struct sim *s, uint64_t seed, bool is_tracing)
{
        *s = (struct sim){ .seed = seed, .random = seed, .is_tracing = is_tracing };
}

void
sim_release(struct sim *s)
{
        while (s->events.n > 0) {
                struct sim_event ev = pop(s);

                ev.fn(ev.arg, true);
        }
        free(s->events.v);
        while (s->free_fibers != NULL) {
                struct fiber *f = s->free_fibers;

                s->free_fibers = f->next;
                free(f->stack);
                free(f);
        }
}

/* --- words --- */

void
sim_trace(struct sim *s, const struct sim_host *host, const char *fmt, ...)
{
        va_list ap;

        if (!s->is_tracing)
                return;
        fprintf(stderr, "%10.3f %-7s ", (double)s->now_us / 1e6, host != NULL ? host->name : "");
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
        fputc('\n', stderr);
}

void
sim_fail(struct sim *s, const char *fmt, ...)
{
        va_list ap;

        if (s->is_failed)
                return;
        s->is_failed = true;
        va_start(ap, fmt);
        vsnprintf(s->failure, sizeof s->failure, fmt, ap);
        va_end(ap);
        sim_trace(s, NULL, "FAILED: %s", s->failure);
}

/* --- hosts --- */

static int64_t
host_boot_ms(const struct clock *c)
{
        return host_now_ms((const struct sim_host *)c);
}

static int64_t
host_wall_ms(const struct clock *c)
{
        return 1700000000000 + host_boot_ms(c);
}

void
host_init(struct sim_host *h, struct sim *s, const char *name)
{
        *h = (struct sim_host){ .clock = { host_wall_ms, host_boot_ms }, .sim = s };
        snprintf(h->name, sizeof h->name, "%s", name);
}

static void
lose_deferred(struct sim_host *h)
{
        for (size_t i = 0; i < h->deferred.n; i++)
                h->deferred.v[i].fn(h->deferred.v[i].arg, true);
        h->deferred.n = 0;
}

void
host_release(struct sim_host *h)
{
        lose_deferred(h);
        free(h->deferred.v);
}

int64_t
host_now_ms(const struct sim_host *h)
{
        return h->boot_offset_ms + (h->sim->now_us + h->sim->now_us * h->rate_ppm / 1000000) / 1000;
}

int64_t
host_until_us(const struct sim_host *h, int64_t at_ms)
{
        int64_t ms = at_ms - host_now_ms(h);

        return ms <= 0 ? 0 : ms * 1000000000 / (1000000 + h->rate_ppm) + 3; /* never early */
}

void
host_start(struct sim_host *h)
{
        h->is_up = true;
        h->is_dark = false;
        h->is_paused = false;
        h->incarnation++;
}

void
host_pause(struct sim_host *h)
{
        h->is_paused = true;
}

void
host_resume(struct sim_host *h)
{
        h->is_paused = false;
        for (size_t i = 0; i < h->deferred.n; i++) {
                struct sim_event ev = h->deferred.v[i];

                sim_post(h->sim, h, 0, ev.fn, ev.arg);
        }
        h->deferred.n = 0;
}

void
host_kill(struct sim_host *h)
{
        h->is_up = h->is_paused = false;
        h->incarnation++;
        lose_deferred(h);
}

/* --- fibers --- */

static void
main_of_fiber(unsigned high, unsigned low)
{
        struct fiber *f = (struct fiber *)((uintptr_t)high << 32 | (uintptr_t)low);

        for (;;) {
                f->fn(f->arg);
                f->is_done = true;
                swapcontext(&f->context, &f->back);
        }
}

static void
prepare_stack(struct fiber *f)
{
        uintptr_t self = (uintptr_t)f;

        getcontext(&f->context);
        f->context.uc_stack.ss_sp = f->stack;
        f->context.uc_stack.ss_size = STACK_SIZE;
        makecontext(&f->context, (void (*)(void))main_of_fiber, 2, (unsigned)(self >> 32),
                    (unsigned)self);
}

static struct fiber *
get_fiber(struct sim *s)
{
        struct fiber *f = s->free_fibers;

        if (f != NULL) {
                s->free_fibers = f->next;
                return f;
        }
        f = calloc(1, sizeof *f);
        if (f == NULL || (f->stack = malloc(STACK_SIZE)) == NULL)
                abort();
        f->sim = s;
        prepare_stack(f);
        return f;
}

static void
run(struct fiber *f)
{
        struct sim *s = f->sim;
        struct sim_host *here = s->here;

        f->resumer = s->running;
        s->running = f;
        s->here = f->host;
        swapcontext(&f->back, &f->context);
        s->here = here;
        s->running = f->resumer;
        if (f->is_done) {
                f->next = s->free_fibers;
                s->free_fibers = f;
        }
}

void
fiber_start(struct sim *s, struct sim_host *host, void (*fn)(void *arg), void *arg)
{
        struct fiber *f = get_fiber(s);

        f->host = host;
        f->fn = fn;
        f->arg = arg;
        f->is_done = false;
        run(f);
}

struct fiber *
fiber_current(struct sim *s)
{
        return s->running;
}

void
fiber_wait(struct sim *s)
{
        struct fiber *f = s->running;

        swapcontext(&f->context, &f->back);
}

void
fiber_wake(struct sim *s, struct fiber *f)
{
        (void)s;
        run(f);
}

static void
end_sleep(void *arg, bool is_lost)
{
        if (!is_lost)
                run(arg);
}

void
fiber_sleep(struct sim *s, int64_t ms)
{
        sim_post(s, s->running->host, ms * SIM_MS, end_sleep, s->running);
        fiber_wait(s);
}
