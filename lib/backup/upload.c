#include "backup/upload_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ltx/checksum.h"

#define RANGE_BYTES (64u << 20) /* of the log in one object of level 0, about */
#define SNAPSHOT_CHUNK (256u << 10)
#define BLOCKED_MS 60000 /* until a place that is another's is looked at again */
#define HEAD_MS 60000    /* between two writes of the head, while something is committed */

typedef unsigned long long ull;

int
upload_new(const struct upload_config *config, struct db *db, struct upload **ret)
{
        struct upload *u = calloc(1, sizeof *u);

        if (u == NULL)
                return -ENOMEM;
        u->config = config;
        u->dest = config->dest;
        u->db = db;
        u->place = db_name(db);
        pthread_mutex_init(&u->lock, NULL);
        *ret = u;
        return 0;
}

void
upload_free(struct upload *u)
{
        if (u == NULL)
                return;
        backup_objects_release(&u->objects);
        pthread_mutex_destroy(&u->lock);
        free(u);
}

struct db *
upload_db(const struct upload *u)
{
        return u->db;
}

void
upload_get_status(struct upload *u, struct upload_status *ret)
{
        pthread_mutex_lock(&u->lock);
        *ret = u->shown;
        pthread_mutex_unlock(&u->lock);
}

static void
show_upload(struct upload *u)
{
        pthread_mutex_lock(&u->lock);
        u->shown = (struct upload_status){ .state = u->state,
                                           .pos = u->pos,
                                           .time_ms = u->time_ms,
                                           .snapshot_txid = u->snapshot_txid,
                                           .n_snapshots = u->n_snapshots,
                                           .n_objects = u->n_objects,
                                           .n_gaps = u->n_gaps,
                                           .cannot_remove = u->cannot_remove };
        pthread_mutex_unlock(&u->lock);
}

void
upload_forget(struct upload *u)
{
        u->state = UPLOAD_LOOKING;
        u->has_said_blocked = false;
        db_hold_log(u->db, u->config->slot, UINT64_MAX);
        show_upload(u);
}

/* --- a whole database --- */

static int
write_snapshot(struct db_snapshot *snap, struct byte_sink *sink, struct err *e)
{
        int r;

        do
                r = db_snapshot_read(snap, SNAPSHOT_CHUNK, sink, e);
        while (r > 0);
        return r;
}

static void
note_snapshot(struct upload *u, const struct txlog_record *record)
{
        u->pos = (struct ltx_pos){ record->max_txid, record->post_apply_checksum };
        u->time_ms = record->timestamp_ms;
        u->snapshot_txid = record->max_txid;
        u->snapshot_at_ms = upload_now(u) + u->config->snapshot_ms;
        u->wants_snapshot = u->is_deleted = false;
        u->n_snapshots++;
        for (int i = 0; i <= UPLOAD_LEVELS; i++)
                u->level_pos[i] = u->pos;
}

static int
put_snapshot(struct upload *u, struct db_snapshot *snap, const struct txlog_record *record,
             struct err *e)
{
        struct backup_object o = { .level = BACKUP_SNAPSHOT_LEVEL,
                                   .min_txid = 1,
                                   .max_txid = record->max_txid,
                                   .time_ms = record->timestamp_ms };
        struct ltx_header h = { .page_size = record->page_size,
                                .commit = record->commit,
                                .chain_post = record->post_apply_checksum };
        struct dest_put *p = NULL;
        int r;

        /* As durable as what comes record by record: see db_replicable_txid. */
        r = txlog_sync(db_log(u->db), txlog_end_lsn(db_log(u->db)), e);
        if (r == 0)
                r = upload_begin_object(u, &o, &p, e);
        if (r < 0)
                return r;
        r = upload_end_object(u, p, write_snapshot(snap, &p->sink, e), &o, &h, e);
        if (r == 0)
                note_snapshot(u, record);
        return r;
}

/* The whole database of another history at this very position, whose name ours needs; else objects.n. */
static size_t
find_namesake(const struct upload *u, uint64_t txid)
{
        for (size_t i = 0; i < u->objects.n && u->owes_removal; i++)
                if (u->objects.items[i].level == BACKUP_SNAPSHOT_LEVEL &&
                    u->objects.items[i].max_txid == txid && txid > u->common)
                        return i;
        return u->objects.n;
}

