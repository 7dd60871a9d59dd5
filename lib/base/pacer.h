/* lib/base/pacer.h - a thread in the background that rests in proportion to its work, and ends when it is told.
 *
 * Threads: pacer_stop is any thread's; the rest are the resting thread's, or before it starts and after it was joined. */
#ifndef LITEFS_BASE_PACER_H
#define LITEFS_BASE_PACER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct pacer {
        pthread_mutex_t lock; /* a leaf */
        pthread_cond_t wake;
        bool is_stopping; /* under lock */
        int64_t began_ms; /* when it last went back to work */
};

void pacer_init(struct pacer *p);
void pacer_release(struct pacer *p);
/* It goes to work. */
void pacer_begin(struct pacer *p);
/* False: the end, at once where it was told before. */
bool pacer_rest(struct pacer *p, int64_t ms);
/* For @factor times as long as it has worked, within a millisecond and a second. */
bool pacer_rest_from_work(struct pacer *p, int factor);
void pacer_stop(struct pacer *p);

#endif
