/* What is between a connection's socket and its handler where there is TLS. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/conn_state.h"

#define HANDSHAKE_MS 10000
#define ALERT_MS 1000 /* that a peer has to read why its TLS is refused */

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

/* What the session has to say by itself; it has no limit of its own but the queue's. */
static int
send_output(struct conn *c)
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

/* Closes with @e, but not before the peer could read the alert that says so. */
static void
conn_tls_broken(struct conn *c, int code, const struct err *e)
{
        char peer[ADDR_TEXT_SIZE];

        if (c->state != CONN_HANDSHAKE && c->state != CONN_OPEN)
                return;
        conn_name_peer(c, peer);
        err_text(&c->err, code, "TLS with %s: %s", peer, e->text);
        c->end_code = code;
        conn_begin_finish(c, ALERT_MS);
}

static void
handshake_done(struct conn *c)
{
        uv_timer_stop(&c->timer);
        c->state = CONN_OPEN;
        if (c->target.port != 0 && c->handler->opened != NULL)
                c->handler->opened(c->arg, c);
}

void
conn_tls_read(struct conn *c, const uint8_t *data, size_t n)
{
        struct err e = ERR_INIT;
        size_t n_plain;
        int r, sent_r;

        if (c->state != CONN_HANDSHAKE && c->state != CONN_OPEN)
                return; /* finishing: nobody wants it */
        r = tls_input(c->tls, data, n, c->loop->plain_buf, &n_plain, &e);
        sent_r = send_output(c);
        if (sent_r < 0) {
                conn_fail(c, sent_r, "write to");
                return;
        }
        if (c->state == CONN_HANDSHAKE && tls_is_open(c->tls))
                handshake_done(c);
        conn_deliver(c, c->loop->plain_buf, n_plain);
        if (r < 0)
                conn_tls_broken(c, r, &e);
        else if (c->state == CONN_OPEN && !c->is_ended && tls_is_ended(c->tls))
                conn_peer_ended(c);
}

void
conn_tls_begin(struct conn *c)
{
        int r;

        c->state = CONN_HANDSHAKE;
        conn_set_options(c);
        tls_begin(c->tls);
        r = send_output(c);
        if (r < 0)
                conn_fail(c, r, "write to");
        else
                conn_read_start(c);
}

int
conn_tls_end(struct conn *c)
{
        tls_end(c->tls);
        return send_output(c);
}

static void
handshake_timed_out(uv_timer_t *timer)
{
        conn_fail(conn_of_item(timer->data), -ETIMEDOUT, "TLS handshake with");
}

void
conn_tls_expect(struct conn *c)
{
        conn_start_timer(c, HANDSHAKE_MS, handshake_timed_out);
}
