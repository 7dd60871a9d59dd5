/* Whose the place is, where its history ends, and what to do where that is not ours. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/upload_internal.h"
#include "base/log.h"

typedef unsigned long long ull;

/* How the place's end, or one of its borders, lies to our history. */
enum relation { RELATION_OURS, RELATION_OTHER, RELATION_UNKNOWN };

static int
relate(struct upload *u, const struct backup_object *o, struct ltx_pos *ret_pos, enum relation *ret,
       struct err *e)
{
        enum txlog_history history;
        struct ltx_header h;
        struct db_info info;
        int r = backup_read_header(u->dest, u->place, o, &h, e);

        if (r < 0)
                return r;
        *ret_pos = (struct ltx_pos){ o->max_txid, h.chain_post };
        db_get_info(u->db, &info);
        *ret = RELATION_OTHER;
        if (ltx_pos_equal(*ret_pos, info.pos))
                *ret = RELATION_OURS;
        if (o->max_txid >= info.pos.txid)
                return 0;
        *ret = RELATION_UNKNOWN;
        if (h.chain_post == 0) /* nothing proves it */
                return 0;
        r = txlog_find_history(db_log(u->db), *ret_pos, &history, e);
        if (r == 0 && history != TXLOG_HISTORY_UNKNOWN)
                *ret = history == TXLOG_HISTORY_OURS ? RELATION_OURS : RELATION_OTHER;
        return r;
}

/* --- another history --- */

static int
compare_piece_ends(const void *a, const void *b)
{
        const struct backup_object *x = a, *y = b;

        return x->max_txid < y->max_txid ? -1 : x->max_txid > y->max_txid;
}

/* The last border that is ours, or not known not to be; 0: none. Histories part once, so half of them tell. */
static int
find_common(struct upload *u, uint64_t *ret, struct err *e)
{
        size_t n = u->objects.n, from = 0, to = n;
        struct backup_object *sorted = malloc((n + 1) * sizeof *sorted);
        enum relation relation;
        struct ltx_pos pos;
        int r = 0;

        *ret = 0;
        if (sorted == NULL)
                return err_set(e, -ENOMEM, "objects of %s", u->place);
        memcpy(sorted, u->objects.items, n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, compare_piece_ends);
        while (r == 0 && from < to) {
                size_t middle = from + (to - from) / 2;

                r = relate(u, &sorted[middle], &pos, &relation, e);
                if (r == 0 && relation != RELATION_OTHER)
                        from = middle + 1;
                else
                        to = middle;
        }
        if (r == 0 && from > 0)
                *ret = sorted[from - 1].max_txid;
        free(sorted);
        return r;
}

/* The newest object behind @common, whole databases (@of_level_9) but the one that we have put, or others: its index, or
 * objects.n. */
static size_t
newest_behind(const struct upload *u, uint64_t common, bool of_level_9)
{
        size_t found = u->objects.n;

        for (size_t i = 0; i < u->objects.n; i++) {
                const struct backup_object *o = &u->objects.items[i];

                if (o->max_txid > common && (o->level == BACKUP_SNAPSHOT_LEVEL) == of_level_9 &&
                    !(of_level_9 && o->max_txid == u->snapshot_txid) &&
                    (found == u->objects.n || o->max_txid > u->objects.items[found].max_txid))
                        found = i;
        }
        return found;
}

/* From the newest down, so that what is left always leads to a state that there was. */
static int
remove_behind(struct upload *u, uint64_t common, bool of_level_9, struct err *e)
{
        size_t i;
        int r = 0;

        while (r == 0 && !u->cannot_remove && (i = newest_behind(u, common, of_level_9)) < u->objects.n)
                r = upload_remove(u, i, e);
        return r;
}

/* Where what is another history's ends, and cannot be removed. */
static uint64_t
end_behind(const struct upload *u, uint64_t common)
{
        size_t other = newest_behind(u, common, false), whole = newest_behind(u, common, true);
        uint64_t end = other < u->objects.n ? u->objects.items[other].max_txid : 0;

        return whole < u->objects.n && u->objects.items[whole].max_txid > end
                       ? u->objects.items[whole].max_txid
                       : end;
}