/* Whether the others lead to a state. */
static bool
can_do_without(const struct upload *u, size_t without)
{
        struct backup_target newest = { 0, false };
        struct backup_objects others = { 0 }, plan = { 0 };
        int r = 0;

        for (size_t i = 0; i < u->objects.n && r == 0; i++)
                r = i != without ? backup_objects_add(&others, &u->objects.items[i]) : 0;
        if (r == 0)
                r = backup_plan_make(&others, &newest, &plan, NULL);
        backup_objects_release(&others);
        backup_objects_release(&plan);
        return r == 0;
}

/* Makes room for ours. 1: not while there is nothing else to restore, so with the next transaction. */
static int
free_name(struct upload *u, uint64_t txid, struct err *e)
{
        size_t i = find_namesake(u, txid), n = u->objects.n;
        int r;

        if (i == n)
                return 0;
        if (!can_do_without(u, i))
                return 1;
        r = upload_remove(u, i, e);
        return r < 0 ? r : u->objects.n == n;
}

/* 1: not now, for there is nothing to be had. */
static int
upload_snapshot(struct upload *u, struct err *e)
{
        struct db_snapshot *snap = NULL;
        struct txlog_record record;
        struct db_info info;
        int r;

        db_get_info(u->db, &info);
        if (info.page_count == 0 || info.pos.txid <= u->passed_by)
                return 1;
        r = db_snapshot_open(u->db, &snap, &record, e);
        if (r < 0)
                return r == -ENOENT ? 1 : r;
        r = free_name(u, record.max_txid, e);
        if (r != 0) {
                db_snapshot_close(snap);
                return r;
        }
        if (record.commit == 0) { /* deleted meanwhile */
                db_snapshot_close(snap);
                return 1;
        }
        db_snapshot_chain(snap);
        r = put_snapshot(u, snap, &record, e);
        db_snapshot_close(snap);
        if (r == 0)
                log_event(LOG_INFO, u->place, "backup to %s: the whole database as of %016llx",
                          u->dest->url, (ull)record.max_txid);
        return r;
}

/* --- what was committed --- */

/* What the place was at is not in our log. */
static void
note_gap(struct upload *u, const struct err *why)
{
        u->n_gaps++;
        u->wants_snapshot = true;
        log_event(LOG_WARN, u->place, "backup to %s: a whole database is due, for %s", u->dest->url,
                  why->text);
}

static int
note_break(struct upload *u, const struct txlog_record *record, struct err *e)
{
        if (record->commit != 0) {
                u->wants_snapshot = true;
                return 0;
        }
        u->pos = (struct ltx_pos){ record->max_txid, record->post_apply_checksum };
        u->time_ms = record->timestamp_ms;
        u->is_deleted = true;
        return upload_write_head(u, e);
}

/* 1: there may be more; 0: that was all. */
static int
upload_range(struct upload *u, struct backup_range *rg, struct err *e)
{
        uint64_t to = db_replicable_txid(u->db);
        struct txlog_record stop = { 0 };
        struct err why = ERR_INIT;
        int r;

        if (u->pos.txid >= to)
                return 0;
        if (u->is_deleted) {
                u->wants_snapshot = true;
                return 0;
        }
        r = backup_range_gather(rg, db_log(u->db), u->pos, to, RANGE_BYTES, &stop, &why);
        if (r == E_NOT_FOUND || r == E_POS_MISMATCH) {
                note_gap(u, &why);
                return 0;
        }
        if (r == BACKUP_RANGE_BREAK)
                return note_break(u, &stop, e);
        if (r <= 0) {
                if (r < 0 && e != NULL)
                        *e = why;
                return r;
        }
        r = upload_put_range(u, rg, 0, e);
        if (r < 0)
                return r;
        u->time_ms = backup_range_header(rg)->timestamp_ms;
        u->pos = (struct ltx_pos){ backup_range_header(rg)->max_txid,
                                   backup_range_header(rg)->chain_post };
        return 1;
}

