/* lib/store/orphans.h - DATA/orphans: states of databases that were set aside, each a directory.
 *
 *   DIR-TXID-CHECKSUM     another history has taken its place (db_replace); -2 and so on when there are several
 *   DIR-damaged-TIME      it did not open, and the primary had it
 *   DIR.new               a new state of DIR on its way in, complete: see lib/db/replace.c
 *
 * Only the last is ours to touch again. Not locked: at start, and under the store's create_lock. */
#ifndef LITEFS_STORE_ORPHANS_H
#define LITEFS_STORE_ORPHANS_H

#include <stdint.h>

#include "base/err.h"
#include "base/os.h"

/* Before databases are opened: replacements that a crash has cut short are finished or forgotten. What fails is logged,
 * and tried again at the next start. */
void orphans_settle(const struct os *os, const char *data_dir);

/* Moves DATA/dbs/@dir here as damaged; fine when there is none. */
int orphans_take_damaged(const struct os *os, const char *data_dir, const char *dir, int64_t now_ms,
                         struct err *e);

#endif
