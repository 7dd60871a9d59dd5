/* lib/repl/stream_receiver.h - a replica's end of the stream: what the primary commits, into the applier.
 *
 * Bytes in by stream_receiver_input, out by the transport; the owner opens the transport (after the HTTP upgrade) and closes it when
 * input fails. One receiver for one transport. The loop's thread. */
#ifndef LITEFS_REPL_STREAM_RECEIVER_H
#define LITEFS_REPL_STREAM_RECEIVER_H

#include "repl/applier.h"
#include "repl/frame.h"
#include "repl/stream_transport.h"

struct stream_receiver;

struct stream_receiver_config {
        struct store *store;
        const struct db_env *env; /* for spools */
        struct applier *applier;
        struct frame_hello self; /* sent; term is the highest that this node knows */
        bool is_candidate;       /* this node may lead */
        void *arg;
        /* The primary's hello was accepted. */
        void (*connected)(void *arg, const struct frame_hello *primary);
        /* All that the primary had when the stream began is applied. Once. */
        void (*ready)(void *arg);
        void (*heartbeat)(void *arg, const struct frame_heartbeat *hb, bool is_caught_up);
        void (*handoff)(void *arg, const struct frame_handoff *h);
        /* What stream_receiver_ping asked for. */
        void (*pong)(void *arg, const struct frame_pong *p);
        /* The primary passes the lease on; the stream ends. */
        void (*successor)(void *arg, const struct frame_successor *s);
        /* One of the nodes that may lead. */
        void (*peer)(void *arg, const struct frame_peer *p);
        /* What is applied is to be made durable, and stream_receiver_durable called for it. */
        void (*sync)(void *arg);
        /* The primary of @term commits no more, and all that it committed has come. */
        void (*stopped)(void *arg, uint64_t term);
};

int stream_receiver_new(const struct stream_receiver_config *config, struct stream_transport *transport,
                        struct stream_receiver **ret);
/* Sends hello and positions. */
int stream_receiver_start(struct stream_receiver *f, struct err *e);
/* Asks where the primary is with @name ("": only whether it leads): pong() brings what it is after this. -ENOTSUP: it
 * would not understand. */
int stream_receiver_ping(struct stream_receiver *f, uint64_t nonce, const char *name);
/* <0: the stream is over, close the transport. */
int stream_receiver_input(struct stream_receiver *f, const uint8_t *bytes, size_t n, struct err *e);
/* Whether this node may lead, from now on. */
void stream_receiver_set_candidate(struct stream_receiver *f, bool is_candidate);
/* What the applier tells. */
void stream_receiver_applied(struct stream_receiver *f, struct db *db, struct ltx_pos pos);
/* @db's log was synced: tells the primary how far. */
void stream_receiver_durable(struct stream_receiver *f, struct db *db);
/* Asks for what comes after @db's position (NULL: for all), or with E_CHECKSUM for a snapshot; what is on its way and does
 * not follow is dropped. */
void stream_receiver_failed(struct stream_receiver *f, const char *name, struct db *db, int code);
void stream_receiver_drained(struct stream_receiver *f);
/* Whether there is something, not only on its way, that the primary has and this node has not. */
bool stream_receiver_lacks_something(const struct stream_receiver *f);
void stream_receiver_free(struct stream_receiver *f); /* NULL is fine */

#endif