int
upload_remove_superseded(struct upload *u, struct err *e)
{
        int r = remove_behind(u, u->common, true, e);

        if (r < 0)
                return r;
        u->owes_removal = false;
        /* Those readers go by that are newer than ours, until the database has passed them by. */
        u->passed_by = end_behind(u, u->common);
        u->wants_snapshot = u->passed_by > u->pos.txid;
        return 0;
}

/* Pieces go before the whole databases that they follow on: those stay until one of ours is there, for without them there
 * might be nothing to restore. Whatever is cut off in between, the place leads to a state that there was. */
static int
supersede(struct upload *u, struct ltx_pos end, struct err *e)
{
        int r = find_common(u, &u->common, e);

        if (r < 0)
                return r;
        log_event(
                LOG_WARN, u->place,
                "backup to %s: it ends at %016llx/%016llx, which is not in this node's history: the cluster has "
                "gone on from %016llx. What is behind that goes",
                u->dest->url, (ull)end.txid, (ull)end.checksum, (ull)u->common);
        u->head.epoch++;
        u->head.superseded_from = u->common + 1;
        u->head.superseded_to = end.txid;
        r = upload_write_head(u, e);
        if (r == 0)
                r = remove_behind(u, u->common, false, e);
        if (r < 0)
                return r;
        u->owes_removal = true;
        u->passed_by = u->cannot_remove ? end_behind(u, u->common) : 0;
        u->wants_snapshot = true;
        return 0;
}

/* --- whose it is --- */

static int
check_owner(struct upload *u, int r, struct err *e)
{
        if (r == E_NOT_FOUND && u->objects.n > 0)
                return err_text(
                        e, -EPERM,
                        "%s/%s has a backup that litefs has not written; name another place, or move it away",
                        u->dest->url, u->place);
        if (r == 0 && strcmp(u->head.lineage, u->config->lineage) != 0)
                return err_text(
                        e, -EPERM,
                        "%s/%s has the backup of another cluster (%s, this one is %s); restore it, name "
                        "another place, or move it away",
                        u->dest->url, u->place, u->head.lineage, u->config->lineage);
        return r == E_NOT_FOUND ? 0 : r;
}

/* A request of our own may have been done though its answer did not come. */
static int
write_head(struct upload *u, const struct backup_head *h, struct err *e)
{
        struct backup_head now;
        struct err why = ERR_INIT;
        int r = backup_head_write(u->dest, u->place, h, u->head_etag, &why);

        if ((r == -ESTALE || r == -EEXIST) &&
            backup_head_read(u->dest, u->place, &now, u->head_etag, NULL) == 0 &&
            strcmp(now.writer, h->writer) == 0 && strcmp(now.lineage, h->lineage) == 0)
                return backup_head_write(u->dest, u->place, h, u->head_etag, e);
        if (r == -ESTALE || r == -EEXIST)
                return err_text(e, -ESTALE, "another node writes to %s/%s at the same time",
                                u->dest->url, u->place);
        if (r < 0 && e != NULL)
                *e = why;
        return r;
}

/* Ours from now on: who wrote there before finds the head replaced. */
int
upload_write_head(struct upload *u, struct err *e)
{
        struct backup_head h = u->head;
        int r;

        snprintf(h.lineage, sizeof h.lineage, "%s", u->config->lineage);
        snprintf(h.writer, sizeof h.writer, "%s", u->config->writer);
        h.pos = u->pos;
        h.is_deleted = u->is_deleted;
        h.time_ms = upload_now(u);
        r = write_head(u, &h, e);
        if (r < 0)
                return r;
        u->head = h;
        u->head_said = u->pos.txid;
        return 0;
}

