/* lib/repl/cursor.h - where a feed stands in one database, and the bytes from there on.
 *
 * Used by one job at a time, on a worker. */
#ifndef LITEFS_REPL_CURSOR_H
#define LITEFS_REPL_CURSOR_H

#include "db/snapshot.h"
#include "ltx/pos.h"
#include "repl/frame.h"

/* Frames that go out together. */
struct outbox {
        struct byte_sink base;
        uint8_t *buf;
        size_t n, size;
        uint32_t stream; /* of the record that is being written */
        uint64_t n_data; /* bytes of it so far */
};

struct cursor {
        struct db *db;
        struct ltx_pos pos; /* the replica's, once all that was sent is applied */
        bool is_checked;    /* that position is in our history */
        bool is_begun;      /* a record is half sent */

        struct txlog_reader *reader;
        struct byte_src *src; /* of the record that is being sent; NULL: between records */
        struct db_snapshot *snapshot;
        struct txlog_record record;
        enum txlog_history history; /* of the replica's position, for the snapshot */
};

void outbox_init(struct outbox *o);
void outbox_release(struct outbox *o);

/* The replica says that it is at @pos. */
void cursor_reset(struct cursor *c, struct ltx_pos pos);
/* Adds up to about @want bytes to @o. 1: there is more to send; 0: not now; -EAGAIN: a snapshot has to wait for
 * another one; <0: error. */
int cursor_read(struct cursor *c, uint64_t term, uint32_t *next_stream, size_t want, struct outbox *o,
                struct err *e);
/* After an error: ends what it was sending so that the stream goes on, to begin anew. 0 or -ENOMEM. */
int cursor_abandon(struct cursor *c, struct outbox *o, struct err *e);
void cursor_release(struct cursor *c);

#endif
