/* lib/net/tls.h - one TLS session: bytes in, bytes out, no sockets.
 *
 * Order: tls_new; a client's tls_begin; then tls_input with what the other side sends and, once tls_is_open,
 * tls_encrypt, as they come. After each of tls_begin, tls_input and tls_end send what tls_output has. One thread at a
 * time. */
#ifndef LITEFS_NET_TLS_H
#define LITEFS_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "net/tls_context.h"

/* What a session may hold back of what came before: a record that was not complete. */
#define TLS_HELD_MAX ((size_t)17 * 1024)

struct tls;

/* A client's @host is the name or address that the server's certificate must be for; a server's is NULL. */
int tls_new(struct tls_context *context, const char *host, struct tls **ret, struct err *e);
void tls_free(struct tls *t); /* NULL is fine */

void tls_begin(struct tls *t);
/* Takes all of @data. What it says goes to @plain, of at least @n + TLS_HELD_MAX bytes; *@ret_n of them, also when
 * it fails: -EPROTO, and the session can only be closed. */
int tls_input(struct tls *t, const void *data, size_t n, void *plain, size_t *ret_n, struct err *e);
/* The handshake is over, and the other side is who it should be. */
bool tls_is_open(const struct tls *t);
/* The other side has said that it will send no more. */
bool tls_is_ended(const struct tls *t);

/* What a buffer for tls_encrypt needs. */
size_t tls_encrypted_max(size_t n, int n_iov);
/* The number of bytes now in @buf, to be sent in this order. -EPROTO: not open, or broken. */
ssize_t tls_encrypt(struct tls *t, const struct iovec *iov, int n_iov, void *buf, size_t size);
/* Says that we send no more. */
void tls_end(struct tls *t);

/* What the session itself has to say, of handshakes and alerts; it is gone with the next call. */
size_t tls_output(struct tls *t, const uint8_t **ret);

#endif
