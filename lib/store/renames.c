#include "store/renames.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "store/renames_internal.h"
#include "store/store_internal.h"

#define EMPTY_CHECKSUM ((uint64_t)1 << 63) /* of a database without pages */

int
renames_new(struct store *s, size_t max, struct renames **ret)
{
        struct renames *rs = calloc(1, sizeof *rs);

        if (rs == NULL)
                return -ENOMEM;
        *rs = (struct renames){ .s = s, .max = max };
        rs->note = rename_note_new(max);
        rs->list = calloc(max + 1, sizeof *rs->list);
        rs->turns = calloc(2 * max + 1, sizeof *rs->turns);
        if (rs->note == NULL || rs->list == NULL || rs->turns == NULL) {
                renames_free(rs);
                return -ENOMEM;
        }
        rs->note->n = 0;
        *ret = rs;
        return 0;
}

static int
compare_turns(const void *a, const void *b)
{
        return strcmp(db_name(((const struct turn *)a)->db), db_name(((const struct turn *)b)->db));
}

static void
add_turn(struct renames *rs, struct db *db, struct db_access *access)
{
        rs->turns[rs->n_turns++] = (struct turn){ db, access };
}

int
renames_add_pair(struct renames *rs, struct db *from, struct db *to, struct err *e)
{
        struct rename_note_pair *pair = &rs->note->pairs[rs->note->n];
        struct db_rename *rn = &rs->list[rs->note->n];

        if (rs->note->n >= rs->max)
                return err_set(e, -EXDEV, "more than %zu databases", rs->max);
        snprintf(pair->from, sizeof pair->from, "%s", from != NULL ? db_name(from) : "");
        snprintf(pair->to, sizeof pair->to, "%s", db_name(to));
        db_rename_init(rn, from, to);
        if (from != NULL)
                add_turn(rs, from, &rn->from_access);
        add_turn(rs, to, &rn->to_access);
        rs->note->n++;
        return 0;
}

int
renames_add(struct renames *rs, struct db *from, const char *to, struct err *e)
{
        struct db *db;
        int r;

        if (rs->note->n >= rs->max || rs->note->n >= RENAME_MAX_PAIRS)
                return err_set(e, -EXDEV, "more than %zu databases", rs->note->n);
        r = store_create_db(rs->s, to, &db, e);
        return r < 0 ? r : renames_add_pair(rs, from, db, e);
}

int
renames_add_removal(struct renames *rs, struct db *to, struct err *e)
{
        return renames_add_pair(rs, NULL, to, e);
}

int
renames_set_plain(struct renames *rs, const char *from, const char *to)
{
        struct rename_note *note = rs->note;

        if (strlen(from) >= sizeof note->plain_from || strlen(to) >= sizeof note->plain_to)
                return -ENAMETOOLONG;
        strcpy(note->plain_from, from);
        strcpy(note->plain_to, to);
        return 0;
}

int
renames_begin(struct renames *rs, struct db_waiter *w, struct err *e)
{
        int r = 0;

        if (rs->n_begun == 0)
                qsort(rs->turns, rs->n_turns, sizeof *rs->turns, compare_turns);
        while (r == 0 && rs->n_begun < rs->n_turns) {
                struct turn *t = &rs->turns[rs->n_begun];

                if (w != NULL)
                        r = db_access_begin_or_wait(t->db, DB_BY_RENAME, t->access, w, e);
                else
                        r = db_access_begin(t->db, DB_BY_RENAME, t->access, e);
                if (r == 0) /* after E_BUSY all of it may be the waiter's */
                        rs->n_begun++;
        }
        return r;
}

void
renames_free(struct renames *rs)
{
        if (rs == NULL)
                return;
        for (size_t i = 0; rs->list != NULL && rs->note != NULL && i < rs->note->n; i++)
                db_rename_end(&rs->list[i]);
        rename_note_free(rs->note);
        free(rs->list);
        free(rs->turns);
        free(rs);
}

/* --- the note --- */

void
renames_tell_of_group(struct renames *rs, uint64_t number, size_t n)
{
        for (size_t i = 0; i < rs->note->n; i++) {
                rs->list[i].group = (uint16_t)number;
                rs->list[i].count = (uint16_t)n;
        }
}

static int
write_rename_note(struct renames *rs, struct err *e)
{
        struct rename_notes *notes = &rs->s->renames;
        struct rename_note *note = rs->note;

        for (size_t i = 0; i < note->n; i++) {
                struct db_rename *rn = &rs->list[i];
                struct rename_note_pair *pair = &note->pairs[i];

                pair->from_pos = rn->from_pos;
                pair->to_pos = rn->to_pos;
                pair->made_pos = rn->made_pos;
                pair->fresh = rn->fresh;
        }
        pthread_mutex_lock(&notes->lock);
        note->number = ++notes->last_number;
        pthread_mutex_unlock(&notes->lock);
        renames_tell_of_group(rs, note->number, note->n);
        return rename_note_write(rs->s->config.os, notes->dir, note, e);
}

static void
drop_note(struct renames *rs)
{
        rename_note_remove(rs->s->config.os, rs->s->renames.dir, rs->note->number);
}

/* It goes on with renames_redo, once somebody asks. */
static void
keep_note(struct renames *rs)
{
        struct rename_notes *notes = &rs->s->renames;
        struct rename_note *copy = rename_note_new(rs->note->n), *note = rs->note;

        if (copy == NULL)
                return; /* the next start finds it */
        memcpy(copy->pairs, note->pairs, note->n * sizeof *note->pairs);
        copy->number = note->number;
        strcpy(copy->plain_from, note->plain_from);
        strcpy(copy->plain_to, note->plain_to);
        pthread_mutex_lock(&notes->lock);
        copy->next = notes->unfinished;
        notes->unfinished = copy;
        pthread_mutex_unlock(&notes->lock);
        store_wants_tick(rs->s);
}

