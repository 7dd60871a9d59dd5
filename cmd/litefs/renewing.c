#include "cmd/litefs/renewing.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/pacer.h"
#include "base/thread.h"

struct renewing {
        struct lease *lease;
        struct pacer pacer;
        pthread_t thread;
};

/* Until it is lost, which the node finds out as soon as it starts. */
static void *
run_renewing(void *arg)
{
        struct renewing *r = arg;
        struct lease *l = r->lease;
        int code;

        do {
                struct err e = ERR_INIT;

                code = l->ops->renew(l, &e);
                if (code < 0)
                        log_warn("lease: %s", e.text);
        } while (code != E_NOT_PRIMARY && pacer_rest(&r->pacer, l->ttl_ms / 4));
        return NULL;
}

int
renewing_start(struct lease *l, struct renewing **ret)
{
        struct renewing *r = calloc(1, sizeof *r);
        int error;

        if (r == NULL)
                return -ENOMEM;
        r->lease = l;
        pacer_init(&r->pacer);
        error = thread_start(&r->thread, run_renewing, r);
        if (error < 0) {
                pacer_release(&r->pacer);
                free(r);
                return error;
        }
        *ret = r;
        return 0;
}

void
renewing_end(struct renewing *r)
{
        if (r == NULL)
                return;
        pacer_stop(&r->pacer);
        pthread_join(r->thread, NULL);
        pacer_release(&r->pacer);
        free(r);
}
