/* Bodies on their way: framed anew, and kept as long as they may have to be sent again. */
#include "proxy/body.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
send_chunk(struct client *c, void (*send)(struct client *, const void *, size_t), const uint8_t *data,
           size_t n)
{
        char size[20];

        send(c, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", n));
        send(c, data, n);
        send(c, "\r\n", 2);
}

static void
send_body(struct client *c, const uint8_t *data, size_t n)
{
        if (c->up_framing == FRAMING_CHUNKED)
                send_chunk(c, client_send_up, data, n);
        else
                client_send_up(c, data, n);
}

void
body_taken(struct client *c)
{
        c->is_taken = true;
        free(c->body);
        c->body = NULL;
        c->n_body = c->body_capacity = 0;
}

/* Without memory for it, it is sent once. */
static void
keep_body(struct client *c, const uint8_t *data, size_t n)
{
        size_t want = c->body_capacity > 0 ? c->body_capacity : 4096;
        uint8_t *grown;

        while (want < c->n_body + n)
                want *= 2;
        if (want > c->body_capacity) {
                grown = realloc(c->body, want);
                if (grown == NULL) {
                        body_taken(c);
                        return;
                }
                c->body = grown;
                c->body_capacity = want;
        }
        memcpy(c->body + c->n_body, data, n);
        c->n_body += n;
        c->body_full_ms = loop_now_ms(c->proxy->loop);
}

void
body_to_upstream(void *arg, const uint8_t *data, size_t n)
{
        struct client *c = arg;

        if (c->is_to_primary && !c->is_taken)
                keep_body(c, data, n);
        send_body(c, data, n);
}

void
body_send_kept(struct client *c)
{
        if (c->n_body > 0)
                send_body(c, c->body, c->n_body);
        if (c->is_all_read && c->up_framing == FRAMING_CHUNKED)
                client_send_up(c, "0\r\n\r\n", 5);
}

void
body_ended(struct client *c)
{
        c->is_all_read = true;
        conn_set_rank(c->conn, CROWD_KEPT); /* from now on it waits for us */
        if (c->up_framing == FRAMING_CHUNKED)
                client_send_up(c, "0\r\n\r\n", 5);
}

void
body_to_client(void *arg, const uint8_t *data, size_t n)
{
        struct client *c = arg;

        if (c->framing == FRAMING_CHUNKED)
                send_chunk(c, client_send, data, n);
        else if (c->framing != FRAMING_NONE)
                client_send(c, data, n);
}

bool
body_must_wait(const struct client *c)
{
        return c->is_to_primary && !c->is_taken && c->n_body >= PROXY_KEEP_BODY;
}
