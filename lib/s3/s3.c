/* A bucket's client: where the bucket is, and by which keys it is asked. */
#include "s3/s3.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "net/sigv4.h"

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
                return err_text(e, E_CONFIG, "s3://%.*s: want s3://BUCKET/PREFIX", (int)n, url);
        snprintf(bucket, 256, "%.*s", (int)b, url);
        snprintf(s->prefix, sizeof s->prefix, "%.*s%s", (int)(n - from), url + from,
                 n > from ? "/" : "");
        snprintf(s->url, sizeof s->url, "s3://%s%s%.*s", bucket, n > from ? "/" : "", (int)(n - from),
                 url + from);
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
                if (r < 0) {
                        err_prefix(e, "endpoint %s", endpoint);
                        return r;
                }
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
        static const struct aws_sources none = { "", "", "", "", "",   "", "", "",   "", "",
                                                 "", "", "", "", true, "", "", NULL, 0 };
        struct err why = ERR_INIT;
        int r = 0;

        s->sources = sources != NULL ? *sources : none;
        s->sources.access_key_id = s->given.access_key_id;
        s->sources.secret_access_key = s->given.secret_access_key;
        s->sources.session_token = s->given.session_token;
        s->sources.is_cancelled = &s->is_cancelled;
        if (aws_keys_are_at_hand(&s->sources) || !aws_keys_are_set_up(&s->sources))
                r = s3_find_keys(s, 0, &why);
        if (r < 0)
                err_prefix(&why, "%s", s->url);
        if (r == E_CONFIG || r == -EACCES) {
                if (e != NULL)
                        *e = why;
                return r;
        }
        s->not_ready = why;
        return 0;
}

static int
set_customer_key(struct s3 *s, const char *text, struct err *e)
{
        uint8_t key[32], extra[33];
        int n = text != NULL && text[0] != '\0' ? base64_decode(text, extra, sizeof extra) : 0;

        if (n == 0)
                return 0;
        if (n != sizeof key || !copy_option(s->customer_key, sizeof s->customer_key, text))
                return err_text(
                        e, E_CONFIG,
                        "the key of server-side encryption is not 32 bytes in base64: make one by "
                        "`openssl rand -base64 32`");
        memcpy(key, extra, sizeof key);
        sigv4_md5(key, sizeof key, s->customer_key_md5);
        explicit_bzero(key, sizeof key);
        explicit_bzero(extra, sizeof extra);
        return s->customer_key_md5[0] != '\0'
                       ? 0
                       : err_text(
                                 e, E_CONFIG,
                                 "encryption with a customer's key needs an MD5, which OpenSSL does not "
                                 "have here");
}

/* How objects are kept there. */
static int
set_storage(struct s3 *s, const char *url, const struct s3_options *o, struct err *e)
{
        char buf[512];
        int r;

        if (!copy_option(s->storage_class, sizeof s->storage_class,
                         from_query(url, "storageClass", o->storage_class, buf, sizeof buf)) ||
            !copy_option(s->kms_key_id, sizeof s->kms_key_id,
                         from_query(url, "sseKmsKeyId", o->kms_key_id, buf, sizeof buf)))
                return err_set(e, -ENAMETOOLONG, "%s: storage class or key of encryption", s->url);
        r = set_customer_key(s, from_query(url, "sseCustomerKey", o->customer_key, buf, sizeof buf), e);
        explicit_bzero(buf, sizeof buf);
        if (r == 0 && s->kms_key_id[0] != '\0' && s->customer_key[0] != '\0')
                r = err_text(e, E_CONFIG, "two keys of server-side encryption: leave one out");
        if (r < 0)
                err_prefix(e, "%s", s->url);
        return r;
}

static int
set_up_s3(struct s3 *s, const char *url, const struct s3_options *o, struct err *e)
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
                return err_set(e, -ENAMETOOLONG, "%s: key, token or region", s->url);
        r = set_storage(s, url, o, e);
        if (r == 0)
                r = look_for_keys(s, o->sources, e);
        if (r < 0)
                return r;
        if (s->region[0] == '\0' && o->sources != NULL) {
                r = aws_find_region(&s->sources, s->region, sizeof s->region, e);
                if (r < 0) {
                        err_prefix(e, "%s", s->url);
                        return r;
                }
        }
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
s3_init(struct s3 *s, const char *url, const struct s3_options *options, struct err *e)
{
        if (strncmp(url, "s3://", 5) != 0)
                return err_text(e, E_CONFIG, "%.*s: want s3://BUCKET/PREFIX", (int)strcspn(url, "?"),
                                url);
        s->clock = options->clock;
        return set_up_s3(s, url + 5, options, e);
}

void
s3_release(struct s3 *s)
{
        http_client_free(s->http);
        explicit_bzero(&s->given, sizeof s->given);
        explicit_bzero(&s->keys, sizeof s->keys);
        explicit_bzero(s->customer_key, sizeof s->customer_key);
}

void
s3_cancel(struct s3 *s)
{
        atomic_store(&s->is_cancelled, true);
        http_client_cancel(s->http);
}
