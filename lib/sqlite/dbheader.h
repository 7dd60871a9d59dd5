/* lib/sqlite/dbheader.h - the 100-byte header of a database file (SQLite file format, section 1.3). */
#ifndef LITEFS_SQLITE_DBHEADER_H
#define LITEFS_SQLITE_DBHEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SQLITE_DBHEADER_SIZE 100

struct sqlite_dbheader {
        uint32_t page_size;
        uint32_t page_count;
        bool is_page_count_valid; /* else the file's size counts */
        bool is_wal;              /* read and write version 2 */
};

/* 0, or E_FORMAT when @buf (@n bytes) is no database's beginning. */
int sqlite_dbheader_parse(const uint8_t *buf, size_t n, struct sqlite_dbheader *ret);

#endif
