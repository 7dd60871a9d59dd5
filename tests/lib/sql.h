/* tests/lib/sql.h - databases made by SQLite itself; the test links PkgConfig::SQLITE3. Any error aborts. */
#ifndef LITEFS_TESTS_SQL_H
#define LITEFS_TESTS_SQL_H

#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static inline sqlite3 *
sql_open(const char *path)
{
        sqlite3 *db;

        if (sqlite3_open(path, &db) != SQLITE_OK) {
                fprintf(stderr, "%s: %s\n", path, sqlite3_errmsg(db));
                abort();
        }
        return db;
}

static inline void
sql_exec(sqlite3 *db, const char *sql)
{
        if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
                fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
                abort();
        }
}

/* The first column of the first row. */
static inline int64_t
sql_int(sqlite3 *db, const char *sql)
{
        sqlite3_stmt *st;
        int64_t v;

        if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK || sqlite3_step(st) != SQLITE_ROW) {
                fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
                abort();
        }
        v = sqlite3_column_int64(st, 0);
        sqlite3_finalize(st);
        return v;
}

#endif
