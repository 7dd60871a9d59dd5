/* lib/store/renames_internal.h - the inside of renames, for its two files.
 *
 *   renames_redo.c  those that did not come to their end; calls renames.c
 *   renames.c       one rename, of one database or many */
#ifndef LITEFS_STORE_RENAMES_INTERNAL_H
#define LITEFS_STORE_RENAMES_INTERNAL_H

#include "store/rename_note.h"
#include "store/renames.h"

/* In the order of their names, so that two renames do not wait for each other. */
struct turn {
        struct db *db;
        struct db_access *access;
};

struct renames {
        struct store *s;
        struct rename_note *note;
        struct db_rename *list; /* as note->pairs; of a removal @to alone */
        struct turn *turns;
        size_t max, n_turns, n_begun;
        bool is_done;
};

/* @from NULL: @to is deleted. */
int renames_add_pair(struct renames *rs, struct db *from, struct db *to, struct err *e);
/* What each target says to replicas. */
void renames_tell_of_group(struct renames *rs, uint64_t number, size_t n);
/* How far it has come: @db is at @pos, or was deleted at it. */
bool renames_is_at(struct db *db, struct ltx_pos pos);
bool renames_is_deleted_after(struct db *db, struct ltx_pos pos);
/* One database that is the target of a plain file, or made by this, is deleted (again). */
int renames_remove_target(struct db_rename *rn, const struct db_rename_detach *detach, struct err *e);
/* The note's plain files, if there are any. Durable before the note goes. */
int renames_move_plain(struct store *s, const struct rename_note *note, struct err *e);
/* @path below DATA/files: 0, -ENAMETOOLONG. */
int renames_plain_path(struct store *s, const char *path, char ret[PATH_MAX]);

#endif
