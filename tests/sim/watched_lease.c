/* The real Consul lease, with an eye on who is granted it. */
#include <stdlib.h>

#include "lease/consul.h"
#include "tests/sim/world.h"

static struct lease *
under(struct lease *l)
{
        return ((struct watched_lease *)l)->under;
}

static int
watched_read(struct lease *l, struct lease_state *ret, struct err *e)
{
        return under(l)->ops->read(under(l), ret, e);
}

static int
watched_acquire(struct lease *l, struct lease_state *ret, struct err *e)
{
        int r = under(l)->ops->acquire(under(l), ret, e);

        if (r == 0)
                judge_granted(((struct watched_lease *)l)->m, ret, "");
        return r;
}

static int
watched_renew(struct lease *l, struct err *e)
{
        return under(l)->ops->renew(under(l), e);
}

static void
watched_release(struct lease *l)
{
        under(l)->ops->release(under(l));
}

static int
watched_break(struct lease *l, const struct lease_state *seen, struct err *e)
{
        return under(l)->ops->break_stale(under(l), seen, e);
}

static int
watched_offer(struct lease *l, char token[LEASE_SESSION_SIZE], struct err *e)
{
        int r = under(l)->ops->offer(under(l), token, e);

        if (r == 0)
                judge_offered(((struct watched_lease *)l)->m, token);
        return r;
}

static int
watched_take_over(struct lease *l, const char *token, struct lease_state *ret, struct err *e)
{
        int r = under(l)->ops->take_over(under(l), token, ret, e);

        if (r == 0) {
                ((struct watched_lease *)l)->m->w->n_handoffs++;
                judge_granted(((struct watched_lease *)l)->m, ret, token);
        }
        return r;
}

static int
watched_get_id(struct lease *l, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        return under(l)->ops->get_cluster_id(under(l), ret, e);
}

static int
watched_put_id(struct lease *l, const char *id, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        return under(l)->ops->put_cluster_id(under(l), id, ret, e);
}

static int
watched_get_term(struct lease *l, uint64_t *ret, struct err *e)
{
        return under(l)->ops->get_last_term(under(l), ret, e);
}

static int
watched_put_term(struct lease *l, uint64_t term, struct err *e)
{
        return under(l)->ops->put_last_term(under(l), term, e);
}

static int64_t
watched_deadline(struct lease *l)
{
        return under(l)->ops->deadline_ms(under(l));
}

static void
watched_free(struct lease *l)
{
        under(l)->ops->free(under(l));
}

static const struct lease_ops watched_ops = {
        watched_read,     watched_acquire,   watched_renew,  watched_release, watched_break,
        watched_offer,    watched_take_over, watched_get_id, watched_put_id,  watched_get_term,
        watched_put_term, watched_deadline,  watched_free,
};

void
lease_open(struct machine *m)
{
        struct lease_consul_options o = { .url = "http://consul",
                                          .key = "litefs/primary",
                                          .hostname = m->host.name,
                                          .advertise_url = m->url,
                                          .ttl_ms = m->w->ttl_ms,
                                          .lock_delay_ms = m->w->lock_delay_ms,
                                          .clock = &m->host.clock };

        m->w->consul_net.client_host = &m->host;
        if (lease_consul_new(&o, &m->lease.under, NULL) < 0)
                abort();
        m->lease.base = *m->lease.under;
        m->lease.base.ops = &watched_ops;
        m->lease.m = m;
}
