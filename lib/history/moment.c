#include "history/moment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "history/images.h"
#include "ltx/checksum.h"
#include "ltx/header.h"
#include "ltx/page_frame.h"

#define BUFFER_SIZE 65536u
#define IMAGES_TRIED 2 /* of those that are kept beside the log, the newest first */
#define IMAGE_SEQ 0    /* instead of a segment's number, which is 1 or more */

typedef unsigned long long ull;

/* Where an image lies: its segment's place in `segments` + 1, and the offset in the file; 0: nowhere. */
#define PLACE_SHIFT 48
#define PLACE_OFFSET ((1ull << PLACE_SHIFT) - 1)

struct kept_segment {
        uint64_t seq; /* IMAGE_SEQ: it is no segment, but a whole database beside the log */
        int fd;
        bool is_used;
};

struct moment {
        const struct os *os;
        struct moment_info info;
        uint64_t *index; /* [pgno - 1] */
        struct kept_segment *segments;
        unsigned n_segments;
        uint64_t *image_sums; /* of the pages of that database, [pgno - 1]; NULL: there is none */
        uint32_t image_pages; /* that it has; 0: there is none */
};

/* --- the index --- */

struct indexing {
        struct moment *m;
        struct ltx_pos pos; /* that the index stands for; 0: not for any yet */
        uint32_t page_size, page_count;
        uint32_t capacity; /* pages that m->index has room for */
        uint8_t *buf;      /* BUFFER_SIZE */
        uint8_t *large;    /* the index of a larger record */
        bool is_at_image;  /* nothing has followed on a whole database beside the log yet */
};

static int
resize_index(struct indexing *ix, uint32_t page_count, struct err *e)
{
        uint32_t capacity = ix->capacity;
        uint64_t *p;

        if (page_count > MOMENT_PAGES_MAX)
                return err_text(e, -EFBIG, "the database had %u pages, %u can be read", page_count,
                                MOMENT_PAGES_MAX);
        if (page_count > capacity) {
                capacity = page_count > capacity + capacity / 2 ? page_count : capacity + capacity / 2;
                p = realloc(ix->m->index, capacity * sizeof *p);
                if (p == NULL)
                        return err_set(e, -ENOMEM, "index of %u pages", page_count);
                ix->m->index = p;
                ix->capacity = capacity;
        }
        if (page_count > ix->page_count)
                memset(ix->m->index + ix->page_count, 0,
                       (page_count - ix->page_count) * sizeof *ix->m->index);
        ix->page_count = page_count;
        return 0;
}

