/* The committed image against its page checksums, page by page: what `strict-verify` and debug builds do after
 * each commit, and db_verify at leisure. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "db/db_internal.h"
#include "ltx/checksum.h"
#include "sqlite/wal_format.h"

#define VERIFY_DEBUG_PAGES 2048 /* debug builds verify databases up to this size after each commit */

/* The committed image of the page outside the WAL: late, or the file's. */
static int
read_settled(const struct capturer *c, uint32_t pgno, const uint8_t **ret)
{
        struct db *db = c->db;
        ssize_t n;
        int error = 0;

        if (overlay_has(&db->late, pgno)) {
                *ret = overlay_get(&db->late, pgno, c->page, &error);
                return error;
        }
        n = os_pread_all(db->env->os, "verify:read", db->fd, c->page, db->page_size,
                         (off_t)(pgno - 1) * db->page_size);
        if (n < 0)
                return (int)n;
        memset(c->page + n, 0, db->page_size - (size_t)n); /* pages never written at the end: a hole */
        *ret = c->page;
        return 0;
}

static int
read_frame(const struct capturer *c, uint32_t frame, const uint8_t **ret)
{
        struct db *db = c->db;
        uint64_t size = WAL_FRAME_HEADER_SIZE + (uint64_t)db->page_size;
        off_t off = (off_t)(WAL_HEADER_SIZE + (frame - 1) * size + WAL_FRAME_HEADER_SIZE);
        ssize_t n = os_pread_all(db->env->os, "verify:wal", db->wal.fd, c->page, db->page_size, off);

        if (n < 0)
                return (int)n;
        if (n < (ssize_t)db->page_size)
                return -ENODATA;
        *ret = c->page;
        return 0;
}

/* With the lock. */
static int
verify_page(const struct capturer *c, uint32_t pgno, struct err *e)
{
        struct db *db = c->db;
        uint64_t want = pagesum_get(&db->sums, pgno);
        const uint8_t *page = NULL;
        const char *where = "database";
        int64_t frame;
        int r;

        if (pgno == ltx_lock_pgno(db->page_size))
                return 0;
        if (!wal_frames_is_pending(&db->wal.frames, pgno)) {
                r = read_settled(c, pgno, &page);
        } else {
                where = "wal";
                frame = wal_frames_find(&db->wal.frames, db->wal.n_captured, pgno, want);
                if (frame < 0)
                        return err_set(e, (int)frame, "verify page %u", pgno);
                if (frame == 0)
                        return err_text(e, E_CHECKSUM,
                                        "page %u: no frame of the WAL has the committed image", pgno);
                r = read_frame(c, (uint32_t)frame, &page);
        }
        if (r < 0)
                return err_set(e, r, "read page %u of %s/%s", pgno, db->dir, where);
        if (ltx_page_checksum(pgno, page, db->page_size) == want)
                return 0;
        return err_text(e, E_CHECKSUM,
                        "page %u in %s/%s (offset %llu) is not what was committed: its checksum is "
                        "%016llx, not %016llx",
                        pgno, db->dir, where, (unsigned long long)(pgno - 1) * db->page_size,
                        (unsigned long long)ltx_page_checksum(pgno, page, db->page_size),
                        (unsigned long long)want);
}

static int
verify_image(const struct capturer *c, struct err *e)
{
        struct db *db = c->db;
        int r = 0;

        for (uint32_t pgno = 1; r == 0; pgno++) {
                bool is_end;

                capturer_lock(c);
                is_end = pgno > db->page_count || pgno == 0;
                if (!is_end)
                        r = verify_page(c, pgno, e);
                capturer_unlock(c);
                if (is_end)
                        break;
        }
        return r;
}

int
verify_commit(const struct capturer *c, struct err *e)
{
#ifdef LITEFS_INVARIANTS
        bool is_wanted = c->db->env->is_strict || c->db->page_count <= VERIFY_DEBUG_PAGES;
#else
        bool is_wanted = c->db->env->is_strict;
#endif
        int r;

        if (!is_wanted || c->db->page_count == 0)
                return 0;
        r = verify_image(c, e);
        if (r < 0) {
                capturer_lock(c);
                db_fail(c->db, e->text);
                capturer_unlock(c);
                err_prefix(e, "after transaction %016llx", (unsigned long long)c->db->pos.txid);
        }
        return r;
}

/* --- at leisure --- */

#define CHUNK_PAGES 256u

/* Has the kernel read a chunk before the lock is taken: nobody waits for our disk. */
static void
read_ahead(struct db *db, uint32_t pgno)
{
        uint64_t page_size;
        int fd;

        pthread_mutex_lock(&db->lock);
        fd = db->fd < 0 ? -1 : fcntl(db->fd, F_DUPFD_CLOEXEC, 0);
        page_size = db->page_size;
        pthread_mutex_unlock(&db->lock);
        if (fd < 0)
                return;
        (void)readahead(fd, (off64_t)((pgno - 1) * page_size), CHUNK_PAGES * page_size);
        close(fd);
}

/* 1: there may be more; 0: that was the last page. *@pgno is the next one to look at. */
static int
verify_chunk(const struct capturer *c, uint32_t *pgno, struct err *e)
{
        struct db *db = c->db;
        int r = 1;

        for (uint32_t i = 0; i < CHUNK_PAGES && r == 1; i++) {
                pthread_mutex_lock(&db->lock);
                if (db->state == DB_CAPTURING) { /* its checksums and its pages do not move at once */
                        pthread_mutex_unlock(&db->lock);
                        return 1;
                }
                if (db->state == DB_FAILED || *pgno > db->page_count) {
                        r = 0;
                } else {
                        r = verify_page(c, *pgno, e);
                        if (r == E_CHECKSUM)
                                db_fail(db, e->text);
                        r = r < 0 ? r : 1;
                }
                pthread_mutex_unlock(&db->lock);
                ++*pgno;
        }
        return r;
}

int
db_verify(struct db *db, const struct db_pace *pace, struct err *e)
{
        struct capturer c;
        uint32_t pgno = 1;
        int r = capturer_init_worker(&c, db);

        if (r < 0)
                return err_set(e, r, "verify %s", db->name);
        do {
                read_ahead(db, pgno);
                r = verify_chunk(&c, &pgno, e);
        } while (r == 1 && pace->rest(pace->arg));
        capturer_release(&c);
        return r < 0 ? r : 0;
}
