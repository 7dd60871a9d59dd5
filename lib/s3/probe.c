/* Whether a bucket honours conditions, by which alone two writers are kept apart. */
#include <errno.h>
#include <stdio.h>

#include "base/monotonic.h"
#include "s3/s3.h"

/* What each request of a probe is made with. */
struct probe {
        struct s3 *s;
        const char *key;
        int64_t end_ms; /* CLOCK_MONOTONIC; 0: none */
};

/* Puts the object: 0, or -EEXIST if the condition does not hold. */
static int
put_probe(const struct probe *p, const char *condition, char ret_etag[S3_ETAG_SIZE], struct err *e)
{
        struct s3_call call = { .method = "PUT",
                                .purpose = S3_STORE,
                                .key = p->key,
                                .body = "litefs",
                                .body_size = 6,
                                .headers = { condition } };
        struct http_response rs;
        int r;

        if (p->end_ms != 0 && (call.timeout_ms = p->end_ms - monotonic_ms()) <= 0)
                return err_text(e, -ETIMEDOUT, "%s: no answer in time", p->s->url);
        r = s3_do(p->s, &call, &rs, e);

        if (r == 0)
                snprintf(ret_etag, S3_ETAG_SIZE, "%s", rs.text);
        return r;
}

static int
put_probe_if_match(const struct probe *p, const char *etag, char ret_etag[S3_ETAG_SIZE], struct err *e)
{
        char condition[S3_CONDITION_SIZE];

        s3_make_if_match(p->s, etag, condition);
        return put_probe(p, condition, ret_etag, e);
}

/* Whether it is put over what is there only, and how that has to be written. 1: neither way. */
static int
probe_if_match(const struct probe *p, struct err *e)
{
        static const char wrong[] = "\"0123456789abcdef0123456789abcdef\"";
        char etag[S3_ETAG_SIZE];
        int r = put_probe(p, NULL, etag, e);

        for (int unquoted = 0; unquoted < 2 && r == 0; unquoted++) {
                p->s->is_unquoted = unquoted == 1;
                r = put_probe_if_match(p, etag, etag, e);
                if (r == 0) {
                        r = put_probe_if_match(p, wrong, etag, e);
                        return r == -EEXIST ? 0 : r < 0 ? r : 1;
                }
                r = r == -EEXIST ? 0 : r;
        }
        return r < 0 ? r : 1;
}

/* The second of two must not be put; the first one need not be, for it may be there since another time. */
int
s3_probe(struct s3 *s, const char *key, int64_t timeout_ms, bool *ret_honours, struct err *e)
{
        static const char absent[] = "if-none-match: *";
        const struct probe p = { s, key, timeout_ms > 0 ? monotonic_ms() + timeout_ms : 0 };
        char etag[S3_ETAG_SIZE];
        int r = put_probe(&p, absent, etag, e);

        if (r == 0)
                r = put_probe(&p, absent, etag, e);
        r = r == -EEXIST ? probe_if_match(&p, e) : r == 0 ? 1 : r;
        if (r == -ENOTSUP) /* it says so */
                r = 1;
        if (r >= 0)
                *ret_honours = r == 0;
        return r < 0 ? r : 0;
}