static int
follow(struct upload *u, struct backup_range *rg, struct err *e)
{
        int r = 1;

        while (r == 1) {
                if (u->wants_snapshot) {
                        r = upload_snapshot(u, e);
                        if (r != 0)
                                return r < 0 ? r : 0;
                }
                if (u->owes_removal) {
                        r = upload_remove_superseded(u, e);
                        if (r < 0 || u->wants_snapshot)
                                return r;
                }
                r = upload_range(u, rg, e);
                if (r == 0 && u->wants_snapshot)
                        r = 1;
        }
        return r;
}

/* --- a step --- */

static void
note_blocked(struct upload *u, const struct err *e, int64_t look_at_ms)
{
        if (!u->has_said_blocked)
                log_event(LOG_ERROR, u->place, "no backup to %s: %s", u->dest->url, e->text);
        u->has_said_blocked = true;
        u->state = UPLOAD_BLOCKED;
        u->look_at_ms = look_at_ms;
}

static int
look_first(struct upload *u, struct err *e)
{
        struct err why = ERR_INIT;
        int r;

        if (u->state == UPLOAD_FOLLOWING)
                return 0;
        if (u->state == UPLOAD_BLOCKED && upload_now(u) < u->look_at_ms)
                return 1;
        r = upload_look(u, &why);
        if (r == -EPERM) {
                note_blocked(u, &why, upload_now(u) + BLOCKED_MS);
                return 1;
        }
        if (r < 0) {
                if (e != NULL)
                        *e = why;
                return r;
        }
        u->state = UPLOAD_FOLLOWING;
        u->has_said_blocked = false;
        return 0;
}

/* An object or a head that is not as we left it: another one writes there, as if it were the primary. */
static int
check_result(struct upload *u, int r, const struct err *why)
{
        if ((r == -EEXIST || r == -ESTALE) && u->state == UPLOAD_FOLLOWING) {
                note_blocked(u, why, INT64_MAX);
                r = 0;
        }
        if (u->state == UPLOAD_FOLLOWING)
                db_hold_log(u->db, u->config->slot, u->pos.txid);
        show_upload(u);
        return r;
}

/* The range's memory is had for the length of the step: an idle database costs none. */
static int
with_range(struct upload *u, int (*work)(struct upload *u, struct backup_range *rg, struct err *e),
           struct err *e)
{
        struct backup_range *rg = NULL;
        int r = backup_range_new(u->config->os, u->config->tmp_dir, u->config->is_compressed, &rg);

        if (r < 0)
                return err_set(e, r, "backup of %s", u->place);
        r = work(u, rg, e);
        backup_range_free(rg);
        return r;
}

static int
do_all(struct upload *u, struct backup_range *rg, struct err *e)
{
        int r = follow(u, rg, e);

        return r < 0 ? r : upload_keep(u, rg, e);
}

static bool
has_work(struct upload *u)
{
        return u->wants_snapshot || u->pos.txid < db_replicable_txid(u->db) ||
               upload_now(u) >= upload_due_ms(u);
}

/* Nothing is put for what was never there. */
static bool
has_nothing(const struct upload *u)
{
        struct db_info info;

        db_get_info(u->db, &info);
        return info.pos.txid == 0 || (u->state != UPLOAD_FOLLOWING && info.page_count == 0);
}

static int
work(struct upload *u, struct err *e)
{
        int r = with_range(u, do_all, e);

        if (r < 0 || upload_now(u) < u->head_at_ms || u->head_said == u->pos.txid)
                return r;
        u->head_at_ms = upload_now(u) + HEAD_MS;
        return upload_write_head(u, e);
}

int
upload_step(struct upload *u, struct err *e)
{
        struct err why = ERR_INIT;
        int r;

        if (db_is_receiving(u->db) || has_nothing(u))
                return 0;
        r = look_first(u, &why);
        if (r == 0 && has_work(u))
                r = work(u, &why);
        r = check_result(u, r < 0 ? r : 0, &why);
        if (r < 0 && e != NULL)
                *e = why;
        return r;
}

int
upload_flush(struct upload *u, struct err *e)
{
        struct err why = ERR_INIT;
        int r = 0;

        if (u->state == UPLOAD_FOLLOWING && u->pos.txid < db_replicable_txid(u->db))
                r = with_range(u, follow, &why);
        r = check_result(u, r, &why);
        if (r < 0 && e != NULL)
                *e = why;
        return r;
}
