#include "db/image/carry.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "db/image/image.h"

void
spool_carry_out(const struct spool *s, struct parcel *p)
{
        size_t n = 0;

        parcel_put(p, s->size_bytes);
        parcel_put_fd(p, s->fd);
        for (size_t i = 0; i < s->n_chunks; i++)
                n += s->chunks[i] != NULL;
        parcel_put(p, n);
        for (size_t i = 0; i < s->n_chunks; i++) {
                if (s->chunks[i] == NULL)
                        continue;
                parcel_put(p, i);
                parcel_put_bytes(p, s->chunks[i], SPOOL_CHUNK);
        }
}

/* Whether it may be what a spool had: it is going to be written to. */
static bool
is_spilled_file(const struct spool *s, int fd)
{
        struct stat st, dir;

        return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 0 &&
               stat(s->tmp_dir, &dir) == 0 && dir.st_dev == st.st_dev;
}

int
spool_carry_in(struct spool *s, struct parcel_reader *r)
{
        uint64_t size = parcel_get_below(r, INT64_MAX), n;
        int fd = parcel_get_fd(r), e = 0;

        n = parcel_get(r);
        for (uint64_t i = 0; i < n && e == 0 && r->error == 0; i++) {
                uint64_t off = parcel_get_below(r, INT64_MAX / SPOOL_CHUNK) * SPOOL_CHUNK;
                size_t len;
                const uint8_t *chunk = parcel_get_bytes(r, &len);

                e = spool_write(s, chunk, len, off);
        }
        if (fd >= 0 && !is_spilled_file(s, fd)) {
                close(fd);
                r->error = r->error < 0 ? r->error : -EPROTO;
        } else if (fd >= 0) {
                spool_reset(s);
                free(s->chunks);
                s->chunks = NULL;
                s->n_chunks = 0;
                s->fd = fd;
                s->size_bytes = size;
        }
        return e == 0 && r->error == 0 ? spool_truncate(s, size) : e;
}

void
spool_carry_skip(struct parcel_reader *r)
{
        uint64_t n;
        size_t len;
        int fd;

        (void)parcel_get(r);
        fd = parcel_get_fd(r);
        if (fd >= 0)
                close(fd);
        n = parcel_get(r);
        for (uint64_t i = 0; i < n && r->error == 0; i++) {
                (void)parcel_get(r);
                (void)parcel_get_bytes(r, &len);
        }
}

void
overlay_carry_out(const struct overlay *o, struct parcel *p)
{
        parcel_put(p, o->page_size);
        spool_carry_out(&o->pages, p);
        parcel_put(p, o->n_pages);
        for (uint32_t i = 0; i < o->table_size && o->n_pages > 0; i++) {
                if (o->table[i].pgno == 0)
                        continue;
                parcel_put(p, o->table[i].pgno);
                parcel_put(p, o->table[i].slot);
        }
}

int
overlay_carry_in(struct overlay *o, struct parcel_reader *r)
{
        int e;
        uint64_t n;

        overlay_set_page_size(o, (uint32_t)parcel_get_below(r, IMAGE_PAGE_MAX + 1));
        e = spool_carry_in(&o->pages, r);
        n = parcel_get(r);
        for (uint64_t i = 0; i < n && e == 0 && r->error == 0; i++) {
                uint32_t pgno = (uint32_t)parcel_get_below(r, UINT32_MAX);
                uint32_t slot = (uint32_t)parcel_get_below(r, UINT32_MAX);

                if (r->error == 0)
                        e = overlay_put_slot(o, pgno, slot);
        }
        if (o->n_slots == 0) /* to overlay_reset it is empty then */
                spool_reset(&o->pages);
        return e;
}

void
overlay_carry_skip(struct parcel_reader *r)
{
        uint64_t n;

        (void)parcel_get(r);
        spool_carry_skip(r);
        n = parcel_get(r);
        for (uint64_t i = 0; i < n && r->error == 0; i++) {
                (void)parcel_get(r);
                (void)parcel_get(r);
        }
}
