/* A bucket as a destination: its names, what it can do, and where it is. Objects: s3_put.c, s3_get.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/s3.h"

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

/* Puts the object that the probe is made with: 0, or -EEXIST if the condition does not hold. */
static int
put_probe(struct s3 *s, const char *condition, char ret_etag[DEST_ETAG_SIZE], struct err *e)
{
        struct s3_call call = { .method = "PUT",
                                .key = S3_PROBE,
                                .body = "litefs",
                                .body_size = 6,
                                .headers = { condition } };
        struct http_response rs;
        int r = s3_do(s, &call, &rs, e);

        if (r == 0)
                snprintf(ret_etag, DEST_ETAG_SIZE, "%s", rs.text);
        return r;
}

static int
put_probe_if_match(struct s3 *s, const char *etag, char ret_etag[DEST_ETAG_SIZE], struct err *e)
{
        char condition[DEST_ETAG_SIZE + 32];

        s3_make_if_match(s, etag, condition, sizeof condition);
        return put_probe(s, condition, ret_etag, e);
}

/* Whether it is put over what is there only, and how that has to be written. 1: neither way. */
static int
probe_if_match(struct s3 *s, struct err *e)
{
        static const char wrong[] = "\"0123456789abcdef0123456789abcdef\"";
        char etag[DEST_ETAG_SIZE];
        int r = put_probe(s, NULL, etag, e);

        for (int unquoted = 0; unquoted < 2 && r == 0; unquoted++) {
                s->is_unquoted = unquoted == 1;
                r = put_probe_if_match(s, etag, etag, e);
                if (r == 0) {
                        r = put_probe_if_match(s, wrong, etag, e);
                        return r == -EEXIST ? 0 : r < 0 ? r : 1;
                }
                r = r == -EEXIST ? 0 : r;
        }
        return r < 0 ? r : 1;
}

/* The second of two must not be put; the first one need not be, for it may be there since another time. */
static int
s3_probe(struct dest *dest, struct err *e)
{
        static const char absent[] = "if-none-match: *";
        struct s3 *s = s3_of(dest);
        char etag[DEST_ETAG_SIZE];
        int r = put_probe(s, absent, etag, e);

        if (r == 0)
                r = put_probe(s, absent, etag, e);
        if (r < 0 && r != -EEXIST)
                return r;
        if (r == -EEXIST)
                r = probe_if_match(s, e);
        else
                r = 1;
        if (r >= 0)
                atomic_store(&dest->ignores_conditions, r == 1);
        return r < 0 ? r : 0;
}

static void
s3_cancel(struct dest *dest)
{
        struct s3 *s = s3_of(dest);

        atomic_store(&s->is_cancelled, true);
        http_client_cancel(s->http);
}

static void
s3_free(struct dest *dest)
{
        struct s3 *s = s3_of(dest);

        http_client_free(s->http);
        explicit_bzero(&s->given, sizeof s->given);
        explicit_bzero(&s->keys, sizeof s->keys);
        free(s);
}

static bool
copy_option(char *to, size_t size, const char *from)
{
        return snprintf(to, size, "%s", from != NULL ? from : "") < (int)size;
}

/* "BUCKET/PREFIX" behind s3://, up to a "?". */
static int
split_s3_url(struct s3 *s, const char *url, char bucket[256], struct err *e)
{
        size_t n = strcspn(url, "?"), b = strcspn(url, "/?"), from = b;

        while (from < n && url[from] == '/')
                from++;
        while (n > from && url[n - 1] == '/')
                n--;
        if (b == 0 || b >= 256 || n - from + 2 > sizeof s->prefix)
                return err_text(e, E_CONFIG, "s3://%s: want s3://BUCKET/PREFIX", url);
        snprintf(bucket, 256, "%.*s", (int)b, url);
        snprintf(s->prefix, sizeof s->prefix, "%.*s%s", (int)(n - from), url + from,
                 n > from ? "/" : "");
        snprintf(s->base.url, sizeof s->base.url, "s3://%s%s%.*s", bucket, n > from ? "/" : "",
                 (int)(n - from), url + from);
        return 0;
}

static int
set_origin(struct s3 *s, const char *bucket, const char *endpoint, bool is_path_style, struct err *e)
{
        struct http_url url;
        size_t n;
        int r = 0;

        if (endpoint[0] == '\0') {
                is_path_style = is_path_style ||
                                strchr(bucket, '.') != NULL; /* no certificate is for that */
                snprintf(s->host, sizeof s->host, "%s%ss3.%s.amazonaws.com", is_path_style ? "" : bucket,
                         is_path_style ? "" : ".", s->region);
                snprintf(s->origin, sizeof s->origin, "https://%s", s->host);
        } else {
                is_path_style = true;
                r = http_url_parse(endpoint, &url, e);
                if (r < 0)
                        return err_prefix(e, "backup endpoint %s", endpoint);
                snprintf(s->origin, sizeof s->origin, "%s", url.base);
                /* A default port is not sent. */
                n = strlen(s->origin);
                if (strncmp(s->origin, "https", 5) == 0 && n > 4 &&
                    strcmp(s->origin + n - 4, ":443") == 0)
                        s->origin[n - 4] = '\0';
                if (strncmp(s->origin, "http:", 5) == 0 && n > 3 &&
                    strcmp(s->origin + n - 3, ":80") == 0)
                        s->origin[n - 3] = '\0';
                if (!copy_option(s->host, sizeof s->host, strstr(s->origin, "://") + 3))
                        return err_set(e, -ENAMETOOLONG, "%s", endpoint);
        }
        snprintf(s->bucket, sizeof s->bucket, "%s%.250s", is_path_style ? "/" : "",
                 is_path_style ? bucket : "");
        return 0;
}

