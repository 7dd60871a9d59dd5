/* The daemon as one more SQLite process on its own mount: it takes SQLite's locks (OFD locks, which the kernel
 * keeps on the node without asking us) and reads and writes the wal-index through the page cache, so that what it
 * sees and writes is what the applications see.
 *
 * All of this runs on workers. Opening, reading and closing are requests to our own dispatch thread: no lock
 * that it may want is held here. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/fuse_internal.h"
#include "fuse/notify.h"
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

/* Its header, read and written by calls that the page cache makes coherent with SQLite's mappings. A mapping of our
 * own would hang the node: munmap() of a file of FUSE waits until its dirty pages, SQLite's too, are written back,
 * and holds this process's map meanwhile, which the dispatch thread may need to receive just that WRITE. */
struct index_file {
        int fd;
        _Alignas(8) uint8_t header[WAL_INDEX_HEADER_SIZE];
};

static int
open_index(struct session *s, struct db *db, struct index_file *ret)
{
        ret->fd = open_through(s, db, "-shm");
        return ret->fd < 0 ? ret->fd : 0;
}

static int
read_index(struct index_file *f)
{
        ssize_t n = pread(f->fd, f->header, sizeof f->header, 0);

        return n == (ssize_t)sizeof f->header ? 0 : n < 0 ? -errno : -ENOENT;
}

/* The second copy first, as a writer does. */
static int
invalidate_index(struct index_file *f)
{
        const size_t copy = WAL_INDEX_COPY_SIZE;

        wal_index_invalidate(f->header);
        if (pwrite(f->fd, f->header + copy, copy, (off_t)copy) != (ssize_t)copy ||
            pwrite(f->fd, f->header, copy, 0) != (ssize_t)copy)
                return -EIO;
        return 0;
}

static void
log_invalidated(struct db *db)
{
        log_event(LOG_WARN, db_name(db),
                  "a writer ended between its commit and the wal-index: the commit stands, "
                  "SQLite will read the WAL anew");
}

static void
run_repair(struct work *w)
{
        struct job *job = (struct job *)w;
        struct index_file f;
        int r;

        r = open_index(job->s, job->db, &f);
        if (r == 0) {
                r = read_index(&f);
                if (r == 0)
                        r = invalidate_index(&f);
                close(f.fd);
        }
        if (r == 0)
                log_invalidated(job->db);
        job->done.fn(job->done.arg, r);
        free(job);
}

int
mount_repair_wal_index(struct session *s, struct db *db, struct db_done done)
{
        return post(s, db, done, run_repair);
}

static void
run_forget(struct work *w)
{
        struct job *job = (struct job *)w;

        notify_content(job->s, job->db, "-journal", 0, 0);
        free(job);
}

static void
ignore_result(void *arg, int r)
{
        (void)arg;
        (void)r;
}

void
mount_forget_journal(struct session *s, struct db *db)
{
        (void)post(s, db, (struct db_done){ ignore_result, NULL }, run_forget);
}

/* Holding WRITE, nobody is between commit frame and wal-index but a writer that is dead. */
static void
check_index(struct session *s, struct db *db)
{
        struct wal_index_header h;
        struct db_wal_mark mark;
        struct index_file f;

        if (open_index(s, db, &f) < 0)
                return;
        if (try_lock(f.fd, SQLITE_WAL_WRITE_LOCK) == 0 && db_wal_captured(db, &mark) &&
            read_index(&f) == 0 && wal_index_read_header(f.header, &h) == 0 && h.salt[0] == mark.salt1 &&
            h.salt[1] == mark.salt2 && h.mx_frame < mark.n_frames && invalidate_index(&f) == 0)
                log_invalidated(db);
        close(f.fd);
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
        struct index_file f;

        if (atomic_load(&s->is_stopping) || !db_wal_captured(db, &mark) || mark.n_frames == 0 ||
            open_index(s, db, &f) < 0)
                return;
        /* Only within one chain: a restart resets the count with the salts. */
        if (read_index(&f) == 0 && wal_index_read_header(f.header, &h) == 0 && h.salt[0] == mark.salt1 &&
            h.salt[1] == mark.salt2)
                db_wal_backfilled(db, &mark, wal_index_backfill(f.header));
        close(f.fd);
}