/* --- how far it has come --- */

bool
renames_is_at(struct db *db, struct ltx_pos pos)
{
        struct db_info info;

        if (db == NULL)
                return pos.txid == 0;
        db_get_info(db, &info);
        return info.pos.txid == pos.txid && (pos.txid == 0 || info.pos.checksum == pos.checksum);
}

bool
renames_is_deleted_after(struct db *db, struct ltx_pos pos)
{
        return renames_is_at(db, (struct ltx_pos){ pos.txid + 1, EMPTY_CHECKSUM });
}

/* --- the steps --- */

static int
check_and_prepare(struct renames *rs, struct err *e)
{
        int r = 0;

        for (size_t i = 0; i < rs->note->n && r == 0; i++)
                r = db_rename_check(&rs->list[i], e);
        for (size_t i = 0; i < rs->note->n && r == 0; i++)
                r = rs->list[i].from != NULL ? db_rename_prepare(&rs->list[i], e) : 0;
        return r;
}

int
renames_plain_path(struct store *s, const char *path, char ret[PATH_MAX])
{
        int n = snprintf(ret, PATH_MAX, "%s/%s", s->files_dir, path);

        return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int
sync_renamed_parent(struct store *s, char path[PATH_MAX])
{
        *strrchr(path, '/') = '\0';
        return os_sync_dir(s->config.os, "rename:plain", path);
}

int
renames_move_plain(struct store *s, const struct rename_note *note, struct err *e)
{
        char from[PATH_MAX], to[PATH_MAX];
        int r;

        if (note->plain_from[0] == '\0')
                return 0;
        r = renames_plain_path(s, note->plain_from, from);
        if (r == 0)
                r = renames_plain_path(s, note->plain_to, to);
        if (r == 0)
                r = os_rename(s->config.os, "rename:plain", from, to);
        if (r == 0)
                r = sync_renamed_parent(s, from);
        if (r == 0)
                r = sync_renamed_parent(s, to);
        return r < 0 ? err_set(e, r, "rename %s to %s", note->plain_from, note->plain_to) : 0;
}

int
renames_remove_target(struct db_rename *rn, const struct db_rename_detach *detach, struct err *e)
{
        return db_exists(rn->to) ? db_rename_remove(&rn->to_access, detach, e) : 0;
}

/* The first @n_put targets, of which there were none before. False: the note has to stay. */
static bool
take_back_targets(struct renames *rs, size_t n_put, const struct db_rename_detach *detach)
{
        struct err e = ERR_INIT;

        for (size_t i = 0; i < n_put; i++)
                if (renames_remove_target(&rs->list[i], detach, &e) < 0) {
                        log_event(LOG_WARN, db_name(rs->list[i].to),
                                  "a rename is not taken back yet: %s", e.text);
                        return false;
                }
        return true;
}

/* @ret_is_begun: the note has to stay after an error. */
static int
put_all(struct renames *rs, const struct db_rename_detach *detach, bool *ret_is_begun, struct err *e)
{
        for (size_t i = 0; i < rs->note->n; i++) {
                struct db_rename *rn = &rs->list[i];
                int r = rn->from != NULL ? db_rename_put(rn, detach, e) : 0;

                if (r == 0)
                        continue;
                /* One that is in the log may be on the disk or not. */
                *ret_is_begun = renames_is_at(rn->to, rn->made_pos) || !take_back_targets(rs, i, detach);
                return r;
        }
        return 0;
}

static int
drop_all(struct renames *rs, const struct db_rename_detach *detach, struct err *e)
{
        int r = 0;

        for (size_t i = 0; i < rs->note->n && r == 0; i++) {
                struct db_rename *rn = &rs->list[i];

                if (rn->from == NULL)
                        continue;
                r = db_rename_drop(rn, detach, e);
        }
        return r;
}

static int
remove_replaced(struct renames *rs, const struct db_rename_detach *detach, struct err *e)
{
        int r = 0;

        for (size_t i = 0; i < rs->note->n && r == 0; i++)
                if (rs->list[i].from == NULL)
                        r = renames_remove_target(&rs->list[i], detach, e);
        return r;
}

/* What the applications hear: not more than what the lease proves. */
static int
confirm_all(struct renames *rs)
{
        int r = 0;

        for (size_t i = 0; i < rs->note->n && r == 0; i++) {
                r = db_may_confirm(rs->list[i].to);
                if (r == 0 && rs->list[i].from != NULL)
                        r = db_may_confirm(rs->list[i].from);
        }
        return r;
}

int
renames_perform(struct renames *rs, const struct db_rename_detach *detach, struct err *e)
{
        bool is_begun = false;
        int r = check_and_prepare(rs, e);

        if (r == 0)
                r = write_rename_note(rs, e);
        if (r == 0)
                r = put_all(rs, detach, &is_begun, e);
        if (r < 0 && !is_begun) {
                drop_note(rs);
                return r;
        }
        if (r == 0)
                r = remove_replaced(rs, detach, e);
        if (r == 0)
                r = renames_move_plain(rs->s, rs->note, e);
        if (r == 0)
                r = drop_all(rs, detach, e);
        if (r < 0) {
                keep_note(rs);
                return r;
        }
        drop_note(rs);
        return confirm_all(rs);
}
