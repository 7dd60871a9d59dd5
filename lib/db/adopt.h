/* lib/db/adopt.h - a plain file, with its companions, becomes a database: adopt_file.c, and its companions in journal_file.c
 * and wal_file.c.
 *
 * All of it under one access (DB_BY_ADOPTION, or whoever applies what makes the database): in between nobody else may
 * find a database of which parts are still plain files. One thread. */
#ifndef LITEFS_DB_ADOPT_H
#define LITEFS_DB_ADOPT_H

#include "db/access.h"

/* As db_adopt_file. -EEXIST when there is a database by now. */
int adopt_file(struct db_access *a, const char *path, struct err *e);
/* A finalised journal of @size_bytes, whose content no longer matters. */
int adopt_journal(struct db_access *a, uint64_t size_bytes);
/* A WAL that was there before the database was one is read from the start. Of one that could not be captured only the
 * transactions are left that were. DB_PENDING: it is large, and a worker has @a from now on. */
int adopt_wal(struct db_access *a, const char *path, struct db_done done, struct err *e);

#endif
