/* lib/db/import.h - a database file from outside as the next transaction of a database.
 *
 * The file's pages replace whatever the database holds; the transaction has those that differ. What comes of it goes the way of a received
 * transaction (db/apply.h), so readers of the database see the old content or the new. The file change counter and
 * the schema cookie become values that the database has not had, so that connections which keep pages or the schema
 * of the old content read anew. A database in WAL mode stays in it: others may have its WAL open. */
#ifndef LITEFS_DB_IMPORT_H
#define LITEFS_DB_IMPORT_H

#include "base/err.h"
#include "db/apply.h"

/* The shape of the file, checked. */
struct import_file {
        uint32_t page_size;
        uint32_t page_count;
        bool is_wal;
};

/* 0; E_FORMAT: it is no database, or shorter than its header says; its reason in words. */
int import_check(const struct os *os, int fd, struct import_file *ret, struct err *e);

/* Page 1 of a file of @page_count pages that takes another one's place: with a change counter and a schema cookie, @fresh, that
 * it has not had, for the counter also says which version of SQLite's the size in the header is of. */
void import_mark_first_page(uint8_t *page, uint32_t page_count, uint32_t fresh, bool is_wal);

/* Fills @rx, which received_init was called for. Nobody may commit between this and the apply: see
 * fuse/apply.h, apply_reserve. */
int import_build(struct db *db, int fd, const struct import_file *file, struct received *rx,
                 struct err *e);

#endif
