/* tests/lib/db_driver_check.h - what must hold of a data directory, whatever has happened to it. */
#ifndef LITEFS_TESTS_DB_DRIVER_CHECK_H
#define LITEFS_TESTS_DB_DRIVER_CHECK_H

#include <stddef.h>

#include "base/err.h"
#include "tests/lib/db_driver.h"

/* Lets tmpdir_make() use memory unless TMPDIR says otherwise: where no real power is lost it is as good as a disk. */
void db_driver_use_memory(void);

/* Copies the directory @from, with all in it, to @to, which must not exist. Aborts when it cannot. */
void db_driver_copy_tree(const char *from, const char *to);
/* Removes @dir with all in it; fine when it is not there. */
void db_driver_remove_tree(const char *dir);
/* A new file's content; the caller frees it. NULL when it is not there. */
void *db_driver_read_file(const char *path, size_t *ret_size);

/* A plain SQLite file at @path: pages of 1 KiB, table t(id,x) with @n_rows rows of 300 random bytes. */
void db_driver_make_plain(const char *path, int n_rows);
/* With pages of another size. */
void db_driver_make_plain_of(const char *path, int n_rows, int page_size);
/* A data directory at @root with a database that was made as such a file, in journal mode @mode. Closed cleanly, so its base is its position. Aborts when it cannot. */
void db_driver_make_template(const char *root, const char *mode, int n_rows);

/* For a database that was just opened: its file is its committed image. Checks that the file's checksum, computed
 * anew, is the position's; that the records of the log continue each other up to the position; and that replaying
 * them over @base_image (NULL: over nothing, when the log begins at transaction 1) gives the file byte by byte. */
int db_driver_check_files(struct db_driver *d, const char *root, const void *base_image,
                          size_t base_size, struct err *e);
/* The database is not failed: then the log ends at its position. */
int db_driver_check_position(struct db_driver *d, const char *root, struct err *e);

#endif
