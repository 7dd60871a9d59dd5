/* fuse/wal_watch.h - looks after WALs that are passed through: commits that nobody syncs are captured, and those that were
 * synced are shown, soon after.
 *
 * A thread of its own. The kernel tells it (inotify) when the file of an idle one is written; from then on it looks every
 * millisecond, later more rarely, until nothing has come for a while. It waits for the locks of databases, not for the disk,
 * and never enters the mount: where a writer seems dead, a visitor finds out.
 *
 * Any thread; takes a lock that is a leaf. */
#ifndef LITEFS_FUSE_WAL_WATCH_H
#define LITEFS_FUSE_WAL_WATCH_H

struct db;
struct session;
struct wal_watch;

int wal_watch_start(struct session *s);
void wal_watch_stop(struct session *s); /* fine when it was not started */
/* From one to the other nothing is looked at but by wal_watch_flush, and nothing is forgotten. Fine when it was not started, or not
 * paused. */
void wal_watch_pause(struct session *s);
void wal_watch_go_on(struct session *s);
/* Its WAL is passed through from now on. */
void wal_watch_add(struct session *s, struct db *db);
/* What is committed by now is captured, if it may be. */
void wal_watch_flush(struct session *s);
/* The same once the wal-indexes are spoiled (wal_spoil.h), and say nothing: all that the WALs have. */
void wal_watch_take_rest(struct session *s);
/* Something has happened to it. */
void wal_watch_wake(struct session *s, struct db *db);

#endif
