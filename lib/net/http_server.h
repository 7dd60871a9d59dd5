/* lib/net/http_server.h - HTTP/1.1 requests, answered on the loop or by workers.
 *
 * It takes connections that a listener has accepted. One whose request begins with "GET /stream " or "GET /proxy " is
 * passed on unread, once its head is there; all others are HTTP's from then on.
 *
 * Order, for each request: config.request() on the loop, which asks for exactly one of http_call_reply,
 * http_call_run, http_call_receive, http_call_push_open. What was asked for begins when the body has come (but
 * for receive, which takes it). A function that runs on a worker ends with http_call_reply or http_call_stream.
 * A small body that nobody asked for is dropped; a large one ends the connection.
 *
 * Everything that a peer can make us keep is bounded: heads of 16 KiB, connections (crowd.h says which one goes), the time
 * for a head, one buffer a request, and what waits for workers: requests of which nobody has said http_call_trust
 * have two of their own, and one more than HTTP_MAX_VISITORS is answered 503. */
#ifndef LITEFS_NET_HTTP_SERVER_H
#define LITEFS_NET_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "net/conn.h"
#include "net/loop.h"

struct http_server;
struct http_call;

#define HTTP_MAX_VISITORS 128u

struct http_server_config {
        struct loop *loop;
        unsigned n_workers; /* 0: 4 */
        unsigned max_conns; /* of HTTP, 0: 1024 */
        int64_t head_ms;    /* for a head to come, also of the next request, 0: 30 s */
        /* As a listener's accepted(): call conn_set_handler in them. NULL: /stream, or /proxy, is HTTP's, too. */
        void (*stream)(void *arg, struct conn *c);
        void (*proxy)(void *arg, struct conn *c);
        void (*request)(void *arg, struct http_call *call);
        void *arg;
};

/* On any thread but the loop's; so are stop and free. */
int http_server_new(const struct http_server_config *config, struct http_server **ret, struct err *e);
/* A listener's accepted() passes @c on. The loop's thread. */
void http_server_accept(struct http_server *s, struct conn *c);
/* HTTP connections that are open. The loop's thread. */
unsigned http_server_n_conns(const struct http_server *s);
/* Answers so far with a status of @hundreds * 100 and above, 1 to 5. The loop's thread. */
uint64_t http_server_n_answers(const struct http_server *s, int hundreds);
/* Waits for the workers, then closes all connections. Before the loop's stop. */
void http_server_stop(struct http_server *s);
/* After the loop's stop. NULL is fine. */
void http_server_free(struct http_server *s);

/* --- a request --- */

const char *http_call_method(const struct http_call *call);
/* Decoded, without the query. */
const char *http_call_path(const struct http_call *call);
/* NULL when it is not there, or has a zero byte. */
const char *http_call_header(const struct http_call *call, const char *name);
const char *http_call_query(const struct http_call *call, const char *name);
/* @free_data is called on the loop when the request is over, however it ended. */
void http_call_set_data(struct http_call *call, void *data, void (*free_data)(void *data));

/* Within request(): it does not wait behind requests that are nobody's. @is_proved: who asks has shown who he is, so that
 * his connection does not make room for others. */
void http_call_trust(struct http_call *call, bool is_proved);
bool http_call_is_proved(const struct http_call *call);
/* All connections are in use, and this one is of the reserve: for what cannot wait. */
bool http_call_is_extra(const struct http_call *call);
/* Requests under way, with this one, that come from its address and have not been proved. */
unsigned http_call_n_of_address(const struct http_call *call);

/* Within request(): its connection ends once nothing was sent or received for so long, and not only after a minute. */
void http_call_set_idle(struct http_call *call, unsigned seconds);

/* Copies the body; all strings of @type and of headers are static. */
void http_call_reply(struct http_call *call, int status, const char *type, const void *body, size_t n);
void http_call_add_header(struct http_call *call, const char *name, const char *value);

/* @fn runs on a worker. */
void http_call_run(struct http_call *call, void (*fn)(struct http_call *call, void *data));

/* In such a function instead of an answer: what it needs is in use. It is called again in @ms, and no worker waits. */
void http_call_run_again(struct http_call *call, unsigned ms);

/* The body, on a worker: write() for each piece in order (an error stops it; the rest is dropped), then end()
 * with the first error, -EFBIG when more than @max_bytes came, or 0. */
struct http_receiver {
        int (*write)(void *data, const void *buf, size_t n);
        void (*end)(struct http_call *call, void *data, int result);
};
void http_call_receive(struct http_call *call, const struct http_receiver *r, uint64_t max_bytes);

/* The answer's body, piece by piece on a worker: read() returns the count, 0 at the end, <0: the connection is
 * cut, so that the peer does not take it for complete. @size_bytes may be -1: not known. */
void http_call_stream(struct http_call *call, int status, const char *type, int64_t size_bytes,
                      ssize_t (*read)(void *data, void *buf, size_t n));

/* An answer that has no end: pieces as they come. */
void http_call_push_open(struct http_call *call, int status, const char *type);
/* The loop's thread, but not within request(). More than @max_bytes unsent ends the connection: -ENOBUFS. */
int http_call_push(struct http_call *call, const void *buf, size_t n, size_t max_bytes);

#endif
