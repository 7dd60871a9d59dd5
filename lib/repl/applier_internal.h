/* lib/repl/applier_internal.h - the inside of the applier, for applier*.c only.
 *
 *   applier.c      what is queued and when it is tried: the loop's thread
 *   applier_job.c  a batch of one database: the pool */
#ifndef LITEFS_REPL_APPLIER_INTERNAL_H
#define LITEFS_REPL_APPLIER_INTERNAL_H

#include "base/backoff.h"
#include "base/map.h"
#include "repl/applier.h"

struct queue;

struct item {
        struct item *next;
        struct queue *q;
        struct received *rx;
        bool is_verified; /* the job's */
        bool is_held;     /* counted as held, not as queued */
};

/* The transactions of one database. The list is the loop's; a batch of it belongs to the job while one runs. */
struct queue {
        struct queue *next;
        struct applier *a;
        char *name;
        struct item *head, **tail;
        uint64_t n_bytes; /* with the batch */
        uint32_t n_items;
        struct work work;
        struct mail mail;
        void (*report)(struct mail *m); /* its function */
        struct loop_timer *retry;
        int retry_ms;
        bool is_running; /* a job or the retry timer is under way */
        bool is_waiting; /* the timer */
        bool is_failing; /* for the timer, to tell of a failure that came again */
        bool is_blocked; /* what is tried again was in somebody's way, or the disk was in ours */
        bool is_cut;     /* what came behind the first one was dropped, and is until that is applied */
        bool is_lost;    /* likewise, for it could not be kept: */
        struct err lost; /* why */
        struct backoff
                failures; /* since one was applied: its primary must not send all of it again and again */
        struct trouble said;
        bool is_dead; /* what the job has was cleared away meanwhile */

        /* The job's while is_running. */
        struct db *db; /* NULL: not found or made yet */
        struct item *batch;
        bool is_invalid; /* the result is a verdict on what came */
        void *handle;
        int result;
        struct err e;
        struct item *done; /* those applied, newest first */
};

struct applier {
        struct applier_config config;
        struct queue *queues;
        struct map by_name; /* of them */
        uint64_t n_bytes;
        uint32_t n_items; /* with the held ones */
        uint32_t n_held;  /* one at most of each database: it has to be there to be tried again */
        bool was_full;
};

/* --- applier_job.c --- */
/* The work of a queue, on the pool: as much of its batch as can be applied, then @report, by mail. */
void applier_job_post(struct queue *q, void (*report)(struct mail *m));

#endif
