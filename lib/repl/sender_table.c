#include "repl/sender_table.h"

#include <stdlib.h>

#define TAKE_MAX 256u     /* more than a job reads of as a rule */
#define MAX_REST_BEATS 64 /* between attempts at a database that cannot be read */

void
sender_table_init(struct sender_table *t)
{
        *t = (struct sender_table){ .end = &t->first, .end_open = &t->first_open };
}

void
sender_table_release(struct sender_table *t)
{
        while (t->list != NULL) {
                struct sender_entry *en = t->list;

                t->list = en->next;
                log_cursor_release(&en->cursor);
                free(en);
        }
        map_release(&t->by_db);
}

static bool
is_entry_of(const void *item, const void *key)
{
        return ((const struct sender_entry *)item)->cursor.db == key;
}

struct sender_entry *
sender_table_find(const struct sender_table *t, const struct db *db)
{
        return map_find(&t->by_db, map_hash_pointer(db), is_entry_of, db);
}

struct sender_entry *
sender_table_add(struct sender_table *t, struct db *db)
{
        struct sender_entry *en = sender_table_find(t, db);

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
        sender_table_mark(t, en);
        return en;
}

/* --- whose turn it is --- */

static bool
is_open(const struct sender_entry *en)
{
        return en->cursor.src != NULL || en->cursor.snapshot != NULL;
}

static void
put_last(struct sender_entry ***end, struct sender_entry *en)
{
        en->next_in_turn = NULL;
        **end = en;
        *end = &en->next_in_turn;
}

void
sender_table_mark(struct sender_table *t, struct sender_entry *en)
{
        en->is_dirty = true;
        if (en->is_pending || en->is_in_job || en->left_beats > 0)
                return;
        en->is_pending = true;
        put_last(is_open(en) ? &t->end_open : &t->end, en);
}

static void
begin_turn(struct sender_entry *en)
{
        if (en->has_reset && !is_open(en)) {
                log_cursor_reset(&en->cursor, en->reset);
                en->owned_version = en->owned_hash = 0;
                en->has_reset = false;
        }
        en->is_pending = en->is_dirty = false;
        en->is_in_job = true;
        en->had_turn = false;
        en->has_more = true; /* unless the job finds otherwise */
}

struct sender_entry *
sender_table_take(struct sender_table *t)
{
        struct sender_entry *taken, **end;

        *t->end_open = t->first; /* those in front, then the others */
        taken = t->first_open;
        end = &taken;
        for (unsigned i = 0; *end != NULL && (i < TAKE_MAX || is_open(*end)); i++) {
                begin_turn(*end);
                end = &(*end)->next_in_turn;
        }
        t->first_open = NULL;
        t->end_open = &t->first_open;
        t->first = *end;
        *end = NULL;
        if (t->first == NULL)
                t->end = &t->first;
        return taken;
}

/* --- ready --- */

/* A replica that is ahead of us, or beside us, is as little ready as one that is behind, until it has been replaced: whoever is
 * told READY takes what it has for the cluster's. Its cursor must not be a job's. */
static void
count_unready(struct sender_table *t, struct sender_entry *en)
{
        const struct log_cursor *c = &en->cursor;
        bool is_compared = c->is_checked && c->snapshot == NULL;
        bool is = en->has_reset || c->pos.txid < en->target_txid ||
                  (en->target_txid > 0 && !is_compared);

        t->n_unready += (unsigned)is - (unsigned)en->is_unready;
        en->is_unready = is;
}

bool
sender_table_is_ready(const struct sender_table *t)
{
        return t->n_unready == 0;
}

void
sender_table_set_target(struct sender_table *t, struct sender_entry *en, uint64_t txid)
{
        en->target_txid = txid;
        count_unready(t, en);
}

void
sender_table_reset(struct sender_table *t, struct sender_entry *en, struct ltx_pos pos)
{
        en->has_reset = true;
        en->reset = en->acked = pos;
        count_unready(t, en);
        sender_table_mark(t, en);
}

/* --- after a job --- */

static void
begin_rest(struct sender_table *t, struct sender_entry *en)
{
        en->error = 0;
        en->rest_beats = en->rest_beats == 0                ? 1
                         : en->rest_beats >= MAX_REST_BEATS ? MAX_REST_BEATS
                                                            : en->rest_beats * 2;
        en->left_beats = en->rest_beats;
        t->n_resting++;
}

/* Of @taken, those that had a turn in it or those that had none, in their order. */
static struct sender_entry *
take_by_turn(struct sender_entry **taken, bool had_turn)
{
        struct sender_entry *ret = NULL, **end = &ret, *en;

        while ((en = *taken) != NULL)
                if (en->had_turn == had_turn) {
                        *taken = en->next_in_turn;
                        put_last(&end, en);
                } else {
                        taken = &en->next_in_turn;
                }
        return ret;
}

static void
settle_list(struct sender_table *t, struct sender_entry *list,
            void (*failed)(void *arg, const struct sender_entry *en), void *arg)
{
        struct sender_entry *en;

        while ((en = list) != NULL) {
                list = en->next_in_turn;
                en->is_in_job = false;
                if (en->error != 0) {
                        begin_rest(t, en);
                        failed(arg, en);
                } else {
                        en->rest_beats = 0;
                }
                count_unready(t, en);
                if (en->is_dirty || en->has_more)
                        sender_table_mark(t, en);
        }
}

void
sender_table_settle(struct sender_table *t, struct sender_entry *taken,
                    void (*failed)(void *arg, const struct sender_entry *en), void *arg)
{
        struct sender_entry *waited = take_by_turn(&taken, false);

        settle_list(t, waited, failed, arg);
        settle_list(t, taken, failed, arg);
}

void
sender_table_beat(struct sender_table *t)
{
        for (struct sender_entry *en = t->list; en != NULL && t->n_resting > 0; en = en->next)
                if (en->left_beats > 0 && --en->left_beats == 0) {
                        t->n_resting--;
                        sender_table_mark(t, en);
                }
}
