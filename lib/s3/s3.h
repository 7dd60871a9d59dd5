/* lib/s3/s3.h - requests to a bucket that speaks S3's protocol, and its answers.
 *
 * A client is of one bucket and of one prefix of keys. One thread at a time, but for s3_cancel. Calls wait for the network. */
#ifndef LITEFS_S3_S3_H
#define LITEFS_S3_S3_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/stream.h"
#include "net/http_client.h"
#include "s3/aws_keys.h"

#define S3_QUERY_SIZE 4096
#define S3_KEY_SIZE 1100 /* of a key with its NUL */
#define S3_ETAG_SIZE 128
#define S3_URL_SIZE 1024
#define S3_CONDITION_SIZE (S3_ETAG_SIZE + 32)

/* "" is not set. The strings of `sources` are borrowed for as long as the client is there. */
struct s3_options {
        const char *endpoint; /* http:// or https://; "": AWS */
        const char *region;   /* "": us-east-1 */
        const char *access_key_id, *secret_access_key, *session_token;
        const struct aws_sources *sources; /* of keys, when none are given; NULL: there is none */
        bool is_path_style; /* the bucket is a part of the path; else of the host, with AWS's endpoint only */
        const char *ca; /* PEM file of the authority to trust, instead of the system's */
        /* Of objects that are put; NULL is "not set", too. The customer's key is 32 bytes in base64, which the server wants with each
         * request for an object and keeps nowhere. */
        const char *storage_class, *kms_key_id, *customer_key;
        const struct clock *clock;
};

struct s3 {
        char url[S3_URL_SIZE]; /* for messages: no secrets in it */
        /* What was not to be had when it was opened, for a log; code 0: nothing. Requests try again. */
        struct err not_ready;
        const struct clock *clock;
        struct http_client *http;
        atomic_bool is_cancelled;
        atomic_uint_fast64_t *sent_bytes; /* counted there; NULL: nowhere */
        char origin[512];                 /* "https://host:port" */
        char host[400];                   /* as it is sent */
        char bucket[256];                 /* "/BUCKET" in the path, or "" when it is in the host */
        char prefix[512];                 /* of all keys, with its slash; or "" */
        char region[64];
        char storage_class[64], kms_key_id[256];
        char customer_key[48], customer_key_md5[32]; /* base64; "": none */
        struct aws_sources sources;                  /* its given keys are those of `given` */
        struct aws_keys given, keys;
        int64_t asked_ms;      /* for keys the last time, CLOCK_MONOTONIC; 0: never */
        bool are_keys_refused; /* by the last answer: they are old, or gone */
        bool is_unquoted;      /* its If-Match wants an ETag without quotes */
        int64_t skew_ms;       /* of the server's clock to ours, when it has complained */
};

/* @url is "s3://BUCKET/PREFIX", where `?endpoint=`, `region=`, `forcePathStyle=`, `storageClass=`, `sseKmsKeyId=` and
 * `sseCustomerKey=` may follow, which go before what the options say. @s is zeroed memory; s3_release also after an error. E_CONFIG, -EACCES, -ENAMETOOLONG, -ENOMEM. */
int s3_init(struct s3 *s, const char *url, const struct s3_options *options, struct err *e);
void s3_release(struct s3 *s);
/* Ends the call that is under way, and all after it, with -ECANCELED. Any thread. */
void s3_cancel(struct s3 *s);

/* Where the body of an answer goes: at most @capacity bytes. */
struct s3_chunk {
        struct byte_sink sink;
        uint8_t *buf;
        size_t n, capacity;
};
void s3_chunk_init(struct s3_chunk *c, uint8_t *buf, size_t capacity);

/* What a request is about, which decides what is said of storage and encryption. */
enum s3_purpose { S3_OTHER, S3_STORE, S3_PART, S3_READ };

struct s3_call {
        const char *method;
        enum s3_purpose purpose;
        const char *key;   /* below the prefix; NULL: the bucket itself */
        const char *query; /* as in net/sigv4.h; NULL: none */
        const void *body;
        size_t body_size;
        int64_t time_ms;        /* for x-amz-meta-litestream-timestamp; 0: none */
        const char *headers[3]; /* "Name: value", which are not signed; NULL at the end */
        struct s3_chunk *chunk;
        /* 0: as long as something moves, and what may succeed later is tried again a few times. Else all of it takes no longer,
         * and is sent again only after an answer by which nothing was done: other keys, or another time, are wanted. */
        int64_t timeout_ms;
};

/* Looks for keys now, for @timeout_ms (0: as long as it takes): aws_keys_find(). Those that there are stay when there are no
 * others. */
int s3_find_keys(struct s3 *s, int64_t timeout_ms, struct err *e);

/* The answer of the last attempt: 0 when its status is of the 200s. E_NOT_FOUND (404), -EEXIST (412), -EACCES (403), -EINVAL
 * (other 400s), -ERANGE (416), -ENXIO (no such bucket), -ENOTSUP (501), -EIO (other 500s), -ECANCELED, or what http_client_do says. */
int s3_do(struct s3 *s, const struct s3_call *call, struct http_response *ret, struct err *e);

/* The header If-Match. Some servers compare the ETag as it is, quotes and all: the probe finds out. */
void s3_make_if_match(const struct s3 *s, const char *etag, char ret[S3_CONDITION_SIZE]);
/* Finds out by the object @key whether the bucket honours If-None-Match and If-Match: 0 and *@ret_honours. With a
 * @timeout_ms it takes no longer, and each request is as one that has one. */
int s3_probe(struct s3 *s, const char *key, int64_t timeout_ms, bool *ret_honours, struct err *e);

/* --- XML --- */

/* The text of the first element of that name, wherever it is. False: there is none, or it does not fit. */
bool s3_xml_find(const char *text, size_t n, const char *element, char *ret, size_t size);
/* A page of a list. Stops at the first negative result of @fn, which is returned; E_FORMAT when it is none. */
typedef int (*s3_list_fn)(void *arg, const char *key, uint64_t size_bytes, int64_t time_ms);
int s3_xml_list(const char *text, size_t n, s3_list_fn fn, void *arg);

#endif
