/* lib/db/adopt_litefs.h - a database that LiteFS 0.5 has left is taken over.
 *
 * dbs/NAME/{database,journal,wal,shm,ltx/}: the journal is rolled back, the WAL cut to the last LTX file (when
 * that one came from it) and applied, the last LTX file applied once more, the checksum compared with that file's.
 * All of it works on the database file in place by writing whole pages from files that stay, so it can be cut
 * short and begun again. When our own base is durable the caller lets the old files go. */
#ifndef LITEFS_DB_ADOPT_LITEFS_H
#define LITEFS_DB_ADOPT_LITEFS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/os.h"
#include "db/image/pagesum.h"
#include "ltx/pos.h"

struct adopted {
        struct ltx_pos pos; /* {0, 0}: there was no LTX file */
        int64_t timestamp_ms;
        uint32_t page_size; /* 0: there is no database, or it was deleted */
        uint32_t page_count;
        struct pagesum sums;
};

/* Whether @dir holds what LiteFS left and we have not taken over: ltx/ or a database file without log and base. 1, 0,
 * or a negative errno: a file that cannot be looked at is not taken for absent, else a log would be begun beside it. */
int adopt_litefs_wanted(const struct os *os, const char *dir, struct err *e);
/* 0, with the database file synced; the caller releases @ret->sums. E_CORRUPT_DB names file and reason, and then
 * nothing was removed. */
int adopt_litefs(const struct os *os, const char *dir, struct adopted *ret, struct err *e);
/* Whether files are left that only LiteFS makes: then adopt_litefs_finish is due once our base is durable.
 * 1, 0 or a negative errno. */
int adopt_litefs_has_leavings(const struct os *os, const char *dir, struct err *e);
/* Removes journal, WAL, wal-index and ltx/. */
int adopt_litefs_finish(const struct os *os, const char *dir, struct err *e);

#endif
