#include "net/tls_context.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file_version.h"
#include "base/log.h"

#define CIPHERS_1_2 "ECDHE+AESGCM:ECDHE+CHACHA20"

enum { CERT, KEY, CA, N_FILES };

struct tls_context {
        bool is_server;
        char *files[N_FILES]; /* "": none */
        struct file_version seen[N_FILES];
        SSL_CTX *ctx; /* NULL: not read yet */
        bool is_tried;
};

int
tls_context_new(const struct tls_options *o, struct tls_context **ret)
{
        const char *const files[N_FILES] = { o->cert, o->key, o->ca };
        struct tls_context *t = calloc(1, sizeof *t);

        if (t == NULL)
                return -ENOMEM;
        t->is_server = o->is_server;
        for (int i = 0; i < N_FILES; i++) {
                t->files[i] = strdup(files[i] != NULL ? files[i] : "");
                if (t->files[i] == NULL) {
                        tls_context_free(t);
                        return -ENOMEM;
                }
        }
        *ret = t;
        return 0;
}

void
tls_context_free(struct tls_context *t)
{
        if (t == NULL)
                return;
        for (int i = 0; i < N_FILES; i++)
                free(t->files[i]);
        SSL_CTX_free(t->ctx);
        free(t);
}

bool
tls_context_is_server(const struct tls_context *t)
{
        return t->is_server;
}

/* --- reading the files --- */

/* The system's reason if there is one, else the first of OpenSSL's. */
static int
file_error(const char *path, const char *what, struct err *e)
{
        const char *words = NULL;
        unsigned long code;

        while ((code = ERR_get_error()) != 0) {
                if (ERR_SYSTEM_ERROR(code))
                        return err_text(e, E_CONFIG, "%s: %s", path,
                                        strerrordesc_np(ERR_GET_REASON(code)));
                if (words == NULL)
                        words = ERR_reason_error_string(code);
        }
        return err_text(e, E_CONFIG, "%s: %s%s%s", path, what, words != NULL ? ": " : "",
                        words != NULL ? words : "");
}

/* OpenSSL would ask the terminal. */
static int
no_passphrase(char *buf, int size, int is_write, void *arg)
{
        (void)buf;
        (void)size;
        (void)is_write;
        (void)arg;
        return 0;
}

static int
set_identity(const struct tls_context *t, SSL_CTX *ctx, struct err *e)
{
        const char *cert = t->files[CERT], *key = t->files[KEY];

        if (cert[0] == '\0')
                return 0;
        if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
                return file_error(cert, "not a certificate that can be used", e);
        if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
                return file_error(key, "not a key without a passphrase, or not that of the certificate",
                                  e);
        return 0;
}

static int
set_authorities(const struct tls_context *t, SSL_CTX *ctx, struct err *e)
{
        const char *ca = t->files[CA];
        STACK_OF(X509_NAME) * names;

        if (ca[0] == '\0') {
                if (t->is_server)
                        return 0;
                SSL_CTX_set_default_verify_paths(ctx);
        } else if (SSL_CTX_load_verify_file(ctx, ca) != 1) {
                return file_error(ca, "not a file of certificates", e);
        }
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (t->is_server ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                           NULL);
        if (!t->is_server)
                return 0;
        names = SSL_load_client_CA_file(ca);
        if (names == NULL)
                return file_error(ca, "not a file of certificates", e);
        SSL_CTX_set_client_CA_list(ctx, names);
        return 0;
}

static void
set_protocol(SSL_CTX *ctx)
{
        SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
        SSL_CTX_set_cipher_list(ctx, CIPHERS_1_2);
        /* A session that was resumed would not be checked against the authorities of today. */
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_num_tickets(ctx, 0);
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                         SSL_OP_CIPHER_SERVER_PREFERENCE);
        SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS); /* an idle connection keeps none */
        SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
}

static int
read_files(const struct tls_context *t, SSL_CTX **ret, struct err *e)
{
        SSL_CTX *ctx;
        int r;

        ERR_clear_error();
        ctx = SSL_CTX_new(TLS_method());
        if (ctx == NULL)
                return err_set(e, -ENOMEM, "TLS");
        set_protocol(ctx);
        r = set_identity(t, ctx, e);
        if (r == 0)
                r = set_authorities(t, ctx, e);
        ERR_clear_error();
        if (r < 0)
                SSL_CTX_free(ctx);
        else
                *ret = ctx;
        return r;
}

/* Whether a file is another than when it was last read. */
static bool
notice_change(struct tls_context *t)
{
        bool is_changed = false;

        for (int i = 0; i < N_FILES; i++)
                is_changed |= t->files[i][0] != '\0' && file_version_notice(&t->seen[i], t->files[i]);
        return is_changed;
}

int
tls_context_load(struct tls_context *t, struct err *e)
{
        SSL_CTX *ctx = NULL;
        int r;

        (void)notice_change(t);
        t->is_tried = true;
        r = read_files(t, &ctx, e);
        if (r < 0)
                return r;
        SSL_CTX_free(t->ctx);
        t->ctx = ctx;
        return 0;
}

int
tls_context_get(struct tls_context *t, SSL_CTX **ret, struct err *e)
{
        bool is_first = t->ctx == NULL;
        struct err why = ERR_INIT;

        if (notice_change(t) || !t->is_tried) {
                int r = tls_context_load(t, &why);

                if (r < 0)
                        log_warn("%s%s", why.text,
                                 is_first ? "" : "; the certificates read before stay in use");
                else if (!is_first)
                        log_info("TLS certificates read again");
        }
        if (t->ctx == NULL)
                return err_text(e, -EPROTO, "no usable certificates%s%s", why.code != 0 ? ": " : "",
                                why.text);
        *ret = t->ctx;
        return 0;
}

/* --- pins --- */

static int
hash_key(X509 *cert, char ret[TLS_PIN_SIZE])
{
        unsigned char *der = NULL, hash[EVP_MAX_MD_SIZE];
        unsigned n_hash = 0;
        int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
        int is_good = n > 0 && EVP_Digest(der, (size_t)n, hash, &n_hash, EVP_sha256(), NULL);

        OPENSSL_free(der);
        if (!is_good)
                return -ENOMEM;
        strcpy(ret, "sha256//");
        EVP_EncodeBlock((unsigned char *)ret + strlen(ret), hash, (int)n_hash);
        return 0;
}

int
tls_pin(const char *path, char ret[TLS_PIN_SIZE], struct err *e)
{
        FILE *f = fopen(path, "re");
        X509 *cert;
        int r;

        if (f == NULL)
                return err_set(e, -errno, "%s", path);
        ERR_clear_error();
        cert = PEM_read_X509(f, NULL, no_passphrase, NULL);
        fclose(f);
        if (cert == NULL) {
                r = file_error(path, "not a certificate", e);
        } else {
                r = hash_key(cert, ret);
                if (r < 0)
                        err_set(e, r, "%s", path);
        }
        ERR_clear_error();
        X509_free(cert);
        return r;
}
