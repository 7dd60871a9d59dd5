#include "repl/role.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

#define READ_MAX_MS 1000    /* how often the lease is looked at, at the least */
#define BEHIND_WAIT_MS 2000 /* how long a candidate that is behind leaves a free lease to the others */
#define RETRY_MS 100
#define LOWER_TERM_MS 5000
#define REFUSED_MS 1000      /* after a refusal that has its cause in this node's data */
#define LAST_WORDS_MS 300    /* how long a stream is read on after nobody holds the lease */
#define STATIC_READ_MS 60000 /* nothing changes there */

void
role_init(struct role *r, const struct role_config *config)
{
        *r = (struct role){ .config = *config, .state = ROLE_START };
}

/* --- what comes next --- */

static int64_t
read_interval(const struct role *r)
{
        int64_t ms = r->config.ttl_ms / 10;

        if (r->config.ttl_ms == 0)
                return STATIC_READ_MS;
        return ms > READ_MAX_MS ? READ_MAX_MS : ms < RETRY_MS ? RETRY_MS : ms;
}

static void
ask(struct role *r, enum role_request what)
{
        if (r->has_request || r->state == ROLE_STOPPED)
                return;
        r->has_request = true;
        r->request = what;
        r->config.ops->request(r->config.arg, what, &r->holder);
}

static int64_t
earlier(int64_t a, int64_t b)
{
        return a < b ? a : b;
}

static void
set_timer(struct role *r)
{
        /* A request that is out goes on by its answer. */
        int64_t at = r->has_request ? INT64_MAX : r->next_read_ms;

        if (r->state == ROLE_PRIMARY)
                at = earlier(r->has_request ? INT64_MAX : r->next_renew_ms,
                             r->config.ops->deadline_ms(r->config.arg));
        else if (r->state == ROLE_FOLLOWING && !r->is_connected)
                at = earlier(at, r->next_connect_ms);
        if (r->state != ROLE_STOPPED)
                r->config.ops->wake(r->config.arg, at);
}

static void
set_state(struct role *r, enum role_state state)
{
        static const char *const names[] = { "start",     "waiting", "following",
                                             "acquiring", "primary", "stopped" };

        if (r->state == state)
                return;
        log_debug("role: %s -> %s, term %llu", names[r->state], names[state],
                  (unsigned long long)r->term);
        r->state = state;
}

static bool
is_self(const struct role *r, const struct lease_state *holder)
{
        return strcmp(holder->advertise_url, r->config.advertise_url) == 0 &&
               strcmp(holder->hostname, r->config.hostname) == 0;
}

static void
leave_primary(struct role *r, int64_t now_ms)
{
        r->holder.has_holder = false;
        set_state(r, ROLE_WAITING);
        r->next_read_ms = now_ms;
        r->config.ops->changed(r->config.arg, false, NULL);
}

static void
stop_following(struct role *r)
{
        if (r->state != ROLE_FOLLOWING)
                return;
        r->is_connected = false;
        set_state(r, ROLE_WAITING);
        r->config.ops->follow(r->config.arg, NULL);
}

/* A candidate that knows of transactions which it lacks leaves the lease to one that may have them, for a while. */
static bool
may_acquire(const struct role *r, int64_t now_ms)
{
        if (!r->config.is_candidate || now_ms < r->no_acquire_until_ms)
                return false;
        return !r->is_behind || now_ms - r->free_since_ms >= BEHIND_WAIT_MS;
}

/* Somebody else may have it since the lease was free the last time. */
static void
note_free(struct role *r, int64_t now_ms, bool is_free)
{
        if (!is_free)
                r->free_since_ms = 0;
        else if (r->free_since_ms == 0)
                r->free_since_ms = now_ms;
}

/* --- the lease as it was read --- */

/* Whether the holder has fenced itself for sure: its mark has not moved for its own TTL. */
static bool
is_stale(struct role *r, int64_t now_ms, const struct lease_state *s)
{
        if (r->mark_since_ms == 0 || s->renewal != r->mark_renewal ||
            strcmp(s->session, r->mark_session) != 0) {
                r->mark_since_ms = now_ms;
                r->mark_renewal = s->renewal;
                memcpy(r->mark_session, s->session, sizeof r->mark_session);
                return false;
        }
        return s->ttl_ms > 0 && now_ms - r->mark_since_ms > s->ttl_ms;
}

static void
begin_following(struct role *r, int64_t now_ms, const struct lease_state *s)
{
        r->holder = *s;
        r->is_connected = false;
        r->n_failures = 0;
        r->next_connect_ms = now_ms + r->config.reconnect_ms;
        set_state(r, ROLE_FOLLOWING);
        r->config.ops->changed(r->config.arg, false, s);
        r->config.ops->follow(r->config.arg, s);
}

