#include "lease/kv_lease.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIN_TIMEOUT_MS 500
#define MAX_TIMEOUT_MS 5000

/* --- set-up --- */

/* "a//./b" becomes "a/b", as LiteFS does. ".." would leave the prefix. */
static int
clean_key(const char *key, char *ret, size_t size, struct err *e)
{
        size_t n = 0;

        for (const char *s = key; *s != '\0';) {
                size_t len = strcspn(s, "/");

                if (len == 2 && memcmp(s, "..", 2) == 0)
                        return err_text(e, E_CONFIG, "\"..\" in it: '%.200s'", key);
                if (len > 0 && !(len == 1 && s[0] == '.')) {
                        if (n + len + 2 > size)
                                return err_text(e, E_CONFIG, "longer than %zu bytes", size - 2);
                        if (n > 0)
                                ret[n++] = '/';
                        memcpy(ret + n, s, len);
                        n += len;
                }
                s += len + strspn(s + len, "/");
        }
        ret[n] = '\0';
        return n > 0 ? 0 : err_text(e, E_CONFIG, "required");
}

static int
copy_setting(const char *from, char *to, size_t size, const char *name, struct err *e)
{
        size_t n = from != NULL ? strlen(from) : 0;

        if (n == 0)
                return err_text(e, E_CONFIG, "lease.%s required", name);
        if (n >= size)
                return err_text(e, E_CONFIG, "lease.%s: longer than %zu bytes", name, size - 1);
        memcpy(to, from, n + 1);
        return 0;
}

/* A quarter of the TTL leaves time for a second try before the deadline, and a quarter for its margin. */
static int64_t
call_timeout_ms(int64_t ttl_ms)
{
        int64_t t = ttl_ms / 4;

        return t < MIN_TIMEOUT_MS ? MIN_TIMEOUT_MS : t > MAX_TIMEOUT_MS ? MAX_TIMEOUT_MS : t;
}

/* A key of a service, the path of a file, or a URL that somebody has looked at. */
static int
set_kv_key(struct kv_lease *kv, const struct kv_options *o, struct err *e)
{
        size_t n = o->key != NULL ? strlen(o->key) : 0;
        int r;

        if (o->http != NULL) {
                r = clean_key(o->key != NULL ? o->key : "", kv->key, sizeof kv->key, e);
                if (r < 0)
                        err_prefix(e, "lease.%s.key", o->type);
                return r;
        }
        if (!o->is_url && (n == 0 || o->key[0] != '/' || o->key[n - 1] == '/'))
                return err_text(e, E_CONFIG,
                                "lease.%s.path: want the absolute path of a file, such as "
                                "/var/lib/app/lease",
                                o->type);
        if (n >= sizeof kv->key)
                return err_text(e, E_CONFIG, "lease.%s.path: longer than %zu bytes", o->type,
                                sizeof kv->key - 1);
        memcpy(kv->key, o->key, n + 1);
        return 0;
}

static int
make_clients(struct kv_lease *kv, const struct kv_options *o, struct err *e)
{
        struct http_client_options watch_http = *o->http;
        int r = http_client_new(o->http, &kv->http, e);

        watch_http.is_cancellable = true;
        if (r == 0)
                r = http_client_new(&watch_http, &kv->watch_http, e);
        if (r < 0)
                err_prefix(e, "lease.%s", o->type);
        return r;
}

int
kv_init(struct kv_lease *kv, const struct lease_ops *ops, const struct kv_service *service,
        const struct kv_options *o, struct err *e)
{
        int code;

        kv->base.ops = ops;
        kv->service = service;
        kv->base.type = o->type;
        kv->base.key = kv->key;
        kv->base.ttl_ms = o->ttl_ms;
        kv->base.lock_delay_ms = o->lock_delay_ms;
        kv->clock = o->clock != NULL ? o->clock : clock_host();
        kv->timeout_ms = call_timeout_ms(o->ttl_ms);
        pthread_mutex_init(&kv->hold_lock, NULL);
        atomic_init(&kv->deadline_ms, INT64_MIN);
        if (o->ttl_ms < 1000)
                return err_text(e, E_CONFIG, "lease.%s.ttl: at least 1s", o->type);
        code = set_kv_key(kv, o, e);
        if (code < 0)
                return code;
        code = copy_setting(o->hostname, kv->hostname, sizeof kv->hostname, "hostname", e);
        if (code == 0)
                code = copy_setting(o->advertise_url, kv->advertise_url, sizeof kv->advertise_url,
                                    "advertise-url", e);
        return code == 0 && o->http != NULL ? make_clients(kv, o, e) : code;
}

void
kv_release(struct kv_lease *kv)
{
        http_client_free(kv->http);
        http_client_free(kv->watch_http);
        pthread_mutex_destroy(&kv->hold_lock);
}

