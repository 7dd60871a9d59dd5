/* fuse/apply_internal.h - the daemon that applies to one database, as one more SQLite process on its own mount; for apply.c
 * and apply_*.c.
 *
 * A struct apply is its caller's (fuse/apply.h) and used by one worker at a time: its files are requests to our own
 * dispatch thread, so no lock that it may want is held in here. What is taken of SQLite's locks lasts until it is given back
 * or the files are closed. */
#ifndef LITEFS_FUSE_APPLY_INTERNAL_H
#define LITEFS_FUSE_APPLY_INTERNAL_H

#include "fuse/apply.h"
#include "fuse/fuse_internal.h"
#include "fuse/kernel_cache.h"
#include "fuse/own_mount.h"
#include "sqlite/lockbytes.h"
#include "sqlite/wal_index.h"

/* How long a reader that stays keeps others out: longer from one attempt to the next, for it may be several that overlap,
 * of whom none stays long. In between others come in, whose application need not be willing to wait. */
#define PENDING_FIRST_MS 50
#define PENDING_MAX_MS 1000
#define RESTS 4 /* times as long */

enum hold { HOLD_NOTHING, HOLD_SHARED, HOLD_EXCLUSIVE };

struct apply {
        struct session *s;
        struct db *db;
        struct own_file file; /* NAME; none until needed */
        struct own_file shm;  /* NAME-shm; likewise */
        enum hold hold;
        bool is_reserved; /* WRITE is ours until the end */
        bool is_pending;  /* PENDING is ours: no new reader gets in */
        int64_t pending_since_ms;
        int64_t pending_ms;       /* how long this time */
        int64_t rest_until_ms;    /* for readers to come in, who would starve else */
        int64_t replace_since_ms; /* 0: nothing is to be replaced */
        struct detached detached;
        void *index; /* a copy of the file's content */
        size_t index_size;
        uint8_t index_seen[WAL_INDEX_COPY_SIZE]; /* the header that its blocks belong to; zeros: of none */
};

/* --- apply.c --- */
int apply_open_database(struct apply *a, struct err *e);

/* --- apply_locks.c --- */
/* One or the other, on NAME; -EAGAIN. EXCLUSIVE comes over several attempts, in which it keeps new readers out. */
int apply_take_shared(struct apply *a);
int apply_take_exclusive(struct apply *a);
void apply_release_exclusive(struct apply *a);

/* --- apply_index.c: NAME-shm, worked on in a copy --- */
int apply_index_open(struct apply *a);
/* The copy is the file's content, which other processes change. With WRITE, but for the header's sake alone. */
int apply_index_refresh(struct apply *a);
int apply_index_write(struct apply *a, size_t from, size_t to);
void apply_index_write_word(struct apply *a, size_t at);
/* Frames, and then that they are there. */
int apply_index_enter(struct apply *a, const struct db_wal_applied *w);
int apply_index_publish(struct apply *a, const struct db_wal_applied *w, uint32_t mx_frame);
/* Whether it says what the WAL holds, of which frames were captured up to @mark (NULL: there are none). */
bool apply_index_is_right(struct apply *a, const struct db_wal_mark *mark);
int apply_index_rebuild(struct apply *a, struct err *e);

/* --- apply_wal.c --- */
int apply_by_wal(struct apply *a, const struct received *rx, struct err *e);
void apply_notify_pages(struct apply *a, const struct db_changes *ch);
void apply_settle_size(struct apply *a);

#endif
