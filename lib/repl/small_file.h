/* lib/repl/small_file.h - files of one line in the data directory. */
#ifndef LITEFS_REPL_SMALL_FILE_H
#define LITEFS_REPL_SMALL_FILE_H

#include <stddef.h>

#include "base/err.h"
#include "base/os.h"

/* The first word of DIR/NAME, with a NUL: its length, 0 also when there is no file, else a negative errno. */
int small_file_read(const struct os *os, const char *dir, const char *name, char *buf, size_t size,
                    struct err *e);
/* All of it, likewise. */
int small_file_read_all(const struct os *os, const char *dir, const char *name, char *buf, size_t size,
                        struct err *e);
/* Replaces it durably: temporary file, rename, and the directory synced. */
int small_file_write(const struct os *os, const char *dir, const char *name, const char *text, size_t n,
                     struct err *e);

#endif
