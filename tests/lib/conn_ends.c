#include "tests/lib/conn_ends.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* What handlers have seen. Guarded by the lock; the test waits for changes. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void
signal_change(void)
{
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
}

/* Waits until @count reaches @n: false after ENDS_WAIT_S. */
bool
end_wait(const size_t *count, size_t n)
{
        struct timespec t;
        bool is_there;

        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_sec += ENDS_WAIT_S;
        pthread_mutex_lock(&lock);
        while (*count < n && pthread_cond_timedwait(&changed, &lock, &t) == 0)
                ;
        is_there = *count >= n;
        pthread_mutex_unlock(&lock);
        return is_there;
}

uint32_t
end_add_up(uint32_t sum, const uint8_t *p, size_t n)
{
        for (size_t i = 0; i < n; i++)
                sum = sum * 31 + p[i];
        return sum;
}

/* Writes until the connection says stop. */
void
end_pump(struct end *e)
{
        uint8_t chunk[10000];
        int r = 0;

        while (r == 0 && e->n_written < e->to_write) {
                size_t n = e->to_write - e->n_written < sizeof chunk ? e->to_write - e->n_written
                                                                     : sizeof chunk;

                for (size_t i = 0; i < n; i++)
                        chunk[i] = (uint8_t)((e->n_written + i) * 13 >> 3);
                /* In pieces, so that what the kernel takes of it may end in any. */
                struct iovec v[3] = { { chunk, n / 3 }, { chunk, 0 }, { chunk + n / 3, n - n / 3 } };

                r = conn_writev(e->conn, v, 3);
                if (r < 0)
                        break;
                e->sum_written = end_add_up(e->sum_written, chunk, n);
                e->n_written += n;
                if (conn_queued_bytes(e->conn) > e->max_queued)
                        e->max_queued = conn_queued_bytes(e->conn);
        }
        if (e->finishes && e->n_written == e->to_write)
                conn_finish(e->conn, ENDS_WAIT_S * 1000);
}

static void
on_opened(void *arg, struct conn *c)
{
        struct end *e = arg;

        e->conn = c;
        end_pump(e);
        pthread_mutex_lock(&lock);
        e->n_opened++;
        signal_change();
}

static void
on_read(void *arg, struct conn *c, const uint8_t *data, size_t n)
{
        struct end *e = arg;

        if (e->take != NULL && !e->take(e->take_arg, data, n))
                conn_close(c);
        if (e->is_echo)
                (void)conn_write(c, data, n);
        if (e->closes_when_read)
                conn_close(c);
        pthread_mutex_lock(&lock);
        e->n_read += n;
        e->sum_read = end_add_up(e->sum_read, data, n);
        signal_change();
}

static void
on_ended(void *arg, struct conn *c)
{
        struct end *e = arg;

        (void)c;
        pthread_mutex_lock(&lock);
        e->n_ended++;
        signal_change();
}

static void
on_writable(void *arg, struct conn *c)
{
        struct end *e = arg;

        (void)c;
        end_pump(e);
        pthread_mutex_lock(&lock);
        e->n_writable++;
        signal_change();
}

static void
on_closed(void *arg, struct conn *c, int code, const struct err *err)
{
        struct end *e = arg;

        (void)c;
        pthread_mutex_lock(&lock);
        e->n_closed++;
        e->code = code;
        snprintf(e->words, sizeof e->words, "%s", err != NULL ? err->text : "");
        signal_change();
}

const struct conn_handler end_handler = {
        .opened = on_opened, .read = on_read, .writable = on_writable, .closed = on_closed
};
const struct conn_handler end_half_handler = { .opened = on_opened,
                                               .read = on_read,
                                               .ended = on_ended,
                                               .writable = on_writable,
                                               .closed = on_closed };

struct ends ends;

void
ends_setup(void)
{
        struct err e = ERR_INIT;

        ck_assert_msg(loop_new(&ends.loop, &e) == 0, "%s", e.text);
        ends.listener = NULL;
        ends.n_accepted = 0;
        memset(ends.of, 0, sizeof ends.of);
        ends.accept_handler = &end_handler;
        ends.rank = CROWD_KEPT;
}

