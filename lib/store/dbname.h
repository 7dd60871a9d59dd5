/* lib/store/dbname.h - names of databases: the path in the mount, its directory under dbs/, its companions.
 *
 * "app.db" is kept in dbs/app.db, "tenants/7.db" in dbs/tenants%2F7.db: '/' and '%' are escaped, so the
 * directories stay flat and LiteFS's own stay where they are. */
#ifndef LITEFS_STORE_DBNAME_H
#define LITEFS_STORE_DBNAME_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the escaped form, NUL not counted: in DATA/orphans a directory is called that and up to 39 more, and a file
 * system takes 255. */
#define DBNAME_MAX 216

/* The escaped form and a NUL: 0, or -ENAMETOOLONG. */
int dbname_encode(const char *name, char ret[DBNAME_MAX + 1]);
/* Back: 0, or -EINVAL when @dir is no such form. */
int dbname_decode(const char *dir, char ret[DBNAME_MAX + 1]);

/* Whether the @n bytes at @name, which need no NUL after them, may name a database: a path in the mount without
 * empty, "." or ".." components, no companion's name, short enough to be escaped. For names that a peer or a
 * client sends. */
bool dbname_is_valid(const char *name, size_t n);

enum dbname_kind { DBNAME_DATABASE, DBNAME_JOURNAL, DBNAME_WAL, DBNAME_SHM, DBNAME_POS, DBNAME_LOCK };

/* What @name would be if a database had the name without its suffix; *@ret_len is that name's length. Never
 * DBNAME_LOCK: NAME-lock is that of a database NAME if there is one, else a name like any other. */
enum dbname_kind dbname_classify(const char *name, size_t *ret_len);
/* Whether it is a NAME-lock; *@ret_len is the length of NAME. */
bool dbname_is_lock(const char *name, size_t *ret_len);

#endif
