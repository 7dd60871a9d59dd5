/* Connections of other nodes' proxies, which come by the node's port: on the thread of the node's loop until they are moved
 * to the proxy's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/conn_move.h"
#include "proxy/node_upgrade.h"
#include "proxy/serve.h"

/* Whoever asks, until the head of the request is whole. */
struct guest {
        struct proxy *proxy;
        struct upgrade head;
};

/* A connection on its way to the proxy's loop. */
struct arrival {
        struct mail mail;
        struct proxy *proxy;
        struct conn_moved *moved;
};

static void
refuse_guest(struct conn *c, int status, const char *why)
{
        char buf[512];

        (void)conn_write(c, buf, upgrade_refuse(&node_upgrade_protocol, status, why, buf, sizeof buf));
        conn_finish(c, PROXY_LINGER_MS);
}

static const struct conn_handler nobody = { NULL };

static void
have_arrived(void *arg, struct conn *c)
{
        struct proxy *p = arg;
        char buf[256];

        if (p->is_draining || conn_join(c, &p->peers) < 0) {
                conn_set_handler(c, &nobody, NULL);
                refuse_guest(c, 503, "this proxy takes no more requests");
                return;
        }
        (void)conn_write(c, buf, upgrade_accept(&node_upgrade_protocol, buf, sizeof buf));
        serve_client(p, c, true);
}

static void
arrive(struct mail *m)
{
        struct arrival *a = LIST_ENTRY(m, struct arrival, mail);

        (void)conn_adopt(a->proxy->loop, a->moved, &proxy_conn_limits, have_arrived, a->proxy);
        free(a);
}

/* False: there is no memory, or no loop any more. */
static bool
move_to_proxy(struct proxy *p, struct conn *c)
{
        struct arrival *a = calloc(1, sizeof *a);

        if (a == NULL || conn_detach(c, &a->moved) < 0) {
                free(a);
                return false;
        }
        a->mail.run = arrive;
        a->proxy = p;
        if (loop_post(p->loop, &a->mail) < 0) {
                conn_moved_free(a->moved);
                free(a);
        }
        return true;
}

static void
judge_guest(struct guest *g, struct conn *c, bool has_more)
{
        struct proxy *p = g->proxy;
        int status = upgrade_check_request(&g->head, &node_upgrade_protocol);

        if (status != 0)
                refuse_guest(c, status, "/proxy is opened by other nodes, with Upgrade: litefs-proxy/1");
        else if (!upgrade_has_token(&g->head, p->config.token))
                refuse_guest(c, 401, "this needs the header Authorization: Bearer TOKEN (http.token)");
        else if (has_more)
                refuse_guest(c, 400, "nothing may follow the request before its answer");
        else if (!atomic_load(&p->is_open) || !move_to_proxy(p, c))
                refuse_guest(c, 503, "this proxy takes no requests now");
}

static void
guest_read(void *arg, struct conn *c, const uint8_t *data, size_t n)
{
        struct guest *g = arg;
        int r = upgrade_feed(&g->head, &data, &n, NULL);

        if (r < 0)
                refuse_guest(c, 400, "the request's head is too long");
        else if (r > 0)
                judge_guest(g, c, n > 0);
}

static void
guest_closed(void *arg, struct conn *c, int code, const struct err *e)
{
        (void)c;
        (void)code;
        (void)e;
        free(arg);
}

static const struct conn_handler guest_handler = { .read = guest_read, .closed = guest_closed };

void
proxy_accept_node(struct proxy *p, struct conn *c)
{
        struct guest *g = calloc(1, sizeof *g);

        if (g == NULL)
                return; /* and the connection is closed */
        g->proxy = p;
        conn_set_handler(c, &guest_handler, g);
}
