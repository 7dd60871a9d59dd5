#include "tests/lib/db_driver_check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ltx/checksum.h"
#include "ltx/decoder.h"
#include "tests/lib/tmpdir.h"

static void
die(const char *what, const char *name)
{
        fprintf(stderr, "%s %s: %s\n", what, name, strerror(errno));
        abort();
}

void
db_driver_use_memory(void)
{
        if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0)
                setenv("TMPDIR", "/dev/shm", 1);
}

/* --- trees --- */

static void
copy_file(const char *from, const char *to)
{
        static char buf[65536];
        int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0666);
        ssize_t n;

        if (in < 0 || out < 0)
                die("copy", from);
        while ((n = read(in, buf, sizeof buf)) > 0)
                if (write(out, buf, (size_t)n) != n)
                        die("write", to);
        if (n < 0)
                die("read", from);
        close(in);
        close(out);
}

void
db_driver_copy_tree(const char *from, const char *to)
{
        char a[PATH_MAX], b[PATH_MAX];
        DIR *dir = opendir(from);
        struct dirent *en;
        struct stat st;

        if (dir == NULL || mkdir(to, 0777) < 0)
                die("copy", from);
        while ((en = readdir(dir)) != NULL) {
                if (strcmp(en->d_name, ".") == 0 || strcmp(en->d_name, "..") == 0)
                        continue;
                if (snprintf(a, sizeof a, "%s/%s", from, en->d_name) >= (int)sizeof a ||
                    snprintf(b, sizeof b, "%s/%s", to, en->d_name) >= (int)sizeof b)
                        abort();
                if (lstat(a, &st) < 0)
                        die("stat", a);
                if (S_ISDIR(st.st_mode))
                        db_driver_copy_tree(a, b);
                else
                        copy_file(a, b);
        }
        closedir(dir);
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
        (void)st, (void)flag, (void)ftw;
        return remove(path);
}

void
db_driver_remove_tree(const char *dir)
{
        nftw(dir, remove_one, 32, FTW_DEPTH | FTW_PHYS);
}

void *
db_driver_read_file(const char *path, size_t *ret_size)
{
        int fd = open(path, O_RDONLY);
        struct stat st;
        uint8_t *p;

        *ret_size = 0;
        if (fd < 0)
                return NULL;
        if (fstat(fd, &st) < 0)
                die("stat", path);
        p = malloc((size_t)st.st_size + 1);
        if (p == NULL || pread(fd, p, (size_t)st.st_size, 0) != st.st_size)
                die("read", path);
        close(fd);
        *ret_size = (size_t)st.st_size;
        return p;
}

/* --- a database to begin with --- */

void
db_driver_make_plain(const char *path, int n_rows)
{
        db_driver_make_plain_of(path, n_rows, 1024);
}

void
db_driver_make_plain_of(const char *path, int n_rows, int page_size)
{
        char sql[512];
        sqlite3 *c;

        snprintf(
                sql, sizeof sql,
                "pragma page_size=%d; pragma synchronous=off; create table t(id integer primary key, x);"
                "with recursive n(i) as (values(1) union all select i+1 from n where i<%d)"
                " insert into t select i, randomblob(300) from n",
                page_size, n_rows);
        if (sqlite3_open(path, &c) != SQLITE_OK || db_driver_exec(c, sql) != SQLITE_OK)
                die("make", path);
        sqlite3_close(c);
}

void
db_driver_make_template(const char *root, const char *mode, int n_rows)
{
        struct err e = ERR_INIT;
        struct db_driver *d;
        char path[PATH_MAX], sql[64];
        sqlite3 *c;

        if (snprintf(path, sizeof path, "%s.plain", root) >= (int)sizeof path)
                abort();
        db_driver_make_plain(path, n_rows);
        snprintf(sql, sizeof sql, "pragma journal_mode=%s", mode);
        if (db_driver_open(os_host(), root, &d, &e) < 0 || db_driver_adopt(d, path, &e) < 0 ||
            db_driver_connect(d, 0, &c) != SQLITE_OK || db_driver_exec(c, sql) != SQLITE_OK ||
            db_driver_exec(c, "update t set x=randomblob(300) where id=1") != SQLITE_OK) {
                fprintf(stderr, "template: %s\n", e.text);
                abort();
        }
        sqlite3_close(c);
        (void)db_driver_tick(d, 0, NULL);
        db_driver_close(d);
}

/* --- the log against the file --- */

struct image {
        uint8_t *bytes;
        size_t size;
};

static void
image_resize(struct image *im, size_t size)
{
        im->bytes = realloc(im->bytes, size + 1);
        if (im->bytes == NULL)
                abort();
        if (size > im->size)
                memset(im->bytes + im->size, 0, size - im->size);
        im->size = size;
}

