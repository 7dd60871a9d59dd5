/* What a connection sends where there is TLS. What its session reads moves the connection's states: conn.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/conn_state.h"

int
conn_tls_send(struct conn *c, struct conn_piece *p, const struct iovec *iov, int n_iov)
{
        ssize_t n = tls_encrypt(c->tls, iov, n_iov, p->bytes, p->size);

        if (n < 0) {
                free(p);
                return (int)n;
        }
        return conn_queue_send(&c->queue, p, (size_t)n);
}

/* It has no limit of its own but the queue's. */
int
conn_tls_flush(struct conn *c)
{
        const uint8_t *bytes;
        size_t n = tls_output(c->tls, &bytes);
        struct conn_piece *p;
        int r;

        if (n == 0)
                return 0;
        r = conn_queue_take(&c->queue, n, &p);
        if (r < 0)
                return r;
        memcpy(p->bytes, bytes, n);
        return conn_queue_send(&c->queue, p, n);
}

/* As far as it goes at once: a peer that does not hear of it takes the end for a broken connection. */
void
conn_tls_say_end(struct conn *c)
{
        struct iovec iov;
        const uint8_t *bytes;

        if (c->tls == NULL || c->state != CONN_OPEN || c->queue.n_bytes > 0)
                return;
        tls_end(c->tls);
        iov.iov_len = tls_output(c->tls, &bytes);
        iov.iov_base = (void *)(uintptr_t)bytes;
        (void)conn_queue_try(&c->queue, &iov, 1);
}

int
conn_tls_end(struct conn *c)
{
        tls_end(c->tls);
        return conn_tls_flush(c);
}
