/* usage: make_corpus DIRECTORY     writes the seeds of ltx, wal, journal and segment into DIRECTORY/NAME/. */
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "txlog/txlog.h"
#include "ltx/checksum.h"
#include "ltx/encoder.h"
#include "tests/lib/files.h"
#include "tests/lib/ltx_build.h"
#include "tests/lib/sql.h"
#include "tests/lib/tmpdir.h"

static const char *root;

static void
must(int r)
{
        if (r < 0)
                abort();
}

/* @head: the bytes that the target takes off. */
static void
put_seed(const char *target, const char *name, const void *head, size_t head_n, const void *data,
         size_t n)
{
        uint8_t *p = malloc(head_n + n);
        char path[100];

        memcpy(p, head, head_n);
        memcpy(p + head_n, data, n);
        must(os_mkdir_all(os_host(), "corpus", path_in(root, target), 0755));
        snprintf(path, sizeof path, "%s/%s", target, name);
        write_file(path_in(root, path), p, head_n + n);
        free(p);
}

/* --- LTX --- */

static struct ltx_header
header_of(uint64_t min_txid, uint32_t commit, uint32_t flags)
{
        bool has_none = min_txid == 1 || flags & LTX_FLAG_NO_CHECKSUM;

        return (struct ltx_header){ .flags = flags,
                                    .page_size = 512,
                                    .commit = commit,
                                    .min_txid = min_txid,
                                    .max_txid = min_txid + 1,
                                    .timestamp_ms = 1700000000000,
                                    .pre_apply_checksum = has_none ? 0 : LTX_CHECKSUM_FLAG | 5 };
}

static void
put_v3(const char *name, uint64_t min_txid, uint32_t commit, uint32_t flags, struct mem_sink *out)
{
        struct ltx_header h = header_of(min_txid, commit, flags);
        struct ltx_encoder *enc;
        uint8_t page[512];
        uint64_t sum = 0;

        mem_sink_init(out);
        must(ltx_encoder_new(true, &enc));
        must(ltx_encoder_begin(enc, &h, &out->sink, NULL));
        for (uint32_t pgno = 1; pgno <= commit; pgno += min_txid == 1 ? 1 : 2) {
                fill_page(page, sizeof page, (pgno + 1) % PAGE_KINDS, pgno);
                sum ^= ltx_page_checksum(pgno, page, sizeof page);
                must(ltx_encoder_page(enc, pgno, page, NULL));
        }
        sum = flags & LTX_FLAG_NO_CHECKSUM ? 0 : LTX_CHECKSUM_FLAG | sum;
        must(ltx_encoder_finish(enc, sum, NULL, NULL));
        ltx_encoder_free(enc);
        put_seed("ltx", name, "\0", 1, out->data, out->n);
}

static void
put_v1(const char *name, uint64_t min_txid, uint32_t commit, uint32_t flags)
{
        struct ltx_header h = header_of(min_txid, commit, flags);
        uint8_t page[512], buf[100];
        struct v1_file f;
        uint64_t sum = 0;

        ltx_header_encode(&h, buf);
        v1_begin(&f, buf);
        for (uint32_t pgno = 1; pgno <= commit; pgno += min_txid == 1 ? 1 : 2) {
                fill_page(page, sizeof page, (pgno + 1) % PAGE_KINDS, pgno);
                sum ^= ltx_page_checksum(pgno, page, sizeof page);
                v1_page(&f, pgno, page, sizeof page);
        }
        v1_finish(&f, LTX_CHECKSUM_FLAG | sum);
        put_seed("ltx", name, "\1", 1, f.out.data, f.out.n);
        v1_release(&f);
}

static void
put_script(const char *name, uint64_t min_txid, uint32_t commit, uint8_t post_is_given)
{
        uint8_t p[48 + 9] = { 0 };

        p[2] = 2 | post_is_given;
        put_be32(p + 4, commit);
        put_be64(p + 8, min_txid);
        put_be64(p + 28, min_txid == 1 ? 0 : LTX_CHECKSUM_FLAG);
        p[3] = 0x80;
        for (uint8_t i = 0; i < 3; i++)
                memcpy(p + 48 + 3 * i, (uint8_t[]){ 1, i, i }, 3);
        put_seed("ltx", name, "\2", 1, p, sizeof p);
}

static void
make_ltx(void)
{
        struct mem_sink out;

        put_v3("v3-snapshot", 1, 3, 0, &out), mem_sink_release(&out);
        put_v3("v3-pages", 7, 6, 0, &out), mem_sink_release(&out);
        put_v3("v3-no-checksum", 7, 3, LTX_FLAG_NO_CHECKSUM, &out), mem_sink_release(&out);
        put_v3("v3-deletion", 7, 0, 0, &out), mem_sink_release(&out);
        put_v1("v1-snapshot", 1, 3, 0);
        put_v1("v1-pages", 7, 4, 0);
        put_v1("v1-lz4-snapshot", 1, 3, LTX_FLAG_LZ4_V1);
        put_v1("v1-lz4-pages", 7, 4, LTX_FLAG_LZ4_V1);
        put_v1("v1-lz4-deletion", 7, 0, LTX_FLAG_LZ4_V1);
        put_script("script-snapshot", 1, 3, 0);
        put_script("script-wrong-sum", 1, 3, 1);
        put_script("script-pages", 9, 4000000000u, 0);
}