/* Where the longer pieces end. One that cannot be read begins anew. */
static void
find_levels(struct upload *u)
{
        enum relation relation;
        struct ltx_pos pos;

        for (unsigned level = 1; level <= UPLOAD_LEVELS; level++) {
                const struct backup_object *last = NULL;

                u->level_pos[level] = u->pos;
                for (size_t i = 0; i < u->objects.n; i++)
                        if (u->objects.items[i].level == level &&
                            (last == NULL || u->objects.items[i].max_txid > last->max_txid))
                                last = &u->objects.items[i];
                if (last != NULL && last->max_txid >= u->snapshot_txid && last->max_txid < u->pos.txid &&
                    relate(u, last, &pos, &relation, NULL) == 0 && relation == RELATION_OURS)
                        u->level_pos[level] = pos;
        }
}

static void
find_uploaded_snapshot(struct upload *u)
{
        u->snapshot_at_ms = 0;
        u->snapshot_txid = 0;
        for (size_t i = 0; i < u->objects.n; i++) {
                const struct backup_object *o = &u->objects.items[i];

                if (o->level == BACKUP_SNAPSHOT_LEVEL && o->max_txid > u->snapshot_txid) {
                        u->snapshot_txid = o->max_txid;
                        u->snapshot_at_ms = o->time_ms + u->config->snapshot_ms;
                }
        }
}

/* The object that ends last. */
static const struct backup_object *
last_object(const struct upload *u)
{
        const struct backup_object *last = NULL;

        for (size_t i = 0; i < u->objects.n; i++)
                if (last == NULL || u->objects.items[i].max_txid > last->max_txid)
                        last = &u->objects.items[i];
        return last;
}

/* Whether what is there makes the state at its own end. */
static bool
leads_to(struct upload *u, uint64_t txid)
{
        struct backup_target target = { txid, true };
        struct backup_objects plan;
        bool leads = backup_plan_make(&u->objects, &target, &plan, NULL) == 0;

        if (leads)
                backup_objects_release(&plan);
        return leads;
}

static int
find_end(struct upload *u, struct err *e)
{
        const struct backup_object *last = last_object(u);
        enum relation relation = RELATION_OURS;
        struct ltx_pos end = { 0 };
        struct db_info info;
        int r = last != NULL ? relate(u, last, &end, &relation, e) : 0;

        if (r < 0)
                return r;
        db_get_info(u->db, &info);
        u->passed_by = 0;
        u->owes_removal = false;
        u->is_deleted = false;
        u->wants_snapshot = last == NULL || relation == RELATION_UNKNOWN;
        u->pos = end;
        /* The database was deleted after that, and that was all. */
        if (u->head.is_deleted && ltx_pos_equal(u->head.pos, info.pos)) {
                u->pos = info.pos;
                u->is_deleted = true;
                u->wants_snapshot = false;
                return 0;
        }
        if (last != NULL && relation == RELATION_OTHER)
                return supersede(u, end, e);
        if (relation == RELATION_UNKNOWN) {
                u->n_gaps++;
                log_event(
                        LOG_WARN, u->place,
                        "backup to %s: it ends at %016llx, to which the log does not reach back: a whole database "
                        "follows",
                        u->dest->url, (ull)end.txid);
        }
        if (last != NULL && !leads_to(u, end.txid))
                u->wants_snapshot = true;
        return 0;
}

int
upload_look(struct upload *u, struct err *e)
{
        int found, r;

        backup_objects_release(&u->objects);
        u->head = (struct backup_head){ 0 };
        u->head_etag[0] = '\0';
        u->cannot_remove = false;
        found = backup_head_read(u->dest, u->place, &u->head, u->head_etag, e);
        r = found < 0 && found != E_NOT_FOUND ? found : backup_list(u->dest, u->place, &u->objects, e);
        if (r == 0)
                r = check_owner(u, found, e);
        if (r < 0)
                return r;
        /* Said before anything is changed: only one of two who look at the same time gets there. */
        u->pos = u->head.pos;
        u->is_deleted = u->head.is_deleted;
        find_uploaded_snapshot(u);
        r = upload_write_head(u, e);
        if (r == 0)
                r = find_end(u, e);
        if (r < 0)
                return r;
        find_levels(u);
        u->head_at_ms = upload_now(u);
        return 0;
}
