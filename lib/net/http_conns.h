/* lib/net/http_conns.h - the connections that libmicrohttpd has, so that some can go; for http_*.c only.
 *
 * The loop's thread. */
#ifndef LITEFS_NET_HTTP_CONNS_H
#define LITEFS_NET_HTTP_CONNS_H

#include <stdbool.h>
#include <stdint.h>

#include "net/crowd.h"

struct http_conn {
        struct http_conn *prev, *next; /* the longest idle first */
        struct crowd_guest guest;
        int fd;
        int64_t since_ms; /* the head has been awaited */
        void (*end_request)(
                void *request); /* of what waits without looking at the socket; NULL: there is none */
        void *request;
        bool has_request;
        bool is_evicted;
};

struct http_conns {
        struct http_conn *first, *last;
        struct crowd crowd;
};

int http_conns_init(struct http_conns *l, const struct crowd_limits *limits);
void http_conns_release(struct http_conns *l); /* zeroes are fine */
/* NULL: no memory, or no room. */
struct http_conn *http_conns_add(struct http_conns *l, int fd, const struct sockaddr *sa,
                                 int64_t now_ms);
void http_conns_remove(struct http_conns *l, struct http_conn *hc);
/* Its request is over: it awaits a head anew. */
void http_conns_idle(struct http_conns *l, struct http_conn *hc, int64_t now_ms);
/* Evicts those whose peer has gone or has not sent a head in @head_ms. Whether there was one. */
bool http_conns_tick(struct http_conns *l, int64_t now_ms, int64_t head_ms);

/* It ends soon. */
void http_conn_evict(struct http_conn *hc);
bool http_conn_is_peer_gone(const struct http_conn *hc);

#endif
