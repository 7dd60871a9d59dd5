/* lib/net/loop.h - the thread that all sockets and timers live on.
 *
 * Everything made on a loop (timers, connections, listeners) is used on its thread only; other threads send
 * it work by loop_post. The loop never waits for anybody: nothing that runs on it may take a lock that is
 * held across I/O, touch the disk or the mount, or ask a server by blocking calls.
 *
 * Stop: messages posted before loop_stop still run, then listeners and connections are closed (each
 * connection hears -ECANCELED), timers fire no more, and the thread ends. A look-up of a host name that is
 * under way is waited for. */
#ifndef LITEFS_NET_LOOP_H
#define LITEFS_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "net/mailbox.h"

struct loop;
struct loop_timer;

/* Starts the thread, with all signals blocked. */
int loop_new(struct loop **ret, struct err *e);
/* Runs @m on the loop, in the order posted: 0, or -ESHUTDOWN, and then @m is still the caller's. Any thread,
 * any lock. */
int loop_post(struct loop *l, struct mail *m);
/* Runs @fn on the loop and waits for its result, for set-up and tear-down; -ESHUTDOWN when the loop stops.
 * Any thread but the loop's. */
int loop_call(struct loop *l, int (*fn)(void *arg), void *arg);
/* Stops as described above and waits for the end; loop_post fails from now on. Any thread but the loop's,
 * once. */
void loop_stop(struct loop *l);
/* After loop_stop, when no other thread will post any more. NULL is fine. */
void loop_free(struct loop *l);

bool loop_is_current(const struct loop *l);
/* Milliseconds of the loop's clock, which only grows, as of this turn of the loop. */
int64_t loop_now_ms(const struct loop *l);

/* A timer that fires once each time it is started. 0, -ENOMEM or -ESHUTDOWN. */
int loop_timer_new(struct loop *l, void (*fn)(void *arg), void *arg, struct loop_timer **ret);
/* Fires in @ms (>= 0), whatever it was set to before. After the stop of the loop it does nothing. */
void loop_timer_start(struct loop_timer *t, int64_t ms);
/* It does not fire, if it has not yet. */
void loop_timer_cancel(struct loop_timer *t);
/* Also in its own @fn; also on another thread, once loop_stop has returned. NULL is fine. */
void loop_timer_free(struct loop_timer *t);

#endif
