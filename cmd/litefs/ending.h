/* cmd/litefs/ending.h - the time in which a node that was told to stop has to end.
 *
 * All that a stop waits for has a bound of its own but for the disk, the kernel, and what somebody has overlooked. So a
 * thread that waits for nothing counts over all of it, and when the time is over ends the process by force, after one
 * line that says which part had not come to its end and in which calls threads wait for a disk or a mount. That takes nothing
 * from anybody: what was acknowledged is in the log, and the guard ends the mount (cmd/litefs/guard.h).
 *
 * A thread whose call the kernel does not let go, as of a disk that hangs, keeps the process as one that is dead by half
 * until the call ends; nothing in it runs any more.
 *
 * Any thread, at any time. */
#ifndef LITEFS_CMD_ENDING_H
#define LITEFS_CMD_ENDING_H

#include <stdint.h>

struct ending;

/* @last is called before the process ends by force, and waits for nothing. 0 or a negative errno. */
int ending_new(void (*last)(void *arg), void *arg, struct ending **ret);
/* From now on the node has @ms, or as long as it likes if that is negative, and is at @part of its end; what is given again
 * takes the place of what was before. @part is borrowed for ever, and reads well after "litefs waits for". */
void ending_allow(struct ending *x, const char *part, int64_t ms);
/* Within the same time. */
void ending_at(struct ending *x, const char *part);
/* It has ended. NULL is fine. */
void ending_free(struct ending *x);

#endif
