/* lib/backup/upload_internal.h - the inside of an upload, for upload*.c, which call each other downwards:
 *
 *   upload.c          what was committed, step by step
 *   upload_keep.c     longer pieces; what is not needed any more
 *   upload_look.c     whose the place is, and where it ends
 *   upload_objects.c  one object: put, removed */
#ifndef LITEFS_BACKUP_UPLOAD_INTERNAL_H
#define LITEFS_BACKUP_UPLOAD_INTERNAL_H

#include <pthread.h>

#include "backup/head.h"
#include "backup/range.h"
#include "backup/restore.h"
#include "backup/upload.h"
#include "db/snapshot.h"

struct upload {
        const struct upload_config *config;
        struct dest *dest;
        struct db *db;
        const char *place; /* the database's name */
        enum upload_state state;
        struct ltx_pos pos; /* that the place has, in our history; txid 0: none */
        int64_t time_ms;    /* of that transaction */
        bool is_deleted;    /* @pos is a deletion, of which the place has nothing */
        bool wants_snapshot;
        struct backup_head head;
        char head_etag[DEST_ETAG_SIZE];
        uint64_t head_said;                          /* the TXID that it was last written with */
        struct backup_objects objects;               /* that are at the place */
        struct ltx_pos level_pos[UPLOAD_LEVELS + 1]; /* where the longer pieces end */
        int64_t level_at_ms[UPLOAD_LEVELS + 1];      /* when the next one is due */
        int64_t snapshot_at_ms, keep_at_ms, head_at_ms, look_at_ms;
        /* Keys up to here are another history's, and stay: nothing goes out before the database is past them. */
        uint64_t passed_by;
        bool owes_removal; /* of whole databases behind @common, which are another history's, once ours is there */
        uint64_t common;
        uint64_t snapshot_txid;
        bool cannot_remove;
        bool has_said_blocked;
        uint64_t n_snapshots, n_objects, n_gaps;
        pthread_mutex_t lock; /* guards `shown` */
        struct upload_status shown;
};

static inline int64_t
upload_now(const struct upload *u)
{
        return clock_wall_ms(u->config->clock);
}

/* --- upload_look.c --- */
/* Finds out whose the place is and where it ends. */
int upload_look(struct upload *u, struct err *e);
/* Tells the place that we are here, and where. -ESTALE or -EEXIST: another one has, since we looked. */
int upload_write_head(struct upload *u, struct err *e);
/* Whole databases of another history that a new one of ours replaces. */
int upload_remove_superseded(struct upload *u, struct err *e);

/* --- upload_keep.c --- */
/* Longer pieces, and what is not needed any more. */
int upload_keep(struct upload *u, struct backup_range *rg, struct err *e);

/* --- upload_objects.c --- */
/* Puts @o: what the caller writes into *@ret in between. The end is told by @r whether all of it was written, and takes @p
 * either way. 0; -EEXIST: one is there that is not ours, which is told by @h. */
int upload_begin_object(struct upload *u, const struct backup_object *o, struct dest_put **ret,
                        struct err *e);
int upload_end_object(struct upload *u, struct dest_put *p, int r, const struct backup_object *o,
                      const struct ltx_header *h, struct err *e);
/* The same of what was gathered, as an object of @level. */
int upload_put_range(struct upload *u, struct backup_range *rg, unsigned level, struct err *e);
/* Removes an object: 0, also where that is not allowed, which is kept in mind and said once. */
int upload_remove(struct upload *u, size_t i, struct err *e);
/* The @n of these indexes, the highest first; at most DEST_REMOVE_MAX, in no order. */
int upload_remove_all(struct upload *u, const size_t *which, size_t n, struct err *e);

#endif
