/* lib/repl/feed.h - the primary's end of a stream: its transactions, to one replica.
 *
 * The replica says where each of its databases is; from there the log is read, by a worker, a chunk at a time, and
 * sent as fast as the link takes it. A replica whose position is not in our history, or so old that the log does
 * not reach back to it, gets a snapshot. A slow replica costs one chunk of memory and its place in the log.
 *
 * The loop's thread, but for feed_run, which is its job on a worker. */
#ifndef LITEFS_REPL_FEED_H
#define LITEFS_REPL_FEED_H

#include "base/workers.h"
#include "net/loop.h"
#include "repl/frame.h"
#include "repl/link.h"
#include "store/store.h"

struct feed;

struct feed_config {
        struct loop *loop;
        struct workers *workers;
        struct store *store;
        struct frame_hello self; /* with our term */
        void *arg;
        /* The replica's hello was accepted. */
        void (*connected)(void *arg, struct feed *f, const struct frame_hello *replica);
        /* The stream cannot go on (the log cannot be read): close the link. */
        void (*broken)(void *arg, struct feed *f, const struct err *e);
        /* Whether what @store has is all that the cluster has: nothing received waits, no database failed to open. */
        bool (*is_whole)(void *arg);
        /* After feed_free, once no job is under way. */
        void (*freed)(void *arg);
};

int feed_new(const struct feed_config *config, struct link *link, struct feed **ret);
int feed_input(struct feed *f, const uint8_t *bytes, size_t n, struct err *e);
/* The link takes more. */
void feed_writable(struct feed *f);
/* @db has transactions to send. */
void feed_committed(struct feed *f, struct db *db);
void feed_heartbeat(struct feed *f, int64_t wall_ms, int64_t fence_ms);
/* @code is an enum frame_error_code; then the link is finished. */
void feed_end(struct feed *f, int code, const char *text);
int feed_handoff(struct feed *f, const struct frame_handoff *h);
/* Whether the replica has said where it is. */
bool feed_has_positions(const struct feed *f);
/* Whether the replica has acknowledged all that this node has. */
bool feed_is_caught_up(struct feed *f);
const struct frame_hello *feed_peer(const struct feed *f); /* NULL before its hello */
/* What the replica has applied of @db. */
struct ltx_pos feed_acked(const struct feed *f, const struct db *db);
/* Each database that the replica is known to have, or is sent. */
void feed_each_acked(const struct feed *f, void (*fn)(void *arg, struct db *db, struct ltx_pos acked),
                     void *arg);
/* Sends and tells nothing more; memory goes once the job has ended. */
void feed_free(struct feed *f);

#endif
