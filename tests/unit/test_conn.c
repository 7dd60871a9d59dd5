/* links: litefs_loop litefs_repl */
/* Connections and listeners, on real loopback sockets. The peer is most often a plain blocking socket of the
 * test's own thread, so that it does just what the test says. */
#include <check.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "net/addr.h"
#include "net/conn.h"
#include "net/listener.h"
#include "net/loop.h"
#include "repl/frame_decoder.h"
#include "tests/lib/run.h"

#define WAIT_S 20
#define MB (1024u * 1024)

/* What handlers have seen. Guarded by the lock; the test waits for changes. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct end {
        struct conn *conn; /* the loop's thread only */
        size_t n_opened, n_ended, n_writable, n_closed;
        int code;
        char words[480];
        size_t n_read;
        uint32_t sum_read;
        size_t n_written;
        uint32_t sum_written;
        size_t max_queued;
        /* What it does; set before it is used. */
        size_t to_write; /* bytes in all, as far as the peer lets it */
        bool is_echo;
        bool closes_when_read;
        bool finishes; /* when it has written all */
        struct frame_decoder *decoder;
        size_t n_frames;
};

static void
signal_change(void)
{
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
}

/* Waits until @count reaches @n: false after WAIT_S. */
static bool
wait_until(const size_t *count, size_t n)
{
        struct timespec t;
        bool is_there;

        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_sec += WAIT_S;
        pthread_mutex_lock(&lock);
        while (*count < n && pthread_cond_timedwait(&changed, &lock, &t) == 0)
                ;
        is_there = *count >= n;
        pthread_mutex_unlock(&lock);
        return is_there;
}

static uint32_t
add_up(uint32_t sum, const uint8_t *p, size_t n)
{
        for (size_t i = 0; i < n; i++)
                sum = sum * 31 + p[i];
        return sum;
}

/* Writes until the connection says stop. */
static void
pump(struct end *e)
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
                e->sum_written = add_up(e->sum_written, chunk, n);
                e->n_written += n;
                if (conn_queued_bytes(e->conn) > e->max_queued)
                        e->max_queued = conn_queued_bytes(e->conn);
        }
        if (e->finishes && e->n_written == e->to_write)
                conn_finish(e->conn, WAIT_S * 1000);
}

static void
on_opened(void *arg, struct conn *c)
{
        struct end *e = arg;

        e->conn = c;
        pump(e);
        pthread_mutex_lock(&lock);
        e->n_opened++;
        signal_change();
}

static void
decode(struct end *e, const uint8_t *data, size_t n)
{
        struct err err = ERR_INIT;
        struct frame f;
        int r;

        while ((r = frame_decoder_next(e->decoder, &data, &n, &f, &err)) > 0) {
                pthread_mutex_lock(&lock);
                e->n_frames++;
                signal_change();
        }
        if (r < 0)
                conn_close(e->conn);
}

