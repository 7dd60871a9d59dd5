#include "net/conn_move.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/conn_internal.h"
#include "net/conn_state.h"

struct conn_moved {
        int fd; /* -1: it has been taken */
        struct tls *tls;
};

void
conn_moved_free(struct conn_moved *m)
{
        if (m == NULL)
                return;
        if (m->fd >= 0)
                close(m->fd);
        tls_free(m->tls);
        free(m);
}

int
conn_detach(struct conn *c, struct conn_moved **ret)
{
        struct conn_moved *m;
        int fd;

        if (c->state != CONN_OPEN || c->is_ended || conn_queued_bytes(c) > 0)
                return -EBUSY;
        m = calloc(1, sizeof *m);
        if (m == NULL)
                return -ENOMEM;
        fd = conn_dup(c);
        if (fd < 0) {
                free(m);
                return fd;
        }
        m->fd = fd;
        m->tls = c->tls;
        c->tls = NULL; /* so that it says no goodbye */
        conn_close(c);
        *ret = m;
        return 0;
}

static int
open_with(struct conn *c, struct conn_moved *m)
{
        int r = conn_open_tcp(c);

        if (r == 0)
                r = uv_tcp_open(&c->tcp, m->fd);
        if (r < 0)
                return r;
        m->fd = -1;
        c->tls = m->tls;
        m->tls = NULL;
        c->state = CONN_OPEN;
        return 0;
}

int
conn_adopt(struct loop *l, struct conn_moved *m, const struct conn_limits *limits,
           void (*accepted)(void *arg, struct conn *c), void *arg)
{
        struct conn *c;
        int r = conn_new(l, limits, &c);

        if (r == 0) {
                r = open_with(c, m);
                if (r < 0)
                        conn_close_with(c, r);
        }
        conn_moved_free(m);
        if (r < 0)
                return r;
        accepted(arg, c);
        if (!conn_has_handler(c))
                conn_close(c);
        return 0;
}
