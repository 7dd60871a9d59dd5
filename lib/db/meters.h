/* lib/db/meters.h - what is measured over all databases of a node. Any thread; read it at any time. */
#ifndef LITEFS_DB_METERS_H
#define LITEFS_DB_METERS_H

#include "base/histogram.h"

enum db_error {
        DB_ERROR_REFUSED,  /* a commit, because this node may not write, or no longer */
        DB_ERROR_COMMIT,   /* another error of a commit: its application was told */
        DB_ERROR_CHECKSUM, /* a transaction of another node did not make what it promised */
        DB_ERROR_APPLY,    /* another error of such a transaction */
        DB_ERROR_SYNC,     /* the log could not be made durable */
        DB_ERROR_STOPPED,  /* a database was stopped */
        DB_N_ERRORS
};

struct db_meters {
        struct histogram commit;    /* from a commit's recognition until it is in the log */
        struct histogram sync;      /* one fdatasync of a log, and what it takes along */
        struct histogram sync_wait; /* an application's wait for its commit to be durable */
        atomic_ullong errors[DB_N_ERRORS];
};

/* For an env without meters, too. */
#define db_meter_error(env, what) \
        do { \
                if ((env)->meters != NULL) \
                        atomic_fetch_add_explicit(&(env)->meters->errors[what], 1, \
                                                  memory_order_relaxed); \
        } while (0)

#endif
