/* lib/repl/fetch.h - transactions of the last term from a node that has more of them, before this one leads.
 *
 * The survey finds that another node is ahead in a database. GET /transactions?db=NAME&pos=TXID/CHECKSUM there answers with a
 * HELLO and the records that follow that position, in frames as on the stream (docs/protocol.md). They are applied as if they
 * came from a primary. A node in whose history the position is not answers with none: that is for who leads to settle. */
#ifndef LITEFS_REPL_FETCH_H
#define LITEFS_REPL_FETCH_H

#include "db/received.h"
#include "net/http_client.h"
#include "repl/frame.h"
#include "store/store.h"

#define FETCH_ANSWER_MAX (64u << 20) /* bytes; of a record that does not fit nothing is sent */

/* What a node, which is @self, answers about the database @name: bytes that are the caller's to free. 0 or -ENOMEM. Waits for
 * the disk. */
int fetch_answer(struct store *store, const struct frame_hello *self, const char *name,
                 struct ltx_pos from, char **ret, size_t *ret_n);

struct fetch {
        struct http_client *client;
        const char *url;                /* of the other node */
        const char *const *headers;     /* of the request; or NULL */
        const struct frame_hello *peer; /* as it answered the survey */
        const struct db_env *env;
        /* Takes @rx, which was made by malloc, to be applied in its turn; an error: it is the caller's still. */
        int (*push)(void *arg, const char *name, struct received *rx, struct err *e);
        void *arg;
};

/* Asks once for what follows @pos, which is moved as far as transactions have been pushed: some of them, or none. 0 or an error
 * of the request or of what came. Waits, at most @timeout_ms. */
int fetch_some(const struct fetch *f, const char *name, struct ltx_pos *pos, int64_t timeout_ms,
               struct err *e);

#endif
