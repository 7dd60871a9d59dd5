/* lib/backup/plan.h - which objects make a state of a database, and in which order.
 *
 * The newest snapshot that is not past the target, then again and again the object that begins no later than where the
 * state ends and leads furthest: the rule of Litestream 0.5, so that both restore the same. An object that begins earlier
 * than the state ends is fine: it has the newest image of each page that changed in its range. */
#ifndef LITEFS_BACKUP_PLAN_H
#define LITEFS_BACKUP_PLAN_H

#include "backup/layout.h"
#include "base/err.h"

struct backup_target {
        uint64_t txid; /* no further than this; 0: as far as it goes */
        bool is_exact; /* exactly there, which has to be where an object ends */
};

/* *@ret: the objects in the order in which they apply, the last one's max_txid being the state's; release it with
 * backup_objects_release. E_NOT_FOUND when @objects do not make such a state: nothing is there, some are missing, or @txid
 * lies within an object, whose borders the error names. Sorts @objects. */
int backup_plan_make(struct backup_objects *objects, const struct backup_target *target,
                     struct backup_objects *ret, struct err *e);

#endif