/* The segment's place in the table, where it gets a descriptor of its own. */
static int
keep_segment(struct moment *m, const struct txlog_place *place, struct err *e)
{
        struct kept_segment *p;
        int fd;

        if (m->n_segments > 0 && m->segments[m->n_segments - 1].seq == place->seq)
                return 0;
        if (m->n_segments == MOMENT_SEGMENTS_MAX)
                return err_text(e, -EMFILE, "the log has more than %u segments up to there",
                                MOMENT_SEGMENTS_MAX);
        p = realloc(m->segments, (m->n_segments + 1) * sizeof *p);
        if (p == NULL)
                return err_set(e, -ENOMEM, "list of segments");
        m->segments = p;
        fd = fcntl(place->fd, F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
                return err_set(e, -errno, "keep a segment of the log open");
        m->segments[m->n_segments++] = (struct kept_segment){ place->seq, fd, false };
        return 0;
}

/* All of the record is read, by which its checksum is compared; *@ret_index is the index that stands at its end. */
static int
read_record(struct indexing *ix, const struct txlog_record *rec, const struct txlog_place *place,
            struct byte_src *src, struct ltx_index_cursor *ret_index, struct err *e)
{
        const struct os *os = ix->m->os;
        uint8_t tail[LTX_INDEX_TAIL], *p = ix->buf;
        uint64_t length, end;
        ssize_t n;

        do {
                n = byte_src_read_all(src, ix->buf, BUFFER_SIZE);
        } while (n == BUFFER_SIZE && rec->size_bytes > BUFFER_SIZE);
        if (n < 0)
                return err_set(e, (int)n, "read transaction %016llx", (ull)rec->max_txid);
        if (rec->size_bytes < LTX_HEADER_SIZE + LTX_INDEX_TAIL ||
            (rec->size_bytes <= BUFFER_SIZE && (uint64_t)n < rec->size_bytes))
                return err_set(e, E_FORMAT, "transaction %016llx", (ull)rec->max_txid);
        end = rec->size_bytes - LTX_INDEX_TAIL;
        if (rec->size_bytes <= BUFFER_SIZE)
                memcpy(tail, p + end, sizeof tail);
        else if ((n = os_pread_all(os, "history:read", place->fd, tail, sizeof tail,
                                   (off_t)(place->off + end))) < 0)
                return err_set(e, (int)n, "read transaction %016llx", (ull)rec->max_txid);
        length = ltx_index_length(tail);
        if (length > end - LTX_HEADER_SIZE)
                return err_set(e, E_FORMAT, "page index of transaction %016llx", (ull)rec->max_txid);
        if (rec->size_bytes > BUFFER_SIZE) {
                free(ix->large);
                p = ix->large = malloc(length);
                if (p == NULL)
                        return err_set(e, -ENOMEM, "page index of transaction %016llx",
                                       (ull)rec->max_txid);
                n = os_pread_all(os, "history:read", place->fd, p, length,
                                 (off_t)(place->off + end - length));
                if (n < 0 || (uint64_t)n < length)
                        return err_set(e, n < 0 ? (int)n : E_FORMAT, "read transaction %016llx",
                                       (ull)rec->max_txid);
                *ret_index = (struct ltx_index_cursor){ p, p + length };
        } else {
                *ret_index = (struct ltx_index_cursor){ p + end - length, p + end };
        }
        return 0;
}

static int
index_pages(struct indexing *ix, const struct txlog_record *rec, const struct txlog_place *place,
            struct ltx_index_cursor *c, struct err *e)
{
        uint64_t segment = (uint64_t)ix->m->n_segments << PLACE_SHIFT, off;
        uint32_t pgno;
        int r;

        while ((r = ltx_index_next(c, &pgno, &off)) > 0) {
                if (pgno > rec->commit || off >= rec->size_bytes)
                        r = E_FORMAT;
                if (r < 0)
                        break;
                ix->m->index[pgno - 1] = segment | (place->off + off);
        }
        return r < 0 ? err_set(e, r, "page index of transaction %016llx", (ull)rec->max_txid) : 0;
}

/* 0, or why the record does not follow on. A whole database follows anything. */
static int
check_log_follows(const struct indexing *ix, const struct txlog_record *rec, struct err *e)
{
        if (rec->min_txid == 1 ||
            (rec->min_txid == ix->pos.txid + 1 && rec->pre_apply_checksum == ix->pos.checksum))
                return 0;
        if (ix->is_at_image)
                return err_text(e, E_NOT_FOUND,
                                "the log does not lead on from the whole database of %016llx",
                                (ull)ix->pos.txid);
        return err_text(e, E_CORRUPT_DB, "transaction %016llx does not follow %016llx in the log",
                        (ull)rec->max_txid, (ull)ix->pos.txid);
}

static int
index_record(struct indexing *ix, const struct txlog_record *rec, struct txlog_reader *reader,
             struct byte_src *src, struct err *e)
{
        struct ltx_index_cursor c;
        struct txlog_place place;
        int r = check_log_follows(ix, rec, e);

        if (r < 0)
                return r;
        /* Nothing of what was there before belongs to what is there now. */
        if (rec->min_txid == 1 || rec->commit == 0 || rec->page_size != ix->page_size)
                ix->page_count = 0;
        ix->page_size = rec->page_size;
        txlog_reader_get_place(reader, &place);
        r = resize_index(ix, rec->commit, e);
        if (r == 0)
                r = keep_segment(ix->m, &place, e);
        if (r == 0)
                r = read_record(ix, rec, &place, src, &c, e);
        if (r == 0)
                r = index_pages(ix, rec, &place, &c, e);
        ix->pos = (struct ltx_pos){ rec->max_txid, rec->post_apply_checksum };
        ix->is_at_image = false;
        return r;
}

static int
index_image(struct indexing *ix, const char *dir, const struct history_image *image, struct err *e)
{
        struct moment *m = ix->m;
        struct history_image_reader reader;
        struct txlog_record whole;
        struct txlog_place place;
        int r = history_image_open(m->os, dir, image, &reader, e);

        if (r < 0)
                return r;
        whole = (struct txlog_record){ .max_txid = image->pos.txid,
                                       .commit = reader.page_count,
                                       .size_bytes = reader.ltx_bytes };
        place = (struct txlog_place){ IMAGE_SEQ, reader.fd, 0 };
        r = resize_index(ix, reader.page_count, e);
        if (r == 0)
                r = keep_segment(m, &place, e);
        if (r == 0)
                r = index_pages(ix, &whole, &place, &reader.cursor, e);
        ix->page_size = reader.page_size;
        ix->pos = image->pos;
        ix->is_at_image = true;
        m->image_sums = reader.sums;
        m->image_pages = reader.page_count;
        reader.sums = NULL;
        history_image_close(m->os, &reader);
        return r;
}

static int
index_log(struct indexing *ix, struct txlog_reader *reader, struct err *e)
{
        const struct moment_info *want = &ix->m->info;
        struct txlog_record rec, first = { 0 };
        struct byte_src *src;
        int r = 0;

        while (ix->pos.txid < want->pos.txid && (r = txlog_reader_next(reader, &rec, &src, e)) > 0 &&
               rec.max_txid <= want->pos.txid) {
                if (first.max_txid == 0)
                        first = rec;
                if (ix->pos.txid == 0 && rec.min_txid != 1)
                        continue;
                r = index_record(ix, &rec, reader, src, e);
                if (r < 0)
                        break;
        }
        if (r < 0)
                return r;
        if (ix->pos.txid == 0)
                return err_text(
                        e, E_NOT_FOUND,
                        "the log begins with transaction %016llx, and what the database was before "
                        "was not kept",
                        (ull)first.max_txid);
        if (!ltx_pos_equal(ix->pos, want->pos) || ix->page_count != want->page_count)
                return err_text(e, E_NOT_FOUND, "the history of the database was replaced meanwhile");
        return 0;
}

/* Segments that no page is read from. */
static void
let_segments_go(struct moment *m)
{
        for (uint32_t i = 0; i < m->info.page_count; i++)
                if (m->index[i] != 0)
                        m->segments[(m->index[i] >> PLACE_SHIFT) - 1].is_used = true;
        for (unsigned i = 0; i < m->n_segments; i++) {
                if (m->segments[i].is_used)
                        continue;
                os_close(m->os, "history:read", m->segments[i].fd);
                m->segments[i].fd = -1;
        }
}

/* @image: what the log is to lead on from; NULL: the log itself has it. */
static int
index_from(struct moment *m, struct txlog *log, const char *images_dir,
           const struct history_image *image, struct err *e)
{
        struct indexing ix = { .m = m, .buf = malloc(BUFFER_SIZE) };
        struct txlog_reader *reader = NULL;
        struct txlog_record first = { 0 };
        int r = 0;

        if (ix.buf == NULL)
                r = err_set(e, -ENOMEM, "index of the log");
        if (r == 0 && !txlog_first(log, &first))
                r = err_text(e, E_NOT_FOUND, "the log is empty");
        if (r == 0 && image != NULL)
                r = index_image(&ix, images_dir, image, e);
        if (r == 0)
                r = txlog_reader_open(log, image != NULL ? image->pos.txid : first.min_txid - 1, &reader,
                                      e);
        if (r == 0)
                r = index_log(&ix, reader, e);
        txlog_reader_close(reader);
        free(ix.large);
        free(ix.buf);
        return r;
}

static void
forget_index(struct moment *m)
{
        for (unsigned i = 0; i < m->n_segments; i++)
                os_close(m->os, "history:read", m->segments[i].fd);
        free(m->segments);
        free(m->index);
        free(m->image_sums);
        m->segments = NULL;
        m->n_segments = 0;
        m->index = NULL;
        m->image_sums = NULL;
        m->image_pages = 0;
}

/* Room for pages that the database had once, or was to get. */
static void
let_room_go(struct moment *m)
{
        uint64_t *p = realloc(m->index, m->info.page_count * sizeof *p);

        m->index = p != NULL ? p : m->index;
}

/* From the newest whole database beside the log that leads there, or from one in the log. */
static int
make_index(struct moment *m, struct txlog *log, const char *images_dir, struct err *e)
{
        struct history_images images = { 0 };
        struct err trouble = ERR_INIT;
        int r = images_dir == NULL ? 0 : history_images_list(m->os, images_dir, &images, e), damage = 0;
        unsigned n_tried = 0;
        bool is_done = r < 0;

        for (size_t i = images.n; i > 0 && !is_done && n_tried < IMAGES_TRIED; i--) {
                if (images.items[i - 1].pos.txid > m->info.pos.txid)
                        continue;
                n_tried++;
                r = index_from(m, log, images_dir, &images.items[i - 1], e);
                is_done = r == 0 || r == -EAGAIN;
                if (is_done)
                        break;
                forget_index(m);
                if (damage == 0 && r != E_NOT_FOUND && r != -ENOENT) {
                        damage = r;
                        trouble = e != NULL ? *e : trouble;
                }
        }
        history_images_release(&images);
        if (!is_done)
                r = index_from(m, log, NULL, NULL, e);
        if (r == E_NOT_FOUND && damage != 0) {
                r = damage;
                if (e != NULL)
                        *e = trouble;
        }
        if (r == 0) {
                let_segments_go(m);
                let_room_go(m);
        }
        return r;
}

int
moment_open(const struct os *os, struct txlog *log, const char *images_dir,
            const struct moment_info *info, struct moment **ret, struct err *e)
{
        struct moment *m = calloc(1, sizeof *m);
        int r;

        if (m == NULL)
                return err_set(e, -ENOMEM, "open a moment");
        m->os = os;
        m->info = *info;
        r = make_index(m, log, images_dir, e);
        if (r < 0) {
                moment_close(m);
                return r;
        }
        *ret = m;
        return 0;
}

void
moment_close(struct moment *m)
{
        if (m == NULL)
                return;
        forget_index(m);
        free(m);
}

const struct moment_info *
moment_get_info(const struct moment *m)
{
        return &m->info;
}

uint64_t
moment_bytes(const struct moment *m)
{
        return ((uint64_t)m->info.page_count + m->image_pages) * sizeof *m->index;
}

/* --- reading --- */

/* A record of the log was proved as a whole when it was indexed; a database beside the log is proved page by page. */
static int
decode_moment_page(const struct moment *m, const struct kept_segment *s, uint32_t pgno,
                   const uint8_t *frame, size_t n, void *ret)
{
        int r = ltx_page_frame_decode(frame, n, pgno, m->info.page_size, ret);

        if (r == 0 && s->seq == IMAGE_SEQ &&
            ltx_page_checksum(pgno, ret, m->info.page_size) != m->image_sums[pgno - 1])
                r = E_CHECKSUM;
        return r;
}

/* @room: ltx_page_frame_max bytes. */
static int
read_moment_page(const struct moment *m, uint32_t pgno, uint8_t *room, void *ret, struct err *e)
{
        uint64_t at = m->index[pgno - 1];
        const struct kept_segment *s;
        ssize_t n;
        int r;

        if (at == 0 && pgno == ltx_lock_pgno(m->info.page_size)) {
                memset(ret, 0, m->info.page_size);
                return 0;
        }
        if (at == 0)
                return err_text(e, E_CORRUPT_DB, "no transaction up to %016llx has page %u",
                                (ull)m->info.pos.txid, pgno);
        s = &m->segments[(at >> PLACE_SHIFT) - 1];
        n = os_pread_all(m->os, "history:read", s->fd, room, ltx_page_frame_max(m->info.page_size),
                         (off_t)(at & PLACE_OFFSET));
        r = n < 0 ? (int)n : decode_moment_page(m, s, pgno, room, (size_t)n, ret);
        if (r < 0 && s->seq == IMAGE_SEQ)
                return err_set(e, r, "page %u of a whole database in history/", pgno);
        return r < 0 ? err_set(e, r, "page %u in %016llx.seg at offset %llu", pgno, (ull)s->seq,
                               (ull)(at & PLACE_OFFSET))
                     : 0;
}

/* What of page 1 is shown as it was not: bytes 18 and 19, in bytes [off, off + n) of the file. */
static void
show_no_wal(uint8_t *buf, size_t n, uint64_t off)
{
        for (uint64_t at = 18; at <= 19; at++)
                if (at >= off && at - off < n)
                        buf[at - off] = 1;
}

ssize_t
moment_read(const struct moment *m, void *buf, size_t n, uint64_t off, struct err *e)
{
        uint32_t page_size = m->info.page_size;
        uint64_t size = (uint64_t)m->info.page_count * page_size;
        uint8_t *room, *page, *out = buf;
        size_t done = 0;
        int r = 0;

        if (off >= size)
                return 0;
        if (n > size - off)
                n = (size_t)(size - off);
        room = malloc(ltx_page_frame_max(page_size) + page_size);
        if (room == NULL)
                return err_set(e, -ENOMEM, "read %zu bytes", n);
        page = room + ltx_page_frame_max(page_size);
        while (done < n && r == 0) {
                uint32_t pgno = (uint32_t)((off + done) / page_size) + 1;
                size_t in = (size_t)((off + done) % page_size), part = page_size - in;

                if (part > n - done)
                        part = n - done;
                r = read_moment_page(m, pgno, room, part == page_size ? out + done : page, e);
                if (part < page_size && r == 0)
                        memcpy(out + done, page + in, part);
                done += part;
        }
        free(room);
        if (r < 0)
                return r;
        show_no_wal(out, n, off);
        return (ssize_t)n;
}
