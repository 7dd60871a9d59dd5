/* Objects that come out of a bucket, piece by piece. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/dest_s3.h"

#define PIECE_SIZE (8u << 20)

struct s3_get {
        struct dest_get base;
        char key[DEST_KEY_SIZE];
        uint64_t off, left;
        uint8_t *buf;
        struct s3_chunk chunk;
        size_t at;
        bool is_end;
};

/* 0, also at the end, where there is nothing in it. */
static int
next_piece(struct s3_get *g, struct err *e)
{
        size_t want = g->left < PIECE_SIZE ? (size_t)g->left : PIECE_SIZE;
        char range[80];
        struct s3_call call = { .method = "GET",
                                .purpose = S3_READ,
                                .key = g->key,
                                .headers = { range },
                                .chunk = &g->chunk };
        struct http_response rs;
        int r;

        snprintf(range, sizeof range, "range: bytes=%llu-%llu", (unsigned long long)g->off,
                 (unsigned long long)(g->off + want - 1));
        g->at = g->chunk.n = 0;
        if (want == 0)
                return 0;
        r = s3_do(s3_of(g->base.dest), &call, &rs, e);
        if (r == -ERANGE) { /* it ended where the last piece did */
                g->chunk.n = 0;
                g->is_end = true;
                return 0;
        }
        if (r < 0)
                return r;
        if (rs.status == 200) /* without a range it was all of it */
                g->is_end = true;
        if (g->off == 0)
                snprintf(g->base.etag, sizeof g->base.etag, "%s", rs.text);
        g->off += g->chunk.n;
        g->left -= g->chunk.n;
        g->is_end |= g->chunk.n < want || g->left == 0;
        atomic_fetch_add(&g->base.dest->counters.received_bytes, g->chunk.n);
        return 0;
}

static ssize_t
s3_read(struct byte_src *src, void *buf, size_t n)
{
        struct s3_get *g = (struct s3_get *)src;
        int r = 0;

        if (g->at == g->chunk.n && !g->is_end)
                r = next_piece(g, NULL);
        if (r < 0)
                return r;
        if (n > g->chunk.n - g->at)
                n = g->chunk.n - g->at;
        memcpy(buf, g->buf + g->at, n);
        g->at += n;
        return (ssize_t)n;
}

void
s3_get_end(struct dest_get *get)
{
        struct s3_get *g = (struct s3_get *)get;

        free(g->buf);
        free(g);
}

int
s3_get_begin(struct dest *dest, const char *key, uint64_t off, uint64_t max_bytes, struct dest_get **ret,
             struct err *e)
{
        struct s3_get *g = calloc(1, sizeof *g);
        size_t capacity = max_bytes != 0 && max_bytes < PIECE_SIZE ? (size_t)max_bytes : PIECE_SIZE;
        int r;

        if (g == NULL || (g->buf = malloc(capacity)) == NULL) {
                free(g);
                return err_set(e, -ENOMEM, "%s: read %s", dest->url, key);
        }
        g->base.src.read = s3_read;
        g->base.dest = dest;
        g->off = off;
        g->left = max_bytes != 0 ? max_bytes : UINT64_MAX;
        snprintf(g->key, sizeof g->key, "%s", key);
        s3_chunk_init(&g->chunk, g->buf, capacity);
        r = next_piece(g, e);
        if (r < 0) {
                s3_get_end(&g->base);
                return r;
        }
        *ret = &g->base;
        return 0;
}
