/* The side that is asked. On the thread of the node's loop until the connection is moved to the proxy's. */
#include "proxy/hop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/conn_move.h"
#include "proxy/proxy_internal.h"

static const struct upgrade_protocol protocol = { "/proxy", "litefs-proxy/1" };

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

/* --- who asks --- */

size_t
hop_request(const char *address, const char *token, char buf[HOP_REQUEST_SIZE])
{
        return upgrade_request(&protocol, address, token, buf, HOP_REQUEST_SIZE);
}

int
hop_check_answer(const struct upgrade *u, struct err *e)
{
        switch (upgrade_status(u)) {
        case 503:
                return err_text(e, -EAGAIN, "its proxy takes no requests now");
        case 401:
                return err_text(e, -EACCES,
                                "it wants another token: http.token must be the same on all nodes");
        case 404:
        case 426: /* not one that could be served */
                return err_text(e, -ENOENT, "it has no proxy: proxy.target must be set there");
        default:
                return upgrade_check_response(u, &protocol, e);
        }
}

/* --- who is asked --- */

static void
refuse(struct conn *c, int status, const char *why)
{
        char buf[512];

        (void)conn_write(c, buf, upgrade_refuse(&protocol, status, why, buf, sizeof buf));
        conn_finish(c, PROXY_LINGER_MS);
}

static const struct conn_handler nobody = { NULL };

static void
have_arrived(void *arg, struct conn *c)
{
        struct proxy *p = arg;
        char buf[256];

        if (p->is_draining || p->n_peers >= PROXY_MAX_PEERS) {
                conn_set_handler(c, &nobody, NULL);
                refuse(c, 503, "this proxy takes no more requests");
                return;
        }
        (void)conn_write(c, buf, upgrade_accept(&protocol, buf, sizeof buf));
        client_new(p, c, true);
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
judge(struct guest *g, struct conn *c, bool has_more)
{
        struct proxy *p = g->proxy;
        int status = upgrade_check_request(&g->head, &protocol);

        if (status != 0)
                refuse(c, status, "/proxy is opened by other nodes, with Upgrade: litefs-proxy/1");
        else if (!upgrade_has_token(&g->head, p->config.token))
                refuse(c, 401, "this needs the header Authorization: Bearer TOKEN (http.token)");
        else if (has_more)
                refuse(c, 400, "nothing may follow the request before its answer");
        else if (!atomic_load(&p->is_open) || !move_to_proxy(p, c))
                refuse(c, 503, "this proxy takes no requests now");
}

static void
guest_read(void *arg, struct conn *c, const uint8_t *data, size_t n)
{
        struct guest *g = arg;
        int r = upgrade_feed(&g->head, &data, &n, NULL);

        if (r < 0)
                refuse(c, 400, "the request's head is too long");
        else if (r > 0)
                judge(g, c, n > 0);
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
proxy_accept_hop(struct proxy *p, struct conn *c)
{
        struct guest *g = calloc(1, sizeof *g);

        if (g == NULL)
                return; /* and the connection is closed */
        g->proxy = p;
        conn_set_handler(c, &guest_handler, g);
}
