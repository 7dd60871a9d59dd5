#include "backup/dest.h"

#include <errno.h>
#include <stdio.h>

static int
count_request(struct dest *d, int r)
{
        atomic_fetch_add(&d->counters.n_requests, 1);
        /* What was only asked is no error. */
        if (r < 0 && r != E_NOT_FOUND && r != -EEXIST && r != -ESTALE)
                atomic_fetch_add(&d->counters.n_errors, 1);
        return r;
}

int
dest_key(const char *place, const char *name, char ret[DEST_KEY_SIZE])
{
        int n = snprintf(ret, DEST_KEY_SIZE, "%s%s%s", place, place[0] != '\0' ? "/" : "", name);

        return n < DEST_KEY_SIZE ? 0 : -ENAMETOOLONG;
}

int
dest_put_begin(struct dest *d, const char *key, const struct dest_put_options *options,
               struct dest_put **ret, struct err *e)
{
        int r = d->ops->put_begin(d, key, options, ret, e);

        return r < 0 ? count_request(d, r) : r;
}

int
dest_put_finish(struct dest_put *p, char ret_etag[DEST_ETAG_SIZE], struct err *e)
{
        struct dest *d = p->dest;

        return count_request(d, d->ops->put_finish(p, ret_etag, e));
}

void
dest_put_abort(struct dest_put *p)
{
        p->dest->ops->put_abort(p);
}

int
dest_get_begin(struct dest *d, const char *key, uint64_t off, uint64_t max_bytes, struct dest_get **ret,
               struct err *e)
{
        return count_request(d, d->ops->get_begin(d, key, off, max_bytes, ret, e));
}

void
dest_get_end(struct dest_get *g)
{
        if (g != NULL)
                g->dest->ops->get_end(g);
}

int
dest_list(struct dest *d, const char *place, dest_list_fn fn, void *arg, struct err *e)
{
        return count_request(d, d->ops->list(d, place, fn, arg, e));
}

int
dest_remove(struct dest *d, const char *key, struct err *e)
{
        int r = count_request(d, d->ops->remove(d, key, e));

        return r == E_NOT_FOUND ? 0 : r;
}

int
dest_remove_all(struct dest *d, char (*keys)[DEST_KEY_SIZE], size_t n, struct err *e)
{
        int r = -ENOTSUP;

        if (n > 1 && d->ops->remove_all != NULL)
                r = d->ops->remove_all(d, keys, n, e);
        if (r != -ENOTSUP)
                return count_request(d, r);
        r = 0;
        for (size_t i = 0; i < n && r == 0; i++)
                r = dest_remove(d, keys[i], e);
        return r;
}

int
dest_probe(struct dest *d, struct err *e)
{
        return d->ops->probe != NULL ? d->ops->probe(d, e) : 0;
}

void
dest_cancel(struct dest *d)
{
        if (d->ops->cancel != NULL)
                d->ops->cancel(d);
}

void
dest_free(struct dest *d)
{
        if (d != NULL)
                d->ops->free(d);
}

ssize_t
dest_read(struct dest *d, const char *key, char *buf, size_t size, char ret_etag[DEST_ETAG_SIZE],
          struct err *e)
{
        struct dest_get *g = NULL;
        ssize_t n;
        int r = dest_get_begin(d, key, 0, 0, &g, e);

        if (r < 0)
                return r;
        n = byte_src_read_all(&g->src, buf, size);
        if (n < 0)
                err_set(e, (int)n, "read %s/%s", d->url, key);
        else if ((size_t)n == size)
                n = err_set(e, -EMSGSIZE, "read %s/%s", d->url, key);
        else
                buf[n] = '\0';
        snprintf(ret_etag, DEST_ETAG_SIZE, "%s", g->etag);
        dest_get_end(g);
        return n;
}

int
dest_write(struct dest *d, const char *key, const struct dest_put_options *options, const void *buf,
           size_t n, char ret_etag[DEST_ETAG_SIZE], struct err *e)
{
        struct dest_put *p = NULL;
        int r = dest_put_begin(d, key, options, &p, e);

        if (r < 0)
                return r;
        r = p->sink.write(&p->sink, buf, n);
        if (r < 0) {
                dest_put_abort(p);
                return err_set(e, r, "write %s/%s", d->url, key);
        }
        return dest_put_finish(p, ret_etag, e);
}
