/* lib/store/rename_intents.h - renames that another node has begun, as far as this one has heard of them.
 *
 * What the target's transaction tells of the source (struct ltx_mark) goes to replicas with the log. One that has the target when
 * the primary is lost, and the source still, finishes the rename once it leads.
 *
 * Kept in memory, the last RENAME_INTENTS_MAX: after a restart of this node both names remain. Threads: any. */
#ifndef LITEFS_STORE_RENAME_INTENTS_H
#define LITEFS_STORE_RENAME_INTENTS_H

#include <pthread.h>
#include <stdbool.h>

#include "db/received.h"
#include "db/rename.h"
#include "store/store.h"

#define RENAME_INTENTS_MAX 1024u

/* @rx, a transaction of @db, is applied. Before anybody is told so. */
void rename_intents_note(struct store *s, struct db *db, const struct received *rx);
/* As this node leads: what is here as it was when it was renamed goes, the source, if all that was renamed with it has come. */
void rename_intents_finish(struct store *s, const struct db_rename_detach *detach);
bool rename_intents_are_wanted(struct store *s);

/* For store.c: */
struct rename_intent;
struct rename_intents {
        pthread_mutex_t lock;
        struct rename_intent *list; /* newest first; guarded by it */
        unsigned n;
};
void rename_intents_release(struct rename_intents *ri);

#endif
