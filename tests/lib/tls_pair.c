#include "tests/lib/tls_pair.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Also where assert() is not compiled in. */
static void
must(bool is_true)
{
        if (!is_true)
                abort();
}

int
tls_pair_open(struct tls_pair *p, struct tls_context *client, struct tls_context *server,
              const char *host, struct err *e)
{
        struct tls_side *sides[] = { &p->client, &p->server };
        int r;

        memset(p, 0, sizeof *p);
        for (int i = 0; i < 2; i++) {
                sides[i]->wire = malloc(TLS_PAIR_MAX);
                sides[i]->got = malloc(TLS_PAIR_MAX);
                if (sides[i]->wire == NULL || sides[i]->got == NULL)
                        return -ENOMEM;
        }
        r = tls_new(client, host, &p->client.tls, e);
        if (r == 0)
                r = tls_new(server, NULL, &p->server.tls, e);
        if (r == 0) {
                tls_begin(p->client.tls);
                tls_pair_collect(&p->client);
        }
        return r;
}

void
tls_pair_close(struct tls_pair *p)
{
        struct tls_side *sides[] = { &p->client, &p->server };

        for (int i = 0; i < 2; i++) {
                tls_free(sides[i]->tls);
                free(sides[i]->wire);
                free(sides[i]->got);
        }
}

void
tls_pair_collect(struct tls_side *side)
{
        const uint8_t *bytes;
        size_t n = tls_output(side->tls, &bytes);

        must(side->n_wire + n <= TLS_PAIR_MAX);
        if (n > 0)
                memcpy(side->wire + side->n_wire, bytes, n);
        side->n_wire += n;
}

int
tls_pair_write(struct tls_side *side, const void *data, size_t n)
{
        uint8_t *p = (uint8_t *)(uintptr_t)data;
        struct iovec iov[3] = { { p, n / 3 }, { p, 0 }, { p + n / 3, n - n / 3 } };
        size_t size = tls_encrypted_max(n, 3);
        ssize_t r;

        must(side->n_wire + size <= TLS_PAIR_MAX);
        r = tls_encrypt(side->tls, iov, 3, side->wire + side->n_wire, size);
        if (r < 0)
                return (int)r;
        must((size_t)r <= size);
        side->n_wire += (size_t)r;
        return 0;
}

static void
give(struct tls_side *to, const uint8_t *bytes, size_t n)
{
        size_t got = 0;

        must(to->n_got + n + TLS_HELD_MAX <= TLS_PAIR_MAX);
        to->result = tls_input(to->tls, bytes, n, to->got + to->n_got, &got, &to->err);
        must(got <= n + TLS_HELD_MAX);
        to->n_got += got;
        tls_pair_collect(to);
}

/* All that @from has sent, as far as @to takes it. */
static void
move(struct tls_side *from, struct tls_side *to, size_t slice)
{
        size_t at = 0, n;

        for (; at < from->n_wire && to->result == 0; at += n) {
                n = from->n_wire - at < slice ? from->n_wire - at : slice;
                give(to, from->wire + at, n);
        }
        from->n_wire = 0;
}

void
tls_pair_talk(struct tls_pair *p, size_t slice)
{
        while (p->client.n_wire > 0 || p->server.n_wire > 0) {
                move(&p->client, &p->server, slice);
                move(&p->server, &p->client, slice);
        }
}
