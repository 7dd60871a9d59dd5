/* SQLite's write locks for a while, so that transactions can be made by the daemon: imports, halts. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "db/forward.h"
#include "fuse/apply_internal.h"

static bool
is_locked_by_another(int fd, off_t byte)
{
        struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

        return fcntl(fd, F_OFD_GETLK, &fl) == 0 && fl.l_type != F_UNLCK;
}

/* A journal whose writer died is hot only for as long as nobody holds RESERVED: with it in our hands, readers would
 * take the dead writer's pages for committed ones. */
static int
abandon_dead_writer(struct apply *a)
{
        int r;

        if (!db_journal_is_active(a->db))
                return 0;
        if (is_locked_by_another(a->db_fd, SQLITE_RESERVED_BYTE))
                return -EAGAIN;
        r = apply_take_exclusive(a);
        if (r == 0 && db_journal_is_active(a->db)) {
                r = db_abandon(a->db);
                if (r == 0)
                        notify_abandoned(a->s, a->db);
        }
        return r;
}

static void
ignore_result(void *arg, int r)
{
        (void)arg;
        (void)r;
}

/* RESERVED, between transactions. */
static int
reserve_file(struct apply *a)
{
        int r = apply_lock(a->db_fd, F_WRLCK, SQLITE_RESERVED_BYTE, 1);

        if (r < 0 || (!db_journal_is_active(a->db) && !db_has_unjournaled(a->db)))
                return r;
        (void)apply_lock(a->db_fd, F_UNLCK, SQLITE_RESERVED_BYTE, 1);
        if (db_has_unjournaled(a->db)) /* a transaction that is over, and has still to be captured */
                (void)mount_probe(a->s, a->db, (struct db_done){ ignore_result, NULL });
        return -EAGAIN;
}

/* Also when nobody has the database open, so that there is no WAL: who opens it then finds the lock. */
static int
make_wal(struct apply *a)
{
        struct stat st;
        int fd, r;

        if (db_wal_exists(a->db))
                return 0;
        r = db_stat(a->db, &st);
        if (r < 0)
                return r;
        fd = apply_open_through(a, "-wal", O_CREAT, st.st_mode & 0777);
        if (fd < 0)
                return fd;
        if (geteuid() == 0)
                (void)!fchown(fd, st.st_uid, st.st_gid);
        close(fd);
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
                r = apply_lock(a->shm_fd, F_WRLCK, SQLITE_WAL_WRITE_LOCK, 1);
        if (r < 0)
                return r;
        r = apply_index_refresh(a);
        if (r == 0 && !apply_index_is_right(a, db_wal_captured(a->db, &mark) ? &mark : NULL))
                r = apply_index_rebuild(a, &e);
        a->is_reserved = r == 0;
        if (r < 0)
                (void)apply_lock(a->shm_fd, F_UNLCK, SQLITE_WAL_WRITE_LOCK, 1);
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
        r = abandon_dead_writer(a);
        if (r == 0 && (a->hold == HOLD_EXCLUSIVE || a->is_pending))
                apply_release_exclusive(a);
        if (r == 0)
                r = reserve_file(a);
        db_get_info(a->db, &info);
        if (r == 0 && (info.is_wal || db_wal_exists(a->db)))
                r = reserve_wal(a);
        return r < 0 ? err_set(e, r, "wait for the writers of %s", db_name(a->db)) : 0;
}
