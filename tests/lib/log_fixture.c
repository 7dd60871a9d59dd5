#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "txlog/segment.h"
#include "tests/lib/log_fixture.h"
#include "tests/lib/ltx_build.h"
#include "tests/lib/os_no_sync.h"
#include "tests/lib/tmpdir.h"

struct log_fixture fx;

void
log_set_up(void)
{
        fx.os = os_no_sync();
        fx.dir = tmpdir_make();
        fx.log_dir = strdup(path_in(fx.dir, "log"));
        fx.tl = NULL;
        fx.e = (struct err)ERR_INIT;
}

void
log_tear_down(void)
{
        txlog_close(fx.tl);
        free((char *)fx.log_dir);
        tmpdir_remove(fx.dir);
}

void
open_log(uint64_t segment_bytes)
{
        struct txlog_options options = { segment_bytes };

        txlog_close(fx.tl);
        fx.tl = NULL;
        ck_assert_msg(txlog_open(&fx.os, fx.log_dir, &options, 0, &fx.tl, &fx.e) == 0, "%s", fx.e.text);
}

struct txlog_record
record_of(uint64_t min_txid, uint64_t max_txid)
{
        return (struct txlog_record){
                .min_txid = min_txid,
                .max_txid = max_txid,
                .pre_apply_checksum = max_txid * 3,
                .post_apply_checksum = max_txid * 5,
                .timestamp_ms = (int64_t)max_txid * 1000,
                .page_size = 4096,
                .commit = (uint32_t)max_txid,
        };
}

uint32_t
size_of(uint64_t txid)
{
        return 100 + (uint32_t)(txid * 37 % 200);
}

int
append_as(uint64_t min_txid, uint64_t max_txid, uint32_t size)
{
        struct txlog_record r = record_of(min_txid, max_txid);
        struct byte_sink *sink = txlog_append_begin(fx.tl);
        uint8_t *p = malloc(size + 1);
        uint64_t lsn = 0;
        int rc = 0;

        fill_page(p, size, PAGE_NOISE, (uint32_t)max_txid);
        for (uint32_t at = 0; rc == 0 && at < size; at += 70000)
                rc = sink->write(sink, p + at, size - at < 70000 ? size - at : 70000);
        free(p);
        rc = txlog_append_commit(fx.tl, &r, &lsn, &fx.e);
        ck_assert(rc < 0 || lsn == txlog_end_lsn(fx.tl));
        return rc;
}

void
append(uint64_t txid)
{
        ck_assert_msg(append_as(txid, txid, size_of(txid)) == 0, "%s", fx.e.text);
}

void
append_range(uint64_t first, uint64_t last)
{
        while (first <= last)
                append(first++);
}

static void
check_payload(struct byte_src *src, uint64_t txid, uint64_t size)
{
        uint8_t *got = malloc(size + 1), *want = malloc(size + 1);

        ck_assert_int_eq(byte_src_read_all(src, got, size + 1), (ssize_t)size);
        fill_page(want, (uint32_t)size, PAGE_NOISE, (uint32_t)txid);
        ck_assert_mem_eq(got, want, size);
        free(got);
        free(want);
}

uint64_t
read_on(struct txlog_reader *r)
{
        struct txlog_record rec;
        struct byte_src *src;
        uint64_t last = 0;
        int rc;

        while ((rc = txlog_reader_next(r, &rec, &src, &fx.e)) > 0) {
                struct txlog_record want = record_of(rec.min_txid, rec.max_txid);

                want.size_bytes = rec.size_bytes;
                ck_assert_mem_eq(&rec, &want, sizeof rec);
                ck_assert(last == 0 || rec.min_txid == last + 1 || rec.min_txid == 1);
                check_payload(src, rec.max_txid, rec.size_bytes);
                last = rec.max_txid;
        }
        ck_assert_msg(rc == 0, "%s", fx.e.text);
        return last;
}

uint64_t
read_all(struct txlog *log, uint64_t after)
{
        struct txlog_reader *r;
        uint64_t last;

        ck_assert_msg(txlog_reader_open(log, after, &r, &fx.e) == 0, "%s", fx.e.text);
        last = read_on(r);
        txlog_reader_close(r);
        return last;
}

uint64_t
last_of(struct txlog *log)
{
        struct txlog_record r;

        return txlog_last(log, &r) ? r.max_txid : 0;
}

uint64_t
first_of(void)
{
        struct txlog_record r;

        return txlog_first(fx.tl, &r) ? r.min_txid : 0;
}

const char *
segment_path(uint64_t seq)
{
        char name[64];

        snprintf(name, sizeof name, "log/%016llx.seg", (unsigned long long)seq);
        return path_in(fx.dir, name);
}

uint32_t
count_segments(void)
{
        struct txlog_stat st;

        txlog_get_stat(fx.tl, &st);
        return st.segments;
}

struct file_bytes
make_log(int n, uint64_t *offs)
{
        open_log(0);
        for (int i = 0; i < n; i++) {
                struct txlog_stat st;

                append((uint64_t)i + 1);
                txlog_get_stat(fx.tl, &st);
                offs[i + 1] = st.bytes;
        }
        offs[0] = SEGMENT_HEADER_SIZE;
        txlog_close(fx.tl);
        fx.tl = NULL;
        return read_file(segment_path(1));
}
