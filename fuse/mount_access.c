/* The daemon as one more SQLite process on its own mount: it takes SQLite's locks (OFD locks, which the kernel
 * keeps on the node without asking us) and looks into the wal-index through a shared mapping, so that what it
 * sees and writes is what the applications see.
 *
 * All of this runs on workers. Opening, mapping and closing are requests to our own dispatch thread: no lock
 * that it may want is held here. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/fuse_internal.h"
#include "sqlite/lockbytes.h"
#include "sqlite/wal_index.h"

struct job {
        struct work work;
        struct session *s;
        struct db *db;
        struct db_done done;
};

static int
open_through(struct session *s, struct db *db, const char *suffix)
{
        char path[PATH_MAX];
        int n = snprintf(path, sizeof path, "%s/%s%s", s->mount_dir, db_name(db), suffix);
        int fd;

        if (n < 0 || (size_t)n >= sizeof path)
                return -ENAMETOOLONG;
        fd = open(path, O_RDWR | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* Tries for a write lock, without waiting: 0 or -EAGAIN. Closing the file gives it back. */
static int
try_lock(int fd, off_t byte)
{
        struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

        return fcntl(fd, F_OFD_SETLK, &fl) < 0 ? -EAGAIN : 0;
}

static int
post(struct session *s, struct db *db, struct db_done done, void (*run)(struct work *w))
{
        struct job *job = malloc(sizeof *job);

        if (job == NULL)
                return -ENOMEM;
        *job = (struct job){ { run, NULL }, s, db, done };
        workers_post(s->config.workers, &job->work);
        return 0;
}

/* --- pages without a journal --- */

struct probe {
        struct job *job;
        int fd;
};

static void
finish_probe(void *arg, int r)
{
        struct probe *p = arg;
        struct job *job = p->job;

        close(p->fd);
        job->done.fn(job->done.arg, r);
        free(job);
        free(p);
}

/* RESERVED is held by every SQLite writer from its first write to the end of its transaction. */
static void
run_probe(struct work *w)
{
        struct job *job = (struct job *)w;
        struct probe *p = malloc(sizeof *p);
        int r;

        if (p == NULL) {
                job->done.fn(job->done.arg, -ENOMEM);
                free(job);
                return;
        }
        p->job = job;
        p->fd = open_through(job->s, job->db, "");
        r = p->fd < 0 ? p->fd : try_lock(p->fd, SQLITE_RESERVED_BYTE);
        if (r == -EAGAIN) {
                store_wants_tick(job->s->store); /* in a transaction: look again later */
                r = 0;
        } else if (r == 0 && db_has_unjournaled(job->db)) {
                r = db_capture_unjournaled(job->db, (struct db_done){ finish_probe, p });
        }
        if (r != DB_PENDING)
                finish_probe(p, r);
}

int
mount_probe(struct session *s, struct db *db, struct db_done done)
{
        return post(s, db, done, run_probe);
}

/* --- the wal-index --- */

static int
map_index(struct session *s, struct db *db, int *ret_fd, void **ret)
{
        struct stat st;
        int fd = open_through(s, db, "-shm");

        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0 || st.st_size < WAL_INDEX_HEADER_SIZE) {
                close(fd);
                return -ENOENT;
        }
        *ret = mmap(NULL, WAL_INDEX_HEADER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (*ret == MAP_FAILED) {
                close(fd);
                return -errno;
        }
        *ret_fd = fd;
        return 0;
}

static void
unmap_index(int fd, void *index)
{
        munmap(index, WAL_INDEX_HEADER_SIZE);
        close(fd);
}

static void
run_repair(struct work *w)
{
        struct job *job = (struct job *)w;
        void *index;
        int fd, r;

        r = map_index(job->s, job->db, &fd, &index);
        if (r == 0) {
                wal_index_invalidate(index);
                unmap_index(fd, index);
                log_event(LOG_WARN, db_name(job->db),
                          "a writer ended between its commit and the wal-index: the commit stands, "
                          "SQLite will read the WAL anew");
        }
        job->done.fn(job->done.arg, r);
        free(job);
}

int
mount_repair_wal_index(struct session *s, struct db *db, struct db_done done)
{
        return post(s, db, done, run_repair);
}

/* Holding WRITE, nobody is between commit frame and wal-index but a writer that is dead. */
static void
check_index(struct session *s, struct db *db)
{
        struct wal_index_header h;
        struct db_wal_mark mark;
        void *index;
        int fd;

        if (map_index(s, db, &fd, &index) < 0)
                return;
        if (try_lock(fd, SQLITE_WAL_WRITE_LOCK) == 0 && db_wal_captured(db, &mark) &&
            wal_index_read_header(index, &h) == 0 && h.salt[0] == mark.salt1 &&
            h.salt[1] == mark.salt2 && h.mx_frame < mark.n_frames) {
                wal_index_invalidate(index);
                log_event(LOG_WARN, db_name(db),
                          "a writer ended between its commit and the wal-index: the commit stands, "
                          "SQLite will read the WAL anew");
        }
        unmap_index(fd, index);
}

static void
run_check(struct work *w)
{
        struct job *job = (struct job *)w;

        check_index(job->s, job->db);
        free(job);
}

void
mount_check_wal_index(struct session *s, struct db *db)
{
        if (atomic_load(&s->is_stopping))
                return;
        (void)post(s, db, (struct db_done){ 0 }, run_check);
}

void
mount_read_backfill(struct session *s, struct db *db)
{
        struct wal_index_header h;
        struct db_wal_mark mark;
        void *index;
        int fd;

        if (atomic_load(&s->is_stopping) || !db_wal_captured(db, &mark) || mark.n_frames == 0 ||
            map_index(s, db, &fd, &index) < 0)
                return;
        /* Only within one chain: a restart resets the count with the salts. */
        if (wal_index_read_header(index, &h) == 0 && h.salt[0] == mark.salt1 && h.salt[1] == mark.salt2)
                db_wal_backfilled(db, &mark, wal_index_backfill(index));
        unmap_index(fd, index);
}
