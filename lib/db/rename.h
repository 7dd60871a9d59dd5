/* lib/db/rename.h - a database gets the name of another one, or a new name.
 *
 * To the log a name is a history of its own. So the content goes over as the next transaction of the target, with every page
 * that differs, from a copy of the file that becomes the target's; and then the source is deleted, by a transaction. The two
 * are one step because whoever calls makes a note before the first and finds it after a crash (store/renames.h).
 *
 *   begin    both, in the order of their names: see db_access_begin_or_wait
 *   check    nobody is in the middle of a transaction, this node may commit
 *   prepare  the copy
 *   put      the target is what the source was, durably
 *   drop     the source is gone, durably
 *   end
 *
 * Page 1 is given a change counter and a schema cookie that the target has not had, as an import does: connections on
 * replicas, which keep the file, have to read anew. Whoever has either open on this node keeps the old files: @detach takes
 * them before they are changed.
 *
 * One thread at a time; worker, for all of it waits for the disk. */
#ifndef LITEFS_DB_RENAME_H
#define LITEFS_DB_RENAME_H

#include "db/access.h"
#include "ltx/header.h"
#include "ltx/pos.h"

struct db_rename {
        struct db *from, *to;
        struct db_access from_access, to_access;
        struct ltx_pos from_pos, to_pos; /* as they were */
        struct ltx_pos made_pos;         /* the target's, by put; known after prepare */
        uint32_t fresh;                  /* what page 1 is marked with; 0: db_rename_check finds one */
        int fd;                          /* the copy; -1: none */
        uint64_t size_bytes;
        uint32_t page_size, page_count;
        bool is_wal;
        bool hides_past;       /* the target's: more may read the source */
        uint16_t group, count; /* see struct ltx_mark; the caller's */
};

/* @fd and @wal_fd (-1: none) are the files of @db as they are, to be read only, and the callee's. @is_final: who has it open may
 * not read on, for SQLite looks for the WAL by its name, and would take the next one's for this one's. Without the lock. */
struct db_rename_detach {
        void (*fn)(void *arg, struct db *db, int fd, int wal_fd, bool is_final);
        void *arg;
};

void db_rename_init(struct db_rename *rn, struct db *from, struct db *to);
/* With both accesses. 0; -EBUSY: a transaction is open; -ENOENT: there is no source; E_NOT_PRIMARY, E_FENCED. */
int db_rename_check(struct db_rename *rn, struct err *e);
int db_rename_prepare(struct db_rename *rn, struct err *e);
/* Nothing has changed after an error, unless the database has failed by it. */
int db_rename_put(struct db_rename *rn, const struct db_rename_detach *detach, struct err *e);
int db_rename_drop(struct db_rename *rn, const struct db_rename_detach *detach, struct err *e);
/* What the transaction tells of itself; nothing, if the log does not have it. Reads the disk. */
int db_read_mark(struct db *db, uint64_t txid, struct ltx_mark *ret, struct err *e);

/* Takes back what was prepared and not put, and gives both accesses back: without locks. */
void db_rename_end(struct db_rename *rn);

/* The deletion of @db alone, as a step of such a thing. */
int db_rename_remove(struct db_access *a, const struct db_rename_detach *detach, struct err *e);

#endif
