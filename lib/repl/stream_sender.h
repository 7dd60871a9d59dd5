/* lib/repl/stream_sender.h - the primary's end of a stream: its transactions, to one replica.
 *
 * The replica says where each of its databases is; from there the log is read, by a worker, a chunk at a time, and
 * sent as fast as the transport takes it. A replica whose position is not in our history, or so old that the log does
 * not reach back to it, gets a snapshot. A slow replica costs one chunk of memory and its place in the log.
 *
 * The loop's thread. */
#ifndef LITEFS_REPL_STREAM_SENDER_H
#define LITEFS_REPL_STREAM_SENDER_H

#include "base/workers.h"
#include "net/loop.h"
#include "repl/frame.h"
#include "repl/stream_transport.h"
#include "store/store.h"

struct stream_sender;

/* Of a replica. Before its hello, and until it has said it: unknown; one of an earlier version does not say, and is taken
 * for one that may. */
enum candidacy { CANDIDACY_UNKNOWN, CANDIDACY_YES, CANDIDACY_NO };

struct stream_sender_config {
        struct loop *loop;
        struct workers *workers;
        struct store *store;
        struct frame_hello self; /* with our term */
        void *arg;
        /* The replica's hello was accepted. */
        void (*connected)(void *arg, struct stream_sender *f, const struct frame_hello *replica);
        /* The stream cannot go on (the log cannot be read): close the transport. */
        void (*broken)(void *arg, struct stream_sender *f, const struct err *e);
        /* Whether what @store has is all that the cluster has: nothing received waits, no database failed to open. */
        bool (*is_whole)(void *arg);
        /* A replica of this cluster has been in @term already, later than ours. */
        void (*outranked)(void *arg, uint64_t term);
        /* The replica has said whether it may lead. NULL: nobody wants to know. */
        void (*candidacy)(void *arg);
        /* After stream_sender_free, once no job is under way. */
        void (*freed)(void *arg);
};

int stream_sender_new(const struct stream_sender_config *config, struct stream_transport *transport,
                      struct stream_sender **ret);
int stream_sender_input(struct stream_sender *f, const uint8_t *bytes, size_t n, struct err *e);
/* The transport takes more. */
void stream_sender_writable(struct stream_sender *f);
/* @db has transactions to send. */
void stream_sender_committed(struct stream_sender *f, struct db *db);
void stream_sender_heartbeat(struct stream_sender *f, int64_t wall_ms, int64_t fence_ms);
/* @code is an enum frame_error_code; then the transport is finished. @successor is who the lease has been passed to, or NULL. */
void stream_sender_end(struct stream_sender *f, int code, const char *text,
                       const struct frame_successor *successor);
/* The same once all that is in the log has been sent, or a moment later. */
void stream_sender_end_after_all(struct stream_sender *f, int code, const char *text,
                                 const struct frame_successor *successor);
/* One of the nodes that may lead: @flags as in struct frame_peer. A replica of an earlier version is not told. */
bool stream_sender_knows_fetch(const struct stream_sender *f);
void stream_sender_tell_peer(struct stream_sender *f, unsigned flags, const char *url);
int stream_sender_handoff(struct stream_sender *f, const struct frame_handoff *h);
/* Whether the replica has said where it is. */
bool stream_sender_has_positions(const struct stream_sender *f);
/* Whether the replica has acknowledged all that this node has. */
bool stream_sender_is_caught_up(struct stream_sender *f);
/* And has it on its disk, as far as it says so: a node of protocol version 1 does not. */
bool stream_sender_is_durable(struct stream_sender *f);
/* Whether it may lead. */
enum candidacy stream_sender_candidacy(const struct stream_sender *f);
/* Has the replica bring what it has applied to its disk, and say so, now rather than within about a second. */
void stream_sender_ask_sync(struct stream_sender *f);
const struct frame_hello *stream_sender_peer(const struct stream_sender *f); /* NULL before its hello */
/* Each database that the replica is known to have, or is sent. */
void stream_sender_each_acked(const struct stream_sender *f,
                              void (*fn)(void *arg, struct db *db, struct ltx_pos acked), void *arg);
/* Sends and tells nothing more; memory goes once the job has ended. */
void stream_sender_free(struct stream_sender *f);

#endif
