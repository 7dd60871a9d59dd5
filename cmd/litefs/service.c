#include "cmd/litefs/service.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/litefs/notifier.h"
#include "cmd/litefs/pulse.h"
#include "net/loop.h"
#include "repl/node.h"
#include "store/store.h"

#define POLL_MS 100 /* until the node is ready */

/* The loop's thread, but for is_stopping. */
struct service {
        const struct notifier *to;
        struct node *node;
        struct store *store;
        const struct pulse *pulse;
        struct loop_timer *timer;
        bool is_mounted, is_impatient;
        bool is_ready; /* and that was told */
        atomic_bool is_stopping;
        char status[400]; /* as it was told */
};

static void
describe(struct service *s, char *buf, size_t size)
{
        struct node_status st;
        struct lease_state holder;

        node_get_status(s->node, &st);
        if (st.is_primary)
                snprintf(buf, size, "primary, term %llu", (unsigned long long)st.term);
        else if (store_primary(s->store, &holder))
                snprintf(buf, size, "replica of %s%s", holder.hostname,
                         st.is_ready ? "" : ", catching up");
        else
                snprintf(buf, size, "no primary is known");
}

static void
tell_status(struct service *s)
{
        char status[sizeof s->status];

        describe(s, status, sizeof status);
        if (strcmp(status, s->status) != 0 && notifier_send(s->to, "STATUS=%s", status))
                memcpy(s->status, status, sizeof status);
}

static void
tell_ready(struct service *s)
{
        struct node_status st;

        node_get_status(s->node, &st);
        if (!s->is_ready && s->is_mounted && (st.is_ready || s->is_impatient))
                s->is_ready = notifier_send(s->to, "READY=1");
}

static void
service_on_timer(void *arg)
{
        struct service *s = arg;
        int64_t next_ms = s->to->watchdog_ms / 3;

        if (!atomic_load(&s->is_stopping)) {
                tell_status(s);
                tell_ready(s);
        }
        if (s->to->watchdog_ms > 0 && !pulse_is_silent(s->pulse))
                (void)notifier_send(s->to, "WATCHDOG=1");
        if (!s->is_ready && (next_ms == 0 || next_ms > POLL_MS))
                next_ms = POLL_MS;
        if (next_ms > 0)
                loop_timer_start(s->timer, next_ms);
}

static void
service_on_role_changed(void *arg)
{
        struct service *s = arg;

        if (!atomic_load(&s->is_stopping))
                tell_status(s);
}

static void
service_on_committed(void *arg, struct db *db)
{
        (void)arg, (void)db;
}

static int
service_start_on_loop(void *arg)
{
        struct service *s = arg;
        struct node_watcher watcher = { .committed = service_on_committed,
                                        .role_changed = service_on_role_changed,
                                        .arg = s };
        int r = loop_timer_new(node_loop(s->node), service_on_timer, s, &s->timer);

        if (r < 0)
                return r;
        node_watch(s->node, &watcher);
        loop_timer_start(s->timer, 0);
        return 0;
}

int
service_new(const struct notifier *to, struct node *node, struct store *store, const struct pulse *pulse,
            struct service **ret, struct err *e)
{
        struct service *s;
        int r;

        *ret = NULL;
        if (to->fd < 0)
                return 0;
        s = calloc(1, sizeof *s);
        if (s == NULL)
                return err_set(e, -ENOMEM, "service manager");
        *s = (struct service){ .to = to, .node = node, .store = store, .pulse = pulse };
        r = loop_call(node_loop(node), service_start_on_loop, s);
        if (r < 0) {
                free(s);
                return err_set(e, r, "service manager");
        }
        *ret = s;
        return 0;
}

static int
set_mounted(void *arg)
{
        struct service *s = arg;

        s->is_mounted = true;
        tell_ready(s);
        return 0;
}

void
service_mounted(struct service *s, bool is_impatient)
{
        if (s == NULL)
                return;
        s->is_impatient = is_impatient;
        (void)loop_call(node_loop(s->node), set_mounted, s);
}

void
service_stopping(struct service *s)
{
        if (s == NULL)
                return;
        atomic_store(&s->is_stopping, true);
        (void)notifier_send(s->to, "STOPPING=1\nSTATUS=shutting down");
}

static int
free_timer(void *arg)
{
        struct service *s = arg;

        loop_timer_free(s->timer);
        s->timer = NULL;
        return 0;
}

void
service_stop(struct service *s)
{
        if (s == NULL)
                return;
        atomic_store(&s->is_stopping, true);
        if (loop_call(node_loop(s->node), free_timer, s) < 0)
                (void)free_timer(s); /* the loop has stopped */
}

void
service_free(struct service *s)
{
        free(s);
}