static void
on_read(void *arg, struct conn *c, const uint8_t *data, size_t n)
{
        struct end *e = arg;

        if (e->decoder != NULL)
                decode(e, data, n);
        if (e->is_echo)
                (void)conn_write(c, data, n);
        if (e->closes_when_read)
                conn_close(c);
        pthread_mutex_lock(&lock);
        e->n_read += n;
        e->sum_read = add_up(e->sum_read, data, n);
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
        pump(e);
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

static const struct conn_handler handler = {
        .opened = on_opened, .read = on_read, .writable = on_writable, .closed = on_closed
};
static const struct conn_handler half_handler = { .opened = on_opened,
                                                  .read = on_read,
                                                  .ended = on_ended,
                                                  .writable = on_writable,
                                                  .closed = on_closed };

/* A loop with a listener, whose connections take the ends in turn. */
static struct loop *loop;
static struct listener *listener;
static struct end ends[1100];
static size_t n_accepted;
static int port;
static const struct conn_handler *accept_handler;

static void
setup(void)
{
        struct err e = ERR_INIT;

        ck_assert_msg(loop_new(&loop, &e) == 0, "%s", e.text);
        listener = NULL;
        n_accepted = 0;
        memset(ends, 0, sizeof ends);
        accept_handler = &handler;
}

static void
stop(void)
{
        loop_stop(loop);
        listener_close(listener);
        loop_free(loop);
}

static void
on_accepted(void *arg, struct conn *c)
{
        struct end *e = &ends[n_accepted];

        (void)arg;
        e->conn = c;
        if (accept_handler != NULL)
                conn_set_handler(c, accept_handler, e);
        pump(e);
        pthread_mutex_lock(&lock);
        n_accepted++;
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
        int r = listener_open(loop, &o->config, &listener, &o->err);

        if (r == 0)
                port = listener_port(listener);
        return r;
}

static int
listen_with(const char *address, unsigned max_conns, struct conn_limits limits, struct err *ret)
{
        struct opening o = { .config = { .address = address,
                                         .max_conns = max_conns,
                                         .limits = limits,
                                         .accepted = on_accepted },
                             .err = ERR_INIT };
        int r = loop_call(loop, open_listener, &o);

        if (ret != NULL)
                *ret = o.err;
        else
                ck_assert_msg(r == 0, "%s", o.err.text);
        return r;
}

static void
listen_here(void)
{
        listen_with("127.0.0.1:0", 0, (struct conn_limits){ 0 }, NULL);
}

static struct sockaddr_in
loopback(int p)
{
        return (struct sockaddr_in){ .sin_family = AF_INET,
                                     .sin_port = htons((uint16_t)p),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

/* A blocking socket of the test's that is connected to the listener; reads give up after WAIT_S. */
static int
dial(void)
{
        struct sockaddr_in in = loopback(port);
        struct timeval t = { .tv_sec = WAIT_S };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ck_assert_int_ge(fd, 0);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
        ck_assert_int_eq(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
        return fd;
}

static size_t
read_all(int fd, uint32_t *ret_sum)
{
        uint8_t buf[65536];
        size_t n = 0;
        ssize_t r;

        *ret_sum = 0;
        while ((r = read(fd, buf, sizeof buf)) > 0) {
                *ret_sum = add_up(*ret_sum, buf, (size_t)r);
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

        return conn_connect(loop, d->address, d->timeout_ms, NULL, &handler, d->end, &d->end->conn,
                            &d->err);
}

static int
connect_to(const char *address, int64_t timeout_ms, struct end *end, struct err *ret)
{
        struct dialing d = { .address = address, .timeout_ms = timeout_ms, .end = end, .err = ERR_INIT };
        int r = loop_call(loop, connect_out, &d);

        if (ret != NULL)
                *ret = d.err;
        return r;
}

static const char *
address_of(int p)
{
        static char text[64];

        snprintf(text, sizeof text, "127.0.0.1:%d", p);
        return text;
}

static int
close_end(void *arg)
{
        conn_close(((struct end *)arg)->conn);
        return 0;
}

static int
close_end_twice(void *arg)
{
        close_end(arg);
        return close_end(arg);
}

static int
finish_end(void *arg)
{
        conn_finish(((struct end *)arg)->conn, WAIT_S * 1000);
        return conn_write(((struct end *)arg)->conn, "x", 1) == -ENOTCONN ? 0 : -EIO;
}

static int
finish_end_soon(void *arg)
{
        conn_finish(((struct end *)arg)->conn, 50);
        return 0;
}

START_TEST(frames_arrive_whatever_the_packets)
{
        struct frame f = { .type = FRAME_ACK, .ack = { .name = "app.db" } };
        uint8_t buf[FRAME_SMALL_SIZE];
        struct end *e = &ends[0];
        int fd, n;

        ck_assert_int_eq(frame_decoder_new(&e->decoder), 0);
        listen_here();
        fd = dial();
        ck_assert_int_eq(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)), 0);
        n = (int)frame_encode(&f, buf, sizeof buf, NULL);
        ck_assert_int_gt(n, 0);
        /* Cut in two at each place, and the first part is read before the second is sent. */
        for (int cut = 1; cut < n; cut++) {
                ck_assert_int_eq(write(fd, buf, (size_t)cut), cut);
                ck_assert(wait_until(&e->n_read, (size_t)((cut - 1) * n + cut)));
                ck_assert_uint_eq(e->n_frames, (size_t)cut - 1);
                ck_assert_int_eq(write(fd, buf + cut, (size_t)(n - cut)), n - cut);
                ck_assert(wait_until(&e->n_frames, (size_t)cut));
        }
        close(fd);
        ck_assert(wait_until(&e->n_closed, 1));
        ck_assert_int_eq(e->code, 0);
        ck_assert_int_eq(frame_decoder_finish(e->decoder, NULL), 0);
        stop();
        frame_decoder_free(e->decoder);
}
END_TEST

/* Ours with ours, more than any buffer holds. */
START_TEST(echo_gives_back_every_byte_in_order)
{
        struct end out = { .to_write = 5 * MB };

        ends[0].is_echo = true;
        /* The echo does not heed the marks, so it needs room. */
        listen_with("127.0.0.1:0", 0, (struct conn_limits){ .high = 6 * MB, .max = 12 * MB }, NULL);
        ck_assert_int_eq(connect_to(address_of(port), 10000, &out, NULL), 0);
        ck_assert(wait_until(&out.n_opened, 1));
        ck_assert(wait_until(&out.n_read, 5 * MB));
        ck_assert_int_eq(loop_call(loop, close_end, &out), 0);
        ck_assert(wait_until(&out.n_closed, 1));
        ck_assert(wait_until(&ends[0].n_closed, 1));
        ck_assert_uint_eq(out.n_read, 5 * MB);
        ck_assert_uint_eq(out.sum_read, out.sum_written);
        ck_assert_int_eq(out.code, 0);
        stop();
}
END_TEST

static int
check_stopped(void *arg)
{
        struct end *e = arg;

        ck_assert_uint_lt(e->n_written, e->to_write);
        ck_assert_uint_gt(e->max_queued, 300000);
        return 0;
}

START_TEST(peer_that_reads_late_costs_the_high_mark_and_gets_all)
{
        struct end *e = &ends[0];
        uint32_t sum;
        int fd;

        e->to_write = 40 * MB;
        e->finishes = true;
        listen_with("127.0.0.1:0", 0, (struct conn_limits){ .low = 100000, .high = 300000, .max = MB },
                    NULL);
        fd = dial();
        ck_assert(wait_until(&n_accepted, 1));
        /* It wrote what the kernel and the queue take, and stopped. */
        ck_assert_int_eq(loop_call(loop, check_stopped, e), 0);
        ck_assert_uint_eq(read_all(fd, &sum), 40 * MB);
        close(fd);
        ck_assert(wait_until(&e->n_closed, 1));
        ck_assert_int_eq(e->code, 0);
        ck_assert_uint_eq(sum, e->sum_written);
        /* Told each time that the queue has run down, and only then. */
        ck_assert_uint_gt(e->n_writable, 1);
        ck_assert_uint_le(e->n_writable, 40 * MB / (300000 - 100000) + 1);
        ck_assert_uint_le(e->max_queued, 300000 + 11000);
        stop();
}
END_TEST

static int
write_past_max(void *arg)
{
        struct end *e = arg;
        static uint8_t chunk[50000];
        int r;

        do {
                r = conn_write(e->conn, chunk, sizeof chunk);
                if (r >= 0)
                        e->n_written += sizeof chunk;
        } while (r >= 0);
        e->max_queued = conn_queued_bytes(e->conn);
        return r;
}

START_TEST(queue_takes_no_more_than_its_maximum)
{
        struct end *e = &ends[0];
        uint32_t sum;
        int fd;

        listen_with("127.0.0.1:0", 0, (struct conn_limits){ .low = 1000, .high = 2000, .max = MB },
                    NULL);
        fd = dial();
        ck_assert(wait_until(&n_accepted, 1));
        ck_assert_int_eq(loop_call(loop, write_past_max, e), -ENOBUFS);
        ck_assert_uint_le(e->max_queued, MB);
        ck_assert_uint_gt(e->max_queued, MB - 60000);
        /* What was refused left no trace, what was taken arrives. */
        ck_assert_int_eq(loop_call(loop, finish_end, e), 0);
        ck_assert_uint_eq(read_all(fd, &sum), e->n_written);
        close(fd);
        ck_assert(wait_until(&e->n_closed, 1));
        ck_assert_int_eq(e->code, 0);
        stop();
}
END_TEST

static int
write_pieces(void *arg)
{
        struct conn *c = ((struct end *)arg)->conn;
        char text[] = "abcde";
        struct iovec v[CONN_WRITE_PARTS + 1] = { { text, 2 }, { text, 0 }, { text + 2, 3 } };

        ck_assert_int_eq(conn_writev(c, v, CONN_WRITE_PARTS + 1), -EINVAL);
        ck_assert_int_eq(conn_write(c, "", 0), 0);
        return conn_writev(c, v, 3);
}

START_TEST(pieces_are_sent_as_one)
{
        char buf[16];
        int fd;

        listen_here();
        fd = dial();
        ck_assert(wait_until(&n_accepted, 1));
        ck_assert_int_eq(loop_call(loop, write_pieces, &ends[0]), 0);
        ck_assert_int_eq(recv(fd, buf, 5, MSG_WAITALL), 5);
        ck_assert_int_eq(memcmp(buf, "abcde", 5), 0);
        close(fd);
        ck_assert(wait_until(&ends[0].n_closed, 1));
        stop();
}
END_TEST

/* Pieces that are cut anywhere when the kernel takes a part of them: the queue has the rest. */
START_TEST(partly_sent_write_goes_on_where_it_stopped)
{
        struct end *e = &ends[0];
        uint32_t sum;
        int fd;

        e->to_write = 9 * MB; /* past the kernel's buffers, up to the high mark */
        listen_with("127.0.0.1:0", 0, (struct conn_limits){ .low = 1, .high = 16 * MB, .max = 32 * MB },
                    NULL);
        fd = dial();
        ck_assert(wait_until(&n_accepted, 1));
        ck_assert_uint_eq(e->n_written, 9 * MB);
        ck_assert_int_eq(loop_call(loop, finish_end, e), 0);
        ck_assert_int_eq(shutdown(fd, SHUT_WR), 0); /* its end does not cut ours short */
        ck_assert_uint_eq(read_all(fd, &sum), 9 * MB);
        ck_assert_uint_eq(sum, e->sum_written);
        close(fd);
        ck_assert(wait_until(&e->n_closed, 1));
        stop();
}
END_TEST

static int
stop_reading(void *arg)
{
        conn_read_stop(((struct end *)arg)->conn);
        return 0;
}

static int
start_reading(void *arg)
{
        conn_read_start(((struct end *)arg)->conn);
        return 0;
}

START_TEST(connection_that_does_not_read_holds_its_peer_up)
{
        struct end *e = &ends[0];
        static uint8_t chunk[65536];
        size_t n = 0;
        int fd;

        listen_here();
        fd = dial();
        ck_assert(wait_until(&n_accepted, 1));
        ck_assert_int_eq(loop_call(loop, stop_reading, e), 0);
        for (int is_full = 0; !is_full;) {
                struct pollfd p = { .fd = fd, .events = POLLOUT };
                ssize_t r = send(fd, chunk, sizeof chunk, MSG_DONTWAIT);

                if (r > 0)
                        n += (size_t)r;
                else
                        is_full = poll(&p, 1, 100) == 0;
                ck_assert_uint_lt(n, 256 * MB);
        }
        ck_assert_uint_eq(e->n_read, 0);
        ck_assert_int_eq(loop_call(loop, start_reading, e), 0);
        close(fd);
        ck_assert(wait_until(&e->n_closed, 1));
        ck_assert_uint_eq(e->n_read, n);
        stop();
}
END_TEST

START_TEST(refused_connection_says_so)
{
        struct sockaddr_in in = loopback(0);
        socklen_t len = sizeof in;
        int fd = socket(AF_INET, SOCK_STREAM, 0); /* bound, so that nobody else listens there */

        ck_assert_int_eq(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in, &len), 0);
        ck_assert_int_eq(connect_to(address_of(ntohs(in.sin_port)), 10000, &ends[0], NULL), 0);
        ck_assert(wait_until(&ends[0].n_closed, 1));
        ck_assert_int_eq(ends[0].code, -ECONNREFUSED);
        ck_assert_uint_eq(ends[0].n_opened, 0);
        ck_assert_msg(strstr(ends[0].words, address_of(ntohs(in.sin_port))) != NULL, "%s",
                      ends[0].words);
        ck_assert_msg(strstr(ends[0].words, "Connection refused") != NULL, "%s", ends[0].words);
        close(fd);
        stop();
}
END_TEST

/* A listener whose queue is full: its kernel does not answer any more. */
START_TEST(connecting_has_a_deadline)
{
        struct sockaddr_in in = loopback(0);
        socklen_t len = sizeof in;
        struct timespec a, b;
        int fd = socket(AF_INET, SOCK_STREAM, 0), fill[8];

        ck_assert_int_eq(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
        ck_assert_int_eq(listen(fd, 0), 0);
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in, &len), 0);
        for (int i = 0; i < COUNT(fill); i++) {
                fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
                (void)connect(fill[i], (struct sockaddr *)&in, sizeof in);
        }
        clock_gettime(CLOCK_MONOTONIC, &a);
        ck_assert_int_eq(connect_to(address_of(ntohs(in.sin_port)), 200, &ends[0], NULL), 0);
        ck_assert(wait_until(&ends[0].n_closed, 1));
        clock_gettime(CLOCK_MONOTONIC, &b);
        ck_assert_int_eq(ends[0].code, -ETIMEDOUT);
        ck_assert_uint_eq(ends[0].n_opened, 0);
        ck_assert_int_ge((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000, 190);
        for (int i = 0; i < COUNT(fill); i++)
                close(fill[i]);
        close(fd);
        stop();
}
END_TEST

START_TEST(connecting_may_be_given_up)
{
        struct end out = { 0 };

        listen_here();
        ck_assert_int_eq(connect_to(address_of(port), 10000, &out, NULL), 0);
        /* Looking up, connecting or open by now: each ends the same way. */
        ck_assert_int_eq(loop_call(loop, close_end_twice, &out), 0);
        ck_assert(wait_until(&out.n_closed, 1));
        ck_assert_int_eq(out.code, 0);
        stop();
        ck_assert_uint_eq(out.n_closed, 1);
}
END_TEST

static int
connect_and_close(void *arg)
{
        struct end *e = arg;
        int r;

        r = conn_connect(loop, address_of(port), 10000, NULL, &handler, e, &e->conn, NULL);
        if (r < 0)
                return r;
        return close_end(e);
}

START_TEST(connecting_may_be_given_up_at_once)
{
        struct end out = { 0 };

        listen_here();
        ck_assert_int_eq(loop_call(loop, connect_and_close, &out), 0);
        ck_assert(wait_until(&out.n_closed, 1));
        ck_assert_uint_eq(out.n_opened, 0);
        stop();
        ck_assert_uint_eq(out.n_closed, 1);
}
END_TEST

START_TEST(deadline_of_connecting_is_over_once_connected)
{
        struct end out = { .to_write = 1 };

        ends[0].is_echo = true;
        listen_here();
        ck_assert_int_eq(connect_to(address_of(port), 1000, &out, NULL), 0);
        ck_assert(wait_until(&out.n_opened, 1));
        poll(NULL, 0, 1200);
        ck_assert(wait_until(&out.n_read, 1));
        stop();
        ck_assert_int_eq(out.code, -ECANCELED);
}
END_TEST

/* "localhost" has an address of each family, and somebody listens at one: the other one is tried in vain. */
START_TEST(host_name_is_looked_up)
{
        struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
                                  .ai_family = _i == 0 ? AF_INET : AF_INET6 };
        struct end out = { .to_write = 10 };
        struct addrinfo *found;
        char text[64];

        if (getaddrinfo("localhost", NULL, &hints, &found) != 0) {
                stop();
                return;
        }
        freeaddrinfo(found);
        listen_with(_i == 0 ? "127.0.0.1:0" : "[::1]:0", 0, (struct conn_limits){ 0 }, NULL);
        snprintf(text, sizeof text, "localhost:%d", port);
        ck_assert_int_eq(connect_to(text, 10000, &out, NULL), 0);
        ck_assert_msg(wait_until(&out.n_opened, 1), "%s", out.words);
        ck_assert(wait_until(&n_accepted, 1));
        stop();
        ck_assert_uint_eq(out.n_closed, 1);
}
END_TEST

START_TEST(host_that_is_none_is_an_error)
{
        struct err e = ERR_INIT;
        char text[100];

        /* A label of more than 63 characters, so that no server is asked. */
        memset(text, 'x', 70);
        strcpy(text + 70, ".invalid:1");
        if (connect_to(text, 10000, &ends[0], &e) == 0) {
                ck_assert(wait_until(&ends[0].n_closed, 1));
                ck_assert_int_eq(ends[0].code, -EHOSTUNREACH);
                ck_assert_ptr_nonnull(strstr(ends[0].words, text));
        } else {
                ck_assert_ptr_nonnull(strstr(e.text, text));
        }
        stop();
}
END_TEST

START_TEST(close_while_writing_drops_the_rest)
{
        struct end *e = &ends[0];
        uint32_t sum;
        size_t n;
        int fd;

        e->to_write = 64 * MB;
        listen_here();
        fd = dial();
        ck_assert(wait_until(&n_accepted, 1));
        ck_assert_int_eq(loop_call(loop, close_end_twice, e), 0);
        ck_assert(wait_until(&e->n_closed, 1));
        ck_assert_int_eq(e->code, 0);
        ck_assert_uint_gt(e->max_queued, MB);
        n = read_all(fd, &sum);
        ck_assert_uint_lt(n, e->n_written);
        close(fd);
        stop();
        ck_assert_uint_eq(e->n_closed, 1);
}
END_TEST

START_TEST(peer_that_resets_while_it_is_written_to)
{
        struct linger abort_it = { .l_onoff = 1, .l_linger = 0 };
        struct end *e = &ends[0];
        int fd;

        e->to_write = 64 * MB;
        listen_here();
        fd = dial();
        ck_assert(wait_until(&n_accepted, 1));
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort_it, sizeof abort_it);
        close(fd);
        ck_assert(wait_until(&e->n_closed, 1));
        ck_assert_msg(e->code == -ECONNRESET || e->code == -EPIPE, "%d %s", e->code, e->words);
        ck_assert_uint_eq(e->n_writable, 0);
        stop();
        ck_assert_uint_eq(e->n_closed, 1);
}
END_TEST

