/* links: litefs_db */
/* The log's files. The first byte b: b & 3 says what is made right before the log is opened (0: nothing, 1: the
 * header's checksum, 2: that and the magic and checksum of each frame, 3: also that of its payload); b >> 2 & 1
 * says that there are two segments, the first as long as the second and third byte say.
 * A log that opens has to hold together: all of it can be read, and a record appended to it is there after
 * opening again. */
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "txlog/segment.h"
#include "ltx/checksum.h"
#include "tests/fuzz/target.h"
#include "tests/lib/files.h"
#include "tests/lib/os_no_sync.h"
#include "tests/lib/tmpdir.h"

static char *dir;
static struct os os;

static void
repair_frames(uint8_t *p, size_t n, uint64_t chain, bool with_payload)
{
        size_t at = SEGMENT_HEADER_SIZE;

        while (at <= n && n - at >= FRAME_SIZE) {
                uint64_t size = get_be64(p + at + 8);

                if (memcmp(p + at, "STOP", 4) == 0)
                        break;
                memcpy(p + at, "LREC", 4);
                if (size > n - at - FRAME_SIZE) {
                        size %= n - at - FRAME_SIZE + 1;
                        put_be64(p + at + 8, size);
                }
                if (with_payload)
                        put_be64(p + at + 64, ltx_crc64(0, p + at + FRAME_SIZE, size));
                chain = ltx_crc64(chain, p + at, 72);
                put_be64(p + at + 72, chain);
                at = record_frame_end(at, size);
        }
}

static void
put_segment(const uint8_t *data, size_t n, uint64_t seq, int level)
{
        uint8_t *p = malloc(n + 1);
        char name[64];

        memcpy(p, data, n);
        if (level >= 1 && n >= 56) {
                memcpy(p, "LFSLOG01", 8);
                put_be64(p + 8, seq);
                put_be64(p + 48, ltx_crc64(0, p, 48));
        }
        if (level >= 2 && n >= 56)
                repair_frames(p, n, get_be64(p + 16), level >= 3);
        snprintf(name, sizeof name, "log/%016llx.seg", (unsigned long long)seq);
        write_file(path_in(dir, name), p, n);
        free(p);
}

static uint64_t
read_all(struct txlog *log, uint64_t after, bool must_be_whole)
{
        struct txlog_reader *r;
        struct txlog_record rec = { 0 };
        struct byte_src *src;
        uint64_t last = 0;
        int rc = txlog_reader_open(log, after, &r, NULL);

        FUZZ_CHECK(rc == 0);
        while ((rc = txlog_reader_next(r, &rec, &src, NULL)) > 0) {
                uint8_t buf[512];
                uint64_t n = 0;
                ssize_t got;

                FUZZ_CHECK(rec.min_txid > 0 && rec.max_txid >= rec.min_txid && rec.max_txid > last);
                while ((got = src->read(src, buf, sizeof buf)) > 0)
                        n += (uint64_t)got;
                FUZZ_CHECK(got == 0 ? n == rec.size_bytes : !must_be_whole);
                last = rec.max_txid;
        }
        FUZZ_CHECK(rc == 0);
        txlog_reader_close(r);
        return last;
}

static void
append(struct txlog *log, uint64_t txid)
{
        struct txlog_record rec = { .min_txid = txid, .max_txid = txid, .page_size = 512 };
        struct byte_sink *sink = txlog_append_begin(log);
        uint64_t lsn;

        FUZZ_CHECK(sink != NULL && sink->write(sink, "payload", 7) == 0);
        FUZZ_CHECK(txlog_append_commit(log, &rec, &lsn, NULL) == 0);
}

/* Returns the last TXID, or 0 when the log is empty or does not open. */
static uint64_t
open_and_read(struct txlog **ret, int *ret_error)
{
        struct txlog_record first, last;
        struct err e = ERR_INIT;

        *ret_error = txlog_open(&os, path_in(dir, "log"), NULL, 0, ret, &e);
        FUZZ_CHECK(*ret_error == 0 || e.text[0] != '\0');
        if (*ret_error < 0 || !txlog_last(*ret, &last))
                return 0;
        FUZZ_CHECK(txlog_first(*ret, &first));
        FUZZ_CHECK(read_all(*ret, first.min_txid - 1, true) == last.max_txid);
        return last.max_txid;
}

static void
look_first(void)
{
        struct txlog_record first;
        struct txlog *log;

        if (txlog_open_readonly(&os, path_in(dir, "log"), &log, NULL) < 0)
                return;
        if (txlog_first(log, &first))
                (void)read_all(log, first.min_txid - 1, false);
        txlog_close(log);
}

static void
run_log(void)
{
        struct txlog *log;
        uint64_t last;
        int r;

        look_first();
        last = open_and_read(&log, &r);
        if (r < 0)
                return;
        if (last < UINT64_MAX)
                append(log, ++last);
        txlog_close(log);
        FUZZ_CHECK(open_and_read(&log, &r) == last && r == 0);
        FUZZ_CHECK(txlog_torn_bytes(log) == 0);
        txlog_close(log);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        bool is_two = size > 3 && data[0] >> 2 & 1;
        size_t n = size < 4 ? 0 : size - 3, cut = n;

        if (size < 3)
                return 0;
        if (is_two)
                cut = get_be16(data + 1) < n ? get_be16(data + 1) : n;
        os = os_no_sync();
        if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0)
                setenv("TMPDIR", "/dev/shm", 1);
        /* Made for each input: libFuzzer leaves without running what atexit() was told. */
        dir = tmpdir_make();
        FUZZ_CHECK(os_mkdir(os_host(), "fuzz", path_in(dir, "log"), 0700) == 0);
        put_segment(data + 3, cut, 1, data[0] & 3);
        if (is_two)
                put_segment(data + 3 + cut, n - cut, 2, data[0] & 3);
        run_log();
        tmpdir_remove(dir);
        return 0;
}
