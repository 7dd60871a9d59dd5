/* lib/repl/survey.h - which of the other nodes has transactions of the last term that this one lacks.
 *
 * Terms say who was there; within a term positions decide. A replica that the primary could not reach any more may see the
 * lease free first: were it to lead, the others would set aside what they have acknowledged and it lacks. So before it takes
 * a lease that nobody has passed on to it, a candidate asks the others, GET /positions, candidates and others. What one of the
 * same term has beyond it, it fetches (fetch.h); to one that is ahead all the same it leaves the lease.
 *
 * The answer is a HELLO, with the last term that the node has all the data of, and its POSITIONS, all of them, in frames as
 * on the stream (docs/protocol.md). */
#ifndef LITEFS_REPL_SURVEY_H
#define LITEFS_REPL_SURVEY_H

#include "net/http_client.h"
#include "db/received.h"
#include "repl/frame.h"
#include "repl/peers.h"
#include "store/store.h"

#define SURVEY_MS 1000 /* for all of it, */
#define FETCH_MS 3000  /* and what is fetched */

struct survey {
        const struct http_client_options *http; /* of requests to other nodes; NULL: plain */
        const char *const *headers;             /* besides, of those for transactions */
        const struct clock *clock;
        struct peers *peers;
        struct store *store;
        const struct frame_hello *self; /* its term: the last whole one */
        const char *stopped_url;        /* of a primary that has said its last word; "": none */
        /* See struct fetch. NULL: nothing is fetched. */
        int (*push)(void *arg, const char *name, struct received *rx, struct err *e);
        void *arg;
};

struct survey_result {
        char url[LEASE_URL_SIZE], hostname[LEASE_HOSTNAME_SIZE]; /* of the node that is ahead */
};

/* Asks each of the peers, but for the one at stopped_url: what that one has and did not send was acknowledged to nobody. 1: one is ahead; 0: none that answers, and what they had more is here, or is about to be
 * applied; or a negative errno. Waits, at most SURVEY_MS and FETCH_MS. */
int survey_ask(const struct survey *s, struct survey_result *ret, struct err *e);

/* What a node answers: bytes that are the caller's to free. 0 or -ENOMEM. */
int survey_answer(struct store *store, const struct frame_hello *self, char **ret, size_t *ret_n);

#endif
