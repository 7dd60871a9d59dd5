/* lib/store/renames.h - databases get other names, alone or with the directory that they are in.
 *
 * All of them or none: what is to be done is noted durably (rename_note.h) once nothing stands in its way, then each target
 * becomes what its source was (db/rename.h), then plain files follow, then the sources go. From the note on a crash is made
 * good by renames_redo. To a replica a source's deletion goes once it has the target (repl/log_cursor.h).
 *
 *   renames_new, renames_add and the like, renames_begin until it is not E_BUSY, renames_perform, renames_free
 *
 * One thread at a time, a worker or what waits for nobody. */
#ifndef LITEFS_STORE_RENAMES_H
#define LITEFS_STORE_RENAMES_H

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "db/rename.h"
#include "store/store.h"

struct renames;
struct rename_note;

/* For up to @max databases. -ENOMEM. */
int renames_new(struct store *s, size_t max, struct renames **ret);
/* @from becomes @to, which is made if there is none. -EXDEV: they are too many. */
int renames_add(struct renames *rs, struct db *from, const char *to, struct err *e);
/* @to is deleted, for a plain file takes its place. */
int renames_add_removal(struct renames *rs, struct db *to, struct err *e);
/* DATA/files/@from is renamed, too: a directory, or the plain file. -ENAMETOOLONG. */
int renames_set_plain(struct renames *rs, const char *from, const char *to);
/* E_BUSY: one of them is somebody's; @w is called, and what has been begun stays. */
int renames_begin(struct renames *rs, struct db_waiter *w, struct err *e);
/* As rename(2), and atomic like it. -EBUSY, E_NOT_PRIMARY: nothing was done. Should it fail after the targets have come,
 * which takes a disk that fails, it is tried again later. */
int renames_perform(struct renames *rs, const struct db_rename_detach *detach, struct err *e);
/* Gives all that was begun back. Without locks. */
void renames_free(struct renames *rs);

/* What a run before this one did not finish, when this node may commit; what the cluster has overtaken is left as it is, with
 * a WARN. @detach NULL: nothing is mounted. Waits for the disk. */
void renames_redo(struct store *s, const struct db_rename_detach *detach);
/* A rename of which all has come but the deletion of @from, which is at @from_pos, as another primary has not done it: @to
 * became it by @made_txid. 0; -ESTALE: it is not at that position any more; E_BUSY, -EBUSY, E_NOT_PRIMARY, E_FENCED: again. */
int renames_finish(struct store *s, struct db *from, struct ltx_pos from_pos, struct db *to,
                   uint64_t made_txid, const struct db_rename_detach *detach, struct err *e);
/* Whether there is any. */
bool renames_are_wanted(struct store *s);

/* For store.c: */
struct rename_notes {
        pthread_mutex_t lock;
        struct rename_note *unfinished; /* guarded by it */
        uint64_t last_number;           /* likewise */
        char dir[PATH_MAX];
};
int rename_notes_load(struct store *s, struct err *e);
void rename_notes_release(struct rename_notes *notes);

#endif