/* --- holding --- */

/* Clocks of two machines run apart by far less than this in one TTL. */
static int64_t
margin_ms(int64_t ttl_ms)
{
        return ttl_ms / 10;
}

static void
store_deadline(struct kv_lease *kv, int64_t at_ms)
{
        atomic_store_explicit(&kv->deadline_ms, at_ms, memory_order_release);
}

int64_t
kv_deadline_ms(struct lease *l)
{
        return atomic_load_explicit(&((struct kv_lease *)l)->deadline_ms, memory_order_acquire);
}

/* False: the watch has seen it lost since. */
static bool
set_deadline(struct kv_lease *kv, int64_t start_ms, int64_t ttl_ms)
{
        bool is_held;

        if (ttl_ms > kv->base.ttl_ms)
                ttl_ms = kv->base.ttl_ms;
        pthread_mutex_lock(&kv->hold_lock);
        is_held = !kv->is_lost;
        if (is_held)
                store_deadline(kv, start_ms + ttl_ms - margin_ms(ttl_ms));
        pthread_mutex_unlock(&kv->hold_lock);
        return is_held;
}

/* Of another session, or of none, from here on: nothing is committed by the last one any more. */
static void
set_session(struct kv_lease *kv, const char *session, uint64_t term)
{
        pthread_mutex_lock(&kv->hold_lock);
        store_deadline(kv, INT64_MIN);
        snprintf(kv->session, sizeof kv->session, "%s", session);
        kv->is_lost = false;
        pthread_mutex_unlock(&kv->hold_lock);
        kv->term = term;
        kv->renewals = 0;
        if (kv->watch_http != NULL)
                http_client_cancel(kv->watch_http);
}

static void
drop_session(struct kv_lease *kv, const char *session, uint64_t term)
{
        if (session[0] == '\0')
                return;
        if (kv->service->end_session(kv, session, term) < 0) {
                snprintf(kv->leftover, sizeof kv->leftover, "%s", session);
                kv->leftover_term = term;
        }
}

static void
drop_leftover(struct kv_lease *kv)
{
        char session[LEASE_SESSION_SIZE];

        memcpy(session, kv->leftover, sizeof session);
        kv->leftover[0] = '\0';
        drop_session(kv, session, kv->leftover_term);
}

/* Nothing is committed any more, and then the session ends. */
static void
lose_and_drop(struct kv_lease *kv)
{
        char session[LEASE_SESSION_SIZE];
        uint64_t term = kv->term;

        memcpy(session, kv->session, sizeof session);
        set_session(kv, "", 0);
        drop_session(kv, session, term);
}

static int
check_held(struct kv_lease *kv, struct err *e)
{
        return kv->session[0] != '\0' ? 0
                                      : err_text(e, E_NOT_PRIMARY, "this node does not hold the lease");
}

/* --- calls --- */

int
kv_read(struct lease *l, struct lease_state *ret, struct err *e)
{
        struct kv_lease *kv = (struct kv_lease *)l;
        struct lease_state state = { .has_holder = false };
        int r;

        kv_begin(kv);
        r = kv->service->read(kv, &state, e);
        if (r == 0)
                *ret = state;
        return r;
}

/* This node as the holder that it is. */
static void
describe_self(const struct kv_lease *kv, struct lease_state *ret)
{
        memset(ret, 0, sizeof *ret);
        ret->has_holder = true;
        ret->term = ret->renewal = kv->term;
        ret->ttl_ms = kv->base.ttl_ms;
        memcpy(ret->hostname, kv->hostname, sizeof ret->hostname);
        memcpy(ret->advertise_url, kv->advertise_url, sizeof ret->advertise_url);
        memcpy(ret->session, kv->session, sizeof ret->session);
}

/* A service that was emptied, restored or exchanged counts from less: its own counter alone could give a term again. */
static int
choose_term(const struct lease_state *seen, uint64_t min_term, uint64_t *ret, struct err *e)
{
        *ret = kv_max(kv_max(seen->index, seen->last_term + 1), kv_max(min_term, 1));
        return *ret <= LEASE_TERM_MAX ? 0
                                      : err_text(e, E_FORMAT, "the last term is too high to go on from");
}

/* What an earlier session may have acquired would be forgotten by the next claim, and it is to be read again. */
static int
end_earlier(struct kv_lease *kv, struct err *e)
{
        if (kv->session[0] == '\0' && kv->leftover[0] == '\0')
                return 0;
        if (kv->session[0] != '\0')
                lose_and_drop(kv);
        else
                drop_leftover(kv);
        if (kv->leftover[0] != '\0')
                return err_text(e, -EAGAIN, "an earlier session could not be ended");
        return err_text(e, E_NOT_PRIMARY,
                        "an earlier session had to be ended first: the lease is to be read again");
}