START_TEST(close_in_a_read_ends_the_reading)
{
        struct end *e = &ends[0];
        static uint8_t chunk[300000];
        int fd;

        e->closes_when_read = true;
        listen_here();
        fd = dial();
        (void)send(fd, chunk, sizeof chunk, MSG_NOSIGNAL);
        ck_assert(wait_until(&e->n_closed, 1));
        ck_assert_uint_gt(e->n_read, 0);
        ck_assert_uint_le(e->n_read, 65536);
        close(fd);
        stop();
        ck_assert_uint_eq(e->n_closed, 1);
}
END_TEST

START_TEST(peer_that_has_ended_may_still_be_answered)
{
        struct end *e = &ends[0];
        uint32_t sum;
        int fd;

        e->to_write = 9 * MB;
        accept_handler = &half_handler;
        listen_with("127.0.0.1:0", 0, (struct conn_limits){ .high = 16 * MB, .max = 32 * MB }, NULL);
        fd = dial();
        ck_assert_int_eq(send(fd, "question", 8, 0), 8);
        ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
        ck_assert(wait_until(&e->n_ended, 1));
        ck_assert_uint_eq(e->n_read, 8);
        ck_assert_uint_eq(e->n_closed, 0);
        ck_assert_int_eq(loop_call(loop, finish_end, e), 0);
        ck_assert_uint_eq(read_all(fd, &sum), 9 * MB);
        ck_assert_uint_eq(sum, e->sum_written);
        ck_assert(wait_until(&e->n_closed, 1)); /* both have ended: it does not wait for our close */
        ck_assert_int_eq(e->code, 0);
        close(fd);
        stop();
}
END_TEST

