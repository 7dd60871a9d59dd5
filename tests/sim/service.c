#include "tests/sim/service.h"

#include <stdlib.h>
#include <string.h>

void
service_init(struct service *s, struct sim *sim, enum service_kind kind)
{
        s->sim = s->consul.sim = s->etcd.sim = sim;
        s->kind = kind;
        s->etcd.now.revision = 1;
        /* In use by others: two that counted alike, exchanged while a node takes the lease, could not be told apart. */
        s->etcd.other.revision = 1000;
        bucket_init(&s->bucket, sim);
}

static void
strike_consul(struct consul *c, enum service_trouble what)
{
        static void (*const does[SERVICE_TROUBLES])(struct consul * c) = {
                [SERVICE_ENDS_SESSION] = consul_end_session, [SERVICE_LOSES_KEY] = consul_lose_key,
                [SERVICE_LOSES_TREE] = consul_lose_tree,     [SERVICE_IS_RESTORED] = consul_restore,
                [SERVICE_IS_EMPTIED] = consul_empty,         [SERVICE_IS_EXCHANGED] = consul_exchange
        };

        does[what](c);
}

static void
strike_etcd(struct etcd *d, enum service_trouble what)
{
        static void (*const does[SERVICE_TROUBLES])(struct etcd * d) = {
                [SERVICE_ENDS_SESSION] = etcd_end_lease, [SERVICE_LOSES_KEY] = etcd_lose_key,
                [SERVICE_LOSES_TREE] = etcd_lose_tree,   [SERVICE_IS_RESTORED] = etcd_restore,
                [SERVICE_IS_EMPTIED] = etcd_empty,       [SERVICE_IS_EXCHANGED] = etcd_exchange
        };

        does[what](d);
}

static void
strike_bucket(struct bucket *b, enum service_trouble what)
{
        static void (*const does[SERVICE_TROUBLES])(struct bucket * b) = {
                [SERVICE_ENDS_SESSION] = bucket_lose_holder, [SERVICE_LOSES_KEY] = bucket_lose_holder,
                [SERVICE_LOSES_TREE] = bucket_empty,         [SERVICE_IS_RESTORED] = bucket_restore,
                [SERVICE_IS_EMPTIED] = bucket_empty,         [SERVICE_IS_EXCHANGED] = bucket_exchange
        };

        does[what](b);
}

void
service_strike(struct service *s, enum service_trouble what)
{
        sim_trace(s->sim, NULL, "service: trouble %d", (int)what);
        if (s->kind == SERVICE_CONSUL)
                strike_consul(&s->consul, what);
        else if (s->kind == SERVICE_ETCD)
                strike_etcd(&s->etcd, what);
        else
                strike_bucket(&s->bucket, what);
}

void
service_back_up(struct service *s, int64_t age_us)
{
        if (s->kind == SERVICE_ETCD)
                etcd_back_up(&s->etcd, age_us);
        else if (s->kind == SERVICE_CONSUL)
                consul_back_up(&s->consul, age_us);
        else
                bucket_back_up(&s->bucket, age_us);
}

bool
service_has_backup(const struct service *s)
{
        return s->kind == SERVICE_ETCD     ? s->etcd.old_backup.revision != 0
               : s->kind == SERVICE_CONSUL ? s->consul.old_backup.index != 0
                                           : s->bucket.old_backup.is_there;
}

bool
service_forgets(const struct service *s, enum service_trouble what)
{
        if (s->kind == SERVICE_BUCKET && what == SERVICE_LOSES_TREE)
                return true; /* the counter is in the object */
        return what == SERVICE_IS_RESTORED || what == SERVICE_IS_EMPTIED || what == SERVICE_IS_EXCHANGED;
}

uint64_t
service_last_term(const struct service *s)
{
        if (s->kind == SERVICE_BUCKET)
                return bucket_last_term(&s->bucket);
        return strtoull(s->kind == SERVICE_ETCD ? s->etcd.now.keys[ETCD_TERM].value
                                                : s->consul.now.keys[CONSUL_TERM].value,
                        NULL, 10);
}

static int
ask_consul(struct consul *c, const char *method, const char *path, const char *body, bool may_wait,
           char *ret)
{
        char *now;
        int status = consul_request(c, method, path, body, ret);

        if (status != SERVICE_WAITS || may_wait)
                return status;
        now = strdup(path); /* the question without "until it is another" */
        *strstr(now, "&index=") = '\0';
        status = consul_request(c, method, now, body, ret);
        free(now);
        return status;
}

int
service_request(struct service *s, const struct service_question *q, struct service_answer *ret)
{
        int status;

        ret->body[0] = ret->etag[0] = '\0';
        ret->number = 0;
        if (s->kind == SERVICE_BUCKET)
                return bucket_request(&s->bucket, q->method, q->path, q->body, q->condition, ret->body,
                                      ret->etag);
        if (s->kind == SERVICE_ETCD) {
                status = etcd_request(&s->etcd, q->path + strlen("/v3/"), q->body, ret->body);
                return status == SERVICE_WAITS && !q->may_wait ? SERVICE_IS_SILENT : status;
        }
        status = ask_consul(&s->consul, q->method, q->path + strlen("/v1"), q->body, q->may_wait,
                            ret->body);
        ret->number = s->consul.now.index;
        return status;
}
