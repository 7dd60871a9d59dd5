/* How a whole database gets beside the log. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "history/images.h"
#include "ltx/checksum.h"
#include "ltx/decoder.h"

/* The disk gets it in parts, so that the fdatasync of a commit never waits for all of it. */
#define SYNC_EVERY (8u << 20)
#define PAGES_AT_ONCE 256u /* between two questions whether to go on */
#define PAGE_MAX 65536u

/* --- the file --- */

static int
write_image_bytes(struct byte_sink *sink, const void *buf, size_t n)
{
        struct history_image_writer *w = (struct history_image_writer *)sink;
        int r = os_pwrite_all(w->os, "history:write", w->fd, buf, n, (off_t)w->off);

        w->off += n;
        if (r == 0 && w->off - w->synced >= SYNC_EVERY) {
                r = os_fdatasync(w->os, "history:write", w->fd);
                w->synced = w->off;
        }
        return r;
}

static int
make_image_dir(const struct os *os, const char *dir)
{
        char parent[PATH_MAX];
        int r = os_mkdir(os, "history:write", dir, 0700);

        if (r < 0)
                return r == -EEXIST ? 0 : r;
        if (snprintf(parent, sizeof parent, "%s/..", dir) >= (int)sizeof parent)
                return -ENAMETOOLONG;
        return os_sync_dir(os, "history:write", parent);
}

int
history_image_begin(const struct os *os, const char *dir, struct history_image_writer *ret,
                    struct err *e)
{
        int r;

        *ret = (struct history_image_writer){
                .sink.write = write_image_bytes, .os = os, .dir = dir, .fd = -1
        };
        if (snprintf(ret->path, sizeof ret->path, "%s/new", dir) >= (int)sizeof ret->path) {
                ret->path[0] = '\0';
                return err_set(e, -ENAMETOOLONG, "%s", dir);
        }
        r = make_image_dir(os, dir);
        if (r == 0) {
                r = os_open(os, "history:write", ret->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC,
                            0600);
                ret->fd = r;
        }
        return r < 0 ? err_set(e, r, "create %s", ret->path) : 0;
}

void
history_image_end(struct history_image_writer *w)
{
        if (w->fd >= 0 && w->path[0] != '\0')
                (void)os_unlink(w->os, "history:write", w->path);
        os_close(w->os, "history:write", w->fd);
        w->fd = -1;
}

/* --- the proof --- */

struct reading_back {
        struct byte_src src;
        struct history_image_writer *w;
        uint64_t off, end;
        uint8_t *page; /* PAGE_MAX */
        uint8_t *sums; /* as they are in the file */
        struct ltx_header header;
        struct ltx_trailer trailer;
};

static ssize_t
read_image_back(struct byte_src *src, void *buf, size_t n)
{
        struct reading_back *b = (struct reading_back *)src;
        ssize_t got;

        if (n > b->end - b->off)
                n = (size_t)(b->end - b->off);
        got = os_pread_all(b->w->os, "history:prove", b->w->fd, buf, n, (off_t)b->off);
        if (got > 0)
                b->off += (uint64_t)got;
        return got;
}

static int
prove_image(struct reading_back *b, struct ltx_decoder *decoder, bool (*goes_on)(void *arg), void *arg,
            struct err *e)
{
        uint32_t pgno, n = 0;
        int r = ltx_decoder_begin(decoder, LTX_V3, &b->src, &b->header, e);

        if (r == 0 && (b->header.min_txid != 1 || b->header.flags & LTX_FLAG_NO_CHECKSUM))
                r = err_text(e, E_FORMAT, "it is not a whole database with checksums");
        if (r < 0)
                return r;
        b->sums = calloc(b->header.commit + 1, 8);
        if (b->sums == NULL)
                return err_set(e, -ENOMEM, "checksums of %u pages", b->header.commit);
        while ((r = ltx_decoder_next(decoder, b->page, &pgno, e)) > 0) {
                put_be64(b->sums + (size_t)(pgno - 1) * 8,
                         ltx_page_checksum(pgno, b->page, b->header.page_size));
                if (++n % PAGES_AT_ONCE == 0 && !goes_on(arg))
                        return err_set(e, -ECANCELED, "a whole database for the history");
        }
        return r < 0 ? r : ltx_decoder_finish(decoder, &b->trailer, e);
}

static int
name_image(struct reading_back *b, int64_t time_ms, struct err *e)
{
        struct history_image_writer *w = b->w;
        char path[PATH_MAX];
        int r = w->sink.write(&w->sink, b->sums, (size_t)b->header.commit * 8);

        if (r == 0)
                r = os_fdatasync(w->os, "history:write", w->fd);
        if (r == 0 && snprintf(path, sizeof path, "%s/%016llx-%016llx-%016llx.ltx", w->dir,
                               (unsigned long long)b->header.max_txid,
                               (unsigned long long)b->trailer.post_apply_checksum,
                               (unsigned long long)time_ms) >= (int)sizeof path)
                r = -ENAMETOOLONG;
        if (r == 0)
                r = os_rename(w->os, "history:write", w->path, path);
        if (r < 0)
                return err_set(e, r, "write %s", w->path);
        w->path[0] = '\0';
        r = os_sync_dir(w->os, "history:write", w->dir);
        return r < 0 ? err_set(e, r, "sync %s", w->dir) : 0;
}

int
history_image_finish(struct history_image_writer *w, int64_t time_ms, bool (*goes_on)(void *arg),
                     void *arg, struct err *e)
{
        struct reading_back b = { .src.read = read_image_back, .w = w, .end = w->off };
        struct ltx_decoder *decoder = NULL;
        int r;

        b.page = malloc(PAGE_MAX);
        r = b.page == NULL ? -ENOMEM : ltx_decoder_new(&decoder);
        if (r < 0)
                err_set(e, r, "prove %s", w->path);
        else if ((r = prove_image(&b, decoder, goes_on, arg, e)) < 0)
                err_prefix(e, "prove %s", w->path);
        else
                r = name_image(&b, time_ms, e);
        ltx_decoder_free(decoder);
        free(b.sums);
        free(b.page);
        return r;
}
