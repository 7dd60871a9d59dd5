/* tests/lib/tls_pair.h - a TLS client and a server that talk to each other in memory. */
#ifndef LITEFS_TESTS_TLS_PAIR_H
#define LITEFS_TESTS_TLS_PAIR_H

#include "net/tls.h"

#define TLS_PAIR_MAX ((size_t)2 * 1024 * 1024)

struct tls_side {
        struct tls *tls;
        uint8_t *wire; /* what it has sent and the other has not got */
        size_t n_wire;
        uint8_t *got; /* what it was told */
        size_t n_got;
        int result; /* of its input, and the words */
        struct err err;
};

struct tls_pair {
        struct tls_side client, server;
};

/* -EPROTO and the like: of either tls_new. */
int tls_pair_open(struct tls_pair *p, struct tls_context *client, struct tls_context *server,
                  const char *host, struct err *e);
void tls_pair_close(struct tls_pair *p);
/* Takes all that @side has to say by itself. */
void tls_pair_collect(struct tls_side *side);
/* Writes the bytes in three parts: 0, or tls_encrypt's error. */
int tls_pair_write(struct tls_side *side, const void *data, size_t n);
/* Moves what is on the wires, in slices of @slice, until both are silent or one is broken. */
void tls_pair_talk(struct tls_pair *p, size_t slice);

#endif
