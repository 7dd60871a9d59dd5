/* The lease as it was read: whom to follow, whether the last holder has stopped, and whether to take it. */
#include <string.h>

#include "base/log.h"
#include "repl/role_internal.h"

#define BEHIND_WAIT_MS 2000 /* how long a candidate that is behind leaves a free lease to the others */
#define LOWER_TERM_MS 5000
#define LAST_WORDS_MS 300 /* how long a stream is read on after nobody holds the lease */

static bool
is_self(const struct role *r, const struct lease_state *holder)
{
        return strcmp(holder->advertise_url, r->config.advertise_url) == 0 &&
               strcmp(holder->hostname, r->config.hostname) == 0;
}

/* A candidate that knows of transactions which it lacks leaves the lease to one that may have them, for a while. */
static bool
may_acquire(const struct role *r, int64_t now_ms)
{
        if (!r->config.is_candidate || r->is_unable || now_ms < r->no_acquire_until_ms ||
            now_ms < r->no_change_until_ms)
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

/* --- whether the last holder has stopped --- */

static void
note_nobody(struct role *r, int64_t now_ms, const struct lease_state *s)
{
        if (r->unmoved_since_ms == 0 || s->key_index != r->seen.key_index ||
            s->last_term != r->seen.last_term || s->last_term_index != r->seen.last_term_index ||
            s->released_index != r->seen.released_index)
                r->unmoved_since_ms = now_ms;
        r->seen = *s;
}

/* How long the last holder may have gone on from when its key went. */
static int64_t
holder_ttl_ms(const struct role *r)
{
        bool is_known = r->last_ttl_ms > 0 && r->last_ttl_term >= r->seen.last_term;

        if (is_known || r->last_ttl_ms > r->config.ttl_ms)
                return r->last_ttl_ms;
        return r->config.ttl_ms;
}

/* What it was before it was lost is older than what this node knows. */
static bool
needs_raise(const struct role *r)
{
        return r->seen.last_term < r->last_complete_term;
}

/* Nobody but this node has been able to acquire it since this node held it. */
static bool
may_regain(const struct role *r, int64_t now_ms)
{
        return r->regain_until_ms != 0 && now_ms < r->own_until_ms && r->seen.last_term == r->term;
}

/* Where that can be seen. Else a node that is new would lead beside one whose lease was removed a moment ago. */
static bool
had_no_holder(const struct role *r)
{
        return !r->config.may_vanish && r->seen.last_term == 0 && r->seen.key_index == 0 &&
               r->term == 0 && r->last_ttl_ms == 0;
}

/* A release, and the holder's word, count only for the last term that this node knows: others may have led since. */
static bool
has_stopped(const struct role *r, int64_t now_ms)
{
        const struct lease_state *s = &r->seen;

        if (s->is_released && s->last_term >= r->term)
                return true;
        if (had_no_holder(r))
                return true;
        if (r->word_term != 0 && r->word_term == r->term && s->last_term == r->term && !s->is_raised)
                return true;
        return may_regain(r, now_ms) || now_ms - r->unmoved_since_ms > holder_ttl_ms(r);
}

int64_t
role_stop_wait_ms(const struct role *r, int64_t now_ms)
{
        if (r->unmoved_since_ms == 0 || r->state == ROLE_PRIMARY || has_stopped(r, now_ms))
                return 0;
        return r->unmoved_since_ms + holder_ttl_ms(r) - now_ms + 1;
}

/* --- the lease as it was read --- */

/* This node's last run does not renew its lease any more. */
static void
note_twin(struct role *r, const struct lease_state *s)
{
        bool is_renewed = r->mark_since_ms != 0 && strcmp(s->session, r->mark_session) == 0 &&
                          s->renewal != r->mark_renewal;

        if (is_renewed && !r->is_twin)
                log_warn(
                        "the lease's holder has this node's hostname, %s, and its advertise-url, %s, but is another node: each "
                        "node needs an address of its own (lease.advertise-url). Until it has one this node does not join",
                        s->hostname, s->advertise_url);
        r->is_twin |= is_renewed;
}

/* Whether the holder has fenced itself for sure: its mark has not moved for its own TTL. */
static bool
is_holder_fenced(struct role *r, int64_t now_ms, const struct lease_state *s)
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
        backoff_reset(&r->dials);
        r->next_connect_ms = now_ms + r->config.reconnect_ms;
        role_set_state(r, ROLE_FOLLOWING);
        r->config.ops->changed(r->config.arg, false, s);
        r->config.ops->follow(r->config.arg, s);
}

