/* lib/base/thread.h - threads of the daemon. */
#ifndef LITEFS_BASE_THREAD_H
#define LITEFS_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>

/* Starts one with every signal blocked: signals are the main thread's. 0 or a negative errno. */
int thread_start(pthread_t *ret, void *(*run)(void *arg), void *arg);

/* A condition whose timed waits count by the clock of monotonic.h. */
void thread_cond_init(pthread_cond_t *c);

/* Whether the calling thread may make requests to the daemon's own mount, and may tell the kernel of changes there: it may
 * wait in the kernel for any request of an application to be answered. So no thread may, but those of a pool that is made
 * for it (workers_new_for_mount), for whose work such a request never waits; nor these while they answer one. Allowing
 * returns what was before. */
bool thread_allow_own_mount(bool may_enter);
bool thread_may_enter_own_mount(void);

/* The calling thread runs an event loop (lib/net/loop.h) from now on: connections, heartbeats and the lease wait for it, so it
 * must not wait for a disk, nor for a lock that is held over such a wait. */
void thread_become_loop(void);
/* Called before each such wait; @what names it. On the thread of a loop it is an error of ours: the first one is logged, and
 * builds with LITEFS_INVARIANTS end there. */
void thread_will_wait(const char *what);

#endif
