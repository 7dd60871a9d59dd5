/* cmd/litefs/bare_files.h - what lies in the bare directory that the file system is to be mounted over.
 *
 * Programs that ran while litefs did not have written there, and the mount would hide it. The directory may belong to
 * another user: nothing is followed, and what is a database is told by its bytes. */
#ifndef LITEFS_CMD_BARE_FILES_H
#define LITEFS_CMD_BARE_FILES_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define BARE_FILES_MAX 10000 /* that are looked at */

struct bare_files {
        unsigned n_databases;    /* databases, journals and WALs of SQLite */
        unsigned n_others;       /* all other files; directories do not count */
        char database[PATH_MAX]; /* the first of each, below the directory; "" for none */
        char other[PATH_MAX];
        char unreadable[PATH_MAX]; /* a directory that this user may not read, "" for none */
        bool is_cut;               /* there are more than BARE_FILES_MAX */
};

/* A directory that is not there holds nothing. */
int bare_files_look(const char *dir, struct bare_files *ret, struct err *e);
/* The command that moves what @dir holds out of the way, for a shell. */
void bare_files_suggest(const char *dir, const char *data_dir, const struct bare_files *b, char *buf,
                        size_t size);
/* Moves databases, journals and WALs of @dir to a new directory in @data_dir/orphans, with a line in the log for each.
 * -EBUSY: a program has one open. */
int bare_files_move(const char *dir, const char *data_dir, struct err *e);

#endif
