/* lib/proxy/rewrite.h - the heads that the proxy sends, made from those that it received.
 *
 * Fields keep their order. What concerns one connection only (RFC 9110 7.6.1: Connection and what it names, Keep-Alive,
 * TE, Trailer, Transfer-Encoding, Upgrade, Proxy-*) is left out and said anew; so is the length of the body, which is
 * never taken over as text. */
#ifndef LITEFS_PROXY_REWRITE_H
#define LITEFS_PROXY_REWRITE_H

#include "base/text.h"
#include "proxy/reader.h"

/* From one node's proxy to another's: a request that has been sent on once. With the value 2 these two come back. */
#define REWRITE_SENT_ON "Litefs-Proxy-Hop"
/* With a 503: nothing has been done, the primary is another node. */
#define REWRITE_MOVED "Litefs-Proxy-Moved"
/* With a 102: the application gets it now. */
#define REWRITE_TAKEN "Litefs-Proxy-Taken"

/* How a body goes out. */
enum framing { FRAMING_NONE, FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_UNTIL_END };

/* Whether a request can be served at all: 0, or the status of the answer, with *@ret_reason. Also finds the target's
 * path and query (in origin form) and the host, the one of an absolute target first. */
struct request_target {
        struct slice path, host;
};
int rewrite_check(const struct reader *request, struct request_target *ret, const char **ret_reason);

struct request_rewrite {
        const struct request_target *target;
        const char *client; /* its address, without port; NULL: another proxy of ours, which has told us */
        const char *default_host; /* when the request has none (HTTP/1.0) */
        bool is_sent_on;          /* it goes to another node's proxy */
};
/* Sets how its body has to be sent. */
enum framing rewrite_request(struct text *out, const struct reader *request,
                             const struct request_rewrite *how);

struct response_rewrite {
        unsigned client_minor; /* of HTTP/1.x */
        bool is_head;
        bool is_keep_alive;     /* the connection goes on; cleared when the framing ends it */
        const char *cookies[2]; /* for Set-Cookie, or NULL */
};
enum framing rewrite_response(struct text *out, const struct reader *response,
                              struct response_rewrite *how);

#endif
