#include "net/sigv4.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/base64.h"

#define DIGEST 32
#define SCOPE_SIZE 160

static void
to_hex(const uint8_t *digest, char ret[SIGV4_HASH_SIZE])
{
        for (size_t i = 0; i < DIGEST; i++)
                snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}

void
sigv4_hash(const void *buf, size_t n, char ret[SIGV4_HASH_SIZE])
{
        uint8_t digest[EVP_MAX_MD_SIZE] = { 0 };

        (void)EVP_Digest(buf, n, digest, NULL, EVP_sha256(), NULL);
        to_hex(digest, ret);
}

void
sigv4_md5(const void *buf, size_t n, char ret[SIGV4_MD5_SIZE])
{
        uint8_t digest[EVP_MAX_MD_SIZE];
        unsigned size = 0;

        ret[0] = '\0';
        if (EVP_Digest(buf, n, digest, &size, EVP_md5(), NULL) == 1 && size == 16)
                base64_encode(digest, size, ret);
}

void
sigv4_date(int64_t wall_ms, char ret[SIGV4_DATE_SIZE])
{
        time_t t = (time_t)(wall_ms / 1000);
        struct tm tm;

        if (gmtime_r(&t, &tm) == NULL)
                memset(&tm, 0, sizeof tm);
        strftime(ret, SIGV4_DATE_SIZE, "%Y%m%dT%H%M%SZ", &tm);
}

bool
sigv4_encode(const char *text, bool keeps_slash, char *ret, size_t size)
{
        size_t n = 0;

        for (; *text != '\0'; text++) {
                unsigned char c = (unsigned char)*text;
                bool is_plain = c < 128 &&
                                (isalnum(c) || strchr("-._~", c) != NULL || (keeps_slash && c == '/'));

                if (n + 4 > size)
                        return false;
                n += (size_t)snprintf(ret + n, size - n, is_plain ? "%c" : "%%%02X", c);
        }
        if (n >= size)
                return false;
        ret[n] = '\0';
        return true;
}

/* --- signing --- */

/* The canonical request is hashed as it is made, so it has no maximum. */
static void
hash_line(EVP_MD_CTX *ctx, const char *text, const char *end)
{
        (void)EVP_DigestUpdate(ctx, text, strlen(text));
        (void)EVP_DigestUpdate(ctx, end, strlen(end));
}

static int
hash_request(const struct sigv4_request *rq, const char *names, char ret[SIGV4_HASH_SIZE])
{
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        uint8_t digest[EVP_MAX_MD_SIZE] = { 0 };
        int r = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 ? 0 : -EIO;

        if (r == 0) {
                hash_line(ctx, rq->method, "\n");
                hash_line(ctx, rq->path, "\n");
                hash_line(ctx, rq->query, "\n");
                for (size_t i = 0; i < rq->n_headers; i++) {
                        hash_line(ctx, rq->headers[i].name, ":");
                        hash_line(ctx, rq->headers[i].value, "\n");
                }
                hash_line(ctx, "", "\n");
                hash_line(ctx, names, "\n");
                hash_line(ctx, rq->payload_hash, "");
                r = EVP_DigestFinal_ex(ctx, digest, NULL) == 1 ? 0 : -EIO;
        }
        EVP_MD_CTX_free(ctx);
        to_hex(digest, ret);
        return r;
}

static int
hmac(const void *key, size_t key_n, const char *text, uint8_t ret[EVP_MAX_MD_SIZE])
{
        return HMAC(EVP_sha256(), key, (int)key_n, (const uint8_t *)text, strlen(text), ret, NULL) !=
                               NULL
                       ? 0
                       : -EIO;
}

/* A key for the day, the region and the service. */
static int
derive(const struct sigv4_key *key, const char *day, uint8_t ret[EVP_MAX_MD_SIZE])
{
        char first[256];
        int n = snprintf(first, sizeof first, "AWS4%s", key->secret_access_key);
        int r = n < (int)sizeof first ? hmac(first, (size_t)n, day, ret) : -EMSGSIZE;

        if (r == 0)
                r = hmac(ret, DIGEST, key->region, ret);
        if (r == 0)
                r = hmac(ret, DIGEST, key->service, ret);
        return r == 0 ? hmac(ret, DIGEST, "aws4_request", ret) : r;
}

static int
list_signed_headers(const struct sigv4_request *rq, char *ret, size_t size)
{
        size_t n = 0;

        ret[0] = '\0';
        for (size_t i = 0; i < rq->n_headers; i++) {
                n += (size_t)snprintf(ret + n, size - n, "%s%s", i > 0 ? ";" : "", rq->headers[i].name);
                if (n >= size)
                        return -EMSGSIZE;
        }
        return 0;
}

int
sigv4_sign(const struct sigv4_key *key, const struct sigv4_request *rq, const char *date,
           char ret[SIGV4_AUTHORIZATION_SIZE])
{
        char names[512], scope[SCOPE_SIZE], hash[SIGV4_HASH_SIZE], signature[SIGV4_HASH_SIZE];
        char text[SCOPE_SIZE + 128], day[9];
        uint8_t digest[EVP_MAX_MD_SIZE];
        int r = list_signed_headers(rq, names, sizeof names), n;

        snprintf(day, sizeof day, "%.8s", date);
        if (snprintf(scope, sizeof scope, "%s/%s/%s/aws4_request", day, key->region, key->service) >=
            (int)sizeof scope)
                r = -EMSGSIZE;
        if (r == 0)
                r = hash_request(rq, names, hash);
        if (r == 0)
                r = derive(key, day, digest);
        if (r < 0)
                return r;
        snprintf(text, sizeof text, "AWS4-HMAC-SHA256\n%s\n%s\n%s", date, scope, hash);
        r = hmac(digest, DIGEST, text, digest);
        if (r < 0)
                return r;
        to_hex(digest, signature);
        n = snprintf(ret, SIGV4_AUTHORIZATION_SIZE,
                     "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s",
                     key->access_key_id, scope, names, signature);
        return n < SIGV4_AUTHORIZATION_SIZE ? 0 : -EMSGSIZE;
}