START_TEST(finish_waits_for_the_peer_only_so_long)
{
        char c;
        int fd;

        listen_here();
        fd = dial();
        ck_assert(wait_until(&n_accepted, 1));
        ck_assert_int_eq(loop_call(loop, finish_end_soon, &ends[0]), 0);
        ck_assert_int_eq(read(fd, &c, 1), 0);
        ck_assert(wait_until(&ends[0].n_closed, 1));
        ck_assert_int_eq(ends[0].code, -ETIMEDOUT);
        close(fd);
        stop();
}
END_TEST

START_TEST(connection_nobody_takes_is_closed)
{
        char c;
        int fd;

        accept_handler = NULL;
        listen_here();
        fd = dial();
        ck_assert_int_eq(read(fd, &c, 1), 0);
        close(fd);
        stop();
        ck_assert_uint_eq(ends[0].n_closed, 0);
}
END_TEST

static int
read_peer(void *arg)
{
        conn_peer(ends[0].conn, arg);
        return 0;
}

START_TEST(peer_is_named)
{
        char text[ADDR_TEXT_SIZE];
        struct sockaddr_in in;
        socklen_t len = sizeof in;
        int fd;

        listen_here();
        fd = dial();
        ck_assert(wait_until(&n_accepted, 1));
        ck_assert_int_eq(loop_call(loop, read_peer, text), 0);
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in, &len), 0);
        ck_assert_str_eq(text, address_of(ntohs(in.sin_port)));
        close(fd);
        stop();
}
END_TEST

