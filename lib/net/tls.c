/* OpenSSL reads and writes through a BIO of our own, which takes what comes in from where it lies and puts what goes
 * out where it is sent from: one copy less each way than by memory BIOs. */
#include "net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_MAX ((size_t)16 * 1024)
#define RECORD_COST 64                  /* head, nonce, type and tag of a record, with room to spare */
#define OUTPUT_MAX ((size_t)256 * 1024) /* of a handshake: our own certificates */

struct tls {
        SSL *ssl;
        bool is_client, is_broken;
        char host[256];
        const uint8_t *in; /* what is left of what came in */
        size_t n_in;
        uint8_t *target; /* of tls_encrypt, else NULL */
        size_t n_target, target_size;
        uint8_t *output;
        size_t n_output, output_capacity;
        bool is_output_taken;
};

/* --- the BIO --- */

static int
bio_read(BIO *bio, char *buf, int size)
{
        struct tls *t = BIO_get_data(bio);
        size_t n = t->n_in < (size_t)size ? t->n_in : (size_t)size;

        BIO_clear_retry_flags(bio);
        if (n == 0) {
                BIO_set_retry_read(bio);
                return -1;
        }
        memcpy(buf, t->in, n);
        t->in += n;
        t->n_in -= n;
        return (int)n;
}

static bool
reserve_output(struct tls *t, size_t n)
{
        size_t capacity = t->output_capacity > 0 ? t->output_capacity : 4096;
        uint8_t *grown;

        if (t->n_output + n > OUTPUT_MAX)
                return false;
        while (capacity < t->n_output + n)
                capacity *= 2;
        if (capacity == t->output_capacity)
                return true;
        grown = realloc(t->output, capacity);
        if (grown == NULL)
                return false;
        t->output = grown;
        t->output_capacity = capacity;
        return true;
}

static int
bio_write(BIO *bio, const char *buf, int n)
{
        struct tls *t = BIO_get_data(bio);

        BIO_clear_retry_flags(bio);
        if (t->target != NULL) {
                if ((size_t)n > t->target_size - t->n_target)
                        return -1;
                memcpy(t->target + t->n_target, buf, (size_t)n);
                t->n_target += (size_t)n;
                return n;
        }
        if (!reserve_output(t, (size_t)n))
                return -1;
        memcpy(t->output + t->n_output, buf, (size_t)n);
        t->n_output += (size_t)n;
        return n;
}

static long
bio_ctrl(BIO *bio, int command, long n, void *p)
{
        (void)bio;
        (void)n;
        (void)p;
        return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method;

static void
make_bio_method(void)
{
        bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "litefs");
        if (bio_method == NULL)
                return;
        BIO_meth_set_read(bio_method, bio_read);
        BIO_meth_set_write(bio_method, bio_write);
        BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

static BIO *
make_bio(struct tls *t)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        BIO *bio;

        pthread_once(&once, make_bio_method);
        bio = bio_method != NULL ? BIO_new(bio_method) : NULL;
        if (bio != NULL) {
                BIO_set_data(bio, t);
                BIO_set_init(bio, 1);
        }
        return bio;
}

/* --- life --- */

/* Certificates name addresses and hosts differently; an address is no server name either. */
static bool
expect_host(struct tls *t, const char *host)
{
        unsigned char address[sizeof(struct in6_addr)];

        snprintf(t->host, sizeof t->host, "%s", host);
        if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
                return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), host) == 1;
        return SSL_set1_host(t->ssl, host) == 1 && SSL_set_tlsext_host_name(t->ssl, host) == 1;
}

static bool
make_ssl(struct tls *t, SSL_CTX *ctx, const char *host)
{
        BIO *bio;

        t->ssl = SSL_new(ctx);
        if (t->ssl == NULL || (t->is_client && !expect_host(t, host)))
                return false;
        bio = make_bio(t);
        if (bio == NULL)
                return false;
        SSL_set_bio(t->ssl, bio, bio);
        if (t->is_client)
                SSL_set_connect_state(t->ssl);
        else
                SSL_set_accept_state(t->ssl);
        return true;
}

int
tls_new(struct tls_context *context, const char *host, struct tls **ret, struct err *e)
{
        struct tls *t;
        SSL_CTX *ctx;
        int r = tls_context_get(context, &ctx, e);

        if (r < 0)
                return r;
        t = calloc(1, sizeof *t);
        if (t == NULL)
                return err_set(e, -ENOMEM, "TLS");
        t->is_client = !tls_context_is_server(context);
        if (!make_ssl(t, ctx, host)) {
                ERR_clear_error();
                tls_free(t);
                return err_set(e, -ENOMEM, "TLS");
        }
        *ret = t;
        return 0;
}

void
tls_free(struct tls *t)
{
        if (t == NULL)
                return;
        SSL_free(t->ssl);
        free(t->output);
        free(t);
}

bool
tls_is_open(const struct tls *t)
{
        return SSL_is_init_finished(t->ssl) == 1;
}

