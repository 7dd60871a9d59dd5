/* lease/remote.h - what the leases in a service have in common; for the backends only.
 *
 * In the service the holder is one key with a JSON value, that of LiteFS 0.5 and what fencing needs:
 *
 *   {"hostname":"H","advertise-url":"U","ttl-ms":10000}                          as acquired
 *   {"hostname":"H","advertise-url":"U","ttl-ms":10000,"term":27,"renewals":3}   as renewed
 *
 * Services do not show when a session was renewed, so each renewal writes the key, too. The counter makes
 * it differ, and "term" keeps the index at which the key was acquired. LiteFS ignores the members that it
 * does not know; a value without "ttl-ms" is from LiteFS. */
#ifndef LITEFS_LEASE_REMOTE_H
#define LITEFS_LEASE_REMOTE_H

#include <jansson.h>
#include <stdatomic.h>
#include <stddef.h>

#include "base/clock.h"
#include "lease/lease.h"
#include "net/http_client.h"

#define REMOTE_VALUE_SIZE 2048 /* of a key's value, as text */
#define REMOTE_URL_SIZE 2048
#define REMOTE_KEY_SIZE LEASE_KEY_SIZE

struct remote_lease;

/* What differs from service to service; each within a call that has begun. */
struct remote_service {
        /* Keeps the session of the lease alive for *@ret_ttl_ms from the request on. E_NOT_PRIMARY: it has ended. */
        int (*keep_alive)(struct remote_lease *r, int64_t *ret_ttl_ms, struct err *e);
        /* Writes the key's value while the session holds it, and only then: else E_NOT_PRIMARY. */
        int (*write_value)(struct remote_lease *r, const char *value, struct err *e);
        /* The key is free at once when it held it. 0 also when the session is not there. */
        int (*end_session)(struct remote_lease *r, const char *session);
};

struct remote_lease {
        struct lease base;
        const struct remote_service *service;
        struct http_client *http;
        const struct clock *clock;
        char hostname[LEASE_HOSTNAME_SIZE], advertise_url[LEASE_URL_SIZE];
        char key[REMOTE_KEY_SIZE];
        int64_t timeout_ms;               /* of a call, whatever number of requests it takes */
        int64_t call_end_ms;              /* of the present one */
        char session[LEASE_SESSION_SIZE]; /* what the lease is held by; "": it is not */
        /* A session that could not be ended, or of which it is not known whether it holds the lease. Ended
         * before the next is made. */
        char leftover[LEASE_SESSION_SIZE];
        uint64_t term, renewals;
        _Atomic int64_t deadline_ms; /* all else is the calling worker's */
};

struct remote_options {
        const char *type, *hostname, *advertise_url, *key;
        int64_t ttl_ms, lock_delay_ms;
        const struct clock *clock; /* NULL: the machine's */
        struct http_client_options http;
};

/* -EINVAL or E_CONFIG with words that name lease.TYPE.key and so on. */
int remote_init(struct remote_lease *r, const struct lease_ops *ops,
                const struct remote_service *service, const struct remote_options *options,
                struct err *e);
void remote_release(struct remote_lease *r);

/* --- what lease_ops has of it as it is --- */

int remote_renew(struct lease *l, struct err *e);
void remote_end(struct lease *l);
int remote_offer(struct lease *l, char token[LEASE_SESSION_SIZE], struct err *e);
int64_t remote_deadline_ms(struct lease *l);

/* --- calls --- */

/* Starts the deadline of a call. The time, for remote_hold(). */
int64_t remote_begin(struct remote_lease *r);
/* What is left of it; 0: nothing. */
int64_t remote_left_ms(const struct remote_lease *r);
/* One request within the call, and within @timeout_ms. @body is JSON, or NULL. */
int remote_request(struct remote_lease *r, const char *method, const char *url, const char *body,
                   int64_t timeout_ms, struct http_response *ret, struct err *e);
/* The error for an answer that nobody expected: -EACCES for 401 and 403, else -EPROTO. */
int remote_refused(const char *method, const char *url, const struct http_response *answer,
                   struct err *e);
/* NULL when it is not JSON. The caller's to decref. */
json_t *remote_json(const struct http_response *answer, const char *url, struct err *e);

/* --- holding --- */

/* 0, or E_NOT_PRIMARY: this node does not hold the lease, as far as it knows. */
int remote_check_held(const struct remote_lease *r, struct err *e);
/* The lease is held anew by @session in @term, by a request sent at @start_ms. @ttl_ms is what the service granted. */
void remote_hold(struct remote_lease *r, const char *session, uint64_t term, int64_t start_ms,
                 int64_t ttl_ms);
/* Ends @session, later if not now. "" is fine. */
void remote_drop_session(struct remote_lease *r, const char *session);
/* Whether a holder that was @seen may be declared dead, once nothing has changed for as long as it asked. */
int remote_check_stale(const struct lease_state *seen, struct err *e);
/* This node as the holder that it is. */
void remote_self(const struct remote_lease *r, uint64_t renewal, struct lease_state *ret);

/* --- values --- */

/* The key's value, for a renewal (with the term) or not. */
int remote_format(const struct remote_lease *r, bool is_renewal, char ret[REMOTE_VALUE_SIZE],
                  struct err *e);
/* Fills in what @text says of the holder and sets has_holder; @index is the key's, its renewal, and its
 * term when the value has none. */
int remote_parse(const char *text, size_t n, uint64_t index, struct lease_state *ret, struct err *e);
/* E_FORMAT: the @n bytes are no cluster id, nor none. */
int remote_copy_cluster_id(const char *id, size_t n, char ret[LEASE_CLUSTER_ID_SIZE], struct err *e);
/* A term as the @n bytes at @text, decimal; none is 0. */
int remote_parse_term(const char *text, size_t n, uint64_t *ret, struct err *e);

#define BASE64_SIZE(n) (((n) + 2) / 3 * 4 + 1)
void base64_encode(const void *data, size_t n, char *ret);
/* The number of bytes, or -1: not base64, or more than @size. */
int base64_decode(const char *text, void *ret, size_t size);

#endif
