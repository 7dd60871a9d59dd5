/* lib/store/rename_note.h - what a rename is going to do, on the disk before it does it: DATA/renames/NUMBER.
 *
 * A name is a history of its own in the log, so a rename is several transactions, of several databases. With the note they
 * are one step: after a crash the next start finds how far it came, by the databases' positions, and does the rest
 * (renames.h). The bytes stand in docs/on-disk.md. */
#ifndef LITEFS_STORE_RENAME_NOTE_H
#define LITEFS_STORE_RENAME_NOTE_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/os.h"
#include "ltx/pos.h"
#include "store/dbname.h"

#define RENAME_MAX_PAIRS 256u

/* One database that becomes another one. */
struct rename_note_pair {
        char from[DBNAME_MAX + 1]; /* "": @to is deleted, for a plain file takes its place */
        char to[DBNAME_MAX + 1];
        struct ltx_pos from_pos, to_pos; /* before */
        struct ltx_pos made_pos;         /* the target's once it is what the source was */
        uint32_t fresh;                  /* see db/rename.h */
};

struct rename_note {
        struct rename_note *next;
        uint64_t number;           /* its file's name */
        char plain_from[PATH_MAX]; /* of DATA/files, also renamed; "": nothing is */
        char plain_to[PATH_MAX];
        size_t n;
        struct rename_note_pair *pairs;
};

/* NULL: no memory. */
struct rename_note *rename_note_new(size_t n);
void rename_note_free(struct rename_note *note);

/* Durable when it returns 0. @dir is DATA/renames, made if it is not there. */
int rename_note_write(const struct os *os, const char *dir, const struct rename_note *note,
                      struct err *e);
/* -ENOENT when it is not there; E_FORMAT when it is not whole: then nothing has followed it. */
int rename_note_read(const struct os *os, const char *dir, uint64_t number, struct rename_note **ret,
                     struct err *e);
/* It is done. Should the removal not last, it is found to be done again. */
void rename_note_remove(const struct os *os, const char *dir, uint64_t number);

#endif
