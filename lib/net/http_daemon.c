#include "net/http_daemon.h"

#include <errno.h>

static void
on_timeout(uv_timer_t *timer)
{
        http_daemon_run((struct http_daemon *)timer->data);
}

void
http_daemon_run(struct http_daemon *d)
{
        MHD_UNSIGNED_LONG_LONG ms;

        if (d->mhd == NULL)
                return;
        MHD_run(d->mhd);
        if (MHD_get_timeout(d->mhd, &ms) == MHD_YES) {
                uv_update_time(&d->loop->uv);
                uv_timer_start(&d->timer, on_timeout, ms, 0);
        } else {
                uv_timer_stop(&d->timer);
        }
}

void
http_daemon_wake(struct http_daemon *d)
{
        uv_timer_start(&d->timer, on_timeout, 0, 0);
}

static void
on_ready(uv_poll_t *poll, int status, int events)
{
        (void)status;
        (void)events;
        http_daemon_run((struct http_daemon *)poll->data);
}

static void
close_handles(struct loop_item *item)
{
        struct http_daemon *d = (struct http_daemon *)item;

        if (!d->has_handles)
                return;
        d->has_handles = false;
        uv_close((uv_handle_t *)&d->poll, NULL);
        uv_close((uv_handle_t *)&d->timer, NULL);
}

int
http_daemon_start(struct http_daemon *d, struct loop *l, struct MHD_Daemon *mhd)
{
        const union MHD_DaemonInfo *info = MHD_get_daemon_info(mhd, MHD_DAEMON_INFO_EPOLL_FD);
        int r;

        d->item.stop = close_handles;
        d->loop = l;
        d->mhd = mhd;
        r = info == NULL ? -ENOSYS : uv_poll_init(&l->uv, &d->poll, info->epoll_fd);
        if (r < 0)
                return r;
        uv_timer_init(&l->uv, &d->timer);
        d->poll.data = d->timer.data = &d->item;
        d->has_handles = true;
        uv_poll_start(&d->poll, UV_READABLE, on_ready);
        http_daemon_run(d);
        return 0;
}

void
http_daemon_stop(struct http_daemon *d)
{
        close_handles(&d->item);
        if (d->mhd == NULL)
                return;
        MHD_run(d->mhd);
        MHD_stop_daemon(d->mhd);
        d->mhd = NULL;
}
