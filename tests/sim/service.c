#include "tests/sim/service.h"

#include <stdlib.h>
#include <string.h>

void
service_init(struct service *s, struct sim *sim, bool is_etcd)
{
        s->sim = s->consul.sim = s->etcd.sim = sim;
        s->is_etcd = is_etcd;
        s->etcd.now.revision = s->etcd.other.revision = 1;
}

void
service_strike(struct service *s, enum service_trouble what)
{
        struct consul *c = &s->consul;
        struct etcd *d = &s->etcd;

        sim_trace(s->sim, NULL, "service: trouble %d", (int)what);
        switch (what) {
        case SERVICE_ENDS_SESSION:
                s->is_etcd ? etcd_end_lease(d) : consul_end_session(c);
                break;
        case SERVICE_LOSES_KEY:
                s->is_etcd ? etcd_lose_key(d) : consul_lose_key(c);
                break;
        case SERVICE_LOSES_TREE:
                s->is_etcd ? etcd_lose_tree(d) : consul_lose_tree(c);
                break;
        case SERVICE_IS_RESTORED:
                s->is_etcd ? etcd_restore(d) : consul_restore(c);
                break;
        case SERVICE_IS_EMPTIED:
                s->is_etcd ? etcd_empty(d) : consul_empty(c);
                break;
        case SERVICE_IS_EXCHANGED:
                s->is_etcd ? etcd_exchange(d) : consul_exchange(c);
                break;
        case SERVICE_TROUBLES:
                abort();
        }
}

void
service_back_up(struct service *s, int64_t age_us)
{
        if (s->is_etcd)
                etcd_back_up(&s->etcd, age_us);
        else
                consul_back_up(&s->consul, age_us);
}

bool
service_has_backup(const struct service *s)
{
        return s->is_etcd ? s->etcd.old_backup.revision != 0 : s->consul.old_backup.index != 0;
}

bool
service_forgets(enum service_trouble what)
{
        return what == SERVICE_IS_RESTORED || what == SERVICE_IS_EMPTIED || what == SERVICE_IS_EXCHANGED;
}

uint64_t
service_last_term(const struct service *s)
{
        const char *value = s->is_etcd ? s->etcd.now.keys[ETCD_TERM].value
                                       : s->consul.now.keys[CONSUL_TERM].value;

        return strtoull(value, NULL, 10);
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
service_request(struct service *s, const char *method, const char *path, const char *body, bool may_wait,
                char ret[SERVICE_ANSWER_SIZE], uint64_t *ret_number)
{
        int status;

        ret[0] = '\0';
        if (s->is_etcd) {
                status = etcd_request(&s->etcd, path + strlen("/v3/"), body, ret);
                *ret_number = 0;
                return status == SERVICE_WAITS && !may_wait ? SERVICE_IS_SILENT : status;
        }
        status = ask_consul(&s->consul, method, path + strlen("/v1"), body, may_wait, ret);
        *ret_number = s->consul.now.index;
        return status;
}
