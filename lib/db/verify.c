/* The committed image against its page checksums, page by page: what `strict-verify` and debug builds do after
 * each commit, and db_verify at leisure. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "db/db_internal.h"
#include "ltx/checksum.h"

#define VERIFY_DEBUG_PAGES 2048 /* debug builds verify databases up to this size after each commit */

int
verify_read_page(struct db *db, uint8_t *buf, uint32_t pgno, struct err *e)
{
        uint64_t want = pagesum_get(&db->image.sums, pgno);
        const uint8_t *page = buf;
        const char *where = "database";
        int r;

        if (pgno == ltx_lock_pgno(db->image.page_size))
                return 0;
        if (wal_is_pending(db->wal, pgno)) {
                where = "wal";
                r = wal_read_pending(db->wal, pgno, want, buf);
                if (r == 0)
                        return err_text(e, E_CHECKSUM,
                                        "page %u: no frame of the WAL has the committed image", pgno);
        } else {
                r = -EIO;
                page = image_committed_page(&db->image, db->image.page_size, pgno, buf, &r);
                r = page == NULL ? r : 0;
        }
        if (r < 0)
                return err_set(e, r, "read page %u of %s/%s", pgno, db->dir, where);
        if (page != buf)
                memcpy(buf, page, db->image.page_size);
        if (ltx_page_checksum(pgno, buf, db->image.page_size) == want)
                return 0;
        return err_text(e, E_CHECKSUM,
                        "page %u in %s/%s (offset %llu) is not what was committed: its checksum is "
                        "%016llx, not %016llx",
                        pgno, db->dir, where, (unsigned long long)(pgno - 1) * db->image.page_size,
                        (unsigned long long)ltx_page_checksum(pgno, buf, db->image.page_size),
                        (unsigned long long)want);
}

static int
verify_image(struct db_access *a, struct err *e)
{
        struct db *db = a->db;
        int r = 0;

        for (uint32_t pgno = 1; r == 0; pgno++) {
                bool is_end;

                access_lock(a);
                is_end = pgno > db->image.page_count || pgno == 0;
                if (!is_end)
                        r = verify_read_page(db, a->room, pgno, e);
                access_unlock(a);
                if (is_end)
                        break;
        }
        return r;
}

int
verify_commit(struct db_access *a, struct err *e)
{
#ifdef LITEFS_INVARIANTS
        bool is_wanted = a->db->env->is_strict || a->db->image.page_count <= VERIFY_DEBUG_PAGES;
#else
        bool is_wanted = a->db->env->is_strict;
#endif
        int r;

        if (!is_wanted || a->db->image.page_count == 0)
                return 0;
        r = verify_image(a, e);
        if (r < 0) {
                access_lock(a);
                db_fail(a->db, e->text);
                access_unlock(a);
                err_prefix(e, "after transaction %016llx", (unsigned long long)a->db->pos.txid);
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

        db_lock(db);
        (void)db_wake(db);
        fd = db->image.fd < 0 ? -1 : fcntl(db->image.fd, F_DUPFD_CLOEXEC, 0);
        page_size = db->image.page_size;
        pthread_mutex_unlock(&db->lock);
        if (fd < 0)
                return;
        (void)readahead(fd, (off64_t)((pgno - 1) * page_size), CHUNK_PAGES * page_size);
        close(fd);
}

/* 1: there may be more; 0: that was the last page. *@pgno is the next one to look at. */
static int
verify_chunk(struct db *db, uint8_t *buf, uint32_t *pgno, struct err *e)
{
        int r = 1;

        for (uint32_t i = 0; i < CHUNK_PAGES && r == 1; i++) {
                db_lock(db);
                if (db->use.state ==
                    DB_EXCLUSIVE) { /* its checksums and its pages do not move at once */
                        pthread_mutex_unlock(&db->lock);
                        return 1;
                }
                if (db->use.state == DB_FAILED || *pgno > db->image.page_count) {
                        r = 0;
                } else if ((r = db_wake(db)) < 0) {
                        err_set(e, r, "open %s again", db->name);
                } else {
                        r = verify_read_page(db, buf, *pgno, e);
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
        uint8_t *buf = malloc(IMAGE_PAGE_MAX);
        uint32_t pgno = 1;
        int r;

        if (buf == NULL)
                return err_set(e, -ENOMEM, "verify %s", db->name);
        do {
                read_ahead(db, pgno);
                r = verify_chunk(db, buf, &pgno, e);
        } while (r == 1 && pace->rest(pace->arg));
        free(buf);
        return r < 0 ? r : 0;
}
