/* lib/repl/feed_table.h - the databases of a feed: where each stands, and which have something to send.
 *
 * A database is idle, pending, or in the feed's job. Those that are pending have their turn in that order, but one in
 * the middle of a record comes first, since records do not mix on the wire.
 *
 * The loop's thread; but cursor, has_more, error and e are the job's while one runs. */
#ifndef LITEFS_REPL_FEED_TABLE_H
#define LITEFS_REPL_FEED_TABLE_H

#include "base/map.h"
#include "repl/cursor.h"

struct feed_entry {
        struct feed_entry *next;
        struct cursor cursor;
        struct ltx_pos acked;
        uint64_t target_txid; /* the stream is ready once this is sent */
        bool has_more;        /* there is something to send */
        int error;            /* it could not be read */
        struct err e;

        bool is_dirty;  /* there may be something to send */
        bool is_in_job; /* its turn has come */
        bool is_pending;
        bool is_unready;            /* counted as that */
        int rest_beats, left_beats; /* after an error: how long it is left alone, in heartbeats */
        bool has_reset;
        struct ltx_pos reset;
        struct feed_entry *next_in_turn; /* pending, or in the job */
};

struct feed_table {
        struct map by_db;
        struct feed_entry *list;         /* all */
        struct feed_entry *first, **end; /* pending */
        unsigned n_unready, n_resting;
};

void feed_table_init(struct feed_table *t);
void feed_table_release(struct feed_table *t);

/* NULL: it is not there. */
struct feed_entry *feed_table_find(const struct feed_table *t, const struct db *db);
/* Finds it, or makes it, pending. NULL: no memory. */
struct feed_entry *feed_table_add(struct feed_table *t, struct db *db);
/* There may be something to send. */
void feed_table_mark(struct feed_table *t, struct feed_entry *en);
/* The replica says that it is at @pos. */
void feed_table_reset(struct feed_table *t, struct feed_entry *en, struct ltx_pos pos);
void feed_table_set_target(struct feed_table *t, struct feed_entry *en, uint64_t txid);
/* All targets are sent. */
bool feed_table_is_ready(const struct feed_table *t);
/* Those whose turn it is, for a job; NULL: none. */
struct feed_entry *feed_table_take(struct feed_table *t);
/* After the job, all that were taken. Those in which it met an error rest; @failed is told for how many beats. */
void feed_table_settle(struct feed_table *t, struct feed_entry *taken,
                       void (*failed)(void *arg, const struct feed_entry *en), void *arg);
/* A heartbeat: those that have rested enough are pending. */
void feed_table_beat(struct feed_table *t);

#endif
