/* lib/net/tls_context.h - what a side of TLS connections has: its certificate and key, and whom it believes.
 *
 * The PEM files are read when the first session is made, and again when a session is made after one of them has
 * changed. Files that are wrong then are said so once, and what was read before goes on. Sessions that are open keep
 * what they began with. TLS 1.2 (forward secret AEAD ciphers only) and 1.3; no resumption, no renegotiation.
 *
 * One thread at a time. */
#ifndef LITEFS_NET_TLS_CONTEXT_H
#define LITEFS_NET_TLS_CONTEXT_H

#include <stdbool.h>

#include "base/err.h"

struct tls_context;
struct ssl_ctx_st;

/* Paths; NULL or "" is "none". */
struct tls_options {
        bool is_server;
        const char *cert, *key; /* a server needs both */
        /* Authorities that the other side's certificate must come from. A server without any asks for no
         * certificate, a client takes the system's. */
        const char *ca;
};

/* Reads nothing. -ENOMEM only. */
int tls_context_new(const struct tls_options *options, struct tls_context **ret);
void tls_context_free(struct tls_context *t); /* NULL is fine */
/* E_CONFIG with the file and what is wrong with it: there will be no session. */
int tls_context_load(struct tls_context *t, struct err *e);

/* For sessions: as of now, borrowed until the next call. -EPROTO: there is none, see tls_context_load. */
int tls_context_get(struct tls_context *t, struct ssl_ctx_st **ret, struct err *e);
bool tls_context_is_server(const struct tls_context *t);

#define TLS_PIN_SIZE 64
/* The hash of the public key of the certificate in @path, as curl takes it: "sha256//BASE64". */
int tls_pin(const char *path, char ret[TLS_PIN_SIZE], struct err *e);

#endif
