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

/* What a node, which is @self, answers about the database @name, piece by piece: whole records, of which none begins after the
 * first few MiB. 0 or -ENOMEM. Threads: one at a time. */
struct fetch_source;
int fetch_source_open(struct store *store, const struct frame_hello *self, const char *name,
                      struct ltx_pos from, struct fetch_source **ret);
/* At most @n bytes: the count, 0 at the end; <0: it cannot go on, and what was read may end within a record (-ETIMEDOUT: ten
 * seconds after it was opened). Waits for the disk. */
ssize_t fetch_source_read(struct fetch_source *s, void *buf, size_t n);
/* NULL is fine. */
void fetch_source_close(struct fetch_source *s);

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

/* Asks once for what follows @pos, which is moved as far as transactions have been pushed: some of them, or none; also before
 * an error, of the request or of what came. Each is taken as it comes, however large it is. Waits, at most @timeout_ms. */
int fetch_some(const struct fetch *f, const char *name, struct ltx_pos *pos, int64_t timeout_ms,
               struct err *e);

#endif
