#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/backoff.h"
#include "base/monotonic.h"
#include "net/sigv4.h"
#include "s3/s3.h"

#define STALL_MS 30000 /* that nothing moves */
#define CONNECT_MS 10000
#define ANSWER_MAX (8u << 20) /* of a list of 1,000 keys, with room to spare */
#define ATTEMPTS 4
#define PAUSE_MS 200
#define PAUSE_MAX_MS 2000
#define ASK_AGAIN_MS 15000 /* for other keys, while those that there are still do */
#define URL_SIZE 8192
#define SIGNED_MAX 12 /* headers */

/* --- bodies --- */

static int
take_chunk(struct byte_sink *sink, const void *buf, size_t n)
{
        struct s3_chunk *c = (struct s3_chunk *)sink;

        if (n > c->capacity - c->n)
                return -EMSGSIZE;
        memcpy(c->buf + c->n, buf, n);
        c->n += n;
        return 0;
}

void
s3_chunk_init(struct s3_chunk *c, uint8_t *buf, size_t capacity)
{
        *c = (struct s3_chunk){ .sink.write = take_chunk, .buf = buf, .capacity = capacity };
}

/* A body in memory, as a source: then it is its standstill that counts, not how long it takes. */
struct body {
        struct byte_src src;
        const uint8_t *buf;
        size_t n, at;
};

static ssize_t
read_body(struct byte_src *src, void *buf, size_t n)
{
        struct body *b = (struct body *)src;

        if (n > b->n - b->at)
                n = b->n - b->at;
        memcpy(buf, b->buf + b->at, n);
        b->at += n;
        return (ssize_t)n;
}

static int
rewind_body(struct byte_src *src)
{
        ((struct body *)src)->at = 0;
        return 0;
}

/* --- one attempt --- */

struct signed_request {
        char path[URL_SIZE / 2], url[URL_SIZE];
        char date[SIGV4_DATE_SIZE], stamp[40];
        char authorization[SIGV4_AUTHORIZATION_SIZE];
        struct sigv4_header signed_headers[SIGNED_MAX];
        size_t n_signed;
        char lines[SIGNED_MAX + 1][4200];
        const char *headers[SIGNED_MAX + 6];
};

static int
make_s3_path(struct s3 *s, const struct s3_call *call, struct signed_request *q)
{
        char raw[S3_KEY_SIZE + 1024];
        int n = snprintf(raw, sizeof raw, "%s/%s%s", s->bucket, call->key != NULL ? s->prefix : "",
                         call->key != NULL ? call->key : "");
        const char *query = call->query != NULL ? call->query : "";

        if (n >= (int)sizeof raw || !sigv4_encode(raw, true, q->path, sizeof q->path))
                return -ENAMETOOLONG;
        n = snprintf(q->url, sizeof q->url, "%s%s%s%s", s->origin, q->path, query[0] != '\0' ? "?" : "",
                     query);
        return n < (int)sizeof q->url ? 0 : -ENAMETOOLONG;
}

