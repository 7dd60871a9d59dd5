/* Renames that did not come to their end: found at the start, finished or taken back when this node may commit. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "store/renames_internal.h"
#include "store/store_internal.h"

/* With both accesses. 0; -ESTALE: somebody has changed one of them since, and so it stays. */
static int
redo_pair(const struct rename_note_pair *pair, struct db_rename *rn,
          const struct db_rename_detach *detach, struct err *e)
{
        int r;

        if (rn->from == NULL)
                return renames_is_at(rn->to, pair->to_pos) ? renames_remove_target(rn, detach, e)
                       : renames_is_deleted_after(rn->to, pair->to_pos)
                               ? 0
                               : err_text(e, -ESTALE, "%s has been changed since", pair->to);
        if (renames_is_at(rn->to, pair->made_pos) && renames_is_deleted_after(rn->from, pair->from_pos))
                return 0;
        if (!renames_is_at(rn->from, pair->from_pos) ||
            (!renames_is_at(rn->to, pair->to_pos) && !renames_is_at(rn->to, pair->made_pos)))
                return err_text(e, -ESTALE, "%s or %s has been changed since", pair->from, pair->to);
        rn->fresh = pair->fresh;
        r = db_rename_check(rn, e);
        if (r == 0 && renames_is_at(rn->to, pair->to_pos)) {
                r = db_rename_prepare(rn, e);
                if (r == 0)
                        r = db_rename_put(rn, detach, e);
        }
        if (r == 0) {
                rn->made_pos = pair->made_pos;
                r = db_rename_drop(rn, detach, e);
        }
        return r;
}

static int
open_pairs(struct renames *rs, const struct rename_note *note, struct err *e)
{
        int r = 0;

        for (size_t i = 0; i < note->n && r == 0; i++) {
                const struct rename_note_pair *pair = &note->pairs[i];
                struct db *from = store_find(rs->s, pair->from), *to;

                r = store_create_db(rs->s, pair->to, &to, e);
                if (r == 0 && pair->from[0] != '\0' && from == NULL)
                        r = err_text(e, -ESTALE, "%s is gone", pair->from);
                if (r == 0)
                        r = renames_add_pair(rs, pair->from[0] != '\0' ? from : NULL, to, e);
        }
        return r == 0 ? renames_begin(rs, NULL, e) : r;
}

/* It failed halfway, and some of it was taken back: so is the rest. */
static bool
is_taken_back(const struct rename_note *note, const struct renames *rs)
{
        for (size_t i = 0; i < note->n; i++)
                if (rs->list[i].from != NULL &&
                    renames_is_deleted_after(rs->list[i].to, note->pairs[i].made_pos) &&
                    renames_is_at(rs->list[i].from, note->pairs[i].from_pos))
                        return true;
        return false;
}

static int
undo_pair(const struct rename_note_pair *pair, struct db_rename *rn,
          const struct db_rename_detach *detach, struct err *e)
{
        return renames_is_at(rn->to, pair->made_pos) && renames_is_at(rn->from, pair->from_pos)
                       ? renames_remove_target(rn, detach, e)
                       : 0;
}

/* 0: done, or overtaken; 1: it failed, which the next start may mend; else it is to be tried again. */
static int
redo_rename(struct store *s, const struct rename_note *note, const struct db_rename_detach *detach)
{
        struct renames *rs;
        struct err e = ERR_INIT;
        struct stat st;
        char from[PATH_MAX];
        bool is_undone;
        int r = renames_new(s, note->n, &rs);

        if (r < 0)
                return r;
        r = open_pairs(rs, note, &e);
        renames_tell_of_group(rs, note->number, note->n);
        is_undone = r == 0 && is_taken_back(note, rs);
        for (size_t i = 0; i < note->n && r == 0; i++)
                r = is_undone ? undo_pair(&note->pairs[i], &rs->list[i], detach, &e)
                              : redo_pair(&note->pairs[i], &rs->list[i], detach, &e);
        if (r == 0 && !is_undone && note->plain_from[0] != '\0' &&
            renames_plain_path(s, note->plain_from, from) == 0 &&
            os_lstat(s->config.os, "rename:plain", from, &st) == 0)
                r = renames_move_plain(s, note, &e);
        renames_free(rs);
        if (r == E_BUSY || r == -EBUSY || r == E_NOT_PRIMARY || r == E_FENCED)
                return r;
        if (r < 0)
                log_event(LOG_WARN, note->pairs[0].to,
                          "a rename that was cut short stays as it is, and both names may remain: %s",
                          e.text);
        if (r < 0)
                return r == -ESTALE ? 0 : 1;
        if (note->n > 0)
                log_event(LOG_INFO, note->pairs[0].to, "a rename that was cut short was %s",
                          is_undone ? "taken back" : "finished");
        return 0;
}

