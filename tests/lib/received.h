/* tests/lib/received.h - transactions as another node sends them (db/apply.h), for tests that have no other node.
 *
 * Release each with received_release(). Abort when they cannot be made. */
#ifndef LITEFS_TESTS_RECEIVED_H
#define LITEFS_TESTS_RECEIVED_H

#include "db/apply.h"
#include "db/snapshot.h"

/* All of @from as of now, verified. Temporary files go to @tmp_dir, which is borrowed. */
void received_snapshot(struct received *ret, struct db *from, const char *tmp_dir);
/* What is left of @snap, which is closed: 0, or what is wrong with it. */
int received_read(struct received *ret, struct db_snapshot *snap, const char *tmp_dir, struct err *e);
/* One that follows @info's position and makes page @pgno, which is @old there, @page. */
void received_page(struct received *ret, const struct db_info *info, uint32_t pgno, const uint8_t *old,
                   const uint8_t *page, const char *tmp_dir);
/* An LTX file, to the end of @src. */
void received_copy(struct received *ret, struct byte_src *src, const char *tmp_dir);
/* The deletion of @db, as its next transaction. */
void received_drop(struct received *ret, struct db *db, const char *tmp_dir);

#endif