static void
make_stamp(int64_t time_ms, char *ret, size_t size)
{
        time_t t = (time_t)(time_ms / 1000);
        struct tm tm;
        size_t n;

        gmtime_r(&t, &tm);
        n = strftime(ret, size, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(ret + n, size - n, ".%03dZ", (int)(time_ms % 1000));
}

static void
add_signed(struct signed_request *q, const char *name, const char *value)
{
        if (value[0] != '\0')
                q->signed_headers[q->n_signed++] = (struct sigv4_header){ name, value };
}

/* In the order of their names, in which they are signed. */
static void
list_signed(const struct s3 *s, const struct s3_call *call, const char *hash, struct signed_request *q)
{
        bool stores = call->purpose == S3_STORE;
        const char *customer_key = call->purpose != S3_OTHER ? s->customer_key : "";

        q->n_signed = 0;
        q->stamp[0] = '\0';
        if (call->time_ms > 0)
                make_stamp(call->time_ms, q->stamp, sizeof q->stamp);
        add_signed(q, "host", s->host);
        add_signed(q, "x-amz-content-sha256", hash);
        add_signed(q, "x-amz-date", q->date);
        add_signed(q, "x-amz-meta-litestream-timestamp", q->stamp);
        add_signed(q, "x-amz-security-token", s->keys.session_token);
        add_signed(q, "x-amz-server-side-encryption",
                   stores && s->kms_key_id[0] != '\0' ? "aws:kms" : "");
        add_signed(q, "x-amz-server-side-encryption-aws-kms-key-id", stores ? s->kms_key_id : "");
        add_signed(q, "x-amz-server-side-encryption-customer-algorithm",
                   customer_key[0] != '\0' ? "AES256" : "");
        add_signed(q, "x-amz-server-side-encryption-customer-key", customer_key);
        add_signed(q, "x-amz-server-side-encryption-customer-key-md5",
                   customer_key[0] != '\0' ? s->customer_key_md5 : "");
        add_signed(q, "x-amz-storage-class", stores ? s->storage_class : "");
}

static int
sign(struct s3 *s, const struct s3_call *call, const char *hash, struct signed_request *q)
{
        const struct sigv4_key key = { s->keys.access_key_id, s->keys.secret_access_key, s->region,
                                       "s3" };
        struct sigv4_request rq = { call->method,      q->path, call->query != NULL ? call->query : "",
                                    q->signed_headers, 0,       hash };
        size_t n = 0;
        int r;

        sigv4_date(clock_wall_ms(s->clock) + s->skew_ms, q->date);
        list_signed(s, call, hash, q);
        rq.n_headers = q->n_signed;
        r = sigv4_sign(&key, &rq, q->date, q->authorization);
        for (size_t i = 1; i < q->n_signed; i++, n++) { /* the host is curl's */
                snprintf(q->lines[n], sizeof q->lines[n], "%s: %s", q->signed_headers[i].name,
                         q->signed_headers[i].value);
                q->headers[n] = q->lines[n];
        }
        snprintf(q->lines[n], sizeof q->lines[n], "authorization: %s", q->authorization);
        q->headers[n] = q->lines[n];
        n++;
        for (size_t i = 0;
             i < sizeof call->headers / sizeof call->headers[0] && call->headers[i] != NULL; i++)
                q->headers[n++] = call->headers[i];
        q->headers[n++] = "content-type: application/octet-stream";
        q->headers[n] = NULL;
        return r;
}

static int
attempt(struct s3 *s, const struct s3_call *call, const char *hash, int64_t left_ms,
        struct signed_request *q, struct http_response *ret, struct err *e)
{
        struct body body = { { read_body }, call->body, call->body_size, 0 };
        struct http_request rq = { .method = call->method,
                                   .url = q->url,
                                   .timeout_ms = STALL_MS,
                                   .connect_timeout_ms = CONNECT_MS,
                                   .max_response_size = ANSWER_MAX,
                                   .headers = q->headers,
                                   .text_header = "ETag",
                                   .body_size = call->body_size,
                                   .sink = call->chunk != NULL ? &call->chunk->sink : NULL };
        int r = sign(s, call, hash, q);

        if (r < 0)
                return err_set(e, r, "sign a request to %s", s->url);
        if (call->chunk != NULL)
                call->chunk->n = 0;
        if (call->timeout_ms > 0) {
                rq.timeout_ms = rq.connect_timeout_ms = left_ms;
                rq.body = call->body;
                rq.is_sent_once = strcmp(call->method, "GET") != 0;
        } else if (call->body_size > 0) {
                rq.source = &body.src;
                rq.rewind = rewind_body;
        }
        r = http_client_do(s->http, &rq, ret, e);
        if (r == 0 && s->sent_bytes != NULL)
                atomic_fetch_add(s->sent_bytes, call->body_size);
        return r;
}

/* --- what came of it --- */

static int
code_of_status(int status)
{
        if (status >= 200 && status < 300)
                return 0;
        switch (status) {
        case 403:
        case 401:
                return -EACCES;
        case 404:
                return E_NOT_FOUND;
        case 412:
                return -EEXIST;
        case 416:
                return -ERANGE;
        case 501:
                return -ENOTSUP;
        default:
                return status < 500 && status != 429 && status != 408 && status != 409 ? -EINVAL : -EIO;
        }
}

/* In the server's words, which it may have none of. */
static int
check_answer(struct s3 *s, const struct s3_call *call, const struct http_response *rs, struct err *e)
{
        char code[64] = "", message[200] = "";
        int r = code_of_status(rs->status);

        if (r == 0)
                return 0;
        (void)s3_xml_find(rs->body, rs->body_size, "Code", code, sizeof code);
        (void)s3_xml_find(rs->body, rs->body_size, "Message", message, sizeof message);
        if (strcmp(code, "NoSuchBucket") == 0)
                r = -ENXIO;
        if (strcmp(code, "ExpiredToken") == 0 || strcmp(code, "InvalidAccessKeyId") == 0) {
                s->are_keys_refused = true;
                s->keys.expires_ms = 1; /* there may be new ones */
        }
        if (strcmp(code, "RequestTimeTooSkewed") == 0 && rs->date_s > 0)
                s->skew_ms = rs->date_s * 1000 - clock_wall_ms(s->clock);
        return err_text(e, r, "%s: %s %s: %d %s%s%s", s->url, call->method,
                        call->key != NULL ? call->key : "the bucket", rs->status, code,
                        message[0] != '\0' ? ": " : "", message);
}

/* Whether it may go well the next time. What was put may be there already then, which the caller finds out. */
static bool
is_transient(int r, const struct http_response *rs, int64_t old_skew_ms, int64_t skew_ms)
{
        if (r == -ECANCELED || r == -ENOTSUP || r == -ENOMEM || r == -EMSGSIZE || r == -EPROTO ||
            r == -ENAMETOOLONG)
                return false;
        if (r == -EACCES)
                return old_skew_ms != skew_ms;
        return rs->status == 0 || r == -EIO;
}

int
s3_find_keys(struct s3 *s, int64_t timeout_ms, struct err *e)
{
        struct aws_keys keys;
        int r = aws_keys_find(&s->sources, timeout_ms, &keys, e);

        s->asked_ms = monotonic_ms();
        if (r == 0)
                s->keys = keys;
        explicit_bzero(&keys, sizeof keys);
        return r;
}

/* Before they run out; while they have not, no error of asking for others counts, and a service that is in trouble is not
 * asked with each request, nor for more than half of what is left of it. */
static int
renew_keys(struct s3 *s, int64_t left_ms, struct err *e)
{
        int64_t now_ms = clock_wall_ms(s->clock);
        bool are_valid = aws_keys_are_valid(&s->keys, now_ms);
        int r;

        if (!aws_keys_are_due(&s->keys, now_ms))
                return 0;
        if (are_valid && s->asked_ms != 0 && monotonic_ms() - s->asked_ms < ASK_AGAIN_MS)
                return 0;
        r = s3_find_keys(s, are_valid ? (left_ms + 1) / 2 : left_ms, e);
        return r < 0 && !are_valid ? r : 0;
}

static void
pause_ms(int64_t ms)
{
        struct timespec ts = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };

        nanosleep(&ts, NULL);
}

