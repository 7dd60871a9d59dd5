#include "repl/role_internal.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

#define READ_RETRY_MAX_MS 2000 /* of a service that does not answer: how late its return may be seen */
#define CHANGE_RETRY_MAX_MS 5000
#define PASSING_MS 2000                    /* how long a planned change may take */
#define REFUSED_MS 1000                    /* after a refusal that has its cause in this node's data */
#define OUTRANKED_MS 3000                  /* and the TTL, that a node with a later term has to lead */
#define HEARD_TERM_MAX ((uint64_t)1 << 53) /* of those that are gone on from */

void
role_init(struct role *r, const struct role_config *config)
{
        *r = (struct role){ .config = *config, .state = ROLE_START };
        if (config->ttl_ms > 0)
                r->term = r->last_complete_term = config->last_complete_term;
        backoff_init(&r->dials, config->reconnect_ms, RECONNECT_MAX_MS, config->random);
        backoff_init(&r->reads, RETRY_MS, READ_RETRY_MAX_MS, config->random + 1);
        backoff_init(&r->changes, RETRY_MS, CHANGE_RETRY_MAX_MS, config->random + 2);
        /* A primary has to have tried several times before its deadline. */
        backoff_init(&r->renewals, RETRY_MS, config->ttl_ms / 8, config->random + 3);
}

/* --- what comes next --- */

static void
set_timer(struct role *r)
{
        /* A request that is out goes on by its answer. */
        int64_t at = r->has_request ? INT64_MAX : r->next_read_ms;

        if (r->state == ROLE_PRIMARY)
                at = role_earlier(r->has_request ? INT64_MAX : r->next_renew_ms,
                                  r->config.ops->deadline_ms(r->config.arg));
        else if (r->state == ROLE_FOLLOWING && !r->is_connected)
                at = role_earlier(at, r->next_connect_ms);
        if (r->regain_until_ms != 0)
                at = role_earlier(at, r->regain_until_ms);
        if (r->state != ROLE_STOPPED)
                r->config.ops->wake(r->config.arg, at);
}

/* --- events --- */

void
role_begin(struct role *r, int64_t now_ms)
{
        if (r->state != ROLE_START) /* stopped before it began */
                return;
        role_set_state(r, ROLE_WAITING);
        r->next_read_ms = now_ms;
        if (r->config.ttl_ms == 0 &&
            r->config.is_candidate) { /* static: the configuration has decided */
                role_set_state(r, ROLE_ACQUIRING);
                role_ask(r, ROLE_ACQUIRE);
                return;
        }
        role_timer(r, now_ms);
}

/* Others hear of it by the word on the stream, and by the release. */
static void
give_up_if_unable(struct role *r, int64_t now_ms)
{
        if (!r->is_unable || r->state != ROLE_PRIMARY || r->config.ttl_ms == 0)
                return;
        role_leave_primary(r, now_ms);
        r->owes_release = true;
}

void
role_timer(struct role *r, int64_t now_ms)
{
        if (r->state == ROLE_STOPPED)
                return;
        give_up_if_unable(r, now_ms);
        if (r->state == ROLE_PRIMARY) {
                int64_t deadline_ms = r->config.ops->deadline_ms(r->config.arg);

                if (now_ms >= deadline_ms) {
                        log_warn(
                                "the lease could not be renewed in time: this node is no longer the primary");
                        role_leave_primary(r, now_ms);
                        r->owes_release = deadline_ms != INT64_MIN; /* else it was given up already */
                } else if (now_ms >= r->next_renew_ms && r->config.ttl_ms > 0 && !r->has_request) {
                        r->next_renew_ms = now_ms + r->config.ttl_ms / 4;
                        role_ask(r, ROLE_RENEW);
                }
        }
        if (r->state == ROLE_FOLLOWING && !r->is_connected && now_ms >= r->next_connect_ms) {
                r->next_connect_ms = INT64_MAX;
                r->config.ops->follow(r->config.arg, &r->holder);
        }
        if (r->regain_until_ms != 0 && now_ms >= r->regain_until_ms)
                role_give_up_regaining(r, now_ms);
        /* A renewal that was under way may have succeeded after all: nobody would get the lease for a TTL. */
        if (r->owes_release && !r->has_request) {
                r->owes_release = false;
                role_ask(r, ROLE_RELEASE);
        }
        if (r->state != ROLE_PRIMARY && now_ms >= r->next_read_ms && !r->has_request) {
                r->next_read_ms = now_ms + role_read_interval(r, now_ms);
                role_ask(r, r->wants_take_over ? ROLE_TAKE_OVER : ROLE_READ);
                r->wants_take_over = false;
        }
        set_timer(r);
}

void
role_go_on(struct role *r, int64_t now_ms, const struct lease_state *state)
{
        if (r->state != ROLE_START)
                return;
        role_set_state(r, ROLE_WAITING);
        role_become_primary(r, now_ms, state);
        r->next_renew_ms = now_ms; /* its time has run on */
        role_timer(r, now_ms);
}

static void
role_on_read(struct role *r, int64_t now_ms, int code, const struct lease_state *s)
{
        if (r->state == ROLE_PRIMARY)
                return;
        if (code < 0) { /* not known: what we follow, we follow */
                r->next_read_ms = role_later(r->next_read_ms, now_ms + backoff_next_ms(&r->reads));
                return;
        }
        backoff_reset(&r->reads);
        if (s->has_holder)
                role_on_holder(r, now_ms, s);
        else
                role_on_nobody(r, now_ms, s);
}