/* The lease by a session of its own, for the holder of @token or as it was @seen. */
static int
take_by_session(struct kv_lease *kv, int64_t start_ms, struct kv_lock *what, uint64_t min_term,
                struct lease_state *ret, struct err *e)
{
        char session[LEASE_SESSION_SIZE] = "", value[KV_VALUE_SIZE];
        int64_t ttl_ms = 0;
        int r = choose_term(what->seen, min_term, &what->term, e);

        if (r == 0)
                r = kv_format_value(kv, what->term, 0, value, e);
        if (r < 0)
                return r;
        r = kv->service->create_session(kv, session, &ttl_ms, e);
        what->session = session;
        what->value = value;
        if (r == 0 && kv->base.claim != NULL)
                r = kv->base.claim(kv->base.claim_arg, what->term, session, e);
        if (r == 0)
                r = kv->service->lock(kv, what, e);
        if (r < 0) {
                drop_session(kv, session, what->term);
                return r;
        }
        set_session(kv, session, what->term);
        set_deadline(kv, start_ms, ttl_ms);
        describe_self(kv, ret);
        return 0;
}

int
kv_acquire(struct lease *l, const struct lease_state *seen, uint64_t min_term, struct lease_state *ret,
           struct err *e)
{
        struct kv_lease *kv = (struct kv_lease *)l;
        struct kv_lock what = { .seen = seen };
        int64_t start_ms = kv_begin(kv);
        int r = end_earlier(kv, e);

        if (r == 0 && seen->has_holder)
                r = err_text(e, E_NOT_PRIMARY, "another node has the lease");
        return r < 0 ? r : take_by_session(kv, start_ms, &what, min_term, ret, e);
}

int
kv_take_over(struct lease *l, const char *token, uint64_t min_term, struct lease_state *ret,
             struct err *e)
{
        struct kv_lease *kv = (struct kv_lease *)l;
        struct lease_state seen = { .has_holder = false };
        struct kv_lock what = { .seen = &seen, .token = token };
        int64_t start_ms = kv_begin(kv);
        int r = end_earlier(kv, e);

        if (r == 0)
                r = kv->service->read_term(kv, &seen, e);

        return r < 0 ? r : take_by_session(kv, start_ms, &what, min_term, ret, e);
}

static int
mark_renewal(struct kv_lease *kv, struct err *e)
{
        char value[KV_VALUE_SIZE];
        int r;

        kv->renewals++;
        r = kv_format_value(kv, kv->term, kv->renewals, value, e);
        return r < 0 ? r : kv->service->write_value(kv, value, e);
}

int
kv_renew(struct lease *l, struct err *e)
{
        struct kv_lease *kv = (struct kv_lease *)l;
        int64_t start_ms = kv_begin(kv), ttl_ms = 0;
        int r = check_held(kv, e);

        if (r < 0)
                return r;
        r = kv->service->keep_alive(kv, &ttl_ms, e);
        if (r == 0)
                r = mark_renewal(kv, e);
        if (r == 0 && !set_deadline(kv, start_ms, ttl_ms))
                r = err_text(e, E_NOT_PRIMARY, "the lease was lost while it was renewed");
        if (r == E_NOT_PRIMARY)
                lose_and_drop(kv);
        return r;
}

void
kv_end(struct lease *l)
{
        struct kv_lease *kv = (struct kv_lease *)l;

        kv_begin(kv);
        lose_and_drop(kv);
        if (kv->leftover[0] != '\0') /* of an earlier call, or once more */
                drop_leftover(kv);
}

int
kv_offer(struct lease *l, char token[LEASE_SESSION_SIZE], struct err *e)
{
        struct kv_lease *kv = (struct kv_lease *)l;
        int r = kv_renew(l, e); /* so that the other has all of the TTL */

        if (r < 0)
                return r;
        memcpy(token, kv->session, LEASE_SESSION_SIZE);
        set_session(kv, "", 0);
        return 0;
}

void
kv_withdraw(struct lease *l, const char *token, uint64_t term)
{
        struct kv_lease *kv = (struct kv_lease *)l;

        kv_begin(kv);
        drop_session(kv, token, term);
}

int
kv_break_stale(struct lease *l, const struct lease_state *seen, struct err *e)
{
        struct kv_lease *kv = (struct kv_lease *)l;

        if (!seen->has_holder)
                return err_text(e, E_NOT_PRIMARY, "nobody held the lease");
        if (seen->ttl_ms == 0)
                return err_text(e, -ENOTSUP, "%s does not show when it renewed the lease",
                                seen->hostname);
        kv_begin(kv);
        return kv->service->break_key(kv, seen, e);
}

int
kv_get_heir(struct lease *l, char ret[LEASE_SESSION_SIZE], struct err *e)
{
        struct kv_lease *kv = (struct kv_lease *)l;

        kv_begin(kv);
        return kv->service->read_heir(kv, ret, e);
}

