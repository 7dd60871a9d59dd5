#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "net/http_call.h"

#define BUF_SIZE ((size_t)256 * 1024)

/* A call that waits to be run again. */
struct http_again {
        uv_timer_t timer; /* first */
        struct loop_item item;
        struct http_call *call;
};

void
http_call_suspend(struct http_call *call)
{
        call->is_suspended = true;
        MHD_suspend_connection(call->connection);
}

void
http_call_resume(struct http_call *call)
{
        if (!call->is_suspended)
                return;
        call->is_suspended = false;
        MHD_resume_connection(call->connection);
}

/* Where its jobs run. */
static struct workers *
workers_of_call(const struct http_call *call)
{
        return call->is_trusted ? call->calls->workers : call->calls->visitors;
}

static void
free_again(uv_handle_t *handle)
{
        free(handle);
}

static void
stop_again(struct loop_item *item)
{
        struct http_again *again =
                (struct http_again *)((char *)item - offsetof(struct http_again, item));

        if (!uv_is_closing((uv_handle_t *)&again->timer))
                uv_close((uv_handle_t *)&again->timer, free_again);
}

static void
on_again(uv_timer_t *timer)
{
        struct http_again *again = (struct http_again *)timer;
        struct http_call *call = again->call;

        call->again = NULL;
        stop_again(&again->item);
        workers_post(workers_of_call(call), &call->work);
}

void
http_call_stop_again(struct http_call *call)
{
        if (call->again != NULL)
                stop_again(&call->again->item);
        call->again = NULL;
}

/* The request stays suspended, its job waits for the timer. */
static bool
plan_again(struct http_call *call)
{
        struct loop *l = call->calls->daemon->loop;
        struct http_again *again = call->calls->is_stopping ? NULL : calloc(1, sizeof *again);

        if (again == NULL)
                return false;
        again->item.stop = stop_again;
        again->call = call;
        uv_timer_init(&l->uv, &again->timer);
        again->timer.data = &again->item;
        uv_timer_start(&again->timer, on_again, call->again_ms, 0);
        call->again_ms = 0;
        call->again = again;
        return true;
}

static void
job_done(struct mail *m)
{
        struct http_call *call = (struct http_call *)((char *)m - offsetof(struct http_call, mail));

        if (call->again_ms > 0 && plan_again(call))
                return;
        if (!call->is_trusted)
                call->calls->n_visitors--;
        http_call_resume(call);
        http_daemon_run(call->calls->daemon);
}

static void
run_job(struct work *w)
{
        struct http_call *call = (struct http_call *)((char *)w - offsetof(struct http_call, work));

        call->job(call);
        call->mail = (struct mail){ job_done, NULL };
        (void)loop_post(call->calls->daemon->loop,
                        &call->mail); /* stop waits for us before the loop ends */
}

bool
http_call_start_job(struct http_call *call, void (*job)(struct http_call *call))
{
        if (call->calls->is_stopping)
                return false;
        call->job = job;
        call->work = (struct work){ run_job, NULL };
        http_call_suspend(call);
        http_call_heard(call);
        if (!call->is_trusted)
                call->calls->n_visitors++;
        workers_post(workers_of_call(call), &call->work);
        return true;
}

int
http_call_make_buf(struct http_call *call)
{
        if (call->buf == NULL)
                call->buf = malloc(BUF_SIZE);
        if (call->buf == NULL)
                return -ENOMEM;
        call->buf_capacity = BUF_SIZE;
        return 0;
}

void
http_call_heard(struct http_call *call)
{
        if (call->conn != NULL)
                crowd_set_rank(&call->conn->guest, call->is_proved ? CROWD_KEPT : CROWD_HELD,
                               loop_now_ms(call->calls->daemon->loop));
}
