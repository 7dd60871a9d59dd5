/* replay DATA_DIR DB OUT [TXID]: replays the log of a database from its beginning, up to TXID, into OUT and prints the position, with
 * the checksum computed anew from the image. The oracle of the integration tests. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "txlog/txlog.h"
#include "ltx/checksum.h"
#include "ltx/decoder.h"
#include "store/dbname.h"

static void
die(const char *what, const struct err *e)
{
        fprintf(stderr, "replay: %s: %s\n", what, e->text);
        exit(1);
}

static void
apply(int fd, struct ltx_decoder *d, struct byte_src *src, uint64_t pre, struct ltx_pos *pos,
      uint32_t *page_size, uint32_t *commit)
{
        static uint8_t page[65536];
        struct err e = ERR_INIT;
        struct ltx_header h;
        struct ltx_trailer t;
        uint32_t pgno;
        int r;

        if (ltx_decoder_begin(d, LTX_V3, src, &h, &e) < 0)
                die("header", &e);
        if (h.min_txid != 1 && h.pre_apply_checksum != pos->checksum) {
                fprintf(stderr, "replay: transaction %llx does not continue %llx\n",
                        (unsigned long long)h.max_txid, (unsigned long long)pos->txid);
                exit(1);
        }
        (void)pre;
        if (h.min_txid == 1 && ftruncate(fd, 0) < 0)
                exit(1);
        while ((r = ltx_decoder_next(d, page, &pgno, &e)) > 0)
                if (pwrite(fd, page, h.page_size, (off_t)(pgno - 1) * h.page_size) !=
                    (ssize_t)h.page_size)
                        exit(1);
        if (r < 0 || ltx_decoder_finish(d, &t, &e) < 0)
                die("pages", &e);
        if (ftruncate(fd, (off_t)h.commit * h.page_size) < 0)
                exit(1);
        *pos = (struct ltx_pos){ h.max_txid, t.post_apply_checksum };
        *page_size = h.page_size;
        *commit = h.commit;
}

static uint64_t
checksum(int fd, uint32_t page_size, uint32_t commit)
{
        static uint8_t page[65536];
        uint64_t sum = 0;

        for (uint32_t pgno = 1; pgno <= commit; pgno++) {
                if (pgno == ltx_lock_pgno(page_size))
                        continue;
                if (pread(fd, page, page_size, (off_t)(pgno - 1) * page_size) != (ssize_t)page_size)
                        exit(1);
                sum ^= ltx_page_checksum(pgno, page, page_size);
        }
        return LTX_CHECKSUM_FLAG | sum;
}

int
main(int argc, char **argv)
{
        char dir[DBNAME_MAX + 1], path[PATH_MAX], text[LTX_POS_TEXT_LEN + 1];
        struct err e = ERR_INIT;
        struct txlog *log;
        struct txlog_reader *reader = NULL;
        struct txlog_record rec;
        struct byte_src *src;
        struct ltx_decoder *d;
        struct ltx_pos pos = { 0 };
        uint32_t page_size = 512, commit = 0;
        uint64_t limit = UINT64_MAX;
        int fd, r;

        if ((argc != 4 && argc != 5) || dbname_encode(argv[2], dir) < 0)
                return 2;
        snprintf(path, sizeof path, "%s/dbs/%s/log", argv[1], dir);
        fd = open(argv[3], O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (fd < 0 || ltx_decoder_new(&d) < 0)
                return 1;
        if (txlog_open_readonly(os_host(), path, &log, &e) < 0 ||
            txlog_reader_open(log, 0, &reader, &e) < 0)
                die("open", &e);
        if (argc == 5 && ltx_txid_parse(argv[4], &limit) < 0)
                return 2;
        while ((r = txlog_reader_next(reader, &rec, &src, &e)) > 0 && rec.max_txid <= limit)
                apply(fd, d, src, rec.pre_apply_checksum, &pos, &page_size, &commit);
        if (r < 0)
                die("read", &e);
        txlog_reader_close(reader);
        txlog_close(log);
        ltx_decoder_free(d);
        if (commit > 0 && checksum(fd, page_size, commit) != pos.checksum) {
                fprintf(stderr, "replay: the image's checksum is not the log's\n");
                return 1;
        }
        ltx_pos_format(pos, text);
        printf("%s %u %u\n", text, page_size, commit);
        return 0;
}
