#include "store/rename_intents.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "store/renames.h"
#include "store/store_internal.h"

struct rename_intent {
        struct rename_intent *next;
        struct db *from, *to;
        struct ltx_pos made;    /* the target's, when it was what the source was */
        uint64_t from_checksum; /* the source's, then */
        uint16_t count, group;  /* see struct ltx_mark */
        bool is_over;           /* the source is gone, as it was to be */
};

/* --- the list; with its lock --- */

static bool
is_of_group(const struct rename_intent *it, const struct rename_intent *other)
{
        return it->group == other->group && it->count == other->count;
}

static void
forget_intent(struct rename_intents *ri, struct rename_intent **p)
{
        struct rename_intent *it = *p;

        *p = it->next;
        free(it);
        ri->n--;
}

static void
forget_group(struct rename_intents *ri, const struct rename_intent *of)
{
        struct rename_intent group = *of, **p = &ri->list;

        while (*p != NULL)
                if (is_of_group(*p, &group))
                        forget_intent(ri, p);
                else
                        p = &(*p)->next;
}

static void
forget_oldest(struct rename_intents *ri)
{
        struct rename_intent **p = &ri->list;

        while ((*p)->next != NULL)
                p = &(*p)->next;
        forget_intent(ri, p);
}

/* How many of the group there are, and whether one is not over. */
static unsigned
count_group(const struct rename_intent *list, const struct rename_intent *of, bool *ret_is_open)
{
        unsigned n = 0;

        *ret_is_open = false;
        for (const struct rename_intent *it = list; it != NULL; it = it->next)
                if (is_of_group(it, of)) {
                        n++;
                        *ret_is_open |= !it->is_over;
                }
        return n;
}

static void
end_intents_from(struct rename_intents *ri, const struct db *from)
{
        struct rename_intent *over = NULL;
        bool is_open;

        for (struct rename_intent *it = ri->list; it != NULL; it = it->next)
                if (it->from == from && !it->is_over) {
                        it->is_over = true;
                        over = it;
                }
        if (over == NULL)
                return;
        (void)count_group(ri->list, over, &is_open);
        if (!is_open)
                forget_group(ri, over);
}

/* Taken back, or deleted since: what it was is nowhere but in the source then. */
static void
forget_intents_to(struct rename_intents *ri, const struct db *to)
{
        struct rename_intent **p = &ri->list;

        while (*p != NULL)
                if ((*p)->to == to)
                        forget_intent(ri, p);
                else
                        p = &(*p)->next;
}

/* --- on a replica --- */

static void
add_intent(struct rename_intents *ri, struct db *from, struct db *to, const struct received *rx)
{
        const struct ltx_mark *mark = &rx->mark;
        struct rename_intent *it = malloc(sizeof *it);

        if (it == NULL)
                return; /* and both remain, should it come to that */
        pthread_mutex_lock(&ri->lock);
        if (ri->n == RENAME_INTENTS_MAX)
                forget_oldest(ri);
        *it = (struct rename_intent){ .next = ri->list,
                                      .from = from,
                                      .to = to,
                                      .made = { rx->record.max_txid, rx->record.post_apply_checksum },
                                      .from_checksum = mark->renamed_at,
                                      .count = mark->renamed_count,
                                      .group = mark->renamed_group };
        ri->list = it;
        ri->n++;
        pthread_mutex_unlock(&ri->lock);
}

void
rename_intents_note(struct store *s, struct db *db, const struct received *rx)
{
        struct rename_intents *ri = &s->intents;
        struct db *from;

        /* What comes under that name now is another database. */
        if (rx->record.commit == 0 || rx->record.min_txid == 1) {
                pthread_mutex_lock(&ri->lock);
                end_intents_from(ri, db);
                forget_intents_to(ri, db);
                pthread_mutex_unlock(&ri->lock);
        }
        if (rx->record.commit == 0 || rx->mark.renamed_name == 0)
                return;
        from = store_find_hash(s, rx->mark.renamed_name);
        if (from != NULL)
                add_intent(ri, from, db, rx);
}

/* --- as the primary --- */

bool
rename_intents_are_wanted(struct store *s)
{
        bool are;

        pthread_mutex_lock(&s->intents.lock);
        are = s->intents.list != NULL;
        pthread_mutex_unlock(&s->intents.lock);
        return are;
}

/* 0: done, or overtaken by what came since; else it is to be tried again, or failed. */
static int
finish_intent(struct store *s, const struct rename_intent *it, const struct db_rename_detach *detach,
              struct err *e)
{
        enum txlog_history history = TXLOG_HISTORY_OURS;
        struct db_info from;
        int r = 0;

        db_get_info(it->from, &from);
        if (it->is_over || !db_exists(it->from) || !db_exists(it->to) ||
            from.pos.checksum != it->from_checksum)
                return 0;
        r = txlog_find_history(db_log(it->to), it->made, &history, e);
        if (r < 0 || history != TXLOG_HISTORY_OURS)
                return r;
        r = renames_finish(s, it->from, from.pos, it->to, it->made.txid, detach, e);
        if (r == 0)
                log_event(LOG_INFO, db_name(it->to),
                          "a rename of %s that a primary before this one had begun was finished",
                          db_name(it->from));
        return r == -ESTALE ? 0 : r;
}

static void
put_back(struct rename_intents *ri, struct rename_intent *it)
{
        pthread_mutex_lock(&ri->lock);
        it->next = ri->list;
        ri->list = it;
        ri->n++;
        pthread_mutex_unlock(&ri->lock);
}

static void
tell_not_finished(const struct rename_intent *it, const char *why)
{
        log_event(LOG_WARN, db_name(it->to),
                  "a rename of %s that a primary before this one had begun is not finished, and both "
                  "names remain: %s",
                  db_name(it->from), why);
}

void
rename_intents_finish(struct store *s, const struct db_rename_detach *detach)
{
        struct rename_intents *ri = &s->intents;
        struct rename_intent *list, *it;
        bool is_open;

        if (store_may_commit(s) < 0)
                return;
        pthread_mutex_lock(&ri->lock);
        list = ri->list;
        ri->list = NULL;
        ri->n = 0;
        pthread_mutex_unlock(&ri->lock);
        for (it = list; it != NULL; it = it->next) /* what is over counts until all are looked at */
                if (!it->is_over && count_group(list, it, &is_open) < it->count) {
                        tell_not_finished(it, "not all that was renamed with it has come");
                        it->count = 0;
                }
        while ((it = list) != NULL) {
                struct err e = ERR_INIT;
                int r = it->count == 0 ? 0 : finish_intent(s, it, detach, &e);

                list = it->next;
                if (r == E_BUSY || r == -EBUSY || r == E_NOT_PRIMARY || r == E_FENCED) {
                        it->count = 1; /* its group was whole */
                        put_back(ri, it);
                        continue;
                }
                if (r < 0)
                        tell_not_finished(it, e.text);
                free(it);
        }
}

void
rename_intents_release(struct rename_intents *ri)
{
        while (ri->list != NULL)
                forget_intent(ri, &ri->list);
        pthread_mutex_destroy(&ri->lock);
}
