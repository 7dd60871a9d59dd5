/* lease/kv_lease.h - the lease as keys of a service, by rules that Consul, etcd and the leases in a file and in a bucket share; for the backends
 * only, which speak their protocols.
 *
 *   KEY             the holder, as JSON; locked by a session of the holder's. See docs/protocol.md, section 6
 *   KEY/term        the last term that began, decimal; written with KEY, stays when KEY goes
 *   KEY/heir        the session that acquired that term
 *   KEY/released    that term, decimal, once its holder has given the lease up: written with the end of KEY, deleted when
 *                   KEY is acquired. 0: KEY/term was lost, and written by a node that remembers it
 *   KEY/clusterid   the cluster's id, raw
 *
 *   {"hostname":"H","advertise-url":"U","ttl-ms":10000,"term":27}                as acquired
 *   {"hostname":"H","advertise-url":"U","ttl-ms":10000,"term":27,"renewals":3}   as renewed
 *
 * Services do not show when a session was renewed, so each renewal writes the key, too, and the counter makes it differ.
 * LiteFS ignores the members that it does not know; a value without "ttl-ms" is from LiteFS. */
#ifndef LITEFS_LEASE_KV_LEASE_H
#define LITEFS_LEASE_KV_LEASE_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "base/clock.h"
#include "lease/lease.h"
#include "net/http_client.h"

#define KV_VALUE_SIZE 2048 /* of a key's value, as text */
#define KV_URL_SIZE 2048
#define KV_KEY_SIZE LEASE_KEY_SIZE

struct kv_lease;

/* What the session is to have. */
struct kv_lock {
        const struct lease_state *seen; /* the lease must be as free as that */
        const char *token;              /* instead: the session that has it, if not NULL */
        const char *session, *value;
        uint64_t term;
};

/* What differs from service to service; each but watch within a call that has begun. Each change is one transaction,
 * E_NOT_PRIMARY: it would not have been of what it says, and nothing is changed. */
struct kv_service {
        int (*create_session)(struct kv_lease *kv, char ret[LEASE_SESSION_SIZE], int64_t *ret_ttl_ms,
                              struct err *e);
        /* Keeps the session of the lease alive for *@ret_ttl_ms from the request on. E_NOT_PRIMARY: it has ended. */
        int (*keep_alive)(struct kv_lease *kv, int64_t *ret_ttl_ms, struct err *e);
        /* If KEY is @session's, frees it without a delay and writes KEY/released (@term, unless 0); then ends the session.
         * 0 also when the session is not there. */
        int (*end_session)(struct kv_lease *kv, const char *session, uint64_t term);
        int (*read)(struct kv_lease *kv, struct lease_state *ret, struct err *e);
        /* KEY/term alone, whoever holds KEY: last_term, last_term_index and index. */
        int (*read_term)(struct kv_lease *kv, struct lease_state *ret, struct err *e);
        int (*read_heir)(struct kv_lease *kv, char ret[LEASE_SESSION_SIZE], struct err *e);
        /* Writes KEY for the session, KEY/term and KEY/heir; deletes KEY/released. @what.seen is also of KEY/term when there is a token. */
        int (*lock)(struct kv_lease *kv, const struct kv_lock *what, struct err *e);
        /* Writes the key's value while the session holds it, and only then. */
        int (*write_value)(struct kv_lease *kv, const char *value, struct err *e);
        /* Frees KEY as it was @seen, writes KEY/released, and ends the session. */
        int (*break_key)(struct kv_lease *kv, const struct lease_state *seen, struct err *e);
        /* Writes KEY/term, and 0 to KEY/released. */
        int (*raise_term)(struct kv_lease *kv, const struct lease_state *seen, uint64_t term,
                          struct err *e);
        /* By kv_watch_request alone where there is one, which ends it early; else for a moment. 0: KEY is @held.session's. E_NOT_PRIMARY: it is not. */
        int (*watch)(struct kv_lease *kv, const struct lease_state *held, struct err *e);
};

struct kv_lease {
        struct lease base;
        const struct kv_service *service;
        struct http_client *http, *watch_http; /* NULL: the service is no server */
        const char *index_header; /* in which the service tells its counter; NULL: not there */
        const struct clock *clock;
        char hostname[LEASE_HOSTNAME_SIZE], advertise_url[LEASE_URL_SIZE];
        char key[KV_KEY_SIZE];
        int64_t timeout_ms;  /* of a call, whatever number of requests it takes */
        int64_t call_end_ms; /* of the present one */
        /* A session that could not be ended, or of which it is not known whether it holds the lease, in leftover_term.
         * Ended before the next is made. */
        char leftover[LEASE_SESSION_SIZE];
        uint64_t leftover_term;
        uint64_t term, renewals; /* all so far is the calling worker's */

