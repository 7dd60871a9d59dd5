/* fuse/carry.h - the mount passes to the process that takes this one's place (docs/architecture.md#upgrade-in-place): the connection, the nodes and
 * open files that the kernel holds by their ids, and the requests that were put aside. The kernel is told nothing of it: what
 * it asks meanwhile waits in its queue. */
#ifndef LITEFS_FUSE_CARRY_H
#define LITEFS_FUSE_CARRY_H

#include "base/parcel.h"
#include "fuse/session.h"

/* What cannot be handed over now: 0, or -EBUSY and what has to end first. Any thread. */
int session_may_be_carried(struct session *s, struct err *e);
/* How many descriptors of files session_carry_out would duplicate now. Any thread. */
unsigned session_count_carried_fds(struct session *s);
/* Stops receiving at a moment at which every request that was received is answered or put aside, and no pool of threads has
 * work; -ETIMEDOUT, and it serves on: there was no such moment within @timeout_ms. @others: more pools, up to a NULL, of
 * threads that do not enter the mount. From a thread that is not the mount's, when nobody posts to the pools but requests. */
int session_quiesce(struct session *s, struct workers *const *others, int timeout_ms, struct err *e);
/* After that: nothing looks at WALs that are passed through any more. */
void session_end_looking(struct session *s);
/* And then the state; then one of the two: session_leave ends session_run, and session_free leaves the mount to the next
 * program; session_go_on serves on, and WALs are looked at again. */
void session_carry_out(struct session *s, struct parcel *p);
void session_leave(struct session *s);
void session_go_on(struct session *s);
/* (session.c) Of a session whose process was handed this. */
int session_carry_in(struct session *s, struct parcel_reader *r, struct err *e);
/* After it, once session_run answers and there is no way back; from any thread that may wait. WALs that are passed through are
 * looked at. Of databases that were not taken over (store_is_broken) what the kernel keeps goes, so that who has them open asks, and is told
 * an error (lost.h). */
void session_begin_carried(struct session *s);

#endif
