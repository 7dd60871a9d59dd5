#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "lease/lease.h"

#define STATIC_TERM 1 /* there is never another holder */

struct static_lease {
        struct lease base;
        bool is_primary;
        struct lease_state state;
};

static int
static_read(struct lease *l, struct lease_state *ret, struct err *e)
{
        (void)e;
        *ret = ((struct static_lease *)l)->state;
        return 0;
}

static int
static_acquire(struct lease *l, const struct lease_state *seen, uint64_t min_term,
               struct lease_state *ret, struct err *e)
{
        struct static_lease *s = (struct static_lease *)l;

        (void)seen;
        (void)min_term;
        *ret = s->state;
        if (s->is_primary)
                return 0;
        return err_text(e, E_NOT_PRIMARY, "the static lease names %s as the primary",
                        s->state.hostname[0] != '\0' ? s->state.hostname : "another node");
}

static int
static_renew(struct lease *l, struct err *e)
{
        struct lease_state state;

        return static_acquire(l, NULL, 0, &state, e);
}

static void
static_release(struct lease *l)
{
        (void)l;
}

static int
static_break_stale(struct lease *l, const struct lease_state *seen, struct err *e)
{
        (void)l;
        (void)seen;
        return err_text(e, -ENOTSUP, "static lease cannot pass to another node");
}

static int
static_offer(struct lease *l, char token[LEASE_SESSION_SIZE], struct err *e)
{
        (void)l;
        (void)token;
        return err_text(e, -ENOTSUP, "static lease does not support handoff");
}

static void
static_withdraw(struct lease *l, const char *token, uint64_t term)
{
        (void)l;
        (void)token;
        (void)term;
}

static int
static_take_over(struct lease *l, const char *token, uint64_t min_term, struct lease_state *ret,
                 struct err *e)
{
        (void)l;
        (void)min_term;
        (void)token;
        (void)ret;
        return err_text(e, -ENOTSUP, "static lease does not support handoff");
}

static int
static_get_cluster_id(struct lease *l, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        (void)l;
        (void)e;
        ret[0] = '\0';
        return 0;
}

static int
static_put_cluster_id(struct lease *l, const char *id, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e)
{
        (void)l;
        (void)id;
        (void)ret;
        return err_text(e, -ENOTSUP, "static lease keeps no cluster id");
}

static int
static_get_heir(struct lease *l, char ret[LEASE_SESSION_SIZE], struct err *e)
{
        (void)l;
        (void)e;
        ret[0] = '\0';
        return 0;
}

static int
static_raise_term(struct lease *l, const struct lease_state *seen, uint64_t term, struct err *e)
{
        (void)l;
        (void)seen;
        (void)term;
        return err_text(e, -ENOTSUP, "static lease keeps no term");
}

static int
static_watch(struct lease *l, const struct lease_state *held, struct err *e)
{
        (void)l;
        (void)held;
        return err_text(e, -ENOTSUP, "static lease cannot be lost");
}

static int64_t
static_deadline_ms(struct lease *l)
{
        return ((struct static_lease *)l)->is_primary ? INT64_MAX : INT64_MIN;
}

static void
static_free(struct lease *l)
{
        free(l);
}

static const struct lease_ops static_ops = {
        .read = static_read,
        .acquire = static_acquire,
        .renew = static_renew,
        .release = static_release,
        .break_stale = static_break_stale,
        .offer = static_offer,
        .withdraw = static_withdraw,
        .take_over = static_take_over,
        .get_cluster_id = static_get_cluster_id,
        .put_cluster_id = static_put_cluster_id,
        .get_heir = static_get_heir,
        .raise_term = static_raise_term,
        .watch = static_watch,
        .deadline_ms = static_deadline_ms,
        .free = static_free,
};

int
lease_static_new(bool is_primary, const char *hostname, const char *advertise_url, struct lease **ret)
{
        struct static_lease *s = calloc(1, sizeof *s);

        if (s == NULL)
                return -ENOMEM;
        s->base.ops = &static_ops;
        s->base.type = "static";
        s->is_primary = is_primary;
        s->state.has_holder = true;
        s->state.term = STATIC_TERM;
        snprintf(s->state.hostname, sizeof s->state.hostname, "%s", hostname != NULL ? hostname : "");
        snprintf(s->state.advertise_url, sizeof s->state.advertise_url, "%s",
                 advertise_url != NULL ? advertise_url : "");
        *ret = &s->base;
        return 0;
}
