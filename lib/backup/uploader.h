/* lib/backup/uploader.h - all databases of a node on their way to one destination, while the node is the primary.
 *
 * A thread of its own. It sleeps until something was committed, waits for the sync interval, and takes a step for each
 * database that needs one (upload.h); or until a longer piece or a whole database is due. What fails is tried again, later
 * each time up to a minute; the log keeps what has not gone out (db_hold_log). No commit waits for it.
 *
 * Memory: about 40 bytes for each object at the destination, and for the database that has its turn an index of 16 bytes for
 * each page that it changed, 4 MiB of pages and the encoder; of a whole database a spool. */
#ifndef LITEFS_BACKUP_UPLOADER_H
#define LITEFS_BACKUP_UPLOADER_H

#include "backup/upload.h"
#include "store/store.h"

struct uploader;

struct uploader_config {
        struct store *store;
        const struct os *os;
        const struct clock *clock;
        const char *tmp_dir;
        bool is_compressed;
        struct dest *dest; /* the uploader's from then on, if it could be made */
        unsigned slot;     /* less than DB_N_HOLDS, another for each */
        int64_t sync_ms, snapshot_ms, keep_ms;
        const char *writer;
        void *arg;
        /* Which cluster this is, head.h: 0, -EAGAIN (not known yet) or another error. On the thread. */
        int (*lineage)(void *arg, char ret[40], struct err *e);
        /* Whether the database goes to this destination; NULL: each does. */
        bool (*is_wanted)(void *arg, const char *db_name);
};

/* Starts the thread; strings and what is pointed to are borrowed. */
int uploader_new(const struct uploader_config *config, struct uploader **ret, struct err *e);
/* Something was committed; or the role has changed. Any thread, any lock. */
void uploader_committed(struct uploader *up);
void uploader_role_changed(struct uploader *up);
/* Waits until all that is committed now is at the destination: 0, -ETIMEDOUT with what the trouble is, E_NOT_PRIMARY. */
int uploader_sync(struct uploader *up, int64_t timeout_ms, struct err *e);
/* Brings what was committed there, for at most @timeout_ms, and ends the thread. Again is fine. */
void uploader_stop(struct uploader *up, int64_t timeout_ms);
void uploader_free(struct uploader *up); /* NULL is fine */

struct uploader_status {
        bool is_leading;
        uint64_t n_failures; /* in a row */
        char trouble[ERR_TEXT_SIZE];
};
void uploader_get_status(struct uploader *up, struct uploader_status *ret);
const struct dest *uploader_dest(const struct uploader *up);
/* Each database that it uploads: none on a node that does not lead. */
void uploader_each(struct uploader *up,
                   void (*fn)(void *arg, struct db *db, const struct upload_status *s), void *arg);

#endif