int
renames_finish(struct store *s, struct db *from, struct ltx_pos from_pos, struct db *to,
               uint64_t made_txid, const struct db_rename_detach *detach, struct err *e)
{
        struct renames *rs;
        struct db_rename *rn;
        int r = renames_new(s, 1, &rs);

        if (r < 0)
                return err_set(e, r, "rename");
        rn = &rs->list[0];
        r = renames_add_pair(rs, from, to, e);
        if (r == 0)
                r = renames_begin(rs, NULL, e);
        if (r == 0 && !renames_is_at(from, from_pos))
                r = err_text(e, -ESTALE, "%s has been changed since", db_name(from));
        if (r == 0)
                r = db_rename_check(rn, e);
        if (r == 0) {
                rn->made_pos.txid = made_txid;
                r = db_rename_drop(rn, detach, e);
        }
        renames_free(rs);
        return r;
}

bool
renames_are_wanted(struct store *s)
{
        bool are;

        pthread_mutex_lock(&s->renames.lock);
        are = s->renames.unfinished != NULL;
        pthread_mutex_unlock(&s->renames.lock);
        return are;
}

void
renames_redo(struct store *s, const struct db_rename_detach *detach)
{
        struct rename_notes *notes = &s->renames;
        struct rename_note *list, *note;
        int r;

        if (authority_may_commit(&s->authority) < 0)
                return;
        pthread_mutex_lock(&notes->lock);
        list = notes->unfinished;
        notes->unfinished = NULL;
        pthread_mutex_unlock(&notes->lock);
        while ((note = list) != NULL) {
                list = note->next;
                r = redo_rename(s, note, detach);
                if (r == 0)
                        rename_note_remove(s->config.os, notes->dir, note->number);
                if (r >= 0) {
                        rename_note_free(note);
                        continue;
                }
                pthread_mutex_lock(&notes->lock);
                note->next = notes->unfinished;
                notes->unfinished = note;
                pthread_mutex_unlock(&notes->lock);
        }
}

/* --- at start --- */

static int
load_note(void *arg, const char *name)
{
        struct store *s = arg;
        struct rename_notes *notes = &s->renames;
        struct rename_note *note;
        struct err e = ERR_INIT;
        char *end;
        uint64_t number = strtoull(name, &end, 10);
        int r;

        if (end == name || *end != '\0')
                return 0;
        if (number > notes->last_number)
                notes->last_number = number;
        r = rename_note_read(s->config.os, notes->dir, number, &note, &e);
        if (r == E_FORMAT) { /* it was not durable yet: nothing has followed it */
                rename_note_remove(s->config.os, notes->dir, number);
                return 0;
        }
        if (r < 0)
                return r;
        note->next = notes->unfinished;
        notes->unfinished = note;
        return 0;
}

int
rename_notes_load(struct store *s, struct err *e)
{
        struct rename_notes *notes = &s->renames;
        int n = snprintf(notes->dir, sizeof notes->dir, "%s/renames", s->config.data_dir), r;

        if (n < 0 || n >= (int)sizeof notes->dir)
                return err_set(e, -ENAMETOOLONG, "%s/renames", s->config.data_dir);
        r = os_list_dir(s->config.os, "rename:note", notes->dir, load_note, s);
        return r < 0 && r != -ENOENT ? err_set(e, r, "read %s", notes->dir) : 0;
}

void
rename_notes_release(struct rename_notes *notes)
{
        struct rename_note *note;

        while ((note = notes->unfinished) != NULL) {
                notes->unfinished = note->next;
                rename_note_free(note);
        }
        pthread_mutex_destroy(&notes->lock);
}
