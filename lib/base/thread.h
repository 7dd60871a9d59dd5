/* lib/base/thread.h - threads of the daemon. */
#ifndef LITEFS_BASE_THREAD_H
#define LITEFS_BASE_THREAD_H

#include <pthread.h>

/* Starts one with every signal blocked: signals are the main thread's. 0 or a negative errno. */
int thread_start(pthread_t *ret, void *(*run)(void *arg), void *arg);

#endif
