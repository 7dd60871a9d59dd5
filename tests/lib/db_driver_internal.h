/* tests/lib/db_driver_internal.h - between db_driver.c (the object) and db_driver_vfs.c (SQLite's side). */
#ifndef LITEFS_TESTS_DB_DRIVER_INTERNAL_H
#define LITEFS_TESTS_DB_DRIVER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "tests/lib/db_driver.h"

#define DB_DRIVER_REGIONS_MAX 64

/* assert() that a release build keeps. */
static inline void
db_driver_require(bool is_so)
{
        if (!is_so)
                abort();
}

struct db_driver {
        struct db_env env;
        struct db *db;
        sqlite3_vfs vfs;
        char vfs_name[40];
        char tmp_dir[4096];
        bool is_padded;
        bool is_passed, dies_before_sync, dies_after_sync;
        int wal_fd; /* the file that connections write to themselves; -1 */
        int n_wal_users;
        int index_fd; /* of the wal-index then; -1 */
        atomic_bool is_fenced;
        pthread_mutex_t lock;
        pthread_cond_t changed; /* a db_done was called, or the database is no longer busy */

        /* Locks of the database file. */
        int n_shared;
        const void *reserved, *pending, *exclusive; /* the file that holds it */

        /* The wal-index, while anybody has it open. */
        int n_shm_users;
        void *regions[DB_DRIVER_REGIONS_MAX];
        int shm_shared[SQLITE_SHM_NLOCK];
        const void *shm_exclusive[SQLITE_SHM_NLOCK];
};

/* Returns once no capture runs. */
void db_driver_wait_idle(struct db_driver *d);

/* What a call that may return DB_PENDING is given. */
struct db_driver_wait {
        struct db_driver *d;
        int n_calls;
        int result;
};
struct db_done db_driver_wait_begin(struct db_driver *d, struct db_driver_wait *w);
/* @r, or when that is DB_PENDING the result that db_done brings. */
int db_driver_wait_end(struct db_driver_wait *w, int r);

void db_driver_register(struct db_driver *d);
void db_driver_unregister(struct db_driver *d);

#endif
