/* lib/base/workers.h - a small pool of threads for work that may wait for the disk or the mount.
 *
 * Jobs run in the order posted, as many at once as there are threads. A job's struct is owned by the
 * poster and must live until its function has begun; the function may free it. Lock rank: the pool's
 * lock is a leaf, posting is allowed under any lock. */
#ifndef LITEFS_BASE_WORKERS_H
#define LITEFS_BASE_WORKERS_H

#include <stdbool.h>
#include <sys/types.h>

struct workers;

struct work {
        void (*run)(struct work *w);
        struct work *next; /* the pool's */
};

/* Starts @n_threads threads with all signals blocked. */
int workers_new(unsigned n_threads, struct workers **ret);
/* Of threads that may enter the daemon's own mount (thread.h). Nothing that a request waits for while the kernel holds
 * something for it (a directory, a page) may be posted there. */
int workers_new_for_mount(unsigned n_threads, struct workers **ret);
void workers_post(struct workers *p, struct work *w);
/* Runs @fn on one of the threads and waits for its result. Not from a thread of the pool, and with no lock that a job
 * may want. */
int workers_call(struct workers *p, int (*fn)(void *arg), void *arg);
/* As workers_post; but a thread that offered itself runs the job itself, once it is free of locks: it is awake
 * already. For jobs that do not care which thread runs them. */
void workers_post_here(struct workers *p, struct work *w);
/* The calling thread, no worker, takes on the next job that it posts itself by workers_post_here: *slot (NULL
 * before) is that job then, and it must call workers_run_here soon. NULL takes the offer back. */
void workers_offer(struct work **slot);
void workers_run_here(struct workers *p, struct work *w);
/* Whether the thread @tid belongs to the pool: how the mount tells the daemon's own requests. */
bool workers_has_tid(struct workers *p, pid_t tid);
/* Whether no job is queued or running, at this moment. */
bool workers_is_idle(struct workers *p);
/* Waits until no job is queued or running. Do not call from a worker. */
void workers_drain(struct workers *p);
/* Drains, stops the threads and frees the pool. NULL is fine. */
void workers_free(struct workers *p);

#endif
