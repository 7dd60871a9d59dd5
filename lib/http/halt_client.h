/* lib/http/halt_client.h - what a node asks of its primary to write there: /halt and /tx (halt.c answers them).
 *
 * Each call waits, at most for a stated time. One thread at a time for one client. */
#ifndef LITEFS_HTTP_HALT_CLIENT_H
#define LITEFS_HTTP_HALT_CLIENT_H

#include "base/token.h"
#include "db/apply.h"

struct halt_client;
struct http_client_options;

/* Which lock of which database, at which primary. */
struct halt_target {
        const char *url; /* "http://host:20202" */
        const char *name;
        int64_t id;
};

struct halt_answer {
        struct ltx_pos pos;
        int64_t ttl_ms;
};

/* Of this node, borrowed. NULL for what there is none of. */
struct halt_client_config {
        uint64_t boot_id;
        struct token *token;
        const struct http_client_options *peer_http; /* of requests to other nodes; NULL: plain */
};

/* Borrows @config. */
int halt_client_new(const struct halt_client_config *config, struct halt_client **ret, struct err *e);
void halt_client_free(struct halt_client *c); /* NULL is fine */

/* 0, E_NOT_HELD (the primary refuses: whoever asks again will hear the same), or what kept the answer from coming. */
int halt_client_acquire(struct halt_client *c, const struct halt_target *t, int64_t timeout_ms,
                        struct halt_answer *ret, struct err *e);
/* Only if it is still there. */
int halt_client_renew(struct halt_client *c, const struct halt_target *t, int64_t timeout_ms,
                      struct halt_answer *ret, struct err *e);
int halt_client_release(struct halt_client *c, const struct halt_target *t, int64_t timeout_ms,
                        struct err *e);
/* 0: the primary has it, durably. E_NOT_HELD: it does not. E_BUSY_DB: neither, but it may take the next. Anything
 * else: nobody knows. @timeout_ms is how long nothing may move. */
int halt_client_send(struct halt_client *c, const struct halt_target *t, const struct received *rx,
                     int64_t timeout_ms, struct err *e);

#endif
