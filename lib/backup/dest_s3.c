/* A bucket as a destination: its names, what it can do, and where it is. Objects: s3_put.c, s3_get.c, s3_remove.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/dest_s3.h"
#include "net/sigv4.h"

#define PROBE_NAME "litefs.probe"

/* --- list, remove --- */

struct listing {
        size_t skip; /* of a key, before the name */
        dest_list_fn fn;
        void *arg;
};

static int
list_key(void *arg, const char *key, uint64_t size_bytes, int64_t time_ms)
{
        struct listing *l = arg;

        return strlen(key) > l->skip ? l->fn(l->arg, key + l->skip, size_bytes, time_ms) : 0;
}

static int
s3_list(struct dest *dest, const char *place, dest_list_fn fn, void *arg, struct err *e)
{
        struct s3 *s = s3_of(dest);
        char prefix[DEST_KEY_SIZE + sizeof s->prefix], encoded[S3_QUERY_SIZE / 2], token[1024] = "";
        char encoded_token[1536], query[S3_QUERY_SIZE], truncated[8];
        struct s3_call call = { .method = "GET", .query = query };
        struct listing l = { .fn = fn, .arg = arg };
        struct http_response rs;
        int r;

        l.skip = (size_t)snprintf(prefix, sizeof prefix, "%s%s%s", s->prefix, place,
                                  place[0] != '\0' ? "/" : "");
        if (!sigv4_encode(prefix, false, encoded, sizeof encoded))
                return err_set(e, -ENAMETOOLONG, "%s: list %s", dest->url, place);
        do {
                if (!sigv4_encode(token, false, encoded_token, sizeof encoded_token))
                        return err_set(e, -EMSGSIZE, "%s: list %s", dest->url, place);
                snprintf(query, sizeof query, "%s%s%slist-type=2&prefix=%s",
                         token[0] != '\0' ? "continuation-token=" : "", encoded_token,
                         token[0] != '\0' ? "&" : "", encoded);
                r = s3_do(s, &call, &rs, e);
                if (r < 0)
                        return r;
                r = s3_xml_list(rs.body, rs.body_size, list_key, &l);
                if (r < 0)
                        return r == E_FORMAT ? err_set(e, r, "%s: list %s", dest->url, place) : r;
                token[0] = '\0';
                if (s3_xml_find(rs.body, rs.body_size, "IsTruncated", truncated, sizeof truncated) &&
                    strcmp(truncated, "true") == 0 &&
                    !s3_xml_find(rs.body, rs.body_size, "NextContinuationToken", token, sizeof token))
                        return err_set(e, E_FORMAT, "%s: list %s: the next page", dest->url, place);
        } while (token[0] != '\0');
        return 0;
}

static int
s3_remove(struct dest *dest, const char *key, struct err *e)
{
        struct s3_call call = { .method = "DELETE", .key = key };
        struct http_response rs;

        return s3_do(s3_of(dest), &call, &rs, e);
}

/* --- the bucket --- */

static int
s3_probe_dest(struct dest *dest, struct err *e)
{
        bool honours = false;
        int r = s3_probe(s3_of(dest), PROBE_NAME, 0, &honours, e);

        if (r == 0)
                atomic_store(&dest->ignores_conditions, !honours);
        return r;
}

static void
s3_cancel_dest(struct dest *dest)
{
        s3_cancel(s3_of(dest));
}

static void
s3_free(struct dest *dest)
{
        s3_release(s3_of(dest));
        free(dest);
}

int
dest_s3_open(const char *url, const struct s3_options *options, struct dest **ret, struct err *e)
{
        static const struct dest_ops ops = {
                .put_begin = s3_put_begin,
                .put_finish = s3_put_finish,
                .put_abort = s3_put_abort,
                .get_begin = s3_get_begin,
                .get_end = s3_get_end,
                .list = s3_list,
                .remove = s3_remove,
                .remove_all = s3_remove_all,
                .probe = s3_probe_dest,
                .cancel = s3_cancel_dest,
                .free = s3_free,
        };
        struct dest_s3 *d = calloc(1, sizeof *d);
        int r;

        if (d == NULL)
                return err_set(e, -ENOMEM, "%s", url);
        d->base.ops = &ops;
        d->base.layout = BACKUP_IN_BUCKET;
        d->s3.sent_bytes = &d->base.counters.sent_bytes;
        r = s3_init(&d->s3, url, options, e);
        if (r < 0) {
                s3_free(&d->base);
                return r;
        }
        memcpy(d->base.url, d->s3.url, sizeof d->base.url);
        d->base.not_ready = d->s3.not_ready;
        *ret = &d->base;
        return 0;
}