/* Once each time. Whether it has stayed so. */
static bool
warn_of_lower_term(struct role *r, int64_t now_ms, const struct lease_state *s)
{
        if (r->lower_since_ms == 0)
                r->lower_since_ms = now_ms;
        if (r->lower_since_ms > 0 && now_ms - r->lower_since_ms < LOWER_TERM_MS)
                return false;
        if (r->lower_since_ms > 0)
                log_warn(
                        "%s leads in term %llu, and this node was in term %llu already: the lease service has lost its data, "
                        "or is another one. This node does not follow; it asks %s to give the lease up",
                        s->hostname, (unsigned long long)s->term, (unsigned long long)r->term,
                        s->hostname);
        r->lower_since_ms = -1;
        return true;
}

void
role_on_holder(struct role *r, int64_t now_ms, const struct lease_state *s)
{
        bool is_other = r->state != ROLE_FOLLOWING || s->term != r->holder.term ||
                        strcmp(s->advertise_url, r->holder.advertise_url) != 0;
        bool is_own = r->config.ttl_ms > 0 && is_self(r, s);
        bool is_free, is_marked = s->ttl_ms > 0 || r->config.ttl_ms == 0;

        if (is_own)
                note_twin(r, s);
        r->is_twin &= is_own;
        is_free = is_holder_fenced(r, now_ms, s);
        role_give_up_regaining(r, now_ms);
        r->unmoved_since_ms = 0;
        r->last_ttl_ms = is_marked ? s->ttl_ms : r->config.ttl_ms;
        r->last_ttl_term = s->term;
        note_free(r, now_ms, is_free);
        if (is_free && may_acquire(r, now_ms)) {
                log_info("the primary %s has not renewed its lease for %lld ms: taking its place",
                         s->hostname, (long long)(now_ms - r->mark_since_ms));
                r->holder = *s;
                role_ask(r, ROLE_BREAK);
                return;
        }
        if (is_own) { /* of an earlier run: wait until it is gone */
                r->holder = *s;
                return;
        }
        /* Read before it changed hands, if it does not stay so. Then it has to hear of the later term, by our HELLO. */
        if (is_marked && s->term < r->term && !warn_of_lower_term(r, now_ms, s))
                return;
        if (is_marked && s->term >= r->term) {
                r->lower_since_ms = 0;
                r->term = s->term;
        }
        if (is_other)
                begin_following(r, now_ms, s);
        else
                r->holder = *s;
}

/* When to look again at a lease that nobody holds. */
static int64_t
next_look_ms(const struct role *r, int64_t now_ms)
{
        int64_t wait_ms = role_stop_wait_ms(r, now_ms), pause_ms = r->no_change_until_ms - now_ms;

        if (wait_ms > 0)
                return now_ms + role_earlier(wait_ms, role_read_interval(r, now_ms));
        return now_ms + role_earlier(role_later(pause_ms, RETRY_MS), READ_MAX_MS);
}

void
role_on_nobody(struct role *r, int64_t now_ms, const struct lease_state *s)
{
        r->mark_since_ms = 0;
        r->is_twin = false;
        note_free(r, now_ms, true);
        note_nobody(r, now_ms, s);
        if (r->state == ROLE_FOLLOWING && r->is_connected && !needs_raise(r)) {
                /* The holder has just released or lost it, and its stream says so, after its last transactions.
                 * Unless the holder stands still: then it says nothing. */
                r->next_read_ms = now_ms + RETRY_MS;
                if (!has_stopped(r, now_ms) || now_ms - r->free_since_ms < LAST_WORDS_MS)
                        return;
        }
        if (needs_raise(r)) {
                r->next_read_ms = next_look_ms(r, now_ms);
                if (now_ms >= r->no_change_until_ms)
                        role_ask(r, ROLE_RAISE);
                return;
        }
        role_stop_following(r);
        r->holder.has_holder = false;
        if (r->regain_until_ms == 0)
                r->config.ops->changed(r->config.arg, false, NULL);
        if (may_acquire(r, now_ms) && has_stopped(r, now_ms)) {
                role_set_state(r, ROLE_ACQUIRING);
                role_ask(r, ROLE_ACQUIRE);
        } else {
                role_give_up_regaining(r, now_ms);
                if (r->config.is_candidate)
                        r->next_read_ms = next_look_ms(r, now_ms);
        }
}
