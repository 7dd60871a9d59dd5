#include "db/adopt_litefs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/stream.h"
#include "ltx/checksum.h"
#include "ltx/decoder.h"
#include "sqlite/dbheader.h"
#include "sqlite/journal_reader.h"
#include "sqlite/wal_reader.h"

#define PAGE_MAX 65536u

struct adoption {
        const struct os *os;
        const char *dir;
        int fd; /* the database file; -1: none */
        uint8_t *page;
        char ltx_name[64]; /* newest LTX file; "": none */
        uint64_t newest;   /* its max TXID */
        struct ltx_header ltx;
        struct adopted *ret;
};

static int
path_of_adopted(const char *dir, const char *file, char *buf, size_t size)
{
        int n = snprintf(buf, size, "%s/%s", dir, file);

        return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* 1 when one of the @n files is there, 0 when none is, else why that cannot be said. */
static int
any_exists(const struct os *os, const char *dir, const char *const *files, size_t n, struct err *e)
{
        char path[PATH_MAX];
        struct stat st;

        for (size_t i = 0; i < n; i++) {
                int r = path_of_adopted(dir, files[i], path, sizeof path);

                if (r == 0)
                        r = os_lstat(os, "adopt:look", path, &st);
                if (r == 0)
                        return 1;
                if (r != -ENOENT)
                        return err_set(e, r, "look for %s/%s", dir, files[i]);
        }
        return 0;
}

int
adopt_litefs_wanted(const struct os *os, const char *dir, struct err *e)
{
        static const char *const ours[] = { "base", "log" };
        static const char *const theirs[] = { "ltx", "database" };
        int r = any_exists(os, dir, ours, 2, e);

        if (r != 0)
                return r < 0 ? r : 0;
        return any_exists(os, dir, theirs, 2, e);
}

int
adopt_litefs_has_leavings(const struct os *os, const char *dir, struct err *e)
{
        static const char *const files[] = { "ltx", "journal", "wal.removed" };

        return any_exists(os, dir, files, 3, e);
}

/* An existing file of the database: its descriptor, or -ENOENT. */
static int
open_adopted(const struct adoption *a, const char *file, char *path, size_t size)
{
        int r = path_of_adopted(a->dir, file, path, size);

        return r < 0 ? r : os_open(a->os, "adopt:open", path, O_RDWR, 0);
}

struct source {
        const struct os *os;
        int fd;
};

static ssize_t
read_adopted_wal(void *arg, void *buf, size_t n, uint64_t off)
{
        const struct source *s = arg;

        return os_pread_all(s->os, "adopt:read", s->fd, buf, n, (off_t)off);
}

static int
write_page(const struct adoption *a, uint32_t pgno, uint32_t page_size)
{
        return os_pwrite_all(a->os, "adopt:write", a->fd, a->page, page_size,
                             (off_t)(pgno - 1) * page_size);
}

static uint32_t
database_page_size(const struct adoption *a)
{
        struct sqlite_dbheader h;
        uint8_t buf[SQLITE_DBHEADER_SIZE];
        ssize_t n = os_pread_all(a->os, "adopt:read", a->fd, buf, sizeof buf, 0);

        return n == (ssize_t)sizeof buf && sqlite_dbheader_parse(buf, sizeof buf, &h) == 0 ? h.page_size
                                                                                           : 0;
}

/* --- journal --- */

static int
roll_back(struct adoption *a, int fd)
{
        struct source src = { a->os, fd };
        struct journal_reader jr = { .pread = read_adopted_wal, .arg = &src };
        struct stat st;
        uint32_t pgno;
        int r;

        r = os_fstat(a->os, "adopt:read", fd, &st);
        if (r < 0)
                return r;
        jr.size_bytes = (uint64_t)st.st_size;
        r = journal_reader_begin(&jr, database_page_size(a));
        if (r <= 0)
                return r;
        while ((r = journal_reader_next(&jr, a->page, &pgno)) > 0)
                if (pgno <= jr.page_count && (r = write_page(a, pgno, jr.page_size)) < 0)
                        return r;
        if (r == 0)
                r = os_ftruncate(a->os, "adopt:write", a->fd, (off_t)jr.page_count * jr.page_size);
        return r;
}

static int
apply_journal(struct adoption *a, struct err *e)
{
        char path[PATH_MAX];
        int fd = open_adopted(a, "journal", path, sizeof path), r;

        if (fd == -ENOENT)
                return 0;
        r = fd < 0 ? fd : roll_back(a, fd);
        os_close(a->os, "adopt:close", fd);
        return r < 0 ? err_set(e, r, "roll back %s", path) : 0;
}

/* --- WAL --- */

/* LiteFS replicated nothing behind its last LTX file's part of the WAL; frames behind it were never
 * acknowledged as a transaction of the log. A WAL of other salts is older than the file. */
static uint64_t
wal_limit(const struct adoption *a, const struct wal_reader *wr)
{
        if (a->ltx_name[0] == '\0' || a->ltx.wal_size == 0)
                return UINT64_MAX;
        if (wr->header.salt1 != a->ltx.wal_salt1 || wr->header.salt2 != a->ltx.wal_salt2)
                return 0;
        return (uint64_t)a->ltx.wal_offset + (uint64_t)a->ltx.wal_size;
}

/* Where the last whole transaction within @limit ends, and the database's size after it. */
static int
find_commit(struct adoption *a, struct wal_reader wr, uint64_t limit, uint64_t *ret_end,
            uint32_t *ret_commit)
{
        uint32_t pgno, commit;
        int r;

        *ret_end = 0;
        while ((r = wal_reader_next(&wr, a->page, &pgno, &commit)) > 0 && wr.off <= limit) {
                if (commit == 0)
                        continue;
                *ret_end = wr.off;
                *ret_commit = commit;
        }
        return r < 0 ? r : 0;
}

static int
copy_frames(struct adoption *a, int fd)
{
        struct source src = { a->os, fd };
        struct wal_reader wr = { .pread = read_adopted_wal, .arg = &src };
        uint32_t pgno, commit, final_commit = 0;
        uint64_t end;
        int r = wal_reader_begin(&wr);

        if (r <= 0)
                return r;
        r = find_commit(a, wr, wal_limit(a, &wr), &end, &final_commit);
        if (r < 0 || end == 0)
                return r;
        while (wr.off < end && (r = wal_reader_next(&wr, a->page, &pgno, &commit)) > 0)
                if (pgno <= final_commit && (r = write_page(a, pgno, wr.header.page_size)) < 0)
                        return r;
        if (r < 0)
                return r;
        return os_ftruncate(a->os, "adopt:write", a->fd, (off_t)final_commit * wr.header.page_size);
}

static int
apply_adopted_wal(struct adoption *a, struct err *e)
{
        char path[PATH_MAX];
        int fd = open_adopted(a, "wal", path, sizeof path), r;

        if (fd == -ENOENT)
                return 0;
        r = fd < 0 ? fd : copy_frames(a, fd);
        os_close(a->os, "adopt:close", fd);
        return r < 0 ? err_set(e, r, "apply %s", path) : 0;
}

/* --- LTX --- */

struct file_src {
        struct byte_src src;
        const struct os *os;
        int fd;
        off_t off;
};

static ssize_t
read_adopted_ltx(struct byte_src *src, void *buf, size_t n)
{
        struct file_src *f = (struct file_src *)src;
        ssize_t r = os_pread_all(f->os, "adopt:read", f->fd, buf, n, f->off);

        if (r > 0)
                f->off += r;
        return r;
}

static int
note_newest(void *arg, const char *name)
{
        struct adoption *a = arg;
        unsigned long long min, max;
        char expect[64];

        if (sscanf(name, "%16llx-%16llx.ltx", &min, &max) != 2)
                return 0;
        snprintf(expect, sizeof expect, "%016llx-%016llx.ltx", min, max);
        if (strcmp(expect, name) == 0 && max > a->newest) {
                memcpy(a->ltx_name, expect, sizeof expect);
                a->newest = max;
        }
        return 0;
}

/* Reads the newest LTX file through: its pages go to the database when @is_applying, the rest is checked. */
static int
walk_ltx(struct adoption *a, bool is_applying, struct ltx_trailer *ret, struct err *e)
{
        struct file_src src = { .src.read = read_adopted_ltx, .os = a->os, .fd = -1 };
        struct ltx_decoder *d = NULL;
        char path[PATH_MAX];
        uint32_t pgno = 0;
        int r, n = snprintf(path, sizeof path, "%s/ltx/%s", a->dir, a->ltx_name);

        if (n < 0 || (size_t)n >= sizeof path)
                return err_set(e, -ENAMETOOLONG, "%s/ltx", a->dir);
        r = src.fd = os_open(a->os, "adopt:open", path, O_RDONLY, 0);
        if (r < 0)
                return err_set(e, r, "open %s", path);
        r = ltx_decoder_new(&d);
        if (r < 0)
                err_set(e, r, "decode");
        if (r == 0)
                r = ltx_decoder_begin(d, LTX_V1, &src.src, &a->ltx, e);
        while (r == 0 && (r = ltx_decoder_next(d, a->page, &pgno, e)) > 0) {
                r = is_applying ? write_page(a, pgno, a->ltx.page_size) : 0;
                if (r < 0)
                        err_set(e, r, "write page %u", pgno);
        }
        if (r == 0)
                r = ltx_decoder_finish(d, ret, e);
        ltx_decoder_free(d);
        os_close(a->os, "adopt:close", src.fd);
        if (r < 0)
                err_prefix(e, "%s", path);
        return r;
}

static int
find_ltx(struct adoption *a, struct ltx_trailer *ret, struct err *e)
{
        char path[PATH_MAX];
        int r = path_of_adopted(a->dir, "ltx", path, sizeof path);

        if (r == 0)
                r = os_list_dir(a->os, "adopt:list", path, note_newest, a);
        if (r < 0 && r != -ENOENT)
                return err_set(e, r, "list %s/ltx", a->dir);
        return a->ltx_name[0] == '\0' ? 0 : walk_ltx(a, false, ret, e);
}

static int
apply_ltx(struct adoption *a, struct err *e)
{
        struct ltx_trailer t;
        int r;

        if (a->ltx_name[0] == '\0')
                return 0;
        r = walk_ltx(a, true, &t, e);
        if (r == 0) {
                r = os_ftruncate(a->os, "adopt:write", a->fd, (off_t)a->ltx.commit * a->ltx.page_size);
                if (r < 0)
                        err_set(e, r, "cut %s/database", a->dir);
        }
        return r;
}

/* --- the result --- */

static int
sum_pages(struct adoption *a, struct err *e)
{
        struct adopted *ret = a->ret;
        int r = pagesum_resize(&ret->sums, ret->page_count);

        if (r < 0)
                return err_set(e, r, "page checksums");
        for (uint32_t pgno = 1; pgno <= ret->page_count && pgno != 0; pgno++) {
                ssize_t n;

                if (pgno == ltx_lock_pgno(ret->page_size))
                        continue;
                n = os_pread_all(a->os, "adopt:read", a->fd, a->page, ret->page_size,
                                 (off_t)(pgno - 1) * ret->page_size);
                if (n < 0)
                        return err_set(e, (int)n, "read page %u of %s/database", pgno, a->dir);
                memset(a->page + n, 0, ret->page_size - (size_t)n);
                pagesum_set(&ret->sums, pgno, ltx_page_checksum(pgno, a->page, ret->page_size));
        }
        return 0;
}

static int
measure(struct adoption *a, struct err *e)
{
        struct sqlite_dbheader h;
        uint8_t buf[SQLITE_DBHEADER_SIZE];
        struct stat st;
        ssize_t n;
        int r = os_fstat(a->os, "adopt:read", a->fd, &st);

        if (r < 0)
                return err_set(e, r, "stat %s/database", a->dir);
        if (a->ltx_name[0] != '\0') {
                a->ret->page_size = a->ltx.page_size;
                a->ret->page_count = a->ltx.commit;
                return 0;
        }
        n = os_pread_all(a->os, "adopt:read", a->fd, buf, sizeof buf, 0);
        if (st.st_size == 0)
                return 0;
        if (n < (ssize_t)sizeof buf || sqlite_dbheader_parse(buf, sizeof buf, &h) < 0)
                return err_text(
                        e, E_CORRUPT_DB,
                        "%s/database is not a SQLite database: its header, at offset 0, is wrong; restore "
                        "the file from a backup, or move %s out",
                        a->dir, a->dir);
        a->ret->page_size = h.page_size;
        a->ret->page_count = (uint32_t)((st.st_size + h.page_size - 1) / h.page_size);
        return 0;
}

static int
check_sum(struct adoption *a, const struct ltx_trailer *t, struct err *e)
{
        uint64_t sum = pagesum_total(&a->ret->sums);

        if (a->ltx_name[0] == '\0')
                return 0;
        a->ret->pos = (struct ltx_pos){ a->ltx.max_txid, t->post_apply_checksum };
        a->ret->timestamp_ms = a->ltx.timestamp_ms;
        if (sum == t->post_apply_checksum)
                return 0;
        return err_set(
                e, E_CORRUPT_DB,
                "database checksum %016llx on TXID %016llx does not match LTX post-apply checksum "
                "%016llx (%s/ltx/%s); start LiteFS 0.5 once more and export the database, or move the "
                "directory away",
                (unsigned long long)sum, (unsigned long long)a->ltx.max_txid,
                (unsigned long long)t->post_apply_checksum, a->dir, a->ltx_name);
}

static int
adopt_state(struct adoption *a, struct err *e)
{
        struct ltx_trailer trailer = { 0 };
        char path[PATH_MAX];
        int r;

        r = find_ltx(a, &trailer, e);
        if (r < 0)
                return r;
        r = path_of_adopted(a->dir, "database", path, sizeof path);
        if (r == 0)
                r = a->fd = os_open(a->os, "adopt:open", path, O_RDWR | O_CREAT, 0600);
        if (r < 0)
                return err_set(e, r, "open %s/database", a->dir);
        if ((r = apply_journal(a, e)) < 0 || (r = apply_adopted_wal(a, e)) < 0 ||
            (r = apply_ltx(a, e)) < 0 || (r = measure(a, e)) < 0 || (r = sum_pages(a, e)) < 0 ||
            (r = check_sum(a, &trailer, e)) < 0)
                return r;
        r = os_fsync(a->os, "adopt:sync", a->fd);
        return r < 0 ? err_set(e, r, "sync %s", path) : 0;
}

int
adopt_litefs(const struct os *os, const char *dir, struct adopted *ret, struct err *e)
{
        struct adoption a = { .os = os, .dir = dir, .fd = -1, .ret = ret };
        int r;

        memset(ret, 0, sizeof *ret);
        a.page = malloc(PAGE_MAX);
        if (a.page == NULL)
                return err_set(e, -ENOMEM, "take over %s", dir);
        r = adopt_state(&a, e);
        os_close(os, "adopt:close", a.fd);
        free(a.page);
        if (r < 0)
                err_prefix(e, "take over the LiteFS database in %s", dir);
        return r;
}

struct removal {
        const struct os *os;
        const char *dir;
};

static int
remove_one(void *arg, const char *name)
{
        const struct removal *rm = arg;
        char path[PATH_MAX];
        int r = path_of_adopted(rm->dir, name, path, sizeof path);

        if (r == 0)
                r = os_unlink(rm->os, "adopt:clean", path);
        return r == -ENOENT ? 0 : r;
}

int
adopt_litefs_finish(const struct os *os, const char *dir, struct err *e)
{
        static const char *const files[] = { "journal", "wal", "shm", "wal.removed" };
        char ltx[PATH_MAX];
        struct removal rm = { os, dir };
        int r = 0;

        for (size_t i = 0; i < sizeof files / sizeof files[0] && r == 0; i++)
                r = remove_one(&rm, files[i]);
        if (r == 0)
                r = path_of_adopted(dir, "ltx", ltx, sizeof ltx);
        if (r == 0) {
                rm.dir = ltx;
                r = os_list_dir(os, "adopt:clean", ltx, remove_one, &rm);
                if (r == 0)
                        r = os_rmdir(os, "adopt:clean", ltx);
                if (r == -ENOENT)
                        r = 0;
        }
        return r < 0 ? err_set(e, r, "remove what LiteFS left in %s", dir) : 0;
}