void
ends_stop(void)
{
        loop_stop(ends.loop);
        listener_close(ends.listener);
        loop_free(ends.loop);
}

static void
on_accepted(void *arg, struct conn *c)
{
        struct end *e = &ends.of[ends.n_accepted];

        (void)arg;
        e->conn = c;
        if (ends.accept_handler != NULL)
                conn_set_handler(c, ends.accept_handler, e);
        conn_set_rank(c, ends.rank);
        end_pump(e);
        pthread_mutex_lock(&lock);
        ends.n_accepted++;
        signal_change();
}

struct opening {
        struct listener_config config;
        struct err err;
};

static int
open_listener(void *arg)
{
        struct opening *o = arg;
        int r = listener_open(ends.loop, &o->config, &ends.listener, &o->err);

        if (r == 0)
                ends.port = listener_port(ends.listener);
        return r;
}

int
ends_listen_with(const char *address, unsigned max_conns, struct conn_limits limits, struct err *ret)
{
        struct opening o = { .config = { .address = address,
                                         .crowd = { .max = max_conns },
                                         .limits = limits,
                                         .accepted = on_accepted },
                             .err = ERR_INIT };
        int r = loop_call(ends.loop, open_listener, &o);

        if (ret != NULL)
                *ret = o.err;
        else
                ck_assert_msg(r == 0, "%s", o.err.text);
        return r;
}

void
ends_listen(void)
{
        ends_listen_with("127.0.0.1:0", 0, (struct conn_limits){ 0 }, NULL);
}

struct sockaddr_in
ends_loopback(int p)
{
        return (struct sockaddr_in){ .sin_family = AF_INET,
                                     .sin_port = htons((uint16_t)p),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

/* A blocking socket of the test's that is connected to the listener; reads give up after ENDS_WAIT_S. */
int
ends_dial(void)
{
        struct sockaddr_in in = ends_loopback(ends.port);
        struct timeval t = { .tv_sec = ENDS_WAIT_S };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ck_assert_int_ge(fd, 0);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
        ck_assert_int_eq(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
        return fd;
}

size_t
ends_read_all(int fd, uint32_t *ret_sum)
{
        uint8_t buf[65536];
        size_t n = 0;
        ssize_t r;

        *ret_sum = 0;
        while ((r = read(fd, buf, sizeof buf)) > 0) {
                *ret_sum = end_add_up(*ret_sum, buf, (size_t)r);
                n += (size_t)r;
        }
        ck_assert_msg(r == 0, "after %zu bytes: %s", n, strerror(errno));
        return n;
}

struct dialing {
        const char *address;
        int64_t timeout_ms;
        struct end *end;
        struct err err;
};

static int
connect_out(void *arg)
{
        struct dialing *d = arg;

        return conn_connect(ends.loop, NULL, d->address, d->timeout_ms, NULL, &end_handler, d->end,
                            &d->end->conn, &d->err);
}

int
ends_connect(const char *address, int64_t timeout_ms, struct end *end, struct err *ret)
{
        struct dialing d = { .address = address, .timeout_ms = timeout_ms, .end = end, .err = ERR_INIT };
        int r = loop_call(ends.loop, connect_out, &d);

        if (ret != NULL)
                *ret = d.err;
        return r;
}

const char *
ends_address_of(int p)
{
        static char text[64];

        snprintf(text, sizeof text, "127.0.0.1:%d", p);
        return text;
}

int
end_close(void *arg)
{
        conn_close(((struct end *)arg)->conn);
        return 0;
}

int
end_close_twice(void *arg)
{
        end_close(arg);
        return end_close(arg);
}

int
end_finish(void *arg)
{
        conn_finish(((struct end *)arg)->conn, ENDS_WAIT_S * 1000);
        return conn_write(((struct end *)arg)->conn, "x", 1) == -ENOTCONN ? 0 : -EIO;
}

int
end_finish_soon(void *arg)
{
        conn_finish(((struct end *)arg)->conn, 50);
        return 0;
}