/* Once each time. */
static void
warn_of_lower_term(struct role *r, int64_t now_ms, const struct lease_state *s)
{
        if (r->lower_since_ms == 0)
                r->lower_since_ms = now_ms;
        if (r->lower_since_ms < 0 || now_ms - r->lower_since_ms < LOWER_TERM_MS)
                return;
        r->lower_since_ms = -1;
        log_warn(
                "%s leads in term %llu, and this node was in term %llu already: the lease service has lost its data, or "
                "is another one, and this node does not follow. Stop it, delete `term` in its data directory and "
                "start it; what it has and the cluster does not is set aside",
                s->hostname, (unsigned long long)s->term, (unsigned long long)r->term);
}

static void
on_holder(struct role *r, int64_t now_ms, const struct lease_state *s)
{
        bool is_other = r->state != ROLE_FOLLOWING || s->term != r->holder.term ||
                        strcmp(s->advertise_url, r->holder.advertise_url) != 0;
        bool is_free = is_stale(r, now_ms, s);

        note_free(r, now_ms, is_free);
        if (is_free && may_acquire(r, now_ms)) {
                log_info("the primary %s has not renewed its lease for %lld ms: taking its place",
                         s->hostname, (long long)(now_ms - r->mark_since_ms));
                r->holder = *s;
                ask(r, ROLE_BREAK);
                return;
        }
        if (r->config.ttl_ms > 0 && is_self(r, s)) { /* of an earlier run: wait until it is gone */
                r->holder = *s;
                return;
        }
        if (s->term < r->term) { /* read before it changed hands, if it does not stay so */
                warn_of_lower_term(r, now_ms, s);
                return;
        }
        r->lower_since_ms = 0;
        r->term = s->term;
        if (is_other)
                begin_following(r, now_ms, s);
        else
                r->holder = *s;
}

static void
on_nobody(struct role *r, int64_t now_ms)
{
        r->mark_since_ms = 0;
        note_free(r, now_ms, true);
        if (r->state == ROLE_FOLLOWING && r->is_connected) {
                /* The holder has just released or lost it, and its stream says so, after its last transactions.
                 * Unless the holder stands still: then it says nothing. */
                r->next_read_ms = now_ms + RETRY_MS;
                if (now_ms - r->free_since_ms < LAST_WORDS_MS)
                        return;
        }
        stop_following(r);
        r->holder.has_holder = false;
        r->config.ops->changed(r->config.arg, false, NULL);
        if (may_acquire(r, now_ms)) {
                set_state(r, ROLE_ACQUIRING);
                ask(r, ROLE_ACQUIRE);
        } else if (r->config.is_candidate) {
                r->next_read_ms = now_ms + RETRY_MS;
        }
}

/* --- events --- */

void
role_begin(struct role *r, int64_t now_ms)
{
        set_state(r, ROLE_WAITING);
        r->next_read_ms = now_ms;
        if (r->config.ttl_ms == 0 &&
            r->config.is_candidate) { /* static: the configuration has decided */
                set_state(r, ROLE_ACQUIRING);
                ask(r, ROLE_ACQUIRE);
                return;
        }
        role_timer(r, now_ms);
}

void
role_timer(struct role *r, int64_t now_ms)
{
        if (r->state == ROLE_STOPPED)
                return;
        if (r->state == ROLE_PRIMARY) {
                int64_t deadline_ms = r->config.ops->deadline_ms(r->config.arg);

                if (now_ms >= deadline_ms) {
                        log_warn(
                                "the lease could not be renewed in time: this node is no longer the primary");
                        leave_primary(r, now_ms);
                        r->owes_release = deadline_ms != INT64_MIN; /* else it was given up already */
                } else if (now_ms >= r->next_renew_ms && r->config.ttl_ms > 0 && !r->has_request) {
                        r->next_renew_ms = now_ms + r->config.ttl_ms / 4;
                        ask(r, ROLE_RENEW);
                }
        }
        if (r->state == ROLE_FOLLOWING && !r->is_connected && now_ms >= r->next_connect_ms) {
                r->next_connect_ms = INT64_MAX;
                r->config.ops->follow(r->config.arg, &r->holder);
        }
        /* A renewal that was under way may have succeeded after all: nobody would get the lease for a TTL. */
        if (r->owes_release && !r->has_request) {
                r->owes_release = false;
                ask(r, ROLE_RELEASE);
        }
        if (r->state != ROLE_PRIMARY && now_ms >= r->next_read_ms && !r->has_request) {
                r->next_read_ms = now_ms + read_interval(r);
                ask(r, r->wants_take_over ? ROLE_TAKE_OVER : ROLE_READ);
                r->wants_take_over = false;
        }
        set_timer(r);
}