bool
tls_is_ended(const struct tls *t)
{
        return (SSL_get_shutdown(t->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
}

/* --- what goes wrong --- */

/* For who has typed curl http://... */
static void
answer_http(struct tls *t)
{
        static const char text[] =
                "HTTP/1.1 400 Bad Request (TLS expected)\r\nConnection: close\r\n"
                "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 45\r\n\r\n"
                "this port speaks TLS: ask it with https://...";

        if (reserve_output(t, sizeof text - 1)) {
                memcpy(t->output, text, sizeof text - 1);
                t->n_output = sizeof text - 1;
        }
}

static const char *
reason_text(const struct tls *t, unsigned long code)
{
        switch (ERR_GET_REASON(code)) {
        case SSL_R_HTTP_REQUEST:
                return "it sent plain HTTP, not TLS";
        case SSL_R_WRONG_VERSION_NUMBER:
                return t->is_client ? "the other side does not speak TLS" : "it does not speak TLS";
        case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
                return "it has no certificate, which http.tls.client-ca demands";
        case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
                return "the other side demands a certificate: set http.tls.cert and http.tls.key";
        case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
                return "the other side does not know the authority that made our certificate";
        default:
                return ERR_reason_error_string(code);
        }
}

static int
tls_broken(struct tls *t, struct err *e)
{
        unsigned long code = ERR_peek_error();
        long verified = SSL_get_verify_result(t->ssl);
        const char *words = reason_text(t, code);

        t->is_broken = true;
        if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST)
                answer_http(t);
        ERR_clear_error();
        if (verified == X509_V_ERR_HOSTNAME_MISMATCH || verified == X509_V_ERR_IP_ADDRESS_MISMATCH)
                return err_text(e, -EPROTO, "the certificate of the other side is not for %s", t->host);
        if (verified != X509_V_OK)
                return err_text(e, -EPROTO, "the certificate of the other side is refused: %s",
                                X509_verify_cert_error_string(verified));
        return err_text(e, -EPROTO, "%s", words != NULL ? words : "broken");
}

/* --- bytes --- */

static void
begin_output(struct tls *t)
{
        if (t->is_output_taken)
                t->n_output = 0;
        t->is_output_taken = false;
}

void
tls_begin(struct tls *t)
{
        begin_output(t);
        ERR_clear_error();
        (void)SSL_do_handshake(
                t->ssl); /* it wants to read; what else goes wrong the first input tells */
}

int
tls_input(struct tls *t, const void *data, size_t n, void *plain, size_t *ret_n, struct err *e)
{
        size_t size = n + TLS_HELD_MAX, got;
        int r = 1;

        *ret_n = 0;
        begin_output(t);
        if (t->is_broken)
                return err_text(e, -EPROTO, "broken");
        ERR_clear_error();
        t->in = data;
        t->n_in = n;
        while (r == 1 && *ret_n < size) {
                r = SSL_read_ex(t->ssl, (uint8_t *)plain + *ret_n, size - *ret_n, &got);
                *ret_n += r == 1 ? got : 0;
        }
        t->n_in = 0;
        r = SSL_get_error(t->ssl, r);
        return r == SSL_ERROR_NONE || r == SSL_ERROR_WANT_READ || r == SSL_ERROR_ZERO_RETURN
                       ? 0
                       : tls_broken(t, e);
}

size_t
tls_encrypted_max(size_t n, int n_iov)
{
        return n + (n / RECORD_MAX + (size_t)n_iov + 1) * RECORD_COST;
}

/* One record of all the parts, when they fit: each costs a head, a tag and a start of the cipher. */
static int
encrypt_small(struct tls *t, const struct iovec *iov, int n_iov)
{
        uint8_t buf[RECORD_MAX];
        size_t n = 0, done;

        for (int i = 0; i < n_iov; i++) {
                if (iov[i].iov_len > 0)
                        memcpy(buf + n, iov[i].iov_base, iov[i].iov_len);
                n += iov[i].iov_len;
        }
        return SSL_write_ex(t->ssl, buf, n, &done);
}

static int
encrypt_parts(struct tls *t, const struct iovec *iov, int n_iov)
{
        size_t done;
        int r = 1;

        for (int i = 0; i < n_iov && r == 1; i++)
                if (iov[i].iov_len > 0)
                        r = SSL_write_ex(t->ssl, iov[i].iov_base, iov[i].iov_len, &done);
        return r;
}

ssize_t
tls_encrypt(struct tls *t, const struct iovec *iov, int n_iov, void *buf, size_t size)
{
        size_t n = 0;
        int r;

        for (int i = 0; i < n_iov; i++)
                n += iov[i].iov_len;
        if (t->is_broken || !tls_is_open(t))
                return -EPROTO;
        if (n == 0)
                return 0;
        ERR_clear_error();
        t->target = buf;
        t->n_target = 0;
        t->target_size = size;
        r = n <= RECORD_MAX ? encrypt_small(t, iov, n_iov) : encrypt_parts(t, iov, n_iov);
        t->target = NULL;
        if (r == 1)
                return (ssize_t)t->n_target;
        t->is_broken = true;
        ERR_clear_error();
        return -EPROTO;
}

void
tls_end(struct tls *t)
{
        begin_output(t);
        if (t->is_broken || !tls_is_open(t))
                return;
        ERR_clear_error();
        (void)SSL_shutdown(t->ssl);
        ERR_clear_error();
}

size_t
tls_output(struct tls *t, const uint8_t **ret)
{
        size_t n = t->is_output_taken ? 0 : t->n_output;

        t->is_output_taken = true;
        *ret = t->output;
        return n;
}
