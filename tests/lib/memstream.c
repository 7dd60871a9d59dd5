#include "tests/lib/memstream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int
sink_write(struct byte_sink *sink, const void *buf, size_t n)
{
        struct mem_sink *s = (struct mem_sink *)sink;

        if (n > s->limit - s->n)
                return -ENOSPC;
        if (s->n + n > s->capacity) {
                s->capacity = (s->n + n) * 2;
                s->data = realloc(s->data, s->capacity);
                if (s->data == NULL)
                        abort();
        }
        if (n > 0)
                memcpy(s->data + s->n, buf, n);
        s->n += n;
        return 0;
}

void
mem_sink_init(struct mem_sink *s)
{
        *s = (struct mem_sink){ .sink.write = sink_write, .limit = SIZE_MAX };
}

void
mem_sink_release(struct mem_sink *s)
{
        free(s->data);
        mem_sink_init(s);
}

static ssize_t
src_read(struct byte_src *src, void *buf, size_t n)
{
        struct mem_src *s = (struct mem_src *)src;

        if (s->off == s->n)
                return s->error;
        if (n > s->chunk)
                n = s->chunk;
        if (n > s->n - s->off)
                n = s->n - s->off;
        memcpy(buf, s->data + s->off, n);
        s->off += n;
        return (ssize_t)n;
}

void
mem_src_init(struct mem_src *s, const void *data, size_t n)
{
        *s = (struct mem_src){ .src.read = src_read, .data = data, .n = n, .chunk = SIZE_MAX };
}

ssize_t
mem_file_pread(void *arg, void *buf, size_t n, uint64_t off)
{
        const struct mem_file *f = arg;

        if (f->fail_from > 0 && off + n > f->fail_from)
                return -EIO;
        if (off >= f->n)
                return 0;
        if (n > f->n - off)
                n = (size_t)(f->n - off);
        memcpy(buf, f->data + off, n);
        return (ssize_t)n;
}
