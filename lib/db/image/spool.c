#include "db/image/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TAG "spool"

void
spool_init(struct spool *s, const struct os *os, const char *tmp_dir, size_t cap_bytes)
{
        *s = (struct spool){ .os = os, .tmp_dir = tmp_dir, .cap_bytes = cap_bytes, .fd = -1 };
}

static void
free_chunks_from(struct spool *s, size_t first)
{
        for (size_t i = first; i < s->n_chunks; i++) {
                if (s->chunks[i] == NULL)
                        continue;
                free(s->chunks[i]);
                s->chunks[i] = NULL;
                s->used_bytes -= SPOOL_CHUNK;
        }
}

void
spool_reset(struct spool *s)
{
        free_chunks_from(s, 0);
        /* A small table is kept: the next transaction most likely needs as much. */
        if (s->n_chunks > 64) {
                free(s->chunks);
                s->chunks = NULL;
                s->n_chunks = 0;
        }
        os_close(s->os, TAG, s->fd);
        s->fd = -1;
        s->size_bytes = 0;
}

static int
grow_table(struct spool *s, size_t need)
{
        size_t n = s->n_chunks < 16 ? 16 : s->n_chunks;
        uint8_t **p;

        if (need <= s->n_chunks)
                return 0;
        while (n < need)
                n *= 2;
        p = realloc(s->chunks, n * sizeof *p);
        if (p == NULL)
                return -ENOMEM;
        memset(p + s->n_chunks, 0, (n - s->n_chunks) * sizeof *p);
        s->chunks = p;
        s->n_chunks = n;
        return 0;
}