/* What is left of the call's time, in *@ret; 0 when it has none. */
static int
check_time(const struct s3 *s, const struct s3_call *call, int64_t begin_ms, int64_t *ret, struct err *e)
{
        *ret = 0;
        if (call->timeout_ms == 0)
                return 0;
        *ret = begin_ms + call->timeout_ms - monotonic_ms();
        return *ret > 0 ? 0
                        : err_text(e, -ETIMEDOUT, "%s: no answer within %lld ms", s->url,
                                   (long long)call->timeout_ms);
}

int
s3_do(struct s3 *s, const struct s3_call *call, struct http_response *ret, struct err *e)
{
        struct signed_request *q = malloc(sizeof *q);
        char hash[SIGV4_HASH_SIZE];
        struct backoff backoff;
        struct err why = ERR_INIT;
        bool were_refused = false;
        int64_t begin_ms = monotonic_ms(), left_ms;
        int r = q == NULL ? -ENOMEM : make_s3_path(s, call, q);

        if (r < 0) {
                free(q);
                return err_set(e, r, "%s", s->url);
        }
        sigv4_hash(call->body != NULL ? call->body : "", call->body_size, hash);
        backoff_init(&backoff, PAUSE_MS, PAUSE_MAX_MS, (uint64_t)clock_wall_ms(s->clock) ^ (uintptr_t)q);
        for (int i = 0; i < ATTEMPTS; i++) {
                int64_t skew_ms = s->skew_ms;

                if (atomic_load(&s->is_cancelled)) {
                        r = err_set(&why, -ECANCELED, "%s", s->url);
                        break;
                }
                *ret = (struct http_response){ 0 };
                s->are_keys_refused = false;
                r = check_time(s, call, begin_ms, &left_ms, &why);
                if (r == 0 && (r = renew_keys(s, left_ms, &why)) < 0)
                        err_prefix(&why, "%s", s->url);
                if (r == 0)
                        r = check_time(s, call, begin_ms, &left_ms, &why);
                if (r < 0)
                        break;
                r = attempt(s, call, hash, left_ms, q, ret, &why);
                if (r == 0)
                        r = check_answer(s, call, ret, &why);
                /* With other keys it goes once more; if those are refused, too, there are none. */
                if (r < 0 && s->are_keys_refused && !were_refused) {
                        were_refused = true;
                        continue;
                }
                if (r == 0 || !is_transient(r, ret, skew_ms, s->skew_ms))
                        break;
                if (r == -EACCES) /* by the server's time it goes at once */
                        continue;
                if (call->timeout_ms > 0)
                        break;
                if (i + 1 < ATTEMPTS)
                        pause_ms(backoff_next_ms(&backoff));
        }
        free(q);
        if (r < 0 && e != NULL)
                *e = why;
        return r;
}

void
s3_make_if_match(const struct s3 *s, const char *etag, char ret[S3_CONDITION_SIZE])
{
        size_t n = strlen(etag);

        if (s->is_unquoted && n >= 2 && etag[0] == '"' && etag[n - 1] == '"')
                snprintf(ret, S3_CONDITION_SIZE, "if-match: %.*s", (int)n - 2, etag + 1);
        else
                snprintf(ret, S3_CONDITION_SIZE, "if-match: %s", etag);
}
