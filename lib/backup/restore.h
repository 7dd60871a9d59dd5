/* lib/backup/restore.h - what a place at a destination has of a database, and a state of it as a file. */
#ifndef LITEFS_BACKUP_RESTORE_H
#define LITEFS_BACKUP_RESTORE_H

#include "backup/dest.h"
#include "backup/image.h"
#include "backup/plan.h"
#include "ltx/header.h"

/* Its objects, sorted; release @ret. None is no error. */
int backup_list(struct dest *d, const char *place, struct backup_objects *ret, struct err *e);

int backup_read_header(struct dest *d, const char *place, const struct backup_object *o,
                       struct ltx_header *ret, struct err *e);

/* The last border of @objects whose transaction was no later than @time_ms, by the times in their headers: reads the
 * headers of about log2(n) objects. E_NOT_FOUND when the first border is later. */
int backup_find_time(struct dest *d, const char *place, const struct backup_objects *objects,
                     int64_t time_ms, uint64_t *ret_txid, struct err *e);

/* @done after each object, @arg as given; NULL: nobody wants to know. Once @is_stopped is true: -ECANCELED; NULL: never. */
struct backup_progress {
        const atomic_bool *is_stopped;
        void *arg;
        void (*done)(void *arg, const struct backup_object *o, size_t n, size_t of);
};

/* Makes the state of @plan in @fd, an empty file, object by object: see image.h. Not synced. @progress may be NULL. */
int backup_restore(struct dest *d, const char *place, const struct backup_objects *plan,
                   const struct os *os, int fd, const struct backup_progress *progress,
                   struct backup_image_state *ret, struct err *e);

#endif
