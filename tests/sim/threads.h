/* tests/sim/threads.h - what the program asks of threads and clocks, in a simulated world.
 *
 * The linker hands over here (--wrap) what lib/ calls of pthreads, time and chance: a thread is a fiber, a condition that is
 * signalled wakes one of those who wait for it a little later, and the clock is that of the host on which the caller
 * runs. So lib/base/workers.c and all that waits run as they are. A lock may be held while its holder waits for the disk;
 * who wants it then waits, too, but for the loop's thread: that it never has to is checked. */
#ifndef LITEFS_TESTS_SIM_THREADS_H
#define LITEFS_TESTS_SIM_THREADS_H

#include "tests/sim/sim.h"

/* From now on it is @s that all calls are about. */
void threads_use(struct sim *s);
struct sim *threads_sim(void);

#endif