/* A refusal is an answer: that the service does what it is asked is then known, or has nothing to do with it. */
static bool
is_refusal(int code)
{
        return code == E_NOT_PRIMARY || code == -ESTALE || code == E_CONFIG;
}

static void
note_change(struct role *r, int64_t now_ms, int code)
{
        if (code == 0 || code == E_NOT_PRIMARY)
                backoff_reset(&r->changes);
        else if (!is_refusal(code))
                r->no_change_until_ms = now_ms + backoff_next_ms(&r->changes);
}

static void
on_acquired(struct role *r, int64_t now_ms, int code, const struct lease_state *state)
{
        if (code == 0) {
                role_become_primary(r, now_ms, state);
                return;
        }
        if (r->state == ROLE_ACQUIRING)
                role_set_state(r, ROLE_WAITING);
        /* It may be held all the same, by a request whose answer was lost. */
        r->owes_release |= !is_refusal(code);
        role_give_up_regaining(r, now_ms);
        /* Who was refused in favour of another node looks at once, and not at the same time as others. */
        if ((code == -ESTALE || code == E_CONFIG) && r->no_acquire_until_ms < now_ms + REFUSED_MS)
                r->no_acquire_until_ms = now_ms + REFUSED_MS;
        r->next_read_ms = now_ms + (int64_t)(r->config.random % RETRY_MS);
}

static void
on_renewed(struct role *r, int64_t now_ms, int code)
{
        if (code == E_NOT_PRIMARY && r->state == ROLE_PRIMARY) {
                log_warn("the lease was lost before its time");
                role_lose_primary(r, now_ms);
        } else if (code == 0 && r->state == ROLE_PRIMARY) {
                r->own_until_ms = r->config.ops->deadline_ms(r->config.arg);
                backoff_reset(&r->renewals);
        } else if (code < 0) {
                r->next_renew_ms = now_ms + backoff_next_ms(&r->renewals);
        }
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
                role_on_read(r, now_ms, code, state);
                break;
        case ROLE_ACQUIRE:
        case ROLE_TAKE_OVER:
                note_change(r, now_ms, code);
                on_acquired(r, now_ms, code, state);
                break;
        case ROLE_RENEW:
                on_renewed(r, now_ms, code);
                break;
        case ROLE_BREAK:
                note_change(r, now_ms, code);
                r->mark_since_ms = 0;
                if (code == 0) {
                        role_stop_following(r);
                        r->next_read_ms = now_ms;
                }
                break;
        case ROLE_RAISE:
                note_change(r, now_ms, code);
                if (code == E_CONFIG)
                        r->no_change_until_ms = now_ms + REFUSED_MS;
                if (code == 0 || code == E_NOT_PRIMARY)
                        r->next_read_ms = now_ms;
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
        if (term > r->term)
                r->term = term;
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
        r->next_connect_ms = now_ms + backoff_next_ms(&r->dials);
        role_timer(r, now_ms);
}

void
role_set_complete(struct role *r, uint64_t term)
{
        r->last_complete_term = term;
        backoff_reset(&r->dials);
}

void
role_told_stopped(struct role *r, int64_t now_ms, uint64_t term)
{
        r->word_term = term;
        r->next_read_ms = now_ms;
        role_timer(r, now_ms);
}

void
role_lost(struct role *r, int64_t now_ms, uint64_t term)
{
        if (r->state != ROLE_PRIMARY || r->holder.term != term)
                return;
        log_warn("the lease was lost before its time");
        role_lose_primary(r, now_ms);
        role_timer(r, now_ms);
}

void
role_outranked(struct role *r, int64_t now_ms, uint64_t term)
{
        if (r->state != ROLE_PRIMARY || r->config.ttl_ms == 0 || term <= r->holder.term)
                return;
        log_warn(
                "a node of this cluster was in term %llu already, and this one leads in %llu: it gives the lease up",
                (unsigned long long)term, (unsigned long long)r->holder.term);
        if (term > r->term && term <= HEARD_TERM_MAX)
                r->term = term;
        role_demote(r, now_ms, r->config.ttl_ms + OUTRANKED_MS);
        r->owes_release = true;
        role_timer(r, now_ms);
}

void
role_set_behind(struct role *r, bool is_behind)
{
        r->is_behind = is_behind;
}

void
role_set_able(struct role *r, int64_t now_ms, bool is_able)
{
        r->is_unable = !is_able;
        r->wants_take_over &= is_able;
        if (r->state != ROLE_START)
                role_timer(r, now_ms);
}

bool
role_is_candidate(const struct role *r)
{
        return r->config.is_candidate && !r->is_unable;
}

void
role_offered(struct role *r, int64_t now_ms)
{
        if (r->state != ROLE_FOLLOWING || !role_is_candidate(r))
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
        role_leave_primary(r, now_ms);
        set_timer(r);
}

void
role_regained(struct role *r, int64_t now_ms, const struct lease_state *state)
{
        if (r->state == ROLE_STOPPED)
                return;
        if (r->state == ROLE_PRIMARY) /* what was begun in the old term ends with it */
                role_leave_primary(r, now_ms);
        role_become_primary(r, now_ms, state);
        role_timer(r, now_ms);
}

void
role_passed_on(struct role *r, int64_t now_ms)
{
        r->passing_until_ms = now_ms + PASSING_MS;
        r->next_read_ms = now_ms;
        set_timer(r);
}

void
role_retire(struct role *r)
{
        r->config.is_candidate = false;
}

void
role_stop(struct role *r)
{
        role_set_state(r, ROLE_STOPPED);
}
