/* lib/net/http_intake.h - connections of which nothing is known yet: another node's, for more than HTTP, or HTTP's?
 *
 *   accepted -> waits for its first bytes -+-> a head that begins "GET /stream ": config.stream, unread
 *                                          +-> a head that begins "GET /proxy ": config.proxy, unread
 *                                          +-> else: config.http
 *
 * The bytes are looked at while they are in the kernel, so that a descriptor can be passed on with them; with TLS they
 * are read and given back, and what is passed on is a bridge.h's.
 *
 * What has not said what it wants within 10 s is closed; how many wait is bounded by their listener, to which they are NEW
 * (crowd.h). The loop's thread. */
#ifndef LITEFS_NET_HTTP_INTAKE_H
#define LITEFS_NET_HTTP_INTAKE_H

#include <sys/socket.h>

#include "net/conn.h"
#include "net/loop.h"

struct http_intake_config {
        struct loop *loop;
        /* These call conn_set_handler. NULL: HTTP gets them, too. */
        void (*stream)(void *arg, struct conn *c);
        void (*proxy)(void *arg, struct conn *c);
        /* Takes @fd, a socket from which the request can be read. @sa is the client's. */
        void (*http)(void *arg, int fd, const struct sockaddr *sa);
        void *arg;
};

struct http_waiting;

/* Embedded. All zero is a valid one, to which only http_intake_stop may be done. */
struct http_intake {
        struct http_intake_config config;
        struct http_waiting *oldest, *newest;
        unsigned n;
        int64_t warned_ms; /* of a TLS connection that was refused, and how many were not told since */
        unsigned n_unwarned;
};

/* A listener's accepted() passes @c on; the listener closes what is not taken. */
void http_intake_accept(struct http_intake *in, struct conn *c);
/* Now and then: closes what has waited for too long. */
void http_intake_tick(struct http_intake *in);
/* Closes all. */
void http_intake_stop(struct http_intake *in);

#endif