/* The daemon's end of the connection that has @peer at its other end. */
static int
find_socket(const struct sockaddr_in *peer)
{
        for (int fd = 3; fd < 200; fd++) {
                struct sockaddr_in in;
                socklen_t len = sizeof in;

                if (getpeername(fd, (struct sockaddr *)&in, &len) == 0 && in.sin_port == peer->sin_port)
                        return fd;
        }
        return -1;
}

START_TEST(sockets_send_at_once_and_notice_a_dead_peer)
{
        struct sockaddr_in in;
        socklen_t len = sizeof in;
        int fd, theirs, v = 0;

        listen_here();
        fd = dial();
        ck_assert(wait_until(&n_accepted, 1));
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in, &len), 0);
        theirs = find_socket(&in);
        ck_assert_int_ge(theirs, 0);
        len = sizeof v;
        ck_assert_int_eq(getsockopt(theirs, IPPROTO_TCP, TCP_NODELAY, &v, &len), 0);
        ck_assert_int_ne(v, 0);
        ck_assert_int_eq(getsockopt(theirs, SOL_SOCKET, SO_KEEPALIVE, &v, &len), 0);
        ck_assert_int_ne(v, 0);
        close(fd);
        stop();
}
END_TEST

static int
read_counts(void *arg)
{
        unsigned *counts = arg;

        counts[0] = listener_n_conns(listener);
        counts[1] = (unsigned)listener_n_refused(listener);
        return 0;
}

