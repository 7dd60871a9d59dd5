/* lib/db/image/base_file.h - dbs/NAME/base: the transaction that the database file durably holds, and the
 * checksum of each page (byte table in docs/on-disk.md).
 *
 * Written in two steps so that the log can be synced in between: write makes base.tmp durable, publish
 * renames it and syncs the directory. */
#ifndef LITEFS_DB_IMAGE_BASE_FILE_H
#define LITEFS_DB_IMAGE_BASE_FILE_H

#include <stdint.h>

#include "base/err.h"
#include "base/os.h"
#include "db/image/pagesum.h"

struct base_info {
        uint64_t txid;
        uint32_t page_size;
        uint32_t page_count;  /* checksums in the file */
        int64_t timestamp_ms; /* of the transaction; for mtime when the log has nothing newer */
};

/* @copy fills up to @n checksums from page @first_pgno on and returns how many there are; called without
 * any lock of this module. Sets @info->page_count to what was written. */
int base_file_write(const struct os *os, const char *dir, struct base_info *info,
                    uint32_t (*copy)(void *arg, uint32_t first_pgno, uint64_t *ret, uint32_t n),
                    void *arg, struct err *e);
int base_file_publish(const struct os *os, const char *dir, struct err *e);

/* 1: read, 0: there is none, <0: error, which names file and offset. @sums is filled; the caller releases
 * it in any case. */
int base_file_read(const struct os *os, const char *dir, struct base_info *ret, struct pagesum *sums,
                   struct err *e);

#endif
