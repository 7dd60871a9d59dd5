/* lib/repl/sender_table.h - the databases of a sender: where each stands, and which have something to send.
 *
 * A database is idle, pending, or in the sender's job. Those that are pending have their turn in that order, and of those that
 * were taken for a job and did not come to their turn, before those that did. Those in the middle of a record have an order of
 * their own, and all of them are in each job, in front.
 *
 * The loop's thread; but cursor, has_more, error and e are the job's while one runs. */
#ifndef LITEFS_REPL_SENDER_TABLE_H
#define LITEFS_REPL_SENDER_TABLE_H

#include "base/map.h"
#include "repl/log_cursor.h"

struct sender_entry {
        struct sender_entry *next;
        struct log_cursor cursor;
        struct ltx_pos acked;   /* applied */
        struct ltx_pos durable; /* and on its disk, as far as it has said so */
        uint64_t owned_hash;    /* of the ownership that was sent; 0: none was */
        uint64_t owned_version; /* when that was read */
        uint64_t target_txid;   /* the stream is ready once this is sent */
        bool has_more;          /* there is something to send */
        bool had_turn;          /* in this job */
        int error;              /* it could not be read */
        struct err e;

        bool is_dirty;  /* there may be something to send */
        bool is_in_job; /* its turn has come */
        bool is_pending;
        bool is_unready;            /* counted as that */
        int rest_beats, left_beats; /* after an error: how long it is left alone, in heartbeats */
        bool has_reset;
        struct ltx_pos reset;
        struct sender_entry *next_in_turn; /* pending, or in the job */
};

struct sender_table {
        struct map by_db;
        struct sender_entry *list;                   /* all */
        struct sender_entry *first, **end;           /* pending, between records */
        struct sender_entry *first_open, **end_open; /* pending, in the middle of one */
        unsigned n_unready, n_resting;
};

void sender_table_init(struct sender_table *t);
void sender_table_release(struct sender_table *t);

/* NULL: it is not there. */
struct sender_entry *sender_table_find(const struct sender_table *t, const struct db *db);
/* Finds it, or makes it, pending. NULL: no memory. */
struct sender_entry *sender_table_add(struct sender_table *t, struct db *db);
/* There may be something to send. */
void sender_table_mark(struct sender_table *t, struct sender_entry *en);
/* The replica says that it is at @pos. */
void sender_table_reset(struct sender_table *t, struct sender_entry *en, struct ltx_pos pos);
void sender_table_set_target(struct sender_table *t, struct sender_entry *en, uint64_t txid);
/* All targets are sent. */
bool sender_table_is_ready(const struct sender_table *t);
/* Those whose turn it is, for a job; NULL: none. */
struct sender_entry *sender_table_take(struct sender_table *t);
/* After the job, all that were taken. Those in which it met an error rest; @failed is told for how many beats. */
void sender_table_settle(struct sender_table *t, struct sender_entry *taken,
                         void (*failed)(void *arg, const struct sender_entry *en), void *arg);
/* A heartbeat: those that have rested enough are pending. */
void sender_table_beat(struct sender_table *t);

#endif
