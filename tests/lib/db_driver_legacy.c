#include "tests/lib/db_driver_legacy.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "ltx/checksum.h"
#include "ltx/header.h"
#include "tests/lib/db_driver.h"
#include "tests/lib/db_driver_check.h"

#define PAGE_SIZE 1024u
#define TXID 0x42u

/* A file's content. */
struct bytes {
        uint8_t *p;
        size_t n;
};

struct legacy {
        char dir[PATH_MAX];
        char scratch[PATH_MAX]; /* where SQLite makes it */
        sqlite3 *c;
};

static void
require(int is_so, const char *what)
{
        if (!is_so) {
                perror(what);
                abort();
        }
}

const char *
legacy_kind_name(enum legacy_kind kind)
{
        static const char *const names[] = { "clean", "plain", "ltx", "journal", "wal" };

        return names[kind];
}

static struct bytes
take(const struct legacy *lg, const char *suffix)
{
        char path[PATH_MAX + 16];
        struct bytes b;

        snprintf(path, sizeof path, "%s%s", lg->scratch, suffix);
        b.p = db_driver_read_file(path, &b.n);
        require(b.p != NULL, path);
        return b;
}

static void
put(const struct legacy *lg, const char *name, const struct bytes *b)
{
        char path[PATH_MAX + 64];
        FILE *f;

        snprintf(path, sizeof path, "%s/%s", lg->dir, name);
        f = fopen(path, "wx");
        require(f != NULL && fwrite(b->p, 1, b->n, f) == b->n && fclose(f) == 0, path);
}

static void
run(const struct legacy *lg, const char *sql)
{
        require(db_driver_exec(lg->c, sql) == SQLITE_OK, sql);
}

static uint64_t
digest(const struct legacy *lg)
{
        uint64_t state;

        require(db_driver_digest(lg->c, &state) == SQLITE_OK, "digest");
        return state;
}

static uint64_t
image_sum(const struct bytes *image)
{
        uint64_t sum = 0;

        for (size_t at = 0; at < image->n; at += PAGE_SIZE)
                sum ^= ltx_page_checksum((uint32_t)(at / PAGE_SIZE) + 1, image->p + at, PAGE_SIZE);
        return LTX_CHECKSUM_FLAG | sum;
}

/* --- LTX version 1: header, pages as they are, a zero page number, the trailer --- */

static void
append(struct bytes *b, const void *p, size_t n)
{
        b->p = realloc(b->p, b->n + n + 1);
        require(b->p != NULL, "memory");
        memcpy(b->p + b->n, p, n);
        b->n += n;
}

static void
append_u64(struct bytes *b, uint64_t x)
{
        uint8_t buf[8];

        put_be64(buf, x);
        append(b, buf, sizeof buf);
}

static void
append_pages(struct bytes *b, const struct bytes *image, const struct bytes *before)
{
        uint8_t number[4];

        for (size_t at = 0; at < image->n; at += PAGE_SIZE) {
                if (before != NULL && at < before->n &&
                    memcmp(image->p + at, before->p + at, PAGE_SIZE) == 0)
                        continue;
                put_be32(number, (uint32_t)(at / PAGE_SIZE) + 1);
                append(b, number, sizeof number);
                append(b, image->p + at, PAGE_SIZE);
        }
        put_be32(number, 0);
        append(b, number, sizeof number);
}

/* The pages in which @image differs from @before. @wal_end: the transaction's end in @wal, 0: it has none. */
static void
put_ltx(const struct legacy *lg, const struct bytes *image, const struct bytes *before,
        const struct bytes *wal, size_t wal_end)
{
        struct ltx_header h = { .page_size = PAGE_SIZE,
                                .commit = (uint32_t)(image->n / PAGE_SIZE),
                                .min_txid = TXID,
                                .max_txid = TXID,
                                .timestamp_ms = 1700000000000,
                                .pre_apply_checksum = LTX_CHECKSUM_FLAG | 7 };
        uint8_t header[LTX_HEADER_SIZE];
        struct bytes b = { 0 };
        char name[64];

        if (wal_end > 0) {
                h.wal_offset = 32;
                h.wal_size = (int64_t)wal_end - 32;
                h.wal_salt1 = get_be32(wal->p + 16);
                h.wal_salt2 = get_be32(wal->p + 20);
        }
        ltx_header_encode(&h, header);
        append(&b, header, sizeof header);
        append_pages(&b, image, before);
        append_u64(&b, image_sum(image));
        append_u64(&b, LTX_CHECKSUM_FLAG | ltx_crc64(0, b.p, b.n));
        snprintf(name, sizeof name, "ltx/%016x-%016x.ltx", TXID, TXID);
        put(lg, name, &b);
        free(b.p);
}

