#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lease/lease.h"

struct static_lease {
        struct lease base;
        bool is_primary;
        char *hostname;
        char *advertise_url;
};

static int
static_acquire(struct lease *l, struct err *e)
{
        struct static_lease *s = (struct static_lease *)l;

        if (s->is_primary)
                return 0;
        return err_text(e, E_NOT_PRIMARY, "the static lease names %s as the primary",
                        s->hostname[0] != '\0' ? s->hostname : "another node");
}

static bool
static_holds(struct lease *l, int64_t boot_ms)
{
        (void)boot_ms; /* for ever */
        return ((struct static_lease *)l)->is_primary;
}

static int
static_holder(struct lease *l, struct lease_holder *ret, struct err *e)
{
        struct static_lease *s = (struct static_lease *)l;

        (void)e;
        *ret = (struct lease_holder){ s->hostname, s->advertise_url };
        return 0;
}

static void
static_release(struct lease *l)
{
        (void)l;
}

static void
static_free(struct lease *l)
{
        struct static_lease *s = (struct static_lease *)l;

        free(s->hostname);
        free(s->advertise_url);
        free(s);
}

static const struct lease_ops static_ops = { static_acquire, static_holds, static_holder, static_release,
                                             static_free };

int
lease_static_new(bool is_primary, const char *hostname, const char *advertise_url, struct lease **ret)
{
        struct static_lease *s = calloc(1, sizeof *s);

        if (s == NULL)
                return -ENOMEM;
        s->base.ops = &static_ops;
        s->is_primary = is_primary;
        s->hostname = strdup(hostname != NULL ? hostname : "");
        s->advertise_url = strdup(advertise_url != NULL ? advertise_url : "");
        if (s->hostname == NULL || s->advertise_url == NULL) {
                static_free(&s->base);
                return -ENOMEM;
        }
        *ret = &s->base;
        return 0;
}