static int
open_unlinked(struct spool *s)
{
        static atomic_uint counter;
        char path[PATH_MAX];
        int fd, r;

        r = snprintf(path, sizeof path, "%s/spool-%d-%u", s->tmp_dir, (int)getpid(),
                     atomic_fetch_add(&counter, 1));
        if (r < 0 || (size_t)r >= sizeof path)
                return -ENAMETOOLONG;
        fd = os_open(s->os, TAG, path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (fd < 0)
                return fd;
        r = os_unlink(s->os, TAG, path);
        if (r < 0) {
                os_close(s->os, TAG, fd);
                return r;
        }
        return fd;
}

static int
spill(struct spool *s)
{
        int fd, r = 0;

        fd = open_unlinked(s);
        if (fd < 0)
                return fd;
        for (size_t i = 0; i < s->n_chunks && r == 0; i++)
                if (s->chunks[i] != NULL)
                        r = os_pwrite_all(s->os, TAG, fd, s->chunks[i], SPOOL_CHUNK,
                                          (off_t)(i * SPOOL_CHUNK));
        if (r == 0)
                r = os_ftruncate(s->os, TAG, fd, (off_t)s->size_bytes);
        if (r < 0) {
                os_close(s->os, TAG, fd);
                return r;
        }
        free_chunks_from(s, 0);
        free(s->chunks);
        s->chunks = NULL;
        s->n_chunks = 0;
        s->fd = fd;
        return 0;
}

static int
write_memory(struct spool *s, const uint8_t *p, size_t n, uint64_t off)
{
        int r = grow_table(s, (size_t)((off + n + SPOOL_CHUNK - 1) / SPOOL_CHUNK));

        if (r < 0)
                return r;
        while (n > 0) {
                size_t i = (size_t)(off / SPOOL_CHUNK), at = (size_t)(off % SPOOL_CHUNK);
                size_t part = SPOOL_CHUNK - at < n ? SPOOL_CHUNK - at : n;

                if (s->chunks[i] == NULL) {
                        uint8_t *chunk = malloc(SPOOL_CHUNK);

                        if (chunk == NULL)
                                return -ENOMEM;
                        if (part < SPOOL_CHUNK)
                                memset(chunk, 0, SPOOL_CHUNK);
                        s->chunks[i] = chunk;
                        s->used_bytes += SPOOL_CHUNK;
                }
                memcpy(s->chunks[i] + at, p, part);
                p += part;
                off += part;
                n -= part;
                if (off > s->size_bytes)
                        s->size_bytes = off;
        }
        return 0;
}

/* What is written again needs no more memory, and must not need a file for which there may be no space. */
static bool
is_in_memory(const struct spool *s, size_t n, uint64_t off)
{
        if (off + n > s->size_bytes)
                return false;
        for (uint64_t i = off / SPOOL_CHUNK; i <= (off + n - 1) / SPOOL_CHUNK; i++)
                if (i >= s->n_chunks || s->chunks[i] == NULL)
                        return false;
        return true;
}

int
spool_write(struct spool *s, const void *buf, size_t n, uint64_t off)
{
        int r;

        if (n == 0)
                return 0;
        if (off > INT64_MAX - n)
                return -EFBIG;
        /* The table of chunks counts too: a write far out must not cost memory for the hole. */
        if (s->fd < 0 && !is_in_memory(s, n, off) &&
            (s->used_bytes + n > s->cap_bytes ||
             (off + n) / SPOOL_CHUNK * sizeof(void *) > s->cap_bytes)) {
                r = spill(s);
                if (r < 0)
                        return r;
        }
        if (s->fd < 0)
                return write_memory(s, buf, n, off);
        r = os_pwrite_all(s->os, TAG, s->fd, buf, n, (off_t)off);
        if (r == 0 && off + n > s->size_bytes)
                s->size_bytes = off + n;
        return r;
}

ssize_t
spool_read(const struct spool *s, void *buf, size_t n, uint64_t off)
{
        uint8_t *p = buf;
        size_t done = 0;

        if (off >= s->size_bytes)
                return 0;
        if (n > s->size_bytes - off)
                n = (size_t)(s->size_bytes - off);
        if (s->fd >= 0)
                return os_pread_all(s->os, TAG, s->fd, buf, n, (off_t)off);
        while (done < n) {
                size_t i = (size_t)((off + done) / SPOOL_CHUNK);
                size_t at = (size_t)((off + done) % SPOOL_CHUNK);
                size_t part = SPOOL_CHUNK - at < n - done ? SPOOL_CHUNK - at : n - done;

                if (i < s->n_chunks && s->chunks[i] != NULL)
                        memcpy(p + done, s->chunks[i] + at, part);
                else
                        memset(p + done, 0, part);
                done += part;
        }
        return (ssize_t)done;
}

int
spool_truncate(struct spool *s, uint64_t size_bytes)
{
        size_t keep = (size_t)((size_bytes + SPOOL_CHUNK - 1) / SPOOL_CHUNK);

        if (size_bytes > INT64_MAX)
                return -EFBIG;
        if (s->fd >= 0) {
                int r = os_ftruncate(s->os, TAG, s->fd, (off_t)size_bytes);

                if (r < 0)
                        return r;
        } else if (size_bytes < s->size_bytes) {
                free_chunks_from(s, keep);
                /* What a later extension uncovers must read as zeros. */
                if (size_bytes % SPOOL_CHUNK != 0 && keep - 1 < s->n_chunks &&
                    s->chunks[keep - 1] != NULL)
                        memset(s->chunks[keep - 1] + size_bytes % SPOOL_CHUNK, 0,
                               SPOOL_CHUNK - size_bytes % SPOOL_CHUNK);
        }
        s->size_bytes = size_bytes;
        return 0;
}

const void *
spool_peek(const struct spool *s, uint64_t off, size_t n)
{
        size_t i = (size_t)(off / SPOOL_CHUNK), at = (size_t)(off % SPOOL_CHUNK);

        if (s->fd >= 0 || n > SPOOL_CHUNK - at || i >= s->n_chunks || s->chunks[i] == NULL)
                return NULL;
        return s->chunks[i] + at;
}

static ssize_t
read_spool_source(struct byte_src *src, void *buf, size_t n)
{
        struct spool_src *s = (struct spool_src *)src;
        ssize_t got = spool_read(s->spool, buf, n, s->off);

        if (got > 0)
                s->off += (uint64_t)got;
        return got;
}

struct spool_src
spool_source(const struct spool *s)
{
        return (struct spool_src){ { read_spool_source }, s, 0 };
}