/* --- what SQLite writes --- */

static void
make_sqlite(const char *dir)
{
        sqlite3 *db = sql_open(path_in(dir, "wal.db"));
        struct file_bytes b;

        sql_exec(db, "PRAGMA page_size=512; PRAGMA journal_mode=wal; CREATE TABLE t(a);"
                     "INSERT INTO t VALUES(1); INSERT INTO t VALUES(zeroblob(900))");
        b = read_file(path_in(dir, "wal.db-wal"));
        put_seed("wal", "sqlite", "\0", 1, b.data, b.n);
        put_seed("wal", "repaired-le", "\xf2", 1, b.data, b.n);
        put_seed("wal", "repaired-be", "\x11", 1, b.data, b.n);
        free(b.data);
        sqlite3_close(db);

        db = sql_open(path_in(dir, "journal.db"));
        sql_exec(db, "PRAGMA page_size=512; CREATE TABLE t(a);"
                     "INSERT INTO t VALUES(zeroblob(2000)),(zeroblob(2000)),(zeroblob(2000));"
                     "PRAGMA cache_size=2; BEGIN; UPDATE t SET a=randomblob(2000)");
        b = read_file(path_in(dir, "journal.db-journal"));
        if (b.n > 5000)
                b.n = 5000;
        put_seed("journal", "sqlite", "\0", 1, b.data, b.n);
        put_seed("journal", "page-size-given", "\1", 1, b.data, b.n);
        put_seed("journal", "repaired", "\x24", 1, b.data, b.n);
        put_seed("journal", "repaired-small-sectors", "\x07", 1, b.data, 2500);
        free(b.data);
        sqlite3_close(db);
}

/* --- the log --- */

static void
append(struct txlog *log, uint64_t txid, const struct mem_sink *ltx, size_t n)
{
        struct txlog_record rec = { .min_txid = txid, .max_txid = txid, .page_size = 512, .commit = 3 };
        struct byte_sink *sink = txlog_append_begin(log);
        uint64_t lsn;

        must(sink->write(sink, ltx->data, n));
        must(txlog_append_commit(log, &rec, &lsn, NULL));
}

static struct txlog *
new_log(const char *dir, const char *name, uint64_t segment_bytes)
{
        struct txlog_options options = { segment_bytes };
        struct txlog *log;

        must(txlog_open(os_host(), path_in(dir, name), &options, 0, &log, NULL));
        return log;
}

static void
make_segment(const char *dir)
{
        struct mem_sink ltx;
        struct file_bytes a, b;
        uint8_t head[3] = { 0 }, *both;
        struct txlog *log = new_log(dir, "one", 0);

        put_v3("v3-pages", 7, 6, 0, &ltx);
        append(log, 3, &ltx, 60);
        append(log, 4, &ltx, 33);
        append(log, 5, &ltx, 0);
        txlog_close(log);
        a = read_file(path_in(dir, "one/0000000000000001.seg"));
        put_seed("segment", "one", head, 3, a.data, a.n);
        head[0] = 2;
        put_seed("segment", "frames-repaired", head, 3, a.data, a.n);
        head[0] = 3;
        put_seed("segment", "payload-repaired", head, 3, a.data, a.n);
        head[0] = 0;
        put_seed("segment", "torn", head, 3, a.data, a.n - 100);
        free(a.data);

        log = new_log(dir, "two", 4097);
        append(log, 3, &ltx, 60);
        append(log, 4, &ltx, 33);
        txlog_close(log);
        a = read_file(path_in(dir, "two/0000000000000001.seg"));
        b = read_file(path_in(dir, "two/0000000000000002.seg"));
        both = malloc(a.n + b.n);
        memcpy(both, a.data, a.n);
        memcpy(both + a.n, b.data, b.n);
        head[0] = 4;
        put_be16(head + 1, (uint16_t)a.n);
        put_seed("segment", "two", head, 3, both, a.n + b.n);
        head[0] = 4 + 3;
        put_seed("segment", "two-repaired", head, 3, both, a.n + b.n);
        free(both);
        free(a.data);
        free(b.data);
        mem_sink_release(&ltx);
}

int
main(int argc, char **argv)
{
        char *dir;

        if (argc != 2) {
                fprintf(stderr, "usage: make_corpus DIRECTORY\n");
                return 2;
        }
        root = argv[1];
        dir = tmpdir_make();
        make_ltx();
        make_sqlite(dir);
        make_segment(dir);
        tmpdir_remove(dir);
        return 0;
}