#define N_MORE 50

/* On the loop, so that it finds them waiting all at once. */
static int
dial_more(void *arg)
{
        int *fd = arg;

        for (int i = 0; i < N_MORE; i++)
                fd[i] = dial();
        return 0;
}

/* A thousand are served; more are turned away and may come back when another has left. */
START_TEST(listener_has_a_limit_of_connections)
{
        struct rlimit files;
        int fd[1000], more[N_MORE];
        unsigned counts[2];
        char c;

        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
        ck_assert_msg(files.rlim_max >= 2200, "needs 2,200 files");
        files.rlim_cur = files.rlim_max < 4096 ? files.rlim_max : 4096;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
        for (int i = 0; i < COUNT(ends); i++)
                ends[i].is_echo = true;
        listen_with("127.0.0.1:0", 1000, (struct conn_limits){ 0 }, NULL);
        for (int i = 0; i < 1000; i++)
                fd[i] = dial();
        ck_assert(wait_until(&n_accepted, 1000));
        ck_assert_int_eq(loop_call(loop, dial_more, more), 0);
        for (int i = 0; i < N_MORE; i++) {
                ck_assert_int_eq(read(more[i], &c, 1), 0);
                close(more[i]);
        }
        for (int i = 0; i < 1000; i++)
                ck_assert_int_eq(write(fd[i], "x", 1), 1);
        for (int i = 0; i < 1000; i++)
                ck_assert_int_eq(read(fd[i], &c, 1), 1);
        ck_assert_int_eq(loop_call(loop, read_counts, counts), 0);
        ck_assert_uint_eq(counts[0], 1000);
        ck_assert_uint_eq(counts[1], N_MORE);
        close(fd[17]);
        for (int i = 0; i < WAIT_S * 1000 && counts[0] == 1000; i++) {
                usleep(1000);
                ck_assert_int_eq(loop_call(loop, read_counts, counts), 0);
        }
        ck_assert_uint_eq(counts[0], 999);
        fd[17] = dial();
        ck_assert_int_eq(write(fd[17], "x", 1), 1);
        ck_assert_int_eq(read(fd[17], &c, 1), 1);
        for (int i = 0; i < 1000; i++)
                close(fd[i]);
        stop();
}
END_TEST