        pthread_mutex_t hold_lock; /* a leaf; over changes of what follows */
        char session[LEASE_SESSION_SIZE]; /* what the lease is held by; "": it is not. Changed by the worker alone */
        bool is_lost; /* says the watch: no renewal of this session counts any more */
        _Atomic int64_t deadline_ms;
};

struct kv_options {
        const char *type, *hostname, *advertise_url, *key;
        int64_t ttl_ms, lock_delay_ms;
        const struct clock *clock; /* NULL: the machine's */
        const struct http_client_options
                *http; /* NULL: the service is no server, and key the path of a file, or a URL */
        bool is_url;
};

/* -EINVAL or E_CONFIG with words that name lease.TYPE.key and so on. */
int kv_init(struct kv_lease *r, const struct lease_ops *ops, const struct kv_service *service,
            const struct kv_options *options, struct err *e);
void kv_release(struct kv_lease *r);

/* --- lease_ops that do not differ: kv_lease.c --- */

int kv_read(struct lease *l, struct lease_state *ret, struct err *e);
int kv_acquire(struct lease *l, const struct lease_state *seen, uint64_t min_term,
               struct lease_state *ret, struct err *e);
int kv_renew(struct lease *l, struct err *e);
void kv_end(struct lease *l);
int kv_break_stale(struct lease *l, const struct lease_state *seen, struct err *e);
int kv_offer(struct lease *l, char token[LEASE_SESSION_SIZE], struct err *e);
void kv_withdraw(struct lease *l, const char *token, uint64_t term);
int kv_take_over(struct lease *l, const char *token, uint64_t min_term, struct lease_state *ret,
                 struct err *e);
int kv_get_heir(struct lease *l, char ret[LEASE_SESSION_SIZE], struct err *e);
int kv_raise_term(struct lease *l, const struct lease_state *seen, uint64_t term, struct err *e);
int kv_watch(struct lease *l, const struct lease_state *held, struct err *e);
void kv_hand_on(struct lease *l, struct lease_hold *ret);
int kv_take_on(struct lease *l, const struct lease_hold *hold, struct lease_state *ret, struct err *e);
int64_t kv_deadline_ms(struct lease *l);

/* All of them; of a lease_ops. What a service does itself stands behind it. */
#define KV_LEASE_OPS \
        .read = kv_read, .acquire = kv_acquire, .renew = kv_renew, .release = kv_end, \
        .break_stale = kv_break_stale, .offer = kv_offer, .withdraw = kv_withdraw, \
        .take_over = kv_take_over, .get_heir = kv_get_heir, .raise_term = kv_raise_term, \
        .watch = kv_watch, .deadline_ms = kv_deadline_ms

/* --- requests: kv_request.c --- */

/* Starts the deadline of a call. The time. */
int64_t kv_begin(struct kv_lease *r);
/* What is left of it; 0: nothing. */
int64_t kv_left_ms(const struct kv_lease *r);
/* One request within the call, and within @timeout_ms. @body is JSON, or NULL. */
int kv_request(struct kv_lease *r, const char *method, const char *url, const char *body,
               int64_t timeout_ms, struct http_response *ret, struct err *e);
/* The error for an answer that nobody expected: -EACCES for 401 and 403, else -EPROTO. */
int kv_refused(const char *method, const char *url, const struct http_response *answer, struct err *e);
/* NULL when it is not JSON. The caller's to decref. */
json_t *kv_json(const struct http_response *answer, const char *url, struct err *e);

/* One of the watch's requests, on its connection; ends early when the lease is given up. */
int kv_watch_request(struct kv_lease *r, const struct http_request *q, struct http_response *ret,
                     struct err *e);

/* --- values: kv_value.c --- */

static inline uint64_t
kv_max(uint64_t a, uint64_t b)
{
        return a > b ? a : b;
}

/* KEY's value as this node writes it; @renewals of 0 is not named. */
int kv_format_value(const struct kv_lease *kv, uint64_t term, uint64_t renewals, char ret[KV_VALUE_SIZE],
                    struct err *e);
/* Fills in what @text says of the holder and sets has_holder; @index is the key's, its renewal, and its
 * term when the value has none (earlier versions as they acquired it, LiteFS). */
int kv_parse(const char *text, size_t n, uint64_t index, struct lease_state *ret, struct err *e);
/* E_FORMAT: the @n bytes are no cluster id, nor none. */
int kv_copy_cluster_id(const char *id, size_t n, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e);
/* A term as the @n bytes at @text, decimal, at most LEASE_TERM_MAX; none is 0. */
int kv_parse_term(const char *text, size_t n, uint64_t *ret, struct err *e);
/* Foreign text as it may stand in a line of the log: cut to fit, the unprintable as '?'. */
const char *kv_printable(const char *text, size_t n, char *ret, size_t size);

#endif
