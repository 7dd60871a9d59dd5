/* lib/repl/log_cursor.h - where a sender stands in one database, and the bytes from there on.
 *
 * Used by one job at a time, on a worker. */
#ifndef LITEFS_REPL_LOG_CURSOR_H
#define LITEFS_REPL_LOG_CURSOR_H

#include "db/snapshot.h"
#include "ltx/pos.h"
#include "repl/frame.h"

/* Frames that go out together. */
struct outbox {
        struct byte_sink base;
        uint8_t *buf;
        size_t n, size;
        uint32_t stream; /* of the record that is being written: its cursor's */
        uint64_t n_data; /* bytes of it so far */
};

struct log_cursor {
        struct db *db;
        struct ltx_pos pos; /* the replica's, once all that was sent is applied */
        bool is_checked;    /* that position is in our history */
        bool is_begun;      /* a record is half sent */
        uint32_t stream;    /* its number */
        uint64_t n_data;    /* the bytes of it that were sent */
        bool may_lack_file; /* the replica, of a database that is deleted there, or may be */
        bool has_new_file; /* it has made one since this was false: with a mode and an owner of its own choice */

        /* The deletion that ends a rename is not sent before the replica has the other database, of which the cursor does not
         * know: nothing is until log_cursor_let_go. */
        uint64_t held_txid; /* 0: none is held */
        struct ltx_mark held;
        uint64_t let_go_txid;

        struct txlog_reader *reader;
        struct byte_src *src; /* of the record that is being sent; NULL: between records */
        struct db_snapshot *snapshot;
        struct txlog_record record;
        enum txlog_history history; /* of the replica's position, for the snapshot */
};

void outbox_init(struct outbox *o);
void outbox_release(struct outbox *o);
/* Between records, or any frame that is not of one. */
int outbox_put(struct outbox *o, const struct frame *f, struct err *e);

/* The replica says that it is at @pos. */
void log_cursor_reset(struct log_cursor *c, struct ltx_pos pos);
static inline bool
log_cursor_is_in_record(const struct log_cursor *c)
{
        return c->src != NULL || c->snapshot != NULL;
}
/* Adds up to about @want bytes to @o. 1: there is more to send; 0: not now; -EAGAIN: a snapshot has to wait for
 * another one; <0: error. */
int log_cursor_read(struct log_cursor *c, uint64_t term, uint32_t *next_stream, size_t want,
                    struct outbox *o, struct err *e);
/* After an error: ends what it was sending so that the stream goes on, to begin anew. 0 or -ENOMEM. */
int log_cursor_abandon(struct log_cursor *c, struct outbox *o, struct err *e);
static inline void
log_cursor_let_go(struct log_cursor *c)
{
        c->let_go_txid = c->held_txid;
        c->held_txid = 0;
}
void log_cursor_release(struct log_cursor *c);

#endif