/* The value of `name=` in a URL's query, percent-decoded; or @other. */
static const char *
from_query(const char *url, const char *name, const char *other, char *buf, size_t size)
{
        const char *p = strchr(url, '?');
        size_t n = strlen(name), out = 0;

        for (; p != NULL; p = strchr(p, '&')) {
                p++;
                if (strncmp(p, name, n) != 0 || p[n] != '=')
                        continue;
                for (p += n + 1; *p != '\0' && *p != '&' && out + 1 < size; p++) {
                        unsigned byte;

                        if (*p == '%' && sscanf(p + 1, "%2x", &byte) == 1) {
                                buf[out++] = (char)byte;
                                p += 2;
                        } else {
                                buf[out++] = *p;
                        }
                }
                buf[out] = '\0';
                return buf;
        }
        return other != NULL ? other : "";
}

/* Keys that are wrong, or nowhere, are told now; a service that is to have them need not answer yet: a backup that cannot go
 * out now keeps nobody from opening his database. */
static int
look_for_keys(struct s3 *s, const struct aws_sources *sources, struct err *e)
{
        static const struct aws_sources none = { "", "", "", "", "", "",   "", "",  "",
                                                 "", "", "", "", "", true, "", NULL };
        struct err why = ERR_INIT;
        int r = 0;

        s->sources = sources != NULL ? *sources : none;
        s->sources.access_key_id = s->given.access_key_id;
        s->sources.secret_access_key = s->given.secret_access_key;
        s->sources.session_token = s->given.session_token;
        s->sources.is_cancelled = &s->is_cancelled;
        if (aws_keys_are_at_hand(&s->sources) || !aws_keys_are_set_up(&s->sources))
                r = s3_find_keys(s, &why);
        if (r < 0)
                err_prefix(&why, "%s", s->base.url);
        if (r == E_CONFIG || r == -EACCES) {
                if (e != NULL)
                        *e = why;
                return r;
        }
        s->base.not_ready = why;
        return 0;
}

static int
set_up_s3(struct s3 *s, const char *url, const struct dest_s3_options *o, struct err *e)
{
        struct http_client_options http = { .ca = o->ca, .is_cancellable = true };
        char bucket[256], endpoint[512], region[64], style[16];
        int r = split_s3_url(s, url, bucket, e);

        if (r < 0)
                return r;
        if (!copy_option(s->given.access_key_id, sizeof s->given.access_key_id, o->access_key_id) ||
            !copy_option(s->given.secret_access_key, sizeof s->given.secret_access_key,
                         o->secret_access_key) ||
            !copy_option(s->given.session_token, sizeof s->given.session_token, o->session_token) ||
            !copy_option(s->region, sizeof s->region,
                         from_query(url, "region", o->region, region, sizeof region)))
                return err_set(e, -ENAMETOOLONG, "%s: key, token or region", s->base.url);
        r = look_for_keys(s, o->sources, e);
        if (r < 0)
                return r;
        if (s->region[0] == '\0')
                copy_option(s->region, sizeof s->region, "us-east-1");
        r = set_origin(
                s, bucket, from_query(url, "endpoint", o->endpoint, endpoint, sizeof endpoint),
                o->is_path_style ||
                        strcmp(from_query(url, "forcePathStyle", "", style, sizeof style), "true") == 0,
                e);
        return r < 0 ? r : http_client_new(&http, &s->http, e);
}

int
dest_s3_open(const char *url, const struct dest_s3_options *options, struct dest **ret, struct err *e)
{
        static const struct dest_ops ops = {
                .put_begin = s3_put_begin,
                .put_finish = s3_put_finish,
                .put_abort = s3_put_abort,
                .get_begin = s3_get_begin,
                .get_end = s3_get_end,
                .list = s3_list,
                .remove = s3_remove,
                .probe = s3_probe,
                .cancel = s3_cancel,
                .free = s3_free,
        };
        struct s3 *s;
        int r;

        if (strncmp(url, "s3://", 5) != 0)
                return err_text(e, E_CONFIG, "%s: want s3://BUCKET/PREFIX", url);
        s = calloc(1, sizeof *s);
        if (s == NULL)
                return err_set(e, -ENOMEM, "%s", url);
        s->base.ops = &ops;
        s->base.layout = BACKUP_IN_BUCKET;
        s->clock = options->clock;
        r = set_up_s3(s, url + 5, options, e);
        if (r < 0) {
                s3_free(&s->base);
                return r;
        }
        *ret = &s->base;
        return 0;
}
