/* cmd/litefs/takeover.h - a planned upgrade: this process becomes the new program, with the mount in its hands.
 *
 * The old daemon gathers its state into a parcel (base/parcel.h) and becomes the program that lies at its path now. That one
 * reads its configuration, opens the databases and takes the mount over; if it cannot, it becomes the old program again, whose
 * file is still open, with the same parcel. So the process and its children stay what they are, and so does the guard, which
 * ends the mount should neither be able to.
 *
 * What is inherited is named in the environment: LITEFS_TAKEOVER=PARCEL:PROGRAM, two descriptors, the second of the old program;
 * and LITEFS_TAKEOVER_ERROR=TEXT for an old program that is back. */
#ifndef LITEFS_CMD_TAKEOVER_H
#define LITEFS_CMD_TAKEOVER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/parcel.h"
#include "lease/lease.h"

struct config;

/* Of the parcels that this program writes and reads; another one with each change of what is in them. */
#define TAKEOVER_VERSION 5u

/* What is said of the process, before its parts. Strings are borrowed. */
struct takeover_facts {
        const char *mount_dir, *data_dir, *http_addr;
        bool passes; /* WALs may be passed through (passing_any) */
        const char *
                lease; /* which one it holds (make_lease_name), "": none; then, its descriptor likewise: */
        struct lease_hold hold; /* by what, of zeros and -1 if by nothing */
        bool leads;             /* its applications may commit by it */
        int lock_fd, http_fd, guard_fd;
        pid_t guard_pid, application_pid; /* children; 0: none */
};

/* First of all in a program that may be replaced: the words and the environment that it began with. */
void takeover_remember(char **argv);

/* --- the old program --- */

/* Whether the program at our path could take over a node of @c that holds @lease (as in the facts): asks it. 0, or its reason.
 * Waits, some seconds at most. */
int takeover_try(const struct config *c, const char *lease, struct err *e);
/* The beginning of a parcel. */
void takeover_put(struct parcel *p, const struct takeover_facts *facts);
/* Becomes the program at our path, or this one anew; returns only when neither can be. No other thread runs. */
void takeover_exec(int parcel_fd);

/* --- the new program --- */

struct takeover;
/* What was inherited: *@ret is NULL when this process has begun as any other. */
int takeover_open(struct takeover **ret, struct err *e);
/* As they were put, descriptors that are borrowed. */
const struct takeover_facts *takeover_facts(const struct takeover *t);
/* What comes behind them. */
struct parcel_reader *takeover_parcel(struct takeover *t);
/* The configuration is that of the same node: 0, or why not. */
int takeover_check(const struct takeover_facts *facts, const struct config *c, struct err *e);
/* Likewise of the lease, of which the node holds @before (as in the facts). */
int takeover_check_lease(const char *before, const struct config *c, struct err *e);
/* From now on the mount is this program's, and there is no way back. */
void takeover_commit(struct takeover *t);
/* Ends the guard of the old program, and closes what was inherited: this one has its own. */
void takeover_end(struct takeover *t);
/* Whether there is a program to give back to. */
bool takeover_has_way_back(const struct takeover *t);
/* Before takeover_commit: becomes the old program again, which is told @why. Returns when that is not possible, or when this is
 * the one that was given back to. NULL is fine. */
void takeover_give_back(struct takeover *t, const char *why);
/* Why the program that was to take over did not; NULL: none was, or it did. */
const char *takeover_error(void);
void takeover_free(struct takeover *t);

#endif
