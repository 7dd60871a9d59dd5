#include "backup/plan.h"

#include <errno.h>

typedef unsigned long long ull;

static uint64_t
limit_of(const struct backup_target *target)
{
        return target->txid != 0 ? target->txid : UINT64_MAX;
}

/* The newest whole database up to @limit, or NULL. */
static const struct backup_object *
find_newest_snapshot(const struct backup_objects *l, uint64_t limit)
{
        const struct backup_object *found = NULL;

        for (size_t i = 0; i < l->n; i++) {
                const struct backup_object *o = &l->items[i];

                if (o->level == BACKUP_SNAPSHOT_LEVEL && o->min_txid == 1 && o->max_txid <= limit &&
                    (found == NULL || o->max_txid > found->max_txid))
                        found = o;
        }
        return found;
}

/* Whether @o leads further than @than; as far from earlier; or as far and as early, but from a higher level. */
static bool
is_better(const struct backup_object *o, const struct backup_object *than)
{
        if (than == NULL || o->max_txid != than->max_txid)
                return than == NULL || o->max_txid > than->max_txid;
        if (o->min_txid != than->min_txid)
                return o->min_txid < than->min_txid;
        return o->level > than->level;
}

static const struct backup_object *
find_next(const struct backup_objects *l, uint64_t at, uint64_t limit)
{
        const struct backup_object *found = NULL;

        for (size_t i = 0; i < l->n; i++) {
                const struct backup_object *o = &l->items[i];

                if (o->level != BACKUP_SNAPSHOT_LEVEL && o->min_txid <= at + 1 && o->max_txid > at &&
                    o->max_txid <= limit && is_better(o, found))
                        found = o;
        }
        return found;
}

/* The first object behind @at that does not follow on, or NULL. */
static const struct backup_object *
find_beyond(const struct backup_objects *l, uint64_t at)
{
        const struct backup_object *found = NULL;

        for (size_t i = 0; i < l->n; i++)
                if (l->items[i].max_txid > at &&
                    (found == NULL || l->items[i].max_txid < found->max_txid))
                        found = &l->items[i];
        return found;
}

static int
check_plan_end(const struct backup_objects *l, uint64_t at, const struct backup_target *target,
               struct err *e)
{
        const struct backup_object *beyond = find_beyond(l, at);

        if (target->is_exact && at != target->txid) {
                if (beyond == NULL)
                        return err_text(e, E_NOT_FOUND,
                                        "transaction %016llx is not there: the backup ends at %016llx",
                                        (ull)target->txid, (ull)at);
                if (beyond->min_txid <= at + 1)
                        return err_text(
                                e, E_NOT_FOUND,
                                "transaction %016llx is not a border: those beside it are %016llx and %016llx",
                                (ull)target->txid, (ull)at, (ull)beyond->max_txid);
        }
        if (beyond != NULL && beyond->min_txid > at + 1 && beyond->max_txid <= limit_of(target))
                return err_text(e, E_NOT_FOUND, "transactions %016llx to %016llx are missing",
                                (ull)(at + 1), (ull)(beyond->min_txid - 1));
        return target->is_exact && at != target->txid
                       ? err_text(e, E_NOT_FOUND, "transaction %016llx is not there", (ull)target->txid)
                       : 0;
}

int
backup_plan_make(struct backup_objects *objects, const struct backup_target *target,
                 struct backup_objects *ret, struct err *e)
{
        uint64_t at = 0, limit = limit_of(target);
        const struct backup_object *o;
        int r = 0;

        backup_objects_sort(objects);
        *ret = (struct backup_objects){ 0 };
        o = find_newest_snapshot(objects, limit);
        if (o == NULL) /* a first transaction is a whole database, too */
                o = find_next(objects, 0, limit);
        for (; o != NULL && r == 0; o = find_next(objects, at, limit)) {
                r = backup_objects_add(ret, o);
                at = o->max_txid;
        }
        if (r < 0)
                err_set(e, r, "plan");
        else if (at == 0)
                r = err_text(e, E_NOT_FOUND, "no matching backup files available");
        else
                r = check_plan_end(objects, at, target, e);
        if (r < 0)
                backup_objects_release(ret);
        return r;
}
