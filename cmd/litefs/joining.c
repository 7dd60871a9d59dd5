#include "cmd/litefs/joining.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "cmd/litefs/config.h"
#include "http/api.h"
#include "repl/node.h"

#define READY_MS 10000
#define PROMOTE_MS 10000
#define PRIMARY_MS 500 /* from the primary's answer until this node leads, as a rule far less */

/* An application that will write, as lease.promote says, finds neither its data nor its part before. */
static void
wait_for_data(const struct config *c, struct node *node, bool wants_lease,
              const atomic_bool *is_stopping)
{
        if (node_wait_ready(node, READY_MS))
                return;
        if (!wants_lease) {
                log_warn("no primary is known yet, or not all of its data is here; going on");
                return;
        }
        log_warn(
                "no primary is known yet, or not all of its data is here: waiting, as lease.promote is set "
                "(`litefs status` says for what); %s",
                c->n_exec > 0 ? "the application is not started before"
                              : "the node is not ready before");
        while (!atomic_load(is_stopping) && !node_wait_ready(node, READY_MS))
                ;
}

/* The primary may change meanwhile, or be about to: it is asked again. */
static int
take_lease(struct node *node, struct api *api, const atomic_bool *is_stopping, struct err *e)
{
        int64_t end_ms = clock_boot_ms(clock_host()) + PROMOTE_MS;
        struct err why = ERR_INIT;

        while (!node_wait_primary(node, 0)) {
                if (atomic_load(is_stopping))
                        return 0;
                if (clock_boot_ms(clock_host()) >= end_ms)
                        return err_text(e, -ETIMEDOUT, "promote: timed out waiting for promotion%s%s",
                                        why.code != 0 ? ": " : "", why.text);
                why = (struct err)ERR_INIT;
                (void)api_ask_for_lease(api, &why);
                (void)node_wait_primary(node, PRIMARY_MS);
        }
        return 0;
}

int
joining_wait(const struct config *c, struct node *node, struct api *api, const atomic_bool *is_stopping,
             struct err *e)
{
        bool wants_lease = c->lease.promote && c->lease.candidate;

        if (c->skip_sync) {
                log_info("skipping cluster sync, starting immediately");
                return 0;
        }
        wait_for_data(c, node, wants_lease, is_stopping);
        return wants_lease && !atomic_load(is_stopping) ? take_lease(node, api, is_stopping, e) : 0;
}
