/* The real lease, with an eye on who is granted it. */
#include <stdlib.h>

#include "lease/consul.h"
#include "lease/etcd.h"
#include "lease/object.h"
#include "s3/s3.h"
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
watched_acquire(struct lease *l, const struct lease_state *seen, uint64_t min_term,
                struct lease_state *ret, struct err *e)
{
        int r;

        under(l)->claim = l->claim;
        under(l)->claim_arg = l->claim_arg;
        r = under(l)->ops->acquire(under(l), seen, min_term, ret, e);

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

static void
watched_withdraw(struct lease *l, const char *token, uint64_t term)
{
        under(l)->ops->withdraw(under(l), token, term);
}

static int
watched_take_over(struct lease *l, const char *token, uint64_t min_term, struct lease_state *ret,
                  struct err *e)
{
        int r;

        under(l)->claim = l->claim;
        under(l)->claim_arg = l->claim_arg;
        r = under(l)->ops->take_over(under(l), token, min_term, ret, e);

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
watched_get_heir(struct lease *l, char ret[LEASE_SESSION_SIZE], struct err *e)
{
        return under(l)->ops->get_heir(under(l), ret, e);
}

static int
watched_raise_term(struct lease *l, const struct lease_state *seen, uint64_t term, struct err *e)
{
        return under(l)->ops->raise_term(under(l), seen, term, e);
}

static int
watched_watch(struct lease *l, const struct lease_state *held, struct err *e)
{
        return under(l)->ops->watch(under(l), held, e);
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

static const struct lease_ops watched_ops = { .read = watched_read,
                                              .acquire = watched_acquire,
                                              .renew = watched_renew,
                                              .release = watched_release,
                                              .break_stale = watched_break,
                                              .offer = watched_offer,
                                              .withdraw = watched_withdraw,
                                              .take_over = watched_take_over,
                                              .get_heir = watched_get_heir,
                                              .get_cluster_id = watched_get_id,
                                              .put_cluster_id = watched_put_id,
                                              .raise_term = watched_raise_term,
                                              .watch = watched_watch,
                                              .deadline_ms = watched_deadline,
                                              .free = watched_free };

static int
open_consul(struct machine *m)
{
        struct lease_consul_options o = { .url = "http://consul",
                                          .key = "litefs/primary",
                                          .hostname = m->host.name,
                                          .advertise_url = m->url,
                                          .ttl_ms = m->w->ttl_ms,
                                          .lock_delay_ms = m->w->lock_delay_ms,
                                          .clock = &m->host.clock };

        return lease_consul_new(&o, &m->lease.under, NULL);
}

/* By two endpoints: what was asked is asked again when the first does not answer in time. */
static int
open_etcd(struct machine *m)
{
        char first[] = "http://etcd0", second[] = "http://etcd1";
        char *endpoints[] = { first, second };
        struct lease_etcd_options o = { .endpoints = endpoints,
                                        .n_endpoints = 2,
                                        .key = "litefs/primary",
                                        .hostname = m->host.name,
                                        .advertise_url = m->url,
                                        .ttl_ms = m->w->ttl_ms,
                                        .clock = &m->host.clock };

        return lease_etcd_new(&o, &m->lease.under, NULL);
}

static int
open_object(struct machine *m)
{
        const struct s3_options bucket = { .endpoint = "http://bucket",
                                           .access_key_id = "a",
                                           .secret_access_key = "s",
                                           .clock = &m->host.clock };
        struct lease_object_options o = { .url = "s3://b/lease",
                                          .bucket = &bucket,
                                          .hostname = m->host.name,
                                          .advertise_url = m->url,
                                          .ttl_ms = m->w->ttl_ms,
                                          .clock = &m->host.clock };

        return lease_object_new(&o, &m->lease.under, NULL);
}

void
lease_open(struct machine *m)
{
        static int (*const opens[])(struct machine * m) = {
                [SERVICE_CONSUL] = open_consul, [SERVICE_ETCD] = open_etcd, [SERVICE_BUCKET] = open_object
        };

        m->w->service_net.client_host = &m->host;
        if (opens[m->w->service.kind](m) < 0)
                abort();
        m->lease.base = *m->lease.under;
        m->lease.base.ops = &watched_ops;
        m->lease.m = m;
}
