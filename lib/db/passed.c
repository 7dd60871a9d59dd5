/* A WAL that is passed through, or is not any more; and a look at it: passed.h. */
#include "db/passed.h"

#include <fcntl.h>
#include <limits.h>

#include "db/db_internal.h"
#include "db/prepared.h"

int
db_wal_look(struct db *db, struct db_look *ret)
{
        struct passed_run run = { 0 };
        struct db_access a;
        bool was_prepared;
        int r;

        *ret = (struct db_look){ 0 };
        r = db_access_begin(db, DB_BY_CALL, &a, NULL);
        if (r < 0)
                return r;
        was_prepared = db->passed.prepared != NULL;
        if (db->passed.is_on)
                r = passed_look(&a, &run);
        ret->is_prepared = r != E_BUSY && db->passed.prepared != NULL;
        ret->is_moving = run.has_captured || was_prepared != ret->is_prepared;
        db_access_end(&a);
        if (was_prepared && !ret->is_prepared && r != E_BUSY)
                access_tell_free(db);
        return r;
}

void
passed_before_apply(struct db *db)
{
        struct db_look ignored;
        bool is_on;

        pthread_mutex_lock(&db->lock);
        is_on = db->passed.is_on;
        pthread_mutex_unlock(&db->lock);
        if (is_on)
                (void)db_wal_look(db, &ignored);
}

void
db_wal_decide(struct db *db)
{
        struct db_access a;

        if (db_access_begin(db, DB_BY_CALL, &a, NULL) < 0)
                return;
        if (db->passed.prepared != NULL && prepared_follow_chain(&a) == 0 && db->passed.prepared != NULL)
                (void)prepared_publish_if_there(&a);
        db_access_end(&a);
        access_tell_free(db);
}

/* For recovery, which takes nothing from a WAL that we have written. */
static int
leave_mark(struct db *db)
{
        char path[PATH_MAX];
        int fd, r = db_path(db, "passed", path, sizeof path);

        if (r < 0)
                return r;
        fd = os_open(db->env->os, "wal:passed", path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        os_close(db->env->os, "wal:passed", fd);
        return fd < 0 ? fd : 0;
}

int
db_wal_pass_through(struct db *db, enum wal_passthrough how)
{
        bool is_passed = how != WAL_PASSTHROUGH_OFF;
        struct db_access a;
        int r = db_access_begin(db, DB_BY_CALL, &a, NULL);

        if (r == 0 && !is_passed)
                r = passed_before_call(&a);
        if (r == 0 && !is_passed && db->passed.prepared != NULL)
                r = prepared_publish_if_there(&a); /* nobody has it open who could */
        if (r == 0 && !is_passed && db->passed.is_on)
                passed_end(&a);
        if (r == 0 && is_passed && !db->passed.is_on)
                r = leave_mark(db);
        if (r == 0 && is_passed) {
                db->passed.is_on = true;
                db->passed.is_fast = how == WAL_PASSTHROUGH_FAST;
        }
        db_access_end(&a);
        return r;
}

int
db_wal_dup(struct db *db)
{
        int r;

        pthread_mutex_lock(&db->lock);
        r = wal_dup(db->wal);
        pthread_mutex_unlock(&db->lock);
        return r;
}

void
db_wal_restore_index(struct db *db, int fd)
{
        pthread_mutex_lock(&db->lock);
        pthread_mutex_lock(&db->shown.lock);
        os_close(db->env->os, "wal:index", db->passed.index_fd);
        db->passed.index_fd = db->shown.index_fd = fd;
        pthread_mutex_unlock(&db->shown.lock);
        pthread_mutex_unlock(&db->lock);
}

void
db_wal_set_index(struct db *db, int fd)
{
        struct db_look ignored;

        (void)db_wal_look(db, &ignored); /* while it can be read */
        db_wal_restore_index(db, fd);
        if (fd < 0)
                (void)db_wal_look(db, &ignored); /* whoever comes next goes by the frames */
}

void
passed_end(struct db_access *a)
{
        struct db *db = a->db;

        if (db->passed.prepared != NULL)
                (void)prepared_undo(a);
        if (db->passed.is_on) {
                db_remove_file(db, "passed");
                db->passed.is_removal_volatile = true;
        }
        db->passed.is_on = db->passed.was_told = false;
}

void
passed_release(struct db *db)
{
        prepared_forget(db);
        os_close(db->env->os, "wal:index", db->passed.index_fd);
        db->passed.index_fd = -1;
}
