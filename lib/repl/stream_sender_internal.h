/* lib/repl/stream_sender_internal.h - the inside of a primary's end of a stream, for its two files only.
 *
 *   stream_sender.c  life, what the replica says, what is asked of the stream; calls sender_job.c
 *   sender_job.c     what a worker reads, and what is sent */
#ifndef LITEFS_REPL_STREAM_SENDER_INTERNAL_H
#define LITEFS_REPL_STREAM_SENDER_INTERNAL_H

#include <stdatomic.h>

#include "repl/frame_decoder.h"
#include "repl/name_set.h"
#include "repl/sender_table.h"
#include "repl/stream_sender.h"

/* A worker reads for it. A job that was left frees the sender when it ends: on the loop, or, when that has stopped, itself. */
enum sender_job { JOB_NONE, JOB_RUNNING, JOB_LEFT };

struct stream_sender {
        struct stream_sender_config config;
        struct stream_transport *transport; /* NULL once freed */
        struct frame_decoder *decoder;
        struct frame_hello peer;
        bool has_peer;
        enum candidacy candidacy; /* as it has said */
        bool has_positions;
        bool is_blocked;
        bool is_ready_sent;
        bool has_listed;         /* our databases, all of them */
        struct name_set *listed; /* the names of the replica's list that is coming in */
        struct sender_table table;
        struct loop_timer *retry, *end;
        int end_code; /* 0: it does not end */
        const char *end_text;
        struct frame_successor end_successor; /* of boot id 0: none is told */

        _Atomic enum sender_job job;
        struct work work;
        struct mail mail;
        struct sender_entry *job_entries;
        unsigned n_held; /* databases whose cursor holds a deletion back, when last looked */
        struct outbox out;
        uint32_t next_stream;
        int result;
        struct err e;
};

/* The version that both sides speak. */
static inline uint16_t
sender_spoken(const struct stream_sender *f)
{
        return f->peer.version < f->config.self.version ? f->peer.version : f->config.self.version;
}

static inline bool
sender_has_job(const struct stream_sender *f)
{
        return atomic_load(&f->job) != JOB_NONE;
}

/* As stream_transport_send; -ENOTCONN once freed. */
int sender_send(struct stream_sender *f, const struct frame *frame);
/* READY, once, when the replica has been sent what there was as it came. */
void sender_send_ready(struct stream_sender *f);
/* Has a worker read what is due, unless one does. */
void sender_schedule(struct stream_sender *f);
/* What the cursors hold back and may go now is marked. */
void sender_let_go(struct stream_sender *f);
/* As stream_sender_end_after_all has been told. */
void sender_end_now(struct stream_sender *f);
/* Without a job. */
void sender_destroy(struct stream_sender *f);

#endif