static int
apply_record(struct image *im, struct byte_src *src, const struct ltx_pos *pos, struct err *e)
{
        static uint8_t page[65536];
        struct ltx_decoder *d;
        struct ltx_header h;
        struct ltx_trailer t;
        uint32_t pgno = 0;
        int r;

        if (ltx_decoder_new(&d) < 0)
                abort();
        r = ltx_decoder_begin(d, LTX_V3, src, &h, e);
        if (r == 0 && h.min_txid != 1 && h.pre_apply_checksum != pos->checksum)
                r = err_text(e, E_POS_MISMATCH, "record %llu does not continue the one before it",
                             (unsigned long long)h.max_txid);
        if (r == 0 && h.min_txid == 1)
                im->size = 0;
        if (r == 0)
                image_resize(im, (size_t)h.commit * h.page_size);
        while (r == 0 && (r = ltx_decoder_next(d, page, &pgno, e)) > 0) {
                memcpy(im->bytes + (size_t)(pgno - 1) * h.page_size, page, h.page_size);
                r = 0;
        }
        if (r == 0)
                r = ltx_decoder_finish(d, &t, e);
        ltx_decoder_free(d);
        return r;
}

static int
replay(struct txlog *log, struct image *im, struct ltx_pos *pos, struct err *e)
{
        struct txlog_reader *reader;
        struct txlog_record rec;
        struct byte_src *src;
        int r = txlog_reader_open(log, pos->txid, &reader, e);

        if (r < 0)
                return r;
        while ((r = txlog_reader_next(reader, &rec, &src, e)) > 0) {
                r = apply_record(im, src, pos, e);
                if (r < 0)
                        break;
                *pos = (struct ltx_pos){ rec.max_txid, rec.post_apply_checksum };
        }
        txlog_reader_close(reader);
        return r;
}

static uint64_t
checksum(const uint8_t *p, uint32_t page_size, uint32_t n)
{
        uint64_t sum = 0;

        for (uint32_t pgno = 1; pgno <= n; pgno++)
                if (pgno != ltx_lock_pgno(page_size))
                        sum ^= ltx_page_checksum(pgno, p + (size_t)(pgno - 1) * page_size, page_size);
        return LTX_CHECKSUM_FLAG | sum;
}

static int
open_log(const char *root, struct txlog **ret, struct err *e)
{
        char path[PATH_MAX];

        if (snprintf(path, sizeof path, "%s/dbs/t.db/log", root) >= (int)sizeof path)
                return -ENAMETOOLONG;
        return txlog_open_readonly(os_host(), path, ret, e);
}

static int
check_replay(const char *root, const struct db_info *info, struct image *im, const uint8_t *file,
             size_t file_size, struct err *e)
{
        struct txlog_record first, last;
        struct ltx_pos pos = { 0 };
        struct txlog *log;
        int r = open_log(root, &log, e);

        if (r < 0)
                return r;
        if (txlog_first(log, &first) && txlog_last(log, &last)) {
                if (last.max_txid != info->pos.txid || last.post_apply_checksum != info->pos.checksum)
                        r = err_text(e, E_POS_MISMATCH, "the log ends at %llu, the position is %llu",
                                     (unsigned long long)last.max_txid,
                                     (unsigned long long)info->pos.txid);
                if (first.min_txid != 1)
                        pos = (struct ltx_pos){ first.min_txid - 1, first.pre_apply_checksum };
                if (r == 0 && (first.min_txid == 1 || im->bytes != NULL))
                        r = replay(log, im, &pos, e);
                if (r == 0 && (first.min_txid == 1 || im->bytes != NULL) &&
                    (im->size != file_size ||
                     (file_size > 0 && memcmp(im->bytes, file, file_size) != 0)))
                        r = err_text(e, E_CHECKSUM, "the file is not what the log replays to");
        }
        txlog_close(log);
        return r;
}

int
db_driver_check_files(struct db_driver *d, const char *root, const void *base_image, size_t base_size,
                      struct err *e)
{
        char path[PATH_MAX];
        struct db_info info;
        struct image im = { 0 };
        uint8_t *file;
        size_t size;
        int r = 0;

        db_get_info(db_driver_db(d), &info);
        if (snprintf(path, sizeof path, "%s/dbs/t.db/database", root) >= (int)sizeof path)
                return -ENAMETOOLONG;
        file = db_driver_read_file(path, &size);
        if (base_image != NULL) {
                image_resize(&im, base_size);
                memcpy(im.bytes, base_image, base_size);
        }
        if (size != (size_t)info.page_count * info.page_size)
                r = err_text(e, E_FORMAT, "the file has %zu bytes, not %u pages", size, info.page_count);
        else if (info.pos.txid > 0 &&
                 checksum(file, info.page_size, info.page_count) != info.pos.checksum)
                r = err_text(e, E_CHECKSUM, "the file's checksum is not the position's");
        if (r == 0)
                r = check_replay(root, &info, &im, file, size, e);
        free(im.bytes);
        free(file);
        return r;
}

int
db_driver_check_position(struct db_driver *d, const char *root, struct err *e)
{
        struct txlog_record last = { 0 };
        struct db_info info;
        struct txlog *log;
        int r;

        db_get_info(db_driver_db(d), &info);
        if (info.is_failed)
                return 0;
        r = open_log(root, &log, e);
        if (r < 0)
                return r;
        if (txlog_last(log, &last) && last.max_txid != info.pos.txid)
                r = err_text(e, E_POS_MISMATCH, "the log ends at %llu, the position is %llu",
                             (unsigned long long)last.max_txid, (unsigned long long)info.pos.txid);
        txlog_close(log);
        return r;
}
