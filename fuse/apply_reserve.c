/* SQLite's write locks for a while, so that transactions can be made by the daemon: imports, halts. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "db/remote_commit.h"
#include "fuse/apply_internal.h"

/* A journal whose writer died is hot only for as long as nobody holds RESERVED: with it in our hands, readers would
 * take the dead writer's pages for committed ones. */
static int
abandon_dead_writer(struct apply *a, bool (*is_left)(struct db *db))
{
        int r;

        if (!is_left(a->db))
                return 0;
        if (own_is_locked_by_another(&a->file, SQLITE_RESERVED_BYTE))
                return -EAGAIN;
        r = apply_take_exclusive(a);
        if (r == 0 && is_left(a->db)) {
                r = db_abandon(a->db);
                if (r == 0) {
                        notify_abandoned(a->s, a->db);
                        apply_settle_size(a);
                }
        }
        return r;
}

/* 0, also when there is none; -EAGAIN: somebody is in it, or reads. */
static int
roll_back_refused(struct session *s, struct db *db)
{
        struct apply *a = NULL;
        int r = db_has_refused(db) ? apply_new(s, db, &a) : 0;

        if (a != NULL) {
                r = apply_open_database(a, NULL);
                if (r == 0)
                        r = abandon_dead_writer(a, db_has_refused);
                if (r == 0)
                        log_event(LOG_INFO, db_name(db),
                                  "a transaction that could not be committed is rolled back");
        }
        apply_free(a);
        return r;
}

struct abandonment {
        struct work work;
        struct session *s;
        struct db *db;
};

static void
run_abandon(struct work *w)
{
        struct abandonment *ab = (struct abandonment *)w;
        int r = store_is_primary(ab->s->store) ? 0 : roll_back_refused(ab->s, ab->db);

        if (r == -EAGAIN)
                store_wants_tick(ab->s->store);
        else if (r < 0)
                log_event(LOG_WARN, db_name(ab->db), "roll back what could not be committed: %s",
                          err_code_text(r));
        free(ab);
}

void
apply_abandon_refused(struct session *s, struct db *db)
{
        struct abandonment *ab = malloc(sizeof *ab);

        if (ab == NULL) {
                store_wants_tick(s->store);
                return;
        }
        *ab = (struct abandonment){ { run_abandon, NULL }, s, db };
        workers_post(s->config.visitors, &ab->work);
}

/* RESERVED, between transactions. */
static int
reserve_file(struct apply *a)
{
        int r = own_lock(&a->file, F_WRLCK, SQLITE_RESERVED_BYTE, 1);

        if (r < 0 || (!db_journal_is_active(a->db) && !db_has_unjournaled(a->db)))
                return r;
        (void)own_lock(&a->file, F_UNLCK, SQLITE_RESERVED_BYTE, 1);
        if (db_has_unjournaled(a->db)) /* a transaction that is over, and has still to be captured */
                (void)mount_probe(a->s, a->db, (struct db_done){ 0 });
        return -EAGAIN;
}

/* Also when nobody has the database open, so that there is no WAL: who opens it then finds the lock. */
static int
make_wal(struct apply *a)
{
        struct stat st;
        struct own_file f;
        int r;

        if (db_wal_exists(a->db))
                return 0;
        r = db_stat(a->db, &st);
        if (r < 0)
                return r;
        r = own_open(a->s, a->db, "-wal", O_CREAT, st.st_mode & 0777, &f);
        if (r < 0)
                return r;
        own_close(a->s, &f);
        return 0;
}

/* WRITE, and a wal-index by which readers can go while it is ours: they could not make one. */
static int
reserve_wal(struct apply *a)
{
        struct db_wal_mark mark;
        struct err e = ERR_INIT;
        int r;

        r = apply_take_shared(a);
        if (r == 0)
                r = make_wal(a);
        if (r == 0)
                r = apply_index_open(a);
        if (r == 0)
                r = own_lock(&a->shm, F_WRLCK, SQLITE_WAL_WRITE_LOCK, 1);
        if (r < 0)
                return r;
        r = apply_index_refresh(a);
        if (r == 0 && !apply_index_is_right(a, db_wal_captured(a->db, &mark) ? &mark : NULL))
                r = apply_index_rebuild(a, &e);
        a->is_reserved = r == 0;
        if (r < 0)
                (void)own_lock(&a->shm, F_UNLCK, SQLITE_WAL_WRITE_LOCK, 1);
        return r;
}

int
apply_reserve(struct apply *a, struct err *e)
{
        struct db_info info;
        int r = 0;

        if (!db_exists(a->db))
                return 0;
        r = apply_open_database(a, e);
        if (r < 0)
                return r;
        r = abandon_dead_writer(a, db_journal_is_active);
        if (r == 0 && (a->hold == HOLD_EXCLUSIVE || a->is_pending))
                apply_release_exclusive(a);
        if (r == 0)
                r = reserve_file(a);
        db_get_info(a->db, &info);
        if (r == 0 && (info.is_wal || db_wal_exists(a->db)))
                r = reserve_wal(a);
        return r < 0 ? err_set(e, r, "wait for the writers of %s", db_name(a->db)) : 0;
}
