/* lib/repl/follow.h - a replica's end of the stream: what the primary commits, into the applier.
 *
 * Bytes in by follow_input, out by the link; the owner opens the link (after the HTTP upgrade) and closes it when
 * input fails. One follow for one link. The loop's thread. */
#ifndef LITEFS_REPL_FOLLOW_H
#define LITEFS_REPL_FOLLOW_H

#include "repl/applier.h"
#include "repl/frame.h"
#include "repl/link.h"

struct follow;

struct follow_config {
        struct store *store;
        const struct db_env *env; /* for spools */
        struct applier *applier;
        struct frame_hello self; /* sent; term is the highest that this node knows */
        void *arg;
        /* The primary's hello was accepted. */
        void (*connected)(void *arg, const struct frame_hello *primary);
        /* All that the primary had when the stream began is applied. Once. */
        void (*ready)(void *arg);
        void (*heartbeat)(void *arg, const struct frame_heartbeat *hb, bool is_caught_up);
        void (*handoff)(void *arg, const struct frame_handoff *h);
};

int follow_new(const struct follow_config *config, struct link *link, struct follow **ret);
/* Sends hello and positions. */
int follow_start(struct follow *f, struct err *e);
/* <0: the stream is over, close the link. */
int follow_input(struct follow *f, const uint8_t *bytes, size_t n, struct err *e);
/* What the applier tells. */
void follow_applied(struct follow *f, struct db *db, struct ltx_pos pos);
/* Asks for what comes after @db's position (NULL: for all), or with E_CHECKSUM for a snapshot; what is on its way and does
 * not follow is dropped. */
void follow_failed(struct follow *f, const char *name, struct db *db, int code);
void follow_drained(struct follow *f);
/* Whether there is something, not only on its way, that the primary has and this node has not. */
bool follow_lacks_something(const struct follow *f);
void follow_free(struct follow *f); /* NULL is fine */

#endif
