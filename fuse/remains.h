/* fuse/remains.h - what is left of a deleted database's companions: empty plain files.
 *
 * SQLite removes a database by unlinking the file; the journal, WAL and wal-index that are there then stay on a disk until
 * somebody unlinks them. Here they go with the database (lib/db/db.h, db_drop), but who lists a directory before it empties
 * it (rm -r, find -delete, mv) will unlink each name that it has seen. So the names remain, without content, until they are
 * unlinked, their directory is removed, a database takes them over, or the next start (store/leftovers.h). SQLite takes an
 * empty journal or WAL for none.
 *
 * Under the session's lock, all of it. */
#ifndef LITEFS_FUSE_REMAINS_H
#define LITEFS_FUSE_REMAINS_H

#include <stdbool.h>
#include <sys/stat.h>

struct session;
struct db;

/* What there is before the deletion. */
struct remains {
        bool has_journal, has_wal, has_shm;
        struct stat st; /* the database's: the names get its mode and owner */
};

void remains_note(struct session *s, struct db *db, struct remains *ret);
/* After it. A name that cannot be made is missing then, which is an error of rm and no more. */
void remains_leave(struct session *s, struct db *db, const struct remains *rm);

/* Removes what is left in the directory at @path (in DATA/files), if there is nothing else: 0, -ENOTEMPTY, -ENOENT. */
int remains_clear(struct session *s, const char *path);
/* Removes the directory at @path (in DATA/files), and remains if there is nothing else in it: 0 or a negative errno, as
 * rmdir. */
int remains_rmdir(struct session *s, const char *path);

#endif
