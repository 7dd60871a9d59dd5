/* lib/store/carry.h - what a process hands of its databases to the one that takes its place (db/carry.h). */
#ifndef LITEFS_STORE_CARRY_H
#define LITEFS_STORE_CARRY_H

#include "base/parcel.h"
#include "store/store.h"

/* What keeps other programs away from the data directory: borrowed. */
int store_lock_fd(const struct store *s);
/* Nobody uses a database any more, and no job is under way. */
void store_carry_out(struct store *s, struct parcel *p);
/* After it, once there is a program that is given the parcel; else the store is as it was. */
void store_leave(struct store *s);
/* Into a store that was opened with is_resumed, before anybody uses it; it makes new databases as usual from then on. Negative:
 * a database does not open, or is not what it was; where @is_alone, for there is no other program that may have more luck, that
 * database counts as one that did not open (store_is_broken), and the others serve. */
int store_carry_in(struct store *s, struct parcel_reader *r, bool is_alone, struct err *e);

#endif
