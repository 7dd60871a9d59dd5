/* lib/backup/s3.h - requests to a bucket, and its answers in XML; for dest_s3.c and s3_*.c. */
#ifndef LITEFS_BACKUP_S3_H
#define LITEFS_BACKUP_S3_H

#include "backup/aws_keys.h"
#include "backup/dest.h"
#include "net/http_client.h"
#include "net/sigv4.h"

#define S3_QUERY_SIZE 4096
#define S3_PROBE "litefs.probe"

struct s3 {
        struct dest base;
        const struct clock *clock;
        struct http_client *http;
        atomic_bool is_cancelled;
        char origin[512]; /* "https://host:port" */
        char host[400];   /* as it is sent */
        char bucket[256]; /* "/BUCKET" in the path, or "" when it is in the host */
        char prefix[512]; /* of all keys, with its slash; or "" */
        char region[64];
        struct aws_sources sources; /* its given keys are those of `given` */
        struct aws_keys given, keys;
        int64_t asked_ms;      /* for keys the last time, CLOCK_MONOTONIC; 0: never */
        bool are_keys_refused; /* by the last answer: they are old, or gone */
        bool is_unquoted;      /* its If-Match wants an ETag without quotes */
        int64_t skew_ms;       /* of the server's clock to ours, when it has complained */
};

static inline struct s3 *
s3_of(struct dest *d)
{
        return (struct s3 *)d;
}

/* Where the body of an answer goes: at most @capacity bytes. */
struct s3_chunk {
        struct byte_sink sink;
        uint8_t *buf;
        size_t n, capacity;
};
void s3_chunk_init(struct s3_chunk *c, uint8_t *buf, size_t capacity);

struct s3_call {
        const char *method;
        const char *key;   /* below the prefix; NULL: the bucket itself */
        const char *query; /* as in sigv4.h; NULL: none */
        const void *body;
        size_t body_size;
        int64_t time_ms;        /* for x-amz-meta-litestream-timestamp; 0: none */
        const char *headers[3]; /* "Name: value", which are not signed; NULL at the end */
        struct s3_chunk *chunk;
};

/* Looks for keys now: aws_keys_find(). Those that there are stay when there are no others. */
int s3_find_keys(struct s3 *s, struct err *e);

/* The answer of the last attempt: 0 when its status is of the 200s. E_NOT_FOUND (404), -EEXIST (412), -EACCES (403), -EINVAL
 * (other 400s), -ERANGE (416), -EIO (500s), -ECANCELED, or what http_client_do says. What may succeed later is tried again a
 * few times. */
int s3_do(struct s3 *s, const struct s3_call *call, struct http_response *ret, struct err *e);

/* --- s3_put.c, s3_get.c: dest.h's objects --- */
int s3_put_begin(struct dest *dest, const char *key, const struct dest_put_options *options,
                 struct dest_put **ret, struct err *e);
int s3_put_finish(struct dest_put *put, char ret_etag[DEST_ETAG_SIZE], struct err *e);
void s3_put_abort(struct dest_put *put);
int s3_get_begin(struct dest *dest, const char *key, uint64_t off, uint64_t max_bytes,
                 struct dest_get **ret, struct err *e);
void s3_get_end(struct dest_get *get);
/* The header. Some servers compare the ETag as it is, quotes and all: the probe finds out. */
void s3_make_if_match(const struct s3 *s, const char *etag, char *ret, size_t size);

/* --- XML --- */

/* The text of the first element of that name, wherever it is. False: there is none, or it does not fit. */
bool s3_xml_find(const char *text, size_t n, const char *element, char *ret, size_t size);
/* A page of a list. Stops at the first negative result of @fn, which is returned; E_FORMAT when it is none. */
typedef int (*s3_list_fn)(void *arg, const char *key, uint64_t size_bytes, int64_t time_ms);
int s3_xml_list(const char *text, size_t n, s3_list_fn fn, void *arg);

#endif
