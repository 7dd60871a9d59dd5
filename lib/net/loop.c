#include "net/loop.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/thread.h"
#include "net/loop_internal.h"

struct loop_timer {
        struct loop_item item;
        uv_timer_t uv;
        bool is_closed;   /* uv has let go of it */
        bool is_released; /* so has the owner */
        void (*fn)(void *arg);
        void *arg;
};

static void
wake(void *arg)
{
        struct loop *l = arg;

        /* Fails only for a handle that is closing, which the mailbox rules out. */
        (void)uv_async_send(&l->wake);
}

static void
stop_handle(uv_handle_t *handle, void *arg)
{
        struct loop *l = arg;

        if (handle != (uv_handle_t *)&l->wake) {
                struct loop_item *item = handle->data;

                item->stop(item);
        }
}

static void
loop_on_wake(uv_async_t *async)
{
        struct loop *l = async->data;

        if (!mailbox_drain(&l->mailbox) || l->is_stopping)
                return;
        l->is_stopping = true;
        uv_walk(&l->uv, stop_handle, l);
        uv_close((uv_handle_t *)&l->wake, NULL);
}

static void *
loop_run_thread(void *arg)
{
        struct loop *l = arg;
        int r;

        thread_become_loop();
        uv_run(&l->uv, UV_RUN_DEFAULT); /* until the last handle is closed */
        r = uv_loop_close(&l->uv);
        assert(r == 0);
        (void)r;
        return NULL;
}

int
loop_new(struct loop **ret, struct err *e)
{
        struct loop *l = calloc(1, sizeof *l);
        int r;

        if (l == NULL)
                return err_set(e, -ENOMEM, "event loop");
        r = uv_loop_init(&l->uv);
        if (r < 0)
                goto fail_init;
        r = uv_async_init(&l->uv, &l->wake, loop_on_wake);
        if (r < 0)
                goto fail_async;
        l->wake.data = l;
        mailbox_init(&l->mailbox, wake, l);
        r = thread_start(&l->thread, loop_run_thread,
                         l); /* no signals: a write to a closed socket is an EPIPE */
        if (r < 0)
                goto fail_thread;
        *ret = l;
        return 0;

fail_thread:
        mailbox_release(&l->mailbox);
        uv_close((uv_handle_t *)&l->wake, NULL);
        uv_run(&l->uv, UV_RUN_DEFAULT);
fail_async:
        uv_loop_close(&l->uv);
fail_init:
        free(l);
        return err_set(e, r, "start the event loop");
}

int
loop_post(struct loop *l, struct mail *m)
{
        return mailbox_post(&l->mailbox, m);
}

struct call {
        struct mail mail;
        int (*fn)(void *arg);
        void *arg;
        int result;
        uv_sem_t done;
};

static void
loop_run_call(struct mail *m)
{
        struct call *c = (struct call *)m;

        c->result = c->fn(c->arg);
        uv_sem_post(&c->done);
}

int
loop_call(struct loop *l, int (*fn)(void *arg), void *arg)
{
        struct call c = { .mail.run = loop_run_call, .fn = fn, .arg = arg };
        int r;

        assert(!loop_is_current(l));
        r = uv_sem_init(&c.done, 0);
        if (r < 0)
                return r;
        r = loop_post(l, &c.mail);
        if (r == 0) {
                uv_sem_wait(&c.done);
                r = c.result;
        }
        uv_sem_destroy(&c.done);
        return r;
}

void
loop_stop(struct loop *l)
{
        assert(!loop_is_current(l));
        mailbox_close(&l->mailbox);
        pthread_join(l->thread, NULL);
}

void
loop_free(struct loop *l)
{
        if (l == NULL)
                return;
        mailbox_release(&l->mailbox);
        free(l);
}

bool
loop_is_current(const struct loop *l)
{
        return pthread_equal(pthread_self(), l->thread);
}

int64_t
loop_now_ms(const struct loop *l)
{
        return (int64_t)uv_now(&l->uv);
}

static void
loop_timer_free_if_let_go(struct loop_timer *t)
{
        if (t->is_closed && t->is_released)
                free(t);
}

static void
loop_timer_closed(uv_handle_t *handle)
{
        struct loop_timer *t = (struct loop_timer *)handle->data;

        t->is_closed = true;
        loop_timer_free_if_let_go(t);
}

static void
stop_timer(struct loop_item *item)
{
        struct loop_timer *t = (struct loop_timer *)item;

        if (!uv_is_closing((uv_handle_t *)&t->uv))
                uv_close((uv_handle_t *)&t->uv, loop_timer_closed);
}

static void
fire(uv_timer_t *handle)
{
        struct loop_timer *t = handle->data;

        t->fn(t->arg);
}

int
loop_timer_new(struct loop *l, void (*fn)(void *arg), void *arg, struct loop_timer **ret)
{
        struct loop_timer *t;

        if (l->is_stopping)
                return -ESHUTDOWN;
        t = calloc(1, sizeof *t);
        if (t == NULL)
                return -ENOMEM;
        t->item.stop = stop_timer;
        t->fn = fn;
        t->arg = arg;
        uv_timer_init(&l->uv, &t->uv); /* cannot fail */
        t->uv.data = t;
        *ret = t;
        return 0;
}

void
loop_timer_start(struct loop_timer *t, int64_t ms)
{
        if (t->is_closed || uv_is_closing((uv_handle_t *)&t->uv))
                return;
        /* The loop's time stands still in a turn; from now is what the caller means. */
        uv_update_time(t->uv.loop);
        uv_timer_start(&t->uv, fire, (uint64_t)(ms > 0 ? ms : 0), 0);
}

void
loop_timer_cancel(struct loop_timer *t)
{
        if (!t->is_closed)
                uv_timer_stop(&t->uv);
}

void
loop_timer_free(struct loop_timer *t)
{
        if (t == NULL)
                return;
        t->is_released = true;
        if (t->is_closed)
                loop_timer_free_if_let_go(t);
        else
                stop_timer(&t->item);
}
