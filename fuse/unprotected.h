/* fuse/unprotected.h - WARNs of what looks as if it were a database, and is neither logged nor replicated.
 *
 * A database is known by SQLite's header, and a companion by its name. What SQLite writes without the one (SQLCipher and other
 * extensions encrypt it) or under the other stays a plain file, of this node alone, and nothing else would say so. Once a
 * name and run. Under the session's lock. */
#ifndef LITEFS_FUSE_UNPROTECTED_H
#define LITEFS_FUSE_UNPROTECTED_H

struct session;
struct inode;

/* The journal of the plain file @in has come to its end: SQLite has committed to it. */
void unprotected_by_journal(struct session *s, struct inode *in);
/* The plain file @in was synced or closed after writing, and is no database. */
void unprotected_by_sync(struct session *s, struct inode *in);
/* The plain file at @path has taken the place of a database. */
void unprotected_by_rename(struct session *s, const char *path);

#endif