/* --- the kinds --- */

static void
make_clean(struct legacy *lg, bool has_ltx)
{
        struct bytes image = take(lg, "");

        put(lg, "database", &image);
        if (has_ltx)
                put_ltx(lg, &image, &image, NULL, 0);
        free(image.p);
}

static uint64_t
make_behind(struct legacy *lg)
{
        struct bytes before = take(lg, ""), image;

        run(lg, "update t set x=randomblob(300) where id<20; insert into t(x) values(randomblob(9000))");
        image = take(lg, "");
        put(lg, "database", &before);
        put_ltx(lg, &image, &before, NULL, 0);
        free(before.p);
        free(image.p);
        return digest(lg);
}

static uint64_t
make_torn(struct legacy *lg)
{
        struct bytes image = take(lg, ""), torn, journal;
        uint64_t state = digest(lg);

        run(lg, "pragma cache_size=2; begin; update t set x=randomblob(300);"
                "insert into t(x) values(randomblob(9000))");
        torn = take(lg, "");
        journal = take(lg, "-journal");
        require(torn.n != image.n || memcmp(torn.p, image.p, image.n) != 0, "a spill");
        put(lg, "database", &torn);
        put(lg, "journal", &journal);
        put_ltx(lg, &image, &image, NULL, 0);
        run(lg, "rollback");
        free(image.p);
        free(torn.p);
        free(journal.p);
        return state;
}

/* @image after the WAL's whole frames up to @end. */
static void
lay_wal_over(struct bytes *image, const struct bytes *wal, size_t end)
{
        for (size_t at = 32; at + 24 + PAGE_SIZE <= end; at += 24 + PAGE_SIZE) {
                size_t page = (size_t)(get_be32(wal->p + at) - 1) * PAGE_SIZE;

                require(page + PAGE_SIZE <= image->n, "the WAL makes the database grow");
                memcpy(image->p + page, wal->p + at + 24, PAGE_SIZE);
        }
}

static uint64_t
make_wal(struct legacy *lg)
{
        struct bytes image, database, first, wal;
        uint64_t state;

        run(lg, "pragma journal_mode=wal; pragma wal_autocheckpoint=0; pragma wal_checkpoint(truncate);"
                "update t set x=randomblob(300) where id<9");
        first = take(lg, "-wal");
        state = digest(lg);
        run(lg, "update t set x=randomblob(300) where id=2");
        wal = take(lg, "-wal");
        database = take(lg, "");
        image = take(lg, "");
        require(wal.n > first.n, "a second transaction");
        lay_wal_over(&image, &wal, first.n);
        put(lg, "database", &database);
        put(lg, "wal", &wal);
        put_ltx(lg, &image, &image, &wal, first.n);
        free(image.p);
        free(database.p);
        free(first.p);
        free(wal.p);
        return state;
}

void
legacy_make(const char *root, enum legacy_kind kind, uint64_t *ret_txid, uint64_t *ret_state)
{
        struct legacy lg = { .c = NULL };
        char path[PATH_MAX + 16];

        require(snprintf(lg.dir, sizeof lg.dir, "%s/dbs/t.db", root) < (int)sizeof lg.dir &&
                        snprintf(lg.scratch, sizeof lg.scratch, "%s.scratch", root) <
                                (int)sizeof lg.scratch,
                root);
        require(os_mkdir_all(os_host(), "legacy", lg.dir, 0777) == 0, lg.dir);
        snprintf(path, sizeof path, "%s/ltx", lg.dir);
        require(kind == LEGACY_PLAIN || mkdir(path, 0777) == 0, path);
        unlink(lg.scratch);
        db_driver_make_plain(lg.scratch, 60);
        require(sqlite3_open(lg.scratch, &lg.c) == SQLITE_OK, lg.scratch);
        *ret_txid = kind == LEGACY_PLAIN ? 1 : TXID;
        *ret_state = digest(&lg);
        switch (kind) {
        case LEGACY_LTX:
                *ret_state = make_behind(&lg);
                break;
        case LEGACY_JOURNAL:
                *ret_state = make_torn(&lg);
                break;
        case LEGACY_WAL:
                *ret_state = make_wal(&lg);
                break;
        default:
                make_clean(&lg, kind == LEGACY_CLEAN);
        }
        sqlite3_close(lg.c);
        unlink(lg.scratch);
}
