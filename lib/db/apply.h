/* lib/db/apply.h - transactions that another node has committed.
 *
 * A received transaction goes the way of one that an application commits here (commit.c): its pages are
 * laid where SQLite would write them, the checksum of the new image is computed from them, and only if it is
 * the one that the transaction promises do its bytes enter the log, as they came. So a replica's log is the
 * primary's, byte for byte a record, and an image that differs is found before it is kept.
 *
 * Order: received_init, bytes into .ltx, received_verify, then one of the two apply calls. The caller holds
 * SQLite's locks (fuse/apply.c), and no other call changes the database meanwhile. One thread. */
#ifndef LITEFS_DB_APPLY_H
#define LITEFS_DB_APPLY_H

#include "base/err.h"
#include "db/db.h"
#include "db/received.h"

/* 0: it is the next transaction of @db, or a snapshot; E_POS_MISMATCH, with both positions in words. Any thread, any lock. */
int db_follows(struct db *db, const struct received *rx, struct err *e);

/* Which pages changed where, so that caches above can be told. */
struct db_changes {
        uint32_t page_size;
        uint32_t n_pages;
        uint32_t *pgnos; /* the caller frees it */
        int old_fd;      /* the file of a database that was dropped, the caller's; else -1 */
        int old_wal_fd;  /* likewise its WAL */
        bool was_open;   /* an open transaction was forgotten: all that caches have may be its */
};

/* Whether @rx leaves out transactions of ours: then it goes by db_replace. */
bool db_needs_replacing(struct db *db, const struct received *rx);
/* The old state is set aside in DATA/orphans, and what @rx says takes its place, as another file. Before that, once
 * the new state is there and only the old file is left to complete, @detach gets descriptors of the old file and the old
 * WAL (-1: none), for reading only: whoever has them open must read from there then. They are its own. -EAGAIN: somebody
 * uses the old log. */
int db_replace(struct db *db, const struct received *rx, void (*detach)(void *arg, int fd, int wal_fd),
               void *arg, struct err *e);

/* For a database that nobody reads or writes: absent, or with SQLite's EXCLUSIVE held by the caller, and
 * without pages that only the WAL has. An open transaction here is dropped. Also for transactions that make,
 * drop or re-page the database. */
int db_apply_direct(struct db *db, const struct received *rx, struct db_changes *ret, struct err *e);

/* After either apply call, whatever its result, once caches and the wal-index know: until then the position shown
 * is the one before, so that whoever waits for a position then reads what it stands for. */
void db_apply_shown(struct db *db);

/* What the wal-index has to learn. */
struct db_wal_applied {
        uint32_t page_size;
        uint32_t first_frame;
        uint32_t n_frames;
        uint32_t *pgnos; /* of the frames; the caller frees it */
        uint32_t n_pages;
        uint32_t cksum[2];
        uint32_t salt[2];
        bool is_big_endian_cksum;
};

/* As frames behind the WAL's last captured one, for readers to find when the wal-index says so. The caller
 * holds WRITE and the WAL has a header of this database's (db_wal_restart). -EAGAIN: this one cannot go by the
 * WAL (it drops or re-pages the database). */
int db_apply_wal(struct db *db, const struct received *rx, struct db_wal_applied *ret, struct err *e);
/* All captured frames, for a wal-index that has to be made anew. */
int db_wal_frames(struct db *db, struct db_wal_applied *ret, struct err *e);
/* Begins the WAL anew with other salts, over frames that are all in the database file. */
int db_wal_restart(struct db *db, struct err *e);
/* Whether pages live in the WAL only. */
bool db_wal_has_pending(struct db *db);
/* Copies the newest image of each page from frames (@from_frame, @to_frame] into the database file, making
 * the log durable first. */
int db_wal_checkpoint(struct db *db, uint32_t from_frame, uint32_t to_frame, struct db_changes *ret,
                      struct err *e);
/* After a checkpoint of all frames, with readers kept out as for that: what the database has shrunk by goes, as SQLite's
 * own checkpoint has it. */
void db_wal_cut_file(struct db *db);

#endif
