/* The daemon as one more SQLite process on its own mount: it takes SQLite's locks (OFD locks, which the kernel
 * keeps on the node without asking us) and reads and writes the wal-index through the page cache, so that what it
 * sees and writes is what the applications see.
 *
 * All of this runs on the visitors (own_mount.h), and no lock is held here that a handler may want. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/log.h"
#include "db/passed.h"
#include "fuse/fuse_internal.h"
#include "fuse/own_mount.h"
#include "sqlite/lockbytes.h"
#include "sqlite/wal_index.h"

struct job {
        struct work work;
        struct session *s;
        struct db *db;
        struct db_done done;
};

static int
post(struct session *s, struct db *db, struct db_done done, void (*run)(struct work *w))
{
        struct job *job = malloc(sizeof *job);

        if (job == NULL)
                return -ENOMEM;
        *job = (struct job){ { run, NULL }, s, db, done };
        workers_post(s->config.visitors, &job->work);
        return 0;
}

/* --- pages without a journal --- */

struct probe {
        struct job *job;
        struct own_file file;
};

static void
tell_probed(struct job *job, int r)
{
        if (job->done.fn != NULL)
                job->done.fn(job->done.arg, r);
        free(job);
}

static void
finish_probe(void *arg, int r)
{
        struct probe *p = arg;
        struct job *job = p->job;

        own_close(job->s, &p->file);
        tell_probed(job, r);
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
                tell_probed(job, -ENOMEM);
                return;
        }
        p->job = job;
        r = own_open(job->s, job->db, "", 0, 0, &p->file);
        if (r == 0)
                r = own_lock(&p->file, F_WRLCK, SQLITE_RESERVED_BYTE, 1);
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
        struct session *s;
        struct own_file file;
        _Alignas(8) uint8_t header[WAL_INDEX_HEADER_SIZE];
};

static int
open_index(struct session *s, struct db *db, struct index_file *ret)
{
        ret->s = s;
        return own_open(s, db, "-shm", 0, 0, &ret->file);
}

static int
read_index_header(struct index_file *f)
{
        ssize_t n = own_read(f->s, &f->file, f->header, sizeof f->header, 0);

        return n == (ssize_t)sizeof f->header ? 0 : n < 0 ? (int)n : -ENOENT;
}

/* The second copy first, as a writer does. */
static int
invalidate_index(struct index_file *f)
{
        const size_t copy = WAL_INDEX_COPY_SIZE;
        int r;

        wal_index_invalidate(f->header);
        r = own_write(f->s, &f->file, f->header + copy, copy, (off_t)copy);
        return r < 0 ? r : own_write(f->s, &f->file, f->header, copy, 0);
}

static void
log_invalidated(struct db *db)
{
        char count[TROUBLE_COUNT_SIZE];

        if (db_note_index_repair(db, count))
                log_event(LOG_WARN, db_name(db),
                          "a writer ended between its commit and the wal-index: the commit stands, "
                          "SQLite will read the WAL anew%s",
                          count);
}

static void
run_repair(struct work *w)
{
        struct job *job = (struct job *)w;
        struct index_file f;
        int r;

        r = open_index(job->s, job->db, &f);
        if (r == 0) {
                r = read_index_header(&f);
                if (r == 0)
                        r = invalidate_index(&f);
                own_close(job->s, &f.file);
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

/* One that was synced, and that its writer has not published: see db/passed.h. */
static void
decide_prepared(struct index_file *f, struct db *db)
{
        struct db_look look;

        if (db_wal_look(db, &look) < 0 || !look.is_prepared)
                return;
        if (read_index_header(f) == 0 && invalidate_index(f) == 0)
                log_invalidated(db);
        db_wal_decide(db);
}

/* Holding WRITE, nobody is between commit frame and wal-index but a writer that is dead. */
static void
check_index_by_mark(struct session *s, struct db *db)
{
        struct wal_index_header h;
        struct db_wal_mark mark;
        struct index_file f;

        if (open_index(s, db, &f) < 0)
                return;
        if (own_lock(&f.file, F_WRLCK, SQLITE_WAL_WRITE_LOCK, 1) < 0) {
                own_close(s, &f.file);
                return;
        }
        decide_prepared(&f, db);
        if (db_wal_captured(db, &mark) && read_index_header(&f) == 0 &&
            wal_index_read_header(f.header, &h) == 0 && h.salt[0] == mark.salt1 &&
            h.salt[1] == mark.salt2 && h.mx_frame < mark.n_frames && invalidate_index(&f) == 0)
                log_invalidated(db);
        own_close(s, &f.file);
}

static void
run_check(struct work *w)
{
        struct job *job = (struct job *)w;

        check_index_by_mark(job->s, job->db);
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
        if (read_index_header(&f) == 0 && wal_index_read_header(f.header, &h) == 0 &&
            h.salt[0] == mark.salt1 && h.salt[1] == mark.salt2)
                db_wal_backfilled(db, &mark, wal_index_backfill(f.header));
        own_close(s, &f.file);
}