START_TEST(stop_closes_what_is_open)
{
        struct end out = { .to_write = 64 * MB }; /* in the middle of writing */
        uint32_t sum;
        int fd[20];

        listen_here();
        for (int i = 0; i < COUNT(fd); i++) {
                ends[i].to_write = i % 2 == 0 ? 64 * MB : 0;
                fd[i] = dial();
                ck_assert(wait_until(&n_accepted, (size_t)i + 1));
        }
        ck_assert_int_eq(connect_to(address_of(port), 10000, &out, NULL), 0);
        stop();
        for (int i = 0; i < COUNT(fd); i++) {
                ck_assert_uint_eq(ends[i].n_closed, 1);
                ck_assert_int_eq(ends[i].code, -ECANCELED);
                (void)read_all(fd[i], &sum);
                close(fd[i]);
        }
        ck_assert_uint_eq(out.n_closed, 1);
        ck_assert_int_eq(out.code, -ECANCELED);
}
END_TEST

static int
close_listener(void *arg)
{
        (void)arg;
        listener_close(listener);
        listener = NULL;
        return 0;
}

START_TEST(connections_outlive_their_listener)
{
        struct end out = { 0 };
        char c;
        int fd;

        ends[0].is_echo = true;
        listen_here();
        fd = dial();
        ck_assert(wait_until(&n_accepted, 1));
        ck_assert_int_eq(loop_call(loop, close_listener, NULL), 0);
        ck_assert_int_eq(write(fd, "x", 1), 1);
        ck_assert_int_eq(read(fd, &c, 1), 1);
        ck_assert_int_eq(connect_to(address_of(port), 10000, &out, NULL), 0);
        ck_assert(wait_until(&out.n_closed, 1));
        ck_assert_int_eq(out.code, -ECONNREFUSED);
        close(fd);
        ck_assert(wait_until(&ends[0].n_closed, 1));
        stop();
}
END_TEST

/* Where one may listen, and how one gets there. */
static const struct {
        const char *listen;
        const char *connect[2];
        int family; /* that the machine must have */
} places[] = {
        { ":0", { "127.0.0.1:%d", NULL }, AF_INET },
        { ":0", { "[::1]:%d", "127.0.0.1:%d" }, AF_INET6 },
        { "[::]:0", { "[::1]:%d", "127.0.0.1:%d" }, AF_INET6 },
        { "[::1]:0", { "[::1]:%d", NULL }, AF_INET6 },
        { "0.0.0.0:0", { "127.0.0.1:%d", NULL }, AF_INET },
        { "localhost:0", { "127.0.0.1:%d", NULL }, AF_INET },
        { "127.0.0.1:0", { ":%d", NULL }, AF_INET },
};

static bool
has_ipv6(void)
{
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
        int fd = socket(AF_INET6, SOCK_STREAM, 0);
        bool has = fd >= 0 && bind(fd, (struct sockaddr *)&in6, sizeof in6) == 0;

        close(fd);
        return has;
}

START_TEST(listener_is_reached_where_it_was_asked_to_be)
{
        if (places[_i].family == AF_INET6 && !has_ipv6()) {
                printf("no IPv6: %s is not tried\n", places[_i].listen);
                stop();
                return;
        }
        listen_with(places[_i].listen, 0, (struct conn_limits){ 0 }, NULL);
        ck_assert_int_gt(port, 0);
        for (int i = 0; i < 2 && places[_i].connect[i] != NULL; i++) {
                struct end out = { 0 };
                char text[64];
                const char *colon = strrchr(places[_i].connect[i], ':');

                snprintf(text, sizeof text, "%.*s:%d", (int)(colon - places[_i].connect[i]),
                         places[_i].connect[i], port);
                ck_assert_int_eq(connect_to(text, 10000, &out, NULL), 0);
                ck_assert_msg(wait_until(&out.n_opened, 1), "%s: %s", text, out.words);
                ck_assert(wait_until(&n_accepted, (size_t)i + 1));
                ck_assert_int_eq(loop_call(loop, close_end, &out), 0);
                ck_assert(wait_until(&out.n_closed, 1));
        }
        stop();
}
END_TEST

