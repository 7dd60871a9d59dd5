#include "proxy/gather.h"

#include <string.h>

static void
send(struct conn *c, const struct iovec *iov, int n)
{
        if (conn_writev(c, iov, n) < 0)
                conn_close(c);
}

void
gather_flush(struct gather *k)
{
        struct conn *c = k->conn;
        struct iovec iov = { .iov_base = k->bytes, .iov_len = k->n };

        k->conn = NULL;
        k->n = 0;
        if (c != NULL)
                send(c, &iov, 1);
}

void
gather_write(struct gather *k, struct conn *c, const void *data, size_t n)
{
        struct iovec iov[2] = { { .iov_base = k->bytes }, { .iov_base = (void *)data, .iov_len = n } };

        if (k->conn != NULL && k->conn != c)
                gather_flush(k);
        k->conn = c;
        if (n <= sizeof k->bytes - k->n) {
                memcpy(k->bytes + k->n, data, n);
                k->n += n;
                return;
        }
        iov[0].iov_len = k->n;
        k->conn = NULL;
        k->n = 0;
        send(c, iov, 2);
}

void
gather_forget(struct gather *k, const struct conn *c)
{
        if (k->conn != c)
                return;
        k->conn = NULL;
        k->n = 0;
}
