/* lib/net/sigv4.h - the signature of a request to S3 (AWS Signature Version 4).
 *
 * What is signed is what is sent: the caller encodes path and query by sigv4_encode and sends them as they are. No
 * allocation, any thread. */
#ifndef LITEFS_NET_SIGV4_H
#define LITEFS_NET_SIGV4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIGV4_HASH_SIZE 65 /* hex digits of a SHA-256, and a NUL */
#define SIGV4_DATE_SIZE 17 /* "20130524T000000Z" */
#define SIGV4_AUTHORIZATION_SIZE 1024

struct sigv4_key {
        const char *access_key_id, *secret_access_key, *region, *service;
};

struct sigv4_header {
        const char *name; /* lower case */
        const char *value;
};

struct sigv4_request {
        const char *method;
        const char *path;  /* encoded, begins with a slash */
        const char *query; /* encoded, "name=value" sorted by name; "" for none */
        const struct sigv4_header
                *headers; /* those that are signed, by name; host and x-amz-date among them */
        size_t n_headers;
        const char *payload_hash; /* of the body */
};

void sigv4_hash(const void *buf, size_t n, char ret[SIGV4_HASH_SIZE]);
#define SIGV4_MD5_SIZE 25 /* base64 of an MD5, and a NUL */
/* For the headers in which S3 wants an MD5: in base64. "" when OpenSSL has none, as with FIPS. */
void sigv4_md5(const void *buf, size_t n, char ret[SIGV4_MD5_SIZE]);
/* The value of x-amz-date. */
void sigv4_date(int64_t wall_ms, char ret[SIGV4_DATE_SIZE]);
/* All but letters, digits, "-", ".", "_", "~", and with @keeps_slash "/", becomes %XX. False when it does not fit. */
bool sigv4_encode(const char *text, bool keeps_slash, char *ret, size_t size);
/* The value of the header Authorization. @date is that of x-amz-date. 0, -EMSGSIZE, or -EIO when OpenSSL fails. */
int sigv4_sign(const struct sigv4_key *key, const struct sigv4_request *rq, const char *date,
               char ret[SIGV4_AUTHORIZATION_SIZE]);

#endif