START_TEST(port_in_use_is_an_error)
{
        struct err e = ERR_INIT;
        struct listener *first;

        listen_here();
        first = listener;
        ck_assert_int_eq(listen_with(address_of(port), 0, (struct conn_limits){ 0 }, &e), -EADDRINUSE);
        ck_assert_ptr_nonnull(strstr(e.text, address_of(port)));
        ck_assert_ptr_eq(listener, first);
        stop();
}
END_TEST

static const char *const bad_addresses[] = {
        "",      "host",    "host:",   "host:x", "host:-1", "host:65536", "host:99999999999", "::1:80",
        "[::1]", "[::1:80", "::1]:80", "[]:80",  "a[b]:80", "host: 80",   "host:80 ",
};

START_TEST(address_that_is_none_is_refused)
{
        struct err e = ERR_INIT;
        struct addr a;

        ck_assert_int_eq(addr_parse(bad_addresses[_i], &a, &e), -EINVAL);
        ck_assert_ptr_nonnull(strstr(e.text, bad_addresses[_i]));
        ck_assert_int_eq(listen_with(bad_addresses[_i], 0, (struct conn_limits){ 0 }, &e), -EINVAL);
        ck_assert_int_eq(connect_to(bad_addresses[_i], 1000, &ends[0], &e), -EINVAL);
        stop();
        ck_assert_uint_eq(ends[0].n_closed, 0);
}
END_TEST

START_TEST(address_is_taken_apart_and_put_together)
{
        static const char *const good[] = { "host:80", ":20202", "[::1]:1", "1.2.3.4:0",
                                            "[fe80::1%eth0]:65535" };
        char text[ADDR_TEXT_SIZE], long_host[300];
        struct err e = ERR_INIT;
        struct addr a;

        for (int i = 0; i < COUNT(good); i++) {
                ck_assert_msg(addr_parse(good[i], &a, &e) == 0, "%s", e.text);
                addr_format(&a, text);
                ck_assert_str_eq(text, good[i]);
        }
        ck_assert_int_eq(addr_parse("[::1]:65535", &a, &e), 0);
        ck_assert_str_eq(a.host, "::1");
        ck_assert_int_eq(a.port, 65535);
        memset(long_host, 'h', sizeof long_host);
        strcpy(long_host + ADDR_HOST_SIZE, ":1");
        ck_assert_int_eq(addr_parse(long_host, &a, &e), -EINVAL);
        ck_assert_int_eq(addr_parse(long_host + 1, &a, &e), 0);
        stop();
}
END_TEST

int
main(void)
{
        TCase *tc = tcase_create("conn");

        tcase_add_checked_fixture(tc, setup, NULL);
        tcase_set_timeout(tc, 60);
        tcase_add_test(tc, frames_arrive_whatever_the_packets);
        tcase_add_test(tc, echo_gives_back_every_byte_in_order);
        tcase_add_test(tc, peer_that_reads_late_costs_the_high_mark_and_gets_all);
        tcase_add_test(tc, queue_takes_no_more_than_its_maximum);
        tcase_add_test(tc, pieces_are_sent_as_one);
        tcase_add_test(tc, partly_sent_write_goes_on_where_it_stopped);
        tcase_add_test(tc, connection_that_does_not_read_holds_its_peer_up);
        tcase_add_test(tc, refused_connection_says_so);
        tcase_add_test(tc, connecting_has_a_deadline);
        tcase_add_loop_test(tc, connecting_may_be_given_up, 0, 5);
        tcase_add_test(tc, connecting_may_be_given_up_at_once);
        tcase_add_test(tc, deadline_of_connecting_is_over_once_connected);
        tcase_add_loop_test(tc, host_name_is_looked_up, 0, 2);
        tcase_add_test(tc, host_that_is_none_is_an_error);
        tcase_add_test(tc, close_while_writing_drops_the_rest);
        tcase_add_test(tc, peer_that_resets_while_it_is_written_to);
        tcase_add_test(tc, close_in_a_read_ends_the_reading);
        tcase_add_test(tc, peer_that_has_ended_may_still_be_answered);
        tcase_add_test(tc, finish_waits_for_the_peer_only_so_long);
        tcase_add_test(tc, connection_nobody_takes_is_closed);
        tcase_add_test(tc, peer_is_named);
        tcase_add_test(tc, sockets_send_at_once_and_notice_a_dead_peer);
        tcase_add_test(tc, listener_has_a_limit_of_connections);
        tcase_add_test(tc, stop_closes_what_is_open);
        tcase_add_test(tc, connections_outlive_their_listener);
        tcase_add_loop_test(tc, listener_is_reached_where_it_was_asked_to_be, 0, COUNT(places));
        tcase_add_test(tc, port_in_use_is_an_error);
        tcase_add_loop_test(tc, address_that_is_none_is_refused, 0, COUNT(bad_addresses));
        tcase_add_test(tc, address_is_taken_apart_and_put_together);
        return run_tests("conn", tc);
}