int
kv_raise_term(struct lease *l, const struct lease_state *seen, uint64_t term, struct err *e)
{
        struct kv_lease *kv = (struct kv_lease *)l;

        if (seen->has_holder || seen->last_term >= term)
                return err_text(e, E_NOT_PRIMARY, "the service knows of a later term");
        kv_begin(kv);
        return kv->service->raise_term(kv, seen, term, e);
}

/* --- from program to program --- */

/* What the watch has seen lost is held no longer, and is to be ended like any other: its node may not have heard of it. */
static void
set_lost_aside(struct kv_lease *kv)
{
        bool is_lost;

        pthread_mutex_lock(&kv->hold_lock);
        is_lost = kv->is_lost;
        pthread_mutex_unlock(&kv->hold_lock);
        if (!is_lost)
                return;
        memcpy(kv->leftover, kv->session, sizeof kv->leftover);
        kv->leftover_term = kv->term;
        set_session(kv, "", 0);
}

void
kv_hand_on(struct lease *l, struct lease_hold *ret)
{
        struct kv_lease *kv = (struct kv_lease *)l;

        set_lost_aside(kv);
        memset(ret, 0, sizeof *ret);
        ret->fd = -1;
        snprintf(ret->type, sizeof ret->type, "%s", l->type);
        memcpy(ret->key, kv->key, sizeof ret->key);
        memcpy(ret->hostname, kv->hostname, sizeof ret->hostname);
        memcpy(ret->advertise_url, kv->advertise_url, sizeof ret->advertise_url);
        memcpy(ret->session, kv->session, sizeof ret->session);
        ret->term = kv->term;
        ret->renewals = kv->renewals;
        ret->ttl_ms = l->ttl_ms;
        ret->deadline_ms = kv_deadline_ms(l);
        memcpy(ret->leftover, kv->leftover, sizeof ret->leftover);
        ret->leftover_term = kv->leftover_term;
        kv->leftover[0] = '\0';
        set_session(kv, "", 0);
}

static bool
is_of_this(const struct kv_lease *kv, const struct lease_hold *hold)
{
        return strcmp(hold->type, kv->base.type) == 0 && strcmp(hold->key, kv->key) == 0 &&
               strcmp(hold->hostname, kv->hostname) == 0 &&
               strcmp(hold->advertise_url, kv->advertise_url) == 0 && hold->ttl_ms == kv->base.ttl_ms;
}

int
kv_take_on(struct lease *l, const struct lease_hold *hold, struct lease_state *ret, struct err *e)
{
        struct kv_lease *kv = (struct kv_lease *)l;

        if (!is_of_this(kv, hold))
                return err_text(
                        e, E_CONFIG,
                        "the lease %s of %s with a TTL of %lld ms was handed on, and the configuration has %s of %s "
                        "with %lld ms now",
                        hold->key, hold->hostname, (long long)hold->ttl_ms, kv->key, kv->hostname,
                        (long long)kv->base.ttl_ms);
        memcpy(kv->leftover, hold->leftover, sizeof kv->leftover);
        kv->leftover_term = hold->leftover_term;
        if (hold->session[0] == '\0')
                return err_text(e, E_NOT_PRIMARY, "no lease was handed on");
        set_session(kv, hold->session, hold->term);
        kv->renewals = hold->renewals;
        store_deadline(kv, hold->deadline_ms);
        describe_self(kv, ret);
        return 0;
}

/* --- the watch --- */

static bool
is_held_by(struct kv_lease *kv, const char *session)
{
        bool is_held;

        pthread_mutex_lock(&kv->hold_lock);
        is_held = strcmp(kv->session, session) == 0 && !kv->is_lost;
        pthread_mutex_unlock(&kv->hold_lock);
        return is_held;
}

/* False: it was given up before, and is no loss. */
static bool
note_loss(struct kv_lease *kv, const char *session)
{
        bool is_lost;

        pthread_mutex_lock(&kv->hold_lock);
        is_lost = strcmp(kv->session, session) == 0;
        if (is_lost) {
                kv->is_lost = true;
                store_deadline(kv, INT64_MIN);
        }
        pthread_mutex_unlock(&kv->hold_lock);
        return is_lost;
}

int
kv_watch(struct lease *l, const struct lease_state *held, struct err *e)
{
        struct kv_lease *kv = (struct kv_lease *)l;
        int r;

        if (!is_held_by(kv, held->session))
                return err_set(e, -ECANCELED, "watch");
        do
                r = kv->service->watch(kv, held, e);
        while (r == -ECANCELED &&
               is_held_by(kv, held->session)); /* which was meant for an earlier one */
        return r == E_NOT_PRIMARY && !note_loss(kv, held->session) ? -ECANCELED : r;
}
