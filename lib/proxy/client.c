/* What is done to a client, whatever it is served with. */
#include "proxy/client.h"

enum crowd_rank
client_rank(const struct client *c)
{
        switch (c->state) {
        case CLIENT_HEAD:
                return c->was_served ? CROWD_IDLE : CROWD_NEW;
        case CLIENT_CLOSING:
                return CROWD_IDLE;
        default:
                return c->is_all_read || c->state == CLIENT_TUNNEL ? CROWD_KEPT : CROWD_HELD;
        }
}

void
client_set_state(struct client *c, enum client_state state)
{
        struct proxy *p = c->proxy;

        if (c->state == CLIENT_TUNNEL)
                p->n_tunnels--;
        if (state == CLIENT_TUNNEL)
                p->n_tunnels++;
        if (state != CLIENT_WAITING && !list_is_empty(&c->in_waiters)) {
                list_remove(&c->in_waiters);
                if (atomic_fetch_sub(&p->n_waiting, 1) == 1)
                        asks_clear(p->asks);
        }
        c->state = state;
        conn_set_rank(c->conn, client_rank(c));
}

void
client_send(struct client *c, const void *data, size_t n)
{
        if (c->state == CLIENT_CLOSING)
                return;
        c->n_sent += n;
        gather_write(&c->proxy->gather, c->conn, data, n);
}

void
client_send_up(struct client *c, const void *data, size_t n)
{
        if (c->up != NULL)
                gather_write(&c->proxy->gather, upstream_conn(c->up), data, n);
}

void
client_drop_up(struct client *c)
{
        struct upstream *u = c->up;

        c->up = NULL;
        c->is_up_paused = false;
        if (u == NULL)
                return;
        gather_forget(&c->proxy->gather, upstream_conn(u));
        upstream_drop(u);
}

void
client_abort(struct client *c)
{
        gather_forget(&c->proxy->gather, c->conn);
        client_set_state(c, CLIENT_CLOSING);
        client_drop_up(c);
        conn_close(c->conn);
}

void
client_end_tunnel(struct client *c)
{
        c->is_keep_alive = c->response.is_keep_alive = false;
        client_set_state(c, CLIENT_DONE);
}
