#include "cmd/litefs/pulse.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/workers.h"
#include "fuse/ask.h"
#include "net/loop.h"
#include "repl/node.h"

#define BEAT_MS 1000

/* The loop's thread, but for the atomics. */
struct pulse {
        struct pulse_config config;
        struct loop_timer *timer; /* NULL before the start and after the stop */
        struct work question;
        struct mail wake;
        size_t turn; /* the asker's */
        size_t n_calm; /* answers since something last happened; as many as directories: all have been asked */
        bool is_asking;
        unsigned n_beats; /* without an answer: a process that stood still itself has not counted */
        atomic_size_t n_directories;
        atomic_bool has_answer, is_silent;
        atomic_bool is_disturbed; /* by a request, since the last question */
        atomic_bool is_asleep;    /* until then there is no timer */
};

static void
pulse_ask(struct work *w)
{
        struct pulse *p = (struct pulse *)((char *)w - offsetof(struct pulse, question));

        atomic_store(&p->n_directories, session_ask(p->config.session, p->turn++));
        atomic_store(&p->has_answer, true);
}

static void
fall_silent(struct pulse *p)
{
        struct node_status st;

        node_get_status(p->config.node, &st);
        atomic_store(&p->is_silent, true);
        log_error("the mount %s has not answered for %d s%s", p->config.mount_dir, PULSE_SILENT_S,
                  st.is_primary && st.lease_ms >= 0 ? ": this node gives its lease up" : "");
        node_set_able(p->config.node, false);
        p->config.changed(p->config.arg, true);
}

static void
recover(struct pulse *p)
{
        atomic_store(&p->is_silent, false);
        log_info("the mount %s answers again", p->config.mount_dir);
        node_set_able(p->config.node, true);
        p->config.changed(p->config.arg, false);
}

static void
pulse_on_answer(struct pulse *p)
{
        p->is_asking = false;
        p->n_beats = 0;
        if (atomic_load(&p->is_silent))
                recover(p);
        p->n_calm = atomic_exchange(&p->is_disturbed, false) ? 0 : p->n_calm + 1;
}

static void
pulse_on_request(void *arg)
{
        struct pulse *p = arg;

        atomic_store(&p->is_disturbed, true);
        if (atomic_exchange(&p->is_asleep, false) && loop_post(node_loop(p->config.node), &p->wake) < 0)
                return; /* the node ends */
}

static void
begin_question(struct pulse *p)
{
        p->is_asking = true;
        atomic_store(&p->has_answer, false);
        session_await_request(p->config.session, pulse_on_request, p);
        p->question = (struct work){ pulse_ask, NULL };
        workers_post(p->config.asker, &p->question);
}

/* Until a request comes. True unless one has come already. */
static bool
fall_asleep(struct pulse *p)
{
        bool is_calm = p->n_calm > atomic_load(&p->n_directories); /* and the root */

        if (!is_calm)
                return false;
        atomic_store(&p->is_asleep, true);
        return !atomic_load(&p->is_disturbed) || !atomic_exchange(&p->is_asleep, false);
}

static void
pulse_on_timer(void *arg)
{
        struct pulse *p = arg;

        if (p->is_asking && !atomic_load(&p->has_answer)) {
                if (++p->n_beats == PULSE_SILENT_S * 1000 / BEAT_MS)
                        fall_silent(p);
        } else {
                if (p->is_asking)
                        pulse_on_answer(p);
                if (fall_asleep(p))
                        return;
                begin_question(p);
        }
        loop_timer_start(p->timer, BEAT_MS);
}

static void
pulse_on_wake(struct mail *m)
{
        struct pulse *p = (struct pulse *)((char *)m - offsetof(struct pulse, wake));

        if (p->timer == NULL)
                return;
        p->n_calm = 0;
        loop_timer_start(p->timer, BEAT_MS);
}

int
pulse_new(const struct pulse_config *config, struct pulse **ret, struct err *e)
{
        struct pulse *p = calloc(1, sizeof *p);

        if (p == NULL)
                return err_set(e, -ENOMEM, "watch over the mount");
        p->config = *config;
        p->wake = (struct mail){ pulse_on_wake, NULL };
        *ret = p;
        return 0;
}

static int
pulse_start_on_loop(void *arg)
{
        struct pulse *p = arg;
        int r = loop_timer_new(node_loop(p->config.node), pulse_on_timer, p, &p->timer);

        if (r == 0)
                loop_timer_start(p->timer, 0);
        return r;
}

void
pulse_start(struct pulse *p)
{
        if (loop_call(node_loop(p->config.node), pulse_start_on_loop, p) < 0)
                log_debug("the mount is not watched over: the node ends");
}

bool
pulse_is_silent(const struct pulse *p)
{
        return p != NULL && atomic_load(&p->is_silent);
}

static int
pulse_stop_on_loop(void *arg)
{
        struct pulse *p = arg;

        loop_timer_free(p->timer);
        p->timer = NULL;
        return 0;
}

void
pulse_stop(struct pulse *p)
{
        if (p != NULL)
                (void)loop_call(node_loop(p->config.node), pulse_stop_on_loop, p);
}

void
pulse_free(struct pulse *p)
{
        free(p);
}
