#include "repl/feed_table.h"

#include <stdlib.h>

#define TAKE_MAX 256u     /* more than a job reads of as a rule */
#define MAX_REST_BEATS 64 /* between attempts at a database that cannot be read */

void
feed_table_init(struct feed_table *t)
{
        *t = (struct feed_table){ .end = &t->first };
}

void
feed_table_release(struct feed_table *t)
{
        while (t->list != NULL) {
                struct feed_entry *en = t->list;

                t->list = en->next;
                cursor_release(&en->cursor);
                free(en);
        }
        map_release(&t->by_db);
}

static bool
is_of(const void *item, const void *key)
{
        return ((const struct feed_entry *)item)->cursor.db == key;
}

struct feed_entry *
feed_table_find(const struct feed_table *t, const struct db *db)
{
        return map_find(&t->by_db, map_hash_pointer(db), is_of, db);
}

struct feed_entry *
feed_table_add(struct feed_table *t, struct db *db)
{
        struct feed_entry *en = feed_table_find(t, db);

        if (en != NULL)
                return en;
        en = calloc(1, sizeof *en);
        if (en == NULL || map_put(&t->by_db, map_hash_pointer(db), en) < 0) {
                free(en);
                return NULL;
        }
        en->cursor.db = db;
        en->next = t->list;
        t->list = en;
        feed_table_mark(t, en);
        return en;
}

/* --- whose turn it is --- */

static bool
is_open(const struct feed_entry *en)
{
        return en->cursor.src != NULL || en->cursor.snapshot != NULL;
}

static void
put_first(struct feed_table *t, struct feed_entry *en)
{
        en->next_in_turn = t->first;
        if (t->first == NULL)
                t->end = &en->next_in_turn;
        t->first = en;
}

static void
put_last(struct feed_table *t, struct feed_entry *en)
{
        en->next_in_turn = NULL;
        *t->end = en;
        t->end = &en->next_in_turn;
}

void
feed_table_mark(struct feed_table *t, struct feed_entry *en)
{
        en->is_dirty = true;
        if (en->is_pending || en->is_in_job || en->left_beats > 0)
                return;
        en->is_pending = true;
        if (is_open(en))
                put_first(t, en);
        else
                put_last(t, en);
}

static void
begin_turn(struct feed_entry *en)
{
        if (en->has_reset && !is_open(en)) {
                cursor_reset(&en->cursor, en->reset);
                en->has_reset = false;
        }
        en->is_pending = en->is_dirty = false;
        en->is_in_job = true;
        en->has_more = true; /* unless the job finds otherwise */
}

struct feed_entry *
feed_table_take(struct feed_table *t)
{
        struct feed_entry *taken = t->first, **end = &t->first;

        for (unsigned i = 0; i < TAKE_MAX && *end != NULL; i++) {
                begin_turn(*end);
                end = &(*end)->next_in_turn;
        }
        t->first = *end;
        *end = NULL;
        if (t->first == NULL)
                t->end = &t->first;
        return taken;
}

/* --- ready --- */

/* Its cursor must not be a job's. */
static void
count_unready(struct feed_table *t, struct feed_entry *en)
{
        bool is = en->has_reset || en->cursor.pos.txid < en->target_txid;

        t->n_unready += (unsigned)is - (unsigned)en->is_unready;
        en->is_unready = is;
}

bool
feed_table_is_ready(const struct feed_table *t)
{
        return t->n_unready == 0;
}

void
feed_table_set_target(struct feed_table *t, struct feed_entry *en, uint64_t txid)
{
        en->target_txid = txid;
        count_unready(t, en);
}

void
feed_table_reset(struct feed_table *t, struct feed_entry *en, struct ltx_pos pos)
{
        en->has_reset = true;
        en->reset = en->acked = pos;
        count_unready(t, en);
        feed_table_mark(t, en);
}

/* --- after a job --- */

static void
begin_rest(struct feed_table *t, struct feed_entry *en)
{
        en->error = 0;
        en->rest_beats = en->rest_beats == 0                ? 1
                         : en->rest_beats >= MAX_REST_BEATS ? MAX_REST_BEATS
                                                            : en->rest_beats * 2;
        en->left_beats = en->rest_beats;
        t->n_resting++;
}

void
feed_table_settle(struct feed_table *t, struct feed_entry *taken,
                  void (*failed)(void *arg, const struct feed_entry *en), void *arg)
{
        struct feed_entry *en;

        while ((en = taken) != NULL) {
                taken = en->next_in_turn;
                en->is_in_job = false;
                if (en->error != 0) {
                        begin_rest(t, en);
                        failed(arg, en);
                } else {
                        en->rest_beats = 0;
                }
                count_unready(t, en);
                if (en->is_dirty || en->has_more)
                        feed_table_mark(t, en);
        }
}

void
feed_table_beat(struct feed_table *t)
{
        for (struct feed_entry *en = t->list; en != NULL && t->n_resting > 0; en = en->next)
                if (en->left_beats > 0 && --en->left_beats == 0) {
                        t->n_resting--;
                        feed_table_mark(t, en);
                }
}