static void
become_primary(struct role *r, int64_t now_ms, const struct lease_state *s)
{
        stop_following(r);
        r->holder = *s;
        r->term = s->term;
        r->is_behind = false;
        r->owes_release = false;
        r->free_since_ms = 0;
        r->next_renew_ms = r->config.ttl_ms > 0 ? now_ms + r->config.ttl_ms / 4 : INT64_MAX;
        set_state(r, ROLE_PRIMARY);
        r->config.ops->changed(r->config.arg, true, s);
}

static void
on_read(struct role *r, int64_t now_ms, int code, const struct lease_state *s)
{
        if (r->state == ROLE_PRIMARY)
                return;
        if (code < 0)
                return; /* not known: what we follow, we follow */
        if (s->has_holder)
                on_holder(r, now_ms, s);
        else
                on_nobody(r, now_ms);
}

void
role_answered(struct role *r, int64_t now_ms, int code, const struct lease_state *state)
{
        enum role_request what = r->request;

        r->has_request = false;
        if (r->state == ROLE_STOPPED)
                return;
        switch (what) {
        case ROLE_READ:
                on_read(r, now_ms, code, state);
                break;
        case ROLE_ACQUIRE:
        case ROLE_TAKE_OVER:
                if (code == 0) {
                        become_primary(r, now_ms, state);
                        break;
                }
                if (r->state == ROLE_ACQUIRING)
                        set_state(r, ROLE_WAITING);
                /* Who was refused in favour of another node looks at once, and not at the same time as others. */
                if ((code == -ESTALE || code == E_CONFIG) &&
                    r->no_acquire_until_ms < now_ms + REFUSED_MS)
                        r->no_acquire_until_ms = now_ms + REFUSED_MS;
                r->next_read_ms = now_ms + (int64_t)(r->config.random % RETRY_MS);
                break;
        case ROLE_RENEW:
                if (code == E_NOT_PRIMARY && r->state == ROLE_PRIMARY) {
                        log_warn("the lease was lost: this node is no longer the primary");
                        leave_primary(r, now_ms);
                } else if (code < 0) {
                        r->next_renew_ms = now_ms + RETRY_MS;
                }
                break;
        case ROLE_BREAK:
                r->mark_since_ms = 0;
                if (code == 0) {
                        stop_following(r);
                        set_state(r, ROLE_ACQUIRING);
                        ask(r, ROLE_ACQUIRE);
                }
                break;
        case ROLE_RELEASE:
                r->next_read_ms = now_ms;
                break;
        }
        role_timer(r, now_ms); /* what had to wait for the answer */
}

void
role_connected(struct role *r, int64_t now_ms, uint64_t term)
{
        (void)now_ms;
        r->is_connected = true;
        r->n_failures = 0;
        if (term > r->term)
                r->term = term;
}

/* Doubled with each failure, half of it by chance, so that replicas do not come all at once. */
static int64_t
back_off(struct role *r)
{
        unsigned doublings = r->n_failures < 10 ? r->n_failures : 10;
        int64_t ms = r->config.reconnect_ms << doublings;

        if (ms > RECONNECT_MAX_MS)
                ms = r->config.reconnect_ms > RECONNECT_MAX_MS ? r->config.reconnect_ms
                                                               : RECONNECT_MAX_MS;
        r->n_failures++;
        r->config.random = r->config.random * 6364136223846793005u + 1442695040888963407u;
        return ms / 2 + (int64_t)((r->config.random >> 33) % (uint64_t)(ms / 2 + 1));
}

void
role_disconnected(struct role *r, int64_t now_ms)
{
        if (r->state != ROLE_FOLLOWING)
                return;
        /* At once: it may have given its lease up in order. And if it is only the stream, soon again. */
        if (r->is_connected)
                r->next_read_ms = now_ms;
        r->is_connected = false;
        r->next_connect_ms = now_ms + back_off(r);
        role_timer(r, now_ms);
}

void
role_set_behind(struct role *r, bool is_behind)
{
        r->is_behind = is_behind;
}

void
role_offered(struct role *r, int64_t now_ms)
{
        if (r->state != ROLE_FOLLOWING || !r->config.is_candidate)
                return;
        r->wants_take_over = true;
        r->next_read_ms = now_ms;
        role_timer(r, now_ms);
}

void
role_demote(struct role *r, int64_t now_ms, int64_t pause_ms)
{
        if (r->state != ROLE_PRIMARY)
                return;
        r->no_acquire_until_ms = now_ms + pause_ms;
        leave_primary(r, now_ms);
        set_timer(r);
}

void
role_regained(struct role *r, int64_t now_ms, const struct lease_state *state)
{
        if (r->state == ROLE_STOPPED)
                return;
        if (r->state == ROLE_PRIMARY) /* what was begun in the old term ends with it */
                leave_primary(r, now_ms);
        become_primary(r, now_ms, state);
        set_timer(r);
}

void
role_stop(struct role *r)
{
        set_state(r, ROLE_STOPPED);
}
