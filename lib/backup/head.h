/* lib/backup/head.h - the small object that says whose the backup at a place is: litefs.json.
 *
 * Replaced only by those who have seen it (DEST_IF_MATCH), so of two who want to write there one finds out. What the place
 * holds is said by its objects; the position here may be older. */
#ifndef LITEFS_BACKUP_HEAD_H
#define LITEFS_BACKUP_HEAD_H

#include <stdbool.h>

#include "backup/dest.h"
#include "ltx/pos.h"

#define BACKUP_LINEAGE_SIZE 40
#define BACKUP_WRITER_SIZE 40

struct backup_head {
        char lineage[BACKUP_LINEAGE_SIZE]; /* of the cluster: nobody else writes here */
        char writer[BACKUP_WRITER_SIZE];   /* this start of the node that writes now */
        uint64_t epoch; /* one more each time that the cluster went on from before the backup's end */
        struct ltx_pos pos;
        uint64_t superseded_from, superseded_to; /* TXIDs of the last such time; 0: never */
        bool is_deleted;                         /* the database, after what the backup holds */
        int64_t time_ms;                         /* when this was written */
};

/* 0 and what it is known by, E_NOT_FOUND, E_FORMAT, or why it cannot be read. */
int backup_head_read(struct dest *d, const char *place, struct backup_head *ret,
                     char ret_etag[DEST_ETAG_SIZE], struct err *e);
/* @etag: what it replaces, "": there is none yet; then what it is now known by. -EEXIST or -ESTALE: another one has. */
int backup_head_write(struct dest *d, const char *place, const struct backup_head *h,
                      char etag[DEST_ETAG_SIZE], struct err *e);

#endif
